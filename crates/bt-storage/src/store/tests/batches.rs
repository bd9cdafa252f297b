//! What a batch of jobs leaves to be written, and when it is.

use super::*;

#[test]
fn what_a_batch_leaves_is_written_at_its_end_if_it_is_worth_it() {
    let torrent = Torrent::new(&[1024 * 1024], 1024 * 1024);
    let storage = Arc::new(MemoryStorage::new());
    let store = torrent.store(Arc::clone(&storage));
    let blocks = torrent.all_blocks();
    let mut written = 0;
    for (batch, expected) in [(15, 0), (1, 16), (15, 16), (20, 51), (12, 51)] {
        for block in &blocks[written..written + batch] {
            run(&store, torrent.write(*block));
        }
        written += batch;
        let mut done = Vec::new();
        store.flush_ready(&mut done);
        assert!(done.is_empty(), "{done:?}");
        let held = u64::from(BLOCK_BYTES) * (written - expected) as u64;
        assert_eq!(store.held_bytes(), held, "{written} blocks");
    }
    let last = run(&store, torrent.write(blocks[63]));
    assert!(matches!(
        last.last(),
        Some(Done::Checked {
            verdict: Verdict::Good,
            ..
        })
    ));
    assert_eq!(store.held_bytes(), 0);
}

#[test]
fn a_disk_that_fails_at_the_end_of_a_batch_fails_the_piece() {
    let torrent = Torrent::new(&[1024 * 1024], 1024 * 1024);
    let disk = Arc::new(MemoryStorage::new());
    disk.set_faults(Faults {
        space_bytes: Some(0),
        ..Faults::default()
    });
    let store = torrent.store(disk);
    let blocks = torrent.all_blocks();
    for block in &blocks[..16] {
        run(&store, torrent.write(*block));
    }
    let mut done = Vec::new();
    store.flush_ready(&mut done);
    assert!(matches!(
        done[..],
        [Done::Checked {
            verdict: Verdict::Failed(_),
            ..
        }]
    ));
    assert_eq!(store.held_bytes(), 0, "the piece begins anew");
    store.flush_ready(&mut done);
    assert_eq!(done.len(), 1, "told once");
}

/// Gathers the blocks in batches and writes what they leave later, in any order; the answers must be those of the plain way,
/// but for their order, and the files right.
fn check_batches(torrent: &Torrent, held_bytes_max: u64, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut blocks = torrent.all_blocks();
    if !seed.is_multiple_of(2) {
        rng.shuffle(&mut blocks);
    }
    let [plain, disk] = [(); 2].map(|()| Arc::new(MemoryStorage::new()));
    let store = |disk: &Arc<MemoryStorage>| {
        let store = torrent.store(Arc::clone(disk));
        store.with_held_bytes_max(held_bytes_max)
    };
    let (oracle, store) = (store(&plain), store(&disk));
    let (mut expected, mut done, mut out) = (Vec::new(), Vec::new(), Vec::new());
    // Each fifth block has a wrong byte the first time.
    let spoiled = |(index, block): (usize, &Block)| {
        let mut data = torrent.bytes(*block).to_vec();
        data[0] ^= u8::from(index % 5 == 4 && seed.is_multiple_of(3));
        Job::Write {
            block: *block,
            data: data.into(),
        }
    };
    let first = blocks.iter().enumerate().map(spoiled).collect();
    let again = blocks.iter().map(|block| torrent.write(*block)).collect();
    let pieces = torrent.layout().pieces();
    let digests = pieces.map(|piece| Job::Digest { piece }).collect();
    let rounds: [Vec<Job>; 3] = [first, again, digests];
    for mut jobs in rounds {
        while !jobs.is_empty() {
            let batch = jobs.len().min(1 + rng.index(70));
            for job in jobs.drain(..batch) {
                oracle.run(job.clone(), &mut expected);
                store.gather(job, &mut done);
            }
            out.extend(store.take_ready(&mut done));
            rng.shuffle(&mut out);
            let rest = out.split_off(out.len().min(rng.index(3)));
            store.write(core::mem::replace(&mut out, rest), &mut done);
        }
    }
    store.write(out, &mut done);
    let sorted = |done: Vec<Done>| {
        let mut words: Vec<String> = done.iter().map(|done| format!("{done:?}")).collect();
        words.sort();
        words
    };
    assert_eq!(sorted(done), sorted(expected), "seed {seed}");
    assert!(torrent.is_whole(&disk) && torrent.is_whole(&plain));
    assert_eq!((store.held_bytes(), store.cells.is_empty()), (0, true));
}

#[test]
fn what_is_written_later_comes_to_the_same_as_what_is_written_at_once() {
    let shapes: [(&[u64], u32); 4] = [
        (&[4 * 16_384], 16_384),
        (&[300_000, 0, 5, 77_000, 0, 1, 200_000], 65_536),
        (&[3_000_000, 1_000], 1_200_000),
        (&[5_000_000], 4 * 1024 * 1024),
    ];
    for (lengths, piece_length) in shapes {
        let torrent = Torrent::new(lengths, piece_length);
        for seed in 0..6 {
            for held_bytes_max in [100_000, HELD_BYTES_MAX] {
                check_batches(&torrent, held_bytes_max, seed);
            }
        }
    }
}

#[test]
fn a_piece_has_no_verdict_before_its_last_portion_landed_and_nothing_overtakes_it() {
    let torrent = Torrent::new(&[1024 * 1024], 1024 * 1024);
    let disk = Arc::new(MemoryStorage::new());
    let store = torrent.store(Arc::clone(&disk));
    let blocks = torrent.all_blocks();
    let piece = blocks[0].piece;
    let mut done = Vec::new();
    let gather = |part: &[Block], done: &mut Vec<Done>| {
        part.iter()
            .for_each(|block| store.gather(torrent.write(*block), done));
        store.take_ready(done)
    };
    let first = gather(&blocks[..32], &mut done);
    let second = gather(&blocks[32..], &mut done);
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!(first[0].length_bytes() + second[0].length_bytes(), 1 << 20);
    assert_eq!(store.held_bytes(), 1 << 20, "until it is written");
    // These wait, and so does the block behind them.
    store.gather(Job::Check { piece }, &mut done);
    store.gather(Job::Discard { piece }, &mut done);
    store.gather(torrent.write(blocks[0]), &mut done);
    assert!(store.take_ready(&mut done).is_empty());
    store.write(second, &mut done);
    assert_eq!((done.len(), verdicts(&done)), (64, Vec::new()));
    store.write(first, &mut done);
    let good = (piece, Verdict::Good);
    assert_eq!(verdicts(&done), [good.clone(), good], "judged, and checked");
    assert_eq!(done.last(), Some(&Done::Wrote { block: blocks[0] }));
    assert_eq!(store.held_bytes(), u64::from(BLOCK_BYTES), "begun anew");
}

#[test]
fn a_portion_that_fails_fails_the_piece_once_whatever_came_since() {
    let torrent = Torrent::new(&[1024 * 1024], 1024 * 1024);
    let blocks = torrent.all_blocks();
    // How many blocks come before the failure is known, and how many with what is written then.
    for (since, later) in [(0, 0), (10, 0), (32, 0), (10, 22)] {
        let disk = Arc::new(MemoryStorage::new());
        let store = torrent.store(Arc::clone(&disk));
        let mut done = Vec::new();
        let mut gather = |part: &[Block]| {
            part.iter()
                .for_each(|block| store.gather(torrent.write(*block), &mut done));
            store.take_ready(&mut done)
        };
        let first = gather(&blocks[..32]);
        let mut second = gather(&blocks[32..32 + since]);
        second.extend(gather(&blocks[32 + since..32 + since + later]));
        disk.set_faults(Faults {
            write: Some(DiskErrorKind::Io),
            ..Faults::default()
        });
        store.write(first, &mut done);
        disk.set_faults(Faults::default());
        store.write(second, &mut done);
        let verdicts = verdicts(&done);
        assert!(
            matches!(&verdicts[..], [(_, Verdict::Failed(error))] if error.kind == DiskErrorKind::Io),
            "{verdicts:?}"
        );
        assert_eq!((store.held_bytes(), store.cells.is_empty()), (0, true));
        blocks
            .iter()
            .for_each(|block| store.run(torrent.write(*block), &mut done));
        assert!(torrent.is_whole(&disk));
    }
}

#[test]
fn a_failure_stands_though_the_rest_of_the_piece_is_written() {
    let torrent = Torrent::new(&[1024 * 1024], 1024 * 1024);
    let disk = Arc::new(MemoryStorage::new());
    let store = torrent.store(Arc::clone(&disk));
    let blocks = torrent.all_blocks();
    let mut done = Vec::new();
    let gather = |part: &[Block], done: &mut Vec<Done>| {
        part.iter()
            .for_each(|block| store.gather(torrent.write(*block), done));
    };
    gather(&blocks[..16], &mut done);
    let first = store.take_ready(&mut done);
    gather(&blocks[16..32], &mut done);
    let mut rest = store.take_ready(&mut done);
    gather(&blocks[32..], &mut done);
    disk.set_faults(Faults {
        write: Some(DiskErrorKind::Io),
        ..Faults::default()
    });
    store.write(first, &mut done);
    disk.set_faults(Faults::default());
    // The piece is complete, and all that is still to be written can be.
    rest.extend(store.take_ready(&mut done));
    store.write(rest, &mut done);
    assert!(matches!(
        &verdicts(&done)[..],
        [(_, Verdict::Failed(error))] if error.kind == DiskErrorKind::Io
    ));
    assert_eq!((store.held_bytes(), store.cells.is_empty()), (0, true));
}

#[test]
fn what_cannot_be_read_back_at_the_end_of_a_batch_is_a_verdict() {
    let torrent = Torrent::new(&[4 * u64::from(BLOCK_BYTES)], 4 * BLOCK_BYTES);
    let blocks = torrent.all_blocks();
    let piece = blocks[0].piece;
    let disk = Arc::new(MemoryStorage::new());
    // The last two blocks come first, and leave memory before they can be hashed.
    let store = torrent.store(Arc::clone(&disk)).with_held_bytes_max(20_000);
    let mut done = Vec::new();
    for block in [blocks[2], blocks[3], blocks[0]] {
        store.gather(torrent.write(block), &mut done);
        store.flush_ready(&mut done);
    }
    disk.set_faults(Faults {
        read: Some(DiskErrorKind::Io),
        ..Faults::default()
    });
    store.gather(torrent.write(blocks[1]), &mut done);
    assert_eq!(verdicts(&done), Vec::new(), "the batch is not over");
    assert!(store.take_ready(&mut done).is_empty());
    assert!(matches!(
        &verdicts(&done)[..],
        [(of, Verdict::Failed(error))] if *of == piece && error.kind == DiskErrorKind::Io
    ));
    assert_eq!((store.held_bytes(), store.cells.is_empty()), (0, true));
    disk.set_faults(Faults::default());
    blocks
        .iter()
        .for_each(|block| store.gather(torrent.write(*block), &mut done));
    store.flush_ready(&mut done);
    assert_eq!(verdicts(&done).last(), Some(&(piece, Verdict::Good)));
    assert!(torrent.is_whole(&disk));
}

#[test]
fn what_leaves_memory_within_a_batch_is_hashed_before() {
    // More than may be held, of one piece and of several, in one batch.
    for (piece_length, held_bytes_max) in [(1 << 22, HELD_BYTES_MAX), (1 << 18, 100_000)] {
        let torrent = Torrent::new(&[1 << 22], piece_length);
        let counting = Counting::new();
        let store = torrent
            .store(Arc::clone(&counting))
            .with_held_bytes_max(held_bytes_max);
        let mut done = Vec::new();
        let mut most = 0;
        for block in torrent.all_blocks() {
            store.gather(torrent.write(block), &mut done);
            most = most.max(store.held_bytes());
        }
        assert!(most <= RUN_BYTES_MAX.min(held_bytes_max), "{most}");
        store.flush_ready(&mut done);
        assert_eq!(counting.counts().0, 0, "nothing is read back");
        assert!(torrent.is_whole(&counting.disk));
    }
}
