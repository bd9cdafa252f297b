//! `cargo xtask interop`: our programs and foreign ones share data with each other, in both directions, over our tracker and
//! over opentracker; and both read each other's torrents alike.

mod agree;
mod cell;
pub(crate) mod client;
mod install;
pub(crate) mod net;
mod tracker;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use comfy_table::{Cell as TableCell, Table, presets};
use serde_json::json;

use crate::programs::{self, Programs};
use crate::units::{parse_duration, parse_size, show_seconds};
use cell::{Cell, Prepared};
use client::{Client, FOREIGN, Tools};
use tracker::{TRACKERS, Tracker};

/// Transfers at a time: most of them wait for somebody's timer.
const WORKERS: usize = 6;

/// libtorrent's side of the drivers.
pub(crate) const SCRIPT: &str = include_str!("interop/foreign.py");

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install the foreign programs that are missing (needs root, Debian's packages, PyPI and crates.io)
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
    /// Only over this tracker
    #[arg(long, value_enum)]
    tracker: Option<Tracker>,
    /// A transfer must be over by then
    #[arg(long, value_name = "DUR", default_value = "2m", value_parser = parse_duration)]
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
    let tools = Tools {
        bt: programs.bt,
        trackerd: programs.trackerd,
        python: folder.join("venv/bin/python"),
        script: work.path().join("foreign.py"),
        rqbit: folder.join("bin/rqbit"),
    };
    std::fs::write(&tools.script, SCRIPT).context("the driver of libtorrent")?;
    eprintln!("in {}", work.path().display());
    let mut prepared = Vec::new();
    for cell in cells(args, work.path()) {
        prepared.push(cell.prepare(args.size, &tools)?);
    }
    let readings: Vec<Reading> = prepared
        .iter()
        .map(|it| Reading::take(it, &tools))
        .collect::<Result<_>>()?;
    let hashes: Vec<String> = readings
        .iter()
        .map(|reading| reading.info_hash.clone())
        .collect();
    let used: BTreeSet<Tracker> = prepared.iter().map(|it| it.cell.tracker).collect();
    let mut trackers = Vec::new();
    for tracker in used {
        trackers.push(tracker.start(&tools, &hashes, work.path())?);
    }
    let results = transfer_all(&prepared, &hashes, args.timeout, &tools)?;
    let failed = results.iter().filter(|result| result.is_err()).count()
        + readings
            .iter()
            .filter(|reading| !reading.differences.is_empty())
            .count();
    if args.json {
        print_json(&prepared, &results, &readings);
    } else {
        print_matrix(&prepared, &results, &readings, &tools);
    }
    if failed > 0 {
        bail!(
            "interop: {failed} of {} checks failed",
            results.len() + readings.len()
        );
    }
    println!(
        "interop: {} transfers identical, {} torrents read alike",
        results.len(),
        readings.len()
    );
    Ok(())
}

/// Every transfer asked for.
fn cells(args: &Args, work: &Path) -> Vec<Cell> {
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

/// Makes the transfers, several at a time. A child dies with the thread that started it, and each transfer stays on one.
fn transfer_all(
    prepared: &[Prepared],
    hashes: &[String],
    patience: Duration,
    tools: &Tools,
) -> Result<Vec<Outcome>> {
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Outcome>>> = prepared.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(it), Some(hash), Some(result)) =
                        (prepared.get(index), hashes.get(index), results.get(index))
                    else {
                        return;
                    };
                    let outcome = it.transfer(hash, patience, tools);
                    let Cell {
                        seeder,
                        leecher,
                        tracker,
                        ..
                    } = &it.cell;
                    eprintln!(
                        "{} → {} over {}: {}",
                        seeder.name(),
                        leecher.name(),
                        tracker.name(),
                        word(&outcome)
                    );
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

fn word(outcome: &Outcome) -> String {
    match outcome {
        Ok(took) => format!("{} s", show_seconds(*took)),
        Err(_) => "FAILED".to_owned(),
    }
}

/// A row for each foreign program, a column for each direction and tracker; then what failed, in full.
fn print_matrix(prepared: &[Prepared], results: &[Outcome], readings: &[Reading], tools: &Tools) {
    let foreign_of = |cell: &Cell| match (cell.seeder, cell.leecher) {
        (Client::Bt, other) | (other, _) => other,
    };
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header([
        "program",
        "transfer",
        "over bt-trackerd",
        "over opentracker",
        "torrent read alike",
    ]);
    let rows: BTreeSet<(Client, Client, Client)> = prepared
        .iter()
        .map(|it| (foreign_of(&it.cell), it.cell.seeder, it.cell.leecher))
        .collect();
    for (foreign, seeder, leecher) in rows {
        let version = foreign.version(tools).unwrap_or_default();
        let mut cells = vec![
            TableCell::new(format!("{} {version}", foreign.name())),
            TableCell::new(format!("{} → {}", seeder.name(), leecher.name())),
        ];
        let mut alike = Vec::new();
        for tracker in TRACKERS {
            let found = prepared
                .iter()
                .zip(results)
                .zip(readings)
                .find(|((it, _), _)| {
                    (it.cell.seeder, it.cell.leecher, it.cell.tracker) == (seeder, leecher, tracker)
                });
            cells.push(TableCell::new(
                found.map_or_else(String::new, |((_, it), _)| word(it)),
            ));
            if let Some(((it, _), reading)) = found {
                let good = reading.differences.is_empty();
                alike.push(if good {
                    it.maker.to_owned()
                } else {
                    format!("{}: NO", it.maker)
                });
            }
        }
        alike.dedup();
        cells.push(TableCell::new(alike.join(", ")));
        table.add_row(cells);
    }
    println!("{table}");
    for ((it, result), reading) in prepared.iter().zip(results).zip(readings) {
        let Cell {
            seeder,
            leecher,
            tracker,
            ..
        } = &it.cell;
        if let Err(error) = result {
            let way = format!(
                "{} → {} over {}",
                seeder.name(),
                leecher.name(),
                tracker.name()
            );
            println!("{way}: {error:#}");
        }
        for difference in &reading.differences {
            println!("torrent by {}: {difference}", it.maker);
        }
    }
}

fn print_json(prepared: &[Prepared], results: &[Outcome], readings: &[Reading]) {
    for ((it, result), reading) in prepared.iter().zip(results).zip(readings) {
        let Cell {
            seeder,
            leecher,
            tracker,
            ..
        } = &it.cell;
        let object = json!({
            "event": "transfer",
            "seeder": seeder.name(),
            "leecher": leecher.name(),
            "tracker": tracker.name(),
            "seconds": result.as_ref().ok().map(Duration::as_secs_f64),
            "error": result.as_ref().err().map(|error| format!("{error:#}")),
            "torrent_by": it.maker,
            "torrent_differences": reading.differences,
        });
        println!("{object}");
    }
}
