//! When to look for a torrent's peers, and to say that we are one.
//!
//! At once, then every 15 to 25 minutes, so that stored peers never expire (others keep them for 30 minutes at least).
//! While nobody is found, sooner: after 2 seconds, and each time twice as long. **Invariant:** a torrent has one search
//! under way at most.

use bt_core::{InfoHash, Rng, Time};
use core::time::Duration;
use std::collections::BTreeMap;

/// From one announce to the next at least.
pub const ANNOUNCE_EVERY: Duration = Duration::from_secs(15 * 60);
/// Up to so much is added by lot, in seconds, so that torrents started together drift apart.
const SPREAD_S: u64 = 10 * 60;
/// How soon to look again when nobody was found: the other one may have just started.
const RETRY_MIN: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
struct Schedule {
    /// `None` while a search is under way.
    next: Option<Time>,
    retry: Duration,
    /// Whether the last search found peers.
    found: bool,
}

/// The torrents of a program.
#[derive(Clone, Debug, Default)]
pub struct Announces {
    torrents: BTreeMap<InfoHash, Schedule>,
}

impl Announces {
    /// A torrent starts: it is due at once.
    pub fn enter(&mut self, now: Time, info_hash: InfoHash) {
        let schedule = Schedule {
            next: Some(now),
            retry: RETRY_MIN,
            found: false,
        };
        self.torrents.insert(info_hash, schedule);
    }

    /// A torrent stops.
    pub fn leave(&mut self, info_hash: InfoHash) {
        self.torrents.remove(&info_hash);
    }

    /// A torrent whose turn it is; a search for it is then taken to be under way until [`done`](Self::done).
    pub fn due(&mut self, now: Time) -> Option<InfoHash> {
        let due = |schedule: &Schedule| schedule.next.is_some_and(|next| next <= now);
        let (info_hash, schedule) = self
            .torrents
            .iter_mut()
            .find(|(_, schedule)| due(schedule))?;
        schedule.next = None;
        Some(*info_hash)
    }

    /// A search ended, and found so many peers.
    pub fn done(&mut self, now: Time, info_hash: InfoHash, peers: usize, rng: &mut Rng) {
        let Some(schedule) = self.torrents.get_mut(&info_hash) else {
            return;
        };
        let usual = ANNOUNCE_EVERY + Duration::from_secs(rng.below(SPREAD_S));
        schedule.found = peers > 0;
        let after = if schedule.found {
            usual
        } else {
            schedule.retry.min(usual)
        };
        schedule.retry = (schedule.retry * 2).min(ANNOUNCE_EVERY);
        schedule.next = Some(now + after);
    }

    /// The DHT was just joined: whoever found nobody before looks again now.
    pub fn joined(&mut self, now: Time) {
        for schedule in self.torrents.values_mut() {
            if !schedule.found {
                // There was nobody to ask until now, so that it found nobody says nothing of the swarm.
                schedule.retry = RETRY_MIN;
                schedule.next = schedule.next.map(|_| now);
            }
        }
    }

    /// When the next torrent is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.torrents
            .values()
            .filter_map(|schedule| schedule.next)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soon_while_nobody_is_there_and_seldom_afterwards() {
        let mut rng = Rng::new(1);
        let mut announces = Announces::default();
        let (a, b) = (InfoHash([1; 20]), InfoHash([2; 20]));
        let at = Time::from_secs;
        announces.enter(at(10), a);
        assert_eq!(announces.due(at(9)), None);
        assert_eq!(announces.due(at(10)), Some(a));
        assert_eq!((announces.due(at(10)), announces.deadline()), (None, None));
        announces.enter(at(11), b);
        assert_eq!(announces.due(at(11)), Some(b));
        announces.leave(b);
        announces.done(at(12), b, 1, &mut rng);
        let mut now = at(12);
        for seconds in [2, 4, 8, 16, 32, 64, 128, 256, 512] {
            announces.done(now, a, 0, &mut rng);
            let next = announces.deadline().unwrap();
            assert_eq!(next - now, Duration::from_secs(seconds));
            now = next;
            assert_eq!(announces.due(now), Some(a));
        }
        announces.done(now, a, 0, &mut rng);
        announces.joined(now);
        assert_eq!(announces.due(now), Some(a));
        announces.done(now, a, 0, &mut rng);
        let next = announces.deadline().unwrap();
        assert_eq!(next - now, Duration::from_secs(2), "as at the start");
        now = next;
        assert_eq!(announces.due(now), Some(a));
        announces.joined(now);
        assert_eq!(announces.due(now), None, "its search is under way");
        let mut spans = Vec::new();
        for _ in 0..100 {
            announces.done(now, a, 3, &mut rng);
            announces.joined(now);
            spans.push(announces.deadline().unwrap() - now);
            now = announces.deadline().unwrap();
            announces.due(now);
        }
        let expiry = crate::store::peers::PEER_EXPIRY;
        assert!(
            spans
                .iter()
                .all(|span| (ANNOUNCE_EVERY..expiry).contains(span))
        );
        spans.sort_unstable();
        spans.dedup();
        assert!(spans.len() > 50, "spread");
    }
}
