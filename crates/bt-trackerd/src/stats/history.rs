//! The last hour in samples: what rates and charts are made of.

use crate::state::State;
use bt_core::Time;
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// How often a sample is taken.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// Samples that are kept: an hour of them, and the one it begins with.
const SAMPLES_MAX: usize = 361;

/// Rates are of the last minute.
const RATE_SAMPLES: usize = 6;

/// What was counted until a moment, and what was there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) at: Time,
    pub(crate) seeders: u64,
    pub(crate) leechers: u64,
    pub(crate) announces_http: u64,
    pub(crate) announces_udp: u64,
    pub(crate) scrapes: u64,
}

/// Requests a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) announces_http: f64,
    pub(crate) announces_udp: f64,
    pub(crate) scrapes: f64,
}

#[derive(Debug, Default)]
pub(crate) struct History(Mutex<VecDeque<Sample>>);

impl Sample {
    pub(crate) fn of(state: &State) -> Self {
        let totals = state.shards.totals();
        let sums = state.counters.sums();
        Self {
            at: state.now(),
            seeders: totals.seeders as u64,
            leechers: totals.leechers as u64,
            announces_http: sums.announces_http,
            announces_udp: sums.announces_udp,
            scrapes: sums.scrapes_http + sums.scrapes_udp,
        }
    }

    /// Requests a second between an earlier sample and this one.
    pub(crate) fn rates_since(&self, earlier: &Self) -> Rates {
        let seconds = (self.at - earlier.at).as_secs_f64().max(0.001);
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        Rates {
            announces_http: rate(self.announces_http, earlier.announces_http),
            announces_udp: rate(self.announces_udp, earlier.announces_udp),
            scrapes: rate(self.scrapes, earlier.scrapes),
        }
    }
}

impl History {
    pub(crate) fn add(&self, sample: Sample) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// All that is kept, oldest first.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().copied().collect()
    }

    /// The rates of the last minute until `now`, or of as much of it as there is.
    pub(crate) fn rates(&self, now: &Sample) -> Rates {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = samples.get(samples.len().saturating_sub(RATE_SAMPLES));
        earlier.map_or_else(Rates::default, |earlier| now.rates_since(earlier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: u64, announces: u64) -> Sample {
        Sample {
            at: Time::from_secs(seconds),
            announces_http: announces,
            ..Sample::default()
        }
    }

    #[test]
    fn an_hour_is_kept_and_a_minute_counts() {
        let history = History::default();
        assert_eq!(history.rates(&sample(5, 50)), Rates::default());
        history.add(sample(0, 0));
        assert_eq!(history.rates(&sample(5, 50)).announces_http, 10.0);
        // Ten a second, and a thousand a second in the last minute.
        for n in 1..=SAMPLES_MAX as u64 {
            history.add(sample(n * 10, n * 100));
        }
        let last = SAMPLES_MAX as u64;
        for n in 1..=6 {
            history.add(sample((last + n) * 10, last * 100 + n * 10_000));
        }
        let now = sample((last + 7) * 10, last * 100 + 70_000);
        assert_eq!(history.rates(&now).announces_http, 1_000.0);
        let samples = history.samples();
        assert_eq!(samples.len(), SAMPLES_MAX);
        assert_eq!(samples.first().unwrap().at, Time::from_secs(70));
        // A count that fell, as after a jump of the clock, is no rate.
        assert_eq!(sample(9, 1).rates_since(&sample(9, 5)).announces_http, 0.0);
    }
}
