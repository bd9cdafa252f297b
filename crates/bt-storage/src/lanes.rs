//! SHA-1 of up to three messages at once, on one core.
//!
//! With the SHA extensions of x86-64 a core spends most of a message waiting, as each four rounds need the four before
//! them. Rounds of other messages fit into the gaps: 256 KiB in the cache went through one core at 1.75 times the speed
//! of one message with two, 2.1 times with three, and no faster with four. Elsewhere the `sha1` crate hashes one message
//! after the other; it is the oracle of the tests too.

/// The most messages that are worth hashing at once.
pub(crate) const LANES: usize = 3;

/// Bytes of a block of SHA-1 (FIPS 180-4, §5.2.1).
const BLOCK: usize = 64;

/// The value that the hash begins with (FIPS 180-4, §5.3.1).
const START: State = [
    0x6745_2301,
    0xefcd_ab89,
    0x98ba_dcfe,
    0x1032_5476,
    0xc3d2_e1f0,
];

type State = [u32; 5];

/// SHA-1 of one message, which can be hashed side by side with others.
#[derive(Clone, Debug)]
pub(crate) struct Hasher {
    state: State,
    /// Bytes of whole blocks that went into the state.
    hashed_bytes: u64,
    /// What came behind them: less than a block.
    rest: Vec<u8>,
}

impl Hasher {
    pub(crate) const fn new() -> Self {
        Self {
            state: START,
            hashed_bytes: 0,
            rest: Vec::new(),
        }
    }

    /// Hashes the next bytes of the message.
    pub(crate) fn update(&mut self, mut data: &[u8]) {
        if !self.rest.is_empty() {
            let fits = (BLOCK - self.rest.len()).min(data.len());
            let (now, later) = data.split_at(fits);
            self.rest.extend_from_slice(now);
            data = later;
            if self.rest.len() < BLOCK {
                return;
            }
            let full = core::mem::take(&mut self.rest);
            self.update(&full);
        }
        let (blocks, rest) = data.as_chunks::<BLOCK>();
        sha1::block_api::compress(&mut self.state, blocks);
        self.hashed_bytes += (blocks.len() * BLOCK) as u64;
        self.rest.extend_from_slice(rest);
    }

    /// The message's hash.
    pub(crate) fn finish(mut self) -> [u8; 20] {
        // The message's length in bits ends the last block (FIPS 180-4, §5.1.1).
        let bits = (self.hashed_bytes + self.rest.len() as u64) * 8;
        let blocks = (self.rest.len() + 1 + size_of::<u64>()).div_ceil(BLOCK);
        let mut end = core::mem::take(&mut self.rest);
        end.push(0x80);
        end.resize(blocks * BLOCK - size_of::<u64>(), 0);
        end.extend(bits.to_be_bytes());
        self.update(&end);
        let mut hash = [0; 20];
        let bytes = self.state.into_iter().flat_map(u32::to_be_bytes);
        hash.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        hash
    }
}

/// The hash of one message.
pub(crate) fn sha1(message: &[u8]) -> [u8; 20] {
    let mut hasher = Hasher::new();
    hasher.update(message);
    hasher.finish()
}

/// Hashes the next bytes of several messages: side by side as far as all have some, and what is left one after the other.
pub(crate) fn update_together<const N: usize>(mut messages: [(&mut Hasher, &[u8]); N]) {
    let is_even = messages.iter().all(|(hasher, _)| hasher.rest.is_empty());
    let shortest = messages.iter().map(|(_, data)| data.len() / BLOCK).min();
    let count = shortest.filter(|_| is_even).unwrap_or_default();
    let mut states = messages.each_ref().map(|(hasher, _)| hasher.state);
    let parts = messages
        .each_ref()
        .map(|(_, data)| data.split_at(count * BLOCK));
    compress(&mut states, parts.map(|(now, _)| now.as_chunks().0));
    for (((hasher, _), state), (_, later)) in messages.iter_mut().zip(states).zip(parts) {
        hasher.state = state;
        hasher.hashed_bytes += (count * BLOCK) as u64;
        hasher.update(later);
    }
}

fn compress<const N: usize>(states: &mut [State; N], blocks: [&[[u8; BLOCK]]; N]) {
    #[cfg(target_arch = "x86_64")]
    if N > 1 && x86::is_available() {
        x86::compress(states, blocks);
        return;
    }
    for (state, blocks) in states.iter_mut().zip(blocks) {
        sha1::block_api::compress(state, blocks);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;
