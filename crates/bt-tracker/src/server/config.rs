//! The settings of a tracker.

use core::time::Duration;

/// The settings of a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often peers shall announce; each is told up to a tenth more, so that they do not come in waves.
    pub interval: Duration,
    /// How often they may.
    pub min_interval: Duration,
    /// How long a peer may be silent before it counts as gone, 18 hours at most. Two intervals and a tenth let one announce
    /// get lost.
    pub expiry: Duration,
    /// Peers in an answer if the request names no number.
    pub numwant_default: u32,
    /// Most peers in an answer.
    pub numwant_max: u32,
    /// Most torrents.
    pub torrents_max: usize,
    /// Most peers of all torrents together.
    pub peers_max: usize,
    /// Keep the ids of peers, at 20 bytes each, for the clients that ask for dictionaries with them. Decided at the start.
    pub peer_ids: bool,
}

impl Config {
    /// The default settings for another interval.
    #[must_use]
    pub fn with_interval(interval: Duration) -> Self {
        let mut config = Self::default();
        config.set_interval(interval);
        config
    }

    /// Another interval, and what follows from it: when a peer counts as gone, and that none must wait for longer.
    pub fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
        self.min_interval = self.min_interval.min(interval);
        self.expiry = interval.saturating_mul(2) + interval / 5 + Duration::from_secs(30);
    }
}

impl Default for Config {
    fn default() -> Self {
        let interval = Duration::from_secs(30 * 60);
        Self {
            interval,
            // A minute lets small swarms find each other quickly, and is what a client needs an answer to
            // "may I ask for more?" for.
            min_interval: Duration::from_secs(60),
            expiry: interval * 2 + interval / 5 + Duration::from_secs(30),
            numwant_default: 50,
            numwant_max: 200,
            // About 250 bytes each with one peer.
            torrents_max: 1_000_000,
            // About 40 bytes each.
            peers_max: 4_000_000,
            peer_ids: true,
        }
    }
}
