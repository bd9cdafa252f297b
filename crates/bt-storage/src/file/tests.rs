use super::*;
use crate::store::{OpenOptions, TorrentStore};
use crate::testing::{Torrent, run, verdicts};
use crate::verify::Control;
use bt_core::disk::{DiskErrorKind, Verdict};
use bt_core::{Bitfield, Block, Layout};
use std::os::unix::fs::symlink;

type Harm<'a> = &'a dyn Fn(&Path);

fn options(files_max: usize) -> OpenOptions {
    OpenOptions {
        pool: Arc::new(FilePool::new(files_max)),
        ..OpenOptions::default()
    }
}

fn download(torrent: &Torrent, store: &TorrentStore, blocks: &[Block]) -> Vec<Verdict> {
    let done: Vec<_> = blocks
        .iter()
        .flat_map(|block| run(store, torrent.write(*block)))
        .collect();
    verdicts(&done)
        .into_iter()
        .map(|(_, verdict)| verdict)
        .collect()
}

fn check_folder(torrent: &Torrent, folder: &Path) {
    for (file, spec) in torrent.map.files().iter().enumerate() {
        let found = std::fs::read(folder.join(&spec.path)).unwrap();
        assert!(found == torrent.file_bytes(file), "{}", spec.path.display());
    }
}

/// The kind of trouble that writing the first piece meets, and what is said.
fn trouble(torrent: &Torrent, store: &TorrentStore) -> (DiskErrorKind, String) {
    let blocks: Vec<_> = torrent.layout().pieces().take(1).collect();
    let blocks: Vec<_> = torrent.layout().blocks(blocks[0]).collect();
    match download(torrent, store, &blocks).pop() {
        Some(Verdict::Failed(error)) => (error.kind, error.message),
        verdict => panic!("{verdict:?}"),
    }
}

#[test]
fn more_files_than_may_be_open() {
    let lengths: Vec<u64> = (0..300).map(|n| n * 37 % 1_000).collect();
    let torrent = Torrent::new(&lengths, 20_000);
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("made/too");
    let options = options(3);
    let store = torrent.open(&folder, &options);
    let blocks = torrent.all_blocks();
    let verdicts = download(&torrent, &store, &blocks);
    assert_eq!(verdicts, vec![Verdict::Good; torrent.hashes.len()]);
    check_folder(&torrent, &folder);
    assert!(options.pool.open_count() <= 3);
    drop(store);
    assert_eq!(options.pool.open_count(), 0);
}

#[test]
fn empty_files_are_made_at_the_start_and_others_when_they_are_written() {
    let torrent = Torrent::new(&[0, 10, 0], 10);
    let temp = tempfile::tempdir().unwrap();
    let _store = torrent.open(temp.path(), &options(4));
    let exists = |path: &str| temp.path().join(path).is_file();
    assert!(exists("dir0/f0") && exists("dir2/f2") && !exists("dir1/f1"));
}

#[test]
fn nothing_is_made_or_changed_in_a_folder_to_be_read() {
    let torrent = Torrent::new(&[0, 10], 10);
    let temp = tempfile::tempdir().unwrap();
    let options = OpenOptions {
        access: Access::ReadOnly,
        ..options(4)
    };
    let store = torrent.open(temp.path(), &options);
    assert_eq!(trouble(&torrent, &store).0, DiskErrorKind::Denied);
    assert_eq!(temp.path().read_dir().unwrap().count(), 0);
}

#[test]
fn sparse_files_take_little_and_full_ones_all_their_space() {
    let torrent = Torrent::new(&[8 * 1024 * 1024], 64 * 1024);
    for (allocation, expected_full) in [(Allocation::Sparse, false), (Allocation::Full, true)] {
        let temp = tempfile::tempdir().unwrap();
        let options = OpenOptions {
            allocation,
            ..options(4)
        };
        let store = torrent.open(temp.path(), &options);
        let last: Vec<_> = torrent.all_blocks().into_iter().rev().take(4).collect();
        assert_eq!(download(&torrent, &store, &last), [Verdict::Good]);
        let metadata = temp.path().join("dir0/f0").metadata().unwrap();
        assert_eq!(metadata.len(), 8 * 1024 * 1024);
        assert_eq!(metadata.blocks() * 512 >= metadata.len(), expected_full);
    }
}

#[test]
fn offsets_beyond_four_gibibytes() {
    const LENGTH: u64 = 5 * 1024 * 1024 * 1024 + 5;
    let layout = Layout::new(LENGTH, 16 * 1024 * 1024).unwrap();
    let spec = |path: &str, length| FileSpec {
        path: path.into(),
        length,
        pad: false,
    };
    let files = vec![spec("small", 3), spec("big", LENGTH - 3)];
    let map = crate::FileMap::new(layout, files);
    let last = layout.pieces().next_back().unwrap();
    let blocks: Vec<_> = layout.blocks(last).collect();
    let [block] = &blocks[..] else {
        panic!("{blocks:?}")
    };
    let data = bytes::Bytes::from_static(b"12345");
    let mut hashes = vec![[0; 20]; layout.pieces_count() as usize];
    hashes[last.index()] = <sha1::Sha1 as sha1::Digest>::digest(&data).into();
    let temp = tempfile::tempdir().unwrap();
    let store = TorrentStore::open_files(map, hashes, temp.path(), &options(4)).unwrap();
    let block = *block;
    let job = bt_core::disk::Job::Write { block, data };
    assert_eq!(verdicts(&run(&store, job)), [(last, Verdict::Good)]);
    let mut out = [0; 5];
    store.read(block, &mut out).unwrap();
    assert_eq!(&out, b"12345");
    assert_eq!(
        temp.path().join("big").metadata().unwrap().len(),
        LENGTH - 3
    );
}

#[test]
fn something_else_in_a_files_place() {
    let torrent = Torrent::new(&[10], 10);
    let outside = tempfile::tempdir().unwrap();
    let folder = |path: &Path| std::fs::create_dir_all(path).unwrap();
    let file = |path: &Path| std::fs::write(path, "").unwrap();
    let link = |path: &Path| symlink(outside.path(), path).unwrap();
    let dangling = |path: &Path| symlink(outside.path().join("made"), path).unwrap();
    let rows: [(&str, Harm<'_>, &str); 5] = [
        ("dir0/f0", &folder, "Is a directory"),
        ("dir0", &file, "Not a directory"),
        ("dir0", &link, "symbolic link"),
        ("dir0/f0", &link, "symbolic link"),
        ("dir0/f0", &dangling, "symbolic link"),
    ];
    for (path, make, expected) in rows {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        make(&path);
        let (kind, message) = trouble(&torrent, &torrent.open(temp.path(), &options(4)));
        assert_eq!(kind, DiskErrorKind::InTheWay, "{message}");
        assert!(
            message.contains(expected) && message.contains("dir0/f0"),
            "{message}"
        );
        assert_eq!(outside.path().read_dir().unwrap().count(), 0);
    }
}

#[test]
fn a_folder_swapped_for_a_link_while_we_run() {
    let torrent = Torrent::new(&[10, 10, 10, 10], 10);
    let outside = tempfile::tempdir().unwrap();
    let temp = tempfile::tempdir().unwrap();
    // One open file: each piece opens its own anew. The first and the last file lie in the same folder.
    let store = torrent.open(temp.path(), &options(1));
    let blocks = torrent.all_blocks();
    assert_eq!(
        download(&torrent, &store, &blocks[..2]),
        [Verdict::Good, Verdict::Good]
    );
    std::fs::rename(temp.path().join("dir0"), temp.path().join("moved")).unwrap();
    symlink(outside.path(), temp.path().join("dir0")).unwrap();
    let verdicts = download(&torrent, &store, &blocks[3..]);
    assert!(
        matches!(&verdicts[..], [Verdict::Failed(error)] if error.message.contains("symbolic link")),
        "{verdicts:?}"
    );
    assert!(store.read(blocks[0], &mut [0; 10]).is_err());
    assert_eq!(outside.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_file_taken_away_or_cut_while_we_run_is_an_error_and_not_made_again() {
    let torrent = Torrent::new(&[30], 10);
    let remove = |path: &Path| std::fs::remove_file(path).unwrap();
    let cut = |path: &Path| {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(5)
            .unwrap()
    };
    let rows: [(Harm<'_>, bool, usize); 4] = [
        (&remove, false, 4),
        (&remove, false, 1),
        (&cut, true, 4),
        (&cut, true, 1),
    ];
    for (harm, is_left, files_max) in rows {
        let temp = tempfile::tempdir().unwrap();
        let options = options(files_max);
        let store = torrent.open(temp.path(), &options);
        let blocks = torrent.all_blocks();
        assert_eq!(download(&torrent, &store, &blocks[..1]), [Verdict::Good]);
        let path = temp.path().join("dir0/f0");
        harm(&path);
        for block in &blocks[1..] {
            let verdicts = download(&torrent, &store, &[*block]);
            let [Verdict::Failed(error)] = &verdicts[..] else {
                panic!("{verdicts:?}")
            };
            assert_eq!(error.kind, DiskErrorKind::Missing, "{error}");
        }
        assert_eq!(path.exists(), is_left);
        let error = store.read(blocks[0], &mut [0; 10]).unwrap_err();
        assert_eq!(error.kind, DiskErrorKind::Missing);
    }
}

#[test]
fn a_file_of_another_length_gets_ours_when_it_is_written() {
    let torrent = Torrent::new(&[30], 10);
    for length in [0, 7, 1_000] {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("dir0/f0");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, vec![b'x'; length]).unwrap();
        let store = torrent.open(temp.path(), &options(4));
        download(&torrent, &store, &torrent.all_blocks());
        check_folder(&torrent, temp.path());
    }
}

#[test]
fn holes_are_only_where_nothing_was_written() {
    let torrent = Torrent::new(&[4 * 1024 * 1024], 1024 * 1024);
    let temp = tempfile::tempdir().unwrap();
    let store = torrent.open(temp.path(), &options(4));
    let second = torrent.layout().piece(1).unwrap();
    let blocks: Vec<_> = torrent.layout().blocks(second).collect();
    assert_eq!(download(&torrent, &store, &blocks), [Verdict::Good]);
    let hole = |mebibyte: u64| {
        let offset = mebibyte * 1024 * 1024;
        store
            .files
            .storage
            .is_hole(FileIndex(0), offset, 1024 * 1024)
    };
    assert_eq!([0, 1, 2, 3, 4].map(hole), [true, false, true, true, false]);
}

#[test]
fn what_was_opened_once_is_closed_and_what_is_in_use_stays_open() {
    let torrent = Torrent::new(&[1024 * 1024; 3], 1024 * 1024);
    let temp = tempfile::tempdir().unwrap();
    let options = options(10);
    let store = torrent.open(temp.path(), &options);
    let second = torrent.layout().piece(1).unwrap();
    let blocks: Vec<_> = torrent.layout().blocks(second).collect();
    assert_eq!(download(&torrent, &store, &blocks), [Verdict::Good]);
    assert_eq!(options.pool.open_count(), 1);
    let storage = &store.files.storage;
    let open_once = |file| storage.open_once(FileIndex(file)).map(|it| it.is_some());
    assert!(matches!(open_once(1), Ok(true)));
    assert!(open_once(0).is_err(), "nobody has made it");
    assert_eq!(options.pool.open_count(), 2, "one of them to be read once");
    storage.close_once();
    assert_eq!(options.pool.open_count(), 1);
    // Who still reads opens it again; it is closed with the storage at the latest.
    assert!(matches!(open_once(1), Ok(true)));
    assert_eq!(options.pool.open_count(), 2);
    drop(store);
    assert_eq!(options.pool.open_count(), 0);
}

#[test]
fn who_looks_for_what_stands_in_the_way_leaves_no_file_open() {
    let torrent = Torrent::new(&[4 * 1024 * 1024, 10], 1024 * 1024);
    let temp = tempfile::tempdir().unwrap();
    // All of it is a hole.
    let path = temp.path().join(&torrent.map.files()[0].path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::create(path).unwrap();
    file.set_len(3 * 1024 * 1024).unwrap();
    let options = options(10);
    let store = torrent.open(temp.path(), &options);
    let pieces = torrent.layout().pieces_count();
    let (wanted, have) = (Bitfield::full(pieces), Bitfield::new(pieces));
    assert_eq!(store.strange(&store.standing(), &wanted, &have), []);
    assert_eq!(options.pool.open_count(), 0);
    let all = store.verify_all(Control::default()).unwrap();
    assert_eq!((all.good, options.pool.open_count()), (have, 0));
}

#[test]
fn many_files_are_synced_at_once_and_few_one_by_one() {
    let names: Vec<String> = (0..=SYNC_SINGLY_MAX).map(|n| format!("f{n}")).collect();
    let specs: Vec<FileSpec> = names
        .iter()
        .map(|name| FileSpec {
            path: name.into(),
            length: 1,
            pad: false,
        })
        .collect();
    let temp = tempfile::tempdir().unwrap();
    let pool = Arc::new(FilePool::new(4));
    let (access, allocation) = (Access::ReadWrite, Allocation::Sparse);
    let storage = FileStorage::open(temp.path(), &specs, pool, access, allocation).unwrap();
    let all: Vec<FileIndex> = (0..names.len()).map(FileIndex).collect();
    for file in &all {
        storage.write_at(*file, 0, &[IoSlice::new(b"x")]).unwrap();
    }
    assert!(storage.sync_each(&all).is_empty());
    // Gone is no doubt, as for a single file; something else in its place is.
    std::fs::remove_file(temp.path().join("f1")).unwrap();
    std::fs::remove_file(temp.path().join("f2")).unwrap();
    std::fs::create_dir(temp.path().join("f2")).unwrap();
    std::fs::write(temp.path().join("f2/x"), "").unwrap();
    std::fs::remove_file(temp.path().join("f3")).unwrap();
    symlink("f4", temp.path().join("f3")).unwrap();
    let failed = storage.sync_each(&all[..5]).into_iter();
    let failed: Vec<_> = failed.map(|it| it.0).collect();
    assert!(failed.contains(&FileIndex(3)), "{failed:?}");
    assert!(!failed.contains(&FileIndex(1)) && !failed.contains(&FileIndex(0)));
    // Whatever their names stand for now, what was written is on the medium; who looks at them is told.
    assert!(storage.sync_each(&all).is_empty());
    assert!(storage.stat(FileIndex(3)).is_err());
}

#[test]
fn a_file_has_its_length_whatever_is_written_first() {
    let spec = FileSpec {
        path: "dir/file".into(),
        length: 8,
        pad: false,
    };
    let temp = tempfile::tempdir().unwrap();
    let pool = Arc::new(FilePool::new(4));
    let storage = || {
        let (pool, files) = (Arc::clone(&pool), std::slice::from_ref(&spec));
        FileStorage::open(
            temp.path(),
            files,
            pool,
            Access::ReadWrite,
            Allocation::Sparse,
        )
        .unwrap()
    };
    let path = temp.path().join("dir/file");
    let file = FileIndex(0);
    let whole = storage();
    let written = whole.write_at(file, 0, &[IoSlice::new(b"abcd"), IoSlice::new(b"efgh")]);
    assert_eq!(
        (written.unwrap(), std::fs::read(&path).unwrap()),
        (8, b"abcdefgh".to_vec())
    );
    // Longer than it should be: cut all the same.
    std::fs::write(&path, b"0123456789").unwrap();
    storage()
        .write_at(file, 0, &[IoSlice::new(b"abcdefgh")])
        .unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"abcdefgh");
    // The part of a file that comes first gives it its length.
    std::fs::remove_file(&path).unwrap();
    let part = storage();
    part.write_at(file, 4, &[IoSlice::new(b"efgh")]).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"\0\0\0\0efgh");
    // Made, then closed, then cut by somebody: not made again.
    pool.forget_owner(part.owner);
    std::fs::write(&path, b"short").unwrap();
    let error = part.write_at(file, 0, &[IoSlice::new(b"a")]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}
