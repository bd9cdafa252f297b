//! A thousand torrents in one session: what they do at a time, counted by those to whom they do it.

use super::{PATIENCE, Running};
use bt_metainfo::{Builder, Change, Edit, Metainfo};
use bt_session::dht::{Dht, DhtConfig};
use bt_session::{Session, SessionConfig, TorrentOptions};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const TORRENTS: usize = 1_000;
/// All are started by then; a build for tests may take longer.
const START_MAX: Duration = Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 5 });
/// `ANNOUNCES_MAX` of the session, and `STOPS_MAX`.
const ANNOUNCES_AT_A_TIME: usize = 50;
/// `DIALS_MAX` of the session.
const DIALS_AT_A_TIME: usize = 64;
/// `SPACING` of the DHT: a search begins so long after the last.
const SEARCH_SPACING: Duration = Duration::from_millis(500);
const NODES: usize = 10;
/// Queries of a search to each node: one that asks, one that stores.
const QUERIES_PER_NODE: usize = 2;
/// What finding neighbours and keeping buckets fresh may add to the queries at the start.
const UPKEEP_QUERIES: usize = 30 * NODES;
/// Searches that are waited for.
const SEARCHES_SEEN: usize = 6;

/// Those who serve take as long as this: were there no limit, nearly all would be there at once.
const SERVICE: Duration = Duration::from_millis(20);

/// How many were there, and how many at a time.
#[derive(Default)]
struct Visits {
    now: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
}

impl Visits {
    fn come(&self) {
        self.all.fetch_add(1, SeqCst);
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
    }

    fn go(&self) {
        self.now.fetch_sub(1, SeqCst);
    }
}

/// Takes connections until it is dropped, each in a task of its own. A guest counts until it is answered.
struct Host {
    addr: SocketAddr,
    visits: Arc<Visits>,
    _serving: JoinSet<()>,
}

async fn host<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Host
where
    F: Future<Output = (TcpStream, Vec<u8>)> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, visits) = (listener.local_addr().unwrap(), Arc::<Visits>::default());
    let (mut serving, counts) = (JoinSet::new(), Arc::clone(&visits));
    serving.spawn(async move {
        let mut guests = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counts.come();
            let (serving, counts) = (serve(stream), Arc::clone(&counts));
            guests.spawn(async move {
                let (mut stream, answer) = serving.await;
                counts.go();
                // At the end of the test nobody reads it.
                let _ = stream.write_all(&answer).await;
            });
            while guests.try_join_next().is_some() {}
        }
    });
    Host {
        addr,
        visits,
        _serving: serving,
    }
}

/// What a tracker was told: each request's query.
type Heard = Arc<Mutex<Vec<String>>>;

/// Names one peer to whoever asks.
async fn tracker(peer: SocketAddr) -> (Host, Heard) {
    let heard = Heard::default();
    let log = Arc::clone(&heard);
    let serve = move |mut stream: TcpStream| {
        let log = Arc::clone(&log);
        async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else {
                    return (stream, Vec::new());
                };
                request.push(byte);
            }
            tokio::time::sleep(SERVICE).await;
            let line = String::from_utf8(request).unwrap();
            log.lock()
                .unwrap()
                .push(line.lines().next().unwrap().to_owned());
            let mut body = b"d8:intervali1800e5:peers6:".to_vec();
            let SocketAddr::V4(peer) = peer else {
                unreachable!("bound to IPv4");
            };
            body.extend(peer.ip().octets());
            body.extend(peer.port().to_be_bytes());
            body.push(b'e');
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            (stream, [head.into_bytes(), body].concat())
        }
    };
    (host(serve).await, heard)
}

/// A peer that takes connections and never shakes hands: each dial is half open as long as it holds it.
async fn mute() -> Host {
    host(|stream| async move {
        tokio::time::sleep(3 * SERVICE).await;
        (stream, Vec::new())
    })
    .await
}

fn torrent(number: usize, tracker: SocketAddr) -> Metainfo {
    let tiers = vec![vec![format!("http://{tracker}/announce")]];
    let edit = Edit {
        trackers: Change::Set(tiers),
        ..Edit::default()
    };
    let builder = Builder::file(format!("file {number}"), 16_384, 16_384).with_edit(edit);
    builder.build(&[[1; 20]]).unwrap()
}

fn parameter<'a>(line: &'a str, name: &str) -> &'a str {
    let query = line.split(['?', ' ', '&']);
    let found = query.filter_map(|part| part.split_once('='));
    let mut found = found.filter(|(key, _)| *key == name);
    found.next().map_or("", |(_, value)| value)
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let waiting = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(seen.is_ok(), "{what}: not within {PATIENCE:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_torrents_share_one_budget_one_node_and_one_port() {
    let mut node_tasks = JoinSet::new();
    let mut nodes: Vec<Dht> = Vec::new();
    for _ in 0..NODES {
        let node = Dht::start(joining(&nodes), Some(LOOPBACK), 0, &mut node_tasks);
        nodes.push(node.unwrap());
    }
    let peer = mute().await;
    let (tracker, heard) = tracker(peer.addr).await;
    let folder = tempfile::tempdir().unwrap();
    let torrents: Vec<Metainfo> = (0..TORRENTS)
        .map(|number| torrent(number, tracker.addr))
        .collect();

    let started = Instant::now();
    let (session, mut running) = run(torrents, joining(&nodes), folder.path());
    for torrent in &mut running {
        torrent.checked().await;
    }
    let start = started.elapsed();
    until("announces", || told(&heard, "started") == TORRENTS).await;
    let announced = started.elapsed();
    until("dials", || peer.visits.all.load(SeqCst) >= TORRENTS).await;
    let dialled = started.elapsed();
    while announced_to(&nodes).await < SEARCHES_SEEN {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let queries = look_at_node(&session, &nodes, &heard, started).await;
    let watched = started.elapsed();
    let stopping = Instant::now();
    session.shutdown().await;
    let stopped = stopping.elapsed();

    assert_eq!(told(&heard, "stopped"), TORRENTS);
    let most = |host: &Host| host.visits.most.load(SeqCst);
    let (announces, dials) = (most(&tracker), most(&peer));
    println!(
        "{TORRENTS} torrents: started in {start:.2?}, announced in {announced:.2?} ({announces} at a time), dialled in \
         {dialled:.2?} ({dials} at a time), {queries} DHT queries in {watched:.2?}, stopped in {stopped:.2?}"
    );
    assert!(announces <= ANNOUNCES_AT_A_TIME, "{announces} announces");
    assert!(dials <= DIALS_AT_A_TIME, "{dials} dials");
    assert!(start < START_MAX, "{start:?}");
}

fn joining(nodes: &[Dht]) -> DhtConfig {
    let known = nodes
        .first()
        .map(|first| first.local_addrs()[0].to_string());
    DhtConfig {
        bootstrap: known.into_iter().collect(),
        ..DhtConfig::default()
    }
}

fn run(torrents: Vec<Metainfo>, dht: DhtConfig, folder: &Path) -> (Session, Vec<Running>) {
    let config = SessionConfig {
        bind: Some(LOOPBACK),
        port: Some(0),
        dht: Some(dht),
        ..SessionConfig::default()
    };
    let mut session = Session::new(config).unwrap();
    let start = |torrent| {
        let added = session.add(torrent, folder, TorrentOptions::default());
        let (handle, events) = added.unwrap();
        Running { handle, events }
    };
    let running = torrents.into_iter().map(start).collect();
    (session, running)
}

/// Torrents of which the tracker heard this event.
fn told(heard: &Heard, event: &str) -> usize {
    let heard = heard.lock().unwrap();
    let told = heard
        .iter()
        .filter(|line| parameter(line, "event") == event);
    let told: BTreeSet<&str> = told.map(|line| parameter(line, "info_hash")).collect();
    told.len()
}

/// The session has one node, on its one port, and it has not asked more than it may. Returns how much it asked.
async fn look_at_node(session: &Session, nodes: &[Dht], heard: &Heard, since: Instant) -> usize {
    let own = session.dht().unwrap().status().await;
    let span = since.elapsed();
    let port = session.local_addrs()[0].port();
    let ports: Vec<u16> = own.iter().map(|node| node.addr.port()).collect();
    assert_eq!(ports, [port], "one node for all torrents");
    for line in heard.lock().unwrap().iter() {
        assert_eq!(parameter(line, "port"), port.to_string());
    }
    for node in nodes {
        let counters = node.status().await[0].counters;
        assert_eq!(counters.queries_dropped, 0, "a node had enough of us");
    }
    let queries = usize::try_from(own[0].counters.queries_sent).unwrap();
    let searches = usize::try_from(span.as_millis() / SEARCH_SPACING.as_millis()).unwrap() + 1;
    assert!(
        queries <= searches * QUERIES_PER_NODE * NODES + UPKEEP_QUERIES,
        "{queries} queries in {span:?}"
    );
    queries
}

/// Torrents that the node which knows most was told of: a search announces at its end.
async fn announced_to(nodes: &[Dht]) -> usize {
    let mut most = 0;
    for node in nodes {
        most = node.status().await[0].stored.0.max(most);
    }
    most
}
