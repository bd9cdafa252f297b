//! The picker at 10⁵ pieces and 10² peers: a have, a seeder, a block, a piece to begin, a peer with nothing to offer.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use bt_core::{Bitfield, Block, Layout, PieceIndex, Rng};
use bt_peer::ConnId;
use bt_peer::picker::Picker;
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

const PIECES: u32 = 100_000;
const PEERS: u64 = 100;
const PIECE_LENGTH: u32 = 1 << 20;

/// A picker that knows the peers, each with its share of the pieces; every tenth is a seeder.
fn swarm(have_percent: u64) -> (Picker, Vec<Bitfield>, Layout) {
    let length = u64::from(PIECES) * u64::from(PIECE_LENGTH);
    let layout = Layout::new(length, PIECE_LENGTH).expect("a valid layout");
    let mut rng = Rng::new(1);
    let mut draw = |percent: u64| {
        let mut set = Bitfield::new(PIECES);
        for piece in layout.pieces() {
            if rng.chance(percent) {
                set.set(piece);
            }
        }
        set
    };
    let have = draw(have_percent);
    let mut picker = Picker::new(layout, &have, &Bitfield::full(PIECES), false);
    let share = |peer| if peer % 10 == 0 { 100 } else { peer };
    let peers: Vec<_> = (0..PEERS).map(|peer| draw(share(peer))).collect();
    peers.iter().for_each(|peer| picker.add_peer(peer));
    (picker, peers, layout)
}

fn availability(criterion: &mut Criterion) {
    let (mut picker, peers, layout) = swarm(10);
    let mut rng = Rng::new(5);
    let pieces: Vec<PieceIndex> = layout.pieces().collect();
    criterion.bench_function("have", |bench| {
        bench.iter(|| {
            if let Some(piece) = pieces.get(rng.index(pieces.len())) {
                picker.peer_has(*piece);
            }
        });
    });
    for (name, peer) in [
        ("seeder comes and goes", 0),
        ("leecher with half of all", 51),
    ] {
        let has = peers.get(peer).expect("a peer");
        criterion.bench_function(name, |bench| {
            bench.iter(|| {
                picker.add_peer(has);
                picker.remove_peer(has);
            });
        });
    }
}

/// Each peer asks for one block more as often as it gets one, the piece is good, and so on to the end.
fn download(criterion: &mut Criterion) {
    let (picker, peers, layout) = swarm(10);
    drop(picker);
    let mut state = None;
    criterion.bench_function("block picked, received, piece checked", |bench| {
        let mut rng = Rng::new(2);
        let mut turn = 0_u64;
        bench.iter(|| {
            let (picker, queues) = state.get_or_insert_with(|| start(layout, &peers));
            turn += 1;
            let conn = turn % PEERS;
            let index = usize::try_from(conn).expect("few peers");
            let has = peers.get(index).expect("a peer");
            let queue = queues.get_mut(index).expect("a queue");
            if queue.len() < 64 {
                picker.pick(ConnId(conn), has, None, 1, &mut rng, queue);
            }
            if let Some(block) = (!queue.is_empty()).then(|| queue.remove(0)) {
                black_box(picker.received(ConnId(conn), block));
                if block.end() == PIECE_LENGTH {
                    picker.checked(block.piece, true);
                }
            }
            if picker.is_complete() {
                state = None;
            }
        });
    });
}

fn start(layout: Layout, peers: &[Bitfield]) -> (Picker, Vec<Vec<Block>>) {
    let none = Bitfield::new(PIECES);
    let mut picker = Picker::new(layout, &none, &Bitfield::full(PIECES), false);
    peers.iter().for_each(|peer| picker.add_peer(peer));
    let mut rng = Rng::new(3);
    let queues = (0..).zip(peers).map(|(conn, has)| {
        let mut queue = Vec::new();
        picker.pick(ConnId(conn), has, None, 64, &mut rng, &mut queue);
        queue
    });
    let queues = queues.collect();
    (picker, queues)
}

/// A piece is begun and given up again: the price of a choice, for peers rich and poor.
fn begin(criterion: &mut Criterion) {
    let (mut picker, peers, layout) = swarm(50);
    let mut rng = Rng::new(4);
    let mut blocks = Vec::new();
    let mut choose = |name: &str, has: &Bitfield| {
        criterion.bench_function(name, |bench| {
            bench.iter(|| {
                blocks.clear();
                picker.pick(ConnId(999), has, None, 1, &mut rng, &mut blocks);
                picker.release_all(ConnId(999));
            });
        });
    };
    for (name, peer) in [
        ("choose of a seeder", 0),
        ("choose of half", 51),
        ("choose of 1 %", 1),
    ] {
        choose(name, peers.get(peer).expect("a peer"));
    }
    choose("choose of nothing", &Bitfield::new(PIECES));
    let mut last = Bitfield::new(PIECES);
    let open = layout.pieces().next_back().expect("pieces");
    last.set(open);
    choose("choose of one piece", &last);
}

criterion_group!(benches, availability, download, begin);
criterion_main!(benches);
