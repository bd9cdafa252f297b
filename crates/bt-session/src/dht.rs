//! The DHT of a program: its nodes' sockets, timers and files. What the nodes decide is in `bt-dht`.
//!
//! [`Dht::start`] makes a node for each address family and a task that drives them. Torrents enter, and are fed with the
//! peers that are found; others search by [`Dht::search`]. **Invariant:** nobody who waits for peers holds the task up: what
//! they do not take in time is lost, and found again later.

mod driver;
mod names;
mod socket;
#[cfg(test)]
mod tests;

use bt_core::InfoHash;
pub use bt_dht::item::{mutable_target, string_value, value_string};
pub use bt_dht::{Contact, Counters, Item, MutableItem, NodeId, Outcome, Search, SigningKey};
use core::time::Duration;
use driver::Driver;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Where to begin if nobody says otherwise: nodes that the makers of other programs keep for all.
pub const BOOTSTRAP: [&str; 4] = [
    "router.bittorrent.com:6881",
    "dht.transmissionbt.com:6881",
    "router.utorrent.com:6881",
    "dht.libtorrent.org:25401",
];

/// 32 secret bytes from the operating system.
///
/// # Panics
/// If the system has no randomness, on which nothing safe can be built.
#[must_use]
pub fn random_key() -> [u8; 32] {
    let mut key = [0; 32];
    let filled = SystemRandom::new().fill(&mut key);
    filled.expect("the operating system has randomness");
    key
}

/// Requests that wait for the task.
const REQUESTS_MAX: usize = 256;
/// What a search found and nobody has taken yet.
const FOUND_MAX: usize = 64;
/// How long the end waits for the last save.
const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// Settings of a program's DHT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DhtConfig {
    /// `HOST:PORT` where nodes may be. See [`BOOTSTRAP`].
    pub bootstrap: Vec<String>,
    /// Ask only, answer nobody (BEP 43): for programs that end soon.
    pub read_only: bool,
    /// Where ids and known nodes are kept from one run to the next.
    pub state_dir: Option<PathBuf>,
    /// Say nothing, and answer nobody, before there is something to ask: a search, a torrent that enters, or places where
    /// nodes may be. For programs all of whose torrents may be private.
    pub on_demand: bool,
}

/// What a search has found; more may come until the channel ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Peers of a torrent.
    Peers(Vec<SocketAddr>),
    /// What the search came to in one address family.
    Done(Box<Outcome>),
}

/// One node's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its id.
    pub id: NodeId,
    /// Its socket.
    pub addr: SocketAddr,
    /// Nodes it knows: good, questionable and bad.
    pub nodes: [usize; 3],
    /// Torrents and peers it keeps for others.
    pub stored: (usize, usize),
    /// What it did so far.
    pub counters: Counters,
}

/// What is asked of the task.
#[derive(Debug)]
enum Request {
    Meet(SocketAddr),
    SeenAt(IpAddr),
    Bootstrap(Vec<SocketAddr>),
    /// `HOST:PORT`, to be looked up first.
    Resolve(Vec<String>),
    Enter {
        info_hash: InfoHash,
        port: u16,
        peers: mpsc::Sender<Vec<SocketAddr>>,
    },
    Leave(InfoHash),
    Search {
        what: Search,
        found: mpsc::Sender<Found>,
    },
    Status(oneshot::Sender<Vec<NodeStatus>>),
    Stop(oneshot::Sender<()>),
}

/// A handle on a program's DHT. When the last one is gone, so is the DHT.
#[derive(Clone, Debug)]
pub struct Dht {
    requests: mpsc::Sender<Request>,
    addrs: Vec<SocketAddr>,
    external: Arc<Agreed>,
}

/// Our addresses on which most nodes of the DHT agree: IPv4 and IPv6.
type Agreed = Mutex<[Option<IpAddr>; 2]>;

impl Dht {
    /// Starts a node for each address family, on `port` if it is free (0: on any). Its tasks are in `tasks`.
    ///
    /// # Errors
    /// If there is no socket to be had.
    pub fn start(
        config: DhtConfig,
        bind: Option<IpAddr>,
        port: u16,
        tasks: &mut JoinSet<()>,
    ) -> io::Result<Self> {
        let sockets = socket::bind(bind, port)?;
        let addrs: Vec<SocketAddr> = sockets
            .iter()
            .map(|socket| socket.local_addr())
            .collect::<io::Result<_>>()?;
        let (requests, requested) = mpsc::channel(REQUESTS_MAX);
        let (packets_in, packets) = mpsc::channel(socket::PACKETS_MAX);
        for (number, socket) in sockets.iter().enumerate() {
            tasks.spawn(socket::read(
                number,
                socket.receiving.clone(),
                packets_in.clone(),
            ));
        }
        let external = Arc::new(Agreed::default());
        let telling = Arc::clone(&external);
        let driver = Driver::new(&config, sockets, &addrs, requests.downgrade(), telling);
        tasks.spawn(driver.run(requested, packets));
        Ok(Self {
            requests,
            addrs,
            external,
        })
    }

    /// The nodes' sockets.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The port of our node in the family of `addr`: what a `port` message says (BEP 5, BEP 32).
    #[must_use]
    pub fn port_for(&self, addr: SocketAddr) -> Option<u16> {
        let same = |own: &&SocketAddr| own.is_ipv6() == addr.is_ipv6();
        self.addrs.iter().find(same).map(SocketAddr::port)
    }

    /// There may be a node here. It is pinged, unless there is much else to do.
    pub fn meet(&self, addr: SocketAddr) {
        // Full: it was not important.
        let _ = self.requests.try_send(Request::Meet(addr));
    }

    /// Others than nodes of the DHT agree that we are seen at this address: the base of our id (BEP 42).
    pub(crate) fn seen_at(&self, ip: IpAddr) {
        // Full: nodes of the DHT will say the same.
        let _ = self.requests.try_send(Request::SeenAt(ip));
    }

    /// Our address in a family, if most nodes of the DHT agree on one.
    #[must_use]
    pub fn external_ip(&self, ipv6: bool) -> Option<IpAddr> {
        let [v4, v6] = *self.external.lock().unwrap_or_else(PoisonError::into_inner);
        if ipv6 { v6 } else { v4 }
    }

    /// Nodes may be found at these `HOST:PORT`: from a torrent's `nodes`. None at all is good for one that waits for a demand,
    /// and joins now.
    pub async fn bootstrap(&self, places: Vec<String>) {
        // An error means that the DHT is gone, here and below.
        let _ = self.requests.send(Request::Resolve(places)).await;
    }

    /// A torrent starts: its peers are looked for from now on, and told that we take connections on `port`. The torrent
    /// leaves when it says so, or drops the receiver.
    pub async fn enter(
        &self,
        info_hash: InfoHash,
        port: u16,
        peers: mpsc::Sender<Vec<SocketAddr>>,
    ) {
        let request = Request::Enter {
            info_hash,
            port,
            peers,
        };
        let _ = self.requests.send(request).await;
    }

    /// A torrent stops.
    pub async fn leave(&self, info_hash: InfoHash) {
        let _ = self.requests.send(Request::Leave(info_hash)).await;
    }

    /// Searches, in both families at once. The channel ends with the search.
    pub async fn search(&self, what: Search) -> mpsc::Receiver<Found> {
        let (found, receiver) = mpsc::channel(FOUND_MAX);
        let _ = self.requests.send(Request::Search { what, found }).await;
        receiver
    }

    /// The nodes' numbers.
    pub async fn status(&self) -> Vec<NodeStatus> {
        let (reply, status) = oneshot::channel();
        let _ = self.requests.send(Request::Status(reply)).await;
        status.await.unwrap_or_default()
    }

    /// Saves what is known and ends.
    pub async fn stop(&self) {
        let (reply, stopped) = oneshot::channel();
        let stopping = async {
            let _ = self.requests.send(Request::Stop(reply)).await;
            let _ = stopped.await;
        };
        let _ = tokio::time::timeout(STOP_DEADLINE, stopping).await;
    }
}
