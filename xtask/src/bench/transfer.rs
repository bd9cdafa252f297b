//! `cargo xtask bench transfer`: data from seeders to leechers on loopback, one transfer after the other.
//!
//! Every transfer of a round is made before the next round begins, so that whatever slows the machine for a while slows all
//! of them. A network namespace keeps the traffic to itself, and its counter says when the payload begins to flow. Every
//! copy is compared with its source, byte for byte, outside of what is measured.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::announces::Tracker;
use super::data;
use super::party::{ALL, Party, Payload, Programs, RIVALS, Running, Seat};
use super::report::{self, Sample};
use crate::interop::client::{Role, Tools};
use crate::interop::{self, net};
use crate::units::{parse_duration, parse_size};
use crate::{compare, programs};

/// Where the tracker is; the peers are behind it. Not in 127/8, which Transmission takes from no tracker.
const TRACKER_IP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// A seeder has checked its data and announced itself by then.
const SEED_PATIENCE: Duration = Duration::from_secs(120);

/// Between the seeders' readiness and the leechers' start: what they do at their start shall be over.
const SETTLE: Duration = Duration::from_millis(500);

/// Between two looks at the leechers: what a wall time may be wrong by.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Between two requests to a leecher that tells how far it is by answering some.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// Between two looks at memory and CPU time.
const STARE_EVERY: Duration = Duration::from_millis(20);

/// So many bytes on the wire are payload, and no handshake.
const FIRST_PAYLOAD_BYTES: u64 = 200_000;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Bytes of the file to share; each size is a case of its own
    #[arg(long, value_delimiter = ',', default_value = "1Gi", value_parser = parse_size)]
    sizes: Vec<u64>,
    /// Piece lengths; each is a case of its own
    #[arg(long, value_delimiter = ',', default_value = "1Mi", value_parser = parse_size)]
    pieces: Vec<u64>,
    /// Share so many files of 16 KiB instead of one large one
    #[arg(long)]
    files: Option<u32>,
    /// How often each transfer is made
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Only these, of those that are installed
    #[arg(long, value_enum, value_delimiter = ',')]
    clients: Vec<Party>,
    /// Only these transfers, as `SEEDER:LEECHER`
    #[arg(long, value_delimiter = ',', value_parser = parse_pair)]
    pairs: Vec<(Party, Party)>,
    /// Seeders of each transfer
    #[arg(long, default_value_t = 1)]
    seeders: u16,
    /// Leechers of each transfer
    #[arg(long, default_value_t = 1)]
    leechers: u16,
    /// Where data and copies lie: in memory, unless it is a folder on a disk
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// A transfer must be over by then
    #[arg(long, value_name = "DUR", default_value = "2m", value_parser = parse_duration)]
    timeout: Duration,
    /// Print one JSON object for each run instead of the table
    #[arg(long)]
    json: bool,
    /// Measure the programs in this folder instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Set by the outer of the two processes that this takes
    #[arg(long, hide = true)]
    inside_namespace: bool,
}

fn parse_pair(text: &str) -> Result<(Party, Party), String> {
    use clap::ValueEnum;
    let (seeder, leecher) = text.split_once(':').ok_or("write SEEDER:LEECHER")?;
    let pair = (
        Party::from_str(seeder, true)?,
        Party::from_str(leecher, true)?,
    );
    if pair.0 != pair.1 && (pair.0.client().is_none() || pair.1.client().is_none()) {
        return Err("the floor speaks with itself only".to_owned());
    }
    Ok(pair)
}

/// Measures and prints; an error if a transfer failed or a copy differs.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.inside_namespace {
        return inside(args);
    }
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    arguments.push("--inside-namespace".to_owned());
    if args.programs.is_none() {
        eprintln!("building the programs in release mode");
        let built = programs::Programs::build()?.bt;
        let folder = built.parent().context("the programs' folder")?;
        arguments.push(format!("--programs={}", folder.display()));
    }
    if net::enter_namespace(&arguments)? {
        Ok(())
    } else {
        bail!("the benchmark failed")
    }
}

fn inside(args: &Args) -> Result<()> {
    set_up_network()?;
    let work = tempfile::Builder::new()
        .prefix("bt-bench-")
        .tempdir_in(&args.dir)
        .with_context(|| args.dir.display().to_string())?;
    let programs = programs(args, work.path())?;
    let tracker = Tracker::start(TRACKER_IP)?;
    let payloads = payloads(args, &programs, &tracker.url, work.path())?;
    let pairs = pairs(args, &programs);
    let mut bench = Bench {
        args,
        programs,
        tracker,
        work: work.path().to_owned(),
        next_port: 20_000,
    };
    let mut samples = Vec::new();
    let mut failed = 0;
    for run in 1..=args.runs {
        for payload in &payloads {
            for (seeder, leecher) in &pairs {
                let way = format!("{} → {}", seeder.name(), leecher.name());
                match bench.transfer(*seeder, *leecher, payload) {
                    Ok(sample) => {
                        eprintln!("{run} {way}: {:.2} s", sample.wall.as_secs_f64());
                        if args.json {
                            println!("{}", report::json(&sample));
                        }
                        samples.push(sample);
                    }
                    Err(error) => {
                        failed += 1;
                        eprintln!("{run} {way}: {error:#}");
                    }
                }
            }
        }
    }
    if !args.json {
        print!("{}", report::tables(&samples));
        for party in parties(&pairs) {
            let version = party.version(&bench.programs).unwrap_or_default();
            if !version.is_empty() {
                println!("{} {version}", party.name());
            }
        }
    }
    if failed > 0 {
        bail!("{failed} transfers failed");
    }
    Ok(())
}

/// One network with as many addresses as are wanted, all of this machine.
fn set_up_network() -> Result<()> {
    let network = format!("{TRACKER_IP}/16");
    for arguments in [
        &["link", "set", "lo", "up"][..],
        &["addr", "add", &network, "dev", "lo"],
    ] {
        let status = Command::new("ip").args(arguments).status();
        if !status.context("ip (package iproute2)")?.success() {
            bail!("ip {} failed", arguments.join(" "));
        }
    }
    Ok(())
}

fn programs(args: &Args, work: &Path) -> Result<Programs> {
    let built = args.programs.as_deref().context("no --programs")?;
    let built = programs::Programs::in_folder(built)?;
    let foreign = programs::target_folder()?.join("interop");
    let script = work.join("foreign.py");
    std::fs::write(&script, interop::SCRIPT).context("the driver of libtorrent")?;
    Ok(Programs {
        tools: Tools {
            bt: built.bt,
            trackerd: built.trackerd,
            python: foreign.join("venv/bin/python"),
            script,
            rqbit: foreign.join("bin/rqbit"),
        },
        this: std::env::current_exe().context("this program's own path")?,
    })
}

/// What is shared: every size in every piece length.
fn payloads(args: &Args, programs: &Programs, url: &str, work: &Path) -> Result<Vec<Payload>> {
    let source = work.join("source");
    std::fs::create_dir_all(&source).context("a folder for the source")?;
    let sizes = match args.files {
        Some(files) => vec![u64::from(files) * data::SMALL_BYTES],
        None => args.sizes.clone(),
    };
    let mut payloads = Vec::new();
    for length in sizes {
        let name = args
            .files
            .map_or_else(|| format!("{length}.bin"), |files| format!("{files} files"));
        let source = source.join(name);
        match args.files {
            Some(files) => data::write_files(&source, files)?,
            None => data::write_file(&source, length)?,
        }
        for piece_length in &args.pieces {
            let torrent = work.join(format!("{length}-{piece_length}.torrent"));
            let output = Command::new(&programs.tools.bt)
                .arg("create")
                .arg(&source)
                .arg("-o")
                .arg(&torrent)
                .args(["-a", url, "--piece-length", &piece_length.to_string()])
                .output()
                .context("bt create")?;
            if !output.status.success() {
                bail!("bt create: {}", String::from_utf8_lossy(&output.stderr));
            }
            payloads.push(Payload {
                source: source.clone(),
                torrent,
                length,
                piece_length: *piece_length,
                files: args.files.unwrap_or(1),
            });
        }
    }
    Ok(payloads)
}

/// Who sends to whom.
fn pairs(args: &Args, programs: &Programs) -> Vec<(Party, Party)> {
    if !args.pairs.is_empty() {
        return args.pairs.clone();
    }
    let has_floor = args.files.is_none() && args.seeders == 1 && args.leechers == 1;
    let mut here = Vec::new();
    for party in ALL {
        let asked = args.clients.is_empty() || args.clients.contains(&party);
        let possible = party.client().is_some() || has_floor;
        if asked && possible && party.version(programs).is_some() {
            here.push(party);
        } else if asked && possible {
            eprintln!(
                "{} is not installed: `cargo xtask interop --install`",
                party.name()
            );
        }
    }
    let mut pairs: Vec<(Party, Party)> = here.iter().map(|party| (*party, *party)).collect();
    let single = args.seeders == 1 && args.leechers == 1;
    if single && here.contains(&Party::Bt) {
        let rivals = RIVALS.into_iter().filter(|rival| here.contains(rival));
        pairs.extend(rivals.flat_map(|rival| [(Party::Bt, rival), (rival, Party::Bt)]));
    }
    pairs
}

fn parties(pairs: &[(Party, Party)]) -> Vec<Party> {
    let mut parties: Vec<Party> = pairs.iter().flat_map(|(one, two)| [*one, *two]).collect();
    parties.sort_unstable();
    parties.dedup();
    parties
}

struct Bench<'a> {
    args: &'a Args,
    programs: Programs,
    tracker: Tracker,
    work: PathBuf,
    /// Ports are never used twice: a closed one is not free at once.
    next_port: u16,
}

impl Bench<'_> {
    fn transfer(&mut self, seeder: Party, leecher: Party, payload: &Payload) -> Result<Sample> {
        let homes = self.work.join("homes");
        let outcome = self.measure(seeder, leecher, payload, &homes);
        if homes.exists() {
            std::fs::remove_dir_all(&homes).context("removing the copies")?;
        }
        outcome
    }

    fn measure(
        &mut self,
        seeder: Party,
        leecher: Party,
        payload: &Payload,
        homes: &Path,
    ) -> Result<Sample> {
        let addresses: Vec<SocketAddrV4> = (0..self.args.seeders + self.args.leechers)
            .map(|_| self.address())
            .collect();
        self.tracker.expect(&addresses);
        let (seeding, leeching) = addresses.split_at(usize::from(self.args.seeders));
        let source = payload.source.parent().context("the source's folder")?;
        let mut seeders = Vec::new();
        for listen in seeding {
            let seat = Seat {
                party: seeder,
                role: Role::Seed,
                listen: *listen,
                peers: Vec::new(),
                data: source.to_owned(),
                home: homes.join(listen.port().to_string()),
                stays: true,
            };
            seeders.push(seat.start(payload, &self.programs)?);
        }
        self.wait_for_seeders(&mut seeders)?;
        let before = usage(&mut seeders)?;
        let (busy_before, wire_before) = (busy()?, wire_bytes()?);
        let began = Instant::now();
        let mut leechers = Vec::new();
        for listen in leeching {
            let home = homes.join(listen.port().to_string());
            let seat = Seat {
                party: leecher,
                role: Role::Leech,
                listen: *listen,
                peers: seeding.to_vec(),
                data: home.join("data"),
                home,
                stays: leeching.len() > 1,
            };
            leechers.push(seat.start(payload, &self.programs)?);
        }
        let (first, wall) = self.watch(began, wire_before, &mut leechers, &mut seeders)?;
        let (after, theirs) = (usage(&mut seeders)?, usage(&mut leechers)?);
        let busy = busy()?.saturating_sub(busy_before);
        let cpu_seeders = after.cpu.saturating_sub(before.cpu);
        let copies: Vec<PathBuf> = leechers.iter().map(|it| it.copy(&payload.source)).collect();
        for running in leechers {
            running.stop()?;
        }
        let mut sent = Vec::new();
        for running in seeders {
            sent.push(running.stop()?);
        }
        verify(&payload.source, &copies)?;
        let ours = cpu_seeders + theirs.cpu;
        Ok(Sample {
            seeder,
            leecher,
            seeders: self.args.seeders,
            leechers: self.args.leechers,
            length: payload.length,
            piece_length: payload.piece_length,
            files: payload.files,
            wall,
            first,
            cpu_leechers: theirs.cpu,
            cpu_seeders,
            peak_leecher: theirs.peak_memory_bytes,
            peak_seeder: after.peak_memory_bytes,
            sent: sent.into_iter().sum(),
            others: busy.saturating_sub(ours).as_secs_f64() / wall.as_secs_f64().max(0.001),
        })
    }

    fn wait_for_seeders(&self, seeders: &mut [Running]) -> Result<()> {
        let deadline = Instant::now() + SEED_PATIENCE;
        for index in 0..seeders.len() {
            loop {
                let count = self.tracker.seeders();
                let Some(running) = seeders.get_mut(index) else {
                    break;
                };
                if count > index || running.listens_without_tracker() {
                    break;
                }
                if running.process.has_ended()? || Instant::now() > deadline {
                    running.process.poll()?;
                    bail!("does not seed: {}", running.process.obituary());
                }
                std::thread::sleep(STARE_EVERY);
            }
        }
        std::thread::sleep(SETTLE);
        Ok(())
    }

    /// When the payload began to flow, and when the last leecher was done, both since `began`.
    fn watch(
        &self,
        began: Instant,
        wire_before: u64,
        leechers: &mut [Running],
        seeders: &mut [Running],
    ) -> Result<(Duration, Duration)> {
        let mut first = None;
        let (mut stared, mut asked) = (began, began);
        let mut done = vec![false; leechers.len()];
        loop {
            if first.is_none() && wire_bytes()?.saturating_sub(wire_before) > FIRST_PAYLOAD_BYTES {
                first = Some(began.elapsed());
            }
            if stared.elapsed() >= STARE_EVERY {
                stared = Instant::now();
                usage(seeders)?;
                usage(leechers)?;
            }
            let asking = asked.elapsed() >= ASK_EVERY;
            if asking {
                asked = Instant::now();
            }
            for (leecher, done) in leechers.iter_mut().zip(&mut done) {
                if !*done && (asking || !leecher.asked_by_request()) {
                    *done = leecher.is_done()?;
                }
            }
            if done.iter().all(|done| *done) {
                let wall = began.elapsed();
                return Ok((first.unwrap_or(wall), wall));
            }
            if began.elapsed() > self.args.timeout {
                let words: Vec<String> = leechers
                    .iter()
                    .chain(seeders.iter())
                    .map(|running| running.process.obituary())
                    .collect();
                bail!("not done in time: {}", words.join("\n  "));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn address(&mut self) -> SocketAddrV4 {
        self.next_port += 1;
        let [high, low] = self.next_port.to_be_bytes();
        SocketAddrV4::new(Ipv4Addr::new(10, 77, high, low), self.next_port)
    }
}

fn verify(source: &Path, copies: &[PathBuf]) -> Result<()> {
    for verdict in compare::copies(source, copies)? {
        if !verdict.differences.is_empty() {
            bail!("a copy differs: {}", verdict.differences.join("; "));
        }
    }
    Ok(())
}

/// CPU time of all together, and the most memory that one of them had.
fn usage(running: &mut [Running]) -> Result<crate::process::Usage> {
    let mut sum = crate::process::Usage::default();
    for running in running {
        running.process.poll()?;
        let usage = running.process.usage();
        sum.cpu += usage.cpu;
        sum.peak_memory_bytes = sum.peak_memory_bytes.max(usage.peak_memory_bytes);
    }
    Ok(sum)
}

/// Bytes that went over the loopback device of this namespace.
fn wire_bytes() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/net/dev").context("/proc/net/dev")?;
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("lo:"));
    let bytes = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
    bytes.context("no loopback device in /proc/net/dev")
}

/// CPU time that all programs of the machine have used: fields `user` to `steal` of `/proc/stat`, without the idle ones.
fn busy() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let line = text.lines().next().context("an empty /proc/stat")?;
    let fields: Vec<u64> = line
        .split_ascii_whitespace()
        .skip(1)
        .map_while(|field| field.parse().ok())
        .collect();
    let busy = fields.iter().take(8).enumerate();
    let ticks: u64 = busy
        .filter(|(index, _)| !matches!(index, 3 | 4))
        .map(|(_, ticks)| ticks)
        .sum();
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Ok(Duration::from_millis(
        ticks.saturating_mul(1000) / per_second,
    ))
}
