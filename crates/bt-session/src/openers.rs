//! Where torrents are opened: on the spot while the disk is quick, else by a few threads, one after the other.
//!
//! To open a torrent takes some tens of microseconds, and to hand it to another thread and back costs as much again; so does
//! a thread of the pool for each. So as long as no opening was slow it is done by the torrent's own task. Else, and if there
//! is something to hash, the work queues, and a few threads do it until none is left. Who comes then waits for its turn before
//! it has anything in hand: of ten thousand torrents that wait, each would have 5 KiB.

use crate::disk::Pace;
use crate::handle::Failure;
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Torrents whose files are opened, and whose state is read, at a time: some system calls each, which two for each core of
/// a small machine keep going while one of them waits for the disk.
const THREADS_MAX: usize = 4;

/// Torrents that have their turn while the disk is slow: as many as keep the threads from falling asleep between two of them,
/// which costs more than the opening. Each has some 5 KiB then.
const TURNS_MAX: usize = 16 * THREADS_MAX;

type Work = Box<dyn FnOnce() + Send>;

/// The queue and its threads.
#[derive(Clone)]
pub(crate) struct Openers {
    queue: Arc<Mutex<State>>,
    pace: Arc<Pace>,
    /// One for each torrent that has its turn while the disk is slow.
    turns: Arc<Semaphore>,
}

impl Default for Openers {
    fn default() -> Self {
        Self {
            queue: Arc::default(),
            pace: Arc::new(Pace::new()),
            turns: Arc::new(Semaphore::new(TURNS_MAX)),
        }
    }
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Work>,
    threads: usize,
}

impl core::fmt::Debug for Openers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Openers")
            .field(&self.lock().waiting.len())
            .finish()
    }
}

impl Openers {
    /// The right to open a torrent, until it is dropped; `None` while the disk is quick and nobody needs it.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        if !self.pace.is_slow() {
            return None;
        }
        // On the heap, and gone when it has come.
        let turn = Box::pin(Arc::clone(&self.turns).acquire_owned());
        turn.await.ok()
    }

    /// Does the work at once, on the thread of the caller, or when its turn comes if the disk is slow.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Panics
    /// If the work does, and was done at once.
    pub(crate) async fn run_quick<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        if !self.pace.is_slow() {
            return self.pace.timed(work);
        }
        let pace = Arc::clone(&self.pace);
        self.run(move || pace.timed(work)).await
    }

    /// Does the work when its turn comes. To be called in a tokio runtime. What nobody waits for any more is not begun.
    ///
    /// # Errors
    /// Those of `work`, and [`Failure::Bug`] if it panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (done, outcome) = oneshot::channel();
        let work = move || {
            if done.is_closed() {
                return;
            }
            let result = catch_unwind(AssertUnwindSafe(work));
            // Nobody may be waiting.
            let _ = done.send(result.unwrap_or_else(|panic| Err(bug(panic.as_ref()))));
        };
        self.queue(Box::new(work));
        let gone = |_| Failure::Bug {
            message: "the session ends".to_owned(),
        };
        outcome.await.map_err(gone)?
    }

    /// From now on the disk is slow.
    #[cfg(test)]
    pub(crate) fn pretend_slow(&self) {
        self.pace.pretend(true);
    }

    fn queue(&self, work: Work) {
        let mut state = self.lock();
        state.waiting.push_back(work);
        if state.threads < THREADS_MAX {
            state.threads += 1;
            let this = self.clone();
            drop(state);
            tokio::task::spawn_blocking(move || this.work());
        }
    }

    fn work(&self) {
        loop {
            let mut state = self.lock();
            let Some(work) = state.waiting.pop_front() else {
                state.threads -= 1;
                state.waiting.shrink_to_fit();
                return;
            };
            drop(state);
            work();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bug(panic: &(dyn Any + Send)) -> Failure {
    let message = crate::session::life::message_of(panic);
    Failure::Bug { message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::task::JoinSet;

    #[tokio::test]
    async fn all_work_is_done_by_a_few_threads_and_a_panic_harms_nobody_else() {
        let openers = Openers::default();
        let (at_work, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut all = JoinSet::new();
        for number in 0..100_usize {
            let (openers, at_work, most) =
                (openers.clone(), Arc::clone(&at_work), Arc::clone(&most));
            all.spawn(async move {
                let work = move || {
                    let now = at_work.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    std::thread::yield_now();
                    at_work.fetch_sub(1, Ordering::SeqCst);
                    assert!(number != 50, "a bug");
                    Ok(number)
                };
                openers.run(work).await
            });
        }
        let (mut sum, mut bugs) = (0, Vec::new());
        while let Some(outcome) = all.join_next().await {
            match outcome.unwrap() {
                Ok(number) => sum += number,
                Err(failure) => bugs.push(failure.to_string()),
            }
        }
        assert_eq!(sum, (0..100).sum::<usize>() - 50);
        assert!(
            matches!(&bugs[..], [bug] if bug.contains("a bug")),
            "{bugs:?}"
        );
        assert!(most.load(Ordering::SeqCst) <= THREADS_MAX);
        let state = openers.lock();
        assert!(state.waiting.is_empty());
    }

    #[tokio::test]
    async fn a_quick_disk_is_at_work_where_the_caller_is_and_a_slow_one_elsewhere() {
        let openers = Openers::default();
        let here = std::thread::current().id();
        for is_slow in [false, true, false] {
            openers.pace.pretend(is_slow);
            let there = openers.run_quick(|| Ok(std::thread::current().id()));
            assert_eq!(there.await.unwrap() != here, is_slow);
        }
    }

    #[tokio::test]
    async fn while_the_disk_is_slow_a_few_have_their_turn() {
        let openers = Openers::default();
        assert!(openers.turn().await.is_none());
        openers.pretend_slow();
        let mut turns = Vec::new();
        for _ in 0..TURNS_MAX {
            turns.push(openers.turn().await.unwrap());
        }
        let mut next = Box::pin(openers.turn());
        let waited = tokio::time::timeout(core::time::Duration::ZERO, &mut next).await;
        assert!(waited.is_err());
        turns.pop();
        assert!(next.await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_slow_opening_sends_the_next_ones_away_for_a_while() {
        let openers = Openers::default();
        let here = std::thread::current().id();
        let slow = || {
            crate::disk::pass(core::time::Duration::from_secs(3600));
            Ok(())
        };
        openers.run_quick(slow).await.unwrap();
        let there = openers.run_quick(|| Ok(std::thread::current().id()));
        assert_ne!(there.await.unwrap(), here);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_begun() {
        let openers = Openers::default();
        let held = Arc::new(Barrier::new(THREADS_MAX + 1));
        for _ in 0..THREADS_MAX {
            let held = Arc::clone(&held);
            openers.queue(Box::new(move || {
                held.wait();
            }));
        }
        let begun = Arc::new(AtomicUsize::new(0));
        let count = || {
            let begun = Arc::clone(&begun);
            move || {
                begun.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
        };
        let unwanted = openers.run(count());
        let gone = tokio::time::timeout(core::time::Duration::ZERO, unwanted).await;
        assert!(gone.is_err());
        held.wait();
        openers.run(count()).await.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), 1);
    }
}
