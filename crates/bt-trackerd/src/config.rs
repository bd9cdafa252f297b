//! What an operator may set: in a TOML file, on the command line, or as a value when the server is embedded.

use crate::trust::{Network, ParseNetworkError};
use bt_tracker::server;
use bt_tracker::server::{Access, AccessError};
use core::time::Duration;
use serde::Deserialize;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// The port that trackers commonly use.
pub const PORT_DEFAULT: u16 = 6969;

/// Most connections at a time. Each costs a socket and, once it has said something, about 16 KiB.
pub const CONNECTIONS_MAX: usize = 8_192;

/// Shortest interval that can be set: clients keep to at least that anyway.
pub const INTERVAL_MIN: Duration = Duration::from_secs(30);

/// Longest interval that can be set: the ages of peers are told apart for 18 hours, two intervals and a bit.
pub const INTERVAL_MAX: Duration = Duration::from_secs(8 * 60 * 60);

/// How to serve.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on for HTTP; port 0 takes a free port.
    pub http: Vec<SocketAddr>,
    /// The same for UDP. One of the two must not be empty.
    pub udp: Vec<SocketAddr>,
    /// Leave out addresses that this system does not have, as long as one remains: for the default, which has
    /// IPv6 in it.
    pub some_suffice: bool,
    /// Most connections at a time.
    pub connections_max: usize,
    /// What can change while it runs.
    pub settings: Settings,
}

/// What can change while it runs.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The limits of the swarms and the interval.
    pub swarms: server::Config,
    /// A file of info hashes that are served; without it all are.
    pub allow: Option<PathBuf>,
    /// A file of info hashes that are not.
    pub deny: Option<PathBuf>,
    /// Whose word about other addresses is believed: reverse proxies (`X-Forwarded-For`) and peers behind the same
    /// address translation (`ip=`). Nobody's, unless set.
    pub trust: Vec<Network>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read the {what} {}: {source}", path.display())]
    Read {
        /// What the file is for.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A configuration file is not as it should be.
    #[error("{}: {message}", path.display())]
    Toml {
        /// Which.
        path: PathBuf,
        /// Line, column and what is wrong there.
        message: String,
    },
    /// A list is not as it should be.
    #[error("{}: {source}", path.display())]
    List {
        /// Which.
        path: PathBuf,
        /// The line and what is wrong with it.
        source: AccessError,
    },
}

impl Default for Config {
    fn default() -> Self {
        let all = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
            .map(|ip| SocketAddr::new(ip, PORT_DEFAULT))
            .to_vec();
        Self {
            http: all.clone(),
            udp: all,
            some_suffice: true,
            connections_max: CONNECTIONS_MAX,
            settings: Settings::default(),
        }
    }
}

impl Config {
    /// A tracker over HTTP at one address, with defaults for all else.
    #[must_use]
    pub fn at(addr: SocketAddr) -> Self {
        Self {
            http: vec![addr],
            udp: Vec::new(),
            some_suffice: false,
            ..Self::default()
        }
    }

    /// The configuration in a TOML file. Paths in it are relative to its folder.
    ///
    /// # Errors
    /// [`ConfigError`] if it cannot be read, or a key or value in it is unknown.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read("configuration", path)?;
        let wrong = |error: toml::de::Error| ConfigError::Toml {
            path: path.to_owned(),
            message: error.to_string(),
        };
        let file: File = toml::from_str(&text).map_err(wrong)?;
        Ok(file.into_config(path.parent().unwrap_or(Path::new(""))))
    }
}

impl Settings {
    /// Reads the lists.
    ///
    /// # Errors
    /// [`ConfigError`] if one cannot be read, or has a line that is no info hash.
    pub(crate) fn access(&self) -> Result<Access, ConfigError> {
        type Parse = fn(&str) -> Result<Access, AccessError>;
        let list = |what: &'static str, path: &Option<PathBuf>, parse: Parse| {
            let Some(path) = path else {
                return Ok(Access::default());
            };
            parse(&read(what, path)?).map_err(|source| ConfigError::List {
                path: path.clone(),
                source,
            })
        };
        let allowed = list("allow list", &self.allow, |text| {
            Access::parse(Some(text), None)
        })?;
        let denied = list("deny list", &self.deny, |text| {
            Access::parse(None, Some(text))
        })?;
        Ok(allowed.and(denied))
    }
}

fn read(what: &'static str, path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        what,
        path: path.to_owned(),
        source,
    })
}

/// The keys of the TOML file, all of them optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    http: Option<Vec<SocketAddr>>,
    udp: Option<Vec<SocketAddr>>,
    interval: Option<Span>,
    allow: Option<PathBuf>,
    deny: Option<PathBuf>,
    #[serde(default)]
    trust: Vec<Network>,
    connections_max: Option<usize>,
    torrents_max: Option<usize>,
    peers_max: Option<usize>,
    numwant_max: Option<u32>,
    peer_ids: Option<bool>,
}

impl File {
    fn into_config(self, folder: &Path) -> Config {
        let interval = self.interval.map(|span| span.0);
        let mut swarms =
            interval.map_or_else(server::Config::default, server::Config::with_interval);
        swarms.torrents_max = self.torrents_max.unwrap_or(swarms.torrents_max);
        swarms.peers_max = self.peers_max.unwrap_or(swarms.peers_max);
        swarms.numwant_max = self.numwant_max.unwrap_or(swarms.numwant_max);
        swarms.peer_ids = self.peer_ids.unwrap_or(swarms.peer_ids);
        let default = Config::default();
        let named_http = self.http.is_some();
        Config {
            // Who names addresses of one kind does not want those of the other by default.
            some_suffice: self.http.is_none() && self.udp.is_none(),
            http: match (self.http, &self.udp) {
                (Some(http), _) => http,
                (None, Some(_)) => Vec::new(),
                (None, None) => default.http,
            },
            udp: self
                .udp
                .unwrap_or(if named_http { Vec::new() } else { default.udp }),
            connections_max: self.connections_max.unwrap_or(default.connections_max),
            settings: Settings {
                swarms,
                allow: self.allow.map(|path| folder.join(path)),
                deny: self.deny.map(|path| folder.join(path)),
                trust: self.trust,
            },
        }
    }
}

/// An interval as people write it: `30m`, `90s`, `1h30m`, or a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct Span(pub Duration);

/// Text that is no time span, or one that is too short or too long.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no interval: write 30m, 90s or 1h30m, from 30s to 8h")]
pub struct ParseSpanError {
    text: String,
}

impl core::str::FromStr for Span {
    type Err = ParseSpanError;

    fn from_str(text: &str) -> Result<Self, ParseSpanError> {
        let wrong = || ParseSpanError {
            text: text.to_owned(),
        };
        let mut total: u64 = 0;
        let mut rest = text.trim();
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at_checked(digits).ok_or_else(wrong)?;
            let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, tail) = tail.split_at_checked(letters).ok_or_else(wrong)?;
            let seconds: u64 = match unit {
                "s" => 1,
                "" if tail.is_empty() => 1,
                "m" | "min" => 60,
                "h" => 60 * 60,
                "d" => 24 * 60 * 60,
                _ => return Err(wrong()),
            };
            let number: u64 = number.parse().map_err(|_| wrong())?;
            total = number
                .checked_mul(seconds)
                .and_then(|more| total.checked_add(more))
                .ok_or_else(wrong)?;
            rest = tail;
        }
        let span = Duration::from_secs(total);
        if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&span) {
            return Err(wrong());
        }
        Ok(Self(span))
    }
}

impl TryFrom<toml::Value> for Span {
    type Error = ParseSpanError;

    fn try_from(value: toml::Value) -> Result<Self, ParseSpanError> {
        match value.as_str() {
            Some(text) => text.parse(),
            None => value.to_string().parse(),
        }
    }
}

impl TryFrom<String> for Network {
    type Error = ParseNetworkError;

    fn try_from(text: String) -> Result<Self, ParseNetworkError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        let rows = [
            ("30m", Some(1800)),
            ("90s", Some(90)),
            ("1h30m", Some(5400)),
            (" 8h ", Some(28_800)),
            ("8h1s", None),
            ("2d", None),
            ("45min", Some(2700)),
            ("1800", Some(1800)),
            ("30", Some(30)),
            ("29s", None),
            ("0", None),
            ("", None),
            ("m", None),
            ("5x", None),
            ("-5m", None),
            ("1h 30m", None),
            ("5 10m", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
            ("é", None),
        ];
        for (text, expected) in rows {
            let got = text.parse::<Span>().ok().map(|span| span.0.as_secs());
            assert_eq!(got, expected, "{text:?}");
        }
    }

    #[test]
    fn files_are_read_and_mistakes_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tracker.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Config::read(&path)
        };
        let config = read(
            "http = ['127.0.0.1:0']\ninterval = '10m'\nallow = 'list'\ntrust = ['10.0.0.0/8']",
        )
        .unwrap();
        assert_eq!(config.http, ["127.0.0.1:0".parse().unwrap()]);
        assert!(!config.some_suffice);
        assert_eq!(config.settings.swarms.interval, Duration::from_secs(600));
        assert_eq!(config.settings.allow, Some(folder.path().join("list")));
        assert_eq!(config.settings.trust.len(), 1);
        assert_eq!(read("").unwrap().http, Config::default().http);
        for (text, named) in [
            ("intervall = '10m'", "intervall"),
            ("interval = '10 parsecs'", "10 parsecs"),
            ("interval = 5", "from 30s to 8h"),
            ("http = ['here']", "http"),
            ("trust = ['10.0.0.0/40']", "10.0.0.0/40"),
            ("[", "tracker.toml"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn lists_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("allow");
        let settings = Settings {
            allow: Some(path.clone()),
            ..Settings::default()
        };
        let error = settings.access().unwrap_err().to_string();
        assert!(error.starts_with("cannot read the allow list"), "{error}");
        std::fs::write(&path, "nonsense").unwrap();
        let error = settings.access().unwrap_err().to_string();
        assert!(error.contains("allow: line 1"), "{error}");
        std::fs::write(&path, "").unwrap();
        let access = settings.access().unwrap();
        assert!(!access.permits(&bt_core::InfoHash([0; 20])));
    }
}
