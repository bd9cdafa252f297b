//! What is told of a connection at its end.

use super::lone::*;
use crate::engine::contract::*;
use crate::limits::REQUEST_TIMEOUT;
use crate::{Account, CloseReason, Event};
use bt_core::BLOCK_BYTES;
use bt_core::disk::Verdict;
use bt_wire::Message;

const BLOCK: u64 = BLOCK_BYTES as u64;

fn accounts(lone: &Lone) -> Vec<Account> {
    let told = lone.events.iter().filter_map(|event| {
        if let Event::PeerGone { account, .. } = event {
            return Some(*account);
        }
        None
    });
    told.collect()
}

/// Opens a connection, has `script` play its peer, ends it, and compares what is told then.
fn check(what: &str, expected: Option<Account>, script: impl FnOnce(&mut Lone, ConnId)) {
    let mut lone = Lone::leecher(4);
    let conn = lone.open_seeder(1, FAST);
    script(&mut lone, conn);
    let reason = CloseReason::Gone;
    lone.handle(Input::Closed { conn, reason });
    assert_eq!(accounts(&lone), Vec::from_iter(expected), "{what}");
}

#[test]
fn each_end_tells_what_the_peer_gave_and_what_it_owes() {
    let nothing = Account::default();
    check("an idle peer is not worth a word", None, |_, _| {});
    let served = Account {
        served: 3 * BLOCK,
        ..nothing
    };
    check("blocks that were asked for", Some(served), |lone, conn| {
        let asked = lone.requests(conn);
        asked.iter().take(3).for_each(|it| lone.deliver(conn, *it));
    });
    let unasked = Account {
        wasted: BLOCK,
        ..nothing
    };
    check("a block nobody asked for", Some(unasked), |lone, conn| {
        let asked = lone.requests(conn);
        let layout = lone.layout;
        let mut blocks = layout.pieces().flat_map(|piece| layout.blocks(piece));
        let other = blocks.find(|block| !asked.contains(block)).unwrap();
        lone.deliver(conn, other);
    });
    let refused = Account {
        over_claimed: 1,
        ..nothing
    };
    check("a reject while unchoked", Some(refused), |lone, conn| {
        let asked = lone.requests(conn);
        lone.receive(conn, Message::RejectRequest(address(asked[0])));
    });
    let silent = Account {
        over_claimed: 8,
        ..nothing
    };
    check("requests that time out", Some(silent), |lone, conn| {
        assert_eq!(lone.requests(conn).len(), 8);
        lone.pass(REQUEST_TIMEOUT);
        lone.pass_secs(2);
    });
    check("a reject by a choking peer", None, |lone, conn| {
        let asked = lone.requests(conn);
        lone.receive(conn, Message::Choke);
        lone.receive(conn, Message::RejectRequest(address(asked[0])));
    });
}

#[test]
fn a_block_that_another_brought_before_stands_in_the_account_of_who_was_late() {
    let mut lone = Lone::leecher(1);
    let late = lone.open_seeder(1, PLAIN);
    let asked = lone.requests(late);
    lone.receive(late, Message::Choke);
    let quick = lone.open_seeder(2, PLAIN);
    assert_eq!(lone.requests(quick), asked);
    for conn in [quick, late] {
        lone.deliver(conn, asked[0]);
    }
    for conn in [quick, late] {
        let reason = CloseReason::Gone;
        lone.handle(Input::Closed { conn, reason });
    }
    let served = Account {
        served: BLOCK,
        ..Account::default()
    };
    let wasted = Account {
        wasted: BLOCK,
        ..Account::default()
    };
    assert_eq!(accounts(&lone), [served, wasted]);
}

#[test]
fn a_bad_piece_stands_in_the_account_of_each_who_shared_in_it() {
    let mut lone = Lone::leecher(1);
    let first = lone.open_seeder(1, FAST);
    let asked = lone.requests(first);
    assert_eq!(asked.len(), 4);
    lone.deliver(first, asked[0]);
    lone.handle(Input::Closed {
        conn: first,
        reason: CloseReason::Gone,
    });
    let second = lone.open_seeder(2, FAST);
    let mut asked = lone.requests(second);
    asked.sort();
    asked.iter().for_each(|block| lone.deliver(second, *block));
    lone.run_disk(|_| Verdict::Bad {
        digests: vec![1, 2, 3, 4],
    });
    lone.handle(Input::Closed {
        conn: second,
        reason: CloseReason::Gone,
    });
    let told = accounts(&lone).into_iter();
    let told = told.map(|account| (account.served / BLOCK, account.bad_pieces));
    assert_eq!(told.collect::<Vec<_>>(), [(1, 0), (3, 1)]);
}
