//! An engine, the time, and the orders that nobody has looked at yet.

use bt_core::disk::{Done, Job, Verdict};
use bt_core::{Bitfield, Block, InfoHash, Layout, PeerId, Time};
use bt_peer::{CloseReason, Config, ConnId, Direction, Engine, Input, Output, Torrent};
use bt_wire::message::BlockAddress;
use bt_wire::{Message, Reserved};
use core::time::Duration;
use std::net::SocketAddr;

pub(crate) const PIECES: u32 = 20;
/// What a peer of [`Script::open_leecher`] has.
pub(crate) const LEECHER_HAS: core::ops::Range<u32> = 6..18;
/// Four blocks.
pub(crate) const PIECE_BYTES: u32 = 64 * 1024;
pub(crate) const OWN_ID: PeerId = PeerId([100; 20]);
pub(crate) const PLAIN: Reserved = Reserved::NONE;
pub(crate) const FAST: Reserved = Reserved::NONE.with_fast();

pub(crate) struct Script {
    engine: Engine,
    now: Time,
    out: Vec<Output>,
    layout: Layout,
    next_conn: u64,
}

impl Script {
    /// An engine that has these pieces.
    pub(crate) fn new(have: impl IntoIterator<Item = u32>) -> Self {
        Self::with(have, |_, _| {})
    }

    pub(crate) fn with(
        have: impl IntoIterator<Item = u32>,
        adjust: impl FnOnce(&mut Torrent, &mut Config),
    ) -> Self {
        let length = u64::from(PIECES) * u64::from(PIECE_BYTES);
        let layout = Layout::new(length, PIECE_BYTES).unwrap();
        let mut torrent = Torrent {
            info_hash: InfoHash([7; 20]),
            layout,
            private: false,
            trackers: Vec::new(),
            have: pieces(have),
            wanted: Bitfield::full(PIECES),
        };
        let mut config = Config::new(OWN_ID);
        adjust(&mut torrent, &mut config);
        let mut script = Self {
            engine: Engine::new(torrent, config, 1),
            now: Time::from_secs(1_000),
            out: Vec::new(),
            layout,
            next_conn: 1,
        };
        script.handle(Input::Timeout);
        script
    }

    pub(crate) fn seeder() -> Self {
        Self::new(0..PIECES)
    }

    pub(crate) fn leecher() -> Self {
        Self::new([])
    }

    pub(crate) fn handle(&mut self, input: Input) {
        self.engine.handle(self.now, input);
        self.out.extend(core::iter::from_fn(|| self.engine.poll()));
    }

    /// Lets time pass, and wakes the engine whenever it wants to be woken.
    pub(crate) fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(at) = self.engine.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.handle(Input::Timeout);
            let next = self.engine.deadline();
            assert!(next.is_none_or(|at| at > self.now), "the shell would spin");
        }
        self.now = end;
    }

    /// A peer connects to us from an address of its own; its id is `id`, twenty times.
    pub(crate) fn open(&mut self, id: u8, reserved: Reserved) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn += 2;
        self.opened(conn, Direction::Incoming, id, reserved);
        conn
    }

    pub(crate) fn opened(
        &mut self,
        conn: ConnId,
        direction: Direction,
        id: u8,
        reserved: Reserved,
    ) {
        self.handle(Input::Opened {
            conn,
            addr: address_of(id),
            direction,
            peer_id: PeerId([id; 20]),
            reserved,
        });
    }

    /// A peer whose id and address no other has.
    pub(crate) fn next_stranger(&mut self) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn += 2;
        let mut id = [0; 20];
        id[..8].copy_from_slice(&conn.0.to_be_bytes());
        self.handle(Input::Opened {
            conn,
            addr: ([10, 1, id[6], id[7]], 6_881).into(),
            direction: Direction::Incoming,
            peer_id: PeerId(id),
            reserved: PLAIN,
        });
        conn
    }

    pub(crate) fn hear(&mut self, conn: ConnId, message: Message) {
        self.handle(Input::Received { conn, message });
    }

    /// A peer that has everything and lets us ask.
    pub(crate) fn open_seeder(&mut self, id: u8, reserved: Reserved) -> ConnId {
        let conn = self.open(id, reserved);
        self.hear(conn, bitfield(0..PIECES));
        self.hear(conn, Message::Unchoke);
        conn
    }

    /// A peer that wants something, and has too much already to be allowed any piece while it is choked (BEP 6).
    pub(crate) fn open_leecher(&mut self, id: u8, reserved: Reserved) -> ConnId {
        let conn = self.open_idle(id, reserved);
        self.hear(conn, Message::Interested);
        conn
    }

    /// The same before it says that it is interested.
    pub(crate) fn open_idle(&mut self, id: u8, reserved: Reserved) -> ConnId {
        let conn = self.open(id, reserved);
        self.hear(conn, bitfield(LEECHER_HAS));
        conn
    }

    pub(crate) fn take(&mut self) -> Vec<Output> {
        core::mem::take(&mut self.out)
    }

    /// Takes the messages ordered for this connection; the other orders stay.
    pub(crate) fn told(&mut self, to: ConnId) -> Vec<Message> {
        let mut told = Vec::new();
        for output in self.take() {
            match output {
                Output::Send { conn, message } if conn == to => told.push(message),
                other => self.out.push(other),
            }
        }
        told
    }

    /// Takes the blocks ordered to be sent to this connection, and says that they went out.
    pub(crate) fn served(&mut self, to: ConnId) -> Vec<Block> {
        let mut served = Vec::new();
        loop {
            let before = served.len();
            for output in self.take() {
                match output {
                    Output::Upload { conn, block } if conn == to => served.push(block),
                    other => self.out.push(other),
                }
            }
            if served.len() == before {
                return served;
            }
            for block in served.split_at(before).1.to_vec() {
                self.handle(Input::Uploaded {
                    conn: to,
                    block,
                    result: Ok(()),
                });
            }
        }
    }

    /// Takes the jobs for the disk.
    pub(crate) fn jobs(&mut self) -> Vec<Job> {
        let mut jobs = Vec::new();
        for output in self.take() {
            match output {
                Output::Disk(job) => jobs.push(job),
                other => self.out.push(other),
            }
        }
        jobs
    }

    /// The whole piece comes from this peer, asked for or not, and the disk says that it is good.
    pub(crate) fn piece_comes(&mut self, conn: ConnId, piece: u32) {
        let piece = self.layout.piece(piece).unwrap();
        for block in self.layout.blocks(piece).collect::<Vec<_>>() {
            self.hear(conn, data(block.into()));
            self.handle(Input::DiskDone(Done::Wrote { block }));
        }
        let verdict = Verdict::Good;
        self.handle(Input::DiskDone(Done::Checked { piece, verdict }));
    }

    /// This peer answers all that it is asked, until nothing more is asked of it: what it was asked.
    pub(crate) fn answers_all(&mut self, conn: ConnId) -> Vec<BlockAddress> {
        let mut asked = Vec::new();
        loop {
            let more = requests(&self.told(conn));
            if more.is_empty() {
                return asked;
            }
            more.iter().for_each(|block| self.hear(conn, data(*block)));
            asked.extend(more);
        }
    }

    /// Why the connection was closed, if it was.
    pub(crate) fn closed(&self, of: ConnId) -> Option<&CloseReason> {
        self.out.iter().find_map(|output| match output {
            Output::Close { conn, reason } if *conn == of => Some(reason),
            _ => None,
        })
    }

    pub(crate) fn is_violation(&self, conn: ConnId) -> bool {
        matches!(self.closed(conn), Some(CloseReason::Violation(_)))
    }

    pub(crate) fn wasted(&self) -> u64 {
        self.engine.stats(self.now).wasted
    }
}

pub(crate) fn address_of(id: u8) -> SocketAddr {
    ([10, 0, 0, id], 6_881).into()
}

pub(crate) fn pieces(set: impl IntoIterator<Item = u32>) -> Bitfield {
    let layout = Layout::new(u64::from(PIECES), 1).unwrap();
    let mut bits = Bitfield::new(PIECES);
    for piece in set {
        bits.set(layout.piece(piece).unwrap());
    }
    bits
}

pub(crate) fn bitfield(set: impl IntoIterator<Item = u32>) -> Message {
    Message::Bitfield(pieces(set).to_bytes().into())
}

/// The `n`th block of the torrent.
pub(crate) fn block(n: u32) -> BlockAddress {
    BlockAddress {
        piece: n / 4,
        begin: n % 4 * 16_384,
        length: 16_384,
    }
}

/// A `piece` message with as many zeros as the address says.
pub(crate) fn data(at: BlockAddress) -> Message {
    Message::Piece {
        piece: at.piece,
        begin: at.begin,
        data: vec![0; at.length as usize].into(),
    }
}

pub(crate) fn requests(told: &[Message]) -> Vec<BlockAddress> {
    let asked = told.iter().filter_map(|message| match message {
        Message::Request(address) => Some(*address),
        _ => None,
    });
    asked.collect()
}
