//! One engine, played against by a script: messages in, orders out.

use crate::engine::contract::*;
use crate::{CloseReason, Config, Engine, Event};
use bt_core::disk::{DiskError, DiskErrorKind, Done, Job, Verdict};
use bt_core::{Bitfield, Block, InfoHash, Layout, PeerId, PieceIndex, Time};
use bt_wire::message::BlockAddress;
use bt_wire::{Message, Reserved};
use bytes::Bytes;
use core::time::Duration;
use std::net::SocketAddr;

pub(super) const PIECE_BYTES: u32 = 64 * 1024;
pub(super) const OWN_ID: PeerId = PeerId([50; 20]);
pub(super) const FAST: Reserved = Reserved::NONE.with_fast();
pub(super) const PLAIN: Reserved = Reserved::NONE;

pub(super) fn layout(pieces: u32) -> Layout {
    Layout::new(u64::from(pieces) * u64::from(PIECE_BYTES), PIECE_BYTES).unwrap()
}

pub(super) fn torrent(pieces: u32, have: Bitfield) -> Torrent {
    Torrent {
        info_hash: InfoHash([7; 20]),
        layout: layout(pieces),
        private: false,
        trackers: Vec::new(),
        have,
        wanted: Bitfield::full(pieces),
    }
}

/// An engine, the time, and the orders it gave since they were last looked at.
pub(super) struct Lone {
    pub(super) engine: Engine,
    pub(super) now: Time,
    pub(super) out: Vec<Output>,
    pub(super) layout: Layout,
    /// Every event ever emitted.
    pub(super) events: Vec<Event>,
    facts: u32,
}

impl Lone {
    pub(super) fn new(pieces: u32, have: Bitfield) -> Self {
        Self::with(torrent(pieces, have), Config::new(OWN_ID))
    }

    pub(super) fn leecher(pieces: u32) -> Self {
        Self::new(pieces, Bitfield::new(pieces))
    }

    pub(super) fn seeder(pieces: u32) -> Self {
        Self::new(pieces, Bitfield::full(pieces))
    }

    pub(super) fn with(torrent: Torrent, config: Config) -> Self {
        let layout = torrent.layout;
        Self::of(Engine::new(torrent, config, 1), layout)
    }

    pub(super) fn of(engine: Engine, layout: Layout) -> Self {
        let mut lone = Self {
            engine,
            now: Time::from_secs(1_000),
            out: Vec::new(),
            layout,
            events: Vec::new(),
            facts: 0,
        };
        assert_eq!(lone.engine.deadline(), Some(Time::ZERO));
        lone.handle(Input::Timeout);
        lone
    }

    pub(super) fn handle(&mut self, input: Input) {
        let woken = input == Input::Timeout;
        self.engine.handle(self.now, input);
        // In a long script, every time would be most of the test's time.
        self.facts += 1;
        if self.facts < 100 || self.facts.is_multiple_of(32) {
            self.engine.assert_invariants();
        }
        while let Some(output) = self.engine.poll() {
            if let Output::Emit(event) = &output {
                self.events.push(event.clone());
            }
            self.out.push(output);
        }
        if woken {
            assert!(
                self.engine.deadline().is_none_or(|at| at > self.now),
                "the shell would spin"
            );
        }
    }

    /// Lets time pass, with all the timeouts that the engine asks for.
    pub(super) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = self.engine.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.handle(Input::Timeout);
        }
        self.now = end;
    }

    pub(super) fn pass_secs(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    /// A peer connects to us. Its id is its number.
    pub(super) fn open(&mut self, n: u8, reserved: Reserved) -> ConnId {
        self.open_as(
            u64::from(n) * 2 + 1,
            n,
            Direction::Incoming,
            PeerId([n; 20]),
            reserved,
        )
    }

    pub(super) fn open_as(
        &mut self,
        conn: u64,
        host: u8,
        direction: Direction,
        peer_id: PeerId,
        reserved: Reserved,
    ) -> ConnId {
        let conn = ConnId(conn);
        self.handle(Input::Opened {
            conn,
            addr: ([10, 0, 0, host], 6_881).into(),
            direction,
            peer_id,
            reserved,
        });
        conn
    }

    pub(super) fn receive(&mut self, conn: ConnId, message: Message) {
        self.handle(Input::Received { conn, message });
    }

    /// A peer that has everything and lets us ask.
    pub(super) fn open_seeder(&mut self, n: u8, reserved: Reserved) -> ConnId {
        let conn = self.open(n, reserved);
        let full = Bitfield::full(self.layout.pieces_count());
        self.receive(conn, Message::Bitfield(full.to_bytes().into()));
        self.receive(conn, Message::Unchoke);
        conn
    }

    /// A peer that has nothing and wants something.
    pub(super) fn open_leecher(&mut self, n: u8, reserved: Reserved) -> ConnId {
        let conn = self.open(n, reserved);
        self.receive(conn, Message::Interested);
        conn
    }

    /// Takes those of the orders so far that `pick` names.
    fn take_if<T>(&mut self, pick: impl Fn(&Output) -> Option<T>) -> Vec<T> {
        let mut picked = Vec::new();
        self.out.retain(|output| {
            let found = pick(output);
            let keep = found.is_none();
            picked.extend(found);
            keep
        });
        picked
    }

    /// The messages to this connection since it was last asked.
    pub(super) fn sent(&mut self, to: ConnId) -> Vec<Message> {
        self.take_if(|output| {
            if let Output::Send { conn, message } = output
                && *conn == to
            {
                return Some(message.clone());
            }
            None
        })
    }

    /// The blocks requested of this connection since it was last asked; its other messages are dropped.
    pub(super) fn requests(&mut self, conn: ConnId) -> Vec<Block> {
        let sent = self.sent(conn).into_iter();
        sent.filter_map(|message| {
            if let Message::Request(asked) = message {
                return self.layout.block(asked.piece, asked.begin, asked.length);
            }
            None
        })
        .collect()
    }

    /// The block has been sent.
    pub(super) fn uploaded(&mut self, conn: ConnId, block: Block) {
        let result = Ok(());
        self.handle(Input::Uploaded {
            conn,
            block,
            result,
        });
    }

    /// The blocks ordered to be sent to this connection since it was last asked.
    pub(super) fn uploads(&mut self, to: ConnId) -> Vec<Block> {
        self.take_if(|output| {
            if let Output::Upload { conn, block } = output
                && *conn == to
            {
                return Some(*block);
            }
            None
        })
    }

    /// The disk jobs since it was last asked.
    pub(super) fn jobs(&mut self) -> Vec<Job> {
        self.take_if(|output| {
            if let Output::Disk(job) = output {
                return Some(job.clone());
            }
            None
        })
    }

    /// Where it dialled since it was last asked.
    pub(super) fn dials(&mut self) -> Vec<(ConnId, SocketAddr)> {
        self.take_if(|output| {
            if let Output::Dial { conn, addr } = output {
                return Some((*conn, *addr));
            }
            None
        })
    }

    /// Why the connection was closed, if it was.
    pub(super) fn close_reason(&self, of: ConnId) -> Option<CloseReason> {
        self.out.iter().find_map(|output| {
            if let Output::Close { conn, reason } = output
                && *conn == of
            {
                return Some(reason.clone());
            }
            None
        })
    }

    pub(super) fn is_violation(&self, conn: ConnId) -> bool {
        matches!(self.close_reason(conn), Some(CloseReason::Violation(_)))
    }

    pub(super) fn deliver(&mut self, conn: ConnId, block: Block) {
        self.receive(conn, piece(block));
    }

    /// The disk takes every block it was given, and checks each piece of which it has all.
    pub(super) fn run_disk(&mut self, verdict: impl Fn(PieceIndex) -> Verdict) {
        let jobs = self.jobs();
        for job in jobs {
            if let Job::Write { block, .. } = job {
                self.handle(Input::DiskDone(Done::Wrote { block }));
                let length = self.layout.piece_length(block.piece);
                // Scripts deliver blocks in order.
                if block.end() == length {
                    let piece = block.piece;
                    let verdict = verdict(piece);
                    self.handle(Input::DiskDone(Done::Checked { piece, verdict }));
                }
            }
        }
    }
}

pub(super) fn piece(block: Block) -> Message {
    Message::Piece {
        piece: block.piece.get(),
        begin: block.begin,
        data: Bytes::from(vec![0; block.length as usize]),
    }
}

pub(super) fn address(block: Block) -> BlockAddress {
    crate::engine::download::address(block)
}

/// The peer asks for these blocks.
pub(super) fn ask(lone: &mut Lone, conn: ConnId, blocks: &[Block]) {
    for block in blocks {
        lone.receive(conn, Message::Request(address(*block)));
    }
}

/// The peer did not get the block, since the disk could not read it.
pub(super) fn unreadable(lone: &mut Lone, conn: ConnId, block: Block) {
    let result = Err(DiskError {
        kind: DiskErrorKind::Io,
        message: "disk on fire".to_owned(),
    });
    lone.handle(Input::Uploaded {
        conn,
        block,
        result,
    });
}

/// The first blocks of pieces 20, 21 and so on.
pub(super) fn blocks(lone: &Lone, count: usize) -> Vec<Block> {
    let layout = lone.layout;
    let pieces = layout.pieces().skip(20);
    pieces
        .flat_map(|piece| layout.blocks(piece).collect::<Vec<_>>())
        .take(count)
        .collect()
}

/// The pieces that a peer was suggested.
pub(super) fn suggested(sent: &[Message]) -> Vec<u32> {
    let piece = |message: &Message| {
        if let Message::SuggestPiece { piece } = message {
            return Some(*piece);
        }
        None
    };
    sent.iter().filter_map(piece).collect()
}

/// Waits until the peer is choked or unchoked; what it was sent meanwhile.
pub(super) fn await_turn(lone: &mut Lone, conn: ConnId, turn: &Message) -> Vec<Message> {
    let mut sent = Vec::new();
    for _ in 0..20 {
        lone.pass_secs(10);
        lone.receive(conn, Message::KeepAlive);
        sent.extend(lone.sent(conn));
        if sent.contains(turn) {
            return sent;
        }
    }
    panic!("no {turn:?} in {sent:?}");
}
