//! What a member owes to one that is silent, refuses, or is slow: swarms of two to four.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests: a failure is to be seen, and so are the numbers"
)]

mod small_swarms;

use bt_core::Layout;
use bt_sim::{DiskKind, Fault, Nature, Scenario, World};
use core::time::Duration;
use small_swarms::{counted, layout};

#[test]
fn who_says_nothing_for_minutes_is_let_go() {
    // Nobody has anything that another could want; node 1 is still connected, and silent.
    let mut crowd = Scenario::flash_crowd(1, layout(1), 3, 1_000_000);
    crowd.hosts.retain(|(host, _)| !host.seeder);
    let span = Duration::from_secs(3_600);
    let silence = Fault::Freeze { node: 1, span };
    crowd.faults.push((Duration::from_secs(20), silence));
    let mut world = crowd.build();
    for (until, peers) in [(300, 2), (450, 1)] {
        let now = world.now();
        world.pass((World::START + Duration::from_secs(until)) - now);
        for number in [0, 2] {
            let found = world.stats(number).peers;
            assert_eq!(found, peers, "node {number} after {until} s");
        }
    }
}

#[test]
fn who_rejects_everything_is_asked_ever_more_seldom() {
    // A queue of requests, and then one after pauses that double: not one a second, each time another piece.
    let mut pair = Scenario::flash_crowd(2, layout(256), 1, 1_000_000);
    let (boaster, _) = pair.hosts.first_mut().unwrap();
    (boaster.seeder, boaster.nature) = (false, Nature::Boaster);
    let mut world = pair.build();
    let asked = counted(&mut world, |line| {
        line.contains(" node 1: ") && line.contains(" send Request(")
    });
    let seconds = 60;
    world.pass(Duration::from_secs(seconds));
    println!("{} requests in {seconds} s", asked.get());
    assert!((1..40).contains(&asked.get()), "{} requests", asked.get());
}

#[test]
fn a_disk_that_takes_little_is_not_given_more_and_more() {
    // The books of each node say how much may wait for its disk: less than the payload.
    let mut pair = Scenario::flash_crowd(3, layout(96), 1, 20_000_000);
    pair.settings.disk = DiskKind::Stamped;
    let span = Duration::from_secs(30);
    let slow = Fault::SlowDisk {
        node: 1,
        rate: 1_000_000,
        span,
    };
    pair.faults.push((Duration::ZERO, slow));
    pair.healed_after = span;
    pair.bound += Duration::from_secs(120);
    let mut world = pair.build();
    world.pass(span / 2);
    let waiting = world.stats(1).downloaded;
    println!("{waiting} bytes after {:?}", span / 2);
    assert!(waiting > 8 << 20, "it asks for nothing");
    assert!(
        waiting < 64 << 20,
        "{waiting} bytes for a disk that took 15 MB"
    );
    pair.finish(world).unwrap();
}

#[test]
fn a_seeder_names_pieces_that_it_has_not_sent_yet() {
    // BEP 6, "suggest piece".
    let crowd = Scenario::flash_crowd(4, layout(4), 4, 500_000);
    let mut world = crowd.build();
    let suggested = counted(&mut world, |line| {
        line.contains(" node 0: ") && line.contains(" send SuggestPiece ")
    });
    crowd.finish(world).unwrap();
    assert!(suggested.get() >= 8, "{} suggestions", suggested.get());
}

/// When each who came to download was done, in seconds after it came.
fn times(crowd: &Scenario) -> Vec<u64> {
    let report = crowd.run().unwrap();
    println!("{report}");
    let times = report.downloads.iter();
    times
        .map(|download| download.took.unwrap().as_secs())
        .collect()
}

#[test]
fn a_slow_leecher_keeps_nobody_waiting() {
    // The quick one is owed a copy at the seeder's pace, 27 s, whatever the slow one passes on.
    let layout = Layout::new(128 << 20, 1 << 20).unwrap();
    for slow_first in [true, false] {
        let mut trio = Scenario::flash_crowd(6, layout, 2, 5_000_000);
        let number = if slow_first { 1 } else { 2 };
        let (slow, _) = trio.hosts.get_mut(number).unwrap();
        (slow.up, slow.down) = (100_000, Some(100_000));
        trio.bound += Duration::from_secs(2_400);
        let times = times(&trio);
        assert!(times[2 - number] < 60, "{times:?}");
    }
}

#[test]
fn who_was_alone_for_long_is_served_on_when_others_come() {
    let mut trio = Scenario::flash_crowd(7, Layout::new(192 << 20, 1 << 20).unwrap(), 2, 5_000_000);
    let (_, after) = trio.hosts.last_mut().unwrap();
    *after = Duration::from_secs(20);
    // A copy takes 40 s; the two share what is left.
    let times = times(&trio);
    assert!(times.iter().all(|seconds| *seconds < 90), "{times:?}");
}

#[test]
fn who_can_reach_the_seeder_alone_is_served_by_it() {
    let mut crowd = Scenario::flash_crowd(8, layout(64), 6, 2_000_000);
    for (host, _) in crowd.hosts.iter_mut().skip(4) {
        host.dialable = false;
    }
    // The two at the end reach everybody but each other; then two that reach nobody but the seeder.
    let joined = times(&crowd);
    let mut pair = Scenario::flash_crowd(8, layout(64), 2, 2_000_000);
    for (host, _) in pair.hosts.iter_mut().skip(1) {
        host.dialable = false;
    }
    let alone = times(&pair);
    let copy = 64 * 1_048_576 / 2_000_000;
    assert!(
        joined.iter().all(|seconds| *seconds < copy * 2),
        "{joined:?}"
    );
    assert!(
        alone.iter().all(|seconds| *seconds < copy * 5 / 2),
        "{alone:?}"
    );
}
