//! What goes wrong, and how it heals.

use super::{Happening, World};
use bt_peer::{Command, Input};
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
    /// The tracker does not answer for a while.
    TrackerDown {
        /// How long.
        span: Duration,
    },
    /// The node's disk is full for a while.
    DiskFull {
        /// The node.
        node: usize,
        /// How long.
        span: Duration,
    },
    /// The node loses power and comes back.
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

impl World {
    /// Lets something go wrong now.
    pub(super) fn fail(&mut self, fault: Fault) {
        let now = self.now;
        match fault {
            Fault::Reset { node } => {
                let conns: Vec<_> = self.node(node).conns.values().copied().collect();
                if let Some((link, _)) = conns.get(self.rng.index(conns.len())) {
                    self.tear(*link);
                }
            }
            Fault::Freeze { node, span } => self.freeze(node, now + span),
            Fault::TrackerDown { span } => {
                self.tracker_down_until = self.tracker_down_until.max(now + span);
            }
            Fault::DiskFull { node, span } => {
                self.node_mut(node).disk.set_full(true);
                self.later(span, Happening::DiskHasRoom(node));
            }
            Fault::Crash { node, span } => {
                if self.node(node).engine.is_some() {
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
        self.note(0, || format!("{fault:?}"), 2);
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
}
