//! What a tracker reads from a query string, and what it says about one that is wrong.
//!
//! The string is taken as bytes, as it stood in the request line. A parameter that this crate knows must not come
//! twice: honest clients never do it, and any choice between two values would be a way to say one thing to a proxy and
//! another to the tracker. Unknown parameters are passed over. `+` is itself, as clients escape spaces and do not mean them.

use super::TRACKER_ID_MAX_BYTES;
use crate::announce::{AnnounceRequest, Event};
use bt_core::{InfoHash, PeerId};

/// Most torrents of one scrape; those behind are left out. As many as fit a scrape over UDP (BEP 15).
pub const SCRAPE_MAX: usize = 74;

/// How much of a wrong value is shown, in bytes.
const SHOWN_MAX_BYTES: usize = 32;

/// What is wrong with a query; its text is for the peer's user or programmer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// A parameter that must be there is not.
    #[error("{name} is missing")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// A parameter stands there twice.
    #[error("{name} is given twice")]
    Twice {
        /// Its name.
        name: &'static str,
    },
    /// A `%` without two hexadecimal digits behind it.
    #[error("{name} has a broken percent escape")]
    Escape {
        /// The parameter's name.
        name: &'static str,
    },
    /// Not of the one length it may have.
    #[error("{name} has {length_bytes} bytes, not 20")]
    Length {
        /// The parameter's name.
        name: &'static str,
        /// Its length, unescaped.
        length_bytes: usize,
    },
    /// Not a value it may have.
    #[error("{name}={value}: expected {expected}")]
    Value {
        /// The parameter's name.
        name: &'static str,
        /// What stood there, escaped and cut.
        value: String,
        /// What may stand there.
        expected: &'static str,
    },
}

/// The announce that a query string asks for.
///
/// `info_hash`, `peer_id`, `port` and `left` must be there; a missing `uploaded` or `downloaded` is 0. A `key` that is no
/// hexadecimal number and an `ip` that is no address are passed over: clients put other things there.
///
/// # Errors
/// [`QueryError`] names the parameter.
pub fn announce(query: &[u8]) -> Result<AnnounceRequest, QueryError> {
    let (mut info_hash, mut peer_id, mut port, mut left) = (None, None, None, None);
    let (mut uploaded, mut downloaded, mut event, mut numwant) = (None, None, None, None);
    let (mut compact, mut no_peer_id, mut key, mut tracker_id, mut ip) =
        (None, None, None, None, None);
    for (name, value) in pairs(query) {
        match name {
            b"info_hash" => put(&mut info_hash, "info_hash", value, twenty)?,
            b"peer_id" => put(&mut peer_id, "peer_id", value, twenty)?,
            b"port" => put(&mut port, "port", value, number::<u16>)?,
            b"left" => put(&mut left, "left", value, number::<u64>)?,
            b"uploaded" => put(&mut uploaded, "uploaded", value, number::<u64>)?,
            b"downloaded" => put(&mut downloaded, "downloaded", value, number::<u64>)?,
            b"event" => put(&mut event, "event", value, event_of)?,
            b"numwant" => put(&mut numwant, "numwant", value, numwant_of)?,
            b"compact" => put(&mut compact, "compact", value, flag)?,
            b"no_peer_id" => put(&mut no_peer_id, "no_peer_id", value, flag)?,
            b"key" => put(&mut key, "key", value, key_of)?,
            b"trackerid" => put(&mut tracker_id, "trackerid", value, tracker_id_of)?,
            b"ip" => put(&mut ip, "ip", value, ip_of)?,
            _ => {}
        }
    }
    let missing = |name| QueryError::Missing { name };
    Ok(AnnounceRequest {
        info_hash: InfoHash(info_hash.ok_or(missing("info_hash"))?),
        peer_id: PeerId(peer_id.ok_or(missing("peer_id"))?),
        port: port.ok_or(missing("port"))?,
        uploaded: uploaded.unwrap_or(0),
        downloaded: downloaded.unwrap_or(0),
        left: left.ok_or(missing("left"))?,
        event: event.unwrap_or_default(),
        numwant: numwant.flatten(),
        key: key.flatten(),
        tracker_id: tracker_id.flatten(),
        ip: ip.flatten(),
        compact,
        no_peer_id: no_peer_id.unwrap_or(false),
    })
}

/// The torrents that a scrape asks for: at most [`SCRAPE_MAX`], in order; none if it asks for everything.
///
/// # Errors
/// [`QueryError`] if an `info_hash` is wrong.
pub fn scrape(query: &[u8]) -> Result<Vec<InfoHash>, QueryError> {
    torrents(query).collect()
}

/// The same one by one.
pub fn torrents(query: &[u8]) -> impl Iterator<Item = Result<InfoHash, QueryError>> + '_ {
    pairs(query)
        .filter(|(name, _)| *name == b"info_hash")
        .take(SCRAPE_MAX)
        .map(|(_, value)| twenty("info_hash", value).map(InfoHash))
}

/// The key of a private tracker's user, `passkey=`, as it stands there.
#[must_use]
pub fn passkey(query: &[u8]) -> Option<&[u8]> {
    let mut keys = pairs(query).filter(|(name, _)| *name == b"passkey");
    keys.next().map(|(_, key)| key)
}

/// True if a scrape names torrents, and does not ask for all of them.
#[must_use]
pub fn names_torrents(query: &[u8]) -> bool {
    pairs(query).any(|(name, _)| name == b"info_hash")
}

fn pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = Some(query);
    core::iter::from_fn(move || {
        let (pair, behind) = cut(rest?, memchr::memchr(b'&', rest?));
        rest = behind;
        // Names are short.
        let (name, value) = cut(pair, pair.iter().position(|byte| *byte == b'='));
        Some((name, value.unwrap_or_default()))
    })
}

/// What stands before a byte, and what behind it if it is there.
fn cut(bytes: &[u8], at: Option<usize>) -> (&[u8], Option<&[u8]>) {
    let (before, from) = bytes.split_at(at.unwrap_or(bytes.len()));
    (before, at.and_then(|_| from.get(1..)))
}

fn put<T>(
    place: &mut Option<T>,
    name: &'static str,
    value: &[u8],
    read: impl FnOnce(&'static str, &[u8]) -> Result<T, QueryError>,
) -> Result<(), QueryError> {
    if place.is_some() {
        return Err(QueryError::Twice { name });
    }
    *place = Some(read(name, value)?);
    Ok(())
}

/// The bytes of a value, one by one.
fn unescape<'a>(
    name: &'static str,
    value: &'a [u8],
) -> impl Iterator<Item = Result<u8, QueryError>> + 'a {
    let mut rest = value.iter();
    core::iter::from_fn(move || {
        let byte = *rest.next()?;
        if byte != b'%' {
            return Some(Ok(byte));
        }
        let escaped = rest.next().zip(rest.next());
        let byte = escaped.and_then(|(high, low)| pair_of(*high, *low));
        Some(byte.ok_or(QueryError::Escape { name }))
    })
}

/// The byte that two hexadecimal digits stand for.
fn pair_of(high: u8, low: u8) -> Option<u8> {
    let value = |digit: u8| DIGITS.get(usize::from(digit)).copied().unwrap_or(NO_DIGIT);
    let (high, low) = (value(high), value(low));
    ((high | low) < 16).then_some(high << 4 | low)
}

const NO_DIGIT: u8 = 0xff;

/// What each byte is worth as a hexadecimal digit: most of a scrape is such digits, and looking them up costs a third of comparing.
#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a mistake would not compile"
)]
const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value] as usize] = value as u8;
        digits[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    digits
};

fn twenty(name: &'static str, value: &[u8]) -> Result<[u8; 20], QueryError> {
    exactly_twenty(value).ok_or_else(|| {
        let mut bytes = unescape(name, value);
        let length = bytes.try_fold(0, |length_bytes, byte| byte.map(|_| length_bytes + 1));
        length.map_or_else(
            |error| error,
            |length_bytes| QueryError::Length { name, length_bytes },
        )
    })
}

/// The bytes of a value that has twenty of them.
fn exactly_twenty(value: &[u8]) -> Option<[u8; 20]> {
    let (mut bytes, mut rest) = ([0; 20], value);
    for place in &mut bytes {
        (*place, rest) = match rest {
            [b'%', high, low, rest @ ..] => (pair_of(*high, *low)?, rest),
            [b'%', ..] | [] => return None,
            [byte, rest @ ..] => (*byte, rest),
        };
    }
    rest.is_empty().then_some(bytes)
}

/// A decimal number without sign.
fn number<N: TryFrom<u64>>(name: &'static str, value: &[u8]) -> Result<N, QueryError> {
    let digits = value.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(digit.into())
    });
    digits
        .filter(|_| !value.is_empty())
        .and_then(|number| number.try_into().ok())
        .ok_or_else(|| wrong(name, value, "a number in its range"))
}

/// Some clients say -1 for "as many as you like to give".
fn numwant_of(name: &'static str, value: &[u8]) -> Result<Option<u32>, QueryError> {
    if value == b"-1" {
        return Ok(None);
    }
    let wanted: u64 = number(name, value)?;
    Ok(Some(u32::try_from(wanted).unwrap_or(u32::MAX)))
}

fn event_of(name: &'static str, value: &[u8]) -> Result<Event, QueryError> {
    match value {
        b"" => Ok(Event::Interval),
        b"started" => Ok(Event::Started),
        b"completed" => Ok(Event::Completed),
        b"stopped" => Ok(Event::Stopped),
        b"paused" => Ok(Event::Paused),
        _ => Err(wrong(name, value, "started, completed, stopped or paused")),
    }
}

fn flag(name: &'static str, value: &[u8]) -> Result<bool, QueryError> {
    match value {
        b"0" => Ok(false),
        b"1" => Ok(true),
        _ => Err(wrong(name, value, "0 or 1")),
    }
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "one of the readers that `put` takes"
)]
fn key_of(_: &'static str, value: &[u8]) -> Result<Option<u32>, QueryError> {
    let text = core::str::from_utf8(value).ok();
    Ok(text.and_then(|text| u32::from_str_radix(text, 16).ok()))
}

fn tracker_id_of(name: &'static str, value: &[u8]) -> Result<Option<Vec<u8>>, QueryError> {
    let most = unescape(name, value).take(TRACKER_ID_MAX_BYTES + 1);
    let id: Vec<u8> = most.collect::<Result<_, _>>()?;
    Ok(Some(id).filter(|id| id.len() <= TRACKER_ID_MAX_BYTES))
}

fn ip_of(name: &'static str, value: &[u8]) -> Result<Option<std::net::IpAddr>, QueryError> {
    let bytes: Vec<u8> = unescape(name, value).take(64).collect::<Result<_, _>>()?;
    Ok(core::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.parse().ok()))
}

fn wrong(name: &'static str, value: &[u8], expected: &'static str) -> QueryError {
    let shown = value.get(..SHOWN_MAX_BYTES).unwrap_or(value);
    QueryError::Value {
        name,
        value: shown.escape_ascii().to_string(),
        expected,
    }
}
