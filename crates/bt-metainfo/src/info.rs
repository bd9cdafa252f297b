//! The info dictionary: names, lengths and piece hashes (BEP 3, "info dictionary").

use bt_core::{Bitfield, Layout, PieceIndex};
use std::path::PathBuf;

/// The most files that a torrent may have. Real ones end at some hundred thousand.
pub const FILES_MAX: usize = 1_000_000;
/// The longest file, in bytes: 2⁴⁸, so that no sum of lengths can overflow.
pub const FILE_LENGTH_MAX: u64 = 1 << 48;

/// What is shared: files, and a hash for each piece. Its names are safe to use as paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    pub(crate) name: String,
    pub(crate) files: Vec<FileEntry>,
    pub(crate) is_folder: bool,
    pub(crate) layout: Layout,
    pub(crate) piece_hashes: Vec<[u8; 20]>,
    pub(crate) private: bool,
    pub(crate) source: Option<String>,
    pub(crate) format: Format,
}

/// Which versions of the protocol a torrent is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Version 1 (BEP 3).
    V1,
    /// Versions 1 and 2 (BEP 52); only the v1 part is used so far.
    Hybrid,
}

impl Format {
    /// Its short name: `v1` or `hybrid`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::Hybrid => "hybrid",
        }
    }
}

/// One file of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileEntry {
    /// Where it lies, relative to the download folder and made safe: `name/dir/file`, or `name` if it is the only one.
    pub path: PathBuf,
    /// Its length in bytes.
    pub length: u64,
    /// Where its first byte lies in the torrent, in bytes.
    pub offset: u64,
    /// What BEP 47 says about it.
    pub attributes: Attributes,
    /// The MD5 of its bytes in hexadecimal, if the torrent tells. The protocol has no use for it.
    pub md5sum: Option<String>,
}

impl FileEntry {
    /// True if the file is to be made on disk: padding is all zeros and never written, symlinks are never made.
    #[must_use]
    pub const fn is_stored(&self) -> bool {
        !self.attributes.padding && !self.attributes.symlink
    }
}

/// File attributes (BEP 47, `attr`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "four independent flags of the format"
)]
pub struct Attributes {
    /// `p`: zeros that align the next file to a piece. Its bytes count in the pieces, but it is never written.
    pub padding: bool,
    /// `x`: executable.
    pub executable: bool,
    /// `h`: hidden.
    pub hidden: bool,
    /// `l`: a symbolic link, which we do not make.
    pub symlink: bool,
}

impl Attributes {
    pub(crate) fn parse(text: &[u8]) -> Self {
        Self {
            padding: text.contains(&b'p'),
            executable: text.contains(&b'x'),
            hidden: text.contains(&b'h'),
            symlink: text.contains(&b'l'),
        }
    }

    /// The letters of BEP 47 in the order `h l p x`; empty if there are none.
    #[must_use]
    pub fn letters(self) -> String {
        let rows = [
            (self.hidden, 'h'),
            (self.symlink, 'l'),
            (self.padding, 'p'),
            (self.executable, 'x'),
        ];
        rows.iter()
            .filter(|(is_set, _)| *is_set)
            .map(|(_, letter)| letter)
            .collect()
    }
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

    /// True if [`name`](Self::name) is a folder with the files in it, even if it is only one.
    #[must_use]
    pub const fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// How the bytes are cut into pieces.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The pieces in which those files lie of which `is_chosen` says yes, given index and entry.
    #[must_use]
    pub fn pieces_of(&self, is_chosen: impl Fn(usize, &FileEntry) -> bool) -> Bitfield {
        let layout = self.layout;
        let mut pieces = Bitfield::new(layout.pieces_count());
        let files = self.files.iter().enumerate();
        for (_, file) in files.filter(|(index, file)| is_chosen(*index, file)) {
            let end = file.offset + file.length;
            let mut next = file.offset;
            while next < end
                && let Some(piece) = layout.piece_at(next)
            {
                pieces.set(piece);
                next = layout.piece_offset(piece) + u64::from(layout.piece_length(piece));
            }
        }
        pieces
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

    /// A label that makes otherwise equal torrents differ in their info hash; private trackers use it.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// Which versions of the protocol the torrent is made for.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }
}
