//! How long each message of one torrent may be.
//!
//! **Invariant:** no message that a peer of this torrent has reason to send is longer; whoever sends one is no client.

use bt_core::BLOCK_BYTES;
use bt_core::piece::PIECES_MAX;
use core::ops::RangeInclusive;

/// The longest `extended` message (BEP 10), id byte included, in bytes: 1 MiB.
///
/// The longest that honest clients send are 16 KiB of metadata and peer lists of a few KiB.
pub const EXTENDED_BYTES_MAX: u32 = 1024 * 1024;

/// The longest block that a `request` may ask for if it is to be answered, in bytes: 128 KiB.
///
/// Clients ask for [`BLOCK_BYTES`]; some old ones for up to this, which the community specification says to serve. The
/// decoder lets longer ones pass, since a peer with the fast extension is owed a `reject`.
pub const REQUEST_BYTES_MAX: u32 = 128 * 1024;

/// The limits of a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    bitfield_bytes_min: u32,
    bitfield_bytes_max: u32,
}

impl Limits {
    /// The limits of a torrent with so many pieces.
    #[must_use]
    pub const fn for_torrent(pieces_count: u32) -> Self {
        let bitfield_bytes = pieces_count.div_ceil(8);
        Self {
            bitfield_bytes_min: bitfield_bytes,
            bitfield_bytes_max: bitfield_bytes,
        }
    }

    /// The limits of a torrent of which only the info hash is known (BEP 9): a bitfield of any torrent passes, and is for
    /// the reader to judge later.
    #[must_use]
    pub const fn for_unknown() -> Self {
        Self {
            bitfield_bytes_min: 0,
            bitfield_bytes_max: PIECES_MAX.div_ceil(8),
        }
    }

    /// The longest frame of any id, without its length prefix, in bytes.
    #[must_use]
    pub const fn frame_bytes_max(&self) -> u32 {
        let bitfield = 1 + self.bitfield_bytes_max;
        let piece = 1 + 8 + BLOCK_BYTES;
        let extended = 1 + EXTENDED_BYTES_MAX;
        let longest = if bitfield > piece { bitfield } else { piece };
        if longest > extended {
            longest
        } else {
            extended
        }
    }

    /// How long a `bitfield` message's payload may be, in bytes: a shorter or longer one is not of this torrent.
    #[must_use]
    pub const fn bitfield_bytes(&self) -> RangeInclusive<u32> {
        self.bitfield_bytes_min..=self.bitfield_bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_frame_is_that_of_the_longest_message() {
        let rows = [(0, 0), (1, 1), (8, 1), (9, 2), (PIECES_MAX, 256 * 1024)];
        for (pieces_count, bitfield_bytes) in rows {
            let limits = Limits::for_torrent(pieces_count);
            assert_eq!(limits.bitfield_bytes(), bitfield_bytes..=bitfield_bytes);
            assert_eq!(limits.frame_bytes_max(), 1 + 1024 * 1024);
        }
        let unknown = Limits::for_unknown();
        assert_eq!(unknown.bitfield_bytes(), 0..=256 * 1024);
        assert_eq!(unknown.frame_bytes_max(), 1 + 1024 * 1024);
    }
}
