//! The fields of the JSON events: a contract with scripts.

use bt_session::Stats;
use serde::Serialize;

/// `listening`: on this address peers can connect.
#[derive(Debug, Serialize)]
pub(super) struct Listening {
    pub(super) addr: String,
}

/// `metadata`: what the torrent is.
#[derive(Debug, Serialize)]
pub(super) struct Metadata<'a> {
    pub(super) name: &'a str,
    pub(super) total_length: u64,
}

/// `checked`: what of it was there at the start.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Checked {
    pub(super) pieces_have: u32,
    pub(super) pieces: u32,
}

/// `tracker`: one answered, or did not.
#[derive(Debug, Serialize)]
pub(super) struct Tracker<'a> {
    pub(super) url: &'a str,
    /// `ok` or `failed`.
    pub(super) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peers: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<&'a str>,
}

/// `peer`: a connection ended over which data went, or whose peer did what it should not.
#[derive(Debug, Serialize)]
pub(super) struct Peer<'a> {
    pub(super) addr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<&'a str>,
    pub(super) served: u64,
    pub(super) uploaded: u64,
    pub(super) wasted: u64,
    pub(super) bad_pieces: u32,
    pub(super) over_claimed: u32,
    pub(super) reason: String,
}

/// `progress`: every second.
#[derive(Debug, Serialize)]
pub(super) struct Progress {
    bytes_done: u64,
    total_length: u64,
    down_rate: u64,
    up_rate: u64,
    downloaded: u64,
    uploaded: u64,
    peers: usize,
    seeders: usize,
}

impl From<&Stats> for Progress {
    fn from(stats: &Stats) -> Self {
        Self {
            bytes_done: stats.bytes_done,
            total_length: stats.total_length,
            down_rate: stats.down_rate,
            up_rate: stats.up_rate,
            downloaded: stats.downloaded,
            uploaded: stats.uploaded,
            peers: stats.peers,
            seeders: stats.seeders,
        }
    }
}

/// `complete`: all that is wanted is there and verified; of who only seeds, the whole torrent.
#[derive(Debug, Serialize)]
pub(super) struct Complete {
    pub(super) downloaded: u64,
    pub(super) uploaded: u64,
    pub(super) wasted: u64,
    pub(super) hash_failures: u64,
    pub(super) seconds: f64,
}

/// `stopped`: the torrent left its swarm.
#[derive(Debug, Serialize)]
pub(super) struct Stopped {
    pub(super) downloaded: u64,
    pub(super) uploaded: u64,
}

/// `warning` and `error`.
#[derive(Debug, Serialize)]
pub(super) struct Words<'a> {
    pub(super) message: &'a str,
}
