//! Trackers, both sides of the conversation, pure: what is asked and answered, how HTTP carries it, which tracker a
//! client asks when, and the swarms that a server keeps.
#![forbid(unsafe_code)]

pub mod announce;
pub mod client;
pub mod http;
pub mod scrape;
pub mod server;
