//! The trait behind which the bytes of a torrent lie.

use crate::map::FileIndex;
use std::fs::{File, Metadata};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// The files of one torrent, wherever they are: on a disk, in memory, or in a simulation that breaks.
///
/// Synchronous on purpose: who has threads calls it from threads, and a simulation calls it from its event loop. Calls
/// may come from several threads at once; two that touch the same bytes are not ordered. Padding files never get here.
///
/// Errors are those of the operating system; who calls adds the file's name. Short transfers and
/// [`io::ErrorKind::Interrupted`] are allowed: who calls goes on where it stopped.
pub trait Storage: Send + Sync {
    /// Reads from `offset` of the file, as far as `buffer` and the file reach. Returns how many bytes; 0 is the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is no such file, and whatever else reading meets.
    fn read_at(&self, file: FileIndex, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// As [`Storage::read_at`], into the buffers one behind the other.
    ///
    /// # Errors
    /// As for [`Storage::read_at`].
    fn read_vectored_at(
        &self,
        file: FileIndex,
        offset: u64,
        buffers: &mut [IoSliceMut<'_>],
    ) -> io::Result<usize> {
        let first = buffers.iter_mut().find(|buffer| !buffer.is_empty());
        first.map_or(Ok(0), |buffer| self.read_at(file, offset, buffer))
    }

    /// Writes the buffers one behind the other from `offset` of the file, which is made if it is not there. Returns how
    /// many bytes, at least 1.
    ///
    /// # Errors
    /// Whatever writing meets: a full disk, no permission, something else in the file's place.
    fn write_at(&self, file: FileIndex, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<usize>;

    /// What is known of the file without reading it; `None` if it is not there.
    ///
    /// # Errors
    /// Whatever asking meets, except that the file is not there.
    fn stat(&self, file: FileIndex) -> io::Result<Option<FileStat>>;

    /// As [`Storage::stat`] of each of the files, in whatever way is quickest for so many.
    fn stat_each(&self, files: &mut dyn Iterator<Item = FileIndex>) -> Vec<StatResult> {
        files.map(|file| self.stat(file)).collect()
    }

    /// Returns once everything written to the file is on the medium. A file that is not there is no error.
    ///
    /// # Errors
    /// Whatever the medium meets. What was written before is then in doubt.
    fn sync(&self, file: FileIndex) -> io::Result<()>;

    /// As [`Storage::sync`] for each of the files, in whatever way is quickest for so many. Returns those that are in
    /// doubt.
    fn sync_each(&self, files: &[FileIndex]) -> Vec<(FileIndex, io::Error)> {
        let sync = |file: &FileIndex| Some((*file, self.sync(*file).err()?));
        files.iter().filter_map(sync).collect()
    }

    /// Makes the file, with nothing in it, if it is not there.
    ///
    /// # Errors
    /// As for [`Storage::write_at`].
    fn create(&self, file: FileIndex) -> io::Result<()>;

    /// Takes away what lies behind the first `length` bytes of the file, if there is more.
    ///
    /// # Errors
    /// As for [`Storage::write_at`].
    fn cut(&self, file: FileIndex, length: u64) -> io::Result<()> {
        let _ = (file, length);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The file, opened for who reads it from end to end once, if it is one of the system's. `None`: it has to be read by
    /// [`Storage::read_at`].
    ///
    /// # Errors
    /// As for [`Storage::read_at`].
    fn open_once(&self, file: FileIndex) -> io::Result<Option<Arc<File>>> {
        let _ = file;
        Ok(None)
    }

    /// Closes what [`Storage::open_once`] and [`Storage::is_hole`] opened. Who still reads opens it again.
    fn close_once(&self) {}

    /// True if the run surely was never written and so reads as zeros. `false` is always a correct answer.
    fn is_hole(&self, file: FileIndex, offset: u64, length: u64) -> bool {
        let _ = (file, offset, length);
        false
    }
}

/// What came of [`Storage::stat`].
pub type StatResult = io::Result<Option<FileStat>>;

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStat {
    /// Its length in bytes.
    pub length: u64,
    /// When it was last changed, in nanoseconds since 1970 (negative before).
    pub modified_nanos: i64,
}

impl From<&rustix::fs::Stat> for FileStat {
    #[allow(
        clippy::useless_conversion,
        clippy::cast_sign_loss,
        clippy::unnecessary_cast,
        reason = "the types of these fields are not the same on all systems"
    )]
    fn from(stat: &rustix::fs::Stat) -> Self {
        let nanos = i64::from(stat.st_mtime).saturating_mul(1_000_000_000);
        Self {
            length: u64::try_from(stat.st_size).unwrap_or(0),
            modified_nanos: nanos.saturating_add(stat.st_mtime_nsec as i64),
        }
    }
}

impl From<&Metadata> for FileStat {
    fn from(metadata: &Metadata) -> Self {
        let nanos = metadata.mtime().saturating_mul(1_000_000_000);
        Self {
            length: metadata.len(),
            modified_nanos: nanos.saturating_add(metadata.mtime_nsec()),
        }
    }
}

impl<S: Storage + ?Sized> Storage for Arc<S> {
    fn read_at(&self, file: FileIndex, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(file, offset, buffer)
    }

    fn read_vectored_at(
        &self,
        file: FileIndex,
        offset: u64,
        buffers: &mut [IoSliceMut<'_>],
    ) -> io::Result<usize> {
        (**self).read_vectored_at(file, offset, buffers)
    }

    fn write_at(&self, file: FileIndex, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (**self).write_at(file, offset, buffers)
    }

    fn stat(&self, file: FileIndex) -> io::Result<Option<FileStat>> {
        (**self).stat(file)
    }

    fn stat_each(&self, files: &mut dyn Iterator<Item = FileIndex>) -> Vec<StatResult> {
        (**self).stat_each(files)
    }

    fn sync(&self, file: FileIndex) -> io::Result<()> {
        (**self).sync(file)
    }

    fn sync_each(&self, files: &[FileIndex]) -> Vec<(FileIndex, io::Error)> {
        (**self).sync_each(files)
    }

    fn create(&self, file: FileIndex) -> io::Result<()> {
        (**self).create(file)
    }

    fn cut(&self, file: FileIndex, length: u64) -> io::Result<()> {
        (**self).cut(file, length)
    }

    fn open_once(&self, file: FileIndex) -> io::Result<Option<Arc<File>>> {
        (**self).open_once(file)
    }

    fn close_once(&self) {
        (**self).close_once();
    }

    fn is_hole(&self, file: FileIndex, offset: u64, length: u64) -> bool {
        (**self).is_hole(file, offset, length)
    }
}
