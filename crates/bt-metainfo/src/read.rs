//! Readers of the keys around the info dictionary. None of them is worth refusing a torrent for: what makes no sense
//! is left out with a note.

pub(crate) mod info;

use crate::metainfo::Node;
use crate::note::Notes;
use crate::urls::Collector;
use bt_bencode::{Dict, Value};

/// The most DHT nodes that are kept.
const NODES_MAX: usize = 64;
/// The longest host name, in bytes (RFC 1035, 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// The values of some keys, found in one run along the dictionary.
pub(crate) fn fields<'a, const N: usize>(
    dict: Dict<'a>,
    keys: [&str; N],
) -> [Option<Value<'a>>; N] {
    let mut found = [None; N];
    for (key, value) in dict.iter() {
        let wanted = keys.iter().position(|wanted| wanted.as_bytes() == key);
        if let Some(slot) = wanted.and_then(|index| found.get_mut(index)) {
            // Of repeated keys the first wins.
            slot.get_or_insert(value);
        }
    }
    found
}

/// A text for showing; bytes that are not UTF-8 are replaced.
pub(crate) fn text(value: Option<Value<'_>>, notes: &mut Notes) -> Option<String> {
    let value = value?;
    let bytes = value.as_bytes();
    if bytes.is_none() {
        notes.ignored(|| value.path(), "not a string");
    }
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// Unix seconds, as an integer or (BTP/1.0) as digits in a string.
pub(crate) fn date(value: Option<Value<'_>>, notes: &mut Notes) -> Option<i64> {
    let value = value?;
    let seconds = value
        .as_int()
        .or_else(|| value.as_text()?.trim().parse().ok());
    if seconds.is_none() {
        notes.ignored(|| value.path(), "not a number of seconds");
    }
    seconds
}

/// Tracker URLs in tiers: those of `announce-list` if there is one that can be used, else `announce` (BEP 12).
///
/// A flat list of URLs, as BTP/1.0 has it, is read as one tier for each.
pub(crate) fn trackers(
    announce_list: Option<Value<'_>>,
    announce: Option<Value<'_>>,
    notes: &mut Notes,
) -> Vec<Vec<String>> {
    let mut collector = Collector::trackers();
    let mut tiers = Vec::new();
    if let Some(value) = announce_list {
        match value.as_list() {
            Some(list) => {
                for entry in list.iter() {
                    let tier = url_list(entry, &mut collector, notes);
                    if !tier.is_empty() {
                        tiers.push(tier);
                    }
                }
            }
            None => notes.ignored(|| value.path(), "not a list"),
        }
    }
    if tiers.is_empty() {
        let tier = announce.map(|value| url_list(value, &mut collector, notes));
        tiers.extend(tier.filter(|tier| !tier.is_empty()));
    }
    tiers
}

/// Web seeds: one URL or a list of them.
pub(crate) fn web_seeds(value: Option<Value<'_>>, notes: &mut Notes) -> Vec<String> {
    let mut collector = Collector::web_seeds();
    // Some makers write an empty string for "none".
    let value = value.filter(|value| value.as_bytes() != Some(b""));
    value.map_or_else(Vec::new, |value| url_list(value, &mut collector, notes))
}

fn url_list(value: Value<'_>, collector: &mut Collector, notes: &mut Notes) -> Vec<String> {
    let mut urls = Vec::new();
    let mut take = |value: Value<'_>| {
        let url = value.as_text().ok_or("not a text");
        match url.and_then(|url| collector.take(url)) {
            Ok(url) => urls.push(url),
            Err(why) => notes.ignored(|| value.path(), why),
        }
    };
    match value.as_list() {
        Some(list) => list.iter().for_each(take),
        None => take(value),
    }
    urls
}

/// DHT nodes: a list of `[host, port]` (BEP 5).
pub(crate) fn nodes(value: Option<Value<'_>>, notes: &mut Notes) -> Vec<Node> {
    let Some(value) = value else {
        return Vec::new();
    };
    let Some(list) = value.as_list() else {
        notes.ignored(|| value.path(), "not a list");
        return Vec::new();
    };
    let mut nodes = Vec::new();
    for entry in list.iter() {
        match node(entry) {
            Some(node) if nodes.len() < NODES_MAX => nodes.push(node),
            Some(_) => notes.ignored(|| entry.path(), "too many"),
            None => notes.ignored(|| entry.path(), "not a host and a port"),
        }
    }
    nodes
}

fn node(entry: Value<'_>) -> Option<Node> {
    let list = entry.as_list()?;
    let mut parts = list.iter();
    let host = parts.next()?.as_text()?.trim();
    let port = u16::try_from(parts.next()?.as_int()?).ok()?;
    let host_is_fine = !host.is_empty()
        && host.len() <= HOST_BYTES_MAX
        && !host.chars().any(|c| c.is_control() || c.is_whitespace());
    (host_is_fine && port != 0).then(|| Node {
        host: host.to_owned(),
        port,
    })
}
