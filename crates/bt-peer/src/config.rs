//! What the user may set for one torrent.

use bt_core::PeerId;
use std::net::IpAddr;

/// The settings of one [`Engine`](crate::Engine). Everything has a default but the peer id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who we are.
    pub peer_id: PeerId,
    /// The port that trackers are told.
    pub listen_port: u16,
    /// The `key` of announces.
    pub key: u32,
    /// The `ip` of announces (BEP 3): what trackers that believe it hand out instead of the address that they see.
    pub announce_ip: Option<IpAddr>,
    /// Most connections at a time.
    pub peers_max: usize,
    /// Upload slots (regular unchokes); `None` chooses by measured rate.
    pub upload_slots: Option<usize>,
    /// Download limit in payload bytes per second.
    pub down_limit: Option<u64>,
    /// Upload limit in payload bytes per second.
    pub up_limit: Option<u64>,
    /// Once all that is wanted is there, no block is sent any more that would begin beyond so many uploaded payload bytes.
    pub upload_goal: Option<u64>,
    /// Ask for pieces in order instead of rarest first.
    pub sequential: bool,
    /// What is complete from the start is shown to peers piece by piece, each once before any twice (BEP 16).
    pub super_seed: bool,
    /// No tracker is asked.
    pub no_tracker: bool,
    /// Peers are told of each other (BEP 11), unless the torrent is private.
    pub pex: bool,
}

/// Connections of one torrent unless the user says otherwise. Beyond some 25 more peers rarely add speed (community
/// specification, "peer list"), but a swarm of strangers holds many that do nothing.
const PEERS_MAX: usize = 80;

impl Config {
    /// The defaults for a client with this id: no limits, rarest first, trackers asked.
    #[must_use]
    pub const fn new(peer_id: PeerId) -> Self {
        Self {
            peer_id,
            listen_port: 0,
            key: 0,
            announce_ip: None,
            peers_max: PEERS_MAX,
            upload_slots: None,
            down_limit: None,
            up_limit: None,
            upload_goal: None,
            sequential: false,
            super_seed: false,
            no_tracker: false,
            pex: true,
        }
    }
}
