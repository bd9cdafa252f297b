//! After a script: all faults end, an honest seeder comes, and the engine must come to its end.

use super::Choices;
use super::stage::Stage;
use bt_core::{Bitfield, PeerId, Time};
use bt_peer::{CloseReason, Command, ConnId, Direction, Input, RESERVED};
use bt_tracker::client::STOP_MAX;
use bt_wire::{ExtensionHandshake, Message, metadata};
use bytes::Bytes;
use core::time::Duration;
use std::collections::BTreeMap;

/// The honest seeder, whom nobody in a script can have been taken for.
const HONEST: PeerId = PeerId([0xaa; 20]);

/// Where it is.
const HONEST_ADDR: ([u8; 4], u16) = ([10, 9, 9, 9], 6_881);

/// The id under which it takes `ut_metadata`.
const METADATA_ID: u8 = 9;

/// The engine's longest wait for anything is half a minute (a failed disk) and some; then it has ten times as long.
const PATIENCE: Duration = Duration::from_secs(600);

/// The same in turns, of which each is a batch of blocks or a timer.
const TURNS_MAX: u32 = 20_000;

/// Blocks that the seeder sends before it looks again at what is asked.
const BATCH: usize = 64;

impl Stage {
    /// Ends the script.
    pub(super) fn end(&mut self) {
        let none = &mut Choices::new(&[]);
        if let Some(since) = self.stopping_since {
            self.now = self.now.max(since + STOP_MAX);
            self.feed(none, Input::Timeout);
            assert!(self.has_stopped, "it does not stop");
            return;
        }
        self.disk.set_trouble(None);
        self.settle(none);
        for conn in self.peers.keys().copied().collect::<Vec<_>>() {
            self.hang_up(none, conn, CloseReason::Gone);
        }
        let (down, up) = (None, None);
        let pieces_count = self.payload.layout().pieces_count();
        for command in [
            Command::SetLimits { down, up },
            Command::SetPeersMax(8),
            Command::SetUploadGoal(None),
            Command::Want(Bitfield::full(pieces_count)),
        ] {
            self.feed(none, Input::Command(command));
        }
        let until = self.now + PATIENCE;
        for turn in 0.. {
            if self.is_broken || self.is_complete() {
                break;
            }
            assert!(
                turn < TURNS_MAX && self.now < until,
                "an honest seeder is not enough"
            );
            self.serve(none, until);
        }
        if !self.is_broken {
            self.tally.healed += 1;
        }
    }

    fn is_complete(&self) -> bool {
        self.is_known && self.engine.have().is_full()
    }

    /// A moment with the honest seeder.
    fn serve(&mut self, none: &mut Choices<'_>, until: Time) {
        let honest = ConnId(self.last_conn);
        if !self.peers.contains_key(&honest) {
            self.come(none);
        }
        self.settle(none);
        let honest = ConnId(self.last_conn);
        let Some(peer) = self.peers.get_mut(&honest) else {
            // It is complete but for what is to be checked again, and needs nobody.
            self.wake(none, until);
            return;
        };
        let batch = peer.asked.len().min(BATCH);
        let asked: Vec<_> = peer.asked.drain(..batch).collect();
        let asked_metadata = core::mem::take(&mut peer.asked_metadata);
        let id = peer.metadata_id;
        let idle = asked.is_empty() && asked_metadata.is_empty();
        for piece in asked_metadata {
            let data = self.matter(honest).metadata_piece(piece, false);
            let payload = data.encode();
            self.say(none, honest, &Message::Extended { id, payload });
        }
        for address in asked {
            let answer = self.matter(honest).piece(address, false);
            self.say(none, honest, &answer);
        }
        if idle && !self.is_complete() {
            self.wake(none, until);
            // It is there, though it has nothing to say.
            self.say(none, honest, &Message::KeepAlive);
        }
    }

    fn wake(&mut self, none: &mut Choices<'_>, until: Time) {
        let deadline = self.engine.deadline().unwrap_or(until);
        self.now = self.now.max(deadline);
        self.feed(none, Input::Timeout);
    }

    fn come(&mut self, none: &mut Choices<'_>) {
        self.last_conn += 2;
        let honest = ConnId(self.last_conn);
        let whence = (honest, HONEST_ADDR.into());
        self.open(none, whence, Direction::Incoming, HONEST, RESERVED);
        let handshake = ExtensionHandshake {
            extensions: BTreeMap::from([(metadata::NAME.to_owned(), METADATA_ID)]),
            metadata_bytes: u32::try_from(self.info.len()).ok(),
            ..ExtensionHandshake::default()
        };
        let payload = Bytes::from(handshake.encode());
        let greeting = Message::Extended { id: 0, payload };
        for message in [Message::HaveAll, greeting, Message::Unchoke] {
            self.say(none, honest, &message);
        }
    }

    /// Everything that the engine waits for is answered, and well.
    fn settle(&mut self, none: &mut Choices<'_>) {
        loop {
            if self.is_describing {
                self.describe(none, Bitfield::new(self.payload.layout().pieces_count()));
            } else if !self.dones.is_empty() {
                self.answer_disk(none);
            } else if !self.jobs.is_empty() {
                self.run_job(0, false);
            } else if let Some((conn, _)) = self.dials.pop() {
                self.feed(none, Input::DialFailed { conn });
            } else if !self.answer_upload(none) {
                return;
            }
        }
    }
}
