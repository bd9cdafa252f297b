//! Who gets a slot, and when (BEP 3; FAULTS 71).

use super::lone::*;
use crate::Config;
use crate::engine::contract::*;
use bt_core::Bitfield;
use bt_wire::Message;
use core::time::Duration;

const PIECES: u32 = 200;

#[test]
fn a_free_slot_is_given_at_once() {
    let mut lone = Lone::seeder(PIECES);
    let mut unchoked = 0;
    for host in 1..=20 {
        let conn = lone.open_leecher(host, FAST);
        unchoked += usize::from(lone.sent(conn).contains(&Message::Unchoke));
    }
    assert_eq!(unchoked, crate::limits::UPLOAD_SLOTS_START);
    // A slot that becomes free is given to whoever has waited longest.
    lone.handle(Input::Closed {
        conn: ConnId(3),
        reason: crate::CloseReason::Gone,
    });
    assert!(lone.sent(ConnId(9 * 2 + 1)).contains(&Message::Unchoke));
}

#[test]
fn who_is_done_and_gone_leaves_its_slot() {
    // One short download after another: each says that it wants nothing more, and leaves.
    let mut lone = Lone::seeder(PIECES);
    for host in 1..=40 {
        let conn = lone.open_leecher(host, FAST);
        let sent = lone.sent(conn);
        assert!(
            sent.contains(&Message::Unchoke),
            "download {host} waits for the next round: {sent:?}"
        );
        lone.receive(conn, Message::NotInterested);
        lone.handle(Input::Closed {
            conn,
            reason: crate::CloseReason::Gone,
        });
    }
}

#[test]
fn whoever_waits_gets_the_slot_of_who_is_done_and_gone() {
    let mut lone = Lone::seeder(PIECES);
    let conns: Vec<_> = (1..=20).map(|host| lone.open_leecher(host, FAST)).collect();
    let (first, next) = (conns[0], conns[crate::limits::UPLOAD_SLOTS_START]);
    lone.sent(next);
    lone.receive(first, Message::NotInterested);
    assert_eq!(lone.sent(next), [], "its turn is not over");
    lone.handle(Input::Closed {
        conn: first,
        reason: crate::CloseReason::Gone,
    });
    assert!(lone.sent(next).contains(&Message::Unchoke));
}

#[test]
fn changing_ones_mind_gains_no_slot() {
    // FAULTS 71: an attacker with many connections is interested for a moment on each.
    let mut lone = Lone::seeder(PIECES);
    let mut unchoked = 0;
    for host in 1..=60 {
        let conn = lone.open_leecher(host, FAST);
        lone.receive(conn, Message::NotInterested);
        unchoked += usize::from(lone.sent(conn).contains(&Message::Unchoke));
    }
    assert_eq!(unchoked, crate::limits::UPLOAD_SLOTS_START);
    let conn = ConnId(3);
    for _ in 0..1_000 {
        lone.receive(conn, Message::Interested);
        lone.receive(conn, Message::NotInterested);
    }
    assert_eq!(lone.sent(conn), [], "no answer to a flapping peer");
    // A round later each slot may be given again.
    lone.pass_secs(11);
    lone.receive(conn, Message::Interested);
    assert!(lone.sent(conn).contains(&Message::Unchoke));
}

#[test]
fn rounds_are_ten_seconds_apart() {
    let mut lone = Lone::seeder(PIECES);
    for host in 1..=30 {
        lone.open_leecher(host, FAST);
    }
    lone.out.clear();
    let mut at = Vec::new();
    for second in 1..=60 {
        lone.pass_secs(1);
        let changes = |output: &Output| {
            matches!(
                output,
                Output::Send {
                    message: Message::Choke | Message::Unchoke,
                    ..
                }
            )
        };
        if lone.out.iter().any(changes) {
            at.push(second);
        }
        lone.out.clear();
        let unchoked = lone
            .engine
            .conns
            .values()
            .filter(|conn| !conn.am_choking)
            .count();
        assert_eq!(unchoked, 8);
    }
    assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= 10), "{at:?}");
    assert!(!at.is_empty());
}

#[test]
fn a_leecher_repays_those_who_give() {
    // BEP 3, tit-for-tat: the slots go to the peers that upload to us.
    let mut config = Config::new(OWN_ID);
    config.upload_slots = Some(3);
    let mut have = Bitfield::new(PIECES);
    have.set(layout(PIECES).piece(0).unwrap());
    let mut lone = Lone::with(torrent(PIECES, have), config);
    let mut conns = Vec::new();
    for host in 1..=10 {
        let conn = lone.open(host, FAST);
        let mut has = Bitfield::full(PIECES);
        has.clear(lone.layout.piece(0).unwrap());
        lone.receive(conn, Message::Bitfield(has.to_bytes().into()));
        lone.receive(conn, Message::Interested);
        conns.push(conn);
    }
    let givers = [conns[6], conns[8]];
    givers
        .iter()
        .for_each(|conn| lone.receive(*conn, Message::Unchoke));
    for _ in 0..400 {
        lone.pass(Duration::from_millis(50));
        for conn in givers {
            if let Some(block) = lone.requests(conn).first() {
                lone.deliver(conn, *block);
            }
        }
    }
    let unchoked: Vec<ConnId> = lone
        .engine
        .conns
        .values()
        .filter(|conn| !conn.am_choking)
        .map(|conn| conn.id)
        .collect();
    assert_eq!(unchoked.len(), 3);
    assert!(
        givers.iter().all(|conn| unchoked.contains(conn)),
        "{unchoked:?}"
    );
}
