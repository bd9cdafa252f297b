//! KRPC (BEP 5, "KRPC protocol"): what nodes say to each other, one bencoded dictionary in a datagram.
//!
//! | key | where | meaning |
//! |---|---|---|
//! | `t` `y` | everywhere | transaction, and what it is: `q`, `r`, `e` |
//! | `q` `a` `ro` | query | method, arguments, read-only (BEP 43) |
//! | `r` `ip` | response | values, and whom the responder sees (BEP 42) |
//! | `e` | error | code and text |
//!
//! Read leniently, written canonically. **Invariant:** what was read is bounded by [`PACKET_MAX_BYTES`] and
//! [`NODES_MAX`], and each contact and peer in it has an address that can be sent to.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use crate::id::NodeId;
use crate::item::Item;
use bt_core::InfoHash;
use std::net::SocketAddr;

pub use decode::{DecodeError, decode};

/// The longest datagram that is read, in bytes. The largest we know of holds an item of 1000 bytes and what surrounds it.
pub const PACKET_MAX_BYTES: usize = 2048;
/// Values and keys that a datagram may have; a reply with a hundred peers has under 120.
const ITEMS_MAX: usize = 400;
/// The longest transaction id that is echoed, in bytes. Programs use 2 to 8; longer ones would have us send theirs.
pub const TRANSACTION_MAX_BYTES: usize = 20;
/// The longest token that is kept, in bytes: programs use 4 to 20.
pub const TOKEN_MAX_BYTES: usize = 64;
/// Contacts that are taken from one reply and family: twice what BEP 5 has a node send.
pub const NODES_MAX: usize = 16;
/// Peers that are taken from one reply. More do not fit into what a node may send (BEP 32: 1024 bytes).
pub const VALUES_MAX: usize = 128;

/// A node: its id and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contact {
    /// Who it says it is.
    pub id: NodeId,
    /// Where it is.
    pub addr: SocketAddr,
}

/// A datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `t`: chosen by who asks, echoed by who answers.
    pub transaction: Vec<u8>,
    /// `y` and what goes with it.
    pub body: Body,
}

/// The three kinds of message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// `y` = `q`.
    Query(Query),
    /// `y` = `r`.
    Response(Box<Response>),
    /// `y` = `e`.
    Error(KrpcError),
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Who asks.
    pub id: NodeId,
    /// What.
    pub method: Method,
    /// `want`: which families of nodes the answer should have (BEP 32). `None`: that of the datagram.
    pub want: Option<Want>,
    /// `ro`: who asks does not answer, and belongs in no routing table (BEP 43).
    pub read_only: bool,
}

/// Families of nodes that are wanted (BEP 32).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// `n4`.
    pub v4: bool,
    /// `n6`.
    pub v6: bool,
}

/// The methods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// Are you there? (BEP 5)
    Ping,
    /// Which nodes are close to this? (BEP 5)
    FindNode {
        /// What is looked for.
        target: NodeId,
    },
    /// Which peers has this torrent? (BEP 5)
    GetPeers {
        /// The torrent.
        info_hash: InfoHash,
    },
    /// Who asks is a peer of this torrent. (BEP 5)
    AnnouncePeer {
        /// The torrent.
        info_hash: InfoHash,
        /// The peer's port, unless `implied_port`.
        port: u16,
        /// The port that the datagram came from is the peer's.
        implied_port: bool,
        /// From the answer to `get_peers`.
        token: Vec<u8>,
    },
    /// What is stored under this? (BEP 44)
    Get {
        /// The key.
        target: NodeId,
        /// The value is of use only if its number is higher than this.
        seq: Option<i64>,
    },
    /// Store this. (BEP 44)
    Put {
        /// What; not verified yet.
        item: Item,
        /// Only if what is stored has this number.
        cas: Option<i64>,
        /// From the answer to `get`.
        token: Vec<u8>,
    },
    /// Which torrents have peers with you? (BEP 51)
    SampleInfohashes {
        /// Close to which nodes are wanted too.
        target: NodeId,
    },
    /// A method that we do not know. One with a target is answered like `find_node`, as libtorrent does, so that
    /// later extensions can cross nodes that do not have them.
    Unknown {
        /// `target` or `info_hash`.
        target: Option<NodeId>,
    },
}

/// An answer. Which keys it has tells only what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Who answers.
    pub id: NodeId,
    /// `ip`: where the answer was sent to, as the responder sees it (BEP 42).
    pub observed: Option<SocketAddr>,
    /// `nodes`.
    pub nodes: Option<Vec<Contact>>,
    /// `nodes6` (BEP 32).
    pub nodes6: Option<Vec<Contact>>,
    /// `token`.
    pub token: Option<Vec<u8>>,
    /// `values`: peers.
    pub values: Vec<SocketAddr>,
    /// `v` and around (BEP 44); not verified yet.
    pub item: Option<StoredItem>,
    /// `samples` (BEP 51).
    pub samples: Option<Samples>,
}

/// What a `get` found (BEP 44).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredItem {
    /// `v`, bencoded as it stands.
    pub value: Option<Vec<u8>>,
    /// `k`.
    pub key: Option<[u8; 32]>,
    /// `seq`.
    pub seq: Option<i64>,
    /// `sig`.
    pub signature: Option<[u8; 64]>,
}

/// What a `sample_infohashes` found (BEP 51).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    /// Some of the torrents.
    pub info_hashes: Vec<InfoHash>,
    /// `num`: how many there are in all.
    pub total: Option<u64>,
    /// `interval`: ask again after so many seconds.
    pub interval_s: Option<u64>,
}

/// A refusal: `e`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error {code}: {message}")]
pub struct KrpcError {
    /// A code of BEP 5 or BEP 44.
    pub code: i64,
    /// In words; control characters are escaped.
    pub message: String,
}

/// Codes of [`KrpcError`].
pub mod code {
    /// Something went wrong.
    pub const GENERIC: i64 = 201;
    /// The responder is at fault.
    pub const SERVER: i64 = 202;
    /// A malformed datagram, a bad argument or token.
    pub const PROTOCOL: i64 = 203;
    /// Nobody knows this method.
    pub const METHOD_UNKNOWN: i64 = 204;
    /// `v` is longer than 1000 bytes (BEP 44).
    pub const VALUE_TOO_BIG: i64 = 205;
    /// The signature is not of this key (BEP 44).
    pub const BAD_SIGNATURE: i64 = 206;
    /// `salt` is longer than 64 bytes (BEP 44).
    pub const SALT_TOO_BIG: i64 = 207;
    /// What is stored has another number than `cas` (BEP 44).
    pub const CAS_MISMATCH: i64 = 301;
    /// What is stored is newer (BEP 44).
    pub const SEQ_TOO_LOW: i64 = 302;
}

impl KrpcError {
    /// An error of ours.
    #[must_use]
    pub fn new(code: i64, message: &str) -> Self {
        Self {
            code,
            message: message.to_owned(),
        }
    }
}

impl Response {
    /// An answer that only says who answers.
    #[must_use]
    pub const fn new(id: NodeId) -> Self {
        Self {
            id,
            observed: None,
            nodes: None,
            nodes6: None,
            token: None,
            values: Vec::new(),
            item: None,
            samples: None,
        }
    }

    /// The contacts of both families.
    pub fn contacts(&self) -> impl Iterator<Item = &Contact> {
        self.nodes.iter().chain(&self.nodes6).flatten()
    }
}
