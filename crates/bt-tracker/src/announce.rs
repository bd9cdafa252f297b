//! What a client tells a tracker, and what it is told, whatever the transport.

use bt_core::{InfoHash, PeerId};
use core::time::Duration;
use std::net::{IpAddr, SocketAddr};

/// The shortest interval that a client keeps to, whatever a tracker says. Zero and negative ones were seen to turn
/// other clients into a flood.
pub const INTERVAL_MIN: Duration = Duration::from_secs(30);

/// The longest interval that a client keeps to: a tracker that says "in a century" is asked again tomorrow.
pub const INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The interval to keep to if a tracker says `interval`: 30 s to 24 h.
#[must_use]
pub fn clamp_interval(interval: Duration) -> Duration {
    interval.clamp(INTERVAL_MIN, INTERVAL_MAX)
}

/// Why a client announces (BEP 3, "event"; BEP 21 for `Paused`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// One of the regular announces.
    #[default]
    Interval,
    /// The first of a run.
    Started,
    /// The download has just become complete; never sent if it was complete at the start.
    Completed,
    /// The client leaves.
    Stopped,
    /// A partial seed: has all it wants but not all there is.
    Paused,
}

/// An announce (BEP 3 "trackers"; BEP 7, 12, 21, 23).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// Which torrent.
    pub info_hash: InfoHash,
    /// Who announces.
    pub peer_id: PeerId,
    /// The port on which it takes connections.
    pub port: u16,
    /// Payload bytes sent since `started`.
    pub uploaded: u64,
    /// Payload bytes received since `started`.
    pub downloaded: u64,
    /// Bytes it still lacks.
    pub left: u64,
    /// Why now.
    pub event: Event,
    /// How many peers it would like; `None` leaves it to the tracker.
    pub numwant: Option<u32>,
    /// Proves identity when the address changes; never shown to other peers.
    pub key: Option<u32>,
    /// The tracker's id from an earlier reply, as bytes.
    pub tracker_id: Option<Vec<u8>>,
    /// The address it would like to be known by.
    pub ip: Option<IpAddr>,
    /// Compact peers wanted (BEP 23): `Some(false)` asks for dictionaries.
    pub compact: Option<bool>,
    /// Dictionaries without peer ids wanted.
    pub no_peer_id: bool,
}

impl AnnounceRequest {
    /// A request of a peer that lacks `left` bytes, with everything optional left out.
    #[must_use]
    pub const fn new(info_hash: InfoHash, peer_id: PeerId, port: u16, left: u64) -> Self {
        Self {
            info_hash,
            peer_id,
            port,
            uploaded: 0,
            downloaded: 0,
            left,
            event: Event::Interval,
            numwant: None,
            key: None,
            tracker_id: None,
            ip: None,
            compact: None,
            no_peer_id: false,
        }
    }
}

/// A tracker's answer to an announce, already clamped to sane numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceResponse {
    /// When to announce again.
    pub interval: Duration,
    /// Never announce sooner than this.
    pub min_interval: Option<Duration>,
    /// To be echoed in later announces; `None` keeps the old one.
    pub tracker_id: Option<Vec<u8>>,
    /// Seeders in the swarm.
    pub complete: Option<u32>,
    /// Leechers in the swarm.
    pub incomplete: Option<u32>,
    /// To be shown to the user; the answer holds nevertheless.
    pub warning: Option<String>,
    /// The address from which the tracker saw us (BEP 24).
    pub external_ip: Option<IpAddr>,
    /// Peers, dialable ones only, without duplicates.
    pub peers: Vec<Peer>,
    /// Peers named by a host name, which the shell resolves.
    pub named_peers: Vec<NamedPeer>,
}

/// A peer that a tracker named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its id; compact answers have none.
    pub peer_id: Option<PeerId>,
}

/// A peer whose address is a host name (BEP 3 allows it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPeer {
    /// Host name.
    pub host: String,
    /// Where it listens.
    pub port: u16,
}

/// What went wrong with an announce, as far as the client's schedule is concerned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnnounceFailure {
    /// The tracker said no, in words for the user (BEP 3, "failure reason"; BEP 31, "retry in").
    #[error("tracker: {reason}")]
    Refused {
        /// Escaped and cut.
        reason: String,
        /// When it may be asked again; `Some(Duration::MAX)` for never.
        retry_in: Option<Duration>,
    },
    /// No answer, or one that made no sense.
    #[error("{message}")]
    Unreachable {
        /// What happened.
        message: String,
        /// From a `Retry-After` header.
        retry_in: Option<Duration>,
    },
}
