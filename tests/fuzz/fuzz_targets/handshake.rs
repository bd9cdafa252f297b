//! The handshake on any bytes: never a panic, no byte too early or too late, and what is written again is the same.
#![no_main]

use bt_wire::Handshake;
use bt_wire::client::client_name;
use bt_wire::handshake::{HANDSHAKE_BYTES, HANDSHAKE_PREFIX_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let prefix = Handshake::prefix(bytes);
    assert_eq!(
        matches!(prefix, Ok(Some(_))),
        prefix.is_ok() && bytes.len() >= HANDSHAKE_PREFIX_BYTES
    );
    match Handshake::parse(bytes) {
        Ok(None) => assert!(bytes.len() < HANDSHAKE_BYTES),
        Ok(Some(handshake)) => {
            assert_eq!(
                Some(handshake.encode().as_slice()),
                bytes.get(..HANDSHAKE_BYTES)
            );
            let name = client_name(&handshake.peer_id);
            assert!(!name.is_some_and(|name| name.contains(char::is_control)));
        }
        Err(error) => assert_eq!(prefix.err(), Some(error)),
    }
});
