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
    tasks: JoinSet<Option<Fact>>,
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
        let handle = self.tasks.spawn_on(task, runtime);
        if let Some(failure) = failure {
            self.failures.insert(handle.id(), failure);
        }
        handle
    }

    /// The next errand to come back with something to tell; pending for ever if none does.
    pub(crate) async fn next(&mut self) -> Fact {
        loop {
            let Some(ended) = self.tasks.join_next_with_id().await else {
                return core::future::pending().await;
            };
            if let Some(fact) = self.ended(ended) {
                return fact;
            }
        }
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
            let Fact::DialFailed { conn } = fact else {
                panic!("{fact:?}");
            };
            told.push(conn.0);
        }
        told.sort_unstable();
        assert_eq!(told, [1, 2]);
        let nothing_more =
            tokio::time::timeout(core::time::Duration::from_millis(20), errands.next());
        assert!(nothing_more.await.is_err());
        assert!(errands.failures.is_empty());
    }
}
