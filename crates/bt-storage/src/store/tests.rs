use super::*;
use crate::map::FileSpec;
use crate::memory::{Faults, MemoryStorage};
use crate::progress::RUN_BYTES_MAX;
use crate::testing::{Counting, Torrent, run, verdicts};
use bt_core::disk::DiskErrorKind;
use bt_core::{Bitfield, Rng};
use std::io::IoSliceMut;

mod batches;
mod threads;

/// Writes all blocks in this order; every piece must come out good, once, and the files right.
fn check_download(torrent: &Torrent, blocks: &[Block], held_bytes_max: u64, disk: &Arc<Counting>) {
    let store = torrent
        .store(Arc::clone(disk))
        .with_held_bytes_max(held_bytes_max);
    let mut good = Bitfield::new(torrent.layout().pieces_count());
    for block in blocks {
        let done = run(&store, torrent.write(*block));
        assert_eq!(done[0], Done::Wrote { block: *block });
        assert!(store.held_bytes() <= held_bytes_max);
        for (piece, verdict) in verdicts(&done) {
            assert_eq!(verdict, Verdict::Good, "piece {piece}");
            assert!(good.set(piece), "piece {piece} twice");
        }
    }
    assert!(good.is_full());
    assert_eq!(store.held_bytes(), 0);
    assert!(torrent.is_whole(&disk.disk));
    assert!(store.cells.is_empty(), "nothing is kept of finished pieces");
}

#[test]
fn blocks_in_any_order_over_any_files_end_up_right() {
    let shapes: [(&[u64], u32); 6] = [
        (&[1], 16_384),
        (&[4 * 16_384], 16_384),
        (&[300_000, 0, 5, 77_000, 0, 1, 200_000], 65_536),
        (&[100_000, 100_000], 40_000),
        (&[10; 40], 16),
        (&[3_000_000, 1_000], 1_200_000),
    ];
    for (lengths, piece_length) in shapes {
        let torrent = Torrent::new(lengths, piece_length);
        for held_bytes_max in [0, 100_000, HELD_BYTES_MAX] {
            let mut blocks = torrent.all_blocks();
            let counting = Counting::new;
            check_download(&torrent, &blocks, held_bytes_max, &counting());
            blocks.reverse();
            check_download(&torrent, &blocks, held_bytes_max, &counting());
            Rng::new(held_bytes_max).shuffle(&mut blocks);
            check_download(&torrent, &blocks, held_bytes_max, &counting());
        }
    }
}

#[test]
fn nothing_is_read_back_and_writes_are_long() {
    let torrent = Torrent::new(&[6_000_000], 2 * 1024 * 1024);
    let mut shuffled = torrent.all_blocks();
    Rng::new(7).shuffle(&mut shuffled);
    for blocks in [torrent.all_blocks(), shuffled] {
        let disk = Counting::new();
        check_download(&torrent, &blocks, HELD_BYTES_MAX, &disk);
        let (reads, writes, written) = disk.counts();
        assert_eq!((reads, written), (0, 6_000_000));
        // 367 blocks: in order a run a piece, shuffled somewhat more.
        assert!(writes <= 80, "{writes}");
    }
    let disk = Counting::new();
    check_download(&torrent, &torrent.all_blocks(), HELD_BYTES_MAX, &disk);
    assert_eq!(disk.counts().1, 3);
}

#[test]
fn a_run_of_blocks_is_read_as_its_blocks_one_by_one() {
    let pad = |length, pad| FileSpec {
        path: format!("f{length}").into(),
        length,
        pad,
    };
    let shapes = [
        (vec![pad(300_000, false)], 65_536),
        (
            vec![pad(70_000, false), pad(5, false), pad(99_999, false)],
            131_072,
        ),
        (
            vec![pad(40_000, false), pad(25_536, true), pad(90_000, false)],
            65_536,
        ),
    ];
    for (files, piece_length) in shapes {
        let torrent = Torrent::of(files, piece_length);
        let folder = tempfile::tempdir().unwrap();
        let on_disk = torrent.open(folder.path(), &OpenOptions::default());
        let in_memory = torrent.store(MemoryStorage::new());
        for store in [on_disk, in_memory] {
            for block in torrent.all_blocks() {
                run(&store, torrent.write(block));
            }
            for piece in torrent.layout().pieces() {
                let blocks: Vec<Block> = torrent.layout().blocks(piece).collect();
                for first in 0..blocks.len() {
                    for last in first..blocks.len() {
                        check_run(&torrent, &store, &blocks[first..=last]);
                    }
                }
            }
        }
    }
    // What is not there is an error, wherever in the run it begins.
    let torrent = Torrent::new(&[65_536], 65_536);
    let store = torrent.store(MemoryStorage::new());
    let blocks = torrent.all_blocks();
    run(&store, torrent.write(blocks[0]));
    run(&store, torrent.write(blocks[1]));
    store
        .files
        .write(0, vec![torrent.bytes(blocks[0])])
        .unwrap();
    let mut buffers = vec![vec![0; BLOCK_BYTES as usize]; 3];
    let mut slices: Vec<_> = buffers.iter_mut().map(|it| IoSliceMut::new(it)).collect();
    assert!(store.read_run(&blocks[..3], &mut slices).is_err());
}

fn check_run(torrent: &Torrent, store: &TorrentStore, blocks: &[Block]) {
    let lengths = blocks.iter().map(|block| block.length as usize);
    let mut together: Vec<Vec<u8>> = lengths.map(|length| vec![0; length]).collect();
    let mut slices: Vec<_> = together.iter_mut().map(|it| IoSliceMut::new(it)).collect();
    store.read_run(blocks, &mut slices).unwrap();
    for (block, read) in blocks.iter().zip(together) {
        let mut singly = vec![0; read.len()];
        store.read(*block, &mut singly).unwrap();
        assert!(read == singly && read == torrent.bytes(*block), "{block:?}");
    }
}

#[test]
fn a_long_piece_never_sits_in_memory() {
    let torrent = Torrent::new(&[16 * 1024 * 1024], 16 * 1024 * 1024);
    let store = torrent.store(MemoryStorage::new());
    for block in torrent.all_blocks() {
        run(&store, torrent.write(block));
        assert!(store.held_bytes() < RUN_BYTES_MAX);
    }
}

#[test]
fn a_liar_is_found_by_digests() {
    let torrent = Torrent::new(&[100_000], 65_536);
    let disk = Arc::new(MemoryStorage::new());
    let store = torrent.store(Arc::clone(&disk));
    let blocks = torrent.all_blocks();
    for block in &blocks[..4] {
        let mut data = torrent.bytes(*block).to_vec();
        data[0] ^= u8::from(block.index() == 2);
        let data = data.into();
        let done = run(
            &store,
            Job::Write {
                block: *block,
                data,
            },
        );
        let Some((_, verdict)) = verdicts(&done).pop() else {
            continue;
        };
        assert_eq!(block.index(), 3);
        let Verdict::Bad { digests: bad } = verdict else {
            panic!("{verdict:?}");
        };
        for block in &blocks[..4] {
            run(&store, torrent.write(*block));
        }
        let piece = block.piece;
        let done = run(&store, Job::Digest { piece });
        let Some(Done::Digests { digests: good, .. }) = done.first() else {
            panic!("{done:?}");
        };
        let differ: Vec<_> = (0..4).filter(|block| bad[*block] != good[*block]).collect();
        assert_eq!((bad.len(), good.len(), differ), (4, 4, vec![2]));
        return;
    }
    panic!("no verdict");
}

#[test]
fn garbage_in_padding_spoils_nothing() {
    let spec = |path: &str, length, pad| FileSpec {
        path: path.into(),
        length,
        pad,
    };
    let specs = vec![
        spec("a", 10_000, false),
        spec("p", 6_384, true),
        spec("b", 9, false),
    ];
    let torrent = Torrent::of(specs, 16_384);
    let disk = Arc::new(MemoryStorage::new());
    let store = torrent.store(Arc::clone(&disk));
    let block = torrent.all_blocks()[0];
    let mut data = torrent.bytes(block).to_vec();
    data[10_000..].fill(9);
    let data = data.into();
    let done = run(&store, Job::Write { block, data });
    assert_eq!(verdicts(&done), [(block.piece, Verdict::Good)]);
    let mut back = vec![1; 16_384];
    store.read(block, &mut back).unwrap();
    assert_eq!(back, torrent.bytes(block));
}

#[test]
fn a_disk_that_fails_is_a_verdict_and_nothing_is_kept() {
    let broken = |space_bytes, write| Faults {
        space_bytes,
        write,
        ..Faults::default()
    };
    let rows = [
        (broken(Some(40_000), None), DiskErrorKind::Full),
        (
            broken(None, Some(DiskErrorKind::Denied)),
            DiskErrorKind::Denied,
        ),
        (broken(None, Some(DiskErrorKind::Io)), DiskErrorKind::Io),
    ];
    for (faults, kind) in rows {
        let torrent = Torrent::new(&[200_000], 100_000);
        let disk = Arc::new(MemoryStorage::new());
        let store = torrent.store(Arc::clone(&disk));
        disk.set_faults(faults);
        let blocks = torrent.all_blocks();
        let first = &blocks[..7];
        let mut done = Vec::new();
        first
            .iter()
            .for_each(|block| store.run(torrent.write(*block), &mut done));
        let [(_, Verdict::Failed(error))] = &verdicts(&done)[..] else {
            panic!("{done:?}");
        };
        assert_eq!(error.kind, kind);
        assert!(error.message.contains("dir0/f0"), "{error}");
        assert_eq!(store.held_bytes(), 0);
        // Once the disk works again, so does the store.
        disk.set_faults(Faults::default());
        blocks
            .iter()
            .for_each(|block| store.run(torrent.write(*block), &mut done));
        let good = verdicts(&done)
            .into_iter()
            .filter(|(_, verdict)| *verdict == Verdict::Good);
        assert_eq!(good.count(), 2);
        assert!(torrent.is_whole(&disk));
    }
}

#[test]
fn a_disk_that_cannot_read_back_is_a_verdict_too() {
    let torrent = Torrent::new(&[100_000], 100_000);
    let disk = Arc::new(MemoryStorage::new());
    let store = torrent.store(Arc::clone(&disk)).with_held_bytes_max(0);
    disk.set_faults(Faults {
        read: Some(DiskErrorKind::Io),
        ..Faults::default()
    });
    let mut blocks = torrent.all_blocks();
    blocks.swap(0, 1);
    let mut done = Vec::new();
    blocks[..2]
        .iter()
        .for_each(|block| store.run(torrent.write(*block), &mut done));
    let verdicts = verdicts(&done);
    assert!(
        matches!(&verdicts[..], [(_, Verdict::Failed(error))] if error.kind == DiskErrorKind::Io),
        "{verdicts:?}"
    );
}

#[test]
fn blocks_held_out_of_order_are_freed_when_the_disk_fails() {
    let torrent = Torrent::new(&[8 * 1024 * 1024], 8 * 1024 * 1024);
    let disk = Arc::new(MemoryStorage::new());
    let store = torrent.store(Arc::clone(&disk));
    disk.set_faults(Faults {
        write: Some(DiskErrorKind::Full),
        ..Faults::default()
    });
    let blocks = torrent.all_blocks();
    // One far ahead, which a run does not write, and then a run.
    let done: Vec<_> = [&blocks[400..401], &blocks[..256]]
        .concat()
        .iter()
        .flat_map(|block| run(&store, torrent.write(*block)))
        .collect();
    assert!(matches!(&verdicts(&done)[..], [(_, Verdict::Failed(_))]));
    assert_eq!(store.held_bytes(), 0);
}

#[test]
fn discarding_frees_what_is_held_and_starts_over() {
    let torrent = Torrent::new(&[100_000], 100_000);
    let disk = Arc::new(MemoryStorage::new());
    let store = torrent.store(Arc::clone(&disk));
    let blocks = torrent.all_blocks();
    let garbage = Job::Write {
        block: blocks[0],
        data: vec![9; 16_384].into(),
    };
    run(&store, garbage);
    run(&store, torrent.write(blocks[3]));
    assert_eq!(store.held_bytes(), 2 * 16_384);
    let piece = blocks[0].piece;
    assert_eq!(run(&store, Job::Discard { piece }), []);
    assert_eq!(store.held_bytes(), 0);
    let done: Vec<_> = blocks
        .iter()
        .flat_map(|block| run(&store, torrent.write(*block)))
        .collect();
    assert_eq!(verdicts(&done), [(piece, Verdict::Good)]);
}

#[test]
fn a_block_that_comes_twice_counts_once() {
    let torrent = Torrent::new(&[40_000], 40_000);
    let store = torrent.store(MemoryStorage::new());
    let blocks = torrent.all_blocks();
    let order = [0, 0, 2, 2, 1];
    let done: Vec<_> = order
        .iter()
        .flat_map(|index| run(&store, torrent.write(blocks[*index])))
        .collect();
    assert_eq!(done.len(), 6, "five times wrote, once checked");
    assert_eq!(verdicts(&done), [(blocks[0].piece, Verdict::Good)]);
    assert_eq!(store.held_bytes(), 0);
}

#[test]
fn checking_reads_the_disk() {
    let torrent = Torrent::new(&[100_000], 50_000);
    let disk = Arc::new(MemoryStorage::new());
    let store = torrent.store(Arc::clone(&disk));
    let [first, second] = [0, 1].map(|piece| torrent.layout().piece(piece).unwrap());
    let check = |piece| {
        verdicts(&run(&store, Job::Check { piece }))
            .pop()
            .unwrap()
            .1
    };
    assert!(matches!(check(first), Verdict::Failed(error) if error.kind == DiskErrorKind::Missing));
    torrent.fill(&disk);
    assert_eq!(
        (check(first), check(second)),
        (Verdict::Good, Verdict::Good)
    );
    let mut rotten = torrent.payload.to_vec();
    rotten[60_000] ^= 1;
    disk.put(FileIndex(0), rotten);
    assert_eq!(check(first), Verdict::Good);
    assert!(matches!(check(second), Verdict::Bad { digests } if digests.len() == 4));
}

#[test]
fn uploads_read_any_block_and_say_when_they_cannot() {
    let torrent = Torrent::new(&[70_000, 30_000], 100_000);
    let disk = Arc::new(MemoryStorage::new());
    let store = torrent.store(Arc::clone(&disk));
    torrent.fill(&disk);
    for (begin, length) in [(0, 16_384), (69_990, 20), (5, 99_995), (99_999, 1)] {
        let block = torrent.layout().block(0, begin, length).unwrap();
        let mut out = vec![0; length as usize];
        store.read(block, &mut out).unwrap();
        assert_eq!(out, torrent.bytes(block), "{begin}+{length}");
    }
    let block = torrent.layout().block(0, 60_000, 16_384).unwrap();
    let mut out = vec![0; 16_384];
    let kind = |out: &mut [u8]| store.read(block, out).unwrap_err().kind;
    disk.put(FileIndex(1), vec![0; 6_383]);
    assert_eq!(kind(&mut out), DiskErrorKind::Missing);
    disk.remove(FileIndex(0));
    assert_eq!(kind(&mut out), DiskErrorKind::Missing);
    disk.set_faults(Faults {
        read: Some(DiskErrorKind::Io),
        ..Faults::default()
    });
    assert_eq!(kind(&mut out), DiskErrorKind::Io);
}

#[test]
#[should_panic(expected = "is on the grid")]
fn a_block_off_the_grid_is_a_bug() {
    let torrent = Torrent::new(&[100_000], 100_000);
    let block = torrent.layout().block(0, 1, 16_384).unwrap();
    run(&torrent.store(MemoryStorage::new()), torrent.write(block));
}
