//! What trackers reply and clients ask, as any bytes: never a panic, what comes out is within its bounds, and what is
//! written again reads as the same.
#![no_main]

use bt_core::addr::is_dialable;
use bt_tracker::announce::{AnnounceFailure, INTERVAL_MAX, INTERVAL_MIN};
use bt_tracker::http::encode::PeersForm;
use bt_tracker::http::{TRACKER_ID_MAX_BYTES, decode, encode, query, url};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;

/// Longest text that may come out: 1 KiB, and the sign that it was cut.
const TEXT_MAX_BYTES: usize = 1024 + 3;

fuzz_target!(|bytes: &[u8]| {
    announce(bytes);
    scrape(bytes);
    asked(bytes);
});

fn announce(bytes: &[u8]) {
    let response = match decode::announce(bytes) {
        Ok(response) => response,
        Err(failure) => return failed(&failure),
    };
    assert!((INTERVAL_MIN..=INTERVAL_MAX).contains(&response.interval));
    assert!(
        response
            .min_interval
            .is_none_or(|min| min <= response.interval)
    );
    assert!(
        response
            .tracker_id
            .as_ref()
            .is_none_or(|id| id.len() <= TRACKER_ID_MAX_BYTES)
    );
    response.warning.as_deref().into_iter().for_each(shown);
    assert!(response.peers.len() <= 2 * decode::PEERS_MAX);
    assert!(response.peers.iter().all(|peer| is_dialable(peer.addr)));
    let distinct: BTreeSet<_> = response.peers.iter().map(|peer| peer.addr).collect();
    assert_eq!(distinct.len(), response.peers.len());

    let mut written = Vec::new();
    encode::announce(&response, PeersForm::Dictionaries, &mut written);
    let mut again = decode::announce(&written).expect("what we write can be read");
    // One list takes fewer than the two that there were.
    if response.peers.len() <= decode::PEERS_MAX {
        // Escapes are text of their own the second time, but harmless already, so only cutting can change them.
        again.warning.clone_from(&response.warning);
        assert_eq!(again, response);
    }
}

fn scrape(bytes: &[u8]) {
    let response = match decode::scrape(bytes) {
        Ok(response) => response,
        Err(failure) => return failed(&failure),
    };
    assert!(
        response
            .torrents
            .is_sorted_by(|a, b| a.info_hash < b.info_hash)
    );
    response
        .torrents
        .iter()
        .filter_map(|torrent| torrent.name.as_deref())
        .for_each(shown);
    let mut written = Vec::new();
    encode::scrape(&response, &mut written);
    let again = decode::scrape(&written).expect("what we write can be read");
    assert_eq!(again.torrents.len(), response.torrents.len());
}

fn asked(bytes: &[u8]) {
    let _ = query::scrape(bytes);
    if let Ok(request) = query::announce(bytes) {
        let url = url::announce("http://t/announce", &request);
        let (_, sent) = url.split_once('?').expect("a query");
        let mut again = query::announce(sent.as_bytes()).expect("what we ask is understood");
        // It asks for compact peers where nothing was said.
        again.compact = request.compact;
        assert_eq!(again, request);
    }
    if let Ok(text) = core::str::from_utf8(bytes) {
        let _ = url::scrape_of(text);
    }
}

fn failed(failure: &AnnounceFailure) {
    let (AnnounceFailure::Refused { reason: text, .. }
    | AnnounceFailure::Unreachable { message: text, .. }) = failure;
    shown(text);
}

fn shown(text: &str) {
    assert!(text.len() <= TEXT_MAX_BYTES && !text.contains(char::is_control));
}
