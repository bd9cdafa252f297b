//! The trackers that share a store, and what a peer is told by them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{HEAL, SPREAD};
use crate::http;
use crate::process::Process;

/// A tracker that does not listen by then does not work.
const START: Duration = Duration::from_secs(20);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// The port of whoever looks who is there. It leaves again.
const LOOKER: u16 = 6_999;

pub(super) struct Tracker {
    pub(super) process: Process,
    pub(super) addr: SocketAddr,
    name: String,
}

impl Tracker {
    pub(super) fn start(name: &str, program: &Path, store: &str) -> Result<Self> {
        Self::start_trusting(name, program, store, None)
    }

    /// One that trusts the authority whose certificate is in `trusted`, and no other.
    pub(super) fn start_trusting(
        name: &str,
        program: &Path,
        store: &str,
        trusted: Option<&Path>,
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["--http", "127.0.0.1:0", "--json", "--store", store]);
        command.envs(trusted.map(|file| ("SSL_CERT_FILE", file)));
        let (sender, lines) = mpsc::channel();
        let process = Process::spawn(name, command, 0, sender)?;
        let Ok(line) = lines.recv_timeout(START) else {
            bail!("{}", process.obituary());
        };
        let line: serde_json::Value = serde_json::from_str(&line.text).context("a line")?;
        let addr = line.get("addr").and_then(serde_json::Value::as_str);
        Ok(Self {
            process,
            addr: addr.context("no address")?.parse().context("an address")?,
            name: name.to_owned(),
        })
    }

    /// Until `/health` begins so.
    pub(super) fn until_health(&self, expected: &str) -> Result<()> {
        self.until(HEAL, &format!("no health {expected}"), &|| {
            let said = http::fetch(self.addr, "/health")?;
            Ok(said.starts_with(expected.as_bytes()))
        })
    }

    /// Until a leecher is told of all these peers.
    pub(super) fn until_sees(
        &self,
        torrent: char,
        ports: &[u16],
        patience: Duration,
    ) -> Result<()> {
        self.until(
            patience,
            &format!("not all of {ports:?} in {torrent}"),
            &|| {
                let seen = self.seen(torrent)?;
                Ok(ports.iter().all(|port| seen.contains(port)))
            },
        )
    }

    pub(super) fn until_misses(&self, torrent: char, port: u16) -> Result<()> {
        self.until(SPREAD, &format!("{port} stays in {torrent}"), &|| {
            Ok(!self.seen(torrent)?.contains(&port))
        })
    }

    pub(super) fn until_downloaded(&self, torrent: char, count: u32) -> Result<()> {
        let expected = format!("10:downloadedi{count}e");
        let target = format!("/scrape?info_hash={}", name(torrent));
        self.until(
            SPREAD,
            &format!("not {count} downloads of {torrent}"),
            &|| {
                let said = http::fetch(self.addr, &target)?;
                Ok(String::from_utf8_lossy(&said).contains(&expected))
            },
        )
    }

    pub(super) fn sees(&self, torrent: char, port: u16) -> Result<bool> {
        Ok(self.seen(torrent)?.contains(&port))
    }

    fn until(
        &self,
        patience: Duration,
        else_say: &str,
        is_so: &dyn Fn() -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !is_so()? {
            crate::stop::check()?;
            if Instant::now() > deadline {
                bail!("{}: {else_say} after {patience:?}", self.name);
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// The ports of the peers that a leecher is told of.
    fn seen(&self, torrent: char) -> Result<Vec<u16>> {
        let told = announce(self.addr, torrent, LOOKER, "&left=5&numwant=200")?;
        announce(self.addr, torrent, LOOKER, "&left=5&event=stopped")?;
        Ok(told)
    }
}

fn name(torrent: char) -> String {
    torrent.to_string().repeat(20)
}

/// Announces a peer, and gives the ports of those it is told of.
pub(super) fn announce(addr: SocketAddr, torrent: char, port: u16, more: &str) -> Result<Vec<u16>> {
    announce_torrent(addr, &name(torrent), port, more)
}

/// The same with a torrent of 20 letters.
pub(super) fn announce_torrent(
    addr: SocketAddr,
    torrent: &str,
    port: u16,
    more: &str,
) -> Result<Vec<u16>> {
    let peer_id = "-XT0000-tracker-test";
    let target = format!("/announce?info_hash={torrent}&peer_id={peer_id}&port={port}{more}");
    let body = http::fetch(addr, &target)?;
    let mark = b"5:peers";
    let at = body.windows(mark.len()).position(|window| window == mark);
    let rest = at.and_then(|at| body.get(at + mark.len()..));
    let said = || String::from_utf8_lossy(&body).into_owned();
    let rest = rest.with_context(|| format!("no peers: {}", said()))?;
    let colon = rest.iter().position(|byte| *byte == b':');
    let (length, peers) = colon
        .and_then(|at| rest.split_at_checked(at))
        .with_context(said)?;
    let length: usize = core::str::from_utf8(length)?.parse().with_context(said)?;
    let peers = peers.get(1..=length).with_context(said)?;
    let (peers, _) = peers.as_chunks::<6>();
    Ok(peers
        .iter()
        .map(|[.., high, low]| u16::from_be_bytes([*high, *low]))
        .collect())
}
