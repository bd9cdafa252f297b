//! The messages that peers exchange after the handshake (BEP 3 "peer messages", BEP 5, BEP 6, BEP 10), and their bytes.
//!
//! Each is `length u32 · id u8 · payload`, big-endian; the length counts id and payload. A keep-alive is length 0.

use bytes::{BufMut, Bytes, BytesMut};

/// The id byte of each message.
pub mod id {
    /// [`Choke`](super::Message::Choke).
    pub const CHOKE: u8 = 0;
    /// [`Unchoke`](super::Message::Unchoke).
    pub const UNCHOKE: u8 = 1;
    /// [`Interested`](super::Message::Interested).
    pub const INTERESTED: u8 = 2;
    /// [`NotInterested`](super::Message::NotInterested).
    pub const NOT_INTERESTED: u8 = 3;
    /// [`Have`](super::Message::Have).
    pub const HAVE: u8 = 4;
    /// [`Bitfield`](super::Message::Bitfield).
    pub const BITFIELD: u8 = 5;
    /// [`Request`](super::Message::Request).
    pub const REQUEST: u8 = 6;
    /// [`Piece`](super::Message::Piece).
    pub const PIECE: u8 = 7;
    /// [`Cancel`](super::Message::Cancel).
    pub const CANCEL: u8 = 8;
    /// [`Port`](super::Message::Port).
    pub const PORT: u8 = 9;
    /// [`SuggestPiece`](super::Message::SuggestPiece).
    pub const SUGGEST_PIECE: u8 = 13;
    /// [`HaveAll`](super::Message::HaveAll).
    pub const HAVE_ALL: u8 = 14;
    /// [`HaveNone`](super::Message::HaveNone).
    pub const HAVE_NONE: u8 = 15;
    /// [`RejectRequest`](super::Message::RejectRequest).
    pub const REJECT_REQUEST: u8 = 16;
    /// [`AllowedFast`](super::Message::AllowedFast).
    pub const ALLOWED_FAST: u8 = 17;
    /// [`Extended`](super::Message::Extended).
    pub const EXTENDED: u8 = 20;
}

/// Length of a `piece` message without its block, in bytes: `length u32 · 7 u8 · piece u32 · begin u32`.
pub const PIECE_HEADER_BYTES: usize = 13;

/// One message. Numbers are as the wire has them; `bt_core::Layout` turns them into checked types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Length 0, no id.
    KeepAlive,
    /// Id 0.
    Choke,
    /// Id 1.
    Unchoke,
    /// Id 2.
    Interested,
    /// Id 3.
    NotInterested,
    /// Id 4.
    Have {
        /// Piece index.
        piece: u32,
    },
    /// Id 5.
    Bitfield(
        /// High bit of the first byte is piece 0. Its length fits the torrent; spare bits are for
        /// `bt_core::Bitfield::from_bytes` to judge.
        Bytes,
    ),
    /// Id 6.
    Request(BlockAddress),
    /// Id 7.
    Piece {
        /// Piece index.
        piece: u32,
        /// Offset in the piece, in bytes.
        begin: u32,
        /// The block's bytes.
        data: Bytes,
    },
    /// Id 8.
    Cancel(BlockAddress),
    /// Id 9 (BEP 5).
    Port(u16),
    /// Id 13 (BEP 6).
    SuggestPiece {
        /// Piece index.
        piece: u32,
    },
    /// Id 14 (BEP 6).
    HaveAll,
    /// Id 15 (BEP 6).
    HaveNone,
    /// Id 16 (BEP 6).
    RejectRequest(BlockAddress),
    /// Id 17 (BEP 6).
    AllowedFast {
        /// Piece index.
        piece: u32,
    },
    /// Id 20 (BEP 10).
    Extended {
        /// 0 for the extension handshake, else the id that the receiver gave to the extension.
        id: u8,
        /// What follows.
        payload: Bytes,
    },
}

/// Which bytes a `request`, `cancel` or `reject` names, as the wire has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockAddress {
    /// Piece index.
    pub piece: u32,
    /// Offset in the piece, in bytes.
    pub begin: u32,
    /// Length in bytes.
    pub length: u32,
}

impl From<bt_core::Block> for BlockAddress {
    fn from(block: bt_core::Block) -> Self {
        Self {
            piece: block.piece.get(),
            begin: block.begin,
            length: block.length,
        }
    }
}

impl BlockAddress {
    fn to_bytes(self) -> [u8; 12] {
        let [p0, p1, p2, p3] = self.piece.to_be_bytes();
        let [b0, b1, b2, b3] = self.begin.to_be_bytes();
        let [l0, l1, l2, l3] = self.length.to_be_bytes();
        [p0, p1, p2, p3, b0, b1, b2, b3, l0, l1, l2, l3]
    }
}

/// All of a `piece` message but its block, for a block that is written from where it lies.
#[must_use]
pub fn piece_header(piece: u32, begin: u32, length_bytes: u32) -> [u8; PIECE_HEADER_BYTES] {
    let [l0, l1, l2, l3] = (9 + length_bytes).to_be_bytes();
    let [p0, p1, p2, p3] = piece.to_be_bytes();
    let [b0, b1, b2, b3] = begin.to_be_bytes();
    [l0, l1, l2, l3, id::PIECE, p0, p1, p2, p3, b0, b1, b2, b3]
}

impl Message {
    /// True if the message belongs to the fast extension, and so may pass only between peers that both speak it.
    #[must_use]
    pub const fn is_fast_extension(&self) -> bool {
        matches!(
            self,
            Self::SuggestPiece { .. }
                | Self::HaveAll
                | Self::HaveNone
                | Self::RejectRequest(_)
                | Self::AllowedFast { .. }
        )
    }

    /// Appends the whole message.
    ///
    /// # Panics
    /// If its payload is longer than 4 GiB.
    pub fn encode_into(&self, out: &mut BytesMut) {
        let payload = self.encode_head_into(out);
        out.extend_from_slice(payload);
    }

    /// Appends the message but for its payload, which it returns: the bytes that belong directly behind.
    ///
    /// So a block, or a long bitfield, can be written from where it lies. Empty for all messages without such a part.
    ///
    /// # Panics
    /// If the payload is longer than 4 GiB.
    pub fn encode_head_into<'a>(&'a self, out: &mut BytesMut) -> &'a [u8] {
        let mut head = |id: u8, fields: &[u8], payload: &'a [u8]| {
            let length_bytes = u32::try_from(1 + fields.len() + payload.len())
                .expect("no message comes near 4 GiB");
            out.put_u32(length_bytes);
            out.put_u8(id);
            out.put_slice(fields);
            payload
        };
        match self {
            Self::KeepAlive => {
                out.put_u32(0);
                &[]
            }
            Self::Choke => head(id::CHOKE, &[], &[]),
            Self::Unchoke => head(id::UNCHOKE, &[], &[]),
            Self::Interested => head(id::INTERESTED, &[], &[]),
            Self::NotInterested => head(id::NOT_INTERESTED, &[], &[]),
            Self::Have { piece } => head(id::HAVE, &piece.to_be_bytes(), &[]),
            Self::Bitfield(bits) => head(id::BITFIELD, &[], bits),
            Self::Request(block) => head(id::REQUEST, &block.to_bytes(), &[]),
            Self::Piece { piece, begin, data } => {
                let fields = (u64::from(*piece) << 32) | u64::from(*begin);
                head(id::PIECE, &fields.to_be_bytes(), data)
            }
            Self::Cancel(block) => head(id::CANCEL, &block.to_bytes(), &[]),
            Self::Port(port) => head(id::PORT, &port.to_be_bytes(), &[]),
            Self::SuggestPiece { piece } => head(id::SUGGEST_PIECE, &piece.to_be_bytes(), &[]),
            Self::HaveAll => head(id::HAVE_ALL, &[], &[]),
            Self::HaveNone => head(id::HAVE_NONE, &[], &[]),
            Self::RejectRequest(block) => head(id::REJECT_REQUEST, &block.to_bytes(), &[]),
            Self::AllowedFast { piece } => head(id::ALLOWED_FAST, &piece.to_be_bytes(), &[]),
            Self::Extended { id, payload } => head(id::EXTENDED, &[*id], payload),
        }
    }
}
