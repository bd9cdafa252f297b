//! What peers get of us.

use crate::script::{FAST, PIECE_BYTES, PIECES, PLAIN, Script, block};
use bt_peer::limits::{CHOKED_REQUESTS_MAX, UPLOAD_QUEUE_MAX};
use bt_wire::Message;
use bt_wire::message::BlockAddress;

fn rejects(told: &[Message]) -> Vec<BlockAddress> {
    let rejected = told.iter().filter_map(|message| match message {
        Message::RejectRequest(address) => Some(*address),
        _ => None,
    });
    rejected.collect()
}

#[test]
fn only_what_can_be_served_is_served() {
    // FAULTS 73. (piece, begin, length), and whether the block is sent.
    let rows = [
        ((0, 0, 16_384), true),
        ((19, 49_152, 16_384), true),
        // Neither the place nor the length need be those of a block.
        ((0, 1, 1), true),
        ((0, 12_345, 30_000), true),
        ((0, 0, 0), false),
        ((0, 0, 128 * 1024 + 1), false),
        ((0, PIECE_BYTES, 1), false),
        ((0, PIECE_BYTES - 1, 2), false),
        ((0, u32::MAX, 2), false),
        ((0, 1, u32::MAX), false),
        ((PIECES, 0, 16_384), false),
        ((u32::MAX, 0, 16_384), false),
    ];
    for ((piece, begin, length), expected) in rows {
        let asked = BlockAddress {
            piece,
            begin,
            length,
        };
        for reserved in [PLAIN, FAST] {
            let mut script = Script::seeder();
            let conn = script.open_leecher(1, reserved);
            script.hear(conn, Message::Request(asked));
            let served: Vec<BlockAddress> = script
                .served(conn)
                .into_iter()
                .map(BlockAddress::from)
                .collect();
            let told = script.told(conn);
            if expected {
                assert_eq!(served, [asked]);
                assert_eq!(script.closed(conn), None);
            } else if reserved == FAST {
                assert_eq!((served.len(), rejects(&told)), (0, vec![asked]));
                assert_eq!(script.closed(conn), None);
            } else {
                assert!(served.is_empty() && script.is_violation(conn), "{asked:?}");
            }
        }
    }
}

#[test]
fn who_is_choked_gets_nothing_and_is_told_so_if_it_can_be() {
    for reserved in [PLAIN, FAST] {
        let mut script = Script::seeder();
        let conn = script.open_idle(1, reserved);
        script.told(conn);
        script.hear(conn, Message::Request(block(0)));
        assert_eq!(script.served(conn), []);
        let expected = if reserved == FAST {
            vec![block(0)]
        } else {
            vec![]
        };
        assert_eq!(rejects(&script.told(conn)), expected);
        assert_eq!(script.closed(conn), None, "it may not have known");
    }
}

#[test]
fn a_newcomer_may_have_a_few_pieces_while_it_is_choked() {
    // BEP 6, "allowed fast". FAULTS 61: but not again and again.
    let mut script = Script::with(0..PIECES, |_, config| config.upload_slots = Some(0));
    let conn = script.open(1, FAST);
    script.hear(conn, Message::HaveNone);
    script.hear(conn, Message::Interested);
    let told = script.told(conn);
    let allowed: Vec<u32> = told
        .iter()
        .filter_map(|message| match message {
            Message::AllowedFast { piece } => Some(*piece),
            _ => None,
        })
        .collect();
    assert_eq!(allowed.len(), 10);
    let other = (0..PIECES).find(|piece| !allowed.contains(piece)).unwrap();
    script.hear(conn, Message::Request(block(other * 4)));
    assert_eq!(script.served(conn), []);
    assert_eq!(rejects(&script.told(conn)), [block(other * 4)]);
    let mut served = 0;
    for round in 0..3 {
        for n in allowed.iter().flat_map(|piece| piece * 4..piece * 4 + 4) {
            script.hear(conn, Message::Request(block(n)));
        }
        served += script.served(conn).len();
        assert_eq!(served, 40, "each byte once, in round {round}");
    }
    assert_eq!(rejects(&script.told(conn)).len(), 80);
    assert_eq!(script.closed(conn), None);
}

#[test]
fn nothing_that_is_not_verified_is_announced_or_served() {
    // FAULTS: an invariant of the engine; BTP/1.0, 7.6.
    let mut script = Script::new([0]);
    let (leech, seed) = (script.open_leecher(1, FAST), script.open_seeder(2, PLAIN));
    let peer = script.open_leecher(3, FAST);
    script.hear(peer, Message::Have { piece: 1 });
    script.told(leech);
    script.hear(leech, Message::Request(block(4)));
    assert_eq!(
        rejects(&script.told(leech)),
        [block(4)],
        "piece 1 is not here"
    );
    script.piece_comes(seed, 1);
    assert_eq!(script.told(leech), [Message::Have { piece: 1 }]);
    script.hear(leech, Message::Request(block(4)));
    assert_eq!(script.served(leech).len(), 1);
    let have = Message::Have { piece: 1 };
    assert!(!script.told(peer).contains(&have), "who has it is not told");
    assert!(
        script.told(seed).contains(&have),
        "a seeder sees who passes on what it gave"
    );
}

#[test]
fn a_cancelled_request_is_forgotten() {
    // BTP/1.0, 6.3.11; BEP 6: and answered by a reject.
    for reserved in [PLAIN, FAST] {
        let mut script = Script::seeder();
        let conn = script.open_leecher(1, reserved);
        (0..40).for_each(|n| script.hear(conn, Message::Request(block(n))));
        script.told(conn);
        script.hear(conn, Message::Cancel(block(39)));
        script.hear(conn, Message::Cancel(block(39)));
        let expected = if reserved == FAST {
            vec![block(39)]
        } else {
            vec![]
        };
        assert_eq!(rejects(&script.told(conn)), expected);
        let served: Vec<BlockAddress> = script
            .served(conn)
            .into_iter()
            .map(BlockAddress::from)
            .collect();
        let others: Vec<BlockAddress> = (0..39).map(block).collect();
        assert_eq!(served, others);
    }
}

#[test]
fn a_choke_throws_away_what_waits() {
    // BTP/1.0, 6.3.1; BEP 3: that is why requests are kept in memory. BEP 6: each gets exactly one answer.
    for reserved in [PLAIN, FAST] {
        let mut script = Script::with(0..PIECES, |_, config| config.upload_slots = Some(1));
        let conn = script.open_leecher(1, reserved);
        (0..40).for_each(|n| script.hear(conn, Message::Request(block(n))));
        assert!(script.told(conn).contains(&Message::Unchoke));
        // The one slot goes round: some time it is another's turn.
        script.open_leecher(2, PLAIN);
        let mut told = Vec::new();
        for _ in 0..60 {
            script.pass(10);
            told.extend(script.told(conn));
            if told.contains(&Message::Choke) {
                break;
            }
        }
        assert!(told.contains(&Message::Choke), "{told:?}");
        let served = script.served(conn).len();
        assert!(served < 40, "only a window of them is on its way");
        let rejected = rejects(&told).len();
        assert_eq!(rejected, if reserved == FAST { 40 - served } else { 0 });
    }
}

#[test]
fn floods_of_requests_are_bounded() {
    // FAULTS 72: choked, and unchoked.
    for reserved in [PLAIN, FAST] {
        let mut script = Script::seeder();
        let choked = script.open_idle(1, reserved);
        for n in 0..=CHOKED_REQUESTS_MAX {
            assert_eq!(script.closed(choked), None, "{n}");
            script.hear(choked, Message::Request(block(n % 40)));
        }
        assert!(script.is_violation(choked));

        let unchoked = script.open_leecher(2, reserved);
        script.told(unchoked);
        for n in 0..200_000 {
            script.hear(unchoked, Message::Request(block(n % 40)));
        }
        // Who can be told is told; who cannot is closed.
        assert_eq!(script.is_violation(unchoked), reserved == PLAIN);
        if reserved == FAST {
            let waiting = 200_000 - rejects(&script.told(unchoked)).len();
            assert!(waiting <= UPLOAD_QUEUE_MAX + 40, "{waiting}");
        }
    }
}

#[test]
fn who_asked_ahead_may_be_read_to_the_end_after_a_choke() {
    // Without the fast extension a peer knows of no `reqq`: what it asked for before the choke is no flood.
    for (ahead, is_flood) in [(2_000, false), (40, true)] {
        let mut script = Script::with(0..PIECES, |_, config| config.upload_slots = Some(1));
        let conn = script.open_leecher(1, PLAIN);
        for n in 0..ahead {
            script.hear(conn, Message::Request(block(n % 40)));
        }
        script.open_leecher(2, PLAIN);
        let mut told = script.told(conn);
        while !told.contains(&Message::Choke) {
            assert!(script.closed(conn).is_none());
            script.pass(10);
            told = script.told(conn);
        }
        for n in 0..=CHOKED_REQUESTS_MAX {
            script.hear(conn, Message::Request(block(n % 40)));
        }
        assert_eq!(script.is_violation(conn), is_flood, "{ahead}");
    }
}
