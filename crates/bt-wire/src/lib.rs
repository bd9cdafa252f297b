//! The peer wire protocol of BitTorrent as a pure codec.
//!
//! Bytes in any split go into a [`Decoder`]; checked [`Message`]s come out. Nothing is allocated by what a peer claims:
//! a length over the torrent's [`Limits`] is refused as soon as its four bytes are there, and the bytes of a block stay
//! in the buffer in which they arrived.
//!
//! | module | owns |
//! |---|---|
//! | [`handshake`] | [`Handshake`], [`Reserved`]: the 68 bytes that open a connection (BEP 3, BEP 4) |
//! | [`message`] | [`Message`]: what may follow, and how it is written (BEP 3, 5, 6, 10) |
//! | [`limits`] | [`Limits`]: how long each message may be |
//! | [`codec`] | [`Decoder`], [`WireError`]: bytes into messages |
//! | [`extension`] | [`ExtensionHandshake`]: which extensions a peer speaks (BEP 10) |
//! | [`metadata`] | [`MetadataMessage`]: the info dictionary from peers (BEP 9) |
//! | [`pex`] | [`PexMessage`]: peers that peers know (BEP 11) |
//! | [`dont_have`] | a piece that is taken back (BEP 54) |
//! | [`lsd`] | [`LocalAnnounce`]: peers on the local network (BEP 14) |
//! | [`fast_set`] | which pieces a choked peer may have (BEP 6) |
//! | [`client`] | the name of the program behind a peer id (BEP 20) |
//!
//! # Example
//!
//! ```
//! use bt_wire::message::BlockAddress;
//! use bt_wire::{Decoder, Limits, Message};
//! use bytes::BytesMut;
//!
//! let mut sent = BytesMut::new();
//! Message::Have { piece: 7 }.encode_into(&mut sent);
//! let block = BlockAddress { piece: 0, begin: 0, length: 16_384 };
//! Message::Request(block).encode_into(&mut sent);
//!
//! // The bytes arrive one by one.
//! let mut decoder = Decoder::new(Limits::for_torrent(100));
//! let (mut buffer, mut received) = (BytesMut::new(), Vec::new());
//! for byte in sent {
//!     buffer.extend_from_slice(&[byte]);
//!     while let Some(message) = decoder.decode(&mut buffer)? {
//!         received.push(message);
//!     }
//! }
//! assert_eq!(received, [Message::Have { piece: 7 }, Message::Request(block)]);
//! # Ok::<(), bt_wire::WireError>(())
//! ```
#![forbid(unsafe_code)]

pub mod client;
pub mod codec;
pub mod dont_have;
pub mod extension;
pub mod fast_set;
pub mod handshake;
pub mod limits;
pub mod lsd;
pub mod message;
pub mod metadata;
pub mod pex;

pub use codec::{Decoder, WireError};
pub use extension::{ExtensionError, ExtensionHandshake};
pub use handshake::{Handshake, HandshakeError, HandshakePrefix, Reserved};
pub use limits::Limits;
pub use lsd::LocalAnnounce;
pub use message::Message;
pub use metadata::MetadataMessage;
pub use pex::{PexMessage, PexPeer};
