//! Several threads at one store.

use super::*;
use crate::progress::RUN_BYTES;
use std::io::{self, IoSlice};
use std::sync::mpsc::{self, Receiver, SyncSender};

#[test]
fn many_threads_on_the_same_pieces() {
    let torrent = Torrent::new(&[3_000_000, 7, 2_000_000], 1_000_000);
    let disk = Arc::new(MemoryStorage::new());
    let store = torrent
        .store(Arc::clone(&disk))
        .with_held_bytes_max(500_000);
    let mut blocks = torrent.all_blocks();
    Rng::new(3).shuffle(&mut blocks);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for part in blocks.chunks(blocks.len().div_ceil(8)) {
            let (store, done, torrent) = (&store, &done, &torrent);
            scope.spawn(move || {
                let mut answers = Vec::new();
                part.iter()
                    .for_each(|block| store.run(torrent.write(*block), &mut answers));
                done.lock().unwrap().append(&mut answers);
            });
        }
    });
    let done = done.into_inner().unwrap();
    let wrote = done
        .iter()
        .filter(|done| matches!(done, Done::Wrote { .. }));
    assert_eq!(wrote.count(), blocks.len());
    let verdicts = verdicts(&done);
    assert_eq!(verdicts.len(), 6);
    assert!(
        verdicts
            .iter()
            .all(|(_, verdict)| *verdict == Verdict::Good)
    );
    assert!(torrent.is_whole(&disk));
    assert_eq!(store.held_bytes(), 0);
}

/// What waits at a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gated {
    Reads,
    Writes,
}

/// A disk whose reads or writes wait until they are let through.
struct Gate {
    disk: Arc<MemoryStorage>,
    gated: Gated,
    at_gate: SyncSender<()>,
    open: Mutex<Receiver<()>>,
}

impl Gate {
    /// The gate, what says that somebody is there, and what lets him through.
    fn new(gated: Gated) -> (Self, Receiver<()>, SyncSender<()>) {
        let (at_gate, reached) = mpsc::sync_channel(1);
        let (let_through, open) = mpsc::sync_channel(1);
        let gate = Self {
            disk: Arc::new(MemoryStorage::new()),
            gated,
            at_gate,
            open: Mutex::new(open),
        };
        (gate, reached, let_through)
    }

    fn pass(&self, what: Gated) {
        if what == self.gated {
            self.at_gate.send(()).unwrap();
            self.open.lock().unwrap().recv().unwrap();
        }
    }
}

impl Storage for Gate {
    fn read_at(&self, file: FileIndex, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.pass(Gated::Reads);
        self.disk.read_at(file, offset, buffer)
    }

    fn write_at(&self, file: FileIndex, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.pass(Gated::Writes);
        self.disk.write_at(file, offset, buffers)
    }

    fn stat(&self, file: FileIndex) -> io::Result<Option<FileStat>> {
        self.disk.stat(file)
    }

    fn sync(&self, file: FileIndex) -> io::Result<()> {
        self.disk.sync(file)
    }

    fn create(&self, file: FileIndex) -> io::Result<()> {
        self.disk.create(file)
    }
}

#[test]
fn nobody_waits_for_a_busy_piece_and_its_jobs_keep_their_order() {
    let torrent = Torrent::new(&[16_384], 16_384);
    let (gate, gate_reached, let_through) = Gate::new(Gated::Writes);
    let store = torrent.store(gate);
    let block = torrent.all_blocks()[0];
    let piece = block.piece;
    let done = std::thread::scope(|scope| {
        let writer = scope.spawn(|| run(&store, torrent.write(block)));
        gate_reached.recv().unwrap();
        // The writer is inside its write now. These return at once, with nothing.
        assert_eq!(run(&store, Job::Check { piece }), []);
        assert_eq!(run(&store, Job::Digest { piece }), []);
        let_through.send(()).unwrap();
        writer.join().unwrap()
    });
    let good = Done::Checked {
        piece,
        verdict: Verdict::Good,
    };
    assert_eq!(done[..3], [Done::Wrote { block }, good.clone(), good]);
    assert!(matches!(&done[3], Done::Digests { digests, .. } if digests.len() == 1));
}

#[test]
fn who_is_at_a_piece_writes_what_another_thread_wanted_to() {
    let torrent = Torrent::new(&[1024 * 1024], 1024 * 1024);
    let blocks = torrent.all_blocks();
    let piece = blocks[0].piece;
    let run_blocks = usize::try_from(RUN_BYTES / u64::from(BLOCK_BYTES)).unwrap();
    // A run that is worth writing, and a whole piece.
    for early in [run_blocks, blocks.len()] {
        let (gate, gate_reached, let_through) = Gate::new(Gated::Reads);
        let disk = Arc::clone(&gate.disk);
        let store = torrent.store(gate);
        let mut done = Vec::new();
        for block in &blocks[..early] {
            store.gather(torrent.write(*block), &mut done);
        }
        let checked = std::thread::scope(|scope| {
            let checking = scope.spawn(|| {
                let mut done = Vec::new();
                store.run(Job::Check { piece }, &mut done);
                done
            });
            gate_reached.recv().unwrap();
            assert!(store.take_ready(&mut done).is_empty(), "another is at it");
            let_through.send(()).unwrap();
            checking.join().unwrap()
        });
        // It is missing at first, and then complete or not.
        assert_eq!(verdicts(&checked).len(), 1 + early / blocks.len());
        assert_eq!(store.held_bytes(), 0, "{early} blocks");
        for block in &blocks[early..] {
            store.gather(torrent.write(*block), &mut done);
        }
        store.flush_ready(&mut done);
        done.extend(checked);
        let good = (piece, Verdict::Good);
        assert_eq!(verdicts(&done).iter().filter(|it| **it == good).count(), 1);
        assert!(torrent.is_whole(&disk) && store.cells.is_empty());
    }
}

#[test]
fn what_is_not_hashed_yet_is_left_to_its_batch() {
    let torrent = Torrent::new(&[2 * u64::from(BLOCK_BYTES)], 2 * BLOCK_BYTES);
    let blocks = torrent.all_blocks();
    let piece = blocks[0].piece;
    let cells = Cells::default();
    let Some(Next::Job(mut slot, _)) = cells.begin(piece, torrent.write(blocks[0])) else {
        panic!("nobody is at the piece");
    };
    let mut progress = Progress::new(2 * BLOCK_BYTES);
    for block in &blocks {
        progress.add(*block, torrent.bytes(*block));
    }
    slot.progress = Some(Box::new(progress));
    assert!(cells.go_on(piece, slot).is_none(), "given back");
    assert!(cells.depart(piece).is_none(), "complete, and not hashed");
    let mut progress = cells.lend(piece);
    assert!(cells.lend(piece).is_none(), "one thread at a time");
    progress.as_mut().unwrap().hash_held();
    let slot = Slot {
        progress,
        outcome: None,
    };
    let next = cells.go_on(piece, slot);
    assert!(matches!(next, Some(Next::Write(portion)) if portion.length_bytes() == 32_768));
}
