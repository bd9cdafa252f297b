//! Runs random swarms from seeds until one of them does what it must not.
//!
//! `--seed N` begins with that seed (0), `--seeds N` runs so many (100), `--trace` tells everything that happens.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program: it talks to its user"
)]

use bt_sim::Scenario;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

struct Arguments {
    seed: u64,
    seeds: u64,
    trace: bool,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("{message}\nusage: sim [--seed N] [--seeds N] [--trace]");
            return ExitCode::from(2);
        }
    };
    let seeds = arguments.seed..arguments.seed.saturating_add(arguments.seeds);
    let failed: Vec<u64> = seeds.filter(|seed| !run(*seed, arguments.trace)).collect();
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {failed:?}; again with: sim --seed N --seeds 1 --trace");
    ExitCode::FAILURE
}

/// Runs one seed; true if all went as it must.
fn run(seed: u64, trace: bool) -> bool {
    let scenario = Scenario::random(seed);
    let mut world = scenario.build();
    if trace {
        world.tell(|line| println!("{line}"));
    }
    // What an oracle sees is a panic. The other seeds are run nevertheless.
    match catch_unwind(AssertUnwindSafe(|| scenario.finish(world))) {
        Ok(Ok(report)) => {
            println!("{report}");
            true
        }
        Ok(Err(stuck)) => {
            println!("seed {seed}: stuck: {:?}", stuck.incomplete);
            false
        }
        Err(_) => {
            println!("seed {seed}: an oracle objects");
            false
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        seed: 0,
        seeds: 100,
        trace: false,
    };
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().unwrap_or_default();
            value
                .parse()
                .map_err(|_| format!("{word} wants a number, not {value:?}"))
        };
        match word.as_str() {
            "--seed" => arguments.seed = number()?,
            "--seeds" => arguments.seeds = number()?,
            "--trace" => arguments.trace = true,
            other => return Err(format!("{other:?} is no option")),
        }
    }
    Ok(arguments)
}
