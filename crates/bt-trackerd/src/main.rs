//! The tracker daemon.

fn main() {}
