//! What a second worker of our tracker costs, in processor time for a request.
//!
//! With the load on the same two cores, its own cost can be told only by what it is compared with. So: two workers on one core beside
//! one on that core, with the load on the other (what two threads cost instead of one); and one tracker with a worker on each core
//! beside two trackers of one worker each, with the same two loads on the same two cores (what it costs to share swarms).

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use comfy_table::{Table, presets};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::rival::{Rival, Running};
use super::{ADDR, Asked, FILL_MAX, LOAD_CORE, TRACKER_CORE, Target, Transport};
use crate::bench::load::{Question, Span};

/// How requests are asked: what is said of them, over what, and how.
const ASKED: [(Transport, Asked); 3] = [
    (Transport::Udp, ("UDP announce", Question::Announce, false)),
    (
        Transport::Http,
        ("HTTP announce, kept alive", Question::Announce, false),
    ),
    (
        Transport::Http,
        ("HTTP announce, new connection", Question::Announce, true),
    ),
];

/// The threads that answer over UDP bear this name.
const UDP_THREAD: &str = "udp";

/// Trackers under a load.
struct Case {
    name: &'static str,
    /// The case that this is compared with.
    base: usize,
    trackers: Vec<Running>,
    /// Where each of the loads goes, and the one core that it has, if it has.
    loads: Vec<(usize, Option<usize>)>,
    /// Nanoseconds for a request, of each question, in each run.
    costs: Vec<Vec<u64>>,
}

/// Starts all, fills them, and measures them in turns.
pub(super) fn run(program: &Path, target: Target<'_>, span: Duration, runs: u32) -> Result<()> {
    let folder = tempfile::tempdir().context("a folder for the trackers")?;
    let mut port = ADDR.port();
    let mut start = |cores: &str| {
        port += 1;
        let mut addr = ADDR;
        addr.set_port(port);
        let target = Target { addr, ..target };
        let folder = folder.path().join(port.to_string());
        std::fs::create_dir(&folder).context("a folder for a tracker")?;
        Running::start_on(cores, Rival::Ours, program, target, &folder)
    };
    let both = format!("{TRACKER_CORE},{LOAD_CORE}");
    let (first, second) = (TRACKER_CORE.to_string(), LOAD_CORE.to_string());
    let apart = vec![(0, Some(LOAD_CORE))];
    let case = |name, base, trackers, loads| Case {
        name,
        base,
        trackers,
        loads,
        costs: vec![Vec::new(); ASKED.len()],
    };
    let mut cases = [
        case("one worker", 0, vec![start(&first)?], apart.clone()),
        case("two workers, one core", 0, vec![start(&both)?], apart),
        case(
            "two trackers of one worker",
            2,
            vec![start(&first)?, start(&second)?],
            vec![(0, None), (1, None)],
        ),
        case(
            "a worker on each core",
            2,
            vec![start(&both)?],
            vec![(0, None), (0, None)],
        ),
    ];
    place(&cases)?;
    for case in &cases {
        for tracker in &case.trackers {
            let fill = Span {
                warm: Duration::ZERO,
                measured: FILL_MAX,
            };
            let at = Target {
                addr: tracker.addr,
                ..target
            };
            Transport::Udp.ask(at, Question::Fill, false, fill, &|| Duration::ZERO)?;
        }
    }
    for _ in 0..runs.max(1) {
        for (number, (transport, asked)) in ASKED.iter().enumerate() {
            for case in &mut cases {
                let cost = case.measure(*transport, *asked, target, span)?;
                case.costs.get_mut(number).context("a question")?.push(cost);
            }
        }
    }
    println!("{}", table(&cases));
    Ok(())
}

/// Gives the workers of the second case one core, and those of the last one each.
fn place(cases: &[Case]) -> Result<()> {
    let [_, together, _, apart] = cases else {
        return Ok(());
    };
    for tracker in &together.trackers {
        for (thread, _) in tracker.threads()? {
            pin(Some(thread), TRACKER_CORE)?;
        }
    }
    for tracker in &apart.trackers {
        let threads = tracker.threads()?;
        let udp = threads.iter().filter(|(_, name)| name == UDP_THREAD);
        for ((thread, _), core) in udp.zip([TRACKER_CORE, LOAD_CORE]) {
            pin(Some(*thread), core)?;
        }
    }
    Ok(())
}

fn pin(thread: Option<Pid>, core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(thread, &cores).context("a core for a thread")
}

impl Case {
    /// Nanoseconds of all trackers for a request.
    fn measure(
        &self,
        transport: Transport,
        (_, question, closing): Asked,
        target: Target<'_>,
        span: Duration,
    ) -> Result<u64> {
        let cpu = || -> Result<Duration> { self.trackers.iter().map(Running::cpu).sum() };
        let load = |(tracker, core): (usize, Option<usize>)| -> Result<u64> {
            match core {
                Some(core) => pin(None, core)?,
                None => {
                    let mut cores = CpuSet::new();
                    cores.set(TRACKER_CORE);
                    cores.set(LOAD_CORE);
                    sched_setaffinity(None, &cores).context("cores for the load")?;
                }
            }
            let addr = self.trackers.get(tracker).context("a tracker")?.addr;
            let span = Span {
                warm: Duration::ZERO,
                measured: span,
            };
            let target = Target { addr, ..target };
            let outcome = transport.ask(target, question, closing, span, &|| Duration::ZERO)?;
            Ok(outcome.replies)
        };
        let (before, began) = (cpu()?, Instant::now());
        let replies = std::thread::scope(|scope| {
            let load = &load;
            let loads: Vec<_> = self
                .loads
                .iter()
                .map(|one| scope.spawn(move || load(*one)))
                .collect();
            let replies = loads.into_iter().map(|load| load.join());
            replies
                .map(|replies| replies.unwrap_or_else(|_| anyhow::bail!("a load panicked")))
                .sum::<Result<u64>>()
        })?;
        let used = cpu()?.saturating_sub(before);
        anyhow::ensure!(replies > 0, "no answers in {:?}", began.elapsed());
        Ok(u64::try_from(used.as_nanos() / u128::from(replies))?)
    }

    fn median(&self, question: usize) -> u64 {
        let mut costs = self.costs.get(question).cloned().unwrap_or_default();
        costs.sort_unstable();
        costs.get(costs.len() / 2).copied().unwrap_or_default()
    }
}

/// Microseconds for a request (the least and the most of the runs), and beside the case that it is compared with.
fn table(cases: &[Case]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["CPU µs a request", "", "median", "least", "most", "× base"]);
    for (number, (_, (what, ..))) in ASKED.iter().enumerate() {
        for (position, case) in cases.iter().enumerate() {
            let micros = |nanos: u64| format!("{:.2}", nanos as f64 / 1e3);
            let costs = case
                .costs
                .get(number)
                .map(Vec::as_slice)
                .unwrap_or_default();
            let least = costs.iter().min().copied().unwrap_or_default();
            let most = costs.iter().max().copied().unwrap_or_default();
            let base = cases.get(case.base).filter(|_| case.base != position);
            let times = base.map(|base| case.median(number) as f64 / base.median(number) as f64);
            table.add_row([
                (*what).to_owned(),
                case.name.to_owned(),
                micros(case.median(number)),
                micros(least),
                micros(most),
                times.map_or_else(String::new, |times| format!("{times:.2}")),
            ]);
        }
    }
    table
}
