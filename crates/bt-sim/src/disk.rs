//! The disk of a node: the real storage over files in memory, or one that remembers a digest for each block.
//!
//! The second costs a few bytes where the first costs a block, so a swarm can be large.

use crate::payload::{Payload, digest};
use bt_core::disk::{BlockDigest, DiskError, DiskErrorKind, Done, Job, Verdict};
use bt_core::{Bitfield, Block, InfoHash, Layout, PieceIndex, Rng};
use bt_storage::resume::{self, Resume};
use bt_storage::{Control, Faults, FileIndex, FileMap, FileSpec, MemoryStorage, TorrentStore};
use bytes::Bytes;
use sha1::{Digest, Sha1};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};

/// Length of the info dictionary in bytes: two pieces of metadata (BEP 9).
const INFO_BYTES: usize = 20_000;

/// What peers take for the info dictionary of the torrent that the world shares. Its layout is known to the world, so nobody
/// reads it: only its hash has to be right.
pub(crate) static INFO: LazyLock<Bytes> = LazyLock::new(|| {
    let mut info = vec![0; INFO_BYTES];
    Rng::new(9).fill(&mut info);
    info.into()
});

/// The torrent that the world shares.
pub(crate) static INFO_HASH: LazyLock<InfoHash> =
    LazyLock::new(|| InfoHash(Sha1::digest(&*INFO).into()));

/// Which kind of disk the nodes have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskKind {
    /// The real storage over files in memory.
    #[default]
    Stored,
    /// A digest for each block.
    Stamped,
}

/// What may be wrong with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing more can be written.
    Full,
    /// Nothing can be written, for another reason.
    Broken,
    /// Nothing can be read.
    Unreadable,
}

/// A disk: carries out the engine's jobs, and survives it.
pub trait Disk {
    /// Carries out a job and appends the answers.
    fn run(&mut self, job: Job, done: &mut Vec<Done>);

    /// Reads a block for an upload.
    ///
    /// # Errors
    /// If it is not there.
    fn read(&self, block: Block) -> Result<Bytes, DiskError>;

    /// A piece that is there goes bad: reading it fails until somebody looks at it, and then its bytes are others.
    fn rot(&mut self, piece: PieceIndex);

    /// What is wrong from now on.
    fn set_trouble(&mut self, trouble: Option<Trouble>);

    /// The node loses power: what is in memory is lost, and what was written last may be torn.
    fn crash(&mut self, rng: &mut Rng);

    /// The pieces that are whole, found by looking at all of them.
    fn verify(&mut self) -> Bitfield;

    /// Makes sure of what is written, and keeps the resume state; `clean` if nothing will be written after this.
    fn save(&mut self, have: &Bitfield, clean: bool);

    /// What a new run finds: what the resume state says and the disk bears out, the rest by looking.
    fn open(&mut self) -> Bitfield;
}

/// A disk of this kind with all of the payload on it, or nothing.
#[must_use]
pub fn new(kind: DiskKind, payload: &Payload, hashes: &[[u8; 20]], full: bool) -> Box<dyn Disk> {
    match kind {
        DiskKind::Stored => Box::new(Stored::new(payload, hashes, full)),
        DiskKind::Stamped => Box::new(Stamped::new(payload, full)),
    }
}

struct Stored {
    payload: Payload,
    hashes: Vec<[u8; 20]>,
    storage: Arc<MemoryStorage>,
    store: TorrentStore,
    /// Pieces that went bad and were not looked at since.
    rotten: BTreeSet<PieceIndex>,
    /// The resume file's content.
    resume: Option<Vec<u8>>,
}

impl Stored {
    fn new(payload: &Payload, hashes: &[[u8; 20]], full: bool) -> Self {
        let storage = Arc::new(MemoryStorage::new());
        if full {
            storage.put(FileIndex(0), payload.bytes());
        }
        Self {
            payload: payload.clone(),
            hashes: hashes.to_vec(),
            store: store(payload, hashes, &storage),
            storage,
            rotten: BTreeSet::new(),
            resume: None,
        }
    }
}

fn store(payload: &Payload, hashes: &[[u8; 20]], storage: &Arc<MemoryStorage>) -> TorrentStore {
    let layout = payload.layout();
    let file = FileSpec {
        path: "payload".into(),
        length: layout.total_length(),
        pad: false,
    };
    let map = FileMap::new(layout, vec![file]);
    TorrentStore::with_storage(map, hashes.to_vec(), Box::new(Arc::clone(storage)))
}

impl Disk for Stored {
    fn run(&mut self, job: Job, done: &mut Vec<Done>) {
        if let Job::Check { piece } = &job {
            self.rotten.remove(piece);
        }
        self.store.run(job, done);
        // A job is a batch here.
        self.store.flush_ready(done);
    }

    fn read(&self, block: Block) -> Result<Bytes, DiskError> {
        if self.rotten.contains(&block.piece) {
            return Err(error(DiskErrorKind::Io, "it rots"));
        }
        let mut bytes = vec![0; block.length as usize];
        self.store.read(block, &mut bytes)?;
        Ok(bytes.into())
    }

    fn rot(&mut self, piece: PieceIndex) {
        let file = FileIndex(0);
        let offset = self.payload.layout().piece_offset(piece);
        let mut bytes = self.storage.contents(file).unwrap_or_default();
        let place = usize::try_from(offset)
            .ok()
            .and_then(|offset| bytes.get_mut(offset));
        if let Some(byte) = place {
            *byte ^= 1;
            self.storage.put(file, bytes);
            self.rotten.insert(piece);
        }
    }

    fn set_trouble(&mut self, trouble: Option<Trouble>) {
        let is = |kind| trouble == Some(kind);
        self.storage.set_faults(Faults {
            space_bytes: is(Trouble::Full).then_some(0),
            write: is(Trouble::Broken).then_some(DiskErrorKind::Io),
            read: is(Trouble::Unreadable).then_some(DiskErrorKind::Io),
            ..Faults::default()
        });
    }

    fn crash(&mut self, rng: &mut Rng) {
        self.storage.crash(rng);
        self.store = store(&self.payload, &self.hashes, &self.storage);
    }

    fn verify(&mut self) -> Bitfield {
        verify(self.payload.layout(), |piece, done| {
            self.store.run(Job::Check { piece }, done);
        })
    }

    fn save(&mut self, have: &Bitfield, clean: bool) {
        let resume = Resume {
            have: have.clone(),
            uploaded: 0,
            downloaded: 0,
            clean,
            own: true,
        };
        // A disk that cannot sync leaves the old state as it was.
        if let Ok(bytes) = resume::record(*INFO_HASH, &self.store, &resume) {
            self.resume = Some(bytes);
        }
    }

    fn open(&mut self) -> Bitfield {
        let loaded = resume::believe(self.resume.as_deref(), *INFO_HASH, &self.store);
        let control = Control {
            threads: Some(NonZeroUsize::MIN),
            ..Control::default()
        };
        let found = self.store.verify(&loaded.recheck, control);
        let mut have = loaded.have;
        for piece in found.expect("nobody cancels it").good.iter() {
            have.set(piece);
        }
        have
    }
}

/// A disk that knows of each block only its digest.
struct Stamped {
    payload: Payload,
    trouble: Option<Trouble>,
    /// Whole pieces whose bytes are right.
    right: Bitfield,
    /// Pieces that went bad and were not looked at since.
    rotten: BTreeSet<PieceIndex>,
    /// Blocks of the others.
    blocks: BTreeMap<PieceIndex, Vec<Slot>>,
}

/// What a [`Stamped`] disk knows of a block of an unfinished piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Missing,
    Right,
    /// The bytes were others, of this digest.
    Wrong(BlockDigest),
}

impl Stamped {
    fn new(payload: &Payload, full: bool) -> Self {
        let pieces_count = payload.layout().pieces_count();
        Self {
            payload: payload.clone(),
            trouble: None,
            right: if full {
                Bitfield::full(pieces_count)
            } else {
                Bitfield::new(pieces_count)
            },
            rotten: BTreeSet::new(),
            blocks: BTreeMap::new(),
        }
    }

    fn digests(&self, piece: PieceIndex) -> Vec<BlockDigest> {
        let blocks = self.payload.layout().blocks(piece);
        blocks
            .map(|block| digest(&self.payload.block(block)))
            .collect()
    }

    fn write(&mut self, block: Block, data: &[u8]) -> Option<Verdict> {
        let piece = block.piece;
        let failure = match self.trouble {
            Some(Trouble::Full) => Some(error(DiskErrorKind::Full, "no space left")),
            Some(Trouble::Broken) => Some(error(DiskErrorKind::Io, "it broke")),
            Some(Trouble::Unreadable) | None => None,
        };
        if let Some(failure) = failure {
            self.blocks.remove(&piece);
            return Some(Verdict::Failed(failure));
        }
        let count = self.payload.layout().blocks_count(piece) as usize;
        let slots = self
            .blocks
            .entry(piece)
            .or_insert_with(|| vec![Slot::Missing; count]);
        if let Some(slot) = slots.get_mut(block.index()) {
            *slot = if self.payload.is_right(block, data) {
                Slot::Right
            } else {
                Slot::Wrong(digest(data))
            };
        }
        if slots.contains(&Slot::Missing) {
            return None;
        }
        let slots = self.blocks.remove(&piece).unwrap_or_default();
        if slots.iter().all(|slot| *slot == Slot::Right) {
            self.right.set(piece);
            return Some(Verdict::Good);
        }
        let digests = self.digests(piece).into_iter().zip(slots);
        let digests = digests.map(|(right, slot)| match slot {
            Slot::Wrong(digest) => digest,
            Slot::Right | Slot::Missing => right,
        });
        Some(Verdict::Bad {
            digests: digests.collect(),
        })
    }
}

impl Disk for Stamped {
    fn run(&mut self, job: Job, done: &mut Vec<Done>) {
        match job {
            Job::Write { block, data } => {
                done.push(Done::Wrote { block });
                let piece = block.piece;
                let verdict = self.write(block, &data);
                done.extend(verdict.map(|verdict| Done::Checked { piece, verdict }));
            }
            Job::Discard { piece } => {
                self.blocks.remove(&piece);
            }
            Job::Check { piece } => {
                let verdict = if self.trouble == Some(Trouble::Unreadable) {
                    Verdict::Failed(error(DiskErrorKind::Io, "it broke"))
                } else if self.rotten.remove(&piece) {
                    self.right.clear(piece);
                    let mut digests = self.digests(piece);
                    digests.iter_mut().take(1).for_each(|digest| *digest ^= 1);
                    Verdict::Bad { digests }
                } else if self.right.get(piece) {
                    Verdict::Good
                } else {
                    Verdict::Failed(error(DiskErrorKind::Missing, "nothing there"))
                };
                done.push(Done::Checked { piece, verdict });
            }
            Job::Digest { piece } => {
                let known = self.right.get(piece).then(|| self.digests(piece));
                let digests = known.unwrap_or_default();
                done.push(Done::Digests { piece, digests });
            }
        }
    }

    fn read(&self, block: Block) -> Result<Bytes, DiskError> {
        if self.trouble == Some(Trouble::Unreadable) {
            return Err(error(DiskErrorKind::Io, "it broke"));
        }
        if self.rotten.contains(&block.piece) {
            return Err(error(DiskErrorKind::Io, "it rots"));
        }
        let missing = || error(DiskErrorKind::Missing, "nothing there");
        let right = self.right.get(block.piece);
        right.then(|| self.payload.block(block)).ok_or_else(missing)
    }

    fn rot(&mut self, piece: PieceIndex) {
        if self.right.get(piece) {
            self.rotten.insert(piece);
        }
    }

    fn set_trouble(&mut self, trouble: Option<Trouble>) {
        self.trouble = trouble;
    }

    fn crash(&mut self, _rng: &mut Rng) {
        self.blocks.clear();
    }

    fn verify(&mut self) -> Bitfield {
        self.right.clone()
    }

    fn save(&mut self, _have: &Bitfield, _clean: bool) {}

    fn open(&mut self) -> Bitfield {
        self.right.clone()
    }
}

fn verify(layout: Layout, mut check: impl FnMut(PieceIndex, &mut Vec<Done>)) -> Bitfield {
    let mut found = Bitfield::new(layout.pieces_count());
    let mut done = Vec::new();
    for piece in layout.pieces() {
        done.clear();
        check(piece, &mut done);
        if done.iter().any(is_good) {
            found.set(piece);
        }
    }
    found
}

const fn is_good(done: &Done) -> bool {
    let Done::Checked { verdict, .. } = done else {
        return false;
    };
    matches!(verdict, Verdict::Good)
}

fn error(kind: DiskErrorKind, message: &str) -> DiskError {
    let message = message.to_owned();
    DiskError { kind, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a piece, one of its blocks spoiled or none; the kinds of the answers.
    fn write(disk: &mut dyn Disk, payload: &Payload, piece: u32, spoil: Option<usize>) -> String {
        let layout = payload.layout();
        let piece = layout.piece(piece).unwrap();
        let mut done = Vec::new();
        for block in layout.blocks(piece) {
            let mut data = payload.block(block).to_vec();
            if spoil == Some(block.index()) {
                data[7] ^= 1;
            }
            let data = data.into();
            disk.run(Job::Write { block, data }, &mut done);
        }
        let kind = |done: &Done| match done {
            Done::Wrote { .. } => "w".to_owned(),
            Done::Checked { verdict, .. } => match verdict {
                Verdict::Good => "good".to_owned(),
                Verdict::Bad { digests } => format!("bad{}", digests.len()),
                Verdict::Failed(error) => format!("{:?}", error.kind),
            },
            Done::Digests { digests, .. } => format!("digests{}", digests.len()),
        };
        done.iter().map(kind).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn both_kinds_do_the_same() {
        let payload = Payload::new(Layout::new(100_000, 32_768).unwrap(), 1);
        for kind in [DiskKind::Stored, DiskKind::Stamped] {
            let mut disk = new(kind, &payload, &payload.hashes(), false);
            assert!(disk.verify().is_empty());
            assert_eq!(write(&mut *disk, &payload, 0, None), "w w good", "{kind:?}");
            assert_eq!(write(&mut *disk, &payload, 1, Some(1)), "w w bad2");
            let block = payload
                .layout()
                .blocks(payload.layout().piece(0).unwrap())
                .next();
            let block = block.unwrap();
            assert_eq!(disk.read(block).unwrap(), payload.block(block));
            let mut done = Vec::new();
            disk.run(Job::Digest { piece: block.piece }, &mut done);
            assert!(matches!(&done[..], [Done::Digests { digests, .. }] if digests.len() == 2));
            disk.set_trouble(Some(Trouble::Full));
            let full = write(&mut *disk, &payload, 2, None);
            assert!(full.contains("Full") && !full.contains("good"), "{full}");
            disk.set_trouble(Some(Trouble::Unreadable));
            assert!(disk.read(block).is_err());
            disk.set_trouble(None);
            assert_eq!(write(&mut *disk, &payload, 3, None), "w good");
            let found: Vec<_> = disk.verify().iter().map(PieceIndex::get).collect();
            assert_eq!(found, [0, 3], "{kind:?}");
            let seeder = new(kind, &payload, &payload.hashes(), true).verify();
            assert!(seeder.is_full());
        }
    }

    #[test]
    fn a_crash_leaves_only_what_looks_right() {
        let payload = Payload::new(Layout::new(1_000_000, 32_768).unwrap(), 1);
        let hashes = payload.hashes();
        let (mut kept, mut torn) = (0, 0);
        for seed in 0..20 {
            let mut disk = Stored::new(&payload, &hashes, false);
            for piece in 0..12 {
                assert!(write(&mut disk, &payload, piece, None).ends_with("good"));
                if piece == 7 {
                    let have = disk.verify();
                    disk.save(&have, false);
                }
            }
            disk.crash(&mut Rng::new(seed));
            let found = disk.open();
            assert_eq!(found, disk.verify(), "all that is right, and no more");
            assert!(found.count_ones() >= 8);
            kept += found.count_ones() - 8;
            torn += 12 - found.count_ones();
            for piece in found.iter() {
                for block in payload.layout().blocks(piece) {
                    assert!(payload.is_right(block, &disk.read(block).unwrap()));
                }
            }
        }
        assert!(kept > 0 && torn > 0, "{kept} kept, {torn} torn");
    }
}
