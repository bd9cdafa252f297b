//! What an operator may set: in a TOML file, on the command line, or as a value when the server is embedded.

mod file;
mod keys;
mod span;

pub use span::{Interval, ParseIntervalError, ParseSpanError, Span};

use crate::admin::Token;
use crate::proxy::ProxySays;
use crate::store::{ParseStoreUrlError, StoreUrl};
use crate::trust::{Network, ParseNetworkError};
use bt_tracker::http::encode::Notes;
use bt_tracker::server;
use bt_tracker::server::{Access, AccessError, Keys, KeysError, Quota};
use core::time::Duration;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The port that trackers commonly use.
pub const PORT_DEFAULT: u16 = 6969;

/// Most connections at a time. Each costs a socket and, once it has said something, about 16 KiB.
pub const CONNECTIONS_MAX: usize = 8_192;

/// How often a snapshot is written: what a killed process loses. A million peers are 10 to 40 MiB.
pub const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Shortest interval that can be set: clients keep to at least that anyway.
pub const INTERVAL_MIN: Duration = Duration::from_secs(30);

/// Longest interval that can be set: the ages of peers are told apart for 18 hours, two intervals and a bit.
pub const INTERVAL_MAX: Duration = Duration::from_secs(8 * 60 * 60);

/// How to serve.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on for HTTP; port 0 takes a free port.
    pub http: Vec<SocketAddr>,
    /// The same for HTTPS, which needs a certificate in the settings.
    pub https: Vec<SocketAddr>,
    /// The same for UDP. One of the three must not be empty.
    pub udp: Vec<SocketAddr>,
    /// Leave out addresses that this system does not have, as long as one remains: for the default, which has
    /// IPv6 in it.
    pub some_suffice: bool,
    /// Take the sockets that a service manager has opened (systemd: `LISTEN_FDS`). Unless addresses were named, those are all.
    pub service_sockets: bool,
    /// Most connections at a time.
    pub connections_max: usize,
    /// A file that keeps swarms and counts over a restart; without it they end with the process.
    pub snapshot: Option<PathBuf>,
    /// How often that is written.
    pub snapshot_interval: Duration,
    /// An address for metrics in the format of Prometheus; port 0 takes a free port.
    pub metrics: Option<SocketAddr>,
    /// An address for the administration, which needs a token.
    pub admin: Option<SocketAddr>,
    /// The token; goes before that of the file.
    pub admin_token: Option<Token>,
    /// A file that holds the token.
    pub admin_token_file: Option<PathBuf>,
    /// A Unix socket at which a running tracker of the same user gives its sockets and swarms away.
    pub hand_over: Option<PathBuf>,
    /// Where the swarms are shared with other trackers, if they are.
    pub store: Option<StoreUrl>,
    /// How the program writes its log; a server inside another program leaves that to it.
    pub log_format: LogFormat,
    /// What can change while it runs.
    pub settings: Settings,
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object for each line.
    Json,
}

impl LogFormat {
    /// As the configuration has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
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
    /// A file of the keys of users; with it the tracker is private.
    pub keys: Option<PathBuf>,
    /// Beginnings of the peer ids of clients that are not served, as text.
    pub clients_denied: Vec<String>,
    /// What one address may have; of IPv6 its network of 64 bits.
    pub per_address: Quota,
    /// What one key may have.
    pub per_key: Quota,
    /// Reverse proxies, whose word about the client's address is believed. Nobody's, unless set.
    pub proxies: Vec<Network>,
    /// How they say it.
    pub proxy_says: ProxySays,
    /// Who may name an address of its own with `ip=`. Nobody, unless set.
    pub ip_from: Vec<Network>,
    /// The certificate chain for HTTPS, in PEM.
    pub tls_certificate: Option<PathBuf>,
    /// Its private key.
    pub tls_key: Option<PathBuf>,
    /// What every announce over HTTP is told.
    pub notes: Notes,
    /// Most torrents that a scrape of everything names; it is refused where there are more.
    pub full_scrape_max: usize,
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
    #[error("{}: line {line}: {message}", path.display())]
    Toml {
        /// Which.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The address of the store on the command line is none. It is not shown: it may hold a password.
    #[error("--store: {0}")]
    Store(#[from] ParseStoreUrlError),
    /// The administration has an address, and no token.
    #[error("admin needs a token: admin_token_file, or the variable BT_TRACKERD_ADMIN_TOKEN")]
    NoToken,
    /// The token is too short, or has something in it that is no letter, digit or sign. It is not shown.
    #[error("{}: no token; 16 letters, digits or signs are the least", path.display())]
    Token {
        /// Where it should be.
        path: PathBuf,
    },
    /// The list of keys is not as it should be.
    #[error("{}: {source}", path.display())]
    Keys {
        /// Which.
        path: PathBuf,
        /// The line.
        source: KeysError,
    },
    /// The certificate or its key cannot be used.
    #[error("{}: {message}", path.display())]
    Tls {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// HTTPS is wanted, and one of both is not named.
    #[error("https needs both tls_certificate and tls_key")]
    NoCertificate,
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
            https: Vec::new(),
            udp: all,
            some_suffice: true,
            service_sockets: false,
            connections_max: CONNECTIONS_MAX,
            snapshot: None,
            snapshot_interval: SNAPSHOT_INTERVAL,
            metrics: None,
            admin: None,
            admin_token: None,
            admin_token_file: None,
            hand_over: None,
            store: None,
            log_format: LogFormat::default(),
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
}

impl Config {
    /// Where the administration listens, and its token.
    ///
    /// # Errors
    /// [`ConfigError`] if there is an address and no token, or one that will not do.
    pub(crate) fn administration(&self) -> Result<Option<Token>, ConfigError> {
        if self.admin.is_none() {
            return Ok(None);
        }
        if let Some(token) = &self.admin_token {
            return Ok(Some(token.clone()));
        }
        let Some(path) = &self.admin_token_file else {
            return Err(ConfigError::NoToken);
        };
        let token = Token::new(&read("token of the administration", path)?);
        let unfit = || ConfigError::Token { path: path.clone() };
        token.map(Some).ok_or_else(unfit)
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

    /// Reads the certificate, if there is one.
    ///
    /// # Errors
    /// [`ConfigError`] if certificate or key cannot be used.
    pub(crate) fn tls(&self) -> Result<Option<Arc<rustls::ServerConfig>>, ConfigError> {
        match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => crate::tls::read(certificate, key).map(Some),
            (None, None) => Ok(None),
            (Some(_), None) | (None, Some(_)) => Err(ConfigError::NoCertificate),
        }
    }

    /// Reads the keys.
    ///
    /// # Errors
    /// [`ConfigError`] if the file cannot be read, or has a line that is no key.
    pub(crate) fn keys(&self) -> Result<Option<Keys>, ConfigError> {
        let Some(path) = &self.keys else {
            return Ok(None);
        };
        let keys = Keys::parse(&read("list of keys", path)?);
        keys.map(Some).map_err(|source| ConfigError::Keys {
            path: path.clone(),
            source,
        })
    }
}

fn read(what: &'static str, path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        what,
        path: path.to_owned(),
        source,
    })
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
