//! The task that drives the nodes.

use super::names::resolve;
use super::socket::{Packet, Udp};
use super::{Agreed, DhtConfig, Found, NodeStatus, Request};
use crate::clock::{Clock, random_seed};
use crate::reach::Names;
use bt_core::{InfoHash, Rng};
use bt_dht::{
    Announce, Announces, Command, Config, Event, Input, Node, Outcome, Output, Search, SearchId,
    State,
};
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// From one save of what is known to the next: a crash loses little that cannot be found again.
const SAVE_EVERY: Duration = Duration::from_secs(5 * 60);
/// Datagrams that are taken in one turn, before timers and requests are looked at again.
const TURN_PACKETS: usize = 32;
/// A state file longer than this is none of ours: five hundred nodes are 19 kB.
const STATE_MAX_BYTES: u64 = 64 * 1024;
/// Lists of names that are looked up at a time; a torrent's list too many is left out.
const RESOLVING_MAX: usize = 16;

/// A node and its socket.
struct Place {
    node: Node,
    socket: Udp,
    addr: SocketAddr,
    state_file: Option<PathBuf>,
}

/// Whom a search is for.
enum Client {
    Torrent(InfoHash),
    User(mpsc::Sender<Found>),
}

struct Torrent {
    port: u16,
    peers: mpsc::Sender<Vec<SocketAddr>>,
    /// Searches of the current round that are under way, and how many others they found so far.
    searching: usize,
    found: usize,
}

impl Torrent {
    /// How many of the found may be somebody else. An earlier announce of ours is found too, and would have us wait for the
    /// next round as if we were not alone. Our address from outside is not known for sure; whoever else has our port by
    /// chance is dialled all the same, and only looked for again soon.
    fn others(&self, found: &[SocketAddr]) -> usize {
        let other = |peer: &&SocketAddr| peer.port() != self.port;
        found.iter().filter(other).count()
    }
}

/// See the module's documentation.
pub(super) struct Driver {
    clock: Clock,
    rng: Rng,
    places: Vec<Place>,
    announces: Announces,
    torrents: BTreeMap<InfoHash, Torrent>,
    searches: BTreeMap<SearchId, Client>,
    last_search: u64,
    save_at: Instant,
    /// Whether there was something to ask; nothing is sent, and nobody answered, before.
    awake: bool,
    /// What nodes are told once there is: names to look up, and where others see us.
    names: Vec<String>,
    seen_at: [Option<IpAddr>; 2],
    /// Told where we are seen.
    external: Arc<Agreed>,
    /// For who looks up names; it holds nobody's DHT alive.
    requests: mpsc::WeakSender<Request>,
    resolving: JoinSet<()>,
}

impl Driver {
    pub(super) fn new(
        config: &DhtConfig,
        sockets: Vec<Udp>,
        addrs: &[SocketAddr],
        requests: mpsc::WeakSender<Request>,
        external: Arc<Agreed>,
    ) -> Self {
        let places = sockets.into_iter().zip(addrs);
        let places = places.map(|(socket, addr)| place(config, socket, *addr, addrs.len() > 1));
        let mut driver = Self {
            clock: Clock::start(),
            rng: Rng::new(random_seed()),
            places: places.collect(),
            announces: Announces::default(),
            torrents: BTreeMap::new(),
            searches: BTreeMap::new(),
            last_search: 0,
            save_at: Instant::now() + SAVE_EVERY,
            awake: false,
            names: Vec::new(),
            seen_at: [None; 2],
            external,
            requests,
            resolving: JoinSet::new(),
        };
        let is_name = |place: &&String| place.parse::<SocketAddr>().is_err();
        let names = config.bootstrap.iter().filter(is_name);
        driver.names = names.cloned().collect();
        if !config.on_demand {
            driver.join();
        }
        driver
    }

    /// The nodes begin.
    fn join(&mut self) {
        if core::mem::replace(&mut self.awake, true) {
            return;
        }
        let names = core::mem::take(&mut self.names);
        self.resolve(names);
        for ip in core::mem::take(&mut self.seen_at).into_iter().flatten() {
            self.tell(Command::ExternalAddress(ip), ip.is_ipv6());
        }
        (0..self.places.len()).for_each(|number| self.feed(number, Input::Timeout));
    }

    fn resolve(&mut self, names: Vec<String>) {
        // Those that are done make room.
        while self.resolving.try_join_next().is_some() {}
        if self.resolving.len() < RESOLVING_MAX && !names.is_empty() {
            self.resolving
                .spawn(resolve(Names::System, names, self.requests.clone()));
        }
    }

    /// Drives the nodes until there is nobody left to ask anything of them.
    pub(super) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut packets: mpsc::Receiver<Packet>,
    ) {
        let mut batch = Vec::new();
        loop {
            self.announce_due();
            let wake = self.wake();
            tokio::select! {
                request = requests.recv() => match request {
                    None => break,
                    Some(Request::Stop(stopped)) => {
                        self.save();
                        // Whoever asked may be gone.
                        let _ = stopped.send(());
                        break;
                    }
                    Some(request) => self.request(request),
                },
                _ = packets.recv_many(&mut batch, TURN_PACKETS) => {
                    for Packet { socket, from, bytes } in batch.drain(..) {
                        if self.awake {
                            self.feed(socket, Input::Received { from, packet: bytes });
                        }
                    }
                }
                () = tokio::time::sleep_until(wake) => self.timeouts(),
            }
        }
    }

    fn wake(&self) -> Instant {
        let places = self.places.iter().filter(|_| self.awake);
        let nodes = places.filter_map(|place| place.node.deadline());
        let next = nodes.chain(self.announces.deadline()).min();
        let next = next.and_then(|time| self.clock.instant(time));
        next.map_or(self.save_at, |next| next.min(self.save_at))
    }

    fn timeouts(&mut self) {
        let now = self.clock.now();
        for number in 0..self.places.len() {
            let deadline = self
                .places
                .get(number)
                .filter(|_| self.awake)
                .and_then(|place| place.node.deadline());
            if deadline.is_some_and(|deadline| deadline <= now) {
                self.feed(number, Input::Timeout);
            }
        }
        if Instant::now() >= self.save_at {
            self.save();
            self.save_at = Instant::now() + SAVE_EVERY;
        }
    }

    fn request(&mut self, request: Request) {
        match &request {
            Request::Resolve(_)
            | Request::Bootstrap(_)
            | Request::Enter { .. }
            | Request::Search { .. } => self.join(),
            Request::SeenAt(ip) if !self.awake => {
                let [v4, v6] = &mut self.seen_at;
                *if ip.is_ipv6() { v6 } else { v4 } = Some(*ip);
                return;
            }
            Request::Meet(_) if !self.awake => return,
            Request::Meet(_) | Request::SeenAt(_) => {}
            Request::Leave(_) | Request::Status(_) | Request::Stop(_) => {}
        }
        match request {
            Request::Meet(addr) => self.tell(Command::Meet(addr), addr.is_ipv6()),
            Request::SeenAt(ip) => self.tell(Command::ExternalAddress(ip), ip.is_ipv6()),
            Request::Bootstrap(addrs) => {
                for ipv6 in [false, true] {
                    let addrs = addrs.iter().filter(|addr| addr.is_ipv6() == ipv6);
                    self.tell(Command::Bootstrap(addrs.copied().collect()), ipv6);
                }
            }
            Request::Resolve(names) => self.resolve(names),
            Request::Enter {
                info_hash,
                port,
                peers,
            } => {
                let torrent = Torrent {
                    port,
                    peers,
                    searching: 0,
                    found: 0,
                };
                self.torrents.insert(info_hash, torrent);
                self.announces.enter(self.clock.now(), info_hash);
            }
            Request::Leave(info_hash) => self.leave(info_hash),
            Request::Search { what, found } => {
                let family = match &what {
                    Search::Ping { addr } | Search::Sample { addr, .. } => Some(addr.is_ipv6()),
                    Search::Nodes { .. } | Search::Peers { .. } => None,
                    Search::Item { .. } | Search::Store { .. } => None,
                };
                for number in 0..self.places.len() {
                    let own = self.places.get(number).map(|place| place.node.is_ipv6());
                    if family.is_none() || family == own {
                        self.search(number, what.clone(), Client::User(found.clone()));
                    }
                }
            }
            Request::Status(reply) => {
                let status = self.places.iter().map(|place| self.status(place)).collect();
                // Whoever asked may be gone.
                let _ = reply.send(status);
            }
            // Taken by the loop.
            Request::Stop(_) => {}
        }
    }

    fn leave(&mut self, info_hash: InfoHash) {
        self.torrents.remove(&info_hash);
        self.announces.leave(info_hash);
    }

    fn status(&self, place: &Place) -> NodeStatus {
        let store = place.node.peer_store();
        NodeStatus {
            id: place.node.id(),
            addr: place.addr,
            nodes: place.node.table().count(self.clock.now()),
            stored: (store.torrents(), store.peers()),
            counters: place.node.counters(),
        }
    }

    /// Starts a round for each torrent that is due.
    fn announce_due(&mut self) {
        while let Some(info_hash) = self.announces.due(self.clock.now()) {
            let Some(torrent) = self.torrents.get_mut(&info_hash) else {
                continue;
            };
            if torrent.peers.is_closed() {
                self.leave(info_hash);
                continue;
            }
            let announce = Some(Announce {
                port: torrent.port,
                implied_port: false,
            });
            (torrent.searching, torrent.found) = (self.places.len(), 0);
            for number in 0..self.places.len() {
                let what = Search::Peers {
                    info_hash,
                    announce,
                };
                self.search(number, what, Client::Torrent(info_hash));
            }
        }
    }

    fn search(&mut self, number: usize, what: Search, client: Client) {
        self.last_search += 1;
        let id = SearchId(self.last_search);
        self.searches.insert(id, client);
        self.feed(number, Input::Command(Command::Search { id, what }));
    }

    /// Tells the nodes of one family.
    fn tell(&mut self, command: Command, ipv6: bool) {
        for number in 0..self.places.len() {
            let place = self.places.get(number);
            if place.is_some_and(|place| place.node.is_ipv6() == ipv6) {
                self.feed(number, Input::Command(command.clone()));
            }
        }
    }

    /// Feeds one node, and carries out what it orders.
    fn feed(&mut self, number: usize, input: Input) {
        let now = self.clock.now();
        let Some((before, rest)) = self.places.split_at_mut_checked(number) else {
            return;
        };
        let Some((place, after)) = rest.split_first_mut() else {
            return;
        };
        let ipv6 = place.node.is_ipv6();
        let mut others = before.iter().chain(after.iter());
        let other = others.find(|other| other.node.is_ipv6() != ipv6);
        place
            .node
            .handle(now, input, other.map(|other| other.node.table()));
        let mut events = Vec::new();
        while let Some(output) = place.node.poll() {
            match output {
                Output::Send { to, packet } => place.socket.send(to, &packet),
                Output::Emit(event) => events.push(event),
            }
        }
        events.into_iter().for_each(|event| self.heed(event, !ipv6));
    }

    fn heed(&mut self, event: Event, other_family: bool) {
        match event {
            Event::Peers { id, peers } => match self.searches.get(&id) {
                Some(Client::User(found)) => {
                    // Who does not take it in time has enough.
                    let _ = found.try_send(Found::Peers(peers));
                }
                Some(Client::Torrent(info_hash)) => {
                    if let Some(torrent) = self.torrents.get_mut(info_hash) {
                        torrent.found += torrent.others(&peers);
                        let _ = torrent.peers.try_send(peers);
                    }
                }
                None => {}
            },
            Event::Done { id, outcome } => self.done(id, outcome),
            Event::Ready { nodes } => {
                tracing::debug!(nodes, "the DHT is joined");
                self.announces.joined(self.clock.now());
            }
            Event::OtherFamily { addrs } => {
                for addr in addrs {
                    self.tell(Command::Meet(addr), other_family);
                }
            }
            Event::ExternalAddress { ip, id } => {
                tracing::debug!(%ip, %id, "the DHT sees us from outside");
                let [v4, v6] = &mut *self.external.lock().unwrap_or_else(PoisonError::into_inner);
                *if ip.is_ipv6() { v6 } else { v4 } = Some(ip);
            }
        }
    }

    fn done(&mut self, id: SearchId, outcome: Box<Outcome>) {
        match self.searches.remove(&id) {
            Some(Client::User(found)) => {
                let _ = found.try_send(Found::Done(outcome));
            }
            Some(Client::Torrent(info_hash)) => {
                tracing::debug!(
                    %info_hash, peers = outcome.peers, stored = outcome.stored, stats = ?outcome.stats,
                    took = ?outcome.took, "DHT announce"
                );
                let Some(torrent) = self.torrents.get_mut(&info_hash) else {
                    return;
                };
                torrent.searching = torrent.searching.saturating_sub(1);
                if torrent.searching == 0 {
                    let (now, found) = (self.clock.now(), torrent.found);
                    self.announces.done(now, info_hash, found, &mut self.rng);
                }
            }
            None => {}
        }
    }

    fn save(&self) {
        for place in &self.places {
            let Some(file) = &place.state_file else {
                continue;
            };
            let mut state = place.node.state();
            state.port = place.addr.port();
            if state.nodes.is_empty() {
                // What is there from an earlier run is worth more.
                continue;
            }
            if let Err(error) = write(file, &state.encode()) {
                tracing::warn!(file = %file.display(), %error, "the DHT's nodes are not saved");
            }
        }
    }
}

fn place(config: &DhtConfig, socket: Udp, addr: SocketAddr, dual_stack: bool) -> Place {
    let name = if addr.is_ipv6() { "dht.v6" } else { "dht.v4" };
    let state_file = config.state_dir.as_ref().map(|dir| dir.join(name));
    let state = state_file.as_deref().and_then(read);
    let mut key = [0; 32];
    for chunk in key.chunks_mut(8) {
        let random = random_seed().to_le_bytes();
        chunk
            .iter_mut()
            .zip(random)
            .for_each(|(to, from)| *to = from);
    }
    // Names are looked up later; addresses need no wait.
    let literal = config
        .bootstrap
        .iter()
        .filter_map(|place| place.parse().ok());
    let saved = state
        .iter()
        .flat_map(|state| &state.nodes)
        .map(|node| node.addr);
    let node = Config {
        ipv6: addr.is_ipv6(),
        dual_stack,
        // On another port it is another node, and the one with this id may be running.
        id: state
            .as_ref()
            .filter(|state| state.port == addr.port())
            .map(|state| state.id),
        bootstrap: literal.chain(saved).collect(),
        read_only: config.read_only,
        ..Config::new(super::random_key())
    };
    Place {
        node: Node::new(node, random_seed()),
        socket,
        addr,
        state_file,
    }
}

fn read(file: &Path) -> Option<State> {
    // No file is how it begins; one that cannot be read or is none of ours is as good as none.
    let length = std::fs::metadata(file).ok()?.len();
    let bytes = (length <= STATE_MAX_BYTES).then(|| std::fs::read(file).ok())?;
    State::decode(&bytes?)
}

/// Whole or not at all: the old file stands until the new one is complete.
fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let new = file.with_extension(format!("new-{}", std::process::id()));
    std::fs::write(&new, bytes)?;
    std::fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A round of a torrent on port 1001 that finds `found`; true if the next round is soon.
    fn looks_again_soon(found: &[&str]) -> bool {
        let (requests, _) = mpsc::channel(1);
        let config = DhtConfig::default();
        let mut driver = Driver::new(
            &config,
            Vec::new(),
            &[],
            requests.downgrade(),
            Arc::default(),
        );
        let (info_hash, id) = (InfoHash([7; 20]), SearchId(1));
        let (peers, mut receiver) = mpsc::channel(1);
        let port = 1001;
        driver.request(Request::Enter {
            info_hash,
            port,
            peers,
        });
        driver.announce_due();
        driver.searches.insert(id, Client::Torrent(info_hash));
        let peers: Vec<SocketAddr> = found.iter().map(|addr| addr.parse().unwrap()).collect();
        if !peers.is_empty() {
            let told = peers.clone();
            driver.heed(Event::Peers { id, peers: told }, true);
            assert_eq!(receiver.try_recv().unwrap(), peers, "all are told");
        }
        let outcome = Outcome {
            peers: peers.len(),
            ..Outcome::default()
        };
        let outcome = Box::new(outcome);
        driver.heed(Event::Done { id, outcome }, true);
        let next = driver.announces.deadline().unwrap();
        next < driver.clock.now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn who_finds_only_itself_looks_again_soon() {
        for (found, soon) in [
            (&[][..], true),
            (&["127.0.0.1:1001"], true),
            (&["127.0.0.1:1001", "9.8.7.6:1001"], true),
            (&["127.0.0.1:1001", "127.0.0.1:1002"], false),
            (&["9.8.7.6:6881"], false),
        ] {
            assert_eq!(looks_again_soon(found), soon, "{found:?}");
        }
    }
}
