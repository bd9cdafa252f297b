//! What one peer has asked of us and not yet got.
//!
//! Requests wait here and not in the network's buffers, so that a choke or a cancel finds them (BEP 3: "keep requests in
//! memory"). Only as many at a time are ordered to be sent as leave within a moment at the rate of this connection.
//!
//! **Invariant:** no more requests wait than [`Uploads::push`] was told, and no more than [`UPLOAD_WINDOW_MAX_BYTES`] and one
//! block are ordered and not yet sent.

use crate::limits::{
    UPLOAD_AHEAD, UPLOAD_STUCK, UPLOAD_WINDOW_MAX_BYTES, UPLOAD_WINDOW_MIN_BYTES,
    UPLOAD_WINDOW_START_BYTES,
};
use bt_core::{Block, Layout, PieceIndex, Time};
use core::time::Duration;
use std::collections::VecDeque;

/// The upload queue of one connection.
#[derive(Clone, Debug)]
pub struct Uploads {
    queue: VecDeque<Block>,
    /// Ordered, but not yet sent.
    ordered: VecDeque<Block>,
    /// The same, in bytes.
    ordered_bytes: u64,
    /// How much may be ordered.
    window_bytes: u64,
    span_started: Time,
    span_bytes: u64,
    /// When an order was carried out last, or the first one was given.
    moved_at: Time,
    /// What was ordered last.
    last: Option<Block>,
}

/// The shortest span over which the rate is measured.
const SPAN: Duration = Duration::from_millis(100);

impl Default for Uploads {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            ordered: VecDeque::new(),
            ordered_bytes: 0,
            window_bytes: UPLOAD_WINDOW_START_BYTES,
            span_started: Time::ZERO,
            span_bytes: 0,
            moved_at: Time::ZERO,
            last: None,
        }
    }
}

impl Uploads {
    /// Queues a request; false if `queue_max` wait already.
    pub fn push(&mut self, block: Block, queue_max: usize) -> bool {
        let room = self.queue.len() < queue_max;
        if room {
            self.queue.push_back(block);
        }
        room
    }

    /// Forgets a request; true if it was still waiting.
    pub fn cancel(&mut self, block: Block) -> bool {
        let position = self.queue.iter().position(|queued| *queued == block);
        position.and_then(|at| self.queue.remove(at)).is_some()
    }

    /// Forgets all waiting requests but those that `keep` allows; returns the forgotten ones.
    pub fn clear(&mut self, mut keep: impl FnMut(Block) -> bool) -> Vec<Block> {
        let (kept, dropped) = self.queue.drain(..).partition(|block| keep(*block));
        self.queue = kept;
        Vec::from(dropped)
    }

    /// True if a request waits and may be ordered now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.queue.is_empty() && self.ordered_bytes < self.window_bytes
    }

    /// The next block to order to be sent, if the window is open.
    pub fn order(&mut self, now: Time) -> Option<Block> {
        if !self.is_ready() {
            return None;
        }
        let block = self.queue.pop_front()?;
        if self.ordered_bytes == 0 {
            // The time without anything to send says nothing about the rate.
            self.span_started = now;
            self.span_bytes = 0;
            if now - self.moved_at >= UPLOAD_STUCK {
                // What the line took is long ago, and it may be slow by now.
                self.window_bytes = self.window_bytes.min(UPLOAD_WINDOW_START_BYTES);
            }
            self.moved_at = now;
        }
        self.ordered_bytes += u64::from(block.length);
        self.ordered.push_back(block);
        self.last = Some(block);
        Some(block)
    }

    /// An order was carried out, or failed.
    pub fn done(&mut self, now: Time, block: Block) {
        if let Some(at) = self.ordered.iter().position(|ordered| *ordered == block) {
            self.ordered.remove(at);
        }
        self.ordered_bytes = self.ordered_bytes.saturating_sub(u64::from(block.length));
        self.span_bytes += u64::from(block.length);
        self.moved_at = now;
        let span = now - self.span_started;
        let bytes =
            u128::from(self.span_bytes) * UPLOAD_AHEAD.as_nanos() / span.max(SPAN).as_nanos();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let window_bytes = bytes.clamp(UPLOAD_WINDOW_MIN_BYTES, UPLOAD_WINDOW_MAX_BYTES);
        if span >= SPAN {
            self.window_bytes = window_bytes;
            self.span_started = now;
            self.span_bytes = 0;
        } else if self.ordered_bytes == 0 {
            // All that may go out at once has gone within less than a span, as when a limit hands it out: the line takes that
            // much at least.
            self.window_bytes = self.window_bytes.max(window_bytes);
        }
    }

    /// What is ordered and not yet sent, in bytes.
    #[must_use]
    pub const fn ordered_bytes(&self) -> u64 {
        self.ordered_bytes
    }

    /// True if something is on its way, and the peer takes it.
    #[must_use]
    pub fn is_moving(&self, now: Time) -> bool {
        self.ordered_bytes > 0 && self.has_moved(now)
    }

    /// True if something was sent a moment ago.
    #[must_use]
    pub fn has_moved(&self, now: Time) -> bool {
        now - self.moved_at < UPLOAD_STUCK
    }

    /// How many requests wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// The piece of which a part went out and the rest is due, and how long that is, in bytes. The next request for it may not
    /// be here yet.
    #[must_use]
    pub fn under_way(&self, now: Time, layout: &Layout) -> Option<(PieceIndex, u32)> {
        let rest = |piece, begin| {
            let rest = layout.piece_length(piece) - begin;
            (begin > 0 && rest > 0).then_some((piece, rest))
        };
        let next = self.queue.front();
        let queued = next.and_then(|next| rest(next.piece, next.begin));
        let is_live = self.ordered_bytes > 0 || self.has_moved(now);
        let last = self.last.filter(|_| is_live);
        queued.or_else(|| last.and_then(|last| rest(last.piece, last.begin + last.length)))
    }

    /// The pieces of which something waits or is being sent.
    pub fn pieces(&self) -> impl Iterator<Item = PieceIndex> {
        let blocks = self.ordered.iter().chain(&self.queue);
        blocks.map(|block| block.piece)
    }

    /// True if something waits or is being sent.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.queue.is_empty() || self.ordered_bytes > 0
    }

    /// True if no request waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::UPLOAD_QUEUE_MAX;

    fn blocks(count: usize) -> Vec<Block> {
        let layout = Layout::new(1 << 40, 1 << 24).unwrap();
        let pieces = layout.pieces();
        pieces
            .flat_map(|piece| layout.blocks(piece).collect::<Vec<_>>())
            .take(count)
            .collect()
    }

    fn order_all(uploads: &mut Uploads, now: Time) -> Vec<Block> {
        core::iter::from_fn(|| uploads.order(now)).collect()
    }

    #[test]
    fn few_are_ordered_and_the_rest_can_be_taken_back() {
        let mut uploads = Uploads::default();
        let all = blocks(100);
        assert!(all.iter().all(|block| uploads.push(*block, 100)));
        assert_eq!(
            order_all(&mut uploads, Time::ZERO),
            all[..8],
            "128 KiB in blocks of 16 KiB"
        );
        assert!(!uploads.cancel(all[0]), "ordered: too late");
        assert!(uploads.cancel(all[40]) && !uploads.cancel(all[40]));
        uploads.done(Time::ZERO, all[0]);
        assert_eq!(order_all(&mut uploads, Time::ZERO), [all[8]]);
        let dropped = uploads.clear(|block| block == all[99]);
        assert_eq!(dropped.len(), 100 - 9 - 1 - 1);
        assert_eq!(uploads.len(), 1);
    }

    #[test]
    fn what_is_not_taken_for_a_while_does_not_move() {
        let (mut uploads, start) = (Uploads::default(), Time::from_secs(100));
        let all = blocks(9);
        assert!(all.iter().all(|block| uploads.push(*block, 9)));
        assert!(!uploads.is_moving(start), "nothing is on its way");
        assert_eq!(order_all(&mut uploads, start).len(), 8);
        assert!(uploads.is_moving(start + UPLOAD_STUCK / 2));
        assert!(!uploads.is_moving(start + UPLOAD_STUCK));
        uploads.done(start + UPLOAD_STUCK, all[0]);
        assert!(uploads.is_moving(start + UPLOAD_STUCK));
    }

    #[test]
    fn the_window_follows_the_rate() {
        // (blocks per 100 ms, window in KiB): a quarter of a second's worth, within bounds.
        for (blocks_per_span, kib) in [(1, 48), (8, 320), (60, 1_024)] {
            let mut uploads = Uploads::default();
            let mut now = Time::from_secs(1);
            assert!(
                blocks(UPLOAD_QUEUE_MAX)
                    .into_iter()
                    .all(|block| uploads.push(block, UPLOAD_QUEUE_MAX))
            );
            let mut ordered: VecDeque<Block> = order_all(&mut uploads, now).into();
            for _ in 0..20 * blocks_per_span {
                now += Duration::from_millis(100) / blocks_per_span;
                uploads.done(now, ordered.pop_front().unwrap());
                ordered.extend(order_all(&mut uploads, now));
            }
            let window = ordered.len() * 16;
            assert!(
                window.abs_diff(kib) <= 16,
                "{blocks_per_span}: {window} KiB"
            );
        }
    }

    #[test]
    fn what_has_all_gone_at_once_opens_the_window() {
        let mut uploads = Uploads::default();
        let mut now = Time::from_secs(1);
        let all = blocks(UPLOAD_QUEUE_MAX);
        assert!(all.iter().all(|block| uploads.push(*block, all.len())));
        // As a limit hands them out: all that the window takes, and nothing for a while.
        let mut windows = Vec::new();
        for _ in 0..4 {
            let ordered = order_all(&mut uploads, now);
            now += Duration::from_millis(1);
            ordered.iter().for_each(|block| uploads.done(now, *block));
            windows.push(ordered.len() * 16);
            now += Duration::from_millis(199);
        }
        assert_eq!(windows, [128, 320, 800, 1_024], "KiB");
        // One that takes longer shows what the rate is.
        for block in order_all(&mut uploads, now) {
            now += Duration::from_millis(100);
            uploads.done(now, block);
        }
        assert_eq!(order_all(&mut uploads, now).len() * 16, 48, "KiB");
    }

    #[test]
    fn after_a_pause_the_window_is_no_wider_than_at_the_start() {
        let (mut uploads, mut now) = (Uploads::default(), Time::from_secs(100));
        for _ in 0..3 {
            uploads.clear(|_| false);
            assert!(blocks(64).into_iter().all(|block| uploads.push(block, 64)));
            for block in order_all(&mut uploads, now) {
                uploads.done(now, block);
            }
            now += UPLOAD_STUCK / 10;
        }
        assert!(uploads.window_bytes > UPLOAD_WINDOW_START_BYTES);
        uploads.clear(|_| false);
        now += UPLOAD_STUCK;
        assert!(uploads.push(blocks(1)[0], 64));
        order_all(&mut uploads, now);
        assert_eq!(uploads.window_bytes, UPLOAD_WINDOW_START_BYTES);
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut uploads = Uploads::default();
        let all = blocks(UPLOAD_QUEUE_MAX + 1);
        assert_eq!(
            all.iter()
                .filter(|block| uploads.push(**block, UPLOAD_QUEUE_MAX))
                .count(),
            UPLOAD_QUEUE_MAX
        );
        assert!(!uploads.is_empty());
    }
}
