//! Small swarms under faults drawn from seeds, and a flash crowd without any.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests: a failure is to be seen, and so are the numbers"
)]

use bt_core::Layout;
use bt_sim::{DiskKind, Fault, Host, Nature, Report, Scenario, Trouble};
use core::time::Duration;
use std::cell::Cell;
use std::rc::Rc;

const SEEDS: u64 = 12;

fn layout(mebibytes: u64) -> Layout {
    Layout::new(mebibytes << 20, 64 * 1024).unwrap()
}

fn run(scenario: &Scenario) -> Report {
    let seed = scenario.settings.seed;
    match scenario.run() {
        Ok(report) => {
            println!("{report}");
            report
        }
        Err(stuck) => panic!("seed {seed} is stuck: {stuck:?}"),
    }
}

#[test]
fn random_swarms_come_to_their_end() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        run(&Scenario::random(seed));
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in [3, 5] {
        let scenario = Scenario::random(seed);
        assert_eq!(run(&scenario), run(&scenario));
    }
    assert_ne!(
        run(&Scenario::random(3)).trace,
        run(&Scenario::random(4)).trace
    );
}

#[test]
fn a_flash_crowd_shares_the_work() {
    let crowd = Scenario::flash_crowd(1, layout(8), 8, 1_000_000);
    let report = run(&crowd);
    assert!(report.took < report.least * 3, "{report}");
    assert!(report.seeder_copies < 3.0, "{report}");
    assert!(report.wasted_percent < 0.5, "{report}");
}

#[test]
fn a_super_seeder_sends_little_more_than_one_copy() {
    let crowd = Scenario::flash_crowd(1, layout(16), 10, 1_000_000).super_seeded();
    let report = run(&crowd);
    assert!(report.seeder_copies < 1.2, "{report}");
    assert!(report.took < report.least * 3, "{report}");
}

#[test]
fn a_super_seeder_does_not_wait_for_peers_that_give_nothing() {
    // Whoever gets a piece first keeps it: the two that are honest get all from the seeder.
    for nature in [Nature::FreeRider, Nature::Mute] {
        let mut crowd = Scenario::flash_crowd(4, layout(4), 2, 2_000_000).super_seeded();
        let miser = Host {
            nature,
            ..Host::default()
        };
        crowd.hosts.extend((0..6).map(|_| (miser, Duration::ZERO)));
        crowd.bound = Duration::from_secs(900);
        run(&crowd);
    }
}

#[test]
fn a_super_seeder_serves_who_can_reach_nobody_else() {
    let mut crowd = Scenario::flash_crowd(3, layout(16), 3, 1_000_000).super_seeded();
    for (host, _) in &mut crowd.hosts {
        host.dialable = host.seeder;
    }
    crowd.bound = Duration::from_secs(900);
    let report = run(&crowd);
    // Each takes a copy of its own, over a line that is shared by three.
    let alone = Duration::from_secs(3 * 16 * 1_048_576 / 1_000_000);
    assert!(report.took < alone * 2, "{report}");
}

#[test]
fn both_kinds_of_disk_give_the_same_swarm() {
    let mut crowd = Scenario::flash_crowd(2, layout(4), 4, 2_000_000);
    let stored = run(&crowd);
    crowd.settings.disk = DiskKind::Stamped;
    assert_eq!(stored, run(&crowd));
}

#[test]
fn liars_are_found_out_and_nobody_else() {
    for (seed, percent) in [(1, 100), (2, 20), (3, 8)] {
        let mut crowd = Scenario::flash_crowd(seed, layout(4), 5, 1_000_000);
        let liar = Host {
            nature: Nature::Liar(percent),
            seeder: true,
            up: 4_000_000,
            ..Host::default()
        };
        crowd.hosts.push((liar, Duration::ZERO));
        crowd.bound += Duration::from_secs(120);
        let report = run(&crowd);
        assert!(report.hash_failures > 0, "the liar had no say");
        assert!(
            report.bans >= 5,
            "somebody still listens to the liar: {report}"
        );
    }
}

#[test]
fn a_liar_among_those_who_share_a_piece_is_found_by_the_blocks() {
    // Slow lines and long pieces: nobody sends a whole piece alone.
    let layout = Layout::new(6 << 20, 1 << 20).unwrap();
    for seed in 1..4 {
        let mut crowd = Scenario::flash_crowd(seed, layout, 3, 150_000);
        let seeder = Host {
            seeder: true,
            up: 150_000,
            ..Host::default()
        };
        let nature = Nature::Liar(5);
        crowd.hosts.push((seeder, Duration::ZERO));
        crowd
            .hosts
            .push((Host { nature, ..seeder }, Duration::ZERO));
        crowd.bound += Duration::from_secs(300);
        let report = run(&crowd);
        assert!(
            report.bans >= 3,
            "somebody still listens to the liar: {report}"
        );
        assert!(report.hash_failures <= 10, "it took too long: {report}");
    }
}

#[test]
fn a_crashed_leecher_goes_on_where_its_disk_is_right() {
    let mut crowd = Scenario::flash_crowd(4, layout(4), 4, 1_000_000);
    for node in 1..4 {
        let span = Duration::from_secs(3);
        let after = Duration::from_millis(4_000 + 700 * node as u64);
        crowd.faults.push((after, Fault::Crash { node, span }));
    }
    crowd.healed_after = Duration::from_secs(10);
    run(&crowd);
}

#[test]
fn a_full_disk_delays_and_no_more() {
    let mut crowd = Scenario::flash_crowd(5, layout(4), 3, 1_000_000);
    let span = Duration::from_secs(20);
    let full = Fault::Disk {
        node: 1,
        trouble: Trouble::Full,
        span,
    };
    crowd.faults.push((Duration::from_secs(3), full));
    crowd.healed_after = Duration::from_secs(25);
    run(&crowd);
}

#[test]
fn a_silent_tracker_delays_and_no_more() {
    let mut crowd = Scenario::flash_crowd(6, layout(2), 3, 1_000_000);
    let span = Duration::from_secs(30);
    let down = Fault::TrackerDown { span };
    crowd.faults.push((Duration::ZERO, down));
    crowd.healed_after = span;
    crowd.bound += Duration::from_secs(120);
    run(&crowd);
}

#[test]
fn what_rots_is_taken_back_and_fetched_again() {
    let mut taken_back = 0;
    for seed in 1..4 {
        let mut crowd = Scenario::flash_crowd(seed, layout(4), 5, 500_000);
        for node in 1..6 {
            let rot = Fault::Rot { node };
            let at = [3, 4, 5, 6].map(Duration::from_secs);
            crowd.faults.extend(at.map(|at| (at, rot)));
        }
        crowd.healed_after = Duration::from_secs(7);
        crowd.bound += Duration::from_secs(120);
        let mut world = crowd.build();
        let told = Rc::new(Cell::new(0));
        let count = Rc::clone(&told);
        world.tell(move |line| {
            let is_it = line.contains(" send Extended { id: 3,");
            count.set(count.get() + u32::from(is_it));
        });
        crowd.finish(world).unwrap();
        taken_back += told.get();
    }
    assert!(taken_back > 5, "{taken_back} pieces were taken back");
}

#[test]
fn a_swarm_outlives_a_seeder_that_leaves_with_the_last_piece_that_nobody_had() {
    for seed in 1..3 {
        let mut crowd = Scenario::flash_crowd(seed, layout(4), 6, 1_000_000);
        crowd.settings.seeders_leave = true;
        let mut world = crowd.build();
        let gone = |world: &bt_sim::World| world.is_gone(0);
        while !gone(&world) && world.now() < bt_sim::World::START + crowd.bound {
            assert_eq!(world.copies().0, 0, "it left too late");
            world.pass(Duration::from_millis(100));
        }
        assert!(gone(&world) && world.copies().0 >= 1 && !world.is_done());
        crowd.finish(world).unwrap();
    }
}

#[test]
fn who_leaves_when_it_is_done_has_been_there() {
    let mut crowd = Scenario::flash_crowd(1, layout(2), 5, 1_000_000);
    for (number, (host, after)) in crowd.hosts.iter_mut().enumerate().skip(1) {
        host.leaves = true;
        *after = Duration::from_secs(number as u64);
    }
    let report = run(&crowd);
    assert_eq!(report.downloads.len(), 5);
    for download in &report.downloads {
        let took = download.took.unwrap();
        assert!(
            took > Duration::from_secs(1) && took < report.took,
            "{report}"
        );
    }
}

#[test]
fn a_newcomer_finds_a_place_where_all_are_taken() {
    // BEP 40: whoever outranks the last of somebody's peers takes its place.
    let mut crowd = Scenario::flash_crowd(3, layout(4), 40, 30_000);
    for (host, _) in &mut crowd.hosts {
        host.peers_max = 8;
    }
    let late = Duration::from_secs(30);
    if let Some((_, after)) = crowd.hosts.last_mut() {
        *after = late;
    }
    let newcomer = crowd.hosts.len() - 1;
    let mut world = crowd.build();
    world.pass(late);
    assert!(!world.is_done());
    let full = (0..newcomer).filter(|number| world.stats(*number).peers >= 7);
    assert!(full.count() > newcomer * 9 / 10, "the others have places");
    world.pass(Duration::from_secs(5));
    let found = world.stats(newcomer).peers;
    println!("{found} peers");
    assert!(found >= 5, "the newcomer has {found} peers");
}

#[test]
fn a_crowd_that_is_done_does_not_call_everybody_it_knows() {
    // The tracker names all to each; once they are done nobody has anything to give to those it has no connection with.
    let mut crowd = Scenario::flash_crowd(1, layout(1), 100, 1_000_000);
    for (host, _) in &mut crowd.hosts {
        host.peers_max = 16;
    }
    let mut world = crowd.build();
    world.pass(Duration::from_secs(30));
    assert!(world.is_done());
    let each = world.dials() / 100;
    println!("{each} dials each");
    assert!(each <= 80, "{each} dials each");
}

#[test]
fn links_are_enough_to_begin() {
    // BEP 9: the leechers know the hash alone, and take the info dictionary from the seeder or from each other.
    let mut crowd = Scenario::flash_crowd(7, layout(4), 6, 1_000_000);
    for (host, _) in &mut crowd.hosts {
        host.magnet = !host.seeder;
    }
    let plain = Scenario::flash_crowd(7, layout(4), 6, 1_000_000);
    let (linked, plain) = (run(&crowd), run(&plain));
    assert!(
        linked.took < plain.took + Duration::from_secs(3),
        "{linked}, and not from links {plain}"
    );
    // Power is lost before and after the dictionary came.
    for (node, millis) in [(1, 900), (2, 2_500), (3, 5_000)] {
        let span = Duration::from_secs(2);
        let after = Duration::from_millis(millis);
        crowd.faults.push((after, Fault::Crash { node, span }));
    }
    crowd.healed_after = Duration::from_secs(8);
    run(&crowd);
}

#[test]
fn both_families_are_one_swarm() {
    for v6 in [|_: usize| true, |number: usize| number.is_multiple_of(2)] {
        let mut crowd = Scenario::flash_crowd(8, layout(4), 8, 1_000_000);
        for (number, (host, _)) in crowd.hosts.iter_mut().enumerate() {
            host.v6 = v6(number);
        }
        let report = run(&crowd);
        assert!(report.took < report.least * 4, "{report}");
        assert!(report.seeder_copies < 4.0, "{report}");
    }
}

#[test]
fn who_wants_a_part_has_that_and_stays_with_nobody_who_wants_nothing() {
    // BEP 21: two partial seeds know of each other by `upload_only` alone.
    let mut crowd = Scenario::flash_crowd(9, layout(4), 6, 1_000_000);
    for (host, _) in crowd.hosts.iter_mut().skip(3) {
        host.half = true;
    }
    let world = {
        let mut world = crowd.build();
        assert!(world.run(crowd.bound), "it is stuck");
        world.pass(Duration::from_secs(5));
        world.assert_at_rest();
        world
    };
    let pieces = crowd.settings.layout.pieces_count();
    for number in 1..crowd.hosts.len() {
        let expected = if number < 3 { pieces } else { pieces / 2 };
        assert_eq!(world.stats(number).pieces_have, expected, "node {number}");
    }
}

/// What stands behind `name: ` in what was told of an account.
fn number_of(line: &str, name: &str) -> u64 {
    let (_, rest) = line.split_once(&format!(" {name}: ")).unwrap();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
    rest.get(..end).unwrap().parse().unwrap()
}

#[test]
fn accounts_add_up_to_what_was_moved() {
    let mut crowd = Scenario::flash_crowd(10, layout(4), 5, 1_000_000);
    let liar = Host {
        nature: Nature::Liar(30),
        seeder: true,
        ..Host::default()
    };
    crowd.hosts.push((liar, Duration::ZERO));
    crowd.bound += Duration::from_secs(200);
    let mut world = crowd.build();
    let sums = Rc::new(Cell::new([0_u64; 4]));
    let told = Rc::clone(&sums);
    world.tell(move |line| {
        if line.contains("PeerGone {") {
            let names = ["uploaded", "served", "wasted", "bad_pieces"];
            let mut sums = told.get();
            for (sum, name) in sums.iter_mut().zip(names) {
                *sum += number_of(line, name);
            }
            told.set(sums);
        }
    });
    assert!(world.run(crowd.bound), "it is stuck");
    world.pass(Duration::from_secs(5));
    // Whoever is connected still is in no account yet: everybody leaves.
    let numbers = 0..crowd.hosts.len();
    let stats = numbers.clone().map(|number| world.stats(number));
    let moved = stats.fold([0, 0], |[up, down], stats| {
        [up + stats.uploaded, down + stats.downloaded]
    });
    for node in numbers {
        world.break_later(Duration::ZERO, Fault::Leave { node });
    }
    world.pass(Duration::from_secs(1));
    let [uploaded, served, wasted, bad_pieces] = sums.get();
    assert_eq!([uploaded, served + wasted], moved);
    assert!(bad_pieces > 0, "the liar had no say");
}

#[test]
fn connections_that_nobody_uses_are_kept_alive() {
    // BEP 3: two minutes of silence may end a connection. Nobody has anything that another could want.
    let mut crowd = Scenario::flash_crowd(11, layout(1), 3, 1_000_000);
    crowd.hosts.retain(|(host, _)| !host.seeder);
    let mut world = crowd.build();
    let closed = Rc::new(Cell::new(0));
    let count = Rc::clone(&closed);
    world.tell(move |line| count.set(count.get() + u32::from(line.contains(" Close {"))));
    world.pass(Duration::from_secs(20));
    closed.set(0);
    world.pass(Duration::from_secs(900));
    assert_eq!(closed.get(), 0, "connections end");
    assert!((0..3).all(|number| world.stats(number).peers == 2));
}
