//! How long answers take, so that a search does not wait longer than it must for nodes that are gone.
//!
//! Mean and deviation of the round trips of all nodes together, smoothed as RFC 6298 does for one connection. An answer is
//! *slow* when most would have come, and *late* when nearly all would have. **Invariant:** it is late after [`LATE_MIN`] at the
//! soonest and [`LATE_MAX`] at the latest, whatever was measured, and slow no later than late.

use core::time::Duration;

/// No answer is late sooner: a loaded machine or a queue on the way takes as long now and then.
pub(crate) const LATE_MIN: Duration = Duration::from_millis(150);
/// Every answer is late after this, as it is before anything was measured. Round trips on the internet are hardly ever longer,
/// and libtorrent too waits a second.
pub(crate) const LATE_MAX: Duration = Duration::from_secs(1);
/// No answer is slow sooner: asking another node beside it costs a datagram, and two nodes on one machine need no haste.
pub(crate) const SLOW_MIN: Duration = Duration::from_millis(50);
/// Every answer is slow after this before anything was measured: most round trips on the internet are shorter.
const SLOW_FIRST: Duration = Duration::from_millis(300);
/// Answers before the mean is believed: a first node may be the nearest of all.
const SAMPLES_MIN: u32 = 8;

/// See the module's documentation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RoundTrips {
    mean: Duration,
    deviation: Duration,
    samples: u32,
}

impl RoundTrips {
    /// An answer came after `span`.
    pub(crate) fn answered(&mut self, span: Duration) {
        // One that comes after seconds says more about its node than about the way.
        let span = span.min(LATE_MAX);
        if self.samples == 0 {
            (self.mean, self.deviation) = (span, span / 2);
        } else {
            self.deviation = (self.deviation * 3 + self.mean.abs_diff(span)) / 4;
            self.mean = (self.mean * 7 + span) / 8;
        }
        self.samples = self.samples.saturating_add(1);
    }

    /// When an answer to what is asked now is slow: somebody else is asked as well.
    pub(crate) fn slow_after(&self) -> Duration {
        if self.samples < SAMPLES_MIN {
            return SLOW_FIRST;
        }
        // Where all take alike, a little longer is not slow yet.
        let most = (self.mean + self.deviation * 2).max(self.mean * 5 / 4);
        most.clamp(SLOW_MIN, self.late_after())
    }

    /// When an answer to what is asked now is late: the search goes on with somebody else. Whoever answers still later is
    /// heard.
    pub(crate) fn late_after(&self) -> Duration {
        if self.samples < SAMPLES_MIN {
            return LATE_MAX;
        }
        (self.mean + self.deviation * 4).clamp(LATE_MIN, LATE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(spans: impl IntoIterator<Item = u64>) -> RoundTrips {
        let mut round_trips = RoundTrips::default();
        for span in spans {
            round_trips.answered(Duration::from_millis(span));
        }
        round_trips
    }

    fn late_after(spans: impl IntoIterator<Item = u64>) -> Duration {
        measured(spans).late_after()
    }

    #[test]
    fn slow_before_late_and_not_before_most_have_answered() {
        let rows: [(Vec<u64>, Duration); 4] = [
            (vec![], SLOW_FIRST),
            (vec![1; 7], SLOW_FIRST),
            (vec![1; 100], SLOW_MIN),
            (vec![10_000; 100], LATE_MAX),
        ];
        for (spans, expected) in rows {
            let round_trips = measured(spans.iter().copied());
            assert_eq!(round_trips.slow_after(), expected, "{spans:?}");
            assert!(round_trips.slow_after() <= round_trips.late_after());
        }
        // Between 50 and 350 ms one in ten is slow at most.
        let mixed = measured((0..200).map(|n| 50 + n * 83 % 300)).slow_after();
        let (low, high) = (Duration::from_millis(320), Duration::from_millis(420));
        assert!((low..high).contains(&mixed), "{mixed:?}");
    }

    #[test]
    fn as_long_as_answers_take_and_some_more_within_bounds() {
        assert_eq!(late_after([]), LATE_MAX);
        assert_eq!(late_after([1; 7]), LATE_MAX, "too few to say");
        assert_eq!(late_after([1; 8]), LATE_MIN);
        assert_eq!(late_after([10_000; 100]), LATE_MAX);
        let steady = late_after([200; 100]);
        assert!(steady < Duration::from_millis(210), "{steady:?}");
        // Between 50 and 350 ms, as on the internet: hardly any answer counts as late.
        let mixed = late_after((0..200).map(|n| 50 + n * 83 % 300));
        let (low, high) = (Duration::from_millis(400), Duration::from_millis(700));
        assert!((low..high).contains(&mixed), "{mixed:?}");
        // When the way becomes longer, so does the wait.
        let slower = late_after([50; 100].into_iter().chain([400; 10]));
        assert!(slower > Duration::from_millis(400), "{slower:?}");
    }
}
