//! Reading a torrent from end to end, once: ahead of who hashes it, and without other programs' pages driven out.
//!
//! Pieces that are hashed side by side look random to the system, which then reads nothing ahead; so their files are
//! opened with the advice that they are read in order. What was not in the page cache is dropped from it again, once all
//! before it is hashed too: the parts that are hashed at the same time lie close to each other, and what was read ahead
//! for one of them is not to be read twice. **Invariant:** a file of which nothing was found missing from the page cache
//! stays there whole.

use crate::files::TorrentFiles;
use crate::map::FileIndex;
use bt_core::PieceIndex;
use bt_core::disk::DiskError;
use rustix::fs::{Advice, fadvise};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// How much is hashed before the page cache is rid of it.
const DROP_BYTES: u64 = 32 * 1024 * 1024;

/// The page cache drops by folios, which begin at multiples of their length: the most that one reaches back.
const FOLIO_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Pieces that are read once, in about the order in which they lie.
pub(crate) struct Trail<'a> {
    files: &'a TorrentFiles,
    /// In ascending order.
    pieces: &'a [PieceIndex],
    /// Of each file, whether something of it was met that was not in the page cache. What comes behind it may be there
    /// since it was read ahead for us.
    cold: Vec<AtomicBool>,
    state: Mutex<State>,
}

/// All by the pieces' places in the list.
#[derive(Default)]
struct State {
    /// Pieces that are hashed, while one before them is not.
    ahead: BTreeSet<usize>,
    /// All pieces before this one are hashed.
    next: usize,
    /// All pieces before this one were dropped.
    dropped: usize,
    /// Bytes of the pieces between the two.
    due_bytes: u64,
}

impl<'a> Trail<'a> {
    pub(crate) fn new(files: &'a TorrentFiles, pieces: &'a [PieceIndex]) -> Self {
        Self {
            files,
            pieces,
            cold: files
                .map
                .files()
                .iter()
                .map(|_| AtomicBool::new(false))
                .collect(),
            state: Mutex::default(),
        }
    }

    /// Fills the buffer from byte `offset` of the torrent; an error comes with the file that could not be read.
    pub(crate) fn read(
        &self,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), (FileIndex, DiskError)> {
        self.files
            .read_with(offset, buffer, &|file, offset, buffer| {
                self.read_at(file, offset, buffer)
            })
    }

    fn read_at(&self, file: FileIndex, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let storage = &self.files.storage;
        let Some(source) = storage.open_once(file)? else {
            return storage.read_at(file, offset, buffer);
        };
        if !self.is_cold(file) {
            match read_cached(&source, offset, buffer) {
                Cached::All => return Ok(buffer.len()),
                Cached::Unknown => return read(&source, offset, buffer),
                Cached::Not => {}
            }
            if let Some(cold) = self.cold.get(file.0) {
                cold.store(true, Ordering::Relaxed);
            }
        }
        let length = read(&source, offset, buffer)?;
        // From here on the rest of the file was read ahead for us, so all of it goes.
        drop_cached(&source, offset, length as u64);
        Ok(length)
    }

    fn is_cold(&self, file: FileIndex) -> bool {
        let cold = self.cold.get(file.0);
        cold.is_some_and(|cold| cold.load(Ordering::Relaxed))
    }

    /// Nobody needs the piece any more.
    pub(crate) fn hashed(&self, piece: PieceIndex) {
        let Ok(place) = self.pieces.binary_search(&piece) else {
            return;
        };
        let layout = self.files.map.layout();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ahead.insert(place);
        while let next = state.next
            && state.ahead.remove(&next)
            && let Some(piece) = self.pieces.get(next)
        {
            state.due_bytes += u64::from(layout.piece_length(*piece));
            state.next += 1;
        }
        if state.due_bytes >= DROP_BYTES || state.next == self.pieces.len() {
            let due = state.dropped..state.next;
            (state.dropped, state.due_bytes) = (state.next, 0);
            let due = self.pieces.get(due).unwrap_or_default();
            due.chunk_by(|one, next| one.get() + 1 == next.get())
                .for_each(|run| self.drop_run(run));
        }
    }

    /// Drops pieces that lie one behind the other.
    fn drop_run(&self, run: &[PieceIndex]) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return;
        };
        let layout = self.files.map.layout();
        let begin = layout.piece_offset(*first).saturating_sub(FOLIO_BYTES_MAX);
        let end = layout.piece_offset(*last) + u64::from(layout.piece_length(*last));
        for span in self.files.map.spans(begin, end - begin) {
            if self.is_cold(span.file)
                && let Ok(Some(source)) = self.files.storage.open_once(span.file)
            {
                drop_cached(&source, span.offset, span.length);
            }
        }
    }
}

impl Drop for Trail<'_> {
    fn drop(&mut self) {
        self.files.storage.close_once();
    }
}

/// Says of a file that was just opened that it is read in order. A file system that knows no such advice does without.
pub(crate) fn advise_sequential(file: &File) {
    let _ = fadvise(file, 0, None, Advice::Sequential);
}

/// Where it is refused it costs memory and nothing else.
fn drop_cached(file: &File, offset: u64, length: u64) {
    let _ = fadvise(file, offset, NonZeroU64::new(length), Advice::DontNeed);
}

fn read(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    use std::os::unix::fs::FileExt;
    file.read_at(buffer, offset)
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
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
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
