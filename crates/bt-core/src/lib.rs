//! The vocabulary that all crates of this workspace share, and nothing that does I/O.
//!
//! | module | owns |
//! |---|---|
//! | [`time`] | [`Time`]: nanoseconds since the shell started |
//! | [`rng`] | [`Rng`]: the only source of randomness, made from one seed |
//! | [`id`] | [`InfoHash`], [`PeerId`] |
//! | [`piece`] | [`Layout`], [`PieceIndex`], [`Block`]: piece arithmetic, checked once |
//! | [`bitfield`] | [`Bitfield`]: a set of pieces |
//! | [`addr`] | compact peer addresses, and which addresses may be dialled |
//! | [`crc`] | CRC-32C |
//! | [`rate`] | [`RateMeter`] and [`RateLimiter`] |
//! | [`votes`] | [`Votes`]: which address others see us at |
//! | [`disk`] | the orders an engine gives to its disk, and the answers |
//!
//! # Example
//!
//! ```
//! use bt_core::{Bitfield, Layout};
//!
//! // 100 000 bytes in pieces of 32 KiB: three whole pieces and a short one.
//! let layout = Layout::new(100_000, 32 * 1024).expect("a valid piece length");
//! assert_eq!(layout.pieces_count(), 4);
//! let last = layout.piece(3).expect("index in range");
//! assert_eq!(layout.piece_length(last), 1_696);
//! assert_eq!(layout.piece(4), None);
//!
//! let mut have = Bitfield::new(layout.pieces_count());
//! have.set(last);
//! assert_eq!(have.count_ones(), 1);
//! ```
#![forbid(unsafe_code)]

pub mod addr;
pub mod bitfield;
pub mod crc;
pub mod disk;
pub mod id;
pub mod piece;
pub mod rate;
pub mod rng;
pub mod time;
pub mod votes;

pub use bitfield::Bitfield;
pub use id::{InfoHash, PeerId};
pub use piece::{BLOCK_BYTES, Block, Layout, PieceIndex};
pub use rate::{RateLimiter, RateMeter};
pub use rng::Rng;
pub use time::Time;
pub use votes::Votes;
