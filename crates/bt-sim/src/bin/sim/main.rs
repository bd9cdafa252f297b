//! Runs swarms from seeds until one of them does what it must not. `cargo xtask sim` builds and starts it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a program: it talks to its user, and owns the clock, files and threads"
)]

mod arguments;
mod curve;
mod summary;
mod swarms;

use arguments::Arguments;
use bt_sim::{Report, Scenario};
use std::cell::RefCell;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use summary::Summary;
use swarms::{Measure, Outcome};

/// Every so many seeds one is run twice, and both runs must be the same.
const SEEDS_BETWEEN_REPEATS: u64 = 8;

thread_local! {
    /// What the last panic of this thread said.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

fn main() -> ExitCode {
    let arguments = match arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("{message}\n{}", arguments::usage());
            return ExitCode::from(2);
        }
    };
    // What an oracle says is a panic. The other seeds are run nevertheless.
    std::panic::set_hook(Box::new(|panic| {
        SAID.with(|said| *said.borrow_mut() = panic.to_string().replace('\n', " "));
    }));
    let work = Work::new();
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| work.take_seeds(&arguments));
        }
    });
    let summary = work.summary(&arguments);
    if arguments.json {
        println!("{}", summary.json());
    } else {
        println!("{}", summary.text());
    }
    if summary.failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    if !arguments.json {
        println!("failed: {:?}", summary.failed);
    }
    ExitCode::FAILURE
}

/// What the threads share.
struct Work {
    started: Instant,
    next: AtomicU64,
    steps: AtomicU64,
    failed: Mutex<Vec<u64>>,
    measured: Mutex<Vec<Vec<Measure>>>,
}

impl Work {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            next: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            failed: Mutex::default(),
            measured: Mutex::default(),
        }
    }

    /// Runs seeds until all are taken, or the time is over.
    fn take_seeds(&self, arguments: &Arguments) {
        while arguments
            .time
            .is_none_or(|time| self.started.elapsed() < time)
        {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= arguments.seeds || (arguments.fail_fast && self.has_failed()) {
                break;
            }
            let seed = arguments.seed + number;
            match check(seed, arguments) {
                Ok(outcome) => {
                    self.steps
                        .fetch_add(outcome.report.steps, Ordering::Relaxed);
                    if let Ok(mut measured) = self.measured.lock() {
                        measured.push((arguments.swarm.measures)(&outcome));
                    }
                }
                Err(why) => {
                    // With --json only the object is on stdout.
                    if arguments.json {
                        eprintln!("seed {seed}: {why}");
                    } else {
                        println!("seed {seed}: {why}");
                    }
                    if let Ok(mut failed) = self.failed.lock() {
                        failed.push(seed);
                    }
                }
            }
        }
    }

    fn has_failed(&self) -> bool {
        self.failed.lock().is_ok_and(|failed| !failed.is_empty())
    }

    fn summary(self, arguments: &Arguments) -> Summary {
        let swarm = arguments.swarm;
        let layout = (swarm.build)(arguments.seed, arguments.layout)
            .settings
            .layout;
        Summary {
            scenario: swarm.name,
            seeds: self.next.into_inner().min(arguments.seeds),
            first_seed: arguments.seed,
            failed: self.failed.into_inner().unwrap_or_default(),
            layout: (!swarm.draws_layout).then_some(layout),
            steps: self.steps.into_inner(),
            wall_seconds: self.started.elapsed().as_secs_f64(),
            peak_mebibytes: peak_mebibytes(),
            spreads: summary::spreads(&self.measured.into_inner().unwrap_or_default()),
        }
    }
}

/// Runs one seed; what came of it, or what was wrong.
fn check(seed: u64, arguments: &Arguments) -> Result<Outcome, String> {
    let scenario = (arguments.swarm.build)(seed, arguments.layout);
    let report = run(&scenario, arguments)?;
    if !arguments.json && (arguments.verbose || arguments.seeds == 1) {
        println!("{report}");
    } else if arguments.verbose {
        eprintln!("{report}");
    }
    if arguments.repeats && seed.is_multiple_of(SEEDS_BETWEEN_REPEATS) {
        let again = run(&scenario, arguments)?;
        if again != report {
            return Err(format!("another run than before:\n{report}\n{again}"));
        }
    }
    let clean = arguments.swarm.clean.map(|clean| clean(&scenario));
    let clean = clean.map(|clean| run(&clean, arguments)).transpose()?;
    Ok(Outcome {
        scenario,
        report,
        clean,
    })
}

fn run(scenario: &Scenario, arguments: &Arguments) -> Result<Report, String> {
    catch_unwind(AssertUnwindSafe(|| play(scenario, arguments)))
        .unwrap_or_else(|_| Err(SAID.with(|said| said.borrow().clone())))
}

fn play(scenario: &Scenario, arguments: &Arguments) -> Result<Report, String> {
    let mut world = scenario.build();
    if let Some(path) = &arguments.trace {
        let mut file = BufWriter::new(create(path)?);
        world.tell(move |line| {
            // A trace is for people: one that cannot be written is missed by them.
            let _ = writeln!(file, "{line}");
        });
    }
    if let Some(path) = &arguments.csv {
        let mut file = BufWriter::new(create(path)?);
        curve::write(scenario, &mut world, &mut file)
            .map_err(|error| format!("{path}: {error}"))?;
    }
    let stuck = |stuck: bt_sim::Stuck| format!("stuck: {:?}", stuck.incomplete);
    scenario.finish(world).map_err(stuck)
}

fn create(path: &str) -> Result<File, String> {
    File::create(path).map_err(|error| format!("{path}: {error}"))
}

/// The most memory that this process had, where the system says so.
fn peak_mebibytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes / 1_024)
}
