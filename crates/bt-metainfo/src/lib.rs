//! Metainfo files and magnet links: parse, check, create, edit.
#![forbid(unsafe_code)]

pub mod info;

pub use info::{FileEntry, Info};

use bt_core::InfoHash;

/// A metainfo (.torrent) file, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metainfo {
    /// What is shared.
    pub info: Info,
    /// SHA-1 of the info dictionary's bytes as they stand in the file.
    pub info_hash: InfoHash,
    /// Tracker URLs in tiers (BEP 12): `announce-list` if there is one, else `announce`; cleaned and capped.
    pub trackers: Vec<Vec<String>>,
}
