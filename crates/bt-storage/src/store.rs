//! The store of one torrent: carries out the jobs of its engine, and reads for uploads.
//!
//! Whoever calls [`TorrentStore::run`] has each piece written and judged with its last block. Who has a batch of jobs calls
//! [`TorrentStore::gather`] for each, and then [`TorrentStore::take_ready`] and [`TorrentStore::write`], on any thread.
//!
//! **Invariants:** a piece is called good only after every byte of it was written; what was just received is not read
//! back, unless memory ran short; at most [`HELD_BYTES_MAX`] of blocks are held, plus one block for each running call
//! and those that wait for a busy piece (which are not answered yet, so the engine's budget bounds them).
//! No lock is held while bytes are hashed, read or written: who finds a piece busy leaves the job for the thread that
//! is at it, so the jobs of a piece are carried out in the order in which they came, and nobody waits.

mod cells;

use crate::file::{Access, Allocation, FileStorage};
use crate::files::TorrentFiles;
use crate::lanes::{self, Hasher};
use crate::map::{FileIndex, FileMap};
use crate::pool::{FilePool, FolderId};
use crate::progress::{Progress, RUN_BYTES_MAX, Run, hash_together};
use crate::storage::{FileStat, Storage};
use bt_core::disk::{BlockDigest, DiskError, Done, Job, Verdict};
use bt_core::{BLOCK_BYTES, Block, PieceIndex};
use bt_metainfo::Info;
use bytes::{Bytes, BytesMut};
use cells::{Cells, Next, Outcome, Slot};
use std::io::IoSliceMut;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most bytes of blocks that a store holds in memory before it writes them early.
///
/// Enough for 128 pieces at once with a run of 256 KiB each to write.
pub const HELD_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// How a store treats its files.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The pool of open files that the torrents of this process share.
    pub pool: Arc<FilePool>,
    /// Whether files may be made and changed.
    pub access: Access,
    /// How files get their length.
    pub allocation: Allocation,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            pool: Arc::new(FilePool::for_process()),
            access: Access::ReadWrite,
            allocation: Allocation::Sparse,
        }
    }
}

/// The bytes of one torrent. Shared between threads; every call is synchronous.
pub struct TorrentStore {
    pub(crate) files: TorrentFiles,
    pub(crate) hashes: Vec<[u8; 20]>,
    folder_id: Option<FolderId>,
    cells: Cells,
    /// Pieces of which blocks came in the batch that is under way.
    gathered: Mutex<Vec<PieceIndex>>,
    /// Pieces that have a run that is worth writing when the batch is over.
    ready: Mutex<Vec<PieceIndex>>,
    held_bytes: AtomicU64,
    held_bytes_max: u64,
}

/// Received bytes of one piece on their way to the disk. It has to be handed to [`TorrentStore::write`] of the store that it
/// comes from: the piece gets no verdict before.
#[derive(Debug)]
#[must_use = "the piece gets no verdict before it is written"]
pub struct Portion {
    piece: PieceIndex,
    runs: Vec<Run>,
    length_bytes: u64,
}

impl Portion {
    /// How much it is.
    #[must_use]
    pub const fn length_bytes(&self) -> u64 {
        self.length_bytes
    }
}

/// When what came is hashed, and a piece whose last block came is written and judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    AtOnce,
    /// With the other pieces of its batch.
    WithBatch,
}

impl TorrentStore {
    /// The store of a torrent in a folder. With [`Access::ReadWrite`] the folder and the torrent's empty files are
    /// made.
    ///
    /// # Errors
    /// If the folder or an empty file can be neither opened nor made.
    pub fn open(info: &Info, folder: &Path, options: &OpenOptions) -> Result<Self, DiskError> {
        let hashes = info
            .layout()
            .pieces()
            .filter_map(|piece| info.piece_hash(piece));
        let hashes = hashes.copied().collect();
        Self::open_files(FileMap::from(info), hashes, folder, options)
    }

    /// As [`TorrentStore::open`], for files and hashes that come from elsewhere than a metainfo file.
    ///
    /// # Errors
    /// As [`TorrentStore::open`].
    ///
    /// # Panics
    /// If there is not one hash for each piece.
    pub fn open_files(
        map: FileMap,
        hashes: Vec<[u8; 20]>,
        folder: &Path,
        options: &OpenOptions,
    ) -> Result<Self, DiskError> {
        let pool = Arc::clone(&options.pool);
        let storage = FileStorage::open(
            folder,
            map.files(),
            pool,
            options.access,
            options.allocation,
        )
        .map_err(|error| crate::error::disk_error("open", folder, &error))?;
        let folder_id = storage.folder_id();
        let mut store = Self::new(map, hashes, Box::new(storage), folder.to_owned());
        store.folder_id = Some(folder_id);
        if options.access == Access::ReadWrite {
            store.files.create_empty()?;
        }
        Ok(store)
    }

    /// A store over any storage.
    ///
    /// # Panics
    /// If there is not one hash for each piece.
    #[must_use]
    pub fn with_storage(map: FileMap, hashes: Vec<[u8; 20]>, storage: Box<dyn Storage>) -> Self {
        Self::new(map, hashes, storage, PathBuf::new())
    }

    fn new(
        map: FileMap,
        hashes: Vec<[u8; 20]>,
        storage: Box<dyn Storage>,
        folder: PathBuf,
    ) -> Self {
        let pieces = map.layout().pieces_count() as usize;
        assert!(
            hashes.len() == pieces,
            "{} hashes for {pieces} pieces",
            hashes.len()
        );
        Self {
            files: TorrentFiles::new(map, storage, folder),
            hashes,
            folder_id: None,
            cells: Cells::default(),
            gathered: Mutex::default(),
            ready: Mutex::default(),
            held_bytes: AtomicU64::new(0),
            held_bytes_max: HELD_BYTES_MAX,
        }
    }

    /// Changes how many bytes of blocks may be held in memory, from [`HELD_BYTES_MAX`].
    #[must_use]
    pub const fn with_held_bytes_max(mut self, bytes: u64) -> Self {
        self.held_bytes_max = bytes;
        self
    }

    /// Which bytes lie in which file.
    #[must_use]
    pub const fn map(&self) -> &FileMap {
        &self.files.map
    }

    /// Which folder its files are in, if they are files of the system.
    #[must_use]
    pub const fn folder_id(&self) -> Option<FolderId> {
        self.folder_id
    }

    /// How many bytes of blocks are held in memory at the moment.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Carries out a job and appends the answers.
    ///
    /// If another thread is at work on the same piece, it takes the job over, and the answers appear in its call.
    ///
    /// # Panics
    /// If a written block is not on the grid of [`BLOCK_BYTES`], or its data is not as long as it says.
    pub fn run(&self, job: Job, done: &mut Vec<Done>) {
        let piece = piece_of(&job);
        let next = self.cells.begin(piece, job);
        self.finish_off(piece, next, Finish::AtOnce, done);
    }

    /// As [`run`](Self::run), but what came is left to be hashed, and a piece whose last block came to be written, to
    /// [`take_ready`](Self::take_ready) or [`flush_ready`](Self::flush_ready), one of which has to be called after the batch.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    pub fn gather(&self, job: Job, done: &mut Vec<Done>) {
        let piece = piece_of(&job);
        let next = self.cells.begin(piece, job);
        self.finish_off(piece, next, Finish::WithBatch, done);
    }

    /// Hashes what a batch of jobs has left, of several pieces side by side, and returns what it has left unwritten, of
    /// pieces that are complete or of which there is enough to be worth a system call. To be called after the batch. What
    /// another thread is at is hashed and written by that one, in the call in which it is.
    pub fn take_ready(&self, done: &mut Vec<Done>) -> Vec<Portion> {
        let gathered = core::mem::take(&mut *lock(&self.gathered)).into_iter();
        let mut lent: Vec<(PieceIndex, Box<Progress>)> = gathered
            .filter_map(|piece| Some((piece, self.cells.lend(piece)?)))
            .collect();
        hash_together(lent.iter_mut().map(|(_, progress)| &mut **progress));
        let mut portions = Vec::new();
        for (piece, progress) in lent {
            let slot = Slot {
                progress: Some(progress),
                outcome: None,
            };
            let next = self.cells.go_on(piece, slot);
            portions.extend(self.work_off(piece, next, Finish::AtOnce, done));
        }
        let ready = core::mem::take(&mut *lock(&self.ready)).into_iter();
        portions.extend(ready.filter_map(|piece| self.cells.depart(piece)));
        portions
    }

    /// Writes portions, on whatever thread, and appends what comes of their pieces.
    pub fn write(&self, portions: Vec<Portion>, done: &mut Vec<Done>) {
        for portion in portions {
            let piece = portion.piece;
            let next = self.land(portion);
            self.finish_off(piece, next, Finish::AtOnce, done);
        }
    }

    /// [`take_ready`](Self::take_ready) and [`write`](Self::write) in one.
    pub fn flush_ready(&self, done: &mut Vec<Done>) {
        let portions = self.take_ready(done);
        self.write(portions, done);
    }

    /// Does what is to be done with a piece, until it is given back and nothing of it is left to be written.
    fn finish_off(
        &self,
        piece: PieceIndex,
        mut next: Option<Next>,
        finish: Finish,
        done: &mut Vec<Done>,
    ) {
        while let Some(portion) = self.work_off(piece, next, finish, done) {
            next = self.land(portion);
        }
    }

    /// Does what is to be done with a piece until it is given back, and returns what is to be written of it then.
    fn work_off(
        &self,
        piece: PieceIndex,
        mut next: Option<Next>,
        finish: Finish,
        done: &mut Vec<Done>,
    ) -> Option<Portion> {
        while let Some(turn) = next {
            let slot = match turn {
                Next::Job(mut slot, job) => {
                    self.carry_out(&mut slot, job, finish, done);
                    slot
                }
                Next::Settle(mut slot, outcome) => {
                    // Of a piece that failed more may have come meanwhile.
                    self.forget(&mut slot.progress);
                    let verdict = match outcome {
                        Ok(found) => self.judge(piece, found),
                        Err(error) => Verdict::Failed(error),
                    };
                    done.push(Done::Checked { piece, verdict });
                    slot
                }
                Next::Hash(mut slot) => {
                    let result = slot.progress.as_mut().map(|held| self.hash(piece, held));
                    if let Some(Err(error)) = result {
                        self.forget(&mut slot.progress);
                        slot.outcome = Some(Err(error));
                    }
                    slot
                }
                Next::Write(portion) => return Some(portion),
            };
            next = self.cells.go_on(piece, slot);
        }
        None
    }

    /// Writes a portion: what is to be done with its piece next.
    fn land(&self, portion: Portion) -> Option<Next> {
        let result = self.write_runs(portion.piece, portion.runs);
        // Only now is the memory free.
        self.held_bytes
            .fetch_sub(portion.length_bytes, Ordering::Relaxed);
        self.cells.land(portion.piece, result)
    }

    /// Reads a block for an upload into `out`.
    ///
    /// # Errors
    /// If the file is missing, too short or cannot be read: then the piece is not what it was, and wants checking.
    ///
    /// # Panics
    /// If `out` is not as long as the block.
    pub fn read(&self, block: Block, out: &mut [u8]) -> Result<(), DiskError> {
        assert!(
            out.len() == block.length as usize,
            "a buffer of the block's length"
        );
        self.files.read(self.offset(block.piece, block.begin), out)
    }

    /// Reads blocks that lie one behind the other in a piece, each into its buffer, with as few calls as can be.
    ///
    /// # Errors
    /// As for [`TorrentStore::read`], of whichever block.
    ///
    /// # Panics
    /// If the buffers are not as long as the blocks, or the blocks don't follow each other.
    pub fn read_run(&self, run: &[Block], buffers: &mut [IoSliceMut<'_>]) -> Result<(), DiskError> {
        let Some(first) = run.first() else {
            return Ok(());
        };
        let mut end = first.begin;
        for (block, buffer) in run.iter().zip(buffers.iter()) {
            assert!(
                (block.piece, block.begin) == (first.piece, end),
                "{block:?} follows the one before"
            );
            assert!(
                buffer.len() == block.length as usize,
                "a buffer of the block's length"
            );
            end = block.end();
        }
        assert!(run.len() == buffers.len(), "a buffer for each block");
        let offset = self.offset(first.piece, first.begin);
        self.files.read_vectored(offset, buffers)
    }

    /// Returns once everything written so far is on the medium.
    ///
    /// # Errors
    /// Whatever the medium meets; what was written since the last sync is then in doubt.
    pub fn sync(&self) -> Result<(), DiskError> {
        self.files.sync()
    }

    /// What is known of a file without reading it; `None` if it is not there.
    ///
    /// # Errors
    /// If it cannot be asked for, or something else stands in its place.
    pub fn stat(&self, file: FileIndex) -> Result<Option<FileStat>, DiskError> {
        self.files.stat(file)
    }

    fn carry_out(&self, slot: &mut Slot, job: Job, finish: Finish, done: &mut Vec<Done>) {
        match job {
            Job::Write { block, data } => {
                done.push(Done::Wrote { block });
                slot.outcome = self.take_in(&mut slot.progress, block, data, finish);
            }
            Job::Discard { .. } => self.forget(&mut slot.progress),
            Job::Check { piece } => {
                let verdict = self.check(piece);
                done.push(Done::Checked { piece, verdict });
            }
            Job::Digest { piece } => {
                let digests = self.digests(piece).unwrap_or_default();
                done.push(Done::Digests { piece, digests });
            }
        }
    }

    /// Takes a block; what came of the piece if all of it is written now, or the disk failed.
    fn take_in(
        &self,
        progress: &mut Option<Box<Progress>>,
        block: Block,
        data: Bytes,
        finish: Finish,
    ) -> Option<Outcome> {
        let layout = self.map().layout();
        assert!(layout.is_aligned(block), "{block:?} is on the grid");
        assert!(
            data.len() == block.length as usize,
            "{block:?} has its data"
        );
        let piece = block.piece;
        let received =
            progress.get_or_insert_with(|| Box::new(Progress::new(layout.piece_length(piece))));
        let mut result = self.receive(received, block, data, finish);
        let ends = finish == Finish::AtOnce && received.is_complete();
        if ends && result.is_ok() {
            result = self.flush(received, piece, Progress::take_all);
        }
        match result {
            Ok(()) if ends => Some(Ok(progress.take()?.finish())),
            Ok(()) => None,
            Err(error) => {
                self.forget(progress);
                Some(Err(error))
            }
        }
    }

    fn receive(
        &self,
        progress: &mut Progress,
        block: Block,
        data: Bytes,
        finish: Finish,
    ) -> Result<(), DiskError> {
        let piece = block.piece;
        let held_before = progress.held_bytes();
        let was_ready = progress.is_run_ready();
        progress.add(block, self.blank_padding(block, data));
        let added = progress.held_bytes() - held_before;
        let held = self.held_bytes.fetch_add(added, Ordering::Relaxed) + added;
        let is_too_much = held > self.held_bytes_max;
        if finish == Finish::AtOnce || is_too_much || progress.held_bytes() >= RUN_BYTES_MAX {
            // What leaves memory unhashed would have to be read back.
            progress.hash_held();
        }
        if is_too_much {
            self.flush(progress, piece, Progress::take_all)?;
        } else if progress.is_run_due() {
            self.flush(progress, piece, Progress::take_hashed)?;
        }
        if finish == Finish::WithBatch {
            let mut gathered = lock(&self.gathered);
            if gathered.last() != Some(&piece) {
                gathered.push(piece);
            }
            return Ok(());
        }
        self.hash(piece, progress)?;
        if !was_ready && progress.is_run_ready() {
            lock(&self.ready).push(piece);
        }
        Ok(())
    }

    /// Hashes what is next to be hashed, and reads back what is not held any more.
    fn hash(&self, piece: PieceIndex, progress: &mut Progress) -> Result<(), DiskError> {
        progress.hash_held();
        let mut buffer = Vec::new();
        while let Some(run) = progress.read_back() {
            buffer.resize(run.length as usize, 0);
            self.files
                .read(self.offset(piece, run.begin), &mut buffer)?;
            progress.hash_read_back(&buffer);
        }
        Ok(())
    }

    /// The data with zeros where the torrent has padding: nobody can spoil a piece there, so nobody is blamed.
    fn blank_padding(&self, block: Block, data: Bytes) -> Bytes {
        let start = self.offset(block.piece, block.begin);
        let mut blanked: Option<BytesMut> = None;
        let mut position = 0;
        for span in self.map().spans(start, u64::from(block.length)) {
            let end = position + usize::try_from(span.length).unwrap_or(usize::MAX);
            if self.files.is_pad(span.file) {
                let copy = blanked.get_or_insert_with(|| BytesMut::from(data.as_ref()));
                if let Some(padding) = copy.get_mut(position..end) {
                    padding.fill(0);
                }
            }
            position = end;
        }
        blanked.map_or(data, BytesMut::freeze)
    }

    fn flush(
        &self,
        progress: &mut Progress,
        piece: PieceIndex,
        take: impl Fn(&mut Progress) -> Vec<Run>,
    ) -> Result<(), DiskError> {
        let held_before = progress.held_bytes();
        let runs = take(progress);
        let result = self.write_runs(piece, runs);
        // Only now is the memory free.
        self.held_bytes
            .fetch_sub(held_before - progress.held_bytes(), Ordering::Relaxed);
        result
    }

    fn write_runs(&self, piece: PieceIndex, runs: Vec<Run>) -> Result<(), DiskError> {
        runs.into_iter()
            .try_for_each(|run| self.files.write(self.offset(piece, run.begin), run.buffers))
    }

    fn forget(&self, progress: &mut Option<Box<Progress>>) {
        if let Some(progress) = progress.take() {
            self.held_bytes
                .fetch_sub(progress.held_bytes(), Ordering::Relaxed);
        }
    }

    fn check(&self, piece: PieceIndex) -> Verdict {
        let mut hasher = Hasher::new();
        match self.read_piece(piece, |bytes| hasher.update(bytes)) {
            Ok(()) => self.judge(piece, hasher.finish()),
            Err(error) => Verdict::Failed(error),
        }
    }

    fn judge(&self, piece: PieceIndex, found: [u8; 20]) -> Verdict {
        if Some(&found) == self.hashes.get(piece.index()) {
            return Verdict::Good;
        }
        // Read back, which is the exception to the rule: lies are rare, and a second hash of each block is not free.
        match self.digests(piece) {
            Ok(digests) => Verdict::Bad { digests },
            Err(error) => Verdict::Failed(error),
        }
    }

    fn digests(&self, piece: PieceIndex) -> Result<Vec<BlockDigest>, DiskError> {
        let mut digests = Vec::new();
        self.read_piece(piece, |bytes| {
            digests.extend(bytes.chunks(BLOCK_BYTES as usize).map(digest));
        })?;
        Ok(digests)
    }

    fn read_piece(&self, piece: PieceIndex, mut each: impl FnMut(&[u8])) -> Result<(), DiskError> {
        let mut buffer = Vec::new();
        for chunk in self.files.chunks(piece) {
            buffer.resize(chunk.length, 0);
            self.files.read(chunk.offset, &mut buffer)?;
            each(&buffer);
        }
        Ok(())
    }

    fn offset(&self, piece: PieceIndex, begin: u32) -> u64 {
        self.map().layout().piece_offset(piece) + u64::from(begin)
    }
}

const fn piece_of(job: &Job) -> PieceIndex {
    match job {
        Job::Write { block, .. } => block.piece,
        Job::Discard { piece } | Job::Check { piece } | Job::Digest { piece } => *piece,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first eight bytes of the block's SHA-1: nobody can make a second block with the same.
fn digest(block: &[u8]) -> BlockDigest {
    lanes::sha1(block)
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests;
