//! The orders an engine gives to its disk, and the answers.
//!
//! Plain data, so that `bt-peer` can order and `bt-storage` can carry out without knowing each other. A shell (or the
//! simulation) passes each [`Job`] of a torrent to `bt-storage` and each [`Done`] back. Jobs of the same piece are
//! carried out in the order in which they were given; jobs of different pieces may overtake each other.

use crate::piece::{Block, PieceIndex};
use bytes::Bytes;

/// An order to the disk of one torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Take a block that arrived. Answered by [`Done::Wrote`], and when it was the piece's last missing block also by
    /// [`Done::Checked`].
    ///
    /// The block lies on the [`BLOCK_BYTES`](crate::BLOCK_BYTES) grid. The storage hashes it once all bytes before
    /// it in its piece have been hashed, and may hold it in memory until the piece is complete.
    Write {
        /// Where the bytes belong.
        block: Block,
        /// The bytes, `block.length` of them.
        data: Bytes,
    },
    /// Forget the unfinished piece: its buffered blocks and its hash so far. Not answered.
    Discard {
        /// The piece.
        piece: PieceIndex,
    },
    /// Read the piece back and check its hash. Answered by [`Done::Checked`].
    Check {
        /// The piece.
        piece: PieceIndex,
    },
    /// Read the piece back and give a digest of each block. Answered by [`Done::Digests`].
    ///
    /// Asked once a piece is good that had been bad before, to find out who sent the bad blocks.
    Digest {
        /// The piece.
        piece: PieceIndex,
    },
}

/// What became of a [`Job`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// A block was taken: its memory no longer counts against the engine's write budget.
    Wrote {
        /// The block.
        block: Block,
    },
    /// A piece is complete, on disk, and was compared with its hash; or it could not be.
    Checked {
        /// The piece.
        piece: PieceIndex,
        /// The outcome.
        verdict: Verdict,
    },
    /// The digests that [`Job::Digest`] asked for, one for each block in order; empty if the piece could not be read.
    Digests {
        /// The piece.
        piece: PieceIndex,
        /// A digest for each block.
        digests: Vec<BlockDigest>,
    },
}

/// Eight bytes that tell two versions of a block apart: the first half of a keyed or cryptographic hash.
pub type BlockDigest = u64;

/// Whether a piece's bytes are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The hash matches, and the bytes are where they belong.
    Good,
    /// The hash does not match. A digest of each block, in order, to find the liar with.
    Bad {
        /// A digest for each block.
        digests: Vec<BlockDigest>,
    },
    /// The disk failed, so nothing is known of the piece and nothing of it is kept.
    Failed(DiskError),
}

/// What kind of trouble the disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskErrorKind {
    /// No space left, or a quota reached. May pass.
    Full,
    /// Read-only file system, no permission, or a file longer than it may be there. Does not pass by itself.
    Denied,
    /// A file is missing or too short.
    Missing,
    /// Something else stands in the place of a file or of its folder: a folder, a link, a pipe. Does not pass by itself.
    InTheWay,
    /// Any other error of the operating system.
    Io,
}

/// A disk's failure as a value: it can be compared, recorded and shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskError {
    /// What kind of trouble.
    pub kind: DiskErrorKind,
    /// Which file, and what the operating system said.
    pub message: String,
}

impl core::fmt::Display for DiskError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for DiskError {}
