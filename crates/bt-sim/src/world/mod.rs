//! The world: nodes, links, a tracker and one clock, all from one seed.
//!
//! Everything that happens is an entry in one queue, ordered by time and then by number, so the same seed gives the same
//! run. **Invariant:** an engine is drained by `poll` before it is given the next fact.

mod census;
mod faults;
mod network;
mod orders;
mod queue;
mod turns;
mod watch;

pub use census::Lines;
pub use faults::Fault;

use census::GivenOut;
use faults::Partition;

use crate::disk::{self, DiskKind};
use crate::link::{LinkId, Links, Segment, Side};
use crate::node::{Host, Nature, Node};
use crate::payload::{Payload, mix};
use bt_core::disk::Job;
use bt_core::{Bitfield, Block, Layout, Rng, Time};
use bt_peer::peers::Source;
use bt_peer::{ConnId, Input, Stats};
use bt_tracker::announce::AnnounceRequest;
use bt_tracker::server::{self, Swarms};
use bt_wire::Limits;
use core::time::Duration;
use queue::Queue;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// The port of every node; each has an address of its own.
const PORT: u16 = 6_881;

/// What a world is made of.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How the payload is cut.
    pub layout: Layout,
    /// Where all randomness comes from.
    pub seed: u64,
    /// Which disks the nodes have.
    pub disk: DiskKind,
    /// How often the tracker wants announces.
    pub announce_interval: Duration,
    /// The seeders leave as soon as the leechers have each piece among them.
    pub seeders_leave: bool,
}

impl Settings {
    /// Real disks, and a tracker that wants to hear from its peers every minute.
    #[must_use]
    pub const fn new(layout: Layout, seed: u64) -> Self {
        Self {
            layout,
            seed,
            disk: DiskKind::Stored,
            announce_interval: Duration::from_secs(60),
            seeders_leave: false,
        }
    }
}

/// What is going to happen.
enum Happening {
    Start(usize),
    Wake(usize),
    /// Given to the node's run of that number, if it still runs.
    Fact(usize, u64, Input),
    Connect {
        dialler: usize,
        run: u64,
        conn: ConnId,
        addr: SocketAddr,
    },
    Sent(usize, Vec<(ConnId, Block)>),
    Arrived(LinkId, Side, Segment),
    Delivered(LinkId, Side, Segment),
    /// A partition that held the end's bytes back may be over.
    Passable(LinkId, Side),
    Thaw(usize),
    LagEnds(usize),
    Save(usize, u64),
    Disk(usize, u64, Job),
    Announce(usize, u64, u64, AnnounceRequest),
    Fault(Fault),
    DiskHeals(usize),
}

/// Takes a line of text.
type Teller = Box<dyn FnMut(&str)>;

/// A swarm in one process.
pub struct World {
    settings: Settings,
    payload: Payload,
    hashes: Vec<[u8; 20]>,
    limits: Limits,
    now: Time,
    queue: Queue<Happening>,
    nodes: Vec<Node>,
    links: Links,
    tracker: Swarms,
    tracker_down_until: Time,
    partitions: Vec<Partition>,
    rng: Rng,
    steps: u64,
    dials: u64,
    trace: u64,
    /// Somebody came up, left or completed since it was last asked whether all are done.
    progressed: bool,
    /// Pieces that some leecher has.
    out: Bitfield,
    /// Who banned whom.
    bans: BTreeSet<(usize, usize)>,
    teller: Option<Teller>,
    given_out: GivenOut,
}

impl World {
    /// When a world begins. Not zero, so that nothing mistakes it for a time that was never set.
    pub const START: Time = Time::from_secs(1);

    /// A world without nodes.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let mut rng = Rng::new(settings.seed);
        let payload = Payload::new(settings.layout, rng.next_u64());
        let tracker = server::Config::with_interval(settings.announce_interval);
        Self {
            hashes: match settings.disk {
                DiskKind::Stored => payload.hashes(),
                DiskKind::Stamped => Vec::new(),
            },
            payload,
            limits: Limits::for_torrent(settings.layout.pieces_count()),
            now: Self::START,
            queue: Queue::new(),
            nodes: Vec::new(),
            links: Links::default(),
            tracker: Swarms::new(tracker, rng.next_u64()),
            tracker_down_until: Time::ZERO,
            partitions: Vec::new(),
            rng,
            steps: 0,
            dials: 0,
            trace: 0,
            progressed: true,
            out: Bitfield::new(settings.layout.pieces_count()),
            bans: BTreeSet::new(),
            teller: None,
            given_out: GivenOut::default(),
            settings,
        }
    }

    /// Has each fact and order told as a line of text.
    pub fn tell(&mut self, teller: impl FnMut(&str) + 'static) {
        self.teller = Some(Box::new(teller));
    }

    /// Adds a node that starts after a while; its number.
    pub fn add(&mut self, host: Host, after: Duration) -> usize {
        let number = self.nodes.len();
        // A network for each node: neighbours would have the same allowed fast set (BEP 6).
        let network = u16::try_from(number).expect("no more nodes than networks");
        let addr = SocketAddr::new(address(network, host.v6), PORT);
        let disk = disk::new(self.settings.disk, &self.payload, &self.hashes, host.seeder);
        let pieces_count = self.settings.layout.pieces_count();
        self.nodes.push(Node::new(host, addr, disk, pieces_count));
        self.later(after, Happening::Start(number));
        number
    }

    /// Lets something go wrong after a while.
    pub fn break_later(&mut self, after: Duration, fault: Fault) {
        self.later(after, Happening::Fault(fault));
    }

    /// Somebody tells the node of another one's address, which may be its own.
    pub fn introduce(&mut self, number: usize, other: usize) {
        let found = Input::PeersFound(Source::User, vec![self.node(other).addr]);
        self.feed(number, found);
    }

    /// Runs until everybody who came to download is complete, or the time is over; true if complete.
    pub fn run(&mut self, limit: Duration) -> bool {
        let end = self.now + limit;
        loop {
            if core::mem::take(&mut self.progressed) && self.is_done() {
                return true;
            }
            if !self.step(end) {
                return self.is_done();
            }
        }
    }

    /// Runs for so long, whatever happens.
    pub fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step(end) {}
        self.now = end;
    }

    /// The moment it is in the world.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    /// How many things have happened.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// How many connections were asked for.
    #[must_use]
    pub const fn dials(&self) -> u64 {
        self.dials
    }

    /// A hash of all that has happened. Equal seeds give equal hashes.
    #[must_use]
    pub const fn trace(&self) -> u64 {
        self.trace
    }

    /// How many nodes there are, up or down.
    #[must_use]
    pub const fn nodes_count(&self) -> usize {
        self.nodes.len()
    }

    /// The numbers of a node.
    #[must_use]
    pub fn stats(&self, number: usize) -> Stats {
        self.node(number).stats(self.now)
    }

    /// What the node is made of.
    #[must_use]
    pub fn host(&self, number: usize) -> Host {
        self.node(number).host
    }

    /// When the node had everything.
    #[must_use]
    pub fn completed_at(&self, number: usize) -> Option<Time> {
        self.node(number).completed_at
    }

    /// True if the node has all that it wants.
    #[must_use]
    pub fn is_sated(&self, number: usize) -> bool {
        self.node(number).is_sated()
    }

    /// True if the node left for good.
    #[must_use]
    pub fn is_gone(&self, number: usize) -> bool {
        self.node(number).gone
    }

    /// How many nodes banned this one.
    #[must_use]
    pub fn bans(&self, number: usize) -> usize {
        self.bans
            .iter()
            .filter(|(_, banned)| *banned == number)
            .count()
    }

    /// True if everybody who came to download is up and complete.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let mut counting = self.nodes.iter().filter(|node| node.counts());
        counting.all(|node| node.engine.is_some() && node.is_sated())
    }

    /// Does the next thing, if it is due by `end`.
    fn step(&mut self, end: Time) -> bool {
        let Some((at, happening)) = self.queue.pop(end) else {
            return false;
        };
        self.now = at;
        self.steps += 1;
        self.happen(happening);
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Start(number) => self.start(number),
            Happening::Wake(number) => self.wake(number),
            Happening::Fact(number, run, input) => {
                if self.node(number).run == run {
                    self.fact(number, input);
                }
            }
            Happening::Connect {
                dialler,
                run,
                conn,
                addr,
            } => self.connect(dialler, run, conn, addr),
            Happening::Sent(number, uploads) => self.sent(number, uploads),
            Happening::Arrived(link, side, segment) => self.arrived(link, side, segment),
            Happening::Delivered(link, side, segment) => self.delivered(link, side, &segment),
            Happening::Passable(link, side) => self.passable(link, side),
            Happening::Thaw(number) => self.use_line(number),
            Happening::LagEnds(number) => self.node_mut(number).lag = Duration::ZERO,
            Happening::Save(number, run) => {
                if self.node(number).run == run {
                    self.save(number, false);
                }
            }
            Happening::Disk(number, run, job) => self.disk(number, run, job),
            Happening::Announce(number, run, id, request) => {
                self.announce(number, run, id, &request);
            }
            Happening::Fault(fault) => self.fail(fault),
            Happening::DiskHeals(number) => self.heal_disk(number),
        }
    }

    fn later(&mut self, after: Duration, happening: Happening) {
        self.at(self.now + after, happening);
    }

    fn at(&mut self, at: Time, happening: Happening) {
        self.queue.push(at, happening);
    }

    /// Adds to the trace.
    fn note(&mut self, number: usize, line: impl FnOnce() -> String, weight: u64) {
        self.trace = mix(
            mix(mix(self.trace, self.now.as_nanos()), number as u64),
            weight,
        );
        if let Some(teller) = &mut self.teller {
            teller(&format!("{:?} node {number}: {}", self.now, line()));
        }
    }

    /// Whose address it is.
    fn number_of(&self, addr: IpAddr) -> Option<usize> {
        let number = match addr {
            IpAddr::V4(v4) => {
                let [_, high, low, _] = v4.octets();
                u16::from_be_bytes([high, low])
            }
            IpAddr::V6(v6) => {
                let [_, _, number, ..] = v6.segments();
                number
            }
        };
        let number = usize::from(number);
        let node = self.nodes.get(number)?;
        (node.addr.ip() == addr).then_some(number)
    }

    fn node(&self, number: usize) -> &Node {
        self.nodes.get(number).expect("nodes are never removed")
    }

    fn node_mut(&mut self, number: usize) -> &mut Node {
        self.nodes.get_mut(number).expect("nodes are never removed")
    }

    /// True if the node sends bad blocks, so that it may be banned.
    fn is_liar(&self, number: usize) -> bool {
        matches!(self.node(number).host.nature, Nature::Liar(_))
    }
}

/// The address in the network of that number: 10.N.N.1, or fd00:0:N::1. All of the number is in the bytes that count for
/// BEP 6 and BEP 40.
fn address(network: u16, v6: bool) -> IpAddr {
    if v6 {
        return IpAddr::from([0xfd00, 0, network, 0, 0, 0, 0, 1]);
    }
    let [high, low] = network.to_be_bytes();
    IpAddr::from([10, high, low, 1])
}
