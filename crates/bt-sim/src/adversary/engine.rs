//! One engine, as leecher, seeder, super-seeder or with a magnet link, and peers that mean it ill.
//!
//! What peers say goes through the codec, as in the shell, whole or damaged. The protocol's oracle stands at the engine's
//! end of each connection; the engine's own invariants are looked at after each fact.

pub use super::tally::Tally;

use super::Choices;
use super::messages::{address, damage};
use super::stage::Stage;
use crate::disk::{self, DiskKind, Trouble};
use crate::payload::Payload;
use bt_core::{Bitfield, InfoHash, Layout, PeerId, Rng};
use bt_peer::peers::{ADDRESSES_MAX, Source};
use bt_peer::{CloseReason, Command, Config, ConnId, Direction, Engine, Input, Torrent, Unknown};
use bt_tracker::announce::{AnnounceFailure, AnnounceResponse, Peer};
use bt_wire::{Message, Reserved};
use bytes::{Bytes, BytesMut};
use core::time::Duration;
use sha1::{Digest, Sha1};
use std::net::SocketAddr;

/// Who the engine is; a peer may say that it is the same.
const OWN: PeerId = PeerId([50; 20]);

/// Length of the info dictionary: two pieces of metadata, in bytes.
const INFO_BYTES: usize = 20_000;

/// No more connections are opened at a time; more than `peers_max`.
const PEERS_MAX: usize = 10;

/// Steps of a script that are played to an engine that has stopped.
const AFTERWARDS: u32 = 20;

/// The longest run of one message: more than any of the engine's counters of faults.
const REPEATS_MAX: u32 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Has nothing, or some pieces.
    Leecher,
    Seeder,
    SuperSeeder,
    /// Knows its info hash.
    Magnet,
}

const ROLES: [Role; 5] = [
    Role::Leecher,
    Role::Leecher,
    Role::Seeder,
    Role::SuperSeeder,
    Role::Magnet,
];

/// Plays a script to an engine.
///
/// # Panics
/// If the engine does what it must not.
#[must_use]
pub fn play(script: &[u8]) -> Tally {
    let choices = &mut Choices::new(script);
    let mut stage = cast(choices);
    stage.feed(choices, Input::Timeout);
    let mut afterwards = 0;
    while !choices.is_over() && afterwards < AFTERWARDS {
        afterwards += u32::from(stage.has_stopped);
        stage.step(choices);
    }
    stage.end();
    stage.tally
}

fn cast(choices: &mut Choices<'_>) -> Stage {
    let role = choices.one(&ROLES);
    let piece_length = choices.one(&[1_000, 16_384, 40_960, 65_536]);
    let pieces = 1 + u64::from(choices.below(24));
    let short = u64::from(choices.below(piece_length));
    let layout = Layout::new(pieces * u64::from(piece_length) - short, piece_length);
    let layout = layout.expect("constants in range");
    let payload = Payload::new(layout, 1);
    let mut info = vec![0; INFO_BYTES];
    Rng::new(2).fill(&mut info);
    let info = Bytes::from(info);
    let info_hash = InfoHash(Sha1::digest(&info).into());
    let config = config(choices, role);
    let seed = u64::from(choices.byte());
    let trackers = match choices.below(3) {
        0 => Vec::new(),
        1 => vec![vec!["a".to_owned()]],
        _ => vec![vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]],
    };
    let pieces_count = layout.pieces_count();
    let have = match role {
        Role::Leecher => some(choices, layout),
        Role::Seeder | Role::SuperSeeder => Bitfield::full(pieces_count),
        Role::Magnet => Bitfield::new(pieces_count),
    };
    let is_known = role != Role::Magnet;
    let engine = if is_known {
        let torrent = Torrent {
            info_hash,
            layout,
            private: choices.chance(20),
            trackers,
            have: have.clone(),
            wanted: Bitfield::full(pieces_count),
        };
        Engine::new(torrent, config, seed).with_metadata(info.clone())
    } else {
        let unknown = Unknown {
            info_hash,
            trackers,
        };
        Engine::fetching(unknown, config, seed)
    };
    let seeds = matches!(role, Role::Seeder | Role::SuperSeeder);
    let disk = disk::new(DiskKind::Stamped, &payload, &[], seeds);
    let mut stage = Stage::new(engine, payload, info, disk, have);
    stage.is_known = is_known;
    stage.hides = role == Role::SuperSeeder;
    stage
}

fn config(choices: &mut Choices<'_>, role: Role) -> Config {
    let mut config = Config::new(OWN);
    config.listen_port = 6_881;
    config.peers_max = 1 + choices.index(8);
    config.sequential = choices.chance(20);
    config.super_seed = role == Role::SuperSeeder;
    config.upload_slots = choices.one(&[None, None, Some(0), Some(1), Some(3)]);
    config.down_limit = choices.one(&[None, None, Some(20_000)]);
    config.up_limit = choices.one(&[None, None, Some(20_000)]);
    config.upload_goal = choices.one(&[None, None, Some(100_000)]);
    config.pex = choices.chance(70);
    config
}

/// Some of the pieces, mostly none.
fn some(choices: &mut Choices<'_>, layout: Layout) -> Bitfield {
    let mut some = Bitfield::new(layout.pieces_count());
    if choices.chance(40) {
        for piece in layout.pieces() {
            if choices.chance(40) {
                some.set(piece);
            }
        }
    }
    some
}

impl Stage {
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(36) {
            0..=14 => self.speak(choices),
            15 => self.crave(choices),
            16 => self.oblige(choices),
            17..=19 => self.come_in(choices),
            20 => self.dialled(choices),
            21 => self.babble(choices),
            22 => {
                let conn = self.some_peer(choices);
                self.hang_up(choices, conn, CloseReason::Gone);
            }
            23..=25 => self.work_disk(choices),
            26 | 27 => {
                for _ in 0..=choices.below(4) {
                    self.answer_upload(choices);
                }
            }
            28 => self.tracker_answers(choices),
            29 => {
                let source = choices.one(&[Source::User, Source::Gossip, Source::Tracker]);
                let addrs = match choices.chance(3) {
                    true => multitude(choices),
                    false => (0..choices.below(5)).map(|_| address(choices)).collect(),
                };
                self.feed(choices, Input::PeersFound(source, addrs));
            }
            30 if choices.chance(20) => {
                let seen = address(choices).ip();
                self.feed(choices, Input::ExternalIp(seen));
            }
            30 => self.command(choices),
            31 if self.is_describing => {
                let have = some(choices, self.payload.layout());
                self.describe(choices, have);
            }
            31 => {
                let nothing = [None, None, None];
                let [full, broken, unreadable] =
                    [Trouble::Full, Trouble::Broken, Trouble::Unreadable].map(Some);
                let all = [&nothing[..], &[full, broken, unreadable]].concat();
                let trouble = choices.one(&all);
                self.disk.set_trouble(trouble);
            }
            32 | 33 => self.wake_in_time(choices),
            34 => {
                // Late for whatever was due.
                let millis = choices.one(&[1, 50, 1_000, 20_000, 130_000]);
                self.now += Duration::from_millis(millis);
                self.feed(choices, Input::Timeout);
            }
            _ => {
                // A little later, and the next fact comes before the deadline was looked at.
                self.now += Duration::from_millis(u64::from(choices.byte()));
            }
        }
    }

    /// At the deadline, if there is one.
    fn wake_in_time(&mut self, choices: &mut Choices<'_>) {
        if let Some(deadline) = self.engine.deadline() {
            self.now = self.now.max(deadline);
            self.feed(choices, Input::Timeout);
        }
    }

    fn some_peer(&self, choices: &mut Choices<'_>) -> ConnId {
        let at = choices.index(self.peers.len());
        let conn = self.peers.keys().nth(at);
        conn.copied().unwrap_or(ConnId(self.last_conn))
    }

    /// A peer says something, which may be damaged, and once or often.
    fn speak(&mut self, choices: &mut Choices<'_>) {
        if self.peers.is_empty() {
            self.come_in(choices);
        }
        let conn = self.some_peer(choices);
        let message = self.matter(conn).message(choices);
        let mut bytes = BytesMut::new();
        message.encode_into(&mut bytes);
        let mut bytes = bytes.to_vec();
        if choices.chance(25) {
            damage(choices, &mut bytes);
            self.tally.damaged += 1;
        }
        let times = match choices.chance(3) {
            true => choices.below(REPEATS_MAX),
            false => 1,
        };
        for _ in 0..times {
            self.say_bytes(choices, conn, &bytes);
        }
    }

    /// Bytes that never were a message.
    fn babble(&mut self, choices: &mut Choices<'_>) {
        let conn = self.some_peer(choices);
        let count = choices.index(64);
        let bytes = choices.bytes(count);
        self.say_bytes(choices, conn, bytes);
    }

    /// A peer sends all that it was asked for, or nearly.
    fn oblige(&mut self, choices: &mut Choices<'_>) {
        let conn = self.some_peer(choices);
        for _ in 0..choices.below(40) {
            let asked = self.peers.get(&conn).map_or(0, |peer| peer.asked.len());
            if asked == 0 {
                return;
            }
            let wrong = choices.chance(4);
            let first = self.matter(conn).asked.first().copied();
            if let Some(first) = first {
                let answer = self.matter(conn).piece(first, wrong);
                self.say(choices, conn, &answer);
            }
        }
    }

    /// A peer wants something, and asks for whatever comes to its mind.
    fn crave(&mut self, choices: &mut Choices<'_>) {
        let conn = self.some_peer(choices);
        self.say(choices, conn, &Message::Interested);
        for _ in 0..=choices.below(6) {
            let wanted = self.matter(conn).request(choices);
            self.say(choices, conn, &wanted);
        }
    }

    fn come_in(&mut self, choices: &mut Choices<'_>) {
        if self.peers.len() < PEERS_MAX {
            self.last_conn += 2;
            let whence = (ConnId(self.last_conn), address(choices));
            let (peer_id, reserved) = stranger(choices);
            self.open(choices, whence, Direction::Incoming, peer_id, reserved);
        }
    }

    fn dialled(&mut self, choices: &mut Choices<'_>) {
        if self.dials.is_empty() {
            return;
        }
        let at = choices.index(self.dials.len());
        let (conn, addr) = self.dials.remove(at);
        if choices.chance(60) {
            let (peer_id, reserved) = stranger(choices);
            self.open(
                choices,
                (conn, addr),
                Direction::Outgoing,
                peer_id,
                reserved,
            );
        } else {
            self.feed(choices, Input::DialFailed { conn });
        }
    }

    fn work_disk(&mut self, choices: &mut Choices<'_>) {
        for _ in 0..=choices.below(12) {
            let at = choices.index(self.jobs.len());
            let rot = choices.chance(30);
            self.run_job(at, rot);
            if !choices.chance(15) {
                while !self.dones.is_empty() {
                    self.answer_disk(choices);
                }
            }
        }
    }

    fn tracker_answers(&mut self, choices: &mut Choices<'_>) {
        if self.announces.is_empty() {
            return;
        }
        let at = choices.index(self.announces.len());
        let (id, _) = self.announces.remove(at);
        let result = tracker_answer(choices);
        self.feed(choices, Input::Announced { id, result });
    }

    fn command(&mut self, choices: &mut Choices<'_>) {
        let layout = self.payload.layout();
        let limits = [None, Some(1), Some(20_000), Some(1 << 20)];
        let command = match choices.below(20) {
            0..=3 => Command::SetLimits {
                down: choices.one(&limits),
                up: choices.one(&limits),
            },
            4..=9 => Command::Want(match choices.chance(50) {
                true => Bitfield::full(layout.pieces_count()),
                false => some(choices, layout),
            }),
            10..=12 => Command::SetUploadGoal(choices.one(&[None, Some(0), Some(50_000)])),
            13..=18 => Command::SetPeersMax(choices.index(10)),
            _ => {
                self.stopping_since.get_or_insert(self.now);
                Command::Stop
            }
        };
        self.feed(choices, Input::Command(command));
    }

    /// The torrent's files are open.
    pub(super) fn describe(&mut self, choices: &mut Choices<'_>, have: Bitfield) {
        let layout = self.payload.layout();
        self.is_describing = false;
        self.is_known = true;
        self.tally.described += 1;
        self.begin_with(have.clone());
        let described = Input::Described {
            layout,
            private: choices.chance(20),
            have,
            wanted: Bitfield::full(layout.pieces_count()),
        };
        self.feed(choices, described);
    }
}

/// Who a peer says it is, and what it speaks.
fn stranger(choices: &mut Choices<'_>) -> (PeerId, Reserved) {
    let number = u8::try_from(45 + choices.below(12)).unwrap_or(0);
    let fast = Reserved::NONE.with_fast();
    let both = fast.with_extension_protocol();
    let extended = Reserved::NONE.with_extension_protocol();
    let all = Reserved([0xff; 8]);
    let reserved = choices.one(&[both, both, fast, extended, Reserved::NONE, all]);
    (PeerId([number; 20]), reserved)
}

/// More addresses than anybody has use for.
fn multitude(choices: &mut Choices<'_>) -> Vec<SocketAddr> {
    let mut rng = Rng::new(u64::from(choices.byte()));
    let mut addr = |_| {
        let [a, b, c, ..] = rng.next_u64().to_be_bytes();
        SocketAddr::from(([10, a, b, c], 6_881))
    };
    (0..ADDRESSES_MAX + 500).map(&mut addr).collect()
}

/// What a tracker says.
pub(super) fn tracker_answer(
    choices: &mut Choices<'_>,
) -> Result<AnnounceResponse, AnnounceFailure> {
    let span = |choices: &mut Choices<'_>| {
        choices.one(&[
            Duration::ZERO,
            Duration::from_secs(1),
            Duration::from_secs(60),
            Duration::from_secs(1_800),
            Duration::from_secs(1 << 40),
            Duration::MAX,
        ])
    };
    let perhaps = |choices: &mut Choices<'_>| choices.chance(50).then(|| span(choices));
    match choices.below(4) {
        0 => Err(AnnounceFailure::Refused {
            reason: "no".to_owned(),
            retry_in: perhaps(choices),
        }),
        1 => Err(AnnounceFailure::Unreachable {
            message: "gone".to_owned(),
            retry_in: perhaps(choices),
        }),
        _ => {
            let peers = (0..choices.below(6)).map(|_| Peer {
                addr: address(choices),
                peer_id: None,
            });
            let peers = peers.collect();
            Ok(AnnounceResponse {
                interval: span(choices),
                min_interval: perhaps(choices),
                tracker_id: choices.chance(30).then(|| choices.bytes(4).to_vec()),
                complete: choices.chance(50).then(|| choices.number()),
                peers,
                ..AnnounceResponse::default()
            })
        }
    }
}
