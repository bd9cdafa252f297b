//! Announces and scrapes over HTTP: one request for each address family, and the answers made one.
//!
//! A tracker that has both families hears of us twice, from an IPv4 and from an IPv6 address, and so can tell both
//! kinds of peers about us (BEP 7, "announce parameter"). One family's failure is nothing if the other has an answer.
//!
//! **Invariant:** an announce ends within its deadline, DNS and waiting for a turn included, and always with an answer
//! for the engine. No more than [`ANNOUNCES_MAX`] requests are out at a time, whatever the number of torrents.

use crate::config::STOP_DEADLINE;
use crate::http::{self, Bounds, Http, HttpError, Reply};
use crate::reach::{self, Family};
use crate::session::Shared;
use bt_core::addr::is_dialable;
use bt_tracker::announce::{AnnounceFailure, AnnounceRequest, AnnounceResponse, Event, NamedPeer};

use core::time::Duration;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use tokio::task::JoinSet;
use url::Url;

/// Requests that are out at a time over all torrents: a session of a thousand must not storm its trackers when it starts.
pub(crate) const ANNOUNCES_MAX: usize = 50;

/// How long an announce may take. As libtorrent's `tracker_completion_timeout`.
const ANNOUNCE_DEADLINE: Duration = Duration::from_secs(30);

/// The longest answer of a tracker, in bytes: some thousands of peers take 60 KiB. libtorrent takes 816 KiB.
const REPLY_BYTES_MAX: usize = 1024 * 1024;

/// Host names among a tracker's peers that are looked up, and addresses of each that are used.
const NAMES_MAX: usize = 50;
const ADDRESSES_MAX: usize = 4;

/// How long looking them up may take, all together.
const NAMES_DEADLINE: Duration = Duration::from_secs(15);

/// Asks a tracker, over each address family that it has.
pub(crate) async fn announce(
    shared: &Shared,
    url: &str,
    request: &AnnounceRequest,
) -> Result<AnnounceResponse, AnnounceFailure> {
    // A stop must not wait for its turn behind announces that nobody needs any more.
    let (deadline, permit) = if request.event == Event::Stopped {
        (STOP_DEADLINE, None)
    } else {
        // The semaphore is never closed.
        (
            ANNOUNCE_DEADLINE,
            shared.announce_permits.acquire().await.ok(),
        )
    };
    let asking = ask(&shared.http, url, request, deadline);
    let result = tokio::time::timeout(deadline, asking).await;
    drop(permit);
    result.unwrap_or_else(|_| Err(unreachable(HttpError::Deadline { after: deadline })))
}

async fn ask(
    http: &Http,
    url: &str,
    request: &AnnounceRequest,
    deadline: Duration,
) -> Result<AnnounceResponse, AnnounceFailure> {
    let tracker = http::parse(url).map_err(unreachable)?;
    let target =
        protocol::announce_url(url, request).map_err(|error| AnnounceFailure::Unreachable {
            message: error.to_string(),
            retry_in: None,
        })?;
    let target = http::parse(target.as_str()).map_err(unreachable)?;
    let families = reach::families(&tracker, http.bind())
        .await
        .map_err(unreachable)?;
    match families.as_slice() {
        [v4, v6] => {
            let (first, second) = tokio::join!(
                ask_family(http, &target, *v4, deadline),
                ask_family(http, &target, *v6, deadline)
            );
            merge(first, second)
        }
        [family] => ask_family(http, &target, *family, deadline).await,
        _ => Err(unreachable(HttpError::Location)),
    }
}

async fn ask_family(
    http: &Http,
    target: &Url,
    family: Family,
    deadline: Duration,
) -> Result<AnnounceResponse, AnnounceFailure> {
    let bounds = Bounds {
        deadline,
        body_max: REPLY_BYTES_MAX,
        family,
    };
    let reply = http.get(target, bounds).await.map_err(unreachable)?;
    understand(&reply)
}

/// A tracker's answer. Some refuse with an error status and still say why, bencoded.
fn understand(reply: &Reply) -> Result<AnnounceResponse, AnnounceFailure> {
    let parsed = protocol::parse_announce(&reply.body);
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
pub(crate) async fn resolve(named: Vec<NamedPeer>) -> Vec<SocketAddr> {
    let mut lookups = JoinSet::new();
    for NamedPeer { host, port } in named.into_iter().take(NAMES_MAX) {
        lookups.spawn(async move {
            let found = tokio::net::lookup_host((host.as_str(), port)).await;
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

/// What bt-tracker will provide: the form of announces over HTTP.
mod protocol {
    use super::{AnnounceFailure, AnnounceRequest, AnnounceResponse, HttpError};

    pub(super) fn announce_url(_: &str, _: &AnnounceRequest) -> Result<String, HttpError> {
        Err(HttpError::Location)
    }

    pub(super) fn parse_announce(_: &[u8]) -> Result<AnnounceResponse, AnnounceFailure> {
        Ok(AnnounceResponse::default())
    }
}
