//! What the protocol's texts demand of a peer, played against an engine: facts in, orders out.
//!
//! BEP 3 ("peer protocol", "peer messages", "choking"), BEP 6, the community specification, and the paper of 2005
//! ("BTP/1.0"). Numbers behind FAULTS are those of the list of bad inputs that the project keeps.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests fail by panicking, and look for one kind of order among all others"
)]

mod opening;
mod receiving;
mod script;
mod serving;
mod telling;
