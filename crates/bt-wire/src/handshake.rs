//! The handshake that opens every connection (BEP 3, "peer protocol").

use bt_core::{InfoHash, PeerId};

/// Length of a handshake on the wire, in bytes.
pub const HANDSHAKE_BYTES: usize = 68;

/// `u8 19 · "BitTorrent protocol" · 8 reserved · 20 info hash · 20 peer id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// Which extensions the sender speaks.
    pub reserved: Reserved,
    /// Which torrent it wants.
    pub info_hash: InfoHash,
    /// Who it says it is.
    pub peer_id: PeerId,
}

/// The eight reserved bytes; bits are numbered as BEP 4 does it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved(pub [u8; 8]);
