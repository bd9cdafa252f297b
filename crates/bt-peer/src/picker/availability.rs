//! How many peers have each piece, and which piece to begin next by that (BEP 3, "piece"; Cohen 2003, §2.4.2).
//!
//! The pieces that may be begun lie in one array, sorted by the number of peers that have them. One peer more or less
//! moves a piece over one border between two counts, so a `have` costs one swap, whatever the torrent's size. A peer
//! that has everything raises every count by one and so changes no order: it is a number, not a walk over all pieces.
//!
//! **Invariant:** a piece's availability is its own count plus `seeders`. A peer that completed piece by piece stands
//! in the counts; a seeder that leaves may be taken from either place, for the sums are the same.

use bt_core::{Bitfield, PieceIndex, Rng};

/// How many pieces are looked at, rarest first, before a sample decides.
///
/// Reached only by a peer that lacks the rarest few hundred pieces. Keeps a choice far from one look per piece.
const WALK_MAX: usize = 512;

/// How many pieces are drawn for the sample: 128 draws contain one of the rarest 2 % with a chance of 92 %.
const SAMPLE: usize = 128;

/// The place of a piece that may not be begun.
const ABSENT: u32 = u32::MAX;

/// Counts for all pieces, and the order of those that may be begun.
#[derive(Debug)]
pub(super) struct Availability {
    /// For each piece, the peers that have it, without `seeders`.
    counts: Vec<u16>,
    /// Peers that were complete when they came.
    seeders: u32,
    /// The pieces that may be begun, by count.
    order: Vec<PieceIndex>,
    /// For each piece, its place in `order`, or [`ABSENT`].
    places: Vec<u32>,
    /// For each count, where its pieces end in `order`.
    ends: Vec<u32>,
    /// The pieces that are not in `order`, as a set.
    closed: Bitfield,
}

impl Availability {
    /// Nobody has anything; the pieces outside `closed` may be begun.
    pub(super) fn new(closed: Bitfield) -> Self {
        let pieces = closed.pieces_count() as usize;
        let mut new = Self {
            counts: vec![0; pieces],
            seeders: 0,
            order: Vec::new(),
            places: vec![ABSENT; pieces],
            ends: vec![0],
            closed: Bitfield::new(0),
        };
        new.reset(closed);
        new
    }

    /// From now on the pieces outside `closed` may be begun.
    pub(super) fn reset(&mut self, closed: Bitfield) {
        self.order = Bitfield::full(closed.pieces_count())
            .iter_minus(&closed)
            .collect();
        let counts = &self.counts;
        let count = |piece: &PieceIndex| counts.get(piece.index()).copied().unwrap_or(0);
        self.order.sort_by_key(count);
        let most = self.order.last().map_or(0, count);
        self.ends = (0..=most)
            .map(|limit| self.order.partition_point(|piece| count(piece) <= limit))
            .map(|end| u32::try_from(end).unwrap_or(ABSENT))
            .collect();
        self.places.fill(ABSENT);
        for (place, piece) in (0..).zip(&self.order) {
            set(&mut self.places, piece.index(), place);
        }
        self.closed = closed;
    }

    /// How many peers have the piece.
    pub(super) fn of(&self, piece: PieceIndex) -> u32 {
        self.seeders + u32::from(self.count(piece))
    }

    /// True if somebody has the piece who came without it.
    pub(super) fn is_elsewhere(&self, piece: PieceIndex) -> bool {
        self.count(piece) > 0
    }

    /// True if the piece may be begun.
    pub(super) fn is_open(&self, piece: PieceIndex) -> bool {
        !self.closed.get(piece)
    }

    /// True if no piece may be begun.
    pub(super) const fn is_all_closed(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn add_peer(&mut self, has: &Bitfield) {
        if has.is_full() {
            self.seeders += 1;
        } else {
            has.iter().for_each(|piece| self.add(piece));
        }
    }

    pub(super) fn remove_peer(&mut self, has: &Bitfield) {
        if has.is_full() && self.seeders > 0 {
            self.seeders -= 1;
        } else {
            has.iter().for_each(|piece| self.subtract(piece));
        }
    }

    /// A peer that had `had` has lost one piece of it.
    pub(super) fn remove_piece(&mut self, had: &Bitfield, piece: PieceIndex) {
        if had.is_full() && self.seeders > 0 {
            // A walk over all pieces, and one seeder fewer: no peer can have it walked again and again.
            self.seeders -= 1;
            let others = had.iter().filter(|other| *other != piece);
            others.for_each(|other| self.add(other));
        } else {
            self.subtract(piece);
        }
    }

    /// One peer more has the piece.
    pub(super) fn add(&mut self, piece: PieceIndex) {
        let count = self.count(piece);
        let more = count.checked_add(1);
        let more = more.expect("fewer than 65 536 connections at a time");
        set(&mut self.counts, piece.index(), more);
        let place = get(&self.places, piece.index());
        if place == ABSENT {
            return;
        }
        let bucket = usize::from(count);
        if bucket + 1 == self.ends.len() {
            self.ends.push(self.order_len());
        }
        let border = get(&self.ends, bucket) - 1;
        self.swap(place, border);
        set(&mut self.ends, bucket, border);
    }

    /// One peer fewer has the piece.
    fn subtract(&mut self, piece: PieceIndex) {
        let count = self.count(piece);
        let fewer = count.checked_sub(1);
        let fewer = fewer.expect("a peer's pieces are counted once before they are uncounted");
        set(&mut self.counts, piece.index(), fewer);
        let place = get(&self.places, piece.index());
        if place == ABSENT {
            return;
        }
        let bucket = usize::from(fewer);
        let border = get(&self.ends, bucket);
        self.swap(place, border);
        set(&mut self.ends, bucket, border + 1);
    }

    /// The piece may be begun.
    pub(super) fn open(&mut self, piece: PieceIndex) {
        assert!(self.closed.clear(piece), "piece {piece} is open already");
        let bucket = usize::from(self.count(piece));
        while self.ends.len() <= bucket {
            self.ends.push(self.order_len());
        }
        let mut place = self.order_len();
        self.order.push(piece);
        set(&mut self.places, piece.index(), place);
        for above in (bucket + 1..self.ends.len()).rev() {
            let first = get(&self.ends, above - 1);
            self.swap(place, first);
            place = first;
        }
        let ends = self.ends.iter_mut().skip(bucket);
        ends.for_each(|end| *end += 1);
    }

    /// The piece may not be begun.
    pub(super) fn close(&mut self, piece: PieceIndex) {
        assert!(self.closed.set(piece), "piece {piece} is closed already");
        let bucket = usize::from(self.count(piece));
        let mut place = get(&self.places, piece.index());
        for above in bucket..self.ends.len() {
            let last = get(&self.ends, above) - 1;
            self.swap(place, last);
            place = last;
            set(&mut self.ends, above, last);
        }
        self.order.pop();
        set(&mut self.places, piece.index(), ABSENT);
    }

    /// The first of the pieces that may be begun and that a peer has.
    pub(super) fn lowest(&self, has: &Bitfield) -> Option<PieceIndex> {
        has.iter_minus(&self.closed).next()
    }

    /// One of the rarest pieces that may be begun and that a peer has, a random one among equals.
    ///
    /// Exact within the [`WALK_MAX`] rarest of all; among what lies behind them the rarest of a sample.
    pub(super) fn rarest(&self, has: &Bitfield, rng: &mut Rng) -> Option<PieceIndex> {
        if !has.has_more_than(&self.closed) {
            return None;
        }
        let mut walked = 0;
        let mut from = self.first_place(has.is_full());
        for end in &self.ends {
            let end = *end as usize;
            let bucket = self.order.get(from..end).unwrap_or_default();
            from = from.max(end);
            let (low, high) = bucket.split_at(rng.index(bucket.len()));
            let mut walk = high.iter().chain(low).take(WALK_MAX - walked);
            if let Some(piece) = walk.find(|piece| has.get(**piece)) {
                return Some(*piece);
            }
            walked += bucket.len();
            if walked >= WALK_MAX {
                return self.rarest_of_sample(has, rng);
            }
        }
        None
    }

    /// A random piece that may be begun and that a peer has.
    pub(super) fn random(&self, has: &Bitfield, rng: &mut Rng) -> Option<PieceIndex> {
        if !has.has_more_than(&self.closed) {
            return None;
        }
        let drawn = self.sample(has, rng).next();
        drawn.or_else(|| choose(has.iter_minus(&self.closed), rng))
    }

    fn rarest_of_sample(&self, has: &Bitfield, rng: &mut Rng) -> Option<PieceIndex> {
        let drawn = self.sample(has, rng).min_by_key(|piece| self.count(*piece));
        drawn.or_else(|| {
            // The peer has next to nothing of what is missing, so these walks are short.
            let counts = has.iter_minus(&self.closed).map(|piece| self.count(piece));
            let rarest = counts.min()?;
            let missing = has.iter_minus(&self.closed);
            choose(missing.filter(|piece| self.count(*piece) == rarest), rng)
        })
    }

    /// Those of [`SAMPLE`] random pieces that a peer has.
    fn sample<'a>(
        &'a self,
        has: &'a Bitfield,
        rng: &'a mut Rng,
    ) -> impl Iterator<Item = PieceIndex> + 'a {
        let candidates = self.order.get(self.first_place(has.is_full())..);
        let candidates = candidates.unwrap_or_default();
        (0..SAMPLE)
            .filter_map(move |_| candidates.get(rng.index(candidates.len())).copied())
            .filter(|piece| has.get(*piece))
    }

    /// Where the pieces begin that a peer can have: what only seeders have lies before.
    fn first_place(&self, seeder: bool) -> usize {
        if seeder {
            0
        } else {
            get(&self.ends, 0) as usize
        }
    }

    fn count(&self, piece: PieceIndex) -> u16 {
        get(&self.counts, piece.index())
    }

    fn order_len(&self) -> u32 {
        u32::try_from(self.order.len()).unwrap_or(ABSENT)
    }

    fn swap(&mut self, a: u32, b: u32) {
        self.order.swap(a as usize, b as usize);
        for place in [a, b] {
            if let Some(piece) = self.order.get(place as usize) {
                set(&mut self.places, piece.index(), place);
            }
        }
    }

    /// Panics if the order, its borders and its index do not fit each other and the counts.
    pub(super) fn assert_invariants(&self) {
        let pieces = self.counts.len();
        assert_eq!(self.order.len() + self.closed.count_ones() as usize, pieces);
        for (place, piece) in (0..).zip(&self.order) {
            assert!(!self.closed.get(*piece), "{piece} is closed and in order");
            assert_eq!(get(&self.places, piece.index()), place, "place of {piece}");
            let bucket = usize::from(self.count(*piece));
            let first = bucket.checked_sub(1).map_or(0, |b| get(&self.ends, b));
            let bounds = first..get(&self.ends, bucket);
            assert!(bounds.contains(&place), "{piece} at {place} of {bounds:?}");
        }
        for piece in self.closed.iter() {
            assert_eq!(get(&self.places, piece.index()), ABSENT, "place of {piece}");
        }
        assert!(self.ends.is_sorted());
        assert_eq!(self.ends.last(), Some(&self.order_len()));
    }
}

/// One of the items, each with the same chance.
fn choose(items: impl Iterator<Item = PieceIndex>, rng: &mut Rng) -> Option<PieceIndex> {
    (1..)
        .zip(items)
        .filter(|(number, _)| rng.below(*number) == 0)
        .last()
        .map(|(_, piece)| piece)
}

fn get<T: Copy>(items: &[T], index: usize) -> T {
    *items.get(index).expect("an index of this torrent")
}

fn set<T>(items: &mut [T], index: usize, value: T) {
    *items.get_mut(index).expect("an index of this torrent") = value;
}
