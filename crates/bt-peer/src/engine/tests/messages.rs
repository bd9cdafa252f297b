//! What a peer may say when, and what closes its connection (BEP 3, BEP 6; FAULTS 43–51, 62, 63).

use super::lone::*;
use crate::peers::Source;
use bt_core::Bitfield;
use bt_wire::extension::ExtensionHandshake;
use bt_wire::message::BlockAddress;
use bt_wire::{Message, Reserved};
use bytes::Bytes;

const PIECES: u32 = 12;

fn bits(bytes: &'static [u8]) -> Message {
    Message::Bitfield(Bytes::from_static(bytes))
}

/// Plays the messages to a leecher that has piece 0; true if the connection is closed as a violation.
fn closes(reserved: Reserved, messages: &[Message]) -> bool {
    let mut have = Bitfield::new(PIECES);
    have.set(layout(PIECES).piece(0).unwrap());
    let mut lone = Lone::new(PIECES, have);
    let conn = lone.open(1, reserved);
    for message in messages {
        lone.receive(conn, message.clone());
    }
    let closed = lone.close_reason(conn).is_some();
    assert_eq!(closed, lone.is_violation(conn), "{messages:?}");
    assert_eq!(lone.engine.stats(lone.now).peers, usize::from(!closed));
    closed
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of rows")]
fn faults_62_63_what_is_a_violation() {
    use Message::*;
    let have = |piece| Have { piece };
    let asked = |piece, begin, length| {
        Request(BlockAddress {
            piece,
            begin,
            length,
        })
    };
    // (the peer speaks the fast extension, messages, closed)
    let rows: Vec<(Reserved, Vec<Message>, bool)> = vec![
        // BEP 3, "bitfield": the length must fit, spare bits must be zero.
        (PLAIN, vec![bits(&[0xff, 0xf0])], false),
        (PLAIN, vec![bits(&[0xff, 0xf8])], true),
        (PLAIN, vec![bits(&[0xff])], true),
        (PLAIN, vec![bits(&[0xff, 0xf0, 0])], true),
        (PLAIN, vec![bits(&[])], true),
        // Only as the first message; but the extension handshake comes before it in practice.
        (PLAIN, vec![bits(&[0, 0]), bits(&[0, 0])], true),
        (PLAIN, vec![have(1), bits(&[0, 0])], true),
        (PLAIN, vec![Interested, bits(&[0, 0])], true),
        (PLAIN, vec![KeepAlive, bits(&[0, 0])], false),
        (PLAIN, vec![extended(), Port(6_881), bits(&[0, 0])], false),
        // "have" out of range (FAULTS 51); repeated is harmless.
        (PLAIN, vec![have(11), have(11)], false),
        (PLAIN, vec![have(12)], true),
        (PLAIN, vec![have(u32::MAX)], true),
        // BEP 6: messages of the fast extension without its bit.
        (PLAIN, vec![HaveAll], true),
        (PLAIN, vec![HaveNone], true),
        (PLAIN, vec![SuggestPiece { piece: 1 }], true),
        (PLAIN, vec![AllowedFast { piece: 1 }], true),
        (
            PLAIN,
            vec![RejectRequest(BlockAddress {
                piece: 0,
                begin: 0,
                length: 1,
            })],
            true,
        ),
        (FAST, vec![HaveAll], false),
        (FAST, vec![HaveNone], false),
        (FAST, vec![bits(&[0xff, 0xf0])], false),
        (FAST, vec![HaveAll, HaveNone], true),
        (FAST, vec![HaveAll, bits(&[0, 0])], true),
        // News by another word than the haves it stands for: as aria2 says that it is complete.
        (FAST, vec![HaveNone, HaveAll], false),
        (FAST, vec![bits(&[0, 0]), HaveAll], false),
        (FAST, vec![bits(&[0xff, 0xf0]), HaveAll], true),
        (FAST, vec![HaveNone, HaveAll, HaveAll], true),
        (
            FAST,
            vec![AllowedFast { piece: 1 }, SuggestPiece { piece: 2 }, HaveAll],
            false,
        ),
        // Hints out of range are forgiven a few times (FAULTS 62).
        (
            FAST,
            vec![
                HaveAll,
                SuggestPiece { piece: 12 },
                AllowedFast { piece: 12 },
            ],
            false,
        ),
        (FAST, vec![SuggestPiece { piece: 12 }; 50], true),
        (FAST, vec![AllowedFast { piece: u32::MAX }; 50], true),
        // All reserved bits set (FAULTS 43): what we speak is used, the rest ignored.
        (Reserved([0xff; 8]), vec![HaveAll], false),
        // Requests that cannot be (FAULTS 73): rejected under the fast extension, else the end.
        (PLAIN, vec![asked(0, 0, 0)], true),
        (PLAIN, vec![asked(0, 0, PIECE_BYTES + 1)], true),
        (PLAIN, vec![asked(0, PIECE_BYTES, 1)], true),
        (PLAIN, vec![asked(0, u32::MAX, 2)], true),
        (PLAIN, vec![asked(PIECES, 0, 16_384)], true),
        (FAST, vec![HaveNone, asked(PIECES, 0, 16_384)], false),
        (FAST, vec![asked(0, 0, 0); 50], true),
        // A piece we never announced: a race cannot explain it for long.
        (PLAIN, vec![asked(1, 0, 16_384)], false),
        (PLAIN, vec![asked(1, 0, 16_384); 50], true),
        // Choked and never unchoked, requests are ignored, a flood of them is not (FAULTS 72).
        (PLAIN, vec![asked(0, 0, 16_384); 1_000], false),
        (PLAIN, vec![asked(0, 0, 16_384); 4_000], true),
        (
            FAST,
            [vec![HaveAll], vec![asked(0, 0, 16_384); 4_000]].concat(),
            true,
        ),
        // Cancels and rejects of nothing.
        (
            PLAIN,
            vec![Cancel(BlockAddress {
                piece: 99,
                begin: 9,
                length: 9,
            })],
            false,
        ),
        (
            FAST,
            vec![RejectRequest(BlockAddress {
                piece: 0,
                begin: 0,
                length: 16_384,
            })],
            false,
        ),
        (
            FAST,
            vec![
                RejectRequest(BlockAddress {
                    piece: 0,
                    begin: 0,
                    length: 16_384
                });
                50
            ],
            true,
        ),
        // Blocks nobody asked for (FAULTS 69): a few may be races.
        (PLAIN, vec![block_of(1, 0, 16_384)], false),
        (PLAIN, vec![block_of(1, 0, 16_384); 50], true),
        (PLAIN, vec![block_of(1, 7, 16_384); 50], true),
        (PLAIN, vec![block_of(1, 0, 0); 50], true),
        (PLAIN, vec![block_of(99, 0, 16_384); 50], true),
        // Flags may be repeated.
        (
            PLAIN,
            vec![
                Choke,
                Choke,
                Unchoke,
                Unchoke,
                Interested,
                Interested,
                NotInterested,
            ],
            false,
        ),
    ];
    for (reserved, messages, expected) in rows {
        assert_eq!(
            closes(reserved, &messages),
            expected,
            "{reserved:?} {:?}",
            &messages[..1]
        );
    }
}

fn extended() -> Message {
    Message::Extended {
        id: 9,
        payload: Bytes::new(),
    }
}

fn block_of(piece: u32, begin: u32, length: usize) -> Message {
    Message::Piece {
        piece,
        begin,
        data: Bytes::from(vec![0; length]),
    }
}

#[test]
fn the_first_message_says_what_we_have() {
    // BEP 3: the bitfield may be left out with nothing; BEP 6: exactly one of the three.
    let rows = [
        (PLAIN, 0, vec![]),
        (PLAIN, 1, vec![bits(&[0x80, 0])]),
        (PLAIN, 12, vec![bits(&[0xff, 0xf0])]),
        (FAST, 0, vec![Message::HaveNone]),
        (FAST, 1, vec![bits(&[0x80, 0])]),
        (FAST, 12, vec![Message::HaveAll]),
    ];
    for (reserved, pieces, expected) in rows {
        let mut have = Bitfield::new(PIECES);
        for piece in layout(PIECES).pieces().take(pieces) {
            have.set(piece);
        }
        let mut lone = Lone::new(PIECES, have);
        let conn = lone.open(1, reserved);
        assert_eq!(lone.sent(conn), expected, "{reserved:?} {pieces}");
    }
}

#[test]
fn interest_is_told_at_once_and_only_when_it_changes() {
    let mut have = Bitfield::new(PIECES);
    have.set(layout(PIECES).piece(0).unwrap());
    let mut lone = Lone::new(PIECES, have);
    let conn = lone.open(1, PLAIN);
    lone.sent(conn);
    lone.receive(conn, Message::Have { piece: 0 });
    assert_eq!(lone.sent(conn), [], "we have that one");
    lone.receive(conn, Message::Have { piece: 1 });
    assert_eq!(
        lone.sent(conn),
        [Message::Interested],
        "BEP 3: also while choked"
    );
    lone.receive(conn, Message::Have { piece: 2 });
    lone.receive(conn, Message::Have { piece: 2 });
    assert_eq!(lone.sent(conn), []);
    // The user no longer wants these.
    lone.handle(crate::Input::Command(crate::Command::Want(Bitfield::new(
        PIECES,
    ))));
    assert_eq!(lone.sent(conn), [Message::NotInterested]);
    lone.handle(crate::Input::Command(crate::Command::Want(Bitfield::full(
        PIECES,
    ))));
    assert_eq!(lone.sent(conn), [Message::Interested]);
}

#[test]
fn the_extension_handshake_is_exchanged() {
    // BEP 10; FAULTS 56–58: what makes no sense is ignored.
    let mut lone = Lone::leecher(PIECES);
    let both = FAST.with_extension_protocol();
    let conn = lone.open(1, both);
    let sent = lone.sent(conn);
    let [Message::HaveNone, Message::Extended { id: 0, payload }] = &sent[..] else {
        panic!("{sent:?}");
    };
    let ours = ExtensionHandshake::decode(payload).unwrap();
    assert_eq!((ours.requests_max, ours.upload_only), (Some(2_000), None));
    assert_eq!(ours.your_ip, Some([10, 0, 0, 1].into()));
    let plain = lone.open(2, FAST);
    assert_eq!(
        lone.sent(plain),
        [Message::HaveNone],
        "only to those who speak it"
    );
    let handshake = |payload: Vec<u8>| Message::Extended {
        id: 0,
        payload: payload.into(),
    };
    let theirs = ExtensionHandshake {
        requests_max: Some(3),
        listen_port: Some(7_777),
        ..ExtensionHandshake::default()
    };
    lone.receive(conn, handshake(theirs.encode()));
    lone.receive(conn, Message::HaveAll);
    lone.receive(conn, Message::Unchoke);
    assert_eq!(lone.requests(conn).len(), 3, "its queue is respected");
    // We know now where it listens, so that a tracker's word of that address leads to no second connection.
    let listens = ([10, 0, 0, 1], 7_777).into();
    lone.handle(crate::Input::PeersFound(Source::User, vec![listens]));
    assert_eq!(lone.dials(), []);
    lone.receive(conn, handshake(b"garbage".to_vec()));
    lone.receive(conn, handshake(b"d4:reqqi-1ee".to_vec()));
    assert_eq!(lone.close_reason(conn), None);
    for _ in 0..50 {
        lone.receive(conn, handshake(b"le".to_vec()));
    }
    assert!(lone.is_violation(conn));
}

#[test]
fn a_partial_seed_is_redundant_to_a_seed() {
    // BEP 21, "upload only".
    let mut lone = Lone::seeder(PIECES);
    let conn = lone.open(1, FAST.with_extension_protocol());
    lone.receive(conn, bits(&[0x80, 0]));
    assert_eq!(lone.close_reason(conn), None);
    let upload_only = ExtensionHandshake {
        upload_only: Some(true),
        ..ExtensionHandshake::default()
    };
    let payload = upload_only.encode().into();
    lone.receive(conn, Message::Extended { id: 0, payload });
    assert_eq!(lone.close_reason(conn), Some(crate::CloseReason::Redundant));
}

#[test]
fn a_partial_seed_may_say_last_that_it_is_not_interested() {
    let mut lone = Lone::seeder(PIECES);
    let conn = lone.open(1, FAST.with_extension_protocol());
    lone.receive(conn, bits(&[0x80, 0]));
    lone.receive(conn, Message::Interested);
    let upload_only = ExtensionHandshake {
        upload_only: Some(true),
        ..ExtensionHandshake::default()
    };
    let payload = upload_only.encode().into();
    lone.receive(conn, Message::Extended { id: 0, payload });
    assert_eq!(lone.close_reason(conn), None, "it wants something yet");
    lone.receive(conn, Message::NotInterested);
    assert_eq!(lone.close_reason(conn), Some(crate::CloseReason::Redundant));
}

#[test]
fn a_later_handshake_says_nothing_of_what_it_leaves_out() {
    // BEP 10: it adds to what was said before.
    let mut lone = Lone::leecher(PIECES);
    let conn = lone.open(1, FAST.with_extension_protocol());
    lone.receive(conn, bits(&[0x80, 0]));
    let mut say = |upload_only: Option<bool>| {
        let handshake = ExtensionHandshake {
            upload_only,
            ..ExtensionHandshake::default()
        };
        let payload = handshake.encode().into();
        lone.receive(conn, Message::Extended { id: 0, payload });
        lone.engine.conns[&conn].upload_only
    };
    assert!(!say(None));
    assert!(say(Some(true)));
    assert!(say(None), "nothing has changed");
    assert!(!say(Some(false)));
}

#[test]
fn peers_hear_again_whether_we_want_anything() {
    // BEP 21: at the moment we become complete, and when the user wants more.
    let mut lone = Lone::leecher(PIECES);
    let conn = lone.open(1, FAST.with_extension_protocol());
    let plain = lone.open(2, FAST);
    lone.receive(conn, bits(&[0x80, 0]));
    lone.receive(plain, bits(&[0x80, 0]));
    lone.out.clear();
    let mut told = |wanted: Bitfield| {
        lone.handle(crate::Input::Command(crate::Command::Want(wanted)));
        let extended = |message: &Message| matches!(message, Message::Extended { .. });
        assert!(!lone.sent(plain).iter().any(extended));
        let sent = lone.sent(conn);
        lone.out.clear();
        sent.iter()
            .filter_map(|message| {
                let Message::Extended { id: 0, payload } = message else {
                    return None;
                };
                ExtensionHandshake::decode(payload).unwrap().upload_only
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(told(Bitfield::new(PIECES)), [true]);
    assert_eq!(told(Bitfield::new(PIECES)), [], "it knows");
    assert_eq!(told(Bitfield::full(PIECES)), [false]);
}

#[test]
fn facts_of_connections_that_are_no_more_are_nothing() {
    let mut lone = Lone::leecher(PIECES);
    let conn = lone.open(1, PLAIN);
    lone.receive(conn, Message::Have { piece: 99 });
    assert!(lone.is_violation(conn));
    lone.out.clear();
    lone.receive(conn, Message::Interested);
    lone.receive(crate::ConnId(77), Message::Interested);
    assert!(lone.out.is_empty());
}

/// FAULTS 56 and 65: thousands of handshakes, and messages of an extension that we never offered.
#[test]
fn faults_56_65_handshakes_without_end_and_unknown_extensions_order_nothing() {
    let mut lone = Lone::leecher(PIECES);
    let conn = lone.open(1, FAST.with_extension_protocol());
    lone.receive(conn, Message::HaveNone);
    lone.out.clear();
    let names = (0..64).map(|n| (format!("extension {n}"), 7)).collect();
    let theirs = ExtensionHandshake {
        extensions: names,
        ..ExtensionHandshake::default()
    };
    let payload = Bytes::from(theirs.encode());
    for _ in 0..5_000 {
        let payload = payload.clone();
        lone.receive(conn, Message::Extended { id: 0, payload });
    }
    // A rendezvous with a third party (BEP 55), under ids that we gave to nobody.
    let payload = Bytes::from_static(b"\x01\0\x0a\0\0\x09\x1a\xe1\0\0\0\0");
    for id in 3..=u8::MAX {
        let payload = payload.clone();
        lone.receive(conn, Message::Extended { id, payload });
    }
    assert_eq!(lone.out, [], "no answer, no dial, and the peer stays");
    assert_eq!(lone.engine.stats(lone.now).peers, 1);
}

/// BEP 10, `yourip`: a vote. FAULTS 58: of three or seventeen bytes it is none.
#[test]
fn where_a_peer_sees_us_is_a_vote() {
    let rows: [(&[u8], Option<&str>); 4] = [
        (b"d6:yourip4:\x08\x08\x04\x04e", Some("8.8.4.4")),
        (b"d6:yourip3:\x08\x08\x04e", None),
        (
            b"d6:yourip17:\x20\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01e",
            None,
        ),
        (b"de", None),
    ];
    for (payload, expected) in rows {
        let mut lone = Lone::leecher(PIECES);
        let conn = lone.open(1, FAST.with_extension_protocol());
        lone.out.clear();
        let payload = Bytes::from_static(payload);
        lone.receive(conn, Message::Extended { id: 0, payload });
        let expected = expected.map(|ip| crate::Output::SeenAt {
            by: [10, 0, 0, 1].into(),
            ip: ip.parse().unwrap(),
        });
        assert_eq!(lone.out, Vec::from_iter(expected), "{conn:?}");
    }
}
