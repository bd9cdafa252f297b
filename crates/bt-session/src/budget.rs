//! What the torrents of a session share of the line: each says what it uses and is told what it may.

use bt_peer::node::{NodeLimits, Share, TorrentId, Usage};
use bt_peer::{Command, Node, Stats};
use std::sync::{Mutex, PoisonError};

/// Connections over all torrents: well below the descriptors a process commonly has (1024), files and half-open
/// connections counted.
const PEERS_MAX_SESSION: usize = 400;

/// The budget of a session.
#[derive(Debug)]
pub(crate) struct Budget {
    node: Mutex<Node>,
}

/// One torrent's part in it. Dropped, it is free for the others.
#[derive(Debug)]
pub(crate) struct Part {
    torrent: TorrentId,
    peers_max: usize,
    given: Option<Share>,
}

impl Budget {
    /// Limits over all torrents, in payload bytes per second.
    pub(crate) fn new(down: Option<u64>, up: Option<u64>) -> Self {
        let limits = NodeLimits {
            down,
            up,
            peers_max: PEERS_MAX_SESSION,
        };
        Self {
            node: Mutex::new(Node::new(limits)),
        }
    }

    /// Takes a torrent's numbers and returns what changes for it.
    pub(crate) fn share(&self, part: &mut Part, stats: &Stats) -> Vec<Command> {
        let usage = Usage {
            down_rate: stats.down_rate,
            up_rate: stats.up_rate,
            peers: stats.peers,
            down_max: None,
            up_max: None,
            peers_max: part.peers_max,
        };
        let mut node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        node.report(part.torrent, usage);
        let share = node.share(part.torrent);
        drop(node);
        let Some(share) = share else {
            return Vec::new();
        };
        let before = part.given.replace(share);
        let mut changes = Vec::new();
        if before.is_none_or(|before| (before.down, before.up) != (share.down, share.up)) {
            changes.push(Command::SetLimits {
                down: share.down,
                up: share.up,
            });
        }
        if before.is_none_or(|before| before.peers_max != share.peers_max) {
            changes.push(Command::SetPeersMax(share.peers_max));
        }
        changes
    }

    /// A torrent is gone; what it had is the others'.
    pub(crate) fn leave(&self, part: &Part) {
        let mut node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        node.leave(part.torrent);
    }
}

impl Part {
    /// The part of a torrent with a number of its own, and its bound on connections.
    pub(crate) const fn new(torrent: u64, peers_max: usize) -> Self {
        Self {
            torrent: TorrentId(torrent),
            peers_max,
            given: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_torrents_split_a_limit_and_one_has_it_alone_again() {
        let budget = Budget::new(Some(1_000_000), None);
        let (mut first, mut second) = (Part::new(1, 80), Part::new(2, 80));
        let stats = Stats::default();
        let limits = |down| Command::SetLimits {
            down: Some(down),
            up: None,
        };
        let alone = [limits(1_000_000), Command::SetPeersMax(80)];
        assert_eq!(budget.share(&mut first, &stats), alone);
        assert_eq!(
            budget.share(&mut first, &stats),
            [limits(4096)],
            "it uses nothing"
        );
        let busy = Stats {
            down_rate: 4096,
            ..stats
        };
        assert_eq!(budget.share(&mut first, &busy), [limits(1_000_000)]);
        let busy = Stats {
            down_rate: 1_000_000,
            ..stats
        };
        assert_eq!(budget.share(&mut first, &busy), []);
        assert!(budget.share(&mut second, &busy).contains(&limits(500_000)));
        assert_eq!(budget.share(&mut first, &busy), [limits(500_000)]);
        budget.leave(&second);
        assert_eq!(budget.share(&mut first, &busy), [limits(1_000_000)]);
    }
}
