//! What a seeder gave to one peer alone, and whether that passes it on.
//!
//! As long as not every piece has gone out, what is sent to a peer that gives nothing to others is lost to the swarm, and the
//! seeder must send it again. A piece of which nobody else is known to have it is entrusted to whom it was sent: the peer has
//! passed it on when another one says that it has it, and keeps it when nobody does for [`ENTRUSTED_PATIENCE`](crate::limits::ENTRUSTED_PATIENCE) and the time that
//! sending it on takes. Some programs never tell a seeder what they have: nothing is known of who is not heard to have it itself.
//!
//! **Invariant:** a piece is entrusted to one peer at a time; one that was kept is named once only as such.

use crate::ConnId;
use crate::limits::{ENTRUSTED_KEPT_MIN, ENTRUSTED_MAX, ENTRUSTED_PER_PASSED_ON};
use bt_core::{PieceIndex, Time};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// The pieces that are entrusted to somebody, and what became of the others.
#[derive(Clone, Debug, Default)]
pub struct Entrusted {
    open: BTreeMap<PieceIndex, Trust>,
    /// Those that nobody else has after a while, and who has them.
    late: BTreeMap<PieceIndex, ConnId>,
    /// The same of peers that keep more than they pass on: they were named to be given to others.
    kept: BTreeSet<PieceIndex>,
    records: BTreeMap<ConnId, Record>,
}

/// Who alone was sent a piece.
#[derive(Clone, Copy, Debug)]
struct Trust {
    holder: ConnId,
    since: Time,
    /// The holder said that it has it.
    confirmed: bool,
}

/// What one peer did with what it was entrusted with, in pieces.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// It said that it has them, and it is not known yet what becomes of them.
    open: usize,
    passed_on: u32,
    kept: u32,
}

impl Entrusted {
    /// The peer was sent the whole piece, which nobody else is known to have.
    pub fn give(&mut self, now: Time, holder: ConnId, piece: PieceIndex) {
        self.open.entry(piece).or_insert(Trust {
            holder,
            since: now,
            confirmed: false,
        });
    }

    /// A peer says that it has the piece.
    pub fn seen(&mut self, conn: ConnId, piece: PieceIndex) {
        if let Some(trust) = self.open.get_mut(&piece) {
            if trust.holder != conn {
                if let Some(record) = self.close(piece) {
                    record.passed_on += 1;
                }
            } else if !trust.confirmed {
                trust.confirmed = true;
                self.records.entry(conn).or_default().open += 1;
            }
        } else if let Some(holder) = self.late.get(&piece).copied()
            && holder != conn
        {
            // Slow, and not a miser.
            self.late.remove(&piece);
            if let Some(record) = self.records.get_mut(&holder) {
                record.kept -= 1;
                record.passed_on += 1;
            }
        }
        self.kept.remove(&piece);
    }

    /// The pieces that peers have kept for `patience` and more who keep more than they pass on, each named once: they should
    /// go out again.
    pub fn overdue(&mut self, now: Time, patience: Duration) -> Vec<PieceIndex> {
        let late = self.open.iter();
        let late = late.filter(|(_, trust)| now - trust.since >= patience);
        let late: Vec<(PieceIndex, ConnId)> =
            late.map(|(piece, trust)| (*piece, trust.holder)).collect();
        for (piece, holder) in late {
            if let Some(record) = self.close(piece) {
                record.kept += 1;
                if !self.kept.contains(&piece) {
                    self.late.insert(piece, holder);
                }
            }
        }
        let is_kept = |(_, holder): &(&PieceIndex, &ConnId)| self.keeps(**holder);
        let again: Vec<PieceIndex> = self.late.iter().filter(is_kept).map(|(p, _)| *p).collect();
        for piece in &again {
            self.late.remove(piece);
            self.kept.insert(*piece);
        }
        again
    }

    /// The peer has left; the pieces that it had alone.
    pub fn gone(&mut self, conn: ConnId) -> Vec<PieceIndex> {
        self.records.remove(&conn);
        let open = self.open.iter().map(|(piece, trust)| (piece, trust.holder));
        let late = self.late.iter().map(|(piece, holder)| (piece, *holder));
        let alone = open.chain(late).filter(|(_, holder)| *holder == conn);
        let alone: Vec<PieceIndex> = alone.map(|(piece, _)| *piece).collect();
        self.open.retain(|_, trust| trust.holder != conn);
        self.late.retain(|_, holder| *holder != conn);
        alone
    }

    /// Nothing is entrusted to anybody any more; what peers did stays known.
    pub fn settle(&mut self) {
        self.open.clear();
        self.late.clear();
        self.kept.clear();
        for record in self.records.values_mut() {
            record.open = 0;
        }
    }

    /// How many pieces the peer is known to have alone.
    #[must_use]
    pub fn count(&self, conn: ConnId) -> usize {
        self.records.get(&conn).map_or(0, |record| record.open)
    }

    /// True if the peer has, or kept, as much alone as it may have for what it passed on.
    #[must_use]
    pub fn has_enough(&self, conn: ConnId) -> bool {
        let record = self.records.get(&conn);
        record.is_some_and(|record| {
            let not_passed_on = record.open + record.kept as usize;
            not_passed_on >= ENTRUSTED_MAX + ENTRUSTED_PER_PASSED_ON * record.passed_on as usize
        })
    }

    /// True if somebody who keeps what it gets has the piece, and nobody else is known to have it.
    #[must_use]
    pub fn is_kept(&self, piece: PieceIndex) -> bool {
        self.kept.contains(&piece)
    }

    /// True if the peer keeps more than it passes on.
    #[must_use]
    pub fn keeps(&self, conn: ConnId) -> bool {
        let record = self.records.get(&conn);
        record.is_some_and(|record| {
            record.kept >= ENTRUSTED_KEPT_MIN && record.kept > record.passed_on
        })
    }

    /// True if what the peer has may as well be nowhere: it kept no less than it passed on.
    #[must_use]
    pub fn is_doubtful(&self, conn: ConnId) -> bool {
        let record = self.records.get(&conn);
        record.is_some_and(|record| record.kept > 0 && record.kept >= record.passed_on)
    }

    /// True if the peer alone is known to have the piece, and was never known to pass one on.
    #[must_use]
    pub fn is_unproven(&self, conn: ConnId, piece: PieceIndex) -> bool {
        let holds = |trust: &Trust| trust.holder == conn;
        let record = self.records.get(&conn);
        self.open.get(&piece).is_some_and(holds)
            && record.is_none_or(|record| record.passed_on == 0)
    }

    /// True if it is known of all pieces what became of them.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.open.is_empty()
    }

    /// The piece is entrusted to nobody any more; the record of its holder, if that said that it has it.
    fn close(&mut self, piece: PieceIndex) -> Option<&mut Record> {
        let trust = self.open.remove(&piece)?;
        if !trust.confirmed {
            return None;
        }
        let record = self.records.entry(trust.holder).or_default();
        record.open -= 1;
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bt_core::Layout;

    const PATIENCE: Duration = Duration::from_secs(20);
    const GIVER: ConnId = ConnId(1);
    const KEEPER: ConnId = ConnId(2);
    const OTHER: ConnId = ConnId(3);

    fn pieces() -> Vec<PieceIndex> {
        Layout::new(160, 16).unwrap().pieces().collect()
    }

    #[test]
    fn who_passes_on_is_told_from_who_keeps() {
        let (mut entrusted, pieces, start) = (Entrusted::default(), pieces(), Time::from_secs(9));
        for (nth, piece) in pieces.iter().take(4).enumerate() {
            let conn = if nth < 2 { GIVER } else { KEEPER };
            entrusted.give(start, conn, *piece);
            entrusted.seen(conn, *piece);
        }
        assert_eq!((entrusted.count(GIVER), entrusted.count(KEEPER)), (2, 2));
        entrusted.seen(OTHER, pieces[0]);
        entrusted.seen(OTHER, pieces[1]);
        assert_eq!(entrusted.count(GIVER), 0);
        let late = start + PATIENCE;
        assert_eq!(entrusted.overdue(start, PATIENCE), []);
        assert!(!entrusted.is_settled() && !entrusted.keeps(KEEPER));
        assert_eq!(entrusted.overdue(late, PATIENCE), pieces[2..4]);
        assert!(entrusted.is_settled() && entrusted.keeps(KEEPER) && !entrusted.keeps(GIVER));
        assert!(entrusted.is_kept(pieces[2]) && !entrusted.is_kept(pieces[0]));
        // Kept again by somebody else: it went out often enough.
        entrusted.give(late, OTHER, pieces[2]);
        entrusted.seen(OTHER, pieces[2]);
        assert_eq!(entrusted.overdue(late + PATIENCE, PATIENCE), []);
        assert!(!entrusted.keeps(OTHER), "one may be chance");
        entrusted.seen(GIVER, pieces[3]);
        assert!(!entrusted.is_kept(pieces[3]));
    }

    #[test]
    fn who_is_slow_is_no_miser() {
        let (mut entrusted, pieces, start) = (Entrusted::default(), pieces(), Time::from_secs(9));
        for piece in pieces.iter().take(4) {
            entrusted.give(start, GIVER, *piece);
            entrusted.seen(GIVER, *piece);
        }
        // Two of them in time, and the others late.
        entrusted.seen(OTHER, pieces[0]);
        entrusted.seen(OTHER, pieces[1]);
        assert_eq!(entrusted.overdue(start + PATIENCE, PATIENCE), []);
        assert!(!entrusted.keeps(GIVER));
        entrusted.seen(OTHER, pieces[2]);
        let late = start + PATIENCE * 2;
        for piece in pieces.iter().skip(4).take(2) {
            entrusted.give(start, GIVER, *piece);
            entrusted.seen(GIVER, *piece);
        }
        assert_eq!(entrusted.overdue(late, PATIENCE), []);
        assert!(!entrusted.keeps(GIVER), "three passed on, three kept");
    }

    #[test]
    fn who_passes_on_as_much_as_it_keeps_is_trusted_again() {
        let (mut entrusted, pieces, start) = (Entrusted::default(), pieces(), Time::from_secs(9));
        for piece in pieces.iter().take(2) {
            entrusted.give(start, KEEPER, *piece);
            entrusted.seen(KEEPER, *piece);
        }
        entrusted.overdue(start + PATIENCE, PATIENCE);
        assert!(entrusted.keeps(KEEPER));
        for piece in pieces.iter().skip(2).take(2) {
            entrusted.give(start, KEEPER, *piece);
            entrusted.seen(KEEPER, *piece);
            entrusted.seen(OTHER, *piece);
        }
        assert!(!entrusted.keeps(KEEPER));
    }

    #[test]
    fn what_somebody_had_alone_is_missing_when_it_leaves() {
        let (mut entrusted, pieces, start) = (Entrusted::default(), pieces(), Time::from_secs(9));
        entrusted.give(start, GIVER, pieces[0]);
        entrusted.give(start, OTHER, pieces[0]);
        entrusted.give(start, OTHER, pieces[1]);
        entrusted.seen(OTHER, pieces[1]);
        assert_eq!(entrusted.gone(GIVER), [pieces[0]], "the first one has it");
        assert_eq!(entrusted.gone(GIVER), []);
        assert_eq!(entrusted.count(OTHER), 1);
        // What it had alone for too long, too.
        assert_eq!(entrusted.overdue(start + PATIENCE, PATIENCE), []);
        assert_eq!(entrusted.gone(OTHER), [pieces[1]]);
    }

    #[test]
    fn who_does_not_tell_us_what_it_has_is_not_judged() {
        let (mut entrusted, pieces, start) = (Entrusted::default(), pieces(), Time::from_secs(9));
        for piece in pieces.iter().take(4) {
            entrusted.give(start, KEEPER, *piece);
        }
        assert_eq!(entrusted.count(KEEPER), 0);
        entrusted.seen(OTHER, pieces[0]);
        assert_eq!(entrusted.overdue(start + PATIENCE, PATIENCE), []);
        assert!(entrusted.is_settled() && !entrusted.keeps(KEEPER));
    }
}
