//! The shell of one engine in a script: it keeps a shell's promises, and the books.

use super::Choices;
use super::messages::Matter;
use super::peer::Peer;
use super::tally::Tally;
use crate::disk::Disk;
use crate::oracle::ledger::Ledger;
use crate::payload::Payload;
use bt_core::disk::{DiskError, Done, Job, Verdict};
use bt_core::{BLOCK_BYTES, Bitfield, Block, PeerId, PieceIndex, Time};
use bt_peer::limits::{REQUEST_BYTES_MAX, UPLOAD_WINDOW_MAX_BYTES};
use bt_peer::{CloseReason, ConnId, Direction, Engine, Event, Input, Output};
use bt_wire::{Limits, Message, Reserved};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

/// How often a peer sends faster than it is read.
const BEHIND_PERCENT: u32 = 10;

/// Orders that one fact may bring: a request queue for each of a few peers, and haves, and more would be a loop.
const ORDERS_MAX: usize = 20_000;

/// An order to upload, and what will come of it.
struct Upload {
    conn: ConnId,
    block: Block,
    result: Result<(), DiskError>,
}

pub(super) struct Stage {
    pub(super) engine: Engine,
    pub(super) now: Time,
    pub(super) payload: Payload,
    pub(super) info: Bytes,
    pub(super) disk: Box<dyn Disk>,
    pub(super) jobs: Vec<Job>,
    pub(super) dones: VecDeque<Done>,
    pub(super) verified: Bitfield,
    pub(super) ledger: Ledger,
    pub(super) peers: BTreeMap<ConnId, Peer>,
    pub(super) dials: Vec<(ConnId, SocketAddr)>,
    uploads: VecDeque<Upload>,
    pub(super) announces: Vec<(u64, String)>,
    announces_count: u64,
    /// The number of the last connection from outside; odd.
    pub(super) last_conn: u64,
    /// It is a super-seeder: it shows each peer what it is to have.
    pub(super) hides: bool,
    /// Pieces that it could not read for a peer, and whose check has said nothing yet.
    doubted: BTreeSet<PieceIndex>,
    /// The layout is known to the engine.
    pub(super) is_known: bool,
    /// The engine has the info dictionary, and was not told yet what it means.
    pub(super) is_describing: bool,
    pub(super) stopping_since: Option<Time>,
    pub(super) has_stopped: bool,
    /// The disk was given up.
    pub(super) is_broken: bool,
    pub(super) tally: Tally,
}

impl Stage {
    pub(super) fn new(
        engine: Engine,
        payload: Payload,
        info: Bytes,
        disk: Box<dyn Disk>,
        have: Bitfield,
    ) -> Self {
        let mut stage = Self {
            engine,
            now: Time::from_secs(1_000),
            payload,
            info,
            disk,
            jobs: Vec::new(),
            dones: VecDeque::new(),
            verified: Bitfield::new(0),
            ledger: Ledger::default(),
            peers: BTreeMap::new(),
            dials: Vec::new(),
            uploads: VecDeque::new(),
            announces: Vec::new(),
            announces_count: 0,
            last_conn: 1,
            hides: false,
            doubted: BTreeSet::new(),
            is_known: true,
            is_describing: false,
            stopping_since: None,
            has_stopped: false,
            is_broken: false,
            tally: Tally::default(),
        };
        stage.begin_with(have);
        stage
    }

    /// These pieces are there when the engine learns of the layout.
    pub(super) fn begin_with(&mut self, have: Bitfield) {
        let layout = self.payload.layout();
        let lengths = have.iter().map(|piece| layout.piece_length(piece));
        self.ledger.had = lengths.map(u64::from).sum();
        for piece in have.iter() {
            for block in layout.blocks(piece) {
                let data = self.payload.block(block);
                self.disk.run(Job::Write { block, data }, &mut Vec::new());
            }
        }
        self.verified = have;
    }

    /// Tells the engine a fact, does what it orders, and looks at it.
    pub(super) fn feed(&mut self, choices: &mut Choices<'_>, input: Input) {
        let woken = matches!(input, Input::Timeout);
        self.book(&input);
        self.engine.handle(self.now, input);
        let mut orders = 0;
        while let Some(output) = self.engine.poll() {
            orders += 1;
            assert!(orders <= ORDERS_MAX, "orders without end");
            self.obey(choices, output);
        }
        let deadline = self.engine.deadline();
        assert!(
            !woken || deadline.is_none_or(|at| at > self.now),
            "the shell would spin"
        );
        assert!(!self.has_stopped || deadline.is_none(), "it has stopped");
        self.check();
    }

    pub(super) fn open(
        &mut self,
        choices: &mut Choices<'_>,
        (conn, addr): (ConnId, SocketAddr),
        direction: Direction,
        peer_id: PeerId,
        reserved: Reserved,
    ) {
        let layout = self.payload.layout();
        let limits = match self.is_known {
            true => Limits::for_torrent(layout.pieces_count()),
            false => Limits::for_unknown(),
        };
        let peer = Peer::new(layout, limits, reserved);
        self.peers.insert(conn, peer);
        let opened = Input::Opened {
            conn,
            addr,
            direction,
            peer_id,
            reserved,
        };
        self.feed(choices, opened);
    }

    /// The peer sends a message.
    pub(super) fn say(&mut self, choices: &mut Choices<'_>, conn: ConnId, message: &Message) {
        let mut bytes = BytesMut::new();
        message.encode_into(&mut bytes);
        self.say_bytes(choices, conn, &bytes);
    }

    /// The peer sends bytes; whatever messages are complete by them are read.
    pub(super) fn say_bytes(&mut self, choices: &mut Choices<'_>, conn: ConnId, bytes: &[u8]) {
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.buffer.extend_from_slice(bytes);
        }
        while let Some(peer) = self.peers.get_mut(&conn) {
            if self.engine.is_swamped(conn) {
                // Nothing more is read of it until some of what it asked for has gone out.
                break;
            }
            match peer.decoder.decode(&mut peer.buffer) {
                Ok(Some(message)) => {
                    self.tally.messages += 1;
                    if choices.chance(BEHIND_PERCENT) {
                        self.feed(choices, Input::Behind { conn });
                    }
                    if let Some(peer) = self.peers.get_mut(&conn) {
                        peer.heard(&message);
                    }
                    self.feed(choices, Input::Received { conn, message });
                }
                Ok(None) => break,
                Err(error) => {
                    self.tally.refused += 1;
                    let reason = CloseReason::Violation(error.to_string());
                    self.hang_up(choices, conn, reason);
                }
            }
        }
    }

    /// The connection is no more, by the peer's doing.
    pub(super) fn hang_up(&mut self, choices: &mut Choices<'_>, conn: ConnId, reason: CloseReason) {
        if self.peers.remove(&conn).is_some() {
            self.feed(choices, Input::Closed { conn, reason });
        }
    }

    /// What there is to speak of with that peer.
    pub(super) fn matter(&self, conn: ConnId) -> Matter<'_> {
        let peer = self.peers.get(&conn);
        Matter {
            payload: &self.payload,
            info: &self.info,
            asked: peer.map_or(&[], |peer| peer.asked.as_slice()),
        }
    }

    /// Carries out one of the disk's jobs, none of a piece before an earlier one of it; `rot` spoils what is only checked.
    pub(super) fn run_job(&mut self, at: usize, rot: bool) {
        let Some(chosen) = self.jobs.get(at).map(piece_of) else {
            return;
        };
        let first = self.jobs.iter().position(|job| piece_of(job) == chosen);
        let job = self.jobs.remove(first.unwrap_or(at));
        let is_check = matches!(job, Job::Check { .. });
        let mut done = Vec::new();
        self.disk.run(job, &mut done);
        for done in &mut done {
            if let Done::Checked { verdict, .. } = done
                && is_check
                && rot
            {
                let digests = Vec::new();
                *verdict = Verdict::Bad { digests };
            }
        }
        self.dones.extend(done);
    }

    /// The next answer of the disk.
    pub(super) fn answer_disk(&mut self, choices: &mut Choices<'_>) {
        if let Some(done) = self.dones.pop_front() {
            self.feed(choices, Input::DiskDone(done));
        }
    }

    /// The oldest upload has gone out, or failed; nobody may be there any more to be told.
    pub(super) fn answer_upload(&mut self, choices: &mut Choices<'_>) -> bool {
        let Some(upload) = self.uploads.pop_front() else {
            return false;
        };
        if self.peers.contains_key(&upload.conn) || choices.chance(50) {
            let Upload {
                conn,
                block,
                result,
            } = upload;
            let uploaded = Input::Uploaded {
                conn,
                block,
                result,
            };
            self.feed(choices, uploaded);
        }
        true
    }

    /// Enters a fact into the books.
    fn book(&mut self, input: &Input) {
        match input {
            Input::Received {
                message: Message::Piece { data, .. },
                conn,
            } if self.peers.contains_key(conn) => self.ledger.received += data.len() as u64,
            Input::Uploaded {
                conn,
                block,
                result: Ok(()),
            } => {
                self.ledger.sent += u64::from(block.length);
                let is_last = block.end() == self.payload.layout().piece_length(block.piece);
                if let Some(peer) = self.peers.get_mut(conn).filter(|_| self.hides && is_last) {
                    peer.monitor.sent_whole(block.piece);
                }
            }
            Input::Uploaded { block, .. } => {
                self.doubted.insert(block.piece);
            }
            Input::Opened { conn, .. } | Input::DialFailed { conn } => self.ledger.dialled(*conn),
            Input::DiskDone(Done::Wrote { block }) => self.ledger.wrote(block.length),
            Input::DiskDone(Done::Checked { piece, verdict }) => match verdict {
                Verdict::Good => {
                    self.tally.pieces += 1;
                    self.doubted.remove(piece);
                    self.verified.set(*piece);
                }
                Verdict::Bad { .. } => {
                    self.tally.bad_pieces += 1;
                    self.doubted.remove(piece);
                    self.verified.clear(*piece);
                }
                Verdict::Failed(_) => self.tally.disk_failures += 1,
            },
            Input::Received { .. }
            | Input::Behind { .. }
            | Input::Closed { .. }
            | Input::Described { .. }
            | Input::DiskDone(Done::Digests { .. })
            | Input::Announced { .. }
            | Input::PeersFound(..)
            | Input::ExternalIp(_)
            | Input::Command(_)
            | Input::Timeout => {}
        }
    }

    fn obey(&mut self, choices: &mut Choices<'_>, output: Output) {
        assert!(
            !self.has_stopped || matches!(output, Output::Close { .. }),
            "after the end: {output:?}"
        );
        match output {
            Output::Dial { conn, addr } => {
                insist(self.ledger.dial(conn));
                self.dials.push((conn, addr));
            }
            Output::Send { conn, message } => {
                let peer = self.peers.get_mut(&conn);
                let peer = peer.unwrap_or_else(|| panic!("{message:?} to nobody"));
                insist(peer.monitor.send(&message, &self.verified));
                peer.told(&message);
            }
            Output::Upload { conn, block } => self.upload(choices, conn, block),
            Output::Close { conn, reason } => {
                let is_open = self.peers.remove(&conn).is_some();
                let dialled = self.dials.iter().position(|dial| dial.0 == conn);
                assert!(is_open || dialled.is_some(), "{conn:?} is not open");
                if let Some(dialled) = dialled {
                    self.dials.remove(dialled);
                    self.ledger.dialled(conn);
                }
                self.tally.violations += u64::from(matches!(reason, CloseReason::Violation(_)));
            }
            Output::Metadata(bytes) => {
                assert_eq!(bytes, self.info, "another info dictionary");
                self.is_describing = true;
            }
            Output::Disk(job) => {
                if let Job::Write { block, .. } = &job {
                    insist(self.ledger.write(block.length));
                    self.tally.writes += 1;
                }
                self.jobs.push(job);
            }
            Output::Announce { id, url, .. } => {
                let twice = self.announces.iter().any(|open| open.1 == url);
                assert!(!twice, "{url} is asked twice at a time");
                assert!(id > self.announces_count, "number {id} again");
                self.announces_count = id;
                self.tally.announces += 1;
                self.announces.push((id, url));
            }
            Output::SeenAt { .. } => {}
            Output::Emit(event) => self.heed(&event),
        }
    }

    fn upload(&mut self, choices: &mut Choices<'_>, conn: ConnId, block: Block) {
        let peer = self.peers.get_mut(&conn);
        let peer = peer.unwrap_or_else(|| panic!("{block:?} to nobody"));
        // A request may be for more than a block of the grid; its first one will do.
        let index = block.begin / BLOCK_BYTES;
        let read = self.payload.layout().block_at(block.piece, index);
        let mut result = self.disk.read(read.unwrap_or(block)).map(drop);
        if choices.chance(3) {
            let kind = bt_core::disk::DiskErrorKind::Io;
            let message = "it broke".to_owned();
            result = Err(DiskError { kind, message });
        }
        if result.is_ok() {
            // What could not be read is not answered yet.
            insist(peer.monitor.upload(block, &self.verified));
            self.tally.uploads += 1;
        }
        self.uploads.push_back(Upload {
            conn,
            block,
            result,
        });
        let ordered = self.uploads.iter().filter(|upload| upload.conn == conn);
        let ordered: u64 = ordered.map(|upload| u64::from(upload.block.length)).sum();
        assert!(
            ordered <= UPLOAD_WINDOW_MAX_BYTES + u64::from(REQUEST_BYTES_MAX),
            "{ordered} bytes wait on {conn:?}"
        );
    }

    fn heed(&mut self, event: &Event) {
        match event {
            Event::PieceDone { piece } => {
                assert!(self.verified.get(*piece), "{piece} is claimed");
            }
            Event::Banned { .. } => self.tally.banned += 1,
            Event::DiskBroken(_) => self.is_broken = true,
            Event::Stopped => {
                assert!(self.stopping_since.is_some(), "nobody said stop");
                self.has_stopped = true;
                self.tally.stopped += 1;
            }
            Event::Complete
            | Event::Tracker { .. }
            | Event::PeerGone { .. }
            | Event::HashFailure { .. }
            | Event::DiskTrouble(_)
            | Event::DiskRecovered
            | Event::UploadGoalReached
            | Event::UploadFailed { .. } => {}
        }
    }

    fn check(&self) {
        self.engine.assert_invariants();
        let stats = self.engine.stats(self.now);
        assert_eq!(stats.peers, self.peers.len(), "open connections");
        let layout = self.payload.layout();
        let mut trusted = self.verified.clone();
        for piece in &self.doubted {
            trusted.clear(*piece);
        }
        for (conn, peer) in &self.peers {
            let untold = peer.monitor.untold(&trusted).filter(|_| !self.hides);
            assert!(untold.is_none(), "{conn:?} is not told of {untold:?}");
            let (stale, kept_up) = (peer.monitor.stale(), peer.monitor.kept_up(&self.verified));
            assert!(
                stale.is_none() && kept_up.is_none(),
                "it waits for {stale:?} of {conn:?}, which lost it, or keeps up that it has {kept_up:?}"
            );
        }
        if self.is_known {
            insist(self.ledger.audit(&stats, &layout, &self.verified));
            let unverified = self.engine.have().has_more_than(&self.verified);
            assert!(!unverified, "it has what is not verified");
        }
    }
}

const fn piece_of(job: &Job) -> u32 {
    match job {
        Job::Write { block, .. } => block.piece.get(),
        Job::Discard { piece } | Job::Check { piece } | Job::Digest { piece } => piece.get(),
    }
}

fn insist(result: Result<(), crate::oracle::Breach>) {
    if let Err(breach) = result {
        panic!("{}", breach.0);
    }
}
