//! Who sent the bad block: finds the liar among the peers that shared in a piece.

use crate::ConnId;
use bt_core::disk::BlockDigest;
use bt_core::{Block, Layout, PieceIndex};
use std::net::SocketAddr;

/// One peer as far as blame is concerned: a connection, and the address to ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sender {
    /// The connection on which the block came.
    pub conn: ConnId,
    /// The address at its other end.
    pub addr: SocketAddr,
}

/// Remembers who sent the blocks of pieces under way, and the digests of those that turned out bad.
#[derive(Debug)]
pub struct SmartBan {}

impl SmartBan {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(_layout: Layout) -> Self {
        Self {}
    }

    /// A block was taken from `sender` and goes to the disk.
    pub fn received(&mut self, _block: Block, _sender: Sender) {}

    /// The piece did not match its hash: those who are guilty for certain already, to be banned.
    pub fn failed(&mut self, _piece: PieceIndex, _digests: &[BlockDigest]) -> Vec<Sender> {
        Vec::new()
    }

    /// The piece matched its hash. True if it had failed before: order its digests (`Job::Digest`), and give them to
    /// [`exposed`](Self::exposed).
    pub fn passed(&mut self, _piece: PieceIndex) -> bool {
        false
    }

    /// The digests of a good piece that had failed before: who sent something else, to be banned.
    pub fn exposed(&mut self, _piece: PieceIndex, _digests: &[BlockDigest]) -> Vec<Sender> {
        Vec::new()
    }

    /// The disk lost what was received of the piece.
    pub fn lost(&mut self, _piece: PieceIndex) {}
}
