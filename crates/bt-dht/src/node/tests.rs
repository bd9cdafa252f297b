mod faults;

use super::*;
use crate::contract::{Announce, Outcome, Search};
use crate::id::is_of_address;
use crate::item::{Item, SigningKey};
use crate::krpc::{Contact, KrpcError};
use crate::lookup::ALPHA;
use crate::round_trips::{LATE_MAX, LATE_MIN};
use bt_core::InfoHash;
use std::net::{IpAddr, Ipv4Addr};

const LATENCY: Duration = Duration::from_millis(40);
const HASH: InfoHash = InfoHash([0x55; 20]);
const ANNOUNCE: Announce = Announce {
    port: 7777,
    implied_port: false,
};

/// Nodes on a wire: a datagram takes [`LATENCY`], unless nobody is there.
#[derive(Default)]
struct Net {
    now: Time,
    nodes: BTreeMap<SocketAddr, Node>,
    wire: BTreeMap<(Time, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    sent: u64,
    events: Vec<(SocketAddr, Event)>,
    searches: u64,
}

fn addr(number: u8) -> SocketAddr {
    (Ipv4Addr::new(10, 0, 0, number), 6881).into()
}

fn config(number: u8) -> Config {
    let mut config = Config::new([number; 32]);
    config.bootstrap = vec![addr(1)];
    // Floods have tests of their own.
    config.answer_bytes_per_s = 1_000_000;
    config
}

impl Net {
    /// `count` nodes that know the first one, some minutes after they started.
    fn new(count: u8) -> Self {
        let mut net = Self::default();
        for number in 1..=count {
            net.join(number, config(number));
            net.run(Duration::from_millis(100));
        }
        net.run(Duration::from_secs(120));
        net
    }

    fn join(&mut self, number: u8, config: Config) {
        let node = Node::new(config, u64::from(number));
        self.nodes.insert(addr(number), node);
        self.feed(addr(number), Input::Timeout);
    }

    fn feed(&mut self, at: SocketAddr, input: Input) {
        let Some(node) = self.nodes.get_mut(&at) else {
            return;
        };
        let timeout = input == Input::Timeout;
        node.handle(self.now, input, None);
        while let Some(output) = node.poll() {
            match output {
                Output::Send { to, packet } => {
                    assert!(packet.len() <= 1024, "{}", packet.escape_ascii());
                    self.sent += 1;
                    self.wire
                        .insert((self.now + LATENCY, self.sent), (at, to, packet));
                }
                Output::Emit(event) => self.events.push((at, event)),
            }
        }
        assert!(
            !timeout || node.deadline().is_none_or(|time| time > self.now),
            "it would spin"
        );
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let timers = self.nodes.iter();
            let timers = timers.filter_map(|(addr, node)| Some((node.deadline()?, *addr)));
            let timer = timers.min();
            let arrival = self.wire.keys().next().copied();
            let next = timer
                .map(|(at, _)| at)
                .into_iter()
                .chain(arrival.map(|(at, _)| at))
                .min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            match (arrival, timer) {
                (Some(key), _) if key.0 == next => {
                    let (from, to, packet) = self.wire.remove(&key).unwrap();
                    self.feed(to, Input::Received { from, packet });
                }
                (_, Some((_, at))) => self.feed(at, Input::Timeout),
                _ => unreachable!("something is next"),
            }
        }
        self.now = end;
    }

    fn search(&mut self, number: u8, what: Search) -> (Vec<SocketAddr>, Outcome) {
        self.searches += 1;
        let id = SearchId(self.searches);
        self.events.clear();
        self.feed(addr(number), Input::Command(Command::Search { id, what }));
        self.run(Duration::from_secs(60));
        let mut found = Vec::new();
        for (at, event) in self.events.drain(..) {
            match event {
                Event::Peers { id: of, peers } if of == id => found.extend(peers),
                Event::Done { id: of, outcome } if of == id => {
                    assert_eq!(at, addr(number));
                    return (found, *outcome);
                }
                Event::Peers { .. }
                | Event::Done { .. }
                | Event::Ready { .. }
                | Event::OtherFamily { .. }
                | Event::ExternalAddress { .. } => {}
            }
        }
        panic!("the search did not end");
    }

    fn peers(&mut self, number: u8, announce: Option<Announce>) -> (Vec<SocketAddr>, Outcome) {
        self.search(
            number,
            Search::Peers {
                info_hash: HASH,
                announce,
            },
        )
    }

    /// Asks a node as a stranger would, and returns what comes back to the stranger.
    fn ask(&mut self, from: SocketAddr, to: u8, method: Method) -> Vec<Message> {
        let query = Query {
            id: NodeId([0xee; 20]),
            method,
            want: None,
            read_only: true,
        };
        self.raw(
            from,
            to,
            &Message {
                transaction: b"tx".to_vec(),
                body: Body::Query(query),
            }
            .encode(),
        )
    }

    fn raw(&mut self, from: SocketAddr, to: u8, packet: &[u8]) -> Vec<Message> {
        self.feed(
            addr(to),
            Input::Received {
                from,
                packet: packet.to_vec(),
            },
        );
        let to_stranger = |(_, to, _): &(SocketAddr, SocketAddr, Vec<u8>)| *to == from;
        let back = self.wire.values().filter(|wired| to_stranger(wired));
        let back = back.map(|(_, _, packet)| decode(packet).unwrap()).collect();
        self.wire.retain(|_, wired| !to_stranger(wired));
        back
    }

    fn answer(&mut self, from: SocketAddr, to: u8, method: Method) -> Result<Response, KrpcError> {
        let mut back = self.ask(from, to, method);
        assert_eq!(back.len(), 1);
        match back.remove(0).body {
            Body::Response(response) => Ok(*response),
            Body::Error(error) => Err(error),
            Body::Query(query) => panic!("{query:?}"),
        }
    }
}

#[test]
fn who_announces_is_found_by_everybody() {
    let mut net = Net::new(60);
    let (found, outcome) = net.peers(7, Some(ANNOUNCE));
    assert_eq!((found.len(), outcome.stored), (0, crate::table::K));
    let announced: SocketAddr = "10.0.0.7:7777".parse().unwrap();
    for number in [1, 20, 60] {
        let (found, outcome) = net.peers(number, None);
        assert_eq!(found, [announced], "{outcome:?}");
        assert!(outcome.stats.queries <= 40 && outcome.took < Duration::from_secs(2));
    }
    net.run(Duration::from_secs(46 * 60));
    assert_eq!(net.peers(20, None).0, [], "forgotten");
}

#[test]
fn silence_is_survived_and_noticed() {
    let mut net = Net::new(40);
    net.peers(7, Some(ANNOUNCE));
    for number in 20..30 {
        net.nodes.remove(&addr(number));
    }
    let (found, outcome) = net.peers(40, None);
    assert_eq!(found.len(), 1, "{outcome:?}");
    assert!(outcome.took < Duration::from_secs(15), "{:?}", outcome.took);
    net.run(Duration::from_secs(60 * 60));
    for node in net.nodes.values() {
        let dead = |contact: &Contact| !net.nodes.contains_key(&contact.addr);
        assert!(!node.table().closest(&node.id(), 100).iter().any(dead));
    }
    // All the others are gone too: the table is kept, for when the line is back.
    net.nodes.retain(|at, _| *at == addr(40));
    net.run(Duration::from_secs(60 * 60));
    assert!(!net.nodes[&addr(40)].table().is_empty());
    let (found, outcome) = net.peers(40, Some(ANNOUNCE));
    assert_eq!((found.len(), outcome.stored), (0, 0));
}

#[test]
fn items_are_stored_found_and_replaced() {
    let mut net = Net::new(30);
    let immutable = Item::Immutable(b"12:Hello World!".to_vec());
    let store = |item: &Item, cas| Search::Store {
        item: item.clone(),
        cas,
    };
    let find = |item: &Item| Search::Item {
        target: item.target(),
        salt: item
            .as_mutable()
            .map_or(Vec::new(), |item| item.salt.clone()),
    };
    let (_, outcome) = net.search(3, store(&immutable, None));
    assert_eq!((outcome.stored, outcome.item), (8, None));
    assert_eq!(net.search(30, find(&immutable)).1.item, Some(immutable));

    let key = SigningKey::new(&[4; 32]);
    let item = |seq, value: &[u8]| Item::Mutable(key.sign(b"salt", seq, value.to_vec()));
    let (first, second) = (item(1, b"1:a"), item(2, b"1:b"));
    assert_eq!(net.search(3, store(&first, None)).1.stored, 8);
    let refused = net.search(4, store(&second, Some(7))).1;
    let codes: Vec<i64> = refused.refused.iter().map(|error| error.code).collect();
    assert_eq!((refused.stored, codes), (0, vec![301; 8]));
    assert_eq!(refused.item.as_ref(), Some(&first), "what is there instead");
    assert_eq!(net.search(4, store(&second, Some(1))).1.stored, 8);
    assert_eq!(net.search(5, find(&first)).1.item, Some(second));
    let refused = net.search(3, store(&first, None)).1;
    assert!(refused.refused.iter().all(|error| error.code == 302) && refused.stored == 0);
}

#[test]
fn a_search_waits_for_those_who_left_as_long_as_answers_take() {
    let mut net = Net::new(30);
    for number in 11..=20 {
        net.nodes.remove(&addr(number));
    }
    let (_, outcome) = net.peers(2, None);
    let stats = outcome.stats;
    assert!(stats.queries > stats.answers, "some are asked: {stats:?}");
    assert!(stats.answers >= 8, "the others answer: {stats:?}");
    let took = outcome.took;
    assert!((LATE_MIN..LATE_MAX).contains(&took), "{took:?}");
}

#[test]
fn rows_of_those_who_left_are_waited_for_beside_each_other() {
    // If each row of four were waited for as long as the last, these would take 0.61 and 1.37 s.
    for (gone, most_ms) in [(30, 500), (37, 1_000)] {
        let mut net = Net::new(60);
        for number in 11..11 + gone {
            net.nodes.remove(&addr(number));
        }
        let (_, outcome) = net.peers(2, None);
        let stats = outcome.stats;
        assert!(stats.queries - stats.answers > 2 * ALPHA, "{stats:?}");
        assert_eq!(stats.answers, 8, "the others answer: {stats:?}");
        let most = Duration::from_millis(most_ms);
        assert!(outcome.took < most, "{:?} {stats:?}", outcome.took);
    }
}

#[test]
fn single_nodes_are_pinged_and_sampled() {
    let mut net = Net::new(10);
    net.peers(7, Some(ANNOUNCE));
    let (_, outcome) = net.search(2, Search::Ping { addr: addr(3) });
    assert_eq!(
        outcome.closest,
        [Contact {
            id: net.nodes[&addr(3)].id(),
            addr: addr(3)
        }]
    );
    assert_eq!(outcome.took, 2 * LATENCY);
    let (_, outcome) = net.search(2, Search::Ping { addr: addr(99) });
    assert_eq!((outcome.closest, outcome.took), (Vec::new(), LATE_MAX));
    let holder = net
        .nodes
        .iter()
        .find(|(_, node)| node.peer_store().peers() > 0)
        .unwrap();
    let (holder, target) = (*holder.0, NodeId([1; 20]));
    let asker = if holder == addr(2) { 3 } else { 2 };
    let (_, outcome) = net.search(
        asker,
        Search::Sample {
            addr: holder,
            target,
        },
    );
    let samples = outcome.samples.unwrap();
    assert_eq!((samples.info_hashes, samples.total), (vec![HASH], Some(1)));
    assert_eq!(outcome.stats.queries, 1);
}

#[test]
fn a_read_only_node_answers_nobody_and_is_in_no_table() {
    let mut net = Net::new(10);
    let mut read_only = config(50);
    read_only.read_only = true;
    net.join(50, read_only);
    net.run(Duration::from_secs(60));
    assert!(net.nodes[&addr(50)].table().len() >= 8);
    assert_eq!(net.ask(addr(99), 50, Method::Ping), []);
    assert_eq!(net.raw(addr(99), 50, b"d1:ade1:q4:ping1:t1:a1:y1:qe"), []);
    for node in net.nodes.values() {
        assert!(
            !node
                .table()
                .contacts()
                .any(|contact| contact.addr == addr(50))
        );
    }
}

/// The node hears this answer to a question that it sent there.
fn answer(node: &mut Node, from: SocketAddr, question: &[u8], response: Response) {
    let packet = Message {
        transaction: decode(question).unwrap().transaction,
        body: Body::Response(Box::new(response)),
    }
    .encode();
    let heard = Input::Received { from, packet };
    node.handle(Time::from_millis(1), heard, None);
}

#[test]
fn an_id_is_changed_when_enough_others_see_us_elsewhere() {
    let places: Vec<SocketAddr> = (1..=8_u8)
        .map(|n| (Ipv4Addr::new(n, 1, 1, 1), 1).into())
        .collect();
    let mut node = Node::new(
        Config {
            bootstrap: places,
            ..Config::new([1; 32])
        },
        1,
    );
    let before = node.id();
    let seen: SocketAddr = "124.31.75.21:6881".parse().unwrap();
    let mut told = Vec::new();
    node.handle(Time::ZERO, Input::Timeout, None);
    for _ in 0..200 {
        match node.poll() {
            Some(Output::Send { to, packet }) => {
                let IpAddr::V4(ip) = to.ip() else {
                    panic!("IPv4");
                };
                let mut response = Response::new(NodeId([ip.octets()[0]; 20]));
                response.observed = Some(seen);
                answer(&mut node, to, &packet, response);
            }
            Some(Output::Emit(Event::ExternalAddress { ip, id })) => told.push((ip, id)),
            Some(Output::Emit(_)) => {}
            None => break,
        }
    }
    assert_eq!(told, [(seen.ip(), node.id())]);
    assert_ne!(node.id(), before);
    assert!(is_of_address(&node.id(), seen.ip()));
    assert!(node.table().len() >= 5, "those it knew are known still");
}

#[test]
fn the_other_family_is_named_where_it_is_wanted() {
    let mut other = Table::new(Time::ZERO, NodeId([0; 20]));
    let v6 = Contact {
        id: NodeId([7; 20]),
        addr: "[2001:db8::7]:7".parse().unwrap(),
    };
    other.answered(Time::ZERO, v6);
    let mut node = Node::new(Config::new([1; 32]), 1);
    let mut answer = |want| {
        let query = Query {
            id: NodeId([9; 20]),
            method: Method::FindNode {
                target: NodeId([7; 20]),
            },
            want,
            read_only: true,
        };
        let packet = Message {
            transaction: vec![1],
            body: Body::Query(query),
        }
        .encode();
        node.handle(
            Time::ZERO,
            Input::Received {
                from: "9.9.9.9:9".parse().unwrap(),
                packet,
            },
            Some(&other),
        );
        let Some(Output::Send { packet, .. }) = node.poll() else {
            panic!("it answers");
        };
        match decode(&packet).unwrap().body {
            Body::Response(response) => (response.nodes, response.nodes6),
            Body::Query(_) | Body::Error(_) => panic!("no answer"),
        }
    };
    let want = |v4, v6| Some(Want { v4, v6 });
    assert_eq!(answer(None), (Some(vec![]), None));
    assert_eq!(answer(want(true, true)), (Some(vec![]), Some(vec![v6])));
    assert_eq!(answer(want(false, true)), (None, Some(vec![v6])));
}

#[test]
fn many_searches_wait_their_turn() {
    let mut net = Net::new(30);
    net.events.clear();
    for number in 0..100 {
        let what = Search::Peers {
            info_hash: InfoHash([number; 20]),
            announce: Some(ANNOUNCE),
        };
        net.feed(
            addr(5),
            Input::Command(Command::Search {
                id: SearchId(u64::from(number)),
                what,
            }),
        );
    }
    let bound = 8 * ALPHA + 2 * ALPHA + 8;
    assert!(net.nodes[&addr(5)].pending.len() <= bound);
    net.feed(addr(5), Input::Command(Command::Cancel(SearchId(99))));
    net.run(Duration::from_secs(120));
    let done = |(_, event): &&(SocketAddr, Event)| matches!(event, Event::Done { outcome, .. } if outcome.stored == 8);
    assert_eq!(net.events.iter().filter(done).count(), 99);
}
