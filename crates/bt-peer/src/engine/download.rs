//! What is asked of peers, and what comes of it.
//!
//! Connections with room in their request queue wait in line; each turn fills as many as the down limit, the disk and
//! the bound on all requests allow. **Invariant:** `outstanding` is the sum of the lengths of all request queues.

use super::behind::Flow;
use super::receive::has_room;
use super::{ConnId, Engine, Output, send};
use crate::connection::{Fault, Violation};
use crate::limits::{
    ENDGAME_PATIENCE_MAX, ENDGAME_PATIENCE_MIN, GRANT, REQUESTS_FIRST_PIECE, REQUESTS_START,
    REQUESTS_TOTAL_MAX,
};
use crate::picker::Receipt;
use crate::requests::Answer;
use crate::smart_ban::Sender;
use bt_core::disk::Job;
use bt_core::{BLOCK_BYTES, Bitfield, Block, RateLimiter, Time};
use bt_wire::Message;
use bt_wire::message::BlockAddress;
use bytes::Bytes;
use core::time::Duration;
use std::collections::VecDeque;

/// The downloading half of an engine, as far as it is not a connection's own.
#[derive(Debug)]
pub(super) struct Download {
    pub(super) limiter: RateLimiter,
    /// Connections that want to request; each is in here once.
    line: VecDeque<ConnId>,
    /// When the down limit lets requests pass again, if somebody waits for it; none before.
    pub(super) at: Option<Time>,
    outstanding: usize,
    /// How many requests one connection may have, so that all get their part; renewed when it is `None`.
    fair: Option<usize>,
    /// Every missing block is asked for.
    endgame: Option<Endgame>,
    /// When blocks may be asked of one more peer, while that is to come and somebody waits for it.
    endgame_at: Option<Time>,
    /// Blocks became free that other connections could be asked for.
    pub(super) released: bool,
    /// When a seeder of which less was asked than it has room for is looked at again, if there is one.
    pub(super) spared_until: Option<Time>,
    pub(super) flow: Flow,
    picked: Vec<Block>,
}

/// The time in which every missing block is asked for.
#[derive(Clone, Copy, Debug)]
struct Endgame {
    since: Time,
    /// In which what is on its way is likely to come.
    patience: Duration,
}

impl Endgame {
    /// When blocks may be asked of one more peer whose blocks take this long: those on their way have waited for twice as
    /// long by then, and its own may come first. Until then they would come second: where everybody's blocks stand before
    /// our full line, it would be asked for the same ones again and again.
    fn ready_at(&self, block_time: Duration) -> Time {
        self.since + self.patience.max(block_time * 2)
    }
}

impl Download {
    pub(super) fn new(limiter: RateLimiter) -> Self {
        Self {
            limiter,
            line: VecDeque::new(),
            at: None,
            outstanding: 0,
            fair: None,
            endgame: None,
            endgame_at: None,
            released: false,
            spared_until: None,
            flow: Flow::default(),
            picked: Vec::new(),
        }
    }

    pub(super) const fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// When there is something to do that no fact will tell.
    pub(super) fn deadline(&self) -> Option<Time> {
        let timers = [self.at, self.endgame_at, self.spared_until];
        timers.into_iter().flatten().min()
    }

    /// Requests were given up with their connection.
    pub(super) const fn lost(&mut self, requests: usize) {
        self.outstanding -= requests;
        self.released = true;
        self.fair = None;
    }

    /// The number of connections that can be asked has changed.
    pub(super) const fn recount(&mut self) {
        self.fair = None;
    }
}

impl Engine {
    /// Puts a connection in line for requests, if it has room for some.
    pub(super) fn wants_requests(&mut self, now: Time, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id)
            && !conn.in_fill
            && has_room(conn, now)
        {
            conn.in_fill = true;
            self.download.line.push_back(id);
        }
    }

    /// Sends requests to those in line, as many as may be.
    pub(super) fn request_blocks(&mut self, now: Time) {
        self.mind_endgame(now);
        self.end_sparing(now);
        if core::mem::take(&mut self.download.released) {
            let mut ids: Vec<_> = self.conns.keys().copied().collect();
            // Who was given up on comes last: it would take the same blocks again, and a piece on parole for good.
            ids.sort_by_key(|id| {
                let conn = self.conns.get(id);
                conn.is_some_and(|conn| conn.requests.is_snubbed())
            });
            for id in ids {
                self.wants_requests(now, id);
            }
        }
        if self.download.at.is_some_and(|at| now < at) {
            return;
        }
        self.download.at = None;
        while let Some(id) = self.download.line.front().copied() {
            if self.complete || !self.disk.takes_more() {
                // Whoever stands in line is served when the disk has caught up.
                return;
            }
            let total_max = self.disk.requests_max().unwrap_or(REQUESTS_TOTAL_MAX);
            let free = total_max.saturating_sub(self.download.outstanding);
            if free == 0 {
                return;
            }
            let ready_at = self.download.limiter.ready_at(now);
            if ready_at > now {
                self.download.at = Some(ready_at + GRANT);
                return;
            }
            self.download.line.pop_front();
            let paced = self.download.limiter.rate().is_some();
            let again = self.request_from(now, id, if paced { 1 } else { free });
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.in_fill = paced && again;
                if conn.in_fill {
                    self.download.line.push_back(id);
                }
            }
        }
    }

    /// Requests up to `count` blocks of one peer; true if it has room for more and there was something to ask for.
    fn request_from(&mut self, now: Time, id: ConnId, count: usize) -> bool {
        let fair = self.fair_share();
        let first = self.first_piece();
        let spares = self.leaves_to_leechers(now, id);
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.may_request()) else {
            return false;
        };
        if let Some(blocks) = first {
            conn.requests.start_with(blocks);
        }
        let room = conn
            .requests
            .room(now)
            .min(fair.saturating_sub(conn.requests.len()));
        let only = conn.peer_choking.then_some(conn.allowed_to_us.as_slice());
        let endgame = self.download.endgame;
        let ready_at = endgame.map(|endgame| endgame.ready_at(conn.requests.block_time()));
        let waits_until = ready_at.filter(|at| *at > now);
        let picked = &mut self.download.picked;
        picked.clear();
        let count = room.min(count);
        if count > 0 && spares && only.is_none() {
            self.picker
                .pick_alone(id, &conn.has, count, &mut self.rng, picked);
        } else if count > 0
            && let Some(at) = waits_until
        {
            let next = self.download.endgame_at;
            self.download.endgame_at = Some(next.map_or(at, |next| next.min(at)));
        } else if count > 0 {
            self.picker
                .pick(id, &conn.has, only, count, &mut self.rng, picked);
        }
        let found = !picked.is_empty();
        let spared = spares && picked.len() < count;
        for block in picked.drain(..) {
            self.download.limiter.take(now, u64::from(block.length));
            self.download.outstanding += 1;
            conn.requests.sent(now, block);
            send(&mut self.out, now, conn, Message::Request(address(block)));
        }
        if spared {
            self.spare(now);
        }
        found && room > count
    }

    /// The blocks of a piece, as many as are asked for at once while we have nothing and nobody was asked for any.
    fn first_piece(&self) -> Option<usize> {
        let is_first = self.download.outstanding == 0 && self.picker.have().is_empty();
        let length = u64::from(self.layout.piece_length_max());
        let blocks = usize::try_from(length.div_ceil(u64::from(BLOCK_BYTES))).unwrap_or(usize::MAX);
        is_first.then_some(blocks.min(REQUESTS_FIRST_PIECE))
    }

    /// Lets a while pass between the last request and the first that is made twice.
    fn mind_endgame(&mut self, now: Time) {
        if !self.picker.in_endgame() {
            self.download.endgame = None;
            self.download.endgame_at = None;
        } else if self.download.endgame.is_none() {
            let asked = self.conns.values().filter(|conn| !conn.requests.is_empty());
            let block_time = asked.map(|conn| conn.requests.block_time()).max();
            let patience = block_time.unwrap_or_default() * 2;
            let patience = patience.clamp(ENDGAME_PATIENCE_MIN, ENDGAME_PATIENCE_MAX);
            let since = now;
            self.download.endgame = Some(Endgame { since, patience });
            self.download.endgame_at = Some(now + patience);
        } else if self.download.endgame_at.is_some_and(|at| now >= at) {
            self.download.endgame_at = None;
            self.download.released = true;
        }
    }

    /// An equal part of all requests for every peer that can be asked, but never less than a start.
    fn fair_share(&mut self) -> usize {
        let conns = &self.conns;
        *self.download.fair.get_or_insert_with(|| {
            let active = conns.values().filter(|conn| conn.may_request()).count();
            (REQUESTS_TOTAL_MAX / active.max(1)).max(REQUESTS_START)
        })
    }

    pub(super) fn block_came(
        &mut self,
        now: Time,
        id: ConnId,
        piece: u32,
        begin: u32,
        data: Bytes,
    ) -> Result<(), Violation> {
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let Some(conn) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        conn.down.add(now, u64::from(length));
        let block = self.layout.block(piece, begin, length);
        let answer = block.map_or(Answer::Unasked, |block| conn.requests.received(now, block));
        let Some(block) = block.filter(|_| answer != Answer::Unasked) else {
            self.counters.wasted += u64::from(length);
            conn.account.wasted += u64::from(length);
            return conn.fault(Fault::UnaskedBlock);
        };
        conn.gave_at = now;
        conn.holds_back = false;
        let from_leecher = !conn.came_complete;
        self.download.flow.add(now, u64::from(length), from_leecher);
        if answer == Answer::Expected {
            self.download.outstanding -= 1;
        }
        let low = conn.requests.is_low(now);
        let addr = conn.addr;
        if self.disk.is_failing() {
            // It would be lost, and its piece with it.
            self.picker.release(id, block);
            self.counters.wasted += u64::from(length);
            return Ok(());
        }
        match self.picker.received(id, block) {
            Receipt::Duplicate => {
                self.counters.wasted += u64::from(length);
                conn.account.wasted += u64::from(length);
            }
            Receipt::Wanted { cancel } => {
                conn.account.served += u64::from(length);
                for other in cancel {
                    self.cancel_request(now, other, block);
                }
                self.smart_ban.received(block, Sender { conn: id, addr });
                self.disk.handed_over(length);
                self.out.push_back(Output::Disk(Job::Write { block, data }));
            }
        }
        if low {
            self.look_at_spared(now);
            self.wants_requests(now, id);
        }
        Ok(())
    }

    /// The block came from elsewhere (BEP 3, "cancel").
    fn cancel_request(&mut self, now: Time, id: ConnId, block: Block) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        if conn.requests.cancel(block) {
            self.download.outstanding -= 1;
            send(&mut self.out, now, conn, Message::Cancel(address(block)));
            self.wants_requests(now, id);
        }
    }

    pub(super) fn rejected(
        &mut self,
        now: Time,
        id: ConnId,
        rejected: BlockAddress,
    ) -> Result<(), Violation> {
        let block = self
            .layout
            .block(rejected.piece, rejected.begin, rejected.length);
        let Some(conn) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        let choking = conn.peer_choking;
        let answer = block.map(|block| (block, conn.requests.rejected(now, block, choking)));
        match answer {
            Some((block, Answer::Expected)) => {
                if choking {
                    conn.allowed_to_us.retain(|piece| *piece != block.piece);
                } else {
                    conn.account.over_claim(1);
                }
                self.download.outstanding -= 1;
                self.picker.release(id, block);
                self.download.released = true;
                Ok(())
            }
            Some((_, Answer::Late)) => Ok(()),
            Some((_, Answer::Unasked)) | None => conn.fault(Fault::UnaskedReject),
        }
    }

    /// The peer will not answer what it was asked.
    pub(super) fn drop_requests(&mut self, id: ConnId) -> Vec<Block> {
        let Some(conn) = self.conns.get_mut(&id) else {
            return Vec::new();
        };
        let blocks = conn.requests.give_up();
        self.picker.release_all(id);
        self.download.lost(blocks.len());
        blocks
    }

    /// The peer is not to answer any more what it was asked.
    pub(super) fn take_back_requests(&mut self, now: Time, id: ConnId) {
        let blocks = self.drop_requests(id);
        if let Some(conn) = self.conns.get_mut(&id) {
            for block in blocks {
                send(&mut self.out, now, conn, Message::Cancel(address(block)));
            }
        }
    }

    /// The user's choice of pieces has changed.
    pub(super) fn want(&mut self, now: Time, wanted: &Bitfield) {
        self.picker.set_wanted(wanted);
        self.recount_interest(now);
        self.check_complete(now);
        self.complete = false;
        self.note_completion(now);
        self.tell_upload_only(now);
        self.download.released = true;
    }
}

/// The block as the wire names it.
pub(super) const fn address(block: Block) -> BlockAddress {
    BlockAddress {
        piece: block.piece.get(),
        begin: block.begin,
        length: block.length,
    }
}
