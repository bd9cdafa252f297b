//! What cargo built of a copy of the sources: the tests of some crates, and the simulation.

use std::collections::BTreeSet;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use cargo_metadata::{Message, TargetKind};

use super::PROFILE;
use crate::programs;

/// The scenarios among the tests of the simulation; the others ask whether the simulation itself is right.
const SCENARIO_TESTS: [&str; 4] = ["swarm", "manners", "rules", "adversary"];

/// A program full of tests.
pub(super) struct Tests {
    package: String,
    /// How the names of its tests begin: `bt_peer`, `bt_peer::spec`.
    pub(super) path: String,
    pub(super) program: PathBuf,
}

pub(super) struct Built {
    tests: Vec<Tests>,
    pub(super) simulation: PathBuf,
}

impl Built {
    /// Builds the tests of these packages and the simulation, with its profile.
    pub(super) fn new(sources: &Path, target: &Path, packages: &BTreeSet<&str>) -> Result<Self> {
        let mut command = programs::cargo();
        command.args(["test", "--no-run", "--quiet", "--profile", PROFILE]);
        command.args(["--lib", "--bins", "--tests"]);
        command.arg("--message-format=json-render-diagnostics");
        for package in packages {
            command.args(["--package", package]);
        }
        let mut cargo = command
            .arg("--target-dir")
            .arg(target)
            .current_dir(sources)
            // A planted bug may well be a warning.
            .env("RUSTFLAGS", "--cap-lints=allow")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cargo test")?;
        let output = cargo.stdout.take().context("cargo's output")?;
        let mut errors = cargo.stderr.take().context("cargo's errors")?;
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            text
        });
        let (mut tests, mut simulation) = (Vec::new(), None);
        for message in Message::parse_stream(BufReader::new(output)) {
            let Message::CompilerArtifact(artifact) = message.context("cargo's messages")? else {
                continue;
            };
            let Some(program) = artifact.executable.map(|path| path.into_std_path_buf()) else {
                continue;
            };
            let (target, kind) = (artifact.target.name, artifact.target.kind);
            // The simulation is built without its tests too, as those of its package start it.
            if kind.contains(&TargetKind::Bin) {
                if target == "sim" && !artifact.profile.test {
                    simulation = Some(program);
                }
                continue;
            }
            let folder = artifact
                .manifest_path
                .parent()
                .and_then(|path| path.file_name());
            let package = folder.context("a manifest lies in a folder")?.to_owned();
            let crate_name = package.replace('-', "_");
            let path = if kind.contains(&TargetKind::Test) {
                format!("{crate_name}::{target}")
            } else {
                crate_name
            };
            tests.push(Tests {
                package,
                path,
                program,
            });
        }
        let words = reader.join().unwrap_or_default();
        if !cargo.wait().context("cargo test")?.success() {
            bail!("it does not build: {words}");
        }
        Ok(Self {
            tests,
            simulation: simulation.context("cargo built no simulation")?,
        })
    }

    /// The tests of a package; of the simulation's the scenarios.
    pub(super) fn tests_of(&self, package: &str) -> impl Iterator<Item = &Tests> {
        self.tests.iter().filter(move |tests| {
            let is_scenario = |name: &str| tests.path == format!("bt_sim::{name}");
            let is_wanted =
                package != "bt-sim" || SCENARIO_TESTS.iter().any(|name| is_scenario(name));
            tests.package == package && is_wanted
        })
    }
}
