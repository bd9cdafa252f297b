//! What a node keeps for others: peers of torrents (BEP 5) and items (BEP 44). Both stores are bounded, and forget.

pub mod items;
pub mod peers;

pub use items::{ItemStore, PutError};
pub use peers::PeerStore;
