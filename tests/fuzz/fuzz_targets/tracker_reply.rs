//! What trackers reply and clients ask, and what name servers say of trackers, as any bytes: never a panic, what comes out is within its bounds, and what is
//! written again reads as the same.
#![no_main]

use bt_core::addr::is_dialable;
use bt_tracker::announce::{AnnounceFailure, INTERVAL_MAX, INTERVAL_MIN};
use bt_tracker::dns::message::{Answer, Question, RECORDS_MAX};
use bt_tracker::dns::{ENDPOINTS_MAX, Preferences, host_of};
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
    dns(bytes);
});

/// The bytes stand behind the question of an answer, and are a record of their own.
fn dns(bytes: &[u8]) {
    let question = Question::new("tracker.example", 0).expect("it is a name");
    let _ = question.read(bytes);
    let mut packet = question.packet();
    let end = packet.len() - 11;
    packet.truncate(end);
    packet.extend_from_slice(bytes);
    let (count, flags) = ([0, bytes.first().copied().unwrap_or(0)], [0x81, 0x80]);
    for (at, word) in [(2, flags), (6, count), (10, [0, 0])] {
        packet[at..at + 2].copy_from_slice(&word);
    }
    if let Some(Answer::Records { texts, .. }) = question.read(&packet) {
        assert!(texts.len() <= RECORDS_MAX);
    }
    let mut record = b"BITTORRENT ".to_vec();
    record.extend_from_slice(bytes);
    let preferences = Preferences::read([record.as_slice()]).expect("it is about trackers");
    let urls = preferences.apply("udp://tracker.example:7/a");
    let urls = urls.unwrap_or_default();
    assert!(urls.len() <= ENDPOINTS_MAX);
    let ours = |url: &String| host_of(url) == Some("tracker.example");
    assert!(urls.iter().all(ours));
}

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
