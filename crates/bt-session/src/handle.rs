//! A torrent as its owner sees it: events, numbers, commands.
//!
//! **Invariant:** an owner that does not listen holds nothing up and makes nothing grow: events wait in a ring that
//! drops the oldest, and numbers are a single value that is overwritten.

use crate::inbox::Inbox;
use crate::status::Shown;
use bt_core::InfoHash;
use bt_core::disk::DiskError;
use bt_metainfo::Metainfo;
use bt_peer::{Command, Stats};
use std::sync::Arc;
use tokio::sync::watch;

/// Events that wait for a slow owner; older ones are dropped. A thousand pieces may pass between two looks.
pub(crate) const EVENTS_MAX: usize = 1024;

/// Something that happened to a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TorrentEvent {
    /// Peers said what the torrent is, and it is true: a torrent that started from a magnet link begins now.
    Metadata(Arc<Metainfo>),
    /// The data on disk was looked at, and the torrent starts.
    Checked {
        /// Verified pieces.
        pieces_have: u32,
        /// All pieces.
        pieces: u32,
        /// All that is wanted is there: there is nothing to download.
        complete: bool,
    },
    /// The engine has something to tell. Pieces that are done are told some at a time, at least once a second.
    Engine(bt_peer::Event),
    /// Something is not as it should be; the torrent goes on.
    Warning {
        /// What, in words for the user.
        message: String,
    },
    /// The torrent stopped because it had to. The last event.
    Failed(Failure),
    /// The torrent stopped because it was told to. The last event.
    Stopped,
}

/// Why a torrent had to stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The data cannot be used.
    #[error("{0}")]
    Disk(DiskError),
    /// What peers gave has the hash that the link names, and makes no torrent.
    #[error("{0}")]
    Metadata(String),
    /// No file of the torrent is what the user, or the link, selects.
    #[error("{0}")]
    Selection(String),
    /// Another process or torrent works on the same data.
    #[error("the torrent is in use in {path} already: {message}")]
    InUse {
        /// The data folder.
        path: String,
        /// Who has it.
        message: String,
    },
    /// Something stands in the place of a file, no download of ours put it there, and it would lose bytes. Nothing was
    /// changed. See [`TorrentOptions::force`](crate::TorrentOptions::force).
    #[error("{path}{} is there already, and is not what the torrent says", others(*others_count))]
    Strange {
        /// The first such file.
        path: String,
        /// How many more there are.
        others_count: usize,
    },
    /// A bug of ours. The other torrents go on.
    #[error("internal error, please report it: {message}")]
    Bug {
        /// The panic's message.
        message: String,
    },
}

/// How a message goes on that names the first of several files.
pub(crate) fn others(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => " (and another file)".to_owned(),
        _ => format!(" (and {count} other files)"),
    }
}

/// What a torrent is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// The data on disk is being hashed.
    #[default]
    Checking,
    /// Peers are asked what the torrent is.
    Fetching,
    /// Taking part in the swarm.
    Running,
    /// Leaving the swarm.
    Stopping,
    /// Gone.
    Stopped,
}

/// A torrent's numbers at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub phase: Phase,
    /// While checking: how many pieces were looked at.
    pub pieces_checked: u32,
    /// The engine's numbers; all 0 while checking, but for the lengths.
    pub stats: Stats,
}

/// One torrent of a session. Dropping it leaves the torrent running; the session's end stops it.
#[derive(Clone, Debug)]
pub struct TorrentHandle {
    pub(crate) info_hash: InfoHash,
    pub(crate) status: Arc<Shown>,
    pub(crate) inbox: Arc<Inbox>,
}

impl TorrentHandle {
    /// Which torrent.
    #[must_use]
    pub const fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    /// The numbers as they were at most a second ago.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.get()
    }

    /// The numbers as they change, at most once a second; as long as nothing changes there is no word.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.watch()
    }

    /// Tells the torrent something. Of commands that it has not heard yet, the last one of a kind holds. A torrent that
    /// is gone does not hear it.
    pub fn command(&self, command: Command) {
        self.inbox.command(command);
    }

    /// Leaves the swarm, saves the resume state, and waits until that is done: at most some seconds.
    pub async fn stop(&self) -> Status {
        self.command(Command::Stop);
        let mut status = self.watch();
        let gone = |status: &Status| status.phase == Phase::Stopped;
        // An error means that the torrent's task is gone, which is what we wait for.
        let _ = status.wait_for(gone).await;
        self.status()
    }
}
