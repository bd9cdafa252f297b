//! The swarms that have a name on the command line, and what is measured of each beside its goal.

use bt_core::{Layout, Rng};
use bt_sim::{DiskKind, Host, Nature, Report, Scenario};
use core::time::Duration;

/// The payload of the swarms that are measured, in MiB, and its pieces, in KiB, unless the user says otherwise.
pub(crate) const MEBIBYTES: u64 = 256;
pub(crate) const PIECE_KIBIBYTES: u32 = 1_024;

/// How many leechers are in a swarm that is measured.
const LEECHERS: usize = 50;

/// 10 Mbit/s, in bytes per second.
const LINE: u64 = 1_250_000;

/// Half of the 50 ms from peer to peer: what a byte takes to the middle of the network.
const LATENCY: Duration = Duration::from_millis(25);

/// What the lines of the mixed crowd send and receive, in bytes per second: 2/10, 10/50 and 50/200 Mbit/s.
const MIXED: [(u64, u64); 3] = [(LINE / 5, LINE), (LINE, LINE * 5), (LINE * 5, LINE * 20)];

/// Of a hundred members of the swarms with them: how many give nothing, and how many lie.
const RIDERS_PERCENT: usize = 30;
const LIARS_PERCENT: usize = 20;

/// What a swarm in which nobody sends bad blocks and nothing goes wrong may waste of what it gets, in percent.
const CLEAN: Goal = Goal::AtMost(0.5);

/// About how many downloads are under way at a time where leechers come one after the other.
const ARRIVALS_AT_A_TIME: u32 = 8;

/// A swarm by its name.
pub(crate) struct Swarm {
    pub(crate) name: &'static str,
    /// The swarm of a seed, with another layout than its own if it takes one.
    pub(crate) build: fn(u64, Option<Layout>) -> Scenario,
    /// What the same swarm would be without what is measured, to be compared with.
    pub(crate) clean: Option<fn(&Scenario) -> Scenario>,
    pub(crate) measures: fn(&Outcome) -> Vec<Measure>,
    /// The payload may be chosen.
    pub(crate) takes_layout: bool,
    /// Each seed has a payload of its own.
    pub(crate) draws_layout: bool,
}

/// What came of a seed.
pub(crate) struct Outcome {
    pub(crate) scenario: Scenario,
    pub(crate) report: Report,
    pub(crate) clean: Option<Report>,
}

/// One number of a run, and what it should be.
pub(crate) struct Measure {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) goal: Goal,
}

/// What a median is held to.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    None,
    AtMost(f64),
    AtLeast(f64),
}

pub(crate) const SWARMS: [Swarm; 11] = [
    Swarm {
        name: "chaos",
        build: |seed, _| Scenario::random(seed),
        clean: None,
        measures: |outcome| bound_and_copies(outcome, Goal::None, Goal::None, Goal::None),
        takes_layout: false,
        draws_layout: true,
    },
    Swarm {
        name: "flash",
        build: |seed, _| crowd(seed, LEECHERS, 64 << 20, 1 << 18),
        clean: None,
        measures: |outcome| bound_and_copies(outcome, Goal::None, Goal::None, CLEAN),
        takes_layout: false,
        draws_layout: false,
    },
    Swarm {
        name: "even",
        build: even,
        clean: None,
        measures: |outcome| {
            bound_and_copies(outcome, Goal::AtMost(1.10), Goal::AtMost(1.05), CLEAN)
        },
        takes_layout: true,
        draws_layout: false,
    },
    Swarm {
        name: "super",
        build: |seed, layout| even(seed, layout).super_seeded(),
        clean: None,
        measures: |outcome| {
            bound_and_copies(outcome, Goal::AtMost(1.15), Goal::AtMost(1.02), CLEAN)
        },
        takes_layout: true,
        draws_layout: false,
    },
    Swarm {
        name: "mixed",
        build: mixed,
        clean: None,
        measures: mixed_measures,
        takes_layout: true,
        draws_layout: false,
    },
    Swarm {
        name: "arrivals",
        build: arrivals,
        clean: None,
        measures: arrivals_measures,
        takes_layout: true,
        draws_layout: false,
    },
    Swarm {
        name: "riders",
        build: riders,
        clean: None,
        measures: riders_measures,
        takes_layout: true,
        draws_layout: false,
    },
    Swarm {
        name: "liars",
        build: liars,
        clean: Some(without_liars),
        measures: liars_measures,
        takes_layout: true,
        draws_layout: false,
    },
    Swarm {
        name: "last-copy",
        build: last_copy,
        clean: None,
        measures: |outcome| bound_and_copies(outcome, Goal::None, Goal::None, CLEAN),
        takes_layout: true,
        draws_layout: false,
    },
    Swarm {
        name: "thousand",
        build: |seed, _| crowd(seed, 1_000, 16 << 20, 1 << 18),
        clean: None,
        measures: |outcome| bound_and_copies(outcome, Goal::None, Goal::None, CLEAN),
        takes_layout: false,
        draws_layout: false,
    },
    Swarm {
        name: "ten-thousand",
        build: |seed, _| crowd(seed, 10_000, 2 << 20, 1 << 17),
        clean: None,
        measures: |outcome| bound_and_copies(outcome, Goal::None, Goal::None, CLEAN),
        takes_layout: false,
        draws_layout: false,
    },
];

pub(crate) fn named(name: &str) -> Option<&'static Swarm> {
    SWARMS.iter().find(|swarm| swarm.name == name)
}

/// Everybody comes at once to one seeder, all over lines of 1 MB/s.
fn crowd(seed: u64, leechers: usize, bytes: u64, piece_length: u32) -> Scenario {
    let layout = Layout::new(bytes, piece_length).expect("constants in range");
    let mut scenario = Scenario::flash_crowd(seed, layout, leechers, 1_000_000);
    scenario.settings.disk = DiskKind::Stamped;
    scenario
}

/// Fifty at once, where nobody has more than anybody else: 10 Mbit/s both ways, and 50 ms from peer to peer.
fn even(seed: u64, layout: Option<Layout>) -> Scenario {
    let own = Layout::new(MEBIBYTES << 20, PIECE_KIBIBYTES << 10);
    let layout = layout.unwrap_or(own.expect("constants in range"));
    let mut scenario = Scenario::flash_crowd(seed, layout, LEECHERS, LINE);
    scenario.settings.disk = DiskKind::Stamped;
    for (host, _) in &mut scenario.hosts {
        host.down = Some(LINE);
        host.latency = LATENCY;
    }
    scenario
}

/// The same over lines of three kinds; the seeder's is the middle one.
fn mixed(seed: u64, layout: Option<Layout>) -> Scenario {
    let mut scenario = even(seed, layout);
    let kinds = MIXED.iter().cycle();
    let leechers = scenario.hosts.iter_mut().filter(|(host, _)| !host.seeder);
    for ((host, _), (up, down)) in leechers.zip(kinds) {
        (host.up, host.down) = (*up, Some(*down));
    }
    scenario.bound = scenario.least() * 4 + Duration::from_secs(60);
    scenario
}

/// They come one after the other, and leave when they are done.
fn arrivals(seed: u64, layout: Option<Layout>) -> Scenario {
    let mut scenario = even(seed, layout);
    let alone = alone(&scenario, LINE);
    let between = alone / ARRIVALS_AT_A_TIME;
    let mut rng = Rng::new(seed ^ 0xa771);
    let mut at = Duration::ZERO;
    for (host, after) in scenario.hosts.iter_mut().filter(|(host, _)| !host.seeder) {
        host.leaves = true;
        *after = at;
        // Between half and one and a half of the time on average.
        at += between / 2 + between * u32::try_from(rng.below(1_000)).unwrap_or(0) / 1_000;
    }
    scenario.bound = at + alone * 4 + Duration::from_secs(60);
    scenario
}

/// Some take and give nothing.
fn riders(seed: u64, layout: Option<Layout>) -> Scenario {
    let mut scenario = even(seed, layout);
    turn(&mut scenario, RIDERS_PERCENT, Nature::FreeRider);
    scenario.bound = scenario.least() * 4 + Duration::from_secs(60);
    scenario.waits_for_riders = true;
    scenario
}

/// Some spoil half of the blocks that they send.
fn liars(seed: u64, layout: Option<Layout>) -> Scenario {
    let mut scenario = even(seed, layout);
    turn(&mut scenario, LIARS_PERCENT, Nature::Liar(50));
    scenario.bound = scenario.least() * 8 + Duration::from_secs(300);
    scenario
}

fn without_liars(scenario: &Scenario) -> Scenario {
    let mut scenario = scenario.clone();
    let is_honest = |(host, _): &(Host, Duration)| host.nature == Nature::Honest;
    scenario.hosts.retain(is_honest);
    scenario
}

/// The seeder leaves as soon as the leechers have each piece among them.
fn last_copy(seed: u64, layout: Option<Layout>) -> Scenario {
    let mut scenario = even(seed, layout);
    scenario.settings.seeders_leave = true;
    scenario
}

/// Gives so many of a hundred leechers another nature: every so many-th.
fn turn(scenario: &mut Scenario, percent: usize, nature: Nature) {
    let leechers = scenario.hosts.iter_mut().filter(|(host, _)| !host.seeder);
    for (number, (host, _)) in leechers.enumerate() {
        if (number + 1) * percent / 100 > number * percent / 100 {
            host.nature = nature;
        }
    }
}

/// How long the payload takes over one line.
fn alone(scenario: &Scenario, rate: u64) -> Duration {
    let bytes = scenario.settings.layout.total_length();
    Duration::from_secs_f64(bytes as f64 / rate as f64)
}

fn bound_and_copies(outcome: &Outcome, time: Goal, copies: Goal, wasted: Goal) -> Vec<Measure> {
    let report = &outcome.report;
    vec![
        measure("time / least", ratio(report.took, report.least), time),
        measure("seeder's copies", report.seeder_copies, copies),
        measure("wasted percent", report.wasted_percent, wasted),
    ]
}

/// Each kind of line has a least time of its own: what the seeder sends, and what the line takes.
fn mixed_measures(outcome: &Outcome) -> Vec<Measure> {
    let mut measures = bound_and_copies(outcome, Goal::AtMost(1.30), Goal::AtMost(1.3), CLEAN);
    let names = [
        "2/10 Mbit/s: last / own least",
        "10/50 Mbit/s: last / own least",
        "50/200 Mbit/s: last / own least",
    ];
    for ((up, down), name) in MIXED.into_iter().zip(names) {
        let of_kind = outcome.report.downloads.iter();
        let of_kind = of_kind.filter(|download| download.host.up == up);
        let last = of_kind.filter_map(|download| download.took).max();
        let least = alone(&outcome.scenario, down.min(LINE));
        measures.push(measure(
            name,
            ratio(last.unwrap_or_default(), least),
            Goal::None,
        ));
    }
    measures
}

fn arrivals_measures(outcome: &Outcome) -> Vec<Measure> {
    let mean = mean(outcome, Nature::Honest);
    let least = alone(&outcome.scenario, LINE);
    vec![
        measure("mean time / least", ratio(mean, least), Goal::AtMost(1.2)),
        measure(
            "seeder's copies",
            outcome.report.seeder_copies,
            Goal::AtMost(1.5),
        ),
        measure("wasted percent", outcome.report.wasted_percent, CLEAN),
    ]
}

fn riders_measures(outcome: &Outcome) -> Vec<Measure> {
    let [given, taken] = [Nature::Honest, Nature::FreeRider].map(|nature| mean(outcome, nature));
    let mut measures = bound_and_copies(outcome, Goal::None, Goal::None, CLEAN);
    let sooner = ratio(taken, given);
    measures.push(measure(
        "free riders' mean time / others'",
        sooner,
        Goal::AtLeast(1.5),
    ));
    measures
}

fn liars_measures(outcome: &Outcome) -> Vec<Measure> {
    let hosts = outcome.scenario.hosts.iter();
    let liars = hosts.filter(|(host, _)| matches!(host.nature, Nature::Liar(_)));
    let banned = outcome.report.liars_banned as f64 / liars.count().max(1) as f64;
    let clean = outcome
        .clean
        .as_ref()
        .map_or(Duration::ZERO, |clean| clean.took);
    let slower = ratio(outcome.report.took, clean);
    let mut measures = bound_and_copies(outcome, Goal::None, Goal::None, Goal::None);
    measures.push(measure(
        "time / time without liars",
        slower,
        Goal::AtMost(2.0),
    ));
    measures.push(measure("liars banned / liars", banned, Goal::AtLeast(1.0)));
    measures
}

fn measure(name: &'static str, value: f64, goal: Goal) -> Measure {
    Measure { name, value, goal }
}

/// How long those of a nature took who got there, on average.
fn mean(outcome: &Outcome, nature: Nature) -> Duration {
    let of_nature = outcome.report.downloads.iter();
    let of_nature = of_nature.filter(|download| download.host.nature == nature);
    let times: Vec<Duration> = of_nature.filter_map(|download| download.took).collect();
    let count = u32::try_from(times.len().max(1)).unwrap_or(u32::MAX);
    times.iter().sum::<Duration>() / count
}

fn ratio(time: Duration, least: Duration) -> f64 {
    time.as_secs_f64() / least.as_secs_f64().max(f64::EPSILON)
}
