//! Files on a disk.
//!
//! Sparse unless told to preallocate; folders are made when the first file in them is. **Invariants:** nothing outside
//! the folder is ever opened, and no symbolic link below it followed; a file that this storage has made and that
//! somebody else has taken away or cut is an error and not made again, since its pieces would then read as zeros.

use crate::beneath::{self, Looker, Opened, Parents};
use crate::map::{FileIndex, FileSpec};
use crate::pool::{FilePool, Folder, FolderId, Need};
use crate::storage::{FileStat, StatResult, Storage};
use crate::trail::advise_sequential;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom, fallocate, ftruncate, openat, seek};
use rustix::io::Errno;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    folder: Arc<Folder>,
    files: Vec<Slot>,
    pool: Arc<FilePool>,
    owner: u64,
    /// In the pool, of what is read once: with the advice that goes with it, which uploads have no use for.
    owner_once: u64,
    access: Access,
    allocation: Allocation,
    /// The devices on which files were opened to be written, each with one of those files.
    devices: Mutex<BTreeMap<u64, FileIndex>>,
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
        let folder = match pool.folder(folder) {
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && access == Access::ReadWrite =>
            {
                std::fs::create_dir_all(folder)?;
                pool.folder(folder)?
            }
            opened => opened?,
        };
        let files = files.iter().map(|spec| Slot {
            spec: spec.clone(),
            made: AtomicBool::new(false),
        });
        Ok(Self {
            folder,
            files: files.collect(),
            owner: pool.add_owner(),
            owner_once: pool.add_owner(),
            pool,
            access,
            allocation,
            devices: Mutex::default(),
        })
    }

    /// Which folder they are in.
    #[must_use]
    pub fn folder_id(&self) -> FolderId {
        self.folder.id
    }

    fn folder(&self) -> BorrowedFd<'_> {
        self.folder.fd.as_fd()
    }

    fn slot(&self, file: FileIndex) -> io::Result<&Slot> {
        self.files.get(file.0).ok_or_else(|| Errno::NOENT.into())
    }

    /// What the name stands for now, asked without the right to read and without the pool's memory.
    fn look_at(&self, looker: &mut Looker<'_>, file: FileIndex) -> StatResult {
        match looker.look_at(&self.slot(file)?.spec.path) {
            Err(Errno::NOENT) => Ok(None),
            stat => Ok(Some(stat?)),
        }
    }

    fn readable(&self, file: FileIndex) -> io::Result<Arc<File>> {
        let slot = self.slot(file)?;
        self.pool
            .get((self.owner, file), Need::Read, || self.open_to_read(slot))
    }

    fn readable_once(&self, file: FileIndex) -> io::Result<Arc<File>> {
        let slot = self.slot(file)?;
        self.pool.get((self.owner_once, file), Need::Read, || {
            let file = self.open_to_read(slot)?;
            advise_sequential(&file);
            Ok(file)
        })
    }

    fn open_to_read(&self, slot: &Slot) -> io::Result<File> {
        let (folder, path) = (self.folder(), &slot.spec.path);
        let opened = beneath::open_file(folder, path, OFlags::RDONLY, Parents::Expect)?;
        Ok(opened.file)
    }

    /// The file open for writing, as long as it should be and in its place. An error if somebody took it away or cut it
    /// since we made it.
    ///
    /// `fills` says that it is about to be written from end to end, which gives it its length.
    fn writable(&self, file: FileIndex, fills: bool) -> io::Result<Arc<File>> {
        if self.access == Access::ReadOnly {
            return Err(Errno::ROFS.into());
        }
        let slot = self.slot(file)?;
        let key = (self.owner, file);
        let is_new = Cell::new(false);
        let opened = self.pool.get(key, Need::Write, || {
            is_new.set(true);
            self.open_to_write(file, slot, fills)
        })?;
        if is_new.get() {
            return Ok(opened);
        }
        let metadata = opened.metadata()?;
        if metadata.nlink() > 0 && metadata.len() >= slot.spec.length {
            return Ok(opened);
        }
        self.pool.forget(key);
        Err(if metadata.nlink() == 0 {
            Errno::NOENT.into()
        } else {
            cut_short()
        })
    }

    fn open_to_write(&self, file: FileIndex, slot: &Slot, fills: bool) -> io::Result<File> {
        let folder = self.folder();
        let path = &slot.spec.path;
        if slot.made.load(Ordering::Acquire) {
            let opened = beneath::open_file(folder, path, OFlags::RDWR, Parents::Expect)?;
            if FileStat::from(&opened.stat).length < slot.spec.length {
                return Err(cut_short());
            }
            return Ok(opened.file);
        }
        let flags = OFlags::RDWR | OFlags::CREATE;
        let opened = beneath::open_file(folder, path, flags, Parents::Create)?;
        self.give_length(&opened, slot.spec.length, fills)?;
        self.devices().entry(opened.stat.st_dev).or_insert(file);
        slot.made.store(true, Ordering::Release);
        Ok(opened.file)
    }

    fn give_length(&self, opened: &Opened, length: u64, fills: bool) -> Result<(), Errno> {
        if self.allocation == Allocation::Full && length > 0 {
            match fallocate(&opened.file, FallocateFlags::empty(), 0, length) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(errno) => return Err(errno),
            }
        }
        let found = FileStat::from(&opened.stat).length;
        if found == length || (found < length && fills) {
            return Ok(());
        }
        ftruncate(&opened.file, length)
    }

    fn devices(&self) -> MutexGuard<'_, BTreeMap<u64, FileIndex>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs every file system on which we have written, whole.
    fn sync_devices(&self) -> io::Result<()> {
        let devices: Vec<(u64, FileIndex)> = self.devices().clone().into_iter().collect();
        // Mostly there is one, the folder's own, and that is there even if the file is not any more.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(self.folder(), c".", flags, Mode::empty())?;
        let own = rustix::fs::fstat(&folder)?.st_dev;
        for (device, file) in devices {
            if device == own {
                rustix::fs::syncfs(&folder)?;
            } else {
                rustix::fs::syncfs(self.readable(file)?)?;
            }
        }
        Ok(())
    }
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "somebody cut it short")
}

impl Drop for FileStorage {
    fn drop(&mut self) {
        self.pool.forget_owner(self.owner);
        self.close_once();
    }
}

impl Storage for FileStorage {
    fn read_at(&self, file: FileIndex, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.readable(file)?.read_at(buffer, offset)
    }

    fn read_vectored_at(
        &self,
        file: FileIndex,
        offset: u64,
        buffers: &mut [IoSliceMut<'_>],
    ) -> io::Result<usize> {
        let opened = self.readable(file)?;
        let count = buffers.len().min(BUFFERS_MAX);
        let buffers = buffers.get_mut(..count).unwrap_or_default();
        Ok(rustix::io::preadv(&opened, buffers, offset)?)
    }

    fn write_at(&self, file: FileIndex, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let slot = self.slot(file)?;
        let buffers = buffers.get(..BUFFERS_MAX).unwrap_or(buffers);
        let length: u64 = buffers.iter().map(|buffer| buffer.len() as u64).sum();
        let fills = offset == 0 && length == slot.spec.length;
        let opened = self.writable(file, fills)?;
        let result = rustix::io::pwritev(&opened, buffers, offset);
        if fills && result != Ok(buffers.iter().map(|buffer| buffer.len()).sum()) {
            // It may lack its length now, which the next write has to give it.
            slot.made.store(false, Ordering::Release);
            self.pool.forget((self.owner, file));
        }
        Ok(result?)
    }

    fn stat(&self, file: FileIndex) -> StatResult {
        self.look_at(&mut Looker::new(self.folder()), file)
    }

    fn stat_each(&self, files: &mut dyn Iterator<Item = FileIndex>) -> Vec<StatResult> {
        let mut looker = Looker::new(self.folder());
        files.map(|file| self.look_at(&mut looker, file)).collect()
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
        let Err(error) = self.sync_devices() else {
            return Vec::new();
        };
        let again = |file: &FileIndex| (*file, io::Error::new(error.kind(), error.to_string()));
        files.iter().map(again).collect()
    }

    fn create(&self, file: FileIndex) -> io::Result<()> {
        if self.stat(file)?.is_some() {
            return Ok(());
        }
        self.writable(file, false).map(drop)
    }

    fn cut(&self, file: FileIndex, length: u64) -> io::Result<()> {
        let opened = self.writable(file, false)?;
        if opened.metadata()?.len() > length {
            opened.set_len(length)?;
        }
        Ok(())
    }

    fn open_once(&self, file: FileIndex) -> io::Result<Option<Arc<File>>> {
        self.readable_once(file).map(Some)
    }

    fn close_once(&self) {
        self.pool.forget_owner(self.owner_once);
    }

    fn is_hole(&self, file: FileIndex, offset: u64, length: u64) -> bool {
        // Who asks is about to read it, or has done so: with what a check opened, which its end closes.
        let Ok(opened) = self.readable_once(file) else {
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
