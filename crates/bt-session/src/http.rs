//! HTTP(S) GET as trackers and web servers need it: bounded in time, size and redirects.
//!
//! **Invariant:** whatever a server does, a request ends within its deadline and keeps no more than twice its cap in
//! memory. Certificates are verified against the system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured).
//! A server on a public address cannot send us on to a private one, nor to another scheme than `http` and `https`;
//! credentials stay with the server that the user named.

use crate::reach::{Family, Names, Reach, Resolver, is_public};
use core::time::Duration;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER,
};
use reqwest::{Client, Response};
use std::io::Read;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use url::{Host, Url};

/// How we name ourselves to servers.
pub const USER_AGENT: &str = concat!("bt/", env!("CARGO_PKG_VERSION"));

/// Redirects that are followed: more is a loop or a mistake. libtorrent stops at 5 as well.
pub const REDIRECTS_MAX: usize = 5;

/// The largest metainfo file that is fetched, in bytes. The largest real ones have some 20 MiB.
pub const TORRENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long fetching a metainfo file may take.
pub const FETCH_DEADLINE: Duration = Duration::from_secs(60);

/// How long connecting may take, so that a dead address leaves time for the next.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// The longest `Retry-After` that is believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);

/// Why a request came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// Not a URL.
    #[error("{url:?} is not a URL: {reason}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Neither `http` nor `https`.
    #[error("{scheme}: is neither http nor https")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// Redirected too often.
    #[error("redirected more than {REDIRECTS_MAX} times")]
    Redirects,
    /// A redirect without a usable `Location`.
    #[error("redirected without saying where to")]
    Location,
    /// A public server sent us to a private address.
    #[error("redirected from a public to the private address {host}, which is refused")]
    PrivateRedirect {
        /// Where it would have gone.
        host: String,
    },
    /// Nothing came in time.
    #[error("no complete answer within {} s", .after.as_secs())]
    Deadline {
        /// The time there was.
        after: Duration,
    },
    /// The answer is too long, as sent or as unpacked.
    #[error("the answer is longer than {max} bytes")]
    TooLong {
        /// The limit in bytes.
        max: usize,
    },
    /// The answer is packed in a way we did not ask for, or is torn.
    #[error("the answer cannot be unpacked: {reason}")]
    Encoding {
        /// What is wrong with it.
        reason: String,
    },
    /// A status other than 200 to 299.
    #[error("HTTP status {code}")]
    Status {
        /// The code.
        code: u16,
    },
    /// DNS, TCP, TLS or HTTP failed.
    #[error("{reason}")]
    Network {
        /// The whole chain of causes.
        reason: String,
    },
}

/// An answer, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// HTTP status code.
    pub(crate) status: u16,
    /// The body, unpacked.
    pub(crate) body: Vec<u8>,
    /// From a `Retry-After` in seconds.
    pub(crate) retry_after: Option<Duration>,
    /// Who answered.
    pub(crate) from: Option<IpAddr>,
}

/// The bounds of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// For everything together: DNS, connecting, redirects, body.
    pub(crate) deadline: Duration,
    /// The longest body, in bytes.
    pub(crate) body_max: usize,
    /// Which addresses.
    pub(crate) family: Family,
}

/// Fetches what stands at an `http` or `https` URL, such as a metainfo file: at most `bytes_max` bytes.
///
/// # Errors
/// [`HttpError`] if there is no complete answer of status 200 to 299 within [`FETCH_DEADLINE`].
pub async fn fetch(url: &str, bytes_max: usize) -> Result<Vec<u8>, HttpError> {
    let bounds = Bounds {
        deadline: FETCH_DEADLINE,
        body_max: bytes_max,
        family: Family::Any,
    };
    let reply = Http::new(None, Names::System)
        .get(&parse(url)?, bounds)
        .await?;
    if !(200..300).contains(&reply.status) {
        return Err(HttpError::Status { code: reply.status });
    }
    Ok(reply.body)
}

/// Reads a URL and checks its scheme.
pub(crate) fn parse(url: &str) -> Result<Url, HttpError> {
    let parsed = Url::parse(url).map_err(|error| HttpError::Url {
        url: url.escape_debug().take(200).collect(),
        reason: error.to_string(),
    })?;
    checked_scheme(parsed)
}

fn checked_scheme(url: Url) -> Result<Url, HttpError> {
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(HttpError::Scheme {
            scheme: other.to_owned(),
        }),
    }
}

/// The HTTP client of a session.
#[derive(Debug)]
pub(crate) struct Http {
    bind: Option<IpAddr>,
    names: Names,
    /// A client for each kind of request that was needed so far.
    clients: Mutex<Vec<(Kind, Client)>>,
}

/// What makes requests need different clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    family: Family,
    reach: Reach,
    /// Only then the system's certificates are read: a machine without any can still ask its `http` trackers.
    is_https: bool,
}

impl Http {
    /// A client that connects from `bind`, if that is given.
    pub(crate) const fn new(bind: Option<IpAddr>, names: Names) -> Self {
        Self {
            bind,
            names,
            clients: Mutex::new(Vec::new()),
        }
    }

    /// The address that requests come from, if it was chosen.
    pub(crate) const fn bind(&self) -> Option<IpAddr> {
        self.bind
    }

    /// Who says what names mean.
    pub(crate) const fn names(&self) -> Names {
        self.names
    }

    /// One GET, redirects followed.
    pub(crate) async fn get(&self, url: &Url, bounds: Bounds) -> Result<Reply, HttpError> {
        tokio::time::timeout(bounds.deadline, self.follow(url.clone(), bounds))
            .await
            .unwrap_or(Err(HttpError::Deadline {
                after: bounds.deadline,
            }))
    }

    async fn follow(&self, mut url: Url, bounds: Bounds) -> Result<Reply, HttpError> {
        let mut reach = Reach::Anywhere;
        for _ in 0..=REDIRECTS_MAX {
            let kind = Kind {
                family: bounds.family,
                reach,
                is_https: url.scheme() == "https",
            };
            let response = self
                .client(kind)?
                .get(url.clone())
                .send()
                .await
                .map_err(|error| network(&error))?;
            if !response.status().is_redirection() {
                return read(response, bounds.body_max).await;
            }
            if response
                .remote_addr()
                .is_some_and(|addr| is_public(addr.ip()))
            {
                reach = Reach::PublicOnly;
            }
            url = redirected(&url, response.headers(), reach)?;
        }
        Err(HttpError::Redirects)
    }

    fn client(&self, kind: Kind) -> Result<Client, HttpError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = clients.iter().find(|(known, _)| *known == kind) {
            return Ok(client.clone());
        }
        // An error says that the process has a provider already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let gzip = (ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_DEADLINE)
            .pool_max_idle_per_host(0)
            .local_address(self.bind)
            .default_headers(HeaderMap::from_iter([gzip]))
            .dns_resolver(Resolver {
                names: self.names,
                family: kind.family,
                reach: kind.reach,
            });
        if !kind.is_https {
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| network(&error))?;
        clients.push((kind, client.clone()));
        Ok(client)
    }
}

/// Where a redirect leads, if it may.
fn redirected(from: &Url, headers: &HeaderMap, reach: Reach) -> Result<Url, HttpError> {
    let location = headers
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .ok_or(HttpError::Location)?;
    let to = from.join(location).map_err(|_| HttpError::Location)?;
    let mut to = checked_scheme(to)?;
    if to.origin() != from.origin() {
        // Neither the user's credentials nor any that the server made up go to another host.
        let _ = to.set_username("").and_then(|()| to.set_password(None));
    }
    let literal = match to.host() {
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        Some(Host::Domain(_)) | None => None,
    };
    if reach == Reach::PublicOnly && literal.is_some_and(|ip| !is_public(ip)) {
        return Err(HttpError::PrivateRedirect {
            host: to.host_str().unwrap_or_default().to_owned(),
        });
    }
    Ok(to)
}

async fn read(mut response: Response, max: usize) -> Result<Reply, HttpError> {
    let too_long = HttpError::TooLong { max };
    if response.content_length().is_some_and(|n| n > max as u64) {
        return Err(too_long);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| network(&error))? {
        if body.len() + chunk.len() > max {
            return Err(too_long);
        }
        body.extend_from_slice(&chunk);
    }
    let text = |name| {
        let value = response.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let body = match text(CONTENT_ENCODING).as_deref() {
        None | Some("" | "identity") => body,
        Some("gzip" | "x-gzip") => unpack(&body, max)?,
        Some(other) => {
            return Err(HttpError::Encoding {
                reason: format!("{:?} was not asked for", other),
            });
        }
    };
    Ok(Reply {
        status: response.status().as_u16(),
        from: response.remote_addr().map(|addr| addr.ip()),
        body,
        retry_after: text(RETRY_AFTER)
            .and_then(|text| text.trim().parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX)),
    })
}

fn unpack(packed: &[u8], max: usize) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    flate2::read::MultiGzDecoder::new(packed)
        .take(max as u64 + 1)
        .read_to_end(&mut body)
        .map_err(|error| HttpError::Encoding {
            reason: error.to_string(),
        })?;
    if body.len() > max {
        return Err(HttpError::TooLong { max });
    }
    Ok(body)
}

/// The error with all its causes, but without the URL, which may hold a passkey.
fn network(error: &reqwest::Error) -> HttpError {
    let mut reason = String::new();
    let mut cause: Option<&dyn core::error::Error> = core::error::Error::source(error);
    while let Some(error) = cause {
        if !reason.is_empty() {
            reason.push_str(": ");
        }
        reason.push_str(&error.to_string());
        cause = error.source();
    }
    if reason.is_empty() {
        reason = error.to_string();
    }
    HttpError::Network { reason }
}

#[cfg(test)]
mod tests;
