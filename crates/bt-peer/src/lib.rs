//! The peer engine of one torrent, and what torrents share: pure machines that decide, and never touch a socket.
//!
//! A shell feeds facts to [`Engine::handle`], drains orders from [`Engine::poll`] and sleeps until
//! [`Engine::deadline`]. The same engine runs behind real sockets and in `bt-sim`.
#![forbid(unsafe_code)]

pub mod announcer;
pub mod choker;
pub mod config;
mod connection;
pub mod engine;
pub mod event;
pub mod limits;
pub mod node;
pub mod peers;
pub mod picker;
pub mod requests;
pub mod smart_ban;
pub mod uploads;

pub use config::Config;
pub use engine::{Command, ConnId, Direction, Engine, Input, Output, RESERVED, Torrent};
pub use event::{CloseReason, Event, Stats, TrackerStatus};
pub use node::Node;
pub use peers::PeerList;
pub use picker::Picker;
pub use smart_ban::SmartBan;
