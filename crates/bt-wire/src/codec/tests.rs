//! Rows for each message, each limit and each fault, and the same outcome in any split.

use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::collections::BTreeSet;
use std::mem::discriminant;

const PIECES_COUNT: u32 = 20;

fn decoder() -> Decoder {
    Decoder::new(Limits::for_torrent(PIECES_COUNT))
}

fn encode(messages: &[Message]) -> BytesMut {
    let mut bytes = BytesMut::new();
    for message in messages {
        message.encode_into(&mut bytes);
    }
    bytes
}

/// Feeds the parts one after another: the messages before the end or the error, and the error.
fn decode(parts: &[&[u8]]) -> (Vec<Message>, Option<WireError>) {
    let (mut decoder, mut buffer, mut messages) = (decoder(), BytesMut::new(), Vec::new());
    for part in parts {
        buffer.extend_from_slice(part);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.decode(&mut buffer), Err(error), "asked again");
                    return (messages, Some(error));
                }
            }
        }
    }
    (messages, None)
}

/// The outcome must be the same for one part, for two with the cut anywhere, and for single bytes.
fn check(bytes: &[u8], messages: &[Message], error: Option<WireError>) {
    let expected = (messages.to_vec(), error);
    assert_eq!(decode(&[bytes]), expected, "whole: {:?}", &bytes[..8]);
    let single: Vec<_> = bytes.chunks(1).collect();
    assert_eq!(decode(&single), expected, "single bytes");
    for cut in 0..bytes.len().min(64) {
        let (head, tail) = bytes.split_at(cut);
        assert_eq!(decode(&[head, tail]), expected, "cut at {cut}");
    }
}

fn frame(length_bytes: u32, rest: &[u8]) -> Vec<u8> {
    [&length_bytes.to_be_bytes(), rest].concat()
}

#[test]
fn layouts_on_the_wire() {
    // BEP 3 "peer messages", BEP 5 "port", BEP 6, BEP 10 "extension protocol".
    let block = BlockAddress {
        piece: 1,
        begin: 0x0002_0003,
        length: 0x4000,
    };
    let data = Bytes::from_static(b"xyz");
    let rows: [(Message, &[u8]); 17] = [
        (Message::KeepAlive, b"\0\0\0\0"),
        (Message::Choke, b"\0\0\0\x01\0"),
        (Message::Unchoke, b"\0\0\0\x01\x01"),
        (Message::Interested, b"\0\0\0\x01\x02"),
        (Message::NotInterested, b"\0\0\0\x01\x03"),
        (
            Message::Have { piece: 0x0102 },
            b"\0\0\0\x05\x04\0\0\x01\x02",
        ),
        (Message::Bitfield(data.clone()), b"\0\0\0\x04\x05xyz"),
        (
            Message::Request(block),
            b"\0\0\0\x0d\x06\0\0\0\x01\0\x02\0\x03\0\0\x40\0",
        ),
        (
            Message::Piece {
                piece: 1,
                begin: 0x4000,
                data: data.clone(),
            },
            b"\0\0\0\x0c\x07\0\0\0\x01\0\0\x40\0xyz",
        ),
        (
            Message::Cancel(block),
            b"\0\0\0\x0d\x08\0\0\0\x01\0\x02\0\x03\0\0\x40\0",
        ),
        (Message::Port(6881), b"\0\0\0\x03\x09\x1a\xe1"),
        (
            Message::SuggestPiece { piece: 5 },
            b"\0\0\0\x05\x0d\0\0\0\x05",
        ),
        (Message::HaveAll, b"\0\0\0\x01\x0e"),
        (Message::HaveNone, b"\0\0\0\x01\x0f"),
        (
            Message::RejectRequest(block),
            b"\0\0\0\x0d\x10\0\0\0\x01\0\x02\0\x03\0\0\x40\0",
        ),
        (
            Message::AllowedFast { piece: 5 },
            b"\0\0\0\x05\x11\0\0\0\x05",
        ),
        (
            Message::Extended {
                id: 3,
                payload: data,
            },
            b"\0\0\0\x05\x14\x03xyz",
        ),
    ];
    let kinds: BTreeSet<_> = rows
        .iter()
        .map(|(m, _)| format!("{:?}", discriminant(m)))
        .collect();
    assert_eq!(kinds.len(), VARIANTS, "a row for each message");
    for (message, bytes) in rows {
        assert_eq!(encode(std::slice::from_ref(&message)), bytes, "{message:?}");
        check(bytes, &[message], None);
    }
}

#[test]
fn a_block_can_be_written_from_where_it_lies() {
    let data = Bytes::from_static(b"block");
    let message = Message::Piece {
        piece: 7,
        begin: 16_384,
        data: data.clone(),
    };
    let mut head = BytesMut::new();
    let payload = message.encode_head_into(&mut head);
    assert_eq!(payload.as_ptr(), data.as_ptr());
    assert_eq!(head, crate::message::piece_header(7, 16_384, 5).as_slice());
    assert_eq!([&head, payload].concat(), encode(&[message]));
}

#[test]
fn a_block_shares_the_buffer_it_came_in() {
    let mut buffer = encode(&[Message::Piece {
        piece: 1,
        begin: 2,
        data: Bytes::from_static(b"payload"),
    }]);
    let expected = buffer[13..].as_ptr();
    let message = decoder().decode(&mut buffer);
    let Ok(Some(Message::Piece { data, .. })) = message else {
        panic!("{message:?}");
    };
    assert_eq!(data.as_ptr(), expected);
}

#[test]
fn a_length_no_message_has_is_refused_by_its_four_bytes() {
    // FAULTS 37.
    let max_bytes = 1 + EXTENDED_BYTES_MAX;
    for length_bytes in [u32::MAX, 0x7fff_ffff, 16 << 20, max_bytes + 1] {
        let error = WireError::FrameTooLong {
            length_bytes,
            max_bytes,
        };
        check(&frame(length_bytes, b""), &[], Some(error));
        let bytes = [&encode(&[Message::Choke]), &*frame(length_bytes, b"\x14")].concat();
        check(&bytes, &[Message::Choke], Some(error));
    }
    check(&frame(max_bytes, b"\x14\0"), &[], None);
}

#[test]
fn a_payload_that_does_not_fit_its_id_is_refused_by_its_id() {
    // FAULTS 45, 50 (bitfield short, long, empty, 1 MiB), 62. (id, payload lengths refused, range allowed)
    let bitfield = PIECES_COUNT.div_ceil(8);
    let rows: [(u8, &[u32], RangeInclusive<u32>); 16] = [
        (id::CHOKE, &[1, 4], 0..=0),
        (id::UNCHOKE, &[1, 1000], 0..=0),
        (id::INTERESTED, &[1, 4], 0..=0),
        (id::NOT_INTERESTED, &[1, 4], 0..=0),
        (id::HAVE, &[0, 3, 5, 8], 4..=4),
        (id::BITFIELD, &[0, 2, 4, 1 << 20], bitfield..=bitfield),
        (id::REQUEST, &[0, 8, 11, 13, 16], 12..=12),
        (id::PIECE, &[0, 7, 8 + 16_385, 1 << 20], 8..=8 + 16_384),
        (id::CANCEL, &[0, 11, 13], 12..=12),
        (id::PORT, &[0, 1, 3, 4], 2..=2),
        (id::SUGGEST_PIECE, &[0, 3, 5], 4..=4),
        (id::HAVE_ALL, &[1, 3], 0..=0),
        (id::HAVE_NONE, &[1, 3], 0..=0),
        (id::REJECT_REQUEST, &[0, 11, 13], 12..=12),
        (id::ALLOWED_FAST, &[0, 3, 5], 4..=4),
        (id::EXTENDED, &[0], 1..=EXTENDED_BYTES_MAX),
    ];
    for (id, refused, allowed) in rows {
        for &length_bytes in refused {
            let error = WireError::PayloadLength {
                id,
                length_bytes,
                min_bytes: *allowed.start(),
                max_bytes: *allowed.end(),
            };
            check(&frame(1 + length_bytes, &[id]), &[], Some(error));
        }
        for length_bytes in [*allowed.start(), *allowed.end()] {
            check(&frame(1 + length_bytes, &[]), &[], None);
            let payload = vec![0; length_bytes as usize];
            let (messages, error) = decode(&[&frame(1 + length_bytes, &[id]), &payload]);
            assert_eq!(
                (messages.len(), error),
                (1, None),
                "id {id}, {length_bytes}"
            );
        }
    }
}

#[test]
fn faults_46_64_unknown_ids_are_thrown_away() {
    // FAULTS 46, and 64: the v2 messages 21-23 mean nothing on a v1 torrent.
    let known = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 20];
    for id in (0..=u8::MAX).filter(|id| !known.contains(id)) {
        for payload in [&b""[..], b"\0", b"\0\0\0\x01\0 looks like a message"] {
            let length_bytes = u32::try_from(1 + payload.len()).unwrap();
            let unknown = [&frame(length_bytes, &[id]), payload].concat();
            let bytes = [&unknown, &unknown, &*encode(&[Message::HaveAll])].concat();
            check(&bytes, &[Message::HaveAll], None);
        }
    }
}

#[test]
fn a_long_unknown_message_never_fills_the_buffer() {
    let (mut decoder, mut buffer) = (decoder(), BytesMut::new());
    buffer.extend_from_slice(&frame(1 + EXTENDED_BYTES_MAX, &[200]));
    for _ in 0..EXTENDED_BYTES_MAX / 1024 {
        assert_eq!(decoder.decode(&mut buffer), Ok(None));
        assert!(buffer.is_empty());
        buffer.extend_from_slice(&[9; 1024]);
    }
    Message::Unchoke.encode_into(&mut buffer);
    assert_eq!(decoder.decode(&mut buffer), Ok(Some(Message::Unchoke)));
}

#[test]
fn a_cut_stream_waits_and_says_for_how_much() {
    // FAULTS 47: a message that ends in the middle is no error; the shell sees the end of the stream.
    let bytes = encode(&[Message::Piece {
        piece: 0,
        begin: 0,
        data: Bytes::from(vec![1; 100]),
    }]);
    for end in 0..bytes.len() {
        let (mut decoder, mut buffer) = (decoder(), BytesMut::from(&bytes[..end]));
        assert_eq!(decoder.decode(&mut buffer), Ok(None));
        let expected = if end < 4 { 4 - end } else { bytes.len() - end };
        assert_eq!(decoder.missing_bytes(&buffer), expected, "{end}");
    }
    let (mut decoder, mut buffer) = (decoder(), BytesMut::from(&frame(31, &[99, 1])[..]));
    assert_eq!(decoder.decode(&mut buffer), Ok(None));
    assert_eq!(decoder.missing_bytes(&buffer), 29 + 4);
}

#[test]
fn numbers_out_of_range_are_for_the_layout_to_refuse() {
    // FAULTS 51, 73: as the wire has them.
    let block = BlockAddress {
        piece: u32::MAX,
        begin: u32::MAX,
        length: 0,
    };
    let messages = [
        Message::Have { piece: u32::MAX },
        Message::Have { piece: 1 << 31 },
        Message::Request(block),
        Message::Request(BlockAddress {
            length: u32::MAX,
            ..block
        }),
        Message::AllowedFast { piece: u32::MAX },
    ];
    check(&encode(&messages), &messages, None);
}

#[test]
fn many_keep_alives_are_many_messages() {
    // FAULTS 49.
    let (mut decoder, mut buffer) = (decoder(), BytesMut::zeroed(4_000_000));
    let count = std::iter::from_fn(|| decoder.decode(&mut buffer).unwrap()).count();
    assert_eq!((count, buffer.len()), (1_000_000, 0));
}

/// How many messages there are; [`layouts_on_the_wire`] and the generator must know each.
const VARIANTS: usize = 17;

fn block() -> impl Strategy<Value = BlockAddress> {
    any::<(u32, u32, u32)>().prop_map(|(piece, begin, length)| BlockAddress {
        piece,
        begin,
        length,
    })
}

fn message() -> impl Strategy<Value = Message> {
    let bytes = |max: usize| prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from);
    let bits = prop::collection::vec(any::<u8>(), PIECES_COUNT.div_ceil(8) as usize);
    prop_oneof![
        Just(Message::KeepAlive),
        Just(Message::Choke),
        Just(Message::Unchoke),
        Just(Message::Interested),
        Just(Message::NotInterested),
        any::<u32>().prop_map(|piece| Message::Have { piece }),
        bits.prop_map(|bits| Message::Bitfield(Bytes::from(bits))),
        block().prop_map(Message::Request),
        (any::<u32>(), any::<u32>(), bytes(16_385))
            .prop_map(|(piece, begin, data)| { Message::Piece { piece, begin, data } }),
        block().prop_map(Message::Cancel),
        any::<u16>().prop_map(Message::Port),
        any::<u32>().prop_map(|piece| Message::SuggestPiece { piece }),
        Just(Message::HaveAll),
        Just(Message::HaveNone),
        block().prop_map(Message::RejectRequest),
        any::<u32>().prop_map(|piece| Message::AllowedFast { piece }),
        (any::<u8>(), bytes(2_000)).prop_map(|(id, payload)| Message::Extended { id, payload }),
    ]
}

#[test]
fn the_generator_reaches_every_message() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let kinds: BTreeSet<_> = (0..1_000)
        .map(|_| message().new_tree(&mut runner).unwrap().current())
        .map(|message| format!("{:?}", discriminant(&message)))
        .collect();
    assert_eq!(kinds.len(), VARIANTS);
}

proptest! {
    #[test]
    fn what_is_sent_arrives_whatever_the_cuts(
        messages in prop::collection::vec(message(), 1..20),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let bytes = encode(&messages);
        let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        ends.extend([0, bytes.len()]);
        ends.sort_unstable();
        let parts: Vec<_> = ends.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(decode(&parts), (messages, None));
    }

    #[test]
    fn damaged_sessions_are_the_same_in_any_split(
        messages in prop::collection::vec(message(), 1..10),
        damage in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..10),
        cut in any::<prop::sample::Index>(),
    ) {
        // FAULTS 52.
        let mut bytes = encode(&messages);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let (head, tail) = bytes.split_at(cut.index(bytes.len()));
        prop_assert_eq!(decode(&[head, tail]), decode(&[&bytes]));
    }
}
