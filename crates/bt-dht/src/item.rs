//! Items of BEP 44: any bencoded value under its hash, or a signed one under its owner's key.
//!
//! A signature is over `4:salt LENGTH:SALT 3:seq i SEQ e 1:v VALUE` (the salt only if there is one), with ed25519.

use crate::id::NodeId;
use crate::secret::sha1;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

/// The longest value, in bytes, bencoded (BEP 44: storing more may fail).
pub const VALUE_MAX_BYTES: usize = 1000;
/// The longest salt, in bytes (BEP 44).
pub const SALT_MAX_BYTES: usize = 64;

/// Something that nodes store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A bencoded value, stored under its SHA-1.
    Immutable(Vec<u8>),
    /// A bencoded value, stored under its owner's public key.
    Mutable(MutableItem),
}

/// A signed item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutableItem {
    /// The owner's ed25519 public key.
    pub key: [u8; 32],
    /// Which of the owner's items it is; empty for the only one.
    pub salt: Vec<u8>,
    /// Its number: higher is newer.
    pub seq: i64,
    /// The value, bencoded.
    pub value: Vec<u8>,
    /// The owner's signature.
    pub signature: [u8; 64],
}

/// What an owner signs with.
pub struct SigningKey(Ed25519KeyPair);

/// The private half stays where it is.
impl core::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SigningKey({:02x?})", self.public())
    }
}

impl SigningKey {
    /// The key that belongs to a seed of 32 secret bytes (RFC 8032, 5.1.5).
    ///
    /// # Panics
    /// Never: any 32 bytes are a seed.
    #[must_use]
    pub fn new(seed: &[u8; 32]) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(seed).expect("32 bytes are a seed"))
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        let mut key = [0; 32];
        key.iter_mut()
            .zip(self.0.public_key().as_ref())
            .for_each(|(to, from)| *to = *from);
        key
    }

    /// A signed item. `value` is bencoded.
    #[must_use]
    pub fn sign(&self, salt: &[u8], seq: i64, value: Vec<u8>) -> MutableItem {
        let signed = self.0.sign(&signed_bytes(salt, seq, &value));
        let mut signature = [0; 64];
        signature
            .iter_mut()
            .zip(signed.as_ref())
            .for_each(|(to, from)| *to = *from);
        MutableItem {
            key: self.public(),
            salt: salt.to_vec(),
            seq,
            value,
            signature,
        }
    }
}

impl Item {
    /// The value, bencoded.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        match self {
            Self::Immutable(value) => value,
            Self::Mutable(item) => &item.value,
        }
    }

    /// The item, if it is a signed one.
    #[must_use]
    pub const fn as_mutable(&self) -> Option<&MutableItem> {
        match self {
            Self::Immutable(_) => None,
            Self::Mutable(item) => Some(item),
        }
    }

    /// Where it is stored.
    #[must_use]
    pub fn target(&self) -> NodeId {
        match self {
            Self::Immutable(value) => NodeId(sha1(&[value])),
            Self::Mutable(item) => mutable_target(&item.key, &item.salt),
        }
    }

    /// True if it is what its target says: of an immutable item always, of a mutable one if its owner signed it.
    #[must_use]
    pub fn is_genuine(&self) -> bool {
        match self {
            Self::Immutable(_) => true,
            Self::Mutable(item) => UnparsedPublicKey::new(&ED25519, &item.key)
                .verify(
                    &signed_bytes(&item.salt, item.seq, &item.value),
                    &item.signature,
                )
                .is_ok(),
        }
    }
}

/// Where the items of an owner are stored.
#[must_use]
pub fn mutable_target(key: &[u8; 32], salt: &[u8]) -> NodeId {
    NodeId(sha1(&[key, salt]))
}

/// A string as a value.
#[must_use]
pub fn string_value(bytes: &[u8]) -> Vec<u8> {
    bt_bencode::Node::from(bytes).encode()
}

/// The string that a value is, if it is one.
#[must_use]
pub fn value_string(value: &[u8]) -> Option<&[u8]> {
    let document = bt_bencode::decode(value, &bt_bencode::Options::lenient()).ok()?;
    document.root().as_bytes()
}

fn signed_bytes(salt: &[u8], seq: i64, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(salt.len() + value.len() + 48);
    if !salt.is_empty() {
        bytes.extend_from_slice(format!("4:salt{}:", salt.len()).as_bytes());
        bytes.extend_from_slice(salt);
    }
    bytes.extend_from_slice(format!("3:seqi{seq}e1:v").as_bytes());
    bytes.extend_from_slice(value);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use bt_core::InfoHash;

    fn bytes<const N: usize>(hex: &serde_json::Value) -> [u8; N] {
        let hex = hex.as_str().unwrap();
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        bytes.try_into().unwrap()
    }

    #[test]
    fn bep_44_vectors() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../testdata/bep44.json")).unwrap();
        for case in golden["cases"].as_array().unwrap() {
            let value = case["value"].as_str().unwrap().as_bytes().to_vec();
            let target: InfoHash = case["target"].as_str().unwrap().parse().unwrap();
            let item = if case["kind"] == "immutable" {
                Item::Immutable(value)
            } else {
                let salt = case["salt"].as_str().unwrap_or_default().as_bytes();
                let seq = case["seq"].as_i64().unwrap();
                let buffer = case["buffer"].as_str().unwrap().as_bytes();
                assert_eq!(signed_bytes(salt, seq, &value), buffer);
                Item::Mutable(MutableItem {
                    key: bytes(&case["public_key"]),
                    salt: salt.to_vec(),
                    seq,
                    value,
                    signature: bytes(&case["signature"]),
                })
            };
            assert_eq!(item.target(), NodeId::from(target));
            assert!(item.is_genuine());
            if let Item::Mutable(mut forged) = item {
                forged.seq += 1;
                assert!(!Item::Mutable(forged).is_genuine());
            }
        }
    }

    #[test]
    fn strings_are_values_and_some_values_strings() {
        assert_eq!(string_value(b"Hello World!"), b"12:Hello World!");
        assert_eq!(value_string(b"12:Hello World!"), Some(&b"Hello World!"[..]));
        assert_eq!(value_string(b"i1e"), None);
        assert_eq!(value_string(b"5:abc"), None);
    }

    #[test]
    fn what_is_signed_is_genuine() {
        let key = SigningKey::new(&[9; 32]);
        let item = key.sign(b"news", 7, b"i42e".to_vec());
        assert!(Item::Mutable(item.clone()).is_genuine());
        let mut other_salt = item.clone();
        other_salt.salt = b"olds".to_vec();
        assert!(!Item::Mutable(other_salt).is_genuine());
        let mut other_value = item;
        other_value.value = b"i43e".to_vec();
        assert!(!Item::Mutable(other_value).is_genuine());
    }
}
