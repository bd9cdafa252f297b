//! A seeder spares its line while leechers feed each other, and only then.

use super::lone::*;
use crate::engine::contract::*;
use crate::limits::{ENTRUSTED_KEPT_MIN, LEFT_BEHIND, RECHOKE, SPARING_FACTOR, TICK};
use crate::spread::Spread;
use crate::{CloseReason, Command, Config};
use bt_core::{BLOCK_BYTES, Bitfield, Block, Rng};
use bt_wire::Message;

const PIECES: u32 = 4_000;
/// Each gets a piece each second from the others, in [`Swarm::pass`].
const FED: u8 = 4;

/// A seeder of which all has gone out, and who wants something of it.
struct Swarm {
    lone: Lone,
    /// They tell of what they get.
    fed: Vec<ConnId>,
    /// They tell of nothing more; the first takes what the seeder sends.
    idle: Vec<ConnId>,
    next: u32,
}

impl Swarm {
    fn new(config: Config) -> Self {
        Self::of(Lone::with(torrent(PIECES, Bitfield::full(PIECES)), config))
    }

    /// Whoever is there already may go on.
    fn of(mut lone: Lone) -> Self {
        let idle: Vec<ConnId> = (1..=3).map(|n| lone.open_leecher(n, FAST)).collect();
        for piece in 0..PIECES - 1 {
            lone.receive(idle[0], Message::Have { piece });
        }
        // What they have from before is not what they get now.
        lone.pass_secs(60);
        let last = Message::Have { piece: PIECES - 1 };
        lone.receive(idle[1], last);
        let fed = (4..4 + FED).map(|n| lone.open_leecher(n, FAST));
        let fed = fed.collect();
        Self {
            lone,
            fed,
            idle,
            next: 0,
        }
    }

    /// Time passes. The seeder sends so many blocks a second, and the others so many pieces to each of those that are fed.
    fn pass(&mut self, seconds: u64, blocks: u32, pieces: u32) {
        for _ in 0..seconds {
            let taker = self.idle[2];
            let wanted: Vec<Block> = (0..blocks).map(|n| self.block(self.next + n)).collect();
            ask(&mut self.lone, taker, &wanted);
            for block in self.lone.uploads(taker) {
                self.lone.uploaded(taker, block);
            }
            for piece in self.next..self.next + pieces {
                for conn in self.fed.clone() {
                    self.lone.receive(conn, Message::Have { piece });
                }
            }
            self.next += pieces.max(1);
            self.lone.pass_secs(1);
        }
    }

    fn block(&self, piece: u32) -> Block {
        let block = self.lone.layout.block(piece % PIECES, 0, BLOCK_BYTES);
        block.expect("in range")
    }

    fn is_unchoked(&self, conn: ConnId) -> bool {
        !self.lone.engine.conns[&conn].am_choking
    }

    fn spares(&self) -> bool {
        !self.fed.iter().any(|conn| self.is_unchoked(*conn))
    }
}

/// Blocks a second that a line sends of which the fed get so many times as much, a piece a second each.
fn line(times: u64) -> u32 {
    let fed = u64::from(FED) * u64::from(PIECE_BYTES / BLOCK_BYTES);
    u32::try_from(fed / times).expect("a few")
}

#[test]
fn who_gets_much_more_from_others_is_not_served() {
    for (times, spares) in [(SPARING_FACTOR / 2, false), (SPARING_FACTOR * 2, true)] {
        let mut swarm = Swarm::new(Config::new(OWN_ID));
        swarm.pass(5 * RECHOKE.as_secs(), line(times), 1);
        assert_eq!(swarm.spares(), spares, "{times} times");
    }
}

#[test]
fn four_leechers_with_lines_like_the_seeder_s_are_enough_to_spare_it() {
    // Their lines are never quite full: less than four times what it sends, but not less than three times.
    assert_eq!(line(1), 16, "blocks that the others send");
    for (blocks, spares) in [(5, true), (6, false)] {
        let mut swarm = Swarm::new(Config::new(OWN_ID));
        swarm.pass(5 * RECHOKE.as_secs(), blocks, 1);
        assert_eq!(swarm.spares(), spares, "{blocks} blocks a second");
    }
}

#[test]
fn who_is_left_behind_is_served_and_who_comes_later_waits() {
    let mut swarm = Swarm::new(Config::new(OWN_ID));
    swarm.pass(50, line(SPARING_FACTOR * 2), 1);
    assert!(swarm.spares());
    assert!(swarm.is_unchoked(swarm.idle[0]), "it gets nothing");
    let late = swarm.lone.open(20, FAST);
    swarm.lone.receive(late, Message::HaveNone);
    swarm.lone.receive(late, Message::Interested);
    assert!(!swarm.is_unchoked(late), "others may serve it");
    let allowed = |message: &Message| matches!(message, Message::AllowedFast { .. });
    assert!(!swarm.lone.sent(late).iter().any(allowed));
    let behind = LEFT_BEHIND.as_secs() + RECHOKE.as_secs() + 1;
    swarm.pass(behind, line(SPARING_FACTOR * 2), 1);
    assert!(swarm.spares() && swarm.is_unchoked(late), "they do not");
}

/// A peer takes these pieces, block for block.
fn take(lone: &mut Lone, conn: ConnId, pieces: core::ops::Range<u32>) {
    for piece in pieces {
        let piece = lone.layout.piece(piece).expect("in range");
        for block in lone.layout.blocks(piece).collect::<Vec<_>>() {
            ask(lone, conn, &[block]);
            lone.uploaded(conn, block);
        }
    }
}

#[test]
fn of_those_who_keep_what_they_get_one_is_served_at_a_time() {
    let mut lone = Lone::seeder(PIECES);
    let keepers = [8, 9, 10].map(|n| lone.open_leecher(n, FAST));
    for (nth, keeper) in (0..).zip(keepers) {
        let kept = nth * 10..nth * 10 + ENTRUSTED_KEPT_MIN + nth;
        take(&mut lone, keeper, kept.clone());
        kept.for_each(|piece| lone.receive(keeper, Message::Have { piece }));
    }
    lone.pass_secs(10);
    let mut swarm = Swarm::of(lone);
    swarm.pass(50, line(SPARING_FACTOR * 2), 1);
    assert!(swarm.spares());
    // The one that was sent least, until it was sent more than the next.
    for expected in [[true, false, false], [false, true, false]] {
        let served = keepers.map(|keeper| swarm.is_unchoked(keeper));
        assert_eq!(served, expected);
        take(&mut swarm.lone, keepers[0], 100..102);
        swarm.pass(RECHOKE.as_secs() + 1, line(SPARING_FACTOR * 2), 1);
        assert!(swarm.spares());
    }
}

/// A seeder that has just offered the last of all pieces. It is not known yet what becomes of the last one, whose holder has passed on
/// so many before; and somebody was told of another one.
fn all_offered(passed_on: u32) -> Swarm {
    let mut swarm = Swarm::new(Config::new(OWN_ID));
    let blocks = line(SPARING_FACTOR * 2);
    swarm.lone.engine.upload.sparing.told_of_seeders(Some(2));
    swarm.pass(50, blocks, 1);
    while swarm.lone.engine.upload.rechoke_at - swarm.lone.now < RECHOKE - 2 * TICK {
        swarm.pass(1, blocks, 1);
    }
    assert!(!swarm.spares(), "another one has everything too");
    let layout = swarm.lone.layout;
    let mut over = Spread::new(&layout, &mut Rng::new(1));
    let told = layout.piece(7).expect("in range");
    assert_eq!(over.offer(|piece| piece != told), Some(told));
    assert_eq!(over.offer(|piece| piece != told), None);
    let (now, holder, fed) = (swarm.lone.now, swarm.idle[1], swarm.fed[0]);
    let upload = &mut swarm.lone.engine.upload;
    upload.spread = Some(over);
    for piece in layout.pieces().take(passed_on as usize) {
        upload.entrusted.give(now, holder, piece);
        upload.entrusted.seen(holder, piece);
        upload.entrusted.seen(fed, piece);
    }
    let last = layout.piece(PIECES - 1).expect("in range");
    upload.entrusted.give(now, holder, last);
    upload.sparing.told_of_seeders(Some(1));
    let conn = swarm.lone.engine.conns.get_mut(&fed);
    conn.expect("is there").suggested.push(told);
    swarm
}

#[test]
fn the_line_is_spared_from_when_all_is_with_somebody() {
    let mut swarm = all_offered(1);
    for second in 0..3 * RECHOKE.as_secs() {
        swarm.pass(1, 0, 1);
        assert!(second == 0 || swarm.spares(), "{second} s");
    }
}

#[test]
fn the_line_is_not_spared_while_one_alone_has_a_piece_who_never_passed_one_on() {
    let mut swarm = all_offered(0);
    swarm.pass(3, 0, 1);
    assert!(!swarm.spares(), "it may keep it");
    swarm.pass(2 * RECHOKE.as_secs(), 0, 1);
    assert!(swarm.spares());
}

#[test]
fn when_leechers_are_not_fed_any_more_all_are_served() {
    let mut swarm = Swarm::new(Config::new(OWN_ID));
    swarm.pass(50, line(SPARING_FACTOR * 2), 1);
    assert!(swarm.spares());
    swarm.pass(40, line(SPARING_FACTOR * 2), 0);
    assert!(!swarm.spares());
}

#[test]
fn nothing_is_spared_when_a_piece_is_nowhere_else() {
    let mut swarm = Swarm::new(Config::new(OWN_ID));
    swarm.pass(50, line(SPARING_FACTOR * 2), 1);
    assert!(swarm.spares());
    let conn = swarm.idle[1];
    swarm.lone.handle(Input::Closed {
        conn,
        reason: CloseReason::Gone,
    });
    swarm.pass(RECHOKE.as_secs() + 1, line(SPARING_FACTOR * 2), 1);
    assert!(!swarm.spares(), "it alone had the last piece");
}

#[test]
fn who_wants_to_send_so_much_or_is_one_of_many_spares_nothing() {
    for row in ["a goal", "others", "none"] {
        let mut swarm = Swarm::new(Config::new(OWN_ID));
        match row {
            "a goal" => {
                let goal = Command::SetUploadGoal(Some(1 << 40));
                swarm.lone.handle(Input::Command(goal));
            }
            "others" => swarm.lone.engine.upload.sparing.told_of_seeders(Some(2)),
            _ => swarm.lone.engine.upload.sparing.told_of_seeders(Some(1)),
        }
        swarm.pass(50, line(SPARING_FACTOR * 2), 1);
        assert_eq!(swarm.spares(), row == "none", "{row}");
    }
}

#[test]
fn another_limit_is_another_line() {
    let mut swarm = Swarm::new(Config::new(OWN_ID));
    swarm.pass(50, line(SPARING_FACTOR * 2), 1);
    assert!(swarm.spares());
    let (down, up) = (None, Some(1 << 30));
    swarm
        .lone
        .handle(Input::Command(Command::SetLimits { down, up }));
    swarm.pass(RECHOKE.as_secs() + 1, line(SPARING_FACTOR * 2), 1);
    assert!(!swarm.spares(), "what it carried before says nothing");
    swarm.pass(RECHOKE.as_secs() * 4, line(SPARING_FACTOR * 2), 1);
    assert!(swarm.spares(), "it carries no more");
}
