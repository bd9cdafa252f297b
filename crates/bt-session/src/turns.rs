//! Whose turn it is to ask a tracker, over all torrents of a session.
//!
//! **Invariant:** no more than [`ANNOUNCES_MAX`] announces over HTTP are out at a time, no more than [`STOPS_MAX`] stops, and of
//! these no more than [`STOPS_OF_HOST`] to one host. A host that has answered no stop yet has one: so a tracker that is gone takes one turn
//! and not all of them, and the others hear in time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Requests that are out at a time over all torrents: a session of a thousand must not storm its trackers when it starts.
const ANNOUNCES_MAX: usize = 50;

/// Stops that are out at a time, over HTTP and UDP, beside the announces: a stop must not wait behind what nobody needs any more.
/// Each may take a socket; processes may commonly have 1,024, most of them for peers.
const STOPS_MAX: usize = 256;

/// Those of one host: a session of a thousand torrents must not storm its tracker when it ends either.
const STOPS_OF_HOST: usize = 50;

/// Permits for the announces of all torrents of a session.
#[derive(Debug)]
pub(crate) struct Turns {
    announces: Semaphore,
    stops: Semaphore,
    /// The hosts that stops are meant for now.
    hosts: Mutex<BTreeMap<String, Arc<Host>>>,
}

/// A tracker, as far as it is told of stops.
#[derive(Debug)]
struct Host {
    has_answered: AtomicBool,
    /// The one that may try until it has.
    first: Semaphore,
    all: Semaphore,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            announces: Semaphore::new(ANNOUNCES_MAX),
            stops: Semaphore::new(STOPS_MAX),
            hosts: Mutex::default(),
        }
    }
}

impl Default for Host {
    fn default() -> Self {
        Self {
            has_answered: AtomicBool::new(false),
            first: Semaphore::new(1),
            all: Semaphore::new(STOPS_OF_HOST),
        }
    }
}

impl Turns {
    /// A turn to announce over HTTP.
    pub(crate) async fn announce(&self) -> Option<SemaphorePermit<'_>> {
        // Semaphores of this module are never closed.
        self.announces.acquire().await.ok()
    }

    /// Does `stop` when it is its turn at `host`; `has_answered` looks at what came of it.
    pub(crate) async fn stop<T>(
        &self,
        host: &str,
        stop: impl Future<Output = T>,
        has_answered: impl FnOnce(&T) -> bool,
    ) -> T {
        let guest = Guest::enter(self, host);
        let host = &*guest.host;
        let mut first = None;
        if !host.has_answered.load(Ordering::Relaxed) {
            first = host.first.acquire().await.ok();
        }
        // It may have answered who came before.
        if host.has_answered.load(Ordering::Relaxed) {
            first = None;
        }
        let _of_host = host.all.acquire().await;
        let _of_all = self.stops.acquire().await;
        let outcome = stop.await;
        if has_answered(&outcome) {
            host.has_answered.store(true, Ordering::Relaxed);
        }
        drop(first);
        outcome
    }

    fn hosts(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Host>>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that waits for a host or asks it. With the last of them the host is forgotten.
struct Guest<'a> {
    turns: &'a Turns,
    name: &'a str,
    host: Arc<Host>,
}

impl<'a> Guest<'a> {
    fn enter(turns: &'a Turns, name: &'a str) -> Self {
        let host = Arc::clone(turns.hosts().entry(name.to_owned()).or_default());
        Self { turns, name, host }
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        let mut hosts = self.turns.hosts();
        // This one's and the table's.
        if Arc::strong_count(&self.host) == 2 {
            hosts.remove(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use std::sync::atomic::AtomicUsize;
    use tokio::time::{Instant, sleep, timeout};

    /// How long a stop may take, waiting included.
    const DEADLINE: Duration = Duration::from_secs(5);

    /// A tracker: how long it takes, if it answers at all, and how many ask it at a time.
    #[derive(Default)]
    struct Tracker {
        takes: Option<Duration>,
        there: AtomicUsize,
        most: AtomicUsize,
        heard: AtomicUsize,
    }

    impl Tracker {
        fn alive(millis: u64) -> Self {
            Self {
                takes: Some(Duration::from_millis(millis)),
                ..Self::default()
            }
        }

        async fn hear(&self) -> bool {
            let _visit = Visit::begin(self);
            match self.takes {
                Some(takes) => sleep(takes).await,
                None => core::future::pending().await,
            }
            self.heard.fetch_add(1, Ordering::Relaxed);
            true
        }

        fn heard(&self) -> usize {
            self.heard.load(Ordering::Relaxed)
        }

        fn most(&self) -> usize {
            self.most.load(Ordering::Relaxed)
        }
    }

    /// Somebody who is there until it has its answer or gives up.
    struct Visit<'a>(&'a Tracker);

    impl<'a> Visit<'a> {
        fn begin(tracker: &'a Tracker) -> Self {
            let there = tracker.there.fetch_add(1, Ordering::Relaxed) + 1;
            tracker.most.fetch_max(there, Ordering::Relaxed);
            Self(tracker)
        }
    }

    impl Drop for Visit<'_> {
        fn drop(&mut self) {
            self.0.there.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// So many stops for each tracker, all at once and in that order.
    async fn stop_all(turns: &Arc<Turns>, trackers: &[(Arc<Tracker>, usize)]) {
        let mut stops = tokio::task::JoinSet::new();
        for (number, (tracker, count)) in trackers.iter().enumerate() {
            for _ in 0..*count {
                let (turns, tracker) = (Arc::clone(turns), Arc::clone(tracker));
                stops.spawn(async move {
                    let host = format!("host {number}");
                    let stopping = turns.stop(&host, tracker.hear(), |heard| *heard);
                    let _ = timeout(DEADLINE, stopping).await;
                });
            }
        }
        stops.join_all().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_tracker_that_answers_has_fifty_at_a_time() {
        let (turns, tracker) = (Arc::new(Turns::default()), Arc::new(Tracker::alive(20)));
        let begun = Instant::now();
        stop_all(&turns, &[(Arc::clone(&tracker), 1_000)]).await;
        assert_eq!((tracker.heard(), tracker.most()), (1_000, STOPS_OF_HOST));
        // One alone, and then the others in rows of fifty.
        assert_eq!(begun.elapsed(), Duration::from_millis(20 * 21));
        assert!(turns.hosts().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn trackers_that_are_gone_keep_no_other_from_hearing() {
        let turns = Arc::new(Turns::default());
        // Two hundred that are gone, of fifty torrents each; and behind them some that are there.
        let gone = (0..200).map(|_| (Arc::new(Tracker::default()), 50));
        let alive = (0..10).map(|_| (Arc::new(Tracker::alive(100)), 60));
        let all: Vec<_> = gone.chain(alive).collect();
        let begun = Instant::now();
        stop_all(&turns, &all).await;
        assert_eq!(begun.elapsed(), DEADLINE);
        for (tracker, count) in &all {
            match tracker.takes {
                None => assert_eq!((tracker.heard(), tracker.most()), (0, 1)),
                Some(_) => assert_eq!(tracker.heard(), *count),
            }
        }
        assert!(turns.hosts().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_slow_at_first_is_asked_again() {
        let turns = Turns::default();
        let given_up = timeout(
            Duration::from_secs(1),
            turns.stop("a", core::future::pending::<bool>(), |heard| *heard),
        );
        let next = turns.stop("a", async { true }, |heard| *heard);
        let (given_up, next) = tokio::join!(given_up, next);
        assert!(given_up.is_err() && next);
        assert!(turns.hosts().is_empty());
    }
}
