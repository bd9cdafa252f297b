//! Plants bugs in a copy of the sources, one at a time, and sees that each is found.
//!
//! The copy and what is built of it lie under the target folder, so a second run builds little. Each bug is first put to
//! the unit tests of its crate, then, if those are content, to the simulation.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};

use super::plants::{PLANTS, Plant};
use crate::{programs, units};

/// Seeds that the simulation runs for each bug that the unit tests let pass.
const SEEDS: u64 = 150;

/// What became of a bug.
enum Fate {
    FoundByTests(String),
    FoundBySimulation(String),
    Survived,
}

pub(super) fn run(root: &Path, only: Option<&str>, seeds: Option<u64>) -> Result<()> {
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
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["planted bug", "found by", "first sign", "s"]);
    let mut survived = Vec::new();
    let wanted = |plant: &&Plant| only.is_none_or(|part| plant.name.contains(part));
    for plant in PLANTS.iter().filter(wanted) {
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
    println!("{table}");
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
        let listed = Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(root)
            .output()
            .context("git ls-files")?;
        let names = String::from_utf8(listed.stdout).context("file names")?;
        for name in names.split('\0').filter(|name| !name.is_empty()) {
            let (from, to) = (root.join(name), self.sources.join(name));
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

    fn look(&self, plant: &Plant) -> Result<Fate> {
        let package = plant.file.split('/').nth(1).context("a file of a crate")?;
        let built = self.cargo(&["test", "--quiet", "--no-run", "--package", package])?;
        if let Err(words) = built {
            bail!("{} does not build:\n{words}", plant.name);
        }
        if let Err(words) = self.cargo(&["test", "--quiet", "--package", package])? {
            let sign = words
                .lines()
                .find(|line| line.contains("FAILED") || line.contains("panicked"));
            return Ok(Fate::FoundByTests(shorten(sign.unwrap_or("a test fails"))));
        }
        let program = super::build(&self.sources, &self.target)?;
        let output = Command::new(program)
            .args(["--seeds", &self.seeds.to_string()])
            .output()
            .context("sim")?;
        if output.status.success() {
            return Ok(Fate::Survived);
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let sign = text.lines().find(|line| line.starts_with("seed "));
        Ok(Fate::FoundBySimulation(shorten(
            sign.unwrap_or("it failed"),
        )))
    }

    /// Runs cargo in the copy; what it says if it fails. What hangs is ended by its own time limit.
    fn cargo(&self, arguments: &[&str]) -> Result<Result<(), String>> {
        let mut child = programs::cargo()
            .args(arguments)
            .arg("--target-dir")
            .arg(&self.target)
            .current_dir(&self.sources)
            .env("RUST_BACKTRACE", "0")
            .stdout(fs::File::create(self.target.with_extension("log"))?)
            .stderr(Stdio::null())
            .spawn()
            .context("cargo")?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if started.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                return Ok(Err("panicked: it hangs".to_owned()));
            }
            std::thread::sleep(POLL);
        };
        if status.success() {
            return Ok(Ok(()));
        }
        Ok(Err(fs::read_to_string(self.target.with_extension("log"))?))
    }
}

/// How long cargo may take for one crate, building everything included.
const PATIENCE: Duration = Duration::from_secs(600);

/// How often it is looked whether cargo has ended.
const POLL: Duration = Duration::from_millis(50);

/// The part of a sign that fits into a table.
fn shorten(sign: &str) -> String {
    let line: String = sign.trim().chars().take(70).collect();
    line.replace("thread ", "")
}
