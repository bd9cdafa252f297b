//! What a node takes from one run to the next: its id and the nodes it knew (BEP 5: "saved between invocations").
//!
//! A bencoded dictionary: `id`, the UDP `port` that it was used on, and compact node info in `nodes` and `nodes6`. Whoever changes the file can make us ask
//! wrong places, no more: nodes of a file are only places to begin at.

use crate::id::NodeId;
use crate::krpc::Contact;
use bt_bencode::{Node, Options};
use bt_core::addr::{decode_compact_v4, decode_compact_v6, encode_compact, is_dialable};
use std::net::SocketAddr;

/// Nodes of a file that are read: more than a routing table holds.
const NODES_MAX: usize = 500;

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The node's id.
    pub id: NodeId,
    /// The port of its socket. A node on another port is another node, and must not have the same id; 0 if not known.
    pub port: u16,
    /// The nodes it knew, nearest first.
    pub nodes: Vec<Contact>,
}

impl State {
    /// The bytes of a file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let flat = |ipv6: bool| {
            let mut bytes = Vec::new();
            for contact in self.nodes.iter().filter(|node| node.addr.is_ipv6() == ipv6) {
                bytes.extend_from_slice(&contact.id.0);
                encode_compact(contact.addr, &mut bytes);
            }
            Node::from(bytes)
        };
        Node::dict([
            ("id", Node::from(&self.id.0)),
            ("nodes", flat(false)),
            ("nodes6", flat(true)),
            ("port", Node::from(self.port)),
        ])
        .encode()
    }

    /// Reads a file. `None` if it is none of ours: the next run then begins as if it were the first.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let document = bt_bencode::decode(bytes, &Options::strict()).ok()?;
        let dict = document.root().as_dict()?;
        let records = |key, length| {
            let bytes = dict.get(key).and_then(|value| value.as_bytes());
            bytes.unwrap_or_default().chunks_exact(length)
        };
        let nodes = records("nodes", 26).chain(records("nodes6", 38));
        let nodes = nodes.filter_map(|record| {
            let (id, addr) = record.split_at_checked(20)?;
            let addr: SocketAddr = match addr.len() {
                6 => decode_compact_v4(addr).next()?,
                _ => decode_compact_v6(addr).next()?,
            };
            let id = NodeId::from_slice(id)?;
            is_dialable(addr).then_some(Contact { id, addr })
        });
        let port = dict
            .get("port")
            .and_then(|port| u16::try_from(port.as_int()?).ok());
        Some(Self {
            id: NodeId::from_slice(dict.get("id")?.as_bytes()?)?,
            port: port.unwrap_or(0),
            nodes: nodes.take(NODES_MAX).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_137_a_torn_file_is_no_state_and_poison_is_left_out() {
        let contact = |text: &str, byte| Contact {
            id: NodeId([byte; 20]),
            addr: text.parse().unwrap(),
        };
        let good = [contact("1.2.3.4:5", 1), contact("[2001:db8::1]:6", 2)];
        let state = State {
            id: NodeId([9; 20]),
            port: 6881,
            nodes: good.to_vec(),
        };
        let bytes = state.encode();
        assert_eq!(State::decode(&bytes), Some(state.clone()));
        for cut in 0..bytes.len() {
            assert_eq!(State::decode(&bytes[..cut]), None, "{cut}");
        }
        let mut poisoned = state.clone();
        let poison = ["0.0.0.0:1", "224.0.0.1:1", "1.2.3.4:0"].map(|text| contact(text, 3));
        poisoned.nodes.extend(poison);
        assert_eq!(State::decode(&poisoned.encode()), Some(state));
    }
}
