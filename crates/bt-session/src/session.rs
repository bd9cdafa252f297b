//! The session: the listening sockets, the torrents, and what they share.
//!
//! **Invariant:** a panic in one torrent stops that torrent, with an event, and no other. Dropping the session ends all
//! its tasks at once; [`Session::shutdown`] takes leave of the swarms first.

pub(crate) mod life;

use crate::budget::{Budget, Part};
use crate::buffers::Buffers;
use crate::clock::Clock;
use crate::config::{SessionConfig, TorrentOptions};
use crate::dht::Dht;
use crate::disk::POOL_THREADS;
use crate::events::{TorrentEvents, events};
use crate::external::External;
use crate::handle::{Status, TorrentHandle};
use crate::http::Http;
use crate::inbox::Inbox;
use crate::lsd::Lsd;
use crate::openers::Openers;
use crate::preferences::HostPreferences;
use crate::reach::Names;
use crate::state::StateDir;
use crate::status::status;
use crate::torrent::Ends;
use crate::turns::Turns;
use crate::udp::Udp;
use crate::worker::Workers;
use crate::{incoming, listener, open};
use bt_core::{InfoHash, PeerId};
use bt_metainfo::{Magnet, Metainfo};
use bt_peer::{Command, Stats};
use bt_storage::FilePool;
use life::{Origin, Start, live};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Dials that are under way at a time over all torrents: more look like a scan to many a router.
const DIALS_MAX: usize = 64;

/// Why a session or a torrent cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// No listening socket.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The last address tried.
        addr: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The torrent runs already.
    #[error("torrent {info_hash} runs already")]
    Duplicate {
        /// Which.
        info_hash: InfoHash,
    },
    /// A magnet link names only the info hash of version 2 (BEP 52).
    #[error(
        "the link has no info hash of version 1, and torrents of version 2 alone cannot be had yet"
    )]
    V2Only,
}

/// A BitTorrent client.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
    local_addrs: Vec<SocketAddr>,
    listening: JoinSet<()>,
    /// The tasks of the DHT and of local discovery.
    _discovery: JoinSet<()>,
    torrents: JoinSet<()>,
    workers: Workers,
}

/// What the tasks of a session share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: SessionConfig,
    /// The port that trackers and peers are told.
    pub(crate) port: u16,
    /// Where the session was made.
    pub(crate) runtime: Handle,
    pub(crate) clock: Clock,
    pub(crate) http: Http,
    pub(crate) udp: Udp,
    pub(crate) files: Arc<FilePool>,
    pub(crate) state_dir: Arc<StateDir>,
    /// Memory of all connections.
    pub(crate) buffers: Arc<Buffers>,
    /// Where torrents are opened.
    pub(crate) openers: Openers,
    /// One for each torrent that is being hashed.
    pub(crate) hash_permits: Arc<Semaphore>,
    /// One for each job on the disk's pool.
    pub(crate) disk_permits: Arc<Semaphore>,
    pub(crate) dial_permits: Semaphore,
    pub(crate) announce_turns: Turns,
    pub(crate) host_preferences: HostPreferences,
    pub(crate) budget: Budget,
    pub(crate) dht: Option<Dht>,
    pub(crate) lsd: Option<Lsd>,
    pub(crate) external: External,
    torrents_started: AtomicU64,
    torrents: Mutex<BTreeMap<InfoHash, Slot>>,
}

/// A torrent as the session knows it.
#[derive(Debug)]
struct Slot {
    inbox: Arc<Inbox>,
    /// `None` while its data is being checked: peers are turned away.
    registered: Option<Registered>,
}

/// Where the peers of a running torrent are to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    /// Who we are to them.
    pub(crate) peer_id: PeerId,
    /// Where they are left for it.
    pub(crate) inbox: Arc<Inbox>,
    /// It uses the DHT.
    pub(crate) dht: bool,
}

impl Session {
    /// Starts listening. To be called inside a tokio runtime, which then runs all of the session but its torrents.
    ///
    /// # Errors
    /// [`SessionError::Listen`] if the port is taken or not allowed.
    pub fn new(config: SessionConfig) -> Result<Self, SessionError> {
        let listeners = listener::listen(config.bind, config.port)?;
        let addrs = listeners.iter().filter_map(|l| l.local_addr().ok());
        let local_addrs: Vec<SocketAddr> = addrs.collect();
        let port = local_addrs.first().map_or(0, SocketAddr::port);
        let mut discovery = JoinSet::new();
        let dht = config.dht.clone().and_then(|dht| {
            let started = Dht::start(dht, config.bind, port, &mut discovery);
            // Other sources of peers are as good as they were.
            let warn = |error| tracing::warn!(%error, "no socket for the DHT: going on without it");
            started.map_err(warn).ok()
        });
        let lsd = config.lsd.and_then(|lsd| {
            let started = Lsd::start(lsd, config.bind, port, &mut discovery);
            let warn = |error| tracing::warn!(%error, "no local discovery: going on without it");
            started.map_err(warn).ok()
        });
        let clock = Clock::start();
        let shared = Arc::new(Shared {
            port,
            external: External::new(dht.clone()),
            dht,
            runtime: Handle::current(),
            lsd,
            clock,
            udp: Udp::new(config.bind, Names::System, clock),
            http: Http::new(config.bind, Names::System),
            files: Arc::new(FilePool::for_process()),
            state_dir: Arc::new(StateDir::new(config.state_dir.clone())),
            openers: Openers::default(),
            hash_permits: Arc::new(Semaphore::new(open::HASHINGS_MAX)),
            buffers: Arc::default(),
            disk_permits: Arc::new(Semaphore::new(POOL_THREADS)),
            dial_permits: Semaphore::new(DIALS_MAX),
            announce_turns: Turns::default(),
            host_preferences: HostPreferences::new(config.tracker_dns),
            budget: Budget::new(config.down_limit, config.up_limit),
            torrents_started: AtomicU64::new(0),
            torrents: Mutex::default(),
            config,
        });
        let workers = Workers::new(shared.config.threads);
        let mut listening = JoinSet::new();
        for listener in listeners {
            listening.spawn(incoming::accept(listener, Arc::clone(&shared)));
        }
        Ok(Self {
            shared,
            local_addrs,
            listening,
            _discovery: discovery,
            torrents: JoinSet::new(),
            workers,
        })
    }

    /// The addresses on which it listens.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Our address in a family as most others see it: trackers, peers and nodes of the DHT. `None` while nobody knows.
    #[must_use]
    pub fn external_ip(&self, ipv6: bool) -> Option<IpAddr> {
        self.shared.external.ip(ipv6)
    }

    /// The session's DHT, if it takes part in it.
    #[must_use]
    pub fn dht(&self) -> Option<&Dht> {
        self.shared.dht.as_ref()
    }

    /// Starts a torrent: checks the data under `dir` that is there, then takes part in the swarm.
    ///
    /// `dir` is the folder that holds, or receives, the torrent's top file or folder.
    ///
    /// # Errors
    /// [`SessionError::Duplicate`] if the session has the torrent. What goes wrong later is an event.
    pub fn add(
        &mut self,
        metainfo: Metainfo,
        dir: &Path,
        options: TorrentOptions,
    ) -> Result<(TorrentHandle, TorrentEvents), SessionError> {
        let info_hash = metainfo.info_hash;
        let total_length = metainfo.info.layout().total_length();
        let start = Box::new(Start {
            origin: Origin::Torrent(metainfo),
            dir: dir.to_owned(),
            options,
        });
        self.start(info_hash, total_length, start)
    }

    /// Starts a torrent from a magnet link: asks peers what it is ([`Metadata`](crate::TorrentEvent::Metadata)), and goes on as
    /// [`add`](Self::add) does. What was learnt once is kept in the state folder, for the next start.
    ///
    /// # Errors
    /// [`SessionError::Duplicate`] if the session has the torrent, [`SessionError::V2Only`] if the link has no info hash
    /// of version 1.
    pub fn add_magnet(
        &mut self,
        magnet: Magnet,
        dir: &Path,
        options: TorrentOptions,
    ) -> Result<(TorrentHandle, TorrentEvents), SessionError> {
        let info_hash = magnet.info_hash.ok_or(SessionError::V2Only)?;
        let start = Box::new(Start {
            origin: Origin::Magnet(magnet),
            dir: dir.to_owned(),
            options,
        });
        self.start(info_hash, 0, start)
    }

    fn start(
        &mut self,
        info_hash: InfoHash,
        total_length: u64,
        start: Box<Start>,
    ) -> Result<(TorrentHandle, TorrentEvents), SessionError> {
        let inbox = Arc::<Inbox>::default();
        let (events_in, events) = events();
        let (status_in, shown) = status(Status {
            stats: Stats {
                total_length,
                ..Stats::default()
            },
            ..Status::default()
        });
        self.shared.enter(info_hash, Arc::clone(&inbox))?;
        let ends = Ends {
            inbox: Arc::clone(&inbox),
            gossip: None,
            events: events_in,
            status: status_in,
        };
        let shared = Arc::clone(&self.shared);
        let place = self.workers.place();
        let life = live(shared, info_hash, start, ends, place.load);
        self.torrents.spawn_on(life, &place.runtime);
        let handle = TorrentHandle {
            info_hash,
            status: shown,
            inbox,
        };
        Ok((handle, events))
    }

    /// Stops all torrents, each as [`TorrentHandle::stop`] does, at the same time; then the session.
    pub async fn shutdown(mut self) {
        self.listening.abort_all();
        for slot in self.shared.torrents().values() {
            slot.inbox.command(Command::Stop);
        }
        while self.torrents.join_next().await.is_some() {}
        if let Some(dht) = &self.shared.dht {
            dht.stop().await;
        }
    }
}

#[cfg(test)]
impl Session {
    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Shared {
    /// Where to send a peer who wants this torrent.
    pub(crate) fn registered(&self, info_hash: InfoHash) -> Option<Registered> {
        self.torrents().get(&info_hash)?.registered.clone()
    }

    /// A part in the budget for one more torrent.
    pub(crate) fn part(&self, peers_max: usize) -> Part {
        Part::new(
            self.torrents_started.fetch_add(1, Ordering::Relaxed),
            peers_max,
        )
    }

    fn torrents(&self) -> MutexGuard<'_, BTreeMap<InfoHash, Slot>> {
        self.torrents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, info_hash: InfoHash, inbox: Arc<Inbox>) -> Result<(), SessionError> {
        let mut torrents = self.torrents();
        if torrents.contains_key(&info_hash) {
            return Err(SessionError::Duplicate { info_hash });
        }
        let slot = Slot {
            inbox,
            registered: None,
        };
        torrents.insert(info_hash, slot);
        Ok(())
    }

    fn register(&self, info_hash: InfoHash, registered: Registered) {
        if let Some(slot) = self.torrents().get_mut(&info_hash) {
            slot.registered = Some(registered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::TorrentEvent;

    /// A torrent of one piece, started in an empty folder.
    fn start(session: &mut Session, dir: &Path) -> (TorrentHandle, TorrentEvents) {
        let builder = bt_metainfo::Builder::file("file", 10, 16 * 1024);
        let metainfo = builder.build(&[[0; 20]]).unwrap();
        session
            .add(metainfo, dir, TorrentOptions::default())
            .unwrap()
    }

    fn session() -> Session {
        Session::new(SessionConfig {
            bind: Some(std::net::Ipv4Addr::LOCALHOST.into()),
            port: Some(0),
            // On the test's own thread, whose clock can be stopped.
            threads: Some(0),
            ..SessionConfig::default()
        })
        .unwrap()
    }

    async fn until(events: &mut TorrentEvents, is: impl Fn(&TorrentEvent) -> bool) {
        let seen = async { while !is(&events.next().await.unwrap()) {} };
        let patience = core::time::Duration::from_secs(60);
        assert!(tokio::time::timeout(patience, seen).await.is_ok());
    }

    #[tokio::test]
    async fn opening_a_torrent_takes_no_turn_from_those_that_run() {
        let dir = tempfile::tempdir().unwrap();
        let mut session = session();
        let shared = Arc::clone(&session.shared);
        let all = u32::try_from(POOL_THREADS).unwrap();
        let _busy = shared.disk_permits.acquire_many(all).await.unwrap();
        let (_torrent, mut events) = start(&mut session, dir.path());
        until(&mut events, |event| {
            matches!(event, TorrentEvent::Checked { .. })
        })
        .await;
    }

    #[tokio::test]
    async fn who_has_nothing_to_hash_does_not_wait_for_who_has() {
        let dir = tempfile::tempdir().unwrap();
        let mut session = session();
        let shared = Arc::clone(&session.shared);
        let _hashing = shared.hash_permits.acquire().await.unwrap();
        let builder = bt_metainfo::Builder::file("file", 10, 16 * 1024);
        let metainfo = builder.build(&[[0; 20]]).unwrap();
        let options = TorrentOptions {
            trusted: true,
            ..TorrentOptions::default()
        };
        let (_torrent, mut events) = session.add(metainfo, dir.path(), options).unwrap();
        until(&mut events, |event| {
            matches!(event, TorrentEvent::Checked { complete: true, .. })
        })
        .await;
    }

    #[tokio::test]
    async fn who_waits_to_be_opened_can_be_stopped_and_others_are_opened_in_turn() {
        let dir = tempfile::tempdir().unwrap();
        let mut session = session();
        let openers = session.shared.openers.clone();
        openers.pretend_slow();
        let mut turns = Vec::new();
        while let Ok(turn) = tokio::time::timeout(core::time::Duration::ZERO, openers.turn()).await
        {
            turns.push(turn.unwrap());
        }
        let (torrent, mut events) = start(&mut session, dir.path());
        torrent.stop().await;
        assert_eq!(events.next().await, Some(TorrentEvent::Stopped));
        let (_torrent, mut events) = start(&mut session, dir.path());
        drop(turns);
        until(&mut events, |event| {
            matches!(event, TorrentEvent::Checked { .. })
        })
        .await;
        assert!(openers.turn().await.is_some(), "it has been given back");
    }

    #[tokio::test]
    async fn what_is_said_while_the_data_is_checked_is_heard() {
        let dir = tempfile::tempdir().unwrap();
        let mut session = session();
        let shared = Arc::clone(&session.shared);
        let checking = shared.hash_permits.acquire().await.unwrap();
        let (torrent, mut events) = start(&mut session, dir.path());
        let everything = Command::Want(bt_core::Bitfield::full(1));
        torrent.command(everything);
        let nothing = Command::Want(bt_core::Bitfield::new(1));
        torrent.command(nothing);
        drop(checking);
        let complete = TorrentEvent::Engine(bt_peer::Event::Complete);
        until(&mut events, |event| *event == complete).await;
    }

    #[tokio::test]
    async fn stopping_waits_for_no_clock() {
        let dir = tempfile::tempdir().unwrap();
        let mut session = session();
        let (torrent, mut events) = start(&mut session, dir.path());
        until(&mut events, |event| {
            matches!(event, TorrentEvent::Checked { .. })
        })
        .await;
        tokio::time::pause();
        // Its first tick is over then, and the next is far away.
        tokio::time::sleep(core::time::Duration::from_millis(10)).await;
        let told = tokio::time::Instant::now();
        torrent.stop().await;
        assert_eq!(told.elapsed(), core::time::Duration::ZERO);
    }
}
