//! What peers say: every message, checked against the torrent and against what may be said when.
//!
//! BEP 3 ("peer messages"), BEP 6. **Invariant:** numbers from the wire pass [`Layout`](bt_core::Layout) here, and
//! nowhere behind it.

use super::{ConnId, Engine, send};
use crate::CloseReason;
use crate::connection::{Connection, Fault, Violation};
use bt_core::{Bitfield, PieceIndex, Time};
use bt_wire::Message;
use bt_wire::fast_set::{ALLOWED_FAST_COUNT, allowed_fast_set};

impl Engine {
    pub(super) fn received(&mut self, now: Time, id: ConnId, message: Message) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.heard_at = now;
        if let Message::Piece { data, .. } = &message {
            // It came, whatever becomes of it: also when the peer is closed for what it means.
            self.counters.down.add(now, data.len() as u64);
        }
        if let Err(violation) = self.obey(now, id, message) {
            let reason = CloseReason::Violation(violation.to_string());
            self.close(now, id, reason);
        }
        self.show_begun(now, id);
    }

    fn obey(&mut self, now: Time, id: ConnId, message: Message) -> Result<(), Violation> {
        let pieces_count = self.layout.pieces_count();
        let Some(conn) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        if message.is_fast_extension() && !conn.fast {
            return Err(Violation::FastNotNegotiated);
        }
        let message = if self.info.is_known() {
            message
        } else {
            match self.remember(now, id, message)? {
                Some(message) => message,
                None => return Ok(()),
            }
        };
        let Some(conn) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        if self.info.is_known() && !conn.begun && !may_precede_bitfield(&message) {
            // No bitfield came: the peer has nothing yet.
            self.begin(now, id, Bitfield::new(pieces_count))?;
        }
        let Some(conn) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        match message {
            Message::KeepAlive | Message::Port(_) => {}
            Message::Extended {
                id: extended_id,
                payload,
            } => self.extended(now, id, extended_id, &payload)?,
            Message::Bitfield(bytes) => {
                let has =
                    Bitfield::from_bytes(&bytes, pieces_count).map_err(Violation::Bitfield)?;
                self.bitfield_came(now, id, has)?;
            }
            Message::HaveAll => self.bitfield_came(now, id, Bitfield::full(pieces_count))?,
            Message::HaveNone => self.begin(now, id, Bitfield::new(pieces_count))?,
            Message::Have { piece } => self.peer_has(now, id, piece)?,
            Message::Choke => self.choked(now, id),
            Message::Unchoke => self.unchoked(now, id),
            Message::Interested => {
                conn.peer_interested = true;
                self.unchoke_if_free(now, id);
            }
            Message::NotInterested => self.not_interested(now, id),
            Message::Request(address) => self.requested(now, id, address)?,
            Message::Cancel(address) => self.cancelled(now, id, address),
            Message::Piece { piece, begin, data } => {
                self.block_came(now, id, piece, begin, data)?
            }
            Message::RejectRequest(address) => self.rejected(now, id, address)?,
            Message::SuggestPiece { piece } => {
                // A hint; rarest first knows better. Out of range it is a fault nevertheless.
                match self.layout.piece(piece) {
                    Some(piece) => self.picker.suggested(id, piece),
                    None => conn.fault(Fault::BadHint)?,
                }
            }
            Message::AllowedFast { piece } => match self.layout.piece(piece) {
                Some(piece) => {
                    // What is here makes room: each choke may allow one more.
                    conn.allowed_to_us.retain(|had| self.picker.needs(*had));
                    conn.allow_us(piece);
                    self.wants_requests(now, id);
                }
                None => conn.fault(Fault::BadHint)?,
            },
        }
        Ok(())
    }

    fn not_interested(&mut self, now: Time, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.peer_interested = false;
        }
        self.fill_free_slots(now);
        // It may have said before that it wants nothing of anybody.
        self.close_if_redundant(now, id);
    }

    /// The peer's first word about its pieces, or a later one: aria2 sends a bitfield, or have all, where it would be
    /// shorter than the haves it stands for. A later one must bring news, which bounds their number.
    pub(super) fn bitfield_came(
        &mut self,
        now: Time,
        id: ConnId,
        has: Bitfield,
    ) -> Result<(), Violation> {
        let Some(conn) = self.conns.get(&id).filter(|conn| conn.begun) else {
            return self.begin(now, id, has);
        };
        let news: Vec<PieceIndex> = has.iter_minus(&conn.has).collect();
        if news.is_empty() {
            return Err(Violation::BitfieldLate);
        }
        for piece in news {
            self.peer_has(now, id, piece.get())?;
        }
        Ok(())
    }

    /// The peer's first word about its pieces.
    pub(super) fn begin(&mut self, now: Time, id: ConnId, has: Bitfield) -> Result<(), Violation> {
        let Some(conn) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        if conn.begun {
            return Err(Violation::BitfieldLate);
        }
        conn.begun = true;
        self.picker.add_peer(&has);
        conn.interesting = count(has.iter().filter(|piece| self.picker.needs(*piece)));
        conn.came_complete = has.is_full();
        let starting = (has.count_ones() as usize) < ALLOWED_FAST_COUNT;
        conn.has = has;
        self.update_interest(now, id);
        if starting {
            self.offer_allowed_fast(now, id);
        }
        self.close_if_redundant(now, id);
        Ok(())
    }

    /// A peer with next to nothing may have a few pieces while it is choked (BEP 6, "allowed fast"). Not before each
    /// piece has gone out once: a crowd of newcomers would ask for the same ones, and for all of our line. Nor while we spare it.
    fn offer_allowed_fast(&mut self, now: Time, id: ConnId) {
        let have = self.picker.have();
        let holds_back = self.upload.spread.is_some() || self.upload.super_seeding || self.spares();
        let Some(conn) = self
            .conns
            .get_mut(&id)
            .filter(|conn| conn.fast && !have.is_empty() && !holds_back)
        else {
            return;
        };
        let set = allowed_fast_set(
            conn.addr.ip(),
            self.info_hash,
            &self.layout,
            ALLOWED_FAST_COUNT,
        );
        let had = set.into_iter().filter(|piece| have.get(*piece));
        for piece in conn.allow_peer(had, &self.layout) {
            let message = Message::AllowedFast { piece: piece.get() };
            send(&mut self.out, now, conn, message);
        }
    }

    pub(super) fn peer_has(&mut self, now: Time, id: ConnId, piece: u32) -> Result<(), Violation> {
        let pieces_count = self.layout.pieces_count();
        let out_of_range = Violation::HaveOutOfRange {
            piece,
            pieces_count,
        };
        let piece = self.layout.piece(piece).ok_or(out_of_range)?;
        let Some(conn) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        if !conn.has.set(piece) {
            return Ok(());
        }
        self.picker.peer_has(piece);
        if self.complete {
            let length = self.layout.piece_length(piece);
            conn.got.add(now, u64::from(length));
        }
        let needed = self.picker.needs(piece);
        conn.interesting += u32::from(needed);
        self.note_helped(now, id);
        self.upload.entrusted.seen(id, piece);
        self.note_passed_on(now, id, piece);
        if needed {
            self.update_interest(now, id);
            self.wants_requests(now, id);
        } else {
            self.close_if_redundant(now, id);
        }
        Ok(())
    }

    /// Says `interested` or `not interested` if that has changed.
    pub(super) fn update_interest(&mut self, now: Time, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let interested = conn.interesting > 0;
        if interested == conn.am_interested {
            return;
        }
        conn.am_interested = interested;
        self.download.recount();
        let message = if interested {
            conn.gave_at = now;
            Message::Interested
        } else {
            Message::NotInterested
        };
        send(&mut self.out, now, conn, message);
    }

    /// Other pieces than before are needed: counts them anew at every peer.
    pub(super) fn recount_interest(&mut self, now: Time) {
        for conn in self.conns.values_mut() {
            conn.interesting = count(conn.has.iter().filter(|piece| self.picker.needs(*piece)));
        }
        for id in self.conns.keys().copied().collect::<Vec<_>>() {
            self.update_interest(now, id);
        }
    }

    fn choked(&mut self, now: Time, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        if conn.peer_choking {
            return;
        }
        conn.peer_choking = true;
        conn.requests.choked(now);
        self.picker.forget_suggested(id);
        self.download.recount();
        // Under the fast extension each request is still answered, one by one (BEP 6).
        if !conn.fast {
            self.drop_requests(id);
        }
    }

    fn unchoked(&mut self, now: Time, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.peer_choking = false;
        conn.requests.unchoked();
        self.download.recount();
        self.wants_requests(now, id);
    }
}

/// BEP 3 has the bitfield first of all; the extension protocol's handshake comes before it in practice (libtorrent), and
/// a hint or keep-alive says nothing about pieces that a bitfield could contradict.
pub(super) const fn may_precede_bitfield(message: &Message) -> bool {
    matches!(
        message,
        Message::Bitfield(_)
            | Message::HaveAll
            | Message::HaveNone
            | Message::KeepAlive
            | Message::Port(_)
            | Message::Extended { .. }
            | Message::AllowedFast { .. }
            | Message::SuggestPiece { .. }
    )
}

fn count(pieces: impl Iterator) -> u32 {
    u32::try_from(pieces.count()).unwrap_or(u32::MAX)
}

/// True if requests may be sent to the connection at `now`, and some should.
pub(super) fn has_room(conn: &Connection, now: Time) -> bool {
    conn.may_request() && conn.requests.room(now) > 0
}
