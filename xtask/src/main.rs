//! Chores of the workspace: `cargo xtask --help`.
//!
//! Nothing here is linked with the programs it tests: it builds them, starts them as processes, and judges what they
//! leave on the disk with its own eyes.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "shell: owns the clock, files and threads"
)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that talks to its user"
)]

mod bench;
mod ci;
mod compare;
mod fuzz;
mod http;
mod interop;
mod page;
mod payload;
mod process;
mod programs;
mod rng;
mod service;
mod shared;
mod sim;
mod stop;
mod swarm;
mod tidy;
mod units;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Chores of the workspace", version)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Measure ours beside others
    #[command(subcommand)]
    Bench(bench::Bench),
    /// All that decides whether a change lands, one step after the other
    Ci(ci::Args),
    /// Run the fuzz targets of tests/fuzz
    Fuzz(fuzz::Args),
    /// Share data with foreign programs, in both directions, and print the matrix
    Interop(interop::Args),
    /// Look at the tracker's page in Chromium, with scripts and without
    PageTest(page::Args),
    /// Run the tracker as a service of systemd, in a container
    ServiceTest(service::Args),
    /// Run whole swarms in one process, with every fault drawn from a seed
    Sim(sim::Args),
    /// Share data between real processes on loopback and compare every byte
    SwarmTest(swarm::Args),
    /// Trackers that share their swarms through a real Redis, whatever happens to it
    TrackerTest(shared::Args),
    /// Check the rules that no compiler knows: dependency arrows, pure crates, lengths, names in the docs
    Tidy,
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Bench(bench) => bench::run(&bench),
        Chore::Ci(args) => ci::run(&args),
        Chore::Fuzz(args) => fuzz::run(&args),
        Chore::Interop(args) => interop::run(&args),
        Chore::PageTest(args) => page::run(&args),
        Chore::ServiceTest(args) => service::run(&args),
        Chore::Sim(args) => sim::run(&args),
        Chore::SwarmTest(args) => swarm::run(&args),
        Chore::TrackerTest(args) => shared::run(&args),
        Chore::Tidy => tidy::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if stop::is_asked() {
                return ExitCode::from(stop::EXIT_CODE);
            }
            ExitCode::FAILURE
        }
    }
}
