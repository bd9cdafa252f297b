//! The answers of BEP 15: written by a tracker, read by a client that trusts none of them.
//!
//! **Invariant:** what is read is bounded and sane whatever was sent: intervals clamped, texts escaped and cut, peers
//! dialable and without duplicates.

use super::reader::Reader;
use super::{
    ANNOUNCE, CONNECT, ConnectionId, ERROR, Family, PACKET_MAX_BYTES, SCRAPE, SCRAPE_MAX,
    TransactionId,
};
use crate::announce::{AnnounceResponse, Peer, clamp_interval};
use crate::scrape::ScrapeEntry;
use crate::text::clean;
use bt_core::addr::{canonical, decode_compact_v4, decode_compact_v6, is_dialable};
use core::time::Duration;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Bytes of the answer to a connect.
pub const CONNECT_BYTES: usize = 16;

/// Bytes of the answer to an announce before its peers.
pub const ANNOUNCE_HEAD_BYTES: usize = 20;

/// An answer, as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Must be that of the question, else it is somebody else's.
    pub transaction_id: TransactionId,
    /// What it says.
    pub body: Body,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// `u32 0 · u32 transaction id · u64 connection id`.
    Connect {
        /// To be used in further requests for a minute.
        connection_id: ConnectionId,
    },
    /// `u32 1 · u32 transaction id · u32 interval · u32 leechers · u32 seeders · 6 or 18 bytes a peer …`.
    Announce(AnnounceResponse),
    /// `u32 2 · u32 transaction id · (u32 seeders · u32 completed · u32 leechers) …`, in the order of the question.
    Scrape(Vec<ScrapeEntry>),
    /// `u32 3 · u32 transaction id · message`, in words for the user, escaped and cut.
    Error(String),
}

/// Why a packet is no answer of a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// Shorter than its action needs.
    #[error("{length_bytes} bytes are too few for the answer of a UDP tracker")]
    Short {
        /// How long it is.
        length_bytes: usize,
    },
    /// An action that BEP 15 does not have.
    #[error("a UDP tracker answered with action {action}, which there is not")]
    Action {
        /// Which.
        action: u32,
    },
}

/// The answer in a packet that came over `family`. What is behind [`PACKET_MAX_BYTES`] is not looked at.
///
/// # Errors
/// [`ResponseError`] if it is none.
pub fn read(packet: &[u8], family: Family) -> Result<Response, ResponseError> {
    let packet = packet.get(..PACKET_MAX_BYTES).unwrap_or(packet);
    let short = ResponseError::Short {
        length_bytes: packet.len(),
    };
    let mut reader = Reader(packet);
    let (Some(action), Some(transaction_id)) = (reader.u32(), reader.u32()) else {
        return Err(short);
    };
    let body = match action {
        CONNECT => Body::Connect {
            connection_id: ConnectionId(reader.u64().ok_or(short)?),
        },
        ANNOUNCE => Body::Announce(announced(reader, family).ok_or(short)?),
        SCRAPE => Body::Scrape(scraped(reader)),
        ERROR => Body::Error(clean(reader.rest())),
        _ => return Err(ResponseError::Action { action }),
    };
    Ok(Response {
        transaction_id: TransactionId(transaction_id),
        body,
    })
}

/// Appends the answer to a connect.
pub fn connect(transaction_id: TransactionId, connection_id: ConnectionId, out: &mut Vec<u8>) {
    head(CONNECT, transaction_id, out);
    out.extend_from_slice(&connection_id.0.to_be_bytes());
}

/// The numbers that an answer to an announce begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnounceHead {
    /// Seconds until the next announce.
    pub interval_secs: u32,
    /// Peers that lack something.
    pub leechers: u32,
    /// Peers that have everything.
    pub seeders: u32,
}

/// Appends the answer to an announce up to its peers. They follow in compact form, all of the family of the question and
/// no more than [`Family::peers_max`].
pub fn announce(transaction_id: TransactionId, numbers: AnnounceHead, out: &mut Vec<u8>) {
    head(ANNOUNCE, transaction_id, out);
    for number in [numbers.interval_secs, numbers.leechers, numbers.seeders] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// Appends the answer to a scrape, with an entry for each torrent of the question.
pub fn scrape(
    transaction_id: TransactionId,
    entries: impl IntoIterator<Item = ScrapeEntry>,
    out: &mut Vec<u8>,
) {
    head(SCRAPE, transaction_id, out);
    for entry in entries {
        let mut bytes = [[0; 4]; 3];
        let numbers = [entry.complete, entry.downloaded, entry.incomplete];
        for (to, number) in bytes.iter_mut().zip(numbers) {
            *to = number.to_be_bytes();
        }
        out.extend_from_slice(bytes.as_flattened());
    }
}

/// Appends an error.
pub fn error(transaction_id: TransactionId, message: &str, out: &mut Vec<u8>) {
    head(ERROR, transaction_id, out);
    out.extend_from_slice(message.as_bytes());
}

fn head(action: u32, transaction_id: TransactionId, out: &mut Vec<u8>) {
    out.extend_from_slice(&action.to_be_bytes());
    out.extend_from_slice(&transaction_id.0.to_be_bytes());
}

fn announced(mut reader: Reader<'_>, family: Family) -> Option<AnnounceResponse> {
    let interval = Duration::from_secs(reader.u32()?.into());
    let (leechers, seeders) = (reader.u32()?, reader.u32()?);
    let mut seen = BTreeSet::new();
    let mut peers = Vec::new();
    let mut take = |addr: SocketAddr| {
        let addr = canonical(addr);
        if is_dialable(addr) && seen.insert(addr) {
            peers.push(Peer {
                addr,
                peer_id: None,
            });
        }
    };
    match family {
        Family::V4 => decode_compact_v4(reader.rest()).for_each(&mut take),
        Family::V6 => decode_compact_v6(reader.rest()).for_each(&mut take),
    }
    Some(AnnounceResponse {
        interval: clamp_interval(interval),
        complete: Some(seeders),
        incomplete: Some(leechers),
        peers,
        ..AnnounceResponse::default()
    })
}

fn scraped(mut reader: Reader<'_>) -> Vec<ScrapeEntry> {
    let entry = || {
        Some(ScrapeEntry {
            complete: reader.u32()?,
            downloaded: reader.u32()?,
            incomplete: reader.u32()?,
            downloaders: None,
        })
    };
    core::iter::from_fn(entry).take(SCRAPE_MAX).collect()
}
