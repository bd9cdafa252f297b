//! The tokio shell of a BitTorrent client: sockets, HTTP, disk and clock around the pure engine.
