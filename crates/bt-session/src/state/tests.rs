use super::*;

#[test]
fn a_folder_has_one_name_however_it_is_called() {
    let temp = tempfile::tempdir().unwrap();
    let (real, link) = (temp.path().join("real"), temp.path().join("link"));
    std::fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    assert_eq!(name_of(&real), name_of(&link));
    assert_eq!(name_of(&real), name_of(&real.join("..").join("real")));
    assert_ne!(name_of(&real), name_of(temp.path()));
    assert_eq!(name_of(Path::new("/")), "af63a24c860189fe".to_owned());
}

/// Which folder it is, as who opens a torrent there finds out.
fn id_of(dir: &Path) -> Option<FolderId> {
    let builder = bt_metainfo::Builder::file("file", 10, 16 * 1024);
    let info = builder.build(&[[0; 20]]).unwrap().info;
    let options = bt_storage::OpenOptions {
        access: bt_storage::Access::ReadOnly,
        ..bt_storage::OpenOptions::default()
    };
    let store = TorrentStore::open(&info, dir, &options).ok()?;
    store.folder_id()
}

#[test]
fn a_folder_that_gets_the_name_of_another_has_a_state_of_its_own() {
    let temp = tempfile::tempdir().unwrap();
    let (one, two) = (temp.path().join("one"), temp.path().join("two"));
    let link = temp.path().join("link");
    let state_dir = StateDir::new(Some("/state".into()));
    let folder = |dir: &Path| state_dir.folder(dir, id_of(dir));
    let there = |dir: &Path| Some(Path::new("/state").join(name_of(dir)).into());
    for real in [&one, &two] {
        std::fs::create_dir(real).unwrap();
        std::os::unix::fs::symlink(real, &link).unwrap();
        for _ in 0..2 {
            assert_eq!(folder(&link), there(real));
            assert_eq!(folder(temp.path()), there(temp.path()));
            assert_eq!(folder(&link), there(real));
        }
        std::fs::remove_file(&link).unwrap();
        // What is not there yet has a name all the same.
        assert_eq!(folder(&link), there(&link));
    }
    assert_eq!(StateDir::default().folder(&one, id_of(&one)), None);
}

#[test]
fn a_second_download_of_the_same_is_refused_and_a_second_seeder_is_not() {
    let temp = tempfile::tempdir().unwrap();
    let (state, data) = (temp.path().join("state"), temp.path());
    let hash = InfoHash([1; 20]);
    let state_dir = StateDir::new(Some(state));
    let open = |seed_only| Keeper::open(&state_dir, hash, (data, None), seed_only);
    let first = open(false).unwrap();
    assert!(first.is_due(), "the start is noted");
    assert!(matches!(open(false), Err(Failure::InUse { .. })));
    assert!(!open(true).unwrap().is_due());
    drop(first);
    assert!(open(false).is_ok());
    let nowhere = StateDir::new(Some("/dev/null/x".into()));
    let no_folder = Keeper::open(&nowhere, hash, (data, None), false).unwrap();
    assert!(!no_folder.is_due() && no_folder.notes.len() == 1);
}

/// A torrent of one piece, and the disk in which it lies.
fn disk() -> (Arc<Disk>, Arc<bt_storage::MemoryStorage>) {
    let layout = bt_core::Layout::new(10, 10).unwrap();
    let spec = bt_storage::FileSpec {
        path: "file".into(),
        length: 10,
        pad: false,
    };
    let map = bt_storage::FileMap::new(layout, vec![spec]);
    let storage = Arc::new(bt_storage::MemoryStorage::new());
    let boxed = Box::new(Arc::clone(&storage));
    let store = TorrentStore::with_storage(map, vec![[0; 20]], boxed);
    let permits = Arc::new(tokio::sync::Semaphore::new(1));
    (Arc::new(Disk::new(Arc::new(store), permits)), storage)
}

#[tokio::test]
async fn what_could_not_be_read_at_the_start_is_checked_again() {
    for is_readable in [true, false] {
        let temp = tempfile::tempdir().unwrap();
        let (state, hash) = (temp.path().join("state"), InfoHash([1; 20]));
        let (disk, storage) = disk();
        storage.put(bt_storage::FileIndex(0), vec![7; 10]);
        let mut faults = bt_storage::Faults::default();
        if !is_readable {
            faults.read = Some(bt_core::disk::DiskErrorKind::Io);
        }
        storage.set_faults(faults);
        let state_dir = StateDir::new(Some(state.clone()));
        let mut keeper = Keeper::open(&state_dir, hash, (temp.path(), None), false).unwrap();
        let mut found = keeper.load(disk.store());
        let checked = keeper.check(disk.store(), &mut found, Control::default());
        assert_eq!(checked, Ok(()));
        let Found { have, notes, .. } = found;
        assert_eq!(notes.is_empty(), is_readable, "{notes:?}");
        let saving = keeper.save(&disk, have, &Stats::default(), true);
        saving.await.unwrap();
        let folder = state.join(name_of(temp.path()));
        let loaded = resume::load(&folder, hash, disk.store());
        assert_eq!(loaded.recheck.is_empty(), is_readable);
    }
}

#[tokio::test]
async fn a_save_that_was_held_up_does_not_undo_a_later_one() {
    let temp = tempfile::tempdir().unwrap();
    let (state, hash) = (temp.path().join("state"), InfoHash([1; 20]));
    let (disk, _storage) = disk();
    let state_dir = StateDir::new(Some(state.clone()));
    let mut keeper = Keeper::open(&state_dir, hash, (temp.path(), None), false).unwrap();
    let mut save = |uploaded, clean| {
        let stats = Stats {
            uploaded,
            ..Stats::default()
        };
        keeper.save(&disk, Bitfield::new(1), &stats, clean)
    };
    let (early, last) = (save(1, false), save(2, true));
    last.await.unwrap();
    early.await.unwrap();
    assert!(!keeper.is_due());
    let folder = state.join(name_of(temp.path()));
    assert_eq!(resume::load(&folder, hash, disk.store()).uploaded, 2);
}

#[tokio::test]
async fn a_seeder_with_nothing_new_to_say_writes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let (state, hash) = (temp.path().join("state"), InfoHash([1; 20]));
    let (disk, storage) = disk();
    storage.put(bt_storage::FileIndex(0), vec![7; 10]);
    let path = resume::path(&state.join(name_of(temp.path())), hash);
    let state_dir = StateDir::new(Some(state));
    // Whether it is a seeder, what it uploads, and whether its start and its end are worth a word.
    let rows = [
        (true, 0, true, false),
        (true, 0, false, false),
        (true, 5, false, true),
        (true, 0, false, false),
        (false, 0, true, true),
        (true, 0, false, false),
    ];
    for (row, (seed_only, uploaded, at_start, at_end)) in rows.into_iter().enumerate() {
        let mut keeper = Keeper::open(&state_dir, hash, (temp.path(), None), seed_only).unwrap();
        let mut found = keeper.load(disk.store());
        assert_eq!(found.recheck.is_empty(), row > 0, "{row}");
        keeper
            .check(disk.store(), &mut found, Control::default())
            .unwrap();
        assert_eq!(keeper.is_due(), at_start, "{row}");
        for (clean, expected) in [(false, at_start), (true, at_end)] {
            let before = std::fs::read(&path).ok();
            let _ = std::fs::remove_file(&path);
            let stats = Stats {
                uploaded: if clean { uploaded } else { 0 },
                ..Stats::default()
            };
            let saving = keeper.save(&disk, found.have.clone(), &stats, clean);
            saving.await.unwrap();
            assert_eq!(path.exists(), expected, "{row}");
            if let Some(before) = before.filter(|_| !expected) {
                std::fs::write(&path, before).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn what_is_trusted_keeps_the_totals_of_earlier_runs() {
    let temp = tempfile::tempdir().unwrap();
    let (state, data) = (temp.path().join("state"), temp.path().to_owned());
    let builder = bt_metainfo::Builder::file("file", 10, 16 * 1024);
    let metainfo = builder.build(&[[0; 20]]).unwrap();
    let state_dir = StateDir::new(Some(state.clone()));
    let mut keeper = Keeper::open(&state_dir, metainfo.info_hash, (&data, None), true).unwrap();
    let stats = Stats {
        uploaded: 5,
        ..Stats::default()
    };
    let (disk, _storage) = disk();
    let saving = keeper.save(&disk, Bitfield::new(1), &stats, true);
    saving.await.unwrap();
    drop(keeper);
    let config = crate::SessionConfig {
        bind: Some(std::net::Ipv4Addr::LOCALHOST.into()),
        port: Some(0),
        state_dir: Some(state),
        ..crate::SessionConfig::default()
    };
    let session = crate::Session::new(config).unwrap();
    let options = crate::TorrentOptions {
        seed_only: true,
        trusted: true,
        ..crate::TorrentOptions::default()
    };
    let (status, _) = crate::status::status(crate::Status::default());
    let opening = crate::open::open(session.shared(), metainfo, data, &options, None, &status);
    let opened = opening.await.unwrap();
    assert_eq!(opened.keeper.uploaded_before, 5);
    assert!(opened.torrent.have.is_full());
}
