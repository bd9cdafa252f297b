//! Peers of torrents, as others announced them.
//!
//! A peer takes 10 bytes (IPv6: 22): its compact address and when it announced. **Invariant:** no more than
//! [`TORRENTS_MAX`] torrents of [`PEERS_MAX`] peers are kept, so a million peers, some 10 MB, whatever others send.

use bt_core::addr::{
    COMPACT_V4_BYTES, COMPACT_V6_BYTES, decode_compact_v4, decode_compact_v6, encode_compact,
};
use bt_core::{InfoHash, Rng, Time};
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Torrents that are kept: as libtorrent's `dht_max_torrents`.
pub const TORRENTS_MAX: usize = 2000;
/// Peers of a torrent that are kept: as libtorrent's `dht_max_peers`. An answer has room for a tenth of them.
pub const PEERS_MAX: usize = 500;
/// How long a peer is kept after it announced. Peers announce every 15 to 30 minutes, so one may be missed.
pub const PEER_EXPIRY: Duration = Duration::from_secs(45 * 60);
/// When a torrent more than we keep comes, the one of so many picked at random that has the fewest peers goes. Under a
/// flood of invented torrents that is one of the flood's.
const SAMPLE: usize = 8;
/// Bytes of the time in a record: seconds since the start.
const TIME_BYTES: usize = 4;

/// The peers that nodes of one family announced.
#[derive(Clone, Debug)]
pub struct PeerStore {
    compact_bytes: usize,
    /// In no order, so that one can be picked at random, each as likely as any other whatever its hash.
    torrents: Vec<Torrent>,
    /// Where in `torrents` each is.
    places: BTreeMap<InfoHash, usize>,
    swept: Time,
}

#[derive(Clone, Debug)]
struct Torrent {
    info_hash: InfoHash,
    /// Records of `compact address · u32 seconds`, in the order of the last announce.
    records: Vec<u8>,
}

impl PeerStore {
    /// An empty store for peers of one family.
    #[must_use]
    pub const fn new(ipv6: bool) -> Self {
        Self {
            compact_bytes: if ipv6 {
                COMPACT_V6_BYTES
            } else {
                COMPACT_V4_BYTES
            },
            torrents: Vec::new(),
            places: BTreeMap::new(),
            swept: Time::ZERO,
        }
    }

    /// Keeps a peer, or keeps it for longer.
    pub fn announce(&mut self, now: Time, info_hash: InfoHash, peer: SocketAddr, rng: &mut Rng) {
        self.sweep(now);
        let mut record = Vec::with_capacity(self.record_bytes());
        encode_compact(peer, &mut record);
        record.extend_from_slice(&seconds(now).to_be_bytes());
        if record.len() != self.record_bytes() {
            return;
        }
        let (compact_bytes, record_bytes) = (self.compact_bytes, self.record_bytes());
        let place = self.place(info_hash, rng);
        let Some(Torrent { records, .. }) = self.torrents.get_mut(place) else {
            return;
        };
        let addr = record.get(..compact_bytes).unwrap_or_default();
        let known = records
            .chunks_exact(record_bytes)
            .position(|other| other.starts_with(addr));
        // The oldest goes if there are too many.
        let full = records.len() >= PEERS_MAX * record_bytes;
        if let Some(index) = known.or(full.then_some(0)) {
            records.drain(index * record_bytes..(index + 1) * record_bytes);
        }
        records.extend_from_slice(&record);
    }

    /// Some peers of a torrent, in random order.
    #[must_use]
    pub fn sample(
        &self,
        now: Time,
        info_hash: &InfoHash,
        count: usize,
        rng: &mut Rng,
    ) -> Vec<SocketAddr> {
        let place = self.places.get(info_hash);
        let Some(torrent) = place.and_then(|place| self.torrents.get(*place)) else {
            return Vec::new();
        };
        let alive = torrent.records.chunks_exact(self.record_bytes());
        let alive = alive.filter(|record| !is_old(now, record));
        let mut alive: Vec<&[u8]> = alive.collect();
        rng.shuffle(&mut alive);
        alive.truncate(count);
        let peers = alive.into_iter().filter_map(|record| {
            let addr = record.get(..self.compact_bytes)?;
            match self.compact_bytes {
                COMPACT_V4_BYTES => decode_compact_v4(addr).next(),
                _ => decode_compact_v6(addr).next(),
            }
        });
        peers.collect()
    }

    /// Some of the torrents (BEP 51), in random order.
    #[must_use]
    pub fn sample_torrents(&self, count: usize, rng: &mut Rng) -> Vec<InfoHash> {
        let mut torrents: Vec<InfoHash> = self.places.keys().copied().collect();
        rng.shuffle(&mut torrents);
        torrents.truncate(count);
        torrents
    }

    /// How many torrents have peers here.
    #[must_use]
    pub fn torrents(&self) -> usize {
        self.torrents.len()
    }

    /// How many peers are kept.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.bytes() / self.record_bytes()
    }

    /// Bytes of all records.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.torrents
            .iter()
            .map(|torrent| torrent.records.len())
            .sum()
    }

    const fn record_bytes(&self) -> usize {
        self.compact_bytes + TIME_BYTES
    }

    /// Forgets, once a minute at most, who has not announced for too long.
    fn sweep(&mut self, now: Time) {
        /// A walk over a million peers takes milliseconds.
        const SWEEP_EVERY: Duration = Duration::from_secs(60);
        if now.since(self.swept) < SWEEP_EVERY {
            return;
        }
        self.swept = now;
        let record_bytes = self.record_bytes();
        self.torrents.retain_mut(|Torrent { records, .. }| {
            let old = records.chunks_exact(record_bytes);
            let old = old.take_while(|record| is_old(now, record)).count();
            records.drain(..old * record_bytes);
            !records.is_empty()
        });
        let places = self.torrents.iter().enumerate();
        self.places = places
            .map(|(place, torrent)| (torrent.info_hash, place))
            .collect();
    }

    /// Where a torrent is, for which room is made if it is new.
    fn place(&mut self, info_hash: InfoHash, rng: &mut Rng) -> usize {
        if let Some(place) = self.places.get(&info_hash) {
            return *place;
        }
        let torrent = Torrent {
            info_hash,
            records: Vec::new(),
        };
        let picked = (0..SAMPLE).map(|_| rng.index(self.torrents.len()));
        let fewest = picked.min_by_key(|place| {
            let torrent = self.torrents.get(*place);
            torrent.map_or(0, |torrent| torrent.records.len())
        });
        let full = self.torrents.len() >= TORRENTS_MAX;
        let place = match fewest.filter(|_| full) {
            Some(place) => place,
            None => self.torrents.len(),
        };
        match self.torrents.get_mut(place) {
            Some(gone) => {
                self.places.remove(&gone.info_hash);
                *gone = torrent;
            }
            None => self.torrents.push(torrent),
        }
        self.places.insert(info_hash, place);
        place
    }
}

fn seconds(now: Time) -> u32 {
    u32::try_from(now.since(Time::ZERO).as_secs()).unwrap_or(u32::MAX)
}

fn is_old(now: Time, record: &[u8]) -> bool {
    let announced = record.last_chunk().copied().map_or(0, u32::from_be_bytes);
    u64::from(seconds(now).saturating_sub(announced)) >= PEER_EXPIRY.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn peer(number: u32) -> SocketAddr {
        (std::net::Ipv4Addr::from_bits(0x0100_0000 + number), 6881).into()
    }

    #[test]
    fn a_peer_is_kept_once_and_forgotten() {
        let mut rng = Rng::new(1);
        let mut store = PeerStore::new(false);
        let hash = InfoHash([1; 20]);
        store.announce(Time::ZERO, hash, peer(1), &mut rng);
        store.announce(Time::from_secs(60), hash, peer(2), &mut rng);
        store.announce(Time::from_secs(120), hash, peer(1), &mut rng);
        assert_eq!(store.peers(), 2);
        let at = |second, store: &PeerStore, rng: &mut Rng| {
            let found = store.sample(Time::from_secs(second), &hash, 10, rng);
            found.into_iter().collect::<BTreeSet<_>>()
        };
        assert_eq!(at(2759, &store, &mut rng), [peer(1), peer(2)].into());
        assert_eq!(at(2760, &store, &mut rng), [peer(1)].into());
        assert_eq!(at(2820, &store, &mut rng), [].into());
        store.announce(Time::from_secs(3000), InfoHash([2; 20]), peer(3), &mut rng);
        assert_eq!((store.torrents(), store.peers()), (1, 1), "swept");
        let v6 = "[2001:db8::1]:1".parse().unwrap();
        store.announce(Time::from_secs(3000), hash, v6, &mut rng);
        assert_eq!(store.peers(), 1, "another family has a store of its own");
    }

    #[test]
    fn fault_135_a_flood_of_peers_is_bounded_and_honest_torrents_outlive_it() {
        let mut rng = Rng::new(2);
        let mut store = PeerStore::new(false);
        let honest = InfoHash([0x80; 20]);
        (0..40).for_each(|number| store.announce(Time::ZERO, honest, peer(number), &mut rng));
        for number in 0..200_000_u32 {
            let mut hash = [0; 20];
            let mut of_hash = Rng::new(u64::from(number / 2));
            of_hash.fill(&mut hash);
            store.announce(Time::ZERO, InfoHash(hash), peer(number), &mut rng);
        }
        assert_eq!(store.torrents(), TORRENTS_MAX);
        assert_eq!(store.sample(Time::ZERO, &honest, 100, &mut rng).len(), 40);
    }

    #[test]
    fn a_million_peers_take_ten_million_bytes() {
        const { assert!(TORRENTS_MAX * PEERS_MAX == 1_000_000) };
        let mut rng = Rng::new(3);
        let mut store = PeerStore::new(false);
        let hash = InfoHash([1; 20]);
        for number in 0..3_000 {
            store.announce(Time::ZERO, hash, peer(number), &mut rng);
        }
        assert_eq!((store.peers(), store.bytes()), (PEERS_MAX, PEERS_MAX * 10));
        let capacity = store.torrents[0].records.capacity();
        assert!(capacity <= 2 * PEERS_MAX * 10, "{capacity}");
        let newest = store.sample(Time::ZERO, &hash, PEERS_MAX, &mut rng);
        assert!(newest.contains(&peer(2_999)) && newest.contains(&peer(2_500)));
    }
}
