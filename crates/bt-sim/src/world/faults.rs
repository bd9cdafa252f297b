//! What goes wrong, and how it heals.

use super::{Happening, World};
use crate::disk::Trouble;
use bt_core::{Bitfield, Time};
use bt_peer::{Command, Input};
use bt_tracker::server::{self, Swarms};
use core::time::Duration;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A random connection of the node breaks.
    Reset {
        /// The node.
        node: usize,
    },
    /// The node sends nothing for a while.
    Freeze {
        /// The node.
        node: usize,
        /// How long.
        span: Duration,
    },
    /// What the node sends is under way for longer, for a while.
    Lag {
        /// The node.
        node: usize,
        /// How much longer.
        more: Duration,
        /// How long this lasts.
        span: Duration,
    },
    /// Nothing passes between the nodes of a group and the others for a while. The tracker is in reach of both.
    Partition {
        /// A bit for each node of the group, for the first 64 nodes.
        group: u64,
        /// How long.
        span: Duration,
    },
    /// The tracker does not answer for a while.
    TrackerDown {
        /// How long.
        span: Duration,
    },
    /// The tracker starts anew and knows nobody.
    TrackerForgets,
    /// Something is wrong with the node's disk for a while.
    Disk {
        /// The node.
        node: usize,
        /// What is wrong.
        trouble: Trouble,
        /// How long.
        span: Duration,
    },
    /// The node's disk is slow for a while.
    SlowDisk {
        /// The node.
        node: usize,
        /// What it writes in that time, in bytes per second.
        rate: u64,
        /// How long.
        span: Duration,
    },
    /// A piece that the node has goes bad on its disk.
    Rot {
        /// The node.
        node: usize,
    },
    /// The node loses power and comes back. Its disk has what was synced, and some of the rest; it goes on with its
    /// resume state.
    Crash {
        /// The node.
        node: usize,
        /// How long it is down.
        span: Duration,
    },
    /// The node leaves, as its user wants.
    Leave {
        /// The node.
        node: usize,
    },
}

/// Nodes that others cannot reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partition {
    group: u64,
    until: Time,
}

impl Partition {
    const fn has(self, number: usize) -> bool {
        number < 64 && self.group >> number & 1 == 1
    }
}

impl World {
    /// Lets something go wrong now.
    pub(super) fn fail(&mut self, fault: Fault) {
        let now = self.now;
        self.note(0, || format!("{fault:?}"), 2);
        match fault {
            Fault::Reset { node } => {
                let conns: Vec<_> = self.node(node).conns.values().copied().collect();
                if let Some((link, _)) = conns.get(self.rng.index(conns.len())) {
                    self.tear(*link);
                }
            }
            Fault::Freeze { node, span } => {
                let until = self.node(node).frozen_until.max(now + span);
                self.node_mut(node).frozen_until = until;
                self.at(until, Happening::Thaw(node));
            }
            Fault::Lag { node, more, span } => {
                self.node_mut(node).lag = more;
                self.later(span, Happening::LagEnds(node));
            }
            Fault::Partition { group, span } => {
                let until = now + span;
                self.partitions.push(Partition { group, until });
            }
            Fault::TrackerDown { span } => {
                self.tracker_down_until = self.tracker_down_until.max(now + span);
            }
            Fault::TrackerForgets => {
                let config = server::Config::with_interval(self.settings.announce_interval);
                self.tracker = Swarms::new(config, self.rng.next_u64());
            }
            Fault::Disk {
                node,
                trouble,
                span,
            } => {
                self.later(span, Happening::DiskHeals(node));
                let node = self.node_mut(node);
                node.disk.set_trouble(Some(trouble));
                node.trouble = Some(trouble);
                node.ledger.disk_failed = true;
            }
            Fault::SlowDisk { node, rate, span } => {
                self.node_mut(node).disk_rate = rate;
                self.later(span, Happening::DiskHeals(node));
            }
            Fault::Rot { node } => {
                let pieces: Vec<_> = self.node(node).verified.iter().collect();
                if let Some(piece) = pieces.get(self.rng.index(pieces.len())).copied() {
                    let node = self.node_mut(node);
                    node.disk.rot(piece);
                    node.rotten.set(piece);
                }
            }
            Fault::Crash { node, span } => {
                if self.node(node).engine.is_some() && !self.node(node).gone {
                    self.vanish(node);
                    let mut rng = self.rng.fork();
                    self.node_mut(node).disk.crash(&mut rng);
                    self.later(span, Happening::Start(node));
                }
            }
            Fault::Leave { node } => {
                self.node_mut(node).gone = true;
                self.progressed = true;
                self.feed(node, Input::Command(Command::Stop));
            }
        }
    }

    /// The node's disk is as it was.
    pub(super) fn heal_disk(&mut self, number: usize) {
        let node = self.node_mut(number);
        node.disk.set_trouble(None);
        node.trouble = None;
        node.disk_rate = node.host.disk;
    }

    /// Until when nothing passes between two nodes; a time in the past if it does.
    pub(super) fn parted_until(&self, a: usize, b: usize) -> Time {
        let parts = |partition: &&Partition| partition.has(a) != partition.has(b);
        let ends = self.partitions.iter().filter(parts);
        ends.map(|partition| partition.until)
            .max()
            .unwrap_or(Time::ZERO)
    }

    /// The node is down from one moment to the next.
    pub(super) fn vanish(&mut self, number: usize) {
        let links: Vec<_> = self.node(number).conns.values().copied().collect();
        for (link, _) in links {
            self.tear(link);
        }
        let now = self.now;
        self.node_mut(number).stop(now);
        self.progressed = true;
    }

    /// The node keeps its resume state, as the programs do some time after a piece was verified, and at the end.
    pub(super) fn save(&mut self, number: usize, clean: bool) {
        let node = self.node_mut(number);
        node.save_planned = false;
        if let Some(engine) = node.engine.as_ref().filter(|_| node.described) {
            node.disk.save(&engine.have(), clean);
        }
    }

    /// What a node finds on its disk when it starts. Its resume state may claim nothing that is not there.
    pub(super) fn open_disk(&mut self, number: usize) -> Bitfield {
        let node = self.node_mut(number);
        let have = node.disk.open();
        node.ledger.disk_failed = node.trouble.is_some();
        if node.trouble != Some(Trouble::Unreadable) {
            let lie = have.iter_minus(&node.disk.verify()).next();
            assert!(lie.is_none(), "node {number} believes it has {lie:?}");
            // Nobody comes back who had told that nothing will be written any more: all that is there is looked for.
            let forgotten = node.disk.verify().iter_minus(&have).next();
            assert!(
                forgotten.is_none(),
                "node {number} does not know it has {forgotten:?}"
            );
        }
        have
    }
}
