//! How UDP carries announces and scrapes, both ways: the packets of BEP 15 and the options of BEP 41.
//!
//! | module | owns | client | tracker |
//! |---|---|---|---|
//! | [`request`] | connect, announce, scrape | writes | reads |
//! | [`response`] | their answers, and errors | reads | writes |
//! | [`options`] | what stands behind an announce (BEP 41) | writes | reads |
//!
//! A client connects first, and is given a [`ConnectionId`], which proves in its later requests that it receives what is
//! sent to its address. Each answer repeats the [`TransactionId`] of its question. All integers are big-endian, and a
//! packet may be longer than what is described here.
//!
//! # Example
//!
//! ```
//! use bt_core::{InfoHash, PeerId};
//! use bt_tracker::announce::AnnounceRequest;
//! use bt_tracker::udp::{ConnectionId, Family, TransactionId, request, response};
//!
//! let asked = AnnounceRequest::new(InfoHash([7; 20]), PeerId(*b"-BT0001-abcdefghijkl"), 6881, 1_000);
//! let mut packet = Vec::new();
//! request::announce(ConnectionId(5), TransactionId(9), &asked, "/announce", &mut packet);
//!
//! // The packet travels; at the other end is the tracker.
//! let request::Request::Announce { announce, url_data, .. } = request::read(&packet)? else { panic!() };
//! assert_eq!((announce, url_data.to_vec()), (asked, b"/announce".to_vec()));
//!
//! // And back.
//! let mut reply = Vec::new();
//! let numbers = response::AnnounceHead { interval_secs: 1_800, leechers: 1, seeders: 0 };
//! response::announce(TransactionId(9), numbers, &mut reply);
//! bt_core::addr::encode_compact("10.0.0.1:6881".parse()?, &mut reply);
//! let answer = response::read(&reply, Family::V4)?;
//! assert_eq!(answer.transaction_id, TransactionId(9));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod options;
mod reader;
pub mod request;
pub mod response;

#[cfg(test)]
mod tests;

use bt_core::addr::{COMPACT_V4_BYTES, COMPACT_V6_BYTES};
use std::net::IpAddr;

/// What a connect request begins with, in the place of a connection id.
pub const PROTOCOL_ID: u64 = 0x0417_2710_1980;

/// Most torrents of one scrape ("up to about 74").
pub const SCRAPE_MAX: usize = 74;

/// Longest packet that is worth receiving, in bytes: more than a frame of Ethernet holds, and more than a scrape of
/// [`SCRAPE_MAX`] or an announce with a long URL needs.
pub const PACKET_MAX_BYTES: usize = 2_048;

/// Shortest request, in bytes: a connect.
pub const REQUEST_MIN_BYTES: usize = 16;

/// The payload of a frame of Ethernet behind the heads of IPv6 and UDP, in bytes; IPv4 leaves 20 more.
const PAYLOAD_MAX_BYTES: usize = 1_500 - 40 - 8;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// Proves that a client receives what is sent to its address. Valid for a minute or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Tells which question an answer belongs to. A client chooses it at random, so that nobody can answer in the dark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub u32);

/// The family of the addresses that a packet travels between; it decides how peers are written (BEP 15, "IPv6").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Peers of 6 bytes.
    V4,
    /// Peers of 18 bytes.
    V6,
}

impl Family {
    /// The family of an address; an IPv4-mapped IPv6 address is IPv4, as that is what travels.
    #[must_use]
    pub const fn of(ip: IpAddr) -> Self {
        if ip.to_canonical().is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    /// Bytes of a peer in an answer.
    #[must_use]
    pub const fn peer_bytes(self) -> usize {
        match self {
            Self::V4 => COMPACT_V4_BYTES,
            Self::V6 => COMPACT_V6_BYTES,
        }
    }

    /// Most peers of an answer that fits a frame of Ethernet: what is cut into fragments is often lost.
    #[must_use]
    pub const fn peers_max(self) -> usize {
        (PAYLOAD_MAX_BYTES - response::ANNOUNCE_HEAD_BYTES) / self.peer_bytes()
    }
}
