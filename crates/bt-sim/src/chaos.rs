//! Small swarms in which everything goes wrong that can, all of it drawn from one seed.
//!
//! Some members lie about their blocks, some about what they have, some give nothing; lines are slow and cut, the disk
//! fills up or fails, power is lost, the tracker is down or forgets, the network falls apart. All this ends after
//! [`FAULTS_FOR`], and then the swarm must come to its end.

use crate::disk::{DiskKind, Trouble};
use crate::node::{Host, Nature, PEERS_MAX};
use crate::scenario::Scenario;
use crate::world::{Fault, Settings};
use bt_core::{Layout, Rng};
use core::time::Duration;

/// How long things go wrong.
const FAULTS_FOR: Duration = Duration::from_secs(40);

/// Most faults in a run.
const FAULTS_MAX: u64 = 14;

/// How often the seeder leaves for a while, of a hundred seeds.
const SEEDER_LEAVES_PERCENT: u64 = 30;

/// How long the swarm may take once nothing goes wrong any more, beside the time that the bytes take: snubs, bans,
/// back-off after failed calls and the intervals of announces, each a minute or two, one after the other.
const PATIENCE: Duration = Duration::from_secs(300);

impl Scenario {
    /// A small swarm with everything that can go wrong, drawn from the seed.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5ce0_a210);
        let mut settings = Settings::new(draw_layout(&mut rng), seed);
        if rng.chance(30) {
            settings.disk = DiskKind::Stamped;
        }
        let first = Host {
            dialable: true,
            ..draw_host(&mut rng, true)
        };
        let mut hosts = vec![(first, Duration::ZERO)];
        for _ in 0..2 + rng.below(8) {
            let late = Duration::from_millis(rng.below(8_000));
            hosts.push((draw_host(&mut rng, false), late));
        }
        let natures = [
            Nature::Liar(1 + rng.below(100)),
            Nature::Mute,
            Nature::Boaster,
            Nature::FreeRider,
        ];
        for nature in natures {
            if rng.chance(30) {
                // Who boasts lacks something, and who takes a ride wants to get somewhere.
                let leecher = matches!(nature, Nature::Boaster | Nature::FreeRider);
                let seeder = !leecher && rng.chance(50);
                let host = draw_host(&mut rng, seeder);
                let late = Duration::from_millis(rng.below(2_000));
                hosts.push((Host { nature, ..host }, late));
            }
        }
        // Of its own, so that the rest of a seed's swarm is what it was without it.
        let mut limits = Rng::new(seed ^ 0x1192_0b17);
        for (host, _) in &mut hosts {
            host.up_limit = limits.chance(15).then_some(host.up / 2);
        }
        let mut faults = draw_faults(&mut rng, hosts.len());
        // It leaves, and is back when all heals: nobody else need have everything.
        let mut leaving = Rng::new(seed ^ 0x1ea7_5eed);
        if leaving.chance(SEEDER_LEAVES_PERCENT) {
            let (at, span) = draw_when(&mut leaving);
            faults.push((at, Fault::Crash { node: 0, span }));
        }
        let mut scenario = Self {
            faults,
            settings,
            hosts,
            healed_after: FAULTS_FOR,
            bound: Duration::ZERO,
            waits_for_riders: false,
        };
        scenario.bound = scenario.least() * 8 + PATIENCE;
        scenario
    }
}

fn draw_layout(rng: &mut Rng) -> Layout {
    let piece_length = 16_384 << rng.below(4);
    let pieces = 20 + rng.below(80);
    let length = pieces * u64::from(piece_length) - rng.below(u64::from(piece_length));
    Layout::new(length, piece_length).expect("lengths in range")
}

fn draw_host(rng: &mut Rng, seeder: bool) -> Host {
    Host {
        seeder,
        nature: Nature::Honest,
        up: 100_000 + rng.below(2_000_000),
        down: rng.chance(50).then(|| 500_000 + rng.below(5_000_000)),
        latency: Duration::from_millis(1 + rng.below(150)),
        disk: 5_000_000 + rng.below(200_000_000),
        dialable: rng.chance(80),
        fast: rng.chance(80),
        slots: rng.chance(30).then(|| 1 + rng.index(6)),
        super_seed: seeder && rng.chance(25),
        peers_max: PEERS_MAX,
        leaves: false,
        magnet: !seeder && rng.chance(20),
        half: !seeder && rng.chance(10),
        v6: rng.chance(30),
        busy: !seeder && rng.chance(30),
        up_limit: None,
    }
}

/// When something goes wrong, and for how long: at the end of the faults all is well again.
fn draw_when(rng: &mut Rng) -> (Duration, Duration) {
    let end = u64::try_from(FAULTS_FOR.as_millis()).unwrap_or(0);
    let at = rng.below(end);
    let span = rng.below(end - at);
    (Duration::from_millis(at), Duration::from_millis(span))
}

/// Faults for all nodes but the first, the seeder that must not leave for good and whose disk must not fail.
fn draw_faults(rng: &mut Rng, nodes: usize) -> Vec<(Duration, Fault)> {
    let count = rng.below(FAULTS_MAX);
    let draw = |_| {
        let (at, span) = draw_when(rng);
        (at, draw_fault(rng, nodes, span))
    };
    let mut faults: Vec<(Duration, Fault)> = (0..count).map(draw).collect();
    // A resume state cannot know what went bad since it was written.
    let crashes: Vec<usize> = faults
        .iter()
        .filter_map(|(_, fault)| crashes(fault))
        .collect();
    faults.retain(|(_, fault)| !matches!(fault, Fault::Rot { node } if crashes.contains(node)));
    faults
}

fn draw_fault(rng: &mut Rng, nodes: usize, span: Duration) -> Fault {
    let any = rng.index(nodes);
    let other = 1 + rng.index(nodes - 1);
    match rng.below(18) {
        0..=2 => Fault::Reset { node: any },
        3 | 4 => Fault::Freeze { node: any, span },
        5 => Fault::Lag {
            node: any,
            more: Duration::from_millis(rng.below(5_000)),
            span,
        },
        6 | 7 => Fault::Partition {
            group: rng.next_u64(),
            span,
        },
        8 => Fault::TrackerDown { span },
        9 => Fault::TrackerForgets,
        10 | 11 => Fault::Disk {
            node: other,
            trouble: [Trouble::Full, Trouble::Broken, Trouble::Unreadable]
                .into_iter()
                .nth(rng.index(3))
                .unwrap_or(Trouble::Full),
            span,
        },
        12 => Fault::SlowDisk {
            node: any,
            rate: 20_000 + rng.below(500_000),
            span,
        },
        13 | 14 => Fault::Rot { node: other },
        15 | 16 => Fault::Crash { node: other, span },
        _ => Fault::Leave { node: other },
    }
}

/// The node that crashes, if that is what goes wrong.
const fn crashes(fault: &Fault) -> Option<usize> {
    if let Fault::Crash { node, .. } = fault {
        return Some(*node);
    }
    None
}
