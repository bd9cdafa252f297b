//! When this program did not get to run: a thread that sleeps short, and notes by how much it overslept.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long it sleeps.
const NAP: Duration = Duration::from_millis(10);

/// What it oversleeps by less is the grain of the clock, and counts as running.
const OVERSLEPT_MIN: Duration = Duration::from_millis(1);

/// Sleeps until `stop`; returns from when to when it was kept from waking, a hundred times a second at the most.
pub(super) fn run(stop: &AtomicBool) -> Vec<Range<Instant>> {
    let mut kept = Vec::new();
    let mut woke = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let due = woke + NAP;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        woke = Instant::now();
        kept.extend(overslept(due, woke));
    }
    kept
}

fn overslept(due: Instant, woke: Instant) -> Option<Range<Instant>> {
    (woke > due + OVERSLEPT_MIN).then_some(due..woke)
}

/// How much of `span` was kept.
pub(super) fn within(kept: &[Range<Instant>], span: &Range<Instant>) -> Duration {
    let parts = kept.iter().map(|kept| {
        let (from, until) = (kept.start.max(span.start), kept.end.min(span.end));
        until.saturating_duration_since(from)
    });
    parts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_overslept_is_all_noted_but_the_grain() {
        let due = Instant::now();
        let long = Duration::from_millis(1_500);
        let rows = [
            (Duration::ZERO, None),
            (OVERSLEPT_MIN, None),
            (long, Some(due..due + long)),
        ];
        for (late, expected) in rows {
            assert_eq!(overslept(due, due + late), expected);
        }
    }
}
