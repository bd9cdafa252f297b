//! The tasks of one torrent: dials, announces, connections. Each is supervised.
//!
//! **Invariant:** every errand comes back exactly once, with its own fact or, if it panicked, with the fact that stands
//! for its failure. When the torrent ends, so do they.

use crate::torrent::Fact;
use std::collections::BTreeMap;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

/// Tasks on their way.
#[derive(Debug, Default)]
pub(crate) struct Errands {
    /// `None` while none is on its way.
    tasks: Option<JoinSet<Option<Fact>>>,
    /// What to report for a task that panicked.
    failures: BTreeMap<Id, Fact>,
}

impl Errands {
    /// Starts `task` on the torrent's thread. If it panics, `failure` is what came of it.
    pub(crate) fn spawn(
        &mut self,
        task: impl Future<Output = Option<Fact>> + Send + 'static,
        failure: Option<Fact>,
    ) -> AbortHandle {
        self.spawn_on(&Handle::current(), task, failure)
    }

    /// Starts `task` on another runtime.
    pub(crate) fn spawn_on(
        &mut self,
        runtime: &Handle,
        task: impl Future<Output = Option<Fact>> + Send + 'static,
        failure: Option<Fact>,
    ) -> AbortHandle {
        let handle = self.tasks.get_or_insert_default().spawn_on(task, runtime);
        if let Some(failure) = failure {
            self.failures.insert(handle.id(), failure);
        }
        handle
    }

    /// The next errand to come back with something to tell; `None` once the last one is back, and pending for ever after
    /// that.
    pub(crate) async fn next(&mut self) -> Option<Fact> {
        while let Some(tasks) = &mut self.tasks {
            let Some(ended) = tasks.join_next_with_id().await else {
                self.tasks = None;
                return None;
            };
            let fact = self.ended(ended);
            if fact.is_some() {
                return fact;
            }
        }
        core::future::pending().await
    }

    /// True once [`next`](Self::next) has said that the last one is back, and before the first.
    pub(crate) const fn is_empty(&self) -> bool {
        self.tasks.is_none()
    }

    fn ended(&mut self, ended: Result<(Id, Option<Fact>), JoinError>) -> Option<Fact> {
        match ended {
            Ok((id, fact)) => {
                self.failures.remove(&id);
                fact
            }
            Err(error) => {
                let failure = self.failures.remove(&error.id());
                if error.is_cancelled() {
                    return None;
                }
                tracing::error!(%error, "internal error in a task, please report it");
                failure
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bt_peer::ConnId;

    #[tokio::test]
    async fn each_errand_comes_back_once() {
        let mut errands = Errands::default();
        let failed = |id| Fact::DialFailed { conn: ConnId(id) };
        errands.spawn(async { panic!("a bug") }, Some(failed(1)));
        errands.spawn(async move { Some(failed(2)) }, Some(failed(3)));
        errands.spawn(async { None }, Some(failed(4)));
        let aborted = errands.spawn(core::future::pending(), Some(failed(5)));
        aborted.abort();
        let mut told = Vec::new();
        for _ in 0..2 {
            let fact = errands.next().await;
            let Some(Fact::DialFailed { conn }) = fact else {
                panic!("{fact:?}");
            };
            told.push(conn.0);
        }
        told.sort_unstable();
        assert_eq!(told, [1, 2]);
        assert!(errands.next().await.is_none() && errands.is_empty());
        let nothing_more =
            tokio::time::timeout(core::time::Duration::from_millis(20), errands.next());
        assert!(nothing_more.await.is_err());
        assert!(errands.failures.is_empty());
    }
}
