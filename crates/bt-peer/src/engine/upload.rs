//! What peers get: their requests, and the order in which blocks leave.
//!
//! BEP 3 ("request"), BEP 6 ("reject request"). Peers with queued requests and an open window take turns, a block
//! each, or some where a limit sets the pace.

use super::download::address;
use super::sparing::Sparing;
use super::{ConnId, Engine, Output, send};
use crate::Event;
use crate::connection::{Connection, Fault, Violation};
use crate::entrusted::Entrusted;
use crate::limits::{
    CHOKED_REQUESTS_AHEAD_MAX, CHOKED_REQUESTS_MAX, GRANT, REQUEST_BYTES_MAX, UPLOAD_OVERRUN_MAX,
    UPLOAD_QUEUE_MAX, UPLOAD_TURN_MAX_BYTES,
};
use crate::spread::Spread;
use bt_core::disk::DiskError;
use bt_core::{Block, RateLimiter, Time};
use bt_wire::Message;
use bt_wire::message::BlockAddress;
use std::collections::VecDeque;

/// The uploading half of an engine, as far as it is not a connection's own.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) limiter: RateLimiter,
    /// Connections with something to send; each is in here once.
    line: VecDeque<ConnId>,
    /// The same of those who come last; a connection is in one of the two.
    last: VecDeque<ConnId>,
    /// What the first in line has got since its turn began, in bytes.
    turn_bytes: u64,
    /// When the up limit hands out blocks again, if somebody waits for them; none before.
    pub(super) at: Option<Time>,
    pub(super) rechoke_at: Time,
    /// What goes out first, until each piece has gone out once.
    pub(super) spread: Option<Spread>,
    /// What was given to one peer alone meanwhile.
    pub(super) entrusted: Entrusted,
    /// We were complete from the start, and show each peer a piece or two at a time (BEP 16).
    pub(super) super_seeding: bool,
    /// At how many looks in a row nobody waited for anything of us; counted while super-seeding.
    pub(super) idle_ticks: u32,
    /// Whether leechers can do without us.
    pub(super) sparing: Sparing,
    /// Slots of the last round.
    pub(super) slots: Option<usize>,
    /// The user was told that the upload goal is reached.
    goal_told: bool,
}

impl Upload {
    pub(super) fn new(limiter: RateLimiter) -> Self {
        Self {
            limiter,
            line: VecDeque::new(),
            last: VecDeque::new(),
            turn_bytes: 0,
            at: None,
            rechoke_at: Time::ZERO,
            spread: None,
            entrusted: Entrusted::default(),
            super_seeding: false,
            idle_ticks: 0,
            sparing: Sparing::default(),
            slots: None,
            goal_told: false,
        }
    }
}

/// True if nothing more should be read of the peer, for what waits for it.
pub(super) fn is_swamped(conn: &Connection) -> bool {
    !conn.fast && conn.uploads.len() >= UPLOAD_QUEUE_MAX
}

impl Engine {
    pub(super) fn requested(
        &mut self,
        now: Time,
        id: ConnId,
        asked: BlockAddress,
    ) -> Result<(), Violation> {
        let block = self
            .layout
            .block(asked.piece, asked.begin, asked.length)
            .filter(|block| block.length <= REQUEST_BYTES_MAX);
        let Some(conn) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        let Some(block) = block else {
            if conn.fast {
                conn.fault(Fault::UnknownPiece)?;
                send(&mut self.out, now, conn, Message::RejectRequest(asked));
                return Ok(());
            }
            return Err(Violation::BadRequest {
                piece: asked.piece,
                begin: asked.begin,
                length: asked.length,
            });
        };
        if !self.picker.have().get(block.piece) || !Self::is_shown(conn, block.piece) {
            if !self.disk.lost.contains(&block.piece) {
                conn.fault(Fault::UnknownPiece)?;
            }
            reject(&mut self.out, now, conn, block);
            return Ok(());
        }
        let allowed = !conn.am_choking || conn.use_allowance(block);
        if !allowed {
            conn.choked_requests += 1;
            let most = match conn.asked_ahead {
                true => CHOKED_REQUESTS_AHEAD_MAX,
                false => CHOKED_REQUESTS_MAX,
            };
            if conn.choked_requests > most {
                return Err(Violation::RequestFlood);
            }
        }
        if !allowed || !self.disk.trusts(block.piece) {
            reject(&mut self.out, now, conn, block);
        } else if conn.uploads.push(block, queue_max(conn)) {
            self.note_asked(now, id, block.piece);
            self.wants_upload(id);
        } else if conn.fast {
            reject(&mut self.out, now, conn, block);
        } else {
            return Err(Violation::RequestFlood);
        }
        Ok(())
    }

    pub(super) fn cancelled(&mut self, now: Time, id: ConnId, cancelled: BlockAddress) {
        let block = self
            .layout
            .block(cancelled.piece, cancelled.begin, cancelled.length);
        if let (Some(block), Some(conn)) = (block, self.conns.get_mut(&id))
            && conn.uploads.cancel(block)
        {
            reject(&mut self.out, now, conn, block);
        }
    }

    pub(super) fn uploaded(
        &mut self,
        now: Time,
        id: ConnId,
        block: Block,
        result: Result<(), DiskError>,
    ) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.uploads.done(now, block);
            match &result {
                Ok(()) => {
                    conn.up.add(now, u64::from(block.length));
                    conn.sent_at = now;
                }
                Err(_) => reject(&mut self.out, now, conn, block),
            }
        }
        match result {
            Ok(()) => {
                self.counters.up.add(now, u64::from(block.length));
                self.note_sent(now, id, block);
                self.note_entrusted(now, id, block);
            }
            Err(error) => self.doubt(now, block.piece, error),
        }
        self.wants_upload(id);
        let conn = self.conns.get(&id);
        if !self.gives_turns() && conn.is_some_and(|conn| !conn.uploads.is_active()) {
            self.fill_free_slots(now);
        }
    }

    /// True if so much waits for a peer without the fast extension that nothing more should be read of it until some
    /// has gone out. A peer with the fast extension knows by `reqq` and by rejections.
    #[must_use]
    pub fn is_swamped(&self, id: ConnId) -> bool {
        self.conns.get(&id).is_some_and(|conn| is_swamped(conn))
    }

    fn wants_upload(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id)
            && !conn.in_upload
            && conn.uploads.is_ready()
        {
            conn.in_upload = true;
            self.stand_in_line(id);
        }
    }

    fn stand_in_line(&mut self, id: ConnId) {
        let conn = self.conns.get(&id);
        if conn.is_some_and(|conn| self.comes_last(conn)) {
            self.upload.last.push_back(id);
        } else {
            self.upload.line.push_back(id);
        }
    }

    /// Whose turn it is: those who come last have theirs when nothing is on its way to others, or has not moved for a while.
    fn next_in_line(&mut self, now: Time) -> Option<ConnId> {
        if self.upload.line.is_empty() && !self.upload.last.is_empty() {
            let is_served =
                |conn: &Connection| conn.uploads.is_moving(now) && !self.comes_last(conn);
            if !self.conns.values().any(|conn| is_served(conn)) {
                let next = self.upload.last.pop_front();
                self.upload.line.extend(next);
            }
        }
        self.upload.line.front().copied()
    }

    /// Who came last may not do so any more, and who is gone stands in no line.
    pub(super) fn tend_line(&mut self) {
        for id in core::mem::take(&mut self.upload.last) {
            if self.conns.contains_key(&id) {
                self.stand_in_line(id);
            }
        }
    }

    /// Orders blocks to be sent, in turns, as many as windows and the up limit allow.
    pub(super) fn order_uploads(&mut self, now: Time) {
        self.tell_upload_goal();
        if self.upload.at.is_some_and(|at| now < at) {
            return;
        }
        self.upload.at = None;
        while let Some(id) = self.next_in_line(now) {
            if self.is_upload_goal_ordered() {
                return;
            }
            let ready_at = self.upload.limiter.ready_at(now);
            if ready_at > now {
                self.upload.at = Some(ready_at + GRANT);
                return;
            }
            self.upload.line.pop_front();
            let Some(conn) = self.conns.get_mut(&id) else {
                self.upload.turn_bytes = 0;
                continue;
            };
            if let Some(block) = conn.uploads.order(now) {
                self.upload.limiter.take(now, u64::from(block.length));
                self.upload.turn_bytes += u64::from(block.length);
                self.out.push_back(Output::Upload { conn: id, block });
            }
            conn.in_upload = conn.uploads.is_ready();
            if conn.in_upload && self.is_turn_on(id) {
                self.upload.line.push_front(id);
                continue;
            }
            self.upload.turn_bytes = 0;
            if self.conns.get(&id).is_some_and(|conn| conn.in_upload) {
                self.stand_in_line(id);
            }
        }
    }

    /// True if whose turn it is may have another block. Without a limit a turn is one block; with one it is half of what the
    /// limit hands out at a time, as each line that has a part in it wakes this program and the peer's.
    fn is_turn_on(&self, id: ConnId) -> bool {
        let Some(rate) = self.upload.limiter.rate() else {
            return false;
        };
        let grant_bytes = u128::from(rate) * GRANT.as_nanos() / 1_000_000_000;
        // A round of all who wait is a second at most.
        let part_bytes = u128::from(rate) / (self.upload.line.len() as u128 + 1);
        let turn_bytes = (grant_bytes / 2).min(u128::from(UPLOAD_TURN_MAX_BYTES));
        let turn_bytes = turn_bytes.min(part_bytes);
        let conn = self.conns.get(&id);
        u128::from(self.upload.turn_bytes) < turn_bytes
            && conn.is_some_and(|conn| !self.comes_last(conn))
    }

    /// Says once that the upload goal is reached.
    fn tell_upload_goal(&mut self) {
        let reached = |goal| self.counters.up.total() >= goal;
        if self.complete && !self.upload.goal_told && self.config.upload_goal.is_some_and(reached) {
            self.upload.goal_told = true;
            self.emit(Event::UploadGoalReached);
        }
    }

    /// True if the upload goal is reached when all has been sent that is ordered.
    fn is_upload_goal_ordered(&self) -> bool {
        let ordered = || self.conns.values().map(|conn| conn.uploads.ordered_bytes());
        let reached = |goal| self.counters.up.total() + ordered().sum::<u64>() >= goal;
        self.complete && self.config.upload_goal.is_some_and(reached)
    }
}

/// How many requests of the peer are queued at most.
pub(super) const fn queue_max(conn: &Connection) -> usize {
    if conn.fast {
        UPLOAD_QUEUE_MAX
    } else {
        UPLOAD_QUEUE_MAX + UPLOAD_OVERRUN_MAX
    }
}

/// Says that a request will not be served, to a peer that understands it.
pub(super) fn reject(out: &mut VecDeque<Output>, now: Time, conn: &mut Connection, block: Block) {
    if conn.fast {
        send(out, now, conn, Message::RejectRequest(address(block)));
    }
}
