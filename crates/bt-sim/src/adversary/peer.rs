//! One connection of the stage: what the engine asked for on it, and what either side may say.

use crate::oracle::Monitor;
use bt_core::Layout;
use bt_wire::message::BlockAddress;
use bt_wire::{
    Decoder, ExtensionHandshake, Limits, Message, MetadataMessage, Reserved, dont_have, metadata,
};
use bytes::BytesMut;

/// Requests that a peer remembers to have been asked; more than the engine may have outstanding.
const ASKED_MAX: usize = 1_000;

/// The id under which the engine takes `lt_donthave`.
pub(super) const DONT_HAVE_ID: u8 = 3;

/// One connection as the shell has it.
pub(super) struct Peer {
    pub(super) monitor: Monitor,
    /// It speaks the fast extension (BEP 6).
    fast: bool,
    pub(super) decoder: Decoder,
    /// What came and is no whole message yet.
    pub(super) buffer: BytesMut,
    /// What the engine asked for and was not answered.
    pub(super) asked: Vec<BlockAddress>,
    /// Pieces of the info dictionary that it asked for likewise.
    pub(super) asked_metadata: Vec<u32>,
    /// The id under which the engine takes `ut_metadata`.
    pub(super) metadata_id: u8,
}

impl Peer {
    pub(super) fn new(layout: Layout, limits: Limits, reserved: Reserved) -> Self {
        Self {
            monitor: Monitor::new(layout, reserved.has_fast()),
            fast: reserved.has_fast(),
            decoder: Decoder::new(limits),
            buffer: BytesMut::new(),
            asked: Vec::new(),
            asked_metadata: Vec::new(),
            metadata_id: 0,
        }
    }

    /// The engine hears this of the peer.
    pub(super) fn heard(&mut self, message: &Message) {
        if let Message::Extended { id, payload } = message
            && *id == DONT_HAVE_ID
            && self.fast
            && let Ok(piece) = dont_have::decode(payload)
        {
            // It ought to refuse what was asked of the piece before it takes it back. The engine does not wait for that.
            for asked in self.asked.iter().filter(|asked| asked.piece == piece) {
                self.monitor.hear(&Message::RejectRequest(*asked));
            }
        }
        self.monitor.hear(message);
        if let Message::Piece { piece, begin, data } = message {
            let length = data.len();
            self.asked.retain(|asked| {
                (asked.piece, asked.begin, asked.length as usize) != (*piece, *begin, length)
            });
        } else if let Message::RejectRequest(address) = message {
            self.asked.retain(|asked| asked != address);
        }
    }

    /// The engine tells this to the peer.
    pub(super) fn told(&mut self, message: &Message) {
        if let Message::Request(address) = message {
            if self.asked.len() < ASKED_MAX {
                self.asked.push(*address);
            }
        } else if let Message::Extended { id: 0, payload } = message {
            let handshake = ExtensionHandshake::decode(payload);
            let handshake = handshake.expect("our own handshakes can be read");
            let id = handshake.extensions.get(metadata::NAME);
            self.metadata_id = id.copied().unwrap_or(0);
        } else if let Message::Extended { payload, .. } = message
            && let Ok(Some(MetadataMessage::Request { piece })) = MetadataMessage::decode(payload)
        {
            self.asked_metadata.push(piece);
        }
    }
}
