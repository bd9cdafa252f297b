//! The engine of one torrent: every decision about its peers, its pieces, its disk and its trackers.
//!
//! A machine: facts go in by [`Engine::handle`], orders come out of [`Engine::poll`]. It knows no clock, no socket and no
//! file. Its parts live in files of their own: [`contract`] (the plain data), `swarm` (connections come and go), `receive`
//! (what peers say), `extended`, `metadata` (the info dictionary), `pex` (peers that peers name), `download` and `spare` (what is asked
//! of them), `disk` (what becomes of blocks), `dont_have` (pieces that are lost again), `upload` (what they get), `slots` (who gets it), `super_seed`, and `trackers`.
//!
//! **Invariant:** a piece is announced, counted or uploaded only after its hash matched. What a stranger sends can close
//! its connection, and nothing else.

mod behind;
pub mod contract;
mod disk;
mod dont_have;
mod download;
pub(crate) mod extended;
mod metadata;
pub(crate) mod pex;
mod receive;
mod slots;
mod sparing;
pub(crate) mod super_seed;
mod swarm;
mod trackers;
mod upload;

#[cfg(test)]
mod tests;

pub use contract::{Command, ConnId, Direction, Input, Output, RESERVED, Torrent, Unknown};

use crate::announcer::Announcer;
use crate::choker::Choker;
use crate::connection::Connection;
use crate::spread::Spread;
use crate::{Config, Event, PeerList, Picker, SmartBan, Stats};
use bt_core::{Bitfield, Layout, PeerId, RateLimiter, RateMeter, Rng, Time};
use bt_tracker::client;
use bt_wire::Message;
use disk::Disk;
use download::Download;
use metadata::Info;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use upload::Upload;

/// One torrent's engine. See the crate's documentation for the contract.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    info_hash: bt_core::InfoHash,
    info: Info,
    /// Without pieces until the info dictionary is known.
    layout: Layout,
    rng: Rng,
    phase: Phase,
    /// Every wanted piece is verified.
    complete: bool,
    out: VecDeque<Output>,
    /// Boxed: a map's nodes are half empty, and a connection is large.
    conns: BTreeMap<ConnId, Box<Connection>>,
    dials: BTreeMap<ConnId, SocketAddr>,
    /// The number of the next dial; even.
    next_conn: u64,
    /// How many addresses may be dialled now although nothing is missing: as many as there are places, and one a second from
    /// there on. Whoever misses something dials by itself, and most of those known to a torrent that is done are done too:
    /// without a pace all of a crowd would call all others.
    idle_dials: usize,
    peers: PeerList,
    banned_ids: BTreeSet<PeerId>,
    /// When a place last went to a peer of a higher rank.
    outranked_at: Option<Time>,
    picker: Picker,
    smart_ban: SmartBan,
    choker: Choker,
    announcer: Announcer,
    download: Download,
    upload: Upload,
    disk: Disk,
    counters: Counters,
    tick_at: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before the first fact.
    New,
    Running,
    /// The user said stop.
    Stopping {
        /// Whatever is not done by then is left undone.
        until: Time,
        /// Every tracker has been told.
        announced: bool,
    },
    Stopped,
}

#[derive(Debug, Default)]
struct Counters {
    down: RateMeter,
    up: RateMeter,
    wasted: u64,
    hash_failures: u64,
    bytes_done: u64,
}

impl Engine {
    /// The engine of `torrent`; all its randomness comes from `seed`.
    #[must_use]
    pub fn new(torrent: Torrent, config: Config, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let picker = Picker::new(
            torrent.layout,
            &torrent.have,
            &torrent.wanted,
            config.sequential,
        );
        let trackers = if config.no_tracker {
            Vec::new()
        } else {
            torrent.trackers
        };
        let schedule = client::Announcer::new(trackers, rng.fork());
        let lengths = torrent
            .have
            .iter()
            .map(|piece| torrent.layout.piece_length(piece));
        let counters = Counters {
            bytes_done: lengths.map(u64::from).sum(),
            ..Counters::default()
        };
        Self {
            info_hash: torrent.info_hash,
            info: Info::known(torrent.private),
            layout: torrent.layout,
            phase: Phase::New,
            complete: picker.is_complete(),
            out: VecDeque::new(),
            conns: BTreeMap::new(),
            dials: BTreeMap::new(),
            next_conn: 0,
            idle_dials: config.peers_max,
            peers: PeerList::new(),
            banned_ids: BTreeSet::new(),
            outranked_at: None,
            picker,
            smart_ban: SmartBan::new(torrent.layout),
            choker: Choker::default(),
            announcer: Announcer::new(schedule),
            download: Download::new(RateLimiter::new(config.down_limit)),
            upload: Upload::new(RateLimiter::new(config.up_limit)),
            disk: Disk::default(),
            counters,
            tick_at: Time::ZERO,
            rng,
            config,
        }
    }

    /// Takes one fact.
    pub fn handle(&mut self, now: Time, input: Input) {
        if self.phase == Phase::New {
            self.start(now);
        }
        let is_over = self.phase == Phase::Stopped;
        match input {
            Input::Opened {
                conn,
                addr,
                direction,
                peer_id,
                reserved,
            } => self.opened(now, conn, addr, direction, peer_id, reserved),
            Input::DialFailed { conn } => self.dial_failed(now, conn),
            Input::Received { conn, message } => self.received(now, conn, message),
            Input::Behind { conn } => self.behind(now, conn),
            Input::Uploaded {
                conn,
                block,
                result,
            } => self.uploaded(now, conn, block, result),
            Input::Closed { conn, reason } => self.closed(now, conn, &reason),
            Input::Described {
                layout,
                private,
                have,
                wanted,
            } => self.described(now, layout, private, &have, &wanted),
            Input::DiskDone(done) => self.disk_done(now, done),
            Input::Announced { id, result } => self.announced(now, id, result),
            Input::PeersFound(source, addrs) => self.peers_found(now, addrs, source),
            Input::ExternalIp(ip) => {
                let own = SocketAddr::new(ip, self.config.listen_port);
                self.peers.set_own(own, &mut self.rng);
            }
            Input::Command(command) => self.command(now, command),
            Input::Timeout => {}
        }
        self.advance(now);
        if is_over {
            // What comes late is counted; nothing is begun any more, and nobody let in.
            self.out
                .retain(|output| matches!(output, Output::Close { .. }));
        }
    }

    /// The next order; to be drained to `None` before the next fact.
    pub fn poll(&mut self) -> Option<Output> {
        let next = self.out.pop_front();
        if next.is_none() && self.conns.is_empty() && self.out.capacity() > 0 {
            // Of thousands of torrents most have no peer and nothing to order.
            self.out = VecDeque::new();
        }
        next
    }

    /// When to call with [`Input::Timeout`] if nothing happens before. [`Time::ZERO`] until the first fact: the engine
    /// starts to work on that.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let announces = self.announcer.deadline();
        match self.phase {
            Phase::New => Some(Time::ZERO),
            Phase::Running => {
                let timers = [
                    announces,
                    self.next_tick(),
                    self.download.deadline(),
                    self.upload.at,
                    self.info.deadline(),
                ];
                timers.into_iter().flatten().min()
            }
            Phase::Stopping { until, .. } => announces.into_iter().chain([until]).min(),
            Phase::Stopped => None,
        }
    }

    /// Numbers for progress and reports.
    #[must_use]
    pub fn stats(&self, now: Time) -> Stats {
        Stats {
            bytes_done: self.counters.bytes_done,
            total_length: self.layout.total_length(),
            pieces_have: self.picker.have().count_ones(),
            downloaded: self.counters.down.total(),
            uploaded: self.counters.up.total(),
            wasted: self.counters.wasted,
            hash_failures: self.counters.hash_failures,
            down_rate: self.counters.down.bytes_per_s(now),
            up_rate: self.counters.up.bytes_per_s(now),
            peers: self.conns.len(),
            seeders: self
                .conns
                .values()
                .filter(|conn| conn.has.is_full() && self.info.is_known())
                .count(),
        }
    }

    /// What is verified on disk, and as far as is known can still be read.
    #[must_use]
    pub fn have(&self) -> Bitfield {
        self.disk.trusted(self.picker.have())
    }

    fn start(&mut self, now: Time) {
        self.phase = Phase::Running;
        self.tick_at = now;
        self.upload.rechoke_at = now + crate::limits::RECHOKE;
        let complete = self.info.is_known() && self.picker.have().is_full();
        if complete && self.config.upload_slots != Some(0) {
            self.upload.spread = Some(Spread::new(&self.layout, &mut self.rng));
        }
        self.upload.sparing.may = complete;
        self.upload.super_seeding = complete && self.config.super_seed;
        self.announce(now, client::Input::Start { complete });
        if self.complete {
            self.emit(Event::Complete);
            if !complete {
                self.announce(now, client::Input::Paused);
            }
        }
    }

    fn command(&mut self, now: Time, command: Command) {
        match command {
            Command::SetLimits { down, up } => {
                self.download.limiter.set_rate(now, down);
                self.upload.limiter.set_rate(now, up);
                // What they waited for is to be reckoned anew.
                (self.download.at, self.upload.at) = (None, None);
                self.config.up_limit = up;
                self.upload.sparing.forget_line();
            }
            Command::SetUploadGoal(goal) => self.config.upload_goal = goal,
            Command::SetPeersMax(peers_max) => self.set_peers_max(now, peers_max),
            // Before it is known what the torrent is, nobody can have meant its pieces.
            Command::Want(wanted) if self.info.is_known() => self.want(now, &wanted),
            Command::Want(_) => {}
            Command::Stop => self.stop(now),
        }
    }

    /// Everything that follows from the time and from what was just taken in.
    fn advance(&mut self, now: Time) {
        if self.announcer.deadline().is_some_and(|at| at <= now) {
            self.announce(now, client::Input::Timeout);
        }
        match self.phase {
            Phase::Running => {
                if now >= self.tick_at {
                    self.tick(now);
                }
                if self.info.is_known() {
                    self.request_blocks(now);
                    self.order_uploads(now);
                } else {
                    self.request_metadata(now);
                }
            }
            Phase::Stopping { until, announced } => {
                if now >= until || (announced && self.disk.is_idle()) {
                    self.phase = Phase::Stopped;
                    self.emit(Event::Stopped);
                }
            }
            Phase::New | Phase::Stopped => {}
        }
    }

    fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    fn emit(&mut self, event: Event) {
        self.out.push_back(Output::Emit(event));
    }
}

/// Orders a message to be sent. A function of its own so that a connection may be borrowed meanwhile.
fn send(out: &mut VecDeque<Output>, now: Time, conn: &mut Connection, message: Message) {
    conn.sent_at = now;
    out.push_back(Output::Send {
        conn: conn.id,
        message,
    });
}

impl Engine {
    /// Panics if the parts of the engine contradict each other, between any two facts. Slow: for tests and simulations.
    pub fn assert_invariants(&self) {
        let asked: usize = self.conns.values().map(|conn| conn.requests.len()).sum();
        assert_eq!(
            self.download.outstanding(),
            asked,
            "requests are counted right"
        );
        assert!(self.conns.len() <= self.config.peers_max);
        assert!(self.peers.len() <= crate::peers::ADDRESSES_MAX);
        for conn in self.conns.values() {
            let needed = conn
                .has
                .iter()
                .filter(|piece| self.picker.needs(*piece))
                .count();
            assert_eq!(
                conn.interesting as usize, needed,
                "interest is kept up to date"
            );
            if self.info.is_known() {
                assert_eq!(conn.am_interested, needed > 0, "and told");
            }
            assert!(conn.requests.len() <= crate::limits::REQUESTS_MAX);
            assert!(conn.uploads.len() <= upload::queue_max(conn));
            if conn.peer_choking && !conn.fast {
                assert!(
                    conn.requests.is_empty(),
                    "nothing is asked of a peer that chokes"
                );
            }
        }
    }
}
