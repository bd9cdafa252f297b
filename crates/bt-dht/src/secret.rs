//! Numbers that nobody can foresee: transaction ids and the secrets behind tokens.
//!
//! A generator whose output goes over the wire can be computed back from it, and [`bt_core::Rng`] is not for secrets.
//! So these come from SHA-1 over a key that never leaves the node, and a counter.

use sha1::{Digest, Sha1};

/// A node's key and how often it was used.
#[derive(Clone)]
pub(crate) struct Secret {
    key: [u8; 32],
    used: u64,
}

impl Secret {
    pub(crate) const fn new(key: [u8; 32]) -> Self {
        Self { key, used: 0 }
    }

    /// The next twenty bytes.
    pub(crate) fn draw(&mut self) -> [u8; 20] {
        self.used += 1;
        sha1(&[&self.key, &self.used.to_be_bytes()])
    }

    /// Four bytes, for a transaction.
    pub(crate) fn transaction(&mut self) -> u32 {
        let [a, b, c, d, ..] = self.draw();
        u32::from_be_bytes([a, b, c, d])
    }
}

/// The key stays where it is, even when somebody prints the node.
impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret")
    }
}

/// SHA-1 over the parts in order.
pub(crate) fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    let mut hasher = Sha1::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}
