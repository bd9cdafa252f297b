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
    (result, WAITED.with(|before| took(span, before, waited)))
}

/// What is left of `span` without the waiting since `before`; `waited` is asked only about a long job.
fn took(span: Duration, before: &Cell<Duration>, waited: fn() -> Option<Duration>) -> Duration {
    if span <= LONG {
        return span;
    }
    let waited = waited().unwrap_or_default();
    let before = before.replace(waited);
    span.saturating_sub(waited.saturating_sub(before))
}

/// How long this thread has waited for a core since it began.
fn waited() -> Option<Duration> {
    waited_of(&fs::read_to_string(SCHEDSTAT).ok()?)
}

fn waited_of(text: &str) -> Option<Duration> {
    let nanos = text.split_ascii_whitespace().nth(1)?;
    Some(Duration::from_nanos(nanos.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

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

    /// A job's span, how long the thread has waited by then, and what is taken for the job's own; in [`LONG`]s.
    type Row = (u32, fn() -> Option<Duration>, u32);

    #[test]
    fn waiting_for_the_disk_counts_and_waiting_for_a_core_does_not() {
        let before = Cell::new(Duration::ZERO);
        // The first long job has all that the thread ever waited taken off it; the next only what came since.
        let rows: [Row; 7] = [
            (3, || Some(2 * LONG), 1),
            (3, || Some(2 * LONG), 3),
            (20, || Some(20 * LONG), 2),
            (1, || panic!("a short job is not looked into"), 1),
            (5, || Some(30 * LONG), 0),
            (4, || None, 4),
            (40, || Some(30 * LONG), 10),
        ];
        for (span, waited, expected) in rows {
            let took = took(span * LONG, &before, waited);
            assert_eq!(took, expected * LONG, "{span}");
        }
    }

    #[test]
    fn where_the_system_tells_it_is_heard() {
        let tells = Path::new("/proc/self/schedstat").exists();
        assert_eq!(waited().is_some(), tells);
    }
}
