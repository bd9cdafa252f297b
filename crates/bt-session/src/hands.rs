//! What a torrent's task needs to deal with peers and with the disk's pool, and with nobody else.
//!
//! A channel takes memory whether anything passes through it or not: these take some 12 KiB. Of ten thousand torrents that
//! are seeded most have no peer, so the task lets go of them when it has nothing to do, and makes new ones when it has.
//!
//! **Invariant:** they are let go of only when no connection is open and the disk owes no answer; whoever still holds
//! the other ends finds them closed.

use crate::disk::{Disk, Jobs};
use crate::errands::Errands;
use crate::torrent::Fact;
use bt_core::disk::Done;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Facts that wait for a torrent's task. Each holds what one read brought: 256 KiB, 2 MiB in one of the few long
/// buffers of a session, or one message, of which the longest has a mebibyte. So what is received and not looked at is
/// some 16 MiB a torrent and 10 MiB in long buffers for all together, and 64 MiB a torrent if strangers try their worst.
const FACTS_MAX: usize = 64;

/// Facts that are taken in one turn, before timers and commands are looked at again.
const TURN_FACTS: usize = 16;

/// The channels of a torrent that has peers, or may soon.
pub(crate) struct Hands {
    facts: mpsc::Receiver<Fact>,
    /// Where connections tell what happens to them.
    pub(crate) facts_in: mpsc::Sender<Fact>,
    pub(crate) jobs: Jobs,
    feeder: AbortHandle,
}

impl Hands {
    /// The order book of the disk, and the task behind it, which is one of the torrent's errands.
    pub(crate) fn new(disk: &Arc<Disk>, errands: &mut Errands) -> Self {
        let (facts_in, facts) = mpsc::channel(FACTS_MAX);
        let (jobs, feeding) = Jobs::new(Arc::clone(disk));
        let feeding = async {
            feeding.await;
            Some(Fact::DiskGone)
        };
        Self {
            facts,
            facts_in,
            jobs,
            feeder: errands.spawn(feeding, Some(Fact::DiskGone)),
        }
    }

    /// What came next: facts, which are put into `batch`, or an answer of the disk, which may be that it left everything to
    /// another thread. Pending for ever without hands.
    pub(crate) async fn next(
        hands: &mut Option<Box<Self>>,
        batch: &mut Vec<Fact>,
    ) -> Option<Vec<Done>> {
        let Some(hands) = hands else {
            return core::future::pending().await;
        };
        let Self { facts, jobs, .. } = &mut **hands;
        tokio::select! {
            _ = facts.recv_many(batch, TURN_FACTS) => None,
            Some(done) = jobs.answer() => Some(done),
        }
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        // Before it finds its queue closed, which it would take for a bug.
        self.feeder.abort();
    }
}
