use super::*;
use std::collections::BTreeMap;

fn peer(conn: u64, rate: u64) -> Candidate {
    Candidate {
        conn: ConnId(conn),
        interested: true,
        unchoked: false,
        since: Duration::from_secs(10),
        rate,
        snubbed: false,
        new: false,
        only_takes: false,
    }
}

fn ids(set: &BTreeSet<ConnId>) -> Vec<u64> {
    set.iter().map(|conn| conn.0).collect()
}

/// Carries a round's outcome over into the next round's candidates.
fn apply(candidates: &mut [Candidate], unchoked: &BTreeSet<ConnId>) {
    for peer in candidates {
        let now = unchoked.contains(&peer.conn);
        peer.since = if now == peer.unchoked {
            peer.since + Duration::from_secs(10)
        } else {
            Duration::ZERO
        };
        peer.unchoked = now;
    }
}

#[test]
fn the_best_three_and_one_by_lot() {
    // BEP 3: four peers with the best rate that are interested; one of the four is the optimistic unchoke.
    let candidates: Vec<Candidate> = (1..=10).map(|n| peer(n, n * 1_000)).collect();
    let unchoked = Choker::default().round(Mode::Leech, 4, &candidates, &mut Rng::new(1));
    assert_eq!(unchoked.len(), 4);
    assert!([8, 9, 10].iter().all(|n| unchoked.contains(&ConnId(*n))));
}

#[test]
fn better_but_uninterested_peers_are_unchoked_too() {
    let mut candidates: Vec<Candidate> = (1..=10).map(|n| peer(n, n * 1_000)).collect();
    candidates[9].interested = false;
    candidates[0].interested = false;
    let unchoked = Choker::default().round(Mode::Leech, 4, &candidates, &mut Rng::new(1));
    assert!(
        [7, 8, 9, 10].iter().all(|n| unchoked.contains(&ConnId(*n))),
        "{unchoked:?}"
    );
    assert!(!unchoked.contains(&ConnId(1)), "worse and not interested");
    assert_eq!(unchoked.len(), 5);
}

#[test]
fn slots_no_one_deserves_are_given_by_lot() {
    // Cohen 2003, §3.4: when snubbed, more than one optimistic unchoke runs.
    let mut candidates: Vec<Candidate> = (1..=10).map(|n| peer(n, 0)).collect();
    candidates[3].snubbed = true;
    candidates[3].rate = 5_000;
    let unchoked = Choker::default().round(Mode::Leech, 4, &candidates, &mut Rng::new(1));
    assert_eq!(unchoked.len(), 4);
}

#[test]
fn a_snubbing_peer_gets_no_regular_slot() {
    let mut candidates: Vec<Candidate> = (1..=4).map(|n| peer(n, n * 1_000)).collect();
    candidates[3].snubbed = true;
    let mut by_lot = 0;
    for seed in 0..100 {
        let unchoked = Choker::default().round(Mode::Leech, 2, &candidates, &mut Rng::new(seed));
        assert!(unchoked.contains(&ConnId(3)));
        by_lot += u32::from(unchoked.contains(&ConnId(4)));
    }
    assert!((15..60).contains(&by_lot), "one in three: {by_lot}");
}

#[test]
fn the_optimistic_unchoke_rotates_every_third_round() {
    let mut candidates: Vec<Candidate> = (1..=20).map(|n| peer(n, u64::from(n == 1))).collect();
    let (mut choker, mut rng) = (Choker::default(), Rng::new(7));
    let mut lots = Vec::new();
    for _ in 0..30 {
        let unchoked = choker.round(Mode::Leech, 2, &candidates, &mut rng);
        apply(&mut candidates, &unchoked);
        let mut ids = ids(&unchoked);
        ids.retain(|n| *n != 1);
        assert_eq!(ids.len(), 1);
        lots.push(ids[0]);
    }
    for turn in lots.chunks(3) {
        assert!(
            turn.iter().all(|conn| *conn == turn[0]),
            "fibrillation: {lots:?}"
        );
    }
    assert!(
        lots.chunks(3)
            .zip(lots.chunks(3).skip(1))
            .all(|(a, b)| a[0] != b[0]),
        "{lots:?}"
    );
}

#[test]
fn new_peers_have_triple_chance() {
    // BEP 3: "new connections are three times as likely to start as the current optimistic unchoke".
    let mut candidates: Vec<Candidate> = (1..=4).map(|n| peer(n, 0)).collect();
    candidates[0].new = true;
    let mut drawn: BTreeMap<u64, u32> = BTreeMap::new();
    let mut rng = Rng::new(3);
    for _ in 0..6_000 {
        let unchoked = Choker::default().round(Mode::Leech, 1, &candidates, &mut rng);
        assert_eq!(unchoked.len(), 1);
        *drawn.entry(ids(&unchoked)[0]).or_default() += 1;
    }
    assert!((2_800..3_200).contains(&drawn[&1]), "{drawn:?}");
    assert!((900..1_100).contains(&drawn[&2]), "{drawn:?}");
}

#[test]
fn seeding_gives_everyone_a_turn() {
    let mut candidates: Vec<Candidate> = (1..=20).map(|n| peer(n, 0)).collect();
    let (mut choker, mut rng) = (Choker::default(), Rng::new(5));
    let mut rounds: BTreeMap<u64, u32> = BTreeMap::new();
    for _ in 0..60 {
        let unchoked = choker.round(Mode::Seed, 5, &candidates, &mut rng);
        assert_eq!(unchoked.len(), 5);
        apply(&mut candidates, &unchoked);
        for peer in &mut candidates {
            // Peer 1 is by far the fastest: a seeder that only went by rate would never let it go.
            peer.rate = if peer.unchoked {
                1_000 + 1_000_000 * u64::from(peer.conn.0 == 1)
            } else {
                0
            };
        }
        ids(&unchoked)
            .into_iter()
            .for_each(|conn| *rounds.entry(conn).or_default() += 1);
    }
    assert_eq!(rounds.len(), 20, "everyone was served: {rounds:?}");
    assert!(
        rounds.values().all(|count| (5..=40).contains(count)),
        "{rounds:?}"
    );
}

#[test]
fn a_seeder_ranks_by_rate_within_a_turn() {
    let mut candidates: Vec<Candidate> = (1..=6).map(|n| peer(n, n * 1_000)).collect();
    candidates.iter_mut().for_each(|peer| peer.unchoked = true);
    let unchoked = Choker::default().round(Mode::Seed, 4, &candidates, &mut Rng::new(1));
    assert!(
        [4, 5, 6].iter().all(|n| unchoked.contains(&ConnId(*n))),
        "{unchoked:?}"
    );
}

#[test]
fn odd_numbers_of_slots_and_peers() {
    let candidates: Vec<Candidate> = (1..=5).map(|n| peer(n, n)).collect();
    for (slots, peers, expected) in [
        (0, 5, 0),
        (1, 5, 1),
        (4, 0, 0),
        (4, 2, 2),
        (5, 5, 5),
        (9, 5, 5),
    ] {
        for mode in [Mode::Leech, Mode::Seed] {
            let unchoked =
                Choker::default().round(mode, slots, &candidates[..peers], &mut Rng::new(1));
            assert_eq!(
                unchoked.len(),
                expected,
                "{slots} slots, {peers} peers, {mode:?}"
            );
        }
    }
}

#[test]
fn slots_grow_with_the_line() {
    let rows = [
        (0, None, 8),
        (0, Some(0), 4),
        (0, Some(10 * 1024), 4),
        (0, Some(1024 * 1024), 7),
        (100 * 1024 * 1024, Some(10 * 1024), 4),
        (1024 * 1024, None, 8),
        (10 * 1024 * 1024, None, 24),
        (u64::MAX, None, 100),
    ];
    for (measured, limit, expected) in rows {
        assert_eq!(
            slots_for_rate(measured, limit),
            expected,
            "{measured} {limit:?}"
        );
    }
}

#[test]
fn of_those_who_only_take_one_gets_the_optimistic_unchoke_of_a_leecher() {
    let mut candidates: Vec<Candidate> = (1..=10).map(|n| peer(n, 0)).collect();
    for peer in candidates.iter_mut().skip(3) {
        peer.only_takes = true;
    }
    let (mut choker, mut rng) = (Choker::default(), Rng::new(5));
    let mut lucky = BTreeSet::new();
    for _ in 0..60 {
        let unchoked = choker.round(Mode::Leech, 8, &candidates, &mut rng);
        apply(&mut candidates, &unchoked);
        let ids = ids(&unchoked);
        assert!([1, 2, 3].iter().all(|n| ids.contains(n)), "{ids:?}");
        let takers: Vec<u64> = ids.into_iter().filter(|n| *n > 3).collect();
        assert!(takers.len() <= 1, "slots stay free: {takers:?}");
        lucky.extend(takers);
    }
    assert!(lucky.len() > 2, "it goes round: {lucky:?}");
}

#[test]
fn those_who_only_take_wait_for_the_others_of_a_seeder() {
    let mut candidates: Vec<Candidate> = (1..=10).map(|n| peer(n, n)).collect();
    for peer in candidates.iter_mut().take(5) {
        (peer.only_takes, peer.unchoked) = (true, true);
    }
    for (slots, takers) in [(3, 0), (5, 0), (8, 3), (10, 5)] {
        let unchoked = Choker::default().round(Mode::Seed, slots, &candidates, &mut Rng::new(9));
        let ids = ids(&unchoked);
        assert_eq!(ids.len(), slots);
        assert_eq!(ids.iter().filter(|n| **n <= 5).count(), takers, "{ids:?}");
    }
}
