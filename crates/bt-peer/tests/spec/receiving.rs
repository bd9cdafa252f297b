//! What peers tell us, and what we ask of them.

use crate::script::{FAST, PIECES, PLAIN, Script, bitfield, data, requests};
use bt_core::disk::Job;
use bt_peer::CloseReason;
use bt_wire::Message;
use bt_wire::message::BlockAddress;

#[test]
fn haves_are_checked_and_counted_once() {
    // FAULTS 51; BTP/1.0, 6.3.7: out of range drops the connection.
    for (piece, expected) in [
        (0, false),
        (PIECES - 1, false),
        (PIECES, true),
        (1 << 31, true),
        (u32::MAX, true),
    ] {
        let mut script = Script::leecher();
        let conn = script.open(1, PLAIN);
        script.hear(conn, Message::Have { piece });
        assert_eq!(script.is_violation(conn), expected, "{piece}");
    }
    let mut script = Script::leecher();
    let conn = script.open(1, PLAIN);
    for _ in 0..200_000 {
        script.hear(conn, Message::Have { piece: 3 });
    }
    assert_eq!(script.told(conn), [Message::Interested], "said once");
    script.hear(conn, Message::Unchoke);
    let asked = requests(&script.told(conn));
    assert!(asked.len() == 4 && asked.iter().all(|block| block.piece == 3));
}

#[test]
fn interest_is_told_whenever_it_changes_also_while_choked() {
    // BEP 3: "must be kept up to date at all times".
    let mut script = Script::leecher();
    let (one, all) = (script.open(1, PLAIN), script.open_seeder(2, PLAIN));
    assert_eq!(script.told(one), [], "it has nothing");
    script.hear(one, Message::Have { piece: 5 });
    assert_eq!(script.told(one), [Message::Interested]);
    script.piece_comes(all, 5);
    let told = script.told(one);
    assert_eq!(told, [Message::NotInterested], "it knows of piece 5 itself");
    script.hear(one, Message::Have { piece: 6 });
    assert_eq!(script.told(one), [Message::Interested]);
}

#[test]
fn what_a_choke_leaves_unanswered_is_asked_of_others() {
    // Community specification, "choke": pending requests count as lost. BEP 6: each of them is still answered.
    let mut script = Script::leecher();
    let plain = script.open_seeder(1, PLAIN);
    let lost = requests(&script.told(plain));
    assert!(!lost.is_empty());
    script.hear(plain, Message::Choke);
    let other = script.open_seeder(2, PLAIN);
    let asked = script.answers_all(other);
    assert!(
        lost.iter().all(|block| asked.contains(block)),
        "{lost:?} of {asked:?}"
    );
    script.pass(100);
    let to_choker = script.told(plain);
    assert!(
        to_choker
            .iter()
            .all(|message| matches!(message, Message::NotInterested | Message::Interested)),
        "no request and no cancel to who chokes us: {to_choker:?}"
    );

    let mut script = Script::leecher();
    let fast = script.open_seeder(1, FAST);
    let asked = requests(&script.told(fast));
    script.hear(fast, Message::Choke);
    for block in &asked {
        script.hear(fast, Message::RejectRequest(*block));
    }
    assert_eq!(script.closed(fast), None, "that is the rule");
    script.hear(fast, Message::Unchoke);
    script.pass(5);
    assert!(!requests(&script.told(fast)).is_empty(), "and no offence");
}

#[test]
fn a_block_that_comes_late_is_no_offence_and_is_used() {
    // BEP 3: pieces may come unexpectedly after choke and unchoke in quick succession.
    let mut script = Script::leecher();
    let conn = script.open_seeder(1, PLAIN);
    let asked = requests(&script.told(conn));
    script.hear(conn, Message::Choke);
    script.hear(conn, data(asked[0]));
    let jobs = script.jobs();
    assert!(matches!(jobs[..], [Job::Write { .. }]), "{jobs:?}");
    assert_eq!((script.closed(conn), script.wasted()), (None, 0));
}

#[test]
fn blocks_nobody_asked_for_are_waste_and_soon_too_many() {
    // FAULTS 69: unasked, at a wrong offset, short, long, twice, of no piece.
    let (piece, length) = (19, 16_384);
    let at = |begin, length| BlockAddress {
        piece,
        begin,
        length,
    };
    let rows = [
        at(0, length),
        at(1, length),
        at(0, 100),
        at(0, 0),
        at(65_536, 16_384),
        BlockAddress {
            piece: PIECES,
            begin: 0,
            length,
        },
        BlockAddress {
            piece: u32::MAX,
            begin: u32::MAX,
            length,
        },
    ];
    for row in rows {
        let mut script = Script::leecher();
        let conn = script.open(1, PLAIN);
        for n in 1..=30 {
            script.hear(conn, data(row));
            assert_eq!(script.is_violation(conn), n > 20, "{row:?} {n}");
        }
        assert_eq!(script.jobs(), [], "nothing of it is written");
        assert_eq!(script.wasted(), 21 * u64::from(row.length));
    }
    let mut script = Script::leecher();
    let conn = script.open_seeder(1, PLAIN);
    let asked = requests(&script.told(conn));
    for _ in 0..2 {
        script.hear(conn, data(asked[0]));
    }
    assert_eq!(
        (script.jobs().len(), script.wasted()),
        (1, u64::from(length))
    );
}

#[test]
fn several_requests_are_outstanding_and_each_block_brings_new_ones() {
    // BEP 3, "request"; Cohen 2003, 2.3; community specification, "queuing".
    let mut script = Script::leecher();
    let conn = script.open_seeder(1, PLAIN);
    let asked = requests(&script.told(conn));
    assert!(asked.len() >= 5, "{}", asked.len());
    assert!(asked.iter().all(|block| block.length == 16_384));
    for block in &asked {
        script.hear(conn, data(*block));
    }
    assert!(requests(&script.told(conn)).len() >= asked.len());
}

#[test]
fn in_the_endgame_each_block_that_comes_is_cancelled_elsewhere() {
    // BEP 3: "cancel"; community specification, "end game": block by block.
    let mut script = Script::new(0..PIECES - 1);
    let (slow, quick) = (script.open_seeder(1, PLAIN), script.open_seeder(2, PLAIN));
    assert_eq!(requests(&script.told(slow)).len(), 4);
    // Not before the first has had its time.
    script.pass(2);
    let twice = requests(&script.told(quick));
    assert!(
        !twice.is_empty(),
        "the last blocks are asked of a second peer"
    );
    script.hear(quick, data(twice[0]));
    assert_eq!(script.told(slow), [Message::Cancel(twice[0])]);
    script.hear(slow, data(twice[0]));
    assert_eq!(
        script.closed(slow),
        None,
        "the cancel was too late, that is all"
    );
    assert_eq!(script.jobs().len(), 1);
}

#[test]
fn who_owes_blocks_and_sends_none_is_passed_over_and_then_closed() {
    // FAULTS 68; BEP 3: "timeouts may be done much more quickly when data is expected".
    let mut script = Script::leecher();
    let silent = script.open_seeder(1, PLAIN);
    let owed = requests(&script.told(silent));
    script.pass(25);
    let other = script.open_seeder(2, PLAIN);
    let asked = script.answers_all(other);
    assert!(
        owed.iter().all(|block| asked.contains(block)),
        "{owed:?} of {asked:?}"
    );
    script.pass(400);
    assert_eq!(script.closed(silent), Some(&CloseReason::Idle));
}

#[test]
fn floods_of_small_messages_order_nothing() {
    // FAULTS 49, 71.
    let mut script = Script::seeder();
    let conn = script.open(1, PLAIN);
    script.hear(conn, bitfield([0]));
    script.take();
    for n in 0..100_000_u32 {
        script.hear(conn, Message::KeepAlive);
        script.hear(
            conn,
            if n % 2 == 0 {
                Message::Choke
            } else {
                Message::Unchoke
            },
        );
        script.hear(
            conn,
            if n % 2 == 0 {
                Message::Interested
            } else {
                Message::NotInterested
            },
        );
    }
    let told = script.told(conn);
    assert_eq!(
        told,
        [Message::Unchoke],
        "unchoked once; the rest is for the rounds"
    );
    assert_eq!(script.closed(conn), None);
}
