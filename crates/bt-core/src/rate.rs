//! Measuring rates, and keeping below them. Both are told the time; neither has a timer.

use crate::Time;
use core::time::Duration;

const WINDOW_SECONDS: usize = 20;
const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// A rolling average over the last 20 seconds, the span by which tit-for-tat ranks peers
/// (Cohen 2003, "Incentives Build Robustness in BitTorrent", §3.2).
#[derive(Clone, Debug, Default)]
pub struct RateMeter {
    /// `None` before the first byte: of ten thousand torrents most move none.
    window: Option<Box<Window>>,
    total: u64,
}

#[derive(Clone, Debug)]
struct Window {
    /// Bytes per second of time, `second % WINDOW_SECONDS` being the slot.
    slots: [u64; WINDOW_SECONDS],
    /// When the first byte came.
    started: Time,
    newest_second: u64,
}

impl RateMeter {
    /// Counts `bytes` that moved at `now`.
    pub fn add(&mut self, now: Time, bytes: u64) {
        let second = second_of(now);
        let window = self.window.get_or_insert_with(|| {
            Box::new(Window {
                slots: [0; WINDOW_SECONDS],
                started: now,
                newest_second: second,
            })
        });
        // Those of the seconds that passed hold what is older than the window.
        let passed = (window.newest_second..second).rev().take(WINDOW_SECONDS);
        for emptied in passed {
            if let Some(slot) = window.slots.get_mut(slot_of(emptied + 1)) {
                *slot = 0;
            }
        }
        window.newest_second = window.newest_second.max(second);
        if let Some(slot) = window.slots.get_mut(slot_of(window.newest_second)) {
            *slot += bytes;
        }
        self.total += bytes;
    }

    /// Bytes per second, averaged over the last 20 s or over the time since the first byte if that is shorter.
    #[must_use]
    pub fn bytes_per_s(&self, now: Time) -> u64 {
        let Some(window) = &self.window else {
            return 0;
        };
        let Window {
            slots,
            started,
            newest_second,
        } = &**window;
        let oldest = second_of(now).saturating_sub(WINDOW_SECONDS as u64 - 1);
        let recent = oldest.max(newest_second.saturating_sub(WINDOW_SECONDS as u64 - 1));
        let counted = (recent..=*newest_second).filter_map(|second| slots.get(slot_of(second)));
        let bytes: u128 = counted.map(|slot| u128::from(*slot)).sum();
        let second = u128::from(now.as_nanos()) % NANOS_PER_SECOND;
        let window = (WINDOW_SECONDS as u128 - 1) * NANOS_PER_SECOND + second;
        // A span under a second would turn the very first block into an absurd rate.
        let span = now
            .since(*started)
            .as_nanos()
            .clamp(NANOS_PER_SECOND, window.max(NANOS_PER_SECOND));
        u64::try_from(bytes * NANOS_PER_SECOND / span).unwrap_or(u64::MAX)
    }

    /// All bytes ever counted.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }
}

const fn second_of(now: Time) -> u64 {
    now.as_nanos() / 1_000_000_000
}

/// The slot of a second.
fn slot_of(second: u64) -> usize {
    usize::try_from(second % WINDOW_SECONDS as u64).unwrap_or(0)
}

/// A token bucket: lets bytes pass at a rate, with a short burst, and says when the next may.
///
/// Debt is allowed: a block goes out whole as soon as the bucket is not empty, and the bucket then stays closed for
/// longer. So the rate is exact over any span longer than the burst, whatever the block length.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    bytes_per_s: Option<u64>,
    /// Balance in byte-nanoseconds: bytes × 10⁹, so that nothing is lost by rounding.
    balance: i128,
    updated: Time,
}

/// How much unused allowance a limiter keeps: a tenth of a second's worth.
const BURST: Duration = Duration::from_millis(100);

impl RateLimiter {
    /// A limiter for `bytes_per_s`, or none at all.
    #[must_use]
    pub const fn new(bytes_per_s: Option<u64>) -> Self {
        Self {
            bytes_per_s,
            balance: 0,
            updated: Time::ZERO,
        }
    }

    /// Changes the rate from `now` on.
    pub fn set_rate(&mut self, now: Time, bytes_per_s: Option<u64>) {
        self.refill(now);
        self.bytes_per_s = bytes_per_s;
    }

    /// The rate, if there is one.
    #[must_use]
    pub const fn rate(&self) -> Option<u64> {
        self.bytes_per_s
    }

    /// Takes `bytes` from the bucket if it is not empty; true if they may pass now.
    pub fn take(&mut self, now: Time, bytes: u64) -> bool {
        let Some(_) = self.bytes_per_s else {
            return true;
        };
        self.refill(now);
        let open = self.balance >= 0;
        if open {
            self.charge(now, bytes);
        }
        open
    }

    /// Counts `bytes` that passed without asking: what follows waits for them.
    pub fn charge(&mut self, now: Time, bytes: u64) {
        if self.bytes_per_s.is_some() {
            self.refill(now);
            self.balance -= i128::from(bytes) * 1_000_000_000;
        }
    }

    /// When [`take`](Self::take) will next say yes: `now` or later; [`Time::MAX`] at a rate of 0.
    #[must_use]
    pub fn ready_at(&self, now: Time) -> Time {
        let Some(rate) = self.bytes_per_s else {
            return now;
        };
        let mut at_now = self.clone();
        at_now.refill(now);
        if at_now.balance >= 0 {
            return now;
        }
        if rate == 0 {
            return Time::MAX;
        }
        let nanos = at_now.balance.unsigned_abs().div_ceil(u128::from(rate));
        now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn refill(&mut self, now: Time) {
        let rate = i128::from(self.bytes_per_s.unwrap_or(0));
        let passed = i128::try_from(now.since(self.updated).as_nanos()).unwrap_or(i128::MAX);
        let burst = rate * i128::try_from(BURST.as_nanos()).unwrap_or(0);
        self.balance = self
            .balance
            .saturating_add(passed.saturating_mul(rate))
            .min(burst);
        self.updated = self.updated.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn meter_averages_over_twenty_seconds() {
        let mut meter = RateMeter::default();
        assert_eq!(meter.bytes_per_s(Time::from_secs(5)), 0);
        for second in 0..60 {
            meter.add(Time::from_secs(second), 1_000);
        }
        let rate = meter.bytes_per_s(Time::from_secs(60));
        assert!((950..=1_050).contains(&rate), "{rate}");
        assert_eq!(meter.bytes_per_s(Time::from_secs(200)), 0);
        assert_eq!(meter.total(), 60_000);
    }

    #[test]
    fn meter_does_not_exaggerate_the_first_block() {
        let mut meter = RateMeter::default();
        meter.add(Time::from_secs(7), 16_384);
        assert_eq!(meter.bytes_per_s(Time::from_millis(7_001)), 16_384);
    }

    #[test]
    fn what_passes_unasked_is_counted_at_its_time_and_not_without_a_rate() {
        let mut limiter = RateLimiter::new(Some(1_000));
        let now = Time::from_secs(10);
        limiter.charge(now, 1_000);
        assert_eq!(limiter.ready_at(now), now + Duration::from_millis(900));
        let mut free = RateLimiter::new(None);
        free.charge(now, 1_000);
        free.set_rate(now, Some(1));
        assert_eq!(free.ready_at(now), now);
    }

    #[test]
    fn no_rate_is_no_limit_and_zero_lets_nothing_pass() {
        let mut free = RateLimiter::new(None);
        assert!(free.take(Time::ZERO, u64::MAX));
        let mut shut = RateLimiter::new(Some(0));
        assert!(shut.take(Time::ZERO, 1), "the first bytes are debt");
        assert!(!shut.take(Time::from_secs(1_000), 1));
        assert_eq!(shut.ready_at(Time::from_secs(1_000)), Time::MAX);
    }

    proptest! {
        #[test]
        fn limiter_keeps_the_rate(rate in 1_000_u64..100_000_000, blocks in prop::collection::vec(1_u64..40_000, 10..200)) {
            let mut limiter = RateLimiter::new(Some(rate));
            let (mut now, mut sent) = (Time::from_secs(10), 0_u64);
            let start = now;
            for block in &blocks {
                let ready = limiter.ready_at(now);
                prop_assert!(ready >= now);
                if ready > now {
                    prop_assert!(!limiter.take(now, *block));
                }
                now = ready;
                prop_assert!(limiter.take(now, *block), "ready_at told the truth");
                sent += block;
            }
            let allowed = rate as f64 * ((now - start).as_secs_f64() + 0.1) + 40_000.0;
            prop_assert!((sent as f64) <= allowed + 1.0, "{sent} > {allowed}");
            let least = rate as f64 * (now - start).as_secs_f64();
            prop_assert!(sent as f64 >= least - 1.0, "{sent} < {least}: slower than allowed");
        }
    }
}
