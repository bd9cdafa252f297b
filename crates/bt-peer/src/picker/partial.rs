//! One piece under way: what became of each of its blocks.
//!
//! **Invariant:** `missing` and `received` count the slots that are so; the rest is asked of somebody.

use crate::ConnId;

/// A piece of which at least one block was received or asked for.
#[derive(Debug)]
pub(super) struct Partial {
    slots: Vec<Slot>,
    missing: usize,
    received: usize,
    /// No missing slot lies before this one.
    first_missing: usize,
    /// Who has the piece for itself as long as there is other work for everybody else.
    pub(super) owner: Option<ConnId>,
    /// It failed its hash before: only its owner may be asked, so that it is known who sent it.
    pub(super) parole: bool,
}

/// What became of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Slot {
    Missing,
    /// Asked of these, the first of them first; never empty.
    Asked(Vec<ConnId>),
    Received,
}

/// What a block that arrived was before.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Not here; it had been asked of these.
    New(Vec<ConnId>),
    /// Here.
    Old,
}

/// From which side of a piece blocks are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// In the order in which they are hashed.
    Front,
    /// Out of the way of whoever works from the front.
    Back,
}

impl Partial {
    pub(super) fn new(blocks: u32, owner: Option<ConnId>, parole: bool) -> Self {
        let slots = vec![Slot::Missing; blocks as usize];
        Self {
            missing: slots.len(),
            slots,
            received: 0,
            first_missing: 0,
            owner,
            parole,
        }
    }

    /// How many blocks are neither here nor asked for.
    pub(super) const fn missing(&self) -> usize {
        self.missing
    }

    /// True if nothing is here and nothing asked for.
    pub(super) fn is_untouched(&self) -> bool {
        self.missing == self.slots.len()
    }

    /// True if `conn` may be asked for what is missing.
    pub(super) fn admits(&self, conn: ConnId) -> bool {
        !self.parole || self.owner.is_none_or(|owner| owner == conn)
    }

    /// Notes one missing block as asked of `conn`; its index.
    pub(super) fn ask(&mut self, conn: ConnId, side: Side) -> Option<u32> {
        let missing = |slot: &Slot| *slot == Slot::Missing;
        let index = match side {
            Side::Front => {
                let from = self.first_missing;
                let found = self.slots.iter().skip(from).position(missing)?;
                self.first_missing = from + found + 1;
                from + found
            }
            Side::Back => self.slots.iter().rposition(missing)?,
        };
        *self.slots.get_mut(index)? = Slot::Asked(vec![conn]);
        self.missing -= 1;
        u32::try_from(index).ok()
    }

    /// Notes a block that is asked of somebody as asked of `conn` too, unless it is already or of `most` peers.
    pub(super) fn ask_too(&mut self, index: usize, conn: ConnId, most: usize) -> bool {
        let Some(Slot::Asked(askers)) = self.slots.get_mut(index) else {
            return false;
        };
        let free = askers.len() < most && !askers.contains(&conn);
        if free {
            askers.push(conn);
        }
        free
    }

    /// A block came.
    pub(super) fn receive(&mut self, index: usize) -> Arrival {
        let Some(slot) = self.slots.get_mut(index) else {
            return Arrival::Old;
        };
        let before = core::mem::replace(slot, Slot::Received);
        let askers = match before {
            Slot::Received => return Arrival::Old,
            Slot::Missing => {
                self.missing -= 1;
                Vec::new()
            }
            Slot::Asked(askers) => askers,
        };
        self.received += 1;
        Arrival::New(askers)
    }

    /// The block will not come from `conn`.
    pub(super) fn release(&mut self, index: usize, conn: ConnId) {
        if let Some(Slot::Asked(askers)) = self.slots.get_mut(index) {
            askers.retain(|asker| *asker != conn);
            if askers.is_empty() {
                self.set_missing(index);
            }
        }
    }

    /// What was received is gone.
    pub(super) fn lose(&mut self) {
        for index in 0..self.slots.len() {
            if self.slots.get(index) == Some(&Slot::Received) {
                self.received -= 1;
                self.set_missing(index);
            }
        }
    }

    fn set_missing(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = Slot::Missing;
            self.missing += 1;
            self.first_missing = self.first_missing.min(index);
        }
    }

    /// The blocks that are asked for, and of whom.
    pub(super) fn asked(&self) -> impl Iterator<Item = (usize, &[ConnId])> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| match slot {
                Slot::Asked(askers) => Some((index, askers.as_slice())),
                Slot::Missing | Slot::Received => None,
            })
    }

    /// Panics if the counters do not fit the slots.
    pub(super) fn assert_invariants(&self) {
        let count = |what: &Slot| self.slots.iter().filter(|slot| *slot == what).count();
        assert_eq!(self.missing, count(&Slot::Missing));
        assert_eq!(self.received, count(&Slot::Received));
        let first = self.slots.iter().position(|slot| *slot == Slot::Missing);
        assert!(first.is_none_or(|first| self.first_missing <= first));
        assert!(!self.is_untouched(), "an untouched piece is not under way");
        assert!(self.asked().all(|(_, askers)| !askers.is_empty()));
    }
}
