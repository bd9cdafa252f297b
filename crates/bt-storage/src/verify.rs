//! Hashing what lies on the disk, on several threads, and comparing it with what it should be.
//!
//! Each thread takes up to three pieces at a time and hashes them side by side, which takes half the time of one after the
//! other. **Invariants:** memory is bounded by three buffers of 256 KiB for each thread, whatever the piece length; nothing
//! on the disk is changed; what is not there costs no reading; what is read leaves no page in the page cache that was not there.

use crate::files::{Presence, READ_BYTES, TorrentFiles};
use crate::lanes::{Hasher, LANES, update_together};
use crate::map::FileIndex;
use crate::store::TorrentStore;
use crate::trail::Trail;
use bt_core::disk::{DiskError, DiskErrorKind};
use bt_core::{Bitfield, PieceIndex};
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The most different errors that are remembered: a disk that fails everywhere needs no more to be known as such.
const ERRORS_MAX: usize = 64;

/// A thread takes no more than this part of its share of what is left, so that all come to an end at about the same time.
const PART_OF_SHARE: usize = 2;

/// How a long run of hashing is steered and watched. The default: all cores, and nobody watches.
#[derive(Clone, Copy, Default)]
pub struct Control<'a> {
    /// How many threads hash; `None`: one for each core.
    pub threads: Option<NonZeroUsize>,
    /// Set it to `true` to stop soon.
    pub cancel: Option<&'a AtomicBool>,
    /// Called after each piece, from any of the threads, one call at a time.
    pub progress: Option<&'a (dyn Fn(HashProgress) + Sync)>,
}

/// How far the hashing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashProgress {
    /// Pieces done.
    pub pieces_done: u32,
    /// Pieces to do.
    pub pieces_count: u32,
    /// Bytes done.
    pub bytes_done: u64,
    /// Bytes to do.
    pub bytes_count: u64,
}

/// It was told to stop before it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped before all pieces were hashed")]
pub struct Cancelled;

/// What was found on the disk. Each piece that was asked for is in exactly one of the four sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The hash matches.
    pub good: Bitfield,
    /// All bytes are there, and the hash does not match.
    pub wrong: Bitfield,
    /// A file is missing or too short for it, or something else stands in its place.
    pub missing: Bitfield,
    /// It could not be read.
    pub unreadable: Bitfield,
    /// The files that could not be read.
    pub unreadable_files: BTreeSet<FileIndex>,
    /// What was met besides missing and short files; each error once, at most 64.
    pub errors: Vec<DiskError>,
}

impl TorrentStore {
    /// Hashes the pieces of the set from the disk and compares them.
    ///
    /// # Errors
    /// [`Cancelled`] if it was told to stop. What the disk says is part of the result.
    pub fn verify(&self, pieces: &Bitfield, control: Control<'_>) -> Result<Verified, Cancelled> {
        let pieces_count = self.map().layout().pieces_count();
        let verified = Mutex::new(Verified {
            good: Bitfield::new(pieces_count),
            wrong: Bitfield::new(pieces_count),
            missing: Bitfield::new(pieces_count),
            unreadable: Bitfield::new(pieces_count),
            unreadable_files: BTreeSet::new(),
            errors: Vec::new(),
        });
        let wanted: Vec<PieceIndex> = pieces.iter().collect();
        hash_pieces(&self.files, &wanted, control, &|piece, found| {
            let mut verified = verified.lock().unwrap_or_else(PoisonError::into_inner);
            verified.note(piece, found, self.hashes.get(piece.index()));
            true
        })?;
        Ok(verified
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner))
    }

    /// Hashes every piece from the disk and compares it.
    ///
    /// # Errors
    /// As [`TorrentStore::verify`].
    pub fn verify_all(&self, control: Control<'_>) -> Result<Verified, Cancelled> {
        self.verify(&Bitfield::full(self.map().layout().pieces_count()), control)
    }
}

impl Verified {
    fn note(&mut self, piece: PieceIndex, found: Found, expected: Option<&[u8; 20]>) {
        let set = match found {
            Found::Hash(hash) if Some(&hash) == expected => &mut self.good,
            Found::Hash(_) => &mut self.wrong,
            Found::Nothing => &mut self.missing,
            Found::Error(file, error) => {
                // Where something else stands, the file is not.
                let is_missing =
                    matches!(error.kind, DiskErrorKind::Missing | DiskErrorKind::InTheWay);
                if !is_missing {
                    self.unreadable_files.insert(file);
                }
                if self.errors.len() < ERRORS_MAX && !self.errors.contains(&error) {
                    self.errors.push(error);
                }
                if is_missing {
                    &mut self.missing
                } else {
                    &mut self.unreadable
                }
            }
        };
        set.set(piece);
    }
}

/// What stands where a piece should be.
pub(crate) enum Found {
    Hash([u8; 20]),
    /// A file is missing or too short.
    Nothing,
    Error(FileIndex, DiskError),
}

/// Hashes pieces, of which a list comes in ascending order, on several threads and passes on what is found, in any order;
/// `each` returns false to stop.
pub(crate) fn hash_pieces(
    files: &TorrentFiles,
    pieces: &[PieceIndex],
    control: Control<'_>,
    each: &(dyn Fn(PieceIndex, Found) -> bool + Sync),
) -> Result<(), Cancelled> {
    if pieces.is_empty() {
        // A torrent may have many files, and to look at each of them takes time.
        return Ok(());
    }
    let layout = files.map.layout();
    let length = |piece: &PieceIndex| u64::from(layout.piece_length(*piece));
    let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let threads = match pieces.len() {
        // To count the cores is to read some files.
        1 => 1,
        _ => control.threads.unwrap_or_else(cores).get(),
    };
    let work = Work {
        files,
        trail: Trail::new(files, pieces),
        present: files.presence(),
        pieces,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        control,
        each,
        zeros: Zeros::default(),
        threads,
        progress: Mutex::new(HashProgress {
            pieces_count: u32::try_from(pieces.len()).unwrap_or(u32::MAX),
            bytes_count: pieces.iter().map(length).sum(),
            ..HashProgress::default()
        }),
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(pieces.len()) {
            // A thread that cannot be had is one less; this one does the work all the same.
            let _ = std::thread::Builder::new().spawn_scoped(scope, || work.run());
        }
        work.run();
    });
    if work.is_stopped() {
        return Err(Cancelled);
    }
    Ok(())
}

/// What was read of each piece that is being hashed.
type Buffers = [Vec<u8>; LANES];

struct Work<'a> {
    files: &'a TorrentFiles,
    trail: Trail<'a>,
    present: Presence,
    pieces: &'a [PieceIndex],
    /// How many of them were taken.
    next: AtomicUsize,
    threads: usize,
    stop: AtomicBool,
    control: Control<'a>,
    each: &'a (dyn Fn(PieceIndex, Found) -> bool + Sync),
    zeros: Zeros,
    progress: Mutex<HashProgress>,
}

impl Work<'_> {
    fn run(&self) {
        let mut buffers = core::array::from_fn(|_| Vec::new());
        while let pieces = self.take()
            && !pieces.is_empty()
        {
            if self.look_at(pieces, &mut buffers).is_none() {
                return;
            }
        }
    }

    /// The next pieces that nobody is at: as many as are hashed side by side, fewer near the end.
    fn take(&self) -> &[PieceIndex] {
        let end = |next: usize| {
            let left = self.pieces.len().saturating_sub(next);
            next + (left / (self.threads * PART_OF_SHARE)).clamp(1, LANES)
        };
        let taken = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| Some(end(next)));
        let (Ok(begin) | Err(begin)) = taken;
        let end = end(begin).min(self.pieces.len());
        self.pieces.get(begin..end).unwrap_or_default()
    }

    /// Looks what stands where the pieces should be; `None` if it is time to stop.
    fn look_at(&self, pieces: &[PieceIndex], buffers: &mut Buffers) -> Option<()> {
        let layout = self.files.map.layout();
        let mut to_read: Vec<PieceIndex> = Vec::with_capacity(LANES);
        for piece in pieces.iter().copied() {
            if self.is_stopped() {
                return None;
            }
            let length = layout.piece_length(piece);
            if !self.files.is_present(piece, &self.present) {
                self.found(piece, Found::Nothing);
            } else if self.is_hole(piece) {
                self.found(piece, Found::Hash(self.zeros.hash(length)));
            } else if to_read
                .iter()
                .all(|other| layout.piece_length(*other) == length)
            {
                to_read.push(piece);
            } else {
                // The torrent's last piece, which is shorter than the others.
                self.hash([piece], buffers)?;
            }
        }
        match *to_read.as_slice() {
            [a, b, c] => self.hash([a, b, c], buffers),
            [a, b] => self.hash([a, b], buffers),
            [a] => self.hash([a], buffers),
            _ => Some(()),
        }
    }

    /// Hashes pieces of one length side by side; `None` if it is time to stop.
    fn hash<const N: usize>(&self, pieces: [PieceIndex; N], buffers: &mut Buffers) -> Option<()> {
        let layout = self.files.map.layout();
        let length = pieces
            .first()
            .map_or(0, |piece| layout.piece_length(*piece));
        let mut hashers = [const { Hasher::new() }; N];
        let mut errors = [const { None }; N];
        for begin in (0..length).step_by(READ_BYTES as usize) {
            if self.is_stopped() {
                return None;
            }
            let now = READ_BYTES.min(length - begin);
            for ((piece, buffer), error) in pieces.iter().zip(&mut *buffers).zip(&mut errors) {
                buffer.resize(now as usize, 0);
                let offset = layout.piece_offset(*piece) + u64::from(begin);
                // What cannot be read costs no second try; the others' bytes go on being hashed.
                if error.is_none() {
                    *error = self.trail.read(offset, buffer).err();
                }
            }
            let mut read = buffers.iter().map(Vec::as_slice);
            let next = |hasher| (hasher, read.next().unwrap_or_default());
            update_together(hashers.each_mut().map(next));
        }
        for ((piece, hasher), error) in pieces.into_iter().zip(hashers).zip(errors) {
            let error = error.map(|(file, error)| Found::Error(file, error));
            self.found(piece, error.unwrap_or_else(|| Found::Hash(hasher.finish())));
        }
        Some(())
    }

    fn found(&self, piece: PieceIndex, found: Found) {
        if !(self.each)(piece, found) {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.trail.hashed(piece);
        self.count(piece);
    }

    /// True if nothing was ever written there. It reads as zeros, which may well be the right bytes.
    fn is_hole(&self, piece: PieceIndex) -> bool {
        self.files.map.piece_spans(piece).all(|span| {
            let storage = &self.files.storage;
            self.files.is_pad(span.file) || storage.is_hole(span.file, span.offset, span.length)
        })
    }

    fn is_stopped(&self) -> bool {
        let cancel = self.control.cancel;
        self.stop.load(Ordering::Relaxed) || cancel.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    fn count(&self, piece: PieceIndex) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.pieces_done += 1;
        progress.bytes_done += u64::from(self.files.map.layout().piece_length(piece));
        if let Some(report) = self.control.progress {
            report(*progress);
        }
    }
}

/// The hash of a piece of zeros, worked out once: a torrent has pieces of at most two lengths.
#[derive(Default)]
struct Zeros {
    known: Mutex<Vec<(u32, [u8; 20])>>,
}

impl Zeros {
    fn hash(&self, length: u32) -> [u8; 20] {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, hash)) = known.iter().find(|(known, _)| *known == length) {
            return *hash;
        }
        let zeros = vec![0; READ_BYTES as usize];
        let mut hasher = Hasher::new();
        let mut left = length as usize;
        while left > 0 {
            let now = zeros.get(..left).unwrap_or(&zeros);
            hasher.update(now);
            left -= now.len();
        }
        let hash = hasher.finish();
        known.push((length, hash));
        hash
    }
}

#[cfg(test)]
mod tests;
