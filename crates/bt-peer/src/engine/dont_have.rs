//! Pieces that are lost again (BEP 54): ours, when the disk no longer has what it had, and those of peers.
//!
//! **Invariant:** of a piece that a peer took back nothing is outstanding to it, and nothing of it is asked before it
//! says again that it has it.

use super::download::address;
use super::upload::reject;
use super::{ConnId, Engine, Output, send};
use crate::connection::{Connection, Fault, Violation};
use crate::limits::EARLY_HAVES_MAX;
use bt_core::{PieceIndex, Time};
use bt_wire::{Message, dont_have};
use std::collections::VecDeque;

/// Tells the peer that the piece is here, unless that is what it heard last.
pub(super) fn tell(
    out: &mut VecDeque<Output>,
    now: Time,
    conn: &mut Connection,
    piece: PieceIndex,
) {
    if conn.told.set(piece) {
        let message = Message::Have { piece: piece.get() };
        send(out, now, conn, message);
    }
}

/// Tells the peer that the piece is lost, as soon as it has said how.
fn take_back(out: &mut VecDeque<Output>, now: Time, conn: &mut Connection, piece: PieceIndex) {
    if let Some(id) = conn.speaks.dont_have
        && conn.told.clear(piece)
    {
        let payload = dont_have::encode(piece.get());
        send(out, now, conn, Message::Extended { id, payload });
    }
}

impl Engine {
    /// The peer takes back that it has a piece.
    pub(super) fn peer_lost(
        &mut self,
        now: Time,
        id: ConnId,
        payload: &[u8],
    ) -> Result<(), Violation> {
        let Some(conn) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        let Ok(piece) = dont_have::decode(payload) else {
            return conn.fault(Fault::BadDontHave);
        };
        if self.info.is_known() {
            return self.peer_lost_piece(now, id, piece);
        }
        // What it means is seen once it is known what the torrent is.
        if conn.early.lost.len() < EARLY_HAVES_MAX && !conn.early.lost.contains(&piece) {
            conn.early.haves.retain(|had| *had != piece);
            conn.early.lost.push(piece);
        }
        Ok(())
    }

    /// The same with the piece's index as it was sent. A piece that it never had may be one that it thought we knew of.
    pub(super) fn peer_lost_piece(
        &mut self,
        now: Time,
        id: ConnId,
        piece: u32,
    ) -> Result<(), Violation> {
        let Some(conn) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        let Some(piece) = self.layout.piece(piece) else {
            return conn.fault(Fault::BadDontHave);
        };
        if !conn.has.get(piece) {
            return Ok(());
        }
        self.picker.peer_lost(id, &conn.has, piece);
        conn.has.clear(piece);
        conn.interesting -= u32::from(self.picker.needs(piece));
        conn.allowed_to_us.retain(|allowed| *allowed != piece);
        let blocks = conn.requests.cancel_piece(now, piece);
        if !blocks.is_empty() {
            self.download.lost(blocks.len());
        }
        for block in blocks {
            // It may have them on their way, and with the fast extension it owes an answer: this settles both.
            send(&mut self.out, now, conn, Message::Cancel(address(block)));
        }
        if self.picker.have().get(piece) && self.disk.trusts(piece) && !self.upload.super_seeding {
            // It needed no word of ours as long as it had its own.
            tell(&mut self.out, now, conn, piece);
        }
        self.update_interest(now, id);
        Ok(())
    }

    /// A piece that was here is not: whoever was told of it is told so.
    pub(super) fn withdraw(&mut self, now: Time, piece: PieceIndex) {
        self.disk.lost.insert(piece);
        for conn in self.conns.values_mut() {
            if let Some(shown) = &mut conn.shown {
                shown.close(piece);
            }
            take_back(&mut self.out, now, conn, piece);
        }
    }

    /// The peer has said how pieces are taken back: those that were lost before it did.
    pub(super) fn withdraw_late(&mut self, now: Time, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            let lost: Vec<PieceIndex> = conn.told.iter_minus(self.picker.have()).collect();
            for piece in lost {
                take_back(&mut self.out, now, conn, piece);
            }
        }
    }

    /// Rejects what waits of a piece that nobody may get any more, or not before it was checked.
    pub(super) fn unqueue(&mut self, now: Time, piece: PieceIndex) {
        for conn in self.conns.values_mut() {
            let dropped = conn.uploads.clear(|block| block.piece != piece);
            if let Some(spread) = &mut self.upload.spread {
                spread.unsent(dropped.iter().map(|block| block.piece));
            }
            for block in dropped {
                reject(&mut self.out, now, conn, block);
            }
        }
    }
}
