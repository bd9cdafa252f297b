//! A piece that is being received: what came, how far it is hashed, and what is still held in memory.
//!
//! Knows no file: it is told of blocks and says what to write and what to read back. Blocks of several pieces that came
//! together are hashed side by side. **Invariant:** a block that came is either held or was handed out for writing;
//! everything before `hashed` went into the hash exactly once.

use crate::files::READ_BYTES;
use crate::lanes::{Hasher, LANES, update_together};
use bt_core::{BLOCK_BYTES, Block};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Hashed bytes of one piece that are written when a batch of jobs is over: long enough that the cost of a system call
/// vanishes. A batch is what one read of a socket brought, and is written while it is in the core's cache still.
pub(crate) const RUN_BYTES: u64 = 256 * 1024;

/// Hashed bytes of one piece that are held at most, however long the batch is: more than one read brings.
pub(crate) const RUN_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A piece between its first and its last block.
#[derive(Debug)]
pub(crate) struct Progress {
    length: u32,
    /// Which blocks came, by their number in the piece.
    came: Vec<bool>,
    missing_blocks: usize,
    hasher: Hasher,
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
            hasher: Hasher::new(),
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

    /// True if something came that is next to be hashed, whether it is held or has to be read back.
    pub(crate) fn is_behind(&self) -> bool {
        let next = (self.hashed / BLOCK_BYTES) as usize;
        self.hashed < self.length && self.came.get(next) == Some(&true)
    }

    /// Takes a block. Of a block that came before nothing is kept.
    pub(crate) fn add(&mut self, block: Block, data: Bytes) {
        let came = self.came.get_mut(block.index());
        if came.is_none_or(|came| std::mem::replace(came, true)) {
            return;
        }
        self.missing_blocks -= 1;
        self.held_bytes += data.len() as u64;
        self.held.insert(block.begin, data);
    }

    /// What has to be read back before hashing can go on, if anything.
    pub(crate) fn read_back(&self) -> Option<ReadBack> {
        let first = (self.hashed / BLOCK_BYTES) as usize;
        let blocks = self.came.iter().skip(first).take_while(|came| **came);
        let came_bytes = u32::try_from(blocks.count())
            .unwrap_or(u32::MAX)
            .saturating_mul(BLOCK_BYTES);
        // What is held at `hashed` needs no reading; else the run of written blocks ends at the next held one.
        let next_held = self.held.range(self.hashed..).next();
        let end = next_held.map_or(self.length, |(begin, _)| *begin);
        let length = came_bytes.min(end - self.hashed).min(READ_BYTES);
        (length > 0).then_some(ReadBack {
            begin: self.hashed,
            length,
        })
    }

    /// Hashes bytes that were read back, and what is held after them.
    pub(crate) fn hash_read_back(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.hashed += u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.hash_held();
    }

    /// Hashes what is held and next to be hashed.
    pub(crate) fn hash_held(&mut self) {
        while self.is_next_held() {
            hash_next_blocks([&mut *self]);
        }
    }

    fn is_next_held(&self) -> bool {
        self.held.contains_key(&self.hashed)
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
        self.hasher.finish()
    }
}

/// Hashes what is held of each piece and next to be hashed, of several pieces side by side.
pub(crate) fn hash_together<'a>(pieces: impl Iterator<Item = &'a mut Progress>) {
    let mut waiting = pieces.filter(|piece| piece.is_next_held());
    let mut lanes: Vec<&mut Progress> = Vec::with_capacity(LANES);
    loop {
        lanes.extend(waiting.by_ref().take(LANES - lanes.len()));
        match lanes.as_mut_slice() {
            [a, b, c] => hash_next_blocks([a, b, c]),
            [a, b] => hash_next_blocks([a, b]),
            [a] => a.hash_held(),
            _ => return,
        }
        lanes.retain(|piece| piece.is_next_held());
    }
}

/// Hashes one block of each piece, which is held.
fn hash_next_blocks<const N: usize>(mut pieces: [&mut Progress; N]) {
    update_together(pieces.each_mut().map(|piece| {
        let block = piece.held.get(&piece.hashed);
        (&mut piece.hasher, block.map_or(&[][..], Bytes::as_ref))
    }));
    for piece in pieces {
        let bytes = piece.held.get(&piece.hashed).map_or(0, Bytes::len);
        piece.hashed += u32::try_from(bytes).unwrap_or(u32::MAX);
        piece.held_hashed_bytes += bytes as u64;
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
