//! The places for peers, which all shards share: one swarm may take nearly all of them.
//!
//! **Invariant:** the places that shards have, those that are free, and those on their way between two shards are never more than
//! the limit.
//!
//! A shard has its places by the lot, so that an announce compares two numbers of its own shard and nothing else. When all of
//! them are taken it takes another lot of those that are free. When none is, and somebody had to go for a peer of no flood, another
//! shard gives: the one with the largest swarm, if that is larger by a lot than all of this one; or the one with most places, as
//! long as this one has less than its even share. So who fills one shard, or all but one, keeps no torrent of another
//! shard out, and a swarm that everybody wants grows at the cost of smaller ones only where there are more peers than places.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Enough that a handful of workers seldom meet; each costs next to nothing.
pub(crate) const SHARDS_COUNT: usize = 16;

/// Places that go from hand to hand at a time: more would be idle in the wrong shard, fewer would have shards look at each other
/// more often.
const LOT: usize = 64;

/// A lot is no more than this part of a shard's even share.
const LOTS_OF_SHARE: usize = 4;

/// No swarm gives a peer to a smaller one as long as it has no more than so many: an answer holds 50.
const LARGE_PEERS: usize = 64;

#[derive(Debug)]
pub(crate) struct Room {
    peers_max: AtomicUsize,
    free: AtomicUsize,
    shards: Vec<Told>,
}

/// What a shard told last. Only it writes these, and under its lock; whoever reads them asks it again.
#[derive(Debug, Default)]
struct Told {
    places: AtomicUsize,
    largest: AtomicUsize,
}

/// What a shard has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Places, taken or not.
    pub(crate) places: usize,
    /// Peers of its largest swarm.
    pub(crate) largest: usize,
}

impl Room {
    /// All places are free.
    pub(crate) fn new(peers_max: usize) -> Self {
        Self {
            peers_max: peers_max.into(),
            free: peers_max.into(),
            shards: (0..SHARDS_COUNT).map(|_| Told::default()).collect(),
        }
    }

    /// Places that no shard has.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }

    /// What a shard of many has if they are shared evenly.
    fn share(&self) -> usize {
        self.peers_max
            .load(Ordering::Relaxed)
            .div_ceil(SHARDS_COUNT)
    }

    pub(crate) fn lot(&self) -> usize {
        (self.share() / LOTS_OF_SHARE).clamp(1, LOT)
    }

    /// Takes free places: so many, or all there are.
    pub(crate) fn take(&self, most: usize) -> usize {
        // A full tracker asks at each announce: that only reads.
        if self.free.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let less = |free: usize| Some(free.saturating_sub(most));
        let before = self
            .free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        before.unwrap_or_else(|free| free).min(most)
    }

    /// These are free from now on.
    pub(crate) fn give_back(&self, places: usize) {
        self.free.fetch_add(places, Ordering::Relaxed);
    }

    /// Another limit; returns how many places shards have to give up for it.
    pub(crate) fn set_peers_max(&self, peers_max: usize) -> usize {
        let before = self.peers_max.swap(peers_max, Ordering::Relaxed);
        self.give_back(peers_max.saturating_sub(before));
        let fewer = before.saturating_sub(peers_max);
        fewer - self.take(fewer)
    }

    pub(crate) fn tell(&self, shard: usize, held: Held) {
        if let Some(told) = self.shards.get(shard) {
            told.places.store(held.places, Ordering::Relaxed);
            told.largest.store(held.largest, Ordering::Relaxed);
        }
    }

    /// The shard that is to give a lot to one that has so much, as far as was told; none if all others need theirs.
    pub(crate) fn giver(&self, taker: Held) -> Option<usize> {
        let all = self.shards.iter().map(|told| Held {
            places: told.places.load(Ordering::Relaxed),
            largest: told.largest.load(Ordering::Relaxed),
        });
        let willing = all
            .enumerate()
            .filter(|(_, held)| self.gives(*held, taker) > 0);
        let most = willing.max_by_key(|(_, held)| {
            let is_larger = self.is_larger(*held, taker);
            (
                is_larger,
                if is_larger { held.largest } else { held.places },
            )
        });
        most.map(|(shard, _)| shard)
    }

    /// How many places a shard that has `held` gives to one that has `taker`.
    pub(crate) fn gives(&self, held: Held, taker: Held) -> usize {
        let lot = self.lot();
        if self.is_larger(held, taker) {
            return lot;
        }
        // Half of what it has more, and nothing for a difference that is not worth it, but one place is worth everything.
        let more = held.places.saturating_sub(taker.places);
        let lacks = self.share().saturating_sub(taker.places);
        if more > lot || taker.places == 0 {
            lot.min(more.div_ceil(2)).min(lacks)
        } else {
            0
        }
    }

    fn is_larger(&self, held: Held, taker: Held) -> bool {
        held.largest > taker.largest.max(LARGE_PEERS) + self.lot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn held(places: usize, largest: usize) -> Held {
        Held { places, largest }
    }

    #[test]
    fn places_are_taken_once_and_come_back() {
        let room = Room::new(100);
        assert_eq!((room.take(60), room.take(60), room.take(60)), (60, 40, 0));
        room.give_back(5);
        assert_eq!((room.take(9), room.free()), (5, 0));
        // Of a smaller limit, what is free goes first.
        room.give_back(30);
        assert_eq!((room.set_peers_max(80), room.free()), (0, 10));
        assert_eq!((room.set_peers_max(50), room.free()), (20, 0));
        assert_eq!((room.set_peers_max(70), room.free()), (0, 20));
    }

    #[test]
    fn a_lot_is_small_beside_a_share() {
        for (peers_max, lot) in [(1, 1), (50, 1), (160, 2), (1_600, 25), (4_000_000, 64)] {
            assert_eq!(Room::new(peers_max).lot(), lot, "{peers_max}");
        }
    }

    #[test]
    fn the_largest_swarm_gives_and_then_whoever_has_more_than_its_share() {
        // A share is 1,000 and a lot 64. What the others hold, what the one has that asks, and who gives how much.
        type Row<'a> = (&'a [Held], Held, Option<(usize, usize)>);
        let rows: [Row<'_>; 10] = [
            (&[held(1_000, 50), held(1_000, 50)], held(1_000, 50), None),
            // A larger swarm, by more than a lot, and larger than an answer.
            (
                &[held(1_000, 129), held(1_000, 128)],
                held(1_000, 0),
                Some((0, 64)),
            ),
            (&[held(1_000, 128), held(1_000, 128)], held(1_000, 0), None),
            (
                &[held(900, 364), held(900, 365)],
                held(9_000, 300),
                Some((1, 64)),
            ),
            (&[held(9_000, 364)], held(900, 300), Some((0, 64))),
            (&[held(9_000, 364)], held(1_000, 300), None),
            // No larger one: whoever has most, to a shard that has less than its share.
            (
                &[held(1_001, 20), held(1_200, 10)],
                held(990, 30),
                Some((1, 10)),
            ),
            (&[held(1_001, 20), held(1_050, 10)], held(990, 30), None),
            (&[held(0, 0), held(1, 1)], held(0, 0), Some((1, 1))),
            (&[held(100, 1), held(165, 1)], held(100, 1), Some((1, 33))),
        ];
        for (others, taker, expected) in rows {
            let room = Room::new(16_000);
            let told = others.iter().enumerate();
            told.for_each(|(shard, held)| room.tell(shard, *held));
            let giver = room.giver(taker);
            let given = giver.map(|shard| (shard, room.gives(others[shard], taker)));
            assert_eq!(given, expected, "{others:?} {taker:?}");
        }
    }
}
