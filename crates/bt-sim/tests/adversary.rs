//! Machines against whatever can happen, from seeds (FAULTS 52). The program `adversary` plays a million messages so, and
//! `cargo xtask fuzz engine announcer` as many as there is time for.

use bt_sim::adversary::{announcer, engine, script};

#[test]
fn faults_52_no_peer_disk_tracker_or_user_brings_an_engine_out_of_order() {
    let mut all = engine::Tally::default();
    for seed in 0..400 {
        all.add(engine::play(&script(seed)));
    }
    let rows = [
        ("messages", all.messages, 40_000),
        ("damaged", all.damaged, 8_000),
        ("refused", all.refused, 2_000),
        ("violations", all.violations, 1_000),
        ("banned", all.banned, 10),
        ("writes", all.writes, 2_000),
        ("uploads", all.uploads, 50),
        ("pieces", all.pieces, 1_000),
        ("bad pieces", all.bad_pieces, 20),
        ("disk failures", all.disk_failures, 20),
        ("described", all.described, 20),
        ("announces", all.announces, 300),
        ("stopped", all.stopped, 50),
        ("healed", all.healed, 200),
    ];
    for (what, count, least) in rows {
        assert!(count >= least, "scripts do not reach it: {count} {what}");
    }
}

#[test]
fn no_tracker_brings_a_schedule_out_of_order() {
    let mut all = announcer::Tally::default();
    for seed in 0..2_000 {
        all.add(announcer::play(&script(seed)));
    }
    for (event, count) in ["interval", "started", "completed", "stopped", "paused"]
        .iter()
        .zip(all.asks)
    {
        assert!(count >= 200, "scripts do not reach it: {count} {event}");
    }
    assert!(all.good > 2_000 && all.failed > 2_000 && all.stopped > 1_900);
}

#[test]
fn a_script_is_played_the_same_each_time() {
    for seed in [3, 8, 21] {
        let script = script(seed);
        assert_eq!(engine::play(&script), engine::play(&script));
        assert_eq!(announcer::play(&script), announcer::play(&script));
    }
}
