//! Whether a disk is quick enough for its work to be done where it arises, on a thread that others wait for.

use super::stopwatch;
use core::time::Duration;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;

/// A job that took longer shows that the disk is slow. A block takes some 20 µs, and the last one of a piece of 16 MiB,
/// with which the piece is written, some 10 ms as long as the system's cache takes it.
pub(super) const SLOW: Duration = stopwatch::LONG;

/// How long the pool is used after a slow job, at least.
pub(super) const SLOW_SPAN: Duration = Duration::from_secs(2);

/// So many times the time of a slow job passes before another is done on the spot: a disk holds up the other torrents of
/// its thread for at most a fiftieth of the time, however slow it is.
pub(super) const SLOW_TIMES: u32 = 50;

/// How quick a disk has been lately.
#[derive(Debug)]
pub(crate) struct Pace {
    started: Instant,
    /// Until when the disk counts as slow, in nanoseconds since `started`.
    slow_until: AtomicU64,
}

impl Pace {
    /// Of a disk of which nothing is known yet: it is taken for a quick one.
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            slow_until: AtomicU64::new(0),
        }
    }

    /// True if its work is to be done by threads that nobody waits for.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow_until.load(Ordering::Relaxed) > self.nanos(Instant::now())
    }

    /// Does a job, and learns from how long it takes.
    pub(crate) fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        let (result, took) = stopwatch::timed(work);
        self.took(took);
        result
    }

    /// A job took so long.
    pub(super) fn took(&self, span: Duration) {
        if span > SLOW {
            let until = Instant::now() + SLOW_SPAN.max(span * SLOW_TIMES);
            self.slow_until
                .fetch_max(self.nanos(until), Ordering::Relaxed);
        }
    }

    /// From now on it is slow, or quick.
    #[cfg(test)]
    pub(crate) fn pretend(&self, is_slow: bool) {
        let until = if is_slow { u64::MAX } else { 0 };
        self.slow_until.store(until, Ordering::Relaxed);
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from((at - self.started).as_nanos()).unwrap_or(u64::MAX)
    }
}
