//! What a tracker tells of torrents without taking part in them (BEP 48), whatever the transport.

use bt_core::InfoHash;
use core::time::Duration;

/// The numbers of one torrent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeEntry {
    /// Peers that have everything.
    pub complete: u32,
    /// Downloads completed since the tracker knows the torrent.
    pub downloaded: u32,
    /// The other peers.
    pub incomplete: u32,
    /// Those of them that download, partial seeds left out (BEP 21); `None` if the tracker does not tell, or cannot, as
    /// over UDP.
    pub downloaders: Option<u32>,
}

impl ScrapeEntry {
    /// Peers that lack something and do not want it (BEP 21), as far as that is known.
    #[must_use]
    pub const fn partial_seeds(&self) -> usize {
        match self.downloaders {
            Some(downloaders) => self.incomplete.saturating_sub(downloaders) as usize,
            None => 0,
        }
    }
}

/// A torrent of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapedTorrent {
    /// Which.
    pub info_hash: InfoHash,
    /// Its numbers.
    pub entry: ScrapeEntry,
    /// Its name, which few trackers know; control characters are escaped.
    pub name: Option<String>,
}

/// A tracker's answer to a scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrapeResponse {
    /// Those of the torrents asked for that the tracker knows, ordered by info hash.
    pub torrents: Vec<ScrapedTorrent>,
    /// Never scrape sooner than this again (`flags`, `min_request_interval`), clamped as intervals are.
    pub min_request_interval: Option<Duration>,
}
