//! The configuration file: read key by key, and printed with everything that can be set.

use super::keys::{Given, KEYS, Key};
use super::{Config, ConfigError, read};
use std::fmt::Write as _;
use std::path::Path;
use toml::de::DeTable;

/// How alike two names must be for one to be meant by the other, from 0 to 1: a slip or two of the finger.
const ALIKE_MIN: f64 = 0.8;

/// Keys of addresses to listen on. Who names one of them does not want those of the others by default.
const LISTENING: [&str; 3] = ["http", "https", "udp"];

impl Config {
    /// The configuration in a TOML file. Paths in it are relative to its folder.
    ///
    /// # Errors
    /// [`ConfigError`] if it cannot be read, or a key or value in it is unknown: with the line, and what may be meant.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read("configuration", path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, folder).map_err(|wrong| ConfigError::Toml {
            path: path.to_owned(),
            line: 1 + text
                .bytes()
                .take(wrong.at)
                .filter(|byte| *byte == b'\n')
                .count(),
            message: wrong.message,
        })
    }

    fn parse(text: &str, folder: &Path) -> Result<Self, Wrong> {
        let table = DeTable::parse(text).map_err(|error| Wrong {
            at: error.span().map_or(0, |span| span.start),
            message: error.message().to_owned(),
        })?;
        let mut config = Self::default();
        let mut given: Vec<_> = table.into_inner().into_iter().collect();
        given.sort_by_key(|(name, _)| name.span().start);
        if given
            .iter()
            .any(|(name, _)| LISTENING.contains(&&**name.get_ref()))
        {
            config.http.clear();
            config.https.clear();
            config.udp.clear();
            config.some_suffice = false;
        }
        if let Some((name, _)) = given
            .iter()
            .find(|(name, _)| !KEYS.iter().any(|key| key.name == &**name.get_ref()))
        {
            return Err(Wrong {
                at: name.span().start,
                message: unknown(name.get_ref()),
            });
        }
        // In the order of the table of keys, as some build on others.
        for key in KEYS {
            let Some(place) = given
                .iter()
                .position(|(name, _)| &**name.get_ref() == key.name)
            else {
                continue;
            };
            let (_, value) = given.swap_remove(place);
            let at = value.span().start;
            let wrong = |error: toml::de::Error| Wrong {
                at: error.span().map_or(at, |span| span.start),
                message: format!("{}: {}", key.name, plain(error.message())),
            };
            (key.set)(&mut config, Given { value, folder }).map_err(wrong)?;
        }
        Ok(config)
    }

    /// A configuration file that says the same: every key with what it means, and those that are not as they are by
    /// default with their values; the others stand in comments.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = "# bt-trackerd, every key. Keys in comments have the value that counts without them.\n\
                       # SIGHUP reads this file again; keys marked \"at the start\" then keep their old value.\n"
            .to_owned();
        let default = Self::default();
        for Key {
            name,
            about,
            live,
            show,
            example,
            ..
        } in KEYS
        {
            out.push('\n');
            for line in about.lines() {
                let _ = writeln!(out, "# {line}");
            }
            if !live {
                out.push_str("# (at the start)\n");
            }
            let (value, usual) = (show(self), show(&default));
            let _ = match (&value, &usual) {
                (Some(value), usual) if Some(value) != usual.as_ref() => {
                    writeln!(out, "{name} = {value}")
                }
                (_, Some(usual)) => writeln!(out, "#{name} = {usual}"),
                (_, None) => writeln!(out, "# Not set. Example:\n#{name} = {example}"),
            };
        }
        out
    }

    /// The keys that count at the start only, and are not the same in `other`.
    #[must_use]
    pub fn fixed_differences(&self, other: &Self) -> Vec<&'static str> {
        KEYS.iter()
            .filter(|key| !key.live && (key.show)(self) != (key.show)(other))
            .map(|key| key.name)
            .collect()
    }
}

/// What is wrong, and at which byte.
struct Wrong {
    at: usize,
    message: String,
}

/// How the parser names what it wants, and what an operator calls that.
const PLAIN: [(&str, &str); 6] = [
    ("a nonzero usize", "a whole number from 1 on"),
    ("usize", "a whole number"),
    ("u32", "a whole number up to 4294967295"),
    ("a sequence", "a list in brackets"),
    ("path string", "a path in quotes"),
    (
        "invalid socket address syntax",
        "not ADDRESS:PORT, such as \"0.0.0.0:6969\" or \"[::]:6969\"",
    ),
];

fn plain(message: &str) -> String {
    let mut ends = PLAIN.iter().filter_map(|(from, to)| {
        let rest = message.strip_suffix(from)?;
        Some(format!("{rest}{to}"))
    });
    ends.next().unwrap_or_else(|| message.to_owned())
}

fn unknown(name: &str) -> String {
    let alike = |key: &Key| (strsim::jaro_winkler(name, key.name), key.name);
    let nearest = KEYS
        .iter()
        .map(alike)
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    match nearest {
        Some((_, meant)) => format!("{name} is no key; is {meant} meant?"),
        None => format!("{name} is no key; --print-config shows all of them"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    fn parse(text: &str) -> Result<Config, (usize, String)> {
        let (_folder, path) = written(text);
        Config::read(&path).map_err(|error| match error {
            ConfigError::Toml { line, message, .. } => (line, message),
            ConfigError::NoToken
            | ConfigError::Token { .. }
            | ConfigError::Read { .. }
            | ConfigError::List { .. }
            | ConfigError::Keys { .. }
            | ConfigError::Tls { .. }
            | ConfigError::Store(_)
            | ConfigError::NoCertificate => {
                panic!("{error}")
            }
        })
    }

    fn written(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tracker.toml");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn files_are_read() {
        let text =
            "http = ['127.0.0.1:0']\ninterval = '10m'\nallow = 'list'\nip_from = ['10.0.0.0/8']";
        let config = Config::parse(text, Path::new("/etc/bt")).ok().unwrap();
        assert_eq!(config.http, ["127.0.0.1:0".parse().unwrap()]);
        assert_eq!(config.udp, []);
        assert!(!config.some_suffice);
        assert_eq!(config.settings.swarms.interval, Duration::from_secs(600));
        assert_eq!(
            config.settings.allow.as_deref(),
            Some(Path::new("/etc/bt/list"))
        );
        assert_eq!(config.settings.ip_from.len(), 1);
        assert_eq!(parse("").unwrap().http, Config::default().http);
        // The order in the file is of no importance.
        let config = parse("min_interval = '2m'\ninterval = '1h'").unwrap();
        let swarms = &config.settings.swarms;
        assert_eq!(swarms.min_interval, Duration::from_secs(120));
        assert!(swarms.expiry > Duration::from_secs(7200));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, line, named) in [
            ("intervall = '10m'", 1, "is interval meant?"),
            ("\n\ninterval = 5\nudpp = []", 4, "is udp meant?"),
            ("colour = 'red'", 1, "--print-config shows all"),
            (
                "udp = []\ninterval = '10 parsecs'",
                2,
                "interval: \"10 parsecs\"",
            ),
            ("interval = 5", 1, "from 30s to 8h"),
            ("min_interval = '2h'", 1, "longer than the interval"),
            (
                "http = [\n'127.0.0.1:1',\n'here']",
                3,
                "http: not ADDRESS:PORT, such as \"0.0.0.0:6969\"",
            ),
            ("http = 'here'", 1, "expected a list in brackets"),
            ("snapshot = 5", 1, "expected a path in quotes"),
            ("proxies = ['10.0.0.0/40']", 1, "10.0.0.0/40"),
            ("peers_max = -1", 1, "peers_max"),
            (
                "peers_max = 'many'",
                1,
                "peers_max: invalid type: string \"many\", expected a whole number from 1 on",
            ),
            // Not a word for "without limit".
            ("peers_max = 0", 1, "from 1 on"),
            ("torrents_max = 0", 1, "from 1 on"),
            ("full_scrape_max = 'all'", 1, "expected a whole number"),
            ("numwant_max = 99999999999", 1, "up to 4294967295"),
            ("peer_ids = 1", 1, "peer_ids"),
            ("proxy_says = 'nothing'", 1, "proxy-protocol"),
            ("clients_denied = ['-XL', '']", 1, "1 to 20 bytes"),
            ("interval = '1h'\n[interval]", 2, "duplicate key"),
            ("a = 1\n[", 2, ""),
        ] {
            let (at, message) = parse(text).unwrap_err();
            assert!(message.contains(named), "{text}: {message}");
            assert_eq!(at, line, "{text}: {message}");
        }
    }

    #[test]
    fn what_is_printed_reads_as_the_same() {
        let default = Config::default();
        let printed = default.to_toml();
        assert!(
            printed
                .lines()
                .all(|line| line.is_empty() || line.starts_with('#')),
            "{printed}"
        );
        // With the comment signs taken from the values, every key stands there and is understood.
        let bare: String = printed
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let given = DeTable::parse(&bare).unwrap();
        assert_eq!(given.get_ref().len(), KEYS.len());
        let again = Config::parse(&bare, Path::new("/")).ok().unwrap();
        for key in KEYS {
            let usual = (key.show)(&default);
            assert!(
                usual.is_none() || (key.show)(&again) == usual,
                "{}",
                key.name
            );
            assert!(
                (key.show)(&again).is_some(),
                "{}: the example sets nothing",
                key.name
            );
        }
        // And what was changed comes back.
        let changed = again.to_toml();
        let reread = Config::parse(&changed, Path::new("/")).ok().unwrap();
        assert_eq!(reread.to_toml(), changed);
    }

    #[test]
    fn each_key_sets_what_it_shows_and_nothing_else() {
        let default = Config::default();
        for key in KEYS.iter().filter(|key| !LISTENING.contains(&key.name)) {
            let value = match (key.show)(&default) {
                None => key.example,
                Some(toml::Value::Integer(_)) => "7",
                Some(toml::Value::Boolean(_)) => "false",
                Some(toml::Value::Array(_)) => "['10.0.0.0/8']",
                Some(_) if key.name == "proxy_says" => "'forwarded'",
                Some(_) if key.name == "log_format" => "'json'",
                Some(_) => "'45s'",
            };
            let given = parse(&format!("{} = {value}", key.name)).unwrap();
            let changed = KEYS
                .iter()
                .filter(|key| (key.show)(&given) != (key.show)(&default))
                .map(|key| key.name);
            // Nobody waits longer than the interval.
            let expected = match key.name {
                "interval" => vec!["interval", "min_interval"],
                name => vec![name],
            };
            assert_eq!(changed.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn keys_that_count_at_the_start_are_told_apart() {
        let (a, b) = (
            parse("peer_ids = false\ninterval = '1h'").unwrap(),
            Config::default(),
        );
        assert_eq!(a.fixed_differences(&b), ["peer_ids"]);
        assert_eq!(b.fixed_differences(&b), Vec::<&str>::new());
    }
}
