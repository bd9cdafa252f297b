//! What a seeder gives out first: each piece once, before any goes out again.
//!
//! A leecher cannot see what others are being sent just now, so two of them choose the same rare piece. Whoever has it all
//! can see it, and names to each peer pieces of its own ("suggest piece", BEP 6). That is a hint: a peer follows it among
//! pieces that are equally rare.
//!
//! When all has been offered, what went to nobody to its end is offered once more: who had begun it was choked or left, or
//! who was told of it asks for nothing.
//!
//! **Invariant:** a piece is on offer to one peer at a time, until that asks for it, is choked, leaves or idles; what
//! somebody has asked for is not on offer.

use bt_core::{Bitfield, Layout, PieceIndex, Rng};

/// Which pieces went out.
#[derive(Clone, Debug)]
pub struct Spread {
    layout: Layout,
    /// Draws the order.
    lot: Rng,
    /// `None` until the first piece goes out: a seeder may have ten thousand torrents for which nobody has asked.
    state: Option<Box<State>>,
}

#[derive(Clone, Debug)]
struct State {
    /// All pieces by lot, in the order in which they are offered.
    order: Vec<PieceIndex>,
    /// How far the order is used up.
    next: usize,
    /// Offered or asked for, and not sent after all.
    returned: Vec<PieceIndex>,
    /// Somebody was told of it.
    offered: Bitfield,
    /// Somebody has asked for it.
    asked: Bitfield,
    /// It went out whole.
    sent: Bitfield,
    /// At the last look it was on its way to nobody, and had not gone out.
    lost: Bitfield,
    /// It was offered once more.
    again: Bitfield,
}

impl Spread {
    /// Nothing has gone out yet.
    #[must_use]
    pub fn new(layout: &Layout, rng: &mut Rng) -> Self {
        let lot = rng.clone();
        // What is drawn from `rng` next must not depend on when the order is needed.
        rng.shuffle(&mut vec![(); layout.pieces_count() as usize]);
        Self {
            layout: *layout,
            lot,
            state: None,
        }
    }

    /// Somebody asks for the piece.
    pub fn asked(&mut self, piece: PieceIndex) {
        self.state().asked.set(piece);
    }

    /// Who was told of these pieces cannot ask for them any more.
    pub fn withdraw(&mut self, offered: impl Iterator<Item = PieceIndex>) {
        let Some(state) = &mut self.state else {
            return;
        };
        for piece in offered {
            if !state.asked.get(piece) && state.offered.clear(piece) {
                state.returned.push(piece);
            }
        }
    }

    /// Who asked for these pieces is not going to get them.
    pub fn unsent(&mut self, asked: impl Iterator<Item = PieceIndex>) {
        let Some(state) = &mut self.state else {
            return;
        };
        for piece in asked {
            if state.asked.clear(piece) {
                state.offered.clear(piece);
                state.sent.clear(piece);
                state.returned.push(piece);
            }
        }
    }

    /// Somebody was sent the last of the piece.
    pub fn sent(&mut self, piece: PieceIndex) {
        self.state().sent.set(piece);
    }

    /// What has not gone out to its end, as far as that is known. `is_elsewhere` says whether another peer has it.
    pub fn unfinished(&self, is_elsewhere: impl Fn(PieceIndex) -> bool) -> Vec<PieceIndex> {
        let Some(state) = &self.state else {
            return Vec::new();
        };
        let all = Bitfield::full(self.layout.pieces_count());
        let unsent = all.iter_minus(&state.sent);
        unsent.filter(|piece| !is_elsewhere(*piece)).collect()
    }

    /// True if the piece was offered once more.
    #[must_use]
    pub fn is_given_up(&self, piece: PieceIndex) -> bool {
        let state = self.state.as_ref();
        state.is_some_and(|state| state.again.get(piece))
    }

    /// A look at what is on its way to nobody, when all has been offered: what was missing at the look before as well
    /// is offered once more. Returns these.
    pub fn offer_again(&mut self, missing: &[PieceIndex]) -> Vec<PieceIndex> {
        let Some(state) = &mut self.state else {
            return Vec::new();
        };
        let mut lost = Bitfield::new(self.layout.pieces_count());
        let mut again = Vec::new();
        for piece in missing.iter().copied() {
            lost.set(piece);
            if state.lost.get(piece) && state.again.set(piece) {
                state.asked.clear(piece);
                state.offered.clear(piece);
                again.push(piece);
            }
        }
        state.lost = lost;
        state.returned.extend(&again);
        again
    }

    /// The next piece to offer. `elsewhere` says whether another peer has it, which then needs no offer.
    pub fn offer(&mut self, elsewhere: impl Fn(PieceIndex) -> bool) -> Option<PieceIndex> {
        let state = self.state();
        loop {
            let returned = state.returned.pop();
            let piece = returned.or_else(|| state.order.get(state.next).copied())?;
            state.next += usize::from(returned.is_none());
            if !state.asked.get(piece) && !elsewhere(piece) && state.offered.set(piece) {
                return Some(piece);
            }
        }
    }

    /// True if nothing is left to offer.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match &self.state {
            Some(state) => state.next == state.order.len() && state.returned.is_empty(),
            None => self.layout.pieces_count() == 0,
        }
    }

    fn state(&mut self) -> &mut State {
        let Self { layout, lot, state } = self;
        state.get_or_insert_with(|| {
            let mut order: Vec<_> = layout.pieces().collect();
            lot.shuffle(&mut order);
            Box::new(State {
                order,
                next: 0,
                returned: Vec::new(),
                offered: Bitfield::new(layout.pieces_count()),
                asked: Bitfield::new(layout.pieces_count()),
                sent: Bitfield::new(layout.pieces_count()),
                lost: Bitfield::new(layout.pieces_count()),
                again: Bitfield::new(layout.pieces_count()),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn spread(pieces: u32, seed: u64) -> Spread {
        let layout = Layout::new(u64::from(pieces) * 16, 16).unwrap();
        Spread::new(&layout, &mut Rng::new(seed))
    }

    fn all(spread: &mut Spread) -> Vec<PieceIndex> {
        core::iter::from_fn(|| spread.offer(|_| false)).collect()
    }

    #[test]
    fn each_piece_is_offered_once_in_an_order_by_lot() {
        let first = all(&mut spread(100, 1));
        assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 100);
        assert_ne!(
            first,
            all(&mut spread(100, 2)),
            "seeders of one torrent differ"
        );
        let mut over = spread(3, 1);
        assert!(!over.is_over());
        assert_eq!(all(&mut over).len(), 3);
        assert!(over.is_over());
    }

    #[test]
    fn what_is_asked_for_or_elsewhere_is_not_offered() {
        let mut spread = spread(10, 1);
        let order = spread.state().order.clone();
        spread.asked(order[0]);
        let offered = spread.offer(|piece| piece == order[1]);
        assert_eq!(offered, Some(order[2]));
    }

    #[test]
    fn what_was_not_sent_is_offered_again_and_first() {
        let mut spread = spread(10, 1);
        let (suggested, asked) = (spread.offer(|_| false).unwrap(), spread.state().order[5]);
        spread.asked(asked);
        spread.withdraw([suggested].into_iter());
        spread.unsent([asked, asked].into_iter());
        assert!(!spread.is_over());
        let offered = all(&mut spread);
        assert_eq!(offered[..2], [asked, suggested]);
        assert_eq!(offered.len(), 10, "each once: {offered:?}");
        spread.asked(suggested);
        spread.withdraw([suggested].into_iter());
        assert!(spread.is_over(), "another peer asked for it meanwhile");
    }
}
