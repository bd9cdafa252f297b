//! `ut_pex`: peers tell each other whom they are connected to (BEP 11).
//!
//! **Invariant:** what is read is bounded: the first [`ADDED_MAX`] addresses of each kind, whatever was sent.

use bt_bencode::{Node, Options, Profile, decode};
use bt_core::addr::{decode_compact_v4, decode_compact_v6, encode_compact, is_dialable};
use std::net::SocketAddr;

/// The extension's name in the extension handshake.
pub const NAME: &str = "ut_pex";
/// How many added peers of both families are read, and dropped ones as many (BEP 11: "no more than 50 added peers" a
/// message; the first one may have more). libtorrent's `max_pex_peers`.
pub const ADDED_MAX: usize = 100;
/// The longest message that is read, in bytes: `added`, `added6`, their flags and `dropped` of several hundred peers.
const SIZE_MAX_BYTES: usize = 64 * 1024;
/// How many values and keys a message may have. Real ones have six.
const ITEMS_MAX: usize = 64;

/// `added.f`, bit 0x01: it prefers encrypted connections.
pub const PREFERS_ENCRYPTION: u8 = 0x01;
/// `added.f`, bit 0x02: it is a seed or uploads only.
pub const SEED: u8 = 0x02;
/// `added.f`, bit 0x04: it speaks uTP.
pub const UTP: u8 = 0x04;
/// `added.f`, bit 0x08: it speaks the holepunch extension.
pub const HOLEPUNCH: u8 = 0x08;
/// `added.f`, bit 0x10: the sender could dial it, so it is reachable.
pub const REACHABLE: u8 = 0x10;

/// A peer that another one knows, and what it says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PexPeer {
    /// Where it listens.
    pub addr: SocketAddr,
    /// The bits above; others are kept as they are.
    pub flags: u8,
}

/// The payload of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PexMessage {
    /// Peers to which the sender connected since its last message. The IPv4 ones come first.
    pub added: Vec<PexPeer>,
    /// Peers from which it disconnected. The IPv4 ones come first.
    pub dropped: Vec<SocketAddr>,
}

/// Why bytes are no message of this extension.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ut_pex: {0}")]
pub struct PexError(#[from] pub bt_bencode::Error);

impl PexMessage {
    /// Reads the payload, without the byte of the extended message's id. Addresses that cannot be dialled are left out,
    /// and so are bytes behind the last whole one.
    ///
    /// # Errors
    /// [`PexError`] if it is no bencoded dictionary.
    pub fn decode(payload: &[u8]) -> Result<Self, PexError> {
        let options = Options {
            profile: Profile::Lenient,
            items_max: ITEMS_MAX,
            size_max_bytes: SIZE_MAX_BYTES,
        };
        let document = decode(payload, &options)?;
        let dict = document.root().dict()?;
        let bytes = |key: &str| dict.get(key).and_then(|value| value.as_bytes());
        let bytes = |key: &str| bytes(key).unwrap_or_default();
        let flags = |key: &str, place: usize| bytes(key).get(place).copied().unwrap_or(0);
        let v4 = decode_compact_v4(bytes("added")).enumerate();
        let v4 = v4.map(|(place, addr)| (addr, flags("added.f", place)));
        let v6 = decode_compact_v6(bytes("added6")).enumerate();
        let v6 = v6.map(|(place, addr)| (addr, flags("added6.f", place)));
        let added = v4.take(ADDED_MAX).chain(v6.take(ADDED_MAX));
        let dropped = decode_compact_v4(bytes("dropped"))
            .take(ADDED_MAX)
            .chain(decode_compact_v6(bytes("dropped6")).take(ADDED_MAX));
        Ok(Self {
            added: added
                .filter(|(addr, _)| is_dialable(*addr))
                .map(|(addr, flags)| PexPeer { addr, flags })
                .collect(),
            dropped: dropped.filter(|addr| is_dialable(*addr)).collect(),
        })
    }

    /// The payload to send, behind the byte of the id that the receiver gave to the extension.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let compact = |is_v4: bool, addrs: &mut dyn Iterator<Item = SocketAddr>| {
            let mut out = Vec::new();
            for addr in addrs.filter(|addr| addr.is_ipv4() == is_v4) {
                encode_compact(addr, &mut out);
            }
            out
        };
        let added = |is_v4| compact(is_v4, &mut self.added.iter().map(|peer| peer.addr));
        let dropped = |is_v4| compact(is_v4, &mut self.dropped.iter().copied());
        let flags = |is_v4: bool| {
            let of_family = self.added.iter();
            let of_family = of_family.filter(|peer| peer.addr.is_ipv4() == is_v4);
            of_family.map(|peer| peer.flags).collect::<Vec<u8>>()
        };
        Node::dict([
            ("added", Node::from(added(true).as_slice())),
            ("added.f", Node::from(flags(true).as_slice())),
            ("added6", Node::from(added(false).as_slice())),
            ("added6.f", Node::from(flags(false).as_slice())),
            ("dropped", Node::from(dropped(true).as_slice())),
            ("dropped6", Node::from(dropped(false).as_slice())),
        ])
        .encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(addr: &str, flags: u8) -> PexPeer {
        PexPeer {
            addr: addr.parse().unwrap(),
            flags,
        }
    }

    #[test]
    fn both_families_with_flags_and_the_dropped() {
        let message = PexMessage {
            added: vec![
                peer("10.0.0.1:6881", SEED | REACHABLE),
                peer("10.0.0.2:1", 0),
                peer("[2001:db8::1]:6881", UTP),
            ],
            dropped: vec![
                "10.0.0.3:7".parse().unwrap(),
                "[2001:db8::2]:8".parse().unwrap(),
            ],
        };
        let bytes = message.encode();
        let start = b"d5:added12:\x0a\0\0\x01\x1a\xe1\x0a\0\0\x02\0\x017:added.f2:\x12\0";
        assert!(bytes.starts_with(start), "{}", bytes.escape_ascii());
        assert_eq!(PexMessage::decode(&bytes), Ok(message));
        let empty = PexMessage::default();
        assert_eq!(PexMessage::decode(&empty.encode()), Ok(empty));
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let rows: [(&[u8], &[PexPeer]); 6] = [
            (b"de", &[]),
            (b"d5:addedi7ee", &[]),
            // FAULTS 59: odd lengths, and flags that are missing.
            (b"d5:added8:\x0a\0\0\x01\0\x01xxe", &[peer("10.0.0.1:1", 0)]),
            // Port 0, multicast, broadcast.
            (b"d5:added6:\x0a\0\0\x01\0\0e", &[]),
            (b"d5:added6:\xe0\0\0\x01\0\x01e", &[]),
            (b"d5:added6:\xff\xff\xff\xff\0\x01e", &[]),
        ];
        for (bytes, added) in rows {
            let decoded = PexMessage::decode(bytes).unwrap();
            assert_eq!(decoded.added, added, "{}", bytes.escape_ascii());
        }
        for bytes in [&b""[..], b"le", b"d5:added9:xe"] {
            assert!(PexMessage::decode(bytes).is_err());
        }
    }

    #[test]
    fn what_is_read_is_bounded() {
        let one = |n: u16| [&[10, 1][..], &n.to_be_bytes(), &[0, 1]].concat();
        let many: Vec<u8> = (0..10_000_u16).flat_map(one).collect();
        let message = |added: &[u8]| Node::dict([("added", Node::from(added))]).encode();
        let some = many.get(..6 * 1_000).unwrap();
        let read = PexMessage::decode(&message(some)).unwrap();
        assert_eq!(read.added.len(), ADDED_MAX);
        // FAULTS 59: a hundred thousand at once is no message at all.
        assert!(PexMessage::decode(&message(&many.repeat(10))).is_err());
    }
}
