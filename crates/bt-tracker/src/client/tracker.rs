//! What is known of one tracker, and what it knows of us.

use super::FIRST_ANSWER_MAX;
use crate::announce::{AnnounceFailure, AnnounceResponse, Event, clamp_interval};
use bt_core::{Rng, Time};
use core::time::Duration;

/// The wait after a first failure; it doubles with each further one.
pub(super) const BACK_OFF_FIRST: Duration = Duration::from_secs(10);

/// The longest wait between tries of a tracker that fails.
pub(super) const BACK_OFF_MAX: Duration = Duration::from_secs(60 * 60);

/// The longest wait that a tracker can ask for, short of "never".
pub(super) const RETRY_IN_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How long to wait with an announce for more peers if the tracker names no minimum: five minutes.
pub(super) const MIN_INTERVAL_DEFAULT: Duration = Duration::from_secs(5 * 60);

#[derive(Clone, Debug)]
pub(super) struct Tracker {
    pub(super) url: String,
    pub(super) tier: usize,
    pub(super) tracker_id: Option<Vec<u8>>,
    /// The unanswered request.
    pub(super) asked: Option<Asked>,
    known: Known,
    health: Health,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) id: u64,
    pub(super) event: Event,
    /// Whether all bytes were there when it was asked.
    pub(super) complete: bool,
    pub(super) at: Time,
}

/// What the tracker certainly knows of us: what it has confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    /// It was sent `started`, and will want to hear of the end of the download.
    Leecher,
    /// It was sent `started` when all was there, or `completed`.
    Seeder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Untried,
    Works {
        /// The next regular announce.
        due: Time,
        /// The soonest announce for more peers.
        eager: Time,
    },
    Fails {
        /// In a row.
        failures: u32,
        retry: Time,
    },
}

impl Tracker {
    pub(super) const fn new(url: String, tier: usize) -> Self {
        Self {
            url,
            tier,
            tracker_id: None,
            asked: None,
            known: Known::Nothing,
            health: Health::Untried,
        }
    }

    pub(super) const fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    pub(super) const fn is_failing(&self) -> bool {
        matches!(self.health, Health::Fails { .. })
    }

    /// It confirmed a `started`, and no `stopped`.
    pub(super) fn knows_us(&self) -> bool {
        self.known != Known::Nothing
    }

    /// While we leave: until when its answer is worth waiting for. `None` if it owes none.
    pub(super) fn awaited_until(&self, until: Time) -> Option<Time> {
        let asked = self.asked?;
        Some(if self.knows_us() {
            until
        } else {
            until.min(asked.at + FIRST_ANSWER_MAX)
        })
    }

    /// It will have to be sent `completed`, once all is there.
    pub(super) fn owes_completed(&self) -> bool {
        self.known == Known::Leecher
    }

    /// When it may be asked next; `eager` if that is for more peers than it gave, or because another failed.
    pub(super) const fn ready_at(&self, for_peers: bool) -> Time {
        match self.health {
            Health::Untried => Time::ZERO,
            Health::Works { eager, .. } if for_peers => eager,
            Health::Works { due, .. } => due,
            Health::Fails { retry, .. } => retry,
        }
    }

    pub(super) const fn next_event(&self, stopping: bool, complete: bool, paused: bool) -> Event {
        // A back-off is longer than leaving may take: a tracker that fails then hears at most that we leave.
        let hears_completed = complete && !(stopping && self.is_failing());
        match self.known {
            Known::Nothing => Event::Started,
            Known::Leecher if hears_completed => Event::Completed,
            Known::Leecher | Known::Seeder if stopping => Event::Stopped,
            Known::Leecher if paused => Event::Paused,
            Known::Leecher | Known::Seeder => Event::Interval,
        }
    }

    pub(super) fn succeeded(&mut self, now: Time, asked: Asked, response: &AnnounceResponse) {
        self.known = match asked.event {
            Event::Started if asked.complete => Known::Seeder,
            Event::Started => Known::Leecher,
            Event::Completed => Known::Seeder,
            Event::Stopped => Known::Nothing,
            Event::Interval | Event::Paused => self.known,
        };
        let interval = clamp_interval(response.interval);
        let min_interval = response
            .min_interval
            .map_or(MIN_INTERVAL_DEFAULT.min(interval), clamp_interval);
        self.health = Health::Works {
            due: now + interval.max(min_interval),
            eager: now + min_interval,
        };
        if let Some(tracker_id) = &response.tracker_id {
            self.tracker_id = Some(tracker_id.clone());
        }
    }

    pub(super) fn failed(
        &mut self,
        now: Time,
        asked: Asked,
        failure: &AnnounceFailure,
        rng: &mut Rng,
    ) {
        let before = match self.health {
            Health::Fails { failures, .. } => failures,
            Health::Untried | Health::Works { .. } => 0,
        };
        let (AnnounceFailure::Refused { retry_in, .. }
        | AnnounceFailure::Unreachable { retry_in, .. }) = failure;
        let wait = back_off(before, rng);
        self.health = Health::Fails {
            failures: before.saturating_add(1),
            retry: match retry_in {
                Some(Duration::MAX) => Time::MAX,
                Some(retry_in) => now + wait.max(*retry_in).min(RETRY_IN_MAX),
                None => now + wait,
            },
        };
        if asked.event == Event::Stopped {
            // There is no second try within the few seconds that leaving may take.
            self.known = Known::Nothing;
        }
    }
}

/// 10 s, 20 s, 40 s … 1 h, less up to a quarter: clients that lost a tracker together shall not come back together.
fn back_off(failures_before: u32, rng: &mut Rng) -> Duration {
    let doubled = BACK_OFF_FIRST.saturating_mul(1 << failures_before.min(16));
    let wait = doubled.min(BACK_OFF_MAX);
    let quarter = u64::try_from(wait.as_nanos() / 4).unwrap_or(u64::MAX);
    wait - Duration::from_nanos(rng.below(quarter))
}
