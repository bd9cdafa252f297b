//! When nothing could run: by how much a thread of this program that sleeps short oversleeps, and how long each thread of the
//! tracker was ready and waited for a core, as the system counts it (`/proc/PID/task/TID/schedstat`).
//!
//! **Invariant:** a moment is kept from a question only if this program was kept from running then, or that thread of the tracker
//! was which is taken to have had the answer in its hands: one thread, and not whichever waited at the time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::account::Over;

/// How long it sleeps between two looks. A wait of the tracker is known to have been over by one look and not by the one before:
/// where in that time it lay is not known.
const NAP: Duration = Duration::from_millis(10);

/// What it oversleeps by less is the grain of the clock, and counts as running; so does a wait that is as short.
const KEPT_MIN: Duration = Duration::from_millis(1);

/// The threads of the tracker that answer over UDP bear this name.
const UDP_THREAD: &str = "udp";

/// From when to when something was kept from running, one after the other.
#[derive(Debug, Default)]
pub(super) struct Waits {
    ranges: Vec<Range<Instant>>,
}

/// All that was kept from running.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// This program.
    pub(super) own: Waits,
    /// The threads of the tracker, by their numbers.
    threads: BTreeMap<u32, Thread>,
}

#[derive(Debug)]
struct Thread {
    name: String,
    /// For how long it had waited in all when it was last looked at, in nanoseconds, and when that was.
    waited: u64,
    looked: Instant,
    waits: Waits,
}

/// How much of a span is to be left out, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Away {
    /// This program did not get to run for so long.
    pub(super) own: Duration,
    /// With what is left of the waits of the one thread of the tracker that waited most.
    pub(super) with_theirs: Duration,
}

/// Looks until `stop`, a hundred times a second at the most.
pub(super) fn run(tracker: u32, stop: &AtomicBool) -> Kept {
    let mut kept = Kept::default();
    let mut woke = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let due = woke + NAP;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        woke = Instant::now();
        kept.own.add(due..woke);
        kept.look_at(tracker);
    }
    kept
}

impl Kept {
    /// Reads how long each thread waited. Threads that end meanwhile are left as they were.
    fn look_at(&mut self, tracker: u32) {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{tracker}/task")) else {
            return;
        };
        for task in tasks.flatten() {
            let number = task.file_name().to_str().and_then(|text| text.parse().ok());
            let read = |name| std::fs::read_to_string(task.path().join(name)).ok();
            let waited = read("schedstat").and_then(|text| waited_nanos(&text));
            if let (Some(number), Some(waited)) = (number, waited) {
                let name = || read("comm").unwrap_or_default().trim_end().to_owned();
                self.look(number, name, waited, Instant::now());
            }
        }
    }

    /// Thread `number` had waited for so long at `now`.
    fn look(&mut self, number: u32, name: impl FnOnce() -> String, waited: u64, now: Instant) {
        let thread = self.threads.entry(number).or_insert_with(|| Thread {
            name: name(),
            waited,
            looked: now,
            waits: Waits::default(),
        });
        let more = Duration::from_nanos(waited.saturating_sub(thread.waited));
        // A long one began before the last look, and counts once it is over.
        let from = now.checked_sub(more).unwrap_or(thread.looked);
        thread.waits.add(from..now);
        (thread.waited, thread.looked) = (waited, now);
    }

    /// How much of `span` a question over `over` was kept from its answer.
    pub(super) fn within(&self, span: &Range<Instant>, over: Over) -> Away {
        let served = |thread: &&Thread| (thread.name == UDP_THREAD) == (over == Over::Udp);
        let own = self.own.within(span);
        let threads = self.threads.values().filter(served);
        let both = threads.map(|thread| self.own.or(&thread.waits).within(span));
        Away {
            own,
            with_theirs: both.max().unwrap_or(own).max(own),
        }
    }

    /// Sum and longest wait of this program and of each thread of the tracker.
    pub(super) fn show(&self) -> String {
        let threads = self
            .threads
            .values()
            .map(|thread| (&*thread.name, &thread.waits));
        let all = core::iter::once(("this program", &self.own)).chain(threads);
        let shown = all.map(|(name, waits)| {
            let long = waits.longest().as_millis();
            format!("{name} {:.1} s, {long} ms", waits.sum().as_secs_f64())
        });
        shown.collect::<Vec<_>>().join("; ")
    }
}

impl Waits {
    /// Appends a wait, or what of it is not in the last one; the grain is left out.
    fn add(&mut self, wait: Range<Instant>) {
        let last = self.ranges.last().map_or(wait.start, |last| last.end);
        let from = wait.start.max(last);
        if wait.end.saturating_duration_since(from) > KEPT_MIN {
            self.ranges.push(from..wait.end);
        }
    }

    /// What is in one of both.
    fn or(&self, other: &Self) -> Self {
        let mut all: Vec<_> = self.ranges.iter().chain(&other.ranges).cloned().collect();
        all.sort_by_key(|wait| (wait.start, wait.end));
        let mut ranges: Vec<Range<Instant>> = Vec::new();
        for wait in all {
            match ranges.last_mut() {
                Some(last) if wait.start <= last.end => last.end = last.end.max(wait.end),
                _ => ranges.push(wait),
            }
        }
        Self { ranges }
    }

    /// How much of `span` is in them.
    fn within(&self, span: &Range<Instant>) -> Duration {
        let parts = self.ranges.iter().map(|wait| {
            let (from, until) = (wait.start.max(span.start), wait.end.min(span.end));
            until.saturating_duration_since(from)
        });
        parts.sum()
    }

    fn sum(&self) -> Duration {
        self.lengths().sum()
    }

    fn longest(&self) -> Duration {
        self.lengths().max().unwrap_or_default()
    }

    fn lengths(&self) -> impl Iterator<Item = Duration> {
        let length = |wait: &Range<Instant>| wait.end.saturating_duration_since(wait.start);
        self.ranges.iter().map(length)
    }
}

/// The second number of `schedstat`: nanoseconds for which it was ready and did not run.
fn waited_nanos(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) type Millis<'a> = &'a [(u64, u64)];

    /// Waits of this program and of threads of the tracker, in milliseconds.
    pub(crate) fn kept(start: Instant, own: Millis<'_>, threads: &[(&str, Millis<'_>)]) -> Kept {
        let waits = |of: Millis<'_>| {
            let mut waits = Waits::default();
            of.iter().for_each(|wait| waits.add(at(start, *wait)));
            waits
        };
        let thread = |(name, of): &(&str, Millis<'_>)| Thread {
            name: (*name).to_owned(),
            waited: 0,
            looked: start,
            waits: waits(of),
        };
        Kept {
            own: waits(own),
            threads: (0..).zip(threads.iter().map(thread)).collect(),
        }
    }

    pub(crate) fn at(start: Instant, (from, until): (u64, u64)) -> Range<Instant> {
        start + Duration::from_millis(from)..start + Duration::from_millis(until)
    }

    fn millis(start: Instant, waits: &Waits) -> Vec<(u128, u128)> {
        let since = |at: &Instant| at.duration_since(start).as_millis();
        let all = waits.ranges.iter();
        all.map(|wait| (since(&wait.start), since(&wait.end)))
            .collect()
    }

    #[test]
    fn waits_are_noted_once_and_without_the_grain() {
        let start = Instant::now() + Duration::from_secs(60);
        let kept = kept(
            start,
            &[(0, 0), (10, 11), (20, 22), (21, 30), (30, 31)],
            &[],
        );
        assert_eq!(millis(start, &kept.own), [(20, 22), (22, 30)]);
        assert_eq!(kept.own.sum(), Duration::from_millis(10));
        assert_eq!(kept.own.longest(), Duration::from_millis(8));
    }

    #[test]
    fn a_wait_of_the_tracker_ends_with_the_look_that_shows_it() {
        let start = Instant::now() + Duration::from_secs(60);
        let mut kept = Kept::default();
        let mut look = |at_ms: u64, waited_ms: u64| {
            let now = start + Duration::from_millis(at_ms);
            kept.look(7, || "udp".to_owned(), waited_ms * 1_000_000, now);
        };
        // What it waited before the first look is not of this time.
        [
            (0, 500),
            (10, 500),
            (20, 505),
            (30, 506),
            (530, 956),
            (540, 971),
        ]
        .into_iter()
        .for_each(|(at, waited)| look(at, waited));
        let thread = kept.threads.get(&7).unwrap();
        // The last is longer than the time since the look before, where another had ended: that much is counted once.
        assert_eq!(
            millis(start, &thread.waits),
            [(15, 20), (80, 530), (530, 540)]
        );
        assert_eq!(waited_nanos("1 84366 1\n"), Some(84_366));
        assert_eq!(waited_nanos(""), None);
        assert!(
            kept.show().ends_with("udp 0.5 s, 450 ms"),
            "{}",
            kept.show()
        );
    }

    #[test]
    fn one_thread_of_those_that_serve_is_asked_for() {
        let start = Instant::now();
        let threads: &[(&str, Millis<'_>)] = &[
            ("udp", &[(0, 100), (400, 500)]),
            ("udp", &[(100, 250)]),
            ("tokio", &[(0, 1_000)]),
        ];
        let rows = [(Over::Udp, 200, 350), (Over::Http, 200, 1_000)];
        // 150 to 350 is kept from this program: of the first udp thread 200 more, of the second 50.
        for (over, own, both) in rows {
            let kept = kept(start, &[(150, 350)], threads);
            let away = kept.within(&at(start, (0, 1_000)), over);
            let expected = Away {
                own: Duration::from_millis(own),
                with_theirs: Duration::from_millis(if over == Over::Udp { 400 } else { both }),
            };
            assert_eq!(away, expected, "{over:?}");
        }
    }

    #[test]
    fn the_waits_of_a_process_are_read() {
        let mut kept = Kept::default();
        kept.look_at(std::process::id());
        assert!(!kept.threads.is_empty());
        assert_eq!(kept.own.sum(), Duration::ZERO);
    }
}
