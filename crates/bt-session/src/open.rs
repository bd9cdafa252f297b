//! What happens before a torrent runs: its files are opened, its resume state read, its data hashed.

use crate::clock::random_seed;
use crate::config::{PEERS_MAX, TorrentOptions};
use crate::disk;
use crate::handle::{Failure, Phase, TorrentEvent};
use crate::session::Shared;
use crate::state::{Found, Keeper, StateDir};
use crate::status::StatusIn;
use bt_core::{Bitfield, PeerId, Rng};
use bt_metainfo::Metainfo;
use bt_storage::{Access, Control, FilePool, HashProgress, OpenOptions, Standing, TorrentStore};
use bytes::Bytes;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Names this program and its version in peer ids (BEP 20).
pub(crate) const PEER_ID_PREFIX: &[u8; 8] = b"-bT0100-";

/// Torrents that are hashed at a time: one keeps all cores and the disk busy by itself. Neither these nor those that are
/// opened count among the jobs of running torrents, which would wait for them for as long as it takes to read a whole one.
pub(crate) const HASHINGS_MAX: usize = 1;

/// Who has no more to hash than this is hashed where it is opened, which takes as long.
const HERE_BYTES: u64 = 64 << 10;

/// Who has no more to hash than this is hashed by who opens torrents on a slow disk: that takes less than to wait for a turn
/// among those that are hashed, and for a thread.
const QUICK_BYTES: u64 = 1 << 20;

/// All that a torrent needs to run.
pub(crate) struct Opened {
    pub(crate) store: Arc<TorrentStore>,
    pub(crate) torrent: bt_peer::Torrent,
    /// The info dictionary, for peers that lack it.
    pub(crate) metadata: Bytes,
    pub(crate) config: bt_peer::Config,
    pub(crate) keeper: Keeper,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
}

impl Opened {
    /// What its owner is told of it.
    pub(crate) fn checked(&self) -> TorrentEvent {
        let have = &self.torrent.have;
        TorrentEvent::Checked {
            pieces_have: have.count_ones(),
            pieces: have.pieces_count(),
            complete: self.torrent.wanted.iter_minus(have).next().is_none(),
        }
    }
}

/// Stops the hashing when it is dropped: whoever waits for it has gone.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Opens a torrent's files and finds out what of it is there. Dropping the future stops the hashing. The turn is for opening
/// them, and over before anything is hashed by others.
///
/// # Errors
/// [`Failure`] if the files cannot be opened or somebody else uses them.
pub(crate) async fn open(
    shared: &Arc<Shared>,
    metainfo: Metainfo,
    dir: PathBuf,
    options: &TorrentOptions,
    turn: Option<OwnedSemaphorePermit>,
    status: &StatusIn,
) -> Result<Opened, Failure> {
    let cancel = Arc::new(AtomicBool::new(false));
    let _cancel = CancelOnDrop(Arc::clone(&cancel));
    let looking = Looking {
        pool: Arc::clone(&shared.files),
        state_dir: Arc::clone(&shared.state_dir),
        metainfo,
        dir,
        options: options.clone(),
        status: status.clone(),
    };
    let mut looked = shared.openers.run_quick(move || looking.open()).await?;
    drop(turn);
    let recheck_bytes = looked.recheck_bytes();
    if (1..=QUICK_BYTES).contains(&recheck_bytes) {
        let hashing = move || looked.check(&cancel, Some(NonZeroUsize::MIN));
        looked = shared.openers.run(hashing).await?;
    } else if recheck_bytes > 0 {
        // Not before its turn among those that are hashed; who has nothing to hash does not wait for it.
        let hashing = move || looked.check(&cancel, None);
        looked = on_pool(&shared.hash_permits, hashing).await?;
    }
    let Looked {
        metainfo,
        store,
        keeper,
        found,
        ..
    } = looked;
    let layout = metainfo.info.layout();
    let Found { have, notes, .. } = found;
    let metadata = Bytes::copy_from_slice(metainfo.info_bytes());
    let torrent = bt_peer::Torrent {
        info_hash: metainfo.info_hash,
        layout,
        private: metainfo.info.is_private(),
        trackers: metainfo.trackers,
        wanted: if options.seed_only {
            have.clone()
        } else {
            wanted_of(options, layout.pieces_count())
        },
        have,
    };
    Ok(Opened {
        store: Arc::new(store),
        torrent,
        metadata,
        config: configure(shared, options),
        keeper,
        notes,
    })
}

async fn on_pool<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = disk::on_pool(permits, work).await;
    done.map_err(|error| Failure::Bug {
        message: error.message,
    })?
}

/// What disk threads need to open the files and find out what is there.
struct Looking {
    pool: Arc<FilePool>,
    state_dir: Arc<StateDir>,
    metainfo: Metainfo,
    dir: PathBuf,
    options: TorrentOptions,
    status: StatusIn,
}

/// A torrent on its way: its files are open, and some of what is there is known.
struct Looked {
    metainfo: Metainfo,
    store: TorrentStore,
    keeper: Keeper,
    found: Found,
    options: TorrentOptions,
    status: StatusIn,
}

impl Looking {
    fn open(self) -> Result<Looked, Failure> {
        let info = &self.metainfo.info;
        let seed_only = self.options.seed_only;
        let open_options = OpenOptions {
            pool: self.pool,
            access: if seed_only {
                Access::ReadOnly
            } else {
                Access::ReadWrite
            },
            allocation: self.options.allocation,
        };
        let store = TorrentStore::open(info, &self.dir, &open_options).map_err(Failure::Disk)?;
        let mut keeper = Keeper::open(
            &self.state_dir,
            self.metainfo.info_hash,
            (&self.dir, store.folder_id()),
            seed_only,
        )?;
        let mut found = keeper.load(&store);
        if self.options.trusted {
            let pieces_count = info.layout().pieces_count();
            found = Found {
                have: Bitfield::full(pieces_count),
                recheck: Bitfield::new(pieces_count),
                standing: Standing::default(),
                notes: Vec::new(),
            };
        }
        let looked = Looked {
            metainfo: self.metainfo,
            store,
            keeper,
            found,
            options: self.options,
            status: self.status,
        };
        match looked.recheck_bytes() {
            0 => looked.claim(),
            1..=HERE_BYTES => looked.check(&AtomicBool::new(false), Some(NonZeroUsize::MIN)),
            _ => Ok(looked),
        }
    }
}

impl Looked {
    /// How much has to be hashed.
    fn recheck_bytes(&self) -> u64 {
        let layout = self.store.map().layout();
        let lengths = self.found.recheck.iter();
        lengths
            .map(|piece| u64::from(layout.piece_length(piece)))
            .sum()
    }

    /// Hashes what has to be, on so many threads; `None`: one for each core.
    fn check(
        mut self,
        cancel: &AtomicBool,
        threads: Option<NonZeroUsize>,
    ) -> Result<Self, Failure> {
        let progress = |progress: HashProgress| {
            self.status.update(|status| {
                status.phase = Phase::Checking;
                status.pieces_checked = progress.pieces_done;
            });
        };
        let control = Control {
            threads,
            cancel: Some(cancel),
            progress: Some(&progress),
        };
        let checked = self.keeper.check(&self.store, &mut self.found, control);
        // Nobody waits for the outcome any more.
        checked.map_err(|_cancelled| Failure::Bug {
            message: "told to stop".to_owned(),
        })?;
        self.claim()
    }

    /// Makes sure that a download may write.
    fn claim(mut self) -> Result<Self, Failure> {
        let options = &self.options;
        if !options.seed_only && !options.trusted {
            let wanted = wanted_of(options, self.found.have.pieces_count());
            self.keeper
                .claim(&self.store, &mut self.found, &wanted, options.force)?;
        }
        Ok(self)
    }
}

/// The pieces that the user wants.
fn wanted_of(options: &TorrentOptions, pieces_count: u32) -> Bitfield {
    let all = || Bitfield::full(pieces_count);
    options.wanted.clone().unwrap_or_else(all)
}

/// The engine's settings, with a peer id of its own.
pub(crate) fn configure(shared: &Shared, options: &TorrentOptions) -> bt_peer::Config {
    let mut rng = Rng::new(random_seed());
    let mut config = bt_peer::Config::new(PeerId::generate(PEER_ID_PREFIX, &mut rng));
    config.listen_port = shared.port;
    config.key = u32::try_from(rng.below(1 << 32)).unwrap_or(0);
    config.peers_max = options.peers_max.unwrap_or(PEERS_MAX);
    config.upload_slots = options.upload_slots;
    config.down_limit = shared.config.down_limit;
    config.up_limit = shared.config.up_limit;
    config.sequential = options.sequential;
    config.super_seed = options.super_seed;
    config.no_tracker = options.no_tracker;
    config.pex = !options.no_pex;
    config.upload_goal = options.upload_goal;
    config.announce_ip = options.announce_ip;
    config
}
