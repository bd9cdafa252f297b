//! Hashing files into the piece hashes of a new torrent.
//!
//! What was not in the page cache does not stay in it, so that a large torrent leaves other programs theirs.
//! **Invariants:** memory is bounded by three buffers of 256 KiB for each thread; a file that is not the same before and
//! after is an error that names it, never a torrent that nobody can complete.

use crate::files::TorrentFiles;
use crate::map::{FileIndex, FileMap, FileSpec};
use crate::pool::{FilePool, Need};
use crate::storage::{FileStat, Storage};
use crate::verify::{Control, Found, hash_pieces};
use bt_core::disk::DiskError;
use bt_core::piece::LayoutError;
use bt_core::{Layout, PieceIndex};
use rustix::fs::{Advice, OFlags, fadvise};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Why files could not be hashed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// The piece length is out of range, or there would be too many pieces.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A file cannot be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file is not as long as was said, or was changed while it was read.
    #[error("{} changed while it was hashed", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// It was told to stop.
    #[error("stopped before all pieces were hashed")]
    Cancelled,
}

/// The SHA-1 of each piece of the files laid end to end, in order.
///
/// Each path is opened as it stands, links followed: which files belong into a torrent is for the caller to say. A file
/// marked as padding is not opened and counts as zeros.
///
/// # Errors
/// [`HashError`]: the first file that cannot be read or was changed, or that it was told to stop.
pub fn hash_files(
    files: &[FileSpec],
    piece_length: u32,
    control: Control<'_>,
) -> Result<Vec<[u8; 20]>, HashError> {
    let total = files
        .iter()
        .map(|file| file.length)
        .fold(0, u64::saturating_add);
    let layout = Layout::new(total, piece_length)?;
    let storage = Arc::new(SourceStorage {
        paths: files.iter().map(|file| file.path.clone()).collect(),
        pool: FilePool::for_process(),
        cold: files.iter().map(|_| AtomicBool::new(false)).collect(),
    });
    let map = FileMap::new(layout, files.to_vec());
    let files = TorrentFiles::new(map, Box::new(Arc::clone(&storage)), PathBuf::new());
    let before = stats(&files)?;

    let trail = Trail {
        map: &files.map,
        storage: &storage,
        state: Mutex::default(),
    };
    let hashes = Mutex::new(vec![[0; 20]; layout.pieces_count() as usize]);
    let failure = Mutex::new(None);
    let pieces: Vec<_> = layout.pieces().collect();
    let outcome = hash_pieces(&files, &pieces, control, &|piece, found| match found {
        Found::Hash(hash) => {
            let mut hashes = hashes.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = hashes.get_mut(piece.index()) {
                *place = hash;
            }
            drop(hashes);
            trail.hashed(piece);
            true
        }
        Found::Error(_, error) => {
            let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(HashError::Disk(error));
            false
        }
        // Shorter than a moment ago; which file it was is found out below.
        Found::Nothing => false,
    });
    check_unchanged(&files, &before)?;
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    outcome.map_err(|_cancelled| HashError::Cancelled)?;
    Ok(hashes.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn stats(files: &TorrentFiles) -> Result<Vec<FileStat>, HashError> {
    let mut stats = Vec::new();
    for (index, spec) in files.map.files().iter().enumerate() {
        let file = FileIndex(index);
        let stat = files.stat(file)?.ok_or_else(|| {
            let missing = Errno::NOENT.into();
            HashError::Disk(files.error("read", file, &missing))
        })?;
        if stat.length != spec.length {
            let path = spec.path.clone();
            return Err(HashError::Changed { path });
        }
        stats.push(stat);
    }
    Ok(stats)
}

fn check_unchanged(files: &TorrentFiles, before: &[FileStat]) -> Result<(), HashError> {
    for (index, before) in before.iter().enumerate() {
        if files.stat(FileIndex(index))? != Some(*before) {
            let spec = files.map.file(FileIndex(index));
            let path = spec.map(|spec| spec.path.clone()).unwrap_or_default();
            return Err(HashError::Changed { path });
        }
    }
    Ok(())
}

/// Files wherever they lie, to be read only.
struct SourceStorage {
    paths: Vec<PathBuf>,
    pool: FilePool,
    /// Of each file, whether something of it was met that was not in the page cache. What comes behind it may be there
    /// since it was read ahead for us.
    cold: Vec<AtomicBool>,
}

impl SourceStorage {
    fn path(&self, file: FileIndex) -> io::Result<&Path> {
        let path = self.paths.get(file.0).map(PathBuf::as_path);
        path.ok_or_else(|| Errno::NOENT.into())
    }

    fn open(&self, file: FileIndex) -> io::Result<Arc<File>> {
        let path = self.path(file)?;
        self.pool.get((0, file), Need::Read, || {
            let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
            let mut options = File::options();
            // Without NONBLOCK, opening a pipe would wait for somebody at its other end.
            let file = options.read(true).custom_flags(flags).open(path)?;
            // Reads of several pieces in turns look random, and nothing would be read ahead for them. A file system that
            // knows no such advice does without.
            let _ = fadvise(&file, 0, None, Advice::Sequential);
            Ok(file)
        })
    }
}

/// How much is hashed before the page cache is rid of it.
const DROP_BYTES: u64 = 32 * 1024 * 1024;

/// The page cache drops by folios, which begin at multiples of their length: the most that one reaches back.
const FOLIO_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Drops from the page cache what was read from cold files, once all before it is hashed too: the parts that are hashed
/// at the same time lie close to each other, and what was read ahead for one of them is not to be read twice.
struct Trail<'a> {
    map: &'a FileMap,
    storage: &'a SourceStorage,
    state: Mutex<TrailState>,
}

#[derive(Default)]
struct TrailState {
    /// Pieces that are hashed, while one before them is not.
    ahead: BTreeSet<u32>,
    /// All pieces before this one are hashed.
    next: u32,
    /// All bytes before this one were dropped.
    dropped: u64,
}

impl Trail<'_> {
    fn hashed(&self, piece: PieceIndex) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ahead.insert(piece.get());
        while let next = state.next
            && state.ahead.remove(&next)
        {
            state.next += 1;
        }
        let layout = self.map.layout();
        let end = layout
            .piece(state.next)
            .map_or(layout.total_length(), |next| layout.piece_offset(next));
        if end - state.dropped >= DROP_BYTES || end == layout.total_length() {
            self.drop_bytes(state.dropped.saturating_sub(FOLIO_BYTES_MAX), end);
            state.dropped = end;
        }
    }

    fn drop_bytes(&self, begin: u64, end: u64) {
        for span in self.map.spans(begin, end - begin) {
            let cold = self.storage.cold.get(span.file.0);
            if cold.is_some_and(|cold| cold.load(Ordering::Relaxed))
                && let Ok(source) = self.storage.open(span.file)
            {
                // Where it is refused it costs memory and nothing else.
                let length = NonZeroU64::new(span.length);
                let _ = fadvise(&source, span.offset, length, Advice::DontNeed);
            }
        }
    }
}

impl Storage for SourceStorage {
    fn read_at(&self, file: FileIndex, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let source = self.open(file)?;
        let cold = self.cold.get(file.0);
        let is_known_cold = cold.is_some_and(|cold| cold.load(Ordering::Relaxed));
        if !is_known_cold {
            match read_cached(&source, offset, buffer) {
                Cached::All => return Ok(buffer.len()),
                Cached::Unknown => return source.read_at(buffer, offset),
                Cached::Not => {}
            }
            if let Some(cold) = cold {
                cold.store(true, Ordering::Relaxed);
            }
        }
        let length = source.read_at(buffer, offset)?;
        // From here on the rest of the file was read ahead for us, so all of it goes; a refusal costs nothing but memory.
        let _ = fadvise(
            &source,
            offset,
            NonZeroU64::new(length as u64),
            Advice::DontNeed,
        );
        Ok(length)
    }

    fn write_at(
        &self,
        _file: FileIndex,
        _offset: u64,
        _buffers: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        Err(Errno::ROFS.into())
    }

    fn stat(&self, file: FileIndex) -> io::Result<Option<FileStat>> {
        let metadata = match std::fs::metadata(self.path(file)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata?,
        };
        if !metadata.is_file() {
            return Err(if metadata.is_dir() {
                Errno::ISDIR
            } else {
                Errno::NXIO
            }
            .into());
        }
        Ok(Some(FileStat::from(&metadata)))
    }

    fn sync(&self, _file: FileIndex) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, _file: FileIndex) -> io::Result<()> {
        Err(Errno::ROFS.into())
    }
}

/// How much of what was to be read is in the page cache.
#[derive(Debug, PartialEq, Eq)]
enum Cached {
    /// All of it, and it was read.
    All,
    Not,
    /// The system cannot tell.
    Unknown,
}

/// Reads what can be read without waiting for a disk.
#[cfg(target_os = "linux")]
fn read_cached(file: &File, offset: u64, buffer: &mut [u8]) -> Cached {
    use rustix::io::{ReadWriteFlags, preadv2};
    let wanted = buffer.len();
    let buffers = &mut [io::IoSliceMut::new(buffer)];
    match preadv2(file, buffers, offset, ReadWriteFlags::NOWAIT) {
        Ok(length) if length == wanted => Cached::All,
        Ok(_) | Err(Errno::AGAIN) => Cached::Not,
        Err(_) => Cached::Unknown,
    }
}

#[cfg(not(target_os = "linux"))]
fn read_cached(_file: &File, _offset: u64, _buffer: &mut [u8]) -> Cached {
    Cached::Unknown
}

#[cfg(test)]
mod tests;
