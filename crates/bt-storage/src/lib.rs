//! Storage of torrents: file mapping, positioned vectored I/O, hashing, verifying, resume state.
//!
//! | module | owns |
//! |---|---|
//! | [`store`] | [`TorrentStore`]: carries out the jobs of a torrent's engine, and reads for uploads |
//! | [`verify`] | hashing what is on the disk, in parallel |
//! | [`hash`] | hashing files into the pieces of a new torrent |
//! | [`standing`] | what is in the way of a download, and must not be lost |
//! | [`resume`], [`lock`] | what is known from one run to the next, and that only one run is at it |
//! | [`map`] | [`FileMap`]: which bytes lie in which file |
//! | [`storage`] | [`Storage`], the trait behind which the bytes lie |
//! | [`file`](mod@file), [`pool`] | files on a disk, and how many of them are open |
//! | [`memory`] | files in memory that break on demand |
//! | [`error`] | what the operating system says as [`DiskError`](bt_core::disk::DiskError) |
//!
//! Everything is synchronous: who calls brings the thread. Works on Unix.
//!
//! # Example
//!
//! ```
//! use bt_core::disk::{Done, Job, Verdict};
//! use bt_core::Layout;
//! use bt_storage::{Control, FileMap, FileSpec, OpenOptions, TorrentStore, hash_files};
//!
//! // Somebody has a file, and makes its piece hashes.
//! let folder = tempfile::tempdir()?;
//! let payload = b"forty thousand bytes. ".repeat(2_000);
//! let source = FileSpec {
//!     path: folder.path().join("payload"),
//!     length: payload.len() as u64,
//!     pad: false,
//! };
//! std::fs::write(&source.path, &payload)?;
//! let hashes = hash_files(&[source.clone()], 32_768, Control::default())?;
//!
//! // Somebody else receives it block by block.
//! let layout = Layout::new(source.length, 32_768)?;
//! let map = FileMap::new(layout, vec![FileSpec { path: "copy".into(), ..source }]);
//! let store = TorrentStore::open_files(map, hashes, folder.path(), &OpenOptions::default())?;
//! let mut done = Vec::new();
//! for block in layout.pieces().flat_map(|piece| layout.blocks(piece)) {
//!     let begin = (layout.piece_offset(block.piece) + u64::from(block.begin)) as usize;
//!     let data = payload[begin..begin + block.length as usize].to_vec().into();
//!     store.run(Job::Write { block, data }, &mut done);
//! }
//! let good = |answer: &Done| matches!(answer, Done::Checked { verdict: Verdict::Good, .. });
//! assert_eq!(done.iter().filter(|answer| good(answer)).count(), 2);
//! assert_eq!(std::fs::read(folder.path().join("copy"))?, payload);
//! assert!(store.verify_all(Control::default())?.good.is_full());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "shell: owns files and threads"
)]

mod beneath;
pub mod error;
pub mod file;
mod files;
pub mod hash;
mod lanes;
pub mod lock;
pub mod map;
pub mod memory;
pub mod pool;
mod progress;
pub mod resume;
pub mod standing;
pub mod storage;
pub mod store;
#[cfg(test)]
mod testing;
mod trail;
pub mod verify;

pub use file::{Access, Allocation, FileStorage};
pub use hash::{HashError, hash_files};
pub use lock::{LockError, Locks, TorrentLock};
pub use map::{FileIndex, FileMap, FileSpan, FileSpec};
pub use memory::{Faults, MemoryStorage};
pub use pool::{FilePool, FolderId};
pub use resume::{Loaded, Resume};
pub use standing::Standing;
pub use storage::{FileStat, Storage};
pub use store::{OpenOptions, Portion, TorrentStore};
pub use verify::{Cancelled, Control, HashProgress, Verified};
