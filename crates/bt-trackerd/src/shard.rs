//! The swarms, cut by info hash into shards with a lock each.
//!
//! **Invariant:** a lock is held for one announce, one torrent of a scrape, one portion of a snapshot, or one sweep of a
//! shard; never across an `await`, and never two at once.

use bt_core::{InfoHash, PeerId, Rng, Time};
use bt_tracker::announce::AnnounceRequest;
use bt_tracker::scrape::{ScrapeEntry, ScrapedTorrent};
use bt_tracker::server::snapshot::{Cursor, Portion, Record};
use bt_tracker::server::{Config, Numbers, Picked, Refusal, Swarms, Totals, Wanted};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Enough that a handful of workers seldom meet; each costs next to nothing.
const SHARDS_COUNT: usize = 16;

#[derive(Debug)]
pub(crate) struct Shards(Vec<Mutex<Shard>>);

#[derive(Debug)]
struct Shard {
    swarms: Swarms,
    rng: Rng,
}

impl Shards {
    pub(crate) fn new(config: &Config, seed: u64) -> Self {
        let mut seeds = Rng::new(seed);
        let shard = |_| {
            Mutex::new(Shard {
                swarms: Swarms::new(share_of(config), seeds.next_u64()),
                rng: seeds.fork(),
            })
        };
        Self((0..SHARDS_COUNT).map(shard).collect())
    }

    pub(crate) fn set_config(&self, config: &Config) {
        let share = share_of(config);
        self.0
            .iter()
            .for_each(|shard| lock(shard).swarms.set_config(share.clone()));
    }

    pub(crate) fn announce_into(
        &self,
        now: Time,
        source: SocketAddr,
        request: &AnnounceRequest,
        wanted: Wanted,
        picked: &mut Picked,
    ) -> Result<Numbers, Refusal> {
        let mut shard = self.of(&request.info_hash);
        let Shard { swarms, rng } = &mut *shard;
        swarms.announce_into(now, source, request, wanted, rng, picked)
    }

    pub(crate) fn scrape(&self, now: Time, info_hash: &InfoHash) -> Option<ScrapeEntry> {
        self.of(info_hash).swarms.scrape(now, info_hash)
    }

    /// The numbers of all torrents.
    pub(crate) fn scrape_all(&self) -> Vec<ScrapedTorrent> {
        let mut all = Vec::new();
        for shard in &self.0 {
            let shard = lock(shard);
            let torrents = shard.swarms.iter();
            all.extend(torrents.map(|(info_hash, entry)| ScrapedTorrent {
                info_hash,
                entry,
                name: None,
            }));
        }
        all
    }

    pub(crate) fn sweep(&self, now: Time) {
        self.0
            .iter()
            .for_each(|shard| lock(shard).swarms.sweep(now));
    }

    /// Has all swarms written, portion by portion; no lock is held while `each` has one.
    pub(crate) fn export(
        &self,
        now: &dyn Fn() -> Time,
        each: &mut dyn FnMut(&Portion) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut portion = Portion::default();
        for shard in &self.0 {
            let mut next = Some(Cursor::START);
            while let Some(from) = next {
                portion.clear();
                next = lock(shard).swarms.export(now(), from, &mut portion);
                each(&portion)?;
            }
        }
        Ok(())
    }

    /// Takes in a swarm of a snapshot.
    pub(crate) fn restore(&self, now: Time, record: Record<'_>, with_peers: bool) {
        let mut shard = self.of(&record.info_hash());
        let Shard { swarms, rng } = &mut *shard;
        swarms.restore(now, record, with_peers, rng);
    }

    /// Shows the id of each peer to `each`, which must be quick: locks are held meanwhile, though none for long.
    pub(crate) fn peer_ids(&self, each: &mut dyn FnMut(&PeerId)) {
        for shard in &self.0 {
            let mut next = Some(Cursor::START);
            while let Some(from) = next {
                next = lock(shard).swarms.peer_ids(from, each);
            }
        }
    }

    /// Drops a torrent; false if there was none.
    pub(crate) fn forget(&self, info_hash: &InfoHash) -> bool {
        self.of(info_hash).swarms.forget(info_hash)
    }

    /// The first so many torrents from `from` on, in order.
    pub(crate) fn torrents(&self, from: InfoHash, most: usize) -> Vec<(InfoHash, ScrapeEntry)> {
        let mut first = BTreeMap::new();
        for shard in &self.0 {
            for (info_hash, entry) in lock(shard).swarms.iter().filter(|(hash, _)| *hash >= from) {
                first.insert(info_hash, entry);
                if first.len() > most {
                    first.pop_last();
                }
            }
        }
        first.into_iter().collect()
    }

    pub(crate) fn totals(&self) -> Totals {
        self.0.iter().fold(Totals::default(), |sum, shard| {
            let totals = lock(shard).swarms.totals();
            Totals {
                torrents: sum.torrents + totals.torrents,
                seeders: sum.seeders + totals.seeders,
                leechers: sum.leechers + totals.leechers,
                partial_seeds: sum.partial_seeds + totals.partial_seeds,
                downloaded: sum.downloaded + totals.downloaded,
            }
        })
    }

    fn of(&self, info_hash: &InfoHash) -> MutexGuard<'_, Shard> {
        let [.., last] = info_hash.as_bytes();
        let shard = self.0.get(usize::from(*last) % SHARDS_COUNT);
        lock(shard.expect("there are that many shards"))
    }
}

/// Each shard gets its part of the limits. Honest info hashes spread evenly; who aims at one shard fills only that.
fn share_of(config: &Config) -> Config {
    Config {
        torrents_max: config.torrents_max.div_ceil(SHARDS_COUNT),
        peers_max: config.peers_max.div_ceil(SHARDS_COUNT),
        ..config.clone()
    }
}

/// A panic inside left no swarm half changed that an expiry would not mend; going on serves better than stopping.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
