//! The requests of BEP 15: written by a client, read by a tracker.
//!
//! Reading allocates nothing. What is wrong with a request is told apart from whose it is, so that a tracker can prove the
//! connection id before it says a word about the rest.

use super::options::{self, UrlData};
use super::reader::Reader;
use super::{ANNOUNCE, CONNECT, ConnectionId, PROTOCOL_ID, SCRAPE, SCRAPE_MAX, TransactionId};
use crate::announce::{AnnounceRequest, Event};
use bt_core::{InfoHash, PeerId};

/// What a client says if it leaves the number of peers to the tracker: -1.
const NUMWANT_DEFAULT: u32 = u32::MAX;

/// A request, as a tracker reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// `u64 protocol id · u32 0 · u32 transaction id`: asks for a connection id.
    Connect {
        /// To be repeated in the answer.
        transaction_id: TransactionId,
    },
    /// `u64 connection id · u32 1 · u32 transaction id · 20 info hash · 20 peer id · u64 downloaded · u64 left ·
    /// u64 uploaded · u32 event · u32 ip · u32 key · u32 numwant · u16 port · options`.
    Announce {
        /// To be proven first.
        connection_id: ConnectionId,
        /// To be repeated in the answer.
        transaction_id: TransactionId,
        /// What is announced. `ip` is never set: it is no proven address, and IPv6 has no room for one.
        announce: AnnounceRequest,
        /// Path and query of the announce URL (BEP 41).
        url_data: UrlData<'a>,
    },
    /// `u64 connection id · u32 2 · u32 transaction id · 20 info hash …`.
    Scrape {
        /// To be proven first.
        connection_id: ConnectionId,
        /// To be repeated in the answer.
        transaction_id: TransactionId,
        /// Which torrents, at least one and at most [`SCRAPE_MAX`].
        info_hashes: InfoHashes<'a>,
    },
}

/// The torrents of a scrape, as they lie in the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InfoHashes<'a>(&'a [[u8; 20]]);

impl InfoHashes<'_> {
    /// The info hashes in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = InfoHash> {
        self.0.iter().map(|bytes| InfoHash(*bytes))
    }
}

/// Why a packet is no request that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Too short, or neither a connect nor anything else: not worth an answer.
    #[error("no request of a UDP tracker")]
    Foreign,
    /// A request, but not one that makes sense.
    #[error("{flaw}")]
    Flawed {
        /// To be proven before an answer is sent.
        connection_id: ConnectionId,
        /// To be repeated in the answer.
        transaction_id: TransactionId,
        /// What is wrong.
        flaw: Flaw,
    },
}

/// What is wrong with a request of somebody who may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// An action that BEP 15 does not have.
    #[error("unknown action")]
    Action,
    /// Shorter than its action needs.
    #[error("the packet is too short")]
    Short,
    /// An event that BEP 15 does not have.
    #[error("unknown event")]
    Event,
    /// A scrape of no torrent.
    #[error("no info hash")]
    NoInfoHash,
    /// A scrape that ends within an info hash.
    #[error("an info hash is cut off")]
    CutInfoHash,
    /// A scrape of more than [`SCRAPE_MAX`] torrents.
    #[error("too many info hashes")]
    TooMany,
}

/// The request in a packet.
///
/// # Errors
/// [`RequestError`], without a word to say to whom the connection id does not prove.
pub fn read(packet: &[u8]) -> Result<Request<'_>, RequestError> {
    let mut reader = Reader(packet);
    let head = (reader.u64(), reader.u32(), reader.u32());
    let (Some(first), Some(action), Some(transaction_id)) = head else {
        return Err(RequestError::Foreign);
    };
    let transaction_id = TransactionId(transaction_id);
    let connection_id = ConnectionId(first);
    let flawed = |flaw| RequestError::Flawed {
        connection_id,
        transaction_id,
        flaw,
    };
    match action {
        CONNECT if first == PROTOCOL_ID => Ok(Request::Connect { transaction_id }),
        CONNECT => Err(RequestError::Foreign),
        ANNOUNCE => {
            let (announce, url_data) = announced(reader).map_err(flawed)?;
            Ok(Request::Announce {
                connection_id,
                transaction_id,
                announce,
                url_data,
            })
        }
        SCRAPE => Ok(Request::Scrape {
            connection_id,
            transaction_id,
            info_hashes: scraped(reader).map_err(flawed)?,
        }),
        _ => Err(flawed(Flaw::Action)),
    }
}

/// Appends a connect request.
pub fn connect(transaction_id: TransactionId, out: &mut Vec<u8>) {
    head(ConnectionId(PROTOCOL_ID), CONNECT, transaction_id, out);
}

/// Appends an announce request, with `url_data`, path and query of the announce URL, behind it (BEP 41).
///
/// BEP 15 has no event for a partial seed (BEP 21); it is sent as a regular announce. `ip` is left at 0, the address that
/// the packet comes from.
pub fn announce(
    connection_id: ConnectionId,
    transaction_id: TransactionId,
    request: &AnnounceRequest,
    url_data: &str,
    out: &mut Vec<u8>,
) {
    head(connection_id, ANNOUNCE, transaction_id, out);
    out.extend_from_slice(request.info_hash.as_bytes());
    out.extend_from_slice(request.peer_id.as_bytes());
    for count in [request.downloaded, request.left, request.uploaded] {
        out.extend_from_slice(&count.to_be_bytes());
    }
    let event: u32 = match request.event {
        Event::Interval | Event::Paused => 0,
        Event::Completed => 1,
        Event::Started => 2,
        Event::Stopped => 3,
    };
    let numwant = request.numwant.unwrap_or(NUMWANT_DEFAULT);
    for number in [event, 0, request.key.unwrap_or(0), numwant] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&request.port.to_be_bytes());
    options::write(url_data, out);
}

/// Appends a scrape request of the first [`SCRAPE_MAX`] of `info_hashes`.
pub fn scrape(
    connection_id: ConnectionId,
    transaction_id: TransactionId,
    info_hashes: &[InfoHash],
    out: &mut Vec<u8>,
) {
    head(connection_id, SCRAPE, transaction_id, out);
    for info_hash in info_hashes.iter().take(SCRAPE_MAX) {
        out.extend_from_slice(info_hash.as_bytes());
    }
}

fn head(first: ConnectionId, action: u32, transaction_id: TransactionId, out: &mut Vec<u8>) {
    out.extend_from_slice(&first.0.to_be_bytes());
    out.extend_from_slice(&action.to_be_bytes());
    out.extend_from_slice(&transaction_id.0.to_be_bytes());
}

fn announced(mut reader: Reader<'_>) -> Result<(AnnounceRequest, UrlData<'_>), Flaw> {
    let mut fields = || {
        let request = AnnounceRequest {
            info_hash: InfoHash(reader.array()?),
            peer_id: PeerId(reader.array()?),
            downloaded: reader.u64()?,
            left: reader.u64()?,
            uploaded: reader.u64()?,
            ..AnnounceRequest::new(InfoHash([0; 20]), PeerId([0; 20]), 0, 0)
        };
        let event = reader.u32()?;
        let _ip = reader.u32()?;
        Some((request, event, reader.u32()?, reader.u32()?, reader.u16()?))
    };
    let (request, event, key, numwant, port) = fields().ok_or(Flaw::Short)?;
    let event = match event {
        0 => Event::Interval,
        1 => Event::Completed,
        2 => Event::Started,
        3 => Event::Stopped,
        _ => return Err(Flaw::Event),
    };
    let request = AnnounceRequest {
        event,
        key: (key != 0).then_some(key),
        numwant: (numwant != NUMWANT_DEFAULT).then_some(numwant),
        port,
        ..request
    };
    Ok((request, UrlData(reader.rest())))
}

fn scraped(reader: Reader<'_>) -> Result<InfoHashes<'_>, Flaw> {
    let (info_hashes, cut) = reader.rest().as_chunks::<20>();
    match (info_hashes.len(), cut) {
        (0, []) => Err(Flaw::NoInfoHash),
        (1..=SCRAPE_MAX, []) => Ok(InfoHashes(info_hashes)),
        (0..=SCRAPE_MAX, _) => Err(Flaw::CutInfoHash),
        _ => Err(Flaw::TooMany),
    }
}
