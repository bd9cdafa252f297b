//! What UDP trackers are asked and what they answer, as any bytes: never a panic, what comes out is within its bounds,
//! and what is written again reads as the same.
#![no_main]

use bt_core::addr::is_dialable;
use bt_tracker::announce::{INTERVAL_MAX, INTERVAL_MIN};
use bt_tracker::udp::options::URL_DATA_MAX_BYTES;
use bt_tracker::udp::request::Request;
use bt_tracker::udp::response::Body;
use bt_tracker::udp::{Family, PACKET_MAX_BYTES, SCRAPE_MAX, request, response};
use libfuzzer_sys::fuzz_target;

/// Longest text that may come out: 1 KiB, and the sign that it was cut.
const TEXT_MAX_BYTES: usize = 1024 + 3;

fuzz_target!(|bytes: &[u8]| {
    asked(bytes);
    answered(bytes, Family::V4);
    answered(bytes, Family::V6);
});

fn asked(bytes: &[u8]) {
    let Ok(read) = request::read(bytes) else {
        return;
    };
    let mut written = Vec::new();
    match &read {
        Request::Connect { transaction_id } => request::connect(*transaction_id, &mut written),
        Request::Announce {
            connection_id,
            transaction_id,
            announce,
            url_data,
        } => {
            let url_data = url_data.to_vec();
            let Ok(text) = core::str::from_utf8(&url_data) else {
                return;
            };
            if text.len() > URL_DATA_MAX_BYTES {
                return;
            }
            request::announce(*connection_id, *transaction_id, announce, text, &mut written);
            let Ok(Request::Announce {
                announce: again,
                url_data: url_again,
                ..
            }) = request::read(&written)
            else {
                panic!("what we write can be read");
            };
            assert_eq!((&again, url_again.to_vec()), (announce, url_data));
            return;
        }
        Request::Scrape {
            connection_id,
            transaction_id,
            info_hashes,
        } => {
            let all: Vec<_> = info_hashes.iter().collect();
            assert!((1..=SCRAPE_MAX).contains(&all.len()));
            request::scrape(*connection_id, *transaction_id, &all, &mut written);
        }
    }
    assert_eq!(request::read(&written), Ok(read));
}

fn answered(bytes: &[u8], family: Family) {
    let Ok(read) = response::read(bytes, family) else {
        return;
    };
    match read.body {
        Body::Connect { .. } => {}
        Body::Announce(answer) => {
            assert!((INTERVAL_MIN..=INTERVAL_MAX).contains(&answer.interval));
            assert!(answer.peers.len() <= PACKET_MAX_BYTES / family.peer_bytes());
            assert!(answer.peers.iter().all(|peer| is_dialable(peer.addr)));
        }
        Body::Scrape(entries) => assert!(entries.len() <= SCRAPE_MAX),
        Body::Error(text) => {
            assert!(text.len() <= TEXT_MAX_BYTES && !text.contains(char::is_control));
        }
    }
}
