//! The peers of one torrent and one family.
//!
//! They lie densely in a vector, leechers first, and of these the partial seeds last: a seeder is answered from the front part alone, anybody else from all
//! of it, and picking at random is picking a position. Up to [`SCAN_MAX`] of them are found by looking at each, which for
//! eight bytes a peer costs no more than answering does; beyond that a table finds them.
//!
//! **Invariant:** `downloaders <= leechers <= peers.len()`; `ids` is empty or as long as `peers`; and the table, once there is one, holds
//! exactly the positions of `peers`.

use super::hash::HashKey;
use super::peer::Peer;
use bt_core::{PeerId, Rng};
use hashbrown::HashTable;

/// Up to so many peers are found by looking at each: nearly all swarms are that small, and need no table then.
const SCAN_MAX: usize = 128;

/// A full list grows by this part of itself, where a vector would double: most lists stay as long as they are.
const GROWTH_PARTS: usize = 8;

/// But by no fewer than so many.
const GROWTH_MIN: usize = 4;

/// What a peer takes part as, in the order in which they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Downloader,
    /// Lacks something, and does not want it (BEP 21).
    PartialSeed,
    Seeder,
}

#[derive(Debug)]
pub(super) struct List<P> {
    peers: Vec<P>,
    /// Apart from the peers, so that those stay dense, and empty if none are kept.
    ids: Vec<PeerId>,
    /// Boxed, as few lists have one.
    table: Option<Box<HashTable<u32>>>,
    /// How many of the peers, at their front, download.
    downloaders: u32,
    /// How many of them are leechers: these and the partial seeds.
    leechers: u32,
}

impl<P> Default for List<P> {
    fn default() -> Self {
        Self {
            peers: Vec::new(),
            ids: Vec::new(),
            table: None,
            downloaders: 0,
            leechers: 0,
        }
    }
}

impl<P: Peer> List<P> {
    pub(super) const fn len(&self) -> usize {
        self.peers.len()
    }

    pub(super) const fn leechers(&self) -> usize {
        self.leechers as usize
    }

    pub(super) const fn downloaders(&self) -> usize {
        self.downloaders as usize
    }

    pub(super) const fn role(&self, position: usize) -> Role {
        if position < self.downloaders() {
            Role::Downloader
        } else if position < self.leechers() {
            Role::PartialSeed
        } else {
            Role::Seeder
        }
    }

    pub(super) fn get(&self, position: usize) -> Option<&P> {
        self.peers.get(position)
    }

    pub(super) fn id(&self, position: usize) -> Option<PeerId> {
        self.ids.get(position).copied()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &PeerId> {
        self.ids.iter()
    }

    pub(super) fn find(&self, wanted: &P, key: &HashKey) -> Option<usize> {
        match &self.table {
            None => self.peers.iter().position(|peer| peer.is_at(wanted)),
            Some(table) => {
                let is_it = |position: &u32| {
                    let peer = self.peers.get(*position as usize);
                    peer.is_some_and(|peer| peer.is_at(wanted))
                };
                table
                    .find(wanted.hash(key), is_it)
                    .map(|position| *position as usize)
            }
        }
    }

    /// Adds a peer that is not there yet; returns where it is.
    pub(super) fn insert(
        &mut self,
        peer: P,
        id: Option<PeerId>,
        role: Role,
        key: &HashKey,
    ) -> usize {
        let position = self.peers.len();
        reserve(&mut self.peers);
        self.peers.push(peer);
        if let Some(id) = id {
            reserve(&mut self.ids);
            self.ids.push(id);
        }
        self.index(position, key);
        // At the end it is a seeder for the moment.
        self.place(position, role, key)
    }

    /// Takes over the entry at a position; returns where it is then.
    pub(super) fn update(
        &mut self,
        position: usize,
        peer: P,
        id: Option<PeerId>,
        role: Role,
        key: &HashKey,
    ) -> usize {
        if let Some(place) = self.peers.get_mut(position) {
            *place = peer;
        }
        if let (Some(place), Some(id)) = (self.ids.get_mut(position), id) {
            *place = id;
        }
        self.place(position, role, key)
    }

    pub(super) fn remove(&mut self, position: usize, key: &HashKey) {
        let Some(last) = self.peers.len().checked_sub(1) else {
            return;
        };
        let position = self.place(position, Role::Seeder, key);
        self.swap(position, last, key);
        if let (Some(table), Some(peer)) = (&mut self.table, self.peers.last()) {
            let found = table.find_entry(peer.hash(key), |at| *at as usize == last);
            if let Ok(found) = found {
                found.remove();
            }
        }
        self.peers.pop();
        self.ids.truncate(last);
        self.shrink(key);
    }

    /// Of a few peers picked at random, the one that was silent longest.
    pub(super) fn most_silent(
        &self,
        candidates: usize,
        seconds: u32,
        rng: &mut Rng,
    ) -> Option<usize> {
        (0..candidates)
            .map(|_| rng.index(self.peers.len()))
            .filter_map(|position| Some((position, self.age_secs(position, seconds)?)))
            .max_by_key(|(_, age)| *age)
            .map(|(position, _)| position)
    }

    /// Drops who was silent for longer than `expiry` seconds.
    pub(super) fn expire(&mut self, seconds: u32, expiry: u32, key: &HashKey) {
        for position in (0..self.peers.len()).rev() {
            if self.age_secs(position, seconds) > Some(expiry) {
                self.remove(position, key);
            }
        }
    }

    /// How long the most silent peer has been so, in seconds.
    pub(super) fn oldest_secs(&self, seconds: u32) -> u32 {
        let ages = self.peers.iter().map(|peer| peer.seen().age_secs(seconds));
        ages.max().unwrap_or(0)
    }

    fn age_secs(&self, position: usize, seconds: u32) -> Option<u32> {
        let peer = self.peers.get(position)?;
        Some(peer.seen().age_secs(seconds))
    }

    /// Moves the peer to where it belongs, over one border after the other; returns its new position.
    fn place(&mut self, mut position: usize, role: Role, key: &HashKey) -> usize {
        loop {
            let border = match (self.role(position), role) {
                (Role::Downloader, Role::PartialSeed | Role::Seeder) => {
                    self.downloaders -= 1;
                    self.downloaders()
                }
                (Role::PartialSeed, Role::Seeder) => {
                    self.leechers -= 1;
                    self.leechers()
                }
                (Role::Seeder, Role::Downloader | Role::PartialSeed) => {
                    self.leechers += 1;
                    self.leechers() - 1
                }
                (Role::PartialSeed, Role::Downloader) => {
                    self.downloaders += 1;
                    self.downloaders() - 1
                }
                (Role::Downloader, Role::Downloader)
                | (Role::PartialSeed, Role::PartialSeed)
                | (Role::Seeder, Role::Seeder) => return position,
            };
            self.swap(position, border, key);
            position = border;
        }
    }

    fn swap(&mut self, a: usize, b: usize, key: &HashKey) {
        if a == b {
            return;
        }
        if let (Some(table), Some(at_a), Some(at_b)) =
            (&mut self.table, self.peers.get(a), self.peers.get(b))
        {
            let (hash_a, hash_b) = (at_a.hash(key), at_b.hash(key));
            // A spare number in between: else, for a moment, two would claim the same position.
            let spare = u32::MAX;
            let (place_a, place_b) = (index_of(a), index_of(b));
            for (hash, from, to) in [
                (hash_a, place_a, spare),
                (hash_b, place_b, place_a),
                (hash_a, spare, place_b),
            ] {
                if let Some(at) = table.find_mut(hash, |at| *at == from) {
                    *at = to;
                }
            }
        }
        self.peers.swap(a, b);
        if !self.ids.is_empty() {
            self.ids.swap(a, b);
        }
    }

    /// Enters the last peer into the table, and makes one when it is time.
    fn index(&mut self, position: usize, key: &HashKey) {
        let peers = &self.peers;
        let add = |table: &mut HashTable<u32>, position: usize| {
            let hash = |position: &u32| hash_at(peers, *position, key);
            let position = index_of(position);
            table.insert_unique(hash(&position), position, hash);
        };
        match &mut self.table {
            Some(table) => add(table, position),
            None if peers.len() > SCAN_MAX => {
                let mut table = Box::new(HashTable::with_capacity(2 * SCAN_MAX));
                (0..peers.len()).for_each(|position| add(&mut table, position));
                self.table = Some(table);
            }
            None => {}
        }
    }

    /// Gives memory back once a list has lost most of its peers.
    fn shrink(&mut self, key: &HashKey) {
        let few = self.peers.len() < self.peers.capacity() / 4;
        if self.peers.capacity() <= 4 * GROWTH_MIN || !few {
            return;
        }
        let kept = self.peers.len() * 2;
        self.peers.shrink_to(kept);
        self.ids.shrink_to(kept);
        if self.peers.len() <= SCAN_MAX / 2 {
            self.table = None;
        } else if let Some(table) = &mut self.table {
            let peers = &self.peers;
            table.shrink_to(kept, |position| hash_at(peers, *position, key));
        }
    }

    /// Panics unless the invariant of this module holds.
    #[cfg(test)]
    pub(super) fn check(&self, key: &HashKey) {
        assert!(self.downloaders <= self.leechers && self.leechers() <= self.peers.len());
        for (position, peer) in self.peers.iter().enumerate() {
            assert_eq!(self.find(peer, key), Some(position));
        }
        if let Some(table) = &self.table {
            assert_eq!(table.len(), self.peers.len());
        }
        assert!(self.ids.is_empty() || self.ids.len() == self.peers.len());
    }
}

fn reserve<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / GROWTH_PARTS).max(GROWTH_MIN));
    }
}

fn index_of(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

fn hash_at<P: Peer>(peers: &[P], position: u32, key: &HashKey) -> u64 {
    peers
        .get(position as usize)
        .map_or(0, |peer| peer.hash(key))
}

#[cfg(test)]
mod tests {
    use super::super::peer::{PeerV4, Seen};
    use super::*;
    use std::collections::BTreeMap;
    use std::net::{Ipv4Addr, SocketAddr};

    #[test]
    fn a_table_finds_whom_a_scan_would() {
        // A list that grows far beyond where it gets a table, and shrinks to nothing, beside a plain map.
        let (key, mut rng) = (HashKey::new(1), Rng::new(2));
        let mut list = List::<PeerV4>::default();
        let mut model: BTreeMap<u16, (PeerId, Role)> = BTreeMap::new();
        let mut most = 0;
        for step in 0_u16..8_000 {
            let growing = step < 4_000;
            let port = 1 + u16::try_from(rng.below(400)).unwrap();
            let addr = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
            let peer = PeerV4::new(&addr, Seen::at(0)).unwrap();
            let id = PeerId([u8::try_from(rng.below(256)).unwrap(); 20]);
            let role = [Role::Downloader, Role::PartialSeed, Role::Seeder][rng.index(3)];
            match list.find(&peer, &key) {
                Some(position) if rng.chance(if growing { 20 } else { 80 }) => {
                    list.remove(position, &key);
                    model.remove(&port);
                }
                Some(position) => {
                    list.update(position, peer, Some(id), role, &key);
                    model.insert(port, (id, role));
                }
                None if growing => {
                    list.insert(peer, Some(id), role, &key);
                    model.insert(port, (id, role));
                }
                None => {}
            }
            most = most.max(list.len());
            let below = |border| model.values().filter(|(_, role)| *role < border).count();
            assert_eq!(list.len(), model.len());
            assert_eq!(list.leechers(), below(Role::Seeder));
            assert_eq!(list.downloaders(), below(Role::PartialSeed));
            let found = list.find(&peer, &key);
            let found = found.map(|at| (list.id(at).unwrap(), list.role(at)));
            assert_eq!(found, model.get(&port).copied(), "step {step}");
            if step % 32 == 0 {
                list.check(&key);
            }
        }
        assert!(most > 2 * SCAN_MAX && list.len() < SCAN_MAX / 2, "{most}");
    }
}
