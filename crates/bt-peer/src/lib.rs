//! The peer engine of one torrent, and what torrents share: pure machines that decide, and never touch a socket.
//!
//! A shell feeds facts to [`Engine::handle`], drains orders from [`Engine::poll`] and sleeps until
//! [`Engine::deadline`]. The same engine runs behind real sockets and in `bt-sim`.
//!
//! | module | owns |
//! |---|---|
//! | [`engine`] | [`Engine`]: every decision of one torrent; [`Input`] and [`Output`], the contract with a shell |
//! | [`picker`] | [`Picker`]: which blocks to ask of whom, rarest first, endgame |
//! | [`requests`] | how many blocks to ask of one peer, and which are outstanding |
//! | [`uploads`] | what one peer asked of us, and how much of it is on its way |
//! | [`choker`] | whom to upload to: tit-for-tat, optimistic unchoke, turns while seeding |
//! | [`peers`] | [`PeerList`]: known addresses, dial back-off, bans |
//! | [`priority`] | which peers are to be preferred, as both ends see it (BEP 40) |
//! | [`metadata`] | [`metadata::Fetch`]: the info dictionary from peers |
//! | [`smart_ban`] | [`SmartBan`]: who sent the bad block |
//! | [`announcer`] | the torrent's numbers, put to the schedule of `bt_tracker::client` |
//! | [`local`] | [`LocalDiscovery`]: what is said and believed on the local network (BEP 14) |
//! | [`node`] | [`Node`]: rates and connections divided between torrents |
//! | [`config`], [`event`], [`limits`] | settings; news and numbers for the user; every bound with its reason |
//!
//! # Example
//!
//! Two engines, one with the torrent's only piece and one without, and between them a shell that has a queue of facts
//! for each where a real one has sockets.
//!
//! ```
//! use bt_core::disk::{Done, Job, Verdict};
//! use bt_core::{Bitfield, InfoHash, Layout, PeerId, Time};
//! use bt_peer::{Config, ConnId, Direction, Engine, Input, Output, RESERVED, Torrent};
//! use bt_wire::Message;
//! use bytes::Bytes;
//! use std::collections::VecDeque;
//!
//! let content = Bytes::from(vec![7; 40_000]);
//! let torrent = |have| Torrent {
//!     info_hash: InfoHash([1; 20]),
//!     layout: Layout::new(40_000, 65_536).expect("a valid piece length"),
//!     private: false,
//!     trackers: Vec::new(),
//!     have,
//!     wanted: Bitfield::full(1),
//! };
//! let id = |n| PeerId([n; 20]);
//! let mut engines = [
//!     Engine::new(torrent(Bitfield::full(1)), Config::new(id(0)), 11),
//!     Engine::new(torrent(Bitfield::new(1)), Config::new(id(1)), 12),
//! ];
//! let conn = ConnId(1);
//! let opened = |n: u8, direction| Input::Opened {
//!     conn,
//!     addr: ([127, 0, 0, 1], 6881).into(),
//!     direction,
//!     peer_id: id(n),
//!     reserved: RESERVED,
//! };
//! let mut facts = VecDeque::from([
//!     (0, opened(1, Direction::Incoming)),
//!     (1, opened(0, Direction::Outgoing)),
//! ]);
//! let mut written = 0;
//! while let Some((n, fact)) = facts.pop_front() {
//!     engines[n].handle(Time::ZERO, fact);
//!     while let Some(order) = engines[n].poll() {
//!         match order {
//!             Output::Send { message, .. } => facts.push_back((1 - n, Input::Received { conn, message })),
//!             Output::Upload { block, .. } => {
//!                 let (begin, end) = (block.begin as usize, block.end() as usize);
//!                 let data = content.slice(begin..end);
//!                 let message = Message::Piece { piece: 0, begin: block.begin, data };
//!                 facts.push_back((1 - n, Input::Received { conn, message }));
//!                 facts.push_back((n, Input::Uploaded { conn, block, result: Ok(()) }));
//!             }
//!             Output::Disk(Job::Write { block, data }) => {
//!                 assert_eq!(data, content[block.begin as usize..block.end() as usize]);
//!                 facts.push_back((n, Input::DiskDone(Done::Wrote { block })));
//!                 written += data.len();
//!                 if written == content.len() {
//!                     let done = Done::Checked { piece: block.piece, verdict: Verdict::Good };
//!                     facts.push_back((n, Input::DiskDone(done)));
//!                 }
//!             }
//!             Output::Emit(event) => println!("{n}: {event:?}"),
//!             _ => {}
//!         }
//!     }
//! }
//! assert!(engines[1].have().is_full());
//! ```
#![forbid(unsafe_code)]

pub mod announcer;
pub mod choker;
pub mod config;
mod connection;
pub mod engine;
pub mod entrusted;
pub mod event;
pub mod limits;
pub mod local;
pub mod metadata;
pub mod node;
pub mod peers;
pub mod picker;
pub mod priority;
pub mod requests;
pub mod smart_ban;
pub mod spread;
pub mod uploads;

pub use config::Config;
pub use engine::{Command, ConnId, Direction, Engine, Input, Output, RESERVED, Torrent, Unknown};
pub use event::{Account, CloseReason, Event, Stats, TrackerStatus};
pub use local::LocalDiscovery;
pub use node::Node;
pub use peers::PeerList;
pub use picker::Picker;
pub use smart_ban::SmartBan;
