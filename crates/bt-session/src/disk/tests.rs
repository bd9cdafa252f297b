use super::pace::{SLOW, SLOW_SPAN, SLOW_TIMES};
use super::*;
use bt_core::disk::Verdict;
use bt_core::{BLOCK_BYTES, Layout};
use bt_storage::{FileIndex, FileMap, FileSpec, FileStat, MemoryStorage, Storage};
use bytes::Bytes;
use core::pin::pin;
use core::task::{Context, Waker};
use core::time::Duration;
use std::io::{self, IoSlice};

const NANO: Duration = Duration::from_nanos(1);

const LAYOUT_BYTES: u64 = 4 * 2 * BLOCK_BYTES as u64;

fn layout() -> Layout {
    Layout::new(LAYOUT_BYTES, 2 * BLOCK_BYTES).unwrap()
}

fn disk() -> Arc<Disk> {
    disk_of(Box::new(MemoryStorage::new()))
}

/// Two pieces, each long enough to be worth another thread.
fn long_layout() -> Layout {
    let piece_bytes = u32::try_from(ASIDE_BYTES_MIN).unwrap().next_power_of_two();
    Layout::new(2 * u64::from(piece_bytes), piece_bytes).unwrap()
}

fn disk_of(storage: Box<dyn Storage>) -> Arc<Disk> {
    disk_with(layout(), storage)
}

fn disk_with(layout: Layout, storage: Box<dyn Storage>) -> Arc<Disk> {
    let spec = FileSpec {
        path: "file".into(),
        length: layout.total_length(),
        pad: false,
    };
    let map = FileMap::new(layout, vec![spec]);
    let hashes = vec![[0; 20]; layout.pieces_count() as usize];
    let store = TorrentStore::with_storage(map, hashes, storage);
    Arc::new(Disk::new(Arc::new(store), Arc::new(Semaphore::new(2))))
}

fn writes(piece: u32) -> Vec<Job> {
    writes_of(layout(), piece)
}

fn writes_of(layout: Layout, piece: u32) -> Vec<Job> {
    let blocks = layout.blocks(layout.piece(piece).unwrap());
    let data = Bytes::from(vec![7; BLOCK_BYTES as usize]);
    blocks
        .map(|block| Job::Write {
            block,
            data: data.clone(),
        })
        .collect()
}

fn is_bad(done: &Done) -> bool {
    matches!(
        done,
        Done::Checked {
            verdict: Verdict::Bad { .. },
            ..
        }
    )
}

#[tokio::test]
async fn a_quick_disk_answers_on_the_spot() {
    let (mut jobs, _feeding) = Jobs::new(disk());
    let mut done = Vec::new();
    submit(&mut jobs, writes(0), &mut done);
    assert_eq!(done.len(), 3, "{done:?}");
    assert!(is_bad(&done[2]) && !jobs.is_owed());
}

/// A batch.
fn submit(jobs: &mut Jobs, batch: Vec<Job>, done: &mut Vec<Done>) {
    batch.into_iter().for_each(|job| jobs.submit(job, done));
    jobs.flush(done);
}

#[tokio::test(start_paused = true)]
async fn a_long_batch_is_written_beside_and_the_next_one_on_the_spot() {
    let layout = long_layout();
    let (mut jobs, _feeding) = Jobs::new(disk_with(layout, Box::new(MemoryStorage::new())));
    let mut done = Vec::new();
    for round in 0..3 {
        submit(&mut jobs, writes_of(layout, 0), &mut done);
        assert!(jobs.is_owed() && !done.iter().any(is_bad), "round {round}");
        submit(&mut jobs, writes_of(layout, 1), &mut done);
        let last = done.last().unwrap();
        assert!(matches!(last, Done::Checked { piece, .. } if piece.get() == 1));
        assert!(is_bad(last));
        let answer = jobs.answer().await.unwrap();
        assert!(is_bad(&answer[0]) && answer.len() == 1 && !jobs.is_owed());
        done.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_piece_that_came_in_short_batches_is_written_on_the_spot() {
    let layout = long_layout();
    let (mut jobs, _feeding) = Jobs::new(disk_with(layout, Box::new(MemoryStorage::new())));
    let mut done = Vec::new();
    let mut all = writes_of(layout, 0);
    let rest = all.split_off(1);
    for job in all.into_iter().chain(rest) {
        submit(&mut jobs, vec![job], &mut done);
        assert!(!jobs.is_owed());
    }
    assert!(is_bad(done.last().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn when_the_pool_is_busy_a_long_batch_is_written_on_the_spot() {
    let layout = long_layout();
    let disk = disk_with(layout, Box::new(MemoryStorage::new()));
    let (mut jobs, _feeding) = Jobs::new(Arc::clone(&disk));
    let mut done = Vec::new();
    let all = disk.permits.acquire_many(2).await.unwrap();
    submit(&mut jobs, writes_of(layout, 0), &mut done);
    assert!(is_bad(done.last().unwrap()) && !jobs.is_owed());
    drop(all);
    submit(&mut jobs, writes_of(layout, 0), &mut done);
    assert!(jobs.is_owed(), "one of the pool's threads has it");
    jobs.finish().await;
    assert_eq!(
        (jobs.is_owed(), disk.permits.available_permits()),
        (false, 2)
    );
}

#[tokio::test]
async fn a_disk_that_turns_slow_in_a_batch_writes_it_beside() {
    let disk = disk();
    let (mut jobs, _feeding) = Jobs::new(Arc::clone(&disk));
    let mut done = Vec::new();
    for job in writes(0) {
        jobs.submit(job, &mut done);
    }
    disk.pretend_slow();
    jobs.flush(&mut done);
    assert!(jobs.is_owed() && !done.iter().any(is_bad));
    assert!(is_bad(&jobs.answer().await.unwrap()[0]));
}

#[tokio::test]
#[should_panic(expected = "a store writes without a panic")]
async fn a_panic_beside_the_jobs_is_a_panic_of_the_torrent() {
    let layout = long_layout();
    let (mut jobs, _feeding) = Jobs::new(disk_with(layout, Box::new(Asleep)));
    submit(&mut jobs, writes_of(layout, 0), &mut Vec::new());
    jobs.answer().await;
}

#[tokio::test]
async fn a_slow_disk_answers_in_order_and_nothing_overtakes_the_queue() {
    let disk = disk();
    disk.pretend_slow();
    let (mut jobs, feeding) = Jobs::new(Arc::clone(&disk));
    let mut done = Vec::new();
    let first: Vec<Job> = (0..3).flat_map(writes).collect();
    first
        .into_iter()
        .for_each(|job| jobs.submit(job, &mut done));
    // The disk has become quick again; these wait all the same.
    disk.pace.pretend(false);
    writes(3)
        .into_iter()
        .for_each(|job| jobs.submit(job, &mut done));
    assert_eq!((done.len(), jobs.queued), (0, 8));
    let feeding = tokio::spawn(feeding);
    while jobs.queued > 0 {
        done.extend(jobs.answer().await.unwrap());
    }
    let order: Vec<u32> = done
        .iter()
        .map(|done| match done {
            Done::Wrote { block } => block.piece.get(),
            Done::Checked { piece, .. } | Done::Digests { piece, .. } => piece.get(),
        })
        .collect();
    assert_eq!(order, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
    // A check is never done on the spot.
    let piece = layout().piece(1).unwrap();
    jobs.submit(Job::Check { piece }, &mut done);
    assert_eq!((done.len(), jobs.queued), (12, 1));
    assert!(is_bad(&jobs.answer().await.unwrap()[0]));
    drop(jobs);
    feeding.await.unwrap();
}

#[tokio::test]
async fn blocks_are_read_into_their_messages_quickly_and_slowly() {
    let disk = disk();
    let mut done = Vec::new();
    for (number, job) in (0_u8..).zip(writes(0)) {
        let Job::Write { block, .. } = job else {
            panic!("a write");
        };
        let data = Bytes::from(vec![number + 1; BLOCK_BYTES as usize]);
        disk.store().run(Job::Write { block, data }, &mut done);
    }
    let run: Vec<Block> = layout().blocks(layout().piece(0).unwrap()).collect();
    let missing = [layout().block_at(layout().piece(1).unwrap(), 1).unwrap()];
    for is_slow in [false, true] {
        if is_slow {
            disk.pretend_slow();
        }
        let length = PIECE_HEADER_BYTES + BLOCK_BYTES as usize;
        let mut messages = vec![9; 2 * length];
        assert_eq!(disk.read(&run, &mut messages).await, Ok(()));
        for (number, message) in (1..).zip(messages.chunks(length)) {
            let (header, block) = message.split_at(PIECE_HEADER_BYTES);
            assert!(header.iter().all(|byte| *byte == 9));
            assert!(block.iter().all(|byte| *byte == number));
        }
        let nothing = disk.read(&missing, &mut messages[..length]).await;
        assert!(nothing.is_err());
    }
}

/// Puts the paused clock forward in the middle of a job, where nothing can be awaited.
pub(crate) fn pass(span: Duration) {
    let mut passing = pin!(tokio::time::advance(span));
    let mut context = Context::from_waker(Waker::noop());
    let _ = passing.as_mut().poll(&mut context);
}

#[tokio::test(start_paused = true)]
async fn a_slow_job_shows() {
    let disk = disk();
    disk.pace.timed(|| ());
    assert!(!disk.pace.is_slow());
    // What this thread really waited for a core is taken off it, and is nothing against an hour.
    disk.pace.timed(|| pass(Duration::from_secs(3600)));
    assert!(disk.pace.is_slow());
}

/// A disk on which an hour passes until it has read.
struct Asleep;

impl Storage for Asleep {
    fn read_at(&self, _: FileIndex, _: u64, buffer: &mut [u8]) -> io::Result<usize> {
        pass(Duration::from_secs(3600));
        Ok(buffer.len())
    }

    fn write_at(&self, _: FileIndex, _: u64, _: &[IoSlice<'_>]) -> io::Result<usize> {
        unreachable!("nothing is written")
    }

    fn stat(&self, _: FileIndex) -> io::Result<Option<FileStat>> {
        Ok(None)
    }

    fn sync(&self, _: FileIndex) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, _: FileIndex) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_slow_on_the_pool_is_not_trusted_again() {
    let disk = disk_of(Box::new(Asleep));
    disk.pace.took(SLOW + NANO);
    let run = [layout().block_at(layout().piece(1).unwrap(), 1).unwrap()];
    let mut message = vec![0; PIECE_HEADER_BYTES + BLOCK_BYTES as usize];
    // Far longer than it is not trusted after the first slow job.
    disk.read(&run, &mut message).await.unwrap();
    assert!(disk.pace.is_slow());
}

#[tokio::test(start_paused = true)]
async fn the_slower_a_disk_the_later_it_is_trusted_again() {
    let rows = [
        (SLOW, Duration::ZERO),
        (SLOW + Duration::from_nanos(1), SLOW_SPAN),
        (SLOW_SPAN / SLOW_TIMES, SLOW_SPAN),
        (Duration::from_secs(1), Duration::from_secs(50)),
    ];
    for (took, wait) in rows {
        let disk = disk();
        disk.pace.took(took);
        for span in [
            Duration::ZERO,
            wait / 2,
            wait.saturating_sub(wait / 2 + NANO),
        ] {
            tokio::time::advance(span).await;
            assert_eq!(disk.pace.is_slow(), wait > Duration::ZERO, "{took:?}");
        }
        tokio::time::advance(2 * NANO).await;
        assert!(!disk.pace.is_slow(), "{took:?}");
    }
}

#[tokio::test]
async fn a_panic_on_the_pool_is_an_error() {
    let error = disk().on_pool(|| panic!("a bug")).await;
    let error: Result<(), DiskError> = error;
    assert!(error.unwrap_err().message.contains("internal error"));
}
