//! A torrent's bytes as one long run over a [`Storage`]: whole transfers, padding, and errors with the file's name.

use crate::error::disk_error;
use crate::map::{FileIndex, FileMap, FileSpan};
use crate::storage::{FileStat, Storage};
use bt_core::disk::DiskError;
use bt_core::{BLOCK_BYTES, PieceIndex};
use bytes::{Buf, Bytes};
use std::collections::BTreeSet;
use std::io::{self, IoSlice, IoSliceMut};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most buffers passed on in one vectored write: 256 blocks are 4 MiB, far above where a longer write still gains.
const BUFFERS_MAX: usize = 256;

/// How many bytes of a piece are read at once to be hashed.
///
/// Those of three pieces fit into the cache of a core, and longer reads gain nothing. Whole blocks, so that blocks do not
/// straddle reads.
pub(crate) const READ_BYTES: u32 = 16 * BLOCK_BYTES;

/// A part of a piece that is read at once.
pub(crate) struct Chunk {
    /// Where it begins, in bytes from the torrent's start.
    pub(crate) offset: u64,
    /// Its length in bytes, at most [`READ_BYTES`].
    pub(crate) length: usize,
}

/// The files of a torrent and where they lie.
pub(crate) struct TorrentFiles {
    pub(crate) map: FileMap,
    pub(crate) storage: Box<dyn Storage>,
    /// Goes before the file's path in messages.
    folder: PathBuf,
    sync_state: Mutex<SyncState>,
    known: Mutex<Known>,
}

/// What the files were when they were last looked at.
#[derive(Default)]
struct Known {
    /// `None` as long as nobody looked.
    stats: Option<Vec<Option<FileStat>>>,
    /// Files that we wrote to since. The others are not looked at again: if they are not as they were, it was somebody
    /// else, and what was verified of them is no longer sure.
    stale: BTreeSet<FileIndex>,
}

#[derive(Default)]
struct SyncState {
    /// Files written to since they were last synced.
    due: BTreeSet<FileIndex>,
    /// Files that could not be synced once. The system may have dropped what it could not write, and a second sync that
    /// goes well says nothing about it.
    doubtful: BTreeSet<FileIndex>,
}

/// Reads from an offset of a file, as far as the buffer and the file reach.
pub(crate) type ReadAt<'a> = dyn Fn(FileIndex, u64, &mut [u8]) -> io::Result<usize> + 'a;

/// How many bytes of each file are there.
pub(crate) struct Presence(Vec<u64>);

impl Presence {
    pub(crate) fn of(stats: &[Result<Option<FileStat>, DiskError>]) -> Self {
        let length = |stat: &Result<Option<FileStat>, DiskError>| match stat {
            Ok(stat) => stat.map_or(0, |stat| stat.length),
            // Reading it will say what is wrong with it.
            Err(_) => u64::MAX,
        };
        Self(stats.iter().map(length).collect())
    }
}

impl TorrentFiles {
    pub(crate) fn new(map: FileMap, storage: Box<dyn Storage>, folder: PathBuf) -> Self {
        Self {
            map,
            storage,
            folder,
            sync_state: Mutex::default(),
            known: Mutex::default(),
        }
    }

    pub(crate) fn error(&self, action: &str, file: FileIndex, error: &io::Error) -> DiskError {
        let path = self.map.file(file).map(|spec| self.folder.join(&spec.path));
        disk_error(action, &path.unwrap_or_default(), error)
    }

    pub(crate) fn is_pad(&self, file: FileIndex) -> bool {
        self.map.file(file).is_some_and(|spec| spec.pad)
    }

    /// The parts in which the piece is read, in order.
    pub(crate) fn chunks(&self, piece: PieceIndex) -> impl Iterator<Item = Chunk> + use<> {
        let layout = self.map.layout();
        let (start, length) = (layout.piece_offset(piece), layout.piece_length(piece));
        (0..length)
            .step_by(READ_BYTES as usize)
            .map(move |begin| Chunk {
                offset: start + u64::from(begin),
                length: READ_BYTES.min(length - begin) as usize,
            })
    }

    /// Fills the buffer from byte `offset` of the torrent.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let read_at = |file, offset, buffer: &mut [u8]| self.storage.read_at(file, offset, buffer);
        self.read_with(offset, buffer, &read_at)
            .map_err(|(_file, error)| error)
    }

    /// As [`read`](Self::read) with another way to read a file; an error comes with the file that could not be read.
    pub(crate) fn read_with(
        &self,
        offset: u64,
        buffer: &mut [u8],
        read_at: &ReadAt<'_>,
    ) -> Result<(), (FileIndex, DiskError)> {
        let mut rest = buffer;
        for span in self.map.spans(offset, rest.len() as u64) {
            let length = usize::try_from(span.length).unwrap_or(usize::MAX);
            let (now, later) = std::mem::take(&mut rest).split_at_mut(length);
            if self.is_pad(span.file) {
                now.fill(0);
            } else {
                read_span(span, now, read_at)
                    .map_err(|error| (span.file, self.error("read", span.file, &error)))?;
            }
            rest = later;
        }
        assert!(rest.is_empty(), "read behind the torrent's end");
        Ok(())
    }

    /// Fills the buffers one behind the other from byte `offset` of the torrent: with one call if all of it lies in one
    /// file, and whatever that call leaves, or is spread over files, one after the other.
    pub(crate) fn read_vectored(
        &self,
        offset: u64,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Result<(), DiskError> {
        let length: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let mut came = 0;
        if let Some(span) = self.map.spans(offset, length as u64).next()
            && span.length == length as u64
            && !self.is_pad(span.file)
        {
            came = match self
                .storage
                .read_vectored_at(span.file, span.offset, buffers)
            {
                Ok(came) => came,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => return Err(self.error("read", span.file, &error)),
            };
        }
        let mut begin = 0;
        for buffer in buffers {
            let filled = came.saturating_sub(begin).min(buffer.len());
            let at = offset + (begin + filled) as u64;
            begin += buffer.len();
            let rest = buffer.get_mut(filled..).unwrap_or_default();
            if !rest.is_empty() {
                self.read(at, rest)?;
            }
        }
        Ok(())
    }

    /// Writes the buffers one behind the other from byte `offset` of the torrent.
    pub(crate) fn write(&self, offset: u64, mut buffers: Vec<Bytes>) -> Result<(), DiskError> {
        let length = buffers.iter().map(|buffer| buffer.len() as u64).sum();
        let mut queue = Queue::new(&mut buffers);
        for span in self.map.spans(offset, length) {
            if self.is_pad(span.file) {
                queue.advance(span.length);
                continue;
            }
            let result = self.write_span(span, &mut queue);
            // After the write: a sync that runs meanwhile must not take the file off the list.
            self.sync_state().due.insert(span.file);
            result.map_err(|error| self.error("write", span.file, &error))?;
        }
        Ok(())
    }

    fn write_span(&self, span: FileSpan, queue: &mut Queue<'_>) -> io::Result<()> {
        let (mut left, mut offset) = (span.length, span.offset);
        while left > 0 {
            let result = self
                .storage
                .write_at(span.file, offset, &queue.slices(left));
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    let written = (written as u64).min(left);
                    queue.advance(written);
                    offset += written;
                    left -= written;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes away what the file has behind the torrent's end of it.
    pub(crate) fn cut(&self, file: FileIndex) -> Result<(), DiskError> {
        let length = self.map.file(file).map_or(0, |spec| spec.length);
        let result = self.storage.cut(file, length);
        self.sync_state().due.insert(file);
        result.map_err(|error| self.error("cut", file, &error))
    }

    fn sync_state(&self) -> MutexGuard<'_, SyncState> {
        self.sync_state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs every file that was written to since the last time.
    pub(crate) fn sync(&self) -> Result<(), DiskError> {
        let due = std::mem::take(&mut self.sync_state().due);
        let due: Vec<FileIndex> = due.into_iter().collect();
        let mut result = Ok(());
        self.known().stale.extend(&due);
        for (file, error) in self.storage.sync_each(&due) {
            self.sync_state().doubtful.insert(file);
            result = Err(self.error("sync", file, &error));
        }
        result
    }

    /// The files of which what was written may be lost although a later sync went well.
    pub(crate) fn doubtful(&self) -> Vec<FileIndex> {
        self.sync_state().doubtful.iter().copied().collect()
    }

    /// What is known of the file; a padding file is always as it should be.
    pub(crate) fn stat(&self, file: FileIndex) -> Result<Option<FileStat>, DiskError> {
        if let Some(stat) = self.pad(file) {
            return Ok(Some(stat));
        }
        self.storage
            .stat(file)
            .map_err(|error| self.error("look at", file, &error))
    }

    /// Looks at each file. What it finds is what [`Self::known_stats`] goes by.
    pub(crate) fn look(&self) -> Vec<Result<Option<FileStat>, DiskError>> {
        let stats = self.stats();
        let seen = stats.iter().map(|stat| stat.clone().ok().flatten());
        *self.known() = Known {
            stats: Some(seen.collect()),
            stale: BTreeSet::new(),
        };
        stats
    }

    /// What each file was when [`Self::look`] saw it, or after we last wrote to it and synced it.
    pub(crate) fn known_stats(&self) -> Result<Vec<Option<FileStat>>, DiskError> {
        let mut known = self.known();
        let Known { stats, stale } = &mut *known;
        let Some(stats) = stats else {
            let found: Result<Vec<_>, _> = self.stats().into_iter().collect();
            stale.clear();
            return Ok(stats.insert(found?).clone());
        };
        let found = self.stats_of(stale.iter().copied());
        for (file, found) in stale.iter().zip(found) {
            let found = found?;
            if let Some(stat) = stats.get_mut(file.0) {
                *stat = found;
            }
        }
        stale.clear();
        Ok(stats.clone())
    }

    fn stats(&self) -> Vec<Result<Option<FileStat>, DiskError>> {
        self.stats_of((0..self.map.files().len()).map(FileIndex))
    }

    fn stats_of(
        &self,
        files: impl Iterator<Item = FileIndex> + Clone,
    ) -> Vec<Result<Option<FileStat>, DiskError>> {
        let mut stored = files.clone().filter(|file| !self.is_pad(*file));
        let mut found = self.storage.stat_each(&mut stored).into_iter();
        files
            .map(|file| match self.pad(file) {
                Some(stat) => Ok(Some(stat)),
                None => found
                    .next()
                    .unwrap_or(Ok(None))
                    .map_err(|error| self.error("look at", file, &error)),
            })
            .collect()
    }

    /// A padding file is always as it should be.
    fn pad(&self, file: FileIndex) -> Option<FileStat> {
        let spec = self.map.file(file).filter(|spec| spec.pad)?;
        Some(FileStat {
            length: spec.length,
            modified_nanos: 0,
        })
    }

    /// How much of each file is there.
    pub(crate) fn presence(&self) -> Presence {
        Presence::of(&self.stats())
    }

    /// True if every file of the piece reaches as far as the piece does.
    pub(crate) fn is_present(&self, piece: PieceIndex, presence: &Presence) -> bool {
        self.map.piece_spans(piece).all(|span| {
            let length = presence.0.get(span.file.0).copied().unwrap_or(0);
            span.offset + span.length <= length
        })
    }

    /// Makes the files with nothing in them: no piece will ever do it.
    pub(crate) fn create_empty(&self) -> Result<(), DiskError> {
        for (index, spec) in self.map.files().iter().enumerate() {
            let file = FileIndex(index);
            if spec.length == 0 && !spec.pad {
                self.storage
                    .create(file)
                    .map_err(|error| self.error("create", file, &error))?;
            }
        }
        Ok(())
    }
}

fn read_span(span: FileSpan, buffer: &mut [u8], read_at: &ReadAt<'_>) -> io::Result<()> {
    let (mut rest, mut offset) = (buffer, span.offset);
    while !rest.is_empty() {
        match read_at(span.file, offset, rest) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                offset += length as u64;
                rest = rest.get_mut(length..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The buffers of one write, and how much of them is done.
struct Queue<'a> {
    buffers: &'a mut [Bytes],
    first: usize,
}

impl<'a> Queue<'a> {
    fn new(buffers: &'a mut [Bytes]) -> Self {
        Self { buffers, first: 0 }
    }

    /// What comes next, at most `length` bytes of it.
    fn slices(&self, length: u64) -> Vec<IoSlice<'_>> {
        let mut left = usize::try_from(length).unwrap_or(usize::MAX);
        let rest = self.buffers.get(self.first..).unwrap_or_default();
        rest.iter()
            .take(BUFFERS_MAX)
            .map_while(|buffer| {
                let taken = buffer.get(..left.min(buffer.len()))?;
                left -= taken.len();
                (!taken.is_empty()).then(|| IoSlice::new(taken))
            })
            .collect()
    }

    fn advance(&mut self, length: u64) {
        let mut left = usize::try_from(length).unwrap_or(usize::MAX);
        while let Some(buffer) = self.buffers.get_mut(self.first) {
            let taken = left.min(buffer.len());
            buffer.advance(taken);
            left -= taken;
            if !buffer.is_empty() {
                return;
            }
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests;
