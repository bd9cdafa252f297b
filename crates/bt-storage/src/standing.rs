//! What stands in the place of a torrent's files before anything is downloaded: whether it may be written over.
//!
//! **Invariant:** a file counts as strange if bytes of it would be lost and nothing shows that it is a copy of the
//! torrent's: where a piece was hashed and is wrong, where it reaches behind the torrent's end of it, or where it has
//! bytes and not one piece that is right. What was never written (a hole) is nobody's loss.

use crate::map::{FileIndex, FileSpan};
use crate::storage::FileStat;
use crate::store::TorrentStore;
use bt_core::disk::DiskError;
use bt_core::{Bitfield, PieceIndex};
use std::collections::BTreeMap;
use std::path::Path;

/// The files that have something in them, with their lengths in bytes. Padding is none of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing(BTreeMap<FileIndex, u64>);

impl Standing {
    /// Of what is known of each file.
    pub(crate) fn of(store: &TorrentStore, stats: &[Result<Option<FileStat>, DiskError>]) -> Self {
        let found = stats.iter().enumerate().filter_map(|(index, stat)| {
            let file = FileIndex(index);
            let length = stat.as_ref().ok().copied().flatten()?.length;
            (length > 0 && !store.files.is_pad(file)).then_some((file, length))
        });
        Self(found.collect())
    }

    /// How much of the span is there.
    fn reach(&self, span: FileSpan) -> u64 {
        let length = self.0.get(&span.file).copied().unwrap_or(0);
        length.saturating_sub(span.offset).min(span.length)
    }
}

impl TorrentStore {
    /// What stands where the torrent's files belong.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing::of(self, &self.files.look())
    }

    /// The files that would lose bytes if the missing pieces of `wanted` were written, and do not look like copies.
    ///
    /// `have` are the pieces that are right, all others having been looked at.
    #[must_use]
    pub fn strange(
        &self,
        standing: &Standing,
        wanted: &Bitfield,
        have: &Bitfield,
    ) -> Vec<FileIndex> {
        let is_strange = |file: &FileIndex| self.is_strange(*file, standing, wanted, have);
        let strange = standing.0.keys().copied().filter(is_strange).collect();
        // Whoever looks for holes opens the file as for a check.
        self.files.storage.close_once();
        strange
    }

    /// Cuts the files of wanted pieces that are longer than they should be, and says which.
    ///
    /// # Errors
    /// If one cannot be cut.
    pub fn cut(&self, standing: &Standing, wanted: &Bitfield) -> Result<Vec<FileIndex>, DiskError> {
        let mut cut = Vec::new();
        for file in standing.0.keys() {
            if self.is_too_long(*file, standing) && self.is_wanted(*file, wanted) {
                self.files.cut(*file)?;
                cut.push(*file);
            }
        }
        Ok(cut)
    }

    /// Where the file belongs, relative to the download folder.
    #[must_use]
    pub fn path(&self, file: FileIndex) -> &Path {
        let spec = self.map().file(file);
        spec.map_or(Path::new(""), |spec| spec.path.as_path())
    }

    fn is_strange(
        &self,
        file: FileIndex,
        standing: &Standing,
        wanted: &Bitfield,
        have: &Bitfield,
    ) -> bool {
        if self.is_too_long(file, standing) {
            return self.is_wanted(file, wanted);
        }
        let (mut has_good, mut has_unknown) = (false, false);
        for piece in self.pieces_of(file) {
            has_good |= have.get(piece);
            if have.get(piece) || !wanted.get(piece) || self.is_empty_here(piece, file, standing) {
                continue;
            }
            if self.is_all_there(piece, standing) {
                return true;
            }
            has_unknown = true;
        }
        has_unknown && !has_good
    }

    fn is_too_long(&self, file: FileIndex, standing: &Standing) -> bool {
        let length = self.map().file(file).map_or(0, |spec| spec.length);
        standing.0.get(&file).is_some_and(|found| *found > length)
    }

    /// True if the torrent makes or changes the file: one of its pieces is wanted, or it has none.
    fn is_wanted(&self, file: FileIndex, wanted: &Bitfield) -> bool {
        let mut pieces = self.pieces_of(file).peekable();
        pieces.peek().is_none() || pieces.any(|piece| wanted.get(piece))
    }

    /// True if every byte of the piece can be read, so that its hash says something.
    fn is_all_there(&self, piece: PieceIndex, standing: &Standing) -> bool {
        self.map()
            .piece_spans(piece)
            .all(|span| self.files.is_pad(span.file) || standing.reach(span) == span.length)
    }

    /// True if the piece's part of the file holds nothing that was ever written.
    fn is_empty_here(&self, piece: PieceIndex, file: FileIndex, standing: &Standing) -> bool {
        let mut spans = self
            .map()
            .piece_spans(piece)
            .filter(|span| span.file == file);
        spans.all(|span| {
            let there = standing.reach(span);
            there == 0 || self.files.storage.is_hole(file, span.offset, there)
        })
    }

    fn pieces_of(&self, file: FileIndex) -> impl Iterator<Item = PieceIndex> + use<> {
        let layout = self.map().layout();
        let pieces = self.map().file_pieces(file);
        pieces.filter_map(move |piece| layout.piece(piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStorage;
    use crate::testing::Torrent;
    use crate::verify::Control;
    use std::sync::Arc;

    /// Pieces of 10 over files of 25, 3, 12, 0 and 10 bytes: 0 1 2(files 0 1 2) 3(file 2) 4.
    fn check(harm: impl Fn(&Torrent, &MemoryStorage), wanted: &[u32], expected: &[usize]) {
        let torrent = Torrent::new(&[25, 3, 12, 0, 10], 10);
        let disk = Arc::new(MemoryStorage::new());
        harm(&torrent, &disk);
        let store = torrent.store(Arc::clone(&disk));
        let have = store.verify_all(Control::default()).unwrap().good;
        let mut set = Bitfield::new(5);
        for piece in wanted {
            set.set(torrent.layout().piece(*piece).unwrap());
        }
        let standing = store.standing();
        let strange = store.strange(&standing, &set, &have);
        let expected: Vec<FileIndex> = expected.iter().copied().map(FileIndex).collect();
        assert_eq!(strange, expected);
    }

    const ALL: &[u32] = &[0, 1, 2, 3, 4];

    #[test]
    fn what_would_be_lost_is_told_from_what_is_a_copy() {
        let put =
            |disk: &MemoryStorage, file, bytes: &[u8]| disk.put(FileIndex(file), bytes.to_vec());
        check(|_, _| {}, ALL, &[]);
        check(|torrent, disk| torrent.fill(disk), ALL, &[]);
        // Another file of the same length, and of another one.
        check(|_, disk| put(disk, 0, &[7; 25]), ALL, &[0]);
        check(|_, disk| put(disk, 0, &[7; 5]), ALL, &[0]);
        // Only where nobody writes is it left alone.
        check(|_, disk| put(disk, 0, &[7; 25]), &[3, 4], &[]);
        check(|_, disk| put(disk, 0, &[7; 25]), &[2], &[0]);
        // The beginning of the right one; and with a byte changed in a whole piece.
        check(
            |torrent, disk| put(disk, 0, &torrent.file_bytes(0)[..17]),
            ALL,
            &[],
        );
        let changed = |torrent: &Torrent, disk: &MemoryStorage| {
            torrent.fill(disk);
            let mut bytes = torrent.file_bytes(0).to_vec();
            bytes[3] ^= 1;
            put(disk, 0, &bytes);
        };
        check(changed, ALL, &[0]);
        // A small file whose neighbours are missing cannot be known.
        check(|_, disk| put(disk, 1, b"abc"), ALL, &[1]);
        // With its neighbours a wrong piece puts all of them in doubt.
        let small = |torrent: &Torrent, disk: &MemoryStorage| {
            torrent.fill(disk);
            put(disk, 1, b"abc");
        };
        check(small, ALL, &[0, 1, 2]);
        // Longer than it should be, though all right in front.
        let long = |torrent: &Torrent, disk: &MemoryStorage| {
            torrent.fill(disk);
            put(disk, 3, b"not empty");
            put(disk, 4, &[torrent.file_bytes(4), b"more"].concat());
        };
        check(long, ALL, &[3, 4]);
        check(long, &[0], &[3]);
    }

    #[test]
    fn what_is_too_long_is_cut_where_it_is_wanted() {
        let torrent = Torrent::new(&[10, 10], 10);
        for wanted in [true, false] {
            let disk = Arc::new(MemoryStorage::new());
            for file in 0..2 {
                let bytes = [torrent.file_bytes(file), b"more"].concat();
                disk.put(FileIndex(file), bytes);
            }
            let store = torrent.store(Arc::clone(&disk));
            let mut set = Bitfield::new(2);
            set.set(torrent.layout().piece(0).unwrap());
            if wanted {
                set = Bitfield::full(2);
            }
            let cut = store.cut(&store.standing(), &set).unwrap();
            assert_eq!(cut.len(), if wanted { 2 } else { 1 });
            let second = disk.contents(FileIndex(1)).unwrap();
            assert_eq!(second.len(), if wanted { 10 } else { 14 });
            assert_eq!(disk.contents(FileIndex(0)).unwrap(), torrent.file_bytes(0));
        }
    }
}
