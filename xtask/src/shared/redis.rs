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
    if is_installed("redis-server") {
        return Ok(());
    }
    if !install {
        bail!(
            "redis-server is missing: `apt-get install redis-server`, or run this with --install"
        );
    }
    install_debian(&["redis-server"])
}

pub(super) struct Redis {
    process: Process,
    addr: SocketAddr,
    folder: PathBuf,
}

impl Redis {
    pub(super) fn start(folder: &Path) -> Result<Self> {
        // It must come back at the same place, so the port is chosen before.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a free port")?;
        let addr = free.local_addr().context("a free port")?;
        drop(free);
        let process = spawn(addr, folder)?;
        let folder = folder.to_owned();
        Ok(Self {
            process,
            addr,
            folder,
        })
    }

    pub(super) fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// SIGKILL: all it knew is lost.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    pub(super) fn start_again(&mut self) -> Result<()> {
        self.process = spawn(self.addr, &self.folder)?;
        Ok(())
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.process.id()).context("a process")?;
        let pid = Pid::from_raw(id).context("a process")?;
        kill_process(pid, signal).context("a signal for redis-server")
    }
}

fn spawn(addr: SocketAddr, folder: &Path) -> Result<Process> {
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &addr.port().to_string(), "--bind", "127.0.0.1"])
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
