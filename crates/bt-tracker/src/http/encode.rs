//! The replies of a tracker, written straight into a buffer that may be used again.
//!
//! **Invariant:** canonical bencode. The keys stand in the code in the order in which they must be written.

use crate::announce::{AnnounceRequest, AnnounceResponse, Peer};
use crate::scrape::{ScrapeEntry, ScrapeResponse, ScrapedTorrent};
use crate::server::{Numbers, Picked};
use bt_core::InfoHash;
use bt_core::addr::{COMPACT_V4_BYTES, COMPACT_V6_BYTES, encode_compact};
use core::time::Duration;
use std::net::IpAddr;

/// In which form peers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeersForm {
    /// Strings of 6 bytes a peer in `peers` (BEP 23) and 18 bytes in `peers6` (BEP 7).
    Compact,
    /// A list of dictionaries with `ip` and `port`, and `peer id` where it is known.
    Dictionaries,
    /// The same without peer ids.
    DictionariesWithoutIds,
}

impl PeersForm {
    /// The form that a request wants: compact, unless it asks for something else in so many words.
    #[must_use]
    pub const fn wanted_by(request: &AnnounceRequest) -> Self {
        match (request.compact, request.no_peer_id) {
            (None | Some(true), _) => Self::Compact,
            (Some(false), false) => Self::Dictionaries,
            (Some(false), true) => Self::DictionariesWithoutIds,
        }
    }
}

/// Appends the reply to an announce. Peers with a host name only fit the dictionary forms.
pub fn announce(response: &AnnounceResponse, form: PeersForm, out: &mut Vec<u8>) {
    out.push(b'd');
    if let Some(complete) = response.complete {
        integer(out, b"8:complete", u64::from(complete));
    }
    match response.external_ip {
        Some(IpAddr::V4(ip)) => bytes(out, b"11:external ip", &ip.octets()),
        Some(IpAddr::V6(ip)) => bytes(out, b"11:external ip", &ip.octets()),
        None => {}
    }
    if let Some(incomplete) = response.incomplete {
        integer(out, b"10:incomplete", u64::from(incomplete));
    }
    integer(out, b"8:interval", response.interval.as_secs());
    if let Some(min_interval) = response.min_interval {
        integer(out, b"12:min interval", min_interval.as_secs());
    }
    match form {
        PeersForm::Compact => compact_peers(out, &response.peers),
        PeersForm::Dictionaries | PeersForm::DictionariesWithoutIds => {
            dictionary_peers(out, response, form == PeersForm::Dictionaries);
        }
    }
    if let Some(tracker_id) = &response.tracker_id {
        bytes(out, b"10:tracker id", tracker_id);
    }
    if let Some(warning) = &response.warning {
        bytes(out, b"15:warning message", warning.as_bytes());
    }
    out.push(b'e');
}

/// What a tracker says to everybody; empty texts are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// To be echoed in later announces.
    pub tracker_id: String,
    /// To be shown to the user; the answer holds nevertheless.
    pub warning: String,
}

/// Appends the reply to an announce as a tracker has it at hand: what [`announce`] writes, with fewer steps.
pub fn picked(
    numbers: &Numbers,
    external_ip: IpAddr,
    picked: &Picked,
    form: PeersForm,
    notes: &Notes,
    out: &mut Vec<u8>,
) {
    out.push(b'd');
    integer(out, b"8:complete", u64::from(numbers.complete));
    match external_ip.to_canonical() {
        IpAddr::V4(ip) => bytes(out, b"11:external ip", &ip.octets()),
        IpAddr::V6(ip) => bytes(out, b"11:external ip", &ip.octets()),
    }
    integer(out, b"10:incomplete", u64::from(numbers.incomplete));
    integer(out, b"8:interval", u64::from(numbers.interval_secs));
    integer(
        out,
        b"12:min interval",
        u64::from(numbers.min_interval_secs),
    );
    match form {
        PeersForm::Compact => {
            bytes(out, b"5:peers", picked.v4());
            if !picked.v6().is_empty() {
                bytes(out, b"6:peers6", picked.v6());
            }
        }
        PeersForm::Dictionaries | PeersForm::DictionariesWithoutIds => {
            let response = AnnounceResponse {
                peers: picked.peers().collect(),
                ..AnnounceResponse::default()
            };
            dictionary_peers(out, &response, form == PeersForm::Dictionaries);
        }
    }
    if !notes.tracker_id.is_empty() {
        bytes(out, b"10:tracker id", notes.tracker_id.as_bytes());
    }
    if !notes.warning.is_empty() {
        bytes(out, b"15:warning message", notes.warning.as_bytes());
    }
    out.push(b'e');
}

/// Appends a refusal; `retry_in` is rounded up to whole minutes, and [`Duration::MAX`] says "never" (BEP 31).
pub fn failure(reason: &str, retry_in: Option<Duration>, out: &mut Vec<u8>) {
    out.push(b'd');
    bytes(out, b"14:failure reason", reason.as_bytes());
    match retry_in {
        Some(Duration::MAX) => bytes(out, b"8:retry in", b"never"),
        Some(wait) => integer(out, b"8:retry in", wait.as_secs().div_ceil(60)),
        None => {}
    }
    out.push(b'e');
}

/// Appends the reply to a scrape. A torrent that stands there twice is written once.
pub fn scrape(response: &ScrapeResponse, out: &mut Vec<u8>) {
    let mut torrents: Vec<&ScrapedTorrent> = response.torrents.iter().collect();
    torrents.sort_by_key(|torrent| torrent.info_hash);
    torrents.dedup_by_key(|torrent| torrent.info_hash);
    out.extend_from_slice(FILES);
    for torrent in torrents {
        scraped_torrent(&torrent.info_hash, &torrent.entry, out);
        if let Some(name) = &torrent.name {
            bytes(out, b"4:name", name.as_bytes());
        }
        out.push(b'e');
    }
    out.push(b'e');
    if let Some(interval) = response.min_request_interval {
        out.extend_from_slice(b"5:flagsd");
        integer(out, b"20:min_request_interval", interval.as_secs());
        out.push(b'e');
    }
    out.push(b'e');
}

/// The same for torrents as a tracker has them at hand: in the order of their info hashes, each once.
pub fn scraped(torrents: impl Iterator<Item = (InfoHash, ScrapeEntry)>, out: &mut Vec<u8>) {
    out.extend_from_slice(FILES);
    for (info_hash, entry) in torrents {
        scraped_torrent(&info_hash, &entry, out);
        out.push(b'e');
    }
    out.extend_from_slice(b"ee");
}

const FILES: &[u8] = b"d5:filesd";

/// A torrent, up to where its name may stand.
fn scraped_torrent(info_hash: &InfoHash, entry: &ScrapeEntry, out: &mut Vec<u8>) {
    out.extend_from_slice(b"20:");
    out.extend_from_slice(info_hash.as_bytes());
    out.push(b'd');
    integer(out, b"8:complete", u64::from(entry.complete));
    integer(out, b"10:downloaded", u64::from(entry.downloaded));
    if let Some(downloaders) = entry.downloaders {
        integer(out, b"11:downloaders", u64::from(downloaders));
    }
    integer(out, b"10:incomplete", u64::from(entry.incomplete));
}

fn compact_peers(out: &mut Vec<u8>, peers: &[Peer]) {
    let v4 = peers.iter().filter(|peer| peer.addr.is_ipv4());
    let v6 = peers.iter().filter(|peer| peer.addr.is_ipv6());
    let v6_count = v6.clone().count();
    string(out, b"peers");
    length(out, (peers.len() - v6_count) * COMPACT_V4_BYTES);
    v4.for_each(|peer| encode_compact(peer.addr, out));
    if v6_count > 0 {
        string(out, b"peers6");
        length(out, v6_count * COMPACT_V6_BYTES);
        v6.for_each(|peer| encode_compact(peer.addr, out));
    }
}

fn dictionary_peers(out: &mut Vec<u8>, response: &AnnounceResponse, with_ids: bool) {
    string(out, b"peers");
    out.push(b'l');
    for peer in &response.peers {
        out.push(b'd');
        bytes(out, b"2:ip", peer.addr.ip().to_string().as_bytes());
        if let Some(id) = peer.peer_id.filter(|_| with_ids) {
            bytes(out, b"7:peer id", id.as_bytes());
        }
        integer(out, b"4:port", u64::from(peer.addr.port()));
        out.push(b'e');
    }
    for peer in &response.named_peers {
        out.push(b'd');
        bytes(out, b"2:ip", peer.host.as_bytes());
        integer(out, b"4:port", u64::from(peer.port));
        out.push(b'e');
    }
    out.push(b'e');
}

/// A number; its key stands there as it is written, and of a known length, so that no copying is called.
fn integer<const LENGTH: usize>(out: &mut Vec<u8>, key: &[u8; LENGTH], number: u64) {
    out.extend_from_slice(key);
    out.push(b'i');
    decimal(out, number);
    out.push(b'e');
}

/// A string; its key stands there as it is written.
fn bytes<const LENGTH: usize>(out: &mut Vec<u8>, key: &[u8; LENGTH], value: &[u8]) {
    out.extend_from_slice(key);
    string(out, value);
}

fn string(out: &mut Vec<u8>, value: &[u8]) {
    length(out, value.len());
    out.extend_from_slice(value);
}

fn length(out: &mut Vec<u8>, length_bytes: usize) {
    decimal(out, length_bytes as u64);
    out.push(b':');
}

/// Appends a number in decimal digits: what `write!` does, at a tenth of its cost, as a reply has a dozen numbers and that of a
/// scrape a hundred. Nearly all have a digit or two.
pub fn decimal(out: &mut Vec<u8>, number: u64) {
    if number >= 10 {
        decimal(out, number / 10);
    }
    out.push(b'0' + u8::try_from(number % 10).unwrap_or(0));
}
