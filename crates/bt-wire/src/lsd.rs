//! Local service discovery (BEP 14): who shares what, said to everybody on the local network.
//!
//! A datagram in the shape of an HTTP request, sent to a multicast group:
//!
//! ```text
//! BT-SEARCH * HTTP/1.1⏎ Host: group⏎ Port: number⏎ Infohash: 40 hex digits⏎ … cookie: text⏎ ⏎ ⏎
//! ```
//!
//! **Invariant:** what is read is bounded: [`INFO_HASHES_MAX`] torrents and a cookie of [`COOKIE_MAX_BYTES`], whatever was
//! sent. What is written fits [`DATAGRAM_MAX_BYTES`].

use bt_core::InfoHash;
use core::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The group of IPv4.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 192, 152, 143);
/// The group of IPv6.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f);
/// The port of both groups.
pub const PORT: u16 = 6771;

/// The longest datagram that is written, in bytes (BEP 14: beyond, it could be cut into fragments on the way).
pub const DATAGRAM_MAX_BYTES: usize = 1_400;
/// How many torrents a datagram of ours names, so that it fits: 52 bytes each, and 150 for the rest.
pub const INFO_HASHES_SENT: usize = 24;
/// How many torrents of a datagram are read. One of 1,400 bytes has room for 26.
pub const INFO_HASHES_MAX: usize = 32;
/// The longest cookie that is read or written, in bytes. Those of other programs have 8 hexadecimal digits or so.
pub const COOKIE_MAX_BYTES: usize = 64;

/// What the first line begins with; a version follows.
const METHOD: &str = "BT-SEARCH * HTTP/";

/// Somebody listens on a port for peers of these torrents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalAnnounce {
    /// The TCP port; the address is where the datagram came from.
    pub port: u16,
    /// The torrents.
    pub info_hashes: Vec<InfoHash>,
    /// By which a sender knows its own datagrams; empty for none.
    pub cookie: String,
}

/// Why bytes are no announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LsdError {
    /// Not this protocol, or no text.
    #[error("no BT-SEARCH request")]
    NotASearch,
    /// No port, or none that can be dialled.
    #[error("no port from 1 to 65535")]
    Port,
    /// No info hash of 40 hexadecimal digits.
    #[error("no info hash")]
    InfoHash,
}

impl LocalAnnounce {
    /// Reads a datagram. Header names are taken in any letter case, unknown ones are passed over, and so is an info hash
    /// that is none; of a port given twice the first counts.
    ///
    /// # Errors
    /// [`LsdError`] by what is missing.
    pub fn decode(datagram: &[u8]) -> Result<Self, LsdError> {
        let text = str::from_utf8(datagram).map_err(|_| LsdError::NotASearch)?;
        let mut lines = text.split('\n').map(str::trim_ascii);
        if !lines.next().is_some_and(|first| first.starts_with(METHOD)) {
            return Err(LsdError::NotASearch);
        }
        let (mut port, mut info_hashes, mut cookie) = (None, Vec::new(), "");
        for line in lines.take_while(|line| !line.is_empty()) {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let (name, value) = (name.trim_ascii(), value.trim_ascii());
            if name.eq_ignore_ascii_case("port") {
                port = port.or(Some(value));
            } else if name.eq_ignore_ascii_case("cookie") && value.len() <= COOKIE_MAX_BYTES {
                cookie = value;
            } else if name.eq_ignore_ascii_case("infohash") && info_hashes.len() < INFO_HASHES_MAX {
                info_hashes.extend(value.parse::<InfoHash>().ok());
            }
        }
        let is_number = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.filter(is_number).and_then(|text| text.parse().ok());
        let port = port.filter(|port| *port != 0).ok_or(LsdError::Port)?;
        if info_hashes.is_empty() {
            return Err(LsdError::InfoHash);
        }
        Ok(Self {
            port,
            info_hashes,
            cookie: cookie.to_owned(),
        })
    }

    /// The datagram for a group, which its `Host` names. No more than [`INFO_HASHES_SENT`] torrents are in it.
    #[must_use]
    pub fn encode(&self, group: SocketAddr) -> Vec<u8> {
        let Self {
            port,
            info_hashes,
            cookie,
        } = self;
        let mut text = format!("{METHOD}1.1\r\nHost: {group}\r\nPort: {port}\r\n");
        for info_hash in info_hashes.iter().take(INFO_HASHES_SENT) {
            // Writing to a string cannot fail.
            let _ = write!(text, "Infohash: {info_hash}\r\n");
        }
        if !cookie.is_empty() {
            let _ = write!(text, "cookie: {cookie}\r\n");
        }
        text.push_str("\r\n\r\n");
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

    /// Port, number of info hashes, cookie.
    type Read = Result<(u16, usize, String), LsdError>;

    fn announce(port: u16, count: u8, cookie: &str) -> LocalAnnounce {
        LocalAnnounce {
            port,
            info_hashes: (0..count).map(|n| InfoHash([n; 20])).collect(),
            cookie: cookie.to_owned(),
        }
    }

    #[test]
    fn the_datagram_of_bep_14() {
        let mut one = announce(6881, 1, "name");
        one.info_hashes = vec![HASH.parse().unwrap()];
        for (group, host) in [
            (SocketAddr::from((GROUP_V4, PORT)), "239.192.152.143:6771"),
            (SocketAddr::from((GROUP_V6, PORT)), "[ff15::efc0:988f]:6771"),
        ] {
            let expected = format!(
                "BT-SEARCH * HTTP/1.1\r\nHost: {host}\r\nPort: 6881\r\nInfohash: {HASH}\r\n\
                 cookie: name\r\n\r\n\r\n"
            );
            let sent = one.encode(group);
            assert_eq!(String::from_utf8(sent).unwrap(), expected);
        }
    }

    /// FAULTS 138: port 0, a hundred info hashes, line ends where they do not belong, and what is no announce at all.
    #[test]
    fn faults_138_what_is_read_and_what_is_not() {
        let head = "BT-SEARCH * HTTP/1.1\r\n";
        let hash = format!("Infohash: {HASH}\r\n");
        let upper = format!("INFOHASH:{}\r\n", HASH.to_uppercase());
        let good = Ok((6881, 1, String::new()));
        let rows: Vec<(String, Read)> = vec![
            (format!("{head}Port: 6881\r\n{hash}\r\n\r\n"), good.clone()),
            (format!("{head}port:6881\r\n{upper}\r\n"), good.clone()),
            // Bare line ends, a missing end, headers that nobody knows.
            (
                format!("{}Port: 6881\n{hash}", "BT-SEARCH * HTTP/1.0\n"),
                good.clone(),
            ),
            (
                format!("{head}X: y\r\nnonsense\r\nPort: 6881\r\n{hash}"),
                good.clone(),
            ),
            (
                format!("{head}Port: 6881\r\nInfohash: 12\r\n{hash}"),
                good.clone(),
            ),
            (format!("{head}Port: 6881\r\nPort: 7\r\n{hash}"), good),
            (
                format!("{head}Port: 1\r\n{hash}{hash}cookie:  me \r\n"),
                Ok((1, 2, "me".to_owned())),
            ),
            (
                format!("{head}Port: 1\r\n{}", hash.repeat(100)),
                Ok((1, INFO_HASHES_MAX, String::new())),
            ),
            (
                format!("{head}Port: 1\r\n{hash}cookie: {}\r\n", "x".repeat(65)),
                Ok((1, 1, String::new())),
            ),
            // What stands behind an empty line is no header.
            (format!("{head}\r\nPort: 1\r\n{hash}"), Err(LsdError::Port)),
            (
                format!("{head}Port: 1\r\n\r\n{hash}"),
                Err(LsdError::InfoHash),
            ),
            (format!("{head}Port: 0\r\n{hash}"), Err(LsdError::Port)),
            (format!("{head}Port: 65536\r\n{hash}"), Err(LsdError::Port)),
            (format!("{head}Port: +1\r\n{hash}"), Err(LsdError::Port)),
            (format!("{head}Port:\r\n{hash}"), Err(LsdError::Port)),
            (format!("{head}{hash}"), Err(LsdError::Port)),
            (
                format!("{head}Port: 1\r\nInfohash: {HASH}0\r\n"),
                Err(LsdError::InfoHash),
            ),
            (
                "GET / HTTP/1.1\r\nPort: 1\r\n".to_owned(),
                Err(LsdError::NotASearch),
            ),
            (String::new(), Err(LsdError::NotASearch)),
        ];
        for (text, expected) in rows {
            let read = LocalAnnounce::decode(text.as_bytes());
            let read = read.map(|read| (read.port, read.info_hashes.len(), read.cookie));
            assert_eq!(read, expected, "{text:?}");
        }
        let not_text = [head.as_bytes(), b"\xff\r\n"].concat();
        assert_eq!(LocalAnnounce::decode(&not_text), Err(LsdError::NotASearch));
    }

    #[test]
    fn a_datagram_never_needs_fragments() {
        let cookie = "c".repeat(COOKIE_MAX_BYTES);
        let bytes = announce(65_535, 200, &cookie).encode((GROUP_V6, PORT).into());
        assert!(bytes.len() <= DATAGRAM_MAX_BYTES, "{} bytes", bytes.len());
        let read = LocalAnnounce::decode(&bytes).unwrap();
        assert_eq!(read.info_hashes.len(), INFO_HASHES_SENT);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_the_same(
            port in 1_u16.., count in 1..=24_u8, cookie in "[0-9a-f]{0,16}", v6: bool,
        ) {
            let sent = announce(port, count, &cookie);
            let group = if v6 { (GROUP_V6, PORT).into() } else { (GROUP_V4, PORT).into() };
            prop_assert_eq!(LocalAnnounce::decode(&sent.encode(group)), Ok(sent));
        }

        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, cut in 0..2_000_usize) {
            let _ = LocalAnnounce::decode(&bytes);
            let mut datagram = announce(1, 24, "cookie").encode((GROUP_V4, PORT).into());
            let place = cut % datagram.len();
            if let Some(byte) = datagram.get_mut(place) {
                *byte = bytes.first().copied().unwrap_or(0);
            }
            let _ = LocalAnnounce::decode(&datagram);
            let _ = LocalAnnounce::decode(datagram.get(..place).unwrap_or_default());
        }
    }
}
