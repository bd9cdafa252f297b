//! One cell of the second matrix: two programs meet in one way only, and the data goes from the one to the other.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "what is named differs from all others, also from those to come"
)]

use std::fmt;
use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::capture::Capture;
use super::cell::{self, LOOK_EVERY};
use super::client::{ANYWHERE, Client, Place, Role, Source, Tools, Ways};
use super::feature::{Direction, Feature};
use super::net::Host;
use super::private;
use super::probe::{Nodes, finds, keeps, shakes_hands, succeeds};
use super::scrape;
use super::tracker::Tracker;
use super::wire;
use crate::payload;
use crate::process::Process;
use crate::rng::Rng;

/// A program is ready by then. Transmission needs a minute to trust a DHT.
const READY_PATIENCE: Duration = Duration::from_secs(120);

/// A payload whose every byte is to be captured is no longer.
const CAPTURED_BYTES_MAX: u64 = 1 << 20;

/// One meeting to arrange.
#[derive(Debug, Clone)]
pub(crate) struct Meeting {
    /// How they meet.
    pub(crate) feature: Feature,
    /// Who meets ours.
    pub(crate) foreign: Client,
    /// Which of the two gives.
    pub(crate) direction: Direction,
    folder: PathBuf,
    /// The torrent file.
    torrent: PathBuf,
    /// In hex.
    pub(crate) info_hash: String,
}

impl fmt::Display for Meeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (direction, foreign) = (self.direction.name(), self.foreign.name());
        write!(f, "{} ({direction} {foreign})", self.feature.name())
    }
}

impl Meeting {
    /// Makes data and torrent in a folder of its own below `work`.
    pub(crate) fn prepare(
        (feature, foreign, direction): (Feature, Client, Direction),
        number: u64,
        size: u64,
        work: &Path,
        tools: &Tools,
    ) -> Result<Self> {
        let folder = work.join(format!("meeting{number}"));
        let source = folder.join("source").join(format!("payload {number}"));
        let size = match feature.is_captured() {
            true => size.min(CAPTURED_BYTES_MAX),
            false => size,
        };
        // Not those numbers of the first matrix: no two torrents are alike.
        let mut rng = Rng::new((1 << 32) + number);
        payload::write_tree(&source, cell::SMALL_FILES, &mut rng)?;
        payload::write_file(&source.join("large.bin"), size, &mut rng)?;
        if !foreign.knows_empty_files() {
            cell::remove_empty_files(&source)?;
        }
        let torrent = folder.join("it.torrent");
        let tracker = feature.tracker().map(|(_, url)| url);
        let info_hash = create(&source, &torrent, tracker.as_deref(), size, tools)?;
        Ok(Self {
            feature,
            foreign,
            direction,
            folder,
            torrent,
            info_hash,
        })
    }

    /// Arranges it; how long it took, from when the second program was started.
    pub(crate) fn hold(&self, patience: Duration, tools: &Tools) -> Result<Duration> {
        match self.feature {
            Feature::DhtNode => self.nodes(tools),
            Feature::Scrape => self.scrape(tools),
            Feature::Private => private::hold(&self.folder, tools),
            Feature::Pex => match self.direction {
                Direction::From => self.foreign_tells(patience, tools),
                Direction::To => self.foreign_is_told(patience, tools),
            },
            _ => self.pair(patience, tools),
        }
    }

    fn pair(&self, patience: Duration, tools: &Tools) -> Result<Duration> {
        let (seeder, leecher) = match self.direction {
            Direction::From => (self.foreign, Client::Bt),
            Direction::To => (Client::Bt, self.foreign),
        };
        let dht = match self.feature {
            Feature::LinkDht => Nodes::start(self.foreign, &self.folder, tools)?,
            _ => Nodes::default(),
        };
        let ways = Ways {
            dht: dht.addrs.clone(),
            udp: matches!(
                self.feature,
                Feature::Udp | Feature::UdpOpentracker | Feature::UdpAquatic | Feature::Udp6
            ),
            ipv6: matches!(self.feature, Feature::Udp6 | Feature::Http6),
            lsd: self.feature == Feature::Lsd,
            ..Ways::default()
        };
        let host = Host::new()?;
        let who = (seeder, Role::Seed);
        let mut seeding = self.start(who, "seeder", ways.clone(), &[], &host, tools)?;
        self.until("the seeder is found", &mut seeding, || {
            if !dht.addrs.is_empty() {
                return keeps(&dht.addrs, &self.info_hash, host.ip());
            }
            match self.feature.tracker() {
                Some((tracker, _)) => Ok(tracker.scrape(&self.info_hash)?.0 > 0),
                None => Ok(shakes_hands(host.ip(), &self.info_hash)),
            }
        })?;
        let taking = Host::new()?;
        let captured = self.feature.is_captured();
        let capture = captured.then(|| Capture::begin(&taking.cable()));
        let capture = capture.transpose()?;
        let started = Instant::now();
        let link = self.link(&host);
        let source = match self.feature.by_link() {
            true => Source::Link(&link),
            false => Source::File(&self.torrent),
        };
        let mut leeching = self.start_with(
            (leecher, Role::Leech),
            "leecher",
            source,
            ways,
            &[],
            &taking,
            tools,
        )?;
        let until = started + patience;
        self.follow(leecher, &mut leeching, &[&seeding], "leecher", until)?;
        let took = started.elapsed();
        if let Some(capture) = capture {
            wire::check(
                self.feature,
                seeder == Client::Bt,
                &capture,
                host.ip().into(),
            )?;
        }
        cell::end([leeching, seeding])?;
        cell::end(dht.processes)?;
        Ok(took)
    }

    /// The foreign program seeds at our tracker, and both say what the trackers know.
    fn scrape(&self, tools: &Tools) -> Result<Duration> {
        let host = Host::new()?;
        let who = (self.foreign, Role::Seed);
        let mut seeding = self.start(who, "seeder", Ways::default(), &[], &host, tools)?;
        self.until("the tracker knows the seeder", &mut seeding, || {
            Ok(Tracker::Ours.scrape(&self.info_hash)?.0 > 0)
        })?;
        let took = scrape::compare(&self.torrent, &self.info_hash, tools)?;
        cell::end([seeding])?;
        Ok(took)
    }

    /// A link with the one source of peers that is tried.
    fn link(&self, seeder: &Host) -> String {
        let link = format!("magnet:?xt=urn:btih:{}", self.info_hash);
        if let Some((_, url)) = self.feature.tracker() {
            let escaped = url.replace(':', "%3A").replace('/', "%2F");
            return format!("{link}&tr={escaped}");
        }
        match self.feature {
            Feature::LinkPeer => format!("{link}&x.pe={}:{}", seeder.ip(), ANYWHERE.port()),
            _ => link,
        }
    }

    /// The foreign program's DHT node and ours are of use to each other.
    ///
    /// It announces to our node, and so has found it. Ours pings it, and finds through it what it announced: it tells of our
    /// node. Then our node goes, and ours announces another torrent to the foreign node alone, where a third one finds it.
    fn nodes(&self, tools: &Tools) -> Result<Duration> {
        let started = Instant::now();
        let nodes = Nodes::start(self.foreign, &self.folder, tools)?;
        let asking = nodes.hosts.first().context("no node")?;
        let ways = Ways {
            dht: nodes.addrs.clone(),
            ..Ways::default()
        };
        let host = Host::new()?;
        let role = (self.foreign, Role::Seed);
        let mut seeding = self.start(role, "seeder", ways, &[], &host, tools)?;
        let theirs = SocketAddrV4::new(host.ip(), ANYWHERE.port());
        self.until("our node hears of it", &mut seeding, || {
            keeps(&nodes.addrs, &self.info_hash, host.ip())
        })?;
        let mut ping = Command::new(&tools.bt);
        ping.args(["dht", "ping", &theirs.to_string()]);
        self.until("it answers a ping", &mut seeding, || {
            succeeds(asking, &ping)
        })?;
        self.until("our node is found through it", &mut seeding, || {
            finds(asking, &[theirs], &self.info_hash, host.ip(), tools)
        })?;
        cell::end(nodes.processes)?;

        let other = self.folder.join("other");
        let source = other.join("one file");
        fs::create_dir_all(&other).context("a folder")?;
        fs::write(&source, &self.info_hash).context("a file")?;
        let torrent = other.join("it.torrent");
        let info_hash = create(&source, &torrent, None, 0, tools)?;
        let ours = Host::new()?;
        let place = Place {
            source: Source::File(&torrent),
            data: &other,
            home: &other.join("home"),
            listen: ANYWHERE,
            peers: &[],
            ways: Ways {
                dht: vec![theirs],
                ..Ways::default()
            },
            up_limit: None,
            super_seed: false,
            done: None,
        };
        let announcing = cell::launch(Client::Bt, Role::Seed, &place, &ours, tools)?;
        self.until("it keeps what ours announces", &mut seeding, || {
            keeps(&[theirs], &info_hash, ours.ip())
        })?;
        if !finds(asking, &[theirs], &info_hash, ours.ip(), tools)? {
            bail!("it keeps what ours announced, and ours does not find it there");
        }
        let took = started.elapsed();
        cell::end([announcing, seeding])?;
        Ok(took)
    }

    /// The foreign program has next to nothing and gives less. Our seeder dials it, and our leecher knows it alone; so it
    /// must have told of the seeder.
    fn foreign_tells(&self, patience: Duration, tools: &Tools) -> Result<Duration> {
        let middle = Host::new()?;
        let known = [SocketAddrV4::new(middle.ip(), ANYWHERE.port())];
        let ways = Ways {
            pex: true,
            slow: true,
            ..Ways::default()
        };
        let role = (self.foreign, Role::Leech);
        let mut telling = self.start(role, "middle", ways, &[], &middle, tools)?;
        self.until("it takes connections", &mut telling, || {
            Ok(shakes_hands(middle.ip(), &self.info_hash))
        })?;
        let (seeder, host) = ((Client::Bt, Role::Seed), Host::new()?);
        let seeding = self.start(seeder, "seeder", Ways::default(), &known, &host, tools)?;
        let started = Instant::now();
        let ways = Ways {
            pex: true,
            ..Ways::default()
        };
        let (leecher, host) = ((Client::Bt, Role::Leech), Host::new()?);
        let mut leeching = self.start(leecher, "leecher", ways, &known, &host, tools)?;
        let until = started + patience;
        let others = [&telling, &seeding];
        self.follow(Client::Bt, &mut leeching, &others, "leecher", until)?;
        let took = started.elapsed();
        cell::end([leeching, telling, seeding])?;
        Ok(took)
    }

    /// The same torrent with a tracker in it.
    fn tracked(&self, tools: &Tools) -> Result<PathBuf> {
        let torrent = self.folder.join("tracked.torrent");
        let source = self.source()?;
        let large = fs::metadata(source.join("large.bin")).context("the payload")?;
        let url = Tracker::Ours.announce_url();
        create(&source, &torrent, Some(&url), large.len(), tools)?;
        Ok(torrent)
    }

    /// Ours is in the middle. The foreign leecher learns of it from a tracker that has never heard of the seeder.
    fn foreign_is_told(&self, patience: Duration, tools: &Tools) -> Result<Duration> {
        let tracked = self.tracked(tools)?;
        let host = Host::new()?;
        let known = [SocketAddrV4::new(host.ip(), ANYWHERE.port())];
        let seeder = (Client::Bt, Role::Seed);
        let mut seeding = self.start(seeder, "seeder", Ways::default(), &[], &host, tools)?;
        self.until("the seeder takes connections", &mut seeding, || {
            Ok(shakes_hands(host.ip(), &self.info_hash))
        })?;
        let ways = Ways {
            pex: true,
            slow: true,
            stays: true,
            ..Ways::default()
        };
        let (source, ours) = (Source::File(&tracked), (Client::Bt, Role::Leech));
        let middle = Host::new()?;
        let mut telling = self.start_with(ours, "middle", source, ways, &known, &middle, tools)?;
        self.until("the tracker knows ours in the middle", &mut telling, || {
            Ok(Tracker::Ours.scrape(&self.info_hash)?.1 > 0)
        })?;
        let started = Instant::now();
        let ways = Ways {
            pex: true,
            ..Ways::default()
        };
        let role = (self.foreign, Role::Leech);
        let host = Host::new()?;
        let mut leeching = self.start_with(role, "leecher", source, ways, &[], &host, tools)?;
        let until = started + patience;
        let others = [&telling, &seeding];
        self.follow(self.foreign, &mut leeching, &others, "leecher", until)?;
        let took = started.elapsed();
        cell::end([leeching, telling, seeding])?;
        Ok(took)
    }

    fn source(&self) -> Result<PathBuf> {
        let folder = self.folder.join("source");
        let mut entries = fs::read_dir(&folder).context("the source")?;
        let entry = entries.next().context("an empty source")?;
        Ok(entry.context("the source")?.path())
    }

    fn start(
        &self,
        who: (Client, Role),
        name: &str,
        ways: Ways,
        peers: &[SocketAddrV4],
        host: &Host,
        tools: &Tools,
    ) -> Result<Process> {
        let source = Source::File(&self.torrent);
        self.start_with(who, name, source, ways, peers, host, tools)
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "who, as what, where, told what: one call each"
    )]
    fn start_with(
        &self,
        (client, role): (Client, Role),
        name: &str,
        source: Source<'_>,
        ways: Ways,
        peers: &[SocketAddrV4],
        host: &Host,
        tools: &Tools,
    ) -> Result<Process> {
        let data = match role {
            Role::Seed => self.folder.join("source"),
            Role::Leech => self.folder.join(format!("copy-{name}")),
        };
        fs::create_dir_all(&data).context("a folder for data")?;
        let place = Place {
            source,
            data: &data,
            home: &self.folder.join(name),
            listen: ANYWHERE,
            peers,
            ways,
            up_limit: None,
            super_seed: false,
            done: None,
        };
        cell::launch(client, role, &place, host, tools)
    }

    fn follow(
        &self,
        leecher: Client,
        leeching: &mut Process,
        others: &[&Process],
        name: &str,
        until: Instant,
    ) -> Result<()> {
        let source = self.source()?;
        let copy = self.folder.join(format!("copy-{name}"));
        let copy = copy.join(source.file_name().context("the source's name")?);
        cell::follow(leecher, leeching, others, &source, &copy, until)
    }

    /// Waits for a condition, as long as the program lives.
    fn until(
        &self,
        what: &str,
        process: &mut Process,
        mut holds: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + READY_PATIENCE;
        while !holds()? {
            if process.wait(LOOK_EVERY)?.is_some() || Instant::now() > deadline {
                bail!("not so: {what}; {}", process.obituary());
            }
        }
        Ok(())
    }
}

/// Makes a torrent with ours; its info hash.
fn create(
    source: &Path,
    torrent: &Path,
    tracker: Option<&str>,
    size: u64,
    tools: &Tools,
) -> Result<String> {
    let mut create = Command::new(&tools.bt);
    create.arg("create").arg(source).arg("-o").arg(torrent);
    create.arg(format!("--piece-length={}", cell::piece_length(size)));
    if let Some(url) = tracker {
        create.args(["-a", url]);
    }
    let output = create.output().context("bt create")?;
    if !output.status.success() {
        bail!(
            "bt create: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(super::agree::by_bt(torrent, tools)?.info_hash)
}
