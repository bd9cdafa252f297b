//! Locks of torrents that are not opened yet, taken with the lock of one that is.
//!
//! To lock a torrent takes four system calls, and to lock a thousand in one turn takes as many. So who opens a torrent locks
//! others along with it that the session was given for the same data folder, and that are going to be opened too.
//!
//! **Invariant:** what is locked ahead is opened or ends before long, and its lock goes with it. Who cannot be locked along
//! with another asks for itself, and is told why.

use super::lock;
use bt_core::InfoHash;
use bt_storage::lock::{LockError, Locks, TorrentLock};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Torrents that are locked in one turn at most: other processes wait meanwhile.
const AHEAD_MAX: usize = 1024;

/// The locks of a session.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    locks: Locks,
    /// Torrents that were started and are not opened yet, by data folder.
    expected: Mutex<Expected>,
    /// Those of them that are locked, with their state folder. Held while others are locked: who waits for it finds its own.
    held: Mutex<BTreeMap<InfoHash, (Arc<Path>, TorrentLock)>>,
}

type Expected = BTreeMap<PathBuf, BTreeSet<InfoHash>>;

impl Ahead {
    /// The torrent will be locked soon.
    pub(super) fn expect(&self, info_hash: InfoHash, dir: &Path) {
        let mut expected = lock(&self.expected);
        if let Some(those) = expected.get_mut(dir) {
            those.insert(info_hash);
        } else {
            expected.insert(dir.to_owned(), BTreeSet::from([info_hash]));
        }
    }

    /// It will not, or has been.
    pub(super) fn forget(&self, info_hash: InfoHash) {
        lock(&self.expected).retain(|_, those| {
            those.remove(&info_hash);
            !those.is_empty()
        });
        lock(&self.held).remove(&info_hash);
    }

    /// Locks the torrent in the state folder of its data folder `dir`.
    ///
    /// # Errors
    /// As [`Locks::acquire`].
    pub(super) fn acquire(
        &self,
        folder: &Arc<Path>,
        dir: &Path,
        info_hash: InfoHash,
    ) -> Result<TorrentLock, LockError> {
        let mut held = lock(&self.held);
        if let Some((place, found)) = held.remove(&info_hash)
            // Else another folder has got its name.
            && place == *folder
        {
            return Ok(found);
        }
        let batch = self.batch(dir, info_hash);
        let mut answers = self.locks.acquire_all(folder, &batch)?;
        // It is the first of the batch.
        let own = answers.remove(0);
        for (info_hash, answer) in batch.into_iter().skip(1).zip(answers) {
            if let Ok(found) = answer {
                held.insert(info_hash, (Arc::clone(folder), found));
            }
        }
        own
    }

    /// The torrent, and others of its folder: none of them is expected any more.
    fn batch(&self, dir: &Path, info_hash: InfoHash) -> Vec<InfoHash> {
        let mut expected = lock(&self.expected);
        let mut batch = vec![info_hash];
        if let Some(those) = expected.get_mut(dir) {
            those.remove(&info_hash);
            while batch.len() < AHEAD_MAX
                && let Some(other) = those.pop_first()
            {
                batch.push(other);
            }
            if those.is_empty() {
                expected.remove(dir);
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: usize) -> InfoHash {
        // None is all zeros, which stand for no torrent.
        let mut bytes = [1; 20];
        let (_, end) = bytes.split_at_mut(20 - size_of::<usize>());
        end.copy_from_slice(&number.to_be_bytes());
        InfoHash(bytes)
    }

    /// A session's locks, with torrents on their way into a data folder, and a stranger's.
    struct Case {
        temp: tempfile::TempDir,
        folder: Arc<Path>,
        ahead: Ahead,
        stranger: Locks,
    }

    impl Case {
        fn new(expected: usize) -> Self {
            let temp = tempfile::tempdir().unwrap();
            let case = Self {
                folder: temp.path().join("state").into(),
                ahead: Ahead::default(),
                stranger: Locks::default(),
                temp,
            };
            (0..expected).for_each(|number| case.ahead.expect(hash(number), Path::new("/data")));
            case
        }

        fn acquire(&self, number: usize) -> Result<TorrentLock, LockError> {
            self.ahead
                .acquire(&self.folder, Path::new("/data"), hash(number))
        }

        fn is_free(&self, number: usize) -> bool {
            self.stranger.acquire(&self.folder, hash(number)).is_ok()
        }

        fn held(&self) -> usize {
            lock(&self.ahead.held).len()
        }
    }

    #[test]
    fn who_is_opened_locks_a_thousand_others_of_its_folder() {
        let case = Case::new(AHEAD_MAX + 10);
        case.ahead.expect(hash(9_999), Path::new("/elsewhere"));
        let last = case.acquire(AHEAD_MAX + 9).unwrap();
        assert_eq!(case.held(), AHEAD_MAX - 1);
        // What is behind them, and what lies elsewhere, is not.
        for (number, free) in [
            (0, false),
            (AHEAD_MAX - 2, false),
            (AHEAD_MAX - 1, true),
            (9_999, true),
        ] {
            assert_eq!(case.is_free(number), free, "{number}");
        }
        drop(last);
        assert!(case.is_free(AHEAD_MAX + 9));
        let first = case.acquire(0).unwrap();
        assert_eq!(case.held(), AHEAD_MAX - 2, "it was there");
        assert!(case.acquire(0).is_err(), "and is taken");
        drop(first);
        assert!(case.is_free(0));
        drop(case.acquire(AHEAD_MAX).unwrap());
        assert_eq!(case.held(), AHEAD_MAX - 2 + 9);
        assert!(
            lock(&case.ahead.expected)
                .keys()
                .eq([Path::new("/elsewhere")])
        );
    }

    #[test]
    fn what_ends_before_it_is_opened_is_nobodys() {
        let case = Case::new(3);
        case.ahead.forget(hash(2));
        let _zero = case.acquire(0).unwrap();
        assert!(!case.is_free(1) && case.is_free(2));
        case.ahead.forget(hash(1));
        assert!(case.is_free(1));
        assert_eq!((case.held(), lock(&case.ahead.expected).len()), (0, 0));
    }

    #[test]
    fn who_is_held_by_others_is_told_when_it_asks() {
        let case = Case::new(3);
        let _theirs = case.stranger.acquire(&case.folder, hash(1)).unwrap();
        let _zero = case.acquire(0).unwrap();
        assert_eq!(case.held(), 1);
        assert!(matches!(case.acquire(1), Err(LockError::Held { .. })));
        assert!(case.acquire(2).is_ok());
    }

    #[test]
    fn a_lock_of_a_folder_that_lost_its_name_is_given_back() {
        let mut case = Case::new(2);
        let _zero = case.acquire(0).unwrap();
        let before = Arc::clone(&case.folder);
        case.folder = case.temp.path().join("other").into();
        let _one = case.acquire(1).unwrap();
        assert!(case.stranger.acquire(&before, hash(1)).is_ok());
        assert!(!case.is_free(1));
    }
}
