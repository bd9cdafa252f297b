//! One measured run: seeders, then leechers, watched until the last leecher has everything, and every copy compared.
//!
//! A network namespace keeps the traffic to itself, and its counter says when the payload begins to flow. All peers have
//! addresses of their own in it; the tracker knows them by their ports.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::announces::Tracker;
use super::party::{Party, Payload, Programs, Running, Seat, Terms};
use super::sockets::Sockets;
use crate::interop::client::Role;
use crate::interop::{self, net};
use crate::{compare, programs};

/// Where the tracker is; the peers are behind it. Not in 127/8, which Transmission takes from no tracker.
const TRACKER_IP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// A seeder has checked its data and announced itself by then.
const SEED_PATIENCE: Duration = Duration::from_secs(120);

/// Between the seeders' readiness and the leechers' start: what they do at their start shall be over.
const SETTLE: Duration = Duration::from_millis(500);

/// Between two looks at one leecher: what a wall time may be wrong by. A swarm of many is looked at less often.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Between two requests to a leecher that tells how far it is by answering some.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(5);

/// Between two looks at memory and CPU time.
const STARE_EVERY: Duration = Duration::from_millis(20);

/// So many bytes on the wire are payload, and no handshake.
const FIRST_PAYLOAD_BYTES: u64 = 200_000;

/// What each bench of whole clients is told.
#[derive(clap::Args)]
pub(crate) struct Common {
    /// Where data, copies and state lie: in memory, unless it is a folder on a disk
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// Print one JSON object for each run instead of the tables
    #[arg(long)]
    pub(crate) json: bool,
    /// Measure the programs in this folder instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Set by the outer of the two processes that this takes
    #[arg(long, hide = true)]
    inside_namespace: bool,
}

impl Common {
    /// A stage in a network of its own; `None` in the outer process, once the inner one has measured on it.
    pub(crate) fn stage(&self) -> Result<Option<Stage>> {
        if self.inside_namespace {
            return Stage::new(&self.dir, self.programs.as_deref()).map(Some);
        }
        enter(self.programs.as_deref())?;
        Ok(None)
    }
}

/// Who takes part in a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cast {
    /// Who has the data.
    pub(crate) seeder: Party,
    /// Who wants it.
    pub(crate) leecher: Party,
    /// How many of the one.
    pub(crate) seeders: u16,
    /// And of the other.
    pub(crate) leechers: u16,
    /// What all of them are told.
    pub(crate) terms: Terms,
    /// The run must be over by then.
    pub(crate) timeout: Duration,
}

impl Cast {
    /// Somebody's place below `homes`: a seeder has the payload where it is, a leecher gets its own.
    fn seat(
        &self,
        role: Role,
        listen: SocketAddrV4,
        homes: &Path,
        payload: &Payload,
    ) -> Result<Seat> {
        let home = homes.join(listen.port().to_string());
        let source = payload.source.parent().context("the source's folder")?;
        let (party, data) = match role {
            Role::Seed => (self.seeder, source.to_owned()),
            Role::Leech => (self.leecher, home.join("data")),
        };
        Ok(Seat {
            party,
            role,
            listen,
            peers: Vec::new(),
            data,
            home,
            stays: role == Role::Seed || self.leechers > 1,
            link: None,
            terms: self.terms,
        })
    }
}

/// What a run came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// From the leechers' start until the last has everything verified.
    pub(crate) wall: Duration,
    /// From the leechers' start to the first payload.
    pub(crate) first: Duration,
    /// Of all leechers, from their start.
    pub(crate) cpu_leechers: Duration,
    /// Of all seeders, from the leechers' start.
    pub(crate) cpu_seeders: Duration,
    /// The most resident memory of a leecher, in bytes.
    pub(crate) peak_leecher: u64,
    /// And of a seeder.
    pub(crate) peak_seeder: u64,
    /// Payload bytes that the seeders say they sent; if one of them does not say, what the system saw them send.
    pub(crate) sent: Option<u64>,
    /// Payload bytes that the leechers say they received in vain, if all of them say so.
    pub(crate) wasted: Option<u64>,
    /// Bytes that crossed the network, headers included.
    pub(crate) wire: u64,
    /// Cores that other programs used meanwhile.
    pub(crate) others: f64,
}

/// Where runs are made, one after the other.
pub(crate) struct Stage {
    /// The programs.
    pub(crate) programs: Programs,
    /// For the torrents.
    pub(crate) tracker: Tracker,
    /// For all that is written.
    pub(crate) work: tempfile::TempDir,
    /// Ports are never used twice: a closed one is not free at once.
    next_port: u16,
}

/// Starts this very command again in a network of its own, with the programs built.
fn enter(built: Option<&Path>) -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    arguments.push("--inside-namespace".to_owned());
    if built.is_none() {
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

impl Stage {
    /// A stage with its files below `folder` and our programs in `built`.
    fn new(folder: &Path, built: Option<&Path>) -> Result<Self> {
        set_up_network()?;
        let work = tempfile::Builder::new()
            .prefix("bt-bench-")
            .tempdir_in(folder)
            .with_context(|| folder.display().to_string())?;
        Ok(Self {
            programs: find_programs(built.context("no --programs")?, work.path())?,
            tracker: Tracker::start(TRACKER_IP)?,
            work,
            next_port: 20_000,
        })
    }

    /// Makes the torrent of `source`.
    pub(crate) fn make_torrent(&self, source: &Path, piece_length: u64) -> Result<PathBuf> {
        let name = source.file_name().context("a name")?.display();
        let torrent = self
            .work
            .path()
            .join(format!("{name}-{piece_length}.torrent"));
        let output = Command::new(&self.programs.tools.bt)
            .arg("create")
            .arg(source)
            .arg("-o")
            .arg(&torrent)
            .args(["-a", &self.tracker.url])
            .args(["--piece-length", &piece_length.to_string()])
            .output()
            .context("bt create")?;
        if !output.status.success() {
            bail!("bt create: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(torrent)
    }

    /// The payload's magnet link, with or without its tracker.
    pub(crate) fn link(&self, payload: &Payload, tracker: bool) -> Result<String> {
        let mut show = Command::new(&self.programs.tools.bt);
        show.arg("show").arg(&payload.torrent).arg("--json");
        let output = show.output().context("bt show")?;
        let shown: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("bt show --json")?;
        let info_hash = shown.get("info_hash").and_then(|it| it.as_str());
        let mut link = format!("magnet:?xt=urn:btih:{}", info_hash.context("no info hash")?);
        if tracker {
            let url = self.tracker.url.replace(':', "%3A").replace('/', "%2F");
            link += &format!("&tr={url}");
        }
        Ok(link)
    }

    /// Those of `parties` that are installed; the others are named on stderr.
    pub(crate) fn installed(&self, parties: impl IntoIterator<Item = Party>) -> Vec<Party> {
        let is_here = |party: &Party| {
            let here = party.version(&self.programs).is_some();
            if !here {
                let name = party.name();
                eprintln!("{name} is not installed: `cargo xtask interop --install`");
            }
            here
        };
        parties.into_iter().filter(is_here).collect()
    }

    /// Says which versions were measured.
    pub(crate) fn print_versions(&self, parties: &[Party]) {
        for party in parties {
            let version = party.version(&self.programs).unwrap_or_default();
            if !version.is_empty() {
                println!("{} {version}", party.name());
            }
        }
    }

    /// Makes a run; an error if it is not done in time or a copy differs.
    pub(crate) fn play(&mut self, cast: &Cast, payload: &Payload) -> Result<Run> {
        let homes = self.work.path().join("homes");
        let outcome = self.measure(cast, payload, &homes);
        if homes.exists() {
            std::fs::remove_dir_all(&homes).context("removing the copies")?;
        }
        outcome
    }

    fn measure(&mut self, cast: &Cast, payload: &Payload, homes: &Path) -> Result<Run> {
        let addresses: Vec<SocketAddrV4> = (0..cast.seeders + cast.leechers)
            .map(|_| self.address())
            .collect();
        self.tracker.expect(&addresses);
        let (seeding, leeching) = addresses.split_at(usize::from(cast.seeders));
        let mut seeders = Vec::new();
        for listen in seeding {
            let seat = cast.seat(Role::Seed, *listen, homes, payload)?;
            seeders.push(seat.start(payload, &self.programs)?);
        }
        self.wait_for_seeders(&mut seeders)?;
        let before = usage(&mut seeders)?;
        let (busy_before, wire_before) = (busy()?, wire_bytes()?);
        let began = Instant::now();
        let mut leechers = Vec::new();
        for listen in leeching {
            let mut seat = cast.seat(Role::Leech, *listen, homes, payload)?;
            seat.peers = seeding.to_vec();
            leechers.push(seat.start(payload, &self.programs)?);
        }
        let mut watch = Watch {
            began,
            wire_before,
            timeout: cast.timeout,
            sockets: (leeching.len() > 1).then(|| Sockets::of(seeding)),
        };
        let (first, wall) = watch.run(&mut leechers, &mut seeders)?;
        let (after, theirs) = (usage(&mut seeders)?, usage(&mut leechers)?);
        let (busy, wire) = (busy()?, wire_bytes()?);
        let cpu_seeders = after.cpu.saturating_sub(before.cpu);
        let copies: Vec<PathBuf> = leechers.iter().map(|it| it.copy(&payload.source)).collect();
        let stop = |all: Vec<Running>| {
            all.into_iter()
                .map(Running::stop)
                .collect::<Result<Vec<_>>>()
        };
        let wasted = stop(leechers)?.into_iter().map(|words| words.wasted).sum();
        let told: Option<u64> = stop(seeders)?.into_iter().map(|words| words.uploaded).sum();
        verify(&payload.source, &copies)?;
        let ours = cpu_seeders + theirs.cpu;
        let others = busy.saturating_sub(busy_before).saturating_sub(ours);
        Ok(Run {
            wall,
            first,
            cpu_leechers: theirs.cpu,
            cpu_seeders,
            peak_leecher: theirs.peak_memory_bytes,
            peak_seeder: after.peak_memory_bytes,
            sent: told.or(watch.sockets.map(|sockets| sockets.sent())),
            wasted,
            wire: wire.saturating_sub(wire_before),
            others: others.as_secs_f64() / wall.as_secs_f64().max(0.001),
        })
    }

    /// Waits until all of them seed, and have settled.
    pub(super) fn wait_for_seeders(&self, seeders: &mut [Running]) -> Result<()> {
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

    /// An address that nobody had yet.
    pub(super) fn address(&mut self) -> SocketAddrV4 {
        self.next_port += 1;
        let [high, low] = self.next_port.to_be_bytes();
        SocketAddrV4::new(Ipv4Addr::new(10, 77, high, low), self.next_port)
    }
}

/// The look at a run while it goes on.
struct Watch {
    began: Instant,
    wire_before: u64,
    timeout: Duration,
    /// The seeders', where there is more than one leecher.
    sockets: Option<Sockets>,
}

impl Watch {
    /// When the payload began to flow, and when the last leecher was done, both since the beginning.
    fn run(
        &mut self,
        leechers: &mut [Running],
        seeders: &mut [Running],
    ) -> Result<(Duration, Duration)> {
        let began = self.began;
        let mut first = None;
        let (mut stared, mut asked) = (began, began);
        let mut done = vec![false; leechers.len()];
        let pause = LOOK_EVERY * u32::try_from(leechers.len()).unwrap_or(1);
        loop {
            let wire = wire_bytes()?.saturating_sub(self.wire_before);
            if first.is_none() && wire > FIRST_PAYLOAD_BYTES {
                first = Some(began.elapsed());
            }
            if stared.elapsed() >= STARE_EVERY {
                stared = Instant::now();
                usage(seeders)?;
                usage(leechers)?;
            }
            if let Some(sockets) = &mut self.sockets {
                sockets.look()?;
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
                if let Some(sockets) = &mut self.sockets {
                    sockets.look_now()?;
                }
                return Ok((first.unwrap_or(wall), wall));
            }
            if began.elapsed() > self.timeout {
                let all = leechers.iter().chain(seeders.iter());
                let words: Vec<String> = all.map(|running| running.process.obituary()).collect();
                bail!("not done in time: {}", words.join("\n  "));
            }
            std::thread::sleep(pause);
        }
    }
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

fn find_programs(built: &Path, work: &Path) -> Result<Programs> {
    let built = programs::Programs::in_folder(built)?;
    let foreign = programs::target_folder()?.join("interop");
    Ok(Programs {
        tools: interop::tools(built, &foreign, work)?,
        this: std::env::current_exe().context("this program's own path")?,
    })
}

/// An error if a copy is not the source, byte for byte.
pub(super) fn verify(source: &Path, copies: &[PathBuf]) -> Result<()> {
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
pub(super) fn busy() -> Result<Duration> {
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
