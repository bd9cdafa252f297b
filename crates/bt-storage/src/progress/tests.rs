use super::*;
use bt_core::{Layout, Rng};
use sha1::{Digest, Sha1};

const KIB_16: u32 = BLOCK_BYTES;

fn block(index: u32) -> Block {
    let layout = Layout::new(10_000_000, 10_000_000).unwrap();
    let piece = layout.piece(0).unwrap();
    layout.block_at(piece, index).unwrap()
}

fn data(index: u32) -> Bytes {
    vec![u8::try_from(index % 251).unwrap(); KIB_16 as usize].into()
}

fn add(progress: &mut Progress, index: u32) {
    progress.add(block(index), data(index));
    progress.hash_held();
}

fn begins(runs: &[Run]) -> Vec<(u32, usize)> {
    runs.iter()
        .map(|run| (run.begin / KIB_16, run.buffers.len()))
        .collect()
}

#[test]
fn what_is_hashed_and_what_is_held() {
    // Blocks as they come → (hashed, held, hashed of the held), all in blocks.
    let rows = [
        (1, (0, 1, 0)),
        (3, (0, 2, 0)),
        (0, (2, 3, 2)),
        (0, (2, 3, 2)),
        (2, (4, 4, 4)),
    ];
    let mut progress = Progress::new(6 * KIB_16);
    for (index, expected) in rows {
        add(&mut progress, index);
        let blocks = |bytes: u64| bytes / u64::from(KIB_16);
        let found = (
            progress.hashed / KIB_16,
            blocks(progress.held_bytes),
            blocks(progress.held_hashed_bytes),
        );
        assert_eq!(found, expected, "after block {index}");
    }
    assert!(!progress.is_complete());
}

#[test]
fn only_hashed_blocks_are_handed_out_for_a_run() {
    let mut progress = Progress::new(6 * KIB_16);
    for index in [0, 1, 3, 5] {
        add(&mut progress, index);
    }
    assert_eq!(begins(&progress.take_hashed()), [(0, 2)]);
    assert_eq!(progress.held_bytes(), 2 * u64::from(KIB_16));
    assert_eq!(begins(&progress.take_all()), [(3, 1), (5, 1)]);
    assert_eq!(progress.held_bytes(), 0);
}

#[test]
fn a_run_is_ready_at_sixteen_blocks_and_due_at_two_hundred_and_fifty_six() {
    let mut progress = Progress::new(400 * KIB_16);
    for index in 0..15 {
        add(&mut progress, index);
    }
    // Out of order: does not count, it cannot be written without being read back.
    add(&mut progress, 300);
    assert!(!progress.is_run_ready());
    add(&mut progress, 15);
    assert!(progress.is_run_ready());
    for index in 16..255 {
        add(&mut progress, index);
    }
    assert!(!progress.is_run_due());
    add(&mut progress, 255);
    assert!(progress.is_run_due());
    assert_eq!(begins(&progress.take_hashed()), [(0, 256)]);
    assert!(!progress.is_run_ready() && !progress.is_run_due());
}

#[test]
fn what_was_written_early_is_read_back_when_its_turn_comes() {
    let mut progress = Progress::new(6 * KIB_16);
    for index in [1, 2] {
        add(&mut progress, index);
    }
    assert_eq!(begins(&progress.take_all()), [(1, 2)]);
    add(&mut progress, 4);
    assert_eq!(progress.read_back(), None, "block 0 is still to come");
    add(&mut progress, 0);
    let expected = ReadBack {
        begin: KIB_16,
        length: 2 * KIB_16,
    };
    assert_eq!(progress.read_back(), Some(expected));
    progress.hash_read_back(&[data(1), data(2)].concat());
    assert_eq!(progress.read_back(), None, "block 3 is still to come");
    add(&mut progress, 3);
    assert_eq!(progress.hashed, 5 * KIB_16);
}

#[test]
fn any_order_and_any_early_writing_gives_the_same_hash() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let length = 1 + u32::try_from(rng.below(20 * u64::from(KIB_16))).unwrap();
        let mut disk = vec![0; length as usize];
        rng.fill(&mut disk);
        let payload = Bytes::from(disk.clone());
        disk.fill(0);
        let layout = Layout::new(length.into(), length).unwrap();
        let mut blocks: Vec<_> = layout.blocks(layout.piece(0).unwrap()).collect();
        rng.shuffle(&mut blocks);
        let mut progress = Progress::new(length);
        for block in blocks {
            let range = block.begin as usize..block.end() as usize;
            progress.add(block, payload.slice(range));
            // Blocks are hashed when they come, or some of them together.
            if rng.below(3) == 0 {
                hash_together([&mut progress].into_iter());
            }
            let runs = match rng.below(4) {
                0 => progress.take_all(),
                1 => progress.take_hashed(),
                _ => Vec::new(),
            };
            for run in runs {
                let bytes = run.buffers.concat();
                disk[run.begin as usize..][..bytes.len()].copy_from_slice(&bytes);
            }
            progress.hash_held();
            while let Some(run) = progress.read_back() {
                progress.hash_read_back(&disk[run.begin as usize..][..run.length as usize]);
            }
        }
        assert!(progress.is_complete());
        let expected: [u8; 20] = Sha1::digest(&payload).into();
        assert_eq!(progress.finish(), expected, "seed {seed}");
    }
}

#[test]
fn pieces_hashed_together_have_each_its_own_hash() {
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        let lengths: Vec<u32> = (0..1 + rng.below(7))
            .map(|_| 1 + u32::try_from(rng.below(9 * u64::from(KIB_16))).unwrap())
            .collect();
        let mut pieces: Vec<(Progress, Sha1)> = Vec::new();
        let mut blocks = Vec::new();
        for (number, length) in lengths.iter().enumerate() {
            pieces.push((Progress::new(*length), Sha1::new()));
            let layout = Layout::new((*length).into(), *length).unwrap();
            let piece = layout.piece(0).unwrap();
            blocks.extend(layout.blocks(piece).map(|block| (number, block)));
        }
        // Within a piece in order, so that the oracle can take them as they come.
        let mut order: Vec<usize> = blocks.iter().map(|(number, _)| *number).collect();
        rng.shuffle(&mut order);
        let mut left: Vec<_> = (0..lengths.len())
            .map(|number| blocks.iter().filter(move |(of, _)| *of == number))
            .collect();
        for number in order {
            let (_, block) = *left[number].next().unwrap();
            let mut bytes = vec![0; block.length as usize];
            rng.fill(&mut bytes);
            let (progress, oracle) = &mut pieces[number];
            oracle.update(&bytes);
            progress.add(block, bytes.into());
            if rng.below(4) == 0 {
                hash_together(pieces.iter_mut().map(|(progress, _)| progress));
            }
        }
        hash_together(pieces.iter_mut().map(|(progress, _)| progress));
        for (progress, oracle) in pieces {
            assert!(progress.is_complete() && !progress.is_behind());
            let expected: [u8; 20] = oracle.finalize().into();
            assert_eq!(progress.finish(), expected, "seed {seed}, {lengths:?}");
        }
    }
}
