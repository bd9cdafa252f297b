//! Plants bugs in a copy of the sources, one at a time, and sees that each is found.
//!
//! The copy and what is built of it lie under the target folder, so a second run builds little. Before the first bug the
//! sources as they are must pass, or everything would count as found. Each bug is first put to the unit tests of its
//! crate, then, if those are content, to the simulation.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};

use super::plants::{PLANTS, Plant};
use crate::process::Process;
use crate::{programs, units};

/// Seeds that the simulation runs for each bug that the unit tests let pass.
const SEEDS: u64 = 150;

/// What became of a bug.
enum Fate {
    FoundByTests(String),
    FoundBySimulation(String),
    Survived,
}

pub(super) fn run(root: &Path, only: &[String], seeds: Option<u64>) -> Result<()> {
    let missing = super::missing(root);
    if !missing.is_empty() {
        bail!("no longer in the sources once: {missing:?}");
    }
    let garden = programs::target_folder()?.join("plant");
    let garden = Garden {
        sources: garden.join("sources"),
        target: garden.join("target"),
        seeds: seeds.unwrap_or(SEEDS),
    };
    garden.lay_out(root)?;
    let is_named = |plant: &&Plant| only.iter().any(|part| plant.name.contains(part));
    let wanted = |plant: &&Plant| only.is_empty() || is_named(plant);
    let plants: Vec<&Plant> = PLANTS.iter().filter(wanted).collect();
    let began = Instant::now();
    garden.look_at_healthy(&plants)?;
    let took = units::show_seconds(began.elapsed());
    println!("nothing is found where nothing is planted ({took} s)");
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["planted bug", "found by", "first sign", "s"]);
    let mut survived = Vec::new();
    for plant in &plants {
        let started = Instant::now();
        let fate = garden.grow(plant)?;
        let (by, sign) = match fate {
            Fate::FoundByTests(sign) => ("unit test", sign),
            Fate::FoundBySimulation(sign) => ("simulation", sign),
            Fate::Survived => {
                survived.push(plant.name);
                ("NOBODY", String::new())
            }
        };
        let took = units::show_seconds(started.elapsed());
        println!("{}: {by}, {sign} ({took} s)", plant.name);
        table.add_row([plant.name, by, &sign, &took]);
    }
    let (count, took) = (plants.len(), units::show_seconds(began.elapsed()));
    println!("{table}\n{count} planted bugs in {took} s");
    if !survived.is_empty() {
        bail!(
            "{} planted bugs survive: {}",
            survived.len(),
            survived.join(", ")
        );
    }
    Ok(())
}

/// The copy of the sources.
struct Garden {
    sources: PathBuf,
    target: PathBuf,
    seeds: u64,
}

impl Garden {
    /// Makes the copy what the sources are now. Files that are as they should be keep their time, for cargo's sake.
    fn lay_out(&self, root: &Path) -> Result<()> {
        for name in programs::tracked_files(root)? {
            let (from, to) = (root.join(&name), self.sources.join(&name));
            let Ok(bytes) = fs::read(&from) else {
                // Deleted, and not committed yet.
                let _ = fs::remove_file(&to);
                continue;
            };
            if fs::read(&to).is_ok_and(|old| old == bytes) {
                continue;
            }
            fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
            fs::write(&to, bytes).with_context(|| to.display().to_string())?;
        }
        Ok(())
    }

    /// Plants a bug, sees who finds it, and takes it out again.
    fn grow(&self, plant: &Plant) -> Result<Fate> {
        let path = self.sources.join(plant.file);
        let healthy = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        fs::write(&path, healthy.replacen(plant.old, plant.new, 1))?;
        let fate = self.look(plant);
        fs::write(&path, healthy)?;
        fate
    }

    /// Sees that the sources as they are pass all that the plants will be put to.
    fn look_at_healthy(&self, plants: &[&Plant]) -> Result<()> {
        let packages: Result<BTreeSet<&str>> = plants.iter().map(|plant| plant.package()).collect();
        for package in packages? {
            if let Fate::FoundByTests(sign) = self.test(package)? {
                bail!("without a planted bug a test of {package} fails: {sign}");
            }
        }
        match self.simulate()? {
            Fate::Survived => Ok(()),
            Fate::FoundByTests(sign) | Fate::FoundBySimulation(sign) => {
                bail!("without a planted bug the simulation fails: {sign}")
            }
        }
    }

    fn look(&self, plant: &Plant) -> Result<Fate> {
        match self.test(plant.package()?).context(plant.name)? {
            Fate::Survived => self.simulate().context(plant.name),
            found @ (Fate::FoundByTests(_) | Fate::FoundBySimulation(_)) => Ok(found),
        }
    }

    /// Puts what is there to the unit tests of a crate.
    fn test(&self, package: &str) -> Result<Fate> {
        let tests = ["test", "--quiet", "--package", package, "--lib", "--tests"];
        let built = self.cargo(&[&tests[..], &["--no-run"]].concat(), BUILD_PATIENCE)?;
        if let Err(words) = built {
            bail!("{package} does not build: {words}");
        }
        let Err(words) = self.cargo(&tests, TEST_PATIENCE)? else {
            return Ok(Fate::Survived);
        };
        let is_sign = |line: &&str| line.contains("FAILED") || line.contains("panicked");
        let sign = words.lines().find(is_sign).unwrap_or("a test fails");
        Ok(Fate::FoundByTests(shorten(sign)))
    }

    /// Puts what is there to the simulation.
    fn simulate(&self) -> Result<Fate> {
        let mut command = Command::new(super::build(&self.sources, &self.target)?);
        command.args(["--seeds", &self.seeds.to_string()]);
        let Err(words) = watch("sim", command, SIM_PATIENCE)? else {
            return Ok(Fate::Survived);
        };
        let sign = words.lines().find(|line| line.starts_with("seed "));
        Ok(Fate::FoundBySimulation(shorten(sign.unwrap_or(&words))))
    }

    /// Runs cargo in the copy; what it says if it fails.
    fn cargo(&self, arguments: &[&str], patience: Duration) -> Result<Result<(), String>> {
        let mut command = programs::cargo();
        command
            .args(arguments)
            .arg("--target-dir")
            .arg(&self.target)
            .current_dir(&self.sources)
            // Nobody looks into these programs: without their symbols they are linked sooner.
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_PROFILE_TEST_DEBUG", "0")
            .env("RUST_BACKTRACE", "0");
        watch("cargo", command, patience)
    }
}

/// Runs a command to its end, or to the end of the patience; what it says if it fails, stdout first.
fn watch(name: &str, command: Command, patience: Duration) -> Result<Result<(), String>> {
    let (sender, lines) = mpsc::channel();
    let mut process = Process::spawn(name, command, 0, sender)?;
    let Some(status) = process.wait(patience)? else {
        process.kill()?;
        return Ok(Err(format!("panicked: {name} hangs")));
    };
    if status.success() {
        return Ok(Ok(()));
    }
    let mut words: String = lines.iter().map(|line| line.text + "\n").collect();
    words += &process.obituary();
    Ok(Err(words))
}

/// How long the tests of one crate may take to build, with everything below them.
const BUILD_PATIENCE: Duration = Duration::from_secs(1_800);

/// How long they may run: many times what they take.
const TEST_PATIENCE: Duration = Duration::from_secs(900);

/// How long the simulation may run: many times what it takes.
const SIM_PATIENCE: Duration = Duration::from_secs(600);

/// The part of a sign that fits into a table.
fn shorten(sign: &str) -> String {
    let line: String = sign.trim().chars().take(70).collect();
    line.replace("thread ", "")
}
