//! The handshake that opens every connection (BEP 3, "peer protocol"; reserved bits: BEP 4).
//!
//! **Invariant:** whether bytes can still become a handshake is decided by the first byte that cannot, so that a
//! stranger who speaks something else is closed at once and not at a deadline.

use bt_core::{InfoHash, PeerId};

/// Length of a handshake on the wire, in bytes.
pub const HANDSHAKE_BYTES: usize = 68;

/// Where the peer id begins: from here on the info hash is known, in bytes.
///
/// A listener answers at this point. A tracker that checks whether we can be reached stops here, and waits.
pub const HANDSHAKE_PREFIX_BYTES: usize = 48;

const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

/// `u8 19 · "BitTorrent protocol" · 8 reserved · 20 info hash · 20 peer id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// Which extensions the sender speaks.
    pub reserved: Reserved,
    /// Which torrent it wants.
    pub info_hash: InfoHash,
    /// Who it says it is.
    pub peer_id: PeerId,
}

/// A handshake without its peer id: all that a listener needs for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakePrefix {
    /// Which extensions the sender speaks.
    pub reserved: Reserved,
    /// Which torrent it wants.
    pub info_hash: InfoHash,
}

/// Why bytes are not the beginning of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The first byte is not the length of the protocol's name, or the name is another.
    #[error("not the BitTorrent protocol: byte {offset} of the handshake is {byte:#04x}")]
    Protocol {
        /// Position of the first wrong byte.
        offset: usize,
        /// What stands there.
        byte: u8,
    },
}

impl Handshake {
    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> [u8; HANDSHAKE_BYTES] {
        let mut bytes = [0; HANDSHAKE_BYTES];
        let parts = [
            PROTOCOL.as_slice(),
            &self.reserved.0,
            self.info_hash.as_bytes(),
            self.peer_id.as_bytes(),
        ];
        bytes
            .iter_mut()
            .zip(parts.into_iter().flatten())
            .for_each(|(to, from)| *to = *from);
        bytes
    }

    /// The handshake at the start of `bytes`; `None` if more than these are needed. Messages may follow it.
    ///
    /// # Errors
    /// [`HandshakeError`] as soon as one byte shows that this is none.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, HandshakeError> {
        let prefix = Self::prefix(bytes)?;
        let peer_id = array(bytes, HANDSHAKE_PREFIX_BYTES);
        Ok(prefix.zip(peer_id).map(|(prefix, peer_id)| Self {
            reserved: prefix.reserved,
            info_hash: prefix.info_hash,
            peer_id: PeerId(peer_id),
        }))
    }

    /// The same without the peer id, as soon as [`HANDSHAKE_PREFIX_BYTES`] are there.
    ///
    /// # Errors
    /// [`HandshakeError`] as soon as one byte shows that this is none.
    pub fn prefix(bytes: &[u8]) -> Result<Option<HandshakePrefix>, HandshakeError> {
        let wrong = bytes.iter().zip(PROTOCOL).position(|(is, must)| is != must);
        if let Some((offset, &byte)) = wrong.and_then(|at| Some((at, bytes.get(at)?))) {
            return Err(HandshakeError::Protocol { offset, byte });
        }
        let reserved = array(bytes, PROTOCOL.len()).map(Reserved);
        let info_hash = array(bytes, PROTOCOL.len() + 8).map(InfoHash);
        Ok(reserved
            .zip(info_hash)
            .map(|(reserved, info_hash)| HandshakePrefix {
                reserved,
                info_hash,
            }))
    }
}

fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// The eight reserved bytes; bits are numbered as BEP 4 does it.
///
/// Bits without a name here are carried along and mean nothing: peers set all kinds of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved(pub [u8; 8]);

/// Bit of the last byte: `port` messages (BEP 5).
const DHT: u64 = 0x01;
/// Bit of the last byte: the fast extension (BEP 6).
const FAST: u64 = 0x04;
/// Bit of the sixth byte: the extension protocol (BEP 10).
const EXTENSION_PROTOCOL: u64 = 0x10 << 16;

impl Reserved {
    /// No extension at all.
    pub const NONE: Self = Self([0; 8]);

    /// These bits and the fast extension's (BEP 6).
    #[must_use]
    pub const fn with_fast(self) -> Self {
        self.with(FAST)
    }

    /// These bits and the extension protocol's (BEP 10).
    #[must_use]
    pub const fn with_extension_protocol(self) -> Self {
        self.with(EXTENSION_PROTOCOL)
    }

    /// These bits and the DHT's (BEP 5).
    #[must_use]
    pub const fn with_dht(self) -> Self {
        self.with(DHT)
    }

    /// True if the sender speaks the fast extension (BEP 6). It is in use if both sides do.
    #[must_use]
    pub const fn has_fast(self) -> bool {
        self.has(FAST)
    }

    /// True if the sender speaks the extension protocol (BEP 10).
    #[must_use]
    pub const fn has_extension_protocol(self) -> bool {
        self.has(EXTENSION_PROTOCOL)
    }

    /// True if the sender runs a DHT node and wants a `port` message (BEP 5).
    #[must_use]
    pub const fn has_dht(self) -> bool {
        self.has(DHT)
    }

    const fn with(self, bit: u64) -> Self {
        Self((u64::from_be_bytes(self.0) | bit).to_be_bytes())
    }

    const fn has(self, bit: u64) -> bool {
        u64::from_be_bytes(self.0) & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Handshake {
        Handshake {
            reserved: Reserved::NONE
                .with_fast()
                .with_extension_protocol()
                .with_dht(),
            info_hash: InfoHash(*b"abcdefghijklmnopqrst"),
            peer_id: PeerId(*b"-TR3000-0123456789ab"),
        }
    }

    #[test]
    fn layout_on_the_wire() {
        // BEP 3, "peer protocol"; BEP 4, "reserved bit allocations".
        let expected =
            b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05abcdefghijklmnopqrst-TR3000-0123456789ab";
        assert_eq!(&sample().encode(), expected);
    }

    #[test]
    fn each_part_is_there_as_soon_as_its_bytes_are() {
        let handshake = sample();
        let mut bytes = handshake.encode().to_vec();
        bytes.extend_from_slice(b"the first message");
        for end in 0..bytes.len() {
            let prefix = Handshake::prefix(&bytes[..end]).unwrap();
            let whole = Handshake::parse(&bytes[..end]).unwrap();
            assert_eq!(prefix.is_some(), end >= 48, "{end}");
            assert_eq!(whole.is_some(), end >= 68, "{end}");
            assert!(prefix.is_none_or(|p| p.info_hash == handshake.info_hash));
            assert!(prefix.is_none_or(|p| p.reserved == handshake.reserved));
            assert!(whole.is_none_or(|w| w == handshake));
        }
    }

    #[test]
    fn what_is_no_handshake_is_refused_at_its_first_wrong_byte() {
        // FAULTS 38: garbage, another protocol's name, TLS, HTTP. (bytes, offset of the first wrong one)
        let rows: [(&[u8], usize); 8] = [
            (b"\x00", 0),
            (b"GET /announce HTTP/1.1\r\n\r\n", 0),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 0),
            (b"\x14BitTorrent protocol2", 0),
            (b"\x13bitTorrent protocol", 1),
            (b"\x13BitTorrent-protocol", 11),
            (b"\x13BitTorrent protocoL", 19),
            (&[0xff; 68], 0),
        ];
        for (bytes, offset) in rows {
            let byte = bytes[offset];
            let error = HandshakeError::Protocol { offset, byte };
            assert_eq!(Handshake::prefix(bytes), Err(error));
            assert_eq!(Handshake::parse(bytes), Err(error));
            assert_eq!(
                Handshake::parse(&bytes[..offset]),
                Ok(None),
                "not a byte earlier"
            );
        }
    }

    #[test]
    fn reserved_bits_do_not_disturb_each_other() {
        let none = Reserved::NONE;
        let rows = [
            (none, [false, false, false]),
            (none.with_fast(), [true, false, false]),
            (none.with_extension_protocol(), [false, true, false]),
            (none.with_dht(), [false, false, true]),
            (none.with_dht().with_fast(), [true, false, true]),
            // FAULTS 43: all bits set is a peer like any other.
            (Reserved([0xff; 8]), [true, true, true]),
            (
                Reserved([0xff, 0xff, 0xff, 0xff, 0xff, 0xef, 0xff, 0xfa]),
                [false; 3],
            ),
        ];
        for (reserved, expected) in rows {
            let is = [
                reserved.has_fast(),
                reserved.has_extension_protocol(),
                reserved.has_dht(),
            ];
            assert_eq!(is, expected, "{reserved:?}");
        }
    }
}
