//! The addresses a torrent knows: whom to dial next, whom never again.

use bt_core::{Rng, Time};
use std::net::{IpAddr, SocketAddr};

/// Who named an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The user.
    User,
    /// A tracker.
    Tracker,
    /// It dialled us, and named the port on which it listens.
    Incoming,
    /// Another peer, or the DHT.
    Gossip,
}

/// The known addresses of one torrent, bounded in number, and the bans.
#[derive(Debug)]
pub struct PeerList {}

impl Default for PeerList {
    fn default() -> Self {
        Self::new()
    }
}

impl PeerList {
    /// Knows nobody.
    #[must_use]
    pub fn new() -> Self {
        Self {}
    }

    /// Takes an address; true if it is new and may be dialled some time.
    pub fn add(&mut self, _addr: SocketAddr, _source: Source, _rng: &mut Rng) -> bool {
        false
    }

    /// The next address to dial at `now`, if one is ready; it counts as being dialled from here on.
    pub fn next_candidate(&mut self, _now: Time) -> Option<SocketAddr> {
        None
    }

    /// When [`next_candidate`](Self::next_candidate) will have one; maybe a moment already past.
    #[must_use]
    pub fn ready_at(&self) -> Option<Time> {
        None
    }

    /// The dial came to nothing: the address waits, longer each time.
    pub fn failed(&mut self, _now: Time, _addr: SocketAddr, _rng: &mut Rng) {}

    /// There is a connection with the peer at this listening address.
    pub fn connected(&mut self, _addr: SocketAddr) {}

    /// The connection is over. `useful` forgets earlier failures; otherwise it is one more.
    pub fn closed(&mut self, _now: Time, _addr: SocketAddr, _useful: bool, _rng: &mut Rng) {}

    /// The address turned out to be our own: never dial it.
    pub fn mark_self(&mut self, _addr: SocketAddr) {}

    /// Neither dial nor take connections from this address for a while.
    pub fn ban(&mut self, _now: Time, _ip: IpAddr) {}

    /// Ends a ban; true if there was one.
    pub fn unban(&mut self, _ip: IpAddr) -> bool {
        false
    }

    /// True if the address is banned at `now`.
    #[must_use]
    pub fn is_banned(&self, _now: Time, _ip: IpAddr) -> bool {
        false
    }

    /// How many addresses are known.
    #[must_use]
    pub fn len(&self) -> usize {
        0
    }

    /// True if no address is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
