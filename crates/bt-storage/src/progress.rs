//! A piece that is being received: what came, how far it is hashed, and what is still held in memory.
//!
//! Knows no file: it is told of blocks and says what to write and what to read back. **Invariant:** a block that came
//! is either held or was handed out for writing; everything before `hashed` went into the hash exactly once.

use bt_core::{BLOCK_BYTES, Block};
use bytes::Bytes;
use sha1::{Digest, Sha1};
use std::collections::BTreeMap;

/// Hashed bytes of one piece that are written when a batch of jobs is over: long enough that the cost of a system call
/// vanishes. A batch is what one read of a socket brought, and is written while it is in the core's cache still.
pub(crate) const RUN_BYTES: u64 = 256 * 1024;

/// Hashed bytes of one piece that are held at most, however long the batch is: more than one read brings.
pub(crate) const RUN_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// The most bytes read back at once.
const READ_BACK_BYTES: u32 = 1024 * 1024;

/// A piece between its first and its last block.
#[derive(Debug)]
pub(crate) struct Progress {
    length: u32,
    /// Which blocks came, by their number in the piece.
    came: Vec<bool>,
    missing_blocks: usize,
    hasher: Sha1,
    /// How many bytes from the piece's start went into the hash.
    hashed: u32,
    /// Blocks not handed out for writing yet, by where they begin.
    held: BTreeMap<u32, Bytes>,
    held_bytes: u64,
    /// How many of the held bytes are hashed.
    held_hashed_bytes: u64,
}

/// Held blocks without a gap between them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where it begins, in bytes from the piece's start.
    pub(crate) begin: u32,
    /// The blocks.
    pub(crate) buffers: Vec<Bytes>,
}

/// A run of bytes that came, was written before its turn to be hashed, and now is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadBack {
    /// Where it begins, in bytes from the piece's start.
    pub(crate) begin: u32,
    /// Its length in bytes.
    pub(crate) length: u32,
}

impl Progress {
    /// Of a piece of this length nothing came yet.
    pub(crate) fn new(length: u32) -> Self {
        let blocks = length.div_ceil(BLOCK_BYTES) as usize;
        Self {
            length,
            came: vec![false; blocks],
            missing_blocks: blocks,
            hasher: Sha1::new(),
            hashed: 0,
            held: BTreeMap::new(),
            held_bytes: 0,
            held_hashed_bytes: 0,
        }
    }

    /// How many bytes are held in memory.
    pub(crate) const fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// True if every block came.
    pub(crate) const fn is_complete(&self) -> bool {
        self.missing_blocks == 0
    }

    /// True if the hashed bytes that are held make a run worth writing when the batch is over.
    pub(crate) const fn is_run_ready(&self) -> bool {
        self.held_hashed_bytes >= RUN_BYTES
    }

    /// True if the hashed bytes that are held are to be written now.
    pub(crate) const fn is_run_due(&self) -> bool {
        self.held_hashed_bytes >= RUN_BYTES_MAX
    }

    /// Takes a block and hashes what can be hashed. Of a block that came before nothing is kept.
    pub(crate) fn add(&mut self, block: Block, data: Bytes) {
        let came = self.came.get_mut(block.index());
        if came.is_none_or(|came| std::mem::replace(came, true)) {
            return;
        }
        self.missing_blocks -= 1;
        self.held_bytes += data.len() as u64;
        self.held.insert(block.begin, data);
        self.hash_held();
    }

    /// What has to be read back before hashing can go on, if anything.
    pub(crate) fn read_back(&self) -> Option<ReadBack> {
        let first = (self.hashed / BLOCK_BYTES) as usize;
        let blocks = self.came.iter().skip(first).take_while(|came| **came);
        let came_bytes = u32::try_from(blocks.count())
            .unwrap_or(u32::MAX)
            .saturating_mul(BLOCK_BYTES);
        // Everything held at `hashed` is hashed already, so the run of written blocks ends at the next held one.
        let next_held = self.held.range(self.hashed..).next();
        let end = next_held.map_or(self.length, |(begin, _)| *begin);
        let length = came_bytes.min(end - self.hashed).min(READ_BACK_BYTES);
        (length > 0).then_some(ReadBack {
            begin: self.hashed,
            length,
        })
    }

    /// Hashes bytes that were read back, and what can be hashed after them.
    pub(crate) fn hash_read_back(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.hashed += u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.hash_held();
    }

    fn hash_held(&mut self) {
        while let Some(data) = self.held.get(&self.hashed) {
            self.hasher.update(data);
            self.hashed += u32::try_from(data.len()).unwrap_or(u32::MAX);
            self.held_hashed_bytes += data.len() as u64;
        }
    }

    /// Hands out the held bytes that are hashed.
    pub(crate) fn take_hashed(&mut self) -> Vec<Run> {
        let later = self.held.split_off(&self.hashed);
        let taken = std::mem::replace(&mut self.held, later);
        self.held_bytes -= self.held_hashed_bytes;
        self.held_hashed_bytes = 0;
        runs(taken)
    }

    /// Hands out everything held. What is not hashed yet has to be read back later.
    pub(crate) fn take_all(&mut self) -> Vec<Run> {
        self.held_bytes = 0;
        self.held_hashed_bytes = 0;
        runs(std::mem::take(&mut self.held))
    }

    /// The SHA-1 of the piece.
    ///
    /// # Panics
    /// If not all of it is hashed.
    pub(crate) fn finish(self) -> [u8; 20] {
        assert!(self.hashed == self.length, "a piece is hashed to its end");
        self.hasher.finalize().into()
    }
}

fn runs(blocks: BTreeMap<u32, Bytes>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut end = 0;
    for (begin, data) in blocks {
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        match runs.last_mut() {
            Some(run) if end == begin => run.buffers.push(data),
            _ => runs.push(Run {
                begin,
                buffers: vec![data],
            }),
        }
        end = begin + length;
    }
    runs
}

#[cfg(test)]
mod tests;
