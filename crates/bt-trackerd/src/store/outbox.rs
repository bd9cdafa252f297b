//! What one shard has to tell the common store, and to ask it.
//!
//! **Invariant:** every list here is bounded. What a full one has no room for is counted, and told again from the swarms
//! themselves once the store is back.

use bt_core::{InfoHash, Time};
use bt_tracker::server::Standing;
use core::time::Duration;
use std::collections::HashMap;
use std::net::SocketAddr;

/// Most announces that wait: what one shard of 16 gets in six seconds at 40,000 a second; of all shards 17 MB.
const TOLD_MAX: usize = 16_384;

/// Most torrents that wait to be asked for. Who scrapes more than that at once gets the numbers of this tracker.
const ASKED_MAX: usize = 1_024;

/// Most torrents whose completed downloads wait to be counted. Beyond that they are told with the swarm's whole count.
const COMPLETED_MAX: usize = 4_096;

/// A scrape has a swarm asked for again when it was last asked for so long ago.
const REFRESH: Duration = Duration::from_secs(5);

/// So often a swarm is read as a whole and not only what is new: what another tracker told late lies behind.
const WHOLE_EVERY: Duration = Duration::from_secs(5 * 60);

/// Once the store is back, all trackers have come back and told what they held by then. What was read before is read as a whole
/// once more: what they told late carries its age, and lies behind.
const SETTLE: Duration = Duration::from_secs(20);

/// A torrent that nobody asked for is forgotten, and read as a whole the next time.
const KNOWN_KEPT: Duration = Duration::from_secs(60 * 60);

/// An announce that waited no longer than this counts as made when it is told. So what a swarm is asked for since the last time
/// is all that came, and only what an outage held up carries its age.
const FRESH: Duration = Duration::from_secs(1);

/// An announce that was taken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) addr: SocketAddr,
    pub(crate) standing: Standing,
    /// When it came in, and how old it was then, in seconds.
    pub(crate) at: Time,
    pub(crate) age_secs: u32,
}

impl Told {
    /// How long ago the peer announced, as the store shall count it.
    pub(crate) fn age(&self, now: Time) -> Duration {
        let waited = Some(now.since(self.at)).filter(|waited| *waited > FRESH);
        Duration::from_secs(self.age_secs.into()) + waited.unwrap_or_default()
    }
}

/// One swarm's part of a batch: what is told of it, and from where on it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) info_hash: InfoHash,
    pub(crate) told: Vec<Told>,
    /// Downloads completed that were not told yet.
    pub(crate) completed: u32,
    /// The store's count shall not be less.
    pub(crate) floor: u32,
    /// Ask for what is new since then, in milliseconds of the store's clock; `None` asks for nothing.
    pub(crate) since_ms: Option<u64>,
    /// The swarm is read from the start, or was not read to its end: as much may come as an answer holds.
    pub(crate) may_fill_page: bool,
}

/// How far a swarm was read.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// In milliseconds of the store's clock.
    until_ms: u64,
    /// There was more.
    more: bool,
    asked: Time,
    whole: Time,
}

#[derive(Debug)]
pub(crate) struct Outbox {
    told: Vec<(InfoHash, Told)>,
    asked: Vec<InfoHash>,
    completed: HashMap<InfoHash, u32>,
    known: HashMap<InfoHash, Known>,
    /// Most entries of `known`.
    known_max: usize,
    /// When the store was last reached anew.
    back: Time,
    dropped: u64,
}

impl Outbox {
    pub(crate) fn new(torrents_max: usize) -> Self {
        Self {
            told: Vec::new(),
            asked: Vec::new(),
            completed: HashMap::new(),
            known: HashMap::new(),
            known_max: torrents_max,
            back: Time::ZERO,
            dropped: 0,
        }
    }

    /// An announce was taken.
    pub(crate) fn tell(
        &mut self,
        now: Time,
        info_hash: InfoHash,
        addr: SocketAddr,
        standing: Standing,
        completed: u32,
    ) {
        if self.told.len() < TOLD_MAX {
            let told = Told {
                addr,
                standing,
                at: now,
                age_secs: 0,
            };
            self.told.push((info_hash, told));
        } else {
            self.dropped += 1;
        }
        let room = self.completed.len() < COMPLETED_MAX || self.completed.contains_key(&info_hash);
        if completed > 0 && room {
            *self.completed.entry(info_hash).or_default() += completed;
        }
    }

    /// Somebody wants the numbers of a torrent.
    pub(crate) fn ask(&mut self, now: Time, info_hash: InfoHash) {
        let known = self.known.get(&info_hash);
        let stale = known.is_none_or(|known| now.since(known.asked) >= REFRESH);
        if stale && self.asked.len() < ASKED_MAX {
            self.asked.push(info_hash);
        }
    }

    /// Whether it was ever read what others know of the torrent.
    pub(crate) fn knows(&self, info_hash: &InfoHash) -> bool {
        self.known.contains_key(info_hash)
    }

    /// How many announces wait.
    pub(crate) const fn waiting(&self) -> usize {
        self.told.len()
    }

    /// How many there was no room for.
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The completed downloads of a torrent that were not told yet.
    pub(crate) fn untold(&self, info_hash: &InfoHash) -> u32 {
        self.completed.get(info_hash).copied().unwrap_or(0)
    }

    /// Takes out up to `most` announces and the swarms that are asked for, a swarm once.
    pub(crate) fn take(&mut self, now: Time, most: usize, out: &mut Vec<Exchange>) {
        let mut places = HashMap::new();
        let mut peers = HashMap::new();
        let begun = out.len();
        for (info_hash, told) in self.told.drain(..most.min(self.told.len())) {
            let place = *places.entry(info_hash).or_insert_with(|| {
                out.push(Exchange::of(info_hash));
                out.len() - 1
            });
            let Some(exchange) = out.get_mut(place) else {
                continue;
            };
            // Of two announces of a peer the later one.
            let at = *peers
                .entry((info_hash, told.addr))
                .or_insert(exchange.told.len());
            match exchange.told.get_mut(at) {
                Some(earlier) => *earlier = told,
                None => exchange.told.push(told),
            }
        }
        for info_hash in self.asked.drain(..) {
            places.entry(info_hash).or_insert_with(|| {
                out.push(Exchange::of(info_hash));
                out.len() - 1
            });
        }
        for exchange in out.iter_mut().skip(begun) {
            let known = self.known.get(&exchange.info_hash);
            let known = known.filter(|known| {
                let is_early = known.whole.since(self.back) < SETTLE;
                now.since(known.whole) < if is_early { SETTLE } else { WHOLE_EVERY }
            });
            exchange.since_ms = Some(known.map_or(0, |known| known.until_ms));
            exchange.may_fill_page = known.is_none_or(|known| known.more);
            exchange.completed = self.completed.remove(&exchange.info_hash).unwrap_or(0);
        }
    }

    /// An exchange of which there was no answer: it waits again, before those that came since. Its completed downloads are
    /// counted again only if it was not even sent: else they might count twice.
    pub(crate) fn give_back(&mut self, exchange: Exchange, unsent: bool) {
        let info_hash = exchange.info_hash;
        let room = TOLD_MAX.saturating_sub(self.told.len());
        self.dropped += exchange.told.len().saturating_sub(room) as u64;
        let again = exchange.told.into_iter().take(room);
        self.told.splice(..0, again.map(|told| (info_hash, told)));
        if unsent && exchange.completed > 0 {
            *self.completed.entry(info_hash).or_default() += exchange.completed;
        }
    }

    /// A swarm was read: up to `until_ms`, of which `more` is to come at once.
    pub(crate) fn was_read(&mut self, now: Time, exchange: &Exchange, until_ms: u64, more: bool) {
        let info_hash = exchange.info_hash;
        let Some(since_ms) = exchange.since_ms else {
            return;
        };
        let whole = self.known.get(&info_hash).map(|known| known.whole);
        let whole = whole.filter(|_| since_ms > 0).unwrap_or(now);
        if self.known.len() >= self.known_max {
            // All of them are read as a whole then, and no more.
            self.known.clear();
        }
        let known = Known {
            until_ms,
            more,
            asked: now,
            whole,
        };
        self.known.insert(info_hash, known);
        if more && self.asked.len() < ASKED_MAX {
            self.asked.push(info_hash);
        }
    }

    /// Everything is to be read as a whole: the store was away, and who knows what it has now.
    pub(crate) fn forget(&mut self, now: Time) {
        self.known = HashMap::new();
        self.back = now;
    }

    /// Drops what nobody asked for lately.
    pub(crate) fn sweep(&mut self, now: Time) {
        self.known
            .retain(|_, known| now.since(known.asked) < KNOWN_KEPT);
    }
}

impl Exchange {
    pub(crate) const fn of(info_hash: InfoHash) -> Self {
        Self {
            info_hash,
            told: Vec::new(),
            completed: 0,
            floor: 0,
            since_ms: None,
            may_fill_page: false,
        }
    }
}
