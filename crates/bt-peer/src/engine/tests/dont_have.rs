//! Pieces that are taken back (BEP 54), by peers and by us.

use super::lone::*;
use crate::Config;
use crate::engine::contract::*;
use crate::engine::extended::DONT_HAVE_ID;
use crate::limits::{FAULTS_MAX, TAKEN_BACK_MAX};
use bt_core::disk::{Done, Verdict};
use bt_core::{Bitfield, Block, PieceIndex};
use bt_wire::extension::ExtensionHandshake;
use bt_wire::{Message, Reserved, dont_have};
use std::collections::{BTreeMap, BTreeSet};

const PIECES: u32 = 40;
const SPEAKS: Reserved = FAST.with_extension_protocol();
/// The id under which the script's peers take the extension.
const THEIR_ID: u8 = 7;

/// A peer tells us that it has lost a piece.
fn lost(piece: u32) -> Message {
    Message::Extended {
        id: DONT_HAVE_ID,
        payload: dont_have::encode(piece),
    }
}

/// We tell a peer that we have lost one.
fn told(piece: PieceIndex) -> Message {
    Message::Extended {
        id: THEIR_ID,
        payload: dont_have::encode(piece.get()),
    }
}

/// The handshake of a peer that takes the extension, or has taken it and does not any more.
fn greeting(id: u8) -> Message {
    let handshake = ExtensionHandshake {
        extensions: BTreeMap::from([(dont_have::NAME.to_owned(), id)]),
        ..ExtensionHandshake::default()
    };
    let payload = handshake.encode().into();
    Message::Extended { id: 0, payload }
}

/// The block's piece could not be read, and was then found to be wrong.
fn rots(lone: &mut Lone, conn: ConnId, block: Block) {
    unreadable(lone, conn, block);
    is_wrong(lone, block.piece);
}

fn is_wrong(lone: &mut Lone, piece: PieceIndex) {
    let digests = vec![0; 4];
    let verdict = Verdict::Bad { digests };
    lone.handle(Input::DiskDone(Done::Checked { piece, verdict }));
}

fn pieces_of(blocks: &[Block]) -> BTreeSet<PieceIndex> {
    blocks.iter().map(|block| block.piece).collect()
}

#[test]
fn what_a_peer_lost_is_asked_of_others() {
    for reserved in [PLAIN, FAST] {
        let mut lone = Lone::leecher(PIECES);
        let first = lone.open_seeder(1, reserved);
        let asked = lone.requests(first);
        assert_eq!(asked.len(), 8, "two pieces");
        let piece = asked[0].piece;
        lone.receive(first, lost(piece.get()));
        let again = lone.requests(first);
        assert_eq!(again.len(), 4, "others in their place");
        assert!(!pieces_of(&again).contains(&piece));
        for _ in 0..=FAULTS_MAX {
            lone.receive(first, lost(piece.get()));
        }
        assert!(!lone.is_violation(first), "said twice is no fault");
    }
    let mut lone = Lone::leecher(PIECES);
    let first = lone.open_seeder(1, FAST);
    let asked = lone.requests(first);
    let piece = asked[0].piece;
    lone.receive(first, lost(piece.get()));
    for block in asked.iter().filter(|block| block.piece == piece) {
        lone.receive(first, Message::RejectRequest(address(*block)));
    }
    lone.requests(first);
    // Nothing of the piece is kept for who cannot send it.
    let second = lone.open(2, FAST);
    let mut has = Bitfield::new(PIECES);
    has.set(piece);
    lone.receive(second, Message::Bitfield(has.to_bytes().into()));
    lone.receive(second, Message::Unchoke);
    let whole: Vec<Block> = lone.layout.blocks(piece).collect();
    assert_eq!(lone.requests(second), whole);
    // It has it again.
    lone.receive(second, lost(piece.get()));
    assert_eq!(lone.requests(second), []);
    lone.receive(second, Message::Have { piece: piece.get() });
    assert_eq!(lone.requests(second), whole);
}

#[test]
fn interest_ends_with_the_last_piece_that_we_need() {
    let mut lone = Lone::leecher(PIECES);
    let conn = lone.open(1, FAST);
    lone.receive(conn, Message::HaveNone);
    lone.receive(conn, Message::Have { piece: 3 });
    lone.receive(conn, Message::Have { piece: 5 });
    lone.sent(conn);
    lone.receive(conn, lost(3));
    assert_eq!(lone.sent(conn), []);
    lone.receive(conn, lost(3));
    assert_eq!(lone.sent(conn), [], "it was lost before");
    lone.receive(conn, lost(5));
    assert_eq!(lone.sent(conn), [Message::NotInterested]);
    lone.receive(conn, Message::Have { piece: 5 });
    assert_eq!(lone.sent(conn), [Message::Interested]);
}

#[test]
fn a_seeder_that_lost_something_is_none() {
    let mut lone = Lone::leecher(PIECES);
    let conn = lone.open_seeder(1, FAST);
    assert_eq!(lone.engine.stats(lone.now).seeders, 1);
    lone.receive(conn, lost(0));
    assert_eq!(lone.engine.stats(lone.now).seeders, 0);
    let piece = lone.layout.piece(0).unwrap();
    assert_eq!(lone.engine.picker.availability(piece), 0);
    let other = lone.layout.piece(1).unwrap();
    assert_eq!(lone.engine.picker.availability(other), 1);
}

#[test]
fn nonsense_is_a_small_fault() {
    let nonsense: [&'static [u8]; 4] = [b"", b"\0\0\0", b"\0\0\0\0\0", b"\0\0\0\x28"];
    for payload in nonsense {
        let mut lone = Lone::leecher(PIECES);
        let conn = lone.open_seeder(1, SPEAKS);
        for n in 0..=FAULTS_MAX {
            assert!(!lone.is_violation(conn), "{payload:?}, {n} times");
            let (id, payload) = (DONT_HAVE_ID, payload.into());
            lone.receive(conn, Message::Extended { id, payload });
        }
        assert!(lone.is_violation(conn), "{payload:?}");
    }
}

#[test]
fn a_piece_that_rots_is_taken_back_where_it_was_told_of() {
    let mut lone = Lone::seeder(200);
    let block = blocks(&lone, 1)[0];
    let piece = block.piece;
    let [taker, told_too, deaf, mute] = [1, 2, 3, 4].map(|n| {
        let conn = lone.open_leecher(n, SPEAKS);
        if n < 4 {
            lone.receive(conn, greeting(THEIR_ID));
        }
        if n == 3 {
            lone.receive(conn, greeting(0));
        }
        conn
    });
    lone.pass_secs(1);
    ask(&mut lone, taker, &[block]);
    lone.uploads(taker);
    // These wait behind it, and one of them is of the same piece.
    let conns = [taker, told_too, deaf, mute];
    conns.iter().for_each(|conn| drop(lone.sent(*conn)));
    unreadable(&mut lone, taker, block);
    lone.pass_secs(1);
    let newcomer = lone.open_leecher(5, SPEAKS);
    lone.receive(newcomer, greeting(THEIR_ID));
    conns.iter().for_each(|conn| drop(lone.sent(*conn)));
    lone.sent(newcomer);
    is_wrong(&mut lone, piece);
    for (conn, expected) in [
        (taker, true),
        (told_too, true),
        (deaf, false),
        (mute, false),
    ] {
        let sent = lone.sent(conn);
        assert_eq!(sent.contains(&told(piece)), expected, "{sent:?}");
    }
    let sent = lone.sent(newcomer);
    assert!(
        !sent.contains(&told(piece)),
        "it never heard of it: {sent:?}"
    );
    // Who has not heard may ask for it as often as it likes: it is told no, and thought no worse of.
    for _ in 0..=FAULTS_MAX {
        ask(&mut lone, mute, &[block]);
        let reject = Message::RejectRequest(address(block));
        assert_eq!(lone.sent(mute), [reject]);
    }
    assert!(!lone.is_violation(mute));
    // It comes back.
    let seeder = lone.open_seeder(6, FAST);
    for block in lone.requests(seeder) {
        lone.deliver(seeder, block);
    }
    conns.iter().for_each(|conn| drop(lone.sent(*conn)));
    lone.run_disk(|_| Verdict::Good);
    let have = Message::Have { piece: piece.get() };
    for conn in [taker, told_too, newcomer] {
        assert!(lone.sent(conn).contains(&have));
    }
}

#[test]
fn what_waits_of_a_piece_in_doubt_is_rejected() {
    let mut lone = Lone::seeder(200);
    let conn = lone.open_leecher(1, SPEAKS);
    let many = blocks(&lone, 40).split_off(2);
    ask(&mut lone, conn, &many);
    let ordered = lone.uploads(conn);
    let waits = many[ordered.len()];
    assert!(waits.begin > 0, "its piece has begun: {waits:?}");
    let same = |block: &&Block| block.piece == waits.piece && block.begin >= waits.begin;
    let expected = many.iter().filter(same).map(|block| address(*block));
    let expected: Vec<Message> = expected.map(Message::RejectRequest).collect();
    lone.sent(conn);
    let block = ordered[ordered.len() - 1];
    assert_eq!(block.piece, waits.piece);
    rots(&mut lone, conn, block);
    let rejects = |sent: Vec<Message>| -> Vec<Message> {
        let is_reject = |message: &Message| matches!(message, Message::RejectRequest(_));
        sent.into_iter().filter(is_reject).collect()
    };
    let sent = rejects(lone.sent(conn));
    assert_eq!(
        sent.len(),
        expected.len() + 1,
        "and the one that could not be read"
    );
    assert!(expected.iter().all(|reject| sent.contains(reject)));
    for block in &ordered {
        lone.uploaded(conn, *block);
    }
    let pieces = pieces_of(&lone.uploads(conn));
    assert!(!pieces.is_empty() && !pieces.contains(&waits.piece));
}

#[test]
fn a_super_seeder_takes_back_what_it_showed() {
    let mut config = Config::new(OWN_ID);
    config.super_seed = true;
    let mut lone = Lone::with(torrent(PIECES, Bitfield::full(PIECES)), config);
    let [first, second, silent] = [1, 2, 3].map(|n| {
        let conn = lone.open(n, SPEAKS);
        lone.receive(conn, greeting(THEIR_ID));
        conn
    });
    for conn in [first, second] {
        lone.receive(conn, Message::HaveNone);
        lone.receive(conn, Message::Interested);
    }
    lone.pass_secs(1);
    let shown = lone.sent(first).into_iter().find_map(|message| {
        if let Message::Have { piece } = message {
            return lone.layout.piece(piece);
        }
        None
    });
    let piece = shown.unwrap();
    let block = lone.layout.blocks(piece).next().unwrap();
    ask(&mut lone, first, &[block]);
    lone.out.clear();
    rots(&mut lone, first, block);
    assert!(lone.sent(first).contains(&told(piece)));
    for conn in [second, silent] {
        let sent = lone.sent(conn);
        assert!(
            !sent.contains(&told(piece)),
            "it was never shown it: {sent:?}"
        );
    }
}

#[test]
fn what_was_asked_of_a_lost_piece_is_cancelled() {
    for reserved in [PLAIN, FAST] {
        let mut lone = Lone::leecher(PIECES);
        let conn = lone.open_seeder(1, reserved);
        let asked = lone.requests(conn);
        lone.sent(conn);
        let piece = asked[0].piece;
        lone.receive(conn, lost(piece.get()));
        let of_it = asked.iter().filter(|block| block.piece == piece);
        let expected: Vec<Message> = of_it
            .map(|block| Message::Cancel(address(*block)))
            .collect();
        let is_cancel = |message: &Message| matches!(message, Message::Cancel(_));
        let sent: Vec<Message> = lone.sent(conn).into_iter().filter(is_cancel).collect();
        assert_eq!(sent, expected);
    }
}

#[test]
fn who_says_late_how_to_hear_of_it_hears_of_what_was_lost() {
    let mut lone = Lone::seeder(200);
    let conn = lone.open_leecher(1, SPEAKS);
    let block = blocks(&lone, 1)[0];
    ask(&mut lone, conn, &[block]);
    lone.uploads(conn);
    rots(&mut lone, conn, block);
    assert!(!lone.sent(conn).contains(&told(block.piece)));
    lone.receive(conn, greeting(THEIR_ID));
    let word = |sent: Vec<Message>| {
        sent.iter()
            .filter(|sent| **sent == told(block.piece))
            .count()
    };
    assert_eq!(word(lone.sent(conn)), 1);
    lone.receive(conn, greeting(THEIR_ID));
    assert_eq!(word(lone.sent(conn)), 0, "it has heard");
}

#[test]
fn who_lost_a_piece_is_told_that_it_is_here() {
    let mut lone = Lone::leecher(PIECES);
    let first = lone.open_seeder(1, SPEAKS);
    let asked = lone.requests(first);
    let piece = asked[0].piece;
    let have = Message::Have { piece: piece.get() };
    let second = lone.open(2, SPEAKS);
    lone.receive(second, have.clone());
    for block in asked.iter().filter(|block| block.piece == piece) {
        lone.deliver(first, *block);
    }
    lone.run_disk(|_| Verdict::Good);
    let word = |sent: Vec<Message>| sent.iter().filter(|sent| **sent == have).count();
    assert_eq!(word(lone.sent(second)), 0, "it has the piece itself");
    lone.receive(second, lost(piece.get()));
    assert_eq!(word(lone.sent(second)), 1);
    lone.receive(second, Message::Have { piece: piece.get() });
    lone.receive(second, lost(piece.get()));
    assert_eq!(word(lone.sent(second)), 0, "it was told before");
}

#[test]
fn taking_back_and_having_again_costs_little() {
    for reserved in [PLAIN, FAST] {
        let mut lone = Lone::leecher(PIECES);
        let conn = lone.open_seeder(1, reserved);
        let mut last = lone.requests(conn);
        let mut asked = last.len();
        for _ in 0..1_000 {
            let Some(block) = last.first() else { break };
            let piece = block.piece.get();
            lone.receive(conn, lost(piece));
            lone.receive(conn, Message::Have { piece });
            last = lone.requests(conn);
            asked += last.len();
        }
        assert!(last.is_empty(), "{asked}");
        assert!(asked <= 8 + 4 * TAKEN_BACK_MAX as usize, "{asked}");
    }
}
