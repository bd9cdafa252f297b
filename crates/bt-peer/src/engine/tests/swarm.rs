//! Several engines on a virtual clock, with links that are FIFO and have a rate and a latency, and disks in memory.

use crate::engine::contract::*;
use crate::{CloseReason, Config, Engine, Event};
use bt_core::disk::{BlockDigest, DiskError, DiskErrorKind, Done, Job, Verdict};
use bt_core::{Bitfield, Block, InfoHash, Layout, PeerId, PieceIndex, Rng, Time};
use bt_tracker::announce::{AnnounceResponse, Peer};
use bt_wire::Message;
use bytes::Bytes;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

const PIECE_BYTES: u32 = 64 * 1024;

/// How a node behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    Honest,
    /// Spoils one bit of every block it uploads.
    Liar,
    /// Spoils one bit of this percentage of its blocks.
    Poisoner(u64),
}

pub(super) struct Node {
    pub(super) engine: Engine,
    pub(super) events: Vec<Event>,
    nature: Nature,
    addr: SocketAddr,
    peer_id: PeerId,
    /// Bytes per second it can send.
    line_rate: u64,
    line_free_at: Time,
    data: Vec<u8>,
    received: BTreeMap<PieceIndex, BTreeSet<u32>>,
    /// The disk fails for writes before this.
    pub(super) disk_fails_until: Time,
    next_conn: u64,
    online: bool,
    /// Bytes of blocks that reached it, by the sender's number.
    pub(super) got: BTreeMap<usize, u64>,
}

enum Happening {
    Fact(usize, Input),
    /// Handshakes are done on the connection that this node dialled.
    Met(usize, ConnId, SocketAddr),
}

pub(super) struct Swarm {
    pub(super) now: Time,
    pub(super) nodes: Vec<Node>,
    pub(super) layout: Layout,
    truth: Vec<u8>,
    latency: Duration,
    queue: BTreeMap<(Time, u64), Happening>,
    serial: u64,
    /// The other end of each connection.
    links: BTreeMap<(usize, ConnId), (usize, ConnId)>,
    /// When the last thing sent on a link arrives: what comes later arrives later.
    arrivals: BTreeMap<(usize, ConnId), Time>,
    /// A hash of everything that happened.
    pub(super) trace: u64,
    rng: Rng,
}

impl Swarm {
    pub(super) fn new(pieces: u32, latency: Duration, seed: u64) -> Self {
        // The last piece is short, and so is its last block.
        let length = u64::from(pieces) * u64::from(PIECE_BYTES) - 30_000;
        let mut rng = Rng::new(seed);
        let mut truth = vec![0; usize::try_from(length).unwrap()];
        // Every piece is another one; all random bytes would take most of the test's time.
        let mut random = vec![0; PIECE_BYTES as usize];
        rng.fill(&mut random);
        for (number, piece) in truth.chunks_mut(PIECE_BYTES as usize).enumerate() {
            piece.copy_from_slice(&random[..piece.len()]);
            piece[..8].copy_from_slice(&number.to_le_bytes());
        }
        Self {
            now: Time::from_secs(1),
            nodes: Vec::new(),
            layout: Layout::new(length, PIECE_BYTES).unwrap(),
            truth,
            latency,
            queue: BTreeMap::new(),
            serial: 0,
            links: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            trace: 0,
            rng,
        }
    }

    /// Adds a node with or without the data; it announces itself at once.
    pub(super) fn add(&mut self, complete: bool, nature: Nature, line_rate: u64) -> usize {
        self.add_with(complete, nature, line_rate, |_, _| {})
    }

    pub(super) fn add_with(
        &mut self,
        complete: bool,
        nature: Nature,
        line_rate: u64,
        adjust: impl FnOnce(&mut Torrent, &mut Config),
    ) -> usize {
        let number = self.nodes.len();
        let host = u8::try_from(number + 1).unwrap();
        let pieces_count = self.layout.pieces_count();
        let have = if complete {
            Bitfield::full(pieces_count)
        } else {
            Bitfield::new(pieces_count)
        };
        let mut torrent = Torrent {
            info_hash: InfoHash([7; 20]),
            layout: self.layout,
            private: false,
            trackers: vec![vec!["http://tracker.test/announce".to_owned()]],
            have,
            wanted: Bitfield::full(pieces_count),
        };
        let peer_id = PeerId([host; 20]);
        let mut config = Config::new(peer_id);
        adjust(&mut torrent, &mut config);
        let data = if complete {
            self.truth.clone()
        } else {
            vec![0; self.truth.len()]
        };
        let seed = self.rng.next_u64();
        self.nodes.push(Node {
            engine: Engine::new(torrent, config, seed),
            events: Vec::new(),
            nature,
            addr: ([10, 0, 0, host], 6_881).into(),
            peer_id,
            line_rate,
            line_free_at: Time::ZERO,
            data,
            received: BTreeMap::new(),
            disk_fails_until: Time::ZERO,
            next_conn: 1,
            online: true,
            got: BTreeMap::new(),
        });
        self.feed(number, Input::Timeout);
        number
    }

    /// The node vanishes without a word.
    pub(super) fn vanish(&mut self, number: usize) {
        self.nodes[number].online = false;
        let ends: Vec<_> = self
            .links
            .iter()
            .filter(|((node, _), _)| *node == number)
            .collect();
        let ends: Vec<_> = ends.into_iter().map(|(near, far)| (*near, *far)).collect();
        for (near, (node, conn)) in ends {
            self.links.remove(&near);
            self.links.remove(&(node, conn));
            let reason = CloseReason::Gone;
            self.later(
                self.now + self.latency,
                Happening::Fact(node, Input::Closed { conn, reason }),
            );
        }
    }

    /// Runs until `done` or the time is over; true if done.
    pub(super) fn run(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            let next = self.queue.keys().next().map(|(at, _)| *at);
            let online = self
                .nodes
                .iter()
                .enumerate()
                .filter(|(_, node)| node.online);
            let timers = online.filter_map(|(n, node)| Some((node.engine.deadline()?, n)));
            let timer = timers.min();
            let Some(at) = next.into_iter().chain(timer.map(|(at, _)| at)).min() else {
                return false;
            };
            if at > end {
                self.now = end;
                return done(self);
            }
            self.now = self.now.max(at);
            match timer {
                Some((due, number)) if next.is_none_or(|next| due <= next) => {
                    self.feed(number, Input::Timeout);
                    let deadline = self.nodes[number].engine.deadline();
                    assert!(
                        deadline.is_none_or(|at| at > self.now),
                        "the shell would spin"
                    );
                }
                _ => {
                    let (_, happening) = self.queue.pop_first().unwrap();
                    self.happen(happening);
                }
            }
        }
    }

    pub(super) fn all_complete(&self) -> bool {
        let online = || self.nodes.iter().filter(|node| node.online);
        online().all(|node| node.engine.picker.have().is_full())
            && online().all(|node| node.data == self.truth)
    }

    pub(super) fn wasted(&self) -> u64 {
        self.nodes
            .iter()
            .map(|node| node.engine.stats(self.now).wasted)
            .sum()
    }

    pub(super) fn feed(&mut self, number: usize, input: Input) {
        if !self.nodes[number].online {
            return;
        }
        let node = &mut self.nodes[number];
        if let Input::Received {
            message: Message::Piece { data, .. },
            conn,
        } = &input
            && let Some((sender, _)) = self.links.get(&(number, *conn))
        {
            *node.got.entry(*sender).or_default() += data.len() as u64;
        }
        self.trace = mix(self.trace, self.now.as_nanos() ^ number as u64);
        node.engine.handle(self.now, input);
        // Every time would be most of the test's time.
        if self.serial.is_multiple_of(16) {
            node.engine.assert_invariants();
        }
        while let Some(output) = self.nodes[number].engine.poll() {
            self.obey(number, output);
        }
    }

    fn later(&mut self, at: Time, happening: Happening) {
        self.serial += 1;
        self.queue.insert((at, self.serial), happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Fact(number, input) => {
                // A closed connection's messages are lost.
                if let Input::Received { conn, .. } = &input
                    && !self.links.contains_key(&(number, *conn))
                {
                    return;
                }
                self.feed(number, input);
            }
            Happening::Met(dialler, conn, addr) => self.meet(dialler, conn, addr),
        }
    }

    fn meet(&mut self, dialler: usize, conn: ConnId, addr: SocketAddr) {
        let target = self
            .nodes
            .iter()
            .position(|node| node.addr == addr && node.online);
        let Some(target) = target.filter(|_| self.nodes[dialler].online) else {
            self.feed(dialler, Input::DialFailed { conn });
            return;
        };
        let theirs = ConnId(self.nodes[target].next_conn);
        self.nodes[target].next_conn += 2;
        self.links.insert((dialler, conn), (target, theirs));
        self.links.insert((target, theirs), (dialler, conn));
        let from = SocketAddr::new(self.nodes[dialler].addr.ip(), 50_000);
        let ids = [self.nodes[dialler].peer_id, self.nodes[target].peer_id];
        for (number, conn, addr, direction, peer_id) in [
            (target, theirs, from, Direction::Incoming, ids[0]),
            (dialler, conn, addr, Direction::Outgoing, ids[1]),
        ] {
            let reserved = RESERVED;
            let opened = Input::Opened {
                conn,
                addr,
                direction,
                peer_id,
                reserved,
            };
            self.feed(number, opened);
        }
    }

    fn obey(&mut self, number: usize, output: Output) {
        match output {
            Output::Dial { conn, addr } => {
                let at = self.now + self.latency * 3;
                self.later(at, Happening::Met(number, conn, addr));
            }
            Output::Send { conn, message } => self.transmit(number, conn, self.now, message),
            Output::Upload { conn, block } => self.upload(number, conn, block),
            Output::Close { conn, .. } => {
                if let Some((peer, theirs)) = self.links.remove(&(number, conn)) {
                    let at = self.arrival(number, conn, self.now);
                    let reason = CloseReason::Gone;
                    let closed = Input::Closed {
                        conn: theirs,
                        reason,
                    };
                    self.later(at, Happening::Fact(peer, closed));
                    self.links.remove(&(peer, theirs));
                }
            }
            Output::Disk(job) => self.disk(number, job),
            Output::Announce { id, .. } => {
                let others = self.nodes.iter().enumerate().filter(|(n, _)| *n != number);
                let peers = others.map(|(_, node)| Peer {
                    addr: node.addr,
                    peer_id: None,
                });
                let response = AnnounceResponse {
                    interval: Duration::from_secs(1_800),
                    peers: peers.collect(),
                    ..AnnounceResponse::default()
                };
                let result = Ok(response);
                let at = self.now + self.latency;
                self.later(at, Happening::Fact(number, Input::Announced { id, result }));
            }
            Output::Metadata(_) => unreachable!("these torrents are known"),
            Output::SeenAt { .. } => {}
            Output::Emit(event) => self.nodes[number].events.push(event),
        }
    }

    /// When something sent now arrives, behind all that was sent before.
    fn arrival(&mut self, number: usize, conn: ConnId, sent_at: Time) -> Time {
        let last = self.arrivals.entry((number, conn)).or_default();
        *last = (*last).max(sent_at + self.latency);
        *last
    }

    fn transmit(&mut self, number: usize, conn: ConnId, sent_at: Time, message: Message) {
        let at = self.arrival(number, conn, sent_at);
        if let Some((peer, theirs)) = self.links.get(&(number, conn)).copied() {
            let received = Input::Received {
                conn: theirs,
                message,
            };
            self.later(at, Happening::Fact(peer, received));
        }
    }

    fn upload(&mut self, number: usize, conn: ConnId, block: Block) {
        let node = &mut self.nodes[number];
        assert!(
            node.engine.have().get(block.piece),
            "unverified data is uploaded"
        );
        let start = usize::try_from(self.layout.piece_offset(block.piece)).unwrap();
        let start = start + block.begin as usize;
        let mut data = node.data[start..start + block.length as usize].to_vec();
        let spoil = match node.nature {
            Nature::Honest => false,
            Nature::Liar => true,
            Nature::Poisoner(percent) => self.rng.chance(percent),
        };
        if spoil {
            data[100] ^= 4;
        }
        let nanos = u64::from(block.length) * 1_000_000_000 / node.line_rate;
        let sent_at = node.line_free_at.max(self.now) + Duration::from_nanos(nanos);
        node.line_free_at = sent_at;
        let piece = block.piece.get();
        let (begin, data) = (block.begin, Bytes::from(data));
        self.transmit(number, conn, sent_at, Message::Piece { piece, begin, data });
        let result = Ok(());
        let uploaded = Input::Uploaded {
            conn,
            block,
            result,
        };
        self.later(sent_at, Happening::Fact(number, uploaded));
    }

    fn disk(&mut self, number: usize, job: Job) {
        let (layout, now) = (self.layout, self.now);
        let offset = |piece| usize::try_from(layout.piece_offset(piece)).unwrap();
        let node = &mut self.nodes[number];
        let mut done = Vec::new();
        match job {
            Job::Write { block, data } => {
                let start = offset(block.piece) + block.begin as usize;
                node.data[start..start + data.len()].copy_from_slice(&data);
                done.push(Done::Wrote { block });
                let received = node.received.entry(block.piece).or_default();
                assert!(received.insert(block.begin), "{block:?} is written twice");
                if received.len() == layout.blocks_count(block.piece) as usize {
                    node.received.remove(&block.piece);
                    let verdict = node.judge(&self.truth, &layout, block.piece, now);
                    let piece = block.piece;
                    done.push(Done::Checked { piece, verdict });
                }
            }
            Job::Discard { piece } => {
                node.received.remove(&piece);
            }
            Job::Check { piece } => {
                let verdict = node.judge(&self.truth, &layout, piece, now);
                done.push(Done::Checked { piece, verdict });
            }
            Job::Digest { piece } => {
                let digests = node.digests(&layout, piece);
                done.push(Done::Digests { piece, digests });
            }
        }
        for done in done {
            let at = self.now + Duration::from_millis(1);
            self.later(at, Happening::Fact(number, Input::DiskDone(done)));
        }
    }
}

impl Node {
    fn judge(&self, truth: &[u8], layout: &Layout, piece: PieceIndex, now: Time) -> Verdict {
        if now < self.disk_fails_until {
            return Verdict::Failed(DiskError {
                kind: DiskErrorKind::Full,
                message: "no space left".to_owned(),
            });
        }
        let start = usize::try_from(layout.piece_offset(piece)).unwrap();
        let range = start..start + layout.piece_length(piece) as usize;
        if self.data[range.clone()] == truth[range] {
            Verdict::Good
        } else {
            let digests = self.digests(layout, piece);
            Verdict::Bad { digests }
        }
    }

    fn digests(&self, layout: &Layout, piece: PieceIndex) -> Vec<BlockDigest> {
        let start = usize::try_from(layout.piece_offset(piece)).unwrap();
        let blocks = layout.blocks(piece);
        blocks
            .map(|block| {
                let at = start + block.begin as usize;
                let bytes = &self.data[at..at + block.length as usize];
                bytes
                    .iter()
                    .fold(1, |digest, byte| mix(digest, u64::from(*byte)))
            })
            .collect()
    }
}

fn mix(state: u64, value: u64) -> u64 {
    (state ^ value)
        .wrapping_mul(0x0000_0100_0000_01b3)
        .rotate_left(7)
}
