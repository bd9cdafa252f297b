//! What the end-to-end tests share: the programs as processes, a peer and a tracker that say whatever a test wants.
//!
//! Nothing of the workspace is linked in: a mistake in the wire codec must not be made twice, once in the program and once
//! in its judge.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "shell: owns clocks, files, sockets and threads"
)]
#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a harness fails by panicking: that is how a test says no"
)]

pub mod peer;
pub mod process;
pub mod shared;
pub mod tracker;
