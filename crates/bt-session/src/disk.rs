//! Where the disk's work is done: on the spot while the disk is quick, on a small pool of threads when it is not.
//!
//! A byte that changes cores is paid for twice, so a block is hashed where it was received, and read where it is sent.
//! What a long read brought is written by a thread of the pool, if the last such write is over: that costs a twentieth more
//! processor time, and the torrent's own thread, which is all that a fast download waits for, receives and hashes on. All
//! else is written on the spot.
//!
//! That blocks the thread for as long as the disk takes; so each job is timed, and after a slow one the torrent's jobs go to
//! the pool for a while, and the other torrents of the thread get on. Reading back whole pieces always goes there.
//!
//! **Invariant:** the jobs of a torrent that went to the pool are done one after the other, in order, and no later job is
//! done on the spot before they are. How many there are is bounded by the engine, which counts the blocks it has out. Of
//! writes there is one at a time beside them.

mod stopwatch;

use crate::buffers::LONG_READ_BYTES;
use bt_core::Block;
use bt_core::disk::{DiskError, DiskErrorKind, Done, Job};
use bt_storage::{Portion, TorrentStore};
use bt_wire::message::PIECE_HEADER_BYTES;
use core::time::Duration;
use std::io::IoSliceMut;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

/// Jobs of all torrents that the pool does at a time. Two disks' worth: more threads make one disk seek, not speed up.
pub(crate) const POOL_THREADS: usize = 4;

/// A job that took longer shows that the disk is slow. A block takes some 20 µs, and the last one of a piece of 16 MiB,
/// with which the piece is written, some 10 ms as long as the system's cache takes it.
const SLOW: Duration = stopwatch::LONG;

/// How long the pool is used after a slow job, at least.
const SLOW_SPAN: Duration = Duration::from_secs(2);

/// So many times the time of a slow job passes before another is done on the spot: a disk holds up the other torrents of
/// its thread for at most a fiftieth of the time, however slow it is.
const SLOW_TIMES: u32 = 50;

/// Jobs that one thread of the pool does before another torrent has its turn.
const BATCH_JOBS: usize = 64;

/// What one batch brings at least to be worth waking another thread: half of what a long read does. A thread to whom less is
/// sent at a time is not what the transfer waits for; and blocks that came one by one each hold the buffer of a whole read.
const ASIDE_BYTES_MIN: u64 = LONG_READ_BYTES as u64 / 2;

/// What the pool did.
#[derive(Debug)]
struct Answer {
    /// Who of the pool.
    from: From,
    /// What became of it; `None` if it panicked.
    done: Option<Vec<Done>>,
}

#[derive(Debug)]
enum From {
    /// So many jobs were done.
    Jobs(usize),
    /// The write that went beside them.
    Aside,
}

/// The disk of one torrent.
pub(crate) struct Disk {
    /// Empty while it is not known what the torrent's files are: until then the engine orders nothing of the disk.
    store: OnceLock<Arc<TorrentStore>>,
    permits: Arc<Semaphore>,
    started: Instant,
    /// Until when the disk counts as slow, in nanoseconds since `started`.
    slow_until: AtomicU64,
}

impl Disk {
    pub(crate) fn new(store: Arc<TorrentStore>, permits: Arc<Semaphore>) -> Self {
        let disk = Self::unopened(permits);
        disk.open(store);
        disk
    }

    /// The disk of a torrent whose files are not known yet.
    pub(crate) fn unopened(permits: Arc<Semaphore>) -> Self {
        Self {
            store: OnceLock::new(),
            permits,
            started: Instant::now(),
            slow_until: AtomicU64::new(0),
        }
    }

    /// The torrent's files are known now. Only the first word counts.
    pub(crate) fn open(&self, store: Arc<TorrentStore>) {
        let _ = self.store.set(store);
    }

    pub(crate) fn store(&self) -> &Arc<TorrentStore> {
        self.store
            .get()
            .expect("an engine without metadata orders nothing of the disk")
    }

    /// Reads blocks that lie one behind the other in a piece into their `piece` messages, of which `messages` consists.
    pub(crate) async fn read(&self, run: &[Block], messages: &mut [u8]) -> Result<(), DiskError> {
        if self.is_slow() {
            let store = Arc::clone(self.store());
            let (run, mut copy) = (run.to_vec(), messages.to_vec());
            let read = move || {
                let read = || store.read_run(&run, &mut places(&run, &mut copy));
                let (read, took) = stopwatch::timed(read);
                (read.map(|()| copy), took)
            };
            let (read, took) = self.on_pool(read).await?;
            self.took(took);
            messages.copy_from_slice(&read?);
            return Ok(());
        }
        self.timed(|| self.store().read_run(run, &mut places(run, messages)))
    }

    /// Runs `work` on a thread of the pool, once one is free.
    ///
    /// # Errors
    /// If the work panicked.
    pub(crate) async fn on_pool<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DiskError> {
        on_pool(&self.permits, work).await
    }

    /// From now on all goes to the pool.
    #[cfg(test)]
    pub(crate) fn pretend_slow(&self) {
        self.slow_until.store(u64::MAX, Ordering::Relaxed);
    }

    fn is_slow(&self) -> bool {
        self.slow_until.load(Ordering::Relaxed) > self.nanos(Instant::now())
    }

    fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        let (result, took) = stopwatch::timed(work);
        self.took(took);
        result
    }

    /// A job took so long.
    fn took(&self, span: Duration) {
        if span > SLOW {
            let until = Instant::now() + SLOW_SPAN.max(span * SLOW_TIMES);
            self.slow_until
                .fetch_max(self.nanos(until), Ordering::Relaxed);
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from((at - self.started).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Where in `messages`, which are one `piece` message for each block, the blocks themselves go.
fn places<'a>(run: &[Block], messages: &'a mut [u8]) -> Vec<IoSliceMut<'a>> {
    let mut rest = messages;
    let mut places = Vec::with_capacity(run.len());
    for block in run {
        let length = PIECE_HEADER_BYTES + block.length as usize;
        let (message, later) = rest.split_at_mut(length);
        let (_, place) = message.split_at_mut(PIECE_HEADER_BYTES);
        places.push(IoSliceMut::new(place));
        rest = later;
    }
    places
}

/// Runs `work` on a blocking thread while it holds one of `permits`.
///
/// # Errors
/// If the work panicked.
pub(crate) async fn on_pool<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DiskError> {
    let gone = |message: String| DiskError {
        kind: DiskErrorKind::Io,
        message,
    };
    let permit = Arc::clone(permits).acquire_owned().await;
    let permit = permit.map_err(|_| gone("the session ends".to_owned()))?;
    let work = move || {
        let result = work();
        drop(permit);
        result
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| gone(format!("internal error on a disk thread: {error}")))
}

/// Does what is queued, some jobs at a time, and answers.
async fn feed(
    disk: Arc<Disk>,
    mut queued: mpsc::UnboundedReceiver<Job>,
    answers: mpsc::UnboundedSender<Answer>,
) {
    let mut jobs = Vec::new();
    while queued.recv_many(&mut jobs, BATCH_JOBS).await > 0 {
        let batch = core::mem::take(&mut jobs);
        let jobs_count = batch.len();
        let worker = Arc::clone(&disk);
        let run = move || -> Vec<Done> {
            let mut done = Vec::new();
            for job in batch {
                worker.timed(|| worker.store().run(job, &mut done));
            }
            worker.timed(|| worker.store().flush_ready(&mut done));
            done
        };
        // A panic in the store leaves its jobs without an answer; the torrent is told by our end.
        let Ok(done) = disk.on_pool(run).await else {
            return;
        };
        let answer = Answer {
            from: From::Jobs(jobs_count),
            done: Some(done),
        };
        if answers.send(answer).is_err() {
            return;
        }
    }
}

/// The torrent's order book: what is done on the spot, and what is at the pool.
pub(crate) struct Jobs {
    disk: Arc<Disk>,
    queue: mpsc::UnboundedSender<Job>,
    answers: mpsc::UnboundedReceiver<Answer>,
    /// Where writes beside the jobs are answered. The feeder's own end says whether there is one.
    answers_in: mpsc::WeakUnboundedSender<Answer>,
    /// Jobs given to the pool: the next one has to queue behind them.
    queued: usize,
    /// A write is under way beside them.
    is_writing: bool,
    /// Bytes of blocks done on the spot since the last flush.
    batch_bytes: u64,
}

impl Jobs {
    /// The order book of a disk, and the task that feeds the pool. It ends with the order book, or by a panic.
    pub(crate) fn new(disk: Arc<Disk>) -> (Self, impl Future<Output = ()> + Send) {
        // Unbounded, since the engine bounds them: it has so many blocks and checks out and not one more.
        let (queue, queued) = mpsc::unbounded_channel();
        let (done, answers) = mpsc::unbounded_channel();
        let answers_in = done.downgrade();
        let feeding = feed(Arc::clone(&disk), queued, done);
        let jobs = Self {
            disk,
            queue,
            answers,
            answers_in,
            queued: 0,
            is_writing: false,
            batch_bytes: 0,
        };
        (jobs, feeding)
    }

    /// Does the job and appends what became of it to `done`, or gives it to the pool.
    pub(crate) fn submit(&mut self, job: Job, done: &mut Vec<Done>) {
        let quick = matches!(job, Job::Write { .. } | Job::Discard { .. });
        if quick && self.queued == 0 && !self.disk.is_slow() {
            if let Job::Write { data, .. } = &job {
                self.batch_bytes += data.len() as u64;
            }
            self.disk.timed(|| self.disk.store().gather(job, done));
            return;
        }
        self.queued += 1;
        // An error means that the feeder is gone, which `answer` tells.
        let _ = self.queue.send(job);
    }

    /// A batch of jobs was submitted: writes what is complete or worth it, and appends what became of that to `done` or
    /// answers later.
    pub(crate) fn flush(&mut self, done: &mut Vec<Done>) {
        let batch_bytes = core::mem::take(&mut self.batch_bytes);
        // The pool does it after each of its own batches.
        let Some(store) = self.disk.store.get().filter(|_| self.queued == 0) else {
            return;
        };
        let portions = store.take_ready();
        if portions.is_empty() {
            return;
        }
        let is_worth_it = batch_bytes >= ASIDE_BYTES_MIN || self.disk.is_slow();
        if is_worth_it
            && !self.is_writing
            && let Some(answers) = self.answers_in.upgrade()
            && let Ok(permit) = Arc::clone(&self.disk.permits).try_acquire_owned()
        {
            self.is_writing = true;
            write_aside(Arc::clone(&self.disk), portions, permit, answers);
        } else {
            self.disk.timed(|| store.write(portions, done));
        }
    }

    /// True if the pool has something to answer yet.
    pub(crate) const fn is_owed(&self) -> bool {
        self.queued > 0 || self.is_writing
    }

    /// What the pool did next; `None` if it will never do anything again.
    ///
    /// # Panics
    /// If a write did, as it would have on the spot.
    pub(crate) async fn answer(&mut self) -> Option<Vec<Done>> {
        let answer = self.answers.recv().await?;
        match answer.from {
            From::Jobs(count) => self.queued -= count,
            From::Aside => self.is_writing = false,
        }
        Some(answer.done.expect("a store writes without a panic"))
    }

    /// Returns once the write beside the jobs is over; what becomes of it matters to nobody any more.
    pub(crate) async fn finish(&mut self) {
        while self.is_writing && self.answer().await.is_some() {}
    }

    /// Jobs at the pool that are not answered yet.
    #[cfg(test)]
    pub(crate) const fn queued(&self) -> usize {
        self.queued
    }
}

/// Writes on a thread of the pool, and answers in any case.
fn write_aside(
    disk: Arc<Disk>,
    portions: Vec<Portion>,
    permit: OwnedSemaphorePermit,
    answers: mpsc::UnboundedSender<Answer>,
) {
    tokio::task::spawn_blocking(move || {
        let write = || {
            let mut done = Vec::new();
            disk.timed(|| disk.store().write(portions, &mut done));
            done
        };
        let done = catch_unwind(AssertUnwindSafe(write)).ok();
        drop(permit);
        // Nobody is there any more if the torrent has ended.
        let _ = answers.send(Answer {
            from: From::Aside,
            done,
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use bt_core::disk::Verdict;
    use bt_core::{BLOCK_BYTES, Layout};
    use bt_storage::{FileIndex, FileMap, FileSpec, FileStat, MemoryStorage, Storage};
    use bytes::Bytes;
    use core::pin::pin;
    use core::task::{Context, Waker};
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
        assert_eq!(disk.permits.available_permits(), 1, "one of the pool's");
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
        disk.slow_until.store(0, Ordering::Relaxed);
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
    fn pass(span: Duration) {
        let mut passing = pin!(tokio::time::advance(span));
        let mut context = Context::from_waker(Waker::noop());
        let _ = passing.as_mut().poll(&mut context);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_job_shows() {
        let disk = disk();
        disk.timed(|| ());
        assert!(!disk.is_slow());
        // What this thread really waited for a core is taken off it, and is nothing against an hour.
        disk.timed(|| pass(Duration::from_secs(3600)));
        assert!(disk.is_slow());
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
        disk.took(SLOW + NANO);
        let run = [layout().block_at(layout().piece(1).unwrap(), 1).unwrap()];
        let mut message = vec![0; PIECE_HEADER_BYTES + BLOCK_BYTES as usize];
        // Far longer than it is not trusted after the first slow job.
        disk.read(&run, &mut message).await.unwrap();
        assert!(disk.is_slow());
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
            disk.took(took);
            for span in [
                Duration::ZERO,
                wait / 2,
                wait.saturating_sub(wait / 2 + NANO),
            ] {
                tokio::time::advance(span).await;
                assert_eq!(disk.is_slow(), wait > Duration::ZERO, "{took:?}");
            }
            tokio::time::advance(2 * NANO).await;
            assert!(!disk.is_slow(), "{took:?}");
        }
    }

    #[tokio::test]
    async fn a_panic_on_the_pool_is_an_error() {
        let error = disk().on_pool(|| panic!("a bug")).await;
        let error: Result<(), DiskError> = error;
        assert!(error.unwrap_err().message.contains("internal error"));
    }
}
