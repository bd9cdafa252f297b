//! `cargo xtask fuzz`: runs the targets of `tests/fuzz`, each for a while.

use anyhow::{Context, Result, bail};
use cargo_metadata::MetadataCommand;

use crate::programs;

/// Where the fuzz crate stands, from the root.
const FUZZ_FOLDER: &str = "tests/fuzz";

/// One input may use this much; a decoder that needs more has no bound. In MiB.
const MEMORY_MAX_MIB: u32 = 2048;

/// One input may take this long; a decoder that takes longer hangs. In seconds.
const INPUT_SECONDS_MAX: u32 = 10;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The targets to run; all of them when none is named
    targets: Vec<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Install cargo-fuzz if it is missing
    #[arg(long)]
    install: bool,
    /// List the targets and end
    #[arg(long)]
    list: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = programs::workspace_root()?;
    let all = targets(&root.join(FUZZ_FOLDER))?;
    if args.list {
        println!("{}", all.join("\n"));
        return Ok(());
    }
    if let Some(unknown) = args.targets.iter().find(|target| !all.contains(target)) {
        bail!("no fuzz target `{unknown}`; there are {}", all.join(", "));
    }
    programs::need_cargo_tool("cargo-fuzz", args.install)?;
    let chosen = if args.targets.is_empty() {
        &all
    } else {
        &args.targets
    };
    let mut failed = Vec::new();
    for target in chosen {
        println!("── fuzz {target}: {} s", args.seconds);
        let status = programs::cargo()
            .args(["fuzz", "run", "--fuzz-dir", FUZZ_FOLDER, target, "--"])
            .arg(format!("-max_total_time={}", args.seconds))
            .arg(format!("-rss_limit_mb={MEMORY_MAX_MIB}"))
            .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
            .arg("-print_final_stats=1")
            // The sanitizer's flags are unstable; this lets the pinned stable compiler take them.
            .env("RUSTC_BOOTSTRAP", "1")
            .current_dir(&root)
            .status()
            .context("cargo fuzz")?;
        if !status.success() {
            failed.push(target.as_str());
        }
    }
    if !failed.is_empty() {
        bail!(
            "found something in {}: the input is under {FUZZ_FOLDER}/artifacts",
            failed.join(", ")
        );
    }
    println!("fuzz: {} targets, nothing found", chosen.len());
    Ok(())
}

/// The targets whose source is there.
fn targets(folder: &std::path::Path) -> Result<Vec<String>> {
    let metadata = MetadataCommand::new()
        .manifest_path(folder.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("reading the fuzz crate")?;
    let mut names: Vec<String> = metadata
        .packages
        .iter()
        .flat_map(|package| &package.targets)
        .filter(|target| target.is_bin() && target.src_path.exists())
        .map(|target| target.name.clone())
        .collect();
    names.sort();
    Ok(names)
}
