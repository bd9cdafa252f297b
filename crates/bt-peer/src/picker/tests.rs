//! The rules one by one; `model` is a slow picker that takes the same random steps.

mod model;

use super::*;

const BLOCK: u32 = bt_core::BLOCK_BYTES;

/// `pieces` pieces of `blocks` blocks each.
fn layout(pieces: u32, blocks: u32) -> Layout {
    Layout::new(
        u64::from(pieces) * u64::from(blocks * BLOCK),
        blocks * BLOCK,
    )
    .unwrap()
}

fn set(layout: Layout, pieces: impl IntoIterator<Item = u32>) -> Bitfield {
    let mut set = Bitfield::new(layout.pieces_count());
    for piece in pieces {
        set.set(layout.piece(piece).unwrap());
    }
    set
}

/// A picker, its layout and a seeded generator.
struct Bench {
    layout: Layout,
    picker: Picker,
    rng: Rng,
}

impl Bench {
    fn new(pieces: u32, blocks: u32) -> Self {
        Self::with(pieces, blocks, [], false)
    }

    fn with<const N: usize>(pieces: u32, blocks: u32, have: [u32; N], sequential: bool) -> Self {
        let layout = layout(pieces, blocks);
        let all = Bitfield::full(pieces);
        let picker = Picker::new(layout, &set(layout, have), &all, sequential);
        let rng = Rng::new(1);
        Self {
            layout,
            picker,
            rng,
        }
    }

    /// A peer with these pieces, counted.
    fn peer(&mut self, pieces: impl IntoIterator<Item = u32>) -> Bitfield {
        let has = set(self.layout, pieces);
        self.picker.add_peer(&has);
        has
    }

    fn seeder(&mut self) -> Bitfield {
        self.peer(0..self.layout.pieces_count())
    }

    /// Picks, and tells the blocks as (piece, index).
    fn pick(&mut self, conn: u64, has: &Bitfield, count: usize) -> Vec<(u32, usize)> {
        self.pick_among(conn, has, None, count)
    }

    fn pick_among(
        &mut self,
        conn: u64,
        has: &Bitfield,
        only: Option<&[PieceIndex]>,
        count: usize,
    ) -> Vec<(u32, usize)> {
        let mut out = Vec::new();
        let rng = &mut self.rng;
        self.picker
            .pick(ConnId(conn), has, only, count, rng, &mut out);
        self.picker.assert_invariants();
        out.iter().map(|b| (b.piece.get(), b.index())).collect()
    }

    fn block(&self, (piece, index): (u32, usize)) -> Block {
        let piece = self.layout.piece(piece).unwrap();
        let index = u32::try_from(index).unwrap();
        self.layout.block_at(piece, index).unwrap()
    }

    fn receive(&mut self, conn: u64, block: (u32, usize)) -> Receipt {
        let block = self.block(block);
        let receipt = self.picker.received(ConnId(conn), block);
        self.picker.assert_invariants();
        receipt
    }

    fn release(&mut self, conn: u64, block: (u32, usize)) {
        let block = self.block(block);
        self.picker.release(ConnId(conn), block);
        self.picker.assert_invariants();
    }

    fn checked(&mut self, piece: u32, good: bool) {
        let piece = self.layout.piece(piece).unwrap();
        self.picker.checked(piece, good);
        self.picker.assert_invariants();
    }

    /// The whole piece comes from `conn` and is good.
    fn fetch(&mut self, conn: u64, piece: u32) {
        let piece = self.layout.piece(piece).unwrap();
        for block in self.layout.blocks(piece) {
            self.picker.received(ConnId(conn), block);
        }
        self.checked(piece.get(), true);
    }
}

fn wanted(cancel: impl IntoIterator<Item = u64>) -> Receipt {
    let cancel = cancel.into_iter().map(ConnId).collect();
    Receipt::Wanted { cancel }
}

#[test]
fn the_first_piece_is_random_and_then_come_the_rarest() {
    let mut firsts = BTreeSet::new();
    for seed in 0..40 {
        let mut bench = Bench::new(10, 1);
        bench.rng = Rng::new(seed);
        let seeder = bench.seeder();
        bench.peer(0..8);
        let first = bench.pick(0, &seeder, 1);
        firsts.insert(first[0].0);
        bench.receive(0, first[0]);
        bench.checked(first[0].0, true);
        let next: Vec<_> = bench.pick(0, &seeder, 2).iter().map(|b| b.0).collect();
        let rare = [8, 9].iter().filter(|piece| **piece != first[0].0);
        assert!(rare.clone().all(|piece| next.contains(piece)), "{next:?}");
    }
    assert!(
        firsts.len() > 6,
        "the first piece is always among {firsts:?}"
    );
}

#[test]
fn equally_rare_pieces_are_chosen_at_random() {
    let mut chosen = BTreeMap::new();
    for seed in 0..1_000 {
        let mut bench = Bench::with(6, 1, [5], false);
        bench.rng = Rng::new(seed);
        let seeder = bench.seeder();
        bench.peer([0]);
        *chosen.entry(bench.pick(0, &seeder, 1)[0].0).or_insert(0) += 1;
    }
    assert_eq!(chosen.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(
        chosen.values().all(|n| (200..300).contains(n)),
        "{chosen:?}"
    );
}

#[test]
fn a_connection_gets_the_blocks_of_its_piece_in_order() {
    let mut bench = Bench::new(4, 8);
    let seeder = bench.seeder();
    let mut got = bench.pick(0, &seeder, 3);
    got.extend(bench.pick(0, &seeder, 5));
    let piece = got[0].0;
    assert_eq!(got, (0..8).map(|index| (piece, index)).collect::<Vec<_>>());
}

#[test]
fn peers_share_a_piece_once_none_is_left_to_begin() {
    let mut bench = Bench::new(2, 8);
    let seeder = bench.seeder();
    let first = bench.pick(0, &seeder, 2);
    let second = bench.pick(1, &seeder, 3);
    assert_ne!(second[0].0, first[0].0);
    let third = bench.pick(2, &seeder, 2);
    assert_eq!(
        third,
        [(first[0].0, 7), (first[0].0, 6)],
        "where most is to do"
    );
}

#[test]
fn a_suggestion_decides_among_equals_and_no_more() {
    let mut bench = Bench::with(50, 1, [0], false);
    let seeder = bench.seeder();
    let [first, second, third] = [37, 38, 39].map(|piece| bench.layout.piece(piece).unwrap());
    let conn = ConnId(0);
    for piece in [first, second, third] {
        bench.picker.suggested(conn, piece);
    }
    assert_eq!(bench.pick(0, &seeder, 1), [(37, 0)]);
    bench.peer([38]);
    assert_eq!(
        bench.pick(0, &seeder, 1),
        [(39, 0)],
        "38 is not as rare as others"
    );
    bench
        .picker
        .suggested(ConnId(1), bench.layout.piece(44).unwrap());
    bench.picker.forget_suggested(ConnId(1));
    assert_ne!(bench.pick(1, &seeder, 1)[0].0, 44);
}

#[test]
fn what_was_begun_and_left_comes_before_anything_new() {
    let mut bench = Bench::new(4, 8);
    let seeder = bench.seeder();
    let first = bench.pick(0, &seeder, 3);
    bench.receive(0, first[0]);
    bench.picker.release_all(ConnId(0));
    bench.picker.assert_invariants();
    let next = bench.pick(1, &seeder, 8);
    assert_eq!(
        next[..7],
        (1..8).map(|index| (first[0].0, index)).collect::<Vec<_>>()[..]
    );
    assert_ne!(next[7].0, first[0].0);
}

#[test]
fn sequential_order_is_the_order_of_the_bytes() {
    let mut bench = Bench::with(4, 2, [1], true);
    let seeder = bench.seeder();
    assert_eq!(bench.pick(0, &seeder, 3), [(0, 0), (0, 1), (2, 0)]);
    assert_eq!(bench.pick(1, &seeder, 2), [(2, 1), (3, 0)]);
    bench.release(0, (0, 1));
    assert_eq!(bench.pick(1, &seeder, 2), [(0, 1), (3, 1)]);
}

#[test]
fn while_choked_only_the_allowed_pieces_are_asked_for() {
    let mut bench = Bench::new(4, 2);
    let has = bench.peer([1, 2]);
    let pieces: Vec<_> = bench.layout.pieces().collect();
    let rows = [(0, vec![]), (1, vec![]), (2, vec![(1, 0), (1, 1)])];
    for (allowed, expected) in rows {
        let only = &pieces[..allowed];
        assert_eq!(bench.pick_among(0, &has, Some(only), 9), expected);
    }
}

#[test]
fn only_wanted_pieces_are_asked_for() {
    let mut bench = Bench::new(4, 2);
    let seeder = bench.seeder();
    let some = set(bench.layout, [2]);
    bench.picker.set_wanted(&some);
    assert_eq!(bench.pick(0, &seeder, 9), [(2, 0), (2, 1)]);
    bench.fetch(0, 2);
    assert!(bench.picker.is_complete());
    bench.picker.set_wanted(&seeder);
    assert!(!bench.picker.is_complete());
    assert_eq!(bench.pick(0, &seeder, 9).len(), 6);
}

#[test]
fn a_piece_no_longer_wanted_ends_quietly_and_goes_on_when_wanted_again() {
    let mut bench = Bench::new(2, 4);
    let seeder = bench.seeder();
    let first = bench.pick(0, &seeder, 3);
    let other = 1 - first[0].0;
    bench.picker.set_wanted(&set(bench.layout, [other]));
    bench.picker.assert_invariants();
    assert_eq!(bench.receive(0, first[0]), wanted([]));
    bench.release(0, first[1]);
    assert!(bench.pick(1, &seeder, 9).iter().all(|b| b.0 == other));
    bench.picker.set_wanted(&seeder);
    assert_eq!(
        bench.pick(2, &seeder, 2),
        [(first[0].0, 1), (first[0].0, 3)]
    );
}

#[test]
fn endgame_asks_a_second_peer_and_cancels_the_slower() {
    let mut bench = Bench::new(2, 4);
    let seeder = bench.seeder();
    let first = bench.pick(0, &seeder, 7);
    assert_eq!(first.len(), 7);
    assert!(!bench.picker.in_endgame());
    let last = bench.pick(1, &seeder, 1);
    assert!(bench.picker.in_endgame());
    // The one that waits longest is the first connection; its latest block would come last.
    assert_eq!(bench.pick(2, &seeder, 9), [first[6]]);
    assert_eq!(bench.pick(2, &seeder, 9), [], "it has enough to do");
    assert_eq!(bench.pick(3, &seeder, 9), [first[5]]);
    assert_eq!(bench.receive(2, first[6]), wanted([0]));
    assert_eq!(bench.receive(0, first[6]), Receipt::Duplicate);
    assert_eq!(bench.receive(0, first[5]), wanted([3]));
    assert_eq!(bench.receive(1, last[0]), wanted([]));
}

#[test]
fn endgame_asks_nobody_a_third_time() {
    let mut bench = Bench::new(1, 1);
    let seeder = bench.seeder();
    assert_eq!(bench.pick(0, &seeder, 1), [(0, 0)]);
    assert_eq!(bench.pick(0, &seeder, 1), []);
    assert_eq!(bench.pick(1, &seeder, 1), [(0, 0)]);
    assert_eq!(bench.pick(2, &seeder, 1), []);
    bench.release(0, (0, 0));
    assert_eq!(bench.pick(2, &seeder, 1), [(0, 0)]);
}

#[test]
fn no_endgame_while_pieces_are_still_to_come() {
    let mut bench = Bench::new(3, 1);
    let has = bench.peer([0, 1]);
    assert_eq!(bench.pick(0, &has, 9).len(), 2);
    assert!(!bench.picker.in_endgame(), "nobody has the last piece yet");
    assert_eq!(bench.pick(1, &has, 9), []);
    bench.picker.set_wanted(&has);
    assert!(bench.picker.in_endgame());
    assert_eq!(bench.pick(1, &has, 9).len(), ENDGAME_QUEUE_MAX);
}

#[test]
fn a_failed_piece_comes_whole_from_one_peer() {
    let mut bench = Bench::new(2, 4);
    let seeder = bench.seeder();
    let piece = bench.pick(0, &seeder, 2)[0].0;
    bench.pick(1, &seeder, 2);
    for index in 0..4 {
        let conn = index as u64 / 2;
        assert_eq!(bench.receive(conn, (piece, index)), wanted([]));
    }
    bench.checked(piece, false);
    let index = bench.layout.piece(piece).unwrap();
    assert_eq!(bench.picker.failures(index), 1);
    assert_eq!(bench.pick(2, &seeder, 1), [(piece, 0)], "it comes first");
    let others = bench.pick(3, &seeder, 9);
    assert!(others.iter().all(|block| block.0 != piece), "{others:?}");
    assert!(bench.picker.in_endgame(), "what is kept for one is no work");
    assert!(bench.pick(4, &seeder, 9).iter().all(|b| b.0 != piece));
    // The owner goes back to it, and when it leaves somebody else takes over.
    assert_eq!(bench.pick(2, &seeder, 1), [(piece, 1)]);
    bench.receive(2, (piece, 0));
    bench.picker.release_all(ConnId(2));
    assert_eq!(bench.pick(5, &seeder, 9).len(), 3);
    bench.fetch(5, piece);
    assert_eq!(bench.picker.failures(index), 0);
}

#[test]
fn what_the_disk_lost_is_missing_again_and_nobody_is_to_blame() {
    let mut bench = Bench::new(1, 3);
    let seeder = bench.seeder();
    bench.pick(0, &seeder, 2);
    bench.receive(0, (0, 0));
    let piece = bench.layout.piece(0).unwrap();
    bench.picker.lost(piece);
    bench.picker.assert_invariants();
    assert_eq!(bench.picker.failures(piece), 0);
    assert_eq!(bench.pick(0, &seeder, 9), [(0, 0), (0, 2)]);
    assert_eq!(bench.receive(0, (0, 1)), wanted([]));
}

#[test]
fn blocks_that_were_not_asked_for() {
    let mut bench = Bench::with(3, 2, [0], false);
    let seeder = bench.seeder();
    bench.picker.set_wanted(&set(bench.layout, [0, 1]));
    bench.pick(0, &seeder, 1);
    let rows = [
        ((0, 0), Receipt::Duplicate),
        ((2, 0), Receipt::Duplicate),
        ((1, 0), wanted([0])),
        ((1, 0), Receipt::Duplicate),
        ((1, 1), wanted([])),
    ];
    for (block, expected) in rows {
        assert_eq!(bench.receive(9, block), expected, "{block:?}");
    }
    let odd = bench.layout.block(1, 1, BLOCK).unwrap();
    assert_eq!(bench.picker.received(ConnId(0), odd), Receipt::Duplicate);
}

#[test]
fn a_late_block_begins_its_piece_anew() {
    let mut bench = Bench::new(1, 2);
    let seeder = bench.seeder();
    bench.pick(0, &seeder, 1);
    bench.release(0, (0, 0));
    assert_eq!(bench.picker.partials_count(), 0);
    assert_eq!(bench.receive(0, (0, 0)), wanted([]));
    assert_eq!(bench.pick(1, &seeder, 9), [(0, 1)]);
}

#[test]
fn pieces_under_way_are_bounded_but_block_nobody() {
    let blocks = PARTIAL_BYTES_MAX / BLOCK / 4;
    let mut bench = Bench::new(20, blocks);
    let seeder = bench.seeder();
    let limit = PARTIALS_MIN as u64;
    for conn in 0..limit {
        bench.pick(conn, &seeder, 32);
    }
    assert_eq!(bench.picker.partials_count(), PARTIALS_MIN);
    bench.pick(limit, &seeder, 32);
    assert_eq!(bench.picker.partials_count(), PARTIALS_MIN, "it helps out");
    // A peer without any of the begun pieces still gets something to do, one piece at a time.
    let fresh: Vec<u32> = (0..20)
        .filter(|piece| bench.picker.needs(bench.layout.piece(*piece).unwrap()))
        .filter(|piece| {
            let piece = bench.layout.piece(*piece).unwrap();
            !bench.picker.partials.contains_key(&piece)
        })
        .collect();
    let other = bench.peer(fresh);
    let got = bench.pick(limit + 1, &other, 2 * blocks as usize);
    assert_eq!(got.len(), blocks as usize);
    assert_eq!(bench.picker.partials_count(), PARTIALS_MIN + 1);
}

#[test]
fn of_a_seeder_that_is_spared_is_asked_what_nobody_else_has() {
    let mut bench = Bench::new(10, 2);
    let seeder = bench.seeder();
    bench.peer(0..8);
    let ask = |bench: &mut Bench, conn: u64| {
        let mut out = Vec::new();
        let rng = &mut bench.rng;
        bench
            .picker
            .pick_alone(ConnId(conn), &seeder, 100, rng, &mut out);
        bench.picker.assert_invariants();
        out.iter()
            .map(|block| block.piece.get())
            .collect::<BTreeSet<_>>()
    };
    let suggested = |piece| bench.layout.piece(piece).unwrap();
    let (taken, left) = (suggested(3), suggested(9));
    bench.picker.suggested(ConnId(0), taken);
    bench.picker.suggested(ConnId(0), left);
    assert_eq!(
        ask(&mut bench, 0),
        [9].into(),
        "one is not as rare, one not suggested"
    );
    assert_eq!(ask(&mut bench, 1), [8].into(), "who suggests nothing");
    assert_eq!(ask(&mut bench, 1), [].into());
    bench.picker.release_all(ConnId(1));
    bench.picker.forget_suggested(ConnId(0));
    assert_eq!(ask(&mut bench, 0), [].into(), "it did suggest once");
    bench.pick(2, &seeder, 1);
    bench.fetch(2, 8);
    bench.checked(8, false);
    assert_eq!(
        ask(&mut bench, 0),
        [8].into(),
        "what failed comes first, from whomever"
    );
}

#[test]
fn the_rarest_is_found_behind_a_long_walk() {
    // 2 000 pieces that one other peer has are rarer than all that this peer has.
    let mut bench = Bench::with(4_000, 1, [3_999], false);
    bench.peer(0..2_000);
    bench.peer(2_000..4_000);
    let has = bench.peer([3_000, 3_001]);
    bench.peer([3_000]);
    assert_eq!(bench.pick(0, &has, 2), [(3_001, 0), (3_000, 0)]);
    let has = bench.peer(2_000..4_000);
    let got = bench.pick(1, &has, 100);
    assert_eq!(got.len(), 100);
    assert!(got.iter().all(|block| block.0 >= 2_000));
}

#[test]
fn a_seeder_may_come_whole_or_piece_by_piece() {
    let mut bench = Bench::new(70, 1);
    let all = Bitfield::full(70);
    let none = Bitfield::new(70);
    bench.picker.add_peer(&all);
    bench.picker.add_peer(&none);
    for piece in bench.layout.pieces() {
        bench.picker.peer_has(piece);
        assert_eq!(bench.picker.availability(piece), 2);
    }
    for left in [1, 0] {
        bench.picker.remove_peer(&all);
        bench.picker.assert_invariants();
        for piece in bench.layout.pieces() {
            assert_eq!(bench.picker.availability(piece), left);
        }
    }
}

#[test]
fn a_verified_piece_that_turns_out_bad_is_missing_again() {
    let mut bench = Bench::with(2, 1, [0, 1], false);
    let seeder = bench.seeder();
    assert!(bench.picker.is_complete());
    bench.checked(1, false);
    assert!(!bench.picker.is_complete());
    assert_eq!(bench.pick(0, &seeder, 9), [(1, 0)]);
}

#[test]
fn an_empty_torrent_is_complete() {
    let bench = Bench::new(0, 1);
    assert!(bench.picker.is_complete() && !bench.picker.in_endgame());
}
