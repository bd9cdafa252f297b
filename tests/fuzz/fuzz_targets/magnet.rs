//! Magnet links from any text: never a panic, within the limits, and what is written again reads as the same.
#![no_main]

use bt_metainfo::Magnet;
use bt_metainfo::magnet::{PEERS_MAX, RANGES_MAX};
use bt_metainfo::urls::{TRACKERS_MAX, WEB_SEEDS_MAX};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(magnet) = text.parse::<Magnet>() else {
        return;
    };
    assert!(magnet.info_hash.is_some() || magnet.info_hash_v2.is_some());
    assert!(magnet.trackers.len() <= TRACKERS_MAX && magnet.web_seeds.len() <= WEB_SEEDS_MAX);
    assert!(magnet.peers.len() <= PEERS_MAX && magnet.select.len() <= RANGES_MAX);
    let written = magnet.to_string();
    assert!(written.is_ascii());
    assert_eq!(written.parse(), Ok(magnet));
});
