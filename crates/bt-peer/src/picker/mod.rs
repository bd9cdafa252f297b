//! Which blocks to ask of whom (BEP 3, "piece"; Cohen 2003, "Incentives Build Robustness in BitTorrent", §2.4).
//!
//! The rules, in this order:
//!
//! 1. A connection finishes the piece that it began.
//! 2. It begins a piece that its peer suggests, if that is as rare as any (BEP 6).
//! 3. It takes over a piece that somebody else began and left (strict priority).
//! 4. It begins a piece of its own, so that blocks come in the order in which they are hashed and a rare piece from the
//!    one who has it: a random one until the first is complete, then one of the rarest, or the first in order.
//! 5. When none is left to begin, it helps with the begun pieces, from their far end.
//! 6. Endgame: when every missing block is asked for, a block is asked of a second peer.
//!
//! A piece that failed its hash comes before all new ones and is on parole: one peer sends it whole. So it is soon known
//! who lied.
//!
//! The picker sees bitfields, counts and connection numbers; it knows neither time nor addresses.
//!
//! **Invariant:** each wanted piece that is not here is either under way (`partials`) or may be begun (`availability`);
//! each block asked for stands in its piece and in `requests` alike.
//!
//! ```
//! use bt_core::{Bitfield, Layout, Rng};
//! use bt_peer::ConnId;
//! use bt_peer::picker::{Picker, Receipt};
//!
//! let layout = Layout::new(100_000, 32 * 1024).expect("a valid piece length");
//! let (none, all) = (Bitfield::new(4), Bitfield::full(4));
//! let mut picker = Picker::new(layout, &none, &all, false);
//! let (conn, mut blocks) = (ConnId(0), Vec::new());
//! picker.add_peer(&all);
//! picker.pick(conn, &all, None, 100, &mut Rng::new(7), &mut blocks);
//! assert_eq!(blocks.len(), 7);
//! for block in blocks {
//!     assert!(matches!(picker.received(conn, block), Receipt::Wanted { .. }));
//! }
//! layout.pieces().for_each(|piece| picker.checked(piece, true));
//! assert!(picker.is_complete());
//! ```

mod availability;
mod choice;
mod partial;
mod requests;
#[cfg(test)]
mod tests;

use crate::ConnId;
use availability::Availability;
use bt_core::{Bitfield, Block, Layout, PieceIndex, Rng};
pub use choice::{PARTIAL_BYTES_MAX, PARTIALS_MIN, RANDOM_FIRST_PIECES};
use partial::{Arrival, Partial, Side};
use requests::Requests;
use std::collections::{BTreeMap, BTreeSet};

/// Of how many peers one block is asked in the endgame. With two, one stalled peer cannot delay the end, and at most
/// one copy of a block is waste.
pub const ENDGAME_ASKED_MAX: usize = 2;

/// In the endgame only a connection with fewer blocks under way is asked for more: those who are done first are the
/// fastest. More than one at a time is not sooner here, and half as much again is waste (24 simulated swarms).
pub const ENDGAME_QUEUE_MAX: usize = 1;

/// What a block that arrived is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It was missing: write it.
    Wanted {
        /// Other connections of which it was asked too: cancel it there. They count as released.
        cancel: Vec<ConnId>,
    },
    /// It is here already, or not wanted: waste.
    Duplicate,
}

/// The pieces of one torrent as its downloader sees them: which are here, which are under way, which come next.
#[derive(Debug)]
pub struct Picker {
    layout: Layout,
    sequential: bool,
    have: Bitfield,
    wanted: Bitfield,
    /// What is here or not wanted.
    unneeded: Bitfield,
    /// Also says which pieces may be begun.
    availability: Availability,
    partials: BTreeMap<PieceIndex, Partial>,
    /// Those of `partials` that are wanted and miss blocks.
    unfinished: BTreeSet<PieceIndex>,
    requests: Requests,
    /// How often a piece failed its hash; no entry for never.
    failures: BTreeMap<PieceIndex, u32>,
}

impl Picker {
    /// A picker for a torrent of which `have` is verified and `wanted` is to be had.
    ///
    /// # Panics
    /// If the sets are not of the layout's number of pieces.
    #[must_use]
    pub fn new(layout: Layout, have: &Bitfield, wanted: &Bitfield, sequential: bool) -> Self {
        assert_eq!(have.pieces_count(), layout.pieces_count());
        let unneeded = unneeded(have, wanted);
        Self {
            layout,
            sequential,
            have: have.clone(),
            wanted: wanted.clone(),
            availability: Availability::new(unneeded.clone()),
            unneeded,
            partials: BTreeMap::new(),
            unfinished: BTreeSet::new(),
            requests: Requests::default(),
            failures: BTreeMap::new(),
        }
    }

    /// A peer told what it has: once for each peer, before its `peer_has`. A peer with nothing need not be told of.
    pub fn add_peer(&mut self, has: &Bitfield) {
        self.availability.add_peer(has);
    }

    /// A known peer has one piece more than it had.
    pub fn peer_has(&mut self, piece: PieceIndex) {
        self.availability.add(piece);
    }

    /// A known peer has lost a piece; `had` is what it had before. None of the piece will come from it.
    ///
    /// # Panics
    /// If it has more than was ever counted.
    pub fn peer_lost(&mut self, conn: ConnId, had: &Bitfield, piece: PieceIndex) {
        self.availability.remove_piece(had, piece);
        for block in self.requests.remove_piece(conn, piece) {
            self.give_up(conn, block);
        }
        if let Some(partial) = self.partials.get_mut(&piece) {
            partial.owner = partial.owner.filter(|owner| *owner != conn);
        }
    }

    /// A peer is gone; `has` is what it had last.
    ///
    /// # Panics
    /// If it has more than was ever counted.
    pub fn remove_peer(&mut self, has: &Bitfield) {
        self.availability.remove_peer(has);
    }

    /// How many peers have the piece.
    #[must_use]
    pub fn availability(&self, piece: PieceIndex) -> u32 {
        self.availability.of(piece)
    }

    /// Appends up to `count` blocks to `out` that shall be asked of `conn` now, and notes them as asked of it.
    ///
    /// `has` is what the peer has, as it was counted. `only` restricts the choice to these pieces (allowed fast, while
    /// choked).
    pub fn pick(
        &mut self,
        conn: ConnId,
        has: &Bitfield,
        only: Option<&[PieceIndex]>,
        count: usize,
        rng: &mut Rng,
        out: &mut Vec<Block>,
    ) {
        let until = out.len() + count;
        self.ask_while(conn, until, out, |picker| match only {
            Some(only) => picker.choose_among(conn, has, only),
            None if picker.sequential => picker.choose_first(conn, has),
            None => picker.choose(conn, has, rng),
        });
        if only.is_none() && out.len() < until && self.in_endgame() {
            self.ask_twice(conn, has, until, out);
        }
    }

    /// As [`pick`](Self::pick), of a seeder that is to be asked for no more than it alone can give: what it began, what it
    /// suggests, what failed its hash, and pieces that no leecher has. Of these last none if it has ever suggested any: it would
    /// suggest the others too if it did not send them to somebody else. No block is asked twice.
    pub fn pick_alone(
        &mut self,
        conn: ConnId,
        has: &Bitfield,
        count: usize,
        rng: &mut Rng,
        out: &mut Vec<Block>,
    ) {
        let until = out.len() + count;
        self.ask_while(conn, until, out, |picker| {
            picker.choose_alone(conn, has, rng)
        });
    }

    /// The connection suggests a piece (BEP 6): it is taken before others that are as rare.
    pub fn suggested(&mut self, conn: ConnId, piece: PieceIndex) {
        self.requests.add_hint(conn, piece);
    }

    /// The connection chokes us: what it suggested goes to others.
    pub fn forget_suggested(&mut self, conn: ConnId) {
        self.requests.clear_hints(conn);
    }

    /// A block came from `conn`, asked for or not.
    pub fn received(&mut self, conn: ConnId, block: Block) -> Receipt {
        self.requests.remove(conn, block);
        let piece = block.piece;
        if self.have.get(piece) || !self.layout.is_aligned(block) {
            return Receipt::Duplicate;
        }
        if !self.partials.contains_key(&piece) {
            // Its request was given up, and nothing of the piece has been asked for since.
            if !self.needs(piece) {
                return Receipt::Duplicate;
            }
            self.begin(piece, None);
        }
        let Some(partial) = self.partials.get_mut(&piece) else {
            return Receipt::Duplicate;
        };
        let Arrival::New(mut askers) = partial.receive(block.index()) else {
            return Receipt::Duplicate;
        };
        askers.retain(|asker| *asker != conn);
        for asker in &askers {
            self.requests.remove(*asker, block);
        }
        self.settle(piece);
        Receipt::Wanted { cancel: askers }
    }

    /// A request will not be answered: rejected, timed out, or thrown away by a choke.
    pub fn release(&mut self, conn: ConnId, block: Block) {
        if self.requests.remove(conn, block) {
            self.give_up(conn, block);
        }
    }

    /// No request to this connection will be answered: it choked or is gone.
    pub fn release_all(&mut self, conn: ConnId) {
        for block in self.requests.remove_all(conn) {
            self.give_up(conn, block);
        }
        for partial in self.partials.values_mut() {
            partial.owner = partial.owner.filter(|owner| *owner != conn);
        }
    }

    /// The piece was compared with its hash. A bad one is missing again, and on parole.
    pub fn checked(&mut self, piece: PieceIndex, good: bool) {
        self.forget(piece);
        if good {
            if self.have.set(piece) && self.unneeded.set(piece) {
                self.availability.close(piece);
            }
            self.failures.remove(&piece);
        } else {
            if self.have.clear(piece) && self.wanted.get(piece) {
                self.unneeded.clear(piece);
                self.availability.open(piece);
            }
            *self.failures.entry(piece).or_default() += 1;
        }
    }

    /// The disk lost what was received of the piece: that is missing again, by nobody's fault.
    pub fn lost(&mut self, piece: PieceIndex) {
        if let Some(partial) = self.partials.get_mut(&piece) {
            partial.lose();
            self.settle(piece);
        }
    }

    /// From now on these pieces are wanted. What is under way stays so, but no more of it is asked for.
    pub fn set_wanted(&mut self, wanted: &Bitfield) {
        self.wanted = wanted.clone();
        self.unneeded = unneeded(&self.have, wanted);
        let mut closed = self.unneeded.clone();
        for piece in self.partials.keys() {
            closed.set(*piece);
        }
        self.availability.reset(closed);
        let begun: Vec<_> = self.partials.keys().copied().collect();
        begun.iter().for_each(|piece| self.settle(*piece));
    }

    /// What is verified.
    #[must_use]
    pub const fn have(&self) -> &Bitfield {
        &self.have
    }

    /// What is wanted.
    #[must_use]
    pub const fn wanted(&self) -> &Bitfield {
        &self.wanted
    }

    /// True if the piece is wanted and not here yet: a `have` of it makes a peer interesting.
    #[must_use]
    pub fn needs(&self, piece: PieceIndex) -> bool {
        !self.unneeded.get(piece)
    }

    /// True if every wanted piece is here.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.unneeded.is_full()
    }

    /// True if every missing block is under way, and something is missing.
    ///
    /// As long as a piece is to be begun, or nobody has it, there is no end in sight that asking twice could bring
    /// nearer. Pieces that are kept for one peer do not count: nobody else may be asked for them.
    #[must_use]
    pub fn in_endgame(&self) -> bool {
        let kept = |partial: &Partial| partial.parole && partial.owner.is_some();
        let is_kept = |piece: &PieceIndex| self.partials.get(piece).is_some_and(kept);
        !self.is_complete()
            && self.availability.is_all_closed()
            && self.unfinished.iter().all(is_kept)
    }

    /// How many pieces are under way.
    #[must_use]
    pub fn partials_count(&self) -> usize {
        self.partials.len()
    }

    /// How often the piece did not match its hash since it was last good.
    #[must_use]
    pub fn failures(&self, piece: PieceIndex) -> u32 {
        self.failures.get(&piece).copied().unwrap_or(0)
    }

    /// Asks `conn` for what is chosen until `out` has `until` blocks or nothing is chosen.
    fn ask_while(
        &mut self,
        conn: ConnId,
        until: usize,
        out: &mut Vec<Block>,
        mut choose: impl FnMut(&Self) -> Option<(PieceIndex, Side)>,
    ) {
        while out.len() < until
            && let Some((piece, side)) = choose(self)
        {
            let before = out.len();
            self.ask(conn, piece, side, until, out);
            assert!(out.len() > before, "piece {piece} was chosen for nothing");
        }
    }

    /// Asks `conn` for missing blocks of the piece until `out` has `until` blocks or none is missing.
    fn ask(
        &mut self,
        conn: ConnId,
        piece: PieceIndex,
        side: Side,
        until: usize,
        out: &mut Vec<Block>,
    ) {
        if !self.partials.contains_key(&piece) {
            self.begin(piece, Some(conn));
        }
        let Some(partial) = self.partials.get_mut(&piece) else {
            return;
        };
        if partial.owner.is_none() {
            partial.owner = Some(conn);
        }
        if partial.owner == Some(conn) {
            self.requests.set_current(conn, piece);
        }
        while out.len() < until {
            let Some(index) = partial.ask(conn, side) else {
                break;
            };
            let block = self.layout.block_at(piece, index);
            let block = block.expect("a piece under way has as many slots as blocks");
            self.requests.add(conn, block);
            out.push(block);
        }
        self.settle(piece);
    }

    /// Asks `conn` for blocks that were asked of others already.
    fn ask_twice(&mut self, conn: ConnId, has: &Bitfield, until: usize, out: &mut Vec<Block>) {
        let room = ENDGAME_QUEUE_MAX.saturating_sub(self.requests.count(conn));
        let until = until.min(out.len() + room);
        if out.len() >= until {
            return;
        }
        let first = out.len();
        for block in self.requests.slowest_first(conn) {
            if out.len() >= until {
                break;
            }
            if has.get(block.piece)
                && !self.unneeded.get(block.piece)
                && let Some(partial) = self.partials.get_mut(&block.piece)
                && partial.admits(conn)
                && partial.ask_too(block.index(), conn, ENDGAME_ASKED_MAX)
            {
                out.push(block);
            }
        }
        for block in out.iter().skip(first) {
            self.requests.add(conn, *block);
        }
    }

    fn begin(&mut self, piece: PieceIndex, owner: Option<ConnId>) {
        self.availability.close(piece);
        let blocks = self.layout.blocks_count(piece);
        let parole = self.failures.contains_key(&piece);
        self.partials
            .insert(piece, Partial::new(blocks, owner, parole));
    }

    /// The block, no more in `requests`, will not come from `conn`.
    fn give_up(&mut self, conn: ConnId, block: Block) {
        if let Some(partial) = self.partials.get_mut(&block.piece) {
            partial.release(block.index(), conn);
            partial.owner = partial.owner.filter(|owner| *owner != conn);
            self.settle(block.piece);
        }
    }

    /// Sets right what hangs on the state of a piece under way.
    fn settle(&mut self, piece: PieceIndex) {
        let Some(partial) = self.partials.get(&piece) else {
            return;
        };
        let needed = self.needs(piece);
        if partial.is_untouched() {
            self.partials.remove(&piece);
            self.unfinished.remove(&piece);
            if needed {
                self.availability.open(piece);
            }
        } else if needed && partial.missing() > 0 {
            self.unfinished.insert(piece);
        } else {
            self.unfinished.remove(&piece);
        }
    }

    /// Ends that the piece is under way.
    fn forget(&mut self, piece: PieceIndex) {
        if let Some(partial) = self.partials.remove(&piece) {
            for (index, askers) in partial.asked() {
                let block = u32::try_from(index).ok();
                let Some(block) = block.and_then(|index| self.layout.block_at(piece, index)) else {
                    continue;
                };
                for conn in askers {
                    self.requests.remove(*conn, block);
                }
            }
            self.unfinished.remove(&piece);
            if self.needs(piece) {
                self.availability.open(piece);
            }
        }
    }

    /// Panics if the parts of the picker contradict each other. Slow: for tests.
    pub fn assert_invariants(&self) {
        self.availability.assert_invariants();
        assert_eq!(self.unneeded, unneeded(&self.have, &self.wanted));
        for piece in self.layout.pieces() {
            let partial = self.partials.get(&piece);
            let begins = self.needs(piece) && partial.is_none();
            assert_eq!(self.availability.is_open(piece), begins, "piece {piece}");
            let misses = self.needs(piece) && partial.is_some_and(|partial| partial.missing() > 0);
            assert_eq!(self.unfinished.contains(&piece), misses, "piece {piece}");
            assert!(partial.is_none() || !self.have.get(piece), "piece {piece}");
        }
        let mut asked = BTreeSet::new();
        for (piece, partial) in &self.partials {
            partial.assert_invariants();
            for (index, askers) in partial.asked() {
                assert!(askers.len() <= ENDGAME_ASKED_MAX);
                asked.extend(askers.iter().map(|conn| (*conn, *piece, index)));
            }
        }
        let queued: Vec<_> = self.requests.iter().collect();
        assert_eq!(queued.len(), asked.len(), "a block is asked once of each");
        for (conn, block) in queued {
            assert!(
                asked.contains(&(conn, block.piece, block.index())),
                "{block:?} of {conn:?}"
            );
        }
    }
}

/// What is here or not wanted.
fn unneeded(have: &Bitfield, wanted: &Bitfield) -> Bitfield {
    let mut unneeded = Bitfield::full(have.pieces_count());
    for piece in wanted.iter_minus(have) {
        unneeded.clear(piece);
    }
    unneeded
}
