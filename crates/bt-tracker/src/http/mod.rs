//! How HTTP carries announces and scrapes, both ways: URLs and query strings there, bencoded replies back.
//!
//! | module | owns | side |
//! |---|---|---|
//! | [`url`] | request → URL; announce URL → scrape URL | client |
//! | [`path`] | path → what is asked for, and the key in it | tracker |
//! | [`query`] | query string → request, or what is wrong with it | tracker |
//! | [`encode`] | answer → reply | tracker |
//! | [`decode`] | reply → answer, whatever a stranger sends | client |
//!
//! BEP 3 ("trackers"), BEP 7 (`peers6`), BEP 23 (compact peers), BEP 24 (`external ip`), BEP 31 (`retry in`), BEP 48 (scrape).
//!
//! # Example
//!
//! ```
//! use bt_core::{InfoHash, PeerId};
//! use bt_tracker::announce::AnnounceRequest;
//! use bt_tracker::http::{decode, query, url};
//!
//! let request = AnnounceRequest::new(InfoHash([0xab; 20]), PeerId(*b"-BT0001-abcdefghijkl"), 6881, 1_000);
//! let url = url::announce("http://tracker.example/announce?passkey=1", &request);
//! assert!(url.starts_with("http://tracker.example/announce?passkey=1&info_hash=%AB%AB"));
//! let (_, sent) = url.split_once('?').ok_or("no query")?;
//! assert_eq!(query::announce(sent.as_bytes())?.left, 1_000);
//!
//! let answer = decode::announce(b"d8:intervali1800e5:peers6:\x0a\0\0\x01\x1a\xe1e")?;
//! assert_eq!(answer.peers.first().map(|peer| peer.addr), Some("10.0.0.1:6881".parse()?));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod decode;
pub mod encode;
pub mod path;
pub mod query;
pub mod url;

#[cfg(test)]
mod tests;

/// Longest reply that is read, in bytes. The largest honest ones, a thousand peers as dictionaries, need 100 kB.
pub const REPLY_MAX_BYTES: usize = 1024 * 1024;

/// Longest tracker id that is kept, in bytes. It travels in each request URL.
pub const TRACKER_ID_MAX_BYTES: usize = 512;
