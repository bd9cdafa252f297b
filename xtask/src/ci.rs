//! `cargo xtask ci`: every check that decides whether a change lands, in the order in which they fail fastest.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{programs, units};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install what is missing (cargo-deny, foreign programs) instead of failing
    #[arg(long)]
    install: bool,
    /// Leave out what takes foreign programs (Redis, other clients, Chromium): on a machine that has none of them
    #[arg(long)]
    no_interop: bool,
}

/// As many seeds of the simulation as fit into the time that is left for them: all of CI is to take half an hour.
const SIM: &str = "xtask sim --seeds 1000 --minutes 4";

/// A million messages at one engine, whole and damaged, from seeds.
const SCRIPTS: &str = "run --profile sim -p bt-sim --bin adversary -- 1000000";

/// The fuzz targets are compiled and not linked: so the fuzzer's own library, which takes a C++ compiler, may be anywhere.
const UNLINKED: (&str, &str) = ("CUSTOM_LIBFUZZER_PATH", "nowhere/libfuzzer.a");

/// The checks that take programs which are not ours: Redis, clients and a tracker, Chromium. Each can install them.
const FOREIGN: [(&str, &str); 3] = [
    ("store", "xtask tracker-test"),
    ("interop", "xtask interop --size 4M"),
    ("page", "xtask page-test"),
];

/// One check: its name, and the command that makes it.
struct Step {
    name: &'static str,
    arguments: Vec<&'static str>,
    environment: Option<(&'static str, &'static str)>,
}

impl Step {
    fn new(name: &'static str, command: &'static str) -> Self {
        Self {
            name,
            arguments: command.split(' ').collect(),
            environment: None,
        }
    }
}

fn steps(args: &Args) -> Vec<Step> {
    let mut steps = vec![
        Step::new("format", "fmt --all --check"),
        Step::new("clippy", "clippy --workspace --all-targets -- -D warnings"),
        Step {
            environment: Some(UNLINKED),
            ..Step::new("fuzz", "check --manifest-path tests/fuzz/Cargo.toml --bins")
        },
        Step {
            environment: Some(("RUSTDOCFLAGS", "-D warnings")),
            ..Step::new("docs", "doc --workspace --no-deps")
        },
        Step::new("tidy", "xtask tidy"),
        // Advisories are left to those who have a network: their database is a download.
        Step::new("deny", "deny --all-features check licenses bans sources"),
        Step::new("tests", "test --workspace"),
        Step::new("sim", SIM),
        Step::new("scripts", SCRIPTS),
        Step::new("swarm", "xtask swarm-test --leechers 4 --size 64M"),
        Step::new("churn", "xtask swarm-test --leechers 3 --size 48M --churn"),
        Step::new("abuse", "xtask bench abuse --minutes 1"),
    ];
    let foreign = FOREIGN.iter().filter(|_| !args.no_interop);
    steps.extend(foreign.map(|(name, command)| {
        let mut step = Step::new(name, command);
        step.arguments.extend(args.install.then_some("--install"));
        step
    }));
    steps
}

/// Runs every step even after one failed: one run then shows all there is to mend.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = programs::workspace_root()?;
    programs::need_cargo_tool("cargo-deny", args.install)?;
    let mut results: Vec<(&str, bool, Duration)> = Vec::new();
    for step in steps(args) {
        println!("── {}: cargo {}", step.name, step.arguments.join(" "));
        let started = Instant::now();
        let status = programs::cargo()
            .args(&step.arguments)
            .envs(step.environment)
            .current_dir(&root)
            .status()
            .with_context(|| format!("cargo {}", step.arguments.join(" ")))?;
        results.push((step.name, status.success(), started.elapsed()));
    }
    println!("── ci");
    for (name, passed, took) in &results {
        let verdict = if *passed { "ok" } else { "FAILED" };
        println!("{name:<8} {verdict:<6} {:>8} s", units::show_seconds(*took));
    }
    let failed: Vec<&str> = results
        .iter()
        .filter(|row| !row.1)
        .map(|row| row.0)
        .collect();
    if !failed.is_empty() {
        bail!(
            "ci: {} of {} steps failed: {}",
            failed.len(),
            results.len(),
            failed.join(", ")
        );
    }
    println!("ci: {} steps passed", results.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_programs_are_installed_or_left_out_if_asked() {
        let lines = |install, no_interop| {
            let args = Args {
                install,
                no_interop,
            };
            steps(&args)
                .into_iter()
                .map(|step| step.arguments.join(" "))
        };
        for (_, command) in FOREIGN {
            for (install, no_interop) in [(false, false), (true, false), (false, true)] {
                let own: Vec<String> = lines(install, no_interop)
                    .filter(|line| line.starts_with(command))
                    .collect();
                let expected: &[String] = match (install, no_interop) {
                    (_, true) => &[],
                    (true, false) => &[format!("{command} --install")],
                    (false, false) => &[command.to_owned()],
                };
                assert_eq!(own, expected);
            }
        }
    }
}
