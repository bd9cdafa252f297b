//! The tokio shell of a BitTorrent client: hands that move bytes for the engines that think.
//!
//! A [`Session`] listens, and holds torrents. [`Session::add`] starts one and gives a [`TorrentHandle`], through which
//! its owner follows events and numbers, and stops it. Everything that decides is in `bt-peer`; here are the sockets,
//! the HTTP client, the disk and the clock.
//!
//! | module | owns |
//! |---|---|
//! | [`config`] | what a user may set |
//! | [`session`] | [`Session`]: the listener, the torrents, and what they share |
//! | [`handle`] | [`TorrentHandle`] and [`TorrentEvent`]: a torrent as its owner sees it |
//! | [`http`] | bounded HTTP(S) requests; [`http::fetch`] |
//! | [`announce`] | announces over HTTP and UDP; [`announce::scrape`] |
//! | `udp` | the sockets of UDP trackers |
//! | [`dht`] | [`Dht`](dht::Dht): the tasks, sockets and files of DHT nodes |
//! | [`lsd`] | local discovery: its sockets and interfaces |
//! | `external` | where others see us |
//! | `clock` | the only clock, and the only randomness |
//! | `reach` | which addresses an HTTP request may use |
//! | `listener`, `incoming`, `handshake` | sockets until both handshakes are exchanged |
//! | `conn` | one connection: bytes in, messages out |
//! | `torrent`, `errands` | the task that owns an engine, and the tasks it sends out |
//! | `inbox`, `hands` | what is left for that task, and what it needs while it has peers |
//! | `disk` | where jobs are done: on the spot, or on a small pool |
//! | `open`, `openers`, `state` | what happens before: files, resume state, hashing |
//! | `metadata` | what is between a magnet link and a torrent |
//! | `budget` | what torrents share of the line |
//! | `worker` | the threads on which torrents run |
//!
//! # Example
//!
//! One session seeds a file, another one downloads it, on this machine and without a tracker.
//!
//! ```
//! use bt_metainfo::Builder;
//! use bt_session::{Event, Session, SessionConfig, TorrentEvent, TorrentOptions};
//! use bt_storage::{Control, FileSpec, hash_files};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folders = tempfile::tempdir()?;
//! let (source, copy) = (folders.path().join("source"), folders.path().join("copy"));
//! std::fs::create_dir(&source)?;
//! std::fs::write(source.join("hello.txt"), "hello, swarm")?;
//! let spec = FileSpec { path: source.join("hello.txt"), length: 12, pad: false };
//! let hashes = hash_files(&[spec], 16_384, Control::default())?;
//! let torrent = Builder::file("hello.txt", 12, 16_384).build(&hashes)?;
//!
//! let config = SessionConfig { bind: Some([127, 0, 0, 1].into()), port: Some(0), ..SessionConfig::default() };
//! let mut seeding = Session::new(config.clone())?;
//! let options = TorrentOptions { seed_only: true, ..TorrentOptions::default() };
//! seeding.add(torrent.clone(), &source, options)?;
//!
//! let mut leeching = Session::new(config)?;
//! let options = TorrentOptions { peers: seeding.local_addrs().to_vec(), ..TorrentOptions::default() };
//! let (handle, mut events) = leeching.add(torrent, &copy, options)?;
//! while let Some(event) = events.next().await {
//!     if event == TorrentEvent::Engine(Event::Complete) {
//!         break;
//!     }
//! }
//! assert_eq!(handle.stop().await.stats.downloaded, 12);
//! assert_eq!(std::fs::read_to_string(copy.join("hello.txt"))?, "hello, swarm");
//! # Ok(())
//! # }
//! ```
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "shell: owns the clock, files and threads"
)]
#![forbid(unsafe_code)]

pub mod announce;
pub mod config;
pub mod dht;
pub mod handle;
pub mod http;
pub mod lsd;
pub mod session;

mod budget;
mod buffers;
mod clock;
mod conn;
mod disk;
mod errands;
mod events;
mod external;
mod hands;
mod handshake;
mod inbox;
mod incoming;
mod listener;
mod metadata;
mod open;
mod openers;
mod preferences;
mod reach;
mod state;
mod status;
mod torrent;
mod turns;
mod udp;
mod worker;

pub use announce::TrackerDns;
pub use config::{Choose, SessionConfig, TorrentOptions};
pub use events::{GatheredEvents, TorrentEvents};
pub use handle::{Failure, Phase, Status, TorrentEvent, TorrentHandle};
pub use session::{Session, SessionError};

/// What engines tell and are told, and what trackers tell: for owners of torrents.
pub use bt_peer::event::TrackerStatus;
pub use bt_peer::{Account, CloseReason, Command, Event, Stats};
pub use bt_tracker::scrape::{ScrapeEntry, ScrapeResponse, ScrapedTorrent};
