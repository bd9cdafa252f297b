//! `cargo xtask bench tracker`: trackers on loopback under the same load, one after the other: each on one core, the load on
//! another.

mod report;
mod rival;
mod workers;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::json;

use super::load::{self, Outcome, Question, Span, Target};
use crate::programs;
use crate::rng::Rng;
use crate::stop;
use crate::units::parse_duration;
use report::{Row, table};
use rival::{RIVALS, Rival, Running};

/// The core of the load, and the one that the tracker has for itself.
const LOAD_CORE: usize = 1;
const TRACKER_CORE: usize = 0;

/// A fill is over by then.
const FILL_MAX: Duration = Duration::from_secs(120);

/// Before anything counts.
const WARM: Duration = Duration::from_millis(500);

/// One measurement takes no longer.
const MEASURE_MAX: Duration = Duration::from_secs(30);

/// Where they listen, one after the other.
const ADDR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 17_969);

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
    /// Measure only what a second worker of ours costs, with `--runs` of `--span` each
    #[arg(long, conflicts_with_all = ["trackers", "memory", "json"])]
    workers: bool,
    /// Print one JSON object for each measurement instead of the table
    #[arg(long)]
    json: bool,
    /// Measure this `bt-trackerd` instead of building one
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
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
    if args.workers {
        return workers::run(&program, target, args.span, args.runs);
    }
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

fn cpu_nanos(outcome: &Outcome) -> u64 {
    let nanos = outcome.cpu.as_nanos() / u128::from(outcome.replies.max(1));
    u64::try_from(nanos).unwrap_or(u64::MAX)
}
