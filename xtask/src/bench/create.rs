//! `cargo xtask bench create`: hashing a large file that is in memory, beside what the cores can hash at all.
//!
//! Before each round the speed of SHA-1 is measured on bytes that stay in a core's cache, on one core and on all at once; the
//! ratio of a program is what it hashed in a second over the cores times the one core's speed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};
use serde_json::json;
use sha1::{Digest, Sha1};

use super::data;
use super::report::{Spread, noisy};
use super::stage;
use crate::interop::{self, client::Tools};
use crate::process::Process;
use crate::programs::{self, is_installed};
use crate::units::{parse_size, show_size};

/// Bytes that are hashed again and again: they fit the second cache of any core.
const HOT_BYTES: usize = 128 << 10;

/// How long each measurement of SHA-1 takes.
const SPIN: Duration = Duration::from_millis(300);

/// The longest that a program may take.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Bytes of the file
    #[arg(long, default_value = "4Gi", value_parser = parse_size)]
    size: u64,
    /// The piece length
    #[arg(long, default_value = "2Mi", value_parser = parse_size)]
    piece: u64,
    /// How often each program is measured
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Where the file lies: in memory, unless it is a folder on a disk, whose cache it then is read from
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// Print one JSON object for each run instead of the table
    #[arg(long)]
    json: bool,
    /// Measure the programs in this folder instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// One program that hashes.
struct Contender {
    name: &'static str,
    command: Box<dyn Fn(&Place) -> Command>,
}

/// Where the file is, and where torrents go.
struct Place {
    source: PathBuf,
    torrent: PathBuf,
    checked: PathBuf,
    piece: u64,
    cores: usize,
}

struct Sample {
    name: &'static str,
    wall: Duration,
    cpu: Duration,
    peak_bytes: u64,
    /// Of what the cores hash.
    ratio: f64,
    /// Cores that other programs used meanwhile.
    others: f64,
}

/// Measures and prints; an error if a program failed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let built = match &args.programs {
        Some(folder) => programs::Programs::in_folder(folder)?,
        None => programs::Programs::build()?,
    };
    let work = tempfile::Builder::new()
        .prefix("bt-bench-")
        .tempdir_in(&args.dir)
        .with_context(|| args.dir.display().to_string())?;
    let place = Place {
        source: work.path().join("file"),
        torrent: work.path().join("made.torrent"),
        checked: work.path().join("file.torrent"),
        piece: args.piece,
        cores: std::thread::available_parallelism().map_or(1, usize::from),
    };
    data::write_file(&place.source, args.size)?;
    let bt = built.bt.clone();
    let foreign = programs::target_folder()?.join("interop");
    let tools = interop::tools(built, &foreign, work.path())?;
    let contenders = contenders(tools);
    // The torrent that is verified, and the file in the cache.
    let made = ours(&bt, &place, &place.checked, &[]).output();
    if !made.context("bt create")?.status.success() {
        bail!("bt create failed");
    }
    let mut samples = Vec::new();
    let mut speeds = Vec::new();
    for _ in 0..args.runs {
        let (one, all) = (speed(1), speed(place.cores));
        speeds.push((one, all));
        let best = one * place.cores as f64;
        for contender in &contenders {
            let sample = measure(contender, &place, args.size, best)?;
            if args.json {
                println!("{}", sample.json(one, all));
            }
            samples.push(sample);
        }
    }
    if !args.json {
        let middle = |pick: fn(&(f64, f64)) -> f64| Spread::of(speeds.iter().map(pick)).show(0);
        println!(
            "{} in pieces of {}; SHA-1 {} MiB/s on one core, {} on {}",
            show_size(args.size),
            show_size(args.piece),
            middle(|speed| speed.0 / f64::from(1 << 20)),
            middle(|speed| speed.1 / f64::from(1 << 20)),
            place.cores,
        );
        println!("{}", table(&samples));
    }
    Ok(())
}

fn ours(bt: &Path, place: &Place, torrent: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(bt);
    command
        .args(["--quiet", "create", "--force", "-o"])
        .arg(torrent);
    command.args(["--piece-length", &place.piece.to_string()]);
    command.args(more).arg(&place.source);
    command
}

/// Ours, and those of the others that are installed.
fn contenders(tools: Tools) -> Vec<Contender> {
    let with = |more: &'static [&'static str]| {
        let bt = tools.bt.clone();
        Box::new(move |place: &Place| ours(&bt, place, &place.torrent, more))
    };
    let program = tools.bt.clone();
    let verify = move |place: &Place| {
        let mut command = Command::new(&program);
        command.args(["--quiet", "verify"]).arg(&place.checked);
        command.arg("-d").args(place.source.parent());
        command
    };
    let mut all = vec![
        Contender {
            name: "bt create",
            command: with(&[]),
        },
        Contender {
            name: "bt create --threads 1",
            command: with(&["--threads", "1"]),
        },
        Contender {
            name: "bt verify",
            command: Box::new(verify),
        },
    ];
    if is_installed("mktorrent") {
        let mktorrent = |place: &Place| {
            let mut command = Command::new("mktorrent");
            command.args(["-t", &place.cores.to_string(), "-l"]);
            command.arg(place.piece.ilog2().to_string());
            command.args(["-a", "http://127.0.0.1:9/announce", "-o"]);
            command.args([&place.torrent, &place.source]);
            command
        };
        all.push(Contender {
            name: "mktorrent",
            command: Box::new(mktorrent),
        });
    }
    if is_installed("transmission-create") {
        let transmission = |place: &Place| {
            let mut command = Command::new("transmission-create");
            command.args(["-s", &(place.piece >> 10).to_string(), "-o"]);
            command.args([&place.torrent, &place.source]);
            command
        };
        all.push(Contender {
            name: "transmission-create",
            command: Box::new(transmission),
        });
    }
    if tools.python.exists() {
        let libtorrent = move |place: &Place| {
            let mut command = Command::new(&tools.python);
            command.arg(&tools.script).arg("create");
            command.args([&place.source, &place.torrent]);
            command.args(["http://127.0.0.1:9/announce", &place.piece.to_string()]);
            command
        };
        all.push(Contender {
            name: "libtorrent",
            command: Box::new(libtorrent),
        });
    }
    all
}

/// Bytes per second of SHA-1, of so many threads together.
fn speed(threads: usize) -> f64 {
    let spin = || {
        let bytes = vec![7; HOT_BYTES];
        let (mut hash, mut done) = (Sha1::new(), 0_u64);
        let began = Instant::now();
        while began.elapsed() < SPIN {
            hash.update(&bytes);
            done += HOT_BYTES as u64;
        }
        let took = began.elapsed().as_secs_f64();
        // Used, so that it is computed.
        std::hint::black_box(hash.finalize());
        done as f64 / took
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(spin)).collect();
        let speeds = threads.into_iter().map(|thread| thread.join());
        speeds.map(Result::unwrap_or_default).sum()
    })
}

fn measure(contender: &Contender, place: &Place, size: u64, best: f64) -> Result<Sample> {
    let _ = std::fs::remove_file(&place.torrent);
    let (sender, _unheard) = channel();
    let before = stage::busy()?;
    let began = Instant::now();
    let mut process = Process::spawn(contender.name, (contender.command)(place), 0, sender)?;
    let mut wall = None;
    while wall.is_none() {
        // Memory is known as long as the process is there.
        process.poll()?;
        wall = process.has_ended()?.then(|| began.elapsed());
        if began.elapsed() > PATIENCE {
            bail!("{} takes too long", contender.name);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    process.has_ended_well()?;
    let (wall, usage) = (wall.unwrap_or_default(), process.usage());
    let others = stage::busy()?
        .saturating_sub(before)
        .saturating_sub(usage.cpu);
    let seconds = wall.as_secs_f64().max(0.001);
    Ok(Sample {
        name: contender.name,
        wall,
        cpu: usage.cpu,
        peak_bytes: usage.peak_memory_bytes,
        ratio: size as f64 / seconds / best,
        others: others.as_secs_f64() / seconds,
    })
}

impl Sample {
    fn json(&self, one: f64, all: f64) -> serde_json::Value {
        json!({
            "event": "create",
            "program": self.name,
            "wall_seconds": self.wall.as_secs_f64(),
            "cpu_seconds": self.cpu.as_secs_f64(),
            "peak_bytes": self.peak_bytes,
            "sha1_ratio": self.ratio,
            "sha1_bytes_per_second_one_core": one,
            "sha1_bytes_per_second_all_cores": all,
            "others_cores": self.others,
        })
    }
}

/// A row for each program.
fn table(samples: &[Sample]) -> Table {
    let mut names: Vec<&str> = Vec::new();
    for sample in samples {
        if !names.contains(&sample.name) {
            names.push(sample.name);
        }
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header([
        "program", "seconds", "CPU s", "peak MiB", "of SHA-1", "noisy",
    ]);
    for name in names {
        let its = samples.iter().filter(|sample| sample.name == name);
        let of = |value: fn(&Sample) -> f64| Spread::of(its.clone().map(value));
        table.add_row([
            name.to_owned(),
            of(|it| it.wall.as_secs_f64()).show(2),
            of(|it| it.cpu.as_secs_f64()).show(2),
            of(|it| it.peak_bytes as f64 / f64::from(1 << 20)).show(0),
            of(|it| it.ratio).show(2),
            noisy(its.clone().map(|it| it.others)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_one_row_of_medians() {
        let sample = |name, seconds, ratio| Sample {
            name,
            wall: Duration::from_secs(seconds),
            cpu: Duration::from_secs(3),
            peak_bytes: 9 << 20,
            ratio,
            others: 1.0,
        };
        let samples = [
            sample("one", 1, 0.5),
            sample("two", 4, 0.1),
            sample("one", 3, 0.7),
        ];
        let text = table(&samples).to_string();
        let line = text.lines().find(|line| line.contains(" one ")).unwrap();
        assert!(line.contains("2.00 (1.00–3.00)"), "{line}");
        assert!(line.contains("0.60 (0.50–0.70)"), "{line}");
        assert_eq!(
            text.lines().filter(|line| line.contains(" two ")).count(),
            1
        );
    }

    #[test]
    fn sha_1_has_a_speed() {
        assert!(speed(1) > f64::from(1 << 20));
    }
}
