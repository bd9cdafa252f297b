//! Runs random swarms from seeds until one of them does what it must not.
//!
//! `--seed N` begins with that seed (0), `--seeds N` runs so many (100), `--trace` tells everything that happens.
//! `--crowd N` lets N leechers come at once to one seeder instead, without any fault.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program: it talks to its user"
)]

use bt_core::Layout;
use bt_sim::{DiskKind, Scenario};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// What a flash crowd downloads, in bytes: 16 MiB in pieces of 64 KiB.
const CROWD_BYTES: u64 = 16 << 20;
const CROWD_PIECE_BYTES: u32 = 64 << 10;
/// What each line of a flash crowd sends, in bytes per second.
const CROWD_UP: u64 = 1_000_000;

struct Arguments {
    seed: u64,
    seeds: u64,
    trace: bool,
    crowd: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("{message}\nusage: sim [--seed N] [--seeds N] [--trace] [--crowd N]");
            return ExitCode::from(2);
        }
    };
    let seeds = arguments.seed..arguments.seed.saturating_add(arguments.seeds);
    let failed: Vec<u64> = seeds.filter(|seed| !run(*seed, &arguments)).collect();
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {failed:?}; again with: sim --seed N --seeds 1 --trace");
    ExitCode::FAILURE
}

/// Runs one seed; true if all went as it must.
fn run(seed: u64, arguments: &Arguments) -> bool {
    let scenario = arguments
        .crowd
        .map_or_else(|| Scenario::random(seed), |leechers| crowd(seed, leechers));
    let mut world = scenario.build();
    if arguments.trace {
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

fn crowd(seed: u64, leechers: usize) -> Scenario {
    let layout = Layout::new(CROWD_BYTES, CROWD_PIECE_BYTES).expect("constants in range");
    let mut scenario = Scenario::flash_crowd(seed, layout, leechers, CROWD_UP);
    scenario.settings.disk = DiskKind::Stamped;
    scenario
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        seed: 0,
        seeds: 100,
        trace: false,
        crowd: None,
    };
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let value = words.next().unwrap_or_default();
            value
                .parse()
                .map_err(|_| format!("{word} wants a number, not {value:?}"))
        };
        match word.as_str() {
            "--seed" => arguments.seed = number()?,
            "--seeds" => arguments.seeds = number()?,
            "--crowd" => arguments.crowd = usize::try_from(number()?).ok(),
            "--trace" => arguments.trace = true,
            other => return Err(format!("{other:?} is no option")),
        }
    }
    Ok(arguments)
}
