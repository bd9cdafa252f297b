//! Files on a disk.
//!
//! Sparse unless told to preallocate; folders are made when the first file in them is. **Invariants:** nothing outside
//! the folder is ever opened, and no symbolic link below it followed; a file that this storage has made and that
//! somebody else has taken away or cut is an error and not made again, since its pieces would then read as zeros.

use crate::beneath::{self, Parents};
use crate::map::{FileIndex, FileSpec};
use crate::pool::{FilePool, Need};
use crate::storage::{FileStat, Storage};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate, fstat, ftruncate, seek};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The most buffers that one `pwritev` takes on Linux (`IOV_MAX`).
const BUFFERS_MAX: usize = 1024;

/// The most files that are synced one by one. Each costs the medium a flush, so of more than these the whole file system
/// is synced at once: measured on ext4, 12,000 small files took over 10 s singly.
const SYNC_SINGLY_MAX: usize = 32;

/// What may be done to the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Files are read, and nothing is made or changed.
    ReadOnly,
    /// Files and folders are made as they are needed.
    #[default]
    ReadWrite,
}

/// How a file gets its length when it is first written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allocation {
    /// The length is set; what was not written yet takes no space.
    #[default]
    Sparse,
    /// The space is reserved at once, so that the disk cannot be full later. A file system that cannot do it: sparse.
    Full,
}

/// The files of a torrent in a folder.
#[derive(Debug)]
pub struct FileStorage {
    folder: OwnedFd,
    files: Vec<Slot>,
    pool: Arc<FilePool>,
    owner: u64,
    access: Access,
    allocation: Allocation,
}

#[derive(Debug)]
struct Slot {
    spec: FileSpec,
    /// True once we have made the file or given it its length.
    made: AtomicBool,
}

impl FileStorage {
    /// The storage of these files in the folder, which is made if it is not there and may be written to.
    ///
    /// # Errors
    /// If the folder cannot be opened or made.
    pub fn open(
        folder: &Path,
        files: &[FileSpec],
        pool: Arc<FilePool>,
        access: Access,
        allocation: Allocation,
    ) -> io::Result<Self> {
        if access == Access::ReadWrite {
            std::fs::create_dir_all(folder)?;
        }
        let files = files.iter().map(|spec| Slot {
            spec: spec.clone(),
            made: AtomicBool::new(false),
        });
        Ok(Self {
            folder: beneath::open_folder(folder)?,
            files: files.collect(),
            owner: pool.add_owner(),
            pool,
            access,
            allocation,
        })
    }

    fn slot(&self, file: FileIndex) -> io::Result<&Slot> {
        self.files.get(file.0).ok_or_else(|| Errno::NOENT.into())
    }

    /// What the name stands for now, asked without the right to read and without the pool's memory.
    fn metadata(&self, file: FileIndex) -> io::Result<Metadata> {
        let path = &self.slot(file)?.spec.path;
        beneath::open_file(self.folder.as_fd(), path, OFlags::PATH, Parents::Expect)?.metadata()
    }

    fn readable(&self, file: FileIndex) -> io::Result<Arc<File>> {
        let slot = self.slot(file)?;
        self.pool.get((self.owner, file), Need::Read, || {
            let folder = self.folder.as_fd();
            beneath::open_file(folder, &slot.spec.path, OFlags::RDONLY, Parents::Expect)
        })
    }

    fn writable(&self, file: FileIndex) -> io::Result<Arc<File>> {
        if self.access == Access::ReadOnly {
            return Err(Errno::ROFS.into());
        }
        let slot = self.slot(file)?;
        self.pool.get((self.owner, file), Need::Write, || {
            let folder = self.folder.as_fd();
            let path = &slot.spec.path;
            if slot.made.load(Ordering::Acquire) {
                return beneath::open_file(folder, path, OFlags::RDWR, Parents::Expect);
            }
            let flags = OFlags::RDWR | OFlags::CREATE;
            let opened = beneath::open_file(folder, path, flags, Parents::Create)?;
            self.give_length(&opened, slot.spec.length)?;
            slot.made.store(true, Ordering::Release);
            Ok(opened)
        })
    }

    fn give_length(&self, file: &File, length: u64) -> Result<(), Errno> {
        if self.allocation == Allocation::Full && length > 0 {
            match fallocate(file, FallocateFlags::empty(), 0, length) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(errno) => return Err(errno),
            }
        }
        if fstat(file)?.st_size == i64::try_from(length).unwrap_or(i64::MAX) {
            return Ok(());
        }
        ftruncate(file, length)
    }

    /// The open file; an error if somebody took it away or cut it since we made it.
    fn intact(&self, file: FileIndex) -> io::Result<Arc<File>> {
        let length = self.slot(file)?.spec.length;
        let opened = self.writable(file)?;
        let metadata = opened.metadata()?;
        if metadata.nlink() > 0 && metadata.len() >= length {
            return Ok(opened);
        }
        self.pool.forget((self.owner, file));
        Err(if metadata.nlink() == 0 {
            Errno::NOENT.into()
        } else {
            io::Error::new(io::ErrorKind::UnexpectedEof, "somebody cut it short")
        })
    }
}

impl Drop for FileStorage {
    fn drop(&mut self) {
        self.pool.forget_owner(self.owner);
    }
}

impl Storage for FileStorage {
    fn read_at(&self, file: FileIndex, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.readable(file)?.read_at(buffer, offset)
    }

    fn write_at(&self, file: FileIndex, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let opened = self.intact(file)?;
        let buffers = buffers.get(..BUFFERS_MAX).unwrap_or(buffers);
        Ok(rustix::io::pwritev(&opened, buffers, offset)?)
    }

    fn stat(&self, file: FileIndex) -> io::Result<Option<FileStat>> {
        match self.metadata(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            metadata => Ok(Some(FileStat::from(&metadata?))),
        }
    }

    fn sync(&self, file: FileIndex) -> io::Result<()> {
        match self.readable(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            opened => opened?.sync_all(),
        }
    }

    fn sync_each(&self, files: &[FileIndex]) -> Vec<(FileIndex, io::Error)> {
        if files.len() <= SYNC_SINGLY_MAX {
            let sync = |file: &FileIndex| Some((*file, self.sync(*file).err()?));
            return files.iter().filter_map(sync).collect();
        }
        let mut failed = Vec::new();
        let mut by_device: BTreeMap<u64, Vec<FileIndex>> = BTreeMap::new();
        for file in files {
            match self.metadata(*file) {
                Ok(metadata) => by_device.entry(metadata.dev()).or_default().push(*file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => failed.push((*file, error)),
            }
        }
        for files in by_device.values() {
            let first = files.first().copied().unwrap_or(FileIndex(0));
            let synced = self
                .readable(first)
                .and_then(|opened| Ok(rustix::fs::syncfs(&opened)?));
            if let Err(error) = synced {
                let again =
                    |file: &FileIndex| (*file, io::Error::new(error.kind(), error.to_string()));
                failed.extend(files.iter().map(again));
            }
        }
        failed
    }

    fn create(&self, file: FileIndex) -> io::Result<()> {
        if self.stat(file)?.is_some() {
            return Ok(());
        }
        self.writable(file).map(drop)
    }

    fn is_hole(&self, file: FileIndex, offset: u64, length: u64) -> bool {
        let Ok(opened) = self.readable(file) else {
            return false;
        };
        let end = offset.saturating_add(length);
        // Behind the file's end nothing reads as zeros; and a file with all its space has no holes to look for.
        let sparse = opened
            .metadata()
            .is_ok_and(|stat| stat.len() >= end && stat.blocks().saturating_mul(512) < stat.len());
        if !sparse {
            return false;
        }
        match seek(&opened, SeekFrom::Data(offset)) {
            Ok(data) => data >= end,
            Err(errno) => errno == Errno::NXIO,
        }
    }
}

#[cfg(test)]
mod tests;
