//! What one peer has asked of us and not yet got.
//!
//! Requests wait here and not in the network's buffers, so that a choke or a cancel finds them (BEP 3: "keep requests in
//! memory"). Only a few at a time are ordered to be sent.
//!
//! **Invariant:** no more than [`UPLOAD_QUEUE_MAX`] requests wait, and no more than [`UPLOAD_WINDOW_BYTES`] and one
//! block are ordered and not yet sent.

use crate::limits::{UPLOAD_QUEUE_MAX, UPLOAD_WINDOW_BYTES};
use bt_core::Block;
use std::collections::VecDeque;

/// The upload queue of one connection.
#[derive(Clone, Debug, Default)]
pub struct Uploads {
    queue: VecDeque<Block>,
    /// Ordered, but not yet sent, in bytes.
    ordered_bytes: u64,
}

impl Uploads {
    /// Queues a request; false if the queue is full.
    pub fn push(&mut self, block: Block) -> bool {
        let room = self.queue.len() < UPLOAD_QUEUE_MAX;
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
    pub fn clear(&mut self, keep: impl Fn(Block) -> bool) -> Vec<Block> {
        let (kept, dropped) = self.queue.drain(..).partition(|block| keep(*block));
        self.queue = kept;
        Vec::from(dropped)
    }

    /// True if a request waits and may be ordered now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.queue.is_empty() && self.ordered_bytes < UPLOAD_WINDOW_BYTES
    }

    /// The next block to order to be sent, if the window is open.
    pub fn order(&mut self) -> Option<Block> {
        if !self.is_ready() {
            return None;
        }
        let block = self.queue.pop_front()?;
        self.ordered_bytes += u64::from(block.length);
        Some(block)
    }

    /// An order was carried out, or failed.
    pub fn done(&mut self, block: Block) {
        self.ordered_bytes = self.ordered_bytes.saturating_sub(u64::from(block.length));
    }

    /// How many requests wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
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
    use bt_core::Layout;

    fn blocks(count: usize) -> Vec<Block> {
        let layout = Layout::new(1 << 40, 1 << 24).unwrap();
        let pieces = layout.pieces();
        pieces
            .flat_map(|piece| layout.blocks(piece).collect::<Vec<_>>())
            .take(count)
            .collect()
    }

    #[test]
    fn few_are_ordered_and_the_rest_can_be_taken_back() {
        let mut uploads = Uploads::default();
        let all = blocks(100);
        assert!(all.iter().all(|block| uploads.push(*block)));
        let ordered: Vec<Block> = core::iter::from_fn(|| uploads.order()).collect();
        assert_eq!(ordered, all[..32], "512 KiB in blocks of 16 KiB");
        assert!(!uploads.cancel(all[0]), "ordered: too late");
        assert!(uploads.cancel(all[40]) && !uploads.cancel(all[40]));
        uploads.done(all[0]);
        assert_eq!(uploads.order(), Some(all[32]));
        assert_eq!(uploads.order(), None);
        let dropped = uploads.clear(|block| block == all[99]);
        assert_eq!(dropped.len(), 100 - 33 - 1 - 1);
        assert_eq!(uploads.len(), 1);
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut uploads = Uploads::default();
        let all = blocks(UPLOAD_QUEUE_MAX + 1);
        assert_eq!(
            all.iter().filter(|block| uploads.push(**block)).count(),
            UPLOAD_QUEUE_MAX
        );
        assert!(!uploads.is_empty());
    }
}
