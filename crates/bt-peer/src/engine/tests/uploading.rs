//! What peers get, and what they do not get (BEP 3, BEP 6; FAULTS 61, 72, 73).

use super::lone::*;
use crate::engine::contract::*;
use crate::limits::{UPLOAD_OVERRUN_MAX, UPLOAD_QUEUE_MAX, UPLOAD_STUCK};
use crate::{Config, Event};
use bt_core::{BLOCK_BYTES, Bitfield, Block};
use bt_wire::Message;
use core::time::Duration;

const PIECES: u32 = 200;

fn sent_all(lone: &mut Lone, conn: ConnId) -> Vec<Block> {
    let mut all = Vec::new();
    loop {
        let ordered = lone.uploads(conn);
        if ordered.is_empty() {
            return all;
        }
        for block in ordered {
            all.push(block);
            lone.uploaded(conn, block);
        }
    }
}

#[test]
fn nothing_is_sent_beyond_the_upload_goal() {
    let mut config = Config::new(OWN_ID);
    config.upload_goal = Some(3 * u64::from(BLOCK_BYTES) + 1);
    let mut lone = Lone::with(torrent(PIECES, Bitfield::full(PIECES)), config);
    let wanted = blocks(&lone, 10);
    let gone = lone.open_leecher(1, FAST);
    let stays = lone.open_leecher(2, FAST);
    ask(&mut lone, gone, &wanted);
    assert_eq!(lone.uploads(gone).len(), 4, "more would be too much");
    ask(&mut lone, stays, &wanted);
    assert_eq!(lone.uploads(stays), [], "as long as those are on their way");
    // What was ordered for the first is not sent.
    let reason = crate::CloseReason::Gone;
    lone.handle(Input::Closed { conn: gone, reason });
    assert!(!lone.events.contains(&Event::UploadGoalReached));
    assert_eq!(sent_all(&mut lone, stays), wanted[..4]);
    lone.pass_secs(60);
    assert_eq!(lone.uploads(stays), []);
    let told = |event: &&Event| **event == Event::UploadGoalReached;
    assert_eq!(lone.events.iter().filter(told).count(), 1);
}

#[test]
fn a_leecher_gives_on_until_it_is_complete() {
    let mut config = Config::new(OWN_ID);
    config.upload_goal = Some(0);
    let mut have = Bitfield::full(PIECES);
    let missing = have.iter().next().unwrap();
    have.clear(missing);
    let mut lone = Lone::with(torrent(PIECES, have), config);
    let peer = lone.open_leecher(1, FAST);
    let wanted = blocks(&lone, 5);
    ask(&mut lone, peer, &wanted);
    assert_eq!(sent_all(&mut lone, peer), wanted);
    assert!(!lone.events.contains(&Event::UploadGoalReached));
}

#[test]
fn requests_are_served_in_order_and_a_few_at_a_time() {
    let mut lone = Lone::seeder(PIECES);
    let conn = lone.open_leecher(1, FAST);
    let wanted = blocks(&lone, 100);
    ask(&mut lone, conn, &wanted);
    let first = lone.uploads(conn);
    assert_eq!(first, wanted[..8], "128 KiB");
    // A cancel finds what is queued, and is answered with a reject (BEP 6).
    lone.sent(conn);
    lone.receive(conn, Message::Cancel(address(wanted[50])));
    lone.receive(conn, Message::Cancel(address(wanted[0])));
    assert_eq!(
        lone.sent(conn),
        [Message::RejectRequest(address(wanted[50]))]
    );
    for block in first {
        lone.uploaded(conn, block);
    }
    let rest = sent_all(&mut lone, conn);
    assert_eq!(rest.len(), 100 - 8 - 1);
    assert_eq!(
        lone.engine.stats(lone.now).uploaded,
        99 * u64::from(BLOCK_BYTES)
    );
}

#[test]
fn old_and_odd_block_lengths_are_served() {
    // FAULTS 73: unaligned and up to 128 KiB; beyond, and past the piece's end, not.
    let big = bt_core::Layout::new(1 << 20, 1 << 18).unwrap();
    let mut seeder = torrent(4, Bitfield::full(4));
    seeder.layout = big;
    let mut lone = Lone::with(seeder, Config::new(OWN_ID));
    let conn = lone.open_leecher(1, FAST);
    for (begin, length, served) in [
        (5, 100, true),
        (1, 131_072, true),
        (0, 131_073, false),
        (262_143, 1, true),
        (262_143, 2, false),
    ] {
        let asked = bt_wire::message::BlockAddress {
            piece: 1,
            begin,
            length,
        };
        lone.sent(conn);
        lone.receive(conn, Message::Request(asked));
        assert_eq!(
            lone.sent(conn).contains(&Message::RejectRequest(asked)),
            !served
        );
        assert_eq!(
            sent_all(&mut lone, conn).len(),
            usize::from(served),
            "{begin} {length}"
        );
    }
}

#[test]
fn a_choke_drops_what_is_queued() {
    let mut config = Config::new(OWN_ID);
    config.upload_slots = Some(1);
    let mut lone = Lone::with(torrent(PIECES, Bitfield::full(PIECES)), config);
    let (first, second) = (lone.open_leecher(1, FAST), lone.open_leecher(2, PLAIN));
    let wanted = blocks(&lone, 100);
    ask(&mut lone, first, &wanted);
    assert_eq!(lone.uploads(first).len(), 8);
    lone.sent(first);
    // One slot, and somebody waits: before long it goes round.
    let sent = await_turn(&mut lone, first, &Message::Choke);
    let choke = sent
        .iter()
        .position(|message| *message == Message::Choke)
        .unwrap();
    let rejects: Vec<&Message> = sent.iter().skip(choke + 1).collect();
    assert_eq!(rejects.len(), 92, "BEP 6: choke first, then reject");
    assert_eq!(*rejects[0], Message::RejectRequest(address(wanted[8])));
    assert!(lone.sent(second).contains(&Message::Unchoke));
    ask(&mut lone, first, &wanted[..3]);
    assert_eq!(lone.sent(first).len(), 3, "each is rejected");
    assert_eq!(sent_all(&mut lone, first).len(), 0);
}

#[test]
fn the_queue_is_bounded() {
    // FAULTS 72.
    let mut lone = Lone::seeder(2_000);
    let wanted = blocks(&lone, UPLOAD_QUEUE_MAX + 100);
    for (host, reserved) in [(1, FAST), (2, PLAIN)] {
        let conn = lone.open_leecher(host, reserved);
        lone.sent(conn);
        ask(&mut lone, conn, &wanted);
        let mut sent = lone.sent(conn);
        sent.retain(|message| matches!(message, Message::RejectRequest(_)));
        let rejects = sent.len();
        let fast = reserved == FAST;
        assert_eq!(rejects, if fast { 100 - 8 } else { 0 });
        // Who can be told is read on; who cannot is not, and is closed if the shell reads on all the same.
        assert_eq!(lone.engine.is_swamped(conn), !fast);
        assert!(!lone.is_violation(conn));
        ask(&mut lone, conn, &wanted[..UPLOAD_OVERRUN_MAX - 100 + 8]);
        assert!(!lone.is_violation(conn));
        ask(&mut lone, conn, &wanted[..1]);
        assert_eq!(lone.is_violation(conn), !fast);
    }
}

#[test]
fn peers_take_turns() {
    let mut config = Config::new(OWN_ID);
    config.up_limit = Some(10 * u64::from(BLOCK_BYTES));
    let mut lone = Lone::with(torrent(PIECES, Bitfield::full(PIECES)), config);
    let conns = [
        lone.open_leecher(1, FAST),
        lone.open_leecher(2, FAST),
        lone.open_leecher(3, FAST),
    ];
    let wanted = blocks(&lone, 150);
    for conn in conns {
        ask(&mut lone, conn, &wanted);
    }
    let mut served = [0; 3];
    for _ in 0..900 {
        for (conn, served) in conns.iter().zip(&mut served) {
            *served += sent_all(&mut lone, *conn).len();
        }
        lone.pass(Duration::from_millis(10));
    }
    let sum: usize = served.iter().sum();
    assert!(
        (88..=93).contains(&sum),
        "ten a second for nine seconds: {served:?}"
    );
    assert!(served.iter().all(|n| (29..=32).contains(n)), "{served:?}");
}

#[test]
fn a_limit_hands_out_several_blocks_at_a_time() {
    let limits = |up| {
        let down = None;
        Input::Command(Command::SetLimits { down, up })
    };
    let mut lone = Lone::seeder(PIECES);
    lone.handle(limits(Some(400 * u64::from(BLOCK_BYTES))));
    let conn = lone.open_leecher(1, FAST);
    lone.sent(conn);
    let wanted = blocks(&lone, 150);
    ask(&mut lone, conn, &wanted);
    let mut turns = Vec::new();
    for _ in 0..200 {
        turns.push(sent_all(&mut lone, conn).len());
        lone.pass(Duration::from_millis(1));
    }
    let handed: Vec<usize> = turns.iter().copied().skip(1).filter(|n| *n > 0).collect();
    assert!((3..=5).contains(&handed.len()), "{handed:?}");
    assert!(handed.iter().all(|n| (19..=22).contains(n)), "{handed:?}");
    lone.handle(limits(None));
    assert!(
        !sent_all(&mut lone, conn).is_empty(),
        "without a limit at once"
    );
}

#[test]
fn where_many_wait_for_a_limited_line_their_turns_are_short() {
    let mut config = Config::new(OWN_ID);
    config.up_limit = Some(480 * u64::from(BLOCK_BYTES));
    config.upload_slots = Some(80);
    let mut lone = Lone::with(torrent(PIECES, Bitfield::full(PIECES)), config);
    let conns: Vec<ConnId> = (1..=80).map(|n| lone.open_leecher(n, FAST)).collect();
    let wanted = blocks(&lone, 150);
    for conn in &conns {
        ask(&mut lone, *conn, &wanted);
    }
    let mut longest = 0;
    for millisecond in 0..2_000 {
        for conn in &conns {
            let turn = lone.uploads(*conn);
            if millisecond >= 1_000 {
                longest = longest.max(turn.len());
            }
            for block in turn {
                lone.uploaded(*conn, block);
            }
        }
        lone.pass(Duration::from_millis(1));
    }
    // 480 blocks a second are 6 for each of 80, and 7 where a few have just had theirs; half of a hand-out would be 12.
    assert!((6..=7).contains(&longest), "{longest}");
}

#[test]
fn a_limited_line_serves_some_at_a_time_and_all_within_a_second() {
    let mut config = Config::new(OWN_ID);
    config.up_limit = Some(320 * u64::from(BLOCK_BYTES));
    config.upload_slots = Some(4);
    let mut lone = Lone::with(torrent(PIECES, Bitfield::full(PIECES)), config);
    let conns = [1, 2, 3, 4].map(|n| lone.open_leecher(n, FAST));
    let wanted = blocks(&lone, 150);
    for conn in conns {
        ask(&mut lone, conn, &wanted);
    }
    let (mut served, mut turns) = ([0; 4], Vec::new());
    for millisecond in 0..1_400 {
        let got = conns.map(|conn| lone.uploads(conn));
        if millisecond >= 400 {
            let lengths = got.iter().map(Vec::len);
            served
                .iter_mut()
                .zip(lengths)
                .for_each(|(n, got)| *n += got);
            turns.push(got.iter().filter(|got| !got.is_empty()).count());
        }
        // They go out at once.
        for (conn, blocks) in conns.into_iter().zip(got) {
            for block in blocks {
                lone.uploaded(conn, block);
            }
        }
        lone.pass(Duration::from_millis(1));
    }
    turns.retain(|count| *count > 0);
    assert!((18..=21).contains(&turns.len()), "hand-outs: {turns:?}");
    let lines: usize = turns.iter().sum();
    assert!(lines <= 3 * turns.len(), "{turns:?}");
    assert!(served.iter().all(|n| (68..=92).contains(n)), "{served:?}");
}

#[test]
fn faults_61_starting_peers_get_a_few_pieces_while_choked_but_no_more() {
    // BEP 6, "allowed fast"; FAULTS 61: the same pieces are not given for ever.
    let mut config = Config::new(OWN_ID);
    config.upload_slots = Some(0);
    let mut lone = Lone::with(torrent(PIECES, Bitfield::full(PIECES)), config);
    let conn = lone.open(1, FAST);
    lone.receive(conn, Message::HaveNone);
    let allowed: Vec<u32> = lone
        .sent(conn)
        .into_iter()
        .filter_map(|message| {
            if let Message::AllowedFast { piece } = message {
                return Some(piece);
            }
            None
        })
        .collect();
    assert_eq!(allowed.len(), 10);
    lone.receive(conn, Message::Interested);
    let mut served = 0;
    for _ in 0..5 {
        for piece in &allowed {
            let piece = lone.layout.piece(*piece).unwrap();
            let wanted: Vec<Block> = lone.layout.blocks(piece).collect();
            ask(&mut lone, conn, &wanted);
            served += sent_all(&mut lone, conn).len();
        }
    }
    assert_eq!(served, 40, "each block once");
    assert_eq!(lone.close_reason(conn), None);
    let other = lone
        .layout
        .pieces()
        .find(|piece| !allowed.contains(&piece.get()))
        .unwrap();
    let wanted: Vec<Block> = lone.layout.blocks(other).collect();
    ask(&mut lone, conn, &wanted);
    assert_eq!(sent_all(&mut lone, conn).len(), 0);
    // A peer that has enough already is offered nothing.
    let rich = lone.open(2, FAST);
    let mut has = Bitfield::new(PIECES);
    lone.layout
        .pieces()
        .take(10)
        .for_each(|piece| assert!(has.set(piece)));
    lone.sent(rich);
    lone.receive(rich, Message::Bitfield(has.to_bytes().into()));
    assert_eq!(lone.sent(rich), []);
}

#[test]
fn what_was_left_of_a_piece_is_not_saved_up_for_a_later_choke() {
    let mut config = Config::new(OWN_ID);
    config.upload_slots = Some(1);
    let mut lone = Lone::with(torrent(PIECES, Bitfield::full(PIECES)), config);
    let (first, _) = (lone.open_leecher(1, FAST), lone.open_leecher(2, FAST));
    lone.sent(first);
    // Eight blocks are out, and one waits in the middle of its piece, of which two more are not asked for.
    let wanted = blocks(&lone, 10);
    ask(&mut lone, first, &wanted[1..]);
    assert_eq!(lone.uploads(first), wanted[1..9]);
    let sent = await_turn(&mut lone, first, &Message::Choke);
    let piece = wanted[9].piece;
    let allowed = Message::AllowedFast { piece: piece.get() };
    assert!(sent.contains(&allowed), "{sent:?}");
    for block in &wanted[1..9] {
        lone.uploaded(first, *block);
    }
    assert_eq!(sent_all(&mut lone, first), wanted[9..]);
    await_turn(&mut lone, first, &Message::Unchoke);
    await_turn(&mut lone, first, &Message::Choke);
    let piece: Vec<Block> = lone.layout.blocks(piece).collect();
    ask(&mut lone, first, &piece);
    assert_eq!(sent_all(&mut lone, first), []);
}

#[test]
fn a_piece_under_way_is_finished_after_the_choke() {
    let mut config = Config::new(OWN_ID);
    config.upload_slots = Some(1);
    let mut lone = Lone::with(torrent(PIECES, Bitfield::full(PIECES)), config);
    let (first, _) = (lone.open_leecher(1, FAST), lone.open_leecher(2, FAST));
    let wanted = blocks(&lone, 15);
    // Nine blocks are out, the tenth is in the middle of its piece.
    ask(&mut lone, first, &wanted[3..]);
    assert_eq!(lone.uploads(first).len(), 8);
    lone.uploaded(first, wanted[3]);
    assert_eq!(lone.uploads(first), [wanted[11]]);
    lone.uploaded(first, wanted[4]);
    assert_eq!(lone.uploads(first), [wanted[12]]);
    lone.sent(first);
    let sent = await_turn(&mut lone, first, &Message::Choke);
    let piece = wanted[13].piece.get();
    assert_eq!(sent[0], Message::AllowedFast { piece });
    assert_eq!(sent[1], Message::Choke);
    let rejects = sent.iter().skip(2);
    let rejects = rejects.filter(|message| matches!(message, Message::RejectRequest(_)));
    assert_eq!(rejects.count(), 0, "two blocks of the piece are still due");
    // One more is left of the piece, which it had not asked for yet, and no more than that.
    for block in &wanted[5..13] {
        lone.uploaded(first, *block);
    }
    assert_eq!(sent_all(&mut lone, first), wanted[13..]);
    let piece: Vec<Block> = lone.layout.blocks(wanted[13].piece).collect();
    ask(&mut lone, first, &piece);
    assert_eq!(sent_all(&mut lone, first).len(), 1);
}

#[test]
fn who_is_choked_between_two_requests_may_finish_its_piece() {
    for waited in [Duration::from_millis(300), Duration::from_secs(5)] {
        let mut config = Config::new(OWN_ID);
        config.upload_slots = Some(1);
        let mut lone = Lone::with(torrent(PIECES, Bitfield::full(PIECES)), config);
        let (first, second) = (lone.open_leecher(1, FAST), lone.open_leecher(2, FAST));
        let wanted = blocks(&lone, 5);
        let piece = wanted[0].piece.get();
        let mut sent = Vec::new();
        while !sent.contains(&Message::Choke) {
            lone.pass(lone.engine.upload.rechoke_at - lone.now - waited);
            // Half of its piece goes out, and it is about to ask for the rest.
            ask(&mut lone, first, &wanted[..2]);
            assert_eq!(sent_all(&mut lone, first), wanted[..2]);
            lone.receive(second, Message::KeepAlive);
            lone.pass(waited);
            sent = lone.sent(first);
        }
        let allowed = waited < UPLOAD_STUCK;
        assert_eq!(sent.contains(&Message::AllowedFast { piece }), allowed);
        ask(&mut lone, first, &wanted[2..]);
        let rest = if allowed { &wanted[2..4] } else { &[] };
        assert_eq!(sent_all(&mut lone, first), rest, "{waited:?}");
    }
}

#[test]
fn who_has_had_whole_pieces_is_allowed_nothing_when_it_is_choked() {
    let mut config = Config::new(OWN_ID);
    config.upload_slots = Some(1);
    let mut lone = Lone::with(torrent(PIECES, Bitfield::full(PIECES)), config);
    let (first, _) = (lone.open_leecher(1, FAST), lone.open_leecher(2, FAST));
    let wanted = blocks(&lone, 4);
    ask(&mut lone, first, &wanted);
    assert_eq!(sent_all(&mut lone, first), wanted);
    let sent = await_turn(&mut lone, first, &Message::Choke);
    let fast = |message: &Message| matches!(message, Message::AllowedFast { .. });
    assert!(!sent.iter().any(fast), "{sent:?}");
}
