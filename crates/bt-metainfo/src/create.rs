//! Making a torrent: from names, lengths and piece hashes to the bytes of a metainfo file. Reading and hashing the files
//! is the caller's.
//!
//! **Invariant:** the same input gives the same bytes, canonically encoded; what was built has been parsed again, and
//! every file lies where the builder put it.

use crate::edit::{Edit, Entries};
use crate::error::MetainfoError;
use crate::metainfo::Metainfo;
use bt_bencode::{Node as Bencode, assemble_dict};
use bt_core::Layout;
use bt_core::piece::LayoutError;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The shortest piece that [`auto_piece_length`] chooses, in bytes: one block.
pub const PIECE_LENGTH_AUTO_MIN: u32 = 16 * 1024;
/// The longest piece that [`auto_piece_length`] chooses, in bytes. Longer ones waste more on each hash failure and
/// make peers wait longer before they can share.
pub const PIECE_LENGTH_AUTO_MAX: u32 = 16 * 1024 * 1024;
/// How many pieces [`auto_piece_length`] aims not to pass: 40 KiB of hashes, below the 50–75 KiB that the community
/// specification names as the limit for a .torrent file, and enough that no peer waits long for its first piece.
const PIECES_AUTO_MAX: u64 = 2_048;

/// The piece length for a torrent of `total_length` bytes: the least power of two from 16 KiB to 16 MiB that makes at
/// most 2048 pieces. So there are 1025 to 2048 of them between 16 MiB and 32 GiB.
#[must_use]
pub fn auto_piece_length(total_length: u64) -> u32 {
    let least = total_length.div_ceil(PIECES_AUTO_MAX);
    let least = u32::try_from(least).unwrap_or(PIECE_LENGTH_AUTO_MAX);
    least
        .clamp(PIECE_LENGTH_AUTO_MIN, PIECE_LENGTH_AUTO_MAX)
        .next_power_of_two()
}

/// Why a torrent cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The piece length is out of range, or there are too many pieces.
    #[error("{0}")]
    Layout(LayoutError),
    /// Not as many hashes as pieces.
    #[error("{found} piece hashes for {expected} pieces")]
    Pieces {
        /// How many hashes were given.
        found: usize,
        /// How many pieces there are.
        expected: u32,
    },
    /// A name that no reader would use as it is, so that nobody would find the file: it must be renamed first.
    #[error("\"{}\" would be read as \"{}\": rename it first", path.display(), becomes.display())]
    Name {
        /// The file's path as it was given.
        path: PathBuf,
        /// What a reader makes of it.
        becomes: PathBuf,
    },
    /// A URL that is none, or not of a kind that can be used.
    #[error("\"{url}\" cannot be used: {why}")]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Readers would refuse it.
    #[error(transparent)]
    Metainfo(#[from] MetainfoError),
}

/// A torrent that is being made.
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    /// Parts below the top folder, and length. A single file has no parts.
    files: Vec<(Vec<String>, u64)>,
    is_folder: bool,
    piece_length: u32,
    private: bool,
    source: Option<String>,
    edit: Edit,
}

impl Builder {
    /// A torrent of one file, in pieces of `piece_length` bytes.
    #[must_use]
    pub fn file(name: impl Into<String>, length: u64, piece_length: u32) -> Self {
        Self {
            files: vec![(Vec::new(), length)],
            is_folder: false,
            ..Self::folder(name, piece_length)
        }
    }

    /// A torrent of a folder, in pieces of `piece_length` bytes, still without files.
    #[must_use]
    pub fn folder(name: impl Into<String>, piece_length: u32) -> Self {
        Self {
            name: name.into(),
            files: Vec::new(),
            is_folder: true,
            piece_length,
            private: false,
            source: None,
            edit: Edit::default(),
        }
    }

    /// Adds a file to the folder, with the names on the way to it and its length in bytes. Pieces run through the files
    /// in the order in which they are added.
    #[must_use]
    pub fn with_file<P: Into<String>>(
        mut self,
        path: impl IntoIterator<Item = P>,
        length: u64,
    ) -> Self {
        self.is_folder = true;
        let parts = path.into_iter().map(Into::into).collect();
        self.files.push((parts, length));
        self
    }

    /// Peers may come from the torrent's own trackers only (BEP 27).
    #[must_use]
    pub const fn with_private(mut self, private: bool) -> Self {
        self.private = private;
        self
    }

    /// A label inside the info dictionary.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What stands around the info dictionary: trackers, comment and so on.
    #[must_use]
    pub fn with_edit(mut self, edit: Edit) -> Self {
        self.edit = edit;
        self
    }

    /// How the bytes are cut into pieces: what to hash.
    ///
    /// # Errors
    /// [`BuildError::Layout`] if the piece length is out of range or there would be too many pieces.
    pub fn layout(&self) -> Result<Layout, BuildError> {
        let lengths = self.files.iter().map(|(_, length)| *length);
        let total_length = lengths.fold(0_u64, u64::saturating_add);
        Layout::new(total_length, self.piece_length).map_err(BuildError::Layout)
    }

    /// The torrent, with the SHA-1 of each piece in order.
    ///
    /// # Errors
    /// [`BuildError`] says what is wrong.
    pub fn build(&self, piece_hashes: &[[u8; 20]]) -> Result<Metainfo, BuildError> {
        self.edit.check()?;
        let expected = self.layout()?.pieces_count();
        if u32::try_from(piece_hashes.len()) != Ok(expected) {
            let found = piece_hashes.len();
            return Err(BuildError::Pieces { found, expected });
        }
        let mut entries = Entries::new();
        self.edit.apply(&mut entries);
        entries.insert(b"info".into(), self.info(piece_hashes).encode());
        let metainfo = Metainfo::parse(&assemble_dict(&entries))?;
        self.check_paths(&metainfo)?;
        Ok(metainfo)
    }

    fn info(&self, piece_hashes: &[[u8; 20]]) -> Bencode {
        let mut info = BTreeMap::from([
            (b"name".to_vec(), self.name.as_str().into()),
            (b"piece length".to_vec(), self.piece_length.into()),
            (b"pieces".to_vec(), piece_hashes.as_flattened().into()),
        ]);
        if self.is_folder {
            let file = |(parts, length): &(Vec<String>, u64)| {
                let path = Bencode::list(parts.iter().map(String::as_str));
                Bencode::dict([("length", (*length).into()), ("path", path)])
            };
            let files = Bencode::list(self.files.iter().map(file));
            info.insert(b"files".into(), files);
        } else {
            let length = self.files.first().map_or(0, |(_, length)| *length);
            info.insert(b"length".into(), length.into());
        }
        if self.private {
            info.insert(b"private".into(), 1.into());
        }
        if let Some(source) = &self.source {
            info.insert(b"source".into(), source.as_str().into());
        }
        Bencode::Dict(info)
    }

    fn check_paths(&self, metainfo: &Metainfo) -> Result<(), BuildError> {
        for ((parts, _), entry) in self.files.iter().zip(metainfo.info.files()) {
            let names = core::iter::once(&self.name).chain(parts);
            // Compared part by part: joined, an absolute or empty part would vanish.
            if !entry
                .path
                .iter()
                .eq(names.clone().map(|name| name.as_str()))
            {
                return Err(BuildError::Name {
                    path: names.collect(),
                    becomes: entry.path.clone(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
