//! Metainfo files (BEP 3, "metainfo files") and magnet links (BEP 9): parse, check, create, edit. Pure: bytes in,
//! values and bytes out; reading files and hashing them is for others.
//!
//! | module | owns |
//! |---|---|
//! | [`metainfo`] | [`Metainfo`]: a checked .torrent, with its bytes and info hash |
//! | [`info`] | [`Info`], [`FileEntry`]: names, lengths, piece hashes |
//! | [`path`] | the one rule that makes every path safe |
//! | [`create`] | [`Builder`]: a new torrent from lengths and hashes; the piece length |
//! | [`edit`] | [`Edit`]: other trackers, comment, …, around the same info dictionary |
//! | [`magnet`] | [`Magnet`] |
//! | [`urls`], [`note`], [`error`] | cleaning of URLs; what was odd; what is refused |
//!
//! # Example
//!
//! ```
//! use bt_metainfo::{Builder, Change, Edit, Magnet, Metainfo};
//!
//! // Two files, 40 000 bytes in pieces of 32 KiB: somebody hashes the two pieces.
//! let builder = Builder::folder("data", 32 * 1024)
//!     .with_file(["a", "one.txt"], 30_000)
//!     .with_file(["two.txt"], 10_000)
//!     .with_edit(Edit {
//!         trackers: Change::Set(vec![vec!["http://tracker.example/announce".into()]]),
//!         ..Edit::default()
//!     });
//! assert_eq!(builder.layout()?.pieces_count(), 2);
//! let torrent = builder.build(&[[1; 20], [2; 20]])?;
//!
//! let again = Metainfo::parse(torrent.bytes())?;
//! assert_eq!(again.info.files()[0].path.to_str(), Some("data/a/one.txt"));
//! let magnet: Magnet = again.magnet().to_string().parse()?;
//! assert_eq!(magnet.info_hash, Some(again.info_hash));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod create;
pub mod edit;
pub mod error;
pub mod info;
pub mod magnet;
pub mod metainfo;
pub mod note;
pub mod path;
mod read;
pub mod urls;

pub use create::{BuildError, Builder, auto_piece_length};
pub use edit::{Change, Edit};
pub use error::MetainfoError;
pub use info::{Attributes, FileEntry, Format, Info};
pub use magnet::{Magnet, MagnetError};
pub use metainfo::{Metainfo, Node};
pub use note::Note;
pub use path::Platform;
