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
            eprintln!("{message}\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    // What an oracle says is a panic. The other seeds are run nevertheless.
    std::panic::set_hook(Box::new(|panic| {
        SAID.with(|said| *said.borrow_mut() = panic.to_string().replace('\n', " "));
    }));
    let started = Instant::now();
    let (next, steps) = (AtomicU64::new(0), AtomicU64::new(0));
    let failed: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    let reports: Mutex<Vec<Report>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                while arguments.time.is_none_or(|time| started.elapsed() < time) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= arguments.seeds {
                        break;
                    }
                    let seed = arguments.seed + number;
                    match check(seed, &arguments) {
                        Ok(report) => {
                            steps.fetch_add(report.steps, Ordering::Relaxed);
                            if let Ok(mut reports) = reports.lock() {
                                reports.push(report);
                            }
                        }
                        Err(why) => {
                            println!("seed {seed}: {why}");
                            if let Ok(mut failed) = failed.lock() {
                                failed.push(seed);
                            }
                        }
                    }
                }
            });
        }
    });
    let ran = next.into_inner().min(arguments.seeds);
    let (took, steps) = (started.elapsed().as_secs_f64(), steps.into_inner());
    let peak = peak_mebibytes().map_or(String::new(), |peak| format!(", {peak} MiB at most"));
    println!(
        "{ran} seeds from {} in {took:.1} s, {steps} steps, {:.0} a second{peak}",
        arguments.seed,
        steps as f64 / took
    );
    let reports = reports.into_inner().unwrap_or_default();
    if arguments.verbose && !reports.is_empty() {
        let ratio = |report: &Report| report.took.as_secs_f64() / report.least.as_secs_f64();
        println!(
            "medians: {:.3} x the least, {:.3} copies from the seeders",
            median(reports.iter().map(ratio)),
            median(reports.iter().map(|report| report.seeder_copies))
        );
    }
    let failed = failed.into_inner().unwrap_or_default();
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {failed:?}");
    ExitCode::FAILURE
}

/// The middle one, or the upper of the two in the middle; 0 of none.
fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(0.0)
}

/// Runs one seed; what came of it, or what was wrong.
fn check(seed: u64, arguments: &Arguments) -> Result<Report, String> {
    let report = run(seed, arguments)?;
    if arguments.seeds == 1 || arguments.verbose {
        println!("{report}");
    }
    if arguments.repeats && seed.is_multiple_of(SEEDS_BETWEEN_REPEATS) {
        let again = run(seed, arguments)?;
        if again != report {
            return Err(format!("another run than before:\n{report}\n{again}"));
        }
    }
    Ok(report)
}

fn run(seed: u64, arguments: &Arguments) -> Result<Report, String> {
    let scenario = (arguments.scenario)(seed, arguments.layout);
    catch_unwind(AssertUnwindSafe(|| play(&scenario, arguments)))
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
