//! A node's turns: it comes up, is woken, is given facts, and its disk works.

use super::{Fault, Happening, PORT, World, orders};
use crate::disk::{INFO, INFO_HASH};
use crate::node::Nature;
use bt_core::disk::{Done, Job, Verdict};
use bt_core::{PeerId, PieceIndex};
use bt_peer::{Config, Engine, Input, Output, Torrent, Unknown};
use bt_wire::Message;
use core::time::Duration;

/// How long after a piece was verified the resume state is saved. Sooner than the programs do it, as the runs are short.
const SAVE_DELAY: Duration = Duration::from_secs(5);

/// After so many steps the oracle looks at all of a node, and not only at what just happened.
const STEPS_BETWEEN_LOOKS: u64 = 64;

/// Up to so many connections of a node are all looked at with each block that it takes; of larger nodes only now and
/// then, as that would be most of the work in a large swarm.
const CONNS_ALWAYS_LOOKED_AT: usize = 16;

impl World {
    /// The node comes up with what is right on its disk.
    pub(super) fn start(&mut self, number: usize) {
        let peer_id = PeerId::generate(b"-BT0000-", &mut self.rng);
        let seed = self.rng.next_u64();
        let now = self.now;
        let layout = self.settings.layout;
        let have = self.open_disk(number);
        let node = self.node_mut(number);
        node.verified = have.clone();
        node.peer_id = peer_id;
        let mut config = Config::new(peer_id);
        config.listen_port = PORT;
        config.upload_slots = node.host.slots;
        config.super_seed = node.host.super_seed;
        config.up_limit = node.host.up_limit;
        node.ledger.limit = node.host.up_limit.map(|limit| (limit, now));
        config.peers_max = node.host.peers_max;
        if node.host.nature == Nature::FreeRider {
            config.upload_slots = Some(0);
        }
        let trackers = vec![vec![orders::TRACKER_URL.to_owned()]];
        let engine = if node.described {
            let torrent = Torrent {
                info_hash: *INFO_HASH,
                layout,
                private: false,
                trackers,
                have,
                wanted: node.wanted.clone(),
            };
            Engine::new(torrent, config, seed).with_metadata(INFO.clone())
        } else {
            let unknown = Unknown {
                info_hash: *INFO_HASH,
                trackers,
            };
            Engine::fetching(unknown, config, seed)
        };
        node.ledger.had = engine.stats(now).bytes_done;
        node.engine = Some(engine);
        node.run += 1;
        self.progressed = true;
        self.note(number, || "starts".to_owned(), 1);
        let ip = self.node(number).addr.ip();
        self.feed(number, Input::ExternalIp(ip));
        // So that after a crash the next run knows that there was this one.
        self.save(number, false);
        self.wake_when_due(number);
    }

    pub(super) fn wake(&mut self, number: usize) {
        let now = self.now;
        let node = self.node_mut(number);
        if node.wake_at != Some(now) {
            // It was planned before an earlier one.
            return;
        }
        node.wake_at = None;
        let deadline = node.engine.as_ref().and_then(Engine::deadline);
        if deadline.is_some_and(|at| at <= now) {
            self.feed(number, Input::Timeout);
            let engine = self.node(number).engine.as_ref();
            let deadline = engine.and_then(Engine::deadline);
            assert!(deadline.is_none_or(|at| at > now), "a shell would spin");
        }
        self.wake_when_due(number);
    }

    /// A fact that was under way; one about a connection that the engine closed meanwhile is dropped.
    pub(super) fn fact(&mut self, number: usize, input: Input) {
        if let Input::Closed { conn, .. } | Input::Uploaded { conn, .. } = &input {
            let conn = *conn;
            if !self.node(number).conns.contains_key(&conn) {
                return;
            }
            if matches!(input, Input::Closed { .. }) {
                self.node_mut(number).conns.remove(&conn);
            }
        }
        self.feed(number, input);
    }

    /// Gives the node's engine a fact, and carries out what it orders.
    pub(super) fn feed(&mut self, number: usize, input: Input) {
        let now = self.now;
        let weight = orders::weigh_input(&input);
        self.book(number, &input);
        self.note(number, || orders::describe_input(&input), weight);
        let Some(engine) = &mut self.node_mut(number).engine else {
            return;
        };
        engine.handle(now, input);
        let (mut taken, mut unchoked) = (None, false);
        while let Some(output) = self.node_mut(number).engine.as_mut().and_then(Engine::poll) {
            if let Output::Disk(Job::Write { block, .. }) = &output {
                taken = Some(*block);
            }
            unchoked |=
                matches!(&output, Output::Send { message, .. } if *message == Message::Unchoke);
            self.obey(number, output);
        }
        if unchoked {
            self.assert_slots(number);
        }
        if let Some(block) = taken
            && (self.node(number).conns.len() <= CONNS_ALWAYS_LOOKED_AT || self.is_look_due())
        {
            self.assert_cancelled(number, block);
        }
        if self.is_look_due() {
            self.look(number);
        }
        self.wake_when_due(number);
    }

    const fn is_look_due(&self) -> bool {
        self.steps.is_multiple_of(STEPS_BETWEEN_LOOKS)
    }

    fn wake_when_due(&mut self, number: usize) {
        let now = self.now;
        let node = self.node_mut(number);
        let Some(due) = node.engine.as_ref().and_then(Engine::deadline) else {
            return;
        };
        if node.wake_at.is_some_and(|at| at <= due) {
            return;
        }
        let at = due.max(now);
        node.wake_at = Some(at);
        self.at(at, Happening::Wake(number));
    }

    pub(super) fn disk(&mut self, number: usize, run: u64, job: Job) {
        let node = self.node_mut(number);
        if node.run != run {
            return;
        }
        let mut answers = Vec::new();
        node.disk.run(job, &mut answers);
        for done in answers {
            if let Done::Checked { piece, verdict } = &done {
                let piece = *piece;
                match verdict {
                    Verdict::Good => {
                        self.assert_right(number, piece);
                        let node = self.node_mut(number);
                        node.verified.set(piece);
                        node.ledger.was_complete |= node.verified.is_full();
                        self.plan_save(number);
                        self.note_out(number, piece);
                    }
                    Verdict::Bad { .. } => {
                        let length = self.settings.layout.piece_length(piece);
                        let node = self.node_mut(number);
                        node.rotten.clear(piece);
                        if node.verified.clear(piece) {
                            node.ledger.rotten += u64::from(length);
                        }
                    }
                    // Nothing is known of it that was not known before.
                    Verdict::Failed(_) => {}
                }
            }
            self.feed(number, Input::DiskDone(done));
        }
        let now = self.now;
        let node = self.node_mut(number);
        if node.is_sated() {
            let leaves = node.host.leaves && node.completed_at.is_none();
            node.completed_at.get_or_insert(now);
            self.progressed = true;
            if leaves {
                let node = number;
                self.later(Duration::ZERO, Happening::Fault(Fault::Leave { node }));
            }
        }
    }

    /// A leecher has a piece: the seeders may go with the last one that nobody had.
    fn note_out(&mut self, number: usize, piece: PieceIndex) {
        if self.node(number).host.seeder || !self.out.set(piece) || !self.out.is_full() {
            return;
        }
        for node in 0..self.nodes.len() {
            if self.settings.seeders_leave && self.node(node).host.seeder {
                self.later(Duration::ZERO, Happening::Fault(Fault::Leave { node }));
            }
        }
    }

    /// The resume state is saved before long.
    pub(super) fn plan_save(&mut self, number: usize) {
        let node = self.node_mut(number);
        if !core::mem::replace(&mut node.save_planned, true) {
            let run = node.run;
            self.later(SAVE_DELAY, Happening::Save(number, run));
        }
    }
}
