//! `cargo xtask fuzz`: runs the targets of `tests/fuzz`, each for a while.

use std::path::Path;
use std::process::Command;

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
    let (mut unbuilt, mut found) = (Vec::new(), Vec::new());
    for target in chosen {
        println!("── fuzz {target}: {} s", args.seconds);
        // Built apart, so that a failure of what follows is one of the target.
        if !succeeds(cargo_fuzz(&root, "build", target))? {
            unbuilt.push(target.as_str());
            continue;
        }
        let mut run = cargo_fuzz(&root, "run", target);
        run.arg("--")
            .arg(format!("-max_total_time={}", args.seconds))
            .arg(format!("-rss_limit_mb={MEMORY_MAX_MIB}"))
            .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
            .arg("-print_final_stats=1");
        if !succeeds(run)? {
            found.push(target.as_str());
        }
    }
    verdict(&unbuilt, &found)?;
    println!("fuzz: {} targets, nothing found", chosen.len());
    Ok(())
}

fn cargo_fuzz(root: &Path, what: &str, target: &str) -> Command {
    let mut command = programs::cargo();
    command
        .args(["fuzz", what, "--fuzz-dir", FUZZ_FOLDER, target])
        // The sanitizer's flags are unstable; this lets the pinned stable compiler take them.
        .env("RUSTC_BOOTSTRAP", "1")
        .current_dir(root);
    command
}

fn succeeds(mut command: Command) -> Result<bool> {
    Ok(command.status().context("cargo fuzz")?.success())
}

/// What is wrong with which targets.
fn verdict(unbuilt: &[&str], found: &[&str]) -> Result<()> {
    let mut wrongs = Vec::new();
    if !unbuilt.is_empty() {
        wrongs.push(format!("could not build {}", unbuilt.join(", ")));
    }
    if !found.is_empty() {
        wrongs.push(format!(
            "found something in {}: the input is under {FUZZ_FOLDER}/artifacts",
            found.join(", ")
        ));
    }
    if !wrongs.is_empty() {
        bail!("{}", wrongs.join("; "));
    }
    Ok(())
}

/// The targets whose source is there.
fn targets(folder: &Path) -> Result<Vec<String>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_build_has_found_nothing() {
        let found = format!("found something in b: the input is under {FUZZ_FOLDER}/artifacts");
        let rows: [(&[&str], &[&str], String); 3] = [
            (&["a", "c"], &[], "could not build a, c".to_owned()),
            (&[], &["b"], found.clone()),
            (&["a"], &["b"], format!("could not build a; {found}")),
        ];
        for (unbuilt, found, expected) in rows {
            assert_eq!(verdict(unbuilt, found).unwrap_err().to_string(), expected);
        }
        assert!(verdict(&[], &[]).is_ok());
    }
}
