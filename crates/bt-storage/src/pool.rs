//! Open files, at most so many at once, shared by all torrents of a process.
//!
//! **Invariant:** the pool keeps at most `files_max` files open; each call that is reading or writing at the moment may
//! hold one more. What was used longest ago is closed first (FAULTS: a torrent of 10⁵ files, `ulimit -n 64`).

use crate::beneath;
use crate::map::FileIndex;
use rustix::fd::OwnedFd;
use rustix::fs::{Stat, fstat, stat};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The most files a pool keeps open if the process may have plenty: more gain nothing, and each costs kernel memory.
pub const OPEN_FILES_MAX: usize = 512;

/// The least: below this even a single torrent would open and close all the time.
const OPEN_FILES_MIN: usize = 8;

/// The pool's share of the files that the process may open is one in so many; sockets need the rest.
const PROCESS_SHARE: u64 = 4;

/// A pool of open files.
#[derive(Debug)]
pub struct FilePool {
    state: Mutex<State>,
    files_max: usize,
    owners: AtomicU64,
    folders: Mutex<BTreeMap<PathBuf, Weak<Folder>>>,
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) fd: OwnedFd,
    pub(crate) id: FolderId,
}

/// Which folder, whatever its name: no other has the same as long as it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderId {
    device: u64,
    inode: u64,
}

impl FolderId {
    /// Which folder has the name now.
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from(&stat(path)?))
    }
}

impl From<&Stat> for FolderId {
    #[allow(
        clippy::useless_conversion,
        clippy::cast_sign_loss,
        clippy::unnecessary_cast,
        reason = "the types of these fields are not the same on all systems"
    )]
    fn from(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
        }
    }
}

/// Who in the pool: a torrent's storage, and which of its files.
pub(crate) type Key = (u64, FileIndex);

#[derive(Debug, Default)]
struct State {
    open: BTreeMap<Key, Entry>,
    /// The same files by when they were last used.
    by_use: BTreeMap<u64, Key>,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    file: Arc<File>,
    writable: bool,
    used: u64,
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Read,
    Write,
}

impl FilePool {
    /// A pool that keeps at most `files_max` files open (at least 1).
    #[must_use]
    pub fn new(files_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            files_max: files_max.max(1),
            owners: AtomicU64::new(0),
            folders: Mutex::default(),
        }
    }

    /// A pool that takes a quarter of the files which this process may open, at most [`OPEN_FILES_MAX`].
    #[must_use]
    pub fn for_process() -> Self {
        let share = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / PROCESS_SHARE;
        let share = usize::try_from(share).unwrap_or(usize::MAX);
        Self::new(share.clamp(OPEN_FILES_MIN, OPEN_FILES_MAX))
    }

    /// How many files are open at the moment.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.lock().open.len()
    }

    /// A number that no other storage of this pool has.
    pub(crate) fn add_owner(&self) -> u64 {
        self.owners.fetch_add(1, Ordering::Relaxed)
    }

    /// The folder, open. Thousands of torrents in one folder share one descriptor, and each takes one system call.
    pub(crate) fn folder(&self, path: &Path) -> io::Result<Arc<Folder>> {
        let known = self.folders().get(path).and_then(Weak::upgrade);
        // Else it was moved away, and another has its name.
        if let Some(folder) = known
            && folder.id == FolderId::of(path)?
        {
            return Ok(folder);
        }
        let fd = beneath::open_folder(path)?;
        let id = FolderId::from(&fstat(&fd)?);
        let mut folders = self.folders();
        let same = folders.get(path).and_then(Weak::upgrade);
        if let Some(folder) = same.filter(|folder| folder.id == id) {
            // Another thread was faster.
            return Ok(folder);
        }
        let folder = Arc::new(Folder { fd, id });
        folders.retain(|_, other| other.strong_count() > 0);
        folders.insert(path.to_owned(), Arc::downgrade(&folder));
        Ok(folder)
    }

    fn folders(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Weak<Folder>>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open file, opened by `open` if it is not open yet, or not for what is needed.
    pub(crate) fn get(
        &self,
        key: Key,
        need: Need,
        open: impl Fn() -> io::Result<File>,
    ) -> io::Result<Arc<File>> {
        if let Some(file) = self.lock().find(key, need) {
            return Ok(file);
        }
        // Opened outside the lock: a slow disk must not hold up the others. Two threads may open the same file at once;
        // the later one's is kept, and the other is closed when its user is done.
        let file = match open() {
            Err(error) if is_out_of_files(&error) => {
                self.lock().clear();
                open()?
            }
            opened => opened?,
        };
        let file = Arc::new(file);
        self.lock()
            .insert(key, &file, need == Need::Write, self.files_max);
        Ok(file)
    }

    /// Closes the file, once its present users are done.
    pub(crate) fn forget(&self, key: Key) {
        self.lock().remove(key);
    }

    /// Closes all files of the storage.
    pub(crate) fn forget_owner(&self, owner: u64) {
        let mut state = self.lock();
        let keys = (owner, FileIndex(0))..=(owner, FileIndex(usize::MAX));
        let keys: Vec<Key> = state.open.range(keys).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| state.remove(key));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_out_of_files(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

impl State {
    fn find(&mut self, key: Key, need: Need) -> Option<Arc<File>> {
        let entry = self.open.get_mut(&key)?;
        if need == Need::Write && !entry.writable {
            return None;
        }
        self.by_use.remove(&entry.used);
        self.uses += 1;
        entry.used = self.uses;
        self.by_use.insert(self.uses, key);
        Some(Arc::clone(&entry.file))
    }

    fn insert(&mut self, key: Key, file: &Arc<File>, writable: bool, files_max: usize) {
        self.remove(key);
        while self.open.len() >= files_max {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                break;
            };
            self.open.remove(&oldest);
        }
        self.uses += 1;
        self.by_use.insert(self.uses, key);
        let entry = Entry {
            file: Arc::clone(file),
            writable,
            used: self.uses,
        };
        self.open.insert(key, entry);
    }

    fn remove(&mut self, key: Key) {
        if let Some(entry) = self.open.remove(&key) {
            self.by_use.remove(&entry.used);
        }
    }

    fn clear(&mut self) {
        self.open.clear();
        self.by_use.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn the_least_recently_used_file_is_closed_first() {
        // (owner, file) in turn, and whether it has to be opened, with room for two.
        let rows = [
            ((0, 0), true),
            ((0, 1), true),
            ((0, 0), false),
            ((1, 0), true),
            ((0, 0), false),
            ((0, 1), true),
            ((1, 0), true),
        ];
        let pool = FilePool::new(2);
        for (turn, ((owner, file), expected)) in rows.into_iter().enumerate() {
            let opened = Cell::new(false);
            let key = (owner, FileIndex(file));
            pool.get(key, Need::Read, || {
                opened.set(true);
                Ok(tempfile::tempfile().unwrap())
            })
            .unwrap();
            assert_eq!(opened.get(), expected, "turn {turn}");
            assert!(pool.open_count() <= 2);
        }
        pool.forget_owner(0);
        assert_eq!(pool.open_count(), 1);
        pool.forget((1, FileIndex(0)));
        assert_eq!(pool.open_count(), 0);
    }

    #[test]
    fn a_folder_is_open_once_and_one_that_took_its_name_is_another() {
        let temp = tempfile::tempdir().unwrap();
        let (path, aside) = (temp.path().join("a"), temp.path().join("b"));
        std::fs::create_dir(&path).unwrap();
        let pool = FilePool::new(1);
        let first = pool.folder(&path).unwrap();
        let second = pool.folder(&path).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        std::fs::rename(&path, &aside).unwrap();
        assert!(pool.folder(&path).is_err());
        std::fs::create_dir(&path).unwrap();
        let other = pool.folder(&path).unwrap();
        assert!(!Arc::ptr_eq(&first, &other));
        assert!(Arc::ptr_eq(&other, &pool.folder(&path).unwrap()));
        drop((first, second, other));
        pool.folder(&aside).unwrap();
        assert_eq!(pool.folders().len(), 1, "who has gone is forgotten");
    }

    #[test]
    fn writing_needs_a_file_opened_for_it_and_reading_takes_either() {
        let pool = FilePool::new(4);
        let opens = Cell::new(0);
        let turns = [Need::Read, Need::Write, Need::Read, Need::Write];
        for (need, expected) in turns.into_iter().zip([1, 2, 2, 2]) {
            pool.get((0, FileIndex(0)), need, || {
                opens.set(opens.get() + 1);
                Ok(tempfile::tempfile().unwrap())
            })
            .unwrap();
            assert_eq!(opens.get(), expected);
        }
        assert_eq!(pool.open_count(), 1);
    }

    #[test]
    fn when_the_process_has_no_files_left_the_pool_gives_up_its_own() {
        let pool = FilePool::new(4);
        let file = || Ok(tempfile::tempfile().unwrap());
        pool.get((0, FileIndex(0)), Need::Read, file).unwrap();
        let tries = Cell::new(0);
        let got = pool.get((0, FileIndex(1)), Need::Read, || {
            tries.set(tries.get() + 1);
            if pool.open_count() > 0 {
                Err(Errno::MFILE.into())
            } else {
                file()
            }
        });
        assert!(got.is_ok() && tries.get() == 2);
        let none = pool.get((0, FileIndex(2)), Need::Read, || Err(Errno::MFILE.into()));
        assert_eq!(
            none.unwrap_err().raw_os_error(),
            Some(Errno::MFILE.raw_os_error())
        );
    }
}
