//! The administration: torrents are listed and dropped, and entries of the lists added and removed.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /admin/torrents?from=HEX&limit=N` | torrents in the order of their info hashes, and where to go on |
//! | `GET`, `DELETE /admin/torrents/HEX` | shows or drops one; it comes back with the next announce unless it is denied |
//! | `PUT`, `DELETE /admin/allow/HEX`, `/admin/deny/HEX`, `/admin/keys/KEY` | adds or removes an entry |
//!
//! Entries are changed in the files of the lists, so that they last, and the files are then read again: comments stay, and
//! whoever edits them by hand sees what was done.
//!
//! **Invariant:** nothing is answered without the token, which is compared in a time that tells nothing about it; and neither
//! the token nor a key gets into a log.

use crate::config::{ConfigError, Settings};
use crate::reply::{Reply, reply, text};
use crate::state::State;
use bt_core::InfoHash;
use bt_tracker::scrape::ScrapeEntry;
use bt_tracker::server::{Access, Keys, is_key};
use core::fmt;
use hyper::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, StatusCode};
use serde_json::json;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::info;

/// Shortest token, in bytes: fewer could be tried out.
pub const TOKEN_MIN_BYTES: usize = 16;

/// Torrents of an answer, if the request names no number, and at most.
const TORRENTS_DEFAULT: usize = 100;
const TORRENTS_MAX: usize = 1_000;

/// What whoever administers has to know.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

impl Token {
    /// The token in a text, without the space around it; `None` if it is too short, or cannot stand in a header.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits =
            text.len() >= TOKEN_MIN_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.into()))
    }

    fn is(&self, other: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differences = own.iter().zip(other).map(|(a, b)| a ^ b);
        own.len() == other.len() && differences.fold(0, |all, one| all | one) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// A list whose entries can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Allow,
    Deny,
    Keys,
}

/// What is asked for.
enum Asked {
    Torrents {
        from: InfoHash,
        most: usize,
    },
    Torrent(InfoHash),
    Drop(InfoHash),
    Change {
        list: List,
        entry: String,
        add: bool,
    },
}

/// The reply to a request with or without the right token.
pub(crate) async fn answer<B>(state: &Arc<State>, token: &Token, request: &Request<B>) -> Reply {
    let given = request.headers().get(AUTHORIZATION);
    let given = given.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if !given.is_some_and(|given| token.is(given)) {
        let mut reply = text(
            StatusCode::UNAUTHORIZED,
            "Authorization: Bearer TOKEN is missing or wrong\n",
        );
        let how = HeaderValue::from_static("Bearer");
        reply.headers_mut().insert(WWW_AUTHENTICATE, how);
        return reply;
    }
    match Asked::read(
        request.method(),
        request.uri().path(),
        request.uri().query(),
    ) {
        Ok(asked) => {
            let state = Arc::clone(state);
            // Long lists are read again, and all torrents looked at: others need not wait for that.
            let done = tokio::task::spawn_blocking(move || asked.obey(&state)).await;
            done.unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "it failed\n"))
        }
        Err((status, why)) => text(status, why),
    }
}

type Wrong = (StatusCode, &'static str);

impl Asked {
    fn read(method: &Method, path: &str, query: Option<&str>) -> Result<Self, Wrong> {
        const NOWHERE: Wrong = (StatusCode::NOT_FOUND, "nothing here\n");
        const METHOD: Wrong = (StatusCode::METHOD_NOT_ALLOWED, "not with this method\n");
        let hash = |text: &str| {
            let wrong = (
                StatusCode::BAD_REQUEST,
                "an info hash has 40 hexadecimal digits\n",
            );
            text.parse().map_err(|_| wrong)
        };
        let path = path.strip_prefix("/admin/").ok_or(NOWHERE)?;
        let (list, entry) = match path.split_once('/') {
            None if path == "torrents" => {
                let listing = Self::read_listing(query.unwrap_or_default())?;
                return (method == Method::GET).then_some(listing).ok_or(METHOD);
            }
            Some(("torrents", torrent)) => {
                let torrent = hash(torrent)?;
                return match *method {
                    Method::GET => Ok(Self::Torrent(torrent)),
                    Method::DELETE => Ok(Self::Drop(torrent)),
                    _ => Err(METHOD),
                };
            }
            Some(("allow", entry)) => (List::Allow, hash(entry)?.to_string()),
            Some(("deny", entry)) => (List::Deny, hash(entry)?.to_string()),
            Some(("keys", key)) if is_key(key.as_bytes()) => (List::Keys, key.to_owned()),
            Some(("keys", _)) => {
                let why = "a key has 8 to 64 letters, digits, - and _\n";
                return Err((StatusCode::BAD_REQUEST, why));
            }
            _ => return Err(NOWHERE),
        };
        let add = match *method {
            Method::PUT => true,
            Method::DELETE => false,
            _ => return Err(METHOD),
        };
        Ok(Self::Change { list, entry, add })
    }

    fn read_listing(query: &str) -> Result<Self, Wrong> {
        let wrong = (
            StatusCode::BAD_REQUEST,
            "from=INFO_HASH and limit=NUMBER are understood\n",
        );
        let (mut from, mut most) = (InfoHash([0; 20]), TORRENTS_DEFAULT);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("from", value)) => from = value.parse().map_err(|_| wrong)?,
                Some(("limit", value)) => most = value.parse().map_err(|_| wrong)?,
                _ => return Err(wrong),
            }
        }
        let most = most.clamp(1, TORRENTS_MAX);
        Ok(Self::Torrents { from, most })
    }

    fn obey(self, state: &State) -> Reply {
        match self {
            Self::Torrents { from, most } => {
                let mut torrents = state.shards.torrents(from, most + 1);
                let next = torrents.get(most).map(|(next, _)| next.to_string());
                torrents.truncate(most);
                let torrents = torrents.iter().map(|(hash, entry)| shown(hash, *entry));
                let torrents: Vec<_> = torrents.collect();
                said(&json!({"torrents": torrents, "next": next}))
            }
            Self::Torrent(hash) => match state.shards.scrape(state.now(), &hash) {
                Some(entry) => said(&shown(&hash, entry)),
                None => text(StatusCode::NOT_FOUND, "no such torrent\n"),
            },
            Self::Drop(hash) if state.shards.forget(&hash) => {
                info!("the administration dropped {hash}");
                said(&json!({"dropped": hash.to_string()}))
            }
            Self::Drop(_) => text(StatusCode::NOT_FOUND, "no such torrent\n"),
            Self::Change { list, entry, add } => {
                match state.change_settings(|settings| list.change(settings, &entry, add)) {
                    Ok(changed) => {
                        info!("the administration changed the {} list", list.name());
                        said(&json!({"changed": changed}))
                    }
                    Err(error) => error.reply(),
                }
            }
        }
    }
}

fn shown(hash: &InfoHash, entry: ScrapeEntry) -> serde_json::Value {
    json!({
        "info_hash": hash.to_string(), "seeders": entry.complete,
        "leechers": entry.incomplete,
        "downloaders": entry.downloaders, "downloaded": entry.downloaded,
    })
}

fn said(body: &serde_json::Value) -> Reply {
    reply(StatusCode::OK, "application/json", format!("{body}\n"))
}

/// Why a list stays as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("no file is configured for this list")]
    NoList,
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: {message}", path.display())]
    Wrong { path: PathBuf, message: String },
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl ChangeError {
    fn reply(&self) -> Reply {
        let status = match self {
            Self::NoList | Self::Wrong { .. } => StatusCode::CONFLICT,
            Self::File { .. } | Self::Config(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        text(status, format!("{self}\n"))
    }
}

impl List {
    const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Keys => "keys",
        }
    }

    /// Changes the file; false if it said so already.
    fn change(self, settings: &Settings, entry: &str, add: bool) -> Result<bool, ChangeError> {
        let path = match self {
            Self::Allow => &settings.allow,
            Self::Deny => &settings.deny,
            Self::Keys => &settings.keys,
        };
        let path = path.as_deref().ok_or(ChangeError::NoList)?;
        let file = |source| ChangeError::File {
            path: path.to_owned(),
            source,
        };
        // What a link leads to is changed, and not the link.
        let target = path.canonicalize().map_err(file)?;
        let before = std::fs::read_to_string(&target).map_err(file)?;
        let Some(after) = self.edited(&before, entry, add) else {
            return Ok(false);
        };
        self.check(&after).map_err(|message| ChangeError::Wrong {
            path: path.to_owned(),
            message,
        })?;
        replace(&target, &after).map_err(file)?;
        Ok(true)
    }

    /// The text with or without the entry; `None` if it is that already.
    fn edited(self, text: &str, entry: &str, present: bool) -> Option<String> {
        let is_it = |line: &&str| {
            let said = line.split('#').next().unwrap_or_default().trim();
            match self {
                Self::Allow | Self::Deny => said.eq_ignore_ascii_case(entry),
                Self::Keys => said == entry,
            }
        };
        if present == text.split_inclusive('\n').any(|line| is_it(&line)) {
            return None;
        }
        if !present {
            return Some(
                text.split_inclusive('\n')
                    .filter(|line| !is_it(line))
                    .collect(),
            );
        }
        let end = if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        Some(format!("{text}{end}{entry}\n"))
    }

    /// A file with a mistake in it would not be taken as a whole.
    fn check(self, text: &str) -> Result<(), String> {
        match self {
            Self::Allow | Self::Deny => match Access::parse(Some(text), None) {
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            },
            Self::Keys => match Keys::parse(text) {
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

/// Puts another file in the place of this one, with the same rights.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let rights = std::fs::metadata(path)?.permissions();
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let written = (|| {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = std::fs::OpenOptions::new();
        // Nobody else's before it has the rights of the old one.
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(rights)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_link_leads_to_is_changed_and_keeps_its_rights() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let settings = Settings {
            deny: Some(link.clone()),
            ..Settings::default()
        };
        let entry = "a".repeat(40);
        assert!(List::Deny.change(&settings, &entry, true).unwrap());
        assert_eq!(std::fs::read_link(&link).unwrap(), file);
        let written = std::fs::read_to_string(&file).unwrap();
        assert_eq!(written, format!("{entry}\n"));
        let rights = std::fs::metadata(&file).unwrap().permissions();
        assert_eq!(rights.mode() & 0o777, 0o640);
        // And nothing else is left there.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn lines_come_and_go_and_all_else_stays() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let upper = a.to_uppercase();
        let text = format!("# ours\n{upper} # the first\n\n{b}");
        let rows = [
            (&*text, &*a, true, None),
            (&text, &a, false, Some(format!("# ours\n\n{b}"))),
            (
                &text,
                &b,
                false,
                Some(format!("# ours\n{upper} # the first\n\n")),
            ),
            ("", &a, true, Some(format!("{a}\n"))),
            ("# none", &a, true, Some(format!("# none\n{a}\n"))),
            ("", &a, false, None),
        ];
        for (text, entry, add, expected) in rows {
            assert_eq!(
                List::Deny.edited(text, entry, add),
                expected,
                "{text:?} {add}"
            );
        }
        // Keys differ by case.
        let added = List::Keys.edited("abcdefgh\n", "ABCDEFGH", true);
        assert_eq!(added.as_deref(), Some("abcdefgh\nABCDEFGH\n"));
    }

    #[test]
    fn tokens_are_long_and_not_shown() {
        for (text, fits) in [
            ("0123456789abcdef", true),
            (" 0123456789abcdef\n", true),
            ("0123456789abcde", false),
            ("0123456789 abcdef", false),
            ("", false),
        ] {
            assert_eq!(Token::new(text).is_some(), fits, "{text:?}");
        }
        let token = Token::new("0123456789abcdef").unwrap();
        assert!(token.is(b"0123456789abcdef"));
        for other in [
            "0123456789abcdeF",
            "0123456789abcdef0",
            "0123456789abcde",
            "",
        ] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
        assert_eq!(format!("{token:?}"), "Token");
    }
}
