//! A deterministic simulation of whole BitTorrent swarms: one seed, virtual time, real engines.
//!
//! Nodes run the very engine that the programs run, over disks that are the real storage in memory, and talk to each
//! other in the bytes of the real codec, over links with a rate and a latency that cut their streams at random. One queue
//! orders everything that happens, so one seed gives one run. Oracles look on at every step.
//!
//! | module | owns |
//! |---|---|
//! | [`world`] | [`World`]: nodes, links, a tracker, and the clock |
//! | [`scenario`] | [`Scenario`]: who is in the swarm and what goes wrong, and what it came to |
//! | [`node`], [`disk`] | one member of the swarm, and its disk |
//! | [`oracle`] | what the protocol allows at each end of each connection |
//! | [`adversary`] | one engine, or one schedule of trackers, against whatever can happen |
//! | [`dht`] | a DHT of thousands of nodes |
//! | [`payload`] | what is shared: bytes that can be made again |
//!
//! # Example
//!
//! ```
//! use bt_core::Layout;
//! use bt_sim::Scenario;
//!
//! let layout = Layout::new(1 << 20, 1 << 15).expect("a valid layout");
//! let crowd = Scenario::flash_crowd(7, layout, 3, 1_000_000);
//! let report = crowd.run().expect("a swarm without faults comes to its end");
//! assert_eq!(report.leechers, 3);
//! assert_eq!(report, crowd.run().expect("again"), "one seed, one run");
//! ```
#![forbid(unsafe_code)]

pub mod adversary;
mod chaos;
pub mod dht;
pub mod dht_store;
pub mod disk;
mod link;
pub mod node;
pub mod oracle;
pub mod payload;
pub mod scenario;
pub mod world;

pub use disk::{DiskKind, Trouble};
pub use node::{Host, Nature};
pub use scenario::{Report, Scenario, Stuck};
pub use world::{Fault, Lines, Settings, World};
