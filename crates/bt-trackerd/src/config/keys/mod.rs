//! Every key of the configuration file: what it means, how it is read, and what it is now.
//!
//! A key that is added here is thereby read, printed, and known to whoever misspells it.

use crate::config::Config;
use crate::config::span::{Interval, Span};
use core::num::NonZeroUsize;
use serde::de::{DeserializeOwned, Error as _};
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

/// Takes a value as it stands.
macro_rules! read_into {
    ($($place:ident).+) => {
        |config, given| given.read().map(|value| config.$($place).+ = value)
    };
}

/// Takes a path, relative to the folder of the file.
macro_rules! path_into {
    ($($place:ident).+) => {
        |config, given| given.path().map(|path| config.$($place).+ = Some(path))
    };
}

// Behind what it is written with.
mod access;

/// A key of the configuration file.
pub(super) struct Key {
    pub(super) name: &'static str,
    /// What it means, for the operator.
    pub(super) about: &'static str,
    /// Whether it counts again when the file is read again.
    pub(super) live: bool,
    pub(super) set: fn(&mut Config, Given<'_>) -> Result<(), toml::de::Error>,
    /// Its value, if it has one.
    pub(super) show: fn(&Config) -> Option<toml::Value>,
    /// A value for those that have none by default.
    pub(super) example: &'static str,
}

/// What stands behind a key.
pub(super) struct Given<'a> {
    pub(super) value: Spanned<DeValue<'a>>,
    /// What paths are relative to.
    pub(super) folder: &'a Path,
}

impl Given<'_> {
    fn read<T: DeserializeOwned>(self) -> Result<T, toml::de::Error> {
        T::deserialize(ValueDeserializer::from(self.value))
    }

    fn path(self) -> Result<PathBuf, toml::de::Error> {
        let folder = self.folder;
        self.read::<PathBuf>().map(|path| folder.join(path))
    }
}

/// Shorter than the interval is what counts.
const TOO_LONG: &str = "longer than the interval";

/// In the order in which they are read and printed; those that build on others come behind them.
pub(super) const KEYS: &[Key] = &[
    Key {
        name: "http",
        about: "Addresses to listen on for HTTP. Port 0 takes a free port. Who names addresses of one kind\n\
                gets only those that are named.",
        live: false,
        set: read_into!(http),
        show: |config| Some(strings(&config.http)),
        example: "",
    },
    Key {
        name: "https",
        about: "Addresses to listen on for HTTPS (HTTP/1.1 and HTTP/2). Needs the two keys below.",
        live: false,
        set: read_into!(https),
        show: |config| Some(strings(&config.https)),
        example: "",
    },
    access::TLS_CERTIFICATE,
    access::TLS_KEY,
    Key {
        name: "udp",
        about: "Addresses to listen on for UDP.",
        live: false,
        set: read_into!(udp),
        show: |config| Some(strings(&config.udp)),
        example: "",
    },
    Key {
        name: "connections_max",
        about: "Most connections at a time. Beyond that, and beyond the files that the process may open, the one\n\
                that has been silent longest is closed for the new one.",
        live: false,
        set: read_into!(connections_max),
        show: |config| Some(count(config.connections_max)),
        example: "",
    },
    Key {
        name: "interval",
        about: "How often peers shall announce, 30s to 8h; each is told up to a tenth more, so that they do not\n\
                come in waves. A peer that has been silent for two intervals and a tenth is forgotten.",
        live: true,
        set: |config, given| {
            let Interval(interval) = given.read()?;
            config.settings.swarms.set_interval(interval);
            Ok(())
        },
        show: |config| Some(span(config.settings.swarms.interval)),
        example: "",
    },
    Key {
        name: "min_interval",
        about: "How often they may.",
        live: true,
        set: |config, given| {
            let Span(min) = given.read()?;
            if min > config.settings.swarms.interval {
                return Err(toml::de::Error::custom(TOO_LONG));
            }
            config.settings.swarms.min_interval = min;
            Ok(())
        },
        show: |config| Some(span(config.settings.swarms.min_interval)),
        example: "",
    },
    Key {
        name: "numwant",
        about: "Peers in an answer if the client names no number.",
        live: true,
        set: read_into!(settings.swarms.numwant_default),
        show: |config| Some(integer(config.settings.swarms.numwant_default.into())),
        example: "",
    },
    Key {
        name: "numwant_max",
        about: "Most peers in an answer.",
        live: true,
        set: read_into!(settings.swarms.numwant_max),
        show: |config| Some(integer(config.settings.swarms.numwant_max.into())),
        example: "",
    },
    Key {
        name: "torrents_max",
        about: "Most torrents in memory.",
        live: true,
        set: |config, given| {
            let most: NonZeroUsize = given.read()?;
            config.settings.swarms.torrents_max = most.get();
            Ok(())
        },
        show: |config| Some(count(config.settings.swarms.torrents_max)),
        example: "",
    },
    Key {
        name: "peers_max",
        about: "Most peers in memory, of all torrents together.",
        live: true,
        set: |config, given| {
            let most: NonZeroUsize = given.read()?;
            config.settings.swarms.peers_max = most.get();
            Ok(())
        },
        show: |config| Some(count(config.settings.swarms.peers_max)),
        example: "",
    },
    Key {
        name: "peer_ids",
        about: "Keep the ids of peers, for the few clients that ask for lists with ids: 28 bytes a peer instead of 8.",
        live: false,
        set: read_into!(settings.swarms.peer_ids),
        show: |config| Some(config.settings.swarms.peer_ids.into()),
        example: "",
    },
    access::ALLOW,
    access::DENY,
    access::KEYS_FILE,
    access::CLIENTS_DENIED,
    access::ADDRESS_ANNOUNCES,
    access::ADDRESS_PEERS,
    access::KEY_ANNOUNCES,
    access::KEY_PEERS,
    access::PROXIES,
    access::PROXY_SAYS,
    access::IP_FROM,
    access::FULL_SCRAPE,
    access::WARNING,
    access::TRACKER_ID,
    Key {
        name: "snapshot",
        about: "A file that keeps swarms, counts and proven addresses over a restart; written at intervals, at\n\
                SIGUSR1 and at the end. Without it they end with the process.",
        live: false,
        set: path_into!(snapshot),
        show: |config| config.snapshot.as_deref().map(path),
        example: "\"/var/lib/bt-trackerd/swarms\"",
    },
    Key {
        name: "snapshot_interval",
        about: "How often it is written: what a killed process loses.",
        live: false,
        set: |config, given| {
            let Span(interval) = given.read()?;
            config.snapshot_interval = interval;
            Ok(())
        },
        show: |config| Some(span(config.snapshot_interval)),
        example: "",
    },
    Key {
        name: "metrics",
        about: "An address for metrics in the text format of Prometheus, at /metrics. Whoever can reach it is told.",
        live: false,
        set: |config, given| given.read().map(|addr| config.metrics = Some(addr)),
        show: |config| config.metrics.map(|addr| addr.to_string().into()),
        example: "\"127.0.0.1:6970\"",
    },
    Key {
        name: "admin",
        about: "An address for the administration: torrents are listed and dropped, entries of lists added and\n\
                removed. It is not encrypted, so keep to this machine.",
        live: false,
        set: |config, given| given.read().map(|addr| config.admin = Some(addr)),
        show: |config| config.admin.map(|addr| addr.to_string().into()),
        example: "\"127.0.0.1:6971\"",
    },
    Key {
        name: "admin_token_file",
        about: "A file with the token that the administration asks for, 16 characters at least. The variable\n\
                BT_TRACKERD_ADMIN_TOKEN goes before it.",
        live: false,
        set: path_into!(admin_token_file),
        show: |config| config.admin_token_file.as_deref().map(path),
        example: "\"admin-token\"",
    },
    Key {
        name: "hand_over",
        about: "A Unix socket. A tracker that starts takes listening sockets and swarms over from the one that runs\n\
                with the same path, if one does: nothing that waits in them is lost. Both must be of one user.",
        live: false,
        set: path_into!(hand_over),
        show: |config| config.hand_over.as_deref().map(path),
        example: "\"/run/bt-trackerd/hand-over\"",
    },
    Key {
        name: "store",
        about: "Redis (6.2 or later) or Valkey, through which several trackers serve the same swarms: redis://HOST:PORT,\n\
                rediss://HOST:PORT over TLS, or unix:///PATH. While it is away, answers are those of this tracker alone.",
        live: false,
        set: |config, given| given.read().map(|url| config.store = Some(url)),
        show: |config| config.store.as_ref().map(|url| url.as_str().into()),
        example: "\"redis://127.0.0.1:6379\"",
    },
    Key {
        name: "log_format",
        about: "How the log is written on stderr: \"text\", or \"json\" for an object a line with timestamp, level and\n\
                message. No key of a user is ever in it.",
        live: false,
        set: read_into!(log_format),
        show: |config| Some(config.log_format.name().into()),
        example: "",
    },
];

fn strings<T: ToString>(values: &[T]) -> toml::Value {
    let values = values.iter().map(T::to_string);
    toml::Value::Array(values.map(toml::Value::String).collect())
}

fn integer(number: u64) -> toml::Value {
    toml::Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn count(number: usize) -> toml::Value {
    integer(number as u64)
}

fn span(duration: core::time::Duration) -> toml::Value {
    toml::Value::String(Span(duration).to_string())
}

fn path(path: &Path) -> toml::Value {
    toml::Value::String(path.display().to_string())
}
