//! `cargo xtask service-test`: the tracker as a service of systemd, with the units as they are shipped.
//!
//! systemd runs as the first process of a container that has this machine's `/usr` and nothing else of it: no network but a
//! loopback of its own, and all it writes is gone with it. Needs root and `systemd-nspawn` (Debian: systemd-container).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::Process;
use crate::programs::{Programs, is_installed, workspace_root};
use crate::stop;

/// What it takes, and the package that has it.
const TOOLS: [(&str, &str); 3] = [
    ("systemd-nspawn", "systemd-container"),
    ("nsenter", "util-linux"),
    ("curl", "curl"),
];

/// The container has started, or a command in it has ended, by then.
const PATIENCE: Duration = Duration::from_secs(60);

/// One that systemd does not take for its first start, at which it would enable whatever is installed.
const MACHINE_ID: &str = "0123456789abcdef0123456789abcdef\n";

/// With it, a tracker that was restarted knows its peers.
const SETTINGS: &str = "snapshot = \"/var/lib/bt-trackerd/swarms\"\n";

const PEER: &str = "/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&uploaded=0&downloaded=0&left=5&port=700";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run this `bt-trackerd` instead of building one
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Starts, reloads, restarts and stops it.
pub(crate) fn run(args: &Args) -> Result<()> {
    for (tool, package) in TOOLS {
        if !is_installed(tool) {
            bail!("{tool} is missing: `apt-get install {package}`");
        }
    }
    if !rustix::process::geteuid().is_root() {
        bail!("only root may start a container");
    }
    let program = match &args.program {
        Some(program) => program.canonicalize().context("--program")?,
        None => Programs::build()?.trackerd,
    };
    let folder = tempfile::tempdir().context("a folder for the container")?;
    let machine = Machine::boot(&program, folder.path())?;
    for step in STEPS {
        let said = machine
            .run(step.command)
            .with_context(|| step.command.join(" "))?;
        if !said.contains(step.expected) {
            let log = machine.run(&[
                "journalctl",
                "--unit=bt-trackerd",
                "--no-pager",
                "--output=cat",
            ]);
            bail!(
                "{}: {said:?} instead of {:?}\n{}",
                step.command.join(" "),
                step.expected,
                log.unwrap_or_default()
            );
        }
    }
    println!("service-test: {} steps passed", STEPS.len());
    Ok(())
}

/// A command in the container, and what it has to say.
struct Step {
    command: &'static [&'static str],
    expected: &'static str,
}

const fn step(command: &'static [&'static str], expected: &'static str) -> Step {
    Step { command, expected }
}

const HEALTH: &[&str] = &[
    "curl",
    "-sS",
    "--max-time",
    "20",
    "http://127.0.0.1:6969/health",
];

/// In this order.
const STEPS: [Step; 11] = [
    step(&["systemctl", "start", "bt-trackerd.socket"], ""),
    step(
        &[
            "systemctl",
            "show",
            "--property=SubState",
            "bt-trackerd.socket",
        ],
        "listening",
    ),
    // The first request starts the service.
    step(HEALTH, "ok"),
    step(
        &[
            "sh",
            "-c",
            "curl -sS --max-time 20 \"http://127.0.0.1:6969$0\"1",
            PEER,
        ],
        "incompletei1e",
    ),
    step(&["systemctl", "reload", "bt-trackerd.service"], ""),
    step(HEALTH, "ok"),
    // With its sockets kept and its peers remembered; and the other family has its socket too.
    step(&["systemctl", "restart", "bt-trackerd.service"], ""),
    step(
        &[
            "sh",
            "-c",
            "curl -sS --max-time 20 \"http://[::1]:6969$0\"2",
            PEER,
        ],
        "incompletei2e",
    ),
    // As a user that was made for it (61184 to 65519), without a single restart that nobody asked for.
    step(
        &[
            "sh",
            "-c",
            "systemctl show --property=NRestarts bt-trackerd && stat -c 'user %u' /proc/$(systemctl show --property=MainPID --value bt-trackerd)",
        ],
        "NRestarts=0\nuser 6",
    ),
    step(
        &[
            "systemctl",
            "stop",
            "bt-trackerd.socket",
            "bt-trackerd.service",
        ],
        "",
    ),
    step(
        &[
            "systemctl",
            "show",
            "--property=Result,ExecMainStatus",
            "bt-trackerd.service",
        ],
        "Result=success\nExecMainStatus=0",
    ),
];

/// A container with systemd as its first process.
struct Machine {
    leader: String,
    nspawn: Process,
}

impl Machine {
    fn boot(program: &Path, folder: &Path) -> Result<Self> {
        let dist = workspace_root()?.join("crates/bt-trackerd/dist");
        for (name, text) in [("machine-id", MACHINE_ID), ("tracker.toml", SETTINGS)] {
            std::fs::write(folder.join(name), text).context(name)?;
        }
        let mut command = Command::new("systemd-nspawn");
        command
            .args(["--quiet", "--boot", "--volatile=yes", "--directory=/"])
            .args([
                "--register=no",
                "--keep-unit",
                "--private-network",
                // What is bound into it need not exist outside.
                "--tmpfs=/usr/local/bin",
            ]);
        let units = ["bt-trackerd.service", "bt-trackerd.socket"];
        let mut binds: Vec<(PathBuf, String)> = units
            .map(|unit| (dist.join(unit), format!("/etc/systemd/system/{unit}")))
            .into();
        binds.push((program.to_owned(), "/usr/local/bin/bt-trackerd".to_owned()));
        binds.push((folder.join("machine-id"), "/etc/machine-id".to_owned()));
        let settings = "/etc/bt-trackerd/tracker.toml".to_owned();
        binds.push((folder.join("tracker.toml"), settings));
        for (from, to) in binds {
            command.arg(format!("--bind-ro={}:{to}", from.display()));
        }
        command.args(["systemd.unit=basic.target", "systemd.firstboot=no"]);
        // Nobody listens to its lines: the last of them are kept.
        let (lines, _) = mpsc::channel();
        let nspawn = Process::spawn("systemd-nspawn", command, 0, lines)?;
        let mut machine = Self {
            leader: String::new(),
            nspawn,
        };
        machine.wait_for_systemd()?;
        Ok(machine)
    }

    fn wait_for_systemd(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let id = self.nspawn.id();
        while Instant::now() < deadline {
            if self.nspawn.wait(Duration::from_millis(200))?.is_some() {
                break;
            }
            stop::check()?;
            let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
            let children = children.unwrap_or_default();
            if let Some(leader) = children.split_ascii_whitespace().next() {
                leader.clone_into(&mut self.leader);
                let target = ["systemctl", "is-active", "basic.target"];
                if self.run(&target).is_ok_and(|said| said.trim() == "active") {
                    return Ok(());
                }
            }
        }
        bail!("the container does not start: {}", self.nspawn.obituary())
    }

    /// What a command in the container prints, on either way.
    fn run(&self, command: &[&str]) -> Result<String> {
        let output = Command::new("timeout")
            .arg(PATIENCE.as_secs().to_string())
            .args(["nsenter", "--target", &self.leader])
            .args(["--mount", "--uts", "--ipc", "--net", "--pid"])
            .args(command)
            .output()
            .context("nsenter")?;
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok(said)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Killed, it would leave its mounts to be found by whoever looks; asked, it ends in a second.
        drop(self.run(&["systemctl", "poweroff"]));
        drop(self.nspawn.wait(PATIENCE));
    }
}
