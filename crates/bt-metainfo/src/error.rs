//! Why bytes are no torrent that can be used.

use bt_core::piece::LayoutError;

/// Why a metainfo file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetainfoError {
    /// Not bencoded, a key is missing, or a value has the wrong type.
    #[error("not a valid torrent: {0}")]
    Bencode(#[from] bt_bencode::Error),
    /// A torrent of version 2 only (BEP 52).
    #[error("a BitTorrent v2 torrent without a v1 part: v2 is not supported yet")]
    V2Only,
    /// Not exactly one of `length` and `files` (BEP 3, "info dictionary").
    #[error("info has {}", if *both { "both `length` and `files`" } else { "neither `length` nor `files`" })]
    LengthOrFiles {
        /// True if both are there.
        both: bool,
    },
    /// An empty list of files.
    #[error("info.files is empty")]
    NoFiles,
    /// More than [`FILES_MAX`](crate::info::FILES_MAX) files.
    #[error("more than {max} files")]
    TooManyFiles {
        /// The limit.
        max: usize,
    },
    /// A file with an empty `path` list, which BEP 3 calls an error.
    #[error("info.files[{file}].path is empty")]
    EmptyPath {
        /// The file's index.
        file: usize,
    },
    /// Folders nested too deep, or a path too long for the operating system.
    #[error(
        "info.files[{file}].path has {parts_count} parts and {length_bytes} bytes: too deep or too long"
    )]
    PathTooLong {
        /// The file's index.
        file: usize,
        /// How many parts the path has.
        parts_count: usize,
        /// Its length in bytes, once made safe.
        length_bytes: usize,
    },
    /// A file longer than [`FILE_LENGTH_MAX`](crate::info::FILE_LENGTH_MAX).
    #[error("{path} is {length_bytes} bytes, more than any file can have")]
    FileTooLong {
        /// Where in the metainfo.
        path: String,
        /// Its length in bytes.
        length_bytes: u64,
    },
    /// `piece length` is not within 1..=[`PIECE_LENGTH_MAX`](bt_core::piece::PIECE_LENGTH_MAX).
    #[error(
        "info.piece length is {length_bytes}, not within 1..={}",
        bt_core::piece::PIECE_LENGTH_MAX
    )]
    PieceLength {
        /// What it says, in bytes.
        length_bytes: i64,
    },
    /// More pieces than are allowed.
    #[error("info: {0}")]
    Layout(LayoutError),
    /// `pieces` is no whole number of SHA-1 hashes.
    #[error("info.pieces has {length_bytes} bytes, which is not a multiple of 20")]
    PiecesLength {
        /// Its length in bytes.
        length_bytes: usize,
    },
    /// `pieces` has hashes for fewer or more pieces than the lengths give.
    #[error("info.pieces has {found} hashes where the lengths give {expected} pieces")]
    PiecesCount {
        /// How many hashes there are.
        found: usize,
        /// How many pieces.
        expected: u32,
    },
    /// The bytes do not have the info hash that was asked for.
    #[error("info hash is {found}, not {expected}")]
    InfoHash {
        /// What the bytes have.
        found: bt_core::InfoHash,
        /// What was asked for.
        expected: bt_core::InfoHash,
    },
}
