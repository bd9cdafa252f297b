//! How many round trips it takes from a magnet link to the first verified piece (BEP 9).
//!
//! Two engines, and a wire between them on which the peer's answers wait until the downloader has said all that it has
//! to say: each time they are let through is a round trip. The clock stands still unless both are silent, so a wait for
//! a timer on either side shows as time that passed.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for a few orders among all"
)]

use super::lone::*;
use crate::engine::contract::*;
use crate::peers::Source;
use crate::{Config, Engine, Event};
use bt_core::disk::{Done, Job, Verdict};
use bt_core::{BLOCK_BYTES, Bitfield, Block, PeerId, PieceIndex, Time};
use bt_metainfo::metainfo::info_hash_of;
use bt_metainfo::{Builder, Magnet, Metainfo};
use bt_wire::{Message, Reserved};
use bytes::Bytes;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// So many that their hashes are more than one piece of metadata.
const PIECES: u32 = 1_024;
const PEER_ID: PeerId = PeerId([60; 20]);
/// The connection as the peer numbers it.
const THEIR_CONN: u64 = 1;

/// From the handshakes to the first verified piece, where a piece is no longer than [`PIECE_BYTES_MAX`].
const ROUND_TRIPS_MAX: u32 = 4;
/// The first connection starts with 32 requests, and has twice as many in each round trip: a longer piece takes more of them.
const PIECE_BYTES_MAX: u32 = 1024 * 1024;

/// A download from one peer that has everything.
struct Download {
    magnet: Magnet,
    ours: Lone,
    conn: ConnId,
    theirs: Lone,
    /// The bytes of each piece: all are alike.
    piece: Bytes,
    /// What came of each piece.
    came: BTreeMap<PieceIndex, Vec<Block>>,
}

/// What it took.
#[derive(Debug, PartialEq, Eq)]
struct Took {
    round_trips: u32,
    /// While both sides were silent.
    waited: Duration,
}

impl Download {
    /// From the link until both handshakes are exchanged.
    fn from_link(piece_bytes: u32, reserved: Reserved) -> Self {
        let piece: Bytes = (0..piece_bytes).map(|n| (n % 251) as u8).collect();
        let length = u64::from(piece_bytes) * u64::from(PIECES);
        let hashes = vec![info_hash_of(&piece).0; PIECES as usize];
        let metainfo = Builder::file("name", length, piece_bytes).build(&hashes);
        let metainfo = metainfo.unwrap();
        let at: SocketAddr = ([203, 0, 113, 9], 6_881).into();
        let link = format!("magnet:?xt=urn:btih:{}&x.pe={at}", metainfo.info_hash);
        let magnet: Magnet = link.parse().unwrap();

        let unknown = Unknown {
            info_hash: magnet.info_hash.unwrap(),
            trackers: Vec::new(),
        };
        let layout = metainfo.info.layout();
        let engine = Engine::fetching(unknown, Config::new(OWN_ID), 1);
        let mut ours = Lone::of(engine, layout);
        ours.handle(Input::PeersFound(Source::User, magnet.peers.clone()));
        let dials = ours.dials();
        let [(conn, addr)] = dials[..] else {
            panic!("dialled at once: {dials:?}");
        };
        assert_eq!(addr, at);

        let mut theirs = Lone::of(seeder(&metainfo), layout);
        theirs.open_as(THEIR_CONN, 1, Direction::Incoming, OWN_ID, reserved);
        ours.handle(Input::Opened {
            conn,
            addr,
            direction: Direction::Outgoing,
            peer_id: PEER_ID,
            reserved,
        });
        Self {
            magnet,
            ours,
            conn,
            theirs,
            piece,
            came: BTreeMap::new(),
        }
    }

    /// Runs until the first piece is verified.
    fn run(mut self) -> Took {
        let began = self.ours.now;
        let mut round_trips = 0;
        loop {
            let said = self.hear_us_out();
            let is_done = |event: &Event| matches!(event, Event::PieceDone { .. });
            if self.ours.events.iter().any(is_done) {
                let waited = self.ours.now - began;
                return Took {
                    round_trips,
                    waited,
                };
            }
            let is_silent = said.is_empty();
            for message in said {
                self.theirs.receive(ConnId(THEIR_CONN), message);
            }
            let answers = self.hear_them_out();
            if answers.is_empty() && is_silent {
                self.wait(began);
                continue;
            }
            round_trips += u32::from(!answers.is_empty());
            for message in answers {
                self.ours.receive(self.conn, message);
            }
        }
    }

    /// Carries out what the downloader orders until it orders nothing more; what it said meanwhile.
    fn hear_us_out(&mut self) -> Vec<Message> {
        let mut said = Vec::new();
        while !self.ours.out.is_empty() {
            for order in core::mem::take(&mut self.ours.out) {
                match order {
                    Output::Send { message, .. } => said.push(message),
                    Output::Metadata(info) => self.describe(&info),
                    Output::Disk(Job::Write { block, data }) => self.write(block, &data),
                    Output::Close { reason, .. } => panic!("{reason}"),
                    _ => {}
                }
            }
        }
        said
    }

    /// The same for the peer.
    fn hear_them_out(&mut self) -> Vec<Message> {
        let mut said = Vec::new();
        while !self.theirs.out.is_empty() {
            for order in core::mem::take(&mut self.theirs.out) {
                match order {
                    Output::Send { message, .. } => said.push(message),
                    Output::Upload { conn, block } => {
                        let data = self.bytes_of(block);
                        let (piece, begin) = (block.piece.get(), block.begin);
                        said.push(Message::Piece { piece, begin, data });
                        let result = Ok(());
                        self.theirs.handle(Input::Uploaded {
                            conn,
                            block,
                            result,
                        });
                    }
                    Output::Close { reason, .. } => panic!("{reason}"),
                    _ => {}
                }
            }
        }
        said
    }

    /// Lets time pass until one of the two wakes by itself.
    fn wait(&mut self, began: Time) {
        let deadlines = [&self.ours, &self.theirs].map(|lone| lone.engine.deadline());
        let wake = deadlines.into_iter().flatten().min();
        let wake = wake.expect("one of the two has something left to do");
        assert!(wake - began < Duration::from_secs(60), "nothing comes");
        for lone in [&mut self.ours, &mut self.theirs] {
            lone.pass(wake - lone.now);
        }
    }

    fn describe(&mut self, info: &Bytes) {
        let metainfo = Metainfo::from_magnet(&self.magnet, info).unwrap();
        self.ours.handle(Input::Described {
            layout: metainfo.info.layout(),
            private: metainfo.info.is_private(),
            have: Bitfield::new(PIECES),
            wanted: Bitfield::full(PIECES),
        });
    }

    /// A disk that takes each block at once, and compares each piece of which it has all.
    fn write(&mut self, block: Block, data: &Bytes) {
        assert!(*data == self.bytes_of(block), "{block:?}");
        let piece = block.piece;
        let came = self.came.entry(piece).or_default();
        came.push(block);
        let is_whole = came.len() == self.piece.len() / BLOCK_BYTES as usize;
        self.ours.handle(Input::DiskDone(Done::Wrote { block }));
        if is_whole {
            let verdict = Verdict::Good;
            let done = Done::Checked { piece, verdict };
            self.ours.handle(Input::DiskDone(done));
        }
    }

    fn bytes_of(&self, block: Block) -> Bytes {
        self.piece.slice(block.begin as usize..block.end() as usize)
    }
}

fn seeder(metainfo: &Metainfo) -> Engine {
    let torrent = Torrent {
        info_hash: metainfo.info_hash,
        layout: metainfo.info.layout(),
        private: false,
        trackers: Vec::new(),
        have: Bitfield::full(PIECES),
        wanted: Bitfield::full(PIECES),
    };
    let info = Bytes::copy_from_slice(metainfo.info_bytes());
    Engine::new(torrent, Config::new(PEER_ID), 2).with_metadata(info)
}

#[test]
fn from_a_link_to_the_first_verified_piece() {
    let without_fast = PLAIN.with_extension_protocol();
    // Greetings; unchoke and metadata; 32 blocks (512 KiB), 64 and so on.
    let rows = [
        (16, 3),
        (32, 3),
        (128, 3),
        (256, 3),
        (512, 3),
        (1_024, 4),
        (2_048, 5),
    ];
    for (piece_kib, round_trips) in rows {
        for reserved in [RESERVED, without_fast] {
            let piece_bytes = piece_kib * 1_024;
            let took = Download::from_link(piece_bytes, reserved).run();
            let expected = Took {
                round_trips,
                waited: Duration::ZERO,
            };
            assert_eq!(took, expected, "pieces of {piece_kib} KiB, {reserved:?}");
            assert!(piece_bytes > PIECE_BYTES_MAX || took.round_trips <= ROUND_TRIPS_MAX);
        }
    }
}
