//! The only clock of the shell: turns the operating system's monotonic time into [`Time`] and back.
//!
//! **Invariant:** [`Clock::now`] never runs backwards, and no deadline follows the wall clock, so a clock that is set
//! to another year while we run changes nothing.

use bt_core::Time;
use core::time::Duration;
use std::hash::{BuildHasher, Hasher, RandomState};
use tokio::time::Instant;

/// Counts nanoseconds from the moment it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock that stands at [`Time::ZERO`].
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// How much time has passed.
    pub(crate) fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    /// When the runtime must wake up for `time`; `None` for a time further away than any timer reaches.
    pub(crate) fn instant(&self, time: Time) -> Option<Instant> {
        let span = time.since(Time::ZERO);
        (span < SPAN_MAX)
            .then(|| self.started.checked_add(span))
            .flatten()
    }
}

/// Further than this nothing is timed: ten years, below every platform's overflow.
const SPAN_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A seed that nobody can guess, from the operating system's randomness (which std uses for its hash keys).
pub(crate) fn random_seed() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(0x5eed);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn follows_the_runtime_and_reaches_no_absurd_deadline() {
        let clock = Clock::start();
        assert_eq!(clock.now(), Time::ZERO);
        tokio::time::advance(Duration::from_millis(1_500)).await;
        assert_eq!(clock.now(), Time::from_millis(1_500));
        let wake = clock.instant(Time::from_secs(2)).unwrap();
        assert_eq!(wake - Instant::now(), Duration::from_millis(500));
        assert_eq!(clock.instant(Time::MAX), None);
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(random_seed(), random_seed());
    }
}
