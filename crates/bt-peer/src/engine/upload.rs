//! What peers get: their requests, the choking rounds, and the order in which blocks leave.
//!
//! BEP 3 ("request", "choking and optimistic unchoking"), BEP 6 ("reject request", "allowed fast"). Peers with queued
//! requests and an open window take turns, a block each.

use super::download::address;
use super::{ConnId, Engine, Output, send};
use crate::Event;
use crate::choker::{Candidate, Mode, slots_for_rate};
use crate::connection::{Connection, Fault, Violation};
use crate::limits::{
    CHOKED_REQUESTS_MAX, RECHOKE, REQUEST_BYTES_MAX, UPLOAD_SLOTS_MIN, UPLOAD_SLOTS_START,
};
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
    /// When the up limit lets the next block pass, if somebody waits for it.
    pub(super) at: Option<Time>,
    pub(super) rechoke_at: Time,
    /// Slots of the last round.
    slots: Option<usize>,
    /// Peers unchoked since the last round, without waiting for the next.
    at_once: usize,
    /// The user was told that the upload goal is reached.
    goal_told: bool,
}

impl Upload {
    pub(super) const fn new(limiter: RateLimiter) -> Self {
        Self {
            limiter,
            line: VecDeque::new(),
            at: None,
            rechoke_at: Time::ZERO,
            slots: None,
            at_once: 0,
            goal_told: false,
        }
    }
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
        if !self.picker.have().get(block.piece) {
            conn.fault(Fault::UnknownPiece)?;
            reject(&mut self.out, now, conn, block);
            return Ok(());
        }
        let allowed = !conn.am_choking || conn.use_allowance(block);
        if !allowed {
            conn.choked_requests += 1;
            if conn.choked_requests > CHOKED_REQUESTS_MAX {
                return Err(Violation::RequestFlood);
            }
        }
        if !allowed || !self.disk.trusts(block.piece) {
            reject(&mut self.out, now, conn, block);
        } else if conn.uploads.push(block) {
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
            Ok(()) => self.counters.up.add(now, u64::from(block.length)),
            Err(error) => self.doubt(now, block.piece, error),
        }
        self.wants_upload(id);
    }

    fn wants_upload(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id)
            && !conn.in_upload
            && conn.uploads.is_ready()
        {
            conn.in_upload = true;
            self.upload.line.push_back(id);
        }
    }

    /// Orders blocks to be sent, in turns, as many as windows and the up limit allow.
    pub(super) fn order_uploads(&mut self, now: Time) {
        self.upload.at = None;
        self.tell_upload_goal();
        while let Some(id) = self.upload.line.front().copied() {
            if self.is_upload_goal_ordered() {
                return;
            }
            let ready_at = self.upload.limiter.ready_at(now);
            if ready_at > now {
                self.upload.at = Some(ready_at);
                return;
            }
            self.upload.line.pop_front();
            let Some(conn) = self.conns.get_mut(&id) else {
                continue;
            };
            if let Some(block) = conn.uploads.order(now) {
                self.upload.limiter.take(now, u64::from(block.length));
                self.out.push_back(Output::Upload { conn: id, block });
            }
            conn.in_upload = conn.uploads.is_ready();
            if conn.in_upload {
                self.upload.line.push_back(id);
            }
        }
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

    /// A round of the choker (BEP 3: every ten seconds).
    pub(super) fn rechoke(&mut self, now: Time) {
        self.upload.rechoke_at = now + RECHOKE;
        self.upload.at_once = 0;
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
        let candidates: Vec<Candidate> = self
            .conns
            .values()
            .map(|conn| candidate(conn, mode, now))
            .collect();
        let chosen = self.choker.round(mode, slots, &candidates, &mut self.rng);
        for candidate in &candidates {
            match (candidate.unchoked, chosen.contains(&candidate.conn)) {
                (false, true) => self.unchoke(now, candidate.conn),
                (true, false) => self.choke(now, candidate.conn),
                (true, true) | (false, false) => {}
            }
        }
    }

    fn slots(&self) -> usize {
        let start = if self.config.up_limit.is_some() {
            UPLOAD_SLOTS_MIN
        } else {
            UPLOAD_SLOTS_START
        };
        self.upload
            .slots
            .or(self.config.upload_slots)
            .unwrap_or(start)
    }

    /// Unchokes a peer that has just become interested, if a slot is free: it need not wait for the next round. The
    /// number of such unchokes between two rounds is bounded, so that nobody can collect slots by changing its mind.
    pub(super) fn unchoke_if_free(&mut self, now: Time, id: ConnId) {
        let slots = self.slots();
        let taken = self
            .conns
            .values()
            .filter(|conn| !conn.am_choking && conn.peer_interested)
            .count();
        let choked = self.conns.get(&id).is_some_and(|conn| conn.am_choking);
        if choked && taken < slots && self.upload.at_once < slots {
            self.upload.at_once += 1;
            self.unchoke(now, id);
        }
    }

    /// A slot has become free: whoever has waited longest gets it.
    pub(super) fn fill_free_slot(&mut self, now: Time) {
        self.upload.at_once = self.upload.at_once.saturating_sub(1);
        let waiting = self
            .conns
            .values()
            .filter(|conn| conn.am_choking && conn.peer_interested);
        let longest = waiting.min_by_key(|conn| (conn.choke_changed_at, conn.id));
        if let Some(id) = longest.map(|conn| conn.id) {
            self.unchoke_if_free(now, id);
        }
    }

    fn unchoke(&mut self, now: Time, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.am_choking = false;
            conn.choked_requests = 0;
            conn.choke_changed_at = now;
            send(&mut self.out, now, conn, Message::Unchoke);
        }
    }

    /// Chokes, and then rejects what was asked (BEP 6), but for pieces that are allowed fast.
    fn choke(&mut self, now: Time, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.am_choking = true;
        conn.choke_changed_at = now;
        send(&mut self.out, now, conn, Message::Choke);
        let allowed = core::mem::take(&mut conn.allowed_to_peer);
        let dropped = conn
            .uploads
            .clear(|block| conn.fast && allowed.contains(&block.piece));
        conn.allowed_to_peer = allowed;
        for block in dropped {
            reject(&mut self.out, now, conn, block);
        }
    }
}

fn candidate(conn: &Connection, mode: Mode, now: Time) -> Candidate {
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
    }
}

/// Says that a request will not be served, to a peer that understands it.
fn reject(out: &mut VecDeque<Output>, now: Time, conn: &mut Connection, block: Block) {
    if conn.fast {
        send(out, now, conn, Message::RejectRequest(address(block)));
    }
}
