//! The info dictionary: had from peers where the torrent began without it, and given to those who lack it (BEP 9).
//!
//! Until it is there, what peers say of their pieces is kept as they said it. Then it is read as if it had just come: so
//! the peers that gave the metadata are the ones that the download begins with, without another round trip.
//!
//! **Invariant:** before [`Input::Described`](super::Input::Described) there is no piece, no request and no disk.

use super::receive::may_precede_bitfield;
use super::{ConnId, Engine, Output, Unknown, send};
use crate::connection::{Connection, EarlyPieces, Fault, Violation};
use crate::limits::{
    ALLOWED_FAST_MAX, EARLY_BITFIELDS_MAX_BYTES, EARLY_HAVES_MAX, METADATA_SERVED_EXTRA,
    METADATA_SERVED_SPAN,
};
use crate::metadata::{Fetch, Receipt, piece_bytes};
use crate::{CloseReason, Config, Event, Picker, SmartBan, Torrent};
use bt_core::{Bitfield, Layout, Time};
use bt_tracker::client;
use bt_wire::metadata::PIECE_BYTES;
use bt_wire::{Message, MetadataMessage};
use bytes::Bytes;
use std::collections::VecDeque;

/// What is known of the torrent.
#[derive(Debug)]
pub(super) enum Info {
    /// Its info hash.
    Wanted(Box<Fetch>),
    /// The info dictionary; its files are being opened.
    Opening(Served),
    /// Everything.
    Known {
        /// Peers may come from trackers only (BEP 27).
        private: bool,
        /// `None` if the shell did not say.
        served: Option<Served>,
    },
}

/// The info dictionary as it is given to peers.
#[derive(Debug)]
pub(super) struct Served {
    bytes: Bytes,
    /// Each piece as a whole message, once somebody asked for it: a peer that asks and does not read costs us no copy. Empty
    /// until anybody asks.
    messages: Vec<Option<Bytes>>,
}

impl Info {
    pub(super) const fn known(private: bool) -> Self {
        Self::Known {
            private,
            served: None,
        }
    }

    /// True once it is known that it is.
    pub(super) const fn is_private(&self) -> bool {
        matches!(self, Self::Known { private: true, .. })
    }

    pub(super) const fn is_known(&self) -> bool {
        matches!(self, Self::Known { .. })
    }

    /// How long the info dictionary is, if peers can have it of us.
    pub(super) fn length_bytes(&self) -> Option<u32> {
        let served = match self {
            Self::Wanted(_) => None,
            Self::Opening(served) => Some(served),
            Self::Known { served, .. } => served.as_ref(),
        };
        served.map(Served::length_bytes)
    }

    pub(super) fn offered(&mut self, now: Time, id: ConnId, length: u32) {
        if let Self::Wanted(fetch) = self {
            fetch.offered(now, id, length);
        }
    }

    pub(super) fn gone(&mut self, id: ConnId) {
        if let Self::Wanted(fetch) = self {
            fetch.gone(id);
        }
    }

    pub(super) const fn deadline(&self) -> Option<Time> {
        match self {
            Self::Wanted(fetch) => fetch.deadline(),
            Self::Opening(_) | Self::Known { .. } => None,
        }
    }

    fn served(&mut self) -> Option<&mut Served> {
        match self {
            Self::Wanted(_) => None,
            Self::Opening(served) => Some(served),
            Self::Known { served, .. } => served.as_mut(),
        }
    }
}

impl Served {
    const fn new(bytes: Bytes) -> Self {
        Self {
            bytes,
            messages: Vec::new(),
        }
    }

    fn length_bytes(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    fn pieces_count(&self) -> u32 {
        self.length_bytes().div_ceil(PIECE_BYTES)
    }

    /// The message with that piece; `None` if there is no such piece.
    fn message(&mut self, piece: u32) -> Option<Bytes> {
        let length = self.length_bytes();
        self.messages.resize(self.pieces_count() as usize, None);
        let message = self.messages.get_mut(piece as usize)?;
        if message.is_none() {
            let begin = piece as usize * PIECE_BYTES as usize;
            let end = begin + piece_bytes(length, piece) as usize;
            let data = MetadataMessage::Data {
                piece,
                total_bytes: Some(length),
                data: self.bytes.slice(begin..end),
            };
            *message = Some(data.encode());
        }
        message.clone()
    }
}

impl Engine {
    /// The engine of a torrent of which only the hash is known. It asks peers for the info dictionary, orders
    /// [`Output::Metadata`] when it has it, and goes on as any other once it is told what that means.
    #[must_use]
    pub fn fetching(unknown: Unknown, config: Config, seed: u64) -> Self {
        let nothing = Torrent {
            info_hash: unknown.info_hash,
            layout: Layout::new(0, 1).expect("a torrent without bytes has a layout"),
            private: false,
            trackers: unknown.trackers,
            have: Bitfield::new(0),
            wanted: Bitfield::new(0),
        };
        let mut engine = Self::new(nothing, config, seed);
        engine.info = Info::Wanted(Box::new(Fetch::new(unknown.info_hash)));
        engine.complete = false;
        engine
    }

    /// Gives the info dictionary to peers that ask for it. To be called before the first fact.
    #[must_use]
    pub fn with_metadata(mut self, info_bytes: Bytes) -> Self {
        if let Info::Known { served, .. } = &mut self.info {
            *served = Some(Served::new(info_bytes));
        }
        self
    }

    /// Keeps what cannot be understood yet; gives back what can.
    pub(super) fn remember(
        &mut self,
        now: Time,
        id: ConnId,
        message: Message,
    ) -> Result<Option<Message>, Violation> {
        let kept = self.early_bytes();
        let Some(conn) = self.conns.get_mut(&id) else {
            return Ok(None);
        };
        let pieces = match message {
            Message::Bitfield(bytes) if kept + bytes.len() > EARLY_BITFIELDS_MAX_BYTES => {
                self.close(now, id, CloseReason::Full);
                return Ok(None);
            }
            Message::Bitfield(bytes) => EarlyPieces::Bitfield(bytes.to_vec()),
            Message::HaveAll => EarlyPieces::All,
            Message::HaveNone => EarlyPieces::None,
            Message::Have { piece } => {
                conn.early.begun = true;
                conn.early.lost.retain(|lost| *lost != piece);
                if conn.early.haves.len() < EARLY_HAVES_MAX {
                    conn.early.haves.push(piece);
                }
                self.interested_early(now, id);
                return Ok(None);
            }
            Message::AllowedFast { piece } => {
                if conn.early.allowed.len() < ALLOWED_FAST_MAX {
                    conn.early.allowed.push(piece);
                }
                return Ok(None);
            }
            Message::SuggestPiece { .. } => return Ok(None),
            other @ (Message::KeepAlive
            | Message::Choke
            | Message::Unchoke
            | Message::Interested
            | Message::NotInterested
            | Message::Request(_)
            | Message::Piece { .. }
            | Message::Cancel(_)
            | Message::Port(_)
            | Message::RejectRequest(_)
            | Message::Extended { .. }) => {
                conn.early.begun |= !may_precede_bitfield(&other);
                return Ok(Some(other));
            }
        };
        if conn.early.pieces.is_some() || conn.early.begun {
            return Err(Violation::BitfieldLate);
        }
        let has_some = match &pieces {
            EarlyPieces::None => false,
            EarlyPieces::All => true,
            EarlyPieces::Bitfield(bytes) => bytes.iter().any(|byte| *byte != 0),
        };
        conn.early.pieces = Some(pieces);
        conn.early.lost.clear();
        if has_some {
            self.interested_early(now, id);
        }
        Ok(None)
    }

    /// Bytes of bitfields that wait to be understood.
    fn early_bytes(&self) -> usize {
        let early = self.conns.values().map(|conn| match &conn.early.pieces {
            Some(EarlyPieces::Bitfield(bytes)) => bytes.len(),
            Some(EarlyPieces::None | EarlyPieces::All) | None => 0,
        });
        early.sum()
    }

    /// Whatever the torrent is, we lack all of it: saying so at once saves a round trip.
    fn interested_early(&mut self, now: Time, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.am_interested) {
            conn.am_interested = true;
            conn.gave_at = now;
            send(&mut self.out, now, conn, Message::Interested);
        }
    }

    /// Asks whoever offers it for the info dictionary.
    pub(super) fn request_metadata(&mut self, now: Time) {
        let Info::Wanted(fetch) = &mut self.info else {
            return;
        };
        for (id, piece) in fetch.requests(now) {
            if let Some(conn) = self.conns.get_mut(&id) {
                let request = MetadataMessage::Request { piece };
                tell(&mut self.out, now, conn, request.encode());
            }
        }
    }

    /// Takes a message of the extension.
    pub(super) fn metadata(
        &mut self,
        now: Time,
        id: ConnId,
        payload: &Bytes,
    ) -> Result<(), Violation> {
        let Some(conn) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        match MetadataMessage::decode(payload) {
            Err(_) => conn.fault(Fault::UnaskedMetadata),
            Ok(None) => Ok(()),
            Ok(Some(MetadataMessage::Request { piece })) => self.metadata_asked(now, id, piece),
            Ok(Some(MetadataMessage::Reject { piece })) => {
                if let Info::Wanted(fetch) = &mut self.info {
                    fetch.rejected(now, id, piece);
                }
                Ok(())
            }
            Ok(Some(MetadataMessage::Data {
                piece,
                total_bytes,
                data,
            })) => {
                let Info::Wanted(fetch) = &mut self.info else {
                    let Some(owed) = conn.metadata.owed.checked_sub(1) else {
                        return conn.fault(Fault::UnaskedMetadata);
                    };
                    conn.metadata.owed = owed;
                    return Ok(());
                };
                match fetch.received(now, id, piece, total_bytes, &data) {
                    Receipt::Taken => Ok(()),
                    Receipt::Unasked => conn.fault(Fault::UnaskedMetadata),
                    Receipt::Wrong => {
                        self.ban_metadata_liars(now);
                        Ok(())
                    }
                    Receipt::Complete(bytes) => {
                        self.metadata_came(now, bytes);
                        Ok(())
                    }
                }
            }
        }
    }

    fn ban_metadata_liars(&mut self, now: Time) {
        let Info::Wanted(fetch) = &mut self.info else {
            return;
        };
        for id in fetch.take_liars() {
            if let Some(addr) = self.conns.get(&id).map(|conn| conn.addr) {
                self.ban(now, id, addr);
            }
        }
    }

    fn metadata_came(&mut self, now: Time, bytes: Bytes) {
        self.ban_metadata_liars(now);
        if let Info::Wanted(fetch) = &self.info {
            for conn in self.conns.values_mut() {
                conn.metadata.owed = fetch.outstanding(conn.id);
            }
        }
        self.info = Info::Opening(Served::new(bytes.clone()));
        self.out.push_back(Output::Metadata(bytes));
    }

    /// The torrent's files are open: from here on it is a torrent like any other.
    pub(super) fn described(
        &mut self,
        now: Time,
        layout: Layout,
        private: bool,
        have: &Bitfield,
        wanted: &Bitfield,
    ) {
        let known = Info::known(private);
        let Info::Opening(served) = core::mem::replace(&mut self.info, known) else {
            panic!("a torrent is described once, after its metadata came");
        };
        self.info = Info::Known {
            private,
            served: Some(served),
        };
        self.layout = layout;
        self.picker = Picker::new(layout, have, wanted, self.config.sequential);
        self.smart_ban = SmartBan::new(layout);
        let lengths = have.iter().map(|piece| layout.piece_length(piece));
        self.counters.bytes_done = lengths.map(u64::from).sum();
        self.complete = self.picker.is_complete();
        if !self.is_running() {
            return;
        }
        for id in self.conns.keys().copied().collect::<Vec<_>>() {
            self.introduce_late(now, id, have);
            if let Err(violation) = self.recall(now, id) {
                let reason = CloseReason::Violation(violation.to_string());
                self.close(now, id, reason);
            }
        }
        if private {
            self.retract_pex(now);
        }
        self.offer_metadata(now);
        self.tell_upload_only(now);
        if self.complete {
            self.emit(Event::Complete);
            if !have.is_full() {
                self.announce(now, client::Input::Paused);
            }
        }
    }

    /// What was here all the time, told to a peer that heard of nothing.
    fn introduce_late(&mut self, now: Time, id: ConnId, have: &Bitfield) {
        /// A `have` on the wire.
        const HAVE_BYTES: usize = 9;
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.requests.fit_pieces(&self.layout);
        conn.told = have.clone();
        let bitfield = have.to_bytes();
        if have.count_ones() as usize * HAVE_BYTES > bitfield.len() {
            // Later than BEP 3 has it, as aria2 does where it is shorter.
            send(&mut self.out, now, conn, Message::Bitfield(bitfield.into()));
            return;
        }
        for piece in have.iter() {
            let piece = piece.get();
            send(&mut self.out, now, conn, Message::Have { piece });
        }
    }

    /// Reads what the peer said before, as if it had just come.
    fn recall(&mut self, now: Time, id: ConnId) -> Result<(), Violation> {
        let pieces_count = self.layout.pieces_count();
        let Some(conn) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        let early = core::mem::take(&mut conn.early);
        conn.has = Bitfield::new(pieces_count);
        match early.pieces {
            Some(EarlyPieces::All) => self.begin(now, id, Bitfield::full(pieces_count))?,
            Some(EarlyPieces::Bitfield(bytes)) => {
                let has =
                    Bitfield::from_bytes(&bytes, pieces_count).map_err(Violation::Bitfield)?;
                self.begin(now, id, has)?;
            }
            Some(EarlyPieces::None) => self.begin(now, id, Bitfield::new(pieces_count))?,
            None if early.begun => self.begin(now, id, Bitfield::new(pieces_count))?,
            None => {}
        }
        for piece in early.haves {
            self.peer_has(now, id, piece)?;
        }
        for piece in early.lost {
            self.peer_lost_piece(now, id, piece)?;
        }
        for piece in early.allowed {
            let piece = self.layout.piece(piece);
            if let (Some(piece), Some(conn)) = (piece, self.conns.get_mut(&id)) {
                conn.allow_us(piece);
            }
        }
        self.update_interest(now, id);
        self.wants_requests(now, id);
        self.show_begun(now, id);
        Ok(())
    }

    /// It is private: whoever was told that we exchange peers hears that we do not (BEP 27).
    fn retract_pex(&mut self, now: Time) {
        let told = self.conns.values().filter(|conn| conn.pex.offered);
        for id in told.map(|conn| conn.id).collect::<Vec<_>>() {
            self.greet_again(now, id);
        }
    }

    /// Tells those who lack the info dictionary that they can have it here.
    fn offer_metadata(&mut self, now: Time) {
        let lacking = self.conns.values().filter(|conn| {
            conn.speaks.metadata.is_some() && !conn.has.is_full() && !conn.metadata.offers
        });
        for id in lacking.map(|conn| conn.id).collect::<Vec<_>>() {
            self.greet_again(now, id);
        }
    }

    /// Gives a piece, or rejects: what there is not, and what is asked for too often (FAULTS 54).
    fn metadata_asked(&mut self, now: Time, id: ConnId, piece: u32) -> Result<(), Violation> {
        let Some(conn) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        let served = self.info.served();
        let pieces_count = served.as_ref().map_or(0, |served| served.pieces_count());
        let most = METADATA_SERVED_EXTRA.saturating_add(pieces_count.saturating_mul(2));
        let is_allowed = conn.metadata.take(now, most);
        let message = served.and_then(|served| served.message(piece));
        if let Some(message) = message.filter(|_| is_allowed) {
            // It goes out at once, since somebody's download begins with it, and blocks wait for it.
            self.upload.limiter.charge(now, message.len() as u64);
            tell(&mut self.out, now, conn, message);
            return Ok(());
        }
        let reject = MetadataMessage::Reject { piece };
        tell(&mut self.out, now, conn, reject.encode());
        if is_allowed {
            return Ok(());
        }
        conn.fault(Fault::MetadataFlood)
    }
}

impl crate::connection::MetadataAllowance {
    /// Counts one more piece; false if it is one too many.
    fn take(&mut self, now: Time, most: u32) -> bool {
        let spans = (now - self.forgiven_at).as_millis() / METADATA_SERVED_SPAN.as_millis();
        let spans = u32::try_from(spans).unwrap_or(u32::MAX);
        if spans > 0 {
            self.served = self.served.saturating_sub(spans);
            self.forgiven_at = now;
        }
        let is_allowed = self.served < most;
        self.served += u32::from(is_allowed);
        is_allowed
    }
}

/// Orders a message of the extension, if the peer speaks it.
fn tell(out: &mut VecDeque<Output>, now: Time, conn: &mut Connection, payload: Bytes) {
    if let Some(id) = conn.speaks.metadata {
        send(out, now, conn, Message::Extended { id, payload });
    }
}
