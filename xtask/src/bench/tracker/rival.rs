//! The trackers that are measured: where they are, what starts them, and what they use.

use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{LOAD_CORE, TRACKER_CORE, Transport};
use crate::bench::load::Target;
use crate::process::Process;
use crate::programs;
use rustix::process::Pid;

/// A tracker that does not listen by then does not work.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// Who can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Rival {
    /// Always the same answer: what the machine allows
    Floor,
    /// Ours
    Ours,
    /// Ours with a second worker, on the core of the load
    OursOnTwo,
    /// Ours without peer ids
    OursWithoutIds,
    /// As Debian has it
    Opentracker,
    /// The fastest over UDP
    AquaticUdp,
    /// By the same people
    AquaticHttp,
}

pub(super) const RIVALS: [Rival; 7] = [
    Rival::Floor,
    Rival::Ours,
    Rival::OursOnTwo,
    Rival::OursWithoutIds,
    Rival::Opentracker,
    Rival::AquaticUdp,
    Rival::AquaticHttp,
];

impl Rival {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Ours => "bt-trackerd",
            Self::OursOnTwo => "bt-trackerd on two cores",
            Self::OursWithoutIds => "bt-trackerd without ids",
            Self::Opentracker => "opentracker",
            Self::AquaticUdp => "aquatic_udp",
            Self::AquaticHttp => "aquatic_http",
        }
    }

    pub(super) fn is_installed(self) -> bool {
        match self {
            Self::Floor | Self::Ours | Self::OursOnTwo | Self::OursWithoutIds => true,
            Self::Opentracker | Self::AquaticUdp | Self::AquaticHttp => self.installed().is_some(),
        }
    }

    /// Where a foreign one is: on the search path, or where `cargo install --root target/interop` puts it.
    fn installed(self) -> Option<String> {
        let name = self.name();
        if programs::is_installed(name) {
            return Some(name.to_owned());
        }
        let path = programs::target_folder()
            .ok()?
            .join("interop/bin")
            .join(name);
        path.is_file().then(|| path.display().to_string())
    }

    pub(super) fn transports(self) -> &'static [Transport] {
        match self {
            Self::Floor
            | Self::Ours
            | Self::OursOnTwo
            | Self::OursWithoutIds
            | Self::Opentracker => &[Transport::Http, Transport::Udp],
            Self::AquaticUdp => &[Transport::Udp],
            Self::AquaticHttp => &[Transport::Http],
        }
    }

    /// What starts it; settings go to `folder`.
    fn command(self, program: &Path, target: Target<'_>, folder: &Path) -> Result<Vec<String>> {
        let (addr, port) = (target.addr.to_string(), target.addr.port().to_string());
        let settings = folder.join("settings");
        let path = settings.display().to_string();
        let (text, words) = match self {
            Self::Floor => {
                let program = std::env::current_exe().context("this program")?;
                let program = program.display().to_string();
                let words = ["bench", "floor-answer", &addr].map(str::to_owned);
                (String::new(), [vec![program], words.to_vec()].concat())
            }
            Self::Ours | Self::OursOnTwo | Self::OursWithoutIds => (
                format!("peer_ids = {}", self != Self::OursWithoutIds),
                vec![
                    program.display().to_string(),
                    "--http".into(),
                    addr.clone(),
                    "--udp".into(),
                    addr,
                    "--config".into(),
                    path,
                ],
            ),
            Self::Opentracker => {
                // As Debian builds it, it serves a list only.
                let mut hashes = String::new();
                for hash in target.hashes {
                    hashes.push_str(&data_encoding::HEXLOWER.encode(hash));
                    hashes.push('\n');
                }
                let words = ["opentracker", "-i", "127.0.0.1", "-p", &port, "-P", &port];
                let words = words.iter().map(|word| (*word).to_owned());
                (hashes, words.chain(["-w".into(), path]).collect())
            }
            Self::AquaticUdp => (
                format!(
                    "socket_workers = 1\n[network]\naddress = \"{addr}\"\n\
                     [protocol]\nmax_response_peers = 50\n"
                ),
                vec![self.installed().unwrap_or_default(), "-c".into(), path],
            ),
            Self::AquaticHttp => (
                format!(
                    "socket_workers = 1\nswarm_workers = 1\n[network]\naddress = \"{addr}\"\n\
                     [protocol]\nmax_peers = 50\n"
                ),
                vec![self.installed().unwrap_or_default(), "-c".into(), path],
            ),
        };
        std::fs::write(settings, text).context("the tracker's settings")?;
        Ok(words)
    }
}

/// A tracker that listens.
pub(super) struct Running {
    pub(super) process: Process,
    pub(super) addr: SocketAddrV4,
    pid: u32,
}

impl Running {
    pub(super) fn start(
        rival: Rival,
        program: &Path,
        target: Target<'_>,
        folder: &Path,
    ) -> Result<Self> {
        let cores = if rival == Rival::OursOnTwo {
            format!("{TRACKER_CORE},{LOAD_CORE}")
        } else {
            TRACKER_CORE.to_string()
        };
        Self::start_on(&cores, rival, program, target, folder)
    }

    /// The same on these cores.
    pub(super) fn start_on(
        cores: &str,
        rival: Rival,
        program: &Path,
        target: Target<'_>,
        folder: &Path,
    ) -> Result<Self> {
        let words = rival.command(program, target, folder)?;
        let mut command = Command::new("taskset");
        command.args(["-c", cores]).args(words).current_dir(folder);
        let (lines, _) = mpsc::channel();
        let process = Process::spawn(rival.name(), command, 0, lines)?;
        let mut running = Self {
            pid: process.id(),
            addr: target.addr,
            process,
        };
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if listens(rival.transports(), target.addr) {
                return Ok(running);
            }
            if running.process.wait(Duration::from_millis(20))?.is_some() {
                bail!("it ended: {}", running.process.obituary());
            }
            if Instant::now() > deadline {
                bail!("it does not listen");
            }
        }
    }

    /// The threads, with their names.
    pub(super) fn threads(&self) -> Result<Vec<(Pid, String)>> {
        let mut threads = Vec::new();
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let thread = thread?;
            let number = thread.file_name();
            let number = number.to_str().and_then(|text| text.parse().ok());
            let pid = number.and_then(Pid::from_raw).context("a thread")?;
            let name = std::fs::read_to_string(thread.path().join("comm"))?;
            threads.push((pid, name.trim_end().to_owned()));
        }
        Ok(threads)
    }

    /// Processor time of all its threads, to the nanosecond.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let mut nanos = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            let first = text.split(' ').next().unwrap_or_default();
            nanos += first.parse::<u64>().context("schedstat")?;
        }
        Ok(Duration::from_nanos(nanos))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.process.terminate();
        let ended = self.process.wait(Duration::from_secs(5));
        if !matches!(ended, Ok(Some(_))) {
            drop(self.process.kill());
        }
    }
}

fn listens(transports: &[Transport], addr: SocketAddrV4) -> bool {
    if transports.contains(&Transport::Http) {
        return std::net::TcpStream::connect(addr).is_ok();
    }
    // The port is taken once it listens.
    std::net::UdpSocket::bind(addr).is_err()
}
