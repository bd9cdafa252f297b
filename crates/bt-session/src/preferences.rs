//! Asks name servers what tracker hosts say about their trackers (BEP 34), and keeps what they say for a while.
//!
//! **Invariant:** an announce waits [`WAIT_MAX`] at most for what its host says, and then goes where its URL says; an answer
//! that comes later is there for the next. While name servers are silent nobody waits, but for one question a minute. Each host
//! is asked for once, however many torrents name it, and [`LOOKUPS_MAX`] are asked for at a time.

use crate::clock::random_seed;
use bt_core::Rng;
use bt_tracker::dns::message::{Answer, Question};
use bt_tracker::dns::{Preferences, Refusal, host_of};
use core::fmt;
use core::str::FromStr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// How long an announce waits for what its host says. Name servers that work answer within a tenth of it.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Hosts that are asked for at a time over all torrents.
const LOOKUPS_MAX: usize = 32;

/// How long a name server has for an answer, and how often one is asked before nobody knows: each of them in turn.
const TRY_MAX: Duration = Duration::from_millis(1_500);
const TRIES: usize = 3;

/// How long nobody is asked for after name servers were silent.
const QUIET: Duration = Duration::from_secs(60);

/// How long a record is kept: as long as it says, within these. One that was just changed should count within the hour or
/// so that announces are apart; none should make us ask at each.
const KEPT_MIN: Duration = Duration::from_secs(300);
const KEPT_MAX: Duration = Duration::from_secs(86_400);

/// How long it is kept that a host says nothing.
const SILENCE_KEPT: Duration = Duration::from_secs(3_600);

/// How long it is kept that name servers could not tell.
const FAILURE_KEPT: Duration = Duration::from_secs(600);

/// Hosts that are remembered: more than all trackers there are.
const HOSTS_MAX: usize = 1_024;

/// Name servers of the system that are asked, as its own resolver does.
const SERVERS_MAX: usize = 3;

/// Where the system names them, and how much of that file is read.
const SERVERS_FILE: &str = "/etc/resolv.conf";
const SERVERS_FILE_MAX_BYTES: u64 = 64 * 1024;

/// The port of name servers.
const PORT: u16 = 53;

/// Ends of names that are none of DNS's (RFC 6761, 6762, 7686): asking would tell strangers of them.
const ELSEWHERE: [&str; 4] = ["localhost", "local", "onion", "i2p"];

/// Who is asked in DNS which trackers a host runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrackerDns {
    /// The system's name servers, as `/etc/resolv.conf` has them; where there is no such file, nobody.
    #[default]
    System,
    /// This name server, and for names without a dot too.
    Server(SocketAddr),
    /// Nobody: trackers are asked where their URLs say.
    Off,
}

/// A text that is none of `system`, `off` and an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is neither system, nor off, nor the address of a name server")]
pub struct NoTrackerDns;

impl FromStr for TrackerDns {
    type Err = NoTrackerDns;

    fn from_str(text: &str) -> Result<Self, NoTrackerDns> {
        match text {
            "system" => return Ok(Self::System),
            "off" => return Ok(Self::Off),
            _ => {}
        }
        let with_port = text.parse::<SocketAddr>();
        let addr = with_port.or_else(|_| Ok(SocketAddr::new(text.parse()?, PORT)));
        let addr = addr.map_err(|_: std::net::AddrParseError| NoTrackerDns)?;
        (addr.port() != 0)
            .then_some(Self::Server(addr))
            .ok_or(NoTrackerDns)
    }
}

impl fmt::Display for TrackerDns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Off => f.write_str("off"),
            Self::Server(addr) => addr.fmt(f),
        }
    }
}

impl TrackerDns {
    /// True if DNS may have a word about this host.
    fn covers(self, host: &str) -> bool {
        let name = host.strip_suffix('.').unwrap_or(host);
        match (self, name.rsplit_once('.')) {
            (Self::Off, _) | (Self::System, None) => false,
            (Self::System, Some((_, end))) => !ELSEWHERE
                .iter()
                .any(|other| end.eq_ignore_ascii_case(other)),
            (Self::Server(_), _) => true,
        }
    }

    async fn servers(self) -> Vec<SocketAddr> {
        match self {
            Self::Off => Vec::new(),
            Self::Server(addr) => vec![addr],
            Self::System => {
                let read = tokio::task::spawn_blocking(|| {
                    let mut text = Vec::new();
                    let file = std::fs::File::open(SERVERS_FILE)?;
                    file.take(SERVERS_FILE_MAX_BYTES).read_to_end(&mut text)?;
                    io::Result::Ok(servers_in(&String::from_utf8_lossy(&text)))
                });
                read.await.ok().and_then(Result::ok).unwrap_or_default()
            }
        }
    }
}

/// The name servers in a `resolv.conf`.
fn servers_in(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let is_server = words.next() == Some("nameserver");
        let ip: IpAddr = words.next().filter(|_| is_server)?.parse().ok()?;
        Some(SocketAddr::new(ip, PORT))
    });
    servers.take(SERVERS_MAX).collect()
}

/// What hosts said, for all torrents of a session.
#[derive(Debug)]
pub(crate) struct HostPreferences {
    dns: TrackerDns,
    hosts: Arc<Mutex<Hosts>>,
    turns: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Hosts {
    known: BTreeMap<String, Host>,
    /// Name servers were silent: nobody is asked before.
    quiet_until: Option<Instant>,
}

#[derive(Debug)]
struct Host {
    until: Instant,
    /// `None` until somebody knows.
    said: watch::Receiver<Option<Said>>,
}

/// What a host says; `None` if that is nothing, or nobody can tell.
type Said = Option<Preferences>;

impl HostPreferences {
    pub(crate) fn new(dns: TrackerDns) -> Self {
        Self {
            dns,
            hosts: Arc::default(),
            turns: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        }
    }

    #[cfg(test)]
    pub(crate) const fn dns(&self) -> TrackerDns {
        self.dns
    }

    /// The URLs at which to ask the tracker that `url` names, the preferred one first: at least one. Who is in a hurry
    /// waits for nothing.
    pub(crate) async fn urls(&self, url: &str, in_a_hurry: bool) -> Result<Vec<String>, Refusal> {
        let said = match host_of(url).filter(|host| self.dns.covers(host)) {
            Some(host) => self.said(&host.to_ascii_lowercase(), in_a_hurry).await,
            None => None,
        };
        match said {
            None => Ok(vec![url.to_owned()]),
            Some(preferences) => preferences.apply(url),
        }
    }

    async fn said(&self, host: &str, in_a_hurry: bool) -> Said {
        let mut said = self.find(host, in_a_hurry)?;
        if in_a_hurry {
            return said.borrow().clone().flatten();
        }
        let knowing = said.wait_for(Option::is_some);
        let known = tokio::time::timeout(WAIT_MAX, knowing).await.ok()?.ok()?;
        known.clone().flatten()
    }

    /// Where the answer is, or will be. `None` if nobody is to be asked now.
    fn find(&self, host: &str, known_only: bool) -> Option<watch::Receiver<Option<Said>>> {
        let now = Instant::now();
        let mut hosts = lock(&self.hosts);
        if let Some(known) = hosts.known.get(host).filter(|known| known.until > now) {
            return Some(known.said.clone());
        }
        if known_only || hosts.quiet_until.is_some_and(|until| until > now) {
            return None;
        }
        let question = Question::new(host, random_id())?;
        hosts.make_room(now);
        let (tell, said) = watch::channel(None);
        let entry = Host {
            until: now + FAILURE_KEPT,
            said: said.clone(),
        };
        hosts.known.insert(host.to_owned(), entry);
        drop(hosts);
        let (dns, host) = (self.dns, host.to_owned());
        let (hosts, turns) = (Arc::clone(&self.hosts), Arc::clone(&self.turns));
        tokio::spawn(async move {
            // The semaphore is never closed.
            let _turn = turns.acquire().await;
            let found = look_up(&dns.servers().await, &question).await;
            lock(&hosts).keep(&host, found.as_ref());
            // Who asked may be gone.
            let _ = tell.send(Some(found.and_then(|found| found.0)));
        });
        Some(said)
    }
}

impl Hosts {
    fn make_room(&mut self, now: Instant) {
        if self.known.len() < HOSTS_MAX {
            return;
        }
        self.known.retain(|_, host| host.until > now);
        let first = self.known.iter().min_by_key(|(_, host)| host.until);
        if let Some(name) = first.map(|(name, _)| name.clone())
            && self.known.len() >= HOSTS_MAX
        {
            self.known.remove(&name);
        }
    }

    /// Notes how long an answer counts, or that there was none.
    fn keep(&mut self, host: &str, found: Option<&(Said, Duration)>) {
        let now = Instant::now();
        match (found, self.known.get_mut(host)) {
            (None, _) => self.quiet_until = Some(now + QUIET),
            (Some((_, kept)), Some(known)) => known.until = now + *kept,
            (Some(_), None) => {}
        }
    }
}

/// What the host says, and how long that is to be kept. `None` if every name server was silent.
async fn look_up(servers: &[SocketAddr], question: &Question) -> Option<(Said, Duration)> {
    if servers.is_empty() {
        return Some((None, SILENCE_KEPT));
    }
    let mut failed = None;
    for server in servers.iter().cycle().take(TRIES.max(servers.len())) {
        let asking = ask(*server, question);
        match tokio::time::timeout(TRY_MAX, asking).await {
            Ok(Ok(Answer::Records { texts, ttl })) => {
                let said = Preferences::read(texts.iter().map(Vec::as_slice));
                let kept = ttl.filter(|_| said.is_some());
                let kept = kept.map_or(SILENCE_KEPT, |ttl| ttl.clamp(KEPT_MIN, KEPT_MAX));
                return Some((said, kept));
            }
            Ok(Ok(Answer::Failed | Answer::Truncated)) => failed = Some((None, FAILURE_KEPT)),
            Ok(Err(error)) => tracing::debug!(%server, %error, "no answer about trackers"),
            Err(_) => tracing::debug!(%server, "no answer about trackers in time"),
        }
    }
    failed
}

/// One question to one server, over TCP too if the answer takes it.
async fn ask(server: SocketAddr, question: &Question) -> io::Result<Answer> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port of its own for each question, by lot, and only this server is heard on it.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&question.packet()).await?;
    let mut packet = vec![0; usize::from(bt_tracker::dns::message::ANSWER_MAX_BYTES)];
    loop {
        let length = socket.recv(&mut packet).await?;
        match question.read(packet.get(..length).unwrap_or_default()) {
            Some(Answer::Truncated) => return ask_over_tcp(server, question).await,
            Some(answer) => return Ok(answer),
            // Somebody guesses.
            None => {}
        }
    }
}

async fn ask_over_tcp(server: SocketAddr, question: &Question) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let packet = question.packet();
    let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    stream
        .write_all(&[&length.to_be_bytes()[..], &packet].concat())
        .await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    let read = question.read(&answer);
    read.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

fn random_id() -> u16 {
    let [a, b, ..] = Rng::new(random_seed()).next_u64().to_be_bytes();
    u16::from_be_bytes([a, b])
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests;
