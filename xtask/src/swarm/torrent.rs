//! What is shared, as `bt show` describes it.

use std::path::PathBuf;

use serde::Deserialize;

use super::churn::Layout;

/// What `bt show --json` says, as far as it is needed here.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Torrent {
    /// Name of the top file or folder.
    pub(crate) name: String,
    /// Bytes of every piece but the last.
    pub(crate) piece_length: u64,
    /// How many pieces.
    pub(crate) pieces: u32,
    /// Bytes in all.
    pub(crate) total_length: u64,
    /// In the torrent's order.
    pub(crate) files: Vec<TorrentFile>,
}

/// One file of a torrent.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct TorrentFile {
    /// With `/`.
    pub(crate) path: String,
    /// In bytes.
    pub(crate) length: u64,
}

impl Torrent {
    /// Where each file lies below the torrent's top. A single file is the top itself.
    pub(crate) fn layout(&self) -> Layout {
        let below = |path: &str| {
            let rest = path
                .strip_prefix(self.name.as_str())
                .map(|rest| rest.trim_start_matches('/'));
            PathBuf::from(if self.files.len() == 1 {
                rest.unwrap_or("")
            } else {
                rest.unwrap_or(path)
            })
        };
        let files = self
            .files
            .iter()
            .map(|file| (below(&file.path), file.length))
            .collect();
        Layout {
            piece_length: self.piece_length,
            files,
        }
    }
}
