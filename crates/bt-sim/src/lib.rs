//! A deterministic simulation of whole BitTorrent swarms: one seed, virtual time, real engines.
