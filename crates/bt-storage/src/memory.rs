//! Files in memory, with every way to break that a disk has: full, failing, short and interrupted writes, power loss.
//!
//! For tests and for the simulation. **Invariant:** what was written before the last `sync` of a file survives
//! [`MemoryStorage::crash`]; what was written after it survives whole, in part, or not at all.

use crate::map::FileIndex;
use crate::storage::{FileStat, Storage};
use bt_core::Rng;
use bt_core::disk::DiskErrorKind;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Files in memory. Shared through an [`Arc`](std::sync::Arc) it outlives the store over it, as a disk does a process.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    state: Mutex<State>,
}

/// What is broken at the moment; nothing by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// After how many more written bytes the disk is full; `None`: never. A write that meets the end is cut short.
    pub space_bytes: Option<u64>,
    /// The trouble that each read meets.
    pub read: Option<DiskErrorKind>,
    /// The trouble that each write meets.
    pub write: Option<DiskErrorKind>,
    /// The trouble that each sync meets.
    pub sync: Option<DiskErrorKind>,
    /// The most bytes that one read or write moves; `None`: all of them.
    pub transfer_bytes_max: Option<usize>,
    /// How many more reads and writes are interrupted before they do anything.
    pub interrupts: u32,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<FileIndex, File>,
    faults: Faults,
    /// Stands in for the time: one more for each change.
    changes: i64,
}

#[derive(Debug, Default)]
struct File {
    bytes: Vec<u8>,
    modified: i64,
    /// When it was last changed as of the last sync.
    modified_synced: i64,
    /// What each write since the last sync replaced, oldest first: the length before, where, and the bytes there.
    replaced: Vec<Replaced>,
}

#[derive(Debug)]
struct Replaced {
    length_before: usize,
    offset: usize,
    bytes: Vec<u8>,
}

impl MemoryStorage {
    /// A disk without files and without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes what is broken, from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// The file's bytes; `None` if it is not there.
    #[must_use]
    pub fn contents(&self, file: FileIndex) -> Option<Vec<u8>> {
        self.lock().files.get(&file).map(|file| file.bytes.clone())
    }

    /// Puts a file in place, as somebody else would behind our back. It counts as synced.
    pub fn put(&self, file: FileIndex, bytes: Vec<u8>) {
        let mut state = self.lock();
        state.changes += 1;
        let modified = state.changes;
        let file = state.files.entry(file).or_default();
        *file = File {
            bytes,
            modified,
            modified_synced: modified,
            replaced: Vec::new(),
        };
    }

    /// Takes a file away, as somebody else would behind our back.
    pub fn remove(&self, file: FileIndex) {
        self.lock().files.remove(&file);
    }

    /// Loses power: of the writes since the last sync some stay, some are lost, some are torn in the middle.
    pub fn crash(&self, rng: &mut Rng) {
        for file in self.lock().files.values_mut() {
            if rng.chance(50) {
                file.modified = file.modified_synced;
            }
            while let Some(replaced) = file.replaced.pop() {
                let kept_bytes = match rng.below(3) {
                    0 => replaced.bytes.len(),
                    1 => 0,
                    _ => rng.index(replaced.bytes.len() + 1),
                };
                let lost = replaced.bytes.get(kept_bytes..).unwrap_or_default();
                let offset = replaced.offset + kept_bytes;
                if let Some(place) = file.bytes.get_mut(offset..offset + lost.len()) {
                    place.copy_from_slice(lost);
                }
                let length = replaced.length_before.max(offset);
                if kept_bytes < replaced.bytes.len() && length < file.bytes.len() {
                    file.bytes.truncate(length);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How many of `wanted` bytes this transfer moves.
    fn transfer(&mut self, broken: Option<DiskErrorKind>, wanted: usize) -> io::Result<usize> {
        if self.faults.interrupts > 0 {
            self.faults.interrupts -= 1;
            return Err(Errno::INTR.into());
        }
        broken.map_or_else(
            || Ok(wanted.min(self.faults.transfer_bytes_max.unwrap_or(usize::MAX))),
            |kind| Err(errno(kind).into()),
        )
    }

    /// How many of `wanted` bytes still fit on the disk.
    fn reserve(&mut self, wanted: usize) -> io::Result<usize> {
        let Some(space) = &mut self.faults.space_bytes else {
            return Ok(wanted);
        };
        let granted = usize::try_from(*space).unwrap_or(usize::MAX).min(wanted);
        if granted == 0 && wanted > 0 {
            return Err(Errno::NOSPC.into());
        }
        *space -= granted as u64;
        Ok(granted)
    }
}

impl File {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let length_before = self.bytes.len();
        let end = offset + bytes.len();
        if end > length_before {
            self.bytes.resize(end, 0);
        }
        if let Some(place) = self.bytes.get_mut(offset..end) {
            let replaced = Replaced {
                length_before,
                offset,
                bytes: place.to_vec(),
            };
            place.copy_from_slice(bytes);
            self.replaced.push(replaced);
        }
    }
}

/// What the operating system says in such trouble.
const fn errno(kind: DiskErrorKind) -> Errno {
    match kind {
        DiskErrorKind::Full => Errno::NOSPC,
        DiskErrorKind::Denied => Errno::ACCESS,
        DiskErrorKind::Missing => Errno::NOENT,
        DiskErrorKind::InTheWay => Errno::ISDIR,
        DiskErrorKind::Io => Errno::IO,
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_too_far| Errno::FBIG.into())
}

impl Storage for MemoryStorage {
    fn read_at(&self, file: FileIndex, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.lock();
        let broken = state.faults.read;
        let allowed = state.transfer(broken, buffer.len())?;
        let bytes = &state.files.get(&file).ok_or(Errno::NOENT)?.bytes;
        let rest = bytes.get(position(offset)?..).unwrap_or_default();
        let length = rest.len().min(allowed);
        if let Some((to, from)) = buffer.get_mut(..length).zip(rest.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }

    fn write_at(&self, file: FileIndex, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let offset = position(offset)?;
        let mut bytes = Vec::new();
        buffers
            .iter()
            .for_each(|part| bytes.extend_from_slice(part));
        let mut state = self.lock();
        let broken = state.faults.write;
        let allowed = state.transfer(broken, bytes.len())?;
        bytes.truncate(state.reserve(allowed)?);
        state.changes += 1;
        let modified = state.changes;
        let file = state.files.entry(file).or_default();
        file.write(offset, &bytes);
        file.modified = modified;
        Ok(bytes.len())
    }

    fn stat(&self, file: FileIndex) -> io::Result<Option<FileStat>> {
        Ok(self.lock().files.get(&file).map(|file| FileStat {
            length: file.bytes.len() as u64,
            modified_nanos: file.modified,
        }))
    }

    fn sync(&self, file: FileIndex) -> io::Result<()> {
        let mut state = self.lock();
        if let Some(kind) = state.faults.sync {
            return Err(errno(kind).into());
        }
        if let Some(file) = state.files.get_mut(&file) {
            file.replaced.clear();
            file.modified_synced = file.modified;
        }
        Ok(())
    }

    fn create(&self, file: FileIndex) -> io::Result<()> {
        let mut state = self.lock();
        let broken = state.faults.write;
        state.transfer(broken, 0)?;
        state.files.entry(file).or_default();
        Ok(())
    }

    fn cut(&self, file: FileIndex, length: u64) -> io::Result<()> {
        let mut state = self.lock();
        let broken = state.faults.write;
        state.transfer(broken, 0)?;
        if let Some(file) = state.files.get_mut(&file) {
            file.bytes.truncate(position(length)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileIndex = FileIndex(0);

    fn write(disk: &MemoryStorage, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        disk.write_at(FILE, offset, &[IoSlice::new(bytes)])
    }

    #[test]
    fn a_full_disk_cuts_the_write_and_then_refuses() {
        let disk = MemoryStorage::new();
        disk.set_faults(Faults {
            space_bytes: Some(3),
            ..Faults::default()
        });
        assert_eq!(write(&disk, 0, b"abcde").unwrap(), 3);
        let error = write(&disk, 3, b"de").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        disk.set_faults(Faults::default());
        assert_eq!(write(&disk, 3, b"de").unwrap(), 2);
        assert_eq!(disk.contents(FILE).unwrap(), b"abcde");
    }

    #[test]
    fn interrupts_and_short_transfers() {
        let disk = MemoryStorage::new();
        disk.put(FILE, b"abcde".to_vec());
        disk.set_faults(Faults {
            interrupts: 1,
            transfer_bytes_max: Some(2),
            ..Faults::default()
        });
        let mut buffer = [0; 5];
        let error = disk.read_at(FILE, 0, &mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        assert_eq!(disk.read_at(FILE, 1, &mut buffer).unwrap(), 2);
        assert_eq!(&buffer, b"bc\0\0\0");
        assert_eq!(disk.read_at(FILE, 5, &mut buffer).unwrap(), 0);
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_tears_the_rest() {
        let (mut kept, mut lost, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let disk = MemoryStorage::new();
            write(&disk, 0, b"synced").unwrap();
            disk.sync(FILE).unwrap();
            write(&disk, 2, b"ABCDEF").unwrap();
            disk.crash(&mut Rng::new(seed));
            let after = disk.contents(FILE).unwrap();
            match after.as_slice() {
                b"syABCDEF" => kept += 1,
                b"synced" => lost += 1,
                other => {
                    torn += 1;
                    assert!(other.starts_with(b"syA") && other.len() >= 6, "{other:?}");
                }
            }
        }
        assert!(kept > 20 && lost > 20 && torn > 20, "{kept} {lost} {torn}");
    }
}
