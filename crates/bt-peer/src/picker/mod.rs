//! Which blocks to ask of whom (Cohen 2003, "Incentives Build Robustness in BitTorrent", §2.4).
//!
//! The picker sees bitfields, counts and connection numbers; it knows neither time nor addresses.

use crate::ConnId;
use bt_core::{Bitfield, Block, Layout, PieceIndex, Rng};

/// What a block that arrived is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It was missing: write it.
    Wanted {
        /// Other connections of which it was asked too: cancel it there.
        cancel: Vec<ConnId>,
    },
    /// It is here already, or its piece is: waste.
    Duplicate,
}

/// The pieces of one torrent as its downloader sees them: which are here, which are under way, which come next.
#[derive(Debug)]
pub struct Picker {
    have: Bitfield,
}

impl Picker {
    /// A picker for a torrent of which `have` is verified and `wanted` is to be had.
    #[must_use]
    pub fn new(_layout: Layout, have: &Bitfield, _wanted: &Bitfield, _sequential: bool) -> Self {
        Self { have: have.clone() }
    }

    /// A peer told what it has: once for each peer, before its `peer_has`.
    pub fn add_peer(&mut self, _has: &Bitfield) {}

    /// A known peer has one piece more than it had.
    pub fn peer_has(&mut self, _piece: PieceIndex) {}

    /// A peer is gone; `has` is what it had last.
    pub fn remove_peer(&mut self, _has: &Bitfield) {}

    /// Appends up to `count` blocks to `out` that shall be asked of `conn` now, and notes them as asked of it.
    ///
    /// `only` restricts the choice to these pieces (allowed fast, while choked).
    pub fn pick(
        &mut self,
        _conn: ConnId,
        _has: &Bitfield,
        _only: Option<&[PieceIndex]>,
        _count: usize,
        _rng: &mut Rng,
        _out: &mut Vec<Block>,
    ) {
    }

    /// A block came from `conn`, asked for or not.
    pub fn received(&mut self, _conn: ConnId, _block: Block) -> Receipt {
        Receipt::Duplicate
    }

    /// A request will not be answered: rejected, timed out, or thrown away by a choke.
    pub fn release(&mut self, _conn: ConnId, _block: Block) {}

    /// No request to this connection will be answered: it choked or is gone.
    pub fn release_all(&mut self, _conn: ConnId) {}

    /// The piece, of which every block was received, was compared with its hash.
    pub fn checked(&mut self, _piece: PieceIndex, _good: bool) {}

    /// The disk lost what was received of the piece: it is missing again, by nobody's fault.
    pub fn lost(&mut self, _piece: PieceIndex) {}

    /// From now on these pieces are wanted.
    pub fn set_wanted(&mut self, _wanted: &Bitfield) {}

    /// What is verified.
    #[must_use]
    pub const fn have(&self) -> &Bitfield {
        &self.have
    }

    /// True if the piece is wanted and not here yet: a `have` of it makes a peer interesting.
    #[must_use]
    pub fn needs(&self, _piece: PieceIndex) -> bool {
        false
    }

    /// True if a peer with these pieces has one that is wanted and not here yet.
    #[must_use]
    pub fn is_interesting(&self, _has: &Bitfield) -> bool {
        false
    }

    /// True if every wanted piece is here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.have.is_full()
    }

    /// True if every missing block that anybody has is under way.
    #[must_use]
    pub fn in_endgame(&self) -> bool {
        false
    }

    /// How often the piece did not match its hash.
    #[must_use]
    pub fn failures(&self, _piece: PieceIndex) -> u32 {
        0
    }
}
