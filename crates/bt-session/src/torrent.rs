//! The task of one torrent: the only owner of its [`Engine`].
//!
//! It stamps the time on each fact, carries out what the engine orders, and sleeps until the engine's deadline.
//!
//! **Invariant:** this task never waits for a peer, a tracker or the disk's pool: it hands orders over, and their outcome
//! is another fact. Facts come over bounded channels, so who has many of them waits.

mod facts;
mod orders;
mod run;

use crate::budget::Part;
use crate::config::STOP_DEADLINE;
use crate::conn::Entry;
use crate::dht::Dht;
use crate::disk::Disk;
use crate::errands::Errands;
use crate::events::EventsIn;
use crate::handle::{Failure, Phase, Status, TorrentEvent};
use crate::hands::Hands;
use crate::handshake::Greeted;
use crate::inbox::Inbox;
use crate::lsd::Lsd;
use crate::metadata::{Described, Unopened};
use crate::open::Opened;
use crate::session::Shared;
use crate::state::Keeper;
use crate::status::StatusIn;
use bt_core::disk::DiskError;
use bt_core::{Block, InfoHash, PeerId};
use bt_peer::peers::Source;
use bt_peer::{CloseReason, Command, ConnId, Engine, Input, Unknown};
use bt_tracker::announce::{AnnounceFailure, AnnounceResponse};
use bt_wire::{Limits, Message};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How often numbers are shown, shares asked for and the resume state looked at, as long as anything happens. A torrent
/// without peers of which a program may have ten thousand sleeps until it has something to do.
const TICK: Duration = Duration::from_secs(1);

/// Something that happened to one torrent.
#[derive(Debug)]
pub(crate) enum Fact {
    /// A dial succeeded.
    Dialled { conn: ConnId, greeted: Greeted },
    /// A dial came to nothing.
    DialFailed { conn: ConnId },
    /// Messages came, in order.
    Received {
        conn: ConnId,
        messages: Vec<Message>,
        /// Dropped once they are worked off: the connection reads on then.
        turn: Option<OwnedSemaphorePermit>,
    },
    /// Blocks went out, or could not be read.
    Uploaded {
        conn: ConnId,
        blocks: Vec<(Block, Result<(), DiskError>)>,
    },
    /// A connection ended.
    Closed { conn: ConnId, reason: CloseReason },
    /// A tracker answered.
    Announced {
        id: u64,
        result: Result<AnnounceResponse, AnnounceFailure>,
    },
    /// Peers that a tracker named by host name.
    PeersFound(Vec<SocketAddr>),
    /// What peers said of the torrent was looked at, and its files are open.
    Described(Result<Box<Described>, Failure>),
    /// The resume state is saved, or not.
    Saved(Result<(), DiskError>),
    /// The task that feeds the disk's pool ended, which it never does by itself.
    DiskGone,
}

/// The ends at which the torrent's owner holds the others.
pub(crate) struct Ends {
    pub(crate) inbox: Arc<Inbox>,
    /// Peers that strangers name, in the DHT or on the local network, if it takes part in either.
    pub(crate) gossip: Option<mpsc::Receiver<Vec<SocketAddr>>>,
    pub(crate) events: EventsIn,
    pub(crate) status: StatusIn,
}

/// A running torrent.
pub(crate) struct Torrent {
    shared: Arc<Shared>,
    info_hash: InfoHash,
    peer_id: PeerId,
    limits: Limits,
    engine: Engine,
    /// The DHT, if the torrent uses it.
    dht: Option<Dht>,
    /// Local discovery, if the torrent uses it.
    lsd: Option<Lsd>,
    disk: Arc<Disk>,
    /// `None` while it has nothing to do.
    hands: Option<Box<Hands>>,
    conns: BTreeMap<ConnId, Entry>,
    dials: BTreeMap<ConnId, AbortHandle>,
    errands: Errands,
    /// Facts that arose while an order was carried out.
    inputs: VecDeque<Input>,
    /// The number of the next connection that we accept. Odd, as the engine's are even.
    next_accepted: u64,
    /// `None` until it is known what the torrent is.
    keeper: Option<Keeper>,
    /// What is to be done once that is known.
    unopened: Option<Box<Unopened>>,
    part: Part,
    /// When a stop that was asked for is over, whoever may still have to be told.
    stop_at: Option<Instant>,
    stopped: bool,
    /// Why it stops, if nobody told it to.
    broken: Option<DiskError>,
    /// When numbers may be shown again.
    tick_at: Instant,
    /// Nothing has happened since the last tick, and the numbers stand still.
    is_idle: bool,
}

/// In what a torrent that is known differs from one that is not.
struct Start {
    info_hash: InfoHash,
    limits: Limits,
    keeper: Option<Keeper>,
    unopened: Option<Box<Unopened>>,
    /// Its peers come from its trackers only (BEP 27).
    private: bool,
}

impl Drop for Torrent {
    fn drop(&mut self) {
        self.shared.budget.leave(&self.part);
    }
}

impl Torrent {
    /// A torrent whose data was checked.
    pub(crate) fn new(shared: Arc<Shared>, opened: Opened) -> Self {
        let disk = Disk::new(opened.store, Arc::clone(&shared.disk_permits));
        let start = Start {
            info_hash: opened.torrent.info_hash,
            limits: Limits::for_torrent(opened.torrent.layout.pieces_count()),
            keeper: Some(opened.keeper),
            unopened: None,
            private: opened.torrent.private,
        };
        let config = opened.config.clone();
        let seed = crate::clock::random_seed();
        let engine = Engine::new(opened.torrent, opened.config, seed);
        let engine = engine.with_metadata(opened.metadata);
        Self::start(shared, engine, &config, disk, start)
    }

    /// A torrent of which only a magnet link is known.
    pub(crate) fn fetching(
        shared: Arc<Shared>,
        unknown: Unknown,
        config: bt_peer::Config,
        unopened: Unopened,
    ) -> Self {
        let disk = Disk::unopened(Arc::clone(&shared.disk_permits));
        let start = Start {
            info_hash: unknown.info_hash,
            limits: Limits::for_unknown(),
            keeper: None,
            unopened: Some(Box::new(unopened)),
            // Nobody knows yet.
            private: false,
        };
        let engine = Engine::fetching(unknown, config.clone(), crate::clock::random_seed());
        Self::start(shared, engine, &config, disk, start)
    }

    fn start(
        shared: Arc<Shared>,
        engine: Engine,
        config: &bt_peer::Config,
        disk: Disk,
        start: Start,
    ) -> Self {
        let part = shared.part(config.peers_max);
        Self {
            info_hash: start.info_hash,
            peer_id: config.peer_id,
            limits: start.limits,
            engine,
            dht: shared.dht.clone().filter(|_| !start.private),
            lsd: shared.lsd.clone().filter(|_| !start.private),
            shared,
            disk: Arc::new(disk),
            hands: None,
            conns: BTreeMap::new(),
            dials: BTreeMap::new(),
            errands: Errands::default(),
            inputs: VecDeque::new(),
            next_accepted: 1,
            keeper: start.keeper,
            unopened: start.unopened,
            part,
            stop_at: None,
            stopped: false,
            broken: None,
            tick_at: Instant::now(),
            is_idle: false,
        }
    }

    /// Which torrent.
    pub(crate) const fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    /// The DHT, if the torrent uses it.
    pub(crate) const fn dht(&self) -> Option<&Dht> {
        self.dht.as_ref()
    }

    /// Local discovery, if the torrent uses it.
    pub(crate) const fn lsd(&self) -> Option<&Lsd> {
        self.lsd.as_ref()
    }

    /// Saves the resume state for the last time.
    pub(crate) async fn save(&mut self) -> Result<(), DiskError> {
        // What is written after it would make the files differ from what it says of them.
        if let Some(hands) = &mut self.hands {
            hands.jobs.finish().await;
        }
        self.saving(true).await
    }

    fn saving(&mut self, clean: bool) -> impl Future<Output = Result<(), DiskError>> + use<> {
        let stats = self.engine.stats(self.shared.clock.now());
        let (disk, have) = (&self.disk, self.engine.have());
        let keeper = self.keeper.as_mut();
        let saving = keeper.map(|keeper| keeper.save(disk, have, &stats, clean));
        async {
            match saving {
                Some(saving) => saving.await,
                None => Ok(()),
            }
        }
    }

    /// The numbers to show.
    pub(crate) fn status(&self) -> Status {
        Status {
            phase: match (self.stop_at, &self.keeper) {
                (Some(_), _) => Phase::Stopping,
                (None, None) => Phase::Fetching,
                (None, Some(_)) => Phase::Running,
            },
            pieces_checked: 0,
            stats: self.engine.stats(self.shared.clock.now()),
        }
    }

    fn found(&mut self, source: Source, peers: Vec<SocketAddr>) {
        self.inputs.push_back(Input::PeersFound(source, peers));
    }

    /// Takes in what the owner said.
    pub(crate) fn command(&mut self, command: Command) {
        if command == Command::Stop {
            // The engine has its own deadline for the trackers; this one holds if it does not keep it.
            let bound = Instant::now() + STOP_DEADLINE + TICK;
            self.stop_at.get_or_insert(bound);
        }
        self.inputs.push_back(Input::Command(command));
    }
}

/// Tells the owner of something that is not as it should be.
pub(crate) fn warn(message: String, events: &EventsIn) {
    // Nobody may be listening.
    let _ = events.send(TorrentEvent::Warning { message });
}

#[cfg(test)]
mod tests;
