//! A set of pieces, one bit each.
//!
//! On the wire the high bit of the first byte is piece 0 and spare bits at the end are zero (BEP 3, "bitfield").

use crate::piece::PieceIndex;

/// Which pieces of a torrent someone has. Its length is fixed when it is made.
///
/// **Invariant:** spare bits of the last word are zero, so that counting needs no mask.
#[derive(Debug)]
pub struct Bitfield {
    /// Piece 0 is the highest bit of the first word. Empty only if all bits are alike, which `ones` then tells: a seeder of ten
    /// thousand torrents has several sets of each, all of them full or empty. A set that became so keeps its words.
    words: Box<[u64]>,
    pieces_count: u32,
    ones: u32,
}

/// Why the bytes of a `bitfield` message are no bitfield for this torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BitfieldError {
    /// Too short or too long for the torrent's pieces.
    Length {
        /// How many bytes came.
        length_bytes: usize,
        /// How many the torrent needs.
        expected_bytes: usize,
    },
    /// A bit behind the last piece is set.
    SpareBitsSet,
}

impl core::fmt::Display for BitfieldError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Length {
                length_bytes,
                expected_bytes,
            } => {
                write!(
                    f,
                    "bitfield of {length_bytes} bytes where {expected_bytes} are needed"
                )
            }
            Self::SpareBitsSet => write!(f, "bitfield with spare bits set"),
        }
    }
}

impl core::error::Error for BitfieldError {}

const HIGHEST: u64 = 1 << 63;

const fn place(piece: PieceIndex) -> (usize, u64) {
    (piece.index() / 64, HIGHEST >> (piece.get() % 64))
}

impl Clone for Bitfield {
    fn clone(&self) -> Self {
        let is_uniform = self.is_empty() || self.is_full();
        let words = if is_uniform { &[] } else { &*self.words };
        Self {
            words: words.into(),
            ..*self
        }
    }
}

impl PartialEq for Bitfield {
    fn eq(&self, other: &Self) -> bool {
        (self.pieces_count, self.ones) == (other.pieces_count, other.ones)
            && (self.is_empty() || self.is_full() || self.words == other.words)
    }
}

impl Eq for Bitfield {}

impl Bitfield {
    /// The empty set.
    #[must_use]
    pub fn new(pieces_count: u32) -> Self {
        Self {
            words: Box::default(),
            pieces_count,
            ones: 0,
        }
    }

    /// The set of all pieces.
    #[must_use]
    pub fn full(pieces_count: u32) -> Self {
        Self {
            ones: pieces_count,
            ..Self::new(pieces_count)
        }
    }

    /// The set that a `bitfield` message carries.
    ///
    /// # Errors
    /// [`BitfieldError`] if the length is not exactly that of `pieces_count` bits, or a spare bit is set.
    pub fn from_bytes(bytes: &[u8], pieces_count: u32) -> Result<Self, BitfieldError> {
        let expected_bytes = pieces_count.div_ceil(8) as usize;
        if bytes.len() != expected_bytes {
            return Err(BitfieldError::Length {
                length_bytes: bytes.len(),
                expected_bytes,
            });
        }
        let spare = pieces_count.div_ceil(8) * 8 - pieces_count;
        if bytes
            .last()
            .is_some_and(|last| last.trailing_zeros() < spare && *last != 0)
        {
            return Err(BitfieldError::SpareBitsSet);
        }
        let words: Box<[u64]> = bytes
            .chunks(8)
            .map(|chunk| {
                let mut word = [0; 8];
                word.iter_mut()
                    .zip(chunk)
                    .for_each(|(to, from)| *to = *from);
                u64::from_be_bytes(word)
            })
            .collect();
        let ones = words.iter().map(|word| word.count_ones()).sum();
        Ok(Self {
            words,
            pieces_count,
            ones,
        })
    }

    /// The bytes of a `bitfield` message.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words().flat_map(u64::to_be_bytes).collect();
        bytes.truncate(self.pieces_count.div_ceil(8) as usize);
        bytes
    }

    /// How many pieces the torrent has.
    #[must_use]
    pub const fn pieces_count(&self) -> u32 {
        self.pieces_count
    }

    /// How many pieces are in the set.
    #[must_use]
    pub const fn count_ones(&self) -> u32 {
        self.ones
    }

    /// True if every piece is in the set.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.ones == self.pieces_count
    }

    /// True if no piece is in the set.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ones == 0
    }

    /// True if the piece is in the set.
    #[must_use]
    pub fn get(&self, piece: PieceIndex) -> bool {
        let (word, bit) = place(piece);
        match self.words.get(word) {
            Some(word) => word & bit != 0,
            None => !self.is_empty() && piece.get() < self.pieces_count,
        }
    }

    /// Puts the piece into the set; true if it was not there before.
    ///
    /// # Panics
    /// If the piece belongs to a longer torrent than this set.
    pub fn set(&mut self, piece: PieceIndex) -> bool {
        assert!(
            piece.get() < self.pieces_count,
            "piece {piece} of {}",
            self.pieces_count
        );
        let changed = !self.get(piece);
        if changed {
            self.flip(piece);
            self.ones += 1;
        }
        changed
    }

    /// Takes the piece out of the set; true if it was there before.
    pub fn clear(&mut self, piece: PieceIndex) -> bool {
        let changed = self.get(piece);
        if changed {
            self.flip(piece);
            self.ones -= 1;
        }
        changed
    }

    /// The pieces of the set in order.
    pub fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        ones(self.words())
    }

    /// The pieces of this set that are not in `other`, in order.
    pub fn iter_minus<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = PieceIndex> + 'a {
        ones(
            self.words()
                .zip(other.words())
                .map(|(mine, theirs)| mine & !theirs),
        )
    }

    /// True if this set has a piece that is not in `other`.
    #[must_use]
    pub fn has_more_than(&self, other: &Self) -> bool {
        if self.is_empty() || other.is_full() {
            return false;
        }
        self.words()
            .zip(other.words())
            .any(|(mine, theirs)| mine & !theirs != 0)
    }

    /// All words, whether they are there or not.
    fn words(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.words_count()).map(|index| match self.words.get(index as usize) {
            Some(word) => *word,
            None => self.uniform(index),
        })
    }

    fn flip(&mut self, piece: PieceIndex) {
        if self.words.is_empty() {
            self.words = self.words().collect();
        }
        let (word, bit) = place(piece);
        if let Some(word) = self.words.get_mut(word) {
            *word ^= bit;
        }
    }

    /// A word of a set that is empty or full.
    const fn uniform(&self, index: u32) -> u64 {
        if self.is_empty() {
            return 0;
        }
        match self.pieces_count - index * 64 {
            bits @ 1..64 => !(u64::MAX >> bits),
            _ => u64::MAX,
        }
    }

    const fn words_count(&self) -> u32 {
        self.pieces_count.div_ceil(64)
    }
}

fn ones(words: impl Iterator<Item = u64>) -> impl Iterator<Item = PieceIndex> {
    (0_u32..)
        .step_by(64)
        .zip(words)
        .flat_map(|(first, mut word)| {
            core::iter::from_fn(move || {
                (word != 0).then(|| {
                    let bit = word.leading_zeros();
                    word &= !(HIGHEST >> bit);
                    PieceIndex::new(first + bit)
                })
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layout;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn bytes_from_the_wire() {
        // BEP 3: "The first byte of the bitfield corresponds to indices 0 - 7 from high bit to low bit".
        let rows: [(&[u8], u32, Result<u32, BitfieldError>); 10] = [
            (&[0b1000_0000], 1, Ok(1)),
            (&[0b0100_0000], 1, Err(BitfieldError::SpareBitsSet)),
            (&[0b0000_0001], 7, Err(BitfieldError::SpareBitsSet)),
            (&[0b0000_0001], 8, Ok(1)),
            (&[0b1111_1110], 7, Ok(7)),
            (&[], 0, Ok(0)),
            (
                &[0],
                0,
                Err(BitfieldError::Length {
                    length_bytes: 1,
                    expected_bytes: 0,
                }),
            ),
            (
                &[],
                1,
                Err(BitfieldError::Length {
                    length_bytes: 0,
                    expected_bytes: 1,
                }),
            ),
            (&[0xff, 0xff, 0x80], 17, Ok(17)),
            (&[0xff, 0xff, 0xc0], 17, Err(BitfieldError::SpareBitsSet)),
        ];
        for (bytes, pieces_count, expected) in rows {
            let got = Bitfield::from_bytes(bytes, pieces_count);
            assert_eq!(
                got.as_ref().map(Bitfield::count_ones),
                expected.as_ref().copied(),
                "{bytes:?}"
            );
            if let Ok(set) = got {
                assert_eq!(set.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn full_equals_every_bit_set() {
        for pieces_count in [0, 1, 7, 8, 63, 64, 65, 128, 1_000] {
            let layout = Layout::new(u64::from(pieces_count), 1).unwrap();
            let mut set = Bitfield::new(pieces_count);
            layout.pieces().for_each(|piece| assert!(set.set(piece)));
            let full = Bitfield::full(pieces_count);
            assert_eq!(set, full);
            assert!(set.is_full() && set.iter().eq(full.iter()));
            assert_eq!(set.to_bytes(), full.to_bytes());
            layout.pieces().for_each(|piece| assert!(set.clear(piece)));
            assert_eq!(set, Bitfield::new(pieces_count));
        }
    }

    #[test]
    fn what_is_all_alike_takes_no_room_and_forgets_nothing() {
        let layout = Layout::new(100, 1).unwrap();
        let (first, last) = (layout.piece(0).unwrap(), layout.piece(99).unwrap());
        for mut set in [Bitfield::new(100), Bitfield::full(100)] {
            let whole = set.is_full();
            assert_eq!((set.get(first), set.get(last)), (whole, whole));
            assert!(!set.get(PieceIndex::new(100)));
            let turn = if whole {
                Bitfield::clear
            } else {
                Bitfield::set
            };
            let back = if whole {
                Bitfield::set
            } else {
                Bitfield::clear
            };
            assert!(!back(&mut set, last) && set.words.is_empty());
            assert!(turn(&mut set, last) && !set.words.is_empty());
            assert_eq!((set.get(first), set.get(last)), (whole, !whole));
            assert_eq!(set.clone(), set);
            assert!(back(&mut set, last));
            assert_eq!((set.get(last), set.clone().words.is_empty()), (whole, true));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(pieces_count in 1_u32..300, toggles in prop::collection::vec((any::<u32>(), any::<bool>()), 0..200)) {
            let layout = Layout::new(u64::from(pieces_count), 1).unwrap();
            let (mut set, mut model) = (Bitfield::new(pieces_count), BTreeSet::new());
            for (index, insert) in toggles {
                let piece = layout.piece(index % pieces_count).unwrap();
                if insert {
                    prop_assert_eq!(set.set(piece), model.insert(piece));
                } else {
                    prop_assert_eq!(set.clear(piece), model.remove(&piece));
                }
            }
            prop_assert_eq!(set.count_ones() as usize, model.len());
            prop_assert!(set.iter().eq(model.iter().copied()));
            prop_assert_eq!(&Bitfield::from_bytes(&set.to_bytes(), pieces_count).unwrap(), &set);
            let missing: Vec<_> = layout.pieces().filter(|piece| !model.contains(piece)).collect();
            let full = Bitfield::full(pieces_count);
            prop_assert!(full.iter_minus(&set).eq(missing.iter().copied()));
            prop_assert_eq!(full.has_more_than(&set), !missing.is_empty());
            prop_assert!(!set.has_more_than(&full));
            prop_assert_eq!(set.clone(), set);
        }
    }
}
