//! Bytes into messages. What cannot be read is an error that says whether the sender is owed an answer.

use super::{
    Body, Contact, ITEMS_MAX, KrpcError, Message, Method, NODES_MAX, PACKET_MAX_BYTES, Query,
    Response, Samples, StoredItem, TOKEN_MAX_BYTES, TRANSACTION_MAX_BYTES, VALUES_MAX, Want, code,
};
use crate::id::NodeId;
use crate::item::{Item, MutableItem, SALT_MAX_BYTES, VALUE_MAX_BYTES};
use bt_bencode::{Dict, Options, Value};
use bt_core::InfoHash;
use bt_core::addr::{
    COMPACT_V4_BYTES, COMPACT_V6_BYTES, canonical, decode_compact_v4, decode_compact_v6,
    is_dialable,
};
use std::net::SocketAddr;

/// Bytes of an error's text that are kept.
const ERROR_TEXT_MAX_BYTES: usize = 200;

/// Why a datagram is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It is no KRPC, or an answer that cannot be read: nobody is told.
    #[error("no KRPC message: {0}")]
    Garbage(String),
    /// A query with something wrong: its sender is told what.
    #[error("a query with an {error}")]
    BadQuery {
        /// Its transaction.
        transaction: Vec<u8>,
        /// What to answer.
        error: KrpcError,
    },
}

impl From<bt_bencode::Error> for DecodeError {
    fn from(error: bt_bencode::Error) -> Self {
        Self::Garbage(error.to_string())
    }
}

/// Reads a datagram.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(packet: &[u8]) -> Result<Message, DecodeError> {
    let options = Options {
        items_max: ITEMS_MAX,
        size_max_bytes: PACKET_MAX_BYTES,
        ..Options::lenient()
    };
    let document = bt_bencode::decode(packet, &options)?;
    let root = document.root().dict()?;
    let transaction = root.require("t")?.bytes()?;
    if transaction.is_empty() || transaction.len() > TRANSACTION_MAX_BYTES {
        let length = transaction.len();
        return Err(DecodeError::Garbage(format!(
            "a transaction id of {length} bytes"
        )));
    }
    let transaction = transaction.to_vec();
    let body = match root.require("y")?.bytes()? {
        b"q" => match query(&root) {
            Ok(query) => Body::Query(query),
            Err(error) => return Err(DecodeError::BadQuery { transaction, error }),
        },
        b"r" => Body::Response(Box::new(response(&root)?)),
        b"e" => Body::Error(error(&root)),
        _ => return Err(DecodeError::Garbage("a `y` that nobody knows".to_owned())),
    };
    Ok(Message { transaction, body })
}

fn protocol(message: &str) -> KrpcError {
    KrpcError::new(code::PROTOCOL, message)
}

fn query(root: &Dict<'_>) -> Result<Query, KrpcError> {
    let name = root.get("q").and_then(|q| q.as_bytes());
    let name = name.ok_or_else(|| protocol("q is missing"))?;
    let arguments = root.get("a").and_then(|a| a.as_dict());
    let arguments = arguments.ok_or_else(|| protocol("a is missing"))?;
    let id = required_id(&arguments, "id")?;
    Ok(Query {
        id,
        method: method(name, &arguments)?,
        want: arguments.get("want").and_then(want),
        read_only: root.get("ro").and_then(|ro| ro.as_int()) == Some(1),
    })
}

fn method(name: &[u8], arguments: &Dict<'_>) -> Result<Method, KrpcError> {
    Ok(match name {
        b"ping" => Method::Ping,
        b"find_node" => Method::FindNode {
            target: required_id(arguments, "target")?,
        },
        b"get_peers" => Method::GetPeers {
            info_hash: required_id(arguments, "info_hash")?.into(),
        },
        b"announce_peer" => {
            let port = arguments.get("port").and_then(|port| port.as_int());
            let implied_port = integer(arguments, "implied_port").is_some_and(|flag| flag != 0);
            let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
            if port == 0 && !implied_port {
                return Err(protocol("port is missing or out of range"));
            }
            Method::AnnouncePeer {
                info_hash: required_id(arguments, "info_hash")?.into(),
                port,
                implied_port,
                token: token(arguments).ok_or_else(|| protocol("token is missing"))?,
            }
        }
        b"get" => Method::Get {
            target: required_id(arguments, "target")?,
            seq: integer(arguments, "seq"),
        },
        b"put" => Method::Put {
            item: item(arguments)?,
            cas: integer(arguments, "cas"),
            token: token(arguments).ok_or_else(|| protocol("token is missing"))?,
        },
        b"sample_infohashes" => Method::SampleInfohashes {
            target: required_id(arguments, "target")?,
        },
        _ => Method::Unknown {
            target: id(arguments, "target").or_else(|| id(arguments, "info_hash")),
        },
    })
}

fn item(arguments: &Dict<'_>) -> Result<Item, KrpcError> {
    let value = arguments.get("v").ok_or_else(|| protocol("v is missing"))?;
    let value = value.raw();
    if value.len() > VALUE_MAX_BYTES {
        return Err(KrpcError::new(code::VALUE_TOO_BIG, "v is too big"));
    }
    let value = value.to_vec();
    if arguments.get("k").is_none() {
        return Ok(Item::Immutable(value));
    }
    let salt = arguments
        .get("salt")
        .map_or(Some([].as_slice()), |salt| salt.as_bytes());
    let salt = salt.ok_or_else(|| protocol("salt is no string"))?;
    if salt.len() > SALT_MAX_BYTES {
        return Err(KrpcError::new(code::SALT_TOO_BIG, "salt is too big"));
    }
    Ok(Item::Mutable(MutableItem {
        key: array(arguments, "k").ok_or_else(|| protocol("k is not 32 bytes"))?,
        salt: salt.to_vec(),
        seq: integer(arguments, "seq").ok_or_else(|| protocol("seq is missing"))?,
        value,
        signature: array(arguments, "sig").ok_or_else(|| protocol("sig is not 64 bytes"))?,
    }))
}

fn want(value: Value<'_>) -> Option<Want> {
    let mut want = Want::default();
    for name in value.as_list()?.iter() {
        match name.as_bytes() {
            Some(b"n4") => want.v4 = true,
            Some(b"n6") => want.v6 = true,
            _ => {}
        }
    }
    // A list of words that nobody knows wants nothing else than no list.
    (want != Want::default()).then_some(want)
}

fn response(root: &Dict<'_>) -> Result<Response, DecodeError> {
    let values = root.require("r")?.dict()?;
    let missing = || DecodeError::Garbage("an answer without an id".to_owned());
    let samples = values.get("samples").and_then(|bytes| bytes.as_bytes());
    Ok(Response {
        id: id(&values, "id").ok_or_else(missing)?,
        observed: root.get("ip").and_then(|ip| peer(ip.as_bytes()?)),
        nodes: contacts(&values, "nodes", decode_contacts_v4),
        nodes6: contacts(&values, "nodes6", decode_contacts_v6),
        token: token(&values),
        values: peers(&values),
        item: stored(&values),
        samples: samples.map(|flat| Samples {
            info_hashes: flat
                .as_chunks::<20>()
                .0
                .iter()
                .copied()
                .map(InfoHash)
                .collect(),
            total: integer(&values, "num").and_then(|n| u64::try_from(n).ok()),
            interval_s: integer(&values, "interval").and_then(|n| u64::try_from(n).ok()),
        }),
    })
}

fn stored(values: &Dict<'_>) -> Option<StoredItem> {
    let item = StoredItem {
        value: values
            .get("v")
            .map(|value| value.raw())
            .filter(|raw| raw.len() <= VALUE_MAX_BYTES)
            .map(<[u8]>::to_vec),
        key: array(values, "k"),
        seq: integer(values, "seq"),
        signature: array(values, "sig"),
    };
    (item != StoredItem::default()).then_some(item)
}

fn peers(values: &Dict<'_>) -> Vec<SocketAddr> {
    let Some(list) = values.get("values").and_then(|values| values.as_list()) else {
        return Vec::new();
    };
    list.iter()
        .take(VALUES_MAX)
        .filter_map(|value| peer(value.as_bytes()?))
        .filter(|addr| is_dialable(*addr))
        .collect()
}

/// A compact address of either family.
fn peer(bytes: &[u8]) -> Option<SocketAddr> {
    match bytes.len() {
        COMPACT_V4_BYTES => decode_compact_v4(bytes).next(),
        COMPACT_V6_BYTES => decode_compact_v6(bytes).next().map(canonical),
        _ => None,
    }
}

fn contacts(values: &Dict<'_>, key: &str, read: fn(&[u8]) -> Vec<Contact>) -> Option<Vec<Contact>> {
    Some(read(values.get(key)?.as_bytes()?))
}

/// The first [`NODES_MAX`] whole records of compact node info (BEP 5) that can be sent to.
pub(crate) fn decode_contacts_v4(bytes: &[u8]) -> Vec<Contact> {
    decode_contacts(bytes, COMPACT_V4_BYTES)
}

/// The same for IPv6 (BEP 32).
pub(crate) fn decode_contacts_v6(bytes: &[u8]) -> Vec<Contact> {
    decode_contacts(bytes, COMPACT_V6_BYTES)
}

fn decode_contacts(bytes: &[u8], compact_bytes: usize) -> Vec<Contact> {
    bytes
        .chunks_exact(20 + compact_bytes)
        .take(NODES_MAX)
        .filter_map(|record| {
            let (id, addr) = record.split_at_checked(20)?;
            let addr = match compact_bytes {
                COMPACT_V4_BYTES => decode_compact_v4(addr).next(),
                _ => decode_compact_v6(addr).next(),
            };
            Some(Contact {
                id: NodeId::from_slice(id)?,
                addr: addr?,
            })
        })
        // A mapped address would be IPv4 in the clothes of IPv6.
        .filter(|contact| is_dialable(contact.addr) && canonical(contact.addr) == contact.addr)
        .collect()
}

fn error(root: &Dict<'_>) -> KrpcError {
    let list = root.get("e").and_then(|e| e.as_list());
    let mut parts = list.iter().flat_map(bt_bencode::List::iter);
    let number = parts.next().and_then(|part| part.as_int());
    let text = parts
        .next()
        .and_then(|part| part.as_bytes())
        .unwrap_or_default();
    let text = text
        .get(..ERROR_TEXT_MAX_BYTES.min(text.len()))
        .unwrap_or_default();
    KrpcError {
        code: number.unwrap_or(code::GENERIC),
        message: text.escape_ascii().to_string(),
    }
}

fn required_id(dict: &Dict<'_>, key: &str) -> Result<NodeId, KrpcError> {
    id(dict, key).ok_or_else(|| protocol(&format!("{key} is not 20 bytes")))
}

fn id(dict: &Dict<'_>, key: &str) -> Option<NodeId> {
    array(dict, key).map(NodeId)
}

fn array<const N: usize>(dict: &Dict<'_>, key: &str) -> Option<[u8; N]> {
    dict.get(key)?.as_bytes()?.try_into().ok()
}

fn integer(dict: &Dict<'_>, key: &str) -> Option<i64> {
    dict.get(key)?.as_int()
}

fn token(dict: &Dict<'_>) -> Option<Vec<u8>> {
    let token = dict.get("token")?.as_bytes()?;
    (token.len() <= TOKEN_MAX_BYTES).then(|| token.to_vec())
}
