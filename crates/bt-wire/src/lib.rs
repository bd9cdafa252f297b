//! The peer wire protocol of BitTorrent as a pure codec.
//!
//! Bytes in any split go into a [`Decoder`]; checked [`Message`]s come out. Nothing is allocated by what a peer claims.
#![forbid(unsafe_code)]

pub mod handshake;
pub mod message;

pub use handshake::{Handshake, Reserved};
pub use message::Message;
