//! The payloads of extended messages, as any bytes: the extension handshake, `ut_metadata` and `ut_pex`. Never a panic,
//! what is read is bounded, and what is written again reads as the same.
#![no_main]

use bt_core::addr::is_dialable;
use bt_wire::extension::{CLIENT_CHARS_MAX, EXTENSIONS_MAX, METADATA_BYTES_MAX, NAME_BYTES_MAX};
use bt_wire::pex::ADDED_MAX;
use bt_wire::{ExtensionHandshake, MetadataMessage, PexMessage};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    handshake(bytes);
    metadata(&Bytes::copy_from_slice(bytes));
    peers(bytes);
});

fn handshake(bytes: &[u8]) {
    let Ok(read) = ExtensionHandshake::decode(bytes) else {
        return;
    };
    assert!(read.extensions.len() <= EXTENSIONS_MAX);
    assert!(
        read.extensions
            .keys()
            .all(|name| name.len() <= NAME_BYTES_MAX)
    );
    let client = read.client.iter().flat_map(|client| client.chars());
    assert!(client.clone().count() <= CLIENT_CHARS_MAX && !client.clone().any(char::is_control));
    assert!(
        read.metadata_bytes
            .is_none_or(|length| (1..=METADATA_BYTES_MAX).contains(&length))
    );
    assert!(read.listen_port != Some(0) && read.requests_max != Some(0));
    assert_eq!(ExtensionHandshake::decode(&read.encode()), Ok(read));
}

fn metadata(bytes: &Bytes) {
    let Ok(Some(read)) = MetadataMessage::decode(bytes) else {
        return;
    };
    if let MetadataMessage::Data { data, .. } = &read {
        assert!(data.len() < bytes.len());
    }
    assert_eq!(MetadataMessage::decode(&read.encode()), Ok(Some(read)));
}

fn peers(bytes: &[u8]) {
    let Ok(read) = PexMessage::decode(bytes) else {
        return;
    };
    assert!(read.added.len() <= 2 * ADDED_MAX && read.dropped.len() <= 2 * ADDED_MAX);
    assert!(read.added.iter().all(|peer| is_dialable(peer.addr)));
    assert_eq!(PexMessage::decode(&read.encode()), Ok(read));
}
