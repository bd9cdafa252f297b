//! What we write: a tree of values, encoded canonically by `bendy`, whose encoder refuses anything else.

use bendy::encoding::{Encoder, Error, SingleItemEncoder};
use std::collections::BTreeMap;

/// A value to be written. Keys are sorted by the type, so that the encoding is always canonical.
///
/// Nested deeper than [`DEPTH_MAX`](crate::decode::DEPTH_MAX), it could be written but no longer read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// `i…e`. Wide enough for every integer type in use.
    Int(i128),
    /// `length:bytes`.
    Bytes(Vec<u8>),
    /// `l…e`.
    List(Vec<Node>),
    /// `d…e`.
    Dict(BTreeMap<Vec<u8>, Node>),
}

impl Node {
    /// A list.
    pub fn list<N: Into<Self>>(items: impl IntoIterator<Item = N>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }

    /// A dictionary. Of entries with the same key, the last one stays.
    pub fn dict<K: AsRef<[u8]>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        let entries = entries.into_iter();
        Self::Dict(
            entries
                .map(|(key, node)| (key.as_ref().to_vec(), node))
                .collect(),
        )
    }

    /// The canonical encoding.
    ///
    /// # Panics
    /// Never: sorted keys and whole values are all that `bendy` asks for.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new().with_max_depth(usize::MAX);
        let written = encoder.emit_with(|slot| self.emit(slot));
        written
            .and_then(|()| encoder.get_output())
            .expect("a tree with sorted keys is canonical")
    }

    fn emit(&self, slot: SingleItemEncoder<'_>) -> Result<(), Error> {
        match self {
            Self::Int(number) => slot.emit_int(*number),
            Self::Bytes(bytes) => slot.emit_bytes(bytes),
            Self::List(items) => slot.emit_list(|list| {
                items
                    .iter()
                    .try_for_each(|item| list.emit_with(|slot| item.emit(slot)))
            }),
            Self::Dict(entries) => slot.emit_dict(|mut dict| {
                entries
                    .iter()
                    .try_for_each(|(key, node)| dict.emit_pair_with(key, |slot| node.emit(slot)))
            }),
        }
    }
}

macro_rules! from_integers {
    ($($integer:ty)*) => {$(
        impl From<$integer> for Node {
            fn from(number: $integer) -> Self {
                Self::Int(number.into())
            }
        }
    )*};
}

from_integers!(bool u8 u16 u32 u64 i32 i64);

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::Bytes(text.into())
    }
}

impl From<String> for Node {
    fn from(text: String) -> Self {
        Self::Bytes(text.into())
    }
}

impl From<&[u8]> for Node {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl<const N: usize> From<&[u8; N]> for Node {
    fn from(bytes: &[u8; N]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Node {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

/// A dictionary of values that are encoded already, byte for byte as they are given.
///
/// This is how bytes that must not change (an info dictionary with its hash) get into something new; `bendy` has no
/// way to write a value it did not encode itself.
#[must_use]
pub fn assemble_dict<V: AsRef<[u8]>>(entries: &BTreeMap<Vec<u8>, V>) -> Vec<u8> {
    let mut out = vec![b'd'];
    for (key, value) in entries {
        out.extend_from_slice(key.len().to_string().as_bytes());
        out.push(b':');
        out.extend_from_slice(key);
        out.extend_from_slice(value.as_ref());
    }
    out.push(b'e');
    out
}
