//! What a seeder gives out first: each piece once (BEP 6, "suggest piece").

use super::lone::*;
use crate::Config;
use crate::engine::contract::*;
use crate::limits::{SUGGESTED_AHEAD, TICK};
use bt_core::{Bitfield, Block, PieceIndex};
use bt_wire::Message;

const PIECES: u32 = 200;

#[test]
fn a_seeder_suggests_to_each_peer_what_nobody_else_is_sent() {
    let mut lone = Lone::seeder(PIECES);
    let conns = [1, 2, 3].map(|host| lone.open_leecher(host, FAST));
    let mut told = std::collections::BTreeSet::new();
    for conn in conns {
        let sent = lone.sent(conn);
        let pieces = suggested(&sent);
        assert_eq!(pieces.len(), SUGGESTED_AHEAD);
        assert!(pieces.iter().all(|piece| told.insert(*piece)), "{pieces:?}");
        assert_eq!(sent.last(), Some(&Message::Unchoke), "hints come first");
        let fast = |message: &Message| matches!(message, Message::AllowedFast { .. });
        assert!(!sent.iter().any(fast), "a crowd would take all of the line");
        let piece = lone.layout.piece(pieces[0]).unwrap();
        let wanted: Vec<Block> = lone.layout.blocks(piece).collect();
        ask(&mut lone, conn, &wanted[..1]);
        let next = suggested(&lone.sent(conn));
        assert!(next.len() == 1 && told.insert(next[0]), "{next:?}");
    }
    // What went unused is somebody else's.
    let unused = suggested(&{
        lone.handle(Input::Closed {
            conn: conns[0],
            reason: crate::CloseReason::Gone,
        });
        let conn = lone.open_leecher(9, FAST);
        lone.sent(conn)
    });
    assert!(
        unused.iter().all(|piece| !told.insert(*piece)),
        "{unused:?}"
    );
}

#[test]
fn who_is_choked_in_the_middle_of_a_piece_is_suggested_nothing() {
    let mut config = Config::new(OWN_ID);
    config.upload_slots = Some(1);
    let mut lone = Lone::with(torrent(PIECES, Bitfield::full(PIECES)), config);
    let (first, _) = (lone.open_leecher(1, FAST), lone.open_leecher(2, FAST));
    let wanted = blocks(&lone, 12);
    ask(&mut lone, first, &wanted[1..10]);
    let sent = await_turn(&mut lone, first, &Message::Choke);
    let piece = wanted[9].piece.get();
    assert!(sent.contains(&Message::AllowedFast { piece }), "{sent:?}");
    lone.sent(first);
    // It goes on with its piece, and could ask for nothing else.
    ask(&mut lone, first, &wanted[10..11]);
    assert_eq!(suggested(&lone.sent(first)), []);
}

#[test]
fn what_others_brought_makes_room_for_other_suggestions() {
    let mut lone = Lone::seeder(PIECES);
    let (first, second) = (lone.open_leecher(1, FAST), lone.open_leecher(2, FAST));
    let wanted = blocks(&lone, 1);
    ask(&mut lone, first, &wanted);
    let before = suggested(&lone.sent(first));
    assert!(!before.is_empty());
    for piece in &before {
        lone.receive(second, Message::Have { piece: *piece });
    }
    let next = lone.layout.piece(PIECES - 1).unwrap();
    let block = lone.layout.blocks(next).next().unwrap();
    ask(&mut lone, first, &[block]);
    let after = suggested(&lone.sent(first));
    assert!(
        !after.is_empty() && after.iter().all(|piece| !before.contains(piece)),
        "{after:?}"
    );
}

/// The peer gets one piece after the other, but for this one, and another peer has it of it; what it is suggested meanwhile.
fn take_all_but(
    lone: &mut Lone,
    conn: ConnId,
    left_out: PieceIndex,
    other: Option<ConnId>,
) -> Vec<u32> {
    let mut told = suggested(&lone.sent(conn));
    let pieces: Vec<PieceIndex> = lone.layout.pieces().collect();
    for piece in pieces.into_iter().filter(|piece| *piece != left_out) {
        for block in lone.layout.blocks(piece).collect::<Vec<_>>() {
            ask(lone, conn, &[block]);
            assert_eq!(lone.uploads(conn), [block]);
            lone.uploaded(conn, block);
        }
        let piece = piece.get();
        lone.receive(conn, Message::Have { piece });
        if let Some(other) = other {
            lone.receive(other, Message::Have { piece });
        }
        told.extend(suggested(&lone.sent(conn)));
    }
    told
}

/// A seeder that has sent half a piece to one peer, and all others to another one; what this was suggested by then.
fn half_sent(leaves: bool, passes_on: bool) -> (Lone, ConnId, PieceIndex, Vec<u32>) {
    let mut lone = Lone::seeder(PIECES);
    let [first, second, other] = [1, 2, 3].map(|host| lone.open_leecher(host, FAST));
    let half = blocks(&lone, 2);
    ask(&mut lone, first, &half);
    assert_eq!(lone.uploads(first), half);
    half.iter().for_each(|block| lone.uploaded(first, *block));
    if leaves {
        let (conn, reason) = (first, crate::CloseReason::Gone);
        lone.handle(Input::Closed { conn, reason });
    }
    let other = passes_on.then_some(other);
    let told = take_all_but(&mut lone, second, half[0].piece, other);
    (lone, second, half[0].piece, told)
}

fn knows_what_is_out(lone: &Lone) -> bool {
    lone.engine.upload.spread.is_none()
}

#[test]
fn what_was_begun_by_who_left_is_offered_again() {
    let (_, _, half, told) = half_sent(true, true);
    assert!(told.contains(&half.get()), "{told:?}");
}

#[test]
fn what_was_being_sent_to_who_left_is_offered_again() {
    let mut lone = Lone::seeder(PIECES);
    let (first, second) = (lone.open_leecher(1, FAST), lone.open_leecher(2, FAST));
    let piece = blocks(&lone, 4);
    ask(&mut lone, first, &piece);
    assert_eq!(lone.uploads(first), piece, "all of it is on its way");
    let (conn, reason) = (first, crate::CloseReason::Gone);
    lone.handle(Input::Closed { conn, reason });
    let first_told = suggested(&lone.sent(second));
    let told = lone.layout.piece(first_told[0]).unwrap();
    let block = lone.layout.blocks(told).next().unwrap();
    ask(&mut lone, second, &[block]);
    let told = suggested(&lone.sent(second));
    assert!(told.contains(&piece[0].piece.get()), "{told:?}");
}

/// Half a second passes, in which the peer gets a block that it has.
fn pass_moving(lone: &mut Lone, conn: ConnId) {
    lone.pass(TICK / 2);
    let piece = lone.layout.piece(PIECES - 1).unwrap();
    let block = lone.layout.blocks(piece).last().unwrap();
    ask(lone, conn, &[block]);
    for block in lone.uploads(conn) {
        lone.uploaded(conn, block);
    }
}

#[test]
fn a_piece_that_nobody_goes_on_with_is_offered_once_more_in_the_end() {
    let (mut lone, second, half, told) = half_sent(false, true);
    assert!(!told.contains(&half.get()), "more may be asked for");
    let mut again = Vec::new();
    for _ in 0..60 {
        pass_moving(&mut lone, second);
        again.extend(suggested(&lone.sent(second)));
    }
    assert_eq!(again, [half.get()], "to who takes something");
    assert!(!knows_what_is_out(&lone), "it may take that too");
    lone.pass_secs(5);
    assert!(knows_what_is_out(&lone), "nobody will ever have it");
    assert_eq!(suggested(&lone.sent(second)), []);
}

#[test]
fn where_all_idle_a_piece_is_offered_once_more_and_not_for_ever() {
    // For some seconds it is not known what becomes of what the second peer got.
    let (mut lone, _, half, _) = half_sent(false, false);
    lone.out.clear();
    lone.pass_secs(60);
    let offers = |output: &&Output| {
        let Output::Send { message, .. } = output else {
            return false;
        };
        *message == Message::SuggestPiece { piece: half.get() }
    };
    assert_eq!(lone.out.iter().filter(offers).count(), 1);
}

#[test]
fn what_was_told_to_who_idles_is_offered_to_others_and_to_who_waits_for_the_line_it_is_not() {
    for idles in [true, false] {
        let mut lone = Lone::seeder(PIECES);
        let [first, second, other] = [1, 2, 3].map(|host| lone.open_leecher(host, FAST));
        let told = suggested(&lone.sent(first));
        let left_out = lone.layout.piece(told[0]).unwrap();
        let taken = lone.layout.piece(told[1]).unwrap();
        let block = lone.layout.blocks(taken).next().unwrap();
        ask(&mut lone, first, &[block]);
        assert_eq!(lone.uploads(first), [block]);
        if idles {
            lone.uploaded(first, block);
        }
        take_all_but(&mut lone, second, left_out, Some(other));
        let mut again = Vec::new();
        for _ in 0..20 {
            pass_moving(&mut lone, second);
            again.extend(suggested(&lone.sent(second)));
        }
        assert_eq!(again.contains(&left_out.get()), idles, "{again:?}");
    }
}
