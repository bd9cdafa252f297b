//! The threads on which torrents run.
//!
//! Each is a runtime of one thread. A torrent's task and those of its connections stay on the thread on which the torrent
//! was placed: who is woken there runs there next, with what was just received still in that core's cache. Trackers, the
//! DHT and handshakes of strangers stay on the runtime in which the session was made.
//!
//! **Invariant:** a thread starts with the first torrent that is placed on it, and ends with the session.

use std::io;
use std::sync::Arc;
use std::thread;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The threads of a session.
#[derive(Debug)]
pub(crate) struct Workers {
    threads_max: usize,
    started: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// One more reference for each torrent.
    load: Arc<()>,
    /// The thread ends when this is dropped.
    _alive: oneshot::Sender<()>,
}

/// A torrent's place.
#[derive(Debug)]
pub(crate) struct Place {
    /// Where its tasks run.
    pub(crate) runtime: Handle,
    /// To be dropped when the torrent is gone.
    pub(crate) load: Arc<()>,
}

impl Workers {
    /// As many threads as are named, else one for each core.
    pub(crate) fn new(threads: Option<usize>) -> Self {
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        Self {
            threads_max: threads.unwrap_or_else(cores),
            started: Vec::new(),
        }
    }

    /// A place for one more torrent: on the thread that has the fewest. If there is to be none, or none can be started,
    /// that is the runtime of the caller.
    pub(crate) fn place(&mut self) -> Place {
        let is_idle = |worker: &Worker| worker.torrents() == 0;
        if self.started.len() < self.threads_max && !self.started.iter().any(is_idle) {
            match Worker::start(self.started.len()) {
                Ok(worker) => self.started.push(worker),
                Err(error) => tracing::warn!(%error, "no further thread for torrents"),
            }
        }
        match self.started.iter().min_by_key(|worker| worker.torrents()) {
            Some(worker) => Place {
                runtime: worker.runtime.clone(),
                load: Arc::clone(&worker.load),
            },
            None => Place {
                runtime: Handle::current(),
                load: Arc::default(),
            },
        }
    }
}

impl Worker {
    fn start(index: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (alive, dropped) = oneshot::channel();
        let run = move || {
            // The error is what tells us that the session is gone.
            let _ = runtime.block_on(dropped);
            // Reads of a dead disk may hang; nobody waits for them any more.
            runtime.shutdown_background();
        };
        let name = format!("torrents-{index}");
        thread::Builder::new().name(name).spawn(run)?;
        Ok(Self {
            runtime: handle,
            load: Arc::default(),
            _alive: alive,
        })
    }

    fn torrents(&self) -> usize {
        Arc::strong_count(&self.load) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::ThreadId;

    async fn thread_of(place: &Place) -> ThreadId {
        let asked = place.runtime.spawn(async {
            // What a torrent starts stays with it, and moves nowhere while it waits.
            tokio::spawn(async {
                tokio::task::yield_now().await;
                thread::current().id()
            })
            .await
            .unwrap()
        });
        asked.await.unwrap()
    }

    #[tokio::test]
    async fn torrents_go_where_the_fewest_are_and_stay_there() {
        let mut workers = Workers::new(Some(2));
        let first = workers.place();
        assert_eq!(workers.started.len(), 1, "no thread before there is work");
        let second = workers.place();
        let (one, two) = (thread_of(&first).await, thread_of(&second).await);
        assert!(one != two && ![one, two].contains(&thread::current().id()));
        let third = workers.place();
        assert_eq!(workers.started.len(), 2);
        let fourth = workers.place();
        assert_ne!(thread_of(&third).await, thread_of(&fourth).await);
        drop((first, third, fourth));
        assert_eq!(
            thread_of(&workers.place()).await,
            one,
            "it has none any more"
        );
    }

    #[tokio::test]
    async fn no_further_thread_starts_while_one_has_nothing_to_do() {
        let mut workers = Workers::new(Some(2));
        for _ in 0..2 {
            drop(workers.place());
        }
        assert_eq!(workers.started.len(), 1);
    }

    #[tokio::test]
    async fn without_threads_the_caller_does_it() {
        let place = Workers::new(Some(0)).place();
        assert_eq!(thread_of(&place).await, thread::current().id());
    }

    #[tokio::test]
    async fn a_thread_ends_with_its_session() {
        let mut workers = Workers::new(Some(1));
        let place = workers.place();
        let (sender, gone) = oneshot::channel::<()>();
        place.runtime.spawn(async move {
            let _sender = sender;
            core::future::pending::<()>().await;
        });
        drop(workers);
        assert!(gone.await.is_err(), "its tasks are dropped with it");
    }
}
