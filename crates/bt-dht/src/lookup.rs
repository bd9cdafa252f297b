//! One iterative search (BEP 5, "overview"): ask the nearest nodes known for nearer ones, until the nearest have answered.
//!
//! The *window* is the nearest [`K`] candidates that count. A candidate does not count if it failed or is late, if its
//! id is not of its address (BEP 42: it may be asked, but must not end a search), or if [`NETWORK_MAX`] nearer ones are
//! of the same network. The search is over when all in the window have answered. One whose answer is slow is waited for until it
//! is late, and somebody is asked beside it, who takes its place then: however many dead nodes there are, they are waited
//! for at the same time.
//!
//! **Invariant:** at most [`ALPHA`] queries that are not slow are under way, and one more for each that became slow since the last
//! answer, up to [`ALPHA_MAX`]; [`QUERIES_MAX`] are sent in all, and
//! `CANDIDATES_MAX` and `UNVERIFIED_CANDIDATES_MAX` candidates kept, so that liars can waste our time only so long.

use crate::id::{Distance, NodeId, is_local, is_of_address, network};
use crate::krpc::Contact;
use crate::table::K;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Queries of one search that are under way at a time: `α` of Kademlia, which has 3; 4 as most of the world now.
pub const ALPHA: usize = 4;
/// And at most, while nothing but silence comes: then many of those we know are gone.
pub const ALPHA_MAX: usize = 16;
/// Queries of one search. One among ten million nodes takes some 30.
pub const QUERIES_MAX: usize = 150;
/// Candidates that a search keeps, nearest first, whose id is of their address.
const CANDIDATES_MAX: usize = 100;
/// And others. They have bounds of their own: a hundred liars next to the target would leave no room for anybody else.
const UNVERIFIED_CANDIDATES_MAX: usize = 50;
/// Addresses without a known id that a search begins with.
pub const UNKNOWN_MAX: usize = 32;
/// Candidates of one network (/16 of IPv4, /32 of IPv6) that count. Of the eight nearest of millions two are hardly
/// ever neighbours, unless somebody wants them to be.
pub const NETWORK_MAX: usize = 2;
/// Candidates in the window whose id is not of their address: asked, as long as there are so few.
const UNVERIFIED_MAX: usize = K;

/// How far a candidate has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Progress {
    Fresh,
    Asked,
    /// It was asked, and most would have answered by now. Others are asked as if it never would.
    Slow,
    /// It was asked and takes long. It no longer holds the search up, and may still answer.
    Late,
    Answered {
        token: Option<Vec<u8>>,
    },
    Failed,
}

#[derive(Clone, Debug)]
struct Candidate {
    contact: Contact,
    distance: Distance,
    /// How many answers led here: 1 for what we knew ourselves.
    hops: u32,
    verified: bool,
    progress: Progress,
}

/// What is made of candidates that are slow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slow {
    /// They are in the window: their answers are waited for.
    Counted,
    /// Others are in their places, to be asked beside them.
    Replaced,
}

/// What a search cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupStats {
    /// Queries sent.
    pub queries: usize,
    /// Nodes that answered.
    pub answers: usize,
    /// The longest way to one of the nodes that count and that the search ended with: 1 if we knew them all before, 0 if
    /// there is none. Nodes whose id is not of their address do not count: liars name each other as long as they like.
    pub hops: u32,
}

/// A search.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    target: NodeId,
    /// By distance.
    candidates: Vec<Candidate>,
    /// Where there may be a node, not yet asked.
    unknown: VecDeque<SocketAddr>,
    /// Nodes asked whose id is not known.
    unknown_asked: Vec<SocketAddr>,
    /// And those of them that are slow.
    unknown_slow: Vec<SocketAddr>,
    queries: usize,
    answers: usize,
    /// So many became slow since the last answer.
    silent: usize,
}

impl Lookup {
    pub(crate) fn new(
        target: NodeId,
        seeds: &[Contact],
        unknown: impl IntoIterator<Item = SocketAddr>,
    ) -> Self {
        let mut lookup = Self {
            target,
            candidates: Vec::new(),
            unknown: unknown.into_iter().take(UNKNOWN_MAX).collect(),
            unknown_asked: Vec::new(),
            unknown_slow: Vec::new(),
            queries: 0,
            answers: 0,
            silent: 0,
        };
        seeds.iter().for_each(|seed| lookup.offer(*seed, 1));
        lookup
    }

    pub(crate) const fn target(&self) -> NodeId {
        self.target
    }

    /// Whom to ask next, which then counts as asked. `None` if it is somebody else's turn.
    pub(crate) fn next(&mut self) -> Option<SocketAddr> {
        let under_way = self.candidates.iter();
        let under_way = under_way.filter(|candidate| candidate.progress == Progress::Asked);
        let under_way = under_way.count() + self.unknown_asked.len();
        let at_a_time = (ALPHA + self.silent).min(ALPHA_MAX);
        if under_way >= at_a_time || self.queries >= QUERIES_MAX {
            return None;
        }
        let window = self.window(Slow::Replaced);
        let fresh = window.into_iter().find(|index| {
            let candidate = self.candidates.get(*index);
            candidate.is_some_and(|candidate| candidate.progress == Progress::Fresh)
        });
        let addr = if let Some(candidate) = fresh.and_then(|at| self.candidates.get_mut(at)) {
            candidate.progress = Progress::Asked;
            candidate.contact.addr
        } else {
            let addr = self.unknown.pop_front()?;
            self.unknown_asked.push(addr);
            addr
        };
        self.queries += 1;
        Some(addr)
    }

    /// A node answered, and named others.
    pub(crate) fn answered<'a>(
        &mut self,
        from: Contact,
        token: Option<Vec<u8>>,
        named: impl Iterator<Item = &'a Contact>,
    ) {
        self.silent = 0;
        if self.forget_unknown(from.addr) {
            self.offer(from, 1);
        }
        let asked = |candidate: &&mut Candidate| candidate.contact.addr == from.addr;
        let Some(candidate) = self.candidates.iter_mut().find(asked) else {
            return;
        };
        let hops = candidate.hops;
        if candidate.contact.id != from.id {
            // Whoever named it lied, or it has changed: it is not where it was thought to be.
            candidate.progress = Progress::Failed;
            return;
        }
        candidate.progress = Progress::Answered { token };
        self.answers += 1;
        named.for_each(|contact| self.offer(*contact, hops + 1));
    }

    /// A node takes longer than most.
    pub(crate) fn slow(&mut self, addr: SocketAddr) {
        if let Some(index) = self.unknown_asked.iter().position(|asked| *asked == addr) {
            self.unknown_slow
                .push(self.unknown_asked.swap_remove(index));
        }
        self.set(addr, Progress::Slow);
        self.silent += 1;
    }

    /// A node takes long.
    pub(crate) fn late(&mut self, addr: SocketAddr) {
        self.forget_unknown(addr);
        self.set(addr, Progress::Late);
    }

    /// A node will not answer.
    pub(crate) fn failed(&mut self, addr: SocketAddr) {
        self.forget_unknown(addr);
        self.set(addr, Progress::Failed);
    }

    /// True if it was one of those asked whose id was not known.
    fn forget_unknown(&mut self, addr: SocketAddr) -> bool {
        let before = self.unknown_asked.len() + self.unknown_slow.len();
        self.unknown_asked.retain(|asked| *asked != addr);
        self.unknown_slow.retain(|asked| *asked != addr);
        before > self.unknown_asked.len() + self.unknown_slow.len()
    }

    /// True once the nearest nodes have answered, or there is nobody left to ask.
    pub(crate) fn is_done(&self) -> bool {
        let open = |index: usize| {
            self.candidates.get(index).is_some_and(|candidate| {
                let exhausted = self.queries >= QUERIES_MAX;
                matches!(candidate.progress, Progress::Asked | Progress::Slow)
                    || (candidate.progress == Progress::Fresh && !exhausted)
            })
        };
        let searching = self.window(Slow::Counted).into_iter().any(open);
        // Places without a known id are worth waiting for only while nobody else has answered.
        let asked = !self.unknown_asked.is_empty() || !self.unknown_slow.is_empty();
        let waiting = !self.unknown.is_empty() || asked;
        !searching && (!waiting || self.answers >= K)
    }

    /// The nodes nearest to the target that answered, with their tokens: the [`K`] that count, and those in between whose
    /// id is not of their address.
    pub(crate) fn closest(&self) -> Vec<(Contact, Option<Vec<u8>>)> {
        self.window(Slow::Counted)
            .into_iter()
            .filter_map(|index| self.candidates.get(index))
            .filter_map(|candidate| match &candidate.progress {
                Progress::Answered { token } => Some((candidate.contact, token.clone())),
                Progress::Fresh
                | Progress::Asked
                | Progress::Slow
                | Progress::Late
                | Progress::Failed => None,
            })
            .collect()
    }

    pub(crate) fn stats(&self) -> LookupStats {
        let window = self.window(Slow::Counted).into_iter();
        let ended = window.filter_map(|index| self.candidates.get(index));
        let counts = |candidate: &&Candidate| {
            candidate.verified && matches!(candidate.progress, Progress::Answered { .. })
        };
        LookupStats {
            queries: self.queries,
            answers: self.answers,
            hops: ended
                .filter(counts)
                .map(|candidate| candidate.hops)
                .max()
                .unwrap_or(0),
        }
    }

    fn set(&mut self, addr: SocketAddr, progress: Progress) {
        let asked = |candidate: &&mut Candidate| {
            candidate.contact.addr == addr
                && matches!(
                    candidate.progress,
                    Progress::Asked | Progress::Slow | Progress::Late
                )
        };
        if let Some(candidate) = self.candidates.iter_mut().find(asked) {
            candidate.progress = progress;
        }
    }

    /// Indices of the candidates that matter now.
    fn window(&self, slow: Slow) -> Vec<usize> {
        let mut window = Vec::with_capacity(2 * K);
        let (mut counted, mut unverified) = (0, 0);
        let mut networks = Vec::with_capacity(K);
        for (index, candidate) in self.candidates.iter().enumerate() {
            let is_out = match candidate.progress {
                Progress::Failed | Progress::Late => true,
                Progress::Slow => slow == Slow::Replaced,
                Progress::Fresh | Progress::Asked | Progress::Answered { .. } => false,
            };
            if is_out {
                continue;
            }
            let ip = candidate.contact.addr.ip();
            if !candidate.verified {
                if unverified < UNVERIFIED_MAX {
                    unverified += 1;
                    window.push(index);
                }
                continue;
            }
            let network = network(ip);
            let same = networks.iter().filter(|other| **other == network).count();
            if same >= NETWORK_MAX && !is_local(ip) {
                continue;
            }
            networks.push(network);
            window.push(index);
            counted += 1;
            if counted == K {
                break;
            }
        }
        window
    }

    fn offer(&mut self, contact: Contact, hops: u32) {
        let distance = contact.id.distance(&self.target);
        let ip = contact.addr.ip();
        let same = |candidate: &Candidate| {
            let other = candidate.contact;
            other.addr == contact.addr
                || other.id == contact.id
                // One node of a public IP: whoever runs more of them, we ask one.
                || (other.addr.ip() == ip && !is_local(ip))
        };
        let is_asked =
            self.unknown_asked.contains(&contact.addr) || self.unknown_slow.contains(&contact.addr);
        if is_asked || self.candidates.iter().any(same) {
            return;
        }
        let verified = is_of_address(&contact.id, ip);
        let max = if verified {
            CANDIDATES_MAX
        } else {
            UNVERIFIED_CANDIDATES_MAX
        };
        let index = self
            .candidates
            .partition_point(|candidate| candidate.distance < distance);
        let like = |candidate: &&Candidate| candidate.verified == verified;
        if self.candidates.iter().take(index).filter(like).count() >= max {
            return;
        }
        let candidate = Candidate {
            contact,
            distance,
            hops,
            verified,
            progress: Progress::Fresh,
        };
        self.candidates.insert(index, candidate);
        if self.candidates.iter().filter(like).count() > max {
            self.drop_farthest(verified);
        }
    }

    /// Forgets the farthest candidate of its kind that no query is under way to.
    fn drop_farthest(&mut self, verified: bool) {
        let idle = |candidate: &Candidate| {
            let idle = matches!(candidate.progress, Progress::Fresh | Progress::Failed);
            idle && candidate.verified == verified
        };
        if let Some(index) = self.candidates.iter().rposition(idle) {
            self.candidates.remove(index);
        }
    }
}

#[cfg(test)]
mod tests;
