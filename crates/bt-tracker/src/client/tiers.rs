//! The order in which trackers are tried (BEP 12): tiers in order, shuffled inside, the one that works in front.
//!
//! **Invariant:** the set of trackers never changes, and none ever leaves its tier.

use super::tracker::Tracker;
use bt_core::Rng;
use std::collections::BTreeSet;

/// Most trackers of one torrent. Lists of hundreds exist, are mostly dead, and each costs a request now and then.
pub(super) const TRACKERS_MAX: usize = 64;

/// Where a tracker stands until the next [`Tiers::promote`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position(usize);

#[derive(Clone, Debug)]
pub(super) struct Tiers {
    /// Ordered by tier.
    trackers: Vec<Tracker>,
    /// The one that is in use: the last to answer well.
    current: Option<usize>,
}

impl Tiers {
    pub(super) fn new(tiers: Vec<Vec<String>>, rng: &mut Rng) -> Self {
        let mut seen = BTreeSet::new();
        let mut trackers = Vec::new();
        for (tier, mut urls) in tiers.into_iter().enumerate() {
            urls.retain(|url| seen.insert(url.clone()));
            rng.shuffle(&mut urls);
            trackers.extend(urls.into_iter().map(|url| Tracker::new(url, tier)));
        }
        trackers.truncate(TRACKERS_MAX);
        Self {
            trackers,
            current: None,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Tracker> {
        self.trackers.iter()
    }

    /// The first tracker, in the order in which they are tried, of which the predicate is true.
    pub(super) fn position(&self, predicate: impl Fn(&Tracker) -> bool) -> Option<Position> {
        self.trackers.iter().position(predicate).map(Position)
    }

    pub(super) fn tracker_mut(&mut self, position: Position) -> Option<&mut Tracker> {
        self.trackers.get_mut(position.0)
    }

    pub(super) fn current(&self) -> Option<&Tracker> {
        self.current.and_then(|current| self.trackers.get(current))
    }

    /// It works: to the front of its tier, and in use from now on.
    pub(super) fn promote(&mut self, position: Position) {
        let Some(tier) = self.trackers.get(position.0).map(|tracker| tracker.tier) else {
            return;
        };
        let front = self
            .trackers
            .iter()
            .position(|tracker| tracker.tier == tier)
            .unwrap_or(position.0);
        if let Some(moved) = self.trackers.get_mut(front..=position.0) {
            moved.rotate_right(1);
        }
        self.current = Some(front);
    }

    /// It does not work: if it was in use, none is.
    pub(super) fn demote(&mut self, position: Position) {
        self.current = self.current.filter(|current| *current != position.0);
    }
}
