//! Who sent the bad block: finds the liar among the peers that shared in a piece.
//!
//! A piece that fails its hash tells that somebody lied, not who, unless all of it came from one peer. So the digests of
//! a failed piece's blocks are kept with their senders. When the piece is good at last, whoever had sent something else
//! is a liar; so is, even before, whoever sends two versions of one block.
//!
//! **Invariant:** nobody is named whose blocks were all right, whatever others sent (BEP 3 knows only whole pieces; the
//! rule is ours).
//!
//! ```
//! use bt_core::Layout;
//! use bt_peer::ConnId;
//! use bt_peer::smart_ban::{Sender, SmartBan};
//!
//! let layout = Layout::new(32 * 1024, 32 * 1024).expect("a valid piece length");
//! let piece = layout.piece(0).expect("one piece");
//! let sender = |n| Sender { conn: ConnId(n), addr: ([10, 0, 0, 1], 6881).into() };
//! let mut smart_ban = SmartBan::new(layout);
//! for (block, n) in layout.blocks(piece).zip([1, 2]) {
//!     smart_ban.received(block, sender(n));
//! }
//! assert_eq!(smart_ban.failed(piece, &[11, 66]), [], "it may have been either");
//! assert!(smart_ban.passed(piece), "good at last");
//! assert_eq!(smart_ban.exposed(piece, &[11, 22]), [sender(2)]);
//! ```

use crate::ConnId;
use bt_core::disk::BlockDigest;
use bt_core::{Block, Layout, PieceIndex};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

/// How many digests are kept, about 4 MiB of them. Beyond, what is known of the piece that failed first is forgotten:
/// its liars go free this time, and cost no more than a piece each.
pub const RECORDS_MAX: usize = 1 << 16;

/// One peer as far as blame is concerned: a connection, and the address to ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sender {
    /// The connection on which the block came. Two peers behind one address are told apart by it.
    pub conn: ConnId,
    /// The address at its other end.
    pub addr: SocketAddr,
}

/// Remembers who sent the blocks of pieces under way, and the digests of those that turned out bad.
#[derive(Debug)]
pub struct SmartBan {
    layout: Layout,
    /// Of each piece under way, who sent each block; `None` if it is not here or was here before us.
    senders: BTreeMap<PieceIndex, Vec<Option<Sender>>>,
    /// Of each piece that failed, what was sent.
    records: BTreeMap<PieceIndex, Vec<Record>>,
    /// The pieces of `records`, the one that failed first in front.
    oldest: VecDeque<PieceIndex>,
    records_count: usize,
}

/// A block of a failed piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    index: usize,
    digest: BlockDigest,
    sender: Sender,
}

impl SmartBan {
    /// Knows nothing yet.
    #[must_use]
    pub const fn new(layout: Layout) -> Self {
        Self {
            layout,
            senders: BTreeMap::new(),
            records: BTreeMap::new(),
            oldest: VecDeque::new(),
            records_count: 0,
        }
    }

    /// A block was taken from `sender` and goes to the disk.
    pub fn received(&mut self, block: Block, sender: Sender) {
        let blocks = self.layout.blocks_count(block.piece) as usize;
        let senders = self.senders.entry(block.piece);
        let senders = senders.or_insert_with(|| vec![None; blocks]);
        if let Some(slot) = senders.get_mut(block.index()) {
            *slot = Some(sender);
        }
    }

    /// Who shares in a piece that is under way.
    #[must_use]
    pub fn senders(&self, piece: PieceIndex) -> BTreeSet<ConnId> {
        let senders = self.senders.get(&piece).into_iter().flatten().flatten();
        senders.map(|sender| sender.conn).collect()
    }

    /// The piece did not match its hash: those who are guilty for certain already, to be banned.
    pub fn failed(&mut self, piece: PieceIndex, digests: &[BlockDigest]) -> Vec<Sender> {
        let senders = self.senders.remove(&piece).unwrap_or_default();
        let mut guilty = Vec::new();
        if let Some(Some(first)) = senders.first()
            && senders.iter().all(|sender| same(*sender, *first))
        {
            guilty.push(*first);
        }
        if senders.iter().all(Option::is_none) {
            return guilty;
        }
        let sent = senders.iter().zip(digests).enumerate();
        let sent = sent.filter_map(|(index, (sender, digest))| {
            let (sender, digest) = ((*sender)?, *digest);
            Some(Record {
                index,
                digest,
                sender,
            })
        });
        if !self.records.contains_key(&piece) {
            self.oldest.push_back(piece);
        }
        let known = self.records.entry(piece).or_default();
        for record in sent {
            let mut earlier = known
                .iter()
                .filter(|old| old.index == record.index && same(Some(old.sender), record.sender));
            let earlier = earlier.next();
            if earlier.is_some_and(|earlier| earlier.digest != record.digest) {
                blame(&mut guilty, record.sender);
            }
            if earlier.is_none() {
                known.push(record);
                self.records_count += 1;
            }
        }
        self.shrink();
        guilty
    }

    /// The piece matched its hash. True if it had failed before: order its digests (`Job::Digest`), and give them to
    /// [`exposed`](Self::exposed).
    pub fn passed(&mut self, piece: PieceIndex) -> bool {
        self.senders.remove(&piece);
        self.records.contains_key(&piece)
    }

    /// The digests of a good piece that had failed before: who sent something else, to be banned.
    pub fn exposed(&mut self, piece: PieceIndex, digests: &[BlockDigest]) -> Vec<Sender> {
        let mut guilty = Vec::new();
        for record in self.forget(piece) {
            let right = digests.get(record.index);
            if right.is_some_and(|right| *right != record.digest) {
                blame(&mut guilty, record.sender);
            }
        }
        guilty
    }

    /// The disk lost what was received of the piece.
    pub fn lost(&mut self, piece: PieceIndex) {
        self.senders.remove(&piece);
    }

    fn shrink(&mut self) {
        while self.records_count > RECORDS_MAX
            && let Some(piece) = self.oldest.front().copied()
        {
            self.forget(piece);
        }
    }

    fn forget(&mut self, piece: PieceIndex) -> Vec<Record> {
        let records = self.records.remove(&piece).unwrap_or_default();
        self.records_count -= records.len();
        self.oldest.retain(|old| *old != piece);
        records
    }
}

fn same(a: Option<Sender>, b: Sender) -> bool {
    a.is_some_and(|a| a.conn == b.conn)
}

fn blame(guilty: &mut Vec<Sender>, sender: Sender) {
    if !guilty.iter().any(|known| known.conn == sender.conn) {
        guilty.push(sender);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: usize = 4;

    fn sender(conn: u64) -> Sender {
        let addr = SocketAddr::from(([10, 0, 0, 1], 6881));
        let conn = ConnId(conn);
        Sender { conn, addr }
    }

    fn layout(pieces: u64) -> Layout {
        let length = bt_core::BLOCK_BYTES * u32::try_from(BLOCKS).unwrap();
        Layout::new(pieces * u64::from(length), length).unwrap()
    }

    /// One attempt at a piece: who sent each block (0: it was here before) and its digest; the right one is 1.
    type Attempt = [(u64, BlockDigest); BLOCKS];

    /// Runs the attempts; the last one is good. Who was blamed after each, and at the end by the digests.
    fn check(attempts: &[Attempt], expected: &[&[u64]]) {
        let layout = layout(1);
        let piece = layout.piece(0).unwrap();
        let mut smart_ban = SmartBan::new(layout);
        let mut blamed = Vec::new();
        for (number, attempt) in attempts.iter().enumerate() {
            for (block, (conn, _)) in layout.blocks(piece).zip(attempt) {
                if *conn != 0 {
                    smart_ban.received(block, sender(*conn));
                }
            }
            let digests: Vec<_> = attempt.iter().map(|(_, digest)| *digest).collect();
            blamed.push(if number + 1 < attempts.len() {
                smart_ban.failed(piece, &digests)
            } else {
                assert_eq!(smart_ban.passed(piece), number > 0);
                smart_ban.exposed(piece, &digests)
            });
        }
        let blamed: Vec<Vec<u64>> = blamed
            .iter()
            .map(|list| list.iter().map(|sender| sender.conn.0).collect())
            .collect();
        assert_eq!(blamed, expected, "{attempts:?}");
        assert_eq!(smart_ban.records_count, 0);
        assert!(smart_ban.senders.is_empty() && smart_ban.oldest.is_empty());
    }

    #[test]
    fn who_is_blamed() {
        let good = [(9, 1); BLOCKS];
        check(&[good], &[&[]]);
        // All from one: guilty at once. One of several: when the right bytes are known.
        check(&[[(5, 7); BLOCKS], good], &[&[5], &[5]]);
        check(&[[(5, 1), (6, 7), (7, 1), (8, 1)], good], &[&[], &[6]]);
        check(&[[(5, 1), (6, 7), (7, 8), (6, 9)], good], &[&[], &[6, 7]]);
        // What was here before may be the culprit.
        check(&[[(0, 7), (5, 1), (5, 1), (5, 1)], good], &[&[], &[]]);
        check(&[[(5, 1), (5, 1), (0, 7), (5, 1)], good], &[&[], &[]]);
        // Two versions of one block from the same peer.
        let twice = [
            [(5, 7), (6, 1), (6, 1), (6, 1)],
            [(5, 8), (6, 1), (6, 1), (6, 1)],
            good,
        ];
        check(&twice, &[&[], &[5], &[5]]);
        // The same lie twice proves nothing until the truth is known.
        let again = [[(5, 7), (6, 1), (6, 1), (6, 1)]; 2];
        check(&[again[0], again[1], good], &[&[], &[], &[5]]);
    }

    #[test]
    fn a_piece_that_cannot_be_read_blames_nobody() {
        let layout = layout(1);
        let piece = layout.piece(0).unwrap();
        let mut smart_ban = SmartBan::new(layout);
        for (block, conn) in layout.blocks(piece).zip([1, 2, 3, 4]) {
            smart_ban.received(block, sender(conn));
        }
        assert_eq!(smart_ban.failed(piece, &[1, 2, 3, 4]), []);
        assert_eq!(smart_ban.exposed(piece, &[]), []);
    }

    #[test]
    fn what_the_disk_lost_is_not_held_against_anybody() {
        let layout = layout(1);
        let piece = layout.piece(0).unwrap();
        let mut smart_ban = SmartBan::new(layout);
        for block in layout.blocks(piece).take(3) {
            smart_ban.received(block, sender(1));
        }
        smart_ban.lost(piece);
        smart_ban.received(layout.block_at(piece, 3).unwrap(), sender(2));
        assert_eq!(smart_ban.failed(piece, &[7; BLOCKS]), []);
        assert_eq!(smart_ban.exposed(piece, &[7, 7, 7, 1]), [sender(2)]);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes_first() {
        let pieces = RECORDS_MAX / BLOCKS + 1;
        let layout = layout(pieces as u64);
        let mut smart_ban = SmartBan::new(layout);
        for piece in layout.pieces() {
            for (block, conn) in layout.blocks(piece).zip(1..) {
                smart_ban.received(block, sender(conn));
            }
            smart_ban.failed(piece, &[7; BLOCKS]);
        }
        assert!(smart_ban.records_count <= RECORDS_MAX);
        let known = layout.pieces().map(|piece| smart_ban.passed(piece));
        assert!(known.eq((0..pieces).map(|index| index > 0)));
    }
}
