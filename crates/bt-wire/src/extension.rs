//! The extension handshake: which extensions a peer speaks, under which ids, and more about it (BEP 10, "handshake
//! message"; `metadata_size`: BEP 9; `upload_only`: BEP 21).
//!
//! **Invariant:** one field that makes no sense spoils only itself. What is left out, unknown or nonsense is absent.

use bt_bencode::{Dict, Node, Options, Profile, Value, decode};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest extension handshake that is read, in bytes: 16 KiB. Real ones are a few hundred bytes.
pub const EXTENSION_HANDSHAKE_BYTES_MAX: usize = 16 * 1024;
/// How many values and keys one may have. Real ones have about forty.
pub const ITEMS_MAX: usize = 1_000;
/// How many extensions of one peer are remembered. Real clients have about ten.
pub const EXTENSIONS_MAX: usize = 64;
/// The longest name of an extension that is remembered, in bytes.
pub const NAME_BYTES_MAX: usize = 32;
/// How much of a client's name is kept, in characters.
pub const CLIENT_CHARS_MAX: usize = 64;
/// The longest info dictionary that a peer may announce, in bytes: 30 MiB, as libtorrent's `max_metadata_size`.
pub const METADATA_BYTES_MAX: u32 = 30 * 1024 * 1024;
/// The most outstanding requests a peer is believed to take: blocks of 1 GiB in flight, more than any line holds.
pub const REQUESTS_MAX: u32 = u16::MAX as u32;

/// The payload of `extended` id 0: a bencoded dictionary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtensionHandshake {
    /// `m`: under which id the sender wants the messages of each extension; 0 turns one off that was on before.
    ///
    /// A later handshake adds to an earlier one.
    pub extensions: BTreeMap<String, u8>,
    /// `v`: the client's name and version, without control characters.
    pub client: Option<String>,
    /// `p`: the TCP port on which the sender listens.
    pub listen_port: Option<u16>,
    /// `reqq`: how many outstanding requests the sender takes, 1..=[`REQUESTS_MAX`].
    pub requests_max: Option<u32>,
    /// `metadata_size`: length of the info dictionary in bytes, 1..=[`METADATA_BYTES_MAX`] (BEP 9).
    pub metadata_bytes: Option<u32>,
    /// `yourip`: the receiver's address as the sender sees it.
    pub your_ip: Option<IpAddr>,
    /// `ipv4`: where else the sender can be reached.
    pub ipv4: Option<Ipv4Addr>,
    /// `ipv6`: where else the sender can be reached.
    pub ipv6: Option<Ipv6Addr>,
    /// `upload_only`: whether the sender wants nothing (BEP 21). A later handshake that leaves it out changes nothing.
    pub upload_only: Option<bool>,
}

/// Why bytes are no extension handshake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("extension handshake: {0}")]
pub struct ExtensionError(#[from] pub bt_bencode::Error);

impl ExtensionHandshake {
    /// Reads the payload, without the byte of the extended message's id.
    ///
    /// # Errors
    /// [`ExtensionError`] if it is no bencoded dictionary, or longer or of more items than any client sends.
    pub fn decode(payload: &[u8]) -> Result<Self, ExtensionError> {
        let options = Options {
            profile: Profile::Lenient,
            items_max: ITEMS_MAX,
            size_max_bytes: EXTENSION_HANDSHAKE_BYTES_MAX,
        };
        let document = decode(payload, &options)?;
        let dict = document.root().dict()?;
        let bytes = |key: &str| dict.get(key).and_then(|value| value.as_bytes());
        let ipv4 = |key: &str| bytes(key).and_then(|ip| <[u8; 4]>::try_from(ip).ok());
        let ipv6 = |key: &str| bytes(key).and_then(|ip| <[u8; 16]>::try_from(ip).ok());
        Ok(Self {
            extensions: dict
                .get("m")
                .and_then(|m| m.as_dict())
                .map(|m| extensions(&m))
                .unwrap_or_default(),
            client: bytes("v").and_then(client),
            listen_port: number(&dict, "p").filter(|port: &u16| *port != 0),
            requests_max: dict
                .get("reqq")
                .and_then(|value| value.uint().ok())
                .filter(|count| *count > 0)
                .map(|count| u32::try_from(count).unwrap_or(u32::MAX).min(REQUESTS_MAX)),
            metadata_bytes: number(&dict, "metadata_size")
                .filter(|length| (1..=METADATA_BYTES_MAX).contains(length)),
            your_ip: ipv4("yourip")
                .map(IpAddr::from)
                .or_else(|| ipv6("yourip").map(IpAddr::from)),
            ipv4: ipv4("ipv4").map(Ipv4Addr::from),
            ipv6: ipv6("ipv6").map(Ipv6Addr::from),
            upload_only: number(&dict, "upload_only").map(|value: u64| value != 0),
        })
    }

    /// The payload to send, behind the byte 0 of the extended message's id.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let extensions = self
            .extensions
            .iter()
            .map(|(name, id)| (name, Node::from(*id)));
        let mut entries = vec![("m", Node::dict(extensions))];
        let mut add = |key, value: Option<Node>| entries.extend(value.map(|value| (key, value)));
        add("v", self.client.clone().map(Node::from));
        add("p", self.listen_port.map(Node::from));
        add("reqq", self.requests_max.map(Node::from));
        add("metadata_size", self.metadata_bytes.map(Node::from));
        add(
            "yourip",
            self.your_ip.map(|ip| match ip {
                IpAddr::V4(ip) => Node::from(&ip.octets()),
                IpAddr::V6(ip) => Node::from(&ip.octets()),
            }),
        );
        add("ipv4", self.ipv4.map(|ip| Node::from(&ip.octets())));
        add("ipv6", self.ipv6.map(|ip| Node::from(&ip.octets())));
        add(
            "upload_only",
            self.upload_only.map(|only| Node::from(u8::from(only))),
        );
        Node::dict(entries).encode()
    }
}

fn number<N: TryFrom<u64>>(dict: &Dict<'_>, key: &str) -> Option<N> {
    let value = dict.get(key)?.uint().ok()?;
    N::try_from(value).ok()
}

/// The first [`EXTENSIONS_MAX`] names that can be meant; of a repeated name, the first id.
fn extensions(m: &Dict<'_>) -> BTreeMap<String, u8> {
    let mut extensions = BTreeMap::new();
    let entry = |(name, id): (&[u8], Value<'_>)| {
        let name = core::str::from_utf8(name).ok()?;
        let id = u8::try_from(id.uint().ok()?).ok()?;
        (name.len() <= NAME_BYTES_MAX).then(|| (name.to_owned(), id))
    };
    for (name, id) in m.iter().filter_map(entry).take(EXTENSIONS_MAX) {
        extensions.entry(name).or_insert(id);
    }
    extensions
}

fn client(name: &[u8]) -> Option<String> {
    let name: String = String::from_utf8_lossy(name)
        .chars()
        .filter(|c| !c.is_control())
        .take(CLIENT_CHARS_MAX)
        .collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests;
