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
//! done on the spot before they are. At most [`QUEUED_MAX`] wait, and what each connection had read by then. Of writes there
//! is one at a time beside them.

mod pace;
mod stopwatch;

pub(crate) use pace::Pace;

use crate::buffers::READ_BYTES;
use bt_core::disk::{DiskError, DiskErrorKind, Done, Job};
use bt_core::{BLOCK_BYTES, Block};
use bt_peer::limits::WRITES_MAX_BYTES;
use bt_storage::{Portion, TorrentStore};
use bt_wire::message::PIECE_HEADER_BYTES;
use std::io::IoSliceMut;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Jobs of all torrents that the pool does at a time. Two disks' worth: more threads make one disk seek, not speed up.
pub(crate) const POOL_THREADS: usize = 4;

/// Jobs that one thread of the pool does before another torrent has its turn.
const BATCH_JOBS: usize = 64;

/// What one batch brings at least to be worth waking another thread: twice what a short read does. A thread to whom less is
/// sent at a time is not what the transfer waits for; and blocks that came one by one each hold the buffer of a whole read.
const ASIDE_BYTES_MIN: u64 = 2 * READ_BYTES as u64;

/// Jobs at the pool from which on nothing more is read of who brings blocks: as much as the engine lets wait before it asks
/// for no more. What it has asked for by then, up to 8 MiB of each fast peer, stays in the system's buffers, or where it is.
const QUEUED_MAX: u64 = WRITES_MAX_BYTES / BLOCK_BYTES as u64;

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
    pace: Pace,
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
            pace: Pace::new(),
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
        if self.pace.is_slow() {
            let store = Arc::clone(self.store());
            let (run, mut copy) = (run.to_vec(), messages.to_vec());
            let read = move || {
                let read = || store.read_run(&run, &mut places(&run, &mut copy));
                let (read, took) = stopwatch::timed(read);
                (read.map(|()| copy), took)
            };
            let (read, took) = self.on_pool(read).await?;
            self.pace.took(took);
            messages.copy_from_slice(&read?);
            return Ok(());
        }
        self.pace
            .timed(|| self.store().read_run(run, &mut places(run, messages)))
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
        self.pace.pretend(true);
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
                worker.pace.timed(|| worker.store().run(job, &mut done));
            }
            worker.pace.timed(|| worker.store().flush_ready(&mut done));
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
        if quick && self.queued == 0 && !self.disk.pace.is_slow() {
            if let Job::Write { data, .. } = &job {
                self.batch_bytes += data.len() as u64;
            }
            self.disk.pace.timed(|| self.disk.store().gather(job, done));
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
        let portions = store.take_ready(done);
        if portions.is_empty() {
            return;
        }
        let is_worth_it = batch_bytes >= ASIDE_BYTES_MIN || self.disk.pace.is_slow();
        if is_worth_it
            && !self.is_writing
            && let Some(answers) = self.answers_in.upgrade()
            && let Ok(permit) = Arc::clone(&self.disk.permits).try_acquire_owned()
        {
            self.is_writing = true;
            write_aside(Arc::clone(&self.disk), portions, permit, answers);
        } else {
            self.disk.pace.timed(|| store.write(portions, done));
        }
    }

    /// True if the pool has something to answer yet.
    pub(crate) const fn is_owed(&self) -> bool {
        self.queued > 0 || self.is_writing
    }

    /// True if no more blocks should be read before the pool has worked down.
    pub(crate) const fn is_full(&self) -> bool {
        self.queued as u64 >= QUEUED_MAX
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
            disk.pace.timed(|| disk.store().write(portions, &mut done));
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
mod tests;

#[cfg(test)]
pub(crate) use tests::pass;
