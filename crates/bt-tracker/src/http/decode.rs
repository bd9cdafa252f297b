//! The replies of trackers, read by a client that trusts none of them.
//!
//! **Invariant:** what comes out is bounded and sane whatever went in: intervals clamped, texts escaped and cut, peers
//! dialable and without duplicates. A field that makes no sense is as good as absent; only a reply that is no
//! dictionary is an error.

use super::{REPLY_MAX_BYTES, TRACKER_ID_MAX_BYTES};
use crate::announce::{AnnounceFailure, AnnounceResponse, NamedPeer, Peer, clamp_interval};
use crate::scrape::{ScrapeEntry, ScrapeResponse, ScrapedTorrent};
use crate::text::clean;
use bt_bencode::{Dict, Options, Value, decode};
use bt_core::addr::{
    COMPACT_V4_BYTES, COMPACT_V6_BYTES, canonical, decode_compact_v4, decode_compact_v6,
    is_dialable,
};
use bt_core::{InfoHash, PeerId};
use core::time::Duration;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most peers that are taken from one list of a reply. No client has use for more, and few trackers give 200.
pub const PEERS_MAX: usize = 1_000;

/// Most peers with a host name that are taken: each costs a question to the resolver.
pub const NAMED_PEERS_MAX: usize = 16;

/// Most torrents that are taken from a scrape.
pub const SCRAPED_MAX: usize = 10_000;

/// The interval if a tracker names none: what most of them say.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(30 * 60);

/// Longest host name, in bytes (RFC 1035, section 2.3.4).
const HOST_MAX_BYTES: usize = 253;

/// The answer in the body of a reply to an announce, whatever the status code: failures come with any.
///
/// # Errors
/// [`AnnounceFailure::Refused`] with the tracker's words, [`AnnounceFailure::Unreachable`] if it is no such reply.
pub fn announce(body: &[u8]) -> Result<AnnounceResponse, AnnounceFailure> {
    let options = options();
    let document = decode(body, &options).map_err(nonsense)?;
    let reply = document.root().dict().map_err(nonsense)?;
    if let Some(reason) = reply.get("failure reason") {
        return Err(refused(reason, &reply));
    }
    let min_interval = reply
        .get("min interval")
        .and_then(seconds)
        .map(clamp_interval);
    let interval = reply
        .get("interval")
        .and_then(seconds)
        .unwrap_or(INTERVAL_DEFAULT);
    let mut peers = Peers::default();
    for key in ["peers", "peers6"] {
        peers.take(key, reply.get(key));
    }
    Ok(AnnounceResponse {
        // A minimum beyond the interval is obeyed: it says "never sooner".
        interval: clamp_interval(interval).max(min_interval.unwrap_or_default()),
        min_interval,
        tracker_id: tracker_id(&reply),
        complete: reply.get("complete").and_then(count),
        incomplete: reply.get("incomplete").and_then(count),
        warning: text(&reply, "warning message").or_else(|| {
            let torn = "its list of peers ends in the middle of one";
            peers.torn.then(|| torn.to_owned())
        }),
        external_ip: reply.get("external ip").and_then(external_ip),
        peers: peers.found,
        named_peers: peers.named,
    })
}

/// The answer in the body of a reply to a scrape.
///
/// # Errors
/// As with [`announce`].
pub fn scrape(body: &[u8]) -> Result<ScrapeResponse, AnnounceFailure> {
    let options = options();
    let document = decode(body, &options).map_err(nonsense)?;
    let reply = document.root().dict().map_err(nonsense)?;
    // BEP 48 spells it with an underscore, and nobody else does.
    if let Some(reason) = reply
        .get("failure reason")
        .or_else(|| reply.get("failure_reason"))
    {
        return Err(refused(reason, &reply));
    }
    let files = reply
        .require("files")
        .and_then(|files| files.dict())
        .map_err(nonsense)?;
    let mut torrents: Vec<ScrapedTorrent> =
        files.iter().take(SCRAPED_MAX).filter_map(scraped).collect();
    torrents.sort_by_key(|torrent| torrent.info_hash);
    torrents.dedup_by_key(|torrent| torrent.info_hash);
    let flags = reply.get("flags").and_then(|flags| flags.as_dict());
    let interval = flags.and_then(|flags| flags.get("min_request_interval"));
    Ok(ScrapeResponse {
        torrents,
        min_request_interval: interval.and_then(seconds).map(clamp_interval),
    })
}

const fn options() -> Options {
    Options {
        size_max_bytes: REPLY_MAX_BYTES,
        ..Options::lenient()
    }
}

fn nonsense(error: bt_bencode::Error) -> AnnounceFailure {
    AnnounceFailure::Unreachable {
        // The error names keys of the reply.
        message: clean(format!("not the reply of a tracker: {error}").as_bytes()),
        retry_in: None,
    }
}

fn refused(reason: Value<'_>, reply: &Dict<'_>) -> AnnounceFailure {
    let reason = reason
        .as_bytes()
        .map(clean)
        .filter(|reason| !reason.is_empty());
    AnnounceFailure::Refused {
        reason: reason.unwrap_or_else(|| "refused without a reason".to_owned()),
        retry_in: reply.get("retry in").and_then(retry_in),
    }
}

/// Minutes, as integer or as text, or "never" (BEP 31).
fn retry_in(value: Value<'_>) -> Option<Duration> {
    if value.as_bytes() == Some(b"never") {
        return Some(Duration::MAX);
    }
    let minutes = value.as_text().or_else(|| value.as_int_text())?;
    let minutes: u32 = minutes.parse().ok()?;
    Some(Duration::from_secs(u64::from(minutes) * 60))
}

/// A span in seconds; a negative one is none at all, and one beyond all bounds is as long as can be.
fn seconds(value: Value<'_>) -> Option<Duration> {
    let text = value.as_int_text()?;
    let seconds = if text.starts_with('-') {
        0
    } else {
        text.parse().unwrap_or(u64::MAX)
    };
    Some(Duration::from_secs(seconds))
}

fn count(value: Value<'_>) -> Option<u32> {
    let count = u64::try_from(value.as_int()?).ok()?;
    Some(u32::try_from(count).unwrap_or(u32::MAX))
}

fn text(reply: &Dict<'_>, key: &str) -> Option<String> {
    reply
        .get(key)?
        .as_bytes()
        .map(clean)
        .filter(|text| !text.is_empty())
}

fn tracker_id(reply: &Dict<'_>) -> Option<Vec<u8>> {
    let id = reply.get("tracker id")?.as_bytes()?;
    (id.len() <= TRACKER_ID_MAX_BYTES).then(|| id.to_vec())
}

fn external_ip(value: Value<'_>) -> Option<IpAddr> {
    let bytes = value.as_bytes()?;
    let v4 = <[u8; 4]>::try_from(bytes).map(|ip| Ipv4Addr::from(ip).into());
    let v6 = || <[u8; 16]>::try_from(bytes).map(|ip| Ipv6Addr::from(ip).to_canonical());
    v4.or_else(|_| v6()).ok()
}

fn scraped((key, value): (&[u8], Value<'_>)) -> Option<ScrapedTorrent> {
    let info_hash = InfoHash(key.try_into().ok()?);
    let fields = value.as_dict()?;
    let number = |key: &str| fields.get(key).and_then(count).unwrap_or(0);
    Some(ScrapedTorrent {
        info_hash,
        entry: ScrapeEntry {
            complete: number("complete"),
            downloaded: number("downloaded"),
            incomplete: number("incomplete"),
            downloaders: fields.get("downloaders").and_then(count),
        },
        name: text(&fields, "name"),
    })
}

#[derive(Default)]
struct Peers {
    found: Vec<Peer>,
    named: Vec<NamedPeer>,
    seen: BTreeSet<SocketAddr>,
    /// A compact list does not end where an entry does.
    torn: bool,
}

impl Peers {
    fn take(&mut self, key: &str, value: Option<Value<'_>>) {
        let Some(value) = value else { return };
        let compact = |addr| Peer {
            addr,
            peer_id: None,
        };
        let most = self.found.len() + PEERS_MAX;
        if let Some(bytes) = value.as_bytes() {
            let entry = if key == "peers" {
                COMPACT_V4_BYTES
            } else {
                COMPACT_V6_BYTES
            };
            self.torn |= !bytes.len().is_multiple_of(entry);
            if key == "peers" {
                self.add_all(decode_compact_v4(bytes).map(compact), most);
            } else {
                self.add_all(decode_compact_v6(bytes).map(compact), most);
            }
        } else if let Some(list) = value.as_list() {
            for entry in list.iter().filter_map(|entry| entry.as_dict()) {
                self.take_dictionary(&entry, most);
            }
        }
    }

    fn add_all(&mut self, peers: impl Iterator<Item = Peer>, most: usize) {
        for peer in peers {
            let addr = canonical(peer.addr);
            if self.found.len() >= most {
                break;
            }
            if is_dialable(addr) && self.seen.insert(addr) {
                self.found.push(Peer { addr, ..peer });
            }
        }
    }

    fn take_dictionary(&mut self, entry: &Dict<'_>, most: usize) {
        let port = entry
            .get("port")
            .and_then(|port| u16::try_from(port.as_int()?).ok());
        let host = entry.get("ip").and_then(|ip| ip.as_text());
        let (Some(host), Some(port)) = (host, port.filter(|port| *port != 0)) else {
            return;
        };
        let id = entry
            .get("peer id")
            .and_then(|id| id.as_bytes()?.try_into().ok());
        if let Ok(ip) = host.parse() {
            let peer = Peer {
                addr: SocketAddr::new(ip, port),
                peer_id: id.map(PeerId),
            };
            self.add_all(core::iter::once(peer), most);
        } else if is_host_name(host) && self.named.len() < NAMED_PEERS_MAX {
            let peer = NamedPeer {
                host: host.to_owned(),
                port,
            };
            if !self.named.contains(&peer) {
                self.named.push(peer);
            }
        }
    }
}

/// Letters, digits, dots, hyphens and underscores, and not all of it a mistaken address.
fn is_host_name(host: &str) -> bool {
    let bytes_fit = host
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    let letters = host.bytes().any(|byte| byte.is_ascii_alphabetic());
    bytes_fit && letters && !host.starts_with(['-', '.']) && host.len() <= HOST_MAX_BYTES
}
