//! The info dictionary: names, lengths and piece hashes.

use bt_core::{Layout, PieceIndex};
use std::path::PathBuf;

/// What is shared: files, and a hash for each piece. Its names are safe to use as paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    pub(crate) name: String,
    pub(crate) files: Vec<FileEntry>,
    pub(crate) layout: Layout,
    pub(crate) piece_hashes: Vec<[u8; 20]>,
    pub(crate) private: bool,
}

/// One file of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Where it lies, relative to the download folder and made safe: `name/dir/file`, or `name` if it is the only one.
    pub path: PathBuf,
    /// Its length in bytes.
    pub length: u64,
    /// Where its first byte lies in the torrent, in bytes.
    pub offset: u64,
}

impl Info {
    /// The suggested name of the file or top folder, made safe.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The files in the order in which pieces run through them.
    #[must_use]
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// How the bytes are cut into pieces.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The SHA-1 that the piece must have.
    #[must_use]
    pub fn piece_hash(&self, piece: PieceIndex) -> Option<&[u8; 20]> {
        self.piece_hashes.get(piece.index())
    }

    /// True if peers may come from the torrent's own trackers only (BEP 27).
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.private
    }
}
