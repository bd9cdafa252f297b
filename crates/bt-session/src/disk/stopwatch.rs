//! How long a job of the disk took, without the time that its thread waited for a core.
//!
//! On a busy machine a thread may stand in line for longer than any disk takes; who took that for a slow disk would send its
//! jobs to the pool, which makes one more thread stand in line, and lets blocks pile up in memory meanwhile.

use core::cell::Cell;
use core::time::Duration;
use std::fs;
use tokio::time::Instant;

/// Jobs that are over sooner are not looked into: reading [`SCHEDSTAT`] costs as much as a job.
pub(super) const LONG: Duration = Duration::from_millis(20);

/// Three numbers of the calling thread: nanoseconds on a core, nanoseconds in line for one, times on a core. Linux only;
/// elsewhere nobody is known to have waited.
const SCHEDSTAT: &str = "/proc/thread-self/schedstat";

thread_local! {
    /// How long this thread had waited when it was last looked into.
    static WAITED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Does the work, and says how long it took. Of a job of more than [`LONG`], all that the thread has waited for a core since
/// the last such job is taken off: too much at the first, about right from the second on.
pub(super) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let result = work();
    let span = began.elapsed();
    if span <= LONG {
        return (result, span);
    }
    let waited = fs::read_to_string(SCHEDSTAT).ok();
    let waited = waited.and_then(|text| waited_of(&text)).unwrap_or_default();
    let before = WAITED.replace(waited);
    (result, span.saturating_sub(waited.saturating_sub(before)))
}

fn waited_of(text: &str) -> Option<Duration> {
    let nanos = text.split_ascii_whitespace().nth(1)?;
    Some(Duration::from_nanos(nanos.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    #[test]
    fn the_system_says_how_long_a_thread_waited() {
        assert_eq!(
            waited_of("36629534 282668598 12\n"),
            Some(Duration::from_nanos(282_668_598))
        );
        for text in ["", "1", "1 x 2"] {
            assert_eq!(waited_of(text), None);
        }
    }

    #[test]
    fn waiting_for_the_disk_counts_and_waiting_for_a_core_does_not() {
        timed(|| thread::sleep(2 * LONG));
        let ((), slept) = timed(|| thread::sleep(3 * LONG));
        assert!(slept > LONG, "{slept:?}");
        let span = 20 * LONG;
        let over = AtomicBool::new(false);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..8 * cores {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        core::hint::spin_loop();
                    }
                });
            }
            let work = || {
                let began = Instant::now();
                while began.elapsed() < span {
                    core::hint::spin_loop();
                }
            };
            let (began, ((), spun)) = (Instant::now(), timed(work));
            over.store(true, Ordering::Relaxed);
            assert!(spun < began.elapsed() / 2, "{spun:?}");
        });
    }
}
