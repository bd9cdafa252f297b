//! What comes of blocks that are wrong: what is kept of them, who is banned, and who is spared (FAULTS 66, 67, 69).

use super::lone::*;
use crate::engine::contract::*;
use crate::{CloseReason, Event};
use bt_core::disk::{Done, Job, Verdict};
use bt_core::{BLOCK_BYTES, Block};

const PIECES: u32 = 200;

#[test]
fn garbage_is_never_written() {
    // FAULTS 69.
    let mut lone = Lone::leecher(PIECES);
    let conn = lone.open_seeder(1, FAST);
    let asked = lone.requests(conn);
    let other = lone.layout.block(150, 0, BLOCK_BYTES).unwrap();
    lone.deliver(conn, other);
    lone.deliver(
        conn,
        Block {
            length: 100,
            ..asked[0]
        },
    );
    lone.deliver(
        conn,
        Block {
            begin: 5,
            ..asked[1]
        },
    );
    assert_eq!(lone.jobs(), []);
    let stats = lone.engine.stats(lone.now);
    assert_eq!(stats.wasted, u64::from(BLOCK_BYTES) * 2 + 100);
    assert_eq!(stats.wasted, stats.downloaded);
    lone.deliver(conn, asked[0]);
    lone.deliver(conn, asked[0]);
    assert_eq!(lone.jobs().len(), 1);
}

/// The peer sends the first piece of four blocks, which is bad, and is closed for it.
fn send_bad_piece(lone: &mut Lone, liar: ConnId) {
    let mut asked = lone.requests(liar);
    asked.sort();
    for block in asked.iter().take(4) {
        lone.deliver(liar, *block);
    }
    lone.run_disk(|_| Verdict::Bad {
        digests: vec![1, 2, 3, 4],
    });
    assert_eq!(lone.close_reason(liar), Some(CloseReason::BadData));
}

#[test]
fn who_alone_sent_a_bad_piece_is_banned_at_once() {
    // FAULTS 66.
    let mut lone = Lone::leecher(2);
    let liar = lone.open_seeder(1, FAST);
    send_bad_piece(&mut lone, liar);
    assert!(
        lone.events
            .iter()
            .any(|event| matches!(event, Event::Banned { .. }))
    );
    assert_eq!(lone.engine.stats(lone.now).hash_failures, 1);
    assert_eq!(lone.engine.stats(lone.now).wasted, u64::from(PIECE_BYTES));
    let again = lone.open(1, FAST);
    assert_eq!(lone.close_reason(again), Some(CloseReason::BadData));
    // Its piece is wanted again.
    let honest = lone.open_seeder(2, FAST);
    assert_eq!(lone.requests(honest).len(), 8);
}

#[test]
fn a_ban_spares_those_behind_the_same_address() {
    let mut lone = Lone::leecher(2);
    let liar = lone.open_seeder(1, FAST);
    let conn = ConnId(101);
    let (addr, direction) = (([10, 0, 0, 1], 7_000).into(), Direction::Incoming);
    let neighbour = |peer_id| Input::Opened {
        conn,
        addr,
        direction,
        peer_id,
        reserved: FAST,
    };
    lone.handle(neighbour(bt_core::PeerId([77; 20])));
    send_bad_piece(&mut lone, liar);
    assert_eq!(lone.close_reason(conn), None);
    // A connection that was never there before: that of the liar has a reason already.
    let again = lone.open_as(301, 9, direction, bt_core::PeerId([1; 20]), FAST);
    assert_eq!(
        lone.close_reason(again),
        Some(CloseReason::BadData),
        "known by its id"
    );
    let newcomer = lone.open_as(303, 1, direction, bt_core::PeerId([78; 20]), FAST);
    assert_eq!(lone.close_reason(newcomer), None);
}

#[test]
fn who_is_banned_does_not_come_back_under_another_id() {
    let mut lone = Lone::leecher(2);
    let liar = lone.open_seeder(1, FAST);
    send_bad_piece(&mut lone, liar);
    let rows = [(301, 1, Some(CloseReason::BadData)), (303, 2, None)];
    for (conn, host, expected) in rows {
        let peer_id = bt_core::PeerId([78; 20]);
        let conn = lone.open_as(conn, host, Direction::Incoming, peer_id, FAST);
        assert_eq!(lone.close_reason(conn), expected, "host {host}");
    }
}

#[test]
fn digests_are_asked_for_once_a_bad_piece_is_good() {
    let mut lone = Lone::leecher(1);
    let (one, two) = (lone.open_seeder(1, FAST), lone.open_seeder(2, FAST));
    let piece = lone.layout.piece(0).unwrap();
    let mut blocks: Vec<(ConnId, Block)> = Vec::new();
    lone.pass_secs(2);
    for conn in [one, two] {
        blocks.extend(lone.requests(conn).into_iter().map(|block| (conn, block)));
    }
    // Whoever was asked first for a block sends it, and the last one comes from the other.
    blocks.sort_by_key(|(_, block)| block.begin);
    blocks.dedup_by_key(|(_, block)| block.begin);
    blocks.last_mut().unwrap().0 = two;
    for (conn, block) in &blocks {
        if lone.engine.conns.contains_key(conn) {
            lone.deliver(*conn, *block);
        }
    }
    assert_eq!(lone.jobs().len(), 4);
    let bad = Verdict::Bad {
        digests: vec![1, 2, 3, 66],
    };
    lone.handle(Input::DiskDone(Done::Checked {
        piece,
        verdict: bad,
    }));
    assert_eq!(
        (lone.close_reason(one), lone.close_reason(two)),
        (None, None),
        "it may be either"
    );
    let good = Verdict::Good;
    lone.handle(Input::DiskDone(Done::Checked {
        piece,
        verdict: good,
    }));
    assert_eq!(lone.jobs(), [Job::Digest { piece }]);
    let digests = vec![1, 2, 3, 4];
    lone.handle(Input::DiskDone(Done::Digests { piece, digests }));
    assert!(lone.events.iter().any(
        |event| matches!(event, Event::Banned { addr, .. } if addr.ip().to_string() == "10.0.0.2")
    ));
    assert!(!lone.events.iter().any(
        |event| matches!(event, Event::Banned { addr, .. } if addr.ip().to_string() == "10.0.0.1")
    ));
}
