//! The oracles that look at a whole node, or at both ends of a connection.

use super::World;
use crate::link::{Link, LinkId, Phase, Side};
use crate::oracle::{Breach, Monitor};
use bt_core::{Block, PieceIndex};
use bt_peer::limits::UPLOAD_SLOTS_MAX;
use std::collections::BTreeSet;

impl World {
    /// Demands what must hold when the swarm has come to rest: everybody who counts is complete, and nothing is wrong.
    ///
    /// # Panics
    /// If a node's bytes are not the payload's, somebody was not told of a piece that it lacks, waits for an answer, or
    /// keeps a connection of no use.
    pub fn assert_at_rest(&mut self) {
        for number in 0..self.nodes.len() {
            self.look(number);
            if let Some(engine) = &self.node(number).engine {
                engine.assert_invariants();
            }
            let node = self.node_mut(number);
            let mut found = node.disk.verify();
            for piece in node.rotten.iter() {
                // It does not know yet.
                found.set(piece);
            }
            let lost = node.verified.iter_minus(&found).next();
            assert!(lost.is_none(), "node {number} lost {lost:?}");
            self.assert_balanced(number);
        }
        for link in self.links.iter() {
            for side in [Side::Dialler, Side::Listener] {
                self.assert_told(link, side);
                self.assert_answered(link, side);
                self.assert_useful(link, side);
            }
        }
    }

    /// How many copies of the rarest piece, and of a piece on average, the leechers that are up have among them.
    #[must_use]
    pub fn copies(&self) -> (usize, f64) {
        let up = |node: &&crate::node::Node| !node.host.seeder && node.engine.is_some();
        let leechers: Vec<_> = self.nodes.iter().filter(up).collect();
        let of = |piece| {
            let holders = leechers.iter().filter(|node| node.verified.get(piece));
            holders.count()
        };
        let rarest = self.settings.layout.pieces().map(of).min();
        let all: u32 = leechers.iter().map(|node| node.verified.count_ones()).sum();
        let pieces = self.settings.layout.pieces_count().max(1);
        (rarest.unwrap_or(0), f64::from(all) / f64::from(pieces))
    }

    /// Looks at the whole node: it claims nothing that is not verified, its numbers are true, it has no connection too
    /// many, and each peer knows whether it wants something.
    pub(super) fn look(&self, number: usize) {
        let node = self.node(number);
        let Some(engine) = node.engine.as_ref().filter(|_| node.described) else {
            // There are no pieces before it is known what the torrent is.
            return;
        };
        let more = engine.have().iter_minus(&node.verified).next();
        assert!(more.is_none(), "node {number} has {more:?} unverified");
        let stats = engine.stats(self.now);
        let audit = node
            .ledger
            .audit(&stats, &self.settings.layout, &node.verified);
        self.insist(number, audit);
        let open = self.monitors(number).count();
        assert!(
            open <= node.host.peers_max,
            "node {number} has {open} connections"
        );
        let mut others = BTreeSet::new();
        for (id, other, monitor) in self.monitors(number) {
            assert!(other != number, "node {number} talks to itself");
            assert!(
                self.is_half_closed(id) || others.insert(other),
                "node {number} has two connections to {other}"
            );
            let banned = node.ledger.banned.contains(&other);
            assert!(!banned, "node {number} talks to {other}, which it banned");
            let (stale, kept_up) = (monitor.stale(), monitor.kept_up(&node.verified));
            assert!(
                stale.is_none() && kept_up.is_none(),
                "node {number} waits for {stale:?} of {other}, which lost it, or keeps up that it has {kept_up:?}"
            );
            let overdue = monitor.overdue();
            assert!(
                overdue.is_none(),
                "node {number} does not reject {overdue:?}"
            );
            if monitor.has_begun() {
                let mut news = monitor.heard().iter_minus(&node.verified);
                let due = news.any(|piece| node.wanted.get(piece));
                assert!(
                    due == monitor.is_interested(),
                    "node {number} {id:?}: interest should be {due}"
                );
            }
        }
    }

    /// After an unchoke: no more interested peers hold a slot than there are.
    pub(super) fn assert_slots(&self, number: usize) {
        let slots = self.node(number).host.slots.unwrap_or(UPLOAD_SLOTS_MAX);
        let holders = self
            .monitors(number)
            .filter(|(_, _, monitor)| monitor.gives_slot());
        let holders = holders.count();
        assert!(
            holders <= slots,
            "node {number} unchokes {holders} with {slots} slots"
        );
    }

    /// A block that has come is asked of nobody any more (BEP 3, "cancel").
    pub(super) fn assert_cancelled(&self, number: usize, block: Block) {
        for (_, other, monitor) in self.monitors(number) {
            assert!(
                !monitor.asks(block),
                "node {number} still asks {other} for {block:?}"
            );
        }
    }

    /// The bytes of a piece that passed for good are the payload's.
    pub(super) fn assert_right(&self, number: usize, piece: PieceIndex) {
        let disk = &self.node(number).disk;
        for block in self.settings.layout.blocks(piece) {
            let right = disk
                .read(block)
                .map(|bytes| self.payload.is_right(block, &bytes));
            // A disk that cannot be read just now is looked at in the end.
            assert_ne!(right, Ok(false), "node {number}: {block:?} passed for good");
        }
    }

    /// Panics for a breach.
    pub(super) fn insist(&self, number: usize, result: Result<(), Breach>) {
        if let Err(breach) = result {
            panic!("node {number}: {}", breach.0);
        }
    }

    /// One end has closed, and the other has not heard of it: for long, if the first one went down with its farewell
    /// unsent.
    fn is_half_closed(&self, id: LinkId) -> bool {
        self.links.get(id).is_some_and(|link| {
            let is_closed = |side| matches!(link.end(side).phase, Phase::Closed);
            is_closed(Side::Dialler) || is_closed(Side::Listener)
        })
    }

    /// The open connections of a node, with whom each is, and its monitor.
    pub(super) fn monitors(
        &self,
        number: usize,
    ) -> impl Iterator<Item = (LinkId, usize, &Monitor)> {
        let conns = self.node(number).conns.values();
        conns.filter_map(|(id, side)| {
            let link = self.links.get(*id)?;
            let Phase::Open(monitor) = &link.end(*side).phase else {
                return None;
            };
            Some((*id, link.end(side.other()).node, &**monitor))
        })
    }

    fn assert_balanced(&self, number: usize) {
        let node = self.node(number);
        if let Some(engine) = node.engine.as_ref().filter(|_| node.verified.is_full()) {
            let stats = engine.stats(self.now);
            let layout = &self.settings.layout;
            self.insist(number, node.ledger.close(&stats, layout, &node.verified));
        }
    }

    /// Each piece that an end's node has was told to the other end's node, if that lacks it, and what it has no more was
    /// taken back (BEP 54).
    fn assert_told(&self, link: &Link, side: Side) {
        let (near, far) = (link.end(side), link.end(side.other()));
        if let (Phase::Open(monitor), Phase::Open(_)) = (&near.phase, &far.phase) {
            let (mine, theirs) = (self.node(near.node), self.node(far.node));
            let lost = monitor.told().iter_minus(&mine.verified).next();
            assert!(
                lost.is_none(),
                "node {} did not take {lost:?} back",
                near.node
            );
            if mine.host.super_seed {
                // It tells each peer of what it shows it, and of nothing else.
                return;
            }
            for piece in mine.verified.iter_minus(&theirs.verified) {
                // Who boasts of it needs no word.
                let told = monitor.told().get(piece) || monitor.heard().get(piece);
                assert!(
                    told,
                    "node {} kept {piece} from node {}",
                    near.node, far.node
                );
            }
        }
    }

    /// Who is complete waits for nothing (BEP 6: each request is answered, BEP 3: or cancelled).
    fn assert_answered(&self, link: &Link, side: Side) {
        let end = link.end(side);
        if let Phase::Open(monitor) = &end.phase
            && self.node(end.node).verified.is_full()
        {
            let asked = monitor.asked_count();
            assert_eq!(asked, 0, "node {} waits for blocks it has", end.node);
        }
    }

    /// Who has everything does not stay connected to who has, or claims to have, everything too (BEP 21), once all that
    /// both have sent is there: a connection may open at any moment, and its first messages take their time.
    fn assert_useful(&self, link: &Link, side: Side) {
        let (end, far) = (link.end(side), link.end(side.other()));
        if let (Phase::Open(monitor), Phase::Open(_)) = (&end.phase, &far.phase)
            && self.node(end.node).is_sated()
            && !end.is_sending(self.now)
            && !far.is_sending(self.now)
            // Two that hide what they have cannot know that both have everything.
            && !(self.node(end.node).host.super_seed && self.node(far.node).host.super_seed)
        {
            let useless = monitor.heard().is_full() || self.node(far.node).is_sated();
            assert!(
                !useless,
                "nodes {} and {} want nothing and stay connected",
                end.node, far.node
            );
        }
    }
}
