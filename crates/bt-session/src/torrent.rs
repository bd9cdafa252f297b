//! The task of one torrent: the only owner of its [`Engine`].
//!
//! It stamps the time on each fact, carries out what the engine orders, and sleeps until the engine's deadline.
//!
//! **Invariant:** this task never waits for a peer, a tracker or the disk's pool: it hands orders over, and their outcome
//! is another fact. Facts come over bounded channels, so who has many of them waits.

mod orders;

use crate::budget::Part;
use crate::config::STOP_DEADLINE;
use crate::conn::{self, Entry, Order};
use crate::dht::Dht;
use crate::disk::Disk;
use crate::errands::Errands;
use crate::events::EventsIn;
use crate::handle::{Failure, Phase, Status, TorrentEvent};
use crate::hands::Hands;
use crate::handshake::Greeted;
use crate::inbox::{Inbox, Item};
use crate::lsd::Lsd;
use crate::metadata::{Described, Unopened};
use crate::open::Opened;
use crate::session::Shared;
use crate::state::Keeper;
use bt_core::disk::{DiskError, Done};
use bt_core::{Block, InfoHash, PeerId};
use bt_peer::peers::Source;
use bt_peer::{CloseReason, Command, ConnId, Direction, Engine, Input, Unknown};
use bt_tracker::announce::{AnnounceFailure, AnnounceResponse};
use bt_wire::{Limits, Message};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
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
    pub(crate) status: watch::Sender<Status>,
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

    /// Takes part in the swarm until told to stop.
    ///
    /// # Errors
    /// [`Failure`] if it cannot go on.
    pub(crate) async fn run(
        &mut self,
        ends: &mut Ends,
        peers: Vec<SocketAddr>,
    ) -> Result<(), Failure> {
        let mut batch = Vec::new();
        self.inputs
            .push_back(Input::PeersFound(Source::User, peers));
        loop {
            self.settle(ends);
            if self.stopped {
                let broken = self.broken.take().map(Failure::Disk);
                return broken.map_or(Ok(()), Err);
            }
            let wake = self.wake();
            tokio::select! {
                item = ends.inbox.next() => match item {
                    Item::Command(command) => self.command(command),
                    Item::Accepted(greeted) => self.accepted(greeted, ends),
                },
                Some(peers) = named(&mut ends.gossip) => self.found(Source::Gossip, peers),
                done = Hands::next(&mut self.hands, &mut batch) => {
                    self.disk_done(done);
                    for fact in batch.drain(..) {
                        self.fact(fact, ends)?;
                    }
                }
                fact = self.errands.next() => self.fact(fact, ends)?,
                () = sleep_until(wake) => self.timeout(ends),
            }
        }
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

    fn wake(&self) -> Option<Instant> {
        let timers = [self.deadline(), self.stop_at, self.next_tick()];
        timers.into_iter().flatten().min()
    }

    fn deadline(&self) -> Option<Instant> {
        self.engine
            .deadline()
            .and_then(|time| self.shared.clock.instant(time))
    }

    fn next_tick(&self) -> Option<Instant> {
        if self.is_idle {
            let due = self.keeper.as_ref().and_then(Keeper::due);
            return due.map(|due| due.max(self.tick_at));
        }
        Some(self.tick_at)
    }

    fn timeout(&mut self, ends: &Ends) {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.stop_at) {
            self.stopped = true;
        }
        if is_due(self.next_tick()) {
            self.tick(now, ends);
        }
        if is_due(self.deadline()) {
            self.inputs.push_back(Input::Timeout);
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

    /// Feeds the engine with all that is there, and carries out what it orders, until both are silent.
    fn settle(&mut self, ends: &Ends) {
        let mut done = Vec::new();
        while let Some(input) = self.inputs.pop_front() {
            self.is_idle = false;
            self.engine.handle(self.shared.clock.now(), input);
            while let Some(output) = self.engine.poll() {
                self.carry_out(output, &mut done, ends);
            }
            self.inputs.extend(done.drain(..).map(Input::DiskDone));
        }
        if self.conns.is_empty() && self.inputs.capacity() > 0 {
            // Nobody knows when the next fact comes, and this has room for four of them.
            self.inputs = VecDeque::new();
        }
    }

    /// Feeds the engine with one fact and what was there before it.
    fn feed(&mut self, input: Input, ends: &Ends) {
        self.inputs.push_back(input);
        self.settle(ends);
    }

    fn fact(&mut self, fact: Fact, ends: &Ends) -> Result<(), Failure> {
        match fact {
            Fact::Received {
                conn,
                messages,
                turn,
            } => self.received(conn, messages, turn, ends),
            Fact::Uploaded { conn, blocks } => self.uploaded(conn, blocks, ends),
            Fact::Closed { conn, reason } => {
                if self.conns.remove(&conn).is_some() {
                    self.inputs.push_back(Input::Closed { conn, reason });
                }
            }
            Fact::Dialled { conn, greeted } => {
                if self.dials.remove(&conn).is_some() {
                    self.open(conn, greeted, Direction::Outgoing, ends);
                }
            }
            Fact::DialFailed { conn } => {
                if self.dials.remove(&conn).is_some() {
                    self.inputs.push_back(Input::DialFailed { conn });
                }
            }
            Fact::Announced { id, result } => {
                self.resolve(&result);
                self.inputs.push_back(Input::Announced { id, result });
            }
            Fact::PeersFound(peers) => self.found(Source::Tracker, peers),
            Fact::Described(described) => self.described(*described?, ends),
            Fact::Saved(Ok(())) => {}
            Fact::Saved(Err(error)) => warn(
                format!("the resume state is not saved: {error}"),
                &ends.events,
            ),
            Fact::DiskGone => {
                let message = "the disk's task ended".to_owned();
                return Err(Failure::Bug { message });
            }
        }
        Ok(())
    }

    fn received(
        &mut self,
        conn: ConnId,
        messages: Vec<Message>,
        turn: Option<OwnedSemaphorePermit>,
        ends: &Ends,
    ) {
        for message in messages {
            // The engine may have closed it at an earlier one.
            let Some(entry) = self.conns.get(&conn) else {
                break;
            };
            if let (Message::Port(port), Some(dht), Some(addr)) = (&message, &self.dht, entry.addr)
            {
                dht.meet(SocketAddr::new(addr.ip(), *port));
            }
            self.feed(Input::Received { conn, message }, ends);
        }
        let mut done = Vec::new();
        if let Some(hands) = &mut self.hands {
            hands.jobs.flush(&mut done);
        }
        self.disk_done(done);
        if self.engine.is_swamped(conn)
            && let Some(entry) = self.conns.get_mut(&conn)
        {
            entry.turn = turn;
        }
    }

    fn uploaded(&mut self, conn: ConnId, blocks: Vec<(Block, Result<(), DiskError>)>, ends: &Ends) {
        for (block, result) in blocks {
            if self.conns.contains_key(&conn) {
                let uploaded = Input::Uploaded {
                    conn,
                    block,
                    result,
                };
                self.feed(uploaded, ends);
            }
        }
        if let Some(entry) = self.conns.get_mut(&conn)
            && !self.engine.is_swamped(conn)
        {
            entry.turn = None;
        }
    }

    /// Reads on of all peers that wait for no more than they may.
    fn read_on(&mut self) {
        for (conn, entry) in &mut self.conns {
            if !self.engine.is_swamped(*conn) {
                entry.turn = None;
            }
        }
    }

    fn accepted(&mut self, mut greeted: Greeted, ends: &Ends) {
        greeted.stream = match settled(greeted.stream) {
            Ok(stream) => stream,
            // As if the peer had gone before it was accepted.
            Err(error) => {
                tracing::debug!(addr = %greeted.addr, %error, "cannot take a connection");
                return;
            }
        };
        let conn = ConnId(self.next_accepted);
        self.next_accepted += 2;
        self.open(conn, greeted, Direction::Incoming, ends);
    }

    /// From here on it is a torrent like any other.
    fn described(&mut self, described: Described, ends: &Ends) {
        let opened = described.opened;
        if opened.torrent.private {
            let (dht, lsd) = (self.dht.take(), self.lsd.take());
            let info_hash = self.info_hash;
            let leaving = async move {
                if let Some(dht) = dht {
                    dht.leave(info_hash).await;
                }
                if let Some(lsd) = lsd {
                    lsd.leave(info_hash).await;
                }
                None
            };
            self.errands.spawn(leaving, None);
        }
        self.disk.open(opened.store);
        self.limits = Limits::for_torrent(opened.torrent.layout.pieces_count());
        self.keeper = Some(opened.keeper);
        for message in opened.notes {
            warn(message, &ends.events);
        }
        // Nobody may be listening.
        let _ = ends.events.send(described.checked);
        self.inputs.push_back(Input::Described {
            layout: opened.torrent.layout,
            private: opened.torrent.private,
            have: opened.torrent.have,
            wanted: opened.torrent.wanted,
        });
    }

    fn disk_done(&mut self, done: Vec<Done>) {
        self.inputs.extend(done.into_iter().map(Input::DiskDone));
    }

    fn open(&mut self, conn: ConnId, greeted: Greeted, direction: Direction, ends: &Ends) {
        let Greeted {
            stream,
            addr,
            handshake,
        } = greeted;
        let disk = Arc::clone(&self.disk);
        let buffers = Arc::clone(&self.shared.buffers);
        let facts = self.hands().facts_in.clone();
        let (entry, task) = conn::new(conn, stream, self.limits, disk, buffers, facts);
        self.conns.insert(conn, entry);
        let task = async {
            task.await;
            None
        };
        let reason = CloseReason::Gone;
        self.errands
            .spawn(task, Some(Fact::Closed { conn, reason }));
        let opened = Input::Opened {
            conn,
            addr,
            direction,
            peer_id: handshake.peer_id,
            reserved: handshake.reserved,
        };
        // The engine's first message comes first.
        self.feed(opened, ends);
        let dht = self.dht.as_ref().filter(|_| handshake.reserved.has_dht());
        if let Some(port) = dht.and_then(|dht| dht.port_for(addr)) {
            self.order(conn, Order::Send(Message::Port(port)));
        }
    }

    fn tick(&mut self, now: Instant, ends: &Ends) {
        self.tick_at = now + TICK;
        ends.events.wake();
        // A choke takes requests back without a fact that would tell.
        self.read_on();
        let status = self.status();
        let stats = &status.stats;
        self.is_idle = self.conns.is_empty()
            && self.dials.is_empty()
            && (stats.down_rate, stats.up_rate) == (0, 0);
        if self.is_idle {
            // What it had is the others', and a division among ten thousand costs more than it gives.
            self.shared.budget.leave(&self.part);
            self.hands = self.hands.take().filter(|hands| hands.jobs.is_owed());
        } else {
            let changes = self.shared.budget.share(&mut self.part, stats);
            self.inputs.extend(changes.into_iter().map(Input::Command));
        }
        // While its data is checked, whoever checks tells how far that is.
        if ends.status.borrow().phase != Phase::Checking || self.keeper.is_some() {
            ends.status.send_if_modified(|shown| {
                let is_news = *shown != status;
                *shown = status;
                is_news
            });
        }
        if self.keeper.as_ref().is_some_and(Keeper::is_due) {
            let saving = self.saving(false);
            let saving = async { Some(Fact::Saved(saving.await)) };
            self.errands.spawn(saving, None);
        }
    }
}

/// Tells the owner of something that is not as it should be.
pub(crate) fn warn(message: String, events: &EventsIn) {
    // Nobody may be listening.
    let _ = events.send(TorrentEvent::Warning { message });
}

/// The same stream, whose wake-ups come from the runtime of this task and not from that which accepted it.
fn settled(stream: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(stream.into_std()?)
}

/// What strangers name next.
async fn named(gossip: &mut Option<mpsc::Receiver<Vec<SocketAddr>>>) -> Option<Vec<SocketAddr>> {
    gossip.as_mut()?.recv().await
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => core::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
