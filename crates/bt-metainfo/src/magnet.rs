//! Magnet links: `magnet:?xt=urn:btih:…` (BEP 9, "magnet URI format"; BEP 53 for `so`; BEP 52 for `btmh`).
//!
//! Read leniently: parameters that make no sense are left out, except a hash or an escape that is broken. Written so
//! that every program reads it: hexadecimal, one `tr` for each tracker, everything unusual escaped.

use crate::info::FILES_MAX;
use crate::urls::Collector;
use bt_core::{InfoHash, addr};
use core::fmt;
use core::ops::RangeInclusive;
use core::str::FromStr;
use data_encoding::{BASE32_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::net::SocketAddr;

/// The longest link that is read, in bytes: [`PEERS_MAX`] peers and as many trackers with long URLs fit.
pub const MAGNET_BYTES_MAX: usize = 256 * 1024;
/// The most peer addresses (`x.pe`) that are kept.
pub const PEERS_MAX: usize = 256;
/// The most ranges of files (`so`) that are kept.
pub const RANGES_MAX: usize = 1_024;

/// A magnet link, cleaned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Magnet {
    /// The v1 info hash (`urn:btih:`).
    pub info_hash: Option<InfoHash>,
    /// The v2 info hash, SHA-256 (`urn:btmh:1220…`, BEP 52). At least one of the two is there in a link that was read.
    pub info_hash_v2: Option<[u8; 32]>,
    /// What to call it until the metadata is there (`dn`). Text from a stranger: no path, and to be escaped when shown.
    pub name: Option<String>,
    /// How many bytes it has (`xl`); a hint.
    pub length: Option<u64>,
    /// Tracker URLs (`tr`), cleaned and capped.
    pub trackers: Vec<String>,
    /// Web seed URLs (`ws`), cleaned and capped.
    pub web_seeds: Vec<String>,
    /// Addresses of peers (`x.pe`) that may be dialled.
    pub peers: Vec<SocketAddr>,
    /// Which files to get, by index (`so`, BEP 53); all if empty. All indices are below
    /// [`FILES_MAX`].
    pub select: Vec<RangeInclusive<u32>>,
}

/// Why a text is no magnet link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MagnetError {
    /// It does not begin with `magnet:?`.
    #[error("a magnet link begins with `magnet:?`")]
    Scheme,
    /// It is absurdly long.
    #[error("magnet link of {length_bytes} bytes")]
    TooLong {
        /// Its length in bytes.
        length_bytes: usize,
    },
    /// No `xt` with a BitTorrent hash.
    #[error("no `xt=urn:btih:` or `xt=urn:btmh:` in the magnet link")]
    NoInfoHash,
    /// A hash of the wrong length or alphabet.
    #[error("\"{}\" is no info hash: 40 hexadecimal or 32 base32 digits, or 1220 and 64 hexadecimal digits for v2", text.escape_debug())]
    BadInfoHash {
        /// As it stands.
        text: String,
    },
    /// Two hashes of the same version that are not the same.
    #[error("two different info hashes in one magnet link")]
    TwoInfoHashes,
    /// A `%` without two hexadecimal digits behind it.
    #[error("broken percent escape in `{key}`")]
    BadEscape {
        /// The parameter's name.
        key: String,
    },
}

impl Magnet {
    /// True if the file of that index is to be got (BEP 53): all are if the link does not say.
    #[must_use]
    pub fn selects(&self, file: u32) -> bool {
        self.select.is_empty() || self.select.iter().any(|range| range.contains(&file))
    }
}

impl FromStr for Magnet {
    type Err = MagnetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAGNET_BYTES_MAX {
            let length_bytes = text.len();
            return Err(MagnetError::TooLong { length_bytes });
        }
        let query = text
            .split_at_checked("magnet:?".len())
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("magnet:?"))
            .ok_or(MagnetError::Scheme)?
            .1;
        let mut reader = Reader::new();
        for parameter in query.split('&') {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            reader.parameter(key, value)?;
        }
        let magnet = reader.magnet;
        if magnet.info_hash.is_none() && magnet.info_hash_v2.is_none() {
            return Err(MagnetError::NoInfoHash);
        }
        Ok(magnet)
    }
}

struct Reader {
    magnet: Magnet,
    trackers: Collector,
    web_seeds: Collector,
}

impl Reader {
    const fn new() -> Self {
        Self {
            magnet: Magnet {
                info_hash: None,
                info_hash_v2: None,
                name: None,
                length: None,
                trackers: Vec::new(),
                web_seeds: Vec::new(),
                peers: Vec::new(),
                select: Vec::new(),
            },
            trackers: Collector::trackers(),
            web_seeds: Collector::web_seeds(),
        }
    }

    fn parameter(&mut self, key: &str, value: &str) -> Result<(), MagnetError> {
        let key = key.to_ascii_lowercase();
        let magnet = &mut self.magnet;
        match without_number(&key) {
            "xt" => self.exact_topic(&unescape(&key, value)?)?,
            "dn" if magnet.name.is_none() => {
                let name = unescape(&key, &value.replace('+', " "))?;
                magnet.name = Some(String::from_utf8_lossy(&name).into_owned())
                    .filter(|name| !name.is_empty());
            }
            "xl" => {
                let text = unescape(&key, value)?;
                magnet.length = core::str::from_utf8(&text)
                    .ok()
                    .and_then(|text| text.parse().ok());
            }
            "tr" => {
                let url = String::from_utf8(unescape(&key, value)?);
                let url = url.ok().and_then(|url| self.trackers.take(&url).ok());
                magnet.trackers.extend(url);
            }
            "ws" => {
                let url = String::from_utf8(unescape(&key, value)?);
                let url = url.ok().and_then(|url| self.web_seeds.take(&url).ok());
                magnet.web_seeds.extend(url);
            }
            "x.pe" => {
                let text = String::from_utf8(unescape(&key, value)?).unwrap_or_default();
                // Without an IPv6 scope: it means nothing on another host.
                let peer: Option<SocketAddr> = text.parse().ok();
                let peer = peer
                    .map(|peer| SocketAddr::new(peer.ip(), peer.port()))
                    .filter(|peer| addr::is_dialable(*peer));
                if let Some(peer) = peer
                    && magnet.peers.len() < PEERS_MAX
                    && !magnet.peers.contains(&peer)
                {
                    magnet.peers.push(peer);
                }
            }
            "so" => {
                let text = String::from_utf8(unescape(&key, value)?).unwrap_or_default();
                let room = RANGES_MAX - magnet.select.len();
                let ranges = text.split(',').filter_map(range).take(room);
                magnet.select.extend(ranges);
            }
            _ => {}
        }
        Ok(())
    }

    /// `xt`: a hash of either version; topics of other networks are passed over.
    fn exact_topic(&mut self, topic: &[u8]) -> Result<(), MagnetError> {
        let Ok(topic) = core::str::from_utf8(topic) else {
            return Ok(());
        };
        if let Some(text) = strip_prefix_ignoring_case(topic, "urn:btih:") {
            let hash = info_hash(text)?;
            set_once(&mut self.magnet.info_hash, hash)
        } else if let Some(text) = strip_prefix_ignoring_case(topic, "urn:btmh:") {
            let hash = info_hash_v2(text)?;
            set_once(&mut self.magnet.info_hash_v2, hash)
        } else {
            Ok(())
        }
    }
}

fn set_once<T: PartialEq>(slot: &mut Option<T>, value: T) -> Result<(), MagnetError> {
    if slot.as_ref().is_some_and(|before| *before != value) {
        return Err(MagnetError::TwoInfoHashes);
    }
    *slot = Some(value);
    Ok(())
}

/// `tr.1` and the like mean the same as `tr`.
fn without_number(key: &str) -> &str {
    match key.rsplit_once('.') {
        Some((name, number))
            if !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()) =>
        {
            name
        }
        _ => key,
    }
}

fn strip_prefix_ignoring_case<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn unescape(key: &str, value: &str) -> Result<Vec<u8>, MagnetError> {
    let mut parts = value.split('%');
    let is_broken = |part: &str| {
        let digits = part.as_bytes().get(..2);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if parts.by_ref().skip(1).any(is_broken) {
        let key = key.to_owned();
        return Err(MagnetError::BadEscape { key });
    }
    Ok(percent_encoding::percent_decode_str(value).collect())
}

fn info_hash(text: &str) -> Result<InfoHash, MagnetError> {
    let bytes = match text.len() {
        40 => HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok(),
        32 => {
            let upper = text.to_ascii_uppercase();
            BASE32_NOPAD.decode(upper.as_bytes()).ok()
        }
        _ => None,
    };
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .map(InfoHash)
        .ok_or_else(|| bad_info_hash(text))
}

/// A multihash: `12` for SHA-256, `20` for its 32 bytes.
fn info_hash_v2(text: &str) -> Result<[u8; 32], MagnetError> {
    text.strip_prefix("1220")
        .and_then(|digits| HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok())
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| bad_info_hash(text))
}

fn bad_info_hash(text: &str) -> MagnetError {
    // As much as a person needs to recognise it.
    let text = text.chars().take(100).collect();
    MagnetError::BadInfoHash { text }
}

/// `4` or `4-7`, if it is in order and below the most files a torrent may have.
fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let index = |digits: &str| -> Option<u32> {
        let index: u32 = digits.parse().ok()?;
        let is_digits = digits.bytes().all(|digit| digit.is_ascii_digit());
        (is_digits && u64::from(index) < FILES_MAX as u64).then_some(index)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (index(first)?, index(last)?);
    (first <= last).then_some(first..=last)
}

/// What stays as it is in a written link: RFC 3986, "unreserved".
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("magnet:?")?;
        let mut separator = "";
        let mut parameter = |f: &mut fmt::Formatter<'_>, key: &str, value: &dyn fmt::Display| {
            let result = write!(f, "{separator}{key}={value}");
            separator = "&";
            result
        };
        if let Some(hash) = &self.info_hash {
            parameter(f, "xt", &format_args!("urn:btih:{hash}"))?;
        }
        if let Some(hash) = &self.info_hash_v2 {
            let digits = HEXLOWER.encode(hash);
            parameter(f, "xt", &format_args!("urn:btmh:1220{digits}"))?;
        }
        if let Some(name) = &self.name {
            parameter(f, "dn", &utf8_percent_encode(name, ESCAPED))?;
        }
        if let Some(length) = &self.length {
            parameter(f, "xl", length)?;
        }
        for url in &self.trackers {
            parameter(f, "tr", &utf8_percent_encode(url, ESCAPED))?;
        }
        for url in &self.web_seeds {
            parameter(f, "ws", &utf8_percent_encode(url, ESCAPED))?;
        }
        for peer in &self.peers {
            parameter(f, "x.pe", &SocketAddr::new(peer.ip(), peer.port()))?;
        }
        if !self.select.is_empty() {
            let ranges: Vec<String> = self.select.iter().map(shown_range).collect();
            parameter(f, "so", &ranges.join(","))?;
        }
        Ok(())
    }
}

fn shown_range(range: &RangeInclusive<u32>) -> String {
    let (first, last) = (range.start(), range.end());
    if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    }
}

#[cfg(test)]
mod tests;
