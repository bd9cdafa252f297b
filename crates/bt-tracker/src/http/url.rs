//! The URLs that a client asks for.
//!
//! A tracker's URL is taken as text and only added to, so that whatever stands in it (a passkey, a user and password,
//! an escape) reaches the tracker as its operator wrote it.

use super::TRACKER_ID_MAX_BYTES;
use crate::announce::{AnnounceRequest, Event};
use bt_core::InfoHash;
use core::fmt::Write;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// Everything but letters, digits and `.-_~` is escaped.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b'~');

/// The URL of an announce to the tracker at `tracker`, its announce URL.
///
/// Compact peers are asked for unless the request says otherwise: some trackers answer in no other way.
#[must_use]
pub fn announce(tracker: &str, request: &AnnounceRequest) -> String {
    let mut url = Query::new(tracker);
    url.add_bytes("info_hash", request.info_hash.as_bytes());
    url.add_bytes("peer_id", request.peer_id.as_bytes());
    url.add("port", request.port);
    url.add("uploaded", request.uploaded);
    url.add("downloaded", request.downloaded);
    url.add("left", request.left);
    match request.event {
        Event::Interval => {}
        Event::Started => url.add("event", "started"),
        Event::Completed => url.add("event", "completed"),
        Event::Stopped => url.add("event", "stopped"),
        Event::Paused => url.add("event", "paused"),
    }
    url.add("compact", u8::from(request.compact.unwrap_or(true)));
    if request.no_peer_id {
        url.add("no_peer_id", 1);
    }
    if let Some(numwant) = request.numwant {
        url.add("numwant", numwant);
    }
    if let Some(key) = request.key {
        url.add("key", format_args!("{key:08X}"));
    }
    if let Some(ip) = request.ip {
        url.add_bytes("ip", ip.to_string().as_bytes());
    }
    if let Some(id) = request
        .tracker_id
        .as_ref()
        .filter(|id| id.len() <= TRACKER_ID_MAX_BYTES)
    {
        url.add_bytes("trackerid", id);
    }
    url.text
}

/// The scrape URL that belongs to an announce URL, if there is one.
///
/// The text behind the last `/` must begin with `announce`, which becomes `scrape`; nothing is unescaped before. BEP 48
/// is less exact than the community specification, whose rule and examples these are.
#[must_use]
pub fn scrape_of(tracker: &str) -> Option<String> {
    let (front, last) = tracker.trim().rsplit_once('/')?;
    let rest = last.strip_prefix("announce")?;
    Some(format!("{front}/scrape{rest}"))
}

/// The URL of a scrape of these torrents at `scrape_url`, as [`scrape_of`] makes it.
#[must_use]
pub fn scrape(scrape_url: &str, torrents: &[InfoHash]) -> String {
    let mut url = Query::new(scrape_url);
    for torrent in torrents {
        url.add_bytes("info_hash", torrent.as_bytes());
    }
    url.text
}

struct Query {
    text: String,
}

impl Query {
    fn new(url: &str) -> Self {
        let url = url.trim();
        let before_fragment = url.split('#').next().unwrap_or(url);
        Self {
            text: before_fragment.to_owned(),
        }
    }

    fn add(&mut self, name: &str, value: impl core::fmt::Display) {
        let separator = match self.text.split_once('?') {
            None => "?",
            Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
            Some(_) => "&",
        };
        write!(self.text, "{separator}{name}={value}").expect("a string takes everything");
    }

    fn add_bytes(&mut self, name: &str, bytes: &[u8]) {
        self.add(name, percent_encode(bytes, ESCAPED));
    }
}
