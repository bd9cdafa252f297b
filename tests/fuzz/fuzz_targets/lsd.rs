//! Datagrams of local discovery, as any bytes: never a panic, what is read is bounded, what is written again reads as the
//! same, and who hears it knows the sender and nobody else.
#![no_main]

use bt_core::{InfoHash, Time};
use bt_peer::LocalDiscovery;
use bt_wire::LocalAnnounce;
use bt_wire::lsd::{COOKIE_MAX_BYTES, DATAGRAM_MAX_BYTES, GROUP_V4, INFO_HASHES_MAX, PORT};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let from = [10, 0, 0, 1].into();
    let mut discovery = LocalDiscovery::new(6881, 1);
    discovery.enter(Time::ZERO, InfoHash([0x11; 20]));
    let Ok(read) = LocalAnnounce::decode(bytes) else {
        assert!(discovery.heard(Time::ZERO, from, bytes).is_empty());
        return;
    };
    assert!(read.port != 0 && read.cookie.len() <= COOKIE_MAX_BYTES);
    assert!((1..=INFO_HASHES_MAX).contains(&read.info_hashes.len()));
    let found = discovery.heard(Time::ZERO, from, bytes);
    assert!(found.len() <= 1 && found.iter().all(|(_, addr)| addr.ip() == from));

    let written = read.encode((GROUP_V4, PORT).into());
    assert!(written.len() <= DATAGRAM_MAX_BYTES);
    let again = LocalAnnounce::decode(&written).expect("what we write can be read");
    assert_eq!((again.port, &again.cookie), (read.port, &read.cookie));
    assert!(read.info_hashes.starts_with(&again.info_hashes));
});
