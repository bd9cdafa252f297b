//! Sessions on real sockets and real files, with each other and with strangers who do not behave.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests of a shell: files, sockets, clock"
)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's own mistakes may panic"
)]

mod budget;
mod dht;
mod exchange;
mod lsd;
mod magnet;
mod server;
mod state;
mod strangers;
mod tracker;

use bt_core::Rng;
use bt_metainfo::{Builder, Change, Edit, Metainfo};
use bt_session::{
    Event, Session, SessionConfig, TorrentEvent, TorrentEvents, TorrentHandle, TorrentOptions,
};
use bt_storage::{Control, FileSpec, hash_files};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// No test waits longer for what must happen. On a loaded machine a second is nothing.
const PATIENCE: Duration = Duration::from_secs(60);

const PIECE_BYTES: u32 = 32 * 1024;

/// The files of the test torrent: empty ones, some that share a piece, and some of many pieces.
const FILES: [(&str, usize); 6] = [
    ("empty", 0),
    ("a", 1),
    ("b", 50_000),
    ("sub/c", 700_000),
    ("sub/d", 3),
    ("sub/last", 123_456),
];

/// A published folder, and room for downloads.
pub(crate) struct Place {
    temp: TempDir,
    pub(crate) torrent: Metainfo,
}

impl Place {
    /// Random files and their torrent, which names these trackers.
    pub(crate) fn new(trackers: &[&str]) -> Self {
        Self::build(trackers, false)
    }

    /// The same as a private torrent.
    pub(crate) fn private(trackers: &[&str]) -> Self {
        Self::build(trackers, true)
    }

    fn build(trackers: &[&str], private: bool) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let top = temp.path().join("source/top");
        std::fs::create_dir_all(top.join("sub")).unwrap();
        let mut rng = Rng::new(7);
        let mut builder = Builder::folder("top", PIECE_BYTES).with_private(private);
        let mut specs = Vec::new();
        for (path, length) in FILES {
            let mut bytes = vec![0; length];
            rng.fill(&mut bytes);
            std::fs::write(top.join(path), bytes).unwrap();
            builder = builder.with_file(path.split('/'), length as u64);
            specs.push(FileSpec {
                path: top.join(path),
                length: length as u64,
                pad: false,
            });
        }
        let tiers = trackers.iter().map(|url| vec![(*url).to_owned()]).collect();
        let edit = Edit {
            trackers: Change::Set(tiers),
            ..Edit::default()
        };
        let hashes = hash_files(&specs, PIECE_BYTES, Control::default()).unwrap();
        let torrent = builder.with_edit(edit).build(&hashes).unwrap();
        Self { temp, torrent }
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.temp.path().join("source")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// Asserts that the folder holds a whole copy, byte for byte.
    pub(crate) fn assert_copied(&self, dir: &Path) {
        for (path, length) in FILES {
            let copy = std::fs::read(dir.join("top").join(path)).unwrap();
            let source = std::fs::read(self.source().join("top").join(path)).unwrap();
            assert_eq!(copy.len(), length, "{path}");
            assert!(copy == source, "{path}");
        }
    }
}

/// A session on a free port of the loopback.
pub(crate) fn session(state_dir: Option<PathBuf>) -> (Session, SocketAddr) {
    let config = SessionConfig {
        bind: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        port: Some(0),
        state_dir,
        ..SessionConfig::default()
    };
    let session = Session::new(config).unwrap();
    let addr = session.local_addrs()[0];
    (session, addr)
}

pub(crate) fn with_peers(peers: &[SocketAddr]) -> TorrentOptions {
    TorrentOptions {
        peers: peers.to_vec(),
        ..TorrentOptions::default()
    }
}

pub(crate) fn seed_only() -> TorrentOptions {
    TorrentOptions {
        seed_only: true,
        ..TorrentOptions::default()
    }
}

/// A running torrent, as a test sees it.
pub(crate) struct Running {
    pub(crate) handle: TorrentHandle,
    pub(crate) events: TorrentEvents,
}

pub(crate) fn start(
    session: &mut Session,
    place: &Place,
    dir: &Path,
    options: TorrentOptions,
) -> Running {
    let (handle, events) = session.add(place.torrent.clone(), dir, options).unwrap();
    Running { handle, events }
}

impl Running {
    /// The first event for which `is` holds, and all before it.
    pub(crate) async fn until(&mut self, is: impl Fn(&TorrentEvent) -> bool) -> Vec<TorrentEvent> {
        let mut seen = Vec::new();
        let waiting = async {
            loop {
                let event = self.events.next().await.expect("the torrent goes on");
                let found = is(&event);
                seen.push(event);
                if found {
                    break;
                }
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(in_time.is_ok(), "not seen in {PATIENCE:?}; only {seen:#?}");
        seen
    }

    pub(crate) async fn complete(&mut self) {
        self.until(|event| *event == TorrentEvent::Engine(Event::Complete))
            .await;
    }

    /// Waits until the data has been looked at, and says how many pieces are there.
    pub(crate) async fn checked(&mut self) -> u32 {
        let seen = self
            .until(|event| matches!(event, TorrentEvent::Checked { .. }))
            .await;
        match seen.last() {
            Some(TorrentEvent::Checked { pieces_have, .. }) => *pieces_have,
            _ => unreachable!("waited for it"),
        }
    }
}
