//! `ut_metadata`: the info dictionary from peers, in pieces of 16 KiB (BEP 9, "extension message").
//!
//! **Invariant:** what a peer says about pieces and lengths is a number and nothing more; whether it fits the metadata is
//! for its reader to judge.

use bt_bencode::{Node, Options, Profile, decode_prefix};
use bytes::Bytes;

/// The extension's name in the extension handshake.
pub const NAME: &str = "ut_metadata";
/// Bytes of a piece of metadata; the last one may be shorter.
pub const PIECE_BYTES: u32 = 16 * 1024;
/// How many values and keys the dictionary of a message may have. Real ones have six.
const ITEMS_MAX: usize = 64;
/// How long a message may be, in bytes: a piece and a dictionary.
const SIZE_MAX_BYTES: usize = PIECE_BYTES as usize + 1024;

const REQUEST: u64 = 0;
const DATA: u64 = 1;
const REJECT: u64 = 2;

/// The payload of a message: a bencoded dictionary with `msg_type` and `piece`; behind that of `data` come its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataMessage {
    /// `msg_type` 0: asks for a piece.
    Request {
        /// From 0.
        piece: u32,
    },
    /// `msg_type` 1: a piece.
    Data {
        /// From 0.
        piece: u32,
        /// `total_size`: how long the whole info dictionary is, in bytes. `None` if it is missing, as some clients have it.
        total_bytes: Option<u32>,
        /// The piece.
        data: Bytes,
    },
    /// `msg_type` 2: the sender does not have the piece, or does not want to send it.
    Reject {
        /// From 0.
        piece: u32,
    },
}

/// Why bytes are no message of this extension.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// Not a bencoded dictionary with the numbers that it needs.
    #[error("ut_metadata: {0}")]
    Bencode(#[from] bt_bencode::Error),
    /// A piece's number that no metadata has.
    #[error("ut_metadata: piece {piece}")]
    Piece {
        /// What was sent.
        piece: u64,
    },
    /// Bytes behind a request or reject.
    #[error("ut_metadata: {count} bytes behind the message")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
}

impl MetadataMessage {
    /// Reads the payload, without the byte of the extended message's id. `None` for a `msg_type` that is not known, which
    /// is to be ignored.
    ///
    /// # Errors
    /// [`MetadataError`] if it is no such message.
    pub fn decode(payload: &Bytes) -> Result<Option<Self>, MetadataError> {
        let options = Options {
            profile: Profile::Lenient,
            items_max: ITEMS_MAX,
            size_max_bytes: SIZE_MAX_BYTES,
        };
        let (document, rest) = decode_prefix(payload, &options)?;
        let dict = document.root().dict()?;
        let kind = dict.require("msg_type")?.uint()?;
        if kind > REJECT {
            return Ok(None);
        }
        let piece = dict.require("piece")?.uint()?;
        let piece = u32::try_from(piece).map_err(|_| MetadataError::Piece { piece })?;
        if kind == DATA {
            let total = dict.get("total_size").and_then(|total| total.uint().ok());
            let data = payload.slice(payload.len() - rest.len()..);
            let total_bytes = total.map(|total| u32::try_from(total).unwrap_or(u32::MAX));
            return Ok(Some(Self::Data {
                piece,
                total_bytes,
                data,
            }));
        }
        if !rest.is_empty() {
            let count = rest.len();
            return Err(MetadataError::TrailingBytes { count });
        }
        Ok(Some(if kind == REQUEST {
            Self::Request { piece }
        } else {
            Self::Reject { piece }
        }))
    }

    /// The payload to send, behind the byte of the id that the receiver gave to the extension.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (kind, piece, total, data) = match self {
            Self::Request { piece } => (REQUEST, piece, None, None),
            Self::Data {
                piece,
                total_bytes,
                data,
            } => (DATA, piece, *total_bytes, Some(data)),
            Self::Reject { piece } => (REJECT, piece, None, None),
        };
        let mut entries = vec![
            ("msg_type", Node::from(kind)),
            ("piece", Node::from(*piece)),
        ];
        entries.extend(total.map(|total| ("total_size", Node::from(total))));
        let mut payload = Node::dict(entries).encode();
        payload.extend_from_slice(data.map_or(&[], |data| data.as_ref()));
        payload.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MetadataMessage::{Data, Reject, Request};

    fn data(piece: u32, total_bytes: Option<u32>, data: &'static [u8]) -> MetadataMessage {
        Data {
            piece,
            total_bytes,
            data: Bytes::from_static(data),
        }
    }

    #[test]
    fn messages_as_bep_9_writes_them() {
        // (bytes, message); the first three are the BEP's examples, but for the length of the data.
        let rows: [(&[u8], MetadataMessage); 3] = [
            (b"d8:msg_typei0e5:piecei0ee", Request { piece: 0 }),
            (
                b"d8:msg_typei1e5:piecei0e10:total_sizei34256eexxxxxxxx",
                data(0, Some(34256), b"xxxxxxxx"),
            ),
            (b"d8:msg_typei2e5:piecei0ee", Reject { piece: 0 }),
        ];
        for (bytes, message) in rows {
            assert_eq!(message.encode(), bytes);
            let decoded = MetadataMessage::decode(&Bytes::from_static(bytes));
            assert_eq!(decoded, Ok(Some(message)));
        }
    }

    #[test]
    fn what_clients_send_besides() {
        let rows: [(&[u8], Option<MetadataMessage>); 6] = [
            // No `total_size`, an absurd one, unsorted keys, unknown keys.
            (b"d8:msg_typei1e5:piecei7eeab", Some(data(7, None, b"ab"))),
            (
                b"d8:msg_typei1e5:piecei7e10:total_sizei99999999999eeab",
                Some(data(7, Some(u32::MAX), b"ab")),
            ),
            (
                b"d8:msg_typei1e5:piecei7e10:total_sizei-1ee",
                Some(data(7, None, b"")),
            ),
            (b"d5:piecei3e8:msg_typei0ee", Some(Request { piece: 3 })),
            (b"d8:msg_typei2e5:piecei3e1:xlee", Some(Reject { piece: 3 })),
            // BEP 9: "unrecognized message IDs MUST be ignored".
            (b"d8:msg_typei3e5:piecei3eeab", None),
        ];
        for (bytes, expected) in rows {
            let decoded = MetadataMessage::decode(&Bytes::from_static(bytes));
            assert_eq!(decoded, Ok(expected), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_message() {
        let rows: [&[u8]; 8] = [
            b"",
            b"le",
            b"de",
            b"d8:msg_typei0ee",
            b"d8:msg_typei0e5:piecei-1ee",
            b"d8:msg_typei0e5:piecei4294967296ee",
            b"d8:msg_typei0e5:piecei1eex",
            b"d8:msg_type1:05:piecei1ee",
        ];
        for bytes in rows {
            let decoded = MetadataMessage::decode(&Bytes::from_static(bytes));
            assert!(decoded.is_err(), "{}: {decoded:?}", bytes.escape_ascii());
        }
        let long = [b"d8:msg_typei1e5:piecei0ee".to_vec(), vec![0; 17 * 1024]].concat();
        assert!(MetadataMessage::decode(&long.into()).is_err());
        let deep = [vec![b'l'; 100_000], vec![b'e'; 100_000]].concat();
        assert!(MetadataMessage::decode(&deep.into()).is_err());
    }
}
