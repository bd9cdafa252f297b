//! `cargo xtask interop`: our programs and foreign ones share data with each other, in both directions, over our tracker and
//! over opentracker; and both read each other's torrents alike.

mod agree;
mod capture;
mod cell;
pub(crate) mod client;
mod drive;
mod feature;
pub(crate) mod install;
mod meet;
pub(crate) mod net;
mod private;
mod probe;
mod report;
mod scrape;
mod stream;
mod tracker;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::programs::{self, Programs};
use crate::units::{parse_duration, parse_size};
use cell::{Cell, Prepared};
use client::{Client, FOREIGN, Tools};
use feature::{Direction, FEATURES, Feature};
use meet::Meeting;
use report::Report;
use tracker::{TRACKERS, Tracker};

/// Transfers at a time: most of them wait for somebody's timer.
const WORKERS: usize = 6;

/// libtorrent's side of the drivers.
const SCRIPT: &str = include_str!("interop/foreign.py");

/// WebTorrent's.
const NODE_SCRIPT: &str = include_str!("interop/foreign.mjs");

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install the foreign programs that are missing (needs root, Debian's packages, PyPI, npm and crates.io)
    #[arg(long)]
    install: bool,
    /// Bytes of the large file in each payload
    #[arg(long, default_value = "16Mi", value_parser = parse_size)]
    size: u64,
    /// Only transfers to or from these programs
    #[arg(long, value_enum, value_delimiter = ',')]
    with: Vec<Client>,
    /// Only these transfers, as `SEEDER:LEECHER`, whoever they are
    #[arg(long, value_delimiter = ',', value_parser = parse_pair)]
    pairs: Vec<(Client, Client)>,
    /// Only transfers over this tracker
    #[arg(long, value_enum)]
    tracker: Option<Tracker>,
    /// Leave the second matrix out
    #[arg(long)]
    no_ways: bool,
    /// Only these ways to meet, of the second matrix
    #[arg(long, value_enum, value_delimiter = ',')]
    feature: Vec<Feature>,
    /// A transfer must be over by then
    #[arg(long, value_name = "DUR", default_value = "3m", value_parser = parse_duration)]
    timeout: Duration,
    /// Print one JSON object a line instead of the matrix
    #[arg(long)]
    json: bool,
    /// Test the programs in this folder instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Leave data, copies and settings there
    #[arg(long)]
    keep: bool,
    /// Set by the outer of the two processes that this takes
    #[arg(long, hide = true)]
    inside_namespace: bool,
}

fn parse_pair(text: &str) -> Result<(Client, Client), String> {
    use clap::ValueEnum;
    let (seeder, leecher) = text.split_once(':').ok_or("write SEEDER:LEECHER")?;
    Ok((
        Client::from_str(seeder, true)?,
        Client::from_str(leecher, true)?,
    ))
}

/// Runs the matrix; an error if one cell of it failed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let folder = programs::target_folder()?.join("interop");
    if args.inside_namespace {
        return inside(args, &folder);
    }
    if !rustix::process::geteuid().is_root() {
        bail!("interop gives each program a network address of its own, and only root may");
    }
    install::check(&folder, args.install)?;
    let programs = match &args.programs {
        Some(programs) => Programs::in_folder(programs)?,
        None => {
            eprintln!("building the programs in release mode");
            Programs::build()?
        }
    };
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    arguments.retain(|argument| argument != "--install");
    arguments.push("--inside-namespace".to_owned());
    if args.programs.is_none() {
        let built = programs.bt.parent().context("the programs' folder")?;
        arguments.push(format!("--programs={}", built.display()));
    }
    if net::enter_namespace(&arguments)? {
        Ok(())
    } else {
        bail!("interop failed")
    }
}

fn inside(args: &Args, folder: &Path) -> Result<()> {
    net::set_up()?;
    let mut work = tempfile::Builder::new();
    let work = work
        .prefix("bt-interop-")
        .disable_cleanup(args.keep)
        .tempdir()
        .context("a folder")?;
    let programs = Programs::in_folder(args.programs.as_deref().context("no --programs")?)?;
    let tools = tools(programs, folder, work.path())?;
    eprintln!("in {}", work.path().display());
    let mut prepared = Vec::new();
    for cell in cells(args, work.path()) {
        prepared.push(cell.prepare(args.size, &tools)?);
    }
    let readings: Vec<Reading> = prepared
        .iter()
        .map(|it| Reading::take(it, &tools))
        .collect::<Result<_>>()?;
    let meetings = meetings(args, work.path(), &tools)?;
    let hashes: Vec<String> = readings
        .iter()
        .map(|reading| reading.info_hash.clone())
        .chain(meetings.iter().map(|meeting| meeting.info_hash.clone()))
        .collect();
    let mut trackers = Vec::new();
    for tracker in tracker::ALL {
        trackers.push(tracker.start(&tools, &hashes, work.path())?);
    }
    // Those that wait longest come first: they wait beside all others.
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for meeting in &meetings {
        let hold = || meeting.hold(args.timeout, &tools);
        jobs.push((meeting.to_string(), Box::new(hold)));
    }
    for (it, hash) in prepared.iter().zip(&hashes) {
        let transfer = || it.transfer(hash, args.timeout, &tools);
        jobs.push((it.cell.to_string(), Box::new(transfer)));
    }
    let mut met = do_all(&jobs)?;
    let results = met.split_off(meetings.len());
    let report = Report {
        prepared: &prepared,
        results: &results,
        readings: &readings,
        meetings: &meetings,
        met: &met,
    };
    if args.json {
        report.print_json();
    } else {
        report.print(&tools);
    }
    let failed = report.failed();
    if failed > 0 {
        bail!("interop: {failed} checks failed");
    }
    println!(
        "interop: {} transfers identical, {} torrents read alike",
        results.len() + met.len(),
        readings.len()
    );
    Ok(())
}

/// All programs: ours, and those installed in `folder`. Their drivers are written to `work`.
pub(crate) fn tools(ours: Programs, folder: &Path, work: &Path) -> Result<Tools> {
    let tools = Tools {
        bt: ours.bt,
        trackerd: ours.trackerd,
        python: folder.join("venv/bin/python"),
        script: work.join("foreign.py"),
        rqbit: folder.join("bin/rqbit"),
        aquatic_udp: folder.join(install::AQUATIC),
        node: folder.join(install::NODE),
        node_modules: folder.join(install::NODE_MODULES),
        node_script: work.join("foreign.mjs"),
    };
    std::fs::write(&tools.script, SCRIPT).context("the driver of libtorrent")?;
    std::fs::write(&tools.node_script, NODE_SCRIPT).context("the driver of WebTorrent")?;
    Ok(tools)
}

/// Those of the second matrix, ready to be held.
fn meetings(args: &Args, work: &Path, tools: &Tools) -> Result<Vec<Meeting>> {
    (0..)
        .zip(meetings_wanted(args))
        .map(|(number, what)| Meeting::prepare(what, number, args.size, work, tools))
        .collect()
}

/// Every cell of the second matrix asked for, of those that can be; those that wait longest first.
fn meetings_wanted(args: &Args) -> Vec<(Feature, Client, Direction)> {
    if args.no_ways || !args.pairs.is_empty() || args.tracker.is_some() {
        return Vec::new();
    }
    let wanted = |client: &Client| args.with.is_empty() || args.with.contains(client);
    let mut all = Vec::new();
    for feature in FEATURES.into_iter().rev() {
        if !args.feature.is_empty() && !args.feature.contains(&feature) {
            continue;
        }
        for foreign in FOREIGN.into_iter().filter(wanted) {
            for direction in Direction::BOTH {
                if feature.cannot(foreign, direction).is_none() {
                    all.push((feature, foreign, direction));
                }
            }
        }
    }
    all
}

/// Every transfer of the first matrix asked for.
fn cells(args: &Args, work: &Path) -> Vec<Cell> {
    if !args.feature.is_empty() {
        return Vec::new();
    }
    let pairs: Vec<(Client, Client)> = if args.pairs.is_empty() {
        FOREIGN
            .into_iter()
            .filter(|foreign| args.with.is_empty() || args.with.contains(foreign))
            .flat_map(|foreign| [(Client::Bt, foreign), (foreign, Client::Bt)])
            .collect()
    } else {
        args.pairs.clone()
    };
    let trackers = TRACKERS
        .into_iter()
        .filter(|it| args.tracker.is_none_or(|only| only == *it));
    let all = trackers.flat_map(|tracker| pairs.iter().map(move |pair| (*pair, tracker)));
    (0..)
        .zip(all)
        .map(|(number, ((seeder, leecher), tracker))| {
            Cell::new(seeder, leecher, tracker, number, work)
        })
        .collect()
}

/// How one torrent is read.
struct Reading {
    info_hash: String,
    /// Between `bt show` and libtorrent.
    differences: Vec<String>,
}

impl Reading {
    fn take(prepared: &Prepared, tools: &Tools) -> Result<Self> {
        let theirs = agree::by_libtorrent(&prepared.torrent, tools)?;
        let differences = match agree::by_bt(&prepared.torrent, tools) {
            Ok(ours) => agree::differences(&ours, &theirs),
            Err(error) => vec![format!("{error:#}")],
        };
        Ok(Self {
            info_hash: theirs.info_hash,
            differences,
        })
    }
}

type Outcome = Result<Duration>;

/// What it is called, and the work.
type Job<'a> = (String, Box<dyn Fn() -> Outcome + Sync + 'a>);

/// Does the jobs, several at a time. A child dies with the thread that started it, and each job stays on one.
fn do_all(jobs: &[Job<'_>]) -> Result<Vec<Outcome>> {
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Outcome>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let (Some((name, work)), Some(result)) = (jobs.get(index), results.get(index))
                    else {
                        return;
                    };
                    let outcome = work();
                    match &outcome {
                        Ok(_) => eprintln!("{name}: {}", report::word(&outcome)),
                        Err(error) => eprintln!("{name}: FAILED: {error:#}"),
                    }
                    *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
                }
            });
        }
    });
    results
        .into_iter()
        .map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner))
        .map(|result| result.ok_or_else(|| anyhow!("a transfer was not made")))
        .collect()
}
