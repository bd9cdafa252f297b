//! One transfer of the matrix: one program seeds, another downloads, and this one compares.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client::{ANYWHERE, Client, Place, Role, Source, Tools, Ways};
use super::net::Host;
use super::tracker::Tracker;
use crate::process::Process;
use crate::rng::Rng;
use crate::{compare, payload};

/// A seeder has checked a small payload and told its tracker by then. Transmission is the slowest: it looks into its watch
/// folder every ten seconds where it cannot be woken.
const SEED_PATIENCE: Duration = Duration::from_secs(40);

/// Between two looks at the leecher's folder.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A program asked to stop has this long before it is killed; how it ends is no part of the matrix. Ours has as long to end
/// by itself when it is done.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// Small files of a payload: an empty one, deep folders and many scripts among them.
pub(super) const SMALL_FILES: u32 = 60;

/// One transfer to make.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    /// Who has the data.
    pub(crate) seeder: Client,
    /// Who wants it.
    pub(crate) leecher: Client,
    /// Through which tracker they meet.
    pub(crate) tracker: Tracker,
    /// Its place in the list; no two share one.
    pub(crate) number: u16,
    folder: PathBuf,
}

/// A torrent made for a cell.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    /// The cell.
    pub(crate) cell: Cell,
    /// The torrent file.
    pub(crate) torrent: PathBuf,
    /// Who made it.
    pub(crate) maker: &'static str,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seeder, leecher) = (self.seeder.name(), self.leecher.name());
        write!(f, "{seeder} → {leecher} over {}", self.tracker.name())
    }
}

impl Cell {
    /// A transfer with a folder of its own below `work`.
    pub(crate) fn new(
        seeder: Client,
        leecher: Client,
        tracker: Tracker,
        number: u16,
        work: &Path,
    ) -> Self {
        Self {
            seeder,
            leecher,
            tracker,
            number,
            folder: work.join(format!("cell{number}")),
        }
    }

    /// Makes the data, and a torrent of it with the seeder's own tool where it has one.
    pub(crate) fn prepare(self, size: u64, tools: &Tools) -> Result<Prepared> {
        let source = self.source();
        let mut rng = Rng::new(u64::from(self.number));
        payload::write_tree(&source, SMALL_FILES, &mut rng)?;
        payload::write_file(&source.join("large.bin"), size, &mut rng)?;
        if !(self.seeder.knows_empty_files() && self.leecher.knows_empty_files()) {
            remove_empty_files(&source)?;
        }
        let torrent = self.folder.join("it.torrent");
        let (announce, piece) = (self.tracker.announce_url(), piece_length(size));
        let (maker, mut command) = match self.seeder {
            Client::Bt => ("bt create", Command::new(&tools.bt)),
            Client::Transmission => ("transmission-create", Command::new("transmission-create")),
            Client::Libtorrent
            | Client::Aria2
            | Client::Rtorrent
            | Client::Rqbit
            | Client::Webtorrent => ("libtorrent", Command::new(&tools.python)),
        };
        match maker {
            "bt create" => {
                command
                    .arg("create")
                    .arg(&source)
                    .arg("-o")
                    .arg(&torrent)
                    .arg("-a")
                    .arg(announce);
                command.arg("--piece-length").arg(piece.to_string());
            }
            "transmission-create" => {
                let kib = (piece / 1024).to_string();
                command
                    .arg("-o")
                    .arg(&torrent)
                    .args(["-t", &announce, "-s", &kib])
                    .arg(&source);
            }
            _ => {
                command
                    .arg(&tools.script)
                    .arg("create")
                    .args([&source, &torrent]);
                command.arg(announce).arg(piece.to_string());
            }
        }
        let output = command.output().with_context(|| maker.to_owned())?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            bail!("{maker}: {}", String::from_utf8_lossy(&said).trim());
        }
        Ok(Prepared {
            cell: self,
            torrent,
            maker,
        })
    }

    fn source(&self) -> PathBuf {
        self.folder
            .join("source")
            .join(format!("payload {}", self.number))
    }
}

impl Prepared {
    /// Makes the transfer; how long the leecher took. Everything started here has ended on return.
    pub(crate) fn transfer(
        &self,
        info_hash: &str,
        patience: Duration,
        tools: &Tools,
    ) -> Result<Duration> {
        let Cell {
            seeder,
            leecher,
            tracker,
            folder,
            ..
        } = &self.cell;
        let source = self.cell.source();
        let have = source.parent().context("the source's folder")?.to_owned();
        let want = folder.join("copy");
        fs::create_dir_all(&want).context("a folder for the copy")?;
        let copy = want.join(source.file_name().context("the source's name")?);

        let mut seeding = self.start(*seeder, Role::Seed, &have, tools)?;
        let deadline = Instant::now() + SEED_PATIENCE;
        while tracker.scrape(info_hash)?.0 == 0 {
            if seeding.wait(LOOK_EVERY)?.is_some() || Instant::now() > deadline {
                bail!(
                    "{} does not tell the tracker that it seeds: {}",
                    seeder.name(),
                    seeding.obituary()
                );
            }
        }
        let started = Instant::now();
        let mut leeching = self.start(*leecher, Role::Leech, &want, tools)?;
        let until = started + patience;
        follow(*leecher, &mut leeching, &[&seeding], &source, &copy, until)?;
        let took = started.elapsed();
        end([leeching, seeding])?;
        Ok(took)
    }

    fn start(&self, client: Client, role: Role, data: &Path, tools: &Tools) -> Result<Process> {
        let home = self.cell.folder.join(if role == Role::Seed {
            "seeder"
        } else {
            "leecher"
        });
        let place = Place {
            source: Source::File(&self.torrent),
            data,
            home: &home,
            listen: ANYWHERE,
            peers: &[],
            ways: Ways::default(),
            up_limit: None,
            super_seed: false,
            done: None,
        };
        launch(client, role, &place, &Host::new()?, tools)
    }
}

/// Starts a program on a host.
pub(super) fn launch(
    client: Client,
    role: Role,
    place: &Place<'_>,
    host: &Host,
    tools: &Tools,
) -> Result<Process> {
    fs::create_dir_all(place.home).context("a home")?;
    let mut command = client.command(role, place, tools)?;
    // When a transfer fails, the last words of ours tell why it left whom.
    command.env("RUST_LOG", "bt_session=debug");
    let command = host.inside(&command);
    let (lines, _) = mpsc::channel();
    Process::spawn(client.name(), command, 0, lines)
}

/// Waits until the leecher's copy is the source, byte for byte. Ours must then end well, unless it was told to stay.
pub(super) fn follow(
    leecher: Client,
    leeching: &mut Process,
    others: &[&Process],
    source: &Path,
    copy: &Path,
    until: Instant,
) -> Result<()> {
    let obituaries = |leeching: &Process| {
        let all = std::iter::once(leeching).chain(others.iter().copied());
        let all: Vec<String> = all.map(Process::obituary).collect();
        all.join("\n  ")
    };
    let mut differences = vec!["nothing arrived".to_owned()];
    while !differences.is_empty() {
        if Instant::now() > until {
            bail!(
                "too late: {}\n  {}",
                differences.join("; "),
                obituaries(leeching)
            );
        }
        // Ours ends when it is done, and must say so; others go on.
        let ended = leeching.wait(LOOK_EVERY)?;
        if ended.is_some_and(|status| !status.success()) {
            bail!("{}", obituaries(leeching));
        }
        differences = compare::copies(source, &[copy.to_owned()])?
            .pop()
            .map_or_else(Vec::new, |verdict| verdict.differences);
        if ended.is_some() && !differences.is_empty() {
            bail!(
                "ended too early: {}\n  {}",
                differences.join("; "),
                leeching.obituary()
            );
        }
    }
    if leecher == Client::Bt
        && leeching
            .wait(STOP_PATIENCE)?
            .is_none_or(|end| !end.success())
    {
        bail!("has every byte and does not end: {}", leeching.obituary());
    }
    Ok(())
}

/// Asks all of them to stop, and sees to it.
pub(super) fn end(processes: impl IntoIterator<Item = Process>) -> Result<()> {
    let mut processes: Vec<Process> = processes.into_iter().collect();
    for process in &mut processes {
        process.poll()?;
        process.terminate();
    }
    for process in &mut processes {
        process.wait(STOP_PATIENCE)?;
    }
    Ok(())
}

pub(super) fn remove_empty_files(source: &Path) -> Result<()> {
    for (path, _) in compare::list(source)?
        .iter()
        .filter(|(_, length)| **length == 0)
    {
        fs::remove_file(source.join(path)).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// A hundred pieces or so: enough that pieces come in another order than they lie.
pub(super) fn piece_length(size: u64) -> u64 {
    (size / 100).next_power_of_two().clamp(16 << 10, 4 << 20)
}
