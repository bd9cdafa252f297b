//! The requests outstanding to one peer, and how many there should be.
//!
//! The queue is sized by the bandwidth-delay product: what arrives in one round trip, and a margin. It starts small,
//! grows by one with each block while the rate still grows (as TCP's slow start does), and follows the measured rate
//! after that; so a fast link is kept full, and a slow peer holds few blocks.
//!
//! **Invariant:** a block is outstanding at most once, and a block that was given up stays known for a while, so that its
//! late arrival, or its rejection, is told apart from something nobody asked for.
//!
//! BEP 3 ("request", pipelining), BEP 6 ("every request is guaranteed to result in exactly one response").

use crate::limits::{
    LATE_REQUESTS_MAX, REJECT_PAUSE, REJECT_PAUSE_MAX, REQQ_DEFAULT, REQUEST_AGE_MAX,
    REQUEST_MARGIN, REQUEST_TIMEOUT, REQUESTS_MAX, REQUESTS_SPARE_MAX, REQUESTS_SPARE_MIN,
    REQUESTS_SPARE_PART, REQUESTS_SPARE_TIME, REQUESTS_START, TAKEN_BACK_MAX,
};
use bt_core::{BLOCK_BYTES, Block, Layout, PieceIndex, Time};
use core::time::Duration;
use std::collections::VecDeque;

/// What an answer of the peer answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An outstanding request.
    Expected,
    /// A request that was given up or cancelled.
    Late,
    /// Nothing that was ever asked, as far as is remembered.
    Unasked,
}

/// The request queue of one connection.
#[derive(Clone, Debug)]
pub struct Requests {
    /// In the order in which they were sent, which is the order in which most peers answer.
    outstanding: VecDeque<Sent>,
    /// Given up, oldest first.
    late: VecDeque<Block>,
    window: Window,
    /// The peer's own bound.
    reqq: usize,
    /// When the last block came, or the queue last became non-empty.
    progress: Time,
    /// True from a timeout to the next block: one request at a time then.
    snubbed: bool,
    rejections: u32,
    /// Pieces that it took back while it owed blocks of them, since the last block.
    taken_back: u32,
    paused_until: Time,
    /// A block came since the peer unchoked us.
    served: bool,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    block: Block,
    at: Time,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            outstanding: VecDeque::new(),
            late: VecDeque::new(),
            window: Window::default(),
            reqq: REQQ_DEFAULT,
            progress: Time::ZERO,
            snubbed: false,
            rejections: 0,
            taken_back: 0,
            paused_until: Time::ZERO,
            served: false,
        }
    }
}

impl Requests {
    /// How many are outstanding.
    #[must_use]
    pub fn len(&self) -> usize {
        self.outstanding.len()
    }

    /// True if none is outstanding.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// The peer's `reqq` (BEP 10): it drops requests beyond that many.
    pub fn set_reqq(&mut self, reqq: usize) {
        self.reqq = reqq.clamp(1, REQUESTS_MAX);
    }

    /// The torrent's pieces are so long: an eighth of one is asked for beyond what the rate calls for, unless that were much
    /// of a short torrent.
    pub fn fit_pieces(&mut self, layout: &Layout) {
        let few = layout.total_length() / u64::from(BLOCK_BYTES) / REQUESTS_SPARE_PART;
        let few = usize::try_from(few).unwrap_or(usize::MAX);
        let spare = (layout.blocks_count_max() / 8).min(few);
        self.window.spare = spare.clamp(REQUESTS_SPARE_MIN, REQUESTS_SPARE_MAX);
    }

    /// How many should be outstanding.
    #[must_use]
    pub fn target(&self) -> usize {
        if self.snubbed || self.rejections > 0 {
            return 1;
        }
        self.window.target.min(self.reqq)
    }

    /// A peer that was asked for nothing yet is to be asked for so many blocks at once.
    pub fn start_with(&mut self, count: usize) {
        let is_new = self.window.growing && self.window.rtt.is_zero();
        if is_new && self.outstanding.is_empty() {
            self.window.target = self.window.target.max(count);
        }
    }

    /// How many more should be sent at `now`.
    #[must_use]
    pub fn room(&self, now: Time) -> usize {
        if now < self.paused_until {
            return 0;
        }
        self.target().saturating_sub(self.outstanding.len())
    }

    /// True if so much room is left that filling it is worth a turn: an eighth of the queue.
    #[must_use]
    pub fn is_low(&self, now: Time) -> bool {
        let room = self.room(now);
        room > 0 && room * 8 >= self.target()
    }

    /// A request was sent.
    pub fn sent(&mut self, now: Time, block: Block) {
        if self.outstanding.is_empty() {
            self.progress = now;
            self.window.restart(now);
        }
        self.outstanding.push_back(Sent { block, at: now });
    }

    /// A block came.
    pub fn received(&mut self, now: Time, block: Block) -> Answer {
        let Some(sent) = self.take(block) else {
            return self.take_late(block);
        };
        self.progress = now;
        self.snubbed = false;
        self.rejections = 0;
        self.taken_back = 0;
        self.served = true;
        self.window.received(now, block.length, now - sent.at);
        Answer::Expected
    }

    /// A rejection came (BEP 6). `choked`: the peer chokes us, so that it was right to reject.
    pub fn rejected(&mut self, now: Time, block: Block, choked: bool) -> Answer {
        if self.take(block).is_none() {
            return self.take_late(block);
        }
        if !choked {
            self.refused(now);
        }
        Answer::Expected
    }

    /// The peer unchokes us.
    pub const fn unchoked(&mut self) {
        self.served = false;
    }

    /// The peer chokes us. If it let us ask and gave nothing, that is as good as a rejection: it may do so all day.
    pub fn choked(&mut self, now: Time) {
        if !self.served && !self.outstanding.is_empty() {
            self.refused(now);
        }
    }

    /// What was asked was not given: a pause, that doubles as long as nothing comes. Refusals during it are part of it.
    fn refused(&mut self, now: Time) {
        if now >= self.paused_until {
            let pause = REJECT_PAUSE.saturating_mul(1 << self.rejections.min(10));
            self.paused_until = now + pause.min(REJECT_PAUSE_MAX);
            self.rejections = self.rejections.saturating_add(1);
            self.window.shrink();
        }
    }

    /// The block is no longer wanted from this peer; true if it was outstanding.
    pub fn cancel(&mut self, block: Block) -> bool {
        let cancelled = self.take(block).is_some();
        if cancelled {
            self.remember(block);
        }
        cancelled
    }

    /// The peer has lost the piece, and what was asked of it is not to come; the blocks that were outstanding. Who does so
    /// again and again and sends nothing is asked for nothing for a while.
    pub fn cancel_piece(&mut self, now: Time, piece: PieceIndex) -> Vec<Block> {
        let blocks = self.outstanding.iter().map(|sent| sent.block);
        let blocks: Vec<Block> = blocks.filter(|block| block.piece == piece).collect();
        self.outstanding.retain(|sent| sent.block.piece != piece);
        blocks.iter().for_each(|block| self.remember(*block));
        if !blocks.is_empty() {
            self.taken_back = self.taken_back.saturating_add(1);
            if self.taken_back > TAKEN_BACK_MAX {
                self.refused(now);
            }
        }
        blocks
    }

    /// Gives up every outstanding request.
    pub fn give_up(&mut self) -> Vec<Block> {
        let blocks: Vec<Block> = self.outstanding.drain(..).map(|sent| sent.block).collect();
        blocks.iter().for_each(|block| self.remember(*block));
        blocks
    }

    /// How long a block takes from its request on, on average of late.
    #[must_use]
    pub const fn block_time(&self) -> Duration {
        self.window.rtt
    }

    /// True if the peer owes blocks and nothing has come for too long.
    #[must_use]
    pub fn is_stalled(&self, now: Time) -> bool {
        self.outstanding.front().is_some_and(|oldest| {
            now - self.progress >= REQUEST_TIMEOUT || now - oldest.at >= REQUEST_AGE_MAX
        })
    }

    /// The peer cannot be heard at the moment: that nothing comes is not its fault.
    pub fn excuse(&mut self, now: Time) {
        self.progress = now;
        for sent in &mut self.outstanding {
            sent.at = now;
        }
    }

    /// The peer let its requests time out: until it sends a block it is asked for one at a time.
    pub const fn snub(&mut self) {
        self.snubbed = true;
    }

    /// True from a timeout to the next block.
    #[must_use]
    pub const fn is_snubbed(&self) -> bool {
        self.snubbed
    }

    fn take(&mut self, block: Block) -> Option<Sent> {
        let position = self
            .outstanding
            .iter()
            .position(|sent| sent.block == block)?;
        self.outstanding.remove(position)
    }

    fn take_late(&mut self, block: Block) -> Answer {
        match self.late.iter().position(|late| *late == block) {
            Some(position) => {
                self.late.remove(position);
                Answer::Late
            }
            None => Answer::Unasked,
        }
    }

    fn remember(&mut self, block: Block) {
        if self.late.len() >= LATE_REQUESTS_MAX {
            self.late.pop_front();
        }
        self.late.push_back(block);
    }
}

/// Measures rate and round trip, and says how many requests fill the pipe.
#[derive(Clone, Debug)]
struct Window {
    target: usize,
    /// The rate still grows with the window.
    growing: bool,
    /// Spans without growth while growing.
    flat: u8,
    span_started: Time,
    span_bytes: u64,
    /// Bytes per second in the last span.
    rate: u64,
    /// The shortest time from request to block, of this and the last minute.
    rtt_min: Duration,
    rtt_min_next: Duration,
    rtt_renewed: Time,
    /// The smoothed time from request to block.
    rtt: Duration,
    /// Requests beyond the product of rate and time.
    spare: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            target: REQUESTS_START,
            growing: true,
            flat: 0,
            span_started: Time::ZERO,
            span_bytes: 0,
            rate: 0,
            rtt_min: Duration::MAX,
            rtt_min_next: Duration::MAX,
            rtt_renewed: Time::ZERO,
            rtt: Duration::ZERO,
            spare: REQUESTS_SPARE_MIN,
        }
    }
}

/// The shortest span over which a rate is measured: batches of blocks arrive at once.
const SPAN_MIN: Duration = Duration::from_millis(100);

/// The shortest round trip is forgotten after one to two of these: routes change.
const RTT_MEMORY: Duration = Duration::from_secs(30);

/// Spans without growth after which the pipe counts as full.
const FLAT_SPANS: u8 = 3;

impl Window {
    /// The queue was empty: the time without requests says nothing about the peer's rate.
    const fn restart(&mut self, now: Time) {
        self.span_started = now;
        self.span_bytes = 0;
    }

    fn received(&mut self, now: Time, length: u32, rtt: Duration) {
        if now - self.rtt_renewed >= RTT_MEMORY {
            self.rtt_min = self.rtt_min_next;
            self.rtt_min_next = Duration::MAX;
            self.rtt_renewed = now;
        }
        self.rtt_min_next = self.rtt_min_next.min(rtt);
        self.rtt_min = self.rtt_min.min(rtt);
        self.rtt = if self.rtt.is_zero() {
            rtt
        } else {
            (self.rtt * 7 + rtt) / 8
        };
        self.span_bytes += u64::from(length);
        if self.growing {
            self.target = (self.target + 1).min(REQUESTS_MAX);
        }
        let span = now - self.span_started;
        if span >= SPAN_MIN.max(self.rtt_min.min(Duration::from_secs(1))) {
            self.measure(span);
            self.restart(now);
        }
    }

    fn measure(&mut self, span: Duration) {
        let nanos = span.as_nanos().max(1);
        let rate = u128::from(self.span_bytes) * 1_000_000_000 / nanos;
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        if self.growing {
            let grown = u128::from(rate) * 10 > u128::from(self.rate) * 11;
            self.flat = if grown { 0 } else { self.flat + 1 };
            self.growing = self.flat < FLAT_SPANS;
        } else {
            let fitting = self.fitting(rate);
            // Down in steps, as one lean span may be chance.
            self.target = fitting.max(self.target * 3 / 4).clamp(1, REQUESTS_MAX);
        }
        self.rate = rate;
    }

    /// Requests that cover one round trip and the margin at this rate.
    fn fitting(&self, rate: u64) -> usize {
        let span = self.rtt_min.saturating_add(REQUEST_MARGIN).as_nanos();
        let bytes = u128::from(rate).saturating_mul(span) / 1_000_000_000;
        let in_time = rate.saturating_mul(REQUESTS_SPARE_TIME.as_secs()) / u64::from(BLOCK_BYTES);
        let in_time = usize::try_from(in_time).unwrap_or(usize::MAX);
        let spare = self.spare.min(in_time.max(REQUESTS_SPARE_MIN));
        let blocks = bytes.div_ceil(u128::from(BLOCK_BYTES)) + spare as u128;
        usize::try_from(blocks).unwrap_or(usize::MAX)
    }

    const fn shrink(&mut self) {
        self.growing = false;
        self.target = if self.target > 1 { self.target / 2 } else { 1 };
    }
}

#[cfg(test)]
mod tests;
