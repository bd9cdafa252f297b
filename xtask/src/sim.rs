//! `cargo xtask sim`: whole swarms in one process, with every fault drawn from a seed (docs/simulation.md).
//!
//! The simulation is a program of `bt-sim`; here it is built, started, given engines with planted bugs, and drawn.

mod built;
mod plant;
mod plants;
mod plot;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::programs;

pub(crate) use plants::missing;

/// What the simulation is built with: quick, and with all checks.
const PROFILE: &str = "sim";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run so many seeds (100)
    #[arg(long)]
    seeds: Option<u64>,
    /// Run this seed alone, or begin with it
    #[arg(long)]
    seed: Option<u64>,
    /// Begin no seed later than this
    #[arg(long)]
    minutes: Option<u64>,
    /// Tell everything that happens in this file (with --seed)
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Which swarm: chaos (every fault), flash, even, super, mixed, arrivals, riders, liars, last-copy, thousand, ten-thousand
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// The payload in MiB, where the swarm takes another than its own
    #[arg(long, value_name = "MIB")]
    size: Option<u64>,
    /// Its pieces in KiB
    #[arg(long, value_name = "KIB")]
    piece: Option<u64>,
    /// Runs at a time; as many as cores, unless they take too much memory
    #[arg(long)]
    threads: Option<u64>,
    /// Say what all seeds came to as one JSON object
    #[arg(long)]
    json: bool,
    /// Say what each seed came to
    #[arg(long)]
    verbose: bool,
    /// Draw a run as SVG charts
    #[arg(long, conflicts_with = "plant")]
    plot: bool,
    /// Where the charts go
    #[arg(long, value_name = "FOLDER", default_value = "docs/simulation")]
    plots: PathBuf,
    /// Plant bugs in a copy of the sources, one at a time, and see that each is found
    #[arg(long)]
    plant: bool,
    /// Only the planted bugs whose names contain one of these
    #[arg(long, value_name = "PART", value_delimiter = ',', requires = "plant")]
    only: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = programs::workspace_root()?;
    if args.plant {
        return plant::run(&root, &args.only, args.seeds);
    }
    let program = build(&root, &programs::target_folder()?)?;
    if args.plot {
        return plot::run(&program, &root.join(&args.plots), args.scenario.as_deref());
    }
    let mut command = Command::new(&program);
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            command.arg(name).arg(value);
        }
    };
    add("--seeds", args.seeds.map(|seeds| seeds.to_string()));
    add("--seed", args.seed.map(|seed| seed.to_string()));
    add("--minutes", args.minutes.map(|minutes| minutes.to_string()));
    add("--scenario", args.scenario.clone());
    add("--size", args.size.map(|size| size.to_string()));
    add("--piece", args.piece.map(|piece| piece.to_string()));
    add("--threads", args.threads.map(|threads| threads.to_string()));
    let trace = args.trace.as_ref().map(|path| path.display().to_string());
    add("--trace", trace);
    for (word, is_wanted) in [("--verbose", args.verbose), ("--json", args.json)] {
        if is_wanted {
            command.arg(word);
        }
    }
    let status = command.status().context("sim")?;
    if !status.success() {
        let scenario = args.scenario.as_deref().unwrap_or("chaos");
        bail!(
            "at commit {}; again: cargo xtask sim --scenario {scenario} --seed N --trace FILE",
            commit(&root)
        );
    }
    Ok(())
}

/// Builds the simulation from the sources at `root`.
fn build(root: &Path, target: &Path) -> Result<PathBuf> {
    let status = programs::cargo()
        .args(["build", "--quiet", "--profile", PROFILE])
        .args(["--package", "bt-sim", "--bin", "sim", "--target-dir"])
        .arg(target)
        .current_dir(root)
        .status()
        .context("cargo build")?;
    if !status.success() {
        bail!("the simulation does not build");
    }
    Ok(target.join(PROFILE).join("sim"))
}

/// The commit that is checked out, for a report.
fn commit(root: &Path) -> String {
    let output = Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .current_dir(root)
        .stderr(Stdio::null())
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|_| "unknown".to_owned())
}
