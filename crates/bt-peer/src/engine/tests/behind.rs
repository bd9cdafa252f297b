//! Which seeders are spared, and when not.

use super::lone::*;
use crate::Config;
use crate::engine::contract::*;
use crate::limits::{BEHIND_SPAN, SPARE_LOOK, SPARE_MEASURED, SPARE_ROUND};
use bt_core::disk::Verdict;
use bt_core::{Bitfield, Block};
use bt_wire::Message;
use core::time::Duration;

const PIECES: u32 = 1_000;

/// What the leecher has.
const SHARED: u32 = PIECES - 10;

/// A leecher that unchokes us, and a seeder.
struct Stage {
    lone: Lone,
    conns: [ConnId; 2],
    owed: [Vec<Block>; 2],
}

impl Stage {
    fn new(sequential: bool) -> Self {
        let mut config = Config::new(OWN_ID);
        config.sequential = sequential;
        let mut lone = Lone::with(torrent(PIECES, Bitfield::new(PIECES)), config);
        let leecher = lone.open(1, FAST);
        for piece in 0..SHARED {
            lone.receive(leecher, Message::Have { piece });
        }
        lone.receive(leecher, Message::Unchoke);
        let seeder = lone.open_seeder(2, FAST);
        Self {
            lone,
            conns: [leecher, seeder],
            owed: [Vec::new(), Vec::new()],
        }
    }

    /// So many blocks come from each each 10 ms, as far as they were asked for; how many the seeder is asked for meanwhile.
    fn flow(&mut self, spans: u32, from: [usize; 2], behind: bool) -> usize {
        let mut asked = 0;
        for _ in 0..spans {
            self.lone.pass(Duration::from_millis(10));
            for number in [0, 1] {
                let conn = self.conns[number];
                asked += self.note_requests(number);
                if behind {
                    self.lone.handle(Input::Behind { conn });
                }
                let count = from[number].min(self.owed[number].len());
                for block in self.owed[number].drain(..count) {
                    self.lone.deliver(conn, block);
                }
            }
            self.lone.run_disk(|_| Verdict::Good);
            asked += self.note_requests(1);
        }
        asked
    }

    /// Takes down what a peer was asked for; how much, if it is the seeder.
    fn note_requests(&mut self, number: usize) -> usize {
        let new = self.lone.requests(self.conns[number]);
        let count = new.len() * number;
        self.owed[number].extend(new);
        count
    }
}

#[test]
fn a_seeder_is_spared_while_leechers_bring_more_than_we_take() {
    // (what, blocks of leecher and seeder each 10 ms, behind, sequential, spared)
    let rows = [
        ("as fast as the seeder", [8, 8], true, false, true),
        ("we wait for them", [8, 8], false, false, false),
        ("a seeder that is much faster", [4, 40], true, false, false),
        ("pieces in order", [8, 8], true, true, false),
    ];
    for (what, from, behind, sequential, spared) in rows {
        let mut stage = Stage::new(sequential);
        stage.flow(40, from, behind);
        assert_eq!(stage.flow(20, from, behind) == 0, spared, "{what}");
    }
}

#[test]
fn a_seeder_is_asked_again_when_leechers_stop() {
    let mut stage = Stage::new(false);
    stage.flow(40, [8, 8], true);
    assert_eq!(stage.flow(20, [8, 8], true), 0);
    let owed = stage.owed[0].len();
    stage.lone.pass(BEHIND_SPAN + SPARE_LOOK);
    assert!(
        stage.flow(1, [0, 0], false) > 0,
        "it owes {owed} and sends nothing"
    );

    let mut stage = Stage::new(false);
    stage.flow(60, [8, 8], true);
    stage.lone.receive(stage.conns[0], Message::Choke);
    stage.lone.pass(SPARE_LOOK);
    assert!(stage.flow(1, [0, 0], false) > 0, "it chokes");

    let mut stage = Stage::new(false);
    stage.flow(60, [8, 8], true);
    let (conn, reason) = (stage.conns[0], crate::CloseReason::Gone);
    stage.lone.handle(Input::Closed { conn, reason });
    assert!(stage.flow(1, [0, 0], false) > 0, "it is gone");

    // Whoever wakes us is late.
    let mut stage = Stage::new(false);
    stage.flow(60, [8, 8], true);
    stage.lone.receive(stage.conns[0], Message::Choke);
    stage.lone.now += SPARE_LOOK + Duration::from_millis(1);
    stage.lone.receive(stage.conns[1], Message::KeepAlive);
    assert!(stage.note_requests(1) > 0, "it is long over");
}

#[test]
fn a_seeder_is_asked_at_once_when_what_leechers_owe_runs_out() {
    let mut stage = Stage::new(false);
    stage.flow(60, [8, 8], true);
    stage.lone.receive(stage.conns[0], Message::Choke);
    assert_eq!(stage.note_requests(1), 0, "what it owes is on its way");
    for block in std::mem::take(&mut stage.owed[0]) {
        stage.lone.deliver(stage.conns[0], block);
    }
    assert!(stage.note_requests(1) > 0);
}

#[test]
fn now_and_then_no_seeder_is_spared_so_that_its_pace_is_seen() {
    let mut stage = Stage::new(false);
    let spans = |span: Duration| u32::try_from(span.as_millis() / 10).unwrap();
    stage.flow(60, [8, 8], true);
    let left = SPARE_ROUND - Duration::from_millis(700);
    assert_eq!(stage.flow(spans(left), [0, 0], true), 0);
    assert!(stage.flow(spans(SPARE_MEASURED), [0, 0], true) > 0);
}
