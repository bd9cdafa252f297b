//! Whom to upload to: the choking rounds, what happens between them, and what a seeder suggests.
//!
//! BEP 3 ("choking and optimistic unchoking"), BEP 6 ("allowed fast", "suggest piece"). The rounds themselves are
//! [`choker`](crate::choker)'s.

use super::upload::reject;
use super::{ConnId, Engine, send};
use crate::choker::{Candidate, Mode, slots_for_rate};
use crate::connection::Connection;
use crate::limits::{
    ENTRUSTED_PATIENCE, ENTRUSTED_RATE_BYTES_PER_S, RECHOKE, SLOT_GRACE, SUGGESTED_AHEAD,
    SUGGESTED_MAX, TAKEN_FREE_MIN_BYTES, TAKEN_FREE_PART, UPLOAD_QUEUE_MAX,
};
use crate::spread::Spread;
use bt_core::{Bitfield, Block, PieceIndex, Time};
use bt_wire::Message;
use core::time::Duration;

impl Engine {
    /// A round of the choker (BEP 3: every ten seconds).
    pub(super) fn rechoke(&mut self, now: Time) {
        self.upload.rechoke_at = now + RECHOKE;
        for conn in self.conns.values_mut() {
            conn.unchoked_at_once = false;
        }
        let measured = self.counters.up.bytes_per_s(now);
        let slots = self
            .config
            .upload_slots
            .unwrap_or_else(|| slots_for_rate(measured, self.config.up_limit));
        self.upload.slots = Some(slots);
        let mode = if self.complete {
            Mode::Seed
        } else {
            Mode::Leech
        };
        self.look_at_need(now);
        let candidates: Vec<Candidate> = self
            .conns
            .values()
            .map(|conn| candidate(conn, mode, now, self.only_takes(conn)))
            .collect();
        let mut served = candidates.clone();
        if self.spares() {
            let behind = self.left_behind(now);
            served.retain(|peer| behind.contains(&peer.conn));
        }
        let chosen = self.choker.round(mode, slots, &served, &mut self.rng);
        for candidate in &candidates {
            match (candidate.unchoked, chosen.contains(&candidate.conn)) {
                (false, true) => self.unchoke(now, candidate.conn),
                (true, false) => self.choke(now, candidate.conn),
                (true, true) | (false, false) => {}
            }
        }
    }

    /// True if the peer takes and gives nothing: of a seeder what nobody else has, of a leecher what it does not pay for.
    pub(super) fn only_takes(&self, conn: &Connection) -> bool {
        if self.complete {
            return self.keeps(conn.id);
        }
        let free_bytes = self.layout.total_length() / TAKEN_FREE_PART;
        conn.only_takes(free_bytes.max(TAKEN_FREE_MIN_BYTES))
    }

    /// True if the peer keeps pieces that it got alone, as long as not all are out. From then on all take turns.
    fn keeps(&self, id: ConnId) -> bool {
        self.upload.spread.is_some() && self.upload.entrusted.keeps(id)
    }

    /// True if a leecher gives the peer no slot between rounds, and what nobody else wants.
    fn is_taker(&self, conn: &Connection) -> bool {
        !self.complete && self.only_takes(conn)
    }

    /// True if the peer is served when nothing is on its way to others: of a leecher who only takes, of a seeder who has
    /// yet to pass on what it got alone.
    pub(super) fn comes_last(&self, conn: &Connection) -> bool {
        let waits = self.complete && self.upload.spread.is_some();
        self.only_takes(conn) || (waits && self.upload.entrusted.has_enough(conn.id))
    }

    /// The seeder sent a block. With the last one of a piece that nobody has the peer is entrusted with it, unless there is
    /// nobody to pass it on to, or it has enough and got this one because nobody else wanted anything.
    pub(super) fn note_entrusted(&mut self, now: Time, id: ConnId, block: Block) {
        let is_last = block.begin + block.length == self.layout.piece_length(block.piece);
        let piece = block.piece;
        if is_last
            && self.disk.trusts(piece)
            && let Some(spread) = &mut self.upload.spread
        {
            spread.sent(piece);
        }
        let is_rare = self.picker.availability(piece) == 0 || self.upload.entrusted.is_kept(piece);
        if self.upload.spread.is_some()
            && !self.is_super_seeding()
            && is_last
            && is_rare
            && !self.upload.entrusted.has_enough(id)
            && self
                .conns
                .values()
                .filter(|conn| conn.peer_interested)
                .count()
                > 1
        {
            self.upload.entrusted.give(now, id, piece);
        }
    }

    /// What was given to one peer alone, and kept by it, is offered to others.
    pub(super) fn tend_entrusted(&mut self, now: Time) {
        if let Some(spread) = &mut self.upload.spread {
            let piece_bytes = u64::from(self.layout.piece_length_max());
            let passing_on = Duration::from_secs(piece_bytes / ENTRUSTED_RATE_BYTES_PER_S);
            let kept = self
                .upload
                .entrusted
                .overdue(now, ENTRUSTED_PATIENCE + passing_on);
            spread.unsent(kept.into_iter());
        }
    }

    /// When all has been offered: what went to nobody to its end is offered once more, and the first copy is out when
    /// nothing is left of that kind, and it is known what became of what was entrusted.
    pub(super) fn tend_spread(&mut self, now: Time) {
        let is_over = self.upload.spread.as_ref().is_some_and(Spread::is_over);
        if !is_over || self.is_super_seeding() {
            return;
        }
        let (picker, disk) = (&self.picker, &self.disk);
        let is_here = |piece| picker.have().get(piece) && disk.trusts(piece);
        let is_elsewhere = |piece| picker.availability(piece) > 0 || !is_here(piece);
        let may_be_told = self.conns.values().any(|conn| may_be_told(conn));
        let is_settled = self.upload.entrusted.is_settled();
        let Some(spread) = self.upload.spread.as_mut() else {
            return;
        };
        let mut missing = spread.unfinished(is_elsewhere);
        let mut busy = Bitfield::new(self.layout.pieces_count());
        for conn in self.conns.values() {
            let begun = conn.uploads.under_way(now, &self.layout);
            let told = conn.suggested.iter().filter(|_| !conn.idles(now));
            let told = told.copied().chain(begun.map(|(piece, _)| piece));
            conn.uploads.pieces().chain(told).for_each(|piece| {
                busy.set(piece);
            });
        }
        let is_given_up = |piece: &PieceIndex| !busy.get(*piece) && spread.is_given_up(*piece);
        if is_settled && (missing.iter().all(is_given_up) || !may_be_told) {
            self.end_spread();
            // From now on all take turns, or none.
            self.upload.rechoke_at = now;
            return;
        }
        missing.retain(|piece| !busy.get(*piece));
        let again = spread.offer_again(&missing);
        if !again.is_empty() {
            self.tell_again(now, &again);
        }
    }

    /// Tells those of pieces, in ascending order, who take something; all, if nobody does.
    fn tell_again(&mut self, now: Time, pieces: &[PieceIndex]) {
        let mut takes = Vec::new();
        for conn in self.conns.values_mut() {
            if conn.idles(now) {
                // Who left them lie.
                conn.suggested
                    .retain(|piece| pieces.binary_search(piece).is_err());
            } else if may_be_told(conn) {
                takes.push(conn.id);
            }
        }
        if takes.is_empty() {
            takes.extend(self.conns.keys());
        }
        for id in takes {
            self.suggest(now, id);
        }
    }

    /// The first copy is out, as far as we can tell.
    pub(super) fn end_spread(&mut self) {
        self.upload.spread = None;
        self.upload.entrusted.settle();
    }

    fn slots(&self) -> usize {
        let chosen = self.upload.slots.or(self.config.upload_slots);
        chosen.unwrap_or_else(|| slots_for_rate(0, self.config.up_limit))
    }

    /// How many slots are taken. A seeder's are turns, which a peer has whatever it makes of them. A leecher's are taken by
    /// those who ask for something, or may be about to: a line must not lie idle because who is unchoked needs nothing. A
    /// number of slots that the user set is kept to strictly.
    fn slots_taken(&self, now: Time) -> usize {
        let strict = self.gives_turns() || self.config.upload_slots.is_some();
        let takes = |conn: &Connection| {
            if self.is_taker(conn) && self.config.upload_slots.is_none() {
                return false;
            }
            let may_ask = !conn.am_choking && conn.peer_interested;
            let fresh = strict || now - conn.choke_changed_at < SLOT_GRACE;
            (may_ask && fresh) || (!strict && conn.uploads.is_active())
        };
        self.conns.values().filter(|conn| takes(conn)).count()
    }

    /// True if a peer keeps its slot for a while, whatever it makes of it. What a super-seeder gives is little at a time: it
    /// would give a few pieces a round and lie idle.
    pub(super) fn gives_turns(&self) -> bool {
        self.complete && !self.is_super_seeding()
    }

    /// How many more peers may be unchoked before the next round. A seeder gives each slot once, so that nobody can collect
    /// turns by changing its mind; whoever is gone has given its turn back, also if it wanted nothing any more when it
    /// left. A leecher's line is everybody's who asks for something.
    fn slots_to_give(&self, now: Time) -> usize {
        if self.spares() {
            return 0;
        }
        let slots = self.slots();
        let free = slots.saturating_sub(self.slots_taken(now));
        if !self.gives_turns() {
            return free;
        }
        let given = self.conns.values().filter(|conn| conn.unchoked_at_once);
        free.min(slots.saturating_sub(given.count()))
    }

    /// Unchokes a peer that has just become interested, if a slot is free: it need not wait for the next round.
    pub(super) fn unchoke_if_free(&mut self, now: Time, id: ConnId) {
        let may = |conn: &Connection| conn.am_choking && !self.is_taker(conn);
        let may = self.conns.get(&id).is_some_and(|conn| may(conn));
        if may && self.slots_to_give(now) > 0 {
            self.unchoke_between_rounds(now, id);
        }
    }

    /// Slots have become free: a seeder gives them to who has waited longest, a leecher by lot.
    pub(super) fn fill_free_slots(&mut self, now: Time) {
        if !self.is_running() {
            return;
        }
        let free = self.slots_to_give(now);
        if free == 0 {
            return;
        }
        let waits = |conn: &Connection| conn.am_choking && conn.peer_interested;
        let waiting = self.conns.values();
        let waiting = waiting.filter(|conn| waits(conn) && !self.is_taker(conn));
        let mut waiting: Vec<(Time, ConnId)> = waiting
            .map(|conn| (conn.choke_changed_at, conn.id))
            .collect();
        if self.complete {
            waiting.sort_unstable_by_key(|(since, id)| (self.keeps(*id), *since, *id));
        } else {
            self.rng.shuffle(&mut waiting);
        }
        for (_, id) in waiting.into_iter().take(free) {
            self.unchoke_between_rounds(now, id);
        }
    }

    fn unchoke_between_rounds(&mut self, now: Time, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.unchoked_at_once = true;
        }
        self.unchoke(now, id);
    }

    /// A peer asks for a piece that we have and may give.
    pub(super) fn note_asked(&mut self, now: Time, id: ConnId, piece: PieceIndex) {
        let Some(spread) = &mut self.upload.spread else {
            return;
        };
        spread.asked(piece);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.suggested.retain(|suggested| *suggested != piece);
        }
        self.suggest(now, id);
    }

    /// Names pieces to the peer that nobody else is being sent (BEP 6, "suggest piece"): those after what it has asked for.
    /// None while it is choked, though it may go on asking for the piece that was under way: it could not ask for them, and
    /// nobody else would be told of them until it can.
    fn suggest(&mut self, now: Time, id: ConnId) {
        if self.is_super_seeding() {
            return;
        }
        let Some(spread) = &mut self.upload.spread else {
            return;
        };
        let entrusted = &self.upload.entrusted;
        let may = |conn: &Connection| may_be_told(conn) && !entrusted.keeps(conn.id);
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| may(conn)) {
            let blocks = self.layout.blocks_count_max();
            let ahead = SUGGESTED_AHEAD + conn.uploads.len() / blocks;
            let (picker, disk) = (&self.picker, &self.disk);
            let is_here = |piece| picker.have().get(piece) && disk.trusts(piece);
            let is_out = |piece| picker.availability(piece) > 0 && !entrusted.is_kept(piece);
            // What others have brought it by now makes room. It stays in the list: if nobody has it in the end, it is offered anew.
            let open = conn.suggested.iter().filter(|piece| !is_out(**piece));
            let mut open = open.count();
            while open < ahead && conn.suggested.len() < SUGGESTED_MAX {
                let passed_over = |piece| is_out(piece) || conn.has.get(piece) || !is_here(piece);
                let Some(piece) = spread.offer(passed_over) else {
                    break;
                };
                conn.suggested.push(piece);
                open += 1;
                let message = Message::SuggestPiece { piece: piece.get() };
                send(&mut self.out, now, conn, message);
            }
        }
    }

    fn unchoke(&mut self, now: Time, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.am_choking = false;
        }
        // Before the message, so that the peer's first choice can go by it.
        self.suggest(now, id);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.end_rest();
            conn.choked_requests = 0;
            conn.choke_changed_at = now;
            send(&mut self.out, now, conn, Message::Unchoke);
        }
    }

    /// Chokes, and then rejects what was asked (BEP 6), but for pieces that are allowed fast. The piece that is under way
    /// becomes one: half a piece is of no use to the swarm, unless its holder gives nothing anyway.
    fn choke(&mut self, now: Time, id: ConnId) {
        let conn = self.conns.get(&id);
        let is_taker = conn.is_some_and(|conn| self.is_taker(conn));
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.am_choking = true;
        conn.choke_changed_at = now;
        conn.asked_ahead = !conn.fast && conn.uploads.len() >= UPLOAD_QUEUE_MAX / 2;
        if let Some((piece, rest)) = conn.uploads.under_way(now, &self.layout)
            && conn.fast
            && !is_taker
            && !conn.has.get(piece)
            && conn.allow_rest(piece, rest)
        {
            let piece = piece.get();
            send(&mut self.out, now, conn, Message::AllowedFast { piece });
        }
        send(&mut self.out, now, conn, Message::Choke);
        // What stays is of the allowance too.
        let mut uploads = core::mem::take(&mut conn.uploads);
        let dropped = uploads.clear(|block| conn.fast && conn.use_allowance(block));
        conn.uploads = uploads;
        // What a super-seeder has shown stays shown.
        if let Some(spread) = &mut self.upload.spread
            && conn.shown.is_none()
        {
            spread.withdraw(conn.suggested.drain(..));
            spread.unsent(dropped.iter().map(|block| block.piece));
        }
        for block in dropped {
            reject(&mut self.out, now, conn, block);
        }
    }
}

/// True if pieces can be suggested to the peer.
const fn may_be_told(conn: &Connection) -> bool {
    conn.fast && !conn.am_choking
}

fn candidate(conn: &Connection, mode: Mode, now: Time, only_takes: bool) -> Candidate {
    let meter = match mode {
        Mode::Leech => &conn.down,
        Mode::Seed => &conn.up,
    };
    Candidate {
        conn: conn.id,
        interested: conn.peer_interested,
        unchoked: !conn.am_choking,
        since: now - conn.choke_changed_at,
        rate: meter.bytes_per_s(now),
        snubbed: conn.snubs_us(now),
        new: conn.is_new(now),
        only_takes,
    }
}
