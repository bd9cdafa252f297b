//! The message decoder on any bytes, in any split: never a panic, the same messages whatever the cuts, and what is
//! written again reads as the same.
#![no_main]

use bt_wire::{Decoder, ExtensionHandshake, Limits, Message, WireError};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, Vec<u8>, &[u8])| {
    let (pieces_count, cuts, stream) = input;
    let limits = Limits::for_torrent(pieces_count.into());
    let whole = decode(limits, &[stream]);

    let (mut parts, mut rest) = (Vec::new(), stream);
    for cut in cuts {
        let (part, behind) = rest.split_at(rest.len().min(cut.into()));
        parts.push(part);
        rest = behind;
    }
    parts.push(rest);
    assert_eq!(decode(limits, &parts), whole);

    let mut written = BytesMut::new();
    for message in &whole.0 {
        message.encode_into(&mut written);
        if let Message::Extended { id: 0, payload } = message
            && let Ok(handshake) = ExtensionHandshake::decode(payload)
        {
            assert_eq!(
                ExtensionHandshake::decode(&handshake.encode()),
                Ok(handshake)
            );
        }
    }
    assert_eq!(decode(limits, &[&written]), (whole.0, None));
});

fn decode(limits: Limits, parts: &[&[u8]]) -> (Vec<Message>, Option<WireError>) {
    let (mut decoder, mut buffer, mut messages) =
        (Decoder::new(limits), BytesMut::new(), Vec::new());
    for part in parts {
        buffer.extend_from_slice(part);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
        assert!(decoder.missing_bytes(&buffer) > 0);
    }
    (messages, None)
}
