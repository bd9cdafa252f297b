//! One process at a time for each torrent of a state folder.
//!
//! The lock is `flock` on a file of its own: the system drops it when the process ends, however it ends, so there is no
//! stale lock to clean up. The file stays behind; deleting it would race with who is just opening it.

use crate::error::disk_error;
use bt_core::InfoHash;
use bt_core::disk::DiskError;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Why a torrent could not be locked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is locked: process {owner} is at work on this torrent", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The process id that the owner left in it.
        owner: String,
    },
    /// The lock file cannot be made or locked.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// As long as it lives, no other process works on the torrent.
#[derive(Debug)]
pub struct TorrentLock {
    _file: File,
}

impl TorrentLock {
    /// Locks the torrent in the state folder, which is made if it is not there. Never waits.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process (or another lock of this one) has it.
    pub fn acquire(folder: &Path, info_hash: InfoHash) -> Result<Self, LockError> {
        let path = folder.join(format!("{info_hash}.lock"));
        let fail = |error: &io::Error| LockError::Disk(disk_error("lock", &path, error));
        std::fs::create_dir_all(folder).map_err(|error| fail(&error))?;
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(|error| fail(&error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut owner = String::new();
                // The id is only for the message; a lock without one is held all the same.
                let _ = file.take(20).read_to_string(&mut owner);
                return Err(LockError::Held { path, owner });
            }
            Err(errno) => return Err(fail(&errno.into())),
        }
        // A full disk must not keep anybody from what is there already, so an id that cannot be noted is left out.
        let _ = file
            .set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_for_each_torrent() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("state");
        let (one, other) = (InfoHash([1; 20]), InfoHash([2; 20]));
        let lock = TorrentLock::acquire(&folder, one).unwrap();
        let error = TorrentLock::acquire(&folder, one).unwrap_err();
        let expected = format!("process {} is at work", std::process::id());
        assert!(error.to_string().contains(&expected), "{error}");
        assert!(TorrentLock::acquire(&folder, other).is_ok());
        drop(lock);
        assert!(TorrentLock::acquire(&folder, one).is_ok());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("file");
        std::fs::write(&folder, "x").unwrap();
        let error = TorrentLock::acquire(&folder, InfoHash([1; 20])).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
    }
}
