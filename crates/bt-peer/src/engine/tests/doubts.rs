//! Pieces that the disk could not read for a peer: checked again, and not served, saved or told of before (FAULTS 80).

use super::lone::*;
use crate::Event;
use crate::engine::contract::*;
use bt_core::disk::{DiskError, DiskErrorKind, Done, Job, Verdict};
use bt_core::{Bitfield, Block};
use bt_wire::Message;

const PIECES: u32 = 200;

#[test]
fn a_piece_that_cannot_be_read_is_checked_before_it_is_served_again() {
    // FAULTS 80.
    let mut lone = Lone::seeder(PIECES);
    let conn = lone.open_leecher(1, FAST);
    let block = blocks(&lone, 1)[0];
    let piece = block.piece;
    ask(&mut lone, conn, &[block]);
    assert_eq!(lone.uploads(conn), [block]);
    lone.sent(conn);
    let error = DiskError {
        kind: DiskErrorKind::Io,
        message: "disk on fire".to_owned(),
    };
    let result = Err(error.clone());
    lone.handle(Input::Uploaded {
        conn,
        block,
        result,
    });
    assert_eq!(lone.sent(conn), [Message::RejectRequest(address(block))]);
    assert_eq!(lone.jobs(), [Job::Check { piece }]);
    assert_eq!(
        lone.events.last(),
        Some(&Event::UploadFailed {
            piece,
            error: error.clone()
        })
    );
    ask(&mut lone, conn, &[block]);
    assert_eq!(lone.uploads(conn), [], "not in doubt");
    let other = blocks(&lone, 9)[8];
    ask(&mut lone, conn, &[other]);
    assert_eq!(lone.uploads(conn), [other], "others go on");
    // The disk cannot even be read for the check: it is tried again.
    let verdict = Verdict::Failed(error.clone());
    lone.handle(Input::DiskDone(Done::Checked { piece, verdict }));
    assert_eq!(lone.jobs(), []);
    lone.pass_secs(31);
    assert_eq!(lone.jobs(), [Job::Check { piece }]);
    let verdict = Verdict::Good;
    lone.handle(Input::DiskDone(Done::Checked { piece, verdict }));
    ask(&mut lone, conn, &[block]);
    assert_eq!(lone.uploads(conn), [block]);
    // Next time it is found to be wrong: it is a missing piece like any other.
    let result = Err(error);
    lone.handle(Input::Uploaded {
        conn,
        block,
        result,
    });
    let verdict = Verdict::Bad {
        digests: vec![0; 4],
    };
    lone.handle(Input::DiskDone(Done::Checked { piece, verdict }));
    assert_eq!(lone.engine.stats(lone.now).pieces_have, PIECES - 1);
    let seeder = lone.open_seeder(2, FAST);
    assert_eq!(lone.requests(seeder).len(), 4);
}

#[test]
fn what_was_asked_of_a_piece_before_it_was_in_doubt_is_refused() {
    let mut lone = Lone::seeder(PIECES);
    let conn = lone.open_leecher(1, FAST);
    let doubted = blocks(&lone, 1)[0].piece;
    let of_it: Vec<Block> = lone.layout.blocks(doubted).collect();
    let others: Vec<Block> = blocks(&lone, 13)[4..].to_vec();
    assert!(others.iter().all(|block| block.piece != doubted));
    // As much as may be ordered at once stands between the first block of the piece and the others.
    let asked = [&of_it[..1], &others[..8], &of_it[1..]].concat();
    ask(&mut lone, conn, &asked);
    assert_eq!(lone.uploads(conn), asked[..8]);
    lone.sent(conn);
    unreadable(&mut lone, conn, of_it[0]);
    let rejects = of_it
        .iter()
        .map(|block| Message::RejectRequest(address(*block)));
    assert_eq!(lone.sent(conn), rejects.collect::<Vec<_>>());
    let verdict = Verdict::Bad {
        digests: vec![0; 4],
    };
    lone.handle(Input::DiskDone(Done::Checked {
        piece: doubted,
        verdict,
    }));
    for block in &asked[1..8] {
        lone.uploaded(conn, *block);
    }
    assert_eq!(lone.uploads(conn), asked[8..9], "nothing of the lost piece");
}

#[test]
fn a_slow_disk_is_asked_once_about_a_piece() {
    let mut lone = Lone::seeder(PIECES);
    let conn = lone.open_leecher(1, FAST);
    let all = blocks(&lone, 12);
    let both = [all[0], all[8]];
    ask(&mut lone, conn, &both);
    both.iter()
        .for_each(|block| unreadable(&mut lone, conn, *block));
    let [failing, slow] = both.map(|block| block.piece);
    let check = |piece| Job::Check { piece };
    assert_eq!(lone.jobs(), [check(failing), check(slow)]);
    for _ in 0..2 {
        let verdict = Verdict::Failed(DiskError {
            kind: DiskErrorKind::Io,
            message: "disk on fire".to_owned(),
        });
        let piece = failing;
        lone.handle(Input::DiskDone(Done::Checked { piece, verdict }));
        lone.pass_secs(31);
        assert_eq!(
            lone.jobs(),
            [check(failing)],
            "the other's check is still out"
        );
    }
}

#[test]
fn a_piece_in_doubt_is_neither_saved_nor_told_of() {
    let mut lone = Lone::seeder(PIECES);
    let early = lone.open_leecher(1, FAST);
    let block = blocks(&lone, 1)[0];
    let piece = block.piece;
    lone.pass_secs(1);
    ask(&mut lone, early, &[block]);
    unreadable(&mut lone, early, block);
    let mut rest = Bitfield::full(PIECES);
    rest.clear(piece);
    assert_eq!(lone.engine.have(), rest);
    lone.sent(early);
    lone.pass_secs(1);
    let [late, rich] = [2, 3].map(|host| {
        let conn = lone.open(host, FAST);
        let told = Message::Bitfield(rest.to_bytes().into());
        assert_eq!(lone.sent(conn).first(), Some(&told));
        conn
    });
    let mut has = Bitfield::new(PIECES);
    has.set(piece);
    lone.receive(rich, Message::Bitfield(has.to_bytes().into()));
    for conn in [late, rich] {
        lone.sent(conn);
    }
    let verdict = Verdict::Good;
    lone.handle(Input::DiskDone(Done::Checked { piece, verdict }));
    assert_eq!(lone.engine.have(), Bitfield::full(PIECES));
    let have = Message::Have { piece: piece.get() };
    assert_eq!(lone.sent(late), [have], "it was not told before");
    assert_eq!(lone.sent(early), [], "it was told at first");
    assert_eq!(lone.sent(rich), [], "it has the piece");
    let newest = lone.open(4, FAST);
    assert_eq!(lone.sent(newest).first(), Some(&Message::HaveAll));
}

#[test]
fn a_piece_found_to_be_wrong_is_wanted_of_those_who_have_it() {
    // (what, wanted, what peers are told when the piece is gone)
    let interested: &[Message] = &[Message::Interested];
    let rows: [(_, _, &[Message]); 2] = [
        ("a piece that is wanted", true, interested),
        ("a piece that is not wanted any more", false, &[]),
    ];
    for (what, is_wanted, expected) in rows {
        let mut lone = Lone::seeder(PIECES);
        let block = blocks(&lone, 1)[0];
        let piece = block.piece;
        let taker = lone.open_leecher(1, FAST);
        ask(&mut lone, taker, &[block]);
        let [has_it, lacks_it] = [2, 3].map(|host| {
            let conn = lone.open(host, FAST);
            let mut has = Bitfield::new(PIECES);
            if host == 2 {
                has.set(piece);
            } else {
                has.set(lone.layout.piece(0).unwrap());
            }
            lone.receive(conn, Message::Bitfield(has.to_bytes().into()));
            lone.sent(conn);
            conn
        });
        if !is_wanted {
            let mut wanted = Bitfield::full(PIECES);
            wanted.clear(piece);
            lone.handle(Input::Command(Command::Want(wanted)));
        }
        unreadable(&mut lone, taker, block);
        let verdict = Verdict::Bad {
            digests: vec![0; 4],
        };
        lone.handle(Input::DiskDone(Done::Checked { piece, verdict }));
        assert_eq!(lone.sent(has_it), expected, "{what}");
        assert_eq!(lone.sent(lacks_it), [], "{what}");
    }
}
