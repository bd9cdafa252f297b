//! UDP trackers: one socket for each address family, on which all questions of a session travel (BEP 15).
//!
//! **Invariant:** a packet reaches the question whose tracker's address and transaction id it has, and no other. A
//! session that asks no UDP tracker opens no socket for them. Of a host's addresses of one family the next is asked when one
//! has been silent for [`NEXT_AFTER`](crate::announce::NEXT_AFTER); the first answer counts.

use crate::announce::any_answer;
use crate::clock::{Clock, random_seed};
use crate::reach::Names;
use bt_core::Rng;
use bt_core::addr::canonical;
use bt_tracker::announce::{AnnounceFailure, AnnounceRequest, AnnounceResponse};
use bt_tracker::client::transaction::{Answer, Connections, Output, Question, Transaction};
use bt_tracker::scrape::{ScrapeResponse, ScrapedTorrent};
use bt_tracker::udp::{Family, PACKET_MAX_BYTES, SCRAPE_MAX, TransactionId};
use core::time::Duration;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::UdpSocket;
use tokio::sync::{OnceCell, Semaphore, mpsc};
use tokio::task::AbortHandle;
use url::Url;

/// Questions that are out at a time over all torrents. They cost no socket each, so silent trackers may hold many.
pub(crate) const QUESTIONS_MAX: usize = 256;

/// How long an announce or scrape may take: two repetitions by BEP 15, after 15 and 45 seconds.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Addresses of one family that are tried: enough for a host with several, too few to make us a scanner.
const ADDRESSES_MAX: usize = 4;

/// Answers that wait for one question. More than one is a repetition.
const ANSWERS_MAX: usize = 4;

/// How long to wait after the system failed to receive, so as not to spin.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);

/// The UDP trackers of one session.
#[derive(Debug)]
pub(crate) struct Udp {
    bind: Option<IpAddr>,
    names: Names,
    clock: Clock,
    v4: OnceCell<Line>,
    v6: OnceCell<Line>,
    connections: Mutex<Connections>,
    questions: Semaphore,
}

/// A socket, and who waits for what on it.
#[derive(Debug)]
struct Line {
    socket: Arc<UdpSocket>,
    waiting: Arc<Mutex<Waiting>>,
    receiving: AbortHandle,
}

type Waiting = BTreeMap<(SocketAddr, TransactionId), mpsc::Sender<Vec<u8>>>;

impl Drop for Line {
    fn drop(&mut self) {
        self.receiving.abort();
    }
}

/// A place among those who wait, until it is dropped.
struct Place<'a> {
    waiting: &'a Mutex<Waiting>,
    key: (SocketAddr, TransactionId),
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(self.waiting).remove(&self.key);
    }
}

/// True for the URL of a UDP tracker.
pub(crate) fn is_udp(url: &str) -> bool {
    let scheme = url.get(.."udp:".len());
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("udp:"))
}

/// Where a tracker may be, by family, in the order in which they are tried.
#[derive(Debug, Default, PartialEq, Eq)]
struct Addresses {
    v4: Vec<SocketAddr>,
    v6: Vec<SocketAddr>,
}

impl Addresses {
    fn choose(found: impl Iterator<Item = SocketAddr>, bind: Option<IpAddr>) -> Self {
        let mut chosen = Self::default();
        for addr in found.map(canonical) {
            let family = if addr.is_ipv4() {
                &mut chosen.v4
            } else {
                &mut chosen.v6
            };
            let is_bound = bind.is_none_or(|bind| bind.is_ipv4() == addr.is_ipv4());
            if is_bound && family.len() < ADDRESSES_MAX && !family.contains(&addr) {
                family.push(addr);
            }
        }
        chosen
    }
}

/// A UDP tracker's URL, taken apart.
struct Target {
    host: String,
    port: u16,
    /// Path and query (BEP 41).
    url_data: String,
}

impl Target {
    fn parse(url: &str) -> Result<Self, AnnounceFailure> {
        let wrong = || unreachable(format!("{url:?} is no URL of a UDP tracker"));
        let parsed = Url::parse(url).map_err(|_| wrong())?;
        let host = parsed.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = parsed.port().filter(|port| *port != 0).ok_or_else(wrong)?;
        if host.is_empty() {
            return Err(wrong());
        }
        let query = parsed.query().map(|query| format!("?{query}"));
        Ok(Self {
            host: host.to_owned(),
            port,
            url_data: format!("{}{}", parsed.path(), query.unwrap_or_default()),
        })
    }

    /// The addresses that may be used.
    async fn addresses(
        &self,
        names: Names,
        bind: Option<IpAddr>,
    ) -> Result<Addresses, AnnounceFailure> {
        let found = names.look_up(&self.host, self.port).await;
        let found = found.map_err(|error| unreachable(format!("{}: {error}", self.host)))?;
        let addresses = Addresses::choose(found.into_iter(), bind);
        if addresses.v4.is_empty() && addresses.v6.is_empty() {
            return Err(unreachable(format!("{} has no usable address", self.host)));
        }
        Ok(addresses)
    }
}

impl Udp {
    /// To be used inside a tokio runtime. Nothing is opened before the first question.
    pub(crate) const fn new(bind: Option<IpAddr>, names: Names, clock: Clock) -> Self {
        Self {
            bind,
            names,
            clock,
            v4: OnceCell::const_new(),
            v6: OnceCell::const_new(),
            connections: Mutex::new(Connections::new()),
            questions: Semaphore::const_new(QUESTIONS_MAX),
        }
    }

    /// Announces over each address family that the tracker has; their answers in order.
    ///
    /// # Errors
    /// If the URL or its host leads nowhere.
    pub(crate) async fn announce(
        &self,
        url: &str,
        request: &AnnounceRequest,
    ) -> Result<Vec<Result<AnnounceResponse, AnnounceFailure>>, AnnounceFailure> {
        let target = Target::parse(url)?;
        let question = Question::Announce {
            request: request.clone(),
            url_data: target.url_data.clone(),
        };
        let asking = async |trackers: &[SocketAddr]| {
            if trackers.is_empty() {
                return None;
            }
            Some(match self.ask_any(trackers, &question).await {
                Ok(Answer::Announce(response)) => Ok(response),
                Ok(Answer::Scrape(_) | Answer::Refused(_) | Answer::Silent) => Err(silent()),
                Err(failure) => Err(failure),
            })
        };
        let Addresses { v4, v6 } = target.addresses(self.names, self.bind).await?;
        let (v4, v6) = tokio::join!(asking(&v4), asking(&v6));
        Ok(v4.into_iter().chain(v6).collect())
    }

    /// Asks for the numbers of some torrents.
    ///
    /// # Errors
    /// If the tracker cannot be reached, or refuses.
    pub(crate) async fn scrape(
        &self,
        url: &str,
        torrents: &[bt_core::InfoHash],
    ) -> Result<ScrapeResponse, AnnounceFailure> {
        let target = Target::parse(url)?;
        let Addresses { v4, v6 } = target.addresses(self.names, self.bind).await?;
        let trackers = [v4, v6].concat();
        let mut found = Vec::new();
        for some in torrents.chunks(SCRAPE_MAX) {
            let Answer::Scrape(entries) = self
                .ask_any(&trackers, &Question::Scrape(some.to_vec()))
                .await?
            else {
                return Err(silent());
            };
            let named = some.iter().zip(entries);
            found.extend(named.map(|(info_hash, entry)| ScrapedTorrent {
                info_hash: *info_hash,
                entry,
                name: None,
            }));
        }
        found.sort_by_key(|torrent| torrent.info_hash);
        Ok(ScrapeResponse {
            torrents: found,
            min_request_interval: None,
        })
    }

    /// One question to the first of these addresses that answers. A refusal is an answer.
    async fn ask_any(
        &self,
        trackers: &[SocketAddr],
        question: &Question,
    ) -> Result<Answer, AnnounceFailure> {
        let answer = any_answer(trackers.iter().map(|at| self.ask(*at, question.clone())));
        answer.await.unwrap_or_else(|| Err(silent()))
    }

    /// One question to one address, until it is answered.
    async fn ask(
        &self,
        tracker: SocketAddr,
        question: Question,
    ) -> Result<Answer, AnnounceFailure> {
        let failed = |error: io::Error| unreachable(format!("{tracker}: {error}"));
        let line = self.line(tracker).await.map_err(failed)?;
        let known = lock(&self.connections).find(self.clock.now(), tracker);
        let mut rng = Rng::new(random_seed());
        let family = Family::of(tracker.ip());
        let now = self.clock.now();
        let mut transaction = Transaction::new(now, question, family, known, &mut rng);
        let (answers_in, mut answers) = mpsc::channel(ANSWERS_MAX);
        let key = (tracker, transaction.id());
        lock(&line.waiting).insert(key, answers_in);
        let waiting = &line.waiting;
        let _place = Place { waiting, key };
        loop {
            while let Some(output) = transaction.poll() {
                match output {
                    Output::Send(packet) => {
                        line.socket
                            .send_to(&packet, tracker)
                            .await
                            .map_err(failed)?;
                    }
                    Output::Connected(id) => {
                        lock(&self.connections).keep(self.clock.now(), tracker, id);
                    }
                    Output::Expired => lock(&self.connections).forget(tracker),
                    Output::Done(Answer::Refused(reason)) => {
                        let retry_in = None;
                        return Err(AnnounceFailure::Refused { reason, retry_in });
                    }
                    Output::Done(Answer::Silent) => return Err(silent()),
                    Output::Done(answer) => return Ok(answer),
                }
            }
            let wake = transaction.deadline();
            let wake = wake.and_then(|time| self.clock.instant(time));
            let Some(wake) = wake else {
                return Err(silent());
            };
            tokio::select! {
                Some(packet) = answers.recv() => transaction.received(self.clock.now(), &packet),
                () = tokio::time::sleep_until(wake) => transaction.timeout(self.clock.now()),
            }
        }
    }

    /// A turn to ask something, so that not all torrents do at once.
    pub(crate) async fn turn(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.questions.acquire().await.ok()
    }

    async fn line(&self, tracker: SocketAddr) -> io::Result<&Line> {
        let cell = if tracker.is_ipv4() {
            &self.v4
        } else {
            &self.v6
        };
        let open = async || Line::open(self.bind, tracker.is_ipv4());
        cell.get_or_try_init(open).await
    }
}

impl Line {
    fn open(bind: Option<IpAddr>, is_v4: bool) -> io::Result<Self> {
        let any = if is_v4 {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        let addr = SocketAddr::new(bind.unwrap_or(any), 0);
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        let socket = Arc::new(UdpSocket::from_std(socket.into())?);
        let waiting = Arc::new(Mutex::new(Waiting::new()));
        let receiving = tokio::spawn(receive(Arc::clone(&socket), Arc::clone(&waiting)));
        Ok(Self {
            socket,
            waiting,
            receiving: receiving.abort_handle(),
        })
    }
}

/// Gives each packet to who waits for it, until the line is closed.
async fn receive(socket: Arc<UdpSocket>, waiting: Arc<Mutex<Waiting>>) {
    let mut packet = [0; PACKET_MAX_BYTES];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut packet).await else {
            tokio::time::sleep(FAILURE_PAUSE).await;
            continue;
        };
        let packet = packet.get(..length).unwrap_or_default();
        let Some([_, _, _, _, id @ ..]) = packet.first_chunk::<8>() else {
            continue;
        };
        let key = (canonical(from), TransactionId(u32::from_be_bytes(*id)));
        if let Some(answers) = lock(&waiting).get(&key) {
            // One answer is enough.
            let _ = answers.try_send(packet.to_vec());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unreachable(message: String) -> AnnounceFailure {
    AnnounceFailure::Unreachable {
        message,
        retry_in: None,
    }
}

fn silent() -> AnnounceFailure {
    unreachable("no answer".to_owned())
}

#[cfg(test)]
mod tests;
