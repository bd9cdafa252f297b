//! What no swarm may ever do, checked at every step.
//!
//! [`ledger`] keeps the books of each node. For messages,
//! one [`Monitor`] stands at each end of each connection. It sees what its end sends and hears, in that order, and knows
//! what the protocol allows then (BEP 3 "peer messages", BEP 6). It shares no code with the engine.

use bt_core::{Bitfield, Block, Layout, PieceIndex};
use bt_peer::limits::{ALLOWED_FAST_BYTES_MAX, REQUESTS_MAX, UPLOAD_QUEUE_MAX};
use bt_wire::extension::ExtensionHandshake;
use bt_wire::message::BlockAddress;
use bt_wire::{Message, dont_have};
use std::collections::{BTreeMap, BTreeSet};

/// Most requests of a peer that wait for an answer: what is queued, what is on its way out, and what came just now.
const OWED_MAX: usize = UPLOAD_QUEUE_MAX + REQUESTS_MAX;

/// Something was sent that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach(pub String);

/// One end of a connection as the protocol sees it.
#[derive(Debug)]
pub struct Monitor {
    layout: Layout,
    fast: bool,
    sent_any: bool,
    choking: bool,
    choked: bool,
    interested: bool,
    peer_interested: bool,
    /// Pieces that this end told of.
    told: Bitfield,
    /// Pieces that the other end told of.
    heard: Bitfield,
    /// Pieces that this end may ask for though choked.
    allowed: BTreeSet<u32>,
    /// Pieces that the other end may ask for though choked.
    granted: BTreeSet<u32>,
    /// The bytes that it got so since it was choked last, and in all.
    granted_bytes: u64,
    granted_bytes_total: u64,
    /// How often it was choked after an unchoke.
    chokes: u64,
    /// The other end has said, or let know, what it has.
    begun: bool,
    /// Under which ids this end and the other one take `lt_donthave` (BEP 54).
    dont_have_here: Option<u8>,
    dont_have_there: Option<u8>,
    /// Requests of this end without an answer.
    asked: BTreeSet<BlockAddress>,
    /// Those of them whose piece the other end took back without having to reject them.
    forsaken: BTreeSet<BlockAddress>,
    /// Requests of the other end without an answer, and how many times each: a request may overtake the answer to the
    /// cancelled one before it.
    owed: BTreeMap<BlockAddress, u32>,
    /// Those of them that were cancelled, and those whose answer waits for the disk's word on a read that failed.
    cancelled: BTreeSet<BlockAddress>,
    unread: BTreeSet<BlockAddress>,
}

macro_rules! demand {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err(Breach(format!($($words)+)));
        }
    };
}

impl Monitor {
    /// The end of a connection on which both handshakes were exchanged; `fast` if both speak BEP 6.
    #[must_use]
    pub fn new(layout: Layout, fast: bool) -> Self {
        Self {
            layout,
            fast,
            sent_any: false,
            choking: true,
            choked: true,
            interested: false,
            peer_interested: false,
            told: Bitfield::new(layout.pieces_count()),
            heard: Bitfield::new(layout.pieces_count()),
            allowed: BTreeSet::new(),
            granted: BTreeSet::new(),
            granted_bytes: 0,
            granted_bytes_total: 0,
            chokes: 0,
            begun: false,
            dont_have_here: None,
            dont_have_there: None,
            asked: BTreeSet::new(),
            forsaken: BTreeSet::new(),
            owed: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            unread: BTreeSet::new(),
        }
    }

    /// The pieces that this end told of.
    #[must_use]
    pub const fn told(&self) -> &Bitfield {
        &self.told
    }

    /// The pieces that the other end told of.
    #[must_use]
    pub const fn heard(&self) -> &Bitfield {
        &self.heard
    }

    /// True once the other end has said, or let know, what it has.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.begun
    }

    /// True if this end says that it wants something.
    #[must_use]
    pub const fn is_interested(&self) -> bool {
        self.interested
    }

    /// True if the other end wants something and is unchoked.
    #[must_use]
    pub const fn gives_slot(&self) -> bool {
        !self.choking && self.peer_interested
    }

    /// True if the other end wants something of this one.
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        self.peer_interested
    }

    /// True if a request of the other end has no answer.
    #[must_use]
    pub fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// A request of the other end that should have been rejected by now: cancelled, or of a piece that it may not ask for since
    /// it is choked (BEP 6, "reject request").
    #[must_use]
    pub fn overdue(&self) -> Option<BlockAddress> {
        let is_due = |address: &&BlockAddress| {
            let barred = self.choking && !self.granted.contains(&address.piece);
            barred || self.cancelled.contains(address)
        };
        let owed = self
            .owed
            .keys()
            .filter(|address| !self.unread.contains(address));
        owed.filter(|_| self.fast).find(is_due).copied()
    }

    /// What this end waits for though the other one took its piece back (BEP 54): it has to be asked of others.
    #[must_use]
    pub fn stale(&self) -> Option<BlockAddress> {
        let is_there = |address: &&BlockAddress| {
            let piece = self.layout.piece(address.piece);
            piece.is_some_and(|piece| self.heard.get(piece))
        };
        let stale = self.asked.iter().find(|address| !is_there(address));
        stale.or(self.forsaken.first()).copied()
    }

    /// A piece that this end told of, does not have any more, and has not taken back, though it was told how (BEP 54).
    #[must_use]
    pub fn kept_up(&self, have: &Bitfield) -> Option<PieceIndex> {
        let knows_how = self.dont_have_there.is_some();
        let mut lost = self.told.iter_minus(have).filter(|_| knows_how);
        lost.next()
    }

    /// A piece that this end has and the other one lacks, and was not told of.
    #[must_use]
    pub fn untold(&self, have: &Bitfield) -> Option<PieceIndex> {
        let mut lacking = have.iter_minus(&self.heard);
        lacking.find(|piece| !self.told.get(*piece))
    }

    /// How many requests of this end have no answer.
    #[must_use]
    pub fn asked_count(&self) -> usize {
        self.asked.len()
    }

    /// True if this end waits for the block.
    #[must_use]
    pub fn asks(&self, block: Block) -> bool {
        self.asked.contains(&BlockAddress::from(block))
    }

    /// This end sends a message, at a time when it has `have`.
    ///
    /// # Errors
    /// [`Breach`] if it must not.
    pub fn send(&mut self, message: &Message, have: &Bitfield) -> Result<(), Breach> {
        if matches!(message, Message::KeepAlive) {
            return Ok(());
        }
        let first = !core::mem::replace(&mut self.sent_any, true);
        let opening = matches!(
            message,
            Message::Bitfield(_) | Message::HaveAll | Message::HaveNone
        );
        demand!(first || !opening, "{message:?} is not the first message");
        demand!(
            !first || opening || !self.fast,
            "{message:?} comes first (BEP 6)"
        );
        match message {
            Message::Bitfield(bytes) => {
                let told = Bitfield::from_bytes(bytes, self.layout.pieces_count());
                let told = told.map_err(|error| Breach(error.to_string()))?;
                demand!(!told.has_more_than(have), "told of more than is verified");
                self.told = told;
            }
            Message::HaveAll => {
                demand!(self.fast && have.is_full(), "have all without all");
                self.told = have.clone();
            }
            Message::Have { piece } => {
                let piece = self.layout.piece(*piece);
                let piece = piece.ok_or_else(|| Breach("have out of range".to_owned()))?;
                demand!(have.get(piece), "have {piece} before it is verified");
                demand!(self.told.set(piece), "have {piece} twice");
            }
            Message::Choke | Message::Unchoke => {
                let choking = matches!(message, Message::Choke);
                demand!(self.choking != choking, "{message:?} twice");
                self.choking = choking;
                self.chokes += u64::from(choking);
                self.granted_bytes = 0;
                if choking && !self.fast {
                    self.owed.clear();
                }
            }
            Message::Interested | Message::NotInterested => {
                let interested = matches!(message, Message::Interested);
                demand!(self.interested != interested, "{message:?} twice");
                self.interested = interested;
            }
            Message::Request(address) => self.request(*address)?,
            Message::Cancel(address) => {
                self.asked.remove(address);
                self.forsaken.remove(address);
            }
            Message::RejectRequest(address) => {
                demand!(self.fast, "reject without the fast extension");
                demand!(self.settle(*address), "reject of what was not asked");
                let owed = self.owed.len();
                demand!(owed <= OWED_MAX, "{owed} requests wait");
            }
            Message::Piece { .. } => demand!(false, "a block that was not ordered as an upload"),
            Message::AllowedFast { piece } => {
                demand!(self.fast, "{message:?} without the fast extension");
                self.granted.insert(*piece);
            }
            Message::HaveNone | Message::SuggestPiece { .. } => {
                demand!(self.fast, "{message:?} without the fast extension");
            }
            Message::Extended { id, payload } => self.extended(*id, payload, have)?,
            Message::KeepAlive | Message::Port(_) => {}
        }
        Ok(())
    }

    /// This end uploads a block, at a time when it has `have`.
    ///
    /// # Errors
    /// [`Breach`] if it was not asked for, or is not verified.
    pub fn upload(&mut self, block: Block, have: &Bitfield) -> Result<(), Breach> {
        demand!(have.get(block.piece), "{block:?} is uploaded unverified");
        // Who says that it has the piece needs no word of it.
        let told = self.told.get(block.piece) || self.heard.get(block.piece);
        demand!(told, "{block:?} is uploaded, and it was never told of");
        if self.choking {
            let granted = self.granted.contains(&block.piece.get());
            demand!(granted, "{block:?} goes to a choked peer");
            self.granted_bytes += u64::from(block.length);
            let most = ALLOWED_FAST_BYTES_MAX;
            demand!(self.granted_bytes <= most, "a choked peer gets too much");
            // What was not taken after one choke is not added after the next.
            self.granted_bytes_total += u64::from(block.length);
            let pieces = self.chokes * u64::from(self.layout.piece_length_max());
            let got = self.granted_bytes_total;
            demand!(
                got <= most + pieces,
                "chokes are worth more than a piece each"
            );
        }
        demand!(
            self.settle(BlockAddress::from(block)),
            "{block:?} was not asked for"
        );
        self.sent_any = true;
        Ok(())
    }

    /// A block that this end wanted to upload could not be read: its answer comes once the engine knows.
    pub fn failed_to_read(&mut self, block: Block) {
        self.unread.insert(BlockAddress::from(block));
    }

    /// This end, a super-seeder, sent all of the piece: it may take it that the other end has it, which need not say so.
    pub fn sent_whole(&mut self, piece: PieceIndex) {
        self.heard.set(piece);
    }

    /// This end hears a message. What the other end does wrong is its own monitor's affair.
    pub fn hear(&mut self, message: &Message) {
        self.begun |= !matches!(
            message,
            Message::KeepAlive
                | Message::Port(_)
                | Message::Extended { .. }
                | Message::AllowedFast { .. }
                | Message::SuggestPiece { .. }
        );
        match message {
            Message::Bitfield(bytes) => {
                // A later one adds to what was said before: nobody loses a piece by it.
                if let Ok(heard) = Bitfield::from_bytes(bytes, self.layout.pieces_count()) {
                    heard.iter().for_each(|piece| {
                        self.heard.set(piece);
                    });
                }
            }
            Message::HaveAll => self.heard = Bitfield::full(self.layout.pieces_count()),
            Message::Have { piece } => {
                if let Some(piece) = self.layout.piece(*piece) {
                    self.heard.set(piece);
                }
            }
            Message::Choke => {
                self.choked = true;
                if !self.fast {
                    self.asked.clear();
                    self.forsaken.clear();
                }
            }
            Message::Unchoke => self.choked = false,
            Message::Request(address) => {
                *self.owed.entry(*address).or_default() += 1;
            }
            Message::Cancel(address) => {
                // With the fast extension an answer is still due (BEP 6, "reject request").
                if !self.fast {
                    self.settle(*address);
                } else if self.owed.contains_key(address) {
                    self.cancelled.insert(*address);
                }
            }
            Message::Piece { piece, begin, data } => {
                let length = u32::try_from(data.len()).unwrap_or(0);
                let (piece, begin) = (*piece, *begin);
                self.asked.remove(&BlockAddress {
                    piece,
                    begin,
                    length,
                });
            }
            Message::RejectRequest(address) => {
                self.asked.remove(address);
            }
            Message::AllowedFast { piece } => {
                self.allowed.insert(*piece);
            }
            Message::Interested => self.peer_interested = true,
            Message::NotInterested => self.peer_interested = false,
            Message::Extended { id: 0, payload } => {
                self.dont_have_there = dont_have_id(payload).unwrap_or(self.dont_have_there);
            }
            Message::Extended { id, payload } if self.dont_have_here == Some(*id) => {
                self.hear_taken_back(payload);
            }
            Message::KeepAlive
            | Message::HaveNone
            | Message::SuggestPiece { .. }
            | Message::Port(_)
            | Message::Extended { .. } => {}
        }
    }

    fn extended(&mut self, id: u8, payload: &[u8], have: &Bitfield) -> Result<(), Breach> {
        if id == 0 {
            self.dont_have_here = dont_have_id(payload).unwrap_or(self.dont_have_here);
        } else if self.dont_have_there == Some(id) {
            self.take_back(payload, have)?;
        }
        Ok(())
    }

    /// This end takes a piece back (BEP 54). What was asked of it is answered before, or goes unanswered without BEP 6.
    fn take_back(&mut self, payload: &[u8], have: &Bitfield) -> Result<(), Breach> {
        let index = dont_have::decode(payload).map_err(|error| Breach(error.to_string()))?;
        let piece = self.layout.piece(index);
        let piece = piece.ok_or_else(|| Breach(format!("{index} taken back, which is none")))?;
        demand!(!have.get(piece), "{piece} is taken back, and is here");
        self.told.clear(piece);
        let waits = self.owed.keys().any(|address| address.piece == index);
        demand!(
            !self.fast || !waits,
            "{piece} is taken back, and was asked for"
        );
        self.owed.retain(|address, _| address.piece != index);
        Ok(())
    }

    fn hear_taken_back(&mut self, payload: &[u8]) {
        let index = dont_have::decode(payload);
        if let Some(piece) = index.ok().and_then(|index| self.layout.piece(index)) {
            self.heard.clear(piece);
            if !self.fast {
                // It will not be answered, and this end does well to say that it knows.
                let is_lost = |address: &BlockAddress| address.piece == piece.get();
                self.forsaken
                    .extend(self.asked.iter().copied().filter(is_lost));
                self.asked.retain(|address| !is_lost(address));
            }
        }
    }

    /// One request less to answer; false if there was none.
    fn settle(&mut self, address: BlockAddress) -> bool {
        let Some(times) = self.owed.get_mut(&address) else {
            return false;
        };
        *times -= 1;
        if *times == 0 {
            self.owed.remove(&address);
        }
        self.cancelled.remove(&address);
        self.unread.remove(&address);
        true
    }

    fn request(&mut self, address: BlockAddress) -> Result<(), Breach> {
        let block = self
            .layout
            .block(address.piece, address.begin, address.length);
        let block = block.ok_or_else(|| Breach(format!("{address:?} is no block")))?;
        let allowed = self.fast && self.allowed.contains(&address.piece);
        demand!(
            !self.choked || allowed,
            "{block:?} is asked for while choked"
        );
        demand!(self.interested, "{block:?} is asked for without interest");
        demand!(
            self.heard.get(block.piece),
            "{block:?} is asked of who lacks it"
        );
        demand!(self.asked.insert(address), "{block:?} is asked for twice");
        self.forsaken.remove(&address);
        let asked = self.asked.len();
        demand!(asked <= REQUESTS_MAX, "{asked} requests to one peer");
        Ok(())
    }
}

/// Under which id an extension handshake takes `lt_donthave`; nothing if it does not say.
fn dont_have_id(handshake: &[u8]) -> Option<Option<u8>> {
    let handshake = ExtensionHandshake::decode(handshake).ok()?;
    let id = handshake.extensions.get(dont_have::NAME)?;
    Some(Some(*id).filter(|id| *id != 0))
}

pub mod ledger;

#[cfg(test)]
mod tests;
