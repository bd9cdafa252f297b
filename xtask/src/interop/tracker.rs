//! The trackers of the matrix: ours and opentracker. Both are asked by scrape who is there.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client::Tools;
use super::net;
use crate::http;
use crate::process::Process;

/// A tracker that does not answer by then does not work.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// Which tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Tracker {
    /// bt-trackerd.
    Ours,
    /// opentracker.
    Opentracker,
}

/// Both, in the order of the matrix.
pub(crate) const TRACKERS: [Tracker; 2] = [Tracker::Ours, Tracker::Opentracker];

impl Tracker {
    /// As the matrix calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "bt-trackerd",
            Self::Opentracker => "opentracker",
        }
    }

    /// Where it listens.
    pub(crate) fn addr(self) -> SocketAddr {
        let port = match self {
            Self::Ours => 6969,
            Self::Opentracker => 6970,
        };
        SocketAddr::new(IpAddr::V4(net::BRIDGE), port)
    }

    /// Where it listens with IPv6, if it does.
    pub(crate) fn addr6(self) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(net::BRIDGE6), self.addr().port())
    }

    /// What clients are told.
    pub(crate) fn announce_url(self) -> String {
        format!("http://{}/announce", self.addr())
    }

    /// Starts it. `hashes` are all info hashes it will ever see: opentracker as Debian builds it serves a list only.
    pub(crate) fn start(self, tools: &Tools, hashes: &[String], work: &Path) -> Result<Process> {
        let mut command = match self {
            Self::Ours => {
                let mut command = Command::new(&tools.trackerd);
                for addr in [self.addr(), self.addr6()] {
                    let addr = addr.to_string();
                    command.args(["--http", &addr, "--udp", &addr]);
                }
                command.arg("--json");
                command
            }
            Self::Opentracker => {
                // It locks itself into a folder and becomes nobody, who must be able to read the list.
                let folder = work.join("opentracker");
                std::fs::create_dir(&folder).context("a folder for opentracker")?;
                std::fs::write(folder.join("allowed"), hashes.join("\n") + "\n")
                    .context("a list")?;
                // One port for both transports.
                let (ip, port) = (self.addr().ip().to_string(), self.addr().port().to_string());
                let mut command = Command::new("opentracker");
                command.args(["-i", &ip, "-p", &port, "-P", &port, "-w", "allowed", "-d"]);
                command.arg(folder);
                command
            }
        };
        command.current_dir(work);
        let (lines, _) = mpsc::channel();
        let mut process = Process::spawn(self.name(), command, 0, lines)?;
        let deadline = Instant::now() + START_PATIENCE;
        while std::net::TcpStream::connect(self.addr()).is_err() {
            if process.wait(Duration::from_millis(20))?.is_some() || Instant::now() > deadline {
                bail!("{}", process.obituary());
            }
        }
        Ok(process)
    }

    /// How many peers have everything, and how many do not, as the tracker sees it.
    pub(crate) fn scrape(self, info_hash: &str) -> Result<(u64, u64)> {
        let escaped: String = info_hash
            .as_bytes()
            .chunks(2)
            .map(|byte| format!("%{}", String::from_utf8_lossy(byte)))
            .collect();
        let body = http::fetch(self.addr(), &format!("/scrape?info_hash={escaped}"))?;
        let number = |key| number_in(&body, key).unwrap_or(0);
        Ok((number(COMPLETE), number(INCOMPLETE)))
    }
}

/// What stands before the numbers in a scrape's answer.
const COMPLETE: &[u8] = b"8:completei";
const INCOMPLETE: &[u8] = b"10:incompletei";

/// The number behind `key` in a scrape's answer.
fn number_in(body: &[u8], key: &[u8]) -> Option<u64> {
    let at = body.windows(key.len()).position(|window| window == key)?;
    let digits = body
        .get(at + key.len()..)?
        .split(|byte| *byte == b'e')
        .next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{COMPLETE, INCOMPLETE, number_in};

    #[test]
    fn a_scrape_is_read() {
        let rows: [(&[u8], Option<u64>); 4] = [
            (
                b"d5:filesd2:xxd8:completei12e10:downloadedi0e10:incompletei1eeee",
                Some(12),
            ),
            (b"d5:filesdee", None),
            (b"d8:completeiXe", None),
            (b"8:completei", None),
        ];
        assert_eq!(number_in(rows[0].0, INCOMPLETE), Some(1));
        for (body, expected) in rows {
            assert_eq!(
                number_in(body, COMPLETE),
                expected,
                "{}",
                String::from_utf8_lossy(body)
            );
        }
    }
}
