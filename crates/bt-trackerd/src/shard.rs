//! The swarms, cut by info hash into shards with a lock each.
//!
//! **Invariant:** a lock is held for one announce, one torrent of a scrape, one portion of a snapshot, or one sweep of a
//! shard; never across an `await`, and never two at once.
//!
//! Torrents are limited by shard, as info hashes spread evenly and who aims at one shard fills only that. Peers do not: one swarm
//! may have most of them. So these have one limit for all ([`Room`]).

use crate::room::{Held, Room, SHARDS_COUNT};
use crate::store::{self, Exchange, Outbox, Status};
use bt_core::{InfoHash, PeerId, Rng, Time};
use bt_tracker::announce::{AnnounceRequest, Event};
use bt_tracker::scrape::{ScrapeEntry, ScrapedTorrent};
use bt_tracker::server::snapshot::{Cursor, Portion, Record};
use bt_tracker::server::{
    Config, Heard, Numbers, Picked, Refusal, Standing, Swarms, Totals, Wanted,
};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(crate) struct Shards {
    shards: Vec<Mutex<Shard>>,
    room: Room,
    /// Held while places go from one shard to another, so that none is on its way when the limit changes.
    moving: Mutex<()>,
    /// Whether the store that these are shared through answers, if they are shared.
    store: Option<Arc<Status>>,
}

/// How far all swarms were gone through: a shard, and a swarm in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    shard: usize,
    cursor: Cursor,
}

impl Position {
    pub(crate) const START: Self = Self {
        shard: 0,
        cursor: Cursor::START,
    };
}

#[derive(Debug)]
struct Shard {
    swarms: Swarms,
    rng: Rng,
    /// What is to be told to the store and asked of it, if there is one.
    outbox: Option<Outbox>,
}

impl Shards {
    pub(crate) fn new(config: &Config, seed: u64) -> Self {
        let mut seeds = Rng::new(seed);
        let room = Room::new(config.peers_max);
        let shard = |number| {
            let places = room.take(room.lot());
            let shard = Shard {
                swarms: Swarms::new(part_of(config, number, places), seeds.next_u64()),
                rng: seeds.fork(),
                outbox: None,
            };
            room.tell(number, shard.held());
            Mutex::new(shard)
        };
        Self {
            shards: (0..SHARDS_COUNT).map(shard).collect(),
            room,
            moving: Mutex::default(),
            store: None,
        }
    }

    /// From now on, what comes in is to be told to the store.
    pub(crate) fn share(&mut self, status: Arc<Status>) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.outbox = Some(Outbox::new(shard.swarms.config().torrents_max));
        }
        self.store = Some(status);
    }

    pub(crate) fn set_config(&self, config: &Config) {
        for (number, shard) in self.shards.iter().enumerate() {
            let swarms = &mut lock(shard).swarms;
            let places = swarms.config().peers_max;
            swarms.set_config(part_of(config, number, places));
        }
        let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let fewer = self.room.set_peers_max(config.peers_max);
        self.shrink(fewer);
    }

    /// Takes so many places from the shards: those that nobody has taken, then of each as large a part.
    fn shrink(&self, fewer: usize) {
        let take = |of: &dyn Fn(&Swarms) -> usize| -> usize {
            let each = |(number, shard): (usize, &Mutex<Shard>)| {
                let mut shard = lock(shard);
                let places = shard.swarms.config().peers_max;
                let taken = of(&shard.swarms).min(places);
                shard.swarms.set_peers_max(places - taken);
                self.room.tell(number, shard.held());
                taken
            };
            self.shards.iter().enumerate().map(each).sum()
        };
        if fewer == 0 {
            return;
        }
        let idle = take(&|swarms| {
            swarms
                .config()
                .peers_max
                .saturating_sub(swarms.peers_count())
        });
        let left = fewer.saturating_sub(idle);
        let places = |shard: &Mutex<Shard>| lock(shard).swarms.config().peers_max;
        let all = self.shards.iter().map(places).sum::<usize>().max(1) as u128;
        // Rounded up, so that no place is missing; what is too much is free.
        let part = |places: usize| (places as u128 * left as u128).div_ceil(all);
        let taken =
            take(&|swarms| usize::try_from(part(swarms.config().peers_max)).unwrap_or(usize::MAX));
        self.room.give_back((idle + taken).saturating_sub(fewer));
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
        if shard.swarms.is_full() {
            shard.grow(self.room.take(self.room.lot()));
        }
        let numbers = self.announce_locked(&mut shard, now, source, request, wanted, picked);
        if shard.swarms.take_pressed() {
            let (taker, number) = (shard.held(), place_of(&request.info_hash));
            self.room.tell(number, taker);
            drop(shard);
            self.move_places(now, taker, number);
        }
        numbers
    }

    /// A shard in which somebody had to go gets places of another that has less need of them, if there is one.
    #[cold]
    fn move_places(&self, now: Time, taker: Held, number: usize) {
        // One at a time: whoever comes meanwhile manages with what it has.
        let Ok(_moving) = self.moving.try_lock() else {
            return;
        };
        let giver = self.room.giver(taker);
        let shard = |number: usize| self.shards.get(number);
        let Some((giver, giving, taking)) =
            giver.and_then(|giver| Some((giver, shard(giver)?, shard(number)?)))
        else {
            return;
        };
        let mut giving = lock(giving);
        let most = self.room.gives(giving.held(), taker);
        let Shard { swarms, rng, .. } = &mut *giving;
        let given = swarms.yield_places(now, most, rng);
        self.room.tell(giver, giving.held());
        drop(giving);
        let mut taking = lock(taking);
        taking.grow(given);
        self.room.tell(number, taking.held());
    }

    fn announce_locked(
        &self,
        shard: &mut Shard,
        now: Time,
        source: SocketAddr,
        request: &AnnounceRequest,
        wanted: Wanted,
        picked: &mut Picked,
    ) -> Result<Numbers, Refusal> {
        let Shard {
            swarms,
            rng,
            outbox,
        } = shard;
        let Some(outbox) = outbox else {
            return swarms.announce_into(now, source, request, wanted, rng, picked);
        };
        let before = swarms.totals().downloaded;
        let mut numbers = swarms.announce_into(now, source, request, wanted, rng, picked)?;
        let info_hash = request.info_hash;
        let completed = swarms.totals().downloaded.saturating_sub(before);
        let addr = SocketAddr::new(source.ip().to_canonical(), request.port);
        let standing = match (request.event, request.left) {
            (Event::Stopped, _) => Standing::Gone,
            (_, 0) => Standing::Seeder,
            (Event::Paused, _) => Standing::PartialSeed,
            (Event::Interval | Event::Started | Event::Completed, _) => Standing::Downloader,
        };
        outbox.tell(now, info_hash, addr, standing, u32::from(completed > 0));
        // Nobody here knows yet what others know of this one: whoever asks again soon is told.
        let is_news = !outbox.knows(&info_hash) && standing != Standing::Gone;
        if is_news && self.store.as_ref().is_some_and(|store| store.is_up()) {
            numbers.interval_secs = numbers.interval_secs.min(numbers.min_interval_secs);
        }
        Ok(numbers)
    }

    pub(crate) fn scrape(&self, now: Time, info_hash: &InfoHash) -> Option<ScrapeEntry> {
        let mut shard = self.of(info_hash);
        if let Some(outbox) = &mut shard.outbox {
            outbox.ask(now, *info_hash);
        }
        shard.swarms.scrape(now, info_hash)
    }

    /// Takes out what is to be told and asked, up to `most` announces of each shard; true if more wait.
    pub(crate) fn take(&self, now: Time, most: usize, out: &mut Vec<Exchange>) -> bool {
        let mut more = false;
        for shard in &self.shards {
            if let Some(outbox) = &mut lock(shard).outbox {
                outbox.take(now, most, out);
                more |= outbox.waiting() > 0;
            }
        }
        more
    }

    /// Exchanges of which there was no answer; if `unsent`, they never left.
    pub(crate) fn give_back(&self, exchanges: Vec<Exchange>, unsent: bool) {
        // From the last to the first, as each goes before those that wait.
        for exchange in exchanges.into_iter().rev() {
            if let Some(outbox) = &mut self.of(&exchange.info_hash).outbox {
                outbox.give_back(exchange, unsent);
            }
        }
    }

    /// Takes in what others told of a swarm; `and_then` has the outbox.
    pub(crate) fn learned(
        &self,
        now: Time,
        info_hash: InfoHash,
        downloaded: u32,
        heard: &[Heard],
        and_then: impl FnOnce(&mut Outbox),
    ) {
        let mut shard = self.of(&info_hash);
        shard.reserve(heard.len(), &self.room);
        let Shard {
            swarms,
            rng,
            outbox,
        } = &mut *shard;
        swarms.learn(now, info_hash, downloaded, heard, rng);
        if let Some(outbox) = outbox {
            and_then(outbox);
        }
    }

    /// Everything is to be asked of the store anew.
    pub(crate) fn forget_store(&self, now: Time) {
        for shard in &self.shards {
            if let Some(outbox) = &mut lock(shard).outbox {
                outbox.forget(now);
            }
        }
    }

    /// Appends the next swarms as the store is to be told of them; returns where to go on.
    pub(crate) fn retell(
        &self,
        now: Time,
        from: Position,
        out: &mut Vec<Exchange>,
    ) -> Option<Position> {
        let mut shard = lock(self.shards.get(from.shard)?);
        let mut portion = Portion::default();
        let next = shard.swarms.export(now, from.cursor, &mut portion);
        for record in portion.iter() {
            let outbox = shard.outbox.as_ref();
            let untold = outbox.map_or(0, |outbox| outbox.untold(&record.info_hash()));
            store::retold(now, record, untold, out);
        }
        Some(match next {
            Some(cursor) => Position { cursor, ..from },
            None => Position {
                shard: from.shard + 1,
                cursor: Cursor::START,
            },
        })
    }

    /// Announces that wait to be told, and those there was no room for.
    pub(crate) fn untold(&self) -> (u64, u64) {
        self.shards
            .iter()
            .fold((0, 0), |(waiting, dropped), shard| {
                let shard = lock(shard);
                let more = shard.outbox.as_ref();
                let more = more.map_or((0, 0), |outbox| (outbox.waiting(), outbox.dropped()));
                (waiting + more.0 as u64, dropped + more.1)
            })
    }

    /// The numbers of all torrents.
    pub(crate) fn scrape_all(&self) -> Vec<ScrapedTorrent> {
        let mut all = Vec::new();
        for shard in &self.shards {
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
        for (number, shard) in self.shards.iter().enumerate() {
            let mut shard = lock(shard);
            shard.swarms.sweep(now);
            if let Some(outbox) = &mut shard.outbox {
                outbox.sweep(now);
            }
            // One lot stays at hand.
            let kept = shard.swarms.peers_count() + self.room.lot();
            let places = shard.swarms.config().peers_max;
            shard.swarms.set_peers_max(places.min(kept));
            self.room.give_back(places.saturating_sub(kept));
            self.room.tell(number, shard.held());
        }
    }

    /// Has all swarms written, portion by portion; no lock is held while `each` has one.
    pub(crate) fn export(
        &self,
        now: &dyn Fn() -> Time,
        each: &mut dyn FnMut(&Portion) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut portion = Portion::default();
        for shard in &self.shards {
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
        if with_peers {
            shard.reserve(record.peers_count(), &self.room);
        }
        let Shard { swarms, rng, .. } = &mut *shard;
        swarms.restore(now, record, with_peers, rng);
    }

    /// Shows the id of each peer to `each`, which must be quick: locks are held meanwhile, though none for long.
    pub(crate) fn peer_ids(&self, each: &mut dyn FnMut(&PeerId)) {
        for shard in &self.shards {
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
        for shard in &self.shards {
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
        self.shards.iter().fold(Totals::default(), |sum, shard| {
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
        let shard = self.shards.get(place_of(info_hash));
        lock(shard.expect("there are that many shards"))
    }
}

impl Shard {
    fn held(&self) -> Held {
        Held {
            places: self.swarms.config().peers_max,
            largest: self.swarms.largest_count(),
        }
    }

    const fn grow(&mut self, places: usize) {
        let all = self.swarms.config().peers_max + places;
        self.swarms.set_peers_max(all);
    }

    /// Takes what is free, so that so many peers can come.
    fn reserve(&mut self, peers: usize, room: &Room) {
        let swarms = &self.swarms;
        let there = swarms
            .config()
            .peers_max
            .saturating_sub(swarms.peers_count());
        if peers > there {
            self.grow(room.take(peers - there));
        }
    }
}

fn place_of(info_hash: &InfoHash) -> usize {
    let [.., last] = info_hash.as_bytes();
    usize::from(*last) % SHARDS_COUNT
}

/// Each shard gets its part of the torrents, and together they have no more, but that each has room for one. Honest info hashes
/// spread evenly; who aims at one shard fills only that. Places for peers are another matter.
fn part_of(config: &Config, shard: usize, places: usize) -> Config {
    // The first ones have what cannot be shared evenly.
    let (each, rest) = (
        config.torrents_max / SHARDS_COUNT,
        config.torrents_max % SHARDS_COUNT,
    );
    Config {
        torrents_max: (each + usize::from(shard < rest)).max(1),
        peers_max: places,
        ..config.clone()
    }
}

/// A panic inside left no swarm half changed that an expiry would not mend; going on serves better than stopping.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
