//! One process at a time for each torrent of a state folder, however many torrents a process has.
//!
//! A process keeps one register in the folder, in which it writes the torrents that it is at work on, and holds `flock` on
//! it: the system drops that when the process ends, however it ends, so there is no stale lock to clean up. Whoever wants a
//! torrent looks through the registers that others hold, and removes those that nobody holds any more. So the torrents of
//! one state folder take two descriptors, of the register and of the turn, where a lock file for each would take thousands.
//!
//! **Invariant:** looking through the others' registers and writing into one's own is one step: the folder's `turn` file is
//! locked meanwhile. A register that could not be written claims every torrent. Who was alone in the folder is alone as long
//! as the number in that file is the same: each new register counts it up.
//!
//! Register: `in-use/PID-NUMBER` in the state folder, 20 bytes for each info hash; the first place, and each that is free, has zeros.

use crate::error::disk_error;
use bt_core::InfoHash;
use bt_core::disk::DiskError;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The folder of the registers, in the state folder.
const FOLDER: &str = "in-use";

/// The file in it that is locked while registers are looked through.
const TURN: &str = "turn";

/// Bytes of an entry.
const ENTRY_BYTES: usize = 20;

/// An entry without a torrent.
const FREE: [u8; ENTRY_BYTES] = [0; ENTRY_BYTES];

/// The longest register that is read: of a million torrents.
const REGISTER_BYTES_MAX: u64 = 1_000_000 * ENTRY_BYTES as u64;

/// Why a torrent could not be locked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process has it.
    #[error("{} is locked: process {owner} is at work on this torrent", path.display())]
    Held {
        /// The owner's register.
        path: PathBuf,
        /// Its process id.
        owner: String,
    },
    /// The torrent cannot be registered.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The torrents on which somebody is at work: a register in each state folder that is used. Shared by all of them.
#[derive(Debug, Default)]
pub struct Locks {
    registers: Mutex<BTreeMap<PathBuf, Weak<Register>>>,
}

/// As long as it lives, no other process works on the torrent.
#[derive(Debug)]
pub struct TorrentLock {
    register: Arc<Register>,
    info_hash: InfoHash,
}

impl Locks {
    /// Locks the torrent in the state folder, which is made if it is not there. Waits for nobody who is at work.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process (or another torrent of this one) has it.
    pub fn acquire(&self, folder: &Path, info_hash: InfoHash) -> Result<TorrentLock, LockError> {
        let register = self.register(folder)?;
        register.enter(info_hash)?;
        Ok(TorrentLock {
            register,
            info_hash,
        })
    }

    fn register(&self, folder: &Path) -> Result<Arc<Register>, DiskError> {
        let mut registers = lock(&self.registers);
        if let Some(register) = registers.get(folder).and_then(Weak::upgrade) {
            return Ok(register);
        }
        registers.retain(|_, register| register.strong_count() > 0);
        let register = Register::open(&folder.join(FOLDER));
        let register = register.map_err(|error| disk_error("lock", folder, &error))?;
        let register = Arc::new(register);
        registers.insert(folder.to_owned(), Arc::downgrade(&register));
        Ok(register)
    }
}

impl Drop for TorrentLock {
    fn drop(&mut self) {
        self.register.leave(self.info_hash);
    }
}

/// This process's register in one folder.
#[derive(Debug)]
struct Register {
    folder: PathBuf,
    /// Its own file's name in it.
    name: String,
    file: File,
    turn: File,
    places: Mutex<Places>,
}

/// Where in the register each torrent stands.
#[derive(Debug)]
struct Places {
    taken: BTreeMap<InfoHash, u64>,
    free: Vec<u64>,
    /// The folder's number when this was its only register.
    alone: Option<u64>,
    /// It could not be written, and is empty.
    claims_all: bool,
}

impl Register {
    fn open(folder: &Path) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        std::fs::create_dir_all(folder)?;
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let turn = options.open(folder.join(TURN))?;
        let looking = Turn::wait(&turn)?;
        let (name, file) = loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{number}", std::process::id());
            let file = options.open(folder.join(&name))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Its owner, with our number in another container, has ended since and removed it: then it is nobody's.
                Ok(()) if file.metadata()?.nlink() == 0 => {}
                Ok(()) => break (name, file),
                // In another container, some process has our number.
                Err(Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        // Some process that had our number before us may have left it.
        file.set_len(0)?;
        let is_full = file.write_all_at(&FREE, 0).is_err();
        let next = number_in(&turn).unwrap_or(0).wrapping_add(1);
        if turn.write_all_at(&next.to_be_bytes(), 0).is_err() {
            // Without a number, everybody looks each time.
            turn.set_len(0)?;
        }
        drop(looking);
        Ok(Self {
            folder: folder.to_owned(),
            name,
            file,
            turn,
            places: Mutex::new(Places {
                taken: BTreeMap::new(),
                free: Vec::new(),
                alone: None,
                claims_all: is_full,
            }),
        })
    }

    fn enter(&self, info_hash: InfoHash) -> Result<(), LockError> {
        let mut places = lock(&self.places);
        if places.taken.contains_key(&info_hash) {
            return Err(self.held_by(&self.name));
        }
        let fail = |error: io::Error| disk_error("lock", &self.folder, &error);
        let _turn = Turn::wait(&self.turn).map_err(fail)?;
        let number = number_in(&self.turn);
        if number.is_none() || places.alone != number {
            let (owner, others) = self.owner(info_hash).map_err(fail)?;
            if let Some(owner) = owner {
                return Err(self.held_by(&owner));
            }
            places.alone = number.filter(|_| others == 0);
        }
        // Behind the first entry, which is always free: an empty register claims all.
        let end = ((1 + places.taken.len()) * ENTRY_BYTES) as u64;
        let place = places.free.last().copied().unwrap_or(end);
        if !places.claims_all && self.file.write_all_at(&info_hash.0, place).is_err() {
            // A full disk must not keep anybody from what is there already.
            self.file.set_len(0).map_err(fail)?;
            places.claims_all = true;
        }
        // Only now: a free place that got lost would move the end into what is taken.
        places.free.pop();
        places.taken.insert(info_hash, place);
        Ok(())
    }

    fn leave(&self, info_hash: InfoHash) {
        let mut places = lock(&self.places);
        if let Some(place) = places.taken.remove(&info_hash) {
            if !places.claims_all {
                // If it cannot be cleared it is ours until this process ends.
                let _ = self.file.write_all_at(&FREE, place);
            }
            places.free.push(place);
        }
    }

    /// Whose register has the torrent, of all others that are held, and how many those are. The rest is removed.
    fn owner(&self, info_hash: InfoHash) -> io::Result<(Option<String>, usize)> {
        let mut others = 0;
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            // What is no file is no register.
            if name == TURN || name == *self.name || !entry.file_type()?.is_file() {
                continue;
            }
            let path = self.folder.join(&name);
            let mut file = match File::options().read(true).write(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => remove(&path)?,
                Err(Errno::WOULDBLOCK) if claims(&mut file, info_hash)? => {
                    return Ok((Some(name.display().to_string()), others + 1));
                }
                Err(Errno::WOULDBLOCK) => others += 1,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok((None, others))
    }

    fn held_by(&self, name: &str) -> LockError {
        LockError::Held {
            path: self.folder.join(name),
            owner: name.split('-').next().unwrap_or_default().to_owned(),
        }
    }
}

impl Drop for Register {
    fn drop(&mut self) {
        // What stays is removed by whoever looks next.
        let _ = std::fs::remove_file(self.folder.join(&self.name));
    }
}

/// Removes a register that nobody holds. Its owner may have done so since it was opened: that takes no turn.
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The number in the `turn` file, if there is one.
fn number_in(turn: &File) -> Option<u64> {
    let mut bytes = [0; 8];
    turn.read_exact_at(&mut bytes, 0).ok()?;
    Some(u64::from_be_bytes(bytes))
}

fn claims(file: &mut File, info_hash: InfoHash) -> io::Result<bool> {
    let mut bytes = Vec::new();
    file.take(REGISTER_BYTES_MAX).read_to_end(&mut bytes)?;
    let (entries, _) = bytes.as_chunks::<ENTRY_BYTES>();
    Ok(entries.is_empty() || entries.contains(&info_hash.0))
}

/// The right to look through the registers of a folder, until it is dropped.
struct Turn<'a>(&'a File);

impl<'a> Turn<'a> {
    /// Others have it for as long as it takes to read some small files.
    fn wait(file: &'a File) -> io::Result<Self> {
        flock(file, FlockOperation::LockExclusive)?;
        Ok(Self(file))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // It cannot fail on a file that we have locked; and the file's end would unlock it too.
        let _ = flock(self.0, FlockOperation::Unlock);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: InfoHash = InfoHash([1; 20]);
    const OTHER: InfoHash = InfoHash([2; 20]);

    #[test]
    fn one_at_a_time_for_each_torrent() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("state");
        let locks = Locks::default();
        // What another process has is another register too.
        let strangers = Locks::default();
        let held = locks.acquire(&folder, ONE).unwrap();
        // It knows that it is alone, until somebody comes.
        drop(locks.acquire(&folder, OTHER).unwrap());
        for locks in [&locks, &strangers] {
            let error = locks.acquire(&folder, ONE).unwrap_err();
            let expected = format!("process {} is at work", std::process::id());
            assert!(error.to_string().contains(&expected), "{error}");
        }
        let other = strangers.acquire(&folder, OTHER).unwrap();
        assert!(locks.acquire(&folder, OTHER).is_err());
        drop(held);
        let held = strangers.acquire(&folder, ONE).unwrap();
        assert!(locks.acquire(&folder, ONE).is_err());
        drop((held, other));
        assert!(locks.acquire(&folder, ONE).is_ok());
        assert!(locks.acquire(&temp.path().join("elsewhere"), ONE).is_ok());
    }

    #[test]
    fn what_a_killed_process_left_holds_nobody_up() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join(FOLDER);
        std::fs::create_dir(&folder).unwrap();
        let left = folder.join("1-0");
        std::fs::write(&left, ONE.0).unwrap();
        let locks = Locks::default();
        assert!(locks.acquire(temp.path(), ONE).is_ok());
        assert!(!left.exists());
    }

    #[test]
    fn a_register_whose_owner_was_faster_is_no_trouble() {
        let temp = tempfile::tempdir().unwrap();
        let left = temp.path().join("1-0");
        std::fs::write(&left, FREE).unwrap();
        remove(&left).unwrap();
        remove(&left).unwrap();
        assert!(remove(temp.path()).is_err());
    }

    #[test]
    fn places_are_used_again_and_registers_go_with_their_last_torrent() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join(FOLDER);
        let registers = || {
            let entries = std::fs::read_dir(&folder).unwrap().flatten();
            let is_register = |entry: &std::fs::DirEntry| entry.file_name() != TURN;
            entries.filter(is_register).collect::<Vec<_>>()
        };
        let locks = Locks::default();
        let mut held: Vec<TorrentLock> = (0..100)
            .map(|n| locks.acquire(temp.path(), InfoHash([n; 20])).unwrap())
            .collect();
        let first = registers();
        assert_eq!(first.len(), 1);
        for round in 0..3 {
            drop(held.split_off(50));
            let more = (100 + round * 50..150 + round * 50).map(|n| InfoHash([n; 20]));
            held.extend(more.map(|hash| locks.acquire(temp.path(), hash).unwrap()));
        }
        let length = first[0].metadata().unwrap().len();
        assert_eq!(length, 101 * ENTRY_BYTES as u64);
        let strangers = Locks::default();
        assert!(strangers.acquire(temp.path(), InfoHash([49; 20])).is_err());
        assert!(strangers.acquire(temp.path(), InfoHash([50; 20])).is_ok());
        drop(held);
        assert!(registers().is_empty());
    }

    #[test]
    fn a_register_that_could_not_be_written_claims_all() {
        let temp = tempfile::tempdir().unwrap();
        let locks = Locks::default();
        let held = locks.acquire(temp.path(), ONE).unwrap();
        let strangers = Locks::default();
        assert!(strangers.acquire(temp.path(), OTHER).is_ok());
        held.register.file.set_len(0).unwrap();
        lock(&held.register.places).claims_all = true;
        let more = locks.acquire(temp.path(), InfoHash([3; 20])).unwrap();
        drop(more);
        assert!(strangers.acquire(temp.path(), OTHER).is_err());
        drop(held);
        assert!(strangers.acquire(temp.path(), OTHER).is_ok());
    }

    #[test]
    fn an_entry_that_could_not_be_made_takes_no_place() {
        let temp = tempfile::tempdir().unwrap();
        let hashes: Vec<InfoHash> = (1..=6).map(|n| InfoHash([n; 20])).collect();
        let mut register = Register::open(temp.path()).unwrap();
        for hash in &hashes[..3] {
            register.enter(*hash).unwrap();
        }
        register.leave(hashes[1]);
        // Neither written nor cut off.
        let read_only = File::open(temp.path().join(&register.name)).unwrap();
        let writable = std::mem::replace(&mut register.file, read_only);
        assert!(matches!(register.enter(hashes[3]), Err(LockError::Disk(_))));
        register.file = writable;
        for hash in &hashes[4..] {
            register.enter(*hash).unwrap();
        }
        let stranger = Register::open(temp.path()).unwrap();
        for (index, hash) in hashes.iter().enumerate() {
            let is_free = stranger.enter(*hash).is_ok();
            assert_eq!(is_free, [1, 3].contains(&index), "{index}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("file");
        std::fs::write(&folder, "x").unwrap();
        let error = Locks::default().acquire(&folder, ONE).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
    }
}
