//! Hashing files into the piece hashes of a new torrent.
//!
//! What was not in the page cache does not stay in it, so that a large torrent leaves other programs theirs.
//! **Invariants:** memory is bounded by three buffers of 256 KiB for each thread; a file that is not the same before and
//! after is an error that names it, never a torrent that nobody can complete.

use crate::files::TorrentFiles;
use crate::map::{FileIndex, FileMap, FileSpec};
use crate::pool::{FilePool, Need};
use crate::storage::{FileStat, Storage};
use crate::trail::advise_sequential;
use crate::verify::{Control, Found, hash_pieces};
use bt_core::Layout;
use bt_core::disk::DiskError;
use bt_core::piece::LayoutError;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
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
    let storage = SourceStorage {
        paths: files.iter().map(|file| file.path.clone()).collect(),
        pool: FilePool::for_process(),
    };
    let map = FileMap::new(layout, files.to_vec());
    let files = TorrentFiles::new(map, Box::new(storage), PathBuf::new());
    let before = stats(&files)?;

    let hashes = Mutex::new(vec![[0; 20]; layout.pieces_count() as usize]);
    let failure = Mutex::new(None);
    let pieces: Vec<_> = layout.pieces().collect();
    let outcome = hash_pieces(&files, &pieces, control, &|piece, found| match found {
        Found::Hash(hash) => {
            let mut hashes = hashes.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = hashes.get_mut(piece.index()) {
                *place = hash;
            }
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
            advise_sequential(&file);
            Ok(file)
        })
    }
}

impl Storage for SourceStorage {
    fn read_at(&self, file: FileIndex, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.open(file)?.read_at(buffer, offset)
    }

    fn open_once(&self, file: FileIndex) -> io::Result<Option<Arc<File>>> {
        self.open(file).map(Some)
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

#[cfg(test)]
mod tests;
