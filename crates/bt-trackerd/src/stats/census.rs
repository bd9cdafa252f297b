//! Which programs the peers use, as far as their ids tell.
//!
//! Nothing is counted when peers announce: now and then all ids are looked at, portion by portion.

use crate::shard::Shards;
use bt_core::PeerId;
use bt_wire::client::client_name;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Most kinds of ids that are told apart: peers choose their ids. The others are counted together.
const KINDS_MAX: usize = 1_024;

/// Most programs that are named. The others are counted together.
const NAMED_MAX: usize = 15;

/// Programs and how many peers use them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// The most used first.
    pub(crate) named: Vec<(String, u64)>,
    /// Less used ones, and ids that tell nothing.
    pub(crate) others: u64,
}

/// The latest census.
#[derive(Debug, Default)]
pub(crate) struct Latest(Mutex<Arc<Census>>);

impl Latest {
    pub(crate) fn set(&self, census: Census) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(census);
    }

    pub(crate) fn get(&self) -> Arc<Census> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Census {
    pub(crate) fn take(shards: &Shards) -> Self {
        let mut kinds = Kinds::default();
        shards.peer_ids(&mut |id| kinds.add(id));
        kinds.census()
    }
}

/// Ids by how they begin, with one of each for its name.
#[derive(Default)]
struct Kinds {
    known: BTreeMap<[u8; 8], (PeerId, u64)>,
    others: u64,
}

impl Kinds {
    fn add(&mut self, id: &PeerId) {
        let Some(kind) = id.as_bytes().first_chunk() else {
            return;
        };
        if let Some((_, count)) = self.known.get_mut(kind) {
            *count += 1;
        } else if self.known.len() < KINDS_MAX {
            self.known.insert(*kind, (*id, 1));
        } else {
            self.others += 1;
        }
    }

    fn census(self) -> Census {
        let mut by_name: BTreeMap<String, u64> = BTreeMap::new();
        let mut others = self.others;
        for (id, count) in self.known.into_values() {
            match client_name(&id) {
                Some(name) => *by_name.entry(name).or_default() += count,
                None => others += count,
            }
        }
        let mut named: Vec<_> = by_name.into_iter().collect();
        named.sort_by_key(|(_, count)| core::cmp::Reverse(*count));
        others += named
            .iter()
            .skip(NAMED_MAX)
            .map(|(_, count)| count)
            .sum::<u64>();
        named.truncate(NAMED_MAX);
        Census { named, others }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_named_counted_and_bounded() {
        let mut kinds = Kinds::default();
        let mut add = |begin: &[u8], times: usize| {
            for n in 0..times {
                let mut id = [u8::try_from(n % 256).unwrap(); 20];
                id[..begin.len()].copy_from_slice(begin);
                kinds.add(&PeerId(id));
            }
        };
        add(b"-TR4060-", 30);
        add(b"-qB4520-", 40);
        add(b"<script>", 7);
        for n in 0..14 {
            add(format!("-TR{}0{}0-", 4 + n / 10, n % 10).as_bytes(), 1);
        }
        let census = kinds.census();
        assert_eq!(census.named[0], ("qBittorrent 4.5.2".to_owned(), 40));
        assert_eq!(census.named[1], ("Transmission 4.0.6".to_owned(), 31));
        assert_eq!(census.named.len(), NAMED_MAX);
        assert_eq!(census.others, 7);
        assert!(!census.named.iter().any(|(name, _)| name.contains('<')));

        let mut kinds = Kinds::default();
        for n in 0..5_000_u32 {
            let mut id = [0; 20];
            id[..4].copy_from_slice(&n.to_be_bytes());
            kinds.add(&PeerId(id));
        }
        assert_eq!(kinds.known.len(), KINDS_MAX);
        assert_eq!(kinds.census().others, 5_000);
    }
}
