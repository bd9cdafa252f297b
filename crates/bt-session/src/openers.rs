//! Threads that open torrents, one after the other.
//!
//! To open a torrent takes some tens of microseconds, and to have a thread of the pool for each costs as much again. So the
//! work queues, and a few threads do it until none is left.

use crate::handle::Failure;
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Torrents whose files are opened, and whose state is read, at a time: some system calls each, which two for each core of
/// a small machine keep going while one of them waits for the disk.
const THREADS_MAX: usize = 4;

type Work = Box<dyn FnOnce() + Send>;

/// The queue and its threads.
#[derive(Clone, Default)]
pub(crate) struct Openers(Arc<Mutex<State>>);

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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
