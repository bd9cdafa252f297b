//! Plants bugs in a copy of the sources, and sees that each is found.
//!
//! The copy and what is built of it lie under the target folder. Almost all bugs are built at once: in the copy each stands
//! behind a question whether its number is in the environment, so a run is of one bug and costs no build. A bug that cannot
//! be asked for (a type, a `const fn`) is built alone. Before the first bug the sources as they are must pass, or everything
//! would count as found. Each bug is put to the tests of its crate and to the simulation, whatever the first one says.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::built::Built;
use super::plants::{self, Plant};
use crate::process::Process;
use crate::{programs, units};

/// Seeds that the simulation runs for each bug, unless an earlier one finds it.
const SEEDS: u64 = 100;

/// The packages whose tests are scenarios.
const SCENARIOS: &str = "bt-sim";

/// Where the question is asked in the copy, and where its answer comes from.
const QUESTION: &str = r#"
/// Whether the bug of that number is planted in this run.
pub fn planted(number: usize) -> bool {
    static PLANTED: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
    let planted = PLANTED.get_or_init(|| std::env::var("BT_PLANT").ok()?.parse().ok());
    *planted == Some(number)
}
"#;

/// The variable that holds the number of the bug.
const PLANTED: &str = "BT_PLANT";

/// How long the tests of one crate may run: many times what they take.
const TEST_PATIENCE: Duration = Duration::from_secs(600);

/// How long the simulation may run: many times what it takes.
const SIM_PATIENCE: Duration = Duration::from_secs(900);

/// Characters of a sign in the table; more would be a page.
const SIGN_CHARS_MAX: usize = 90;

/// Who found a bug; nothing if nobody of them did.
#[derive(Default)]
struct Found {
    /// The test that failed, and how many more did.
    test: Option<String>,
    /// Likewise, of the scenarios.
    scenario: Option<String>,
    /// What the first seed said that failed.
    seed: Option<String>,
}

impl Found {
    fn is_nothing(&self) -> bool {
        self.test.is_none() && self.scenario.is_none() && self.seed.is_none()
    }
}

pub(super) fn run(root: &Path, only: &[String], seeds: Option<u64>) -> Result<()> {
    let missing = super::missing(root);
    if !missing.is_empty() {
        bail!("no longer in the sources once: {missing:?}");
    }
    let garden = programs::target_folder()?.join("plant");
    let garden = Garden {
        root: root.to_owned(),
        sources: garden.join("sources"),
        target: garden.join("target"),
        seeds: seeds.unwrap_or(SEEDS),
    };
    let is_named = |plant: &Plant| only.iter().any(|part| plant.name.contains(part));
    let wanted: Vec<(usize, &Plant)> = (0..).zip(plants::all()).collect();
    let wanted: Vec<(usize, &Plant)> = wanted
        .into_iter()
        .filter(|(_, plant)| only.is_empty() || is_named(plant))
        .collect();
    let began = Instant::now();
    garden.lay_out(None)?;
    let built = garden.build()?;
    let packages: Result<BTreeSet<&str>> = wanted.iter().map(|(_, one)| one.package()).collect();
    garden.look_at_healthy(&built, &packages?)?;
    let took = units::show_seconds(began.elapsed());
    println!("nothing is found where nothing is planted ({took} s)");
    let mut table = String::from("| planted bug | test | scenario | seed |\n|---|---|---|---|\n");
    let mut survived = Vec::new();
    // Those that are built alone come last: their builds spoil that of all others.
    let (alone, together): (Vec<_>, Vec<_>) = wanted.iter().partition(|(_, plant)| plant.alone);
    for (number, plant) in together.iter().chain(&alone) {
        let started = Instant::now();
        let found = if plant.alone {
            garden.lay_out(Some(plant))?;
            let built = garden.build().context(plant.name)?;
            garden.look(&built, None, plant)?
        } else {
            garden.look(&built, Some(*number), plant)?
        };
        let took = units::show_seconds(started.elapsed());
        let row = row(plant, &found);
        println!("{row}  ({took} s)");
        writeln!(table, "{row}")?;
        if found.is_nothing() {
            survived.push(plant.name);
        }
    }
    let (count, took) = (wanted.len(), units::show_seconds(began.elapsed()));
    println!("\n{table}\n{count} planted bugs in {took} s");
    if !survived.is_empty() {
        let names = survived.join(", ");
        bail!("{} planted bugs survive: {names}", survived.len());
    }
    Ok(())
}

/// A row of the table in the docs.
fn row(plant: &Plant, found: &Found) -> String {
    let cell = |found: &Option<String>| found.clone().unwrap_or_else(|| "–".to_owned());
    let (test, scenario, seed) = (cell(&found.test), cell(&found.scenario), cell(&found.seed));
    format!("| {} | {test} | {scenario} | {seed} |", plant.name)
}

/// The copy of the sources.
struct Garden {
    root: PathBuf,
    sources: PathBuf,
    target: PathBuf,
    seeds: u64,
}

impl Garden {
    /// Makes the copy what the sources are now, with every bug behind its question, or with that one alone. Files that are
    /// as they should be keep their time, for cargo's sake.
    fn lay_out(&self, alone: Option<&Plant>) -> Result<()> {
        for name in programs::tracked_files(&self.root)? {
            let (from, to) = (self.root.join(&name), self.sources.join(&name));
            let Ok(bytes) = fs::read(&from) else {
                // Deleted, and not committed yet.
                let _ = fs::remove_file(&to);
                continue;
            };
            let bytes = match String::from_utf8(bytes) {
                Ok(text) => plants::graft(&name, text, alone).into_bytes(),
                Err(no_text) => no_text.into_bytes(),
            };
            let bytes = if name == "crates/bt-core/src/lib.rs" {
                [&bytes, QUESTION.as_bytes()].concat()
            } else {
                bytes
            };
            if fs::read(&to).is_ok_and(|old| old == bytes) {
                continue;
            }
            fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
            fs::write(&to, bytes).with_context(|| to.display().to_string())?;
        }
        Ok(())
    }

    /// Builds the tests of all crates that have plants, and the simulation.
    fn build(&self) -> Result<Built> {
        let mut packages: BTreeSet<&str> = BTreeSet::from([SCENARIOS]);
        for plant in plants::all() {
            packages.insert(plant.package()?);
        }
        Built::new(&self.sources, &self.target, &packages)
    }

    /// Sees that the sources as they are pass all that the plants will be put to.
    fn look_at_healthy(&self, built: &Built, packages: &BTreeSet<&str>) -> Result<()> {
        for package in packages.iter().chain([&SCENARIOS]) {
            if let Some(sign) = self.test(built, package, None)? {
                bail!("without a planted bug a test of {package} fails: {sign}");
            }
        }
        if let Some(sign) = self.simulate(built, None)? {
            bail!("without a planted bug the simulation fails: {sign}");
        }
        Ok(())
    }

    fn look(&self, built: &Built, number: Option<usize>, plant: &Plant) -> Result<Found> {
        Ok(Found {
            test: self.test(built, plant.package()?, number)?,
            scenario: self.test(built, SCENARIOS, number)?,
            seed: self.simulate(built, number)?,
        })
    }

    /// Puts what was built to the tests of a crate: the first that fails, and how many more do.
    fn test(&self, built: &Built, package: &str, number: Option<usize>) -> Result<Option<String>> {
        let mut failed = Vec::new();
        for tests in built.tests_of(package) {
            let mut command = plant(&tests.program, number);
            command.current_dir(self.sources.join("crates").join(package));
            let name = format!("{} ({number:?})", tests.path);
            let Err(words) = watch(&name, command, TEST_PATIENCE)? else {
                continue;
            };
            let before = failed.len();
            failed.extend(failures(&words).map(|test| format!("`{}::{test}`", tests.path)));
            if failed.len() == before {
                // It hung, or the process itself ended.
                failed.push(shorten(&words));
            }
        }
        let more = failed.len().saturating_sub(1);
        let first = failed.into_iter().next();
        Ok(first.map(|first| match more {
            0 => first,
            more => format!("{first} and {more} more"),
        }))
    }

    /// Puts what was built to the simulation: what the first seed says that fails.
    fn simulate(&self, built: &Built, number: Option<usize>) -> Result<Option<String>> {
        let mut command = plant(&built.simulation, number);
        command.args(["--fail-fast", "--seeds", &self.seeds.to_string()]);
        let Err(words) = watch("sim", command, SIM_PATIENCE)? else {
            return Ok(None);
        };
        let sign = words.lines().find(|line| line.starts_with("seed "));
        Ok(Some(shorten(sign.unwrap_or(&words))))
    }
}

/// The program, with the bug of that number.
fn plant(program: &Path, number: Option<usize>) -> Command {
    let mut command = Command::new(program);
    command.env("RUST_BACKTRACE", "0").env_remove(PLANTED);
    if let Some(number) = number {
        command.env(PLANTED, number.to_string());
    }
    command
}

/// The names of the tests that failed, as the test harness tells them.
fn failures(words: &str) -> impl Iterator<Item = &str> {
    words.lines().filter_map(|line| {
        let line = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
        line.split(' ').next()
    })
}

/// Runs a command to its end, or to the end of the patience; what it says if it fails, stdout first.
fn watch(name: &str, command: Command, patience: Duration) -> Result<Result<(), String>> {
    let (sender, lines) = mpsc::channel();
    let mut process = Process::spawn(name, command, 0, sender)?;
    let Some(status) = process.wait(patience)? else {
        process.kill()?;
        return Ok(Err("it hangs".to_owned()));
    };
    if status.success() {
        return Ok(Ok(()));
    }
    let mut words: String = lines.iter().map(|line| line.text + "\n").collect();
    words += &process.obituary();
    Ok(Err(words))
}

/// The part of a sign that fits into a table: without where in the sources it was.
fn shorten(sign: &str) -> String {
    let sign = sign.trim().replace(['\n', '|'], " ");
    let said = match sign.split_once("panicked at ") {
        Some((seed, rest)) => {
            let said = rest.split_once(' ').map_or(rest, |(_, said)| said);
            format!("{seed}{said}")
        }
        None => sign,
    };
    said.chars().take(SIGN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_that_failed_are_named() {
        let words = "running 3 tests\ntest a::b ... ok\ntest a::c ... FAILED\ntest a::d - should panic ... FAILED\n\
                     ---- a::c stdout ----\ntest result: FAILED. 1 passed; 2 failed\n";
        assert_eq!(failures(words).collect::<Vec<_>>(), ["a::c", "a::d"]);
    }

    #[test]
    fn a_sign_is_what_was_said_and_not_where() {
        let rows = [
            (
                "seed 3: panicked at crates/x.rs:1:2: node 1 | told\n",
                "seed 3: node 1   told",
            ),
            ("seed 4: stuck: [(1, 2)]", "seed 4: stuck: [(1, 2)]"),
            ("it hangs", "it hangs"),
        ];
        for (sign, expected) in rows {
            assert_eq!(shorten(sign), expected);
        }
        assert_eq!(shorten(&"x".repeat(500)).len(), SIGN_CHARS_MAX);
    }
}
