//! Which bytes of a torrent lie in which file.
//!
//! **Invariant:** the lengths of the files add up to the layout's total length, so every byte of every piece lies in
//! exactly one file (BEP 3, "info dictionary": pieces run through the files in the order in which they are listed).

use bt_core::{Layout, PieceIndex};
use bt_metainfo::Info;
use std::ops::Range;
use std::path::PathBuf;

/// The number of a file of one torrent, counted from 0 in the order of the metainfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileIndex(pub usize);

/// One file as the storage needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSpec {
    /// Where it lies, relative to the download folder. Parts that are not plain names are refused when it is opened.
    pub path: PathBuf,
    /// Its length in bytes.
    pub length: u64,
    /// True for a padding file (BEP 47), which reads as zeros and is never on the disk, and for a symbolic link, which
    /// has no bytes.
    pub pad: bool,
}

/// A run of bytes inside one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSpan {
    /// The file.
    pub file: FileIndex,
    /// Where the run starts, in bytes from the file's start.
    pub offset: u64,
    /// Its length in bytes, at least 1.
    pub length: u64,
}

/// The files of a torrent laid end to end.
#[derive(Clone, Debug)]
pub struct FileMap {
    layout: Layout,
    files: Vec<FileSpec>,
    /// Where each file starts, in bytes from the torrent's start; never decreasing.
    offsets: Vec<u64>,
}

impl FileMap {
    /// The map of these files.
    ///
    /// # Panics
    /// If the lengths of the files do not add up to the layout's total length.
    #[must_use]
    pub fn new(layout: Layout, files: Vec<FileSpec>) -> Self {
        let mut end = 0_u64;
        let mut offsets = Vec::with_capacity(files.len());
        for file in &files {
            offsets.push(end);
            end = end.saturating_add(file.length);
        }
        let total = layout.total_length();
        assert!(end == total, "files of {end} bytes, a layout of {total}");
        Self {
            layout,
            files,
            offsets,
        }
    }

    /// How the bytes are cut into pieces.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// The files in order.
    #[must_use]
    pub fn files(&self) -> &[FileSpec] {
        &self.files
    }

    /// The file of that number, if there is one.
    #[must_use]
    pub fn file(&self, file: FileIndex) -> Option<&FileSpec> {
        self.files.get(file.0)
    }

    /// The runs that `length` bytes from `offset` of the torrent consist of, in order. Bytes behind the end have none.
    pub fn spans(&self, offset: u64, length: u64) -> impl Iterator<Item = FileSpan> + '_ {
        let end = offset.saturating_add(length);
        // Of the files that start at or before the offset the last one holds it; empty files there hold nothing.
        let first = self.offsets.partition_point(|start| *start <= offset);
        (first.saturating_sub(1)..self.files.len())
            .map_while(move |index| {
                let (start, spec) = self.offsets.get(index).zip(self.files.get(index))?;
                (*start < end).then_some((index, *start, spec.length))
            })
            .filter_map(move |(index, start, file_length)| {
                let from = offset.max(start);
                let length = end.min(start + file_length).checked_sub(from)?;
                (length > 0).then_some(FileSpan {
                    file: FileIndex(index),
                    offset: from - start,
                    length,
                })
            })
    }

    /// The runs that the piece consists of, in order.
    pub fn piece_spans(&self, piece: PieceIndex) -> impl Iterator<Item = FileSpan> + '_ {
        self.spans(
            self.layout.piece_offset(piece),
            u64::from(self.layout.piece_length(piece)),
        )
    }

    /// The numbers of the pieces with at least one byte in the file: empty for an empty file.
    #[must_use]
    pub fn file_pieces(&self, file: FileIndex) -> Range<u32> {
        let piece_of = |offset| self.layout.piece_at(offset).map(PieceIndex::get);
        self.offsets
            .get(file.0)
            .zip(self.file(file))
            .filter(|(_, spec)| spec.length > 0)
            .and_then(|(start, spec)| {
                let last = start + spec.length - 1;
                Some(piece_of(*start)?..piece_of(last)? + 1)
            })
            .unwrap_or(0..0)
    }
}

impl From<&Info> for FileMap {
    fn from(info: &Info) -> Self {
        let files = info.files().iter().map(|file| FileSpec {
            path: file.path.clone(),
            length: file.length,
            pad: !file.is_stored(),
        });
        Self::new(info.layout(), files.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(lengths: &[u64], piece_length: u32) -> FileMap {
        let layout = Layout::new(lengths.iter().sum(), piece_length).unwrap();
        let files = lengths.iter().enumerate().map(|(n, length)| FileSpec {
            path: format!("f{n}").into(),
            length: *length,
            pad: false,
        });
        FileMap::new(layout, files.collect())
    }

    #[test]
    fn spans_of_ranges() {
        // Files of 10, 0, 5, 0, 0, 7 bytes: (offset, length) of the torrent → (file, offset, length) of each run.
        let map = map(&[10, 0, 5, 0, 0, 7], 4);
        let rows: [(_, &[_]); 9] = [
            ((0, 10), &[(0, 0, 10)]),
            ((0, 22), &[(0, 0, 10), (2, 0, 5), (5, 0, 7)]),
            ((9, 2), &[(0, 9, 1), (2, 0, 1)]),
            ((10, 5), &[(2, 0, 5)]),
            ((14, 2), &[(2, 4, 1), (5, 0, 1)]),
            ((15, 1), &[(5, 0, 1)]),
            ((21, 1), &[(5, 6, 1)]),
            ((5, 0), &[]),
            ((22, 4), &[]),
        ];
        for ((offset, length), expected) in rows {
            let spans: Vec<_> = map
                .spans(offset, length)
                .map(|span| (span.file.0, span.offset, span.length))
                .collect();
            assert_eq!(spans, expected, "{offset}+{length}");
        }
    }

    #[test]
    fn pieces_of_files() {
        let map = map(&[10, 0, 5, 0, 0, 7], 4);
        let rows = [0..3, 0..0, 2..4, 0..0, 0..0, 3..6];
        for (file, expected) in rows.into_iter().enumerate() {
            assert_eq!(map.file_pieces(FileIndex(file)), expected, "file {file}");
        }
        assert_eq!(map.file_pieces(FileIndex(6)), 0..0);
    }

    #[test]
    #[should_panic(expected = "files of 9 bytes, a layout of 10")]
    fn files_must_fill_the_layout() {
        let layout = Layout::new(10, 4).unwrap();
        let files = vec![FileSpec {
            path: "f".into(),
            length: 9,
            pad: false,
        }];
        let _ = FileMap::new(layout, files);
    }

    #[test]
    fn padding_and_links_of_a_metainfo_file_are_never_on_the_disk() {
        let torrent = b"d4:infod5:filesl\
            d6:lengthi5e4:pathl1:aeed4:attr1:p6:lengthi3e4:pathl4:.pad1:3ee\
            d4:attr1:l6:lengthi0e4:pathl4:linke12:symlink pathl1:aee\
            d6:lengthi0e4:pathl5:emptyeee4:name1:n12:piece lengthi16384e\
            6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
        let metainfo = bt_metainfo::Metainfo::parse(torrent).unwrap();
        let map = FileMap::from(&metainfo.info);
        let pads: Vec<_> = map.files().iter().map(|file| file.pad).collect();
        assert_eq!(pads, [false, true, true, false]);
        assert_eq!(map.files()[0].path, PathBuf::from("n/a"));

        let temp = tempfile::tempdir().unwrap();
        let options = crate::OpenOptions::default();
        let store = crate::TorrentStore::open(&metainfo.info, temp.path(), &options).unwrap();
        assert_eq!(store.map().files(), map.files());
        let made = temp.path().join("n").read_dir().unwrap();
        let made: Vec<_> = made.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(made, ["empty"]);
    }

    proptest! {
        #[test]
        fn pieces_cover_every_byte_of_every_file_once(
            lengths in proptest::collection::vec(0_u64..50, 1..20),
            piece_length in 1_u32..40,
        ) {
            let map = map(&lengths, piece_length);
            let mut seen: Vec<u64> = vec![0; lengths.len()];
            for piece in map.layout().pieces() {
                for span in map.piece_spans(piece) {
                    prop_assert_eq!(span.offset, seen[span.file.0]);
                    seen[span.file.0] += span.length;
                    prop_assert!(map.file_pieces(span.file).contains(&piece.get()));
                }
            }
            prop_assert_eq!(seen, lengths);
        }
    }
}
