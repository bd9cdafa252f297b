//! A Redis of our own on a free port, that keeps nothing.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::interop::install::install_debian;
use crate::process::Process;
use crate::programs::is_installed;

/// One that does not listen by then does not work.
const START: Duration = Duration::from_secs(20);

/// Makes sure that there is one.
pub(super) fn need(install: bool) -> Result<()> {
    for (program, package) in [("redis-server", "redis-server"), ("openssl", "openssl")] {
        if is_installed(program) {
            continue;
        }
        if !install {
            bail!("{program} is missing: `apt-get install {package}`, or run this with --install");
        }
        install_debian(&[package])?;
    }
    Ok(())
}

pub(super) struct Redis {
    process: Process,
    addr: SocketAddr,
    folder: PathBuf,
    secured: Option<Secured>,
}

/// Files for one that speaks TLS only, in its folder.
pub(super) struct Secured {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) authority: PathBuf,
    pub(super) folder: PathBuf,
}

impl Redis {
    pub(super) fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder.to_owned(), None)
    }

    pub(super) fn start_secured(secured: Secured) -> Result<Self> {
        Self::start_with(secured.folder.clone(), Some(secured))
    }

    fn start_with(folder: PathBuf, secured: Option<Secured>) -> Result<Self> {
        // It must come back at the same place, so the port is chosen before.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a free port")?;
        let addr = free.local_addr().context("a free port")?;
        drop(free);
        Ok(Self {
            process: spawn(addr, &folder, secured.as_ref())?,
            addr,
            folder,
            secured,
        })
    }

    pub(super) fn url(&self) -> String {
        let scheme = if self.secured.is_some() {
            "rediss"
        } else {
            "redis"
        };
        format!("{scheme}://{}", self.addr)
    }

    /// SIGKILL: all it knew is lost.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    pub(super) fn start_again(&mut self) -> Result<()> {
        self.process = spawn(self.addr, &self.folder, self.secured.as_ref())?;
        Ok(())
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.process.id()).context("a process")?;
        let pid = Pid::from_raw(id).context("a process")?;
        kill_process(pid, signal).context("a signal for redis-server")
    }
}

fn spawn(addr: SocketAddr, folder: &Path, secured: Option<&Secured>) -> Result<Process> {
    let mut command = Command::new("redis-server");
    let port = addr.port().to_string();
    match secured {
        None => command.args(["--port", &port]),
        Some(secured) => command
            .args(["--port", "0", "--tls-port", &port])
            .args(["--tls-auth-clients", "no", "--tls-cert-file"])
            .arg(&secured.certificate)
            .arg("--tls-key-file")
            .arg(&secured.key)
            .arg("--tls-ca-cert-file")
            .arg(&secured.authority),
    };
    command
        .args(["--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .current_dir(folder);
    let (lines, _) = mpsc::channel();
    let mut process = Process::spawn("redis-server", command, 0, lines)?;
    let deadline = Instant::now() + START;
    while TcpStream::connect(addr).is_err() {
        if process.wait(Duration::from_millis(20))?.is_some() || Instant::now() > deadline {
            bail!("{}", process.obituary());
        }
    }
    Ok(process)
}
