//! The tracker over UDP, as clients and strangers meet it: real packets on the loopback.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a client has a socket"
)]

#[allow(dead_code, reason = "each file of tests uses its part")]
mod client;

use bt_core::{InfoHash, PeerId};
use bt_tracker::announce::{AnnounceRequest, Event};
use bt_tracker::udp::response::{Body, Response};
use bt_tracker::udp::{ConnectionId, Family, TransactionId, request, response};
use bt_trackerd::{Config, Server};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Far more than an answer takes on the loopback, so that one that does not come fails the test.
const PATIENCE: Duration = Duration::from_secs(20);

const TORRENT: InfoHash = InfoHash(*b"aaaaaaaaaaaaaaaaaaaa");
const ID: TransactionId = TransactionId(7);

struct Client {
    socket: UdpSocket,
    family: Family,
}

impl Client {
    /// A client at `ip` of the tracker at `server`.
    fn at(ip: &str, server: SocketAddr) -> Self {
        let ip: IpAddr = ip.parse().unwrap();
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let family = Family::of(ip);
        Self { socket, family }
    }

    fn send(&self, packet: &[u8]) {
        self.socket.send(packet).unwrap();
    }

    /// The next answer, and how long it is.
    fn receive(&self) -> (Response, usize) {
        let mut buffer = [0; 2_048];
        let length = self.socket.recv(&mut buffer).unwrap();
        let answer = response::read(&buffer[..length], self.family).unwrap();
        (answer, length)
    }

    fn ask(&self, packet: &[u8]) -> Body {
        self.send(packet);
        let (answer, _) = self.receive();
        assert_eq!(answer.transaction_id, ID);
        answer.body
    }

    fn connect(&self) -> ConnectionId {
        let mut packet = Vec::new();
        request::connect(ID, &mut packet);
        let Body::Connect { connection_id } = self.ask(&packet) else {
            panic!("a connection id");
        };
        connection_id
    }

    /// How many peers it is told of, of how many.
    fn announce(&self, port: u16, event: Event) -> (Vec<SocketAddr>, u32) {
        let announced = AnnounceRequest {
            event,
            ..announced(port)
        };
        let mut packet = Vec::new();
        request::announce(self.connect(), ID, &announced, "/announce", &mut packet);
        let Body::Announce(answer) = self.ask(&packet) else {
            panic!("an answer to an announce");
        };
        let peers = answer.peers.iter().map(|peer| peer.addr).collect();
        (peers, answer.incomplete.unwrap())
    }

    /// The next answer is that to a connect: nothing else was answered before it.
    fn was_told_nothing(&self) {
        let mut packet = Vec::new();
        request::connect(TransactionId(99), &mut packet);
        self.send(&packet);
        assert_eq!(self.receive().0.transaction_id, TransactionId(99));
    }
}

fn announced(port: u16) -> AnnounceRequest {
    AnnounceRequest::new(TORRENT, PeerId(*b"bbbbbbbbbbbbbbbbbbbb"), port, 5)
}

/// What a proxy puts before a packet: the PROXY protocol, version 2, over UDP.
fn head(command: u8, family: u8, addrs: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addrs.len()).unwrap().to_be_bytes();
    [
        b"\r\n\r\n\0\r\nQUIT\n",
        &[command, family][..],
        &length,
        addrs,
    ]
    .concat()
}

#[tokio::test]
async fn a_proxy_says_before_each_packet_from_whom_it_is() {
    let mut config = Config {
        udp: vec!["127.0.0.1:0".parse().unwrap()],
        ..Config::at(([127, 0, 0, 1], 0).into())
    };
    config.settings.proxies = vec!["127.0.0.9".parse().unwrap()];
    config.settings.proxy_says = bt_trackerd::ProxySays::ProxyProtocol;
    let (server, _) = client::start(config).await;
    let addrs = server.udp_addrs();
    let (proxy, other) = (
        Client::at("127.0.0.9", addrs[0]),
        Client::at("127.0.0.3", addrs[0]),
    );
    // Two clients, one of IPv4 and one of IPv6; and bytes that the proxy adds.
    let v4 = [198, 51, 100, 7, 127, 0, 0, 1, 0x12, 0x34, 0, 80, 4, 0, 1, 0];
    let v6: Vec<u8> = [&[0x26, 0, 1][..], &[7; 29], &[0; 4]].concat();
    for (family, addr, port) in [(0x12, &v4[..], 1_001), (0x22, &v6, 1_002)] {
        let head = head(0x21, family, addr);
        let mut packet = head.clone();
        request::connect(ID, &mut packet);
        let Body::Connect { connection_id } = proxy.ask(&packet) else {
            panic!("a connection id");
        };
        packet.clone_from(&head);
        let announce = announced(port);
        request::announce(connection_id, ID, &announce, "/announce", &mut packet);
        assert!(matches!(proxy.ask(&packet), Body::Announce(_)));
    }
    let expected = vec!["198.51.100.7:1001".parse().unwrap()];
    assert_eq!(other.announce(1_003, Event::Started), (expected, 3));

    // Without a head, with one that is cut, or of something else, nothing of the proxy's is answered.
    let mut bare = Vec::new();
    request::connect(ID, &mut bare);
    let whole = [head(0x21, 0x12, &v4), bare.clone()].concat();
    for packet in [&bare[..], &whole[..20], &whole[..14]] {
        proxy.send(packet);
    }
    let foreign = [head(0x31, 0x12, &v4), bare.clone()].concat();
    proxy.send(&foreign);
    let last = TransactionId(99);
    let mut packet = head(0x20, 0, &[]);
    request::connect(last, &mut packet);
    proxy.send(&packet);
    assert_eq!(proxy.receive().0.transaction_id, last);
    // Nor is a head read that comes from elsewhere.
    other.send(&whole);
    other.was_told_nothing();
    server.stop().await;
}

/// An announce packet with four bytes of it replaced.
fn announce_with(connection_id: ConnectionId, at: usize, bytes: [u8; 4]) -> Vec<u8> {
    let mut packet = Vec::new();
    request::announce(connection_id, ID, &announced(6881), "", &mut packet);
    packet[at..at + 4].copy_from_slice(&bytes);
    packet
}

async fn serve(addrs: &[&str]) -> (Server, Vec<SocketAddr>) {
    let config = Config {
        udp: addrs.iter().map(|addr| addr.parse().unwrap()).collect(),
        ..Config::at(([127, 0, 0, 1], 0).into())
    };
    let (server, _) = client::start(config).await;
    let addrs = server.udp_addrs().to_vec();
    (server, addrs)
}

#[tokio::test]
async fn peers_find_each_other_over_udp_and_http() {
    let (server, addrs) = serve(&["127.0.0.1:0"]).await;
    let (one, other) = (
        Client::at("127.0.0.2", addrs[0]),
        Client::at("127.0.0.3", addrs[0]),
    );
    assert_eq!(one.announce(1001, Event::Started), (vec![], 1));
    let expected = vec!["127.0.0.2:1001".parse().unwrap()];
    assert_eq!(other.announce(1002, Event::Started), (expected, 2));
    // One store serves both.
    let reply = client::get(server.addrs()[0], &client::announce(1003, "")).await;
    let text = reply.text();
    assert!(text.contains("10:incompletei3e"), "{text}");
    assert_eq!(other.announce(1002, Event::Stopped).1, 2);

    let mut packet = Vec::new();
    let info_hashes = [InfoHash([9; 20]), TORRENT];
    request::scrape(one.connect(), ID, &info_hashes, &mut packet);
    let Body::Scrape(entries) = one.ask(&packet) else {
        panic!("an answer to a scrape");
    };
    let incomplete: Vec<u32> = entries.iter().map(|entry| entry.incomplete).collect();
    assert_eq!(incomplete, [0, 2], "in the order of the question");
    server.stop().await;
}

#[tokio::test]
async fn a_connection_id_proves_one_address_only() {
    // FAULTS 122: wrong, constant, stolen.
    let (_server, addrs) = serve(&["127.0.0.1:0"]).await;
    let (honest, thief) = (
        Client::at("127.0.0.2", addrs[0]),
        Client::at("127.0.0.3", addrs[0]),
    );
    let stolen = honest.connect();
    for id in [
        ConnectionId(0),
        ConnectionId(u64::MAX),
        ConnectionId(stolen.0 ^ 1),
        stolen,
    ] {
        thief.send(&announce_with(id, 84, [0; 4]));
        let mut scrape = Vec::new();
        request::scrape(id, ID, &[TORRENT], &mut scrape);
        thief.send(&scrape);
        // What is wrong with a packet is for those to know who proved where they are.
        thief.send(&announce_with(id, 80, [9; 4]));
    }
    thief.was_told_nothing();
    assert_eq!(
        honest.announce(1001, Event::Started).1,
        1,
        "nobody else got in"
    );
    // Another port of the same address is the same client.
    let again = Client::at("127.0.0.2", addrs[0]);
    assert!(matches!(
        again.ask(&announce_with(stolen, 84, [0; 4])),
        Body::Announce(_)
    ));
}

#[tokio::test]
async fn the_unproven_get_no_more_bytes_than_they_sent() {
    // FAULTS 124 and 125: 16 bytes for a connect of 16 or more, and silence for all else.
    let (_server, addrs) = serve(&["127.0.0.1:0"]).await;
    let stranger = Client::at("127.0.0.2", addrs[0]);
    let mut connect = Vec::new();
    request::connect(ID, &mut connect);
    for length in 0..connect.len() {
        stranger.send(&connect[..length]);
    }
    let mut noise = bt_core::Rng::new(3);
    for length in (0..2_000).step_by(7) {
        let mut packet = vec![0; length];
        noise.fill(&mut packet);
        stranger.send(&packet);
        for action in 1..5_u8 {
            if let Some(head) = packet.get_mut(8..12) {
                head.copy_from_slice(&[0, 0, 0, action]);
                stranger.send(&packet);
            }
        }
    }
    for length in [16, 17, 1_400] {
        connect.resize(length, 0);
        stranger.send(&connect);
        let (answer, bytes) = stranger.receive();
        assert!(matches!(answer.body, Body::Connect { .. }) && bytes == 16);
    }
}

#[tokio::test]
async fn odd_fields_are_errors_or_clamped() {
    // FAULTS 126 and 127: where (offset in the packet) what stands; and what is said.
    let (_server, addrs) = serve(&["127.0.0.1:0"]).await;
    let client = Client::at("127.0.0.2", addrs[0]);
    let id = client.connect();
    let error = |packet: &[u8]| match client.ask(packet) {
        Body::Error(text) => text,
        other @ (Body::Announce(_) | Body::Scrape(_) | Body::Connect { .. }) => {
            format!("{other:?}")
        }
    };
    let port_zero = announce_with(id, 94, [0; 4]);
    assert!(error(&port_zero).contains("port 0"));
    assert!(error(&announce_with(id, 80, [0, 0, 0, 99])).contains("event"));
    assert!(error(&announce_with(id, 8, [0, 0, 0, 7])).contains("action"));
    assert!(error(&announce_with(id, 84, [0; 4])[..97]).contains("short"));
    for (length, named) in [(0, "no info hash"), (19, "cut off"), (75 * 20, "too many")] {
        let mut packet = Vec::new();
        request::scrape(id, ID, &[], &mut packet);
        packet.resize(16 + length, 1);
        assert!(error(&packet).contains(named), "{length}");
    }
    // The address that it claims is not looked at, 2^64 - 1 bytes left are a leecher's, and 2^32 - 2 peers are too many.
    let mut packet = announce_with(id, 84, [9, 9, 9, 9]);
    packet[64..72].fill(0xff);
    assert!(matches!(client.ask(&packet), Body::Announce(_)));
    for n in 0..400_u16 {
        let mut packet = announce_with(id, 84, [0; 4]);
        packet[96..98].copy_from_slice(&(n + 7_000).to_be_bytes());
        assert!(matches!(client.ask(&packet), Body::Announce(_)));
    }
    let other = Client::at("127.0.0.3", addrs[0]);
    other.send(&announce_with(
        other.connect(),
        92,
        [0xff, 0xff, 0xff, 0xfe],
    ));
    let (answer, bytes) = other.receive();
    let Body::Announce(answer) = answer.body else {
        panic!("an answer to an announce");
    };
    assert!(bytes <= 1_472 && answer.peers.len() == 200, "{bytes}");
    let here: IpAddr = "127.0.0.2".parse().unwrap();
    assert!(answer.peers.iter().all(|peer| peer.addr.ip() == here));
}

#[tokio::test]
async fn a_flood_of_connects_leaves_the_honest_alone() {
    // FAULTS 128: no state for a connect, and an answer for who asks again.
    let (server, addrs) = serve(&["127.0.0.1:0"]).await;
    let addr = addrs[0];
    let flood = std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.4:0").unwrap();
        let mut packet = Vec::new();
        request::connect(ID, &mut packet);
        (0..20_000).for_each(|_| drop(socket.send_to(&packet, addr)));
    });
    let honest = Client::at("127.0.0.2", addr);
    let soon = Some(Duration::from_millis(200));
    honest.socket.set_read_timeout(soon).unwrap();
    let mut packet = Vec::new();
    request::connect(ID, &mut packet);
    let mut buffer = [0; 64];
    let answered = (0..100).any(|_| {
        honest.send(&packet);
        honest.socket.recv(&mut buffer).is_ok()
    });
    assert!(answered);
    flood.join().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn families_are_not_mixed() {
    // FAULTS 129: one store, and each family hears of its own.
    let (_server, addrs) = serve(&["127.0.0.1:0", "[::1]:0"]).await;
    let (v4, v6) = (
        Client::at("127.0.0.2", addrs[0]),
        Client::at("::1", addrs[1]),
    );
    assert_eq!(v4.announce(1001, Event::Started), (vec![], 1));
    assert_eq!(v6.announce(1002, Event::Started), (vec![], 2));
    let another = Client::at("127.0.0.3", addrs[0]);
    assert_eq!(
        another.announce(1003, Event::Started),
        (vec!["127.0.0.2:1001".parse().unwrap()], 3)
    );
    let another = Client::at("::1", addrs[1]);
    assert_eq!(
        another.announce(1004, Event::Started),
        (vec!["[::1]:1002".parse().unwrap()], 4)
    );
}

#[tokio::test]
async fn what_is_not_served_is_refused_and_unknown_to_a_scrape() {
    let folder = tempfile::tempdir().unwrap();
    let deny = folder.path().join("deny");
    std::fs::write(&deny, "").unwrap();
    let mut config = Config {
        udp: vec!["127.0.0.1:0".parse().unwrap()],
        ..Config::at(([127, 0, 0, 1], 0).into())
    };
    config.settings.deny = Some(deny.clone());
    let settings = config.settings.clone();
    let (server, _) = client::start(config).await;
    let client = Client::at("127.0.0.2", server.udp_addrs()[0]);
    assert_eq!(client.announce(1001, Event::Started).1, 1);
    std::fs::write(&deny, TORRENT.to_string()).unwrap();
    server.reload(settings).await.unwrap();
    let Body::Error(text) = client.ask(&announce_with(client.connect(), 84, [0; 4])) else {
        panic!("a refusal");
    };
    assert!(text.contains("does not serve"), "{text}");
    let mut packet = Vec::new();
    request::scrape(client.connect(), ID, &[TORRENT], &mut packet);
    let Body::Scrape(entries) = client.ask(&packet) else {
        panic!("an answer to a scrape");
    };
    assert_eq!(entries[0].incomplete, 0);
}

#[tokio::test]
async fn a_private_tracker_reads_the_key_from_the_url() {
    // BEP 41.
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, "first-key\n").unwrap();
    let mut config = Config {
        udp: vec!["127.0.0.1:0".parse().unwrap()],
        ..Config::at(([127, 0, 0, 1], 0).into())
    };
    config.settings.keys = Some(keys);
    let (server, _) = client::start(config).await;
    let client = Client::at("127.0.0.2", server.udp_addrs()[0]);
    let id = client.connect();
    for (url, expected) in [
        ("/announce/first-key", None),
        ("/first-key/announce", None),
        ("/announce?x=1&passkey=first-key", None),
        ("/announce", Some("has no key")),
        ("", Some("has no key")),
        ("/announce/other-key", Some("not known")),
        ("?passkey=other-key", Some("not known")),
    ] {
        let mut packet = Vec::new();
        request::announce(id, ID, &announced(1001), url, &mut packet);
        match (client.ask(&packet), expected) {
            (Body::Announce(_), None) => {}
            (Body::Error(text), Some(expected)) => assert!(text.contains(expected), "{text}"),
            (other, _) => panic!("{url}: {other:?}"),
        }
    }
    // A scrape has no room for a key, and nobody without one is told anything.
    let mut packet = Vec::new();
    request::scrape(id, ID, &[TORRENT], &mut packet);
    assert!(matches!(client.ask(&packet), Body::Error(_)));
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_and_stopping_frees_it() {
    let (server, addrs) = serve(&["127.0.0.1:0"]).await;
    let config = || Config {
        http: Vec::new(),
        udp: vec![addrs[0]],
        ..Config::at(addrs[0])
    };
    let error = bt_trackerd::serve(config()).await.unwrap_err().to_string();
    assert!(error.contains(&addrs[0].to_string()), "{error}");
    server.stop().await;
    let again = bt_trackerd::serve(config()).await.unwrap();
    assert_eq!(
        Client::at("127.0.0.2", addrs[0])
            .announce(1, Event::Started)
            .1,
        1
    );
    drop(again);
}
