//! `cargo xtask swarm-test`: a tracker, seeders and leechers as separate processes on loopback, and a verdict over every byte.

mod account;
mod churn;
mod event;
mod live;
mod node;
mod report;
mod run;
mod scenario;
mod torrent;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::programs::Programs;
use crate::stop;
use crate::units::{parse_duration, parse_size};
pub(crate) use scenario::least_sent;
use scenario::{KILLS_PER_LEECHER, Payload, Preset, Scenario};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Processes that have nothing at the start
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    leechers: u32,
    /// Processes that have everything from the start
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    seeders: u32,
    /// Bytes to make up and share
    #[arg(long, default_value = "256Mi", value_parser = parse_size)]
    size: u64,
    /// Share this file or folder instead
    #[arg(long, value_name = "DIR", conflicts_with = "size")]
    path: Option<PathBuf>,
    /// Bytes per piece, as `bt create` takes it
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    piece_length: Option<u64>,
    /// Upload limit of each process in bytes per second; T/T_min is printed then
    #[arg(long, value_name = "RATE", value_parser = parse_size)]
    up_limit: Option<u64>,
    /// Kill leechers with SIGKILL at random moments and start them again
    #[arg(long)]
    churn: bool,
    /// Runs a set of scenarios that cover real input
    #[arg(long, conflicts_with_all = ["size", "path", "piece_length", "churn"])]
    preset: Option<Preset>,
    /// Seed of the data and of the kills; a random one is taken and printed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The whole of one scenario must be over by then
    #[arg(long, value_name = "DUR", default_value = "10m", value_parser = parse_duration)]
    timeout: Duration,
    /// Put the copies in a new folder below this one instead of the system's temporary folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave the copies there
    #[arg(long)]
    keep: bool,
    /// Test the programs in this folder instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Print one JSON object a line instead of tables
    #[arg(long)]
    json: bool,
}

impl Args {
    fn scenarios(&self) -> Result<Vec<Scenario>> {
        let seed = match self.seed {
            Some(seed) => seed,
            None => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .context("the clock")?
                .as_secs(),
        };
        let base = Scenario {
            name: "swarm".to_owned(),
            payload: self
                .path
                .clone()
                .map_or(Payload::File(self.size), Payload::Path),
            piece_length: self.piece_length,
            seeders: self.seeders,
            leechers: self.leechers,
            up_limit: self.up_limit,
            kills_per_leecher: if self.churn { KILLS_PER_LEECHER } else { 0 },
            seed,
            timeout: self.timeout,
        };
        Ok(match self.preset {
            Some(preset) => preset.scenarios(&base),
            None if self.churn => vec![base.with_time_to_kill()],
            None => vec![base],
        })
    }
}

/// Runs the scenarios asked for; an error if a single copy differs in a single byte, or a rule was broken.
pub(crate) fn run(args: &Args) -> Result<()> {
    let scenarios = args.scenarios()?;
    if scenarios.is_empty() {
        bail!(
            "nothing to share: this toolchain's folder has fewer than 10,000 files; `--preset tree` makes a tree"
        );
    }
    let programs = match &args.programs {
        Some(folder) => Programs::in_folder(folder)?,
        None => {
            eprintln!("building the programs in release mode");
            Programs::build()?
        }
    };
    // The folder of the copies goes, and the processes end, on every way out.
    stop::install()?;
    let mut outcomes = Vec::new();
    for scenario in scenarios {
        let mut work = tempfile::Builder::new();
        work.prefix("bt-swarm-").disable_cleanup(args.keep);
        let work = match &args.dir {
            Some(dir) => work.tempdir_in(dir),
            None => work.tempdir(),
        };
        let work = work.context("a folder for the copies")?;
        eprintln!(
            "{}: {} seeders, {} leechers, seed {}, in {}",
            scenario.name,
            scenario.seeders,
            scenario.leechers,
            scenario.seed,
            work.path().display()
        );
        let name = scenario.name.clone();
        stop::check()?;
        let outcome = run::run(scenario, &programs, work.path()).with_context(|| name)?;
        report::print(&outcome, args.json);
        outcomes.push(outcome);
    }
    if outcomes.len() > 1 && !args.json {
        report::print_summary(&outcomes);
    }
    match outcomes.iter().filter(|outcome| !outcome.is_good()).count() {
        0 => Ok(()),
        bad => bail!("{bad} of {} scenarios failed", outcomes.len()),
    }
}
