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
use std::collections::{BTreeMap, BTreeSet};
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
        let (register, owners) = self.enter(folder, &[info_hash])?;
        register.answer(info_hash, owners.into_iter().flatten().next())
    }

    /// As [`acquire`](Self::acquire) for each of the torrents, in one turn: for a thousand that takes as many system calls
    /// as for one.
    ///
    /// # Errors
    /// If none of them can be registered.
    pub fn acquire_all(
        &self,
        folder: &Path,
        info_hashes: &[InfoHash],
    ) -> Result<Vec<Result<TorrentLock, LockError>>, DiskError> {
        let (register, owners) = self.enter(folder, info_hashes)?;
        let each = info_hashes.iter().zip(owners);
        let answer = |(info_hash, owner): (&InfoHash, _)| register.answer(*info_hash, owner);
        Ok(each.map(answer).collect())
    }

    /// Enters what nobody has in the folder's register, and says who has each of the others.
    fn enter(
        &self,
        folder: &Path,
        info_hashes: &[InfoHash],
    ) -> Result<(Arc<Register>, Vec<Option<String>>), DiskError> {
        let register = self.register(folder)?;
        let owners = register.enter(info_hashes);
        let owners = owners.map_err(|error| disk_error("lock", &register.folder, &error))?;
        Ok((register, owners))
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

impl Places {
    /// Where entries can be written: first where others stood, then behind the end. The first place of a register is always
    /// free, as an empty one claims all.
    fn vacant(&self) -> impl Iterator<Item = u64> + use<'_> {
        let end = 1 + self.taken.len() + self.free.len();
        let behind = (end..).map(|number| (number * ENTRY_BYTES) as u64);
        self.free.iter().rev().copied().chain(behind)
    }
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

    /// Enters the torrents that nobody has. Returns who has each of the others. After an error none of them is entered.
    fn enter(&self, info_hashes: &[InfoHash]) -> io::Result<Vec<Option<String>>> {
        let mut places = lock(&self.places);
        let _turn = Turn::wait(&self.turn)?;
        let number = number_in(&self.turn);
        let mut owners = BTreeMap::new();
        if number.is_none() || places.alone != number {
            let others;
            (owners, others) = self.owners(info_hashes)?;
            places.alone = number.filter(|_| others == 0);
        }
        let mut entered = BTreeSet::new();
        let answer = |info_hash: &InfoHash| {
            let is_ours = places.taken.contains_key(info_hash) || entered.contains(info_hash);
            let owner = is_ours.then_some(&self.name);
            let owner = owner.or_else(|| owners.get(info_hash)).cloned();
            if owner.is_none() {
                entered.insert(*info_hash);
            }
            owner
        };
        let answers = info_hashes.iter().map(answer).collect();
        let vacant = places.vacant().take(entered.len()).collect::<Vec<_>>();
        let mut entries: Vec<_> = vacant.into_iter().zip(entered).collect();
        if !places.claims_all && self.write(&mut entries).is_err() {
            // A full disk must not keep anybody from what is there already.
            if let Err(error) = self.file.set_len(0) {
                for (place, _) in entries {
                    // What cannot be cleared either is ours until this process ends.
                    let _ = self.file.write_all_at(&FREE, place);
                }
                return Err(error);
            }
            places.claims_all = true;
        }
        // Only now: a free place that got lost would move the end into what is taken.
        let free_count = places.free.len().saturating_sub(entries.len());
        places.free.truncate(free_count);
        let entries = entries
            .into_iter()
            .map(|(place, info_hash)| (info_hash, place));
        places.taken.extend(entries);
        Ok(answers)
    }

    /// Writes the entries, those that lie one behind the other at once.
    fn write(&self, entries: &mut [(u64, InfoHash)]) -> io::Result<()> {
        entries.sort_unstable();
        for run in entries.chunk_by(|(one, _), (next, _)| one + ENTRY_BYTES as u64 == *next) {
            let bytes: Vec<u8> = run.iter().flat_map(|(_, info_hash)| info_hash.0).collect();
            let begin = run.first().map_or(0, |(place, _)| *place);
            self.file.write_all_at(&bytes, begin)?;
        }
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

    /// Whose registers have which of the torrents, of all others that are held, and how many those are. The rest is removed.
    /// One that cannot be read counts as held, and is no error for those whose owner is found in another.
    fn owners(&self, info_hashes: &[InfoHash]) -> io::Result<(BTreeMap<InfoHash, String>, usize)> {
        let wanted: BTreeSet<InfoHash> = info_hashes.iter().copied().collect();
        let (mut owners, mut others, mut failed) = (BTreeMap::new(), 0, None);
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
                Err(error) => {
                    others += 1;
                    failed.get_or_insert(error);
                    continue;
                }
                Ok(file) => file,
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => remove(&path)?,
                Err(Errno::WOULDBLOCK) => {
                    others += 1;
                    let owner = name.display().to_string();
                    let claimed = claimed(&mut file, &wanted)?.into_iter();
                    owners.extend(claimed.map(|info_hash| (info_hash, owner.clone())));
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        match failed {
            Some(error) if wanted.len() > owners.len() => Err(error),
            _ => Ok((owners, others)),
        }
    }

    /// What is said to who wanted the torrent, which was entered unless somebody has it.
    fn answer(
        self: &Arc<Self>,
        info_hash: InfoHash,
        owner: Option<String>,
    ) -> Result<TorrentLock, LockError> {
        let Some(owner) = owner else {
            let register = Arc::clone(self);
            return Ok(TorrentLock {
                register,
                info_hash,
            });
        };
        Err(LockError::Held {
            path: self.folder.join(&owner),
            owner: owner.split('-').next().unwrap_or_default().to_owned(),
        })
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

/// Which of the torrents the register claims.
fn claimed(file: &mut File, wanted: &BTreeSet<InfoHash>) -> io::Result<BTreeSet<InfoHash>> {
    let mut bytes = Vec::new();
    file.take(REGISTER_BYTES_MAX).read_to_end(&mut bytes)?;
    let (entries, _) = bytes.as_chunks::<ENTRY_BYTES>();
    if entries.is_empty() {
        return Ok(wanted.clone());
    }
    let entries = entries.iter().copied().map(InfoHash);
    Ok(entries.filter(|entry| wanted.contains(entry)).collect())
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
mod tests;
