use super::*;
use crate::file::Access;
use crate::hash::hash_files;
use crate::map::{FileMap, FileSpec};
use crate::memory::MemoryStorage;
use crate::store::{OpenOptions, TorrentStore};
use crate::testing::Torrent;
use crate::verify::Control;
use bt_core::Layout;
use std::path::{Path, PathBuf};

/// How many of the file's first bytes, in steps of 4 KiB, can be read without a disk; `None` if nobody can tell.
fn cached_bytes(path: &Path) -> Option<u64> {
    let file = File::open(path).unwrap();
    // Else to ask for a page would have the next ones read.
    fadvise(&file, 0, None, Advice::Random).unwrap();
    let mut page = [0; 4_096];
    let mut cached = 0;
    for offset in (0..file.metadata().unwrap().len()).step_by(page.len()) {
        match read_cached(&file, offset, &mut page) {
            Cached::All => cached += page.len() as u64,
            Cached::Not => {}
            Cached::Unknown => return None,
        }
    }
    Some(cached)
}

fn evict(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
}

/// Hashes the torrent in the folder to make it, and to check it.
fn ways(torrent: &Torrent, folder: &Path) -> [Box<dyn Fn()>; 2] {
    let absolute = |spec: &FileSpec| FileSpec {
        path: folder.join(&spec.path),
        ..spec.clone()
    };
    let sources: Vec<FileSpec> = torrent.map.files().iter().map(absolute).collect();
    let (hashes, map) = (torrent.hashes.clone(), torrent.map.clone());
    let piece_length = map.layout().piece_length_max();
    let expected = hashes.clone();
    let create = move || {
        let found = hash_files(&sources, piece_length, Control::default()).unwrap();
        assert_eq!(found, expected);
    };
    let options = OpenOptions {
        access: Access::ReadOnly,
        ..OpenOptions::default()
    };
    let store = TorrentStore::open_files(map, hashes, folder, &options).unwrap();
    let verify = move || {
        let found = store.verify_all(Control::default()).unwrap();
        assert!(found.good.is_full(), "{found:?}");
        assert_eq!(options.pool.open_count(), 0, "nothing stays open");
    };
    [Box::new(create), Box::new(verify)]
}

#[test]
fn what_was_not_in_the_page_cache_does_not_stay_in_it() {
    let temp = tempfile::tempdir().unwrap();
    let torrent = Torrent::new(&[8 << 20], 1 << 20);
    torrent.fill_folder(temp.path());
    let path = temp.path().join(&torrent.map.files()[0].path);
    // In memory, or where the system cannot tell, nothing can be dropped; the hashes are right all the same. Another file
    // shows it, since asking for a page has the system read it.
    let other = temp.path().join("other");
    std::fs::write(&other, [1; 4_096]).unwrap();
    evict(&other);
    let can_drop = cached_bytes(&other) == Some(0);
    for (way, hash) in ways(&torrent, temp.path()).into_iter().enumerate() {
        // Written, or read by somebody else.
        std::fs::read(&path).unwrap();
        hash();
        let before = cached_bytes(&path);
        assert!(
            before.is_none_or(|bytes| bytes == 8 << 20),
            "what was there stays: {before:?}, way {way}"
        );
        evict(&path);
        hash();
        let after = cached_bytes(&path);
        assert!(
            !can_drop || after.is_some_and(|bytes| bytes < 1 << 20),
            "{after:?}, way {way}"
        );
    }
}

/// A file of so many pieces of 16 MiB, of which nobody reads a byte.
fn long_files(pieces: u32) -> TorrentFiles {
    let piece_length = 16 << 20;
    let layout = Layout::new(u64::from(pieces) * u64::from(piece_length), piece_length).unwrap();
    let file = FileSpec {
        path: "file".into(),
        length: layout.total_length(),
        pad: false,
    };
    let map = FileMap::new(layout, vec![file]);
    TorrentFiles::new(map, Box::new(MemoryStorage::new()), PathBuf::new())
}

/// Hashes these of ten pieces in this order; after each so many pieces are dropped.
fn check(pieces: &[u32], order: &[(u32, usize)]) {
    let files = long_files(10);
    let layout = files.map.layout();
    let piece = |number| layout.piece(number).unwrap();
    let pieces: Vec<PieceIndex> = pieces.iter().copied().map(piece).collect();
    let trail = Trail::new(&files, &pieces);
    for (number, dropped) in order {
        trail.hashed(piece(*number));
        assert_eq!(trail.state.lock().unwrap().dropped, *dropped, "{number}");
    }
}

#[test]
fn nothing_is_dropped_before_all_in_front_of_it_is_hashed() {
    // Not after each piece, but at the end.
    check(
        &[0, 1, 2, 3, 4, 5, 6],
        &[(1, 0), (2, 0), (0, 3), (3, 3), (6, 3), (5, 3), (4, 7)],
    );
    check(&[2, 3, 7, 9], &[(7, 0), (2, 0), (3, 3), (9, 4)]);
}
