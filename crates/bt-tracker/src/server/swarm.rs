//! The peers of one torrent, of both families.

use super::hash::HashKey;
use super::list::{List, Role};
use super::peer::{Peer as _, PeerV4, PeerV6, Seen};
use super::picked::{Picked, Scope, Wanted};
use super::snapshot::Recorded;
use crate::scrape::ScrapeEntry;
use bt_core::{InfoHash, PeerId, Rng};
use std::net::SocketAddr;

/// A swarm is searched for silent peers at most once in this part of the expiry, so that big ones are not walked over
/// at each announce.
const EXPIRY_PARTS: u32 = 32;

/// Up to so many peers are looked at for whether they come from one network. Who wants to look like many costs itself a
/// full entry for each.
const NETWORK_SCAN_MAX: usize = 64;

/// Where a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    V4(usize),
    V6(usize),
}

#[derive(Debug)]
pub(super) struct Swarm {
    pub(super) info_hash: InfoHash,
    downloaded: u32,
    /// The last announce, in seconds.
    touched: u32,
    /// When to look for silent peers again, in seconds.
    expires: u32,
    v4: List<PeerV4>,
    /// Boxed, as most swarms have none.
    v6: Option<Box<List<PeerV6>>>,
}

impl Swarm {
    pub(super) fn new(info_hash: InfoHash, seconds: u32) -> Self {
        Self {
            info_hash,
            downloaded: 0,
            touched: seconds,
            expires: seconds,
            v4: List::default(),
            v6: None,
        }
    }

    pub(super) const fn touch(&mut self, seconds: u32) {
        self.touched = seconds;
    }

    pub(super) const fn touched(&self) -> u32 {
        self.touched
    }

    pub(super) fn peers_count(&self) -> usize {
        self.v4.len() + self.v6.as_ref().map_or(0, |v6| v6.len())
    }

    /// The network that all peers come from; `None` if there are several, none, or too many peers to look at.
    pub(super) fn network(&self) -> Option<u64> {
        if self.peers_count() > NETWORK_SCAN_MAX {
            return None;
        }
        let v4 = (0..self.v4.len()).filter_map(|at| self.v4.get(at).map(|peer| peer.network()));
        let v6 = self.v6.iter().flat_map(|list| {
            (0..list.len()).filter_map(|at| list.get(at).map(|peer| peer.network()))
        });
        let mut all = v4.chain(v6);
        let first = all.next()?;
        all.all(|other| other == first).then_some(first)
    }

    pub(super) fn leechers(&self) -> usize {
        self.v4.leechers() + self.v6.as_ref().map_or(0, |v6| v6.leechers())
    }

    fn downloaders(&self) -> usize {
        self.v4.downloaders() + self.v6.as_ref().map_or(0, |v6| v6.downloaders())
    }

    pub(super) fn counts(&self) -> ScrapeEntry {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        ScrapeEntry {
            complete: count(self.peers_count() - self.leechers()),
            downloaded: self.downloaded,
            incomplete: count(self.leechers()),
            downloaders: Some(count(self.downloaders())),
        }
    }

    /// Nobody is there, and nobody was for long, or there is nothing to remember.
    pub(super) fn is_forgotten(&self, seconds: u32, kept: u32) -> bool {
        let long = seconds.saturating_sub(self.touched) >= kept;
        self.peers_count() == 0 && (self.downloaded == 0 || long)
    }

    /// Takes in the peer, or takes its entry over if its address is known; returns where it is.
    ///
    /// A download counts as completed when a peer says so that is not known as a seeder, so saying it twice counts
    /// once, and a peer that still lacks something cannot say it.
    pub(super) fn upsert(
        &mut self,
        known: Option<Place>,
        addr: &SocketAddr,
        id: Option<PeerId>,
        announced: Announced,
        key: &HashKey,
    ) -> Option<Place> {
        let Announced {
            seconds,
            role,
            completed,
        } = announced;
        if completed && role == Role::Seeder && !self.is_seeder(known) {
            self.downloaded = self.downloaded.saturating_add(1);
        }
        let seen = Seen::at(seconds);
        if let Some(peer) = PeerV4::new(addr, seen) {
            return Some(Place::V4(match known {
                Some(Place::V4(position)) => self.v4.update(position, peer, id, role, key),
                Some(Place::V6(_)) | None => self.v4.insert(peer, id, role, key),
            }));
        }
        let peer = PeerV6::new(addr, seen)?;
        let v6 = self.v6.get_or_insert_default();
        Some(Place::V6(match known {
            Some(Place::V6(position)) => v6.update(position, peer, id, role, key),
            Some(Place::V4(_)) | None => v6.insert(peer, id, role, key),
        }))
    }

    /// The peers of either family.
    pub(super) fn lists(&self) -> (&List<PeerV4>, Option<&List<PeerV6>>) {
        (&self.v4, self.v6.as_deref())
    }

    /// What a snapshot says, unless more is known.
    pub(super) fn restore_head(&mut self, downloaded: u32, touched: u32) {
        self.downloaded = self.downloaded.max(downloaded);
        self.touched = self.touched.max(touched);
    }

    /// Takes in a peer of a snapshot, unless it announced later than that; true if it was not there yet.
    pub(super) fn restore(
        &mut self,
        peer: &Recorded,
        id: Option<PeerId>,
        seconds: u32,
        key: &HashKey,
    ) -> bool {
        let known = self.find(&peer.addr, key);
        let age_secs = known.and_then(|place| self.age_secs(place, seconds));
        if age_secs.is_some_and(|age_secs| age_secs <= peer.age_secs) {
            return false;
        }
        let announced = Announced {
            // The clock of ages comes round, so before its start is as good as after.
            seconds: seconds.wrapping_sub(peer.age_secs),
            role: peer.role,
            completed: false,
        };
        self.upsert(known, &peer.addr, id, announced, key);
        known.is_none()
    }

    /// Drops who said elsewhere that it leaves, unless it announced here since.
    pub(super) fn leave(&mut self, addr: &SocketAddr, age_secs: u32, seconds: u32, key: &HashKey) {
        if let Some(place) = self.find(addr, key)
            && self.age_secs(place, seconds) >= Some(age_secs)
        {
            self.remove(place, key);
        }
    }

    /// Somebody is to be looked for then who would be found later otherwise.
    pub(super) const fn expires_by(&mut self, seconds: u32) {
        if seconds < self.expires {
            self.expires = seconds;
        }
    }

    fn age_secs(&self, place: Place, seconds: u32) -> Option<u32> {
        let seen = match place {
            Place::V4(position) => self.v4.get(position)?.seen(),
            Place::V6(position) => self.v6.as_ref()?.get(position)?.seen(),
        };
        Some(seen.age_secs(seconds))
    }

    pub(super) fn find(&self, addr: &SocketAddr, key: &HashKey) -> Option<Place> {
        let seen = Seen::at(0);
        if let Some(peer) = PeerV4::new(addr, seen) {
            return self.v4.find(&peer, key).map(Place::V4);
        }
        let peer = PeerV6::new(addr, seen)?;
        self.v6.as_ref()?.find(&peer, key).map(Place::V6)
    }

    pub(super) fn remove(&mut self, place: Place, key: &HashKey) {
        match (place, &mut self.v6) {
            (Place::V4(position), _) => self.v4.remove(position, key),
            (Place::V6(position), Some(v6)) => {
                v6.remove(position, key);
                if v6.len() == 0 {
                    self.v6 = None;
                }
            }
            (Place::V6(_), None) => {}
        }
    }

    /// Makes room: of a few peers picked at random, the one that was silent longest goes.
    pub(super) fn remove_most_silent(
        &mut self,
        candidates: usize,
        seconds: u32,
        rng: &mut Rng,
        key: &HashKey,
    ) {
        let all = self.peers_count();
        let from_v4 = rng.index(all) < self.v4.len();
        let victim = match &self.v6 {
            Some(v6) if !from_v4 => v6.most_silent(candidates, seconds, rng).map(Place::V6),
            _ => self.v4.most_silent(candidates, seconds, rng).map(Place::V4),
        };
        if let Some(place) = victim {
            self.remove(place, key);
        }
    }

    /// Whether somebody may have been silent for too long.
    pub(super) const fn may_expire(&self, seconds: u32) -> bool {
        seconds >= self.expires
    }

    /// Drops who was silent for longer than `expiry` seconds; returns how many. Cheap if it was done lately.
    pub(super) fn expire(&mut self, seconds: u32, expiry: u32, key: &HashKey) -> usize {
        let before = self.peers_count();
        if !self.may_expire(seconds) || before == 0 {
            return 0;
        }
        if seconds.saturating_sub(self.touched) > expiry {
            self.v4 = List::default();
            self.v6 = None;
            return before;
        }
        self.v4.expire(seconds, expiry, key);
        let mut oldest = self.v4.oldest_secs(seconds);
        if let Some(v6) = &mut self.v6 {
            v6.expire(seconds, expiry, key);
            oldest = oldest.max(v6.oldest_secs(seconds));
            if v6.len() == 0 {
                self.v6 = None;
            }
        }
        let wait = (expiry + 1)
            .saturating_sub(oldest)
            .max(expiry / EXPIRY_PARTS);
        self.expires = seconds.saturating_add(wait);
        before - self.peers_count()
    }

    /// Picks random peers for the one at `asker`: not itself, no seeders for a seeder, and no more than are wanted.
    ///
    /// A seeder that has just `started` may get seeders: who begins with a link does not know yet how much is left, and
    /// aria2 and rqbit then say that nothing is.
    ///
    /// The candidates are thought of as a ring, turned by a random angle and cut into as many equal arcs as peers are wanted, and each arc
    /// gives one at random. So everybody has the same chance to be named, nobody is named twice, and the cost does not
    /// depend on the size of the swarm.
    pub(super) fn pick(
        &self,
        asker: Option<Place>,
        started: bool,
        wanted: Wanted,
        rng: &mut Rng,
        out: &mut Picked,
    ) {
        let Wanted { scope, ids, most } = wanted;
        let seeder = self.is_seeder(asker) && !started;
        let among = |leechers, all| if seeder { leechers } else { all };
        let v4 = match scope {
            Scope::V6 => 0,
            Scope::V4 | Scope::Both => among(self.v4.leechers(), self.v4.len()),
        };
        let v6 = match (scope, &self.v6) {
            (Scope::V6 | Scope::Both, Some(v6)) => among(v6.leechers(), v6.len()),
            (Scope::V4, _) | (_, None) => 0,
        };
        let skipped = match asker {
            Some(Place::V4(position)) if position < v4 => position,
            Some(Place::V6(position)) if position < v6 => v4 + position,
            Some(_) | None => usize::MAX,
        };
        let candidates = v4 + v6 - usize::from(skipped < v4 + v6);
        let wanted = candidates.min(most);
        let mut arcs = Arcs::new(candidates, wanted, rng);
        for _ in 0..wanted {
            let candidate = arcs.next(rng);
            let position = candidate + usize::from(candidate >= skipped);
            if position < v4 {
                if let Some(peer) = self.v4.get(position) {
                    out.push_v4(peer.compact(), ids.then(|| self.v4.id(position)).flatten());
                }
            } else if let Some(v6) = &self.v6
                && let Some(peer) = v6.get(position - v4)
            {
                out.push_v6(peer.compact(), ids.then(|| v6.id(position - v4)).flatten());
            }
        }
    }

    fn is_seeder(&self, place: Option<Place>) -> bool {
        match place {
            Some(Place::V4(position)) => position >= self.v4.leechers(),
            Some(Place::V6(position)) => {
                let leechers = self.v6.as_ref().map_or(0, |v6| v6.leechers());
                position >= leechers
            }
            None => false,
        }
    }

    /// Panics unless the invariants of the lists hold.
    #[cfg(test)]
    pub(super) fn check(&self, key: &HashKey) {
        self.v4.check(key);
        assert_ne!(self.v6.as_ref().map(|v6| v6.len()), Some(0));
        self.v6.iter().for_each(|v6| v6.check(key));
    }
}

/// What a peer says of itself, as far as it is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announced {
    pub(super) seconds: u32,
    pub(super) role: Role,
    /// It says that its download has just become complete.
    pub(super) completed: bool,
}

/// A ring of `candidates` positions, cut into arcs of the same length, or one more.
struct Arcs {
    candidates: usize,
    count: usize,
    length: usize,
    /// What does not go into the arcs evenly, and how much of it is due.
    rest: usize,
    due: usize,
    from: usize,
}

impl Arcs {
    fn new(candidates: usize, count: usize, rng: &mut Rng) -> Self {
        let parts = count.max(1);
        Self {
            candidates,
            count: parts,
            length: candidates / parts,
            rest: candidates % parts,
            due: 0,
            from: rng.index(candidates),
        }
    }

    /// A random position of the next arc.
    fn next(&mut self, rng: &mut Rng) -> usize {
        self.due += self.rest;
        let longer = self.due >= self.count;
        self.due -= if longer { self.count } else { 0 };
        let length = self.length + usize::from(longer);
        let at = self.from + if length > 1 { rng.index(length) } else { 0 };
        self.from += length;
        if at >= self.candidates {
            at - self.candidates
        } else {
            at
        }
    }
}
