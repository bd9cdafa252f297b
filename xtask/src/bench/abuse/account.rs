//! What came of one kind of load, and which answers came too late.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::watch::Kept;

/// An honest peer waits no longer while this machine runs, whoever else is there.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Most of what went wrong that is kept for each kind; the rest is counted.
const WRONGS_KEPT: usize = 3;

/// How questions travel, and so which threads of the tracker answer them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Http,
    Udp,
}

pub(super) struct Account {
    pub(super) name: &'static str,
    over: Over,
    done: u64,
    wrongs: Vec<String>,
    wrong: u64,
    slowest: Duration,
    /// From question to answer, where that was longer than [`ANSWER_MAX`]: no more than one a second.
    late: Vec<Range<Instant>>,
}

impl Account {
    pub(super) fn new(name: &'static str, over: Over) -> Self {
        Self {
            name,
            over,
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

    /// An answer that was late is wrong, unless for all that it was late by this program or the tracker's thread was ready and
    /// had no core: the machine was late then.
    pub(super) fn judge(&mut self, kept: &Kept) {
        for late in self.late.clone() {
            let took = late.end.saturating_duration_since(late.start);
            let away = kept.within(&late, self.over);
            if took.saturating_sub(away.with_theirs) > ANSWER_MAX {
                self.wrong(format!(
                    "answered after {} ms; this program had no core for {} of them, or the tracker's thread for {} in all",
                    took.as_millis(),
                    away.own.as_millis(),
                    away.with_theirs.as_millis(),
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
    use super::super::watch::tests::{self as watch, Millis};
    use super::*;

    #[test]
    fn a_late_answer_is_wrong_unless_nothing_ran_meanwhile() {
        // Question and answer, when this program did not run, and when a thread of the tracker, in milliseconds; is it wrong?
        type Row = ((u64, u64), Millis<'static>, Millis<'static>, bool);
        let rows: [Row; 13] = [
            ((100, 1_100), &[], &[], false),
            ((100, 1_101), &[], &[], true),
            // As long as it was late by, or shorter.
            ((0, 1_500), &[(200, 700)], &[], false),
            ((0, 1_500), &[(200, 699)], &[], true),
            // In parts, which may stand out at both ends.
            ((1_000, 2_500), &[(700, 1_200), (2_200, 2_900)], &[], false),
            ((1_000, 2_500), &[(700, 1_200), (2_201, 2_900)], &[], true),
            // Before and after is not meanwhile.
            ((1_000, 2_500), &[(0, 1_000), (2_500, 9_000)], &[], true),
            ((1_000, 4_500), &[(0, 9_000)], &[], false),
            ((1_000, 9_000), &[(1_000, 2_000)], &[], true),
            // The tracker's waits count as well, and the same moment only once.
            ((0, 1_500), &[], &[(900, 1_400)], false),
            ((0, 1_500), &[(200, 600)], &[(500, 700)], false),
            ((0, 1_500), &[(200, 600)], &[(500, 699)], true),
            ((0, 1_500), &[(200, 600)], &[(1_500, 2_000)], true),
        ];
        let start = Instant::now();
        for (span, own, theirs, wrong) in &rows {
            let mut account = Account::new("x", Over::Udp);
            account.answered(1, watch::at(start, *span));
            account.judge(&watch::kept(start, own, &[("udp", theirs)]));
            assert_eq!(account.is_bad(), *wrong, "{span:?} {own:?} {theirs:?}");
        }
    }

    #[test]
    fn the_first_wrongs_are_kept_and_all_are_counted() {
        let mut account = Account::new("x", Over::Http);
        assert!(account.is_bad(), "nothing was done");
        account.good(1);
        assert!(!account.is_bad());
        (0..9).for_each(|_| account.wrong("w".to_owned()));
        assert!(account.is_bad());
        assert_eq!((account.wrongs.len(), account.wrong), (WRONGS_KEPT, 9));
    }
}
