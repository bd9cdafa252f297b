//! What came of one kind of load, and which answers came too late.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::watch;

/// An honest peer waits no longer while this machine runs, whoever else is there.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Most of what went wrong that is kept for each kind; the rest is counted.
const WRONGS_KEPT: usize = 3;

pub(super) struct Account {
    pub(super) name: &'static str,
    done: u64,
    wrongs: Vec<String>,
    wrong: u64,
    slowest: Duration,
    /// From question to answer, where that was longer than [`ANSWER_MAX`]: no more than one a second.
    late: Vec<Range<Instant>>,
}

impl Account {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            done: 0,
            wrongs: Vec::new(),
            wrong: 0,
            slowest: Duration::ZERO,
            late: Vec::new(),
        }
    }

    /// So many were done as they should be.
    pub(super) fn good(&mut self, count: u64) {
        self.done += count;
    }

    /// So many requests were answered as they should be, the last after `span`.
    pub(super) fn answered(&mut self, count: u64, span: Range<Instant>) {
        self.good(count);
        let took = span.end.saturating_duration_since(span.start);
        self.slowest = self.slowest.max(took);
        if took > ANSWER_MAX {
            self.late.push(span);
        }
    }

    pub(super) fn wrong(&mut self, what: String) {
        self.wrong += 1;
        if self.wrongs.len() < WRONGS_KEPT {
            self.wrongs.push(what);
        }
    }

    /// An answer that was late is wrong, unless this program was kept from running for all that it was late by: then
    /// the tracker, on the same machine, was so too, or it was here that the answer lay.
    pub(super) fn judge(&mut self, kept: &[Range<Instant>]) {
        for late in self.late.clone() {
            let took = late.end.saturating_duration_since(late.start);
            let away = watch::within(kept, &late);
            if took.saturating_sub(away) > ANSWER_MAX {
                let (took, away) = (took.as_millis(), away.as_millis());
                self.wrong(format!(
                    "answered after {took} ms, of which this program did not get to run for {away}"
                ));
            }
        }
    }

    /// True if something was wrong, or nothing was done.
    pub(super) const fn is_bad(&self) -> bool {
        self.wrong > 0 || self.done == 0
    }

    pub(super) fn show(&self) -> String {
        let mut text = format!(
            "{:<32} {:>9} done, slowest {:>4} ms, {} late, {} wrong",
            self.name,
            self.done,
            self.slowest.as_millis(),
            self.late.len(),
            self.wrong
        );
        for wrong in &self.wrongs {
            text.push_str("\n    ");
            text.push_str(wrong);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_answer_is_wrong_unless_nothing_ran_meanwhile() {
        // Question and answer, and from when to when this program did not run, in milliseconds; is it wrong?
        type Row = ((u64, u64), &'static [(u64, u64)], bool);
        let rows: [Row; 9] = [
            ((100, 1_100), &[], false),
            ((100, 1_101), &[], true),
            // As long as it was late by, or shorter.
            ((0, 1_500), &[(200, 700)], false),
            ((0, 1_500), &[(200, 699)], true),
            // In parts, which may stand out at both ends.
            ((1_000, 2_500), &[(700, 1_200), (2_200, 2_900)], false),
            ((1_000, 2_500), &[(700, 1_200), (2_201, 2_900)], true),
            // Before and after is not meanwhile.
            ((1_000, 2_500), &[(0, 1_000), (2_500, 9_000)], true),
            ((1_000, 4_500), &[(0, 9_000)], false),
            ((1_000, 9_000), &[(1_000, 2_000)], true),
        ];
        let start = Instant::now();
        let at = |(from, until): &(u64, u64)| {
            start + Duration::from_millis(*from)..start + Duration::from_millis(*until)
        };
        for (span, kept, wrong) in &rows {
            let mut account = Account::new("x");
            account.answered(1, at(span));
            account.judge(&kept.iter().map(at).collect::<Vec<_>>());
            assert_eq!(account.is_bad(), *wrong, "{span:?} {kept:?}");
        }
    }

    #[test]
    fn the_first_wrongs_are_kept_and_all_are_counted() {
        let mut account = Account::new("x");
        assert!(account.is_bad(), "nothing was done");
        account.good(1);
        assert!(!account.is_bad());
        (0..9).for_each(|_| account.wrong("w".to_owned()));
        assert!(account.is_bad());
        assert_eq!((account.wrongs.len(), account.wrong), (WRONGS_KEPT, 9));
    }
}
