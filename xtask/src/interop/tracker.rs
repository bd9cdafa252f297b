//! The trackers of the matrix: ours, opentracker, and aquatic's, which speaks UDP only. All are asked by scrape who is there.

use std::net::{IpAddr, SocketAddr, UdpSocket};
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

/// A tracker on this machine answers a datagram by then.
const SCRAPE_PATIENCE: Duration = Duration::from_secs(2);

/// Which tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Tracker {
    /// bt-trackerd.
    Ours,
    /// opentracker.
    Opentracker,
    /// `aquatic_udp`, of which no transfer of the first matrix makes use.
    #[value(skip)]
    Aquatic,
}

/// Those of the first matrix, in its order: they speak HTTP.
pub(crate) const TRACKERS: [Tracker; 2] = [Tracker::Ours, Tracker::Opentracker];

/// All that run meanwhile.
pub(crate) const ALL: [Tracker; 3] = [Tracker::Ours, Tracker::Opentracker, Tracker::Aquatic];

impl Tracker {
    /// As the matrix calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "bt-trackerd",
            Self::Opentracker => "opentracker",
            Self::Aquatic => "aquatic_udp",
        }
    }

    /// Where it listens.
    pub(crate) fn addr(self) -> SocketAddr {
        let port = match self {
            Self::Ours => 6969,
            Self::Opentracker => 6970,
            Self::Aquatic => 6971,
        };
        SocketAddr::new(IpAddr::V4(net::BRIDGE), port)
    }

    /// Where it listens with IPv6, if it does.
    pub(crate) fn addr6(self) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(net::BRIDGE6), self.addr().port())
    }

    /// What clients are told, over HTTP where it speaks that.
    pub(crate) fn announce_url(self) -> String {
        match self {
            Self::Ours | Self::Opentracker => format!("http://{}/announce", self.addr()),
            Self::Aquatic => self.udp_url(),
        }
    }

    /// What clients are told that announce over UDP.
    pub(crate) fn udp_url(self) -> String {
        format!("udp://{}/announce", self.addr())
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
            Self::Aquatic => {
                let settings = work.join("aquatic");
                let text = format!("[network]\naddress = \"{}\"\n", self.addr());
                std::fs::write(&settings, text).context("settings")?;
                let mut command = Command::new(&tools.aquatic_udp);
                command.arg("-c").arg(settings);
                command
            }
        };
        command.current_dir(work);
        let (lines, _) = mpsc::channel();
        let mut process = Process::spawn(self.name(), command, 0, lines)?;
        let deadline = Instant::now() + START_PATIENCE;
        while !self.listens() {
            if process.wait(Duration::from_millis(20))?.is_some() || Instant::now() > deadline {
                bail!("{}", process.obituary());
            }
        }
        Ok(process)
    }

    fn listens(self) -> bool {
        match self {
            Self::Ours | Self::Opentracker => std::net::TcpStream::connect(self.addr()).is_ok(),
            Self::Aquatic => scrape_udp(self.addr(), &[0; 20]).is_ok(),
        }
    }

    /// How many peers have everything, and how many do not, as the tracker sees it.
    pub(crate) fn scrape(self, info_hash: &str) -> Result<(u64, u64)> {
        if self == Self::Aquatic {
            let hash = data_encoding::HEXLOWER.decode(info_hash.as_bytes())?;
            return scrape_udp(self.addr(), &hash);
        }
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

/// A scrape over UDP (BEP 15): who has everything, and who does not.
fn scrape_udp(tracker: SocketAddr, info_hash: &[u8]) -> Result<(u64, u64)> {
    /// What every connect begins with, and then a number of ours.
    const CONNECT: [u8; 16] = *b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\0test";
    let socket = UdpSocket::bind("0.0.0.0:0").context("a socket")?;
    socket.set_read_timeout(Some(SCRAPE_PATIENCE))?;
    socket.connect(tracker)?;
    let ask = |question: &[u8], length: usize| -> Result<Vec<u8>> {
        socket.send(question)?;
        let mut answer = vec![0; 64];
        let received = socket.recv(&mut answer).context("no answer to a scrape")?;
        answer.truncate(received);
        if answer.get(4..8) != Some(b"test") || answer.len() < length {
            bail!("a strange answer to a scrape: {answer:?}");
        }
        Ok(answer)
    };
    let connected = ask(&CONNECT, 16)?;
    let id = connected.get(8..16).unwrap_or_default();
    let scraped = ask(&[id, b"\0\0\0\x02test", info_hash].concat(), 20)?;
    let number = |at: usize| {
        let bytes = scraped.get(at..).and_then(<[u8]>::first_chunk::<4>);
        u64::from(bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes)))
    };
    Ok((number(8), number(16)))
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
