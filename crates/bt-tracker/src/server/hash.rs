//! The keyed hash of the tracker's tables.
//!
//! Info hashes and addresses come from strangers. With a hash they can compute, they could choose ones that all fall
//! into the same place, and make each look-up walk over all of them.

use bt_core::Rng;

/// A hash function, one of 2^128.
#[derive(Clone, Debug)]
pub(super) struct HashKey {
    start: u64,
    factor: u64,
}

impl HashKey {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            start: rng.next_u64(),
            factor: rng.next_u64() | 1,
        }
    }

    /// Eight bytes at a time: multiply to 128 bits and fold, as wyhash does it.
    pub(super) fn hash(&self, bytes: &[u8]) -> u64 {
        let (words, rest) = bytes.as_chunks::<8>();
        // An info hash ends with four bytes, the others have any number.
        let tail = match rest.first_chunk::<4>() {
            Some(four) if rest.len() == 4 => u64::from(u32::from_be_bytes(*four)) | 4 << 32,
            _ => rest
                .iter()
                .fold(rest.len() as u64, |word, byte| word << 8 | u64::from(*byte)),
        };
        words
            .iter()
            .map(|word| u64::from_le_bytes(*word))
            .chain([tail])
            .fold(self.start, |state, word| {
                let wide = u128::from(state ^ word) * u128::from(self.factor);
                fold(wide) ^ self.start.rotate_left(23)
            })
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the two halves are what is wanted"
)]
const fn fold(wide: u128) -> u64 {
    (wide as u64) ^ ((wide >> 64) as u64)
}
