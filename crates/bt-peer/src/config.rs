//! What the user may set for one torrent.

use bt_core::PeerId;

/// The settings of one [`Engine`](crate::Engine). Everything has a default but the peer id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who we are.
    pub peer_id: PeerId,
    /// The port that trackers are told.
    pub listen_port: u16,
    /// The `key` of announces.
    pub key: u32,
    /// Most connections at a time.
    pub peers_max: usize,
    /// Upload slots (regular unchokes); `None` chooses by measured rate.
    pub upload_slots: Option<usize>,
    /// Download limit in payload bytes per second.
    pub down_limit: Option<u64>,
    /// Upload limit in payload bytes per second.
    pub up_limit: Option<u64>,
    /// Ask for pieces in order instead of rarest first.
    pub sequential: bool,
    /// No tracker is asked.
    pub no_tracker: bool,
}
