//! What a tracker tells of itself, and of a swarm, in numbers.

use crate::scrape::ScrapeEntry;

/// What a tracker keeps, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Torrents with at least one peer, or with downloads to remember.
    pub torrents: usize,
    /// Peers that have everything.
    pub seeders: usize,
    /// The other peers.
    pub leechers: usize,
    /// Those of them that lack something and do not want it (BEP 21).
    pub partial_seeds: usize,
    /// Downloads completed.
    pub downloaded: u64,
}

impl Totals {
    pub(super) const fn change(&mut self, before: ScrapeEntry, after: ScrapeEntry) {
        self.seeders = self.seeders - before.complete as usize + after.complete as usize;
        self.leechers = self.leechers - before.incomplete as usize + after.incomplete as usize;
        self.partial_seeds = self.partial_seeds - before.partial_seeds() + after.partial_seeds();
        self.downloaded = self.downloaded - before.downloaded as u64 + after.downloaded as u64;
    }
}

/// The numbers of an answer to an announce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// When to announce again, in seconds.
    pub interval_secs: u32,
    /// When that may be done at the soonest, in seconds.
    pub min_interval_secs: u32,
    /// Seeders in the swarm.
    pub complete: u32,
    /// Leechers in the swarm.
    pub incomplete: u32,
}
