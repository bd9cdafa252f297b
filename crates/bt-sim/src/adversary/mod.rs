//! Machines alone against somebody who means them ill: whatever can happen to one happens, in an order made of bytes.
//!
//! Each `play` reads a script of bytes, one decision after another, carries out what the machine orders as a shell would,
//! and checks it after each fact. The bytes come from a seed in tests, and from the fuzzer in `tests/fuzz`.
//!
//! **Invariant:** what a shell promises is kept: facts answer orders, time does not run backwards, jobs of one piece are
//! done in order. All else, what peers, trackers, disk and user do, is as bad as the bytes have it.

pub mod announcer;
pub mod engine;
mod heal;
mod messages;
mod peer;
mod stage;
mod tally;

use bt_core::Rng;

/// The longest script of a seed, in bytes: a connection can be opened, used, abused and closed, and others after it.
const SCRIPT_MAX_BYTES: usize = 4_000;

/// The script of a seed.
#[must_use]
pub fn script(seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut script = vec![0; rng.index(SCRIPT_MAX_BYTES)];
    rng.fill(&mut script);
    script
}

/// A script: decisions read from bytes.
#[derive(Debug)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// The decisions that these bytes stand for.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// True once there is nothing left to decide with: from then on all is 0.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *byte
    }

    /// Up to so many bytes as they stand.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A number in `0..bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        let number = match bound {
            0..=256 => u32::from(self.byte()),
            257..=65_536 => u32::from(u16::from_be_bytes([self.byte(), self.byte()])),
            _ => self.number(),
        };
        number.checked_rem(bound).unwrap_or(0)
    }

    /// Any 32 bits.
    pub fn number(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// An index into something of length `len`; 0 if `len` is 0.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(u32::try_from(len).unwrap_or(u32::MAX)) as usize
    }

    /// True in about `percent` of 100 cases; false once the script is over.
    pub fn chance(&mut self, percent: u32) -> bool {
        !self.is_over() && self.below(100) < percent
    }

    /// One of these.
    ///
    /// # Panics
    /// If there are none.
    pub fn one<T: Clone>(&mut self, of: &[T]) -> T {
        let index = self.index(of.len());
        of.get(index).expect("one of some").clone()
    }
}
