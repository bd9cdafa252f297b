//! Piece arithmetic: how a torrent's bytes are cut into pieces and blocks.
//!
//! **Invariant:** a [`PieceIndex`] or [`Block`] exists only checked against a [`Layout`]: numbers from the wire pass
//! [`Layout::piece`] or [`Layout::block`] once, and no code behind that border asks again.

/// The length of every block but the last of a torrent, in bytes: what all clients ask for (BEP 3, "request").
pub const BLOCK_BYTES: u32 = 16 * 1024;

/// The longest piece that any program of this workspace accepts, in bytes: 512 MiB.
///
/// Real torrents end at 64 MiB or so; the limit keeps a hostile one from naming absurd buffers.
pub const PIECE_LENGTH_MAX: u32 = 512 * 1024 * 1024;

/// The most pieces a torrent may have: 2²¹, as libtorrent's `max_piece_count`. Bounds bitfields to 256 KiB.
pub const PIECES_MAX: u32 = 1 << 21;

/// The number of a piece of one torrent, counted from 0. Always in range of the layout that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(u32);

impl PieceIndex {
    /// The number as the wire has it.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number as an index into a slice with an entry per piece.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) const fn new(index: u32) -> Self {
        Self(index)
    }
}

impl core::fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A run of bytes inside one piece, in range of the layout that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    /// The piece it lies in.
    pub piece: PieceIndex,
    /// Offset of its first byte in the piece, in bytes.
    pub begin: u32,
    /// Its length in bytes, at least 1.
    pub length: u32,
}

impl Block {
    /// The offset just behind the last byte, in bytes from the piece's start.
    #[must_use]
    pub const fn end(self) -> u32 {
        self.begin + self.length
    }

    /// Which block of its piece this is, if blocks are [`BLOCK_BYTES`] long.
    #[must_use]
    pub const fn index(self) -> usize {
        (self.begin / BLOCK_BYTES) as usize
    }
}

/// Why a layout cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutError {
    /// The piece length is 0 or above [`PIECE_LENGTH_MAX`].
    PieceLength {
        /// The piece length that was asked for, in bytes.
        length_bytes: u32,
    },
    /// More than [`PIECES_MAX`] pieces.
    TooManyPieces {
        /// How many pieces there would be.
        pieces: u64,
    },
}

impl core::fmt::Display for LayoutError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::PieceLength { length_bytes } => {
                write!(
                    f,
                    "piece length {length_bytes} is not within 1..={PIECE_LENGTH_MAX}"
                )
            }
            Self::TooManyPieces { pieces } => write!(f, "{pieces} pieces, more than {PIECES_MAX}"),
        }
    }
}

impl core::error::Error for LayoutError {}

/// How `total_length` bytes are cut into pieces of `piece_length`, the last one shorter (BEP 3, "info dictionary").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    total_length: u64,
    piece_length: u32,
    pieces_count: u32,
}

impl Layout {
    /// The layout of a torrent. A `total_length` of 0 has no pieces.
    ///
    /// # Errors
    /// [`LayoutError`] if the piece length is out of range or there would be too many pieces.
    pub const fn new(total_length: u64, piece_length: u32) -> Result<Self, LayoutError> {
        if piece_length == 0 || piece_length > PIECE_LENGTH_MAX {
            return Err(LayoutError::PieceLength {
                length_bytes: piece_length,
            });
        }
        let pieces = total_length.div_ceil(piece_length as u64);
        if pieces > PIECES_MAX as u64 {
            return Err(LayoutError::TooManyPieces { pieces });
        }
        #[allow(
            clippy::cast_possible_truncation,
            reason = "checked against PIECES_MAX just above"
        )]
        let pieces_count = pieces as u32;
        Ok(Self {
            total_length,
            piece_length,
            pieces_count,
        })
    }

    /// All bytes of the torrent.
    #[must_use]
    pub const fn total_length(&self) -> u64 {
        self.total_length
    }

    /// The length of every piece but the last, in bytes.
    #[must_use]
    pub const fn piece_length_max(&self) -> u32 {
        self.piece_length
    }

    /// How many blocks of [`BLOCK_BYTES`] every piece but the last has.
    #[must_use]
    pub const fn blocks_count_max(&self) -> usize {
        self.piece_length.div_ceil(BLOCK_BYTES) as usize
    }

    /// How many pieces there are.
    #[must_use]
    pub const fn pieces_count(&self) -> u32 {
        self.pieces_count
    }

    /// All pieces in order.
    pub fn pieces(&self) -> impl DoubleEndedIterator<Item = PieceIndex> + use<> {
        (0..self.pieces_count).map(PieceIndex)
    }

    /// The piece of that number, if there is one.
    #[must_use]
    pub const fn piece(&self, index: u32) -> Option<PieceIndex> {
        if index < self.pieces_count {
            Some(PieceIndex(index))
        } else {
            None
        }
    }

    /// The piece that holds byte `offset` of the torrent, if it has that many bytes.
    #[must_use]
    pub fn piece_at(&self, offset: u64) -> Option<PieceIndex> {
        let index = offset / u64::from(self.piece_length);
        (offset < self.total_length)
            .then(|| u32::try_from(index).ok().map(PieceIndex))
            .flatten()
    }

    /// Where the piece starts, in bytes from the torrent's start.
    #[must_use]
    pub fn piece_offset(&self, piece: PieceIndex) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_length)
    }

    /// The piece's length in bytes.
    #[must_use]
    pub fn piece_length(&self, piece: PieceIndex) -> u32 {
        let left = self.total_length.saturating_sub(self.piece_offset(piece));
        u32::try_from(left)
            .unwrap_or(u32::MAX)
            .min(self.piece_length)
    }

    /// How many blocks of [`BLOCK_BYTES`] the piece has.
    #[must_use]
    pub fn blocks_count(&self, piece: PieceIndex) -> u32 {
        self.piece_length(piece).div_ceil(BLOCK_BYTES)
    }

    /// All blocks of the piece in order.
    pub fn blocks(&self, piece: PieceIndex) -> impl DoubleEndedIterator<Item = Block> + use<> {
        let piece_length = self.piece_length(piece);
        (0..self.blocks_count(piece)).map(move |index| {
            let begin = index * BLOCK_BYTES;
            Block {
                piece,
                begin,
                length: BLOCK_BYTES.min(piece_length - begin),
            }
        })
    }

    /// The block of that number in the piece, counted in [`BLOCK_BYTES`], if there is one.
    #[must_use]
    pub fn block_at(&self, piece: PieceIndex, index: u32) -> Option<Block> {
        let begin = index.checked_mul(BLOCK_BYTES)?;
        let left = self
            .piece_length(piece)
            .checked_sub(begin)
            .filter(|left| *left > 0)?;
        Some(Block {
            piece,
            begin,
            length: BLOCK_BYTES.min(left),
        })
    }

    /// The block that three numbers from the wire name, aligned or not, if it lies inside its piece and is not empty.
    #[must_use]
    pub fn block(&self, piece: u32, begin: u32, length: u32) -> Option<Block> {
        let piece = self.piece(piece)?;
        let end = begin.checked_add(length)?;
        (length > 0 && end <= self.piece_length(piece)).then_some(Block {
            piece,
            begin,
            length,
        })
    }

    /// True if the block is one that this layout's own downloader asks for: aligned, and as long as can be.
    #[must_use]
    pub fn is_aligned(&self, block: Block) -> bool {
        block.begin.is_multiple_of(BLOCK_BYTES)
            && block.length == BLOCK_BYTES.min(self.piece_length(block.piece) - block.begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layouts_that_cannot_be() {
        assert_eq!(
            Layout::new(1, 0),
            Err(LayoutError::PieceLength { length_bytes: 0 })
        );
        assert!(Layout::new(1, PIECE_LENGTH_MAX).is_ok());
        assert!(Layout::new(1, PIECE_LENGTH_MAX + 1).is_err());
        assert!(Layout::new(u64::from(PIECES_MAX), 1).is_ok());
        assert!(Layout::new(u64::from(PIECES_MAX) + 1, 1).is_err());
        assert!(Layout::new(u64::MAX, PIECE_LENGTH_MAX).is_err());
    }

    #[test]
    fn an_empty_torrent_has_no_pieces() {
        let layout = Layout::new(0, 16_384).unwrap();
        assert_eq!(layout.pieces_count(), 0);
        assert_eq!(layout.piece(0), None);
        assert_eq!(layout.piece_at(0), None);
        assert_eq!(layout.pieces().count(), 0);
    }

    #[test]
    fn an_exact_multiple_has_no_short_piece() {
        let layout = Layout::new(4 * 32_768, 32_768).unwrap();
        assert_eq!(layout.pieces_count(), 4);
        assert!(
            layout
                .pieces()
                .all(|piece| layout.piece_length(piece) == 32_768)
        );
    }

    #[test]
    fn blocks_from_the_wire() {
        // (piece, begin, length) of a torrent of 40 000 bytes in pieces of 32 768; BEP 3, "request".
        let layout = Layout::new(40_000, 32_768).unwrap();
        let rows = [
            ((0, 0, 16_384), true),
            ((0, 16_384, 16_384), true),
            ((0, 1, 32_767), true),
            ((0, 16_384, 16_385), false),
            ((0, 0, 0), false),
            ((0, 32_768, 1), false),
            ((1, 0, 7_232), true),
            ((1, 0, 7_233), false),
            ((1, 7_231, 1), true),
            ((2, 0, 1), false),
            ((0, u32::MAX, 2), false),
            ((0, 1, u32::MAX), false),
            ((u32::MAX, 0, 1), false),
        ];
        for ((piece, begin, length), valid) in rows {
            assert_eq!(
                layout.block(piece, begin, length).is_some(),
                valid,
                "{piece} {begin} {length}"
            );
        }
    }

    proptest! {
        #[test]
        fn blocks_cover_every_byte_once(total in 1_u64..2_000_000, piece_length in 1_u32..200_000) {
            let layout = Layout::new(total, piece_length).unwrap();
            let mut next = 0;
            for piece in layout.pieces() {
                prop_assert_eq!(layout.piece_offset(piece), next);
                for (index, block) in layout.blocks(piece).enumerate() {
                    let start = layout.piece_offset(piece) + u64::from(block.begin);
                    prop_assert_eq!(start, next);
                    prop_assert_eq!(layout.block(piece.get(), block.begin, block.length), Some(block));
                    prop_assert_eq!(layout.block_at(piece, u32::try_from(index).unwrap()), Some(block));
                    prop_assert!(layout.is_aligned(block) && block.index() == index);
                    prop_assert_eq!(layout.piece_at(start), Some(piece));
                    next += u64::from(block.length);
                }
                prop_assert_eq!(layout.block_at(piece, layout.blocks_count(piece)), None);
            }
            prop_assert_eq!(next, total);
            prop_assert_eq!(layout.piece_at(total), None);
        }
    }
}
