//! A BitTorrent tracker daemon over HTTP.
