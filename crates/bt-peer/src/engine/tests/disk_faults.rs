//! A disk that fails, and works again (FAULTS 75, 79).

use super::lone::*;
use super::swarm::{Nature, Swarm};
use crate::Event;
use crate::engine::contract::*;
use bt_core::Time;
use bt_core::disk::{DiskError, DiskErrorKind, Done, Job, Verdict};
use bt_wire::Message;
use core::time::Duration;

fn full() -> DiskError {
    DiskError {
        kind: DiskErrorKind::Full,
        message: "no space left".to_owned(),
    }
}

#[test]
fn a_full_disk_pauses_the_download_and_nothing_else() {
    let mut lone = Lone::leecher(200);
    let seeder = lone.open_seeder(1, FAST);
    let asked = lone.requests(seeder);
    lone.deliver(seeder, asked[0]);
    let piece = asked[0].piece;
    lone.jobs();
    let failed = || {
        Input::DiskDone(Done::Checked {
            piece,
            verdict: Verdict::Failed(full()),
        })
    };
    lone.handle(failed());
    assert_eq!(lone.events, [Event::DiskTrouble(full())]);
    assert!(lone.jobs().contains(&Job::Discard { piece }));
    let cancels = lone.sent(seeder);
    assert!(
        asked[1..]
            .iter()
            .all(|block| cancels.contains(&Message::Cancel(address(*block))))
    );
    // What was on its way is dropped, and no offence.
    for block in &asked[1..] {
        lone.deliver(seeder, *block);
    }
    assert_eq!(lone.jobs(), []);
    lone.pass(Duration::from_millis(1_500));
    assert_eq!(lone.requests(seeder), [], "paused");
    lone.handle(failed());
    assert_eq!(lone.events.len(), 1, "told once");
    // It tries again, with little, and less and less often.
    lone.pass_secs(2);
    let probe = lone.requests(seeder);
    assert!(!probe.is_empty() && probe.len() <= crate::limits::DISK_PROBE_REQUESTS);
    lone.deliver(seeder, probe[0]);
    let piece = probe[0].piece;
    lone.handle(Input::DiskDone(Done::Checked {
        piece,
        verdict: Verdict::Failed(full()),
    }));
    lone.requests(seeder);
    lone.pass_secs(3);
    assert_eq!(lone.requests(seeder), [], "the second wait is longer");
    lone.pass_secs(2);
    let probe = lone.requests(seeder);
    assert!(!probe.is_empty());
    let piece = probe[0].piece;
    lone.handle(Input::DiskDone(Done::Checked {
        piece,
        verdict: Verdict::Good,
    }));
    assert!(lone.events.contains(&Event::DiskRecovered));
    assert_eq!(lone.close_reason(seeder), None);
}

/// What the engine tells, in the order of `kinds`, of a disk that fails so each time that it is tried.
fn troubles(lone: &mut Lone, seeder: ConnId, kinds: &[DiskErrorKind]) -> Vec<Event> {
    for kind in kinds {
        // The longest wait, and a tick.
        lone.pass(crate::limits::DISK_RETRY_MAX + Duration::from_secs(2));
        let asked = lone.requests(seeder);
        let Some(block) = asked.first() else { break };
        lone.deliver(seeder, *block);
        let error = DiskError {
            kind: *kind,
            message: String::new(),
        };
        lone.handle(Input::DiskDone(Done::Checked {
            piece: block.piece,
            verdict: Verdict::Failed(error),
        }));
    }
    core::mem::take(&mut lone.events)
}

#[test]
fn a_broken_disk_is_given_up_and_a_full_one_is_not() {
    use DiskErrorKind::{Denied, Full, InTheWay, Io, Missing};
    let max = crate::limits::DISK_ERRORS_MAX as usize;
    // (how it fails each time, whether it is given up)
    let rows = [
        (vec![Io; max - 1], false),
        (vec![Io; max], true),
        (vec![Missing; max], true),
        (vec![Full; 3 * max], false),
        (
            [vec![Io; max - 1], vec![Full], vec![Io; max - 1]].concat(),
            false,
        ),
        ([vec![Full; max], vec![Io; max]].concat(), true),
        (vec![Denied], true),
        (vec![Full, Denied], true),
        (vec![InTheWay], true),
        (vec![Missing, InTheWay], true),
    ];
    for (kinds, is_given_up) in rows {
        let mut lone = Lone::leecher(200);
        let seeder = lone.open_seeder(1, FAST);
        let told = troubles(&mut lone, seeder, &kinds);
        let broken = |event: &Event| matches!(event, Event::DiskBroken(_));
        let broken: Vec<_> = told.iter().filter(|event| broken(event)).collect();
        assert_eq!(
            broken.len(),
            usize::from(is_given_up),
            "{kinds:?}: {told:?}"
        );
        // Nothing is asked for in vain.
        lone.pass(crate::limits::DISK_RETRY_MAX + Duration::from_secs(2));
        assert_eq!(lone.requests(seeder).is_empty(), is_given_up, "{kinds:?}");
    }
}

#[test]
fn a_broken_disk_is_told_of_once_and_stays_broken() {
    let failed = |kind| {
        let message = String::new();
        Verdict::Failed(DiskError { kind, message })
    };
    for next in [failed(DiskErrorKind::Denied), Verdict::Good] {
        let mut lone = Lone::leecher(200);
        let seeder = lone.open_seeder(1, FAST);
        let asked = lone.requests(seeder);
        asked.iter().for_each(|block| lone.deliver(seeder, *block));
        let verdicts = [failed(DiskErrorKind::Denied), next.clone()];
        for (block, verdict) in asked.iter().step_by(4).zip(verdicts) {
            let piece = block.piece;
            lone.handle(Input::DiskDone(Done::Checked { piece, verdict }));
        }
        let is_told = |event: &&Event| {
            let broken = matches!(event, Event::DiskBroken(_));
            broken || matches!(event, Event::DiskTrouble(_) | Event::DiskRecovered)
        };
        assert_eq!(lone.events.iter().filter(is_told).count(), 1, "{next:?}");
        lone.requests(seeder);
        lone.pass(crate::limits::DISK_RETRY_MAX + Duration::from_secs(2));
        assert_eq!(lone.requests(seeder), [], "{next:?}");
    }
}

#[test]
fn a_swarm_outlives_a_full_disk() {
    let mut swarm = Swarm::new(60, Duration::from_millis(10), 3);
    swarm.add(true, Nature::Honest, 1_000_000);
    let poor = swarm.add(false, Nature::Honest, 1_000_000);
    let other = swarm.add(false, Nature::Honest, 1_000_000);
    swarm.run(Duration::from_secs(1), |_| false);
    let space_at = Time::from_secs(120);
    swarm.nodes[poor].disk_fails_until = space_at;
    swarm.run(space_at - swarm.now, |_| false);
    assert!(
        swarm.nodes[other].engine.have().is_full(),
        "the others go on"
    );
    let stats = swarm.nodes[poor].engine.stats(swarm.now);
    assert!(stats.pieces_have < 60);
    // FAULTS 75: no endless download. A pipeline at the start, and a probe each half minute.
    assert!(stats.wasted < 3_000_000, "{} bytes wasted", stats.wasted);
    // It goes on by itself within half a minute of space coming back.
    assert!(swarm.run(Duration::from_secs(60), Swarm::all_complete));
    let events = &swarm.nodes[poor].events;
    let troubles = events
        .iter()
        .filter(|event| matches!(event, Event::DiskTrouble(_)));
    assert_eq!(troubles.count(), 1);
    assert_eq!(
        events
            .iter()
            .filter(|event| **event == Event::DiskRecovered)
            .count(),
        1
    );
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, Event::Banned { .. })),
        "nobody is to blame"
    );
}
