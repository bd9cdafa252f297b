//! What is asked of peers that are slow or broken (BEP 3 "request", BEP 6; FAULTS 68–71).

use super::lone::*;
use crate::engine::contract::*;
use crate::limits::{REQUESTS_MAX, REQUESTS_START};
use crate::{CloseReason, Event};
use bt_core::disk::{Done, Verdict};
use bt_core::{BLOCK_BYTES, Block};
use bt_wire::Message;
use core::time::Duration;
use std::collections::BTreeSet;

const PIECES: u32 = 200;

#[test]
fn a_queue_is_kept_and_grows() {
    let mut lone = Lone::leecher(PIECES);
    let conn = lone.open_seeder(1, FAST);
    let mut waiting = lone.requests(conn);
    assert_eq!(waiting.len(), REQUESTS_START);
    let mut asked: BTreeSet<Block> = waiting.iter().copied().collect();
    for _ in 0..40 {
        lone.pass(Duration::from_millis(10));
        for block in core::mem::take(&mut waiting) {
            lone.deliver(conn, block);
        }
        let requests = lone.requests(conn);
        assert!(
            requests.iter().all(|block| asked.insert(*block)),
            "nothing is asked twice"
        );
        waiting.extend(requests);
        assert!(waiting.len() <= REQUESTS_MAX);
    }
    assert!(
        waiting.is_empty() && asked.len() == PIECES as usize * 4,
        "everything was asked for"
    );
}

#[test]
fn no_request_without_interest_and_unchoke() {
    let mut lone = Lone::leecher(PIECES);
    let conn = lone.open(1, FAST);
    lone.receive(conn, Message::Unchoke);
    assert_eq!(lone.requests(conn), []);
    lone.receive(conn, Message::Have { piece: 3 });
    assert_eq!(lone.requests(conn).len(), 4);
    let conn = lone.open(2, FAST);
    lone.receive(conn, Message::HaveAll);
    assert_eq!(lone.requests(conn), [], "choked");
}

#[test]
fn a_silent_peer_is_snubbed_and_its_blocks_go_to_others() {
    // FAULTS 68.
    let mut lone = Lone::leecher(2);
    let silent = lone.open_seeder(1, PLAIN);
    let held = lone.requests(silent);
    assert_eq!(held.len(), 8, "everything there is");
    lone.pass_secs(10);
    let honest = lone.open_seeder(2, PLAIN);
    let endgame = lone.requests(honest);
    assert!(endgame.len() < 8);
    for block in &endgame {
        lone.deliver(honest, *block);
    }
    lone.pass_secs(12);
    let cancels = lone.sent(silent);
    let cancelled = |block: &Block| cancels.contains(&Message::Cancel(address(*block)));
    assert!(held.iter().all(cancelled), "{cancels:?}");
    let mut got: BTreeSet<Block> = endgame.into_iter().collect();
    for _ in 0..8 {
        for block in lone.requests(honest) {
            got.insert(block);
            lone.deliver(honest, block);
        }
        lone.pass_secs(1);
    }
    assert_eq!(got.len(), 8, "the honest one gave all of it");
    assert_eq!(lone.close_reason(silent), None, "it may wake up yet");
    lone.pass_secs(120);
    assert_eq!(lone.close_reason(silent), None, "it owes nothing now");
}

#[test]
fn a_silent_peer_does_not_keep_a_piece_on_parole() {
    // Seed 579 of the simulation: the silent peer came first each time that its own request was taken back.
    let mut lone = Lone::leecher(1);
    let (silent, honest) = (lone.open_seeder(1, FAST), lone.open_seeder(2, FAST));
    let piece = lone.layout.piece(0).unwrap();
    let digests = vec![1, 2, 3, 4];
    for block in lone.requests(silent) {
        lone.deliver(silent, block);
    }
    lone.engine.smart_ban.lost(piece);
    let verdict = Verdict::Bad { digests };
    lone.handle(Input::DiskDone(Done::Checked { piece, verdict }));
    let parole = lone.requests(silent);
    assert_eq!((parole.len(), lone.requests(honest).len()), (4, 0));
    lone.pass_secs(22);
    assert_eq!(lone.requests(honest).len(), 4, "the whole piece");
    assert_eq!(lone.requests(silent), []);
}

#[test]
fn a_peer_that_owes_and_is_silent_is_closed() {
    let mut lone = Lone::leecher(PIECES);
    let silent = lone.open_seeder(1, FAST);
    lone.pass_secs(119);
    assert_eq!(lone.close_reason(silent), None);
    assert!(
        lone.requests(silent).len() < REQUESTS_START + 10,
        "one try at a time"
    );
    lone.pass_secs(2);
    assert_eq!(lone.close_reason(silent), Some(CloseReason::Idle));
}

#[test]
fn rejects_are_taken_but_not_for_ever() {
    // FAULTS 70: below ten requests a second to a peer that rejects everything.
    let mut lone = Lone::leecher(PIECES);
    let conn = lone.open_seeder(1, FAST);
    let mut asked = 0;
    for _ in 0..600 {
        for block in lone.requests(conn) {
            asked += 1;
            lone.receive(conn, Message::RejectRequest(address(block)));
        }
        lone.pass(Duration::from_millis(100));
    }
    assert!(asked < 20, "{asked} requests in a minute");
    assert_eq!(lone.close_reason(conn), None, "it is within its rights");
}

#[test]
fn rejected_blocks_go_to_others_at_once() {
    let mut lone = Lone::leecher(1);
    let first = lone.open_seeder(1, FAST);
    let asked = lone.requests(first);
    assert_eq!(asked.len(), 4);
    let second = lone.open_seeder(2, FAST);
    lone.requests(second);
    for block in &asked {
        lone.receive(first, Message::RejectRequest(address(*block)));
    }
    let mut moved = lone.requests(second);
    moved.sort();
    assert!(moved.len() >= 2, "{moved:?}");
}

#[test]
fn choking_flaps_cost_little() {
    // FAULTS 71: unchoke, choke, unchoke … without ever sending a block.
    for reserved in [PLAIN, FAST] {
        let mut lone = Lone::leecher(PIECES);
        let conn = lone.open_seeder(1, reserved);
        let mut asked = lone.requests(conn).len();
        for _ in 0..1_000 {
            lone.receive(conn, Message::Choke);
            lone.receive(conn, Message::Unchoke);
            asked += lone.requests(conn).len();
        }
        assert!(asked <= 2 * REQUESTS_START, "{asked}");
    }
}

#[test]
fn a_choke_gives_the_requests_back() {
    // SEEDS 9: the choked side counts its pending requests as lost; a late block is nevertheless taken (BEP 3).
    let mut lone = Lone::leecher(1);
    let first = lone.open_seeder(1, PLAIN);
    let asked = lone.requests(first);
    lone.receive(first, Message::Choke);
    let second = lone.open_seeder(2, PLAIN);
    assert_eq!(lone.requests(second), asked, "free for others");
    lone.deliver(first, asked[0]);
    assert_eq!(lone.engine.stats(lone.now).wasted, 0, "it is of use");
    assert_eq!(lone.sent(second), [Message::Cancel(address(asked[0]))]);
    lone.deliver(second, asked[0]);
    assert_eq!(
        lone.engine.stats(lone.now).wasted,
        u64::from(BLOCK_BYTES),
        "too late"
    );
    assert_eq!(lone.jobs().len(), 1, "written once");
}

#[test]
fn allowed_fast_pieces_are_asked_for_while_choked() {
    // BEP 6: "if you ask for this piece, I'll give it to you even if you're choked".
    let mut lone = Lone::leecher(PIECES);
    let conn = lone.open(1, FAST);
    lone.receive(conn, Message::HaveAll);
    lone.receive(conn, Message::AllowedFast { piece: 7 });
    let asked = lone.requests(conn);
    assert_eq!(asked.len(), 4);
    assert!(asked.iter().all(|block| block.piece.get() == 7));
    // The sender may name pieces it lacks: "must not be interpreted as meaning that the sender has the piece".
    let conn = lone.open(2, FAST);
    lone.receive(conn, Message::Have { piece: 1 });
    lone.receive(conn, Message::AllowedFast { piece: 9 });
    assert_eq!(lone.requests(conn), []);
    // A reject while choked withdraws the offer.
    let conn = lone.open(3, FAST);
    lone.receive(conn, Message::HaveAll);
    lone.receive(conn, Message::AllowedFast { piece: 11 });
    for block in lone.requests(conn) {
        lone.receive(conn, Message::RejectRequest(address(block)));
    }
    lone.pass_secs(30);
    assert_eq!(lone.requests(conn), []);
}

#[test]
fn what_came_makes_room_for_more_that_is_allowed_fast() {
    let mut lone = Lone::leecher(PIECES);
    let conn = lone.open(1, FAST);
    lone.receive(conn, Message::HaveAll);
    let most = u32::try_from(crate::limits::ALLOWED_FAST_MAX).unwrap();
    for piece in 0..=most {
        lone.receive(conn, Message::AllowedFast { piece });
    }
    let mut got = BTreeSet::new();
    let mut fetch = |lone: &mut Lone| {
        loop {
            let asked = lone.requests(conn);
            if asked.is_empty() {
                return got.len();
            }
            got.extend(asked.iter().map(|block| block.piece));
            asked.iter().for_each(|block| lone.deliver(conn, *block));
            lone.run_disk(|_| Verdict::Good);
        }
    };
    assert_eq!(fetch(&mut lone), most as usize, "no more are remembered");
    lone.receive(conn, Message::AllowedFast { piece: most });
    assert_eq!(fetch(&mut lone), most as usize + 1);
}

#[test]
fn the_down_limit_hands_out_several_requests_at_a_time() {
    let mut lone = Lone::leecher(PIECES);
    let conn = lone.open_seeder(1, FAST);
    let down = Some(100 * u64::from(BLOCK_BYTES));
    lone.handle(Input::Command(Command::SetLimits { down, up: None }));
    let (mut handed, mut due) = (Vec::new(), std::collections::VecDeque::new());
    for milli in 0..1_000 {
        let asked = lone.requests(conn);
        handed.push(asked.len());
        due.extend(asked);
        // What comes in between asks for nothing before its time.
        if milli % 5 == 0
            && let Some(block) = due.pop_front()
        {
            lone.deliver(conn, block);
        }
        lone.pass(Duration::from_millis(1));
    }
    handed.retain(|n| *n > 0);
    // First what is asked without a limit, and the one that finds it unused; then a second's worth in parts of 50 ms.
    let rest = &handed[2..];
    assert!((15..=21).contains(&rest.len()), "{handed:?}");
    assert!(rest.iter().all(|n| (4..=8).contains(n)), "{handed:?}");
}

#[test]
fn a_good_piece_is_announced_to_those_who_lack_it() {
    let mut lone = Lone::leecher(2);
    let seeder = lone.open_seeder(1, FAST);
    let leecher = lone.open_leecher(2, FAST);
    let peer = lone.open(3, FAST);
    lone.receive(peer, Message::Have { piece: 0 });
    let mut asked = lone.requests(seeder);
    asked.sort();
    for conn in [leecher, peer] {
        lone.sent(conn);
    }
    asked
        .iter()
        .take(4)
        .for_each(|block| lone.deliver(seeder, *block));
    let has = |lone: &mut Lone, conn| lone.sent(conn).contains(&Message::Have { piece: 0 });
    assert!(!has(&mut lone, leecher), "not before it is verified");
    lone.run_disk(|_| Verdict::Good);
    assert!(has(&mut lone, leecher));
    assert!(!has(&mut lone, peer), "it has it");
    assert!(has(&mut lone, seeder), "it sees who passes on what it gave");
    assert_eq!(lone.engine.stats(lone.now).pieces_have, 1);
    asked
        .iter()
        .skip(4)
        .for_each(|block| lone.deliver(seeder, *block));
    lone.run_disk(|_| Verdict::Good);
    assert!(lone.events.contains(&Event::Complete));
    assert_eq!(lone.close_reason(seeder), Some(CloseReason::Redundant));
    assert_eq!(lone.close_reason(leecher), None);
}

#[test]
fn a_slow_disk_stops_the_requests() {
    // FAULTS 92: what is handed over and not taken is bounded.
    let mut lone = Lone::leecher(2_000);
    let conn = lone.open_seeder(1, FAST);
    let (mut handed, mut written) = (0, Vec::new());
    loop {
        lone.pass(Duration::from_millis(10));
        let asked = lone.requests(conn);
        if asked.is_empty() {
            break;
        }
        for block in asked {
            lone.deliver(conn, block);
            handed += u64::from(block.length);
            written.push(block);
        }
        lone.jobs();
    }
    let bound = crate::limits::WRITES_MAX_BYTES;
    let flight = REQUESTS_MAX as u64 * u64::from(BLOCK_BYTES);
    assert!(handed >= bound && handed <= bound + flight, "{handed}");
    let resume =
        usize::try_from(crate::limits::WRITES_RESUME_BYTES / u64::from(BLOCK_BYTES)).unwrap();
    let taken = written.len() - resume;
    for block in written.drain(..taken) {
        lone.handle(Input::DiskDone(Done::Wrote { block }));
    }
    assert!(
        !lone.requests(conn).is_empty(),
        "and they go on when the disk has caught up"
    );
}

#[test]
fn nobody_is_blamed_for_what_a_slow_disk_keeps_us_from_reading() {
    let mut lone = Lone::leecher(2_000);
    let (quick, waiting) = (lone.open_seeder(1, FAST), lone.open_seeder(2, FAST));
    let mut written = Vec::new();
    let owed = loop {
        lone.pass(Duration::from_millis(10));
        let asked = lone.requests(quick);
        if asked.is_empty() {
            break lone.requests(waiting);
        }
        for block in asked {
            lone.deliver(quick, block);
            written.push(block);
        }
        lone.jobs();
    };
    assert!(!owed.is_empty());
    // What both have sent lies unread, keep-alives too.
    let cancelled = |lone: &mut Lone| {
        let sent = lone.sent(waiting).into_iter();
        sent.filter(|message| matches!(message, Message::Cancel(_)))
            .count()
    };
    lone.pass_secs(600);
    assert_eq!(lone.close_reason(waiting), None);
    assert_eq!(cancelled(&mut lone), 0);
    // The disk is back, so their silence is their own again.
    for block in written {
        lone.handle(Input::DiskDone(Done::Wrote { block }));
    }
    lone.pass_secs(100);
    assert!(cancelled(&mut lone) > 0 || lone.close_reason(waiting).is_some());
}

#[test]
fn the_down_limit_paces_requests_exactly() {
    let mut config = crate::Config::new(OWN_ID);
    config.down_limit = Some(10 * u64::from(BLOCK_BYTES));
    let none = bt_core::Bitfield::new(PIECES);
    let mut lone = Lone::with(torrent(PIECES, none), config);
    let conns = [lone.open_seeder(1, FAST), lone.open_seeder(2, FAST)];
    let mut asked = [0, 0];
    for _ in 0..1_000 {
        for (conn, asked) in conns.iter().zip(&mut asked) {
            for block in lone.requests(*conn) {
                *asked += 1;
                lone.deliver(*conn, block);
            }
        }
        lone.pass(Duration::from_millis(10));
    }
    let sum = asked[0] + asked[1];
    assert!(
        (98..=103).contains(&sum),
        "ten a second for ten seconds: {asked:?}"
    );
    assert!(
        asked.iter().all(|n| (35..=65).contains(n)),
        "in turns: {asked:?}"
    );
    lone.handle(Input::Command(Command::SetLimits {
        down: None,
        up: None,
    }));
    assert!(lone.requests(conns[0]).len() + lone.requests(conns[1]).len() > 5);
}

#[test]
fn many_fast_peers_share_the_requests() {
    let mut lone = Lone::leecher(3_000);
    let conns: Vec<ConnId> = (1..=20).map(|n| lone.open_seeder(n, FAST)).collect();
    let mut waiting: Vec<Vec<Block>> = vec![Vec::new(); 20];
    for _ in 0..6 {
        lone.pass(Duration::from_millis(5));
        for (conn, waiting) in conns.iter().zip(&mut waiting) {
            waiting.extend(lone.requests(*conn));
            for block in waiting.drain(..) {
                lone.deliver(*conn, block);
            }
        }
        lone.run_disk(|_| Verdict::Good);
        lone.jobs();
        let outstanding: Vec<usize> = lone
            .engine
            .conns
            .values()
            .map(|conn| conn.requests.len())
            .collect();
        assert!(outstanding.iter().sum::<usize>() <= crate::limits::REQUESTS_TOTAL_MAX);
        assert!(
            outstanding.iter().all(|n| *n > 0),
            "nobody is starved: {outstanding:?}"
        );
    }
}

#[test]
fn what_a_peer_suggests_is_asked_of_it_first() {
    // BEP 6, "suggest piece"; by chance it would be one in forty.
    let mut lone = Lone::leecher(40);
    let conn = lone.open(1, FAST);
    lone.receive(conn, Message::HaveAll);
    for piece in [31, 8] {
        lone.receive(conn, Message::SuggestPiece { piece });
    }
    lone.receive(conn, Message::Unchoke);
    let asked = lone.requests(conn);
    let first = asked.first().expect("it is unchoked");
    assert!([31, 8].contains(&first.piece.get()), "{first:?}");
}

#[test]
fn the_endgame_waits_for_what_is_on_its_way() {
    // BEP 3, "end game mode": asked of everyone at once, the last blocks would come twice.
    let mut lone = Lone::leecher(1);
    let (first, second) = (lone.open_seeder(1, FAST), lone.open_seeder(2, FAST));
    assert_eq!(lone.requests(first).len(), 4);
    assert_eq!(lone.requests(second), []);
    lone.pass(Duration::from_millis(99));
    assert_eq!(lone.requests(second), []);
    lone.pass(Duration::from_millis(1));
    assert!(!lone.requests(second).is_empty());
}

/// A peer whose block took this long, and which unchoked us so long after the rest was asked of two quick ones.
fn slow_in_the_endgame(took: Duration, unchokes_after: Duration) -> (Lone, ConnId) {
    let mut lone = Lone::leecher(2);
    let slow = lone.open_seeder(1, PLAIN);
    let first = lone.requests(slow);
    lone.pass(took);
    lone.deliver(slow, *first.first().expect("it was asked"));
    // It keeps us waiting, and everything is asked of two quick ones.
    lone.receive(slow, Message::Choke);
    lone.requests(slow);
    let quick = [2, 3].map(|n| lone.open_seeder(n, FAST));
    let asked: Vec<Block> = quick
        .into_iter()
        .flat_map(|conn| lone.requests(conn))
        .collect();
    assert_eq!(asked.len(), 7, "each missing block once");
    lone.pass(unchokes_after);
    lone.receive(slow, Message::Unchoke);
    lone.pass(took * 2 - unchokes_after - Duration::from_millis(1));
    (lone, slow)
}

#[test]
fn in_the_endgame_nobody_is_asked_for_what_cannot_come_from_him_in_time() {
    // Both before anybody is asked for the same as another and after it.
    for unchokes_after in [Duration::ZERO, Duration::from_secs(5)] {
        let (mut lone, slow) = slow_in_the_endgame(Duration::from_millis(3_300), unchokes_after);
        assert_eq!(lone.requests(slow), [], "others are sooner");
        lone.pass(Duration::from_millis(1));
        assert!(!lone.requests(slow).is_empty(), "they are not");
    }
}
