//! What is known of one connected peer.
//!
//! Plain state with small transitions; the [`Engine`](crate::Engine) decides. **Invariant:** `interesting` counts the
//! pieces that the peer has and we need, so that interest is known at any time without a look at the bitfields
//! (BEP 3: "interest state must be kept up to date at all times").

use crate::Account;
use crate::engine::pex::Exchange;
use crate::engine::super_seed::Shown;
use crate::engine::{ConnId, Direction};
use crate::limits::{
    ALLOWED_FAST_BYTES_MAX, ALLOWED_FAST_MAX, FAULTS_MAX, HELD_BACK, NEW_PEER, SLOT_GRACE, SNUB,
    TAKEN_PER_GIVEN,
};
use crate::requests::Requests;
use crate::uploads::Uploads;
use bt_core::{Bitfield, Block, Layout, PeerId, PieceIndex, RateMeter, Time};
use std::net::SocketAddr;

/// How a peer broke the protocol; shown as the connection's closing reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// BEP 3, "bitfield".
    #[error("{0}")]
    Bitfield(bt_core::bitfield::BitfieldError),
    /// BEP 3 and 6: one of bitfield, have all, have none comes first; later ones only with news.
    #[error("have all, have none, or a bitfield without news after other messages")]
    BitfieldLate,
    /// BEP 3, "have".
    #[error("have of piece {piece}, but there are {pieces_count}")]
    HaveOutOfRange {
        /// The index that was sent.
        piece: u32,
        /// How many pieces there are.
        pieces_count: u32,
    },
    /// BEP 6: its messages without its bit.
    #[error("fast extension message without the fast extension")]
    FastNotNegotiated,
    /// A request that cannot be served, from a peer that cannot be told so.
    #[error("request of {length} bytes at {begin} of piece {piece}")]
    BadRequest {
        /// Piece index.
        piece: u32,
        /// Offset in bytes.
        begin: u32,
        /// Length in bytes.
        length: u32,
    },
    /// More requests than anybody needs.
    #[error("request flood")]
    RequestFlood,
    /// Too many small faults, the last of which was this.
    #[error("too often: {0}")]
    Faults(Fault),
}

/// A small fault, which a race may excuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// A block that was never asked for, or that is no block of the torrent.
    #[error("a block nobody asked for")]
    UnaskedBlock,
    /// BEP 6: a reject for a request that was never sent.
    #[error("a reject of nothing")]
    UnaskedReject,
    /// A request for a piece that was never announced.
    #[error("a request for a piece we do not have")]
    UnknownPiece,
    /// BEP 10.
    #[error("an extension handshake that is none")]
    BadExtensionHandshake,
    /// BEP 9: bytes that are no message of it, or a piece nobody asked for.
    #[error("metadata nobody asked for")]
    UnaskedMetadata,
    /// BEP 9: requests beyond all need.
    #[error("a flood of requests for metadata")]
    MetadataFlood,
    /// BEP 11: peers told more often than once a minute.
    #[error("a flood of peer exchange")]
    PexFlood,
    /// BEP 54: bytes that are no message of it, or a piece that there is not.
    #[error("a piece taken back that is none")]
    BadDontHave,
    /// BEP 11: bytes that are no message of it.
    #[error("a peer exchange that is none")]
    BadPex,
    /// A hint with an index out of range.
    #[error("a hint about no piece")]
    BadHint,
}

/// Under which ids the peer wants the messages of extensions (BEP 10); `None` for those that it does not speak.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Speaks {
    /// `ut_metadata` (BEP 9).
    pub(crate) metadata: Option<u8>,
    /// `ut_pex` (BEP 11).
    pub(crate) pex: Option<u8>,
    /// `lt_donthave` (BEP 54).
    pub(crate) dont_have: Option<u8>,
}

/// What the peer said before it was known what its words mean: while the info dictionary was on its way.
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// Its first word about its pieces.
    pub(crate) pieces: Option<EarlyPieces>,
    /// It said something that no bitfield may follow.
    pub(crate) begun: bool,
    /// `have`s since then.
    pub(crate) haves: Vec<u32>,
    /// Pieces that it took back, and has not had again (BEP 54).
    pub(crate) lost: Vec<u32>,
    /// Allowed fast pieces (BEP 6).
    pub(crate) allowed: Vec<u32>,
}

/// A peer's first word about its pieces.
#[derive(Debug)]
pub(crate) enum EarlyPieces {
    None,
    All,
    Bitfield(Vec<u8>),
}

/// How much metadata a peer may still be given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MetadataAllowance {
    /// Pieces that it got, less those that time has forgiven.
    pub(crate) served: u32,
    pub(crate) forgiven_at: Time,
    /// Pieces that we asked for and need no more.
    pub(crate) owed: usize,
    /// It has the metadata itself.
    pub(crate) offers: bool,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnId,
    pub(crate) addr: SocketAddr,
    /// Where it listens, as far as is known.
    pub(crate) listen_addr: Option<SocketAddr>,
    pub(crate) direction: Direction,
    pub(crate) peer_id: PeerId,
    /// Both ends speak the fast extension.
    pub(crate) fast: bool,
    /// It says that it wants nothing (BEP 21).
    pub(crate) upload_only: bool,
    /// What our last extension handshake said of us there; `None` if it was sent none.
    pub(crate) told_upload_only: Option<bool>,
    pub(crate) speaks: Speaks,
    pub(crate) early: Early,
    pub(crate) metadata: MetadataAllowance,
    pub(crate) pex: Exchange,
    pub(crate) opened_at: Time,
    pub(crate) am_choking: bool,
    pub(crate) am_interested: bool,
    pub(crate) peer_choking: bool,
    pub(crate) peer_interested: bool,
    pub(crate) has: Bitfield,
    /// The pieces of which it was told that they are here, and not yet that they are lost (BEP 54).
    pub(crate) told: Bitfield,
    /// False until a message came before which a bitfield may come.
    pub(crate) begun: bool,
    /// It had everything when it came.
    pub(crate) came_complete: bool,
    /// When it was last seen that it sends faster than we take it.
    pub(crate) behind_at: Option<Time>,
    /// Pieces that it has and we need.
    pub(crate) interesting: u32,
    pub(crate) requests: Requests,
    pub(crate) uploads: Uploads,
    /// Pieces we may ask for while it chokes us (BEP 6).
    pub(crate) allowed_to_us: Vec<PieceIndex>,
    /// Pieces it may ask for while we choke it, and how many bytes of them are left.
    pub(crate) allowed_to_peer: Vec<PieceIndex>,
    pub(crate) allowed_bytes_left: u64,
    /// The piece that was under way when we choked it, and how many bytes of that it may still have.
    rest: Option<(PieceIndex, u64)>,
    /// What a super-seeder has shown it; `None` if we are none, or it has not said what it has.
    pub(crate) shown: Option<Shown>,
    /// Pieces we suggested to it, or showed it, and it has not asked for.
    pub(crate) suggested: Vec<PieceIndex>,
    pub(crate) heard_at: Time,
    pub(crate) sent_at: Time,
    /// When choking began or ended last.
    pub(crate) choke_changed_at: Time,
    /// When a block came last, or we became interested.
    pub(crate) gave_at: Time,
    pub(crate) down: RateMeter,
    pub(crate) up: RateMeter,
    /// It was unchoked since the last round, without waiting for the next.
    pub(crate) unchoked_at_once: bool,
    /// Requests since we choked it.
    pub(crate) choked_requests: u32,
    /// So much waited for it when we choked it that more may have waited unread.
    pub(crate) asked_ahead: bool,
    pub(crate) faults: u32,
    /// For the user, when it ends; what was uploaded is in `up`.
    pub(crate) account: Account,
    /// It had something for us for [`HELD_BACK`], and has given nothing since.
    pub(crate) holds_back: bool,
    /// Until when it could not have given anything.
    blameless_until: Time,
    /// Pieces of which it told a seeder that it has got them, in bytes.
    pub(crate) got: RateMeter,
    /// It waits in the engine's queue for a chance to request.
    pub(crate) in_fill: bool,
    /// It waits in the engine's queue for a chance to be sent something.
    pub(crate) in_upload: bool,
}

impl Connection {
    pub(crate) fn new(
        now: Time,
        id: ConnId,
        addr: SocketAddr,
        direction: Direction,
        peer_id: PeerId,
        fast: bool,
        pieces_count: u32,
    ) -> Self {
        Self {
            id,
            addr,
            listen_addr: (direction == Direction::Outgoing).then_some(addr),
            direction,
            peer_id,
            fast,
            upload_only: false,
            told_upload_only: None,
            speaks: Speaks::default(),
            early: Early::default(),
            metadata: MetadataAllowance::default(),
            pex: Exchange::default(),
            opened_at: now,
            am_choking: true,
            am_interested: false,
            peer_choking: true,
            peer_interested: false,
            has: Bitfield::new(pieces_count),
            told: Bitfield::new(pieces_count),
            begun: false,
            came_complete: false,
            behind_at: None,
            interesting: 0,
            requests: Requests::default(),
            uploads: Uploads::default(),
            allowed_to_us: Vec::new(),
            allowed_to_peer: Vec::new(),
            allowed_bytes_left: 0,
            rest: None,
            shown: None,
            suggested: Vec::new(),
            heard_at: now,
            sent_at: now,
            choke_changed_at: now,
            gave_at: now,
            down: RateMeter::default(),
            up: RateMeter::default(),
            unchoked_at_once: false,
            choked_requests: 0,
            asked_ahead: false,
            faults: 0,
            account: Account::default(),
            holds_back: false,
            got: RateMeter::default(),
            blameless_until: now,
            in_fill: false,
            in_upload: false,
        }
    }

    /// Counts a small fault.
    ///
    /// # Errors
    /// [`Violation::Faults`] if it was one too many.
    pub(crate) const fn fault(&mut self, fault: Fault) -> Result<(), Violation> {
        self.faults += 1;
        if self.faults > FAULTS_MAX {
            return Err(Violation::Faults(fault));
        }
        Ok(())
    }

    /// True if requests make sense: it has something for us and lets us have it.
    pub(crate) fn may_request(&self) -> bool {
        self.am_interested && (!self.peer_choking || !self.allowed_to_us.is_empty())
    }

    /// Anti-snubbing (Cohen 2003, §3.4): we have been interested for a minute, and got nothing.
    pub(crate) fn snubs_us(&self, now: Time) -> bool {
        self.am_interested && now - self.gave_at >= SNUB
    }

    /// True if it took more of us than `free_bytes`, and gave next to nothing back though it could have.
    pub(crate) fn only_takes(&self, free_bytes: u64) -> bool {
        let taken = self.up.total();
        self.holds_back && taken > free_bytes && self.down.total() < taken / TAKEN_PER_GIVEN
    }

    /// Looks whether it has had something for us for a while, and gave nothing. Who lets us ask, and is asked for nothing,
    /// holds nothing back.
    pub(crate) fn note_holding_back(&mut self, now: Time) {
        let may_ask = !self.peer_choking && self.requests.is_empty();
        if may_ask || !self.am_interested {
            self.holds_back &= !may_ask;
            self.blameless_until = now;
        }
        let since = self.gave_at.max(self.blameless_until);
        self.holds_back |= now - since >= HELD_BACK;
    }

    pub(crate) fn is_new(&self, now: Time) -> bool {
        now - self.opened_at < NEW_PEER
    }

    /// True if closing it to make room hurts nobody: neither side wants anything of the other.
    pub(crate) fn is_idle(&self) -> bool {
        !self.peer_interested && !self.am_interested
    }

    /// True if it wants nothing of anybody.
    pub(crate) fn is_seeder(&self) -> bool {
        self.has.is_full() || (self.upload_only && !self.peer_interested)
    }

    /// True if it may ask for pieces and takes nothing for a while.
    pub(crate) fn idles(&self, now: Time) -> bool {
        let waits = self.uploads.is_active() || self.uploads.has_moved(now);
        !waits && now - self.choke_changed_at >= SLOT_GRACE
    }

    /// The peer says that the piece is allowed fast.
    pub(crate) fn allow_us(&mut self, piece: PieceIndex) {
        if self.allowed_to_us.len() < ALLOWED_FAST_MAX && !self.allowed_to_us.contains(&piece) {
            self.allowed_to_us.push(piece);
        }
    }

    /// Lets the peer have these pieces, as far as they are short enough; returns those to tell it.
    pub(crate) fn allow_peer(
        &mut self,
        pieces: impl Iterator<Item = PieceIndex>,
        layout: &Layout,
    ) -> Vec<PieceIndex> {
        for piece in pieces {
            let length = u64::from(layout.piece_length(piece));
            if self.allowed_bytes_left + length <= ALLOWED_FAST_BYTES_MAX {
                self.allowed_bytes_left += length;
                self.allowed_to_peer.push(piece);
            }
        }
        self.allowed_to_peer.clone()
    }

    /// Lets the peer have what is left of a piece, in bytes, though it is about to be choked; false if that would be more
    /// than a choked peer may get. It ends with the next unchoke, so that nobody can save it up from choke to choke.
    pub(crate) fn allow_rest(&mut self, piece: PieceIndex, rest: u32) -> bool {
        let rest = u64::from(rest);
        let allowed = self.allowed_bytes_left + rest <= ALLOWED_FAST_BYTES_MAX;
        if allowed {
            self.rest = Some((piece, rest));
        }
        allowed
    }

    /// The peer is unchoked: it needs no allowance for what it had begun.
    pub(crate) const fn end_rest(&mut self) {
        self.rest = None;
    }

    /// True if the request may be served although we choke the peer; uses up its allowance.
    pub(crate) fn use_allowance(&mut self, block: Block) -> bool {
        let length = u64::from(block.length);
        if let Some((piece, left)) = &mut self.rest
            && *piece == block.piece
            && *left >= length
        {
            *left -= length;
            return true;
        }
        match self.allowed_bytes_left.checked_sub(length) {
            Some(left) if self.allowed_to_peer.contains(&block.piece) => {
                self.allowed_bytes_left = left;
                true
            }
            Some(_) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choked(layout: &Layout) -> Connection {
        let addr = SocketAddr::from(([10, 0, 0, 1], 6_881));
        let (id, peer_id) = (ConnId(1), PeerId([1; 20]));
        let pieces = layout.pieces_count();
        Connection::new(
            Time::ZERO,
            id,
            addr,
            Direction::Incoming,
            peer_id,
            true,
            pieces,
        )
    }

    /// How many blocks of the piece it gets while it is choked.
    fn got(conn: &mut Connection, layout: &Layout, piece: u32) -> usize {
        let piece = layout.piece(piece).unwrap();
        let asked = layout.blocks(piece).chain(layout.blocks(piece));
        asked.filter(|block| conn.use_allowance(*block)).count()
    }

    #[test]
    fn a_choke_allows_the_rest_of_one_piece_and_no_choke_adds_to_another() {
        let layout = Layout::new(16 << 20, 1 << 20).unwrap();
        let mut conn = choked(&layout);
        let piece = |index| layout.piece(index).unwrap();
        assert!(conn.allow_rest(piece(0), 10 * 16_384));
        assert_eq!(got(&mut conn, &layout, 1), 0, "another piece");
        assert_eq!(got(&mut conn, &layout, 0), 10);
        for index in 1..9 {
            // Whoever takes nothing of it has not more of it later.
            conn.end_rest();
            assert!(conn.allow_rest(piece(index), 5 * 16_384));
        }
        let all = (0..9).map(|index| got(&mut conn, &layout, index));
        assert_eq!(all.sum::<usize>(), 5);
    }

    #[test]
    fn what_a_choked_peer_gets_is_bounded_whatever_it_is_allowed_for() {
        let layout = Layout::new(64 << 20, 4 << 20).unwrap();
        let mut conn = choked(&layout);
        let piece = |index| layout.piece(index).unwrap();
        assert_eq!(conn.allow_peer([piece(3)].into_iter(), &layout).len(), 1);
        assert!(!conn.allow_rest(piece(0), 16_384), "4 MiB are all");
        assert_eq!(got(&mut conn, &layout, 3), 256);
        assert!(conn.allow_rest(piece(0), (4 << 20) - 16_384));
        assert_eq!(got(&mut conn, &layout, 0), 255);
        let long = Layout::new(64 << 20, 16 << 20).unwrap();
        assert!(!choked(&long).allow_rest(long.piece(0).unwrap(), 5 << 20));
    }
}
