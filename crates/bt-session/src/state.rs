//! The resume state of one torrent: where it is kept, when it is saved, what is believed of it at the start.
//!
//! It never lies beside the data, which may be read-only or somebody's publication, but in the session's state folder,
//! in a folder for each data folder: the same torrent in two places is two downloads.
//!
//! **Invariant:** one process at a time writes the state of a torrent in a data folder. Two that only seed the same data
//! do no harm to each other; the second then keeps no state.

use crate::disk::Disk;
use crate::handle::{Failure, others as others_of};
use bt_core::disk::DiskError;
use bt_core::{Bitfield, InfoHash};
use bt_peer::Stats;
use bt_storage::lock::{LockError, Locks, TorrentLock};
use bt_storage::resume::{self, Resume};
use bt_storage::{Cancelled, Control, FolderId, Standing, TorrentStore};
use core::time::Duration;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// How long after a piece was verified the state is saved. A killed process loses nothing by it, since what is not in the
/// state is hashed again; a power cut loses at most so much.
const SAVE_DELAY: Duration = Duration::from_secs(30);

/// The state folder of a session, if it has one.
#[derive(Debug, Default)]
pub(crate) struct StateDir {
    path: Option<PathBuf>,
    /// What the session is at work on, for other processes.
    locks: Locks,
    last: Mutex<Option<Named>>,
}

/// The data folder that was named last: ten thousand torrents may lie in one, and to resolve its links takes as many system
/// calls as all else that is done to open one of them.
#[derive(Debug)]
struct Named {
    dir: PathBuf,
    /// Another folder may get its name.
    id: FolderId,
    folder: Arc<Path>,
}

impl StateDir {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            ..Self::default()
        }
    }

    /// Where the state of torrents is kept whose data lies in `dir`, which is the folder `id` if it is there.
    fn folder(&self, dir: &Path, id: Option<FolderId>) -> Option<Arc<Path>> {
        let path = self.path.as_ref()?;
        let Some(id) = id else {
            return Some(path.join(name_of(dir)).into());
        };
        let mut last = lock(&self.last);
        let is_same = |named: &&mut Named| named.dir == dir && named.id == id;
        if let Some(named) = last.as_mut().filter(is_same) {
            return Some(Arc::clone(&named.folder));
        }
        let folder: Arc<Path> = path.join(name_of(dir)).into();
        // Else what has the name changed meanwhile, and this is not to be remembered.
        if FolderId::of(dir).is_ok_and(|now| now == id) {
            *last = Some(Named {
                dir: dir.to_owned(),
                id,
                folder: Arc::clone(&folder),
            });
        }
        Some(folder)
    }
}

/// Keeps the resume state of a running torrent.
#[derive(Debug)]
pub(crate) struct Keeper {
    place: Option<Place>,
    info_hash: InfoHash,
    /// Payload bytes over all earlier runs.
    uploaded_before: u64,
    downloaded_before: u64,
    due: Option<Instant>,
    /// Some of the data could not be read at the start. Nobody knows what is there, so no save is the last word on it.
    has_unreadable: bool,
    /// The files are those of a download of ours.
    is_own: bool,
    /// This run writes nothing into the files.
    seed_only: bool,
    /// What the user should know.
    notes: Vec<String>,
    /// How many saves were begun.
    saves: u64,
    /// Held while a save is written: they share a name for what is not complete yet.
    written: Arc<Mutex<Written>>,
}

/// What the state folder says.
#[derive(Debug, Default)]
struct Written {
    /// The number of the last save that was written: one that was held up must not undo a later one.
    number: u64,
    /// What it says, as far as that is known and still holds.
    state: Option<Resume>,
}

/// What is there at the start.
#[derive(Debug)]
pub(crate) struct Found {
    /// The pieces that are there and right.
    pub(crate) have: Bitfield,
    /// The pieces that may be there and have to be hashed.
    pub(crate) recheck: Bitfield,
    /// What stands where the files belong.
    pub(crate) standing: Standing,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
}

#[derive(Debug)]
struct Place {
    /// Shared by the torrents of one data folder.
    folder: Arc<Path>,
    _lock: TorrentLock,
}

impl Keeper {
    /// The keeper of a torrent whose data lies in `dir`, which is the folder `id` if it is there. Without a state folder it keeps nothing.
    ///
    /// # Errors
    /// If another process downloads the torrent into the same folder.
    pub(crate) fn open(
        state_dir: &StateDir,
        info_hash: InfoHash,
        (dir, id): (&Path, Option<FolderId>),
        seed_only: bool,
    ) -> Result<Self, Failure> {
        let mut keeper = Self {
            place: None,
            info_hash,
            uploaded_before: 0,
            downloaded_before: 0,
            due: None,
            has_unreadable: false,
            is_own: false,
            seed_only,
            notes: Vec::new(),
            saves: 0,
            written: Arc::default(),
        };
        let Some(folder) = state_dir.folder(dir, id) else {
            return Ok(keeper);
        };
        match state_dir.locks.acquire(&folder, info_hash) {
            Ok(lock) => {
                keeper.place = Some(Place {
                    folder,
                    _lock: lock,
                });
                // So that after a crash the next run knows that there was this one.
                keeper.hurry();
                Ok(keeper)
            }
            Err(error) if seed_only => {
                tracing::info!(%info_hash, %error, "seeding without keeping state");
                Ok(keeper)
            }
            Err(error @ LockError::Held { .. }) => Err(Failure::InUse {
                path: dir.display().to_string(),
                message: error.to_string(),
            }),
            Err(error) => {
                keeper
                    .notes
                    .push(format!("no resume state is kept: {error}"));
                Ok(keeper)
            }
        }
    }

    /// What the state says and the files bear out, and what has to be hashed before anybody knows.
    pub(crate) fn load(&mut self, store: &TorrentStore) -> Found {
        let pieces_count = store.map().layout().pieces_count();
        let Some(place) = &self.place else {
            return Found {
                have: Bitfield::new(pieces_count),
                recheck: Bitfield::full(pieces_count),
                standing: store.standing(),
                notes: core::mem::take(&mut self.notes),
            };
        };
        let loaded = resume::load(&place.folder, self.info_hash, store);
        self.uploaded_before = loaded.uploaded;
        self.downloaded_before = loaded.downloaded;
        self.is_own = loaded.own;
        if self.seed_only && loaded.confirmed.is_some() {
            // Nothing will change that the next run has to know, even if this one is killed.
            self.due = None;
            lock(&self.written).state = loaded.confirmed;
        }
        Found {
            have: loaded.have,
            recheck: loaded.recheck,
            standing: loaded.standing,
            notes: loaded.notes,
        }
    }

    /// Hashes what has to be.
    ///
    /// # Errors
    /// If it was told to stop.
    pub(crate) fn check(
        &mut self,
        store: &TorrentStore,
        found: &mut Found,
        control: Control<'_>,
    ) -> Result<(), Cancelled> {
        let pieces_count = found.recheck.pieces_count();
        let recheck = core::mem::replace(&mut found.recheck, Bitfield::new(pieces_count));
        let verified = store.verify(&recheck, control)?;
        self.has_unreadable = !verified.unreadable.is_empty();
        let errors = verified.errors.into_iter().map(|error| error.message);
        found.notes.extend(errors);
        for piece in verified.good.iter() {
            found.have.set(piece);
        }
        Ok(())
    }

    /// Makes sure that a download may write: what stands in its way is its own, or nobody loses anything by it, or the
    /// user said so. What is too long is cut, and that the files are ours now is noted before the first byte is written.
    ///
    /// # Errors
    /// [`Failure::Strange`] if the user has to decide; a disk that cannot be written.
    pub(crate) fn claim(
        &mut self,
        store: &TorrentStore,
        found: &mut Found,
        wanted: &Bitfield,
        force: bool,
    ) -> Result<(), Failure> {
        let Found {
            have,
            standing,
            notes,
            ..
        } = found;
        if !self.is_own
            && let [first, others @ ..] = &store.strange(standing, wanted, have)[..]
        {
            let path = store.path(*first).display().to_string();
            let others_count = others.len();
            if !force {
                return Err(Failure::Strange { path, others_count });
            }
            let others = others_of(others_count);
            notes.push(format!(
                "{path}{others}: what is there is not what the torrent says, and is replaced"
            ));
        }
        if let [first, others @ ..] = &store.cut(standing, wanted).map_err(Failure::Disk)?[..] {
            let (path, others) = (store.path(*first).display(), others_of(others.len()));
            notes.push(format!(
                "{path}{others}: longer than it should be, and was cut"
            ));
        }
        if wanted.iter_minus(have).next().is_some() {
            self.is_own = true;
            self.save_now(store, have, notes);
        }
        Ok(())
    }

    /// Saves that the download begins. Without it an interrupted one would be taken for somebody's files.
    fn save_now(&mut self, store: &TorrentStore, have: &Bitfield, notes: &mut Vec<String>) {
        let Some(place) = &self.place else {
            return;
        };
        let state = Resume {
            have: have.clone(),
            uploaded: self.uploaded_before,
            downloaded: self.downloaded_before,
            clean: false,
            own: true,
        };
        self.due = None;
        if let Err(error) = resume::save(&place.folder, self.info_hash, store, &state) {
            notes.push(format!("the resume state is not saved: {error}"));
        }
    }

    /// Something was verified: save before long.
    pub(crate) fn touch(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + SAVE_DELAY);
    }

    /// Save soon.
    pub(crate) fn hurry(&mut self) {
        self.due = Some(Instant::now());
    }

    /// When it is time to save.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| self.place.is_some())
    }

    /// True if it is time to save.
    pub(crate) fn is_due(&self) -> bool {
        self.due().is_some_and(|due| due <= Instant::now())
    }

    /// Saves what the engine has; `clean` if nothing will be saved after this. Nothing to do is `Ok`.
    pub(crate) fn save(
        &mut self,
        disk: &Arc<Disk>,
        have: Bitfield,
        stats: &Stats,
        clean: bool,
    ) -> impl Future<Output = Result<(), DiskError>> + Send + use<> {
        self.due = None;
        self.saves += 1;
        let number = self.saves;
        let folder = self.place.as_ref().map(|place| Arc::clone(&place.folder));
        let state = Resume {
            have,
            uploaded: self.uploaded_before + stats.uploaded,
            downloaded: self.downloaded_before + stats.downloaded,
            // What only seeds never leaves anything half written.
            clean: (clean || self.seed_only) && !self.has_unreadable,
            own: self.is_own,
        };
        let (info_hash, disk) = (self.info_hash, Arc::clone(disk));
        let written = Arc::clone(&self.written);
        // Held by a save that is under way, which this one then follows.
        let is_news = written
            .try_lock()
            .map_or(true, |written| written.state.as_ref() != Some(&state));
        async move {
            let Some(folder) = folder.filter(|_| is_news) else {
                return Ok(());
            };
            let store = Arc::clone(disk.store());
            let work = move || {
                let mut written = lock(&written);
                if written.number > number {
                    return Ok(());
                }
                written.number = number;
                written.state = None;
                resume::save(&folder, info_hash, &store, &state)?;
                written.state = Some(state);
                Ok(())
            };
            disk.on_pool(work).await?
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file name for a folder: a hash of its path, as far as links in it are resolved (FNV-1a, 64 bits).
fn name_of(dir: &Path) -> String {
    let dir = dir
        .canonicalize()
        .or_else(|_| std::path::absolute(dir))
        .unwrap_or_else(|_| dir.to_owned());
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let bytes = dir.as_os_str().as_bytes().iter();
    format!("{:016x}", bytes.fold(0xcbf2_9ce4_8422_2325, step))
}

#[cfg(test)]
mod tests;
