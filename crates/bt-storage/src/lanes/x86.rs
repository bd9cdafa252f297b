//! The rounds of several messages in turns, with the SHA extensions of x86-64.
//!
//! Loops instead of closures: a closure with these instructions in it is not inlined into what takes it, which costs
//! four times the whole work.
#![allow(
    unsafe_code,
    reason = "instructions that only some processors have; no crate in use hashes several messages at once"
)]
#![allow(
    clippy::indexing_slicing,
    clippy::needless_range_loop,
    reason = "lanes below `N` and constants: what the compiler sees costs nothing in the innermost loop"
)]

use super::{BLOCK, State};
use core::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_extract_epi32, _mm_loadu_si128, _mm_set_epi8, _mm_set_epi32,
    _mm_setzero_si128, _mm_sha1msg1_epu32, _mm_sha1msg2_epu32, _mm_sha1nexte_epu32,
    _mm_sha1rnds4_epu32, _mm_shuffle_epi8, _mm_xor_si128,
};

/// One register of each message.
type Row<const N: usize> = [__m128i; N];

/// True if this processor has what [`compress`] needs.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("sse4.1")
}

/// Hashes the blocks of each message, equally many of all.
///
/// # Panics
/// If the processor cannot.
pub(super) fn compress<const N: usize>(states: &mut [State; N], blocks: [&[[u8; BLOCK]]; N]) {
    assert!(is_available(), "the processor has the SHA extensions");
    // SAFETY: the features that the function is compiled for are there.
    unsafe { compress_with_extensions(states, blocks) }
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress_with_extensions<const N: usize>(states: &mut [State; N], blocks: [&[[u8; BLOCK]]; N]) {
    let mut lanes: Registers<N> = Registers {
        abcd: [_mm_setzero_si128(); N],
        e: [_mm_setzero_si128(); N],
    };
    for lane in 0..N {
        let [a, b, c, d, e] = states[lane].map(u32::cast_signed);
        lanes.abcd[lane] = _mm_set_epi32(a, b, c, d);
        lanes.e[lane] = _mm_set_epi32(e, 0, 0, 0);
    }
    let count = blocks.iter().map(|blocks| blocks.len()).min();
    for number in 0..count.unwrap_or_default() {
        lanes.hash_block(load(&blocks, number));
    }
    for (lane, state) in states.iter_mut().enumerate() {
        let (abcd, e) = (lanes.abcd[lane], lanes.e[lane]);
        *state = [
            _mm_extract_epi32::<3>(abcd),
            _mm_extract_epi32::<2>(abcd),
            _mm_extract_epi32::<1>(abcd),
            _mm_extract_epi32::<0>(abcd),
            _mm_extract_epi32::<3>(e),
        ]
        .map(i32::cast_unsigned);
    }
}

/// The state of each message: `a` to `d` in one register, the highest number first, and `e` in the highest of another.
struct Registers<const N: usize> {
    abcd: Row<N>,
    e: Row<N>,
}

impl<const N: usize> Registers<N> {
    /// Eighty rounds of each message (FIPS 180-4, §6.1.2), four at a time.
    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn hash_block(&mut self, mut words: [Row<N>; 4]) {
        let (abcd, e) = (self.abcd, self.e);
        self.first_rounds(&words[0]);
        for row in [words[1], words[2], words[3]] {
            self.rounds::<0>(&row);
        }
        self.rounds::<0>(next_words(&mut words));
        for _ in 0..5 {
            self.rounds::<1>(next_words(&mut words));
        }
        for _ in 0..5 {
            self.rounds::<2>(next_words(&mut words));
        }
        for _ in 0..5 {
            self.rounds::<3>(next_words(&mut words));
        }
        for lane in 0..N {
            self.e[lane] = _mm_sha1nexte_epu32(self.e[lane], e[lane]);
            self.abcd[lane] = _mm_add_epi32(self.abcd[lane], abcd[lane]);
        }
    }

    /// The first four rounds, to which `e` comes as it is.
    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn first_rounds(&mut self, words: &Row<N>) {
        for lane in 0..N {
            let e_and_words = _mm_add_epi32(self.e[lane], words[lane]);
            self.e[lane] = self.abcd[lane];
            self.abcd[lane] = _mm_sha1rnds4_epu32::<0>(self.abcd[lane], e_and_words);
        }
    }

    /// Four later rounds, whose `e` is made of the `a` of four rounds before.
    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn rounds<const PHASE: i32>(&mut self, words: &Row<N>) {
        for lane in 0..N {
            let e_and_words = _mm_sha1nexte_epu32(self.e[lane], words[lane]);
            self.e[lane] = self.abcd[lane];
            self.abcd[lane] = _mm_sha1rnds4_epu32::<PHASE>(self.abcd[lane], e_and_words);
        }
    }
}

/// The sixteen words of one block of each message, four in a register, the first one highest.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn load<const N: usize>(blocks: &[&[[u8; BLOCK]]; N], number: usize) -> [Row<N>; 4] {
    let reversed = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let mut words = [[_mm_setzero_si128(); N]; 4];
    for lane in 0..N {
        let (quarters, _) = blocks[lane][number].as_chunks::<16>();
        for row in 0..4 {
            // SAFETY: sixteen bytes are read, which is the length of the array; any address will do.
            let bytes = unsafe { _mm_loadu_si128(quarters[row].as_ptr().cast()) };
            words[row][lane] = _mm_shuffle_epi8(bytes, reversed);
        }
    }
    words
}

/// Replaces the four oldest words of each message by the four that come next, and returns these.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn next_words<const N: usize>(words: &mut [Row<N>; 4]) -> &Row<N> {
    let [oldest, second, third, last] = *words;
    let mut next = last;
    for lane in 0..N {
        let mixed = _mm_xor_si128(_mm_sha1msg1_epu32(oldest[lane], second[lane]), third[lane]);
        next[lane] = _mm_sha1msg2_epu32(mixed, last[lane]);
    }
    *words = [second, third, last, next];
    &words[3]
}
