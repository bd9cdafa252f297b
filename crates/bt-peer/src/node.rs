//! What the torrents of one program share: the rates of the line, and the number of connections.
//!
//! A torrent says from time to time what it uses, and hears what it may use from then on. One that uses less than an
//! equal part leaves the rest to the others; one that takes all it is given is given more, until the whole limit is in
//! use.
//!
//! **Invariant:** the shares of one division never add up to more than the limit, but that each torrent may have
//! [`RATE_MIN`] and one connection, so that none is locked out for ever.
//!
//! **Invariant:** a torrent's use is compared with what it was told before it reported that use, and with nothing newer:
//! else one that takes all it has looks idle, and is given less.

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
    /// What it was told last.
    told: Option<Share>,
    /// What it had been told when it measured `usage`.
    measured_under: Option<Share>,
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

    /// What a torrent uses now. The first report makes it a member.
    pub fn report(&mut self, torrent: TorrentId, usage: Usage) {
        let member = self.torrents.entry(torrent).or_default();
        member.usage = usage;
        member.measured_under = member.told;
    }

    /// A torrent needs nothing more; its share is free for the others.
    pub fn leave(&mut self, torrent: TorrentId) {
        self.torrents.remove(&torrent);
    }

    /// What a member may use from now on: the limits divided anew by what was reported. `None` if it is no member.
    /// Sensible after each report of that torrent.
    pub fn share(&mut self, torrent: TorrentId) -> Option<Share> {
        let place = self.torrents.keys().position(|id| *id == torrent)?;
        let share = self.split().into_iter().nth(place)?;
        self.torrents.get_mut(&torrent)?.told = Some(share);
        Some(share)
    }

    /// The share of each member, in order. Nobody has heard of it yet.
    fn split(&self) -> Vec<Share> {
        let members: Vec<Member> = self.torrents.values().copied().collect();
        let downs = split_rate(self.limits.down, &members, |member| Ask {
            used: member.usage.down_rate,
            max: member.usage.down_max,
            given: member.measured_under.and_then(|share| share.down),
        });
        let ups = split_rate(self.limits.up, &members, |member| Ask {
            used: member.usage.up_rate,
            max: member.usage.up_max,
            given: member.measured_under.and_then(|share| share.up),
        });
        let peers = split_peers(self.limits.peers_max, &members);
        let shares = downs.into_iter().zip(ups).zip(peers);
        shares
            .map(|((down, up), peers_max)| Share {
                down,
                up,
                peers_max,
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

    /// Everybody reports what it uses, and then hears its share.
    fn round(node: &mut Node, uses: &[(TorrentId, Usage)]) -> Vec<Share> {
        for (torrent, usage) in uses {
            node.report(*torrent, *usage);
        }
        let told = uses.iter().map(|(torrent, _)| node.share(*torrent));
        told.collect::<Option<_>>().expect("all are members")
    }

    #[test]
    fn who_is_not_told_is_not_held_to_it() {
        let mut node = Node::new(NodeLimits {
            down: Some(1_000_000),
            up: None,
            peers_max: 60,
        });
        let (first, second) = (TorrentId(1), TorrentId(2));
        round(&mut node, &[(first, usage(0)), (second, usage(0))]);
        // The first takes all of its half, the second nothing; only the second hears of a division.
        for _ in 0..3 {
            node.report(first, usage(500_000));
            node.report(second, usage(0));
            let share = node.share(second).unwrap();
            assert_eq!(share.down, Some(RATE_MIN));
        }
        // Nor does a share that came after the report make the first look idle to the second.
        let share = node.share(first).unwrap();
        assert_eq!(share.down, Some(1_000_000 - RATE_MIN));
        node.report(second, usage(RATE_MIN));
        let share = node.share(second).unwrap();
        assert_eq!(share.down, Some(500_000), "not the whole line");
        assert_eq!(node.share(TorrentId(3)), None);
    }

    #[test]
    fn an_idle_torrent_leaves_its_part_to_the_busy_one() {
        let mut node = Node::new(NodeLimits {
            down: Some(1_000_000),
            up: None,
            peers_max: 60,
        });
        let (idle, busy) = (TorrentId(1), TorrentId(2));
        let shares = round(&mut node, &[(idle, usage(0)), (busy, usage(0))]);
        assert!(shares.iter().all(|share| share.down == Some(500_000)));
        assert!(shares.iter().all(|share| share.peers_max == 30));
        assert!(shares.iter().all(|share| share.up.is_none()));
        let shares = round(&mut node, &[(idle, usage(0)), (busy, usage(490_000))]);
        assert_eq!(shares[0].down, Some(RATE_MIN));
        assert_eq!(shares[1].down, Some(1_000_000 - RATE_MIN));
        // The idle one wakes: it uses all of the little it has, and gets an equal part again.
        let uses = [(idle, usage(RATE_MIN)), (busy, usage(990_000))];
        let shares = round(&mut node, &uses);
        assert!(shares.iter().all(|share| share.down == Some(500_000)));
        node.leave(busy);
        node.report(idle, usage(500_000));
        assert_eq!(node.share(idle).unwrap().down, Some(1_000_000));
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
        let uses = [(TorrentId(1), own), (TorrentId(2), usage(0))];
        let shares = round(&mut node, &uses);
        let (first, second) = (shares[0], shares[1]);
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
