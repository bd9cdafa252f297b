//! What the lines do, and what the seeders gave out: numbers for a table, and no judgements.

use super::World;
use crate::node::Node;
use bt_core::Block;
use std::collections::BTreeSet;

/// What the upload lines of the leechers do at one moment. Each leecher that is up counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// It sends.
    pub busy: usize,
    /// It has nothing that anybody wants.
    pub unwanted: usize,
    /// Whoever wants something is choked.
    pub choked: usize,
    /// Somebody who wants something is unchoked, and asks for nothing.
    pub unasked: usize,
    /// It was asked for something, and does not send it.
    pub held: usize,
}

/// The blocks that the seeders have sent at least once.
#[derive(Debug, Default)]
pub(super) struct GivenOut {
    blocks: BTreeSet<(u32, u32)>,
    bytes: u64,
}

impl GivenOut {
    pub(super) fn add(&mut self, block: Block) {
        if self.blocks.insert((block.piece.get(), block.begin)) {
            self.bytes += u64::from(block.length);
        }
    }
}

impl World {
    /// How many bytes of the payload the seeders have sent at least once.
    #[must_use]
    pub const fn given_out(&self) -> u64 {
        self.given_out.bytes
    }

    /// What the leechers' lines do just now.
    #[must_use]
    pub fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        let is_up = |node: &Node| !node.host.seeder && node.engine.is_some();
        let nodes = self.nodes.iter().enumerate();
        for (number, node) in nodes.filter(|(_, node)| is_up(node)) {
            let (mut wanted, mut unchoked, mut asked) = (false, false, false);
            for (_, _, monitor) in self.monitors(number) {
                wanted |= monitor.is_wanted();
                unchoked |= monitor.gives_slot();
                asked |= monitor.owes();
            }
            let place = match (node.line_busy, asked, unchoked, wanted) {
                (true, ..) => &mut lines.busy,
                (_, true, ..) => &mut lines.held,
                (_, _, true, _) => &mut lines.unasked,
                (.., true) => &mut lines.choked,
                _ => &mut lines.unwanted,
            };
            *place += 1;
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use crate::{DiskKind, Scenario};
    use bt_core::Layout;
    use core::time::Duration;

    #[test]
    fn each_leecher_counts_once_and_a_block_that_goes_out_twice_is_given_out_once() {
        let layout = Layout::new(2 << 20, 64 * 1024).expect("a valid piece length");
        let mut crowd = Scenario::flash_crowd(1, layout, 4, 200_000);
        crowd.settings.disk = DiskKind::Stamped;
        let mut world = crowd.build();
        let (mut busy, mut before) = (0, 0);
        while !world.is_done() {
            world.pass(Duration::from_secs(1));
            let lines = world.lines();
            let all = lines.busy + lines.unwanted + lines.choked + lines.unasked + lines.held;
            assert!(all <= 4, "{lines:?}");
            busy += lines.busy;
            // What is being sent has been given out.
            let sent = world.stats(0).uploaded;
            let given_out = world.given_out();
            assert!(given_out >= before && given_out <= layout.total_length());
            assert!(given_out <= sent + (1 << 20), "{given_out} of {sent}");
            before = given_out;
        }
        assert!(busy > 10, "leechers upload");
        assert_eq!(world.given_out(), layout.total_length());
    }
}
