//! What a peer that means ill says: messages that are well formed, and bytes that were.

use super::Choices;
use super::peer::DONT_HAVE_ID;
use crate::payload::Payload;
use bt_core::{Bitfield, Block, Layout};
use bt_wire::message::BlockAddress;
use bt_wire::pex::PexPeer;
use bt_wire::{ExtensionHandshake, Message, MetadataMessage, PexMessage, dont_have, metadata, pex};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Numbers at which something changes.
const EDGES: [u32; 8] = [
    0,
    1,
    0x3fff,
    0x4000,
    0x4001,
    0x7fff_ffff,
    0x8000_0000,
    u32::MAX,
];

/// Damage is done to the first bytes of a message, which decide how it is read. More than any head has.
const HEAD_BYTES: usize = 24;

/// Ids under which messages of extensions are sent: the engine's own, and two that it gave to nothing.
const EXTENDED_IDS: u32 = 4;

/// Where the peers of all scripts are.
pub(super) fn address(choices: &mut Choices<'_>) -> SocketAddr {
    let host = u8::try_from(choices.below(10)).unwrap_or(0);
    let port = choices.one(&[6_881, 6_882, 1, 65_535]);
    if choices.chance(10) {
        let host = u16::from(host);
        return SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, host], port));
    }
    SocketAddr::from(([10, 0, 0, host], port))
}

/// What there is to speak of.
pub(super) struct Matter<'a> {
    pub(super) payload: &'a Payload,
    pub(super) info: &'a Bytes,
    /// What the engine asked this peer for.
    pub(super) asked: &'a [BlockAddress],
}

impl Matter<'_> {
    const fn layout(&self) -> Layout {
        self.payload.layout()
    }

    /// A message that is well formed.
    pub(super) fn message(&self, choices: &mut Choices<'_>) -> Message {
        let pieces_count = self.layout().pieces_count();
        let piece = |choices: &mut Choices<'_>| choices.below(pieces_count);
        match choices.below(24) {
            0 => Message::KeepAlive,
            1 => Message::Choke,
            2 | 3 => Message::Unchoke,
            4 => Message::Interested,
            5 => Message::NotInterested,
            6 | 7 => Message::Have {
                piece: piece(choices),
            },
            8 => self.bitfield(choices),
            9 | 10 => self.request(choices),
            11..=14 => self.answer(choices),
            15 => Message::Cancel(self.some_block(choices)),
            16 => Message::Port(6_881),
            17 => Message::SuggestPiece {
                piece: piece(choices),
            },
            18 => Message::HaveAll,
            19 => Message::HaveNone,
            20 => Message::RejectRequest(self.some_asked(choices)),
            21 => Message::AllowedFast {
                piece: piece(choices),
            },
            _ => self.extended(choices),
        }
    }

    /// Wants a block of the torrent, or what is none.
    pub(super) fn request(&self, choices: &mut Choices<'_>) -> Message {
        Message::Request(self.some_block(choices))
    }

    /// The block that was asked for, or another one, right or wrong.
    pub(super) fn answer(&self, choices: &mut Choices<'_>) -> Message {
        let address = self.some_asked(choices);
        let wrong = choices.chance(20);
        self.piece(address, wrong)
    }

    pub(super) fn piece(&self, address: BlockAddress, wrong: bool) -> Message {
        let BlockAddress {
            piece,
            begin,
            length,
        } = address;
        let block = self.layout().block(piece, begin, length);
        let on_grid = |block: &Block| {
            let index = u32::try_from(block.index()).unwrap_or(u32::MAX);
            self.layout().block_at(block.piece, index) == Some(*block)
        };
        let data = match block.filter(on_grid) {
            Some(block) if wrong => spoiled(&self.payload.block(block)),
            Some(block) => self.payload.block(block),
            None => Bytes::new(),
        };
        Message::Piece { piece, begin, data }
    }

    fn bitfield(&self, choices: &mut Choices<'_>) -> Message {
        let pieces_count = self.layout().pieces_count();
        if choices.chance(50) {
            return Message::Bitfield(Bitfield::full(pieces_count).to_bytes().into());
        }
        let mut has = Bitfield::new(pieces_count);
        for piece in self.layout().pieces() {
            if choices.chance(50) {
                has.set(piece);
            }
        }
        Message::Bitfield(has.to_bytes().into())
    }

    fn some_asked(&self, choices: &mut Choices<'_>) -> BlockAddress {
        let index = choices.index(self.asked.len());
        let asked = self.asked.get(index).copied();
        asked.unwrap_or_else(|| self.some_block(choices))
    }

    /// A block of the torrent, sometimes not of the grid.
    fn some_block(&self, choices: &mut Choices<'_>) -> BlockAddress {
        let layout = self.layout();
        let piece = layout.piece(choices.below(layout.pieces_count()));
        let block = piece.and_then(|piece| {
            let index = choices.below(layout.blocks_count(piece));
            layout.block_at(piece, index)
        });
        let mut address = block.map_or(
            BlockAddress {
                piece: 0,
                begin: 0,
                length: 1,
            },
            BlockAddress::from,
        );
        if choices.chance(10) {
            address.length = choices.one(&EDGES);
        }
        if choices.chance(5) {
            address.begin = choices.one(&EDGES);
        }
        address
    }

    fn extended(&self, choices: &mut Choices<'_>) -> Message {
        let id = u8::try_from(choices.below(EXTENDED_IDS)).unwrap_or(0);
        let payload = match choices.below(9) {
            0..=2 => return self.handshake(choices),
            3 => MetadataMessage::Request {
                piece: choices.below(4),
            }
            .encode(),
            4 | 5 => self.metadata(choices),
            6 => exchange(choices),
            7 => {
                let piece = choices.below(self.layout().pieces_count());
                let payload = dont_have::encode(piece);
                return Message::Extended {
                    id: DONT_HAVE_ID,
                    payload,
                };
            }
            _ => Bytes::copy_from_slice(choices.bytes(40)),
        };
        Message::Extended { id, payload }
    }

    fn handshake(&self, choices: &mut Choices<'_>) -> Message {
        let mut handshake = ExtensionHandshake {
            extensions: BTreeMap::new(),
            client: Some("adversary".to_owned()),
            listen_port: choices.chance(50).then_some(6_881),
            requests_max: choices.chance(50).then(|| choices.below(300)),
            metadata_bytes: None,
            your_ip: choices.chance(30).then(|| address(choices).ip()),
            upload_only: choices.chance(20).then(|| choices.chance(50)),
            ..ExtensionHandshake::default()
        };
        // An id of its own for each: who gives one id to two cannot tell what it is sent, and neither can an oracle.
        let names = [(metadata::NAME, 1), (pex::NAME, 2), (dont_have::NAME, 3)];
        for (name, own) in names {
            if choices.chance(70) {
                let id = choices.one(&[own, own, 10 + own, 0]);
                handshake.extensions.insert(name.to_owned(), id);
            }
        }
        if choices.chance(80) {
            let right = u32::try_from(self.info.len()).unwrap_or(0);
            let any = choices.one(&EDGES);
            handshake.metadata_bytes = Some(if choices.chance(80) { right } else { any });
        }
        let payload = Bytes::from(handshake.encode());
        Message::Extended { id: 0, payload }
    }

    fn metadata(&self, choices: &mut Choices<'_>) -> Bytes {
        let piece = choices.below(3);
        if choices.chance(15) {
            return MetadataMessage::Reject { piece }.encode();
        }
        let wrong = choices.chance(20);
        self.metadata_piece(piece, wrong).encode()
    }

    /// A piece of the info dictionary, as far as there is one.
    pub(super) fn metadata_piece(&self, piece: u32, wrong: bool) -> MetadataMessage {
        let length = self.info.len();
        let begin = (piece as usize * metadata::PIECE_BYTES as usize).min(length);
        let end = (begin + metadata::PIECE_BYTES as usize).min(length);
        let data = self.info.slice(begin..end);
        MetadataMessage::Data {
            piece,
            total_bytes: u32::try_from(length).ok(),
            data: if wrong { spoiled(&data) } else { data },
        }
    }
}

fn exchange(choices: &mut Choices<'_>) -> Bytes {
    let count = choices.below(6);
    let added = (0..count).map(|_| PexPeer {
        addr: address(choices),
        flags: 0,
    });
    let added = added.collect();
    let dropped = (0..choices.below(3)).map(|_| address(choices)).collect();
    PexMessage { added, dropped }.encode().into()
}

fn spoiled(data: &Bytes) -> Bytes {
    let mut data = data.to_vec();
    if let Some(first) = data.first_mut() {
        *first ^= 1;
    }
    data.into()
}

/// Does something to the bytes of a message. Most of it leaves the frame a frame, so that what is inside is read too.
pub(super) fn damage(choices: &mut Choices<'_>, bytes: &mut Vec<u8>) {
    let head = bytes.len().min(HEAD_BYTES);
    let anywhere = bytes.len();
    match choices.below(10) {
        0..=3 => flip(bytes, choices.index(head), choices),
        4 => flip(bytes, choices.index(anywhere), choices),
        5 | 6 => {
            let field = 5 + 4 * choices.index(3);
            let edge = choices.one(&EDGES).to_be_bytes();
            let field = bytes.iter_mut().skip(field);
            field.zip(edge).for_each(|(to, from)| *to = from);
        }
        7 => {
            // Another id on the same payload.
            if let Some(id) = bytes.get_mut(4) {
                *id = choices.byte() % 24;
            }
        }
        8 => bytes.truncate(choices.index(anywhere)),
        _ => {
            let at = choices.index(anywhere);
            let junk = choices.bytes(8).to_vec();
            bytes.splice(at..at, junk);
        }
    }
}

fn flip(bytes: &mut [u8], at: usize, choices: &mut Choices<'_>) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << choices.below(8);
    }
}
