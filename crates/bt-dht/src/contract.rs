//! The contract between a node and its shell: facts in, orders out. Plain data, so that a run can be recorded.

use crate::id::NodeId;
use crate::item::Item;
use crate::krpc::{Contact, KrpcError, Samples};
use crate::lookup::LookupStats;
use bt_core::InfoHash;
use core::time::Duration;
use std::net::{IpAddr, SocketAddr};

/// How many bytes of answers a node sends in a second unless told otherwise: as libtorrent's `dht_upload_rate_limit`.
pub const ANSWER_BYTES_PER_S: u64 = 8_000;

/// The settings of one node. One node has one socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The socket is one of IPv6 (BEP 32: a DHT of its own).
    pub ipv6: bool,
    /// There is a node of the other family too: its neighbours are asked for while we look for ours.
    pub dual_stack: bool,
    /// Secret bytes from the operating system: what tokens and transaction ids are made from.
    pub key: [u8; 32],
    /// The id of an earlier run. It is kept as long as it is not known to be of another address (BEP 42).
    pub id: Option<NodeId>,
    /// Where nodes may be: well-known ones, and those of an earlier run.
    pub bootstrap: Vec<SocketAddr>,
    /// Ask only, answer nobody, and say so (BEP 43).
    pub read_only: bool,
    /// How many bytes of answers are sent in a second at most.
    pub answer_bytes_per_s: u64,
}

impl Config {
    /// The defaults for a node with this secret key.
    #[must_use]
    pub const fn new(key: [u8; 32]) -> Self {
        Self {
            ipv6: false,
            dual_stack: false,
            key,
            id: None,
            bootstrap: Vec::new(),
            read_only: false,
            answer_bytes_per_s: ANSWER_BYTES_PER_S,
        }
    }
}

/// A search or question of the user's, numbered by the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SearchId(pub u64);

/// A fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A datagram came.
    Received {
        /// Where from.
        from: SocketAddr,
        /// All of it.
        packet: Vec<u8>,
    },
    /// The user wants something.
    Command(Command),
    /// The deadline has come.
    Timeout,
}

/// What a user may want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// There may be a node here: from a peer's `port` message, or a torrent's `nodes`. It is pinged, now or never.
    Meet(SocketAddr),
    /// Nodes may be found at these places, which are remembered: more of what [`Config::bootstrap`] is for.
    Bootstrap(Vec<SocketAddr>),
    /// We are seen at this address: trackers (BEP 24) and peers agree on it.
    ExternalAddress(IpAddr),
    /// Search for something. It ends with [`Event::Done`].
    Search {
        /// Its number, of which no other is under way.
        id: SearchId,
        /// What is wanted.
        what: Search,
    },
    /// Forget a search. It ends without an event.
    Cancel(SearchId),
}

/// What may be searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Search {
    /// The nodes nearest to an id.
    Nodes {
        /// The id.
        target: NodeId,
    },
    /// The peers of a torrent.
    Peers {
        /// The torrent.
        info_hash: InfoHash,
        /// Then say that we are a peer too.
        announce: Option<Announce>,
    },
    /// An item (BEP 44).
    Item {
        /// Where it is stored.
        target: NodeId,
        /// The salt of a mutable one, which nobody tells but its target is made from.
        salt: Vec<u8>,
    },
    /// Store an item (BEP 44).
    Store {
        /// The item.
        item: Item,
        /// Only where the stored item has this number.
        cas: Option<i64>,
    },
    /// Whether one node answers.
    Ping {
        /// Where it is.
        addr: SocketAddr,
    },
    /// Some torrents that one node has peers of (BEP 51).
    Sample {
        /// Where it is.
        addr: SocketAddr,
        /// Close to which nodes are wanted too.
        target: NodeId,
    },
}

/// How we can be reached as a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The port on which we take connections.
    pub port: u16,
    /// It is the port that the node's datagrams seem to come from, whatever `port` says.
    pub implied_port: bool,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Send {
        /// Where to.
        to: SocketAddr,
        /// All of it.
        packet: Vec<u8>,
    },
    /// Tell the user.
    Emit(Event),
}

/// What a user may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A search found peers that it had not found yet.
    Peers {
        /// The search.
        id: SearchId,
        /// The peers.
        peers: Vec<SocketAddr>,
    },
    /// A search is over.
    Done {
        /// The search.
        id: SearchId,
        /// What it came to.
        outcome: Box<Outcome>,
    },
    /// The node looked for its own neighbours for the first time, and knows so many nodes now.
    Ready {
        /// Nodes in the routing table.
        nodes: usize,
    },
    /// Nodes of the other family were named, which our node there may want to [meet](Command::Meet).
    OtherFamily {
        /// Where they are.
        addrs: Vec<SocketAddr>,
    },
    /// Others see us at this address, and we have an id that fits it (BEP 42).
    ExternalAddress {
        /// The address.
        ip: IpAddr,
        /// The id, which may be a new one.
        id: NodeId,
    },
}

/// What a search came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The nodes it ended with, nearest first.
    pub closest: Vec<Contact>,
    /// What it cost.
    pub stats: LookupStats,
    /// How long it took.
    pub took: Duration,
    /// Peers found.
    pub peers: usize,
    /// The newest genuine item found.
    pub item: Option<Item>,
    /// Nodes that confirmed a store or announce.
    pub stored: usize,
    /// Why nodes refused; the first few.
    pub refused: Vec<KrpcError>,
    /// What a node sampled.
    pub samples: Option<Samples>,
}
