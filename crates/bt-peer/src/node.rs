//! What the torrents of one program share: the rates of the line, and the number of connections.
//!
//! A [`Node`] is told from time to time what each torrent uses, and answers what each may use from then on. A torrent
//! that uses less than an equal part leaves the rest to the others; one that takes all it is given is given more, until
//! the whole limit is in use.
//!
//! **Invariant:** the shares of one kind never add up to more than the limit, but that each torrent may have
//! [`RATE_MIN`] and one connection, so that none is locked out for ever.

use std::collections::BTreeMap;

/// The least rate that a torrent is given under a limit, in bytes per second: one block in four seconds, so that its
/// need for more can show.
pub const RATE_MIN: u64 = 4 * 1024;

/// A torrent is held to want more if it uses at least this much of its share, in percent.
const BUSY_PERCENT: u64 = 80;

/// Room for growth that an idle torrent keeps over what it uses, in percent of its use.
const HEADROOM_PERCENT: u64 = 25;

/// A torrent of a [`Node`], numbered by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TorrentId(pub u64);

/// What all torrents together may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLimits {
    /// Payload bytes per second received.
    pub down: Option<u64>,
    /// Payload bytes per second sent.
    pub up: Option<u64>,
    /// Connections at a time.
    pub peers_max: usize,
}

/// What one torrent uses, and the most it may by its own settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Payload bytes per second received, as measured.
    pub down_rate: u64,
    /// Payload bytes per second sent, as measured.
    pub up_rate: u64,
    /// Connected peers.
    pub peers: usize,
    /// The torrent's own download limit.
    pub down_max: Option<u64>,
    /// The torrent's own upload limit.
    pub up_max: Option<u64>,
    /// The torrent's own bound on connections.
    pub peers_max: usize,
}

/// What one torrent may use until it is told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// For [`Command::SetLimits`](crate::Command::SetLimits).
    pub down: Option<u64>,
    /// For [`Command::SetLimits`](crate::Command::SetLimits).
    pub up: Option<u64>,
    /// For [`Command::SetPeersMax`](crate::Command::SetPeersMax).
    pub peers_max: usize,
}

/// The budgets of one program. See the module's documentation.
#[derive(Clone, Debug)]
pub struct Node {
    limits: NodeLimits,
    torrents: BTreeMap<TorrentId, Member>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Member {
    usage: Usage,
    share: Option<Share>,
}

impl Node {
    /// A node without torrents.
    #[must_use]
    pub const fn new(limits: NodeLimits) -> Self {
        Self {
            limits,
            torrents: BTreeMap::new(),
        }
    }

    /// Changes the limits; the next [`split`](Self::split) goes by them.
    pub const fn set_limits(&mut self, limits: NodeLimits) {
        self.limits = limits;
    }

    /// What a torrent uses now. The first report makes it a member.
    pub fn report(&mut self, torrent: TorrentId, usage: Usage) {
        self.torrents.entry(torrent).or_default().usage = usage;
    }

    /// A torrent needs nothing more; its share is free for the others.
    pub fn leave(&mut self, torrent: TorrentId) {
        self.torrents.remove(&torrent);
    }

    /// Divides the limits anew by what was reported. Sensible every second or so, and after each change of members.
    pub fn split(&mut self) -> Vec<(TorrentId, Share)> {
        let members: Vec<Member> = self.torrents.values().copied().collect();
        let downs = split_rate(self.limits.down, &members, |member| Ask {
            used: member.usage.down_rate,
            max: member.usage.down_max,
            given: member.share.and_then(|share| share.down),
        });
        let ups = split_rate(self.limits.up, &members, |member| Ask {
            used: member.usage.up_rate,
            max: member.usage.up_max,
            given: member.share.and_then(|share| share.up),
        });
        let peers = split_peers(self.limits.peers_max, &members);
        let shares = downs.into_iter().zip(ups).zip(peers);
        self.torrents
            .iter_mut()
            .zip(shares)
            .map(|((torrent, member), ((down, up), peers_max))| {
                let share = Share {
                    down,
                    up,
                    peers_max,
                };
                member.share = Some(share);
                (*torrent, share)
            })
            .collect()
    }
}

/// One torrent's side of a division.
struct Ask {
    used: u64,
    max: Option<u64>,
    given: Option<u64>,
}

impl Ask {
    /// The most that is of use to the torrent now, in bytes per second.
    fn wanted(&self) -> u64 {
        let busy = self.given.is_none_or(|given| {
            self.used.saturating_mul(100) >= given.saturating_mul(BUSY_PERCENT)
        });
        let room = self.used.saturating_mul(100 + HEADROOM_PERCENT) / 100;
        let wanted = if busy { u64::MAX } else { room.max(RATE_MIN) };
        wanted.min(self.max.unwrap_or(u64::MAX))
    }
}

fn split_rate(
    limit: Option<u64>,
    members: &[Member],
    ask: impl Fn(&Member) -> Ask,
) -> Vec<Option<u64>> {
    let Some(limit) = limit else {
        return members.iter().map(|member| ask(member).max).collect();
    };
    let wants: Vec<u64> = members.iter().map(|member| ask(member).wanted()).collect();
    let parts = fill(limit, &wants);
    members
        .iter()
        .zip(parts)
        .map(|(member, part)| {
            let max = ask(member).max.unwrap_or(u64::MAX);
            Some(part.max(RATE_MIN.min(limit)).min(max))
        })
        .collect()
}

fn split_peers(limit: usize, members: &[Member]) -> Vec<usize> {
    let wants: Vec<u64> = members
        .iter()
        .map(|member| member.usage.peers_max as u64)
        .collect();
    fill(limit as u64, &wants)
        .into_iter()
        .map(|part| usize::try_from(part).unwrap_or(limit).max(1))
        .collect()
}

/// Pours `limit` over the wants: each gets what it wants or an equal part of what is left, smallest wants first. What
/// nobody wants stays in the jug.
fn fill(limit: u64, wants: &[u64]) -> Vec<u64> {
    let mut order: Vec<(u64, usize)> = wants.iter().copied().zip(0..).collect();
    order.sort_unstable();
    let mut parts = vec![0; wants.len()];
    let (mut left, mut takers) = (limit, wants.len() as u64);
    for (want, index) in order {
        let part = want.min(left / takers.max(1));
        if let Some(slot) = parts.get_mut(index) {
            *slot = part;
        }
        left -= part;
        takers -= 1;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fill_serves_small_wants_whole_and_the_rest_evenly() {
        let rows: [(u64, &[u64], &[u64]); 5] = [
            (100, &[], &[]),
            (100, &[u64::MAX, u64::MAX], &[50, 50]),
            (100, &[10, u64::MAX, u64::MAX], &[10, 45, 45]),
            (100, &[u64::MAX, 30, 10], &[60, 30, 10]),
            (100, &[10, 10], &[10, 10]),
        ];
        for (limit, wants, expected) in rows {
            assert_eq!(fill(limit, wants), expected, "{wants:?}");
        }
    }

    proptest! {
        #[test]
        fn fill_never_pours_more_than_there_is(limit in 0_u64..1_000_000, wants in prop::collection::vec(0_u64..1_000_000, 0..20)) {
            let parts = fill(limit, &wants);
            let sum: u64 = parts.iter().sum();
            prop_assert_eq!(sum, limit.min(wants.iter().sum()), "all is used that is wanted, up to rounding");
        }
    }

    fn usage(down_rate: u64) -> Usage {
        Usage {
            down_rate,
            peers_max: 50,
            ..Usage::default()
        }
    }

    #[test]
    fn an_idle_torrent_leaves_its_part_to_the_busy_one() {
        let mut node = Node::new(NodeLimits {
            down: Some(1_000_000),
            up: None,
            peers_max: 60,
        });
        let (idle, busy) = (TorrentId(1), TorrentId(2));
        node.report(idle, usage(0));
        node.report(busy, usage(0));
        let shares = node.split();
        assert!(shares.iter().all(|(_, share)| share.down == Some(500_000)));
        assert!(shares.iter().all(|(_, share)| share.peers_max == 30));
        assert!(shares.iter().all(|(_, share)| share.up.is_none()));
        node.report(busy, usage(490_000));
        let shares: BTreeMap<_, _> = node.split().into_iter().collect();
        assert_eq!(shares[&idle].down, Some(RATE_MIN));
        assert_eq!(shares[&busy].down, Some(1_000_000 - RATE_MIN));
        // The idle one wakes: it uses all of the little it has, and gets an equal part again.
        node.report(idle, usage(RATE_MIN));
        node.report(busy, usage(990_000));
        assert!(
            node.split()
                .iter()
                .all(|(_, share)| share.down == Some(500_000))
        );
        node.leave(busy);
        assert_eq!(node.split().len(), 1);
    }

    #[test]
    fn a_torrents_own_limit_stays() {
        let mut node = Node::new(NodeLimits {
            down: Some(1_000_000),
            up: None,
            peers_max: 10,
        });
        let own = Usage {
            down_max: Some(100_000),
            up_max: Some(5_000),
            peers_max: 3,
            ..Usage::default()
        };
        node.report(TorrentId(1), own);
        node.report(TorrentId(2), usage(0));
        let shares: BTreeMap<_, _> = node.split().into_iter().collect();
        let (first, second) = (shares[&TorrentId(1)], shares[&TorrentId(2)]);
        assert_eq!(
            (first.down, first.up, first.peers_max),
            (Some(100_000), Some(5_000), 3)
        );
        assert_eq!(
            (second.down, second.up, second.peers_max),
            (Some(900_000), None, 7)
        );
    }
}
