//! Who gives gets: what becomes of peers that take and pass nothing on.

use super::lone::*;
use crate::engine::contract::*;
use crate::limits::{ENTRUSTED_MAX, ENTRUSTED_PATIENCE, HELD_BACK, TAKEN_FREE_MIN_BYTES, TICK};
use bt_core::{BLOCK_BYTES, Bitfield, Block};
use bt_wire::Message;
use core::time::Duration;

const PIECES: u32 = 200;

fn blocks(lone: &Lone, pieces: core::ops::Range<u32>) -> Vec<Block> {
    let pieces = pieces.map(|piece| lone.layout.piece(piece).unwrap());
    let blocks = pieces.flat_map(|piece| lone.layout.blocks(piece));
    blocks.collect()
}

fn sent(lone: &mut Lone, conn: ConnId, blocks: &[Block]) {
    for block in blocks {
        lone.uploaded(conn, *block);
    }
}

/// The peer asks for the blocks, and gets them all.
fn take(lone: &mut Lone, conn: ConnId, blocks: &[Block]) {
    ask(lone, conn, blocks);
    let mut left = blocks.len();
    while left > 0 {
        let ordered = lone.uploads(conn);
        assert!(!ordered.is_empty(), "{left} blocks are not sent");
        left -= ordered.len();
        sent(lone, conn, &ordered);
    }
}

fn has(lone: &mut Lone, conn: ConnId, pieces: core::ops::Range<u32>) {
    pieces.for_each(|piece| lone.receive(conn, Message::Have { piece }));
}

/// True if the next block of `first`, which asks after `second` did, waits until that has all that it asked for.
fn comes_after(lone: &mut Lone, first: ConnId, second: ConnId) -> bool {
    let wanted = blocks(lone, 50..51);
    ask(lone, second, &wanted);
    let ordered = lone.uploads(second);
    assert_eq!(ordered.len(), wanted.len());
    ask(lone, first, &wanted[..1]);
    let waits = lone.uploads(first).is_empty();
    sent(lone, second, &ordered);
    assert_eq!(
        lone.uploads(first).len(),
        usize::from(waits),
        "not for ever"
    );
    sent(lone, first, &wanted[..1]);
    waits
}

#[test]
fn who_takes_of_a_leecher_and_holds_back_comes_last() {
    // What it has that we want, how long we wait for it, and how many blocks it takes.
    let free = u32::try_from(TAKEN_FREE_MIN_BYTES).unwrap() / BLOCK_BYTES;
    let held_back = HELD_BACK + TICK;
    for (offers, span, taken, last) in [
        (true, held_back, free + 1, true),
        (true, held_back, free, false),
        (true, HELD_BACK / 2, free + 1, false),
        (false, held_back, free + 1, false),
    ] {
        let mut have = Bitfield::full(PIECES);
        have.clear(layout(PIECES).piece(PIECES - 1).unwrap());
        let mut lone = Lone::new(PIECES, have);
        let (taker, other) = (lone.open_leecher(1, FAST), lone.open_leecher(2, FAST));
        if offers {
            has(&mut lone, taker, PIECES - 1..PIECES);
        }
        lone.pass(span);
        let wanted = blocks(&lone, 0..20);
        take(&mut lone, taker, &wanted[..taken as usize]);
        let waits = comes_after(&mut lone, taker, other);
        assert_eq!(waits, last, "{offers} {span:?} {taken}");
    }
}

#[test]
fn who_gives_at_last_is_no_taker_any_more() {
    let mut have = Bitfield::full(PIECES);
    have.clear(layout(PIECES).piece(PIECES - 1).unwrap());
    let mut lone = Lone::new(PIECES, have);
    let (taker, other) = (lone.open_leecher(1, FAST), lone.open_leecher(2, FAST));
    has(&mut lone, taker, PIECES - 1..PIECES);
    lone.pass(HELD_BACK + TICK);
    let wanted = blocks(&lone, 0..20);
    take(&mut lone, taker, &wanted);
    assert!(comes_after(&mut lone, taker, other));
    lone.receive(taker, Message::Unchoke);
    let block = lone.requests(taker)[0];
    lone.deliver(taker, block);
    assert!(!comes_after(&mut lone, taker, other));
}

#[test]
fn who_lets_us_ask_and_is_asked_for_nothing_holds_nothing_back() {
    for unchokes in [true, false] {
        let mut have = Bitfield::full(PIECES);
        have.clear(layout(PIECES).piece(PIECES - 1).unwrap());
        let mut lone = Lone::new(PIECES, have);
        let giver = lone.open_seeder(9, FAST);
        // All that is missing is asked of another.
        assert!(!lone.requests(giver).is_empty());
        let (taker, other) = (lone.open_leecher(1, FAST), lone.open_leecher(2, FAST));
        has(&mut lone, taker, PIECES - 1..PIECES);
        if unchokes {
            lone.receive(taker, Message::Unchoke);
        }
        for _ in 0..2 * HELD_BACK.as_secs() {
            lone.pass_secs(1);
            // In the endgame it is asked too, and says that it cannot.
            for block in lone.requests(taker) {
                lone.receive(taker, Message::RejectRequest(address(block)));
            }
        }
        let wanted = blocks(&lone, 0..20);
        take(&mut lone, taker, &wanted);
        assert_eq!(comes_after(&mut lone, taker, other), !unchokes);
    }
}

#[test]
fn who_has_pieces_of_a_seeder_alone_comes_after_others_until_it_passes_one_on() {
    let most = u32::try_from(ENTRUSTED_MAX).unwrap();
    let mut lone = Lone::seeder(PIECES);
    let [holder, other, third] = [1, 2, 3].map(|n| lone.open_leecher(n, FAST));
    let wanted = blocks(&lone, 0..most);
    take(&mut lone, holder, &wanted);
    assert!(
        !comes_after(&mut lone, holder, other),
        "it may be one that never tells"
    );
    has(&mut lone, holder, 0..most);
    lone.sent(holder);
    assert!(comes_after(&mut lone, holder, other));
    assert_eq!(suggested(&lone.sent(holder)), [], "it has enough");
    has(&mut lone, third, 0..1);
    assert!(!comes_after(&mut lone, holder, other));
}

#[test]
fn who_was_alone_is_not_judged_by_what_nobody_could_have_taken_of_it() {
    let mut lone = Lone::seeder(PIECES);
    let first = lone.open_leecher(1, FAST);
    let wanted = blocks(&lone, 0..8);
    take(&mut lone, first, &wanted);
    has(&mut lone, first, 0..8);
    lone.pass(ENTRUSTED_PATIENCE * 2);
    let [second, third] = [2, 3].map(|n| lone.open_leecher(n, FAST));
    assert!(!comes_after(&mut lone, first, second), "it kept nothing");
    let named = suggested(&lone.sent(third));
    assert!(
        named.iter().all(|piece| *piece >= 8),
        "{named:?}: others can have it from the first"
    );
}

#[test]
fn who_got_more_than_it_may_have_as_nobody_else_wanted_it_is_judged_by_that() {
    let most = u32::try_from(ENTRUSTED_MAX).unwrap();
    let mut lone = Lone::seeder(PIECES);
    let [holder, other, third] = [1, 2, 3].map(|n| lone.open_leecher(n, FAST));
    for piece in 0..4 * most {
        let wanted = blocks(&lone, piece..piece + 1);
        take(&mut lone, holder, &wanted);
        has(&mut lone, holder, piece..piece + 1);
    }
    assert!(comes_after(&mut lone, holder, other));
    has(&mut lone, third, 0..1);
    assert!(!comes_after(&mut lone, holder, other), "it passes on");
}

#[test]
fn what_one_peer_keeps_is_suggested_to_another() {
    for passed_on in [false, true] {
        let mut lone = Lone::seeder(PIECES);
        let [holder, other] = [1, 2].map(|n| lone.open_leecher(n, FAST));
        let wanted = blocks(&lone, 0..2);
        take(&mut lone, holder, &wanted);
        has(&mut lone, holder, 0..2);
        if passed_on {
            has(&mut lone, other, 0..2);
        }
        lone.pass(ENTRUSTED_PATIENCE + Duration::from_secs(3));
        let late = lone.open_leecher(3, FAST);
        let named = suggested(&lone.sent(late));
        let again = named.iter().filter(|piece| **piece < 2).count();
        assert_eq!(again, if passed_on { 0 } else { 2 }, "{named:?}");
    }
}

#[test]
fn who_came_last_is_served_in_turn_again_once_it_has_passed_on() {
    let most = u32::try_from(ENTRUSTED_MAX).unwrap();
    let mut lone = Lone::seeder(PIECES);
    let [holder, other, third] = [1, 2, 3].map(|n| lone.open_leecher(n, FAST));
    let given = blocks(&lone, 0..most);
    take(&mut lone, holder, &given);
    has(&mut lone, holder, 0..most);
    lone.sent(holder);
    // It waits behind the other, whose line never empties; then it passes a piece on.
    let [first, second] = [blocks(&lone, 4..12), blocks(&lone, 12..20)];
    ask(&mut lone, other, &first);
    ask(&mut lone, holder, &second);
    assert_eq!(lone.uploads(holder), []);
    let mut going = lone.uploads(other);
    has(&mut lone, third, 0..1);
    for _ in 0..5 {
        lone.pass(Duration::from_millis(400));
        going.extend(lone.uploads(other));
        let next = going.remove(0);
        sent(&mut lone, other, &[next]);
    }
    assert!(!going.is_empty(), "the other is served meanwhile");
    assert!(
        !lone.uploads(holder).is_empty(),
        "it stood in line for good"
    );
}
