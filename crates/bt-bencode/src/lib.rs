//! Bencode (BEP 3, "bencoding"): borrowed values with raw spans, strict and lenient, bounded, and a canonical encoder.
//!
//! | module | owns |
//! |---|---|
//! | [`decode`](mod@decode) | one checking pass over untrusted bytes, under [`Options`] |
//! | [`value`] | [`Value`], [`List`], [`Dict`]: views into the checked bytes |
//! | [`encode`] | [`Node`]: what we write, always canonical |
//! | [`error`] | [`Error`]: kind, byte offset and path |
//!
//! Decoding checks everything once and allocates next to nothing: a [`Value`] is a span of the input and is read in
//! place. So a value's bytes as they stand (for an info hash) are always at hand, and a bomb of tiny items costs no
//! memory. Nothing recurses by input, and nothing has to be freed by depth.
//!
//! Two profiles: [`Options::strict`] takes canonical bencode only; [`Options::lenient`] also takes what the world
//! sends (unsorted or repeated keys, leading zeros, a newline at the end) and notes each such place.
//! Of repeated keys **the first one wins**, in every lookup.
//!
//! # Example
//!
//! ```
//! use bt_bencode::{Node, Options, decode};
//!
//! let reply = b"d8:intervali1800e5:peersld2:ip9:127.0.0.14:porti6881eeee";
//! let document = decode(reply, &Options::strict())?;
//! let dict = document.root().dict()?;
//! assert_eq!(dict.require("interval")?.int()?, 1800);
//!
//! let peer = dict.require("peers")?.list()?.iter().next().expect("one peer").dict()?;
//! assert_eq!(peer.require("ip")?.text()?, "127.0.0.1");
//! let error = peer.require("ip")?.int().expect_err("a string is no integer");
//! assert_eq!(error.path, "peers[0].ip");
//!
//! let encoded = Node::dict([("b", Node::from(2)), ("a", Node::from("one"))]).encode();
//! assert_eq!(encoded, b"d1:a3:one1:bi2ee");
//! # Ok::<(), bt_bencode::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod decode;
pub mod encode;
pub mod error;
mod path;
mod token;
pub mod value;

pub use decode::{Document, Note, NoteKind, Options, Profile, decode, decode_prefix};
pub use encode::{Node, assemble_dict};
pub use error::{Error, ErrorKind};
pub use value::{Dict, Kind, List, Value};

#[cfg(test)]
mod tests;
