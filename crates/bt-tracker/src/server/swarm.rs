//! The peers of one torrent.
//!
//! They lie densely in a vector, leechers first: a seeder is answered from the front part alone, anybody else from all
//! of it, and picking at random is picking a position. From [`SCAN_MAX`] peers on, a table finds them by address.
//!
//! **Invariant:** `leechers <= entries.len()`, and the table, once there is one, holds exactly the positions of `entries`.

use super::hash::HashKey;
use crate::announce::{Event, Peer};
use crate::scrape::ScrapeEntry;
use bt_core::{InfoHash, PeerId, Rng};
use hashbrown::HashTable;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Up to so many peers are found by looking at each: most swarms are that small, and need no table then.
const SCAN_MAX: usize = 16;

/// A swarm is searched for silent peers at most once in this part of the expiry, so that big ones are not walked over
/// at each announce.
const EXPIRY_PARTS: u32 = 32;

/// An address and port: 16 bytes IPv6 or mapped IPv4, 2 bytes port.
type Key = [u8; 18];

/// A peer: 44 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    key: Key,
    id: PeerId,
    /// When it was last heard of, in seconds.
    seen: u32,
}

impl Entry {
    pub(super) fn new(addr: SocketAddr, id: PeerId, seen: u32) -> Self {
        Self {
            key: key_of(&addr),
            id,
            seen,
        }
    }

    fn peer(&self) -> Peer {
        let (ip, port) = self.key.split_at(16);
        let ip: [u8; 16] = ip.try_into().unwrap_or_default();
        let port: [u8; 2] = port.try_into().unwrap_or_default();
        Peer {
            addr: SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), u16::from_be_bytes(port)),
            peer_id: Some(self.id),
        }
    }
}

fn key_of(addr: &SocketAddr) -> Key {
    let ip = match addr.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut key = [0; 18];
    let (ip_part, port_part) = key.split_at_mut(16);
    ip_part.copy_from_slice(&ip.octets());
    port_part.copy_from_slice(&addr.port().to_be_bytes());
    key
}

#[derive(Debug)]
pub(super) struct Swarm {
    pub(super) info_hash: InfoHash,
    entries: Vec<Entry>,
    /// How many of the entries, at their front, are leechers.
    leechers: usize,
    /// Boxed, as few swarms have one.
    by_key: Option<Box<HashTable<u32>>>,
    downloaded: u32,
    /// The last announce, in seconds.
    touched: u32,
    /// When to look for silent peers again, in seconds.
    expires: u32,
}

impl Swarm {
    pub(super) const fn new(info_hash: InfoHash, seconds: u32) -> Self {
        Self {
            info_hash,
            entries: Vec::new(),
            leechers: 0,
            by_key: None,
            downloaded: 0,
            touched: seconds,
            expires: seconds,
        }
    }

    pub(super) const fn touch(&mut self, seconds: u32) {
        self.touched = seconds;
    }

    pub(super) const fn touched(&self) -> u32 {
        self.touched
    }

    pub(super) const fn peers_count(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn leechers_count(&self) -> u32 {
        u32::try_from(self.leechers).unwrap_or(u32::MAX)
    }

    pub(super) fn seeders_count(&self) -> u32 {
        u32::try_from(self.entries.len() - self.leechers).unwrap_or(u32::MAX)
    }

    pub(super) fn counts(&self) -> ScrapeEntry {
        ScrapeEntry {
            complete: self.seeders_count(),
            downloaded: self.downloaded,
            incomplete: self.leechers_count(),
        }
    }

    /// Nobody is there, and nobody was for long, or there is nothing to remember.
    pub(super) const fn is_forgotten(&self, seconds: u32, kept: u32) -> bool {
        let long = seconds.saturating_sub(self.touched) >= kept;
        self.entries.is_empty() && (self.downloaded == 0 || long)
    }

    pub(super) fn knows(&self, addr: &SocketAddr, key: &HashKey) -> Option<usize> {
        self.find(&key_of(addr), key)
    }

    /// Takes in the entry, or takes it over if its address is known; returns where it is.
    ///
    /// A download counts as completed when a peer says so that is not known as a seeder, so saying it twice counts
    /// once, and a peer that still lacks something cannot say it.
    pub(super) fn upsert(
        &mut self,
        entry: Entry,
        seeder: bool,
        event: Event,
        key: &HashKey,
    ) -> usize {
        let known = self.find(&entry.key, key);
        let was_seeder = known.is_some_and(|position| position >= self.leechers);
        if event == Event::Completed && seeder && !was_seeder {
            self.downloaded = self.downloaded.saturating_add(1);
        }
        let position = match known {
            Some(position) => {
                if let Some(old) = self.entries.get_mut(position) {
                    *old = entry;
                }
                position
            }
            None => {
                // At the end it is a seeder for the moment.
                self.push(entry, key);
                self.entries.len() - 1
            }
        };
        self.place(position, seeder, key)
    }

    pub(super) fn remove(&mut self, addr: &SocketAddr, key: &HashKey) {
        if let Some(position) = self.find(&key_of(addr), key) {
            self.remove_at(position, key);
        }
    }

    /// Makes room: of a few peers picked at random, the one that was silent longest goes.
    pub(super) fn remove_most_silent(&mut self, candidates: usize, rng: &mut Rng, key: &HashKey) {
        let victim = (0..candidates)
            .map(|_| rng.index(self.entries.len()))
            .filter_map(|position| Some((position, self.entries.get(position)?.seen)))
            .min_by_key(|(_, seen)| *seen);
        if let Some((position, _)) = victim {
            self.remove_at(position, key);
        }
    }

    /// Drops who was silent for longer than `expiry` seconds; returns how many. Cheap if it was done lately.
    pub(super) fn expire(&mut self, seconds: u32, expiry: u32, key: &HashKey) -> usize {
        if seconds < self.expires || self.entries.is_empty() {
            return 0;
        }
        let before = self.entries.len();
        for position in (0..before).rev() {
            let silent = self
                .entries
                .get(position)
                .map_or(0, |entry| seconds.saturating_sub(entry.seen));
            if silent > expiry {
                self.remove_at(position, key);
            }
        }
        let oldest = self
            .entries
            .iter()
            .map(|entry| entry.seen)
            .min()
            .unwrap_or(seconds);
        let soonest = seconds.saturating_add(expiry / EXPIRY_PARTS);
        self.expires = oldest.saturating_add(expiry).saturating_add(1).max(soonest);
        before - self.entries.len()
    }

    /// Appends up to `wanted` random peers for the peer at `asker`: not itself, and no seeders for a seeder.
    ///
    /// The candidates are thought of as a ring, turned by a random angle and cut into `wanted` equal arcs, and each arc
    /// gives one at random. So everybody has the same chance to be named, nobody is named twice, and the cost does not
    /// depend on the size of the swarm.
    pub(super) fn sample(
        &self,
        asker: usize,
        seeder: bool,
        wanted: u32,
        rng: &mut Rng,
        out: &mut Vec<Peer>,
    ) {
        let among = if seeder {
            self.leechers
        } else {
            self.entries.len()
        };
        let skipped = if asker < among { asker } else { usize::MAX };
        let candidates = among - usize::from(asker < among);
        let wanted = candidates.min(wanted as usize);
        let turn = rng.index(candidates);
        out.reserve(wanted);
        for arc in 0..wanted {
            let (from, to) = (arc * candidates / wanted, (arc + 1) * candidates / wanted);
            let on_ring = turn + from + rng.index(to - from);
            let candidate = if on_ring >= candidates {
                on_ring - candidates
            } else {
                on_ring
            };
            let position = candidate + usize::from(candidate >= skipped);
            out.extend(self.entries.get(position).map(Entry::peer));
        }
    }

    fn find(&self, wanted: &Key, key: &HashKey) -> Option<usize> {
        let is_it = |position: usize| {
            self.entries
                .get(position)
                .is_some_and(|entry| entry.key == *wanted)
        };
        match &self.by_key {
            None => self.entries.iter().position(|entry| entry.key == *wanted),
            Some(table) => table
                .find(key.hash(wanted), |position| is_it(*position as usize))
                .map(|position| *position as usize),
        }
    }

    fn push(&mut self, entry: Entry, key: &HashKey) {
        self.entries.push(entry);
        let entries = &self.entries;
        let add = |table: &mut HashTable<u32>, position: usize| {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            let hash = |position: &u32| hash_at(entries, *position, key);
            table.insert_unique(hash(&position), position, hash);
        };
        match &mut self.by_key {
            Some(table) => add(table, entries.len() - 1),
            None if entries.len() > SCAN_MAX => {
                let mut table = Box::new(HashTable::with_capacity(2 * SCAN_MAX));
                (0..entries.len()).for_each(|position| add(&mut table, position));
                self.by_key = Some(table);
            }
            None => {}
        }
    }

    /// Moves the entry to where it belongs; returns its new position.
    fn place(&mut self, position: usize, seeder: bool, key: &HashKey) -> usize {
        let is_seeder = position >= self.leechers;
        match (is_seeder, seeder) {
            (true, false) => {
                let border = self.leechers;
                self.swap(position, border, key);
                self.leechers += 1;
                border
            }
            (false, true) => {
                self.leechers -= 1;
                let border = self.leechers;
                self.swap(position, border, key);
                border
            }
            (true, true) | (false, false) => position,
        }
    }

    fn remove_at(&mut self, position: usize, key: &HashKey) {
        let Some(last) = self.entries.len().checked_sub(1) else {
            return;
        };
        let position = self.place(position, true, key);
        self.swap(position, last, key);
        if let (Some(table), Some(entry)) = (&mut self.by_key, self.entries.last()) {
            let found = table.find_entry(key.hash(&entry.key), |at| *at as usize == last);
            if let Ok(found) = found {
                found.remove();
            }
        }
        self.entries.pop();
        self.shrink(key);
    }

    fn swap(&mut self, a: usize, b: usize, key: &HashKey) {
        if a == b {
            return;
        }
        if let (Some(table), Some(at_a), Some(at_b)) =
            (&mut self.by_key, self.entries.get(a), self.entries.get(b))
        {
            let (hash_a, hash_b) = (key.hash(&at_a.key), key.hash(&at_b.key));
            // Both are found before either is changed: for a moment two would claim the same position.
            let spare = u32::MAX;
            let (place_a, place_b) = (
                u32::try_from(a).unwrap_or(spare),
                u32::try_from(b).unwrap_or(spare),
            );
            if let Some(at) = table.find_mut(hash_a, |at| *at == place_a) {
                *at = spare;
            }
            if let Some(at) = table.find_mut(hash_b, |at| *at == place_b) {
                *at = place_a;
            }
            if let Some(at) = table.find_mut(hash_a, |at| *at == spare) {
                *at = place_b;
            }
        }
        self.entries.swap(a, b);
    }

    /// Gives memory back once a swarm has lost most of its peers.
    fn shrink(&mut self, key: &HashKey) {
        if self.entries.capacity() > SCAN_MAX && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
            if self.entries.len() <= SCAN_MAX {
                self.by_key = None;
            } else if let Some(table) = &mut self.by_key {
                let entries = &self.entries;
                table.shrink_to(2 * entries.len(), |position| {
                    hash_at(entries, *position, key)
                });
            }
        }
    }
}

fn hash_at(entries: &[Entry], position: u32, key: &HashKey) -> u64 {
    entries
        .get(position as usize)
        .map_or(0, |entry| key.hash(&entry.key))
}

#[cfg(test)]
impl Swarm {
    /// Panics unless the invariant of this module holds.
    pub(super) fn check(&self, key: &HashKey) {
        assert!(self.leechers <= self.entries.len());
        for (position, entry) in self.entries.iter().enumerate() {
            assert_eq!(self.find(&entry.key, key), Some(position));
        }
        if let Some(table) = &self.by_key {
            assert_eq!(table.len(), self.entries.len());
        }
    }
}
