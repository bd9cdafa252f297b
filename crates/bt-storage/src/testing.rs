//! What the tests share: a small torrent with its bytes, and a storage that counts.

use crate::map::{FileIndex, FileMap, FileSpec};
use crate::memory::MemoryStorage;
use crate::storage::{FileStat, Storage};
use crate::store::{OpenOptions, TorrentStore};
use bt_core::disk::{Done, Job, Verdict};
use bt_core::{Block, Layout, PieceIndex, Rng};
use bytes::Bytes;
use sha1::{Digest, Sha1};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A torrent whose bytes are known.
pub(crate) struct Torrent {
    pub(crate) map: FileMap,
    pub(crate) hashes: Vec<[u8; 20]>,
    pub(crate) payload: Bytes,
}

impl Torrent {
    /// Files of these lengths with random bytes, called `dir<n>/f<n>`.
    pub(crate) fn new(lengths: &[u64], piece_length: u32) -> Self {
        let files = lengths.iter().enumerate().map(|(n, length)| FileSpec {
            path: format!("dir{}/f{n}", n % 3).into(),
            length: *length,
            pad: false,
        });
        Self::of(files.collect(), piece_length)
    }

    /// These files with random bytes, and zeros where they are padding.
    pub(crate) fn of(files: Vec<FileSpec>, piece_length: u32) -> Self {
        let mut rng = Rng::new(files.len() as u64);
        let mut payload = Vec::new();
        for file in &files {
            let mut bytes = vec![0; usize::try_from(file.length).unwrap()];
            if !file.pad {
                rng.fill(&mut bytes);
            }
            payload.extend_from_slice(&bytes);
        }
        Self::with_payload(files, piece_length, payload.into())
    }

    pub(crate) fn with_payload(files: Vec<FileSpec>, piece_length: u32, payload: Bytes) -> Self {
        let layout = Layout::new(payload.len() as u64, piece_length).unwrap();
        let hashes = payload
            .chunks(piece_length as usize)
            .map(|piece| Sha1::digest(piece).into());
        Self {
            hashes: hashes.collect(),
            map: FileMap::new(layout, files),
            payload,
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        self.map.layout()
    }

    pub(crate) fn store(&self, storage: impl Storage + 'static) -> TorrentStore {
        TorrentStore::with_storage(self.map.clone(), self.hashes.clone(), Box::new(storage))
    }

    pub(crate) fn open(&self, folder: &Path, options: &OpenOptions) -> TorrentStore {
        TorrentStore::open_files(self.map.clone(), self.hashes.clone(), folder, options).unwrap()
    }

    pub(crate) fn bytes(&self, block: Block) -> Bytes {
        let begin = self.layout().piece_offset(block.piece) + u64::from(block.begin);
        let begin = usize::try_from(begin).unwrap();
        self.payload.slice(begin..begin + block.length as usize)
    }

    pub(crate) fn write(&self, block: Block) -> Job {
        Job::Write {
            block,
            data: self.bytes(block),
        }
    }

    pub(crate) fn all_blocks(&self) -> Vec<Block> {
        let layout = self.layout();
        let blocks = layout.pieces().flat_map(|piece| layout.blocks(piece));
        blocks.collect()
    }

    pub(crate) fn file_bytes(&self, file: usize) -> &[u8] {
        let before = self.map.files()[..file].iter().map(|file| file.length);
        let start = usize::try_from(before.sum::<u64>()).unwrap();
        let length = usize::try_from(self.map.files()[file].length).unwrap();
        &self.payload[start..start + length]
    }

    /// Puts every file in place, whole.
    pub(crate) fn fill(&self, disk: &MemoryStorage) {
        for file in 0..self.map.files().len() {
            disk.put(FileIndex(file), self.file_bytes(file).to_vec());
        }
    }

    /// Makes every file in the folder, whole.
    pub(crate) fn fill_folder(&self, folder: &Path) {
        for (file, spec) in self.map.files().iter().enumerate() {
            let path = folder.join(&spec.path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, self.file_bytes(file)).unwrap();
        }
    }

    /// True if each file holds what it should; files that nothing was written to may be missing.
    pub(crate) fn is_whole(&self, disk: &MemoryStorage) -> bool {
        let files = self.map.files().iter().enumerate();
        files
            .filter(|(_, spec)| !spec.pad && spec.length > 0)
            .all(|(file, _)| {
                disk.contents(FileIndex(file)).as_deref() == Some(self.file_bytes(file))
            })
    }
}

/// Runs one job.
pub(crate) fn run(store: &TorrentStore, job: Job) -> Vec<Done> {
    let mut done = Vec::new();
    store.run(job, &mut done);
    done
}

/// The verdicts among the answers.
pub(crate) fn verdicts(done: &[Done]) -> Vec<(PieceIndex, Verdict)> {
    done.iter()
        .filter_map(|done| match done {
            Done::Checked { piece, verdict } => Some((*piece, verdict.clone())),
            Done::Wrote { .. } | Done::Digests { .. } => None,
        })
        .collect()
}

/// Counts what goes through.
#[derive(Default)]
pub(crate) struct Counting {
    pub(crate) disk: MemoryStorage,
    pub(crate) stats: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
}

impl Counting {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (
            load(&self.reads),
            load(&self.writes),
            load(&self.written_bytes),
        )
    }
}

impl Storage for Counting {
    fn read_at(&self, file: FileIndex, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.disk.read_at(file, offset, buffer)
    }

    fn write_at(&self, file: FileIndex, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let written = self.disk.write_at(file, offset, buffers)?;
        self.written_bytes
            .fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn stat(&self, file: FileIndex) -> io::Result<Option<FileStat>> {
        self.stats.fetch_add(1, Ordering::Relaxed);
        self.disk.stat(file)
    }

    fn sync(&self, file: FileIndex) -> io::Result<()> {
        self.disk.sync(file)
    }

    fn create(&self, file: FileIndex) -> io::Result<()> {
        self.disk.create(file)
    }
}
