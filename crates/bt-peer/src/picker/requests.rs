//! Which blocks are asked of each connection, in the order in which they were asked.
//!
//! **Invariant:** a block stands here once for each connection that it is asked of, and nowhere else.

use crate::ConnId;
use bt_core::{Block, PieceIndex};
use std::collections::{BTreeMap, VecDeque};

/// Suggestions of one peer that are remembered.
pub(super) const HINTS_MAX: usize = 64;

/// All requests under way.
#[derive(Debug, Default)]
pub(super) struct Requests {
    queues: BTreeMap<ConnId, Queue>,
    /// Grows by one with each request: a clock for those who have none.
    ticks: u64,
}

/// What is asked of one connection.
#[derive(Debug, Default)]
struct Queue {
    asked: VecDeque<(Block, u64)>,
    /// The piece it began last.
    current: Option<PieceIndex>,
    /// Pieces that the peer suggested, oldest first.
    hints: VecDeque<PieceIndex>,
    /// It has suggested something, if only long ago.
    has_hinted: bool,
}

impl Requests {
    /// How many blocks are asked of the connection.
    pub(super) fn count(&self, conn: ConnId) -> usize {
        self.queues.get(&conn).map_or(0, |queue| queue.asked.len())
    }

    /// The piece that the connection began last.
    pub(super) fn current(&self, conn: ConnId) -> Option<PieceIndex> {
        self.queues.get(&conn)?.current
    }

    pub(super) fn set_current(&mut self, conn: ConnId, piece: PieceIndex) {
        self.queues.entry(conn).or_default().current = Some(piece);
    }

    /// Notes that the connection suggests the piece.
    pub(super) fn add_hint(&mut self, conn: ConnId, piece: PieceIndex) {
        let queue = self.queues.entry(conn).or_default();
        queue.has_hinted = true;
        let hints = &mut queue.hints;
        if hints.len() >= HINTS_MAX {
            hints.pop_front();
        }
        hints.push_back(piece);
    }

    /// True if the connection has ever suggested a piece.
    pub(super) fn has_hinted(&self, conn: ConnId) -> bool {
        self.queues.get(&conn).is_some_and(|queue| queue.has_hinted)
    }

    /// What the connection suggested is void.
    pub(super) fn clear_hints(&mut self, conn: ConnId) {
        if let Some(queue) = self.queues.get_mut(&conn) {
            queue.hints.clear();
        }
    }

    /// The pieces that the connection suggests, oldest first.
    pub(super) fn hints(&self, conn: ConnId) -> impl Iterator<Item = PieceIndex> {
        let hints = self.queues.get(&conn).map(|queue| &queue.hints);
        hints.into_iter().flatten().copied()
    }

    pub(super) fn add(&mut self, conn: ConnId, block: Block) {
        self.ticks += 1;
        let queue = self.queues.entry(conn).or_default();
        queue.asked.push_back((block, self.ticks));
    }

    /// True if the block was asked of the connection, and is no more.
    pub(super) fn remove(&mut self, conn: ConnId, block: Block) -> bool {
        let Some(queue) = self.queues.get_mut(&conn) else {
            return false;
        };
        // Peers answer in order, so this is mostly the first.
        let place = queue.asked.iter().position(|(asked, _)| *asked == block);
        place.and_then(|place| queue.asked.remove(place)).is_some()
    }

    /// Forgets what is asked of the connection of one piece; those blocks.
    pub(super) fn remove_piece(&mut self, conn: ConnId, piece: PieceIndex) -> Vec<Block> {
        let Some(queue) = self.queues.get_mut(&conn) else {
            return Vec::new();
        };
        let is_of_it = |block: &Block| block.piece == piece;
        let blocks = queue.asked.iter().map(|(block, _)| *block);
        let blocks = blocks.filter(is_of_it).collect();
        queue.asked.retain(|(block, _)| !is_of_it(block));
        blocks
    }

    /// Forgets the connection; the blocks that were asked of it.
    pub(super) fn remove_all(&mut self, conn: ConnId) -> Vec<Block> {
        let queue = self.queues.remove(&conn).unwrap_or_default();
        queue.asked.into_iter().map(|(block, _)| block).collect()
    }

    /// All blocks asked of others than `conn`: those of the slowest connection first, and of each the latest first.
    ///
    /// The slowest is the one whose next answer has been due for longest; its latest block would come last of all.
    pub(super) fn slowest_first(&self, conn: ConnId) -> impl Iterator<Item = Block> {
        let others = self.queues.iter().filter(|(other, _)| **other != conn);
        let mut queues: Vec<_> = others
            .filter_map(|(_, queue)| Some((queue.asked.front()?.1, &queue.asked)))
            .collect();
        queues.sort_unstable_by_key(|(oldest, _)| *oldest);
        queues
            .into_iter()
            .flat_map(|(_, asked)| asked.iter().rev())
            .map(|(block, _)| *block)
    }

    /// Each connection with each block asked of it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, Block)> {
        self.queues
            .iter()
            .flat_map(|(conn, queue)| queue.asked.iter().map(|(block, _)| (*conn, *block)))
    }
}
