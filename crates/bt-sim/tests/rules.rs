//! Rules whose breach costs something and breaks nothing: for each a small swarm in which the cost shows.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests: a failure is to be seen, and so are the numbers"
)]

mod small_swarms;

use bt_core::Layout;
use bt_sim::{DiskKind, Fault, Host, Nature, Report, Scenario};
use core::time::Duration;
use small_swarms::{counted, layout};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What stands behind `name` in the line, up to a comma, a bracket or a blank.
fn word_after<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(name)?;
    rest.split([',', ' ', ')', '}']).next()
}

/// The sums of these numbers over all accounts that the line is about and that were closed.
fn sum_of(line: &str, names: &[&str], sums: &mut [u64]) {
    if line.contains("PeerGone {") {
        for (sum, name) in sums.iter_mut().zip(names) {
            *sum += word_after(line, name).unwrap().parse::<u64>().unwrap();
        }
    }
}

#[test]
fn who_sends_nothing_is_asked_for_one_block_at_a_time() {
    let mut pair = Scenario::flash_crowd(1, layout(4), 1, 1_000_000);
    let (mute, _) = pair.hosts.first_mut().unwrap();
    mute.nature = Nature::Mute;
    let mut world = pair.build();
    let asked = counted(&mut world, |line| {
        line.contains(" node 1: ") && line.contains(" send Request(")
    });
    // It is let go of after two minutes.
    world.pass(secs(110));
    println!("{} requests", asked.get());
    assert!((8..20).contains(&asked.get()), "{} requests", asked.get());
}

#[test]
fn what_comes_late_stands_in_the_account() {
    // What one seeder sent is under way for ten seconds, and meanwhile asked of the other. The disk takes longer than that,
    // so the leecher keeps both.
    let mut trio = Scenario::flash_crowd(2, layout(16), 1, 2_000_000);
    let (leecher, _) = trio.hosts.last_mut().unwrap();
    leecher.disk = 1_000_000;
    for (host, _) in &mut trio.hosts {
        host.latency = Duration::from_millis(1);
    }
    let other = Host {
        seeder: true,
        up: 4_000_000,
        latency: Duration::from_millis(200),
        ..Host::default()
    };
    trio.hosts.push((other, Duration::ZERO));
    let lag = Fault::Lag {
        node: 2,
        more: secs(10),
        span: secs(15),
    };
    trio.faults.push((secs(2), lag));
    trio.healed_after = secs(20);
    trio.bound += secs(120);
    let mut world = trio.build();
    let sums = Rc::new(Cell::new([0_u64; 2]));
    let told = Rc::clone(&sums);
    world.tell(move |line| {
        let mut both = told.get();
        sum_of(line, &[" served: ", " wasted: "], &mut both);
        told.set(both);
    });
    world.pass(trio.healed_after);
    assert!(world.run(trio.bound), "it is stuck");
    world.pass(secs(10));
    world.assert_at_rest();
    for node in 0..3 {
        world.break_later(Duration::ZERO, Fault::Leave { node });
    }
    let moved = world.stats(1).downloaded;
    world.pass(secs(1));
    let [served, wasted] = sums.get();
    println!("{served} served, {wasted} wasted of {moved}");
    assert_eq!(served + wasted, moved);
    assert!(wasted > 0, "nothing came late");
}

#[test]
fn who_promises_and_sends_nothing_has_it_in_its_account() {
    let mut trio = Scenario::flash_crowd(3, layout(4), 1, 200_000);
    let mute = Host {
        nature: Nature::Mute,
        seeder: true,
        ..Host::default()
    };
    trio.hosts.push((mute, Duration::ZERO));
    let mut world = trio.build();
    let sums = Rc::new(Cell::new([0_u64; 1]));
    let told = Rc::clone(&sums);
    world.tell(move |line| {
        let mut all = told.get();
        sum_of(line, &[" over_claimed: "], &mut all);
        told.set(all);
    });
    assert!(world.run(trio.bound), "it is stuck");
    world.break_later(Duration::ZERO, Fault::Leave { node: 1 });
    world.pass(secs(1));
    let [claimed] = sums.get();
    println!("{claimed} blocks were promised");
    assert!(claimed >= 8, "{claimed}");
}

#[test]
fn who_is_told_of_its_own_address_calls_it_once() {
    let mut pair = Scenario::flash_crowd(4, layout(1), 2, 1_000_000);
    pair.hosts.retain(|(host, _)| !host.seeder);
    let mut world = pair.build();
    let calls = counted(&mut world, |line| {
        line.contains(" node 1: Dial {") && line.contains("addr: 10.0.1.1:")
    });
    world.pass(secs(5));
    // Longer than the first waits of who cannot be reached.
    for _ in 0..30 {
        world.introduce(1, 1);
        world.pass(secs(20));
        assert_eq!(world.stats(1).peers, 1, "it talks to itself");
    }
    assert_eq!(calls.get(), 1);
}

#[test]
fn those_of_the_highest_rank_are_called_first() {
    // BEP 40. It comes late, and hears of all others at once.
    let mut crowd = Scenario::flash_crowd(5, layout(16), 40, 50_000);
    let number = crowd.hosts.len() - 1;
    let (late, after) = crowd.hosts.last_mut().unwrap();
    (late.peers_max, *after) = (8, secs(20));
    let mut world = crowd.build();
    world.pass(secs(20));
    let called = Rc::new(RefCell::new(Vec::<SocketAddr>::new()));
    let calls = Rc::clone(&called);
    let sign = format!(" node {number}: Dial {{");
    world.tell(move |line| {
        if line.contains(&sign) {
            let addr = word_after(line, "addr: ").unwrap();
            calls.borrow_mut().push(addr.parse().unwrap());
        }
    });
    world.pass(secs(1));
    let addr = |number: u8| SocketAddr::from(([10, 0, number, 1], 6_881));
    let own = addr(u8::try_from(number).unwrap());
    let rank = |other: SocketAddr| bt_peer::priority::priority(own, other);
    let others = (0..u8::try_from(number).unwrap()).map(addr);
    let mut expected: Vec<SocketAddr> = others.collect();
    expected.sort_by_key(|other| core::cmp::Reverse(rank(*other)));
    let called = called.borrow();
    println!("{called:?}");
    assert!(called.len() >= 7);
    assert_eq!(called[..7], expected[..7]);
}

#[test]
fn two_that_call_each_other_at_once_keep_one_connection() {
    // Their connection breaks, and both call again at about the same time: a call is under way for long.
    let mut races = 0;
    for seed in 1..9 {
        let mut pair = Scenario::flash_crowd(seed, layout(1), 2, 1_000_000);
        pair.hosts.retain(|(host, _)| !host.seeder);
        for (host, _) in &mut pair.hosts {
            host.latency = secs(1);
        }
        let mut world = pair.build();
        world.pass(secs(90));
        let closed = counted(&mut world, |line| line.contains("reason: Duplicate"));
        for _ in 0..20 {
            world.break_later(Duration::ZERO, Fault::Reset { node: 0 });
            closed.set(0);
            let mut waited = 0;
            while closed.get() == 0 && waited < 60 {
                world.pass(secs(1));
                waited += 1;
            }
            if closed.get() > 0 {
                races += 1;
                // Sooner than either would call again.
                world.pass(secs(5));
                let peers = [0, 1].map(|number| world.stats(number).peers);
                assert_eq!(peers, [1, 1], "seed {seed}, race {races}");
            }
        }
    }
    println!("{races} races");
    assert!(races >= 4, "{races} races");
}

#[test]
fn what_stands_before_a_full_line_is_not_asked_for_again() {
    // Ten seeders send more than the leecher's line takes, and what they sent waits there for seconds. It would come twice.
    let mut crowd = Scenario::flash_crowd(1, layout(8), 1, 1_000_000);
    let (seeder, at) = *crowd.hosts.first().unwrap();
    crowd.hosts.extend([(seeder, at); 9]);
    for (host, _) in crowd.hosts.iter_mut().filter(|(host, _)| !host.seeder) {
        host.down = Some(400_000);
    }
    crowd.bound += secs(120);
    let report = crowd.run().unwrap();
    println!("{:.4} copies", report.seeder_copies);
    assert!(report.seeder_copies < 1.005, "{report}");
}

#[test]
fn a_limit_lets_several_blocks_pass_at_a_time() {
    let mut pair = Scenario::flash_crowd(6, layout(32), 1, 10_000_000);
    let (seeder, _) = pair.hosts.first_mut().unwrap();
    seeder.up_limit = Some(1_000_000);
    pair.bound += secs(60);
    let mut world = pair.build();
    world.pass(secs(5));
    let before = world.stats(0).uploaded;
    let woken = counted(&mut world, |line| line.ends_with(" node 0: Timeout"));
    world.pass(secs(20));
    let sent = world.stats(0).uploaded - before;
    println!("{} times in 20 s, {sent} bytes", woken.get());
    assert!(sent > 19_000_000, "{sent}");
    assert!((100..600).contains(&woken.get()), "{} times", woken.get());
}

#[test]
fn a_piece_under_way_is_finished_after_a_choke() {
    let long = Layout::new(64 << 20, 1 << 20).unwrap();
    let mut crowd = Scenario::flash_crowd(7, long, 8, 500_000);
    let (seeder, _) = crowd.hosts.first_mut().unwrap();
    seeder.slots = Some(3);
    let mut world = crowd.build();
    // Newcomers are allowed some pieces fast too.
    world.pass(secs(20));
    let count = Rc::new(Cell::new([0_usize; 2]));
    let counter = Rc::clone(&count);
    world.tell(move |line| {
        let [mut allowed, mut chokes] = counter.get();
        allowed += usize::from(line.contains(" send AllowedFast"));
        chokes += usize::from(line.ends_with(" send Choke"));
        counter.set([allowed, chokes]);
    });
    world.pass(secs(200));
    let [allowed, chokes] = count.get();
    println!("{allowed} pieces are allowed at {chokes} chokes");
    assert!(chokes >= 10 && allowed > 0, "{allowed} of {chokes}");
}

#[test]
fn slots_grow_with_the_line() {
    let mut crowd = Scenario::flash_crowd(9, layout(256), 30, 500_000);
    crowd.settings.disk = DiskKind::Stamped;
    for (host, _) in &mut crowd.hosts {
        (host.up, host.down) = if host.seeder {
            (20_000_000, None)
        } else {
            (500_000, Some(1_000_000))
        };
    }
    let mut world = crowd.build();
    let open = Rc::new(RefCell::new(BTreeSet::<String>::new()));
    let unchoked = Rc::clone(&open);
    world.tell(move |line| {
        if let Some(conn) = word_after(line, " node 0: ConnId(") {
            if line.ends_with(" send Unchoke") {
                unchoked.borrow_mut().insert(conn.to_owned());
            } else if line.ends_with(" send Choke") {
                unchoked.borrow_mut().remove(conn);
            }
        }
    });
    world.pass(secs(40));
    let count = open.borrow().len();
    println!("{count} at a time");
    assert!(count > 15, "{count} at a time");
}

#[test]
fn who_gives_more_gets_more() {
    const SLOW: u64 = 50_000;
    let mut sums = [0.0; 2];
    for seed in 1..4 {
        let mut crowd = Scenario::flash_crowd(seed, layout(16), 16, 400_000);
        for (number, (host, _)) in crowd.hosts.iter_mut().enumerate().skip(1) {
            host.slots = Some(3);
            if number.is_multiple_of(2) {
                host.up = SLOW;
            }
        }
        crowd.bound += secs(300);
        let report = crowd.run().unwrap();
        for download in &report.downloads {
            let [fast, slow] = &mut sums;
            let sum = if download.host.up == SLOW { slow } else { fast };
            *sum += download.took.unwrap().as_secs_f64();
        }
    }
    let [fast, slow] = sums;
    println!("{:.2} of the time", fast / slow);
    assert!(fast < slow * 0.85, "{:.2} of the time", fast / slow);
}

#[test]
fn a_seeder_spares_its_line() {
    // What it could add would take the place of what the leechers send each other.
    let mut crowd = Scenario::flash_crowd(1, layout(64), 12, 1_000_000);
    for (host, _) in &mut crowd.hosts {
        host.down = Some(1_200_000);
        if host.seeder {
            host.up = 2_500_000;
        }
    }
    let report = crowd.run().unwrap();
    println!("{report}");
    assert!(report.seeder_copies < 1.5, "{report}");
}

/// A seeder of 20 MB/s, and leechers that are too busy for what comes and send so much to each other.
fn busy_crowd(up: u64) -> Report {
    let mut crowd = Scenario::flash_crowd(1, layout(64), 4, up);
    for (host, _) in &mut crowd.hosts {
        if host.seeder {
            host.up = 20_000_000;
        } else {
            (host.busy, host.down) = (true, Some(8_000_000));
            host.latency = Duration::from_millis(1);
        }
    }
    let report = crowd.run().unwrap();
    println!("{report}");
    report
}

#[test]
fn a_seeder_is_spared_by_who_is_too_busy_for_what_leechers_send() {
    let report = busy_crowd(20_000_000);
    assert!(report.seeder_copies < 1.3, "{report}");
}

#[test]
fn a_seeder_is_not_spared_for_the_sake_of_slow_leechers() {
    let report = busy_crowd(1_000_000);
    assert!(report.took < secs(15), "{report}");
}

#[test]
fn who_lost_power_knows_what_is_on_its_disk() {
    for seed in 1..25 {
        // Complete, saved and at rest when the power goes; and while it is away, somebody changes its files.
        let mut pair = Scenario::flash_crowd(seed, layout(2), 1, 1_000_000);
        let span = secs(5);
        let crash = Fault::Crash { node: 1, span };
        let rot = Fault::Rot { node: 1 };
        pair.faults = vec![(secs(30), crash), (secs(32), rot)];
        pair.healed_after = secs(40);
        pair.run().unwrap();
        pair.faults.pop();
        pair.run().unwrap();
        // In the middle, with some of it not saved yet.
        let (seeder, _) = pair.hosts.first_mut().unwrap();
        seeder.up = 200_000;
        let at = Duration::from_millis(5_000 + 200 * seed);
        pair.faults = vec![(at, crash)];
        pair.bound += secs(60);
        pair.run().unwrap();
    }
}
