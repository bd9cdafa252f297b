use super::*;
use crate::memory::{Faults, MemoryStorage};
use crate::testing::{Counting, Torrent, run, verdicts};
use crate::verify::Control;
use bt_core::Rng;
use bt_core::disk::{DiskErrorKind, Verdict};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const HASH: InfoHash = InfoHash([7; 20]);

struct Run {
    torrent: Torrent,
    disk: Arc<MemoryStorage>,
    state: tempfile::TempDir,
}

impl Run {
    /// Pieces of 10 bytes over files of 25, 10, 0 and 15 bytes, all there.
    fn new() -> Self {
        let torrent = Torrent::new(&[25, 10, 0, 15], 10);
        let disk = Arc::new(MemoryStorage::new());
        torrent.fill(&disk);
        Self {
            torrent,
            disk,
            state: tempfile::tempdir().unwrap(),
        }
    }

    fn store(&self) -> TorrentStore {
        self.torrent.store(Arc::clone(&self.disk))
    }

    fn set(&self, pieces: &[u32]) -> Bitfield {
        let mut set = Bitfield::new(self.torrent.layout().pieces_count());
        for piece in pieces {
            set.set(self.torrent.layout().piece(*piece).unwrap());
        }
        set
    }

    fn save(&self, have: &[u32], clean: bool) {
        let resume = Resume {
            have: self.set(have),
            uploaded: u64::MAX,
            downloaded: 50,
            clean,
            own: true,
        };
        save(self.state.path(), HASH, &self.store(), &resume).unwrap();
    }

    fn load(&self) -> Loaded {
        load(self.state.path(), HASH, &self.store())
    }

    fn path(&self) -> PathBuf {
        path(self.state.path(), HASH)
    }
}

fn numbers(set: &Bitfield) -> Vec<u32> {
    set.iter().map(PieceIndex::get).collect()
}

#[test]
fn what_was_saved_is_loaded() {
    let run = Run::new();
    run.save(&[0, 4], true);
    let expected = Loaded {
        have: run.set(&[0, 4]),
        recheck: run.set(&[]),
        uploaded: u64::MAX,
        downloaded: 50,
        own: true,
        standing: run.store().standing(),
        confirmed: Some(Resume {
            have: run.set(&[0, 4]),
            uploaded: u64::MAX,
            downloaded: 50,
            clean: true,
            own: true,
        }),
        notes: Vec::new(),
    };
    assert_eq!(run.load(), expected);
    assert_eq!(run.state.path().read_dir().unwrap().count(), 1);
}

#[test]
fn a_run_that_was_killed_has_the_rest_checked() {
    let run = Run::new();
    run.save(&[0, 4], false);
    let loaded = run.load();
    assert_eq!(numbers(&loaded.have), [0, 4]);
    assert_eq!(numbers(&loaded.recheck), [1, 2, 3]);
    assert_eq!(loaded.confirmed, None);
}

#[test]
fn without_a_record_everything_that_is_there_is_checked() {
    let run = Run::new();
    run.disk.remove(FileIndex(1));
    let loaded = run.load();
    assert_eq!(numbers(&loaded.have), Vec::<u32>::new());
    assert_eq!(numbers(&loaded.recheck), [0, 1, 4]);
    assert!(!loaded.own);
    assert_eq!(loaded.notes, Vec::<String>::new());
}

#[test]
fn files_that_do_not_fit_have_their_pieces_checked_again() {
    // Pieces 0 1 lie in the first file, 2 in the first and second, 3 in the second and fourth, 4 in the fourth.
    type Harm = fn(&Run);
    let rows: [(Harm, &[u32], &[u32]); 5] = [
        // Same length, other time: somebody wrote to it.
        (
            |run| run.disk.put(FileIndex(1), vec![0; 10]),
            &[0, 1, 4],
            &[2, 3],
        ),
        (
            |run| run.disk.put(FileIndex(0), vec![0; 26]),
            &[3, 4],
            &[0, 1, 2],
        ),
        (|run| run.disk.put(FileIndex(0), vec![0; 9]), &[3, 4], &[]),
        (|run| run.disk.remove(FileIndex(3)), &[0, 1, 2], &[]),
        (
            |run| run.disk.put(FileIndex(2), Vec::new()),
            &[0, 1, 2, 3, 4],
            &[],
        ),
    ];
    for (row, (harm, have, recheck)) in rows.into_iter().enumerate() {
        let run = Run::new();
        run.save(&[0, 1, 2, 3, 4], true);
        harm(&run);
        let loaded = run.load();
        assert_eq!(numbers(&loaded.have), have, "row {row}");
        assert_eq!(numbers(&loaded.recheck), recheck, "row {row}");
        assert_eq!(loaded.notes.len(), 1, "row {row}");
    }
}

#[test]
fn a_file_gone_before_the_claim_was_written_holds_nothing() {
    let run = Run::new();
    run.disk.remove(FileIndex(3));
    run.save(&[0, 1, 2, 3, 4], true);
    assert_eq!(numbers(&run.load().have), [0, 1, 2]);
}

#[test]
fn each_file_is_looked_at_once() {
    for clean in [true, false] {
        let run = Run::new();
        let counting = Counting::new();
        run.torrent.fill(&counting.disk);
        let store = run.torrent.store(Arc::clone(&counting));
        let resume = Resume {
            have: run.set(&[0, 1, 2, 3, 4]),
            uploaded: 0,
            downloaded: 0,
            clean,
            own: false,
        };
        // The second time there is a record.
        for _ in 0..2 {
            counting.stats.store(0, Ordering::Relaxed);
            let loaded = load(run.state.path(), HASH, &store);
            assert_eq!(counting.stats.load(Ordering::Relaxed), 4);
            if loaded.recheck.is_empty() {
                store.verify(&loaded.recheck, Control::default()).unwrap();
                assert_eq!(counting.stats.load(Ordering::Relaxed), 4, "nothing to do");
            }
            save(run.state.path(), HASH, &store, &resume).unwrap();
        }
    }
}

#[test]
fn what_somebody_else_changes_while_we_run_is_not_believed_the_next_time() {
    // When the second file is changed in place: after it was looked at, or after a save that had it right.
    for saves_before in [0, 1] {
        let run = Run::new();
        let counting = Counting::new();
        run.torrent.fill(&counting.disk);
        let looks = || counting.stats.swap(0, Ordering::Relaxed);
        let store = run.torrent.store(Arc::clone(&counting));
        let first = load(run.state.path(), HASH, &store);
        let verified = store.verify(&first.recheck, Control::default()).unwrap();
        assert!(verified.good.is_full());
        looks();
        let resume = Resume {
            have: verified.good,
            uploaded: 0,
            downloaded: 0,
            clean: true,
            own: true,
        };
        let save = || save(run.state.path(), HASH, &store, &resume).unwrap();
        (0..saves_before).for_each(|_| save());
        counting.disk.put(FileIndex(1), vec![0; 10]);
        save();
        assert_eq!(looks(), 0, "nothing was written, so nothing is looked at");
        let loaded = load(run.state.path(), HASH, &store);
        assert_eq!(numbers(&loaded.have), [0, 1, 4], "{saves_before}");
        assert_eq!(numbers(&loaded.recheck), [2, 3], "{saves_before}");
    }
}

#[test]
fn what_we_write_ourselves_is_believed_and_alone_looked_at_again() {
    let run = Run::new();
    let counting = Counting::new();
    let store = run.torrent.store(Arc::clone(&counting));
    let empty = load(run.state.path(), HASH, &store);
    assert!(empty.have.is_empty() && empty.recheck.is_empty());
    counting.stats.store(0, Ordering::Relaxed);
    // Pieces 0 and 4 lie in the first and the last file.
    for piece in [0, 4] {
        let block = run.torrent.all_blocks()[piece];
        let done = crate::testing::run(&store, run.torrent.write(block));
        assert_eq!(verdicts(&done)[0].1, Verdict::Good);
    }
    let resume = Resume {
        have: run.set(&[0, 4]),
        uploaded: 0,
        downloaded: 0,
        clean: true,
        own: true,
    };
    save(run.state.path(), HASH, &store, &resume).unwrap();
    assert_eq!(counting.stats.load(Ordering::Relaxed), 2);
    let loaded = load(run.state.path(), HASH, &store);
    assert_eq!(numbers(&loaded.have), [0, 4]);
    assert_eq!(loaded.notes, Vec::<String>::new());
}

/// A damaged record must say nothing, be set aside, and have everything checked.
fn check_refused(run: &Run, bytes: &[u8], what: &str) {
    std::fs::write(run.path(), bytes).unwrap();
    let loaded = run.load();
    assert!(loaded.have.is_empty(), "{what}");
    assert!(loaded.recheck.is_full(), "{what}");
    assert!(loaded.own, "{what}: somebody left it");
    assert_eq!((loaded.uploaded, loaded.downloaded), (0, 0));
    assert_eq!(loaded.notes.len(), 1, "{what}");
    assert!(loaded.notes[0].contains("set aside"), "{:?}", loaded.notes);
    assert!(!run.path().exists());
    assert_eq!(
        std::fs::read(run.path().with_extension("resume.bad")).unwrap(),
        bytes
    );
}

#[test]
fn a_torn_record_never_lies() {
    let run = Run::new();
    run.save(&[0, 1, 2, 3, 4], true);
    let whole = std::fs::read(run.path()).unwrap();
    for cut in 0..whole.len() {
        check_refused(&run, &whole[..cut], &format!("cut at {cut}"));
        let mut zeroed = whole.clone();
        zeroed[cut..].fill(0);
        check_refused(&run, &zeroed, &format!("zeros from {cut}"));
        let mut flipped = whole.clone();
        flipped[cut] ^= 1;
        check_refused(&run, &flipped, &format!("bit of {cut} flipped"));
    }
    std::fs::write(run.path(), &whole).unwrap();
    assert!(run.load().have.is_full());
}

#[test]
fn a_record_of_something_else_is_refused() {
    let run = Run::new();
    run.save(&[0], true);
    let ours = std::fs::read(run.path()).unwrap();
    let record = || Record::decode(&ours, HASH, &run.store()).unwrap();

    check_refused(&run, &record().encode(InfoHash([8; 20])), "another torrent");
    let mut more_files = record();
    more_files.files.push(None);
    check_refused(&run, &more_files.encode(HASH), "more files");
    let mut more_pieces = record();
    more_pieces.resume.have = Bitfield::full(9);
    check_refused(&run, &more_pieces.encode(HASH), "more pieces");
    let mut spare = record();
    spare.resume.have = Bitfield::full(8);
    check_refused(&run, &spare.encode(HASH), "a spare bit");
    check_refused(&run, b"not bencode", "not bencode");

    let later = String::from_utf8_lossy(b"7:versioni2e").into_owned();
    let position = ours
        .windows(later.len())
        .position(|part| part == later.as_bytes());
    let outer = decode(&ours, &Options::strict()).unwrap();
    let body = outer
        .root()
        .dict()
        .unwrap()
        .require("body")
        .unwrap()
        .bytes()
        .unwrap();
    let mut body = body.to_vec();
    let start = position.unwrap()
        - (ours
            .windows(body.len())
            .position(|part| part == body)
            .unwrap());
    body[start + 10] = b'3';
    let hash = sha1(&body).to_vec();
    let newer = Node::dict([("body", Node::Bytes(body)), ("sha1", Node::Bytes(hash))]);
    check_refused(&run, &newer.encode(), "version 3");
}

#[test]
fn a_record_that_cannot_be_written_leaves_the_old_one() {
    let run = Run::new();
    run.save(&[0], true);
    // A folder where the new file would be made: writing it fails as on a full disk.
    std::fs::create_dir(run.path().with_extension("resume.new")).unwrap();
    let resume = Resume {
        have: run.set(&[0, 1]),
        uploaded: 0,
        downloaded: 0,
        clean: true,
        own: true,
    };
    let error = save(run.state.path(), HASH, &run.store(), &resume).unwrap_err();
    assert!(error.message.contains(".resume"), "{error}");
    assert_eq!(numbers(&run.load().have), [0]);
}

#[test]
fn what_a_failed_sync_may_have_lost_is_not_claimed() {
    let mut run = Run::new();
    run.disk = Arc::new(MemoryStorage::new());
    let store = run.store();
    for block in run.torrent.all_blocks() {
        crate::testing::run(&store, run.torrent.write(block));
    }
    let resume = Resume {
        have: run.set(&[0, 1, 2, 3, 4]),
        uploaded: 0,
        downloaded: 0,
        clean: true,
        own: true,
    };
    let save = || save(run.state.path(), HASH, &store, &resume);
    run.disk.set_faults(Faults {
        sync: Some(DiskErrorKind::Io),
        ..Faults::default()
    });
    assert!(save().is_err());
    assert!(!run.path().exists());
    run.disk.set_faults(Faults::default());
    save().unwrap();
    let loaded = run.load();
    assert!(loaded.have.is_empty(), "every file was in doubt");
    assert!(loaded.recheck.is_full(), "and nothing in it is given up");
}

#[test]
fn after_any_crash_every_claim_is_true_and_nothing_good_is_lost() {
    let (mut claimed, mut rechecked) = (0, 0);
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        let mut run_state = Run::new();
        run_state.disk = Arc::new(MemoryStorage::new());
        let torrent = &run_state.torrent;
        let store = run_state.store();
        let mut have = run_state.set(&[]);
        let mut blocks = torrent.all_blocks();
        rng.shuffle(&mut blocks);
        blocks.truncate(rng.index(blocks.len() + 1));
        for block in blocks {
            for (piece, verdict) in verdicts(&run(&store, torrent.write(block))) {
                assert_eq!(verdict, Verdict::Good);
                have.set(piece);
            }
            if rng.chance(40) {
                let resume = Resume {
                    have: have.clone(),
                    uploaded: 0,
                    downloaded: 0,
                    clean: false,
                    own: true,
                };
                save(run_state.state.path(), HASH, &store, &resume).unwrap();
            }
        }
        run_state.disk.crash(&mut rng);

        let after = run_state.store();
        let loaded = load(run_state.state.path(), HASH, &after);
        let good = after.verify_all(Control::default()).unwrap().good;
        assert!(
            !loaded.have.has_more_than(&good),
            "seed {seed} claims what is not there"
        );
        let known: Vec<_> = loaded.have.iter().chain(loaded.recheck.iter()).collect();
        assert!(
            good.iter().all(|piece| known.contains(&piece)),
            "seed {seed} loses a piece"
        );
        claimed += loaded.have.count_ones();
        rechecked += loaded.recheck.count_ones();
    }
    assert!(claimed > 30 && rechecked > 30, "{claimed} {rechecked}");
}
