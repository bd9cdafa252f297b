//! The BitTorrent DHT (BEP 5), pure: what a node says, keeps and looks for, without a socket or a clock.
//!
//! | module | owns |
//! |---|---|
//! | [`id`] | [`NodeId`]: the XOR metric, and the ids an address may have (BEP 42) |
//! | [`krpc`] | messages and their bytes |
//! | [`table`] | [`Table`]: the nodes that we know |
//! | [`lookup`] | one search, step by step |
//! | [`tokens`] | who may store something |
//! | [`store`] | peers (BEP 5) and items (BEP 44) kept for others |
//! | [`item`] | immutable and signed items (BEP 44) |
//! | [`limits`] | how much others can make us do |
//! | [`node`] | [`Node`]: all of it for one socket; see [`contract`] |
//! | [`announces`] | when torrents look for peers |
//! | [`state`] | what the next run begins with |
//!
//! A [`Node`] is of one address family and has one socket, as the DHTs of IPv4 and IPv6 are two (BEP 32), and as several
//! addresses should look like several nodes (BEP 45). Facts go in by [`Node::handle`], orders come out of
//! [`Node::poll`], and [`Node::deadline`] says when to come back.
//!
//! # Example
//!
//! Two nodes on a wire that loses nothing: the second finds the peer that announced itself to the first.
//!
//! ```
//! use bt_core::{InfoHash, Time};
//! use bt_dht::{Announce, Command, Config, Event, Input, Node, Output, Search, SearchId};
//!
//! let addrs = ["10.0.0.1:6881", "10.0.0.2:6881"].map(|addr| addr.parse().expect("an address"));
//! let mut nodes: Vec<Node> = (0..2)
//!     .map(|n| {
//!         let mut config = Config::new([n; 32]);
//!         config.bootstrap = vec![addrs[1 - usize::from(n)]];
//!         Node::new(config, u64::from(n))
//!     })
//!     .collect();
//! let search = |announce| Input::Command(Command::Search {
//!     id: SearchId(1),
//!     what: Search::Peers { info_hash: InfoHash([7; 20]), announce },
//! });
//! let now = Time::from_secs(1);
//! let mut inputs = vec![(0, search(Some(Announce { port: 7777, implied_port: false })))];
//! let mut found = Vec::new();
//! while !inputs.is_empty() {
//!     let (to, input) = inputs.remove(0);
//!     nodes[to].handle(now, input, None);
//!     while let Some(output) = nodes[to].poll() {
//!         match output {
//!             Output::Send { packet, .. } => inputs.push((1 - to, Input::Received { from: addrs[to], packet })),
//!             Output::Emit(Event::Peers { peers, .. }) => found.extend(peers),
//!             Output::Emit(Event::Done { .. }) if to == 0 => inputs.push((1, search(None))),
//!             Output::Emit(_) => {}
//!         }
//!     }
//! }
//! assert_eq!(found, ["10.0.0.1:7777".parse().expect("an address")]);
//! ```
#![forbid(unsafe_code)]

pub mod announces;
pub mod contract;
pub mod id;
pub mod item;
pub mod krpc;
pub mod limits;
pub mod lookup;
pub mod node;
mod round_trips;
mod secret;
pub mod state;
pub mod store;
pub mod table;
pub mod tokens;

pub use announces::Announces;
pub use contract::{Announce, Command, Config, Event, Input, Outcome, Output, Search, SearchId};
pub use id::NodeId;
pub use item::{Item, MutableItem, SigningKey};
pub use krpc::Contact;
pub use node::{Counters, Node};
pub use state::State;
pub use table::Table;
