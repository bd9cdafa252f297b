//! What a tracker's host says in DNS about the trackers that it runs (BEP 34), and the URLs that follow from it.
//!
//! A `TXT` record whose first word is `BITTORRENT` names all the ports on which there are trackers, the preferred one first:
//! `BITTORRENT UDP:1337 TCP:80`. One without any, such as `BITTORRENT DENY ALL`, says that there is none. Words are
//! case-sensitive; those that nobody knows are passed over. A host without such a record has said nothing.
//!
//! **Invariant:** a record changes scheme and port of a URL and nothing else, never leads to another host, and never takes
//! the encryption off an `https` URL. [`message`] asks for records; nothing here looks anything up.

pub mod message;
#[cfg(test)]
mod tests;

/// Trackers of one host that are kept, in order of preference: each may be tried in turn.
pub const ENDPOINTS_MAX: usize = 4;

/// The only port on which HTTP is taken to be encrypted: records do not tell.
const HTTPS_PORT: u16 = 443;

/// The path of a tracker over HTTP whose UDP URL has none.
const PATH_DEFAULT: &str = "/announce";

/// How a tracker is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// `UDP:X`, by BEP 15.
    Udp,
    /// `TCP:X`, over HTTP or HTTPS.
    Tcp,
}

/// A tracker on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// How it is reached.
    pub transport: Transport,
    /// Its port, never 0.
    pub port: u16,
}

impl Endpoint {
    fn parse(word: &[u8]) -> Option<Self> {
        let (transport, digits) = match word.split_at_checked(4)? {
            (b"UDP:", digits) => (Transport::Udp, digits),
            (b"TCP:", digits) => (Transport::Tcp, digits),
            _ => return None,
        };
        // Digits only: the parser of numbers takes a sign as well.
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let port = core::str::from_utf8(digits).ok()?.parse().ok()?;
        (port != 0).then_some(Self { transport, port })
    }
}

/// What a host says, the preferred tracker first. Without any it runs none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preferences(Vec<Endpoint>);

/// The host does not want to be asked at this URL, and names no other for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no tracker on the host.
    #[error("{host} says in DNS that it runs no tracker (BEP 34)")]
    NoTracker {
        /// The host.
        host: String,
    },
    /// None of its trackers can be asked without giving up the encryption that the URL has.
    #[error("{host} names in DNS no tracker that can be asked over HTTPS (BEP 34)")]
    Unencrypted {
        /// The host.
        host: String,
    },
}

impl Preferences {
    /// Reads the `TXT` records of a host. `None` if none of them is about trackers; of several the entries are added up.
    pub fn read<'a>(records: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut found: Option<Vec<Endpoint>> = None;
        for record in records {
            let mut words = record.split(|byte| *byte == b' ').filter(|w| !w.is_empty());
            if words.next() != Some(b"BITTORRENT") {
                continue;
            }
            let endpoints = found.get_or_insert_default();
            for endpoint in words.filter_map(Endpoint::parse) {
                if endpoints.len() < ENDPOINTS_MAX && !endpoints.contains(&endpoint) {
                    endpoints.push(endpoint);
                }
            }
        }
        found.map(Self)
    }

    /// The URLs to ask in place of `url`, the preferred one first: at least one.
    ///
    /// # Errors
    /// [`Refusal`] if the host wants none of them to be asked.
    pub fn apply(&self, url: &str) -> Result<Vec<String>, Refusal> {
        let Some(parts) = Parts::of(url) else {
            // What is no tracker's URL is refused by whoever asks there.
            return Ok(vec![url.to_owned()]);
        };
        let urls: Vec<String> = self.0.iter().filter_map(|to| parts.at(*to)).collect();
        if !urls.is_empty() {
            return Ok(urls);
        }
        let host = parts.host.to_owned();
        Err(if self.0.is_empty() {
            Refusal::NoTracker { host }
        } else {
            Refusal::Unencrypted { host }
        })
    }
}

/// The host of a tracker's URL, if it is a name for which DNS may have records: no address.
#[must_use]
pub fn host_of(url: &str) -> Option<&str> {
    let host = Parts::of(url)?.host;
    let is_address = host.starts_with('[') || host.parse::<core::net::Ipv4Addr>().is_ok();
    (!is_address).then_some(host)
}

/// A tracker's URL as text, so that what its operator wrote is kept as it stands.
struct Parts<'a> {
    whole: &'a str,
    scheme: Scheme,
    /// With the `@` behind it; for many URLs nothing.
    user: &'a str,
    host: &'a str,
    port: u16,
    /// Path, query and fragment.
    rest: &'a str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Udp,
    Http,
    Https,
}

impl Scheme {
    const fn text(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn transport(self) -> Transport {
        match self {
            Self::Udp => Transport::Udp,
            Self::Http | Self::Https => Transport::Tcp,
        }
    }
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let whole = url.trim();
        let (scheme, behind) = whole.split_once("://")?;
        let scheme = [Scheme::Udp, Scheme::Http, Scheme::Https]
            .into_iter()
            .find(|known| scheme.eq_ignore_ascii_case(known.text()))?;
        let end = behind.find(['/', '?', '#']).unwrap_or(behind.len());
        let (authority, rest) = behind.split_at_checked(end)?;
        let start = authority.rfind('@').map_or(0, |at| at + 1);
        let (user, place) = authority.split_at_checked(start)?;
        // The last colon, unless it is inside an IPv6 address.
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => match scheme {
                Scheme::Udp => return None,
                Scheme::Http => (place, 80),
                Scheme::Https => (place, HTTPS_PORT),
            },
        };
        (!host.is_empty()).then_some(Self {
            whole,
            scheme,
            user,
            host,
            port,
            rest,
        })
    }

    /// The URL of another tracker on the same host; `None` if the way there is not encrypted as this one's is.
    fn at(&self, to: Endpoint) -> Option<String> {
        if (self.scheme.transport(), self.port) == (to.transport, to.port) {
            return Some(self.whole.to_owned());
        }
        let scheme = match (to.transport, self.scheme) {
            (Transport::Udp, Scheme::Https) => return None,
            (Transport::Udp, Scheme::Udp | Scheme::Http) => Scheme::Udp,
            (Transport::Tcp, Scheme::Https) => Scheme::Https,
            (Transport::Tcp, Scheme::Udp | Scheme::Http) if to.port == HTTPS_PORT => Scheme::Https,
            (Transport::Tcp, Scheme::Udp | Scheme::Http) => Scheme::Http,
        };
        // Over UDP nobody logs in.
        let user = match scheme {
            Scheme::Udp => "",
            Scheme::Http | Scheme::Https => self.user,
        };
        let has_path =
            self.rest.starts_with('/') && !self.rest.starts_with("/?") && self.rest != "/";
        let (path, rest) = if to.transport == Transport::Tcp && !has_path {
            (PATH_DEFAULT, self.rest.trim_start_matches('/'))
        } else {
            ("", self.rest)
        };
        let (scheme, host, port) = (scheme.text(), self.host, to.port);
        Some(format!("{scheme}://{user}{host}:{port}{path}{rest}"))
    }
}
