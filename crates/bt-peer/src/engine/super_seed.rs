//! Super-seeding (BEP 16): who has everything says that it has nothing, and shows each peer a piece or two at a time.
//!
//! First each piece is shown to one peer only. A peer is shown another one when the last has come to somebody else, or when
//! there is nobody else to give it to. Two things keep a swarm from stalling: what is shown counts for
//! [`SHOWN_PATIENCE`] at most, whatever becomes of it; and who has got nothing from others for that long is alone. When each
//! piece has gone out, or our line idles, one that is alone is served as by any seeder, some pieces ahead of what it has.
//!
//! **Invariant:** a piece is told of, and served, only to whom it was shown.

use super::dont_have::tell;
use super::{ConnId, Engine};
use crate::connection::Connection;
use crate::limits::{IDLE_TICKS, SHOWN_ALONE_BYTES, SHOWN_MAX, SHOWN_PATIENCE, SILENT_NEWCOMER};
use bt_core::{Block, PieceIndex, Time};

/// What one peer was shown.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// Those of which it is not known yet that it gave them to others, and since when it could have: not while it waits
    /// for us.
    open: Vec<(PieceIndex, Time)>,
    /// Since when it has got nothing from others, though it could have: not while it waits for us. Once that is
    /// [`SHOWN_PATIENCE`] ago it stays so until it does get something.
    without_others: Time,
}

impl Shown {
    const fn nothing(now: Time) -> Self {
        Self {
            open: Vec::new(),
            without_others: now,
        }
    }

    /// True if others give it nothing.
    fn is_alone(&self, now: Time) -> bool {
        now - self.without_others >= SHOWN_PATIENCE
    }

    fn is_open(&self, piece: PieceIndex) -> bool {
        self.open.iter().any(|(open, _)| *open == piece)
    }

    /// Nobody waits any more for what becomes of the piece.
    pub(super) fn close(&mut self, piece: PieceIndex) {
        self.open.retain(|(open, _)| *open != piece);
    }
}

impl Engine {
    /// True if peers are shown pieces one by one. A copy that is not whole has nothing to hide.
    pub(super) fn is_super_seeding(&self) -> bool {
        self.upload.super_seeding
    }

    /// True if the peer may know that we have the piece.
    pub(super) fn is_shown(conn: &Connection, piece: PieceIndex) -> bool {
        conn.shown.is_none() || conn.told.get(piece)
    }

    /// All of a message was taken in: if the peer has said by now what it has, it is shown its first pieces.
    pub(super) fn show_begun(&mut self, now: Time, id: ConnId) {
        if self.is_super_seeding() && self.conns.get(&id).is_some_and(|conn| conn.begun) {
            self.show_first(now, id);
        }
    }

    /// The peer said for the first time what it has, or was silent for so long that it has nothing.
    fn show_first(&mut self, now: Time, id: ConnId) {
        if self.is_super_seeding()
            && let Some(conn) = self.conns.get_mut(&id)
            && conn.shown.is_none()
        {
            conn.shown = Some(Shown::nothing(now));
            self.show(now, id);
        }
    }

    /// The peer has one piece more: whoever was shown it has passed it on, or has it and nobody else needs it.
    pub(super) fn note_passed_on(&mut self, now: Time, id: ConnId, piece: PieceIndex) {
        if !self.is_super_seeding() {
            return;
        }
        let needed = |conn: &Connection| conn.shown.is_some() && !conn.has.get(piece);
        let is_needed = self.conns.values().any(|conn| needed(conn));
        let serves_alone = self.serves_alone();
        let mut free = Vec::new();
        for conn in self.conns.values_mut() {
            let Some(shown) = &mut conn.shown else {
                continue;
            };
            let expects_nothing = serves_alone && shown.is_alone(now);
            let passed_on = conn.id != id || !is_needed || expects_nothing;
            if shown.is_open(piece) && passed_on {
                shown.close(piece);
                free.push(conn.id);
            }
        }
        for id in free {
            self.show(now, id);
        }
    }

    /// The peer says itself that it has a piece more: others gave it, or it would not tell us.
    pub(super) fn note_helped(&mut self, now: Time, id: ConnId) {
        if let Some(shown) = self.conns.get_mut(&id).and_then(|conn| conn.shown.as_mut()) {
            shown.without_others = now;
        }
    }

    /// True if who gets nothing from others is served like by any seeder: there is nothing new left to send, or nobody else
    /// to send it to.
    fn serves_alone(&self) -> bool {
        self.upload.spread.is_none() || self.upload.idle_ticks >= IDLE_TICKS
    }

    /// The peer was sent a block. With the last one of a piece it has that: it tells only those who lack it.
    pub(super) fn note_sent(&mut self, now: Time, id: ConnId, block: Block) {
        let end = self.layout.piece_length(block.piece);
        if self.is_super_seeding()
            && block.begin + block.length == end
            && self.picker.have().get(block.piece)
            && let Some(conn) = self.conns.get_mut(&id)
            && conn.has.set(block.piece)
        {
            self.picker.peer_has(block.piece);
            self.note_passed_on(now, id, block.piece);
        }
    }

    /// Looks for those who wait for others in vain, once a second.
    pub(super) fn tend_shown(&mut self, now: Time) {
        if !self.is_super_seeding() {
            return;
        }
        let silent =
            |conn: &Connection| conn.shown.is_none() && now - conn.opened_at >= SILENT_NEWCOMER;
        let silent: Vec<ConnId> = self
            .conns
            .values()
            .filter(|conn| silent(conn))
            .map(|c| c.id)
            .collect();
        for id in silent {
            // Its first word may come yet: whatever it says then is no second one.
            self.show_first(now, id);
        }
        let busy = |conn: &Connection| {
            conn.uploads.is_active() || (conn.am_choking && conn.peer_interested)
        };
        let is_busy = self.conns.values().any(|conn| busy(conn));
        self.upload.idle_ticks = match is_busy {
            true => 0,
            false => self.upload.idle_ticks.saturating_add(1),
        };
        let serves_alone = self.serves_alone();
        let mut free = Vec::new();
        for conn in self.conns.values_mut() {
            let served = conn.uploads.is_active() && conn.up.bytes_per_s(now) > 0;
            let waits_for_us = served || (conn.am_choking && conn.peer_interested);
            if let Some(shown) = &mut conn.shown {
                let alone = shown.is_alone(now);
                for (piece, since) in &mut shown.open {
                    if waits_for_us && !conn.has.get(*piece) {
                        *since = now;
                        if !alone {
                            shown.without_others = now;
                        }
                    }
                }
                let expects = |piece| !(alone && serves_alone && conn.has.get(piece));
                let is_fresh = |since: Time| now - since < SHOWN_PATIENCE;
                let counts = |piece, since| expects(piece) && is_fresh(since);
                shown.open.retain(|(piece, since)| counts(*piece, *since));
                if shown.open.is_empty() || alone {
                    free.push(conn.id);
                }
            }
        }
        for id in free {
            self.show(now, id);
        }
    }

    /// Shows the peer as many pieces as it may be shown now.
    fn show(&mut self, now: Time, id: ConnId) {
        loop {
            let Some(piece) = self.next_to_show(now, id) else {
                return;
            };
            let Some(conn) = self.conns.get_mut(&id) else {
                return;
            };
            let Some(shown) = &mut conn.shown else {
                return;
            };
            shown.open.push((piece, now));
            // Until it asks for it; if it leaves before, the piece is another's.
            conn.suggested.push(piece);
            tell(&mut self.out, now, conn, piece);
        }
    }

    fn next_to_show(&mut self, now: Time, id: ConnId) -> Option<PieceIndex> {
        let conn = self.conns.get(&id)?;
        let shown = conn.shown.as_ref()?;
        let alone = self.serves_alone() && shown.is_alone(now);
        let ahead = match alone {
            true => (SHOWN_ALONE_BYTES / self.layout.piece_length_max()) as usize,
            false => SHOWN_MAX,
        };
        if shown.open.len() >= ahead.max(SHOWN_MAX) {
            return None;
        }
        // What was lost since the start, or is in doubt, is shown to nobody.
        let (picker, disk) = (&self.picker, &self.disk);
        let is_here = |piece| picker.have().get(piece) && disk.trusts(piece);
        if let Some(spread) = &mut self.upload.spread {
            let passed_over = |piece| picker.availability(piece) > 0 || !is_here(piece);
            if let Some(piece) = spread.offer(passed_over) {
                return Some(piece);
            }
            self.upload.spread = None;
        }
        let mut rarest = None;
        let hidden = picker.have().iter_minus(&conn.has);
        for piece in hidden.filter(|piece| !conn.told.get(*piece) && disk.trusts(*piece)) {
            let copies = picker.availability(piece);
            if rarest.is_none_or(|(least, _)| copies < least) && !self.is_open_anywhere(piece) {
                rarest = Some((copies, piece));
            }
        }
        let (copies, piece) = rarest?;
        (copies == 0 || alone).then_some(piece)
    }

    /// True if somebody was shown the piece of late and it is not known to have passed it on.
    fn is_open_anywhere(&self, piece: PieceIndex) -> bool {
        let mut shown = self.conns.values().filter_map(|conn| conn.shown.as_ref());
        shown.any(|shown| shown.is_open(piece))
    }
}
