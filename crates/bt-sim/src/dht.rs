//! A DHT of thousands of nodes on a virtual clock: churn, sybils, lost datagrams, and how many announced peers are found.
//!
//! All nodes run the code of programs, [`bt_dht::Node`]. Sybils too, but they answer searches with nothing but each
//! other, under ids as near to what is looked for as the asker could wish; half of them only under ids that their
//! addresses may have (BEP 42). One seed, one run.

use bt_core::{InfoHash, Rng, Time};
use bt_dht::id::{is_of_address, of_address};
use bt_dht::krpc::{Body, Message, Method, Response, decode};
use bt_dht::{
    Announce, Command, Config, Contact, Event, Input, Node, NodeId, Outcome, Output, Search,
    SearchId,
};
use core::cmp::Reverse;
use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{Ipv4Addr, SocketAddr};

/// A datagram takes so many milliseconds, evenly spread: across a city, or across the world.
const LATENCY_MS: core::ops::Range<u64> = 10..200;
/// So many datagrams of a thousand are lost.
const LOST_PER_MILLE: u64 = 10;
/// The network that all sybils are in: a /16.
const SYBIL_NETWORK: [u8; 2] = [66, 66];
/// How long the nodes take to join, one after the other.
const JOINING: Duration = Duration::from_secs(5 * 60);
/// How long they are then left alone.
const SETTLING: Duration = Duration::from_secs(5 * 60);
/// How long announces and searches have.
const SEARCHING: Duration = Duration::from_secs(60);
/// From the announces to the searches: the longest from one announce of a torrent to its next.
const WAITING: Duration = Duration::from_secs(25 * 60);

/// What is to be simulated.
#[derive(Clone, Copy, Debug)]
pub struct DhtScenario {
    /// The seed of everything.
    pub seed: u64,
    /// Nodes at a time.
    pub nodes: usize,
    /// Of a hundred nodes so many are sybils.
    pub sybil_percent: usize,
    /// Of a hundred honest nodes so many leave between the announces and the searches, and as many others come.
    pub churn_percent: usize,
    /// Torrents that one peer announces once.
    pub torrents: usize,
    /// Searches, each from some honest node for some torrent.
    pub searches: usize,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct DhtReport {
    /// Nodes at a time.
    pub nodes: usize,
    /// Searches that found the announced peer.
    pub found: usize,
    /// Of so many.
    pub searches: usize,
    /// Sybils among the nodes that announces went to, of a thousand: of all, and of those whose id fits their address.
    pub sybils_per_mille: [usize; 2],
    /// Hops of a search: median and 99th percentile.
    pub hops: [u32; 2],
    /// Questions of a search.
    pub queries: [usize; 2],
    /// How long a search took.
    pub took: [Duration; 2],
    /// When the search had its first peer.
    pub first_peer: [Duration; 2],
    /// Datagrams sent by each node in a second, on the mean.
    pub datagrams_per_s: f64,
    /// Bytes sent by each node in a second, on the mean.
    pub bytes_per_s: f64,
}

impl fmt::Display for DhtReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds =
            |[a, b]: [Duration; 2]| format!("{:.2} s, {:.2} s", a.as_secs_f64(), b.as_secs_f64());
        let percent = 100.0 * self.found as f64 / self.searches.max(1) as f64;
        writeln!(f, "nodes                       {}", self.nodes)?;
        writeln!(
            f,
            "announced peers found       {} of {} ({percent:.1} %)",
            self.found, self.searches
        )?;
        writeln!(
            f,
            "announces taken by sybils   {} of 1000, {} of those whose id fits",
            self.sybils_per_mille[0], self.sybils_per_mille[1]
        )?;
        writeln!(
            f,
            "hops, median and p99        {}, {}",
            self.hops[0], self.hops[1]
        )?;
        writeln!(
            f,
            "questions, median and p99   {}, {}",
            self.queries[0], self.queries[1]
        )?;
        writeln!(
            f,
            "first peer, median and p99  {}",
            seconds(self.first_peer)
        )?;
        writeln!(f, "search, median and p99      {}", seconds(self.took))?;
        write!(
            f,
            "each node sends             {:.2} datagrams/s, {:.0} bytes/s",
            self.datagrams_per_s, self.bytes_per_s
        )
    }
}

/// Something that will happen.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Timer {
        node: usize,
    },
    Arrival {
        from: SocketAddr,
        to: SocketAddr,
        packet: Vec<u8>,
    },
    Join {
        sybil: Option<u16>,
    },
    Leave,
}

struct Member {
    addr: SocketAddr,
    node: Node,
    /// `Some(true)`: a sybil that forges ids; `Some(false)`: one that keeps to BEP 42.
    sybil: Option<bool>,
    alive: bool,
    /// When its next timer in the queue is.
    timer: Option<Time>,
}

struct Net {
    rng: Rng,
    now: Time,
    queue: BinaryHeap<Reverse<(Time, u64, Happening)>>,
    scheduled: u64,
    members: Vec<Member>,
    by_addr: BTreeMap<SocketAddr, usize>,
    sybils: Vec<SocketAddr>,
    done: BTreeMap<SearchId, Outcome>,
    peers: BTreeMap<SearchId, Vec<SocketAddr>>,
    first_peer: BTreeMap<SearchId, Time>,
    datagrams: u64,
    bytes: u64,
}

impl DhtScenario {
    /// As the seed has it: one in ten a sybil, three in ten replaced.
    #[must_use]
    pub const fn new(seed: u64, nodes: usize) -> Self {
        Self {
            seed,
            nodes,
            sybil_percent: 10,
            churn_percent: 30,
            torrents: 200,
            searches: 1000,
        }
    }

    /// Runs it.
    #[must_use]
    pub fn run(&self) -> DhtReport {
        let mut net = Net::new(self.seed);
        let sybils = self.nodes * self.sybil_percent / 100;
        for number in 0..self.nodes {
            let at = JOINING / u32::try_from(self.nodes).unwrap_or(1)
                * u32::try_from(number).unwrap_or(0);
            // Spread among the others, so that they are there when the honest look for neighbours.
            let spacing = self.nodes.checked_div(sybils);
            let spacing = spacing.filter(|spacing| number > 0 && number.is_multiple_of(*spacing));
            let sybil = spacing.and_then(|spacing| u16::try_from(number / spacing).ok());
            net.schedule(Time::ZERO + at, Happening::Join { sybil });
        }
        net.run(JOINING + SETTLING);

        let mut announced = Vec::new();
        let mut last = 0;
        for number in 0..self.torrents {
            let mut hash = [0; 20];
            net.rng.fill(&mut hash);
            let port = u16::try_from(1000 + number % 60_000).unwrap_or(1);
            let announce = Some(Announce {
                port,
                implied_port: false,
            });
            let member = net.honest();
            last += 1;
            net.search(member, last, InfoHash(hash), announce);
            let peer = net
                .members
                .get(member)
                .map(|member| SocketAddr::new(member.addr.ip(), port));
            announced.push((InfoHash(hash), peer));
        }
        net.run(SEARCHING);
        let sybils_per_mille = net.sybils_per_mille();
        net.done.clear();

        let honest = self.nodes - sybils;
        for _ in 0..honest * self.churn_percent / 100 {
            let after = Duration::from_millis(net.rng.below(WAITING.as_secs() * 1000));
            let at = net.now + after;
            net.schedule(at, Happening::Leave);
            net.schedule(at, Happening::Join { sybil: None });
        }
        net.run(WAITING);

        let mut wanted = BTreeMap::new();
        for _ in 0..self.searches {
            let choice = net.rng.index(announced.len());
            let Some((hash, peer)) = announced.get(choice).copied() else {
                break;
            };
            let member = net.honest();
            last += 1;
            wanted.insert(SearchId(last), (peer, net.now));
            net.search(member, last, hash, None);
            // One after the other, so that no node has two searches under way.
            net.run(Duration::from_millis(100));
        }
        net.run(SEARCHING);
        net.report(self, sybils_per_mille, &wanted)
    }
}

impl Net {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            now: Time::ZERO,
            queue: BinaryHeap::new(),
            scheduled: 0,
            members: Vec::new(),
            by_addr: BTreeMap::new(),
            sybils: Vec::new(),
            done: BTreeMap::new(),
            peers: BTreeMap::new(),
            first_peer: BTreeMap::new(),
            datagrams: 0,
            bytes: 0,
        }
    }

    fn schedule(&mut self, at: Time, happening: Happening) {
        self.scheduled += 1;
        self.queue.push(Reverse((at, self.scheduled, happening)));
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self
            .queue
            .peek()
            .is_some_and(|Reverse((at, _, _))| *at <= end)
        {
            let Some(Reverse((at, _, happening))) = self.queue.pop() else {
                break;
            };
            self.now = at;
            match happening {
                Happening::Timer { node } => {
                    let due = self
                        .members
                        .get_mut(node)
                        .filter(|member| member.timer == Some(at));
                    if due.is_some_and(|member| {
                        member.timer = None;
                        member.alive
                    }) {
                        self.feed(node, Input::Timeout);
                    }
                }
                Happening::Arrival { from, to, packet } => self.arrive(from, to, packet),
                Happening::Join { sybil } => self.join(sybil),
                Happening::Leave => {
                    let gone = self.honest();
                    if let Some(member) = self.members.get_mut(gone) {
                        member.alive = false;
                    }
                }
            }
        }
        self.now = end;
    }

    /// A member that is there and no sybil.
    fn honest(&mut self) -> usize {
        loop {
            let index = self.rng.index(self.members.len());
            if self
                .members
                .get(index)
                .is_none_or(|member| member.alive && member.sybil.is_none())
            {
                return index;
            }
        }
    }

    fn join(&mut self, sybil: Option<u16>) {
        let addr = loop {
            let ip = match sybil {
                Some(number) => {
                    let [high, low] = number.to_be_bytes();
                    let [first, second] = SYBIL_NETWORK;
                    Ipv4Addr::new(first, second, high, low)
                }
                None => Ipv4Addr::from_bits(u32::try_from(self.rng.below(1 << 32)).unwrap_or(0)),
            };
            let private = ip.is_private() || ip.is_loopback() || ip.is_link_local();
            let crowded = sybil.is_none() && ip.octets().starts_with(&SYBIL_NETWORK);
            let usable = (1..=223).contains(&(ip.to_bits() >> 24)) && !private && !crowded;
            let addr = SocketAddr::from((ip, 6881));
            if usable && !self.by_addr.contains_key(&addr) {
                break addr;
            }
        };
        let mut key = [0; 32];
        self.rng.fill(&mut key);
        let mut config = Config::new(key);
        config.id = Some(of_address(addr.ip(), &mut self.rng));
        if !self.members.is_empty() {
            for _ in 0..3 {
                let known = self.honest();
                let known = self.members.get(known).map(|member| member.addr);
                config.bootstrap.extend(known);
            }
        }
        let node = Node::new(config, self.rng.next_u64());
        let index = self.members.len();
        self.by_addr.insert(addr, index);
        if sybil.is_some() {
            self.sybils.push(addr);
        }
        self.members.push(Member {
            addr,
            node,
            // Every other one forges.
            sybil: sybil.map(|_| self.sybils.len().is_multiple_of(2)),
            alive: true,
            timer: None,
        });
        self.feed(index, Input::Timeout);
    }

    fn search(&mut self, member: usize, id: u64, info_hash: InfoHash, announce: Option<Announce>) {
        let what = Search::Peers {
            info_hash,
            announce,
        };
        self.feed(
            member,
            Input::Command(Command::Search {
                id: SearchId(id),
                what,
            }),
        );
    }

    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, packet: Vec<u8>) {
        let Some(index) = self.by_addr.get(&to).copied() else {
            return;
        };
        let Some(member) = self.members.get(index).filter(|member| member.alive) else {
            return;
        };
        if let Some(forges) = member.sybil
            && let Some(lie) = self.lie(index, forges, &packet, from)
        {
            return self.send(to, from, lie);
        }
        self.feed(index, Input::Received { from, packet });
    }

    /// What a sybil answers to a search.
    fn lie(
        &mut self,
        index: usize,
        forges: bool,
        packet: &[u8],
        from: SocketAddr,
    ) -> Option<Vec<u8>> {
        let message = decode(packet).ok()?;
        let Body::Query(query) = message.body else {
            return None;
        };
        let (target, peers) = match query.method {
            Method::GetPeers { info_hash } => (NodeId::from(info_hash), true),
            Method::FindNode { target } => (target, false),
            // It thanks for what it throws away.
            Method::AnnouncePeer { info_hash, .. } => (info_hash.into(), false),
            Method::Ping
            | Method::Get { .. }
            | Method::Put { .. }
            | Method::SampleInfohashes { .. }
            | Method::Unknown { .. } => return None,
        };
        let member = self.members.get(index)?;
        let forged = |addr: SocketAddr| {
            let mut id = target;
            if let (SocketAddr::V4(addr), Some(tail)) = (addr, id.0.last_chunk_mut::<4>()) {
                *tail = addr.ip().octets();
            }
            id
        };
        let own = if forges {
            forged(member.addr)
        } else {
            member.node.id()
        };
        let mut response = Response::new(own);
        response.observed = Some(from);
        response.token = peers.then(|| b"liar".to_vec());
        let mut named = Vec::new();
        for _ in 0..8 {
            let addr = *self.sybils.get(self.rng.index(self.sybils.len()))?;
            let other = self
                .by_addr
                .get(&addr)
                .and_then(|other| self.members.get(*other))?;
            let id = if other.sybil == Some(true) {
                forged(addr)
            } else {
                other.node.id()
            };
            named.push(Contact { id, addr });
        }
        response.nodes = Some(named);
        let body = Body::Response(Box::new(response));
        let transaction = message.transaction;
        Some(Message { transaction, body }.encode())
    }

    fn feed(&mut self, index: usize, input: Input) {
        let Some(member) = self.members.get_mut(index) else {
            return;
        };
        member.node.handle(self.now, input, None);
        let from = member.addr;
        let mut outputs = Vec::new();
        while let Some(output) = member.node.poll() {
            outputs.push(output);
        }
        let deadline = member.node.deadline();
        if let Some(deadline) = deadline
            && member.timer.is_none_or(|timer| timer > deadline)
        {
            member.timer = Some(deadline);
            self.schedule(deadline, Happening::Timer { node: index });
        }
        for output in outputs {
            match output {
                Output::Send { to, packet } => self.send(from, to, packet),
                Output::Emit(Event::Peers { id, peers }) => {
                    self.first_peer.entry(id).or_insert(self.now);
                    self.peers.entry(id).or_default().extend(peers);
                }
                Output::Emit(Event::Done { id, outcome }) => {
                    self.done.insert(id, *outcome);
                }
                Output::Emit(
                    Event::Ready { .. } | Event::OtherFamily { .. } | Event::ExternalAddress { .. },
                ) => {}
            }
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, packet: Vec<u8>) {
        self.datagrams += 1;
        self.bytes += packet.len() as u64;
        if self.rng.below(1000) < LOST_PER_MILLE {
            return;
        }
        let span = LATENCY_MS.end - LATENCY_MS.start;
        let latency = Duration::from_millis(LATENCY_MS.start + self.rng.below(span));
        self.schedule(self.now + latency, Happening::Arrival { from, to, packet });
    }

    fn sybils_per_mille(&self) -> [usize; 2] {
        let is_sybil = |contact: &&&Contact| self.sybils.contains(&contact.addr);
        let closest = self.done.values().flat_map(|outcome| &outcome.closest);
        let closest: Vec<&Contact> = closest.collect();
        let fits = |contact: &&&Contact| is_of_address(&contact.id, contact.addr.ip());
        let fitting: Vec<&Contact> = closest.iter().filter(fits).copied().collect();
        [closest, fitting]
            .map(|contacts| contacts.iter().filter(is_sybil).count() * 1000 / contacts.len().max(1))
    }

    fn report(
        &self,
        scenario: &DhtScenario,
        sybils_per_mille: [usize; 2],
        wanted: &BTreeMap<SearchId, (Option<SocketAddr>, Time)>,
    ) -> DhtReport {
        let outcomes = wanted.keys().filter_map(|id| self.done.get(id));
        let outcomes: Vec<&Outcome> = outcomes.collect();
        let found = wanted.iter().filter(|(id, (peer, _))| {
            let peers = self.peers.get(*id);
            peers.is_some_and(|peers| peer.is_some_and(|peer| peers.contains(&peer)))
        });
        let first = wanted
            .iter()
            .filter_map(|(id, (_, since))| Some(*self.first_peer.get(id)? - *since));
        let seconds = self.now.since(Time::ZERO).as_secs_f64() * scenario.nodes as f64;
        DhtReport {
            nodes: scenario.nodes,
            found: found.count(),
            searches: wanted.len(),
            sybils_per_mille,
            hops: middle_and_end(outcomes.iter().map(|outcome| outcome.stats.hops)),
            queries: middle_and_end(outcomes.iter().map(|outcome| outcome.stats.queries)),
            took: middle_and_end(outcomes.iter().map(|outcome| outcome.took)),
            first_peer: middle_and_end(first),
            datagrams_per_s: self.datagrams as f64 / seconds,
            bytes_per_s: self.bytes as f64 / seconds,
        }
    }
}

/// The median and the 99th percentile.
fn middle_and_end<T: Ord + Copy + Default>(values: impl Iterator<Item = T>) -> [T; 2] {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    let at = |percent: usize| {
        let index = (values.len() * percent / 100).min(values.len().saturating_sub(1));
        values.get(index).copied().unwrap_or_default()
    };
    [at(50), at(99)]
}
