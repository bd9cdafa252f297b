//! `cargo xtask bench tracker`: trackers on loopback under the same load, one after the other: each on one core, the load on
//! another.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::json;

use super::load::{self, Outcome, Question, Span, Target};
use crate::process::Process;
use crate::programs;
use crate::rng::Rng;
use crate::stop;
use crate::units::parse_duration;

/// The core that the tracker has for itself.
const TRACKER_CORE: usize = 0;

/// And the core of the load.
const LOAD_CORE: usize = 1;

/// A tracker that does not listen by then does not work.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// A fill is over by then.
const FILL_MAX: Duration = Duration::from_secs(120);

/// Before anything counts.
const WARM: Duration = Duration::from_millis(500);

/// One measurement takes no longer.
const MEASURE_MAX: Duration = Duration::from_secs(30);

/// Where they listen, one after the other.
const ADDR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 17_969);

/// Who can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Rival {
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

const RIVALS: [Rival; 7] = [
    Rival::Floor,
    Rival::Ours,
    Rival::OursOnTwo,
    Rival::OursWithoutIds,
    Rival::Opentracker,
    Rival::AquaticUdp,
    Rival::AquaticHttp,
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Swarms
    #[arg(long, default_value_t = 1_000)]
    torrents: u64,
    /// Peers of each
    #[arg(long, default_value_t = 100)]
    peers: u64,
    /// How long each measurement takes, 30 seconds at most
    #[arg(long, value_name = "DUR", default_value = "2s", value_parser = parse_duration)]
    span: Duration,
    /// How often each is measured; the median is shown
    #[arg(long, default_value_t = 1)]
    runs: u32,
    /// Only these, of those that are installed
    #[arg(long, value_enum, value_delimiter = ',')]
    trackers: Vec<Rival>,
    /// Fill only, and tell how much memory that takes
    #[arg(long)]
    memory: bool,
    /// Print one JSON object for each measurement instead of the table
    #[arg(long)]
    json: bool,
    /// Measure this `bt-trackerd` instead of building one
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// One measurement.
struct Row {
    tracker: &'static str,
    what: &'static str,
    outcome: Outcome,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.span > MEASURE_MAX {
        bail!("--span: {} s at most", MEASURE_MAX.as_secs());
    }
    let program = match &args.program {
        Some(program) => program.canonicalize().context("--program")?,
        None => programs::Programs::build()?.trackerd,
    };
    if cfg!(debug_assertions) {
        eprintln!("this load is not optimised: `cargo run --release -p xtask -- bench tracker` is");
    }
    let mut core = CpuSet::new();
    core.set(LOAD_CORE);
    if sched_setaffinity(None, &core).is_err() {
        eprintln!("one core only: tracker and load share it");
    }
    let mut rng = Rng::new(1);
    let mut hashes = vec![[0; 20]; usize::try_from(args.torrents.max(1))?];
    hashes.iter_mut().for_each(|hash| rng.fill(hash));
    let target = Target {
        addr: ADDR,
        hashes: &hashes,
        peers: args.peers.max(1),
    };
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for rival in RIVALS {
        let chosen = args.trackers.is_empty() || args.trackers.contains(&rival);
        let chosen = chosen && !(args.memory && rival == Rival::Floor);
        if chosen && rival.is_installed() {
            let measured = measure(rival, &program, target, args, &mut rows);
            if let Err(error) = measured {
                // What the others did is worth its time all the same.
                stop::check()?;
                eprintln!("{}: {error:#}", rival.name());
                failed.push(rival.name());
            }
        }
    }
    if !args.json && !args.memory {
        println!("{}", table(&rows));
    }
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join(", "));
    }
    Ok(())
}

fn measure(
    rival: Rival,
    program: &Path,
    target: Target<'_>,
    args: &Args,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let folder = tempfile::tempdir().context("a folder for the tracker")?;
    for transport in rival.transports() {
        let running = Running::start(rival, program, target, folder.path())?;
        let empty = running.process.memory_bytes()?;
        let cpu = || running.cpu().unwrap_or_default();
        let fill = Span {
            warm: Duration::ZERO,
            measured: FILL_MAX,
        };
        let filled = transport.ask(target, Question::Fill, false, fill, &cpu)?;
        let bytes = running.process.memory_bytes()?.saturating_sub(empty);
        let count = u64::try_from(target.hashes.len())? * target.peers;
        if filled.replies < count * 99 / 100 {
            bail!("it took {} of {count} peers", filled.replies);
        }
        let each = bytes as f64 / count as f64;
        let (name, over) = (rival.name(), transport.name());
        if rival == Rival::Floor {
            // It keeps nobody.
        } else if args.json {
            println!(
                "{}",
                json!({"tracker": name, "over": over, "bytes_per_peer": each})
            );
        } else {
            println!("{name} over {over}: {count} peers, {each:.1} bytes each");
        }
        if args.memory {
            continue;
        }
        let span = Span {
            warm: WARM,
            measured: args.span,
        };
        for (what, question, closing) in transport.questions() {
            let mut outcomes = Vec::new();
            for _ in 0..args.runs.max(1) {
                outcomes.push(transport.ask(target, *question, *closing, span, &cpu)?);
            }
            outcomes.sort_by_key(cpu_nanos);
            let outcome = outcomes.swap_remove(outcomes.len() / 2);
            let row = Row {
                tracker: name,
                what,
                outcome,
            };
            if args.json {
                println!("{}", row.json());
            }
            rows.push(row);
        }
    }
    Ok(())
}

/// How requests travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Http,
    Udp,
}

type Asked = (&'static str, Question, bool);

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Udp => "UDP",
        }
    }

    fn questions(self) -> &'static [Asked] {
        match self {
            Self::Http => &[
                ("HTTP announce, kept alive", Question::Announce, false),
                ("HTTP announce, new connection", Question::Announce, true),
                ("HTTP scrape of 1", Question::Scrape(1), false),
                ("HTTP scrape of 20", Question::Scrape(20), false),
            ],
            Self::Udp => &[
                ("UDP announce", Question::Announce, false),
                ("UDP scrape of 1", Question::Scrape(1), false),
                ("UDP scrape of 20", Question::Scrape(20), false),
                ("UDP connect", Question::Connect, false),
            ],
        }
    }

    fn ask(
        self,
        target: Target<'_>,
        question: Question,
        closing: bool,
        span: Span,
        cpu: &dyn Fn() -> Duration,
    ) -> Result<Outcome> {
        match self {
            Self::Http => load::http::run(target, question, closing, span, cpu),
            Self::Udp => load::udp::run(target, question, span, cpu),
        }
    }
}

impl Rival {
    fn name(self) -> &'static str {
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

    fn is_installed(self) -> bool {
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

    fn transports(self) -> &'static [Transport] {
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
        let (addr, port) = (ADDR.to_string(), ADDR.port().to_string());
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
struct Running {
    process: Process,
    pid: u32,
}

impl Running {
    fn start(rival: Rival, program: &Path, target: Target<'_>, folder: &Path) -> Result<Self> {
        let words = rival.command(program, target, folder)?;
        let mut command = Command::new("taskset");
        let cores = if rival == Rival::OursOnTwo {
            format!("{TRACKER_CORE},{LOAD_CORE}")
        } else {
            TRACKER_CORE.to_string()
        };
        command.args(["-c", &cores]).args(words).current_dir(folder);
        let (lines, _) = mpsc::channel();
        let process = Process::spawn(rival.name(), command, 0, lines)?;
        let mut running = Self {
            pid: process.id(),
            process,
        };
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if listens(rival.transports()) {
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

    /// Processor time of all its threads, to the nanosecond.
    fn cpu(&self) -> Result<Duration> {
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

fn listens(transports: &[Transport]) -> bool {
    if transports.contains(&Transport::Http) {
        return std::net::TcpStream::connect(ADDR).is_ok();
    }
    // The port is taken once it listens.
    std::net::UdpSocket::bind(ADDR).is_err()
}

fn cpu_nanos(outcome: &Outcome) -> u64 {
    let nanos = outcome.cpu.as_nanos() / u128::from(outcome.replies.max(1));
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

impl Row {
    fn rate(&self) -> f64 {
        self.outcome.replies as f64 / self.outcome.span.as_secs_f64().max(0.001)
    }

    /// Processor seconds of the server for 100,000 requests.
    fn cpu(&self) -> f64 {
        self.outcome.cpu.as_secs_f64() * 1e5 / self.outcome.replies.max(1) as f64
    }

    /// The part of a core that the server used: far below 1, the load is what was measured.
    fn busy(&self) -> f64 {
        self.outcome.cpu.as_secs_f64() / self.outcome.span.as_secs_f64().max(0.001)
    }

    /// Its processor time as a multiple of the floor's, if that was measured.
    fn times_floor(&self, rows: &[Row]) -> Option<f64> {
        let floor = rows
            .iter()
            .find(|row| row.tracker == Rival::Floor.name() && row.what == self.what)?;
        Some(self.cpu() / floor.cpu())
    }

    fn quantile_ms(&self, per_mille: u64) -> f64 {
        self.outcome.latencies.quantile(per_mille).as_secs_f64() * 1e3
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "tracker": self.tracker, "what": self.what, "per_second": self.rate(),
            "cpu_seconds_per_100000": self.cpu(), "busy": self.busy(), "p50_ms": self.quantile_ms(500),
            "p99_ms": self.quantile_ms(990), "failed": self.outcome.failed,
        })
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "",
        "tracker",
        "requests/s",
        "CPU s/100k",
        "× floor",
        "busy",
        "p50 ms",
        "p99 ms",
        "failed",
    ]);
    let mut kinds: Vec<&str> = Vec::new();
    rows.iter().for_each(|row| {
        if !kinds.contains(&row.what) {
            kinds.push(row.what);
        }
    });
    for kind in kinds {
        for row in rows.iter().filter(|row| row.what == kind) {
            table.add_row([
                row.what.to_owned(),
                row.tracker.to_owned(),
                format!("{:.0}", row.rate()),
                format!("{:.3}", row.cpu()),
                row.times_floor(rows)
                    .map_or_else(String::new, |times| format!("{times:.2}")),
                format!("{:.2}", row.busy()),
                format!("{:.2}", row.quantile_ms(500)),
                format!("{:.2}", row.quantile_ms(990)),
                row.outcome.failed.to_string(),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_the_floor_are_of_the_same_requests() {
        let row = |rival: Rival, what, millis, replies| Row {
            tracker: rival.name(),
            what,
            outcome: Outcome {
                replies,
                span: Duration::from_secs(2),
                cpu: Duration::from_millis(millis),
                ..Outcome::default()
            },
        };
        let rows = [
            row(Rival::Floor, "announce", 500, 200_000),
            row(Rival::Floor, "scrape", 500, 100_000),
            row(Rival::Ours, "announce", 1500, 200_000),
            row(Rival::Ours, "connect", 1500, 200_000),
        ];
        let [_, _, ours, alone] = &rows;
        assert_eq!((ours.cpu(), ours.busy()), (0.75, 0.75));
        assert_eq!(ours.times_floor(&rows), Some(3.0));
        assert_eq!(alone.times_floor(&rows), None);
    }
}
