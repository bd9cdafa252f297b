//! Items of BEP 44 that others put here.
//!
//! **Invariant:** each item is genuine, and there are [`ITEMS_MAX`] at most; the farthest from us goes first, as others
//! look for it elsewhere.

use crate::id::NodeId;
use crate::item::Item;
use crate::krpc::{KrpcError, StoredItem, code};
use bt_core::Time;
use core::time::Duration;
use std::collections::BTreeMap;

/// Items that are kept: as libtorrent's `dht_max_dht_items`. At 1000 bytes each under a megabyte.
pub const ITEMS_MAX: usize = 700;
/// How long an item is kept after it was put (BEP 44, "expiration").
pub const ITEM_EXPIRY: Duration = Duration::from_secs(2 * 60 * 60);

/// Why an item is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// Its owner did not sign it.
    #[error("the signature is not of this key")]
    BadSignature,
    /// What is kept has another number than it should.
    #[error("the stored sequence number is another")]
    CasMismatch,
    /// What is kept is newer, or another value with the same number.
    #[error("the stored item is newer")]
    SeqTooLow,
    /// A number below 0.
    #[error("the sequence number is negative")]
    NegativeSeq,
    /// There are enough items, and all are nearer to us.
    #[error("full")]
    Full,
}

impl PutError {
    /// What the sender is told.
    #[must_use]
    pub fn to_krpc(self) -> KrpcError {
        let code = match self {
            Self::BadSignature => code::BAD_SIGNATURE,
            Self::CasMismatch => code::CAS_MISMATCH,
            Self::SeqTooLow => code::SEQ_TOO_LOW,
            Self::NegativeSeq => code::PROTOCOL,
            Self::Full => code::SERVER,
        };
        KrpcError::new(code, &self.to_string())
    }
}

#[derive(Clone, Debug)]
struct Kept {
    item: Item,
    put: Time,
}

/// The items kept for others.
#[derive(Clone, Debug, Default)]
pub struct ItemStore {
    items: BTreeMap<NodeId, Kept>,
}

impl ItemStore {
    /// Keeps an item, or keeps it for longer.
    ///
    /// # Errors
    /// [`PutError`].
    pub fn put(
        &mut self,
        now: Time,
        item: Item,
        cas: Option<i64>,
        own: &NodeId,
    ) -> Result<(), PutError> {
        self.items
            .retain(|_, kept| now.since(kept.put) < ITEM_EXPIRY);
        let target = item.target();
        if let Some(new) = item.as_mutable() {
            if new.seq < 0 {
                return Err(PutError::NegativeSeq);
            }
            let kept = self.items.get(&target);
            if let Some(kept) = kept.and_then(|kept| kept.item.as_mutable()) {
                if cas.is_some_and(|cas| cas != kept.seq) {
                    return Err(PutError::CasMismatch);
                }
                let same = new.seq == kept.seq && new.value == kept.value;
                if new.seq <= kept.seq && !same {
                    return Err(PutError::SeqTooLow);
                }
            }
        }
        // Last, as it costs the most.
        if !item.is_genuine() {
            return Err(PutError::BadSignature);
        }
        self.make_room(&target, own)?;
        self.items.insert(target, Kept { item, put: now });
        Ok(())
    }

    /// What a `get` is answered. The value is left out if it is no newer than `seq`.
    #[must_use]
    pub fn find(&self, now: Time, target: &NodeId, seq: Option<i64>) -> Option<StoredItem> {
        let kept = self.items.get(target)?;
        if now.since(kept.put) >= ITEM_EXPIRY {
            return None;
        }
        Some(match &kept.item {
            Item::Immutable(value) => StoredItem {
                value: Some(value.clone()),
                ..StoredItem::default()
            },
            Item::Mutable(item) if seq.is_some_and(|seq| item.seq <= seq) => StoredItem {
                seq: Some(item.seq),
                ..StoredItem::default()
            },
            Item::Mutable(item) => StoredItem {
                value: Some(item.value.clone()),
                key: Some(item.key),
                seq: Some(item.seq),
                signature: Some(item.signature),
            },
        })
    }

    /// How many items are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn make_room(&mut self, target: &NodeId, own: &NodeId) -> Result<(), PutError> {
        if self.items.contains_key(target) || self.items.len() < ITEMS_MAX {
            return Ok(());
        }
        let farthest = self
            .items
            .keys()
            .max_by_key(|key| key.distance(own))
            .copied();
        match farthest {
            Some(farthest) if farthest.distance(own) > target.distance(own) => {
                self.items.remove(&farthest);
                Ok(())
            }
            _ => Err(PutError::Full),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::SigningKey;
    use bt_core::Rng;

    const OWN: NodeId = NodeId([0; 20]);

    #[test]
    fn fault_134_mutable_items_only_go_forward() {
        let key = SigningKey::new(&[1; 32]);
        let item = |seq, value: &[u8]| Item::Mutable(key.sign(b"s", seq, value.to_vec()));
        let mut forged = key.sign(b"s", 9, b"i9e".to_vec());
        forged.signature[0] ^= 1;
        let rows = [
            (
                item(5, b"i1e"),
                Some(99),
                Ok(()),
                "nothing there: cas is passed over",
            ),
            (item(5, b"i1e"), None, Ok(()), "the same again keeps it"),
            (
                item(5, b"i2e"),
                None,
                Err(PutError::SeqTooLow),
                "another value",
            ),
            (item(4, b"i1e"), None, Err(PutError::SeqTooLow), "rollback"),
            (item(6, b"i2e"), Some(4), Err(PutError::CasMismatch), "cas"),
            (item(6, b"i2e"), Some(5), Ok(()), "cas fits"),
            (
                Item::Mutable(forged),
                None,
                Err(PutError::BadSignature),
                "forged",
            ),
            (
                item(-1, b"i2e"),
                None,
                Err(PutError::NegativeSeq),
                "negative",
            ),
        ];
        let mut store = ItemStore::default();
        for (item, cas, expected, what) in rows {
            assert_eq!(store.put(Time::ZERO, item, cas, &OWN), expected, "{what}");
        }
        let target = item(6, b"i2e").target();
        let found = |seq, second| store.find(Time::from_secs(second), &target, seq);
        assert_eq!(found(None, 0).unwrap().value.unwrap(), b"i2e");
        assert_eq!(found(Some(5), 0).unwrap().seq, Some(6));
        assert_eq!(found(Some(6), 0).unwrap().value, None, "nothing newer");
        assert!(found(None, 7199).is_some() && found(None, 7200).is_none());
    }

    #[test]
    fn fault_134_a_flood_of_items_is_bounded_and_the_nearest_stay() {
        let mut rng = Rng::new(5);
        let mut store = ItemStore::default();
        let mut all = Vec::new();
        for _ in 0..5000 {
            let item = Item::Immutable(format!("i{}e", rng.next_u64()).into_bytes());
            all.push(item.target());
            // Full is an answer too.
            let _ = store.put(Time::ZERO, item, None, &OWN);
        }
        all.sort_unstable();
        all.truncate(ITEMS_MAX);
        assert_eq!(store.items.keys().copied().collect::<Vec<_>>(), all);
        let later = Time::ZERO + ITEM_EXPIRY;
        store
            .put(later, Item::Immutable(b"0:".to_vec()), None, &OWN)
            .unwrap();
        assert_eq!(store.len(), 1, "the old ones are forgotten");
    }
}
