use super::*;
use crate::map::{FileIndex, FileSpec};
use crate::memory::Faults;
use crate::testing::{Counting, Torrent};
use std::sync::Arc;

fn numbers(set: &Bitfield) -> Vec<u32> {
    set.iter().map(PieceIndex::get).collect()
}

/// The pieces that are (good, wrong, missing, unreadable).
fn sets(verified: &Verified) -> [Vec<u32>; 4] {
    let Verified {
        good,
        wrong,
        missing,
        unreadable,
        ..
    } = verified;
    [good, wrong, missing, unreadable].map(numbers)
}

fn threads(count: usize) -> Control<'static> {
    Control {
        threads: NonZeroUsize::new(count),
        ..Control::default()
    }
}

#[test]
fn each_piece_is_told_apart() {
    // Pieces of 10 over files of 25, 10 and 15 bytes: 0 1 2(two files) 3(two files) 4.
    let torrent = Torrent::new(&[25, 10, 15], 10);
    type Harm = fn(&Counting);
    let rows: [(Harm, [&[u32]; 4]); 6] = [
        (|_| {}, [&[0, 1, 2, 3, 4], &[], &[], &[]]),
        (
            |disk| disk.disk.remove(FileIndex(1)),
            [&[0, 1, 4], &[], &[2, 3], &[]],
        ),
        (
            |disk| disk.disk.put(FileIndex(2), vec![0; 14]),
            [&[0, 1, 2], &[3], &[4], &[]],
        ),
        (
            |disk| disk.disk.put(FileIndex(0), vec![0; 25]),
            [&[3, 4], &[0, 1, 2], &[], &[]],
        ),
        (
            |disk| disk.disk.put(FileIndex(0), Vec::new()),
            [&[3, 4], &[], &[0, 1, 2], &[]],
        ),
        (
            |disk| {
                disk.disk.set_faults(Faults {
                    read: Some(DiskErrorKind::Io),
                    ..Faults::default()
                });
            },
            [&[], &[], &[], &[0, 1, 2, 3, 4]],
        ),
    ];
    for (row, (harm, expected)) in rows.into_iter().enumerate() {
        for count in [1, 2, 7] {
            let disk = Counting::new();
            torrent.fill(&disk.disk);
            harm(&disk);
            let verified = torrent.store(Arc::clone(&disk)).verify_all(threads(count));
            assert_eq!(
                sets(&verified.unwrap()),
                expected,
                "row {row}, {count} threads"
            );
        }
    }
}

#[test]
fn each_error_is_told_once() {
    let torrent = Torrent::new(&[1_000], 1);
    let disk = Counting::new();
    torrent.fill(&disk.disk);
    disk.disk.set_faults(Faults {
        read: Some(DiskErrorKind::Io),
        ..Faults::default()
    });
    let verified = torrent.store(disk).verify_all(threads(2)).unwrap();
    assert_eq!(verified.unreadable.count_ones(), 1_000);
    let [error] = &verified.errors[..] else {
        panic!("{:?}", verified.errors)
    };
    assert!(error.message.contains("dir0/f0"), "{error}");
}

#[test]
fn only_what_is_asked_for_is_read_and_nothing_that_is_not_there() {
    let torrent = Torrent::new(&[5_000_000, 10], 2_500_000);
    let disk = Counting::new();
    disk.disk.put(FileIndex(0), torrent.file_bytes(0).to_vec());
    let store = torrent.store(Arc::clone(&disk));
    let mut asked = Bitfield::new(3);
    for piece in [1, 2] {
        asked.set(torrent.layout().piece(piece).unwrap());
    }
    let verified = store.verify(&asked, threads(1)).unwrap();
    assert_eq!(sets(&verified), [vec![1], vec![], vec![2], vec![]]);
    // 2.5 MB in buffers of 256 KiB.
    assert_eq!(disk.counts(), (10, 0, 0));
}

#[test]
fn progress_counts_to_the_end() {
    let torrent = Torrent::new(&[95], 10);
    let disk = Counting::new();
    torrent.fill(&disk.disk);
    let seen = Mutex::new(Vec::new());
    let note = |progress| seen.lock().unwrap().push(progress);
    let control = Control {
        progress: Some(&note),
        ..threads(3)
    };
    torrent.store(disk).verify_all(control).unwrap();
    let seen = seen.into_inner().unwrap();
    let expected = HashProgress {
        pieces_done: 10,
        pieces_count: 10,
        bytes_done: 95,
        bytes_count: 95,
    };
    assert_eq!((seen.len(), *seen.last().unwrap()), (10, expected));
    assert!(seen.is_sorted_by_key(|progress| progress.bytes_done));
}

#[test]
fn it_stops_when_told_to() {
    let torrent = Torrent::new(&[1_000], 10);
    let disk = Counting::new();
    torrent.fill(&disk.disk);
    let cancel = AtomicBool::new(false);
    let stop = |progress: HashProgress| {
        cancel.store(progress.pieces_done >= 5, Ordering::Relaxed);
    };
    let control = Control {
        cancel: Some(&cancel),
        progress: Some(&stop),
        ..threads(1)
    };
    assert_eq!(
        torrent.store(Arc::clone(&disk)).verify_all(control),
        Err(Cancelled)
    );
    // Two times three pieces, a read each: those that it was at when it was told to are done.
    assert_eq!(disk.counts().0, 6);
}

#[test]
fn pieces_hashed_side_by_side_do_not_mix() {
    // Three reads a piece, the last of no whole number of hashed blocks; the torrent's last piece is shorter.
    let length = 2 * u64::from(READ_BYTES) + 77;
    let torrent = Torrent::new(&[11 * length + 5], u32::try_from(length).unwrap());
    let spoilt = |piece: u64, byte: u64| {
        let disk = Counting::new();
        torrent.fill(&disk.disk);
        let mut bytes = torrent.file_bytes(0).to_vec();
        bytes[usize::try_from(piece * length + byte).unwrap()] ^= 1;
        disk.disk.put(FileIndex(0), bytes);
        disk
    };
    for (piece, byte) in [(0, 0), (4, length / 2), (10, length - 1), (11, 4)] {
        for count in [1, 2] {
            let store = torrent.store(spoilt(piece, byte));
            let verified = store.verify_all(threads(count)).unwrap();
            let right = (0..12).filter(|other| u64::from(*other) != piece);
            let wrong = vec![u32::try_from(piece).unwrap()];
            assert_eq!(sets(&verified), [right.collect(), wrong, vec![], vec![]]);
        }
    }
}

#[test]
fn what_one_piece_meets_spares_those_beside_it() {
    // Each file is a piece, and a folder stands in the place of the second.
    let temp = tempfile::tempdir().unwrap();
    let torrent = Torrent::new(&[600_000; 9], 600_000);
    torrent.fill_folder(temp.path());
    let path = temp.path().join("dir1/f1");
    let store = torrent.open(temp.path(), &crate::OpenOptions::default());
    std::fs::write(&path, []).unwrap();
    let gone = store.verify_all(threads(1)).unwrap();
    assert_eq!(sets(&gone)[2], vec![1]);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let verified = store.verify_all(threads(1)).unwrap();
    let [good, wrong, missing, unreadable] = sets(&verified);
    assert_eq!((good.len(), wrong.len()), (8, 0));
    assert_eq!([missing, unreadable].concat(), vec![1]);
}

#[test]
fn a_hole_is_not_read_and_may_be_right() {
    let spec = FileSpec {
        path: "sparse".into(),
        length: 3_500_000,
        pad: false,
    };
    let mut payload = vec![0; 3_500_000];
    payload[1_500_000] = 1;
    let torrent = Torrent::with_payload(vec![spec], 1_000_000, payload.into());
    let temp = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(temp.path().join("sparse")).unwrap();
    file.set_len(3_500_000).unwrap();
    let store = torrent.open(temp.path(), &crate::OpenOptions::default());
    let verified = store.verify_all(threads(2)).unwrap();
    assert_eq!(sets(&verified), [vec![0, 2, 3], vec![1], vec![], vec![]]);
}

#[test]
fn an_empty_torrent_is_verified_at_once() {
    let torrent = Torrent::new(&[0], 10);
    let verified = torrent
        .store(Counting::new())
        .verify_all(Control::default());
    assert!(verified.unwrap().good.is_full());
}
