//! Messages into bytes.

use super::{Body, Contact, Message, Method, Query, Response, StoredItem};
use bt_bencode::{Node, assemble_dict};
use bt_core::addr::encode_compact;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// `v`: which program this is, in the customary form of two letters and two bytes of version.
const VERSION: &[u8; 4] = b"BT\x00\x01";

/// A dictionary whose values are encoded already: the value of an item goes out byte for byte as it came.
type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

impl Message {
    /// The datagram.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut entries = Entries::new();
        put(&mut entries, "t", self.transaction.as_slice());
        put(&mut entries, "v", VERSION);
        let kind = match &self.body {
            Body::Query(query) => {
                put(&mut entries, "q", query.method.name());
                if query.read_only {
                    put(&mut entries, "ro", 1_u8);
                }
                entries.insert(b"a".to_vec(), assemble_dict(&arguments(query)));
                "q"
            }
            Body::Response(response) => {
                if let Some(observed) = response.observed {
                    put(&mut entries, "ip", compact(observed));
                }
                entries.insert(b"r".to_vec(), assemble_dict(&values(response)));
                "r"
            }
            Body::Error(error) => {
                let list = [Node::from(error.code), Node::from(error.message.as_str())];
                put(&mut entries, "e", Node::list(list));
                "e"
            }
        };
        put(&mut entries, "y", kind);
        assemble_dict(&entries)
    }
}

impl Method {
    /// The name that goes over the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::FindNode { .. } => "find_node",
            Self::GetPeers { .. } => "get_peers",
            Self::AnnouncePeer { .. } => "announce_peer",
            Self::Get { .. } => "get",
            Self::Put { .. } => "put",
            Self::SampleInfohashes { .. } => "sample_infohashes",
            // Never sent: it is what decoding makes of names that nobody knows.
            Self::Unknown { .. } => "unknown",
        }
    }
}

fn put(entries: &mut Entries, key: &str, value: impl Into<Node>) {
    entries.insert(key.as_bytes().to_vec(), value.into().encode());
}

fn arguments(query: &Query) -> Entries {
    let mut entries = Entries::new();
    put(&mut entries, "id", &query.id.0);
    if let Some(want) = query.want {
        let names = [(want.v4, "n4"), (want.v6, "n6")];
        let names = names.into_iter().filter(|(is, _)| *is);
        put(
            &mut entries,
            "want",
            Node::list(names.map(|(_, name)| name)),
        );
    }
    match &query.method {
        Method::Ping | Method::Unknown { target: None } => {}
        Method::FindNode { target }
        | Method::SampleInfohashes { target }
        | Method::Unknown {
            target: Some(target),
        } => put(&mut entries, "target", &target.0),
        Method::GetPeers { info_hash } => put(&mut entries, "info_hash", &info_hash.0),
        Method::AnnouncePeer {
            info_hash,
            port,
            implied_port,
            token,
        } => {
            put(&mut entries, "info_hash", &info_hash.0);
            put(&mut entries, "port", *port);
            put(&mut entries, "implied_port", *implied_port);
            put(&mut entries, "token", token.as_slice());
        }
        Method::Get { target, seq } => {
            put(&mut entries, "target", &target.0);
            if let Some(seq) = seq {
                put(&mut entries, "seq", *seq);
            }
        }
        Method::Put { item, cas, token } => {
            put(&mut entries, "token", token.as_slice());
            entries.insert(b"v".to_vec(), item.value().to_vec());
            if let Some(cas) = cas {
                put(&mut entries, "cas", *cas);
            }
            if let Some(signed) = item.as_mutable() {
                put(&mut entries, "k", &signed.key);
                put(&mut entries, "seq", signed.seq);
                put(&mut entries, "sig", &signed.signature);
                if !signed.salt.is_empty() {
                    put(&mut entries, "salt", signed.salt.as_slice());
                }
            }
        }
    }
    entries
}

fn values(response: &Response) -> Entries {
    let mut entries = Entries::new();
    put(&mut entries, "id", &response.id.0);
    for (key, nodes) in [("nodes", &response.nodes), ("nodes6", &response.nodes6)] {
        if let Some(nodes) = nodes {
            put(&mut entries, key, encode_contacts(nodes));
        }
    }
    if let Some(token) = &response.token {
        put(&mut entries, "token", token.as_slice());
    }
    if !response.values.is_empty() {
        let peers = response.values.iter().map(|peer| compact(*peer));
        put(&mut entries, "values", Node::list(peers));
    }
    if let Some(item) = &response.item {
        stored(&mut entries, item);
    }
    if let Some(samples) = &response.samples {
        let flat: Vec<u8> = samples.info_hashes.iter().flat_map(|hash| hash.0).collect();
        put(&mut entries, "samples", flat);
        if let Some(total) = samples.total {
            put(&mut entries, "num", total);
        }
        if let Some(interval) = samples.interval_s {
            put(&mut entries, "interval", interval);
        }
    }
    entries
}

fn stored(entries: &mut Entries, item: &StoredItem) {
    if let Some(value) = &item.value {
        entries.insert(b"v".to_vec(), value.clone());
    }
    if let Some(key) = &item.key {
        put(entries, "k", key);
    }
    if let Some(seq) = item.seq {
        put(entries, "seq", seq);
    }
    if let Some(signature) = &item.signature {
        put(entries, "sig", signature);
    }
}

/// Compact node info, one after the other: `20 bytes id · compact address`.
pub(crate) fn encode_contacts(contacts: &[Contact]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(contacts.len() * 38);
    for contact in contacts {
        bytes.extend_from_slice(&contact.id.0);
        encode_compact(contact.addr, &mut bytes);
    }
    bytes
}

fn compact(addr: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(18);
    encode_compact(addr, &mut bytes);
    bytes
}
