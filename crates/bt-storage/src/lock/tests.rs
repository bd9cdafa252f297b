use super::*;

const ONE: InfoHash = InfoHash([1; 20]);
const OTHER: InfoHash = InfoHash([2; 20]);

#[test]
fn one_at_a_time_for_each_torrent() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("state");
    let locks = Locks::default();
    // What another process has is another register too.
    let strangers = Locks::default();
    let held = locks.acquire(&folder, ONE).unwrap();
    // It knows that it is alone, until somebody comes.
    drop(locks.acquire(&folder, OTHER).unwrap());
    for locks in [&locks, &strangers] {
        let error = locks.acquire(&folder, ONE).unwrap_err();
        let expected = format!("process {} is at work", std::process::id());
        assert!(error.to_string().contains(&expected), "{error}");
    }
    let other = strangers.acquire(&folder, OTHER).unwrap();
    assert!(locks.acquire(&folder, OTHER).is_err());
    drop(held);
    let held = strangers.acquire(&folder, ONE).unwrap();
    assert!(locks.acquire(&folder, ONE).is_err());
    drop((held, other));
    assert!(locks.acquire(&folder, ONE).is_ok());
    assert!(locks.acquire(&temp.path().join("elsewhere"), ONE).is_ok());
}

#[test]
fn many_at_once_are_as_many_one_after_the_other() {
    let temp = tempfile::tempdir().unwrap();
    let hashes: Vec<InfoHash> = (1..=9).map(|n| InfoHash([n; 20])).collect();
    let (locks, strangers) = (Locks::default(), Locks::default());
    let mut ours = locks.acquire_all(temp.path(), &hashes[..6]).unwrap();
    // Places that are free again lie apart from each other and from the end.
    ours.remove(4).unwrap();
    ours.remove(1).unwrap();
    assert!(ours.iter().all(Result::is_ok));
    let theirs = strangers.acquire_all(temp.path(), &hashes[1..7]).unwrap();
    let got: Vec<bool> = theirs.iter().map(Result::is_ok).collect();
    assert_eq!(got, [true, false, false, true, false, true]);
    // Twice the same: the first has it.
    let more = [hashes[7], hashes[1], hashes[8], hashes[7]];
    let more = locks.acquire_all(temp.path(), &more).unwrap();
    let got: Vec<bool> = more.iter().map(Result::is_ok).collect();
    assert_eq!(got, [true, false, true, false]);
    drop(theirs);
    for (index, hash) in hashes.iter().enumerate() {
        let is_free = strangers.acquire(temp.path(), *hash).is_ok();
        assert_eq!(is_free, [1, 4, 6].contains(&index), "{index}");
    }
}

#[test]
fn what_a_killed_process_left_holds_nobody_up() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join(FOLDER);
    std::fs::create_dir(&folder).unwrap();
    let left = folder.join("1-0");
    std::fs::write(&left, ONE.0).unwrap();
    let locks = Locks::default();
    assert!(locks.acquire(temp.path(), ONE).is_ok());
    assert!(!left.exists());
}

#[test]
fn a_register_whose_owner_was_faster_is_no_trouble() {
    let temp = tempfile::tempdir().unwrap();
    let left = temp.path().join("1-0");
    std::fs::write(&left, FREE).unwrap();
    remove(&left).unwrap();
    remove(&left).unwrap();
    assert!(remove(temp.path()).is_err());
}

#[test]
fn places_are_used_again_and_registers_go_with_their_last_torrent() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join(FOLDER);
    let registers = || {
        let entries = std::fs::read_dir(&folder).unwrap().flatten();
        let is_register = |entry: &std::fs::DirEntry| entry.file_name() != TURN;
        entries.filter(is_register).collect::<Vec<_>>()
    };
    let locks = Locks::default();
    let mut held: Vec<TorrentLock> = (0..100)
        .map(|n| locks.acquire(temp.path(), InfoHash([n; 20])).unwrap())
        .collect();
    let first = registers();
    assert_eq!(first.len(), 1);
    for round in 0..3 {
        drop(held.split_off(50));
        let more = (100 + round * 50..150 + round * 50).map(|n| InfoHash([n; 20]));
        held.extend(more.map(|hash| locks.acquire(temp.path(), hash).unwrap()));
    }
    let length = first[0].metadata().unwrap().len();
    assert_eq!(length, 101 * ENTRY_BYTES as u64);
    let strangers = Locks::default();
    assert!(strangers.acquire(temp.path(), InfoHash([49; 20])).is_err());
    assert!(strangers.acquire(temp.path(), InfoHash([50; 20])).is_ok());
    drop(held);
    assert!(registers().is_empty());
}

#[test]
fn a_register_that_could_not_be_written_claims_all() {
    let temp = tempfile::tempdir().unwrap();
    let locks = Locks::default();
    let held = locks.acquire(temp.path(), ONE).unwrap();
    let strangers = Locks::default();
    assert!(strangers.acquire(temp.path(), OTHER).is_ok());
    held.register.file.set_len(0).unwrap();
    lock(&held.register.places).claims_all = true;
    let more = locks.acquire(temp.path(), InfoHash([3; 20])).unwrap();
    drop(more);
    assert!(strangers.acquire(temp.path(), OTHER).is_err());
    drop(held);
    assert!(strangers.acquire(temp.path(), OTHER).is_ok());
}

#[test]
fn an_entry_that_could_not_be_made_takes_no_place() {
    let temp = tempfile::tempdir().unwrap();
    let hashes: Vec<InfoHash> = (1..=6).map(|n| InfoHash([n; 20])).collect();
    let mut register = Register::open(temp.path()).unwrap();
    for hash in &hashes[..3] {
        register.enter(&[*hash]).unwrap();
    }
    register.leave(hashes[1]);
    // Neither written nor cut off.
    let read_only = File::open(temp.path().join(&register.name)).unwrap();
    let writable = std::mem::replace(&mut register.file, read_only);
    assert!(register.enter(&[hashes[3], hashes[1]]).is_err());
    register.file = writable;
    assert_eq!(register.enter(&hashes[4..]).unwrap(), [None, None]);
    let stranger = Register::open(temp.path()).unwrap();
    let owners = stranger.enter(&hashes).unwrap();
    for (index, owner) in owners.iter().enumerate() {
        assert_eq!(owner.is_none(), [1, 3].contains(&index), "{index}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("file");
    std::fs::write(&folder, "x").unwrap();
    let error = Locks::default().acquire(&folder, ONE).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
}
