//! The messages that peers exchange after the handshake (BEP 3 "peer messages", BEP 6, BEP 10).

use bytes::Bytes;

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
        /// High bit of the first byte is piece 0.
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
