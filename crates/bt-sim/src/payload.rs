//! What the swarm shares: bytes that nobody has to store, because each block can be had again by its number.
//!
//! One stretch of noise serves all blocks: each is a window of it that begins eight bytes behind the one before. So a
//! block is a handle and no copy, and a swarm of thousands costs no memory for what it shares.

use bt_core::disk::BlockDigest;
use bt_core::{BLOCK_BYTES, Block, Layout, PieceIndex, Rng};
use bytes::Bytes;
use sha1::{Digest, Sha1};

/// From the beginning of one block's bytes to that of the next one's, in bytes of the noise.
const STRIDE_BYTES: usize = 8;

/// The bytes of a torrent, different for each block and seed.
#[derive(Clone, Debug)]
pub struct Payload {
    layout: Layout,
    noise: Bytes,
}

impl Payload {
    /// The bytes that belong to the seed.
    #[must_use]
    pub fn new(layout: Layout, seed: u64) -> Self {
        let blocks: usize = layout
            .pieces()
            .map(|piece| layout.blocks_count(piece) as usize)
            .sum();
        let mut noise = vec![0; blocks * STRIDE_BYTES + BLOCK_BYTES as usize];
        Rng::new(seed).fill(&mut noise);
        let noise = noise.into();
        Self { layout, noise }
    }

    /// How the bytes are cut.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// The bytes of a block on the grid.
    #[must_use]
    pub fn block(&self, block: Block) -> Bytes {
        let from = self.place(block);
        self.noise.slice(from..from + block.length as usize)
    }

    /// True if these are the bytes of the block.
    #[must_use]
    pub fn is_right(&self, block: Block, bytes: &[u8]) -> bool {
        let from = self.place(block);
        self.noise.get(from..from + block.length as usize) == Some(bytes)
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let blocks = self
            .layout
            .pieces()
            .flat_map(|piece| self.layout.blocks(piece));
        blocks.flat_map(|block| self.block(block)).collect()
    }

    /// The SHA-1 of each piece.
    #[must_use]
    pub fn hashes(&self) -> Vec<[u8; 20]> {
        let hash = |piece: PieceIndex| {
            let mut hasher = Sha1::new();
            for block in self.layout.blocks(piece) {
                hasher.update(self.block(block));
            }
            hasher.finalize().into()
        };
        self.layout.pieces().map(hash).collect()
    }

    /// Where in the noise the block's bytes begin.
    fn place(&self, block: Block) -> usize {
        let per_piece = self.layout.piece_length_max().div_ceil(BLOCK_BYTES) as usize;
        (block.piece.index() * per_piece + block.index()) * STRIDE_BYTES
    }
}

/// A digest of a block that tells a changed one from the right one.
#[must_use]
pub fn digest(bytes: &[u8]) -> BlockDigest {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let rest = rest.iter().map(|byte| u64::from(*byte));
    words.chain(rest).fold(0, mix)
}

/// Folds a number into a hash. Good against accidents, not against attackers.
#[must_use]
pub(crate) const fn mix(hash: u64, number: u64) -> u64 {
    let product = (hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (product ^ (product >> 29)).wrapping_add(hash.rotate_left(17))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_block_is_another_one_and_knows_itself() {
        let layout = Layout::new(100_003, 32_768).unwrap();
        let payload = Payload::new(layout, 1);
        let blocks = || layout.pieces().flat_map(|piece| layout.blocks(piece));
        let digests: BTreeSet<_> = blocks()
            .map(|block| digest(&payload.block(block)))
            .collect();
        assert_eq!(digests.len(), blocks().count());
        for block in blocks() {
            let mut bytes = payload.block(block).to_vec();
            assert!(payload.is_right(block, &bytes));
            let right = digest(&bytes);
            *bytes.last_mut().unwrap() ^= 1;
            assert!(!payload.is_right(block, &bytes));
            assert_ne!(digest(&bytes), right);
        }
        let whole = payload.bytes();
        assert_eq!(whole.len(), 100_003);
        let hashes = whole
            .chunks(32_768)
            .map(|piece| <[u8; 20]>::from(Sha1::digest(piece)));
        assert!(hashes.eq(payload.hashes()));
    }
}
