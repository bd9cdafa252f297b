//! Our own searches: a few at a time, the others wait their turn.

use super::{Key, Node, Purpose};
use crate::contract::{Announce, Event, Outcome, Search, SearchId};
use crate::id::{NodeId, is_local};
use crate::item::{Item, MutableItem, mutable_target};
use crate::krpc::{Contact, KrpcError, Method, Response, StoredItem};
use crate::lookup::{Lookup, LookupStats};
use crate::table::K;
use bt_core::{InfoHash, Time};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

/// Searches of the user's under way at a time. With [`ALPHA`](crate::lookup::ALPHA) queries each, a line sees some
/// thirty at once, however many torrents there are.
const SEARCHES_MAX: usize = 8;
/// From the start of one search to that of the next. A search asks a node twice at most, so none sees more than four
/// queries a second of ours, below the five at which nodes stop listening, in however small a network.
const SPACING: Duration = Duration::from_millis(500);
/// Searches that wait. Each torrent has one at most, and a program some thousand torrents.
const WAITING_MAX: usize = 10_000;
/// Peers that one search tells of.
const PEERS_FOUND_MAX: usize = 2000;
/// Refusals that are kept for the user.
const REFUSALS_MAX: usize = 8;

/// A search under way.
#[derive(Clone, Debug)]
struct Active {
    what: What,
    lookup: Lookup,
    started: Time,
    peers: BTreeSet<SocketAddr>,
    /// Who sent an item: a `cas` is for those only (BEP 44).
    holders: BTreeSet<SocketAddr>,
    /// Stores whose answer is open; `None` before they are sent.
    storing: Option<usize>,
    outcome: Outcome,
}

/// What is asked, and what is done at the end.
#[derive(Clone, Debug)]
enum What {
    Nodes,
    Peers {
        info_hash: InfoHash,
        announce: Option<Announce>,
    },
    Item {
        salt: Vec<u8>,
    },
    Store {
        item: Item,
        cas: Option<i64>,
    },
    Ping,
    Sample,
}

/// All searches of a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Searches {
    active: BTreeMap<Key, Active>,
    waiting: VecDeque<(SearchId, Search)>,
    upkeeps: u64,
    /// When the next one that waits may start.
    next_start: Time,
}

impl Searches {
    pub(super) fn slow(&mut self, key: Key, addr: SocketAddr) {
        if let Some(active) = self.active.get_mut(&key) {
            active.lookup.slow(addr);
        }
    }

    pub(super) fn late(&mut self, key: Key, addr: SocketAddr) {
        if let Some(active) = self.active.get_mut(&key) {
            active.lookup.late(addr);
        }
    }

    pub(super) fn failed(&mut self, key: Key, addr: SocketAddr) {
        if let Some(active) = self.active.get_mut(&key) {
            active.lookup.failed(addr);
        }
    }

    /// How many searches keep the table just now.
    pub(super) fn upkeeps(&self) -> usize {
        let upkeep = |key: &&Key| matches!(key, Key::Upkeep(_));
        self.active.keys().filter(upkeep).count()
    }

    /// When a search that waits may start; `None` if there is none, or no room.
    pub(super) fn start_at(&self) -> Option<Time> {
        let room = self.users() < SEARCHES_MAX;
        (room && !self.waiting.is_empty()).then_some(self.next_start)
    }

    fn users(&self) -> usize {
        self.active.len() - self.upkeeps()
    }
}

impl Node {
    /// Takes on a search of the user's. One too many is over at once.
    pub(super) fn search(&mut self, id: SearchId, what: Search) {
        if self.searches.waiting.len() >= WAITING_MAX {
            let outcome = Box::default();
            return self.emit(Event::Done { id, outcome });
        }
        self.searches.waiting.push_back((id, what));
    }

    pub(super) fn cancel(&mut self, id: SearchId) {
        self.searches.waiting.retain(|(waiting, _)| *waiting != id);
        self.searches.active.remove(&Key::User(id));
    }

    /// Looks for the nodes nearest to `target`, for the table's sake.
    pub(super) fn search_for_table(&mut self, now: Time, target: NodeId, unknown: &[SocketAddr]) {
        self.searches.upkeeps += 1;
        let key = Key::Upkeep(self.searches.upkeeps);
        let seeds = self.table.seeds(&target, 2 * K);
        let lookup = Lookup::new(target, &seeds, unknown.iter().copied());
        self.start(now, key, What::Nodes, lookup);
    }

    /// Lets each search ask whom it wants to ask next, and ends those that are done.
    pub(super) fn advance(&mut self, now: Time) {
        loop {
            self.start_waiting(now);
            let keys: Vec<Key> = self.searches.active.keys().copied().collect();
            for key in keys {
                self.ask_next(now, key);
                self.finish(now, key);
            }
            if self.searches.start_at().is_none_or(|start| start > now) {
                return;
            }
        }
    }

    fn ask_next(&mut self, now: Time, key: Key) {
        while let Some(to) = self.next_of(key) {
            let Some(method) = self.method_of(key) else {
                return;
            };
            if !self.ask(now, to, method, Purpose::Search(key)) {
                self.searches.failed(key, to);
            }
        }
    }

    fn next_of(&mut self, key: Key) -> Option<SocketAddr> {
        let active = self.searches.active.get_mut(&key)?;
        active.storing.is_none().then(|| active.lookup.next())?
    }

    /// An answer to a search came.
    pub(super) fn found(&mut self, key: Key, from: Contact, response: Response) {
        let ipv6 = self.ipv6;
        let own = self.id;
        let Some(active) = self.searches.active.get_mut(&key) else {
            return;
        };
        // Whoever is on the internet cannot know a way to somebody's home.
        let from_home = is_local(from.addr.ip());
        let reachable = |addr: &SocketAddr| from_home || !is_local(addr.ip());
        // Of a single node only itself is wanted.
        let single = matches!(active.what, What::Ping | What::Sample);
        let named = response.contacts().filter(|_| !single).filter(|contact| {
            contact.addr.is_ipv6() == ipv6 && contact.id != own && reachable(&contact.addr)
        });
        active.lookup.answered(from, response.token.clone(), named);
        let others_named: Vec<Contact> = response.contacts().copied().collect();
        if single {
            active.outcome.closest = vec![from];
            active.outcome.samples = response.samples;
        }
        if let Some(item) = response.item {
            active.holders.insert(from.addr);
            active.keep_newest(item);
        }
        let mut peers = response.values;
        let seen = &mut active.peers;
        peers.retain(|peer| reachable(peer) && seen.len() < PEERS_FOUND_MAX && seen.insert(*peer));
        let others =
            |contact: &&Contact| contact.addr.is_ipv6() != ipv6 && reachable(&contact.addr);
        let others = others_named
            .iter()
            .filter(others)
            .map(|contact| contact.addr);
        let addrs: Vec<SocketAddr> = others.collect();
        if self.dual_stack && !addrs.is_empty() {
            self.emit(Event::OtherFamily { addrs });
        }
        if let Key::User(id) = key
            && !peers.is_empty()
        {
            self.emit(Event::Peers { id, peers });
        }
    }

    /// A node refused.
    pub(super) fn refused(&mut self, from: SocketAddr, purpose: Purpose, error: KrpcError) {
        let (Purpose::Search(key) | Purpose::Store(key)) = purpose else {
            return;
        };
        if let Some(active) = self.searches.active.get_mut(&key)
            && active.outcome.refused.len() < REFUSALS_MAX
        {
            active.outcome.refused.push(error);
        }
        match purpose {
            Purpose::Store(key) => self.stored(key, false),
            Purpose::Search(key) => self.searches.failed(key, from),
            Purpose::Meet => {}
        }
    }

    /// A store was confirmed, or not.
    pub(super) fn stored(&mut self, key: Key, confirmed: bool) {
        if let Some(active) = self.searches.active.get_mut(&key) {
            active.outcome.stored += usize::from(confirmed);
            active.storing = active.storing.map(|open| open.saturating_sub(1));
        }
    }

    fn start_waiting(&mut self, now: Time) {
        while self.searches.users() < SEARCHES_MAX && now >= self.searches.next_start {
            let Some((id, search)) = self.searches.waiting.pop_front() else {
                return;
            };
            let key = Key::User(id);
            if self.searches.active.contains_key(&key) {
                continue;
            }
            self.searches.next_start = now + SPACING;
            let (what, target, only) = match search {
                Search::Nodes { target } => (What::Nodes, target, None),
                Search::Peers {
                    info_hash,
                    announce,
                } => {
                    let what = What::Peers {
                        info_hash,
                        announce,
                    };
                    (what, info_hash.into(), None)
                }
                Search::Item { target, salt } => (What::Item { salt }, target, None),
                Search::Store { item, cas } => {
                    let target = item.target();
                    (What::Store { item, cas }, target, None)
                }
                Search::Ping { addr } => (What::Ping, self.id, Some(addr)),
                Search::Sample { addr, target } => (What::Sample, target, Some(addr)),
            };
            let lookup = match only {
                Some(addr) => Lookup::new(target, &[], [addr]),
                None => self.lookup(target),
            };
            self.start(now, key, what, lookup);
            self.look_at_home(now, id);
        }
    }

    /// What others stored with us is found without asking: in a small network that may be all there is.
    fn look_at_home(&mut self, now: Time, id: SearchId) {
        let Some(active) = self.searches.active.get_mut(&Key::User(id)) else {
            return;
        };
        let target = active.lookup.target();
        if let What::Peers { info_hash, .. } = &active.what {
            let peers = self
                .peers
                .sample(now, info_hash, PEERS_FOUND_MAX, &mut self.rng);
            active.peers.extend(&peers);
            if !peers.is_empty() {
                self.emit(Event::Peers { id, peers });
            }
        } else if let Some(stored) = self.items.find(now, &target, None) {
            active.keep_newest(stored);
        }
    }

    /// A search that begins with whom we know, and while those are few, with the places where nodes may be.
    fn lookup(&self, target: NodeId) -> Lookup {
        let seeds = self.table.seeds(&target, 2 * K);
        let unknown = if seeds.len() < K {
            self.upkeep.bootstrap()
        } else {
            &[]
        };
        let unknown = unknown.iter().filter(|addr| addr.is_ipv6() == self.ipv6);
        Lookup::new(target, &seeds, unknown.copied())
    }

    fn start(&mut self, now: Time, key: Key, what: What, lookup: Lookup) {
        let active = Active {
            what,
            lookup,
            started: now,
            peers: BTreeSet::new(),
            holders: BTreeSet::new(),
            storing: None,
            outcome: Outcome::default(),
        };
        self.searches.active.insert(key, active);
    }

    fn method_of(&self, key: Key) -> Option<Method> {
        let active = self.searches.active.get(&key)?;
        let target = active.lookup.target();
        Some(match &active.what {
            What::Nodes => Method::FindNode { target },
            What::Peers { info_hash, .. } => Method::GetPeers {
                info_hash: *info_hash,
            },
            What::Item { .. } | What::Store { .. } => Method::Get { target, seq: None },
            What::Ping => Method::Ping,
            What::Sample => Method::SampleInfohashes { target },
        })
    }

    /// Ends a search whose lookup is done: first it stores what it was to store.
    fn finish(&mut self, now: Time, key: Key) {
        let Some(active) = self.searches.active.get_mut(&key) else {
            return;
        };
        let done = match active.storing {
            None => active.lookup.is_done(),
            Some(open) => {
                if open == 0 {
                    self.end(now, key);
                }
                return;
            }
        };
        if !done {
            return;
        }
        let stores = active.stores();
        active.storing = Some(stores.len());
        for (to, method) in stores {
            if !self.ask(now, to, method, Purpose::Store(key)) {
                self.stored(key, false);
            }
        }
        if self
            .searches
            .active
            .get(&key)
            .is_some_and(|active| active.storing == Some(0))
        {
            self.end(now, key);
        }
    }

    fn end(&mut self, now: Time, key: Key) {
        let Some(active) = self.searches.active.remove(&key) else {
            return;
        };
        match key {
            Key::User(id) => {
                let mut outcome = active.outcome;
                if outcome.closest.is_empty() {
                    let closest = active.lookup.closest();
                    outcome.closest = closest.into_iter().map(|(contact, _)| contact).collect();
                }
                outcome.stats = active.lookup.stats();
                outcome.took = now.since(active.started);
                outcome.peers = active.peers.len();
                let outcome = Box::new(outcome);
                self.emit(Event::Done { id, outcome });
            }
            Key::Upkeep(_) => self.kept_up(active.lookup.stats()),
        }
    }

    fn kept_up(&mut self, stats: LookupStats) {
        if stats.answers > 0 && self.upkeep.first() {
            let nodes = self.table.len();
            self.emit(Event::Ready { nodes });
        }
    }
}

impl Active {
    /// Whom to tell what, now that the nearest nodes are known.
    fn stores(&self) -> Vec<(SocketAddr, Method)> {
        let closest = self.lookup.closest().into_iter();
        let with_token = closest.filter_map(|(contact, token)| Some((contact.addr, token?)));
        with_token
            .filter_map(|(to, token)| Some((to, self.store(to, token)?)))
            .collect()
    }

    fn store(&self, to: SocketAddr, token: Vec<u8>) -> Option<Method> {
        match &self.what {
            What::Peers {
                info_hash,
                announce: Some(announce),
            } => Some(Method::AnnouncePeer {
                info_hash: *info_hash,
                port: announce.port,
                implied_port: announce.implied_port,
                token,
            }),
            What::Store { item, cas } => Some(Method::Put {
                item: item.clone(),
                cas: cas.filter(|_| self.holders.contains(&to)),
                token,
            }),
            What::Nodes | What::Peers { .. } | What::Item { .. } | What::Ping | What::Sample => {
                None
            }
        }
    }

    /// Keeps what a node sent, if it is what was looked for, genuine and newer than what others sent.
    fn keep_newest(&mut self, stored: StoredItem) {
        let salt = match &self.what {
            What::Item { salt } => salt.as_slice(),
            What::Store { item, .. } => item.as_mutable().map_or(&[][..], |item| &item.salt),
            What::Nodes | What::Peers { .. } | What::Ping | What::Sample => return,
        };
        let target = self.lookup.target();
        let Some(value) = stored.value else {
            return;
        };
        let item = match (stored.key, stored.seq, stored.signature) {
            (Some(key), Some(seq), Some(signature)) if mutable_target(&key, salt) == target => {
                Item::Mutable(MutableItem {
                    key,
                    salt: salt.to_vec(),
                    seq,
                    value,
                    signature,
                })
            }
            _ => Item::Immutable(value),
        };
        let seq = |item: &Item| item.as_mutable().map_or(i64::MIN, |item| item.seq);
        let known = self.outcome.item.as_ref();
        let newer = known.is_none_or(|known| seq(&item) > seq(known));
        if newer && item.target() == target && item.is_genuine() {
            self.outcome.item = Some(item);
        }
    }
}
