//! Locks of torrents that are not opened yet, taken with the lock of one that is.
//!
//! To lock a torrent takes four system calls, and to lock a thousand in one turn takes as many. So who opens a torrent locks
//! others along with it that the session was given for the same data folder, and that are going to be opened too.
//!
//! **Invariant:** what is locked ahead is opened or ends, and its lock goes with it. Who cannot be locked along with another
//! asks for itself, and is told why. Nothing is kept while a turn is waited for but what those have to wait for that are
//! locked in it.

use super::lock;
use bt_core::InfoHash;
use bt_storage::lock::{LockError, Locks, TorrentLock};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Torrents that are locked in one turn at most: other processes wait meanwhile.
const AHEAD_MAX: usize = 1024;

/// The locks of a session.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    locks: Locks,
    state: Mutex<State>,
    /// Something is not under way any more.
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Torrents that were started and are not opened yet, by data folder.
    expected: BTreeMap<PathBuf, BTreeSet<InfoHash>>,
    /// Those of them that are being locked along with another, and whether they are still wanted.
    under_way: BTreeMap<InfoHash, bool>,
    /// Those that are locked, with their state folder.
    held: BTreeMap<InfoHash, (Arc<Path>, TorrentLock)>,
}

impl State {
    /// Others of the torrent's folder that are to be locked along with it: they are under way then.
    fn others(&mut self, dir: &Path, info_hash: InfoHash) -> Vec<InfoHash> {
        let Some(those) = self.expected.get_mut(dir) else {
            return Vec::new();
        };
        those.remove(&info_hash);
        let next = core::iter::from_fn(|| those.pop_first());
        let others: Vec<InfoHash> = next.take(AHEAD_MAX - 1).collect();
        if those.is_empty() {
            self.expected.remove(dir);
        }
        self.under_way
            .extend(others.iter().map(|other| (*other, true)));
        others
    }
}

impl Ahead {
    /// The torrent will be locked soon.
    pub(super) fn expect(&self, info_hash: InfoHash, dir: &Path) {
        let expected = &mut lock(&self.state).expected;
        if let Some(those) = expected.get_mut(dir) {
            those.insert(info_hash);
        } else {
            expected.insert(dir.to_owned(), BTreeSet::from([info_hash]));
        }
    }

    /// It will not, or has been.
    pub(super) fn forget(&self, info_hash: InfoHash, dir: &Path) {
        let mut state = lock(&self.state);
        if let Some(those) = state.expected.get_mut(dir) {
            those.remove(&info_hash);
            if those.is_empty() {
                state.expected.remove(dir);
            }
        }
        if let Some(wanted) = state.under_way.get_mut(&info_hash) {
            *wanted = false;
        }
        let held = state.held.remove(&info_hash);
        drop(state);
        drop(held);
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
        let mut state = lock(&self.state);
        while state.under_way.contains_key(&info_hash) {
            let woken = self.arrived.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        let found = state.held.remove(&info_hash);
        let others = if found.is_some() {
            Vec::new()
        } else {
            state.others(dir, info_hash)
        };
        drop(state);
        if let Some((place, found)) = found
            // Else another folder has got its name.
            && place == *folder
        {
            return Ok(found);
        }
        if !others.is_empty()
            && let Some(own) = self.acquire_all(folder, info_hash, others)
        {
            return own;
        }
        self.locks.acquire(folder, info_hash)
    }

    /// Locks the torrent and others in one turn; `None` if that did not work, which may be because of the others.
    fn acquire_all(
        &self,
        folder: &Arc<Path>,
        info_hash: InfoHash,
        others: Vec<InfoHash>,
    ) -> Option<Result<TorrentLock, LockError>> {
        let mut batch = vec![info_hash];
        batch.extend(&others);
        let under_way = UnderWay {
            ahead: self,
            others,
        };
        let mut answers = self.locks.acquire_all(folder, &batch).ok()?.into_iter();
        let own = answers.next();
        let mut unwanted = Vec::new();
        let mut state = lock(&self.state);
        for (other, answer) in under_way.others.iter().zip(answers) {
            let wanted = state.under_way.get(other) == Some(&true);
            match answer {
                Ok(found) if wanted => {
                    state.held.insert(*other, (Arc::clone(folder), found));
                }
                other => unwanted.push(other),
            }
        }
        drop(state);
        // Given back before they count as arrived: who was started again may ask for itself.
        drop(unwanted);
        own
    }
}

/// Torrents that are being locked. Dropped, they have arrived, whatever became of them.
struct UnderWay<'a> {
    ahead: &'a Ahead,
    others: Vec<InfoHash>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.ahead.state);
        for other in &self.others {
            state.under_way.remove(other);
        }
        drop(state);
        self.ahead.arrived.notify_all();
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
            lock(&self.ahead.state).held.len()
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
            lock(&case.ahead.state)
                .expected
                .keys()
                .eq([Path::new("/elsewhere")])
        );
    }

    #[test]
    fn what_ends_before_it_is_opened_is_nobodys() {
        let case = Case::new(3);
        case.ahead.forget(hash(2), Path::new("/data"));
        let _zero = case.acquire(0).unwrap();
        assert!(!case.is_free(1) && case.is_free(2));
        case.ahead.forget(hash(1), Path::new("/data"));
        assert!(case.is_free(1));
        assert_eq!(
            (case.held(), lock(&case.ahead.state).expected.len()),
            (0, 0)
        );
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

    #[test]
    fn while_a_turn_is_waited_for_only_those_wait_that_are_locked_in_it() {
        let case = Case::new(3);
        let elsewhere: Arc<Path> = case.temp.path().join("elsewhere").into();
        let _nine = case.acquire(9).unwrap();
        for number in 0..3 {
            case.ahead.forget(hash(number), Path::new("/data"));
            case.ahead.expect(hash(number), Path::new("/data"));
        }
        // Who is stopped in the middle keeps the turn.
        let turn = std::fs::File::open(case.folder.join("in-use").join("turn")).unwrap();
        turn.lock().unwrap();
        std::thread::scope(|scope| {
            let zero = scope.spawn(|| case.acquire(0));
            while !lock(&case.ahead.state).under_way.contains_key(&hash(1)) {
                std::thread::yield_now();
            }
            let one = scope.spawn(|| case.acquire(1));
            case.ahead.forget(hash(2), Path::new("/data"));
            let other = Path::new("/other");
            case.ahead.expect(hash(5), other);
            assert!(case.ahead.acquire(&elsewhere, other, hash(4)).is_ok());
            assert!(!zero.is_finished() && !one.is_finished());
            turn.unlock().unwrap();
            let _zero = zero.join().unwrap().unwrap();
            let _one = one.join().unwrap().unwrap();
            assert!(!case.is_free(0) && !case.is_free(1));
            assert!(case.is_free(2), "it ended meanwhile");
        });
    }
}
