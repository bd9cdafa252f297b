//! The swarms that a tracker keeps, without clock, socket or file.
//!
//! **Invariant:** memory is bounded by [`Config::torrents_max`] and [`Config::peers_max`], whatever is announced.
//!
//! # Who is one peer
//!
//! One entry per address and port, as the connection shows the address. A peer id is only what somebody says; an address
//! has been proven by the handshake of TCP, so nobody can push out or impersonate another's entry. A peer that comes
//! over IPv4 and over IPv6 has two entries, one of each family, as BEP 7 wants it; a new peer id from an address and
//! port that is known takes over that entry. An address that is no longer announced dies with
//! [`Config::expiry`]. `ip=` in a request is not looked at: who trusts it puts it into the source.
//!
//! # When memory is full
//!
//! A flood of invented info hashes must not lock honest torrents out, and must not push out the live ones either. So a
//! new torrent always gets in, and of sixteen torrents picked at random one makes room: one without peers, else the oldest of
//! the network that alone has most of them (an IPv4 address, an IPv6 /64), else the smallest. A flood drives out its own.
//!
//! A new peer takes the place of the most silent of a few random ones of the largest swarm, as long as that has more peers than an
//! answer commonly holds, so that nobody there misses one; else that of one of its own swarm. So who fills a torrent with
//! invented peers keeps no other from growing. The first peer of a torrent has a whole swarm go first, if those picked at random
//! show that one network floods the tracker with torrents: it takes no place from a large swarm then.
//!
//! Several of these may share one limit: each tells whether it lacks places ([`Swarms::take_pressed`]) and gives some to another
//! ([`Swarms::yield_places`]).
//!
//! # Example
//!
//! ```
//! use bt_core::{InfoHash, PeerId, Rng, Time};
//! use bt_tracker::announce::{AnnounceRequest, Event};
//! use bt_tracker::server::{Config, Swarms};
//!
//! let (mut swarms, mut rng) = (Swarms::new(Config::default(), 1), Rng::new(2));
//! let mut request = AnnounceRequest::new(InfoHash([7; 20]), PeerId([1; 20]), 6881, 1);
//! request.event = Event::Started;
//! swarms.announce(Time::ZERO, "10.0.0.1:40000".parse()?, &request, &mut rng)?;
//!
//! request.peer_id = PeerId([2; 20]);
//! let reply = swarms.announce(Time::ZERO, "10.0.0.2:40000".parse()?, &request, &mut rng)?;
//! assert_eq!(reply.peers.first().map(|peer| peer.addr), Some("10.0.0.1:6881".parse()?));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod access;
mod config;
pub mod connection_id;
mod eviction;
mod hash;
pub mod keys;
pub mod learn;
mod list;
mod numbers;
mod peer;
mod picked;
pub mod quota;
pub mod snapshot;
mod swarm;

#[cfg(test)]
mod tests;

pub use access::{Access, AccessError};
pub use config::Config;
pub use connection_id::ConnectionIds;
pub use keys::{Keys, KeysError, is_key};
pub use learn::{Heard, Standing};
pub use numbers::{Numbers, Totals};
pub use picked::{Picked, Scope, Wanted};
pub use quota::{Quota, Quotas};

use crate::announce::{AnnounceRequest, AnnounceResponse, Event};
use crate::scrape::ScrapeEntry;
use bt_core::{InfoHash, PeerId, Rng, Time, addr};
use core::time::Duration;
use eviction::{Candidate, SAMPLE, Sample};
use hash::HashKey;
use hashbrown::HashTable;
use list::Role;
use peer::EXPIRY_MAX_SECS;
use std::net::SocketAddr;
use swarm::{Announced, Swarm};

/// How many random peers are looked at when one must make room. More would choose better and cost more.
const EVICTION_SAMPLE: usize = 8;

/// No swarm has to give a peer to another unless it has more than so many: an answer holds 50, and a few more may be gone.
const LARGE_PEERS: usize = 64;

/// A swarm of so many peers, all of one network, makes room for the next one of that network itself.
const LONE_PEERS: usize = 8;

/// How long a swarm without peers is remembered for the sake of its count of completed downloads.
const EMPTY_SWARM_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Why an announce was refused; its text is for the peer's user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody can connect to port 0.
    #[error("port 0 takes no connections")]
    PortZero,
    /// An address such as 0.0.0.0 or a multicast group.
    #[error("nobody can connect to your address")]
    NotDialable,
}

/// The swarms of a tracker.
///
/// Swarms lie densely in a vector, so that one can be picked at random, and a table finds them by info hash. The
/// table's hash is keyed by the seed: info hashes come from strangers, who must not be able to make them collide.
#[derive(Debug)]
pub struct Swarms {
    config: Config,
    peer_ids: bool,
    key: HashKey,
    /// The latest time that was told, in seconds. Threads that read a clock at once may come here in another order, and
    /// somebody who was heard of in the future would count as silent for long.
    clock: u32,
    swarms: Vec<Swarm>,
    /// Positions in `swarms`.
    by_info_hash: HashTable<u32>,
    /// The position of the largest swarm of those that were announced to or heard of lately; once that shrinks, another may be
    /// larger until somebody announces to it.
    largest: usize,
    totals: Totals,
    /// Somebody had to go for a peer that is none of a flood.
    is_pressed: bool,
}

impl Swarms {
    /// A tracker without swarms; the seed keys its tables.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            peer_ids: config.peer_ids,
            config,
            key: HashKey::new(seed),
            clock: 0,
            swarms: Vec::new(),
            by_info_hash: HashTable::new(),
            largest: 0,
            totals: Totals::default(),
            is_pressed: false,
        }
    }

    /// The settings.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// New settings; what is stored stays, until the new limits make it yield.
    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// Takes an announce from `source`, of which only the address counts, and answers it.
    ///
    /// # Errors
    /// [`Refusal`] if nobody could connect to the peer. Nothing is stored then.
    pub fn announce(
        &mut self,
        now: Time,
        source: SocketAddr,
        request: &AnnounceRequest,
        rng: &mut Rng,
    ) -> Result<AnnounceResponse, Refusal> {
        let wanted = Wanted {
            scope: Scope::Both,
            ids: true,
            most: usize::MAX,
        };
        let mut picked = Picked::default();
        let numbers = self.announce_into(now, source, request, wanted, rng, &mut picked)?;
        Ok(AnnounceResponse {
            interval: Duration::from_secs(numbers.interval_secs.into()),
            min_interval: Some(Duration::from_secs(numbers.min_interval_secs.into())),
            external_ip: Some(source.ip().to_canonical()),
            complete: Some(numbers.complete),
            incomplete: Some(numbers.incomplete),
            peers: picked.peers().collect(),
            ..AnnounceResponse::default()
        })
    }

    /// The same without making anything anew: the peers are put into `picked`, which is emptied first.
    ///
    /// # Errors
    /// [`Refusal`] if nobody could connect to the peer. Nothing is stored then.
    pub fn announce_into(
        &mut self,
        now: Time,
        source: SocketAddr,
        request: &AnnounceRequest,
        mut wanted: Wanted,
        rng: &mut Rng,
        picked: &mut Picked,
    ) -> Result<Numbers, Refusal> {
        picked.clear();
        let addr = SocketAddr::new(source.ip().to_canonical(), request.port);
        if request.port == 0 {
            return Err(Refusal::PortZero);
        }
        if !addr::is_dialable(addr) {
            return Err(Refusal::NotDialable);
        }
        let asked = request.numwant.unwrap_or(self.config.numwant_default);
        let asked = asked.min(self.config.numwant_max) as usize;
        wanted.most = wanted.most.min(asked);
        let announced = Announced {
            seconds: self.at(now),
            role: match (request.left, request.event) {
                (0, _) => Role::Seeder,
                (_, Event::Paused) => Role::PartialSeed,
                (_, Event::Interval | Event::Started | Event::Completed | Event::Stopped) => {
                    Role::Downloader
                }
            },
            completed: request.event == Event::Completed,
        };
        let entry = match self.find(&request.info_hash) {
            None if request.event == Event::Stopped => ScrapeEntry::default(),
            found => {
                let position =
                    found.unwrap_or_else(|| self.insert(request.info_hash, announced.seconds, rng));
                self.expire(position, announced.seconds);
                let id = self.peer_ids.then_some(request.peer_id);
                self.join(
                    position,
                    addr,
                    id,
                    announced,
                    request.event,
                    wanted,
                    rng,
                    picked,
                )
            }
        };
        if self.peers_count() > self.config.peers_max {
            self.settle(Some(request.info_hash), announced.seconds, rng);
        }
        Ok(Numbers {
            interval_secs: jittered(span(self.config.interval), rng),
            min_interval_secs: span(self.config.min_interval),
            complete: entry.complete,
            incomplete: entry.incomplete,
        })
    }

    /// The peer at `addr` takes part in the swarm at `position`, or leaves it.
    #[allow(
        clippy::too_many_arguments,
        reason = "the one step of `announce_into` that has the swarm in its hands"
    )]
    fn join(
        &mut self,
        position: usize,
        addr: SocketAddr,
        id: Option<PeerId>,
        announced: Announced,
        event: Event,
        wanted: Wanted,
        rng: &mut Rng,
        picked: &mut Picked,
    ) -> ScrapeEntry {
        let swarm = self.swarms.get(position);
        let known = swarm.and_then(|swarm| swarm.find(&addr, &self.key));
        let joins = known.is_none() && event != Event::Stopped;
        if joins {
            self.make_room(position, &addr, announced.seconds, rng);
        }
        let Some(swarm) = self.swarms.get_mut(position) else {
            return ScrapeEntry::default();
        };
        let before = swarm.counts();
        swarm.touch(announced.seconds);
        if event == Event::Stopped {
            if let Some(place) = known {
                swarm.remove(place, &self.key);
            }
        } else {
            let place = swarm.upsert(known, &addr, id, announced, &self.key);
            let started = event == Event::Started;
            swarm.pick(place, started, wanted, rng, picked);
        }
        let after = swarm.counts();
        self.totals.change(before, after);
        self.note_size(position);
        after
    }

    /// A peer of this address is about to join the swarm at `position`: if all places are taken, somebody goes. If that swarm is
    /// empty nobody does yet: see [`Self::settle`].
    fn make_room(&mut self, position: usize, addr: &SocketAddr, seconds: u32, rng: &mut Rng) {
        let Some(swarm) = self.swarms.get(position) else {
            return;
        };
        let here = swarm.peers_count();
        if here == 0 || self.peers_count() < self.config.peers_max {
            return;
        }
        let of_one = here >= LONE_PEERS && swarm.network() == Some(peer::network_of(addr));
        self.is_pressed |= !of_one;
        let giving = if !of_one && self.peers_of(self.largest) > here.max(LARGE_PEERS) {
            self.largest
        } else {
            position
        };
        self.remove_one(giving, seconds, rng);
    }

    /// There are more peers than places, one of them perhaps in `newcomer`, a swarm that was empty: a swarm of a flood goes if there
    /// is one, else a peer of a large swarm, else any small swarm.
    fn settle(&mut self, newcomer: Option<InfoHash>, seconds: u32, rng: &mut Rng) {
        let sample = self.sample(rng, |swarm| {
            Some(swarm.info_hash) != newcomer && swarm.peers_count() > 0
        });
        let is_large = self.peers_of(self.largest) > LARGE_PEERS;
        let flood = sample.flood();
        self.is_pressed |= flood.is_none() && newcomer.is_some();
        let victim = flood.or_else(|| sample.victim().filter(|_| !is_large));
        match victim {
            Some(position) => self.remove(position),
            None => self.remove_one(self.largest, seconds, rng),
        }
    }

    /// True if somebody had to go for a peer that is none of a flood, since this was asked last.
    pub const fn take_pressed(&mut self) -> bool {
        core::mem::replace(&mut self.is_pressed, false)
    }

    /// True if another peer would have somebody go.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.peers_count() >= self.config.peers_max
    }

    /// Gives up to so many places away: [`Config::peers_max`] is smaller by what it returns. Who has to go for that is chosen as for
    /// a newcomer; no more than two for each place, if there were too many peers before.
    pub fn yield_places(&mut self, now: Time, most: usize, rng: &mut Rng) -> usize {
        let seconds = self.at(now);
        let given = most.min(self.config.peers_max);
        self.config.peers_max -= given;
        for _ in 0..given.saturating_mul(2) {
            let before = self.peers_count();
            if before <= self.config.peers_max {
                break;
            }
            self.settle(None, seconds, rng);
            if self.peers_count() == before {
                // The swarm that was the largest has nobody left, and none of those picked at random has.
                let largest = (0..self.swarms.len()).max_by_key(|at| self.peers_of(*at));
                self.largest = largest.unwrap_or(0);
            }
        }
        given
    }

    /// More places, or fewer; nobody goes for it now.
    pub const fn set_peers_max(&mut self, peers_max: usize) {
        self.config.peers_max = peers_max;
    }

    /// The peers of the largest swarm, as far as it is known which one that is.
    #[must_use]
    pub fn largest_count(&self) -> usize {
        self.peers_of(self.largest)
    }

    fn remove_one(&mut self, position: usize, seconds: u32, rng: &mut Rng) {
        if let Some(swarm) = self.swarms.get_mut(position) {
            let before = swarm.counts();
            swarm.remove_most_silent(EVICTION_SAMPLE, seconds, rng, &self.key);
            self.totals.change(before, swarm.counts());
        }
    }

    /// The swarm at `position` may have grown, or may be larger than the one that shrank.
    fn note_size(&mut self, position: usize) {
        if self.peers_of(position) > self.peers_of(self.largest) {
            self.largest = position;
        }
    }

    fn peers_of(&self, position: usize) -> usize {
        self.swarms.get(position).map_or(0, Swarm::peers_count)
    }

    /// What is known of a torrent (BEP 48), if it is.
    pub fn scrape(&mut self, now: Time, info_hash: &InfoHash) -> Option<ScrapeEntry> {
        let position = self.find(info_hash)?;
        let seconds = self.at(now);
        self.expire(position, seconds);
        self.swarms.get(position).map(Swarm::counts)
    }

    /// Drops the peers that were silent too long, and the torrents without peers. To be called now and then.
    pub fn sweep(&mut self, now: Time) {
        let seconds = self.at(now);
        let forget = span(EMPTY_SWARM_KEPT);
        for position in (0..self.swarms.len()).rev() {
            self.expire(position, seconds);
            if self
                .swarms
                .get(position)
                .is_some_and(|swarm| swarm.is_forgotten(seconds, forget))
            {
                self.remove(position);
            }
        }
    }

    /// What is kept, in numbers.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        Totals {
            torrents: self.swarms.len(),
            ..self.totals
        }
    }

    /// Whole seconds: 136 years of them.
    fn at(&mut self, now: Time) -> u32 {
        let seconds = u32::try_from(now.as_nanos() / 1_000_000_000).unwrap_or(u32::MAX);
        self.clock = self.clock.max(seconds);
        self.clock
    }

    /// Peers of all torrents together.
    #[must_use]
    pub const fn peers_count(&self) -> usize {
        self.totals.seeders + self.totals.leechers
    }

    /// Every torrent, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (InfoHash, ScrapeEntry)> {
        self.swarms
            .iter()
            .map(|swarm| (swarm.info_hash, swarm.counts()))
    }

    /// Drops a torrent with its peers and its count; false if there was none.
    pub fn forget(&mut self, info_hash: &InfoHash) -> bool {
        let found = self.find(info_hash);
        found.inspect(|position| self.remove(*position)).is_some()
    }

    fn find(&self, info_hash: &InfoHash) -> Option<usize> {
        let is_it = |position: &u32| {
            self.swarms
                .get(*position as usize)
                .is_some_and(|swarm| swarm.info_hash == *info_hash)
        };
        let hash = self.key.hash(info_hash.as_bytes());
        self.by_info_hash
            .find(hash, is_it)
            .map(|position| *position as usize)
    }

    fn insert(&mut self, info_hash: InfoHash, seconds: u32, rng: &mut Rng) -> usize {
        if self.swarms.len() >= self.config.torrents_max.min(u32::MAX as usize) {
            self.evict_swarm(rng);
        }
        let position = self.swarms.len();
        self.swarms.push(Swarm::new(info_hash, seconds));
        let (swarms, key) = (&self.swarms, &self.key);
        self.by_info_hash.insert_unique(
            key.hash(info_hash.as_bytes()),
            u32::try_from(position).unwrap_or(u32::MAX),
            |position| {
                swarms
                    .get(*position as usize)
                    .map_or(0, |swarm| key.hash(swarm.info_hash.as_bytes()))
            },
        );
        position
    }

    /// Makes room for another torrent.
    fn evict_swarm(&mut self, rng: &mut Rng) {
        if let Some(position) = self.sample(rng, |_| true).victim() {
            self.remove(position);
        }
    }

    fn sample(&self, rng: &mut Rng, may_go: impl Fn(&Swarm) -> bool) -> Sample {
        let mut sample = Sample::default();
        for _ in 0..SAMPLE {
            let position = rng.index(self.swarms.len());
            let swarm = self.swarms.get(position);
            if let Some(swarm) = swarm.filter(|swarm| may_go(swarm)) {
                sample.add(Candidate {
                    position,
                    peers: swarm.peers_count(),
                    touched: swarm.touched(),
                    network: swarm.network(),
                });
            }
        }
        sample
    }

    fn remove(&mut self, position: usize) {
        let Some(info_hash) = self.swarms.get(position).map(|swarm| swarm.info_hash) else {
            return;
        };
        let last = self.swarms.len() - 1;
        let moved = self.swarms.get(last).map(|swarm| swarm.info_hash);
        let removed = self.swarms.swap_remove(position);
        self.totals.change(removed.counts(), ScrapeEntry::default());
        let place = u32::try_from(position).unwrap_or(u32::MAX);
        if let Ok(entry) = self
            .by_info_hash
            .find_entry(self.key.hash(info_hash.as_bytes()), |at| *at == place)
        {
            entry.remove();
        }
        if let Some(moved) = moved.filter(|_| last != position) {
            let hash = self.key.hash(moved.as_bytes());
            if let Some(at) = self.by_info_hash.find_mut(hash, |at| *at as usize == last) {
                *at = place;
            }
        }
        if self.largest == last {
            self.largest = position;
        }
    }

    fn expire(&mut self, position: usize, seconds: u32) {
        let expiry = span(self.config.expiry).min(EXPIRY_MAX_SECS);
        let swarm = self.swarms.get_mut(position);
        if let Some(swarm) = swarm.filter(|swarm| swarm.may_expire(seconds)) {
            let before = swarm.counts();
            if swarm.expire(seconds, expiry, &self.key) > 0 {
                self.totals.change(before, swarm.counts());
            }
        }
    }
}

fn span(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// Up to a tenth more, in whole seconds, as the wire has it.
fn jittered(interval_secs: u32, rng: &mut Rng) -> u32 {
    let more = rng.below(u64::from(interval_secs) / 10 + 1);
    interval_secs.saturating_add(u32::try_from(more).unwrap_or(0))
}
