//! Announces and scrapes over HTTP and UDP: one request for each address family, and the answers made one.
//!
//! A tracker that has both families hears of us twice, from an IPv4 and from an IPv6 address, and so can tell both
//! kinds of peers about us (BEP 7, "announce parameter"). One family's failure is nothing if the other has an answer.
//!
//! **Invariant:** once it has its turn, an announce ends within its deadline, DNS included, and always with an answer for
//! the engine. How many are out at a time is bounded by `Turns`, whatever the number of torrents.

use crate::clock::{Clock, random_seed};
use crate::config::STOP_DEADLINE;
use crate::external::External;
use crate::http::{self, Bounds, Http, HttpError, Reply};
use crate::open::PEER_ID_PREFIX;
use crate::preferences::HostPreferences;
pub use crate::preferences::{NoTrackerDns, TrackerDns};
use crate::reach::{self, Family, Names};
use crate::turns::Turns;
use crate::udp::{self, Udp};
use bt_core::addr::is_dialable;
use bt_core::{InfoHash, PeerId, Rng};
pub use bt_tracker::announce::{AnnounceFailure, AnnounceResponse};
use bt_tracker::announce::{AnnounceRequest, Event, NamedPeer};
use bt_tracker::dns::Refusal;
use bt_tracker::http::{self as protocol, REPLY_MAX_BYTES};
use bt_tracker::scrape::ScrapeResponse;

use core::pin::pin;
use core::time::Duration;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use tokio::task::JoinSet;
use url::Url;

/// How long an announce may take. As libtorrent's `tracker_completion_timeout`.
const ANNOUNCE_DEADLINE: Duration = Duration::from_secs(30);

/// How long a scrape may take, since somebody waits for it: over UDP two tries of 15 s (BEP 15).
const SCRAPE_DEADLINE: Duration = Duration::from_secs(30);

/// How long one of a host's trackers (BEP 34), or one of a tracker's addresses over UDP, may be silent before the next one is
/// asked as well. Longer than an answer takes.
pub(crate) const NEXT_AFTER: Duration = Duration::from_secs(2);

/// Host names among a tracker's peers that are looked up, and addresses of each that are used.
const NAMES_MAX: usize = 50;
const ADDRESSES_MAX: usize = 4;

/// How long looking them up may take, all together.
const NAMES_DEADLINE: Duration = Duration::from_secs(15);

/// Asks a tracker, where its host wants to be asked (BEP 34), over each address family that it has.
///
/// `turns` are taken from those of the session. The deadline of a stop counts while it waits for one. Where the tracker sees us (BEP 24) is told to `external`.
pub(crate) async fn announce(
    http: &Http,
    udp: &Udp,
    turns: &Turns,
    external: &External,
    preferences: &HostPreferences,
    url: &str,
    request: &AnnounceRequest,
) -> Result<AnnounceResponse, AnnounceFailure> {
    let stops = request.event == Event::Stopped;
    let urls = preferences.urls(url, stops).await;
    let urls = urls.map_err(|refusal| AnnounceFailure::Unreachable {
        message: refusal.to_string(),
        retry_in: None,
    })?;
    let is_udp = urls.iter().any(|url| udp::is_udp(url));
    let asking = Asking {
        http,
        udp,
        external,
        request,
    };
    // The semaphores are never closed.
    let permit = match (stops, is_udp) {
        (true, _) => {
            let host = host_of(url);
            let stopping = turns.stop(&host, asking.ask_any(&urls), is_answer);
            let result = tokio::time::timeout(STOP_DEADLINE, stopping).await;
            return result.unwrap_or_else(|_| Err(late(STOP_DEADLINE)));
        }
        (false, true) => udp.turn().await,
        (false, false) => turns.announce().await,
    };
    let result = asking.ask_any(&urls).await;
    drop(permit);
    result
}

/// Who is asked: one name and port, whatever the path and its passkey.
fn host_of(url: &str) -> String {
    let url = Url::parse(url).ok();
    let host = url
        .as_ref()
        .and_then(|url| Some((url.host_str()?, url.port_or_known_default())));
    host.map_or_else(String::new, |(host, port)| {
        format!("{host}:{}", port.unwrap_or(0))
    })
}

/// A refusal is one too.
const fn is_answer<T>(result: &Result<T, AnnounceFailure>) -> bool {
    !matches!(result, Err(AnnounceFailure::Unreachable { .. }))
}

/// Asks in the first of these places, and in the next too if nothing has come from there for [`NEXT_AFTER`]: the first answer
/// counts. `None` without a place.
pub(crate) async fn any_answer<T, F>(
    mut places: impl Iterator<Item = F>,
) -> Option<Result<T, AnnounceFailure>>
where
    F: Future<Output = Result<T, AnnounceFailure>>,
{
    let mut asking = pin!(places.next()?);
    let mut others = Box::pin(any_answer(places));
    match tokio::time::timeout(NEXT_AFTER, asking.as_mut()).await {
        Ok(result) if is_answer(&result) => return Some(result),
        Ok(result) => return Some(others.await.unwrap_or(result)),
        // Maybe it is only slow.
        Err(_) => {}
    }
    Some(tokio::select! {
        result = &mut asking => {
            if is_answer(&result) { result } else { others.await.unwrap_or(result) }
        }
        result = &mut others => match result.filter(is_answer) {
            Some(result) => result,
            None => asking.await,
        },
    })
}

/// An announce under way.
struct Asking<'a> {
    http: &'a Http,
    udp: &'a Udp,
    external: &'a External,
    request: &'a AnnounceRequest,
}

impl Asking<'_> {
    /// Asks at these URLs, all of one host.
    async fn ask_any(&self, urls: &[String]) -> Result<AnnounceResponse, AnnounceFailure> {
        let answer = any_answer(urls.iter().map(|url| self.ask_at(url)));
        let nowhere = || Err(unreachable(HttpError::Location));
        answer.await.unwrap_or_else(nowhere)
    }

    async fn ask_at(&self, url: &str) -> Result<AnnounceResponse, AnnounceFailure> {
        let is_udp = udp::is_udp(url);
        let deadline = match (self.request.event, is_udp) {
            (Event::Stopped, _) => STOP_DEADLINE,
            (_, true) => udp::DEADLINE,
            (_, false) => ANNOUNCE_DEADLINE,
        };
        let asking = async {
            match is_udp {
                true => ask_udp(self.udp, url, self.request, deadline).await,
                false => ask(self.http, self.external, url, self.request, deadline).await,
            }
        };
        let result = tokio::time::timeout(deadline, asking).await;
        result.unwrap_or_else(|_| Err(late(deadline)))
    }
}

async fn ask_udp(
    udp: &Udp,
    url: &str,
    request: &AnnounceRequest,
    deadline: Duration,
) -> Result<AnnounceResponse, AnnounceFailure> {
    // Two families at most.
    let answers = udp.announce(url, request).await?.into_iter();
    answers.reduce(merge).unwrap_or_else(|| Err(late(deadline)))
}

fn late(after: Duration) -> AnnounceFailure {
    unreachable(HttpError::Deadline { after })
}

async fn ask(
    http: &Http,
    external: &External,
    url: &str,
    request: &AnnounceRequest,
    deadline: Duration,
) -> Result<AnnounceResponse, AnnounceFailure> {
    let tracker = http::parse(url).map_err(unreachable)?;
    let target = http::parse(&protocol::url::announce(url, request)).map_err(unreachable)?;
    let families = reach::families(http.names(), &tracker, http.bind())
        .await
        .map_err(unreachable)?;
    match families.as_slice() {
        [v4, v6] => {
            let (first, second) = tokio::join!(
                ask_family(http, external, &target, *v4, deadline),
                ask_family(http, external, &target, *v6, deadline)
            );
            merge(first, second)
        }
        [family] => ask_family(http, external, &target, *family, deadline).await,
        _ => Err(unreachable(HttpError::Location)),
    }
}

async fn ask_family(
    http: &Http,
    external: &External,
    target: &Url,
    family: Family,
    deadline: Duration,
) -> Result<AnnounceResponse, AnnounceFailure> {
    let bounds = Bounds {
        deadline,
        body_max: REPLY_MAX_BYTES,
        family,
    };
    let reply = http.get(target, bounds).await.map_err(unreachable)?;
    heed(&reply, external)
}

/// Understands the answer, and tells where the tracker sees us (BEP 24).
fn heed(reply: &Reply, external: &External) -> Result<AnnounceResponse, AnnounceFailure> {
    let answer = understand(reply)?;
    if let (Some(by), Some(ip)) = (reply.from, answer.external_ip) {
        external.vote(by, ip);
    }
    Ok(answer)
}

/// A tracker's answer. Some refuse with an error status and still say why, bencoded.
fn understand(reply: &Reply) -> Result<AnnounceResponse, AnnounceFailure> {
    let parsed = protocol::decode::announce(&reply.body);
    if (200..300).contains(&reply.status) {
        return parsed;
    }
    match parsed {
        Err(AnnounceFailure::Refused { reason, retry_in }) => Err(AnnounceFailure::Refused {
            reason,
            retry_in: retry_in.or(reply.retry_after),
        }),
        Ok(_) | Err(AnnounceFailure::Unreachable { .. }) => Err(AnnounceFailure::Unreachable {
            message: HttpError::Status { code: reply.status }.to_string(),
            retry_in: reply.retry_after,
        }),
    }
}

fn unreachable(error: HttpError) -> AnnounceFailure {
    AnnounceFailure::Unreachable {
        message: error.to_string(),
        retry_in: None,
    }
}

/// One answer out of two. The peers of both; all else as the first says, or the second where the first is silent.
fn merge(
    first: Result<AnnounceResponse, AnnounceFailure>,
    second: Result<AnnounceResponse, AnnounceFailure>,
) -> Result<AnnounceResponse, AnnounceFailure> {
    let (mut all, other) = match (first, second) {
        (Ok(first), Ok(second)) => (first, second),
        (Ok(only), Err(_)) | (Err(_), Ok(only)) => return Ok(only),
        // A refusal is the tracker's own word, an unreachable family may just not be there.
        (
            Err(AnnounceFailure::Unreachable { .. }),
            Err(refused @ AnnounceFailure::Refused { .. }),
        ) => {
            return Err(refused);
        }
        (Err(failure), Err(_)) => return Err(failure),
    };
    let known: BTreeSet<SocketAddr> = all.peers.iter().map(|peer| peer.addr).collect();
    let new = other
        .peers
        .into_iter()
        .filter(|peer| !known.contains(&peer.addr));
    all.peers.extend(new);
    for named in other.named_peers {
        if !all.named_peers.contains(&named) {
            all.named_peers.push(named);
        }
    }
    all.interval = all.interval.max(other.interval);
    all.min_interval = all.min_interval.max(other.min_interval);
    all.tracker_id = all.tracker_id.or(other.tracker_id);
    all.complete = all.complete.max(other.complete);
    all.incomplete = all.incomplete.max(other.incomplete);
    all.warning = all.warning.or(other.warning);
    all.external_ip = all.external_ip.or(other.external_ip);
    Ok(all)
}

/// The addresses of peers that a tracker named by host name (BEP 3, "tracker responses").
pub(crate) async fn resolve(names: Names, named: Vec<NamedPeer>) -> Vec<SocketAddr> {
    let mut lookups = JoinSet::new();
    for NamedPeer { host, port } in named.into_iter().take(NAMES_MAX) {
        lookups.spawn(async move {
            let found = names.look_up(&host, port).await;
            let found = found.into_iter().flatten();
            found.take(ADDRESSES_MAX).collect::<Vec<_>>()
        });
    }
    let mut peers = Vec::new();
    let all = async {
        while let Some(found) = lookups.join_next().await {
            peers.extend(found.unwrap_or_default());
        }
    };
    // Who is too slow is left out.
    let _ = tokio::time::timeout(NAMES_DEADLINE, all).await;
    peers.retain(|addr| is_dialable(*addr));
    peers
}

/// A client that announces one torrent by hand: it asks for peers, and takes no connection.
#[derive(Debug)]
pub struct Visit {
    http: Http,
    udp: Udp,
    turns: Turns,
    external: External,
    preferences: HostPreferences,
    request: AnnounceRequest,
}

impl Visit {
    /// Asks from `bind`, or from any address. Trackers are told of `port`, and that a byte is still lacked, since seeders
    /// are not told of seeders. `dns` tells where a tracker's host wants to be asked.
    #[must_use]
    pub fn new(
        bind: Option<IpAddr>,
        info_hash: InfoHash,
        port: u16,
        numwant: Option<u32>,
        dns: TrackerDns,
    ) -> Self {
        let mut rng = Rng::new(random_seed());
        let peer_id = PeerId::generate(PEER_ID_PREFIX, &mut rng);
        let mut request = AnnounceRequest::new(info_hash, peer_id, port, 1);
        request.numwant = numwant;
        request.compact = Some(true);
        Self {
            http: Http::new(bind, Names::System),
            udp: Udp::new(bind, Names::System, Clock::start()),
            turns: Turns::default(),
            external: External::new(None),
            preferences: HostPreferences::new(dns),
            request,
        }
    }

    /// Announces to a tracker, over HTTP or UDP as its URL says.
    ///
    /// # Errors
    /// [`AnnounceFailure`] if it refuses, or does not answer.
    pub async fn ask(&self, tracker: &str) -> Result<AnnounceResponse, AnnounceFailure> {
        self.announce(tracker, Event::Started).await
    }

    /// Tells the tracker that we are gone. Whether it heard is nobody's concern.
    pub async fn leave(&self, tracker: &str) {
        let _ = self.announce(tracker, Event::Stopped).await;
    }

    async fn announce(
        &self,
        tracker: &str,
        event: Event,
    ) -> Result<AnnounceResponse, AnnounceFailure> {
        let mut request = self.request.clone();
        request.event = event;
        let Self {
            http,
            udp,
            turns,
            external,
            preferences,
            ..
        } = self;
        announce(http, udp, turns, external, preferences, tracker, &request).await
    }
}

/// Asks the tracker with this announce URL for the numbers of some torrents (BEP 48), where its host wants to be asked
/// (BEP 34): at one place after the other, until there is an answer.
///
/// # Errors
/// [`ScrapeError`] if it cannot be scraped, or does not answer.
pub async fn scrape(
    tracker: &str,
    torrents: &[InfoHash],
    dns: TrackerDns,
) -> Result<ScrapeResponse, ScrapeError> {
    let urls = HostPreferences::new(dns).urls(tracker, false).await?;
    let mut failure = None;
    for url in urls {
        match scrape_at(&url, torrents).await {
            Ok(response) => return Ok(response),
            Err(refused @ ScrapeError::Tracker(AnnounceFailure::Refused { .. })) => {
                return Err(refused);
            }
            // What the host likes best is to be heard of first.
            Err(other) => failure = failure.or(Some(other)),
        }
    }
    Err(failure.unwrap_or(ScrapeError::Http(HttpError::Location)))
}

async fn scrape_at(tracker: &str, torrents: &[InfoHash]) -> Result<ScrapeResponse, ScrapeError> {
    if udp::is_udp(tracker) {
        let udp = Udp::new(None, Names::System, Clock::start());
        let scraping = tokio::time::timeout(SCRAPE_DEADLINE, udp.scrape(tracker, torrents));
        let after = SCRAPE_DEADLINE;
        let late = |_| ScrapeError::Http(HttpError::Deadline { after });
        return Ok(scraping.await.map_err(late)??);
    }
    http::parse(tracker)?;
    let url = protocol::url::scrape_of(tracker).ok_or_else(|| ScrapeError::Unsupported {
        tracker: tracker.to_owned(),
    })?;
    let bounds = Bounds {
        deadline: SCRAPE_DEADLINE,
        body_max: REPLY_MAX_BYTES,
        family: Family::Any,
    };
    let target = http::parse(&protocol::url::scrape(&url, torrents))?;
    let reply = Http::new(None, Names::System).get(&target, bounds).await?;
    let is_success = (200..300).contains(&reply.status);
    match protocol::decode::scrape(&reply.body) {
        Ok(response) if is_success => Ok(response),
        Err(failure @ AnnounceFailure::Refused { .. }) => Err(failure.into()),
        Err(failure) if is_success => Err(failure.into()),
        Ok(_) | Err(_) => Err(HttpError::Status { code: reply.status }.into()),
    }
}

/// Why a scrape came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScrapeError {
    /// The last part of the announce URL does not begin with `announce`, so there is no scrape URL.
    #[error("{tracker} cannot be scraped: what follows its last slash is not \"announce\"")]
    Unsupported {
        /// The announce URL.
        tracker: String,
    },
    /// The host wants no tracker of its own to be asked (BEP 34).
    #[error(transparent)]
    Host(#[from] Refusal),
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The tracker refused, or what it said made no sense.
    #[error(transparent)]
    Tracker(#[from] AnnounceFailure),
}

#[cfg(test)]
mod tests;
