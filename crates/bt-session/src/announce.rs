//! Announces and scrapes over HTTP and UDP: one request for each address family, and the answers made one.
//!
//! A tracker that has both families hears of us twice, from an IPv4 and from an IPv6 address, and so can tell both
//! kinds of peers about us (BEP 7, "announce parameter"). One family's failure is nothing if the other has an answer.
//!
//! **Invariant:** once it has its turn, an announce ends within its deadline, DNS included, and always with an answer for
//! the engine. No more than `ANNOUNCES_MAX` are out at a time, whatever the number of torrents, and as many stops.

use crate::clock::{Clock, random_seed};
use crate::config::STOP_DEADLINE;
use crate::external::External;
use crate::http::{self, Bounds, Http, HttpError, Reply};
use crate::open::PEER_ID_PREFIX;
use crate::reach::{self, Family, Names};
use crate::udp::{self, Udp};
use bt_core::addr::is_dialable;
use bt_core::{InfoHash, PeerId, Rng};
pub use bt_tracker::announce::{AnnounceFailure, AnnounceResponse};
use bt_tracker::announce::{AnnounceRequest, Event, NamedPeer};
use bt_tracker::http::{self as protocol, REPLY_MAX_BYTES};
use bt_tracker::scrape::ScrapeResponse;

use core::time::Duration;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use url::Url;

/// Requests that are out at a time over all torrents: a session of a thousand must not storm its trackers when it starts.
const ANNOUNCES_MAX: usize = 50;

/// The same when it ends, over UDP too. Beside the others: a stop must not wait behind announces that nobody needs any
/// more.
const STOPS_MAX: usize = 50;

/// How long an announce may take. As libtorrent's `tracker_completion_timeout`.
const ANNOUNCE_DEADLINE: Duration = Duration::from_secs(30);

/// How long a scrape may take, since somebody waits for it: over UDP two tries of 15 s (BEP 15).
const SCRAPE_DEADLINE: Duration = Duration::from_secs(30);

/// Host names among a tracker's peers that are looked up, and addresses of each that are used.
const NAMES_MAX: usize = 50;
const ADDRESSES_MAX: usize = 4;

/// How long looking them up may take, all together.
const NAMES_DEADLINE: Duration = Duration::from_secs(15);

/// Permits for the announces of all torrents of a session.
#[derive(Debug)]
pub(crate) struct Turns {
    /// Over HTTP, but for stops.
    announces: Semaphore,
    stops: Semaphore,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            announces: Semaphore::new(ANNOUNCES_MAX),
            stops: Semaphore::new(STOPS_MAX),
        }
    }
}

/// Asks a tracker, over each address family that it has.
///
/// `turns` are taken from those of the session. The deadline of a stop counts while it waits for one. Where the tracker sees us (BEP 24) is told to `external`.
pub(crate) async fn announce(
    http: &Http,
    udp: &Udp,
    turns: &Turns,
    external: &External,
    url: &str,
    request: &AnnounceRequest,
) -> Result<AnnounceResponse, AnnounceFailure> {
    let stops = request.event == Event::Stopped;
    let is_udp = udp::is_udp(url);
    // The semaphores are never closed.
    let (deadline, permit) = match (stops, is_udp) {
        (true, _) => (STOP_DEADLINE, None),
        (false, true) => (udp::DEADLINE, udp.turn().await),
        (false, false) => (ANNOUNCE_DEADLINE, turns.announces.acquire().await.ok()),
    };
    let asking = async {
        let _stop = match stops {
            true => turns.stops.acquire().await.ok(),
            false => None,
        };
        match is_udp {
            true => ask_udp(udp, url, request, deadline).await,
            false => ask(http, external, url, request, deadline).await,
        }
    };
    let result = tokio::time::timeout(deadline, asking).await;
    drop(permit);
    result.unwrap_or_else(|_| Err(late(deadline)))
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
    request: AnnounceRequest,
}

impl Visit {
    /// Asks from `bind`, or from any address. Trackers are told of `port`, and that a byte is still lacked, since seeders
    /// are not told of seeders.
    #[must_use]
    pub fn new(bind: Option<IpAddr>, info_hash: InfoHash, port: u16, numwant: Option<u32>) -> Self {
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
            ..
        } = self;
        announce(http, udp, turns, external, tracker, &request).await
    }
}

/// Asks the tracker with this announce URL for the numbers of some torrents (BEP 48).
///
/// # Errors
/// [`ScrapeError`] if it cannot be scraped, or does not answer.
pub async fn scrape(tracker: &str, torrents: &[InfoHash]) -> Result<ScrapeResponse, ScrapeError> {
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
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The tracker refused, or what it said made no sense.
    #[error(transparent)]
    Tracker(#[from] AnnounceFailure),
}

#[cfg(test)]
mod tests {
    use super::*;
    use bt_tracker::announce::Peer;

    fn refused() -> Result<AnnounceResponse, AnnounceFailure> {
        Err(AnnounceFailure::Refused {
            reason: "no".to_owned(),
            retry_in: None,
        })
    }

    fn lost() -> Result<AnnounceResponse, AnnounceFailure> {
        Err(unreachable(HttpError::Redirects))
    }

    fn answer(peer: &str, seconds: u64) -> AnnounceResponse {
        AnnounceResponse {
            interval: Duration::from_secs(seconds),
            complete: Some(1),
            peers: vec![Peer {
                addr: peer.parse().unwrap(),
                peer_id: None,
            }],
            ..AnnounceResponse::default()
        }
    }

    #[test]
    fn one_answer_is_enough_and_a_refusal_says_more_than_silence() {
        let good = || Ok(answer("10.0.0.1:1", 60));
        let rows = [
            (good(), lost(), good()),
            (refused(), good(), good()),
            (lost(), refused(), refused()),
            (refused(), lost(), refused()),
            (lost(), lost(), lost()),
            (good(), good(), good()),
        ];
        for (first, second, expected) in rows {
            assert_eq!(merge(first, second), expected);
        }
    }

    #[test]
    fn two_answers_are_added_up() {
        let mut second = answer("[2001:db8::1]:2", 90);
        second.complete = Some(5);
        second.tracker_id = Some(b"id".to_vec());
        let merged = merge(Ok(answer("10.0.0.1:1", 60)), Ok(second)).unwrap();
        assert_eq!(merged.peers.len(), 2);
        assert_eq!(merged.interval, Duration::from_secs(90));
        assert_eq!(merged.complete, Some(5));
        assert_eq!(merged.tracker_id.as_deref(), Some(b"id".as_slice()));
    }

    #[test]
    fn an_error_status_is_an_error_whose_words_are_kept() {
        let reply = |status, body: &[u8]| Reply {
            status,
            body: body.to_vec(),
            retry_after: Some(Duration::from_secs(7)),
            from: None,
        };
        let good = b"d8:intervali1800e5:peers0:e";
        assert!(understand(&reply(200, good)).is_ok());
        let rows: [(u16, &[u8], &str); 4] = [
            (200, b"d14:failure reason4:gonee", "tracker: gone"),
            (400, b"d14:failure reason4:gonee", "tracker: gone"),
            (503, b"<html>busy</html>", "HTTP status 503"),
            (404, good, "HTTP status 404"),
        ];
        for (status, body, expected) in rows {
            let failure = understand(&reply(status, body)).unwrap_err();
            assert_eq!(failure.to_string(), expected, "{status}");
        }
    }

    #[tokio::test]
    async fn names_are_looked_up_and_what_cannot_be_dialled_is_left_out() {
        let named = |host: &str, port| NamedPeer {
            host: host.to_owned(),
            port,
        };
        let peers = vec![
            named("127.0.0.1", 7),
            named("0.0.0.0", 7),
            named("127.0.0.1", 0),
        ];
        assert_eq!(
            resolve(Names::System, peers).await,
            ["127.0.0.1:7".parse().unwrap()]
        );
    }

    #[tokio::test]
    async fn not_every_tracker_can_be_scraped() {
        let error = scrape("http://127.0.0.1:1/a", &[]).await.unwrap_err();
        assert!(matches!(error, ScrapeError::Unsupported { .. }), "{error}");
        let error = scrape("ftp://127.0.0.1:1/announce", &[]).await.unwrap_err();
        assert!(
            matches!(error, ScrapeError::Http(HttpError::Scheme { .. })),
            "{error}"
        );
    }

    /// Answers a connection's request as a tracker without peers.
    async fn answer_one(mut stream: tokio::net::TcpStream) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let _request = stream.read(&mut [0; 4_096]).await.unwrap();
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\nd8:intervali1800e5:peers0:e";
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn a_visit_asks_several_trackers_at_a_time() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/announce", listener.local_addr().unwrap());
        let serving = async {
            // Nobody is answered before both have come.
            let streams = [listener.accept().await, listener.accept().await];
            for stream in streams {
                answer_one(stream.unwrap().0).await;
            }
        };
        let bind = Some(std::net::Ipv4Addr::LOCALHOST.into());
        let visit = Visit::new(bind, InfoHash([1; 20]), 6881, None);
        let asking = async { tokio::join!(visit.ask(&url), visit.ask(&url)) };
        let both = tokio::select! {
            () = async { serving.await; core::future::pending().await } => unreachable!(),
            both = asking => both,
        };
        assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_scrape_of_a_silent_tracker_ends_after_two_tries() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.set_nonblocking(true).unwrap();
        let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let urls = [
            format!("udp://{}/announce", udp.local_addr().unwrap()),
            format!("http://{}/announce", http.local_addr().unwrap()),
        ];
        for url in urls {
            let begun = tokio::time::Instant::now();
            let error = scrape(&url, &[InfoHash([1; 20])]).await.unwrap_err();
            assert!(matches!(error, ScrapeError::Http(_)), "{error:?}");
            assert_eq!(error.to_string(), "no complete answer within 30 s");
            assert!(begun.elapsed() < SCRAPE_DEADLINE + Duration::from_secs(1));
        }
        let mut connect = [0; 16];
        for _ in 0..2 {
            assert_eq!(udp.recv(&mut connect).unwrap(), 16);
        }
        assert!(udp.recv(&mut connect).is_err(), "a third try");
    }

    #[test]
    fn where_a_tracker_sees_us_is_a_vote() {
        let external = External::new(None);
        for network in 1..=5 {
            assert_eq!(external.ip(false), None);
            let reply = Reply {
                status: 200,
                body: b"d11:external ip4:\x08\x08\x04\x048:intervali1800e5:peers0:e".to_vec(),
                retry_after: None,
                from: Some([192, 0, network, 1].into()),
            };
            assert!(heed(&reply, &external).is_ok());
        }
        assert_eq!(external.ip(false), Some([8, 8, 4, 4].into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_no_announce_and_no_longer_than_it_may() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/announce", listener.local_addr().unwrap());
        let (http, mut turns) = (Http::new(None, Names::System), Turns::default());
        turns.announces = Semaphore::new(0);
        let udp = Udp::new(None, Names::System, Clock::start());
        let external = External::new(None);
        let id = PeerId([1; 20]);
        let mut request = AnnounceRequest::new(InfoHash([1; 20]), id, 1, 0);
        let asking = announce(&http, &udp, &turns, &external, &url, &request);
        let waited = tokio::time::timeout(2 * ANNOUNCE_DEADLINE, asking).await;
        assert!(waited.is_err(), "there is no turn to be had");
        request.event = Event::Stopped;
        let asking = announce(&http, &udp, &turns, &external, &url, &request);
        let waited = tokio::time::timeout(2 * ANNOUNCE_DEADLINE, asking).await;
        let failure = waited.expect("it takes another turn").unwrap_err();
        assert_eq!(failure.to_string(), "no complete answer within 5 s");
        turns.stops = Semaphore::new(0);
        let asking = announce(&http, &udp, &turns, &external, &url, &request);
        let waited = tokio::time::timeout(2 * ANNOUNCE_DEADLINE, asking).await;
        assert!(waited.expect("and not longer for that").is_err());
    }

    /// A session's clients while no name server answers.
    fn without_names() -> (Http, Udp, Turns, External) {
        let udp = Udp::new(None, Names::Silent, Clock::start());
        let http = Http::new(None, Names::Silent);
        (http, udp, Turns::default(), External::new(None))
    }

    #[tokio::test(start_paused = true)]
    async fn faults_108_a_name_that_is_never_looked_up_is_given_up_in_time() {
        let (http, udp, turns, external) = without_names();
        let rows = [
            ("http://tracker.test/announce", Event::Started, 30),
            ("udp://tracker.test:1/announce", Event::Started, 60),
            ("http://tracker.test/announce", Event::Stopped, 5),
            ("udp://tracker.test:1/announce", Event::Stopped, 5),
        ];
        for (url, event, seconds) in rows {
            let mut request = AnnounceRequest::new(InfoHash([1; 20]), PeerId([1; 20]), 1, 0);
            request.event = event;
            let begun = tokio::time::Instant::now();
            let asked = announce(&http, &udp, &turns, &external, url, &request).await;
            let message = format!("no complete answer within {seconds} s");
            assert_eq!(asked.unwrap_err().to_string(), message, "{url}");
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(seconds + 1), "{url}: {took:?}");
        }
        let peer = |host: &str| NamedPeer {
            host: host.to_owned(),
            port: 7,
        };
        let begun = tokio::time::Instant::now();
        let peers = resolve(Names::Silent, vec![peer("peer.test"), peer("10.0.0.1")]).await;
        assert_eq!(peers, ["10.0.0.1:7".parse().unwrap()]);
        assert!(begun.elapsed() < NAMES_DEADLINE + Duration::from_secs(1));
    }

    #[tokio::test]
    async fn faults_108_a_slow_name_holds_no_other_tracker_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/announce", listener.local_addr().unwrap());
        let (http, udp, turns, external) = without_names();
        let request = AnnounceRequest::new(InfoHash([1; 20]), PeerId([1; 20]), 1, 0);
        let slow = async |url: &str| {
            let asked = announce(&http, &udp, &turns, &external, url, &request).await;
            unreachable!("{url}: {asked:?}");
        };
        let live = async {
            let answering = async { answer_one(listener.accept().await.unwrap().0).await };
            let asking = announce(&http, &udp, &turns, &external, &url, &request);
            tokio::join!(asking, answering).0
        };
        // The slow ones are asked first, and are still waited for when the live one has answered.
        let answer = tokio::select! {
            biased;
            () = slow("http://tracker.test/announce") => unreachable!(),
            () = slow("udp://tracker.test:1/announce") => unreachable!(),
            answer = live => answer,
        };
        assert!(answer.is_ok(), "{answer:?}");
    }
}
