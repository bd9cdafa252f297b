//! What a super-seeder tells whom (BEP 16).

use super::lone::*;
use crate::engine::ConnId;
use crate::limits::{
    SHOWN_ALONE_BYTES, SHOWN_MAX, SHOWN_PATIENCE, SLOT_GRACE, TICK, UPLOAD_SLOTS_START,
};
use crate::{CloseReason, Config, Input};
use bt_core::disk::{DiskError, DiskErrorKind, Done, Job, Verdict};
use bt_core::{Bitfield, Block, PieceIndex};
use bt_wire::Message;
use bt_wire::extension::ExtensionHandshake;
use std::collections::BTreeSet;

const PIECES: u32 = 12;

fn seeder() -> Lone {
    let mut config = Config::new(OWN_ID);
    config.super_seed = true;
    Lone::with(torrent(PIECES, Bitfield::full(PIECES)), config)
}

/// A newcomer, and what it is shown.
fn newcomer(lone: &mut Lone, n: u8) -> (ConnId, Vec<u32>) {
    let conn = lone.open(n, FAST);
    assert_eq!(lone.sent(conn), [Message::HaveNone], "nothing to be seen");
    lone.receive(conn, Message::HaveNone);
    let shown = shown(lone, conn);
    lone.receive(conn, Message::Interested);
    (conn, shown)
}

/// The pieces that it was told of since it was last asked.
fn shown(lone: &mut Lone, conn: ConnId) -> Vec<u32> {
    let sent = lone.sent(conn);
    let piece = |message: &Message| {
        let hint = matches!(
            message,
            Message::SuggestPiece { .. } | Message::AllowedFast { .. }
        );
        assert!(!hint, "{message:?}");
        if let Message::Have { piece } = message {
            return Some(*piece);
        }
        None
    };
    sent.iter().filter_map(piece).collect()
}

fn has(lone: &mut Lone, conn: ConnId, piece: u32) {
    lone.receive(conn, Message::Have { piece });
}

#[test]
fn each_peer_is_shown_pieces_of_its_own() {
    let mut lone = seeder();
    let mut all = BTreeSet::new();
    for n in 1..=6 {
        let (_, shown) = newcomer(&mut lone, n);
        assert_eq!(shown.len(), SHOWN_MAX);
        assert!(shown.iter().all(|piece| all.insert(*piece)), "{shown:?}");
    }
    // All are out, and for a while nobody is shown one that somebody else has in hand.
    let (late, shown) = newcomer(&mut lone, 7);
    assert_eq!(shown, []);
    assert_eq!(lone.close_reason(late), None);
}

#[test]
fn the_next_piece_comes_when_the_last_was_passed_on() {
    let mut lone = seeder();
    let (first, pieces) = newcomer(&mut lone, 1);
    let (second, _) = newcomer(&mut lone, 2);
    has(&mut lone, first, pieces[0]);
    assert_eq!(shown(&mut lone, first), [], "it keeps it to itself");
    has(&mut lone, second, pieces[0]);
    assert_eq!(shown(&mut lone, first).len(), 1, "it gave it to another");
    // It tells nothing of a piece that it got from us: another's word is enough.
    has(&mut lone, second, pieces[1]);
    assert_eq!(shown(&mut lone, first).len(), 1);
}

#[test]
fn with_nobody_else_there_is_nothing_to_wait_for() {
    let mut lone = seeder();
    let (only, mut next) = newcomer(&mut lone, 1);
    let mut seen = BTreeSet::new();
    while let Some(piece) = next.pop() {
        assert!(seen.insert(piece), "{piece} twice");
        // It does not tell us of what it got from us.
        let blocks = lone.layout.blocks(lone.layout.piece(piece).unwrap());
        for block in blocks.collect::<Vec<_>>() {
            lone.receive(only, Message::Request(address(block)));
            assert_eq!(lone.uploads(only), [block]);
            let (conn, result) = (only, Ok(()));
            let sent = Input::Uploaded {
                conn,
                block,
                result,
            };
            lone.handle(sent);
        }
        next.extend(shown(&mut lone, only));
    }
    assert_eq!(seen.len(), PIECES as usize, "all, without a pause");
}

/// Somebody is being sent a block, and never has it all: our line does not idle.
fn keep_line_busy(lone: &mut Lone, n: u8) -> ConnId {
    let (conn, pieces) = newcomer(lone, n);
    let piece = lone.layout.piece(pieces[0]).unwrap();
    let block = lone.layout.blocks(piece).next().unwrap();
    lone.receive(conn, Message::Request(address(block)));
    assert_eq!(lone.uploads(conn), [block]);
    conn
}

#[test]
fn who_passes_nothing_on_gets_little_and_stalls_nobody() {
    const MANY: u32 = 5 * PIECES;
    let mut config = Config::new(OWN_ID);
    config.super_seed = true;
    let mut lone = Lone::with(torrent(MANY, Bitfield::full(MANY)), config);
    let busy = keep_line_busy(&mut lone, 3);
    let (miser, pieces) = newcomer(&mut lone, 1);
    let (other, _) = newcomer(&mut lone, 2);
    pieces
        .iter()
        .for_each(|piece| has(&mut lone, miser, *piece));
    lone.pass(SHOWN_PATIENCE / 2);
    assert_eq!(shown(&mut lone, miser), []);
    let mut told = BTreeSet::new();
    let rounds = 2 * MANY as usize / (3 * SHOWN_MAX);
    for round in 0..rounds {
        lone.pass(SHOWN_PATIENCE);
        let next = shown(&mut lone, miser);
        if round < rounds / 3 {
            assert!(next.len() <= SHOWN_MAX, "not all are out: {next:?}");
        }
        told.extend(shown(&mut lone, other));
        for conn in [other, miser, busy] {
            lone.receive(conn, Message::KeepAlive);
        }
    }
    // What the miser has and does not give comes from us in the end.
    for piece in pieces {
        assert!(told.contains(&piece), "{piece} of {told:?}");
    }
}

#[test]
fn who_gets_from_others_is_not_shown_what_they_have() {
    let mut lone = seeder();
    for lacks in [5, 6] {
        let rich = lone.open(10 + lacks, FAST);
        let mut most = Bitfield::full(PIECES);
        most.clear(lone.layout.piece(lacks.into()).unwrap());
        lone.receive(rich, Message::Bitfield(most.to_bytes().into()));
    }
    let (poor, _) = newcomer(&mut lone, 1);
    for piece in 0..4 {
        lone.pass(SHOWN_PATIENCE * 3 / 4);
        has(&mut lone, poor, piece);
        assert_eq!(shown(&mut lone, poor), [], "{piece}");
    }
    // All stop giving: the rest comes from us.
    lone.pass(SHOWN_PATIENCE / 2);
    assert_eq!(shown(&mut lone, poor), []);
    lone.pass(SHOWN_PATIENCE / 2 + TICK);
    assert_eq!(shown(&mut lone, poor).len(), PIECES as usize - 4);
}

#[test]
fn who_is_alone_is_shown_some_pieces_ahead_of_what_it_has_until_others_give_again() {
    const MANY: u32 = 300;
    let mut lone = {
        let mut config = Config::new(OWN_ID);
        config.super_seed = true;
        Lone::with(torrent(MANY, Bitfield::full(MANY)), config)
    };
    let (rich, _) = newcomer(&mut lone, 2);
    let most: Vec<u32> = (1..MANY).collect();
    let (alone, first) = newcomer(&mut lone, 1);
    most.iter().for_each(|piece| has(&mut lone, rich, *piece));
    shown(&mut lone, rich);
    let mut told = first;
    told.extend(shown(&mut lone, alone));
    lone.pass(SHOWN_PATIENCE + TICK);
    let ahead = (SHOWN_ALONE_BYTES / lone.layout.piece_length_max()) as usize;
    let more = shown(&mut lone, alone);
    assert!(more.len().abs_diff(ahead) <= SHOWN_MAX, "{}", more.len());
    // One piece more for each that it has got, at once.
    let piece = lone.layout.piece(more[0]).unwrap();
    for block in lone.layout.blocks(piece).collect::<Vec<_>>() {
        lone.receive(alone, Message::Request(address(block)));
        assert_eq!(lone.uploads(alone), [block]);
        let (conn, result) = (alone, Ok(()));
        lone.handle(Input::Uploaded {
            conn,
            block,
            result,
        });
    }
    assert_eq!(shown(&mut lone, alone).len(), 1);
    told.extend(more);
    let hidden = (0..MANY).rfind(|piece| !told.contains(piece)).unwrap();
    has(&mut lone, alone, hidden);
    lone.pass(SHOWN_PATIENCE - TICK);
    assert_eq!(shown(&mut lone, alone), []);
}

#[test]
fn an_idle_line_serves_who_is_alone_before_all_is_out() {
    for idle in [true, false] {
        let mut config = Config::new(OWN_ID);
        config.super_seed = true;
        let mut lone = Lone::with(torrent(300, Bitfield::full(300)), config);
        if !idle {
            keep_line_busy(&mut lone, 9);
        }
        let conns = [1, 2].map(|n| newcomer(&mut lone, n).0);
        lone.pass(SHOWN_PATIENCE / 2);
        assert!(conns.iter().all(|conn| shown(&mut lone, *conn).is_empty()));
        lone.pass(SHOWN_PATIENCE);
        for conn in conns {
            let more = shown(&mut lone, conn).len();
            assert_eq!(more > 2 * SHOWN_MAX, idle, "{more}");
        }
    }
}

#[test]
fn what_was_shown_stays_shown_when_its_turn_is_over() {
    let mut config = Config::new(OWN_ID);
    (config.super_seed, config.upload_slots) = (true, Some(1));
    let mut lone = Lone::with(torrent(100, Bitfield::full(100)), config);
    let conns = [1, 2].map(|n| newcomer(&mut lone, n));
    let mut all: Vec<u32> = conns.iter().flat_map(|(_, shown)| shown.clone()).collect();
    let mut chokes = 0;
    for _ in 0..12 {
        lone.pass_secs(10);
        for (conn, _) in &conns {
            lone.receive(*conn, Message::KeepAlive);
            for message in lone.sent(*conn) {
                if let Message::Have { piece } = message {
                    all.push(piece);
                }
                chokes += usize::from(message == Message::Choke);
            }
        }
    }
    assert!(chokes > 0, "it goes round");
    let each: BTreeSet<&u32> = all.iter().collect();
    assert_eq!(each.len(), all.len(), "nothing to two: {all:?}");
}

#[test]
fn a_slot_that_is_not_used_is_anothers() {
    let mut lone = seeder();
    for n in (1..).take(UPLOAD_SLOTS_START) {
        newcomer(&mut lone, n);
    }
    let (late, _) = newcomer(&mut lone, 100);
    assert_eq!(lone.sent(late), [], "each may be about to ask");
    lone.pass(SLOT_GRACE);
    let (late, _) = newcomer(&mut lone, 101);
    assert_eq!(lone.sent(late), [Message::Unchoke]);
}

#[test]
fn what_waits_for_our_line_is_not_shown_to_others_meanwhile() {
    let mut config = Config::new(OWN_ID);
    (config.super_seed, config.upload_slots) = (true, Some(1));
    let mut lone = Lone::with(torrent(2, Bitfield::full(2)), config);
    let (first, pieces) = newcomer(&mut lone, 1);
    let (second, nothing) = newcomer(&mut lone, 2);
    assert_eq!((pieces.len(), nothing), (2, Vec::new()));
    // Unchoked, it asks for neither: then they are another's.
    lone.pass(SHOWN_PATIENCE / 2);
    assert_eq!(shown(&mut lone, second), []);
    lone.pass(SHOWN_PATIENCE);
    assert_eq!(shown(&mut lone, second).len(), 2);
    // Choked, it can do nothing about it.
    let mut config = Config::new(OWN_ID);
    (config.super_seed, config.upload_slots) = (true, Some(0));
    let mut lone = Lone::with(torrent(2, Bitfield::full(2)), config);
    newcomer(&mut lone, 1);
    let (second, _) = newcomer(&mut lone, 2);
    lone.pass(SHOWN_PATIENCE * 2);
    assert_eq!(shown(&mut lone, second), []);
    assert_eq!(lone.close_reason(first), None);
}

#[test]
fn what_is_slow_to_arrive_is_not_shown_to_others() {
    let mut lone = Lone::with(torrent(2, Bitfield::full(2)), {
        let mut config = Config::new(OWN_ID);
        config.super_seed = true;
        config
    });
    let (first, pieces) = newcomer(&mut lone, 1);
    let (second, _) = newcomer(&mut lone, 2);
    let piece = lone.layout.piece(pieces[0]).unwrap();
    let asked: Vec<Block> = lone.layout.blocks(piece).collect();
    for block in &asked {
        lone.receive(first, Message::Request(address(*block)));
    }
    for block in asked.iter().take(3) {
        lone.pass(SHOWN_PATIENCE / 2);
        lone.uploaded(first, *block);
        assert_eq!(shown(&mut lone, second), []);
    }
}

#[test]
fn who_says_nothing_has_nothing() {
    let mut lone = seeder();
    let conn = lone.open(1, PLAIN);
    assert_eq!(lone.sent(conn), []);
    lone.pass_secs(4);
    assert_eq!(shown(&mut lone, conn), [], "its bitfield may be under way");
    lone.pass_secs(2);
    let first = shown(&mut lone, conn);
    assert_eq!(first.len(), SHOWN_MAX);
    let full = Bitfield::full(PIECES).to_bytes();
    lone.receive(conn, Message::Bitfield(full.into()));
    assert_eq!(lone.close_reason(conn), Some(CloseReason::Redundant));
}

#[test]
fn what_its_first_word_says_it_has_is_not_shown_to_it() {
    for piece in 0..PIECES {
        let mut lone = seeder();
        let conn = lone.open(1, PLAIN);
        has(&mut lone, conn, piece);
        let first = shown(&mut lone, conn);
        assert_eq!(first.len(), SHOWN_MAX);
        assert!(!first.contains(&piece), "{first:?} to who has {piece}");
    }
}

#[test]
fn what_was_not_shown_is_not_there() {
    let mut lone = seeder();
    let (conn, pieces) = newcomer(&mut lone, 1);
    let block = |lone: &Lone, piece: u32| -> Block {
        let piece = lone.layout.piece(piece).unwrap();
        lone.layout.blocks(piece).next().unwrap()
    };
    let hidden = (0..PIECES).find(|piece| !pieces.contains(piece)).unwrap();
    let (hidden, seen) = (block(&lone, hidden), block(&lone, pieces[0]));
    lone.sent(conn);
    lone.receive(conn, Message::Request(address(hidden)));
    assert_eq!(
        lone.sent(conn),
        [Message::RejectRequest(address(hidden))],
        "as if it were missing"
    );
    lone.receive(conn, Message::Request(address(seen)));
    assert_eq!(lone.uploads(conn), [seen]);
}

#[test]
fn what_a_leaving_peer_never_asked_for_is_shown_to_another() {
    let mut lone = seeder();
    let mut pieces = Vec::new();
    for n in 1..=6 {
        pieces.push(newcomer(&mut lone, n));
    }
    let (gone, lost) = pieces.remove(0);
    let reason = CloseReason::Gone;
    lone.handle(Input::Closed { conn: gone, reason });
    let (_, mut shown) = newcomer(&mut lone, 9);
    shown.sort_unstable();
    let mut lost = lost;
    lost.sort_unstable();
    assert_eq!(shown, lost);
}

#[test]
fn it_does_not_call_itself_a_seeder() {
    let mut lone = seeder();
    let conn = lone.open(1, FAST.with_extension_protocol());
    let sent = lone.sent(conn);
    let [Message::HaveNone, Message::Extended { id: 0, payload }] = &sent[..] else {
        panic!("{sent:?}");
    };
    let ours = ExtensionHandshake::decode(payload).unwrap();
    assert_eq!(ours.upload_only, None);
    // Who is not complete hides nothing.
    let mut config = Config::new(OWN_ID);
    config.super_seed = true;
    let mut have = Bitfield::full(PIECES);
    have.clear(lone.layout.piece(3).unwrap());
    let mut part = Lone::with(torrent(PIECES, have), config);
    let conn = part.open(1, FAST);
    assert!(matches!(part.sent(conn)[..], [Message::Bitfield(_)]));
}

/// The peer asks for the first two blocks of a piece, and the disk cannot read the first.
fn unreadable(lone: &mut Lone, conn: ConnId, piece: PieceIndex) {
    let asked: Vec<Block> = lone.layout.blocks(piece).take(2).collect();
    for block in &asked {
        lone.receive(conn, Message::Request(address(*block)));
    }
    let error = DiskError {
        kind: DiskErrorKind::Io,
        message: String::new(),
    };
    let (block, result) = (asked[0], Err(error));
    lone.handle(Input::Uploaded {
        conn,
        block,
        result,
    });
    assert_eq!(lone.jobs(), [Job::Check { piece }]);
}

#[test]
fn a_piece_in_doubt_is_shown_to_nobody_until_it_is_found_right() {
    let mut lone = seeder();
    let (conn, pieces) = newcomer(&mut lone, 1);
    let piece = lone.layout.piece(pieces[0]).unwrap();
    unreadable(&mut lone, conn, piece);
    // It leaves, and what it waited for is another's.
    let reason = CloseReason::Gone;
    lone.handle(Input::Closed { conn, reason });
    let (mut told, mut conns) = (BTreeSet::new(), Vec::new());
    for n in 2..=7 {
        let (conn, shown) = newcomer(&mut lone, n);
        told.extend(shown);
        conns.push(conn);
    }
    assert_eq!(told.len(), PIECES as usize - 1);
    assert!(!told.contains(&piece.get()), "{told:?}");
    let verdict = Verdict::Good;
    lone.handle(Input::DiskDone(Done::Checked { piece, verdict }));
    for conn in conns {
        assert_eq!(shown(&mut lone, conn), [], "it is one piece among others");
    }
    let (_, shown) = newcomer(&mut lone, 8);
    assert_eq!(shown, [piece.get()]);
}

#[test]
fn a_piece_that_was_lost_is_fetched_again_and_told_to_nobody() {
    let mut lone = seeder();
    let (taker, pieces) = newcomer(&mut lone, 1);
    let piece = lone.layout.piece(pieces[0]).unwrap();
    let (giver, _) = newcomer(&mut lone, 2);
    let (other, _) = newcomer(&mut lone, 3);
    has(&mut lone, giver, piece.get());
    let last = lone.layout.blocks(piece).last().unwrap();
    lone.receive(taker, Message::Request(address(last)));
    unreadable(&mut lone, taker, piece);
    let verdict = Verdict::Bad {
        digests: vec![0; 4],
    };
    lone.handle(Input::DiskDone(Done::Checked { piece, verdict }));
    // A block of it that was read before is no sign that the taker has it.
    lone.uploaded(taker, last);
    let sent = lone.sent(giver);
    assert_eq!(sent.last(), Some(&Message::Interested), "{sent:?}");
    lone.sent(other);
    lone.receive(giver, Message::Unchoke);
    let asked = lone.requests(giver);
    assert_eq!(asked.len(), 4);
    asked.iter().for_each(|block| lone.deliver(giver, *block));
    lone.run_disk(|_| Verdict::Good);
    assert_eq!(lone.engine.stats(lone.now).pieces_have, PIECES);
    assert_eq!(lone.sent(giver), [Message::NotInterested]);
    assert_eq!(lone.sent(other), [], "it was never shown the piece");
}

#[test]
fn a_first_word_that_comes_late_is_no_second_one() {
    let none = Bitfield::new(PIECES).to_bytes();
    for (reserved, word) in [
        (FAST, Message::HaveNone),
        (PLAIN, Message::Bitfield(none.into())),
    ] {
        let mut lone = seeder();
        let conn = lone.open(1, reserved);
        lone.pass_secs(6);
        assert_eq!(shown(&mut lone, conn).len(), SHOWN_MAX);
        lone.receive(conn, word);
        assert_eq!(lone.close_reason(conn), None);
        assert_eq!(shown(&mut lone, conn), [], "it has its pieces");
    }
}
