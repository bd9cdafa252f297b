//! Who may connect, and what is said first.

use crate::script::{FAST, OWN_ID, PIECES, PLAIN, Script, address_of, bitfield, requests};
use bt_core::PeerId;
use bt_peer::peers::Source;
use bt_peer::{CloseReason, ConnId, Direction, Input, Output};
use bt_wire::message::BlockAddress;
use bt_wire::{Message, Reserved};
use bytes::Bytes;

#[test]
fn the_first_message_says_what_we_have() {
    // BEP 3: a bitfield, to be left out by who has nothing; BEP 6: have all, have none.
    let rows = [
        (Script::leecher(), PLAIN, None),
        (Script::leecher(), FAST, Some(Message::HaveNone)),
        (Script::new([0, 19]), PLAIN, Some(bitfield([0, 19]))),
        (Script::new([0, 19]), FAST, Some(bitfield([0, 19]))),
        (Script::seeder(), PLAIN, Some(bitfield(0..PIECES))),
        (Script::seeder(), FAST, Some(Message::HaveAll)),
        // FAULTS 43: unknown bits mean nothing.
        (
            Script::seeder(),
            Reserved([0xff; 8]),
            Some(Message::HaveAll),
        ),
    ];
    for (mut script, reserved, expected) in rows {
        let conn = script.open(1, reserved);
        assert_eq!(script.told(conn).first(), expected.as_ref());
        assert_eq!(script.closed(conn), None);
    }
}

#[test]
fn both_sides_begin_choked_and_not_interested() {
    let mut script = Script::new([0]);
    let conn = script.open(1, PLAIN);
    script.hear(conn, bitfield([1]));
    script.pass(30);
    // Interested is said because it changed; nothing is asked until the peer unchokes, nothing given unasked.
    assert_eq!(script.told(conn), [bitfield([0]), Message::Interested]);
    let asked = BlockAddress {
        piece: 0,
        begin: 0,
        length: 16_384,
    };
    script.hear(conn, Message::Request(asked));
    assert_eq!(script.served(conn), []);
    script.hear(conn, Message::Unchoke);
    assert_eq!(requests(&script.told(conn)).len(), 4);
}

#[test]
fn a_bitfield_comes_first_or_brings_news() {
    // FAULTS 50. What a peer says, and whether that is a violation.
    let have = Message::Have { piece: 1 };
    let any = || bitfield([0]);
    let raw = |bytes: &'static [u8]| Message::Bitfield(Bytes::from_static(bytes));
    let hint = Message::AllowedFast { piece: 1 };
    let extended = Message::Extended {
        id: 0,
        payload: Bytes::from_static(b"de"),
    };
    let rows: Vec<(Reserved, Vec<Message>, bool)> = vec![
        (PLAIN, vec![any()], false),
        (PLAIN, vec![], false),
        (PLAIN, vec![have.clone()], false),
        // A lazy bitfield: what it leaves out follows as haves.
        (
            PLAIN,
            vec![any(), have.clone(), Message::Have { piece: 2 }],
            false,
        ),
        (PLAIN, vec![Message::KeepAlive, any()], false),
        (PLAIN, vec![Message::Port(6_881), any()], false),
        (FAST, vec![extended, hint, any()], false),
        (PLAIN, vec![any(), any()], true),
        // aria2 sends a bitfield in the middle of a session in place of many haves.
        (PLAIN, vec![have.clone(), any()], false),
        (PLAIN, vec![Message::Interested, any()], false),
        (PLAIN, vec![any(), bitfield([0, 1])], false),
        (PLAIN, vec![any(), bitfield([0, 1]), bitfield([1])], true),
        (FAST, vec![Message::HaveAll], false),
        (FAST, vec![Message::HaveNone, have.clone()], false),
        (FAST, vec![Message::HaveAll, any()], true),
        (FAST, vec![any(), Message::HaveNone], true),
        // And have all when it is complete.
        (FAST, vec![have, Message::HaveAll], false),
        (FAST, vec![Message::HaveNone, Message::HaveAll], false),
        (FAST, vec![Message::HaveAll, Message::HaveAll], true),
        // Twenty pieces are three bytes with four spare bits.
        (PLAIN, vec![raw(b"\xff\xff")], true),
        (PLAIN, vec![raw(b"")], true),
        (PLAIN, vec![raw(b"\xff\xff\xf0\x00")], true),
        (PLAIN, vec![raw(b"\xff\xff\xf8")], true),
        (PLAIN, vec![raw(b"\xff\xff\xf0")], false),
    ];
    for (reserved, messages, expected) in rows {
        let mut script = Script::leecher();
        let conn = script.open(1, reserved);
        for message in messages.clone() {
            script.hear(conn, message);
        }
        assert_eq!(script.is_violation(conn), expected, "{messages:?}");
    }
}

#[test]
fn messages_of_the_fast_extension_need_it() {
    // FAULTS 63; BEP 6: "must close the connection".
    let asked = BlockAddress {
        piece: 0,
        begin: 0,
        length: 1,
    };
    let rows = [
        Message::HaveAll,
        Message::HaveNone,
        Message::SuggestPiece { piece: 0 },
        Message::AllowedFast { piece: 0 },
        Message::RejectRequest(asked),
    ];
    for message in rows {
        for (reserved, expected) in [(PLAIN, true), (FAST, false)] {
            let mut script = Script::leecher();
            let conn = script.open(1, reserved);
            script.hear(conn, message.clone());
            assert_eq!(script.is_violation(conn), expected, "{message:?}");
        }
    }
}

#[test]
fn our_own_id_and_one_that_is_connected_are_turned_away() {
    // BTP/1.0, 6.2; FAULTS 42.
    let mut script = Script::leecher();
    script.handle(Input::PeersFound(Source::User, vec![address_of(1)]));
    let [Output::Dial { conn, addr }] = script.take()[..] else {
        panic!("one dial")
    };
    script.handle(Input::Opened {
        conn,
        addr,
        direction: Direction::Outgoing,
        peer_id: OWN_ID,
        reserved: PLAIN,
    });
    assert_eq!(script.closed(conn), Some(&CloseReason::Duplicate));
    script.pass(10_000);
    script.handle(Input::PeersFound(Source::User, vec![address_of(1)]));
    let again = script
        .take()
        .iter()
        .any(|order| matches!(order, Output::Dial { .. }));
    assert!(!again, "never again");

    let first = script.open(2, PLAIN);
    let second = script.open(2, PLAIN);
    assert_eq!(script.closed(first), None);
    assert_eq!(script.closed(second), Some(&CloseReason::Duplicate));
    let third = script.open(3, PLAIN);
    assert_eq!(script.closed(third), None, "another id is another peer");
}

/// Both ends dial at once. Whichever connection either end hears of first, both must keep the same one.
#[test]
fn both_ends_keep_the_same_of_two_connections() {
    // FAULTS 42. One end has the id 100, the other a lower or a higher one.
    for other in [1, 200] {
        let mut kept = Vec::new();
        for ours_first in [true, false] {
            let mut script = Script::leecher();
            let (ours, theirs) = (ConnId(1_000), ConnId(1_001));
            let order = if ours_first {
                [(ours, Direction::Outgoing), (theirs, Direction::Incoming)]
            } else {
                [(theirs, Direction::Incoming), (ours, Direction::Outgoing)]
            };
            for (conn, direction) in order {
                script.opened(conn, direction, other, PLAIN);
            }
            let open = [ours, theirs]
                .into_iter()
                .filter(|conn| script.closed(*conn).is_none());
            kept.push(open.collect::<Vec<_>>());
        }
        // The one that the lower id dialled.
        let expected = ConnId(if OWN_ID < PeerId([other; 20]) {
            1_000
        } else {
            1_001
        });
        assert_eq!(kept, [[expected], [expected]], "{other}");
    }
}

#[test]
fn idle_peers_make_room_and_others_do_not() {
    // FAULTS 40: two hundred connections that want nothing, and then an honest peer.
    let mut script = Script::with(0..PIECES, |_, config| config.peers_max = 200);
    let idle: Vec<ConnId> = (0..200).map(|_| script.next_stranger()).collect();
    assert!(idle.iter().all(|conn| script.closed(*conn).is_none()));
    script.pass(4);
    let honest = script.open_leecher(1, PLAIN);
    assert_eq!(script.closed(honest), None);
    let closed = idle.iter().filter(|conn| script.closed(**conn).is_some());
    assert_eq!(closed.count(), 1);
    assert!(
        script.told(honest).contains(&Message::Unchoke),
        "and is served at once"
    );

    let mut script = Script::with(0..PIECES, |_, config| config.peers_max = 2);
    let busy = [script.open_leecher(1, PLAIN), script.open_leecher(2, PLAIN)];
    script.pass(60);
    let late = script.open(3, PLAIN);
    assert_eq!(script.closed(late), Some(&CloseReason::Full));
    assert!(busy.iter().all(|conn| script.closed(*conn).is_none()));
}
