//! One swarm from its first process to its last byte compared.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::account;
use super::churn::{self, Claim, Held, Kill, Plan};
use super::live::Live;
use super::node::{Node, Role};
use super::scenario::{Payload, Scenario};
use super::torrent::{Torrent, TorrentFile};
use crate::process::{Line, Process};
use crate::programs::Programs;
use crate::rng::Rng;
use crate::{compare, payload, stop};

/// Between two looks at the processes.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A process asked to stop says goodbye to its tracker and saves its state; that has this long.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// A tracker, or a seeder on data that was just written, must be up within this time.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// What came out.
pub(crate) struct Outcome {
    /// What was asked for.
    pub(crate) scenario: Scenario,
    /// What `bt` says of the torrent.
    pub(crate) torrent: Torrent,
    /// The processes, as they ended.
    pub(crate) nodes: Vec<Node>,
    /// Every kill.
    pub(crate) kills: Vec<Kill>,
    /// From the start of the leechers until the last was done.
    pub(crate) took: Duration,
    /// Name of each leecher whose copy differs, and how.
    pub(crate) different: Vec<(String, Vec<String>)>,
    /// Rules broken on the way.
    pub(crate) complaints: Vec<String>,
}

impl Outcome {
    /// Every copy identical, every rule kept.
    pub(crate) fn is_good(&self) -> bool {
        self.different.is_empty() && self.complaints.is_empty()
    }
}

/// Runs `scenario` with `programs` in a fresh folder below `work`.
pub(crate) fn run(scenario: Scenario, programs: &Programs, work: &Path) -> Result<Outcome> {
    let mut swarm = Swarm::prepare(scenario, programs, work)?;
    let started = Instant::now();
    let result = swarm.download(started);
    if let Some(live) = swarm.live.take() {
        live.finish();
    }
    let took = result?;
    swarm.stop()?;
    swarm.judge(took)
}

struct Swarm {
    scenario: Scenario,
    work: PathBuf,
    source: PathBuf,
    torrent: Torrent,
    nodes: Vec<Node>,
    lines: (Sender<Line>, Receiver<Line>),
    live: Option<Live>,
    deadline: Instant,
    plans: Vec<Plan>,
    restarts: Vec<(Duration, usize)>,
    kills: Vec<Kill>,
    complaints: Vec<String>,
}

impl Swarm {
    /// Data, tracker, torrent and seeders are there; the leechers are not started yet.
    fn prepare(scenario: Scenario, programs: &Programs, work: &Path) -> Result<Self> {
        let deadline = Instant::now() + scenario.timeout;
        let mut rng = Rng::new(scenario.seed);
        let source = make_source(&scenario.payload, work, &mut rng)?;
        let lines = mpsc::channel();
        let mut command = Command::new(&programs.trackerd);
        command.args(["--http", "127.0.0.1:0", "--json"]);
        let tracker = Node::new(Role::Tracker, 0, "tracker".into(), work.into(), command);
        let mut swarm = Self {
            torrent: Torrent::default(),
            scenario,
            work: work.to_owned(),
            source,
            nodes: vec![tracker],
            lines,
            live: None,
            deadline,
            plans: Vec::new(),
            restarts: Vec::new(),
            kills: Vec::new(),
            complaints: Vec::new(),
        };
        swarm.start(0)?;
        swarm.wait_until("the tracker to listen", |nodes| {
            nodes
                .first()
                .is_some_and(|tracker| tracker.announce.is_some())
        })?;
        let file = swarm.make_torrent(programs)?;
        swarm.place_nodes(programs, &file)?;
        for index in 1..swarm.nodes.len() {
            if swarm
                .nodes
                .get(index)
                .is_some_and(|node| node.role == Role::Seeder)
            {
                swarm.start(index)?;
            }
        }
        swarm.wait_until("the seeders to check their data", |nodes| {
            nodes
                .iter()
                .filter(|node| node.role == Role::Seeder)
                .all(Node::is_seeding)
        })?;
        let lasting = swarm
            .scenario
            .time_min(swarm.torrent.total_length)
            .unwrap_or_default();
        let leechers = usize::try_from(swarm.scenario.leechers).unwrap_or(0);
        swarm.plans = churn::plan(
            leechers,
            swarm.scenario.kills_per_leecher,
            lasting,
            &mut rng,
        );
        Ok(swarm)
    }

    /// `bt create`, then `bt show` for what came out.
    fn make_torrent(&mut self, programs: &Programs) -> Result<PathBuf> {
        let file = self.work.join("swarm.torrent");
        let announce = self
            .nodes
            .first()
            .and_then(|tracker| tracker.announce.clone());
        let mut create = Command::new(&programs.bt);
        create
            .arg("create")
            .arg(&self.source)
            .arg("-o")
            .arg(&file)
            .arg("--no-date")
            .arg("-a");
        create.arg(announce.context("the tracker said no announce URL")?);
        if let Some(piece_length) = self.scenario.piece_length {
            create.arg("--piece-length").arg(piece_length.to_string());
        }
        finish("bt create", create, self.deadline)?;
        let mut show = Command::new(&programs.bt);
        show.arg("show").arg(&file).arg("--json");
        let shown = finish("bt show", show, self.deadline)?;
        self.torrent = serde_json::from_str(shown.lines().next().unwrap_or_default())
            .context("`bt show --json` printed something else")?;
        if self.torrent.files.is_empty() {
            let (path, length) = (self.torrent.name.clone(), self.torrent.total_length);
            self.torrent.files.push(TorrentFile { path, length });
        }
        Ok(file)
    }

    /// Says what runs where; starts nothing.
    fn place_nodes(&mut self, programs: &Programs, torrent: &Path) -> Result<()> {
        let common = |verb: &str, folder: &Path, state: &Path| {
            let mut command = Command::new(&programs.bt);
            command.arg(verb).arg(torrent).arg("-d").arg(folder);
            command.args(["--bind", "127.0.0.1", "--port", "0", "--json", "--no-lsd"]);
            if let Some(limit) = self.scenario.up_limit {
                command.arg("--up-limit").arg(limit.to_string());
            }
            // Every process has a home of its own, as on machines of their own.
            command
                .env("HOME", state)
                .env("XDG_STATE_HOME", state.join("state"));
            command
        };
        let mut nodes = Vec::new();
        for number in 1..=self.scenario.seeders {
            let name = format!("seeder-{number}");
            let folder = match (number, self.source.parent()) {
                (1, Some(parent)) => parent.to_owned(),
                _ => self.second_home(&name)?,
            };
            let command = common("seed", &folder, &self.home(&name)?);
            nodes.push((Role::Seeder, name, folder, command));
        }
        for number in 1..=self.scenario.leechers {
            let name = format!("leecher-{number}");
            let folder = self.work.join(&name);
            fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
            let mut command = common("get", &folder, &self.home(&name)?);
            // It goes on uploading until the last one is done, as a good peer does.
            command.arg("--seed");
            nodes.push((Role::Leecher, name, folder, command));
        }
        for (role, name, folder, command) in nodes {
            let number = self.nodes.len();
            self.nodes
                .push(Node::new(role, number, name, folder, command));
        }
        Ok(())
    }

    fn home(&self, name: &str) -> Result<PathBuf> {
        let home = self.work.join("homes").join(name);
        fs::create_dir_all(&home).with_context(|| home.display().to_string())?;
        Ok(home)
    }

    /// Another seeder has the same data in a folder of its own; links cost nothing.
    fn second_home(&self, name: &str) -> Result<PathBuf> {
        let folder = self.work.join(name);
        let top = folder.join(self.source.file_name().context("the source has no name")?);
        for relative in compare::list(&self.source)?.keys() {
            let single = relative.as_os_str().is_empty();
            let (from, to) = if single {
                (self.source.clone(), top.clone())
            } else {
                (self.source.join(relative), top.join(relative))
            };
            fs::create_dir_all(to.parent().unwrap_or(&folder))?;
            if fs::hard_link(&from, &to).is_err() {
                fs::copy(&from, &to).with_context(|| to.display().to_string())?;
            }
        }
        Ok(folder)
    }

    fn start(&mut self, index: usize) -> Result<()> {
        let node = self.nodes.get_mut(index).context("no such node")?;
        node.start(&self.lines.0)
    }

    /// Starts the leechers and waits until each has everything; how long that took.
    fn download(&mut self, started: Instant) -> Result<Duration> {
        let first = 1 + usize::try_from(self.scenario.seeders).unwrap_or(0);
        for index in first..self.nodes.len() {
            self.start(index)?;
        }
        self.live = Some(Live::new(&self.nodes, self.torrent.total_length));
        loop {
            self.look()?;
            let since = started.elapsed();
            self.kill_and_restart(first, since)?;
            let leechers = self.nodes.iter().filter(|node| node.role == Role::Leecher);
            if leechers.clone().all(Node::is_complete) && self.restarts.is_empty() {
                return Ok(since);
            }
            if Instant::now() > self.deadline {
                let late = leechers
                    .filter(|node| !node.is_complete())
                    .map(Node::obituary);
                let late = late.collect::<Vec<_>>().join("\n  ");
                bail!("not done after {:?}:\n  {late}", self.scenario.timeout);
            }
            if let Some(live) = &mut self.live {
                live.show(&self.nodes, self.torrent.total_length, since);
            }
        }
    }

    /// Takes the events that came, and looks whether everybody lives.
    fn look(&mut self) -> Result<()> {
        stop::check()?;
        match self.lines.1.recv_timeout(LOOK_EVERY) {
            Ok(line) => {
                self.take(&line)?;
                self.drain()?;
            }
            // The sender in `self.lines` keeps the channel open.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        for node in &mut self.nodes {
            node.watch()?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        while let Ok(line) = self.lines.1.try_recv() {
            self.take(&line)?;
        }
        Ok(())
    }

    fn take(&mut self, line: &Line) -> Result<()> {
        if let Some(node) = self.nodes.get_mut(line.from) {
            node.take(line)?;
            if let Some((have, _)) = node.lives.last().and_then(|life| life.checked) {
                let mut kills = self.kills.iter_mut().rev();
                if let Some(kill) = kills.find(|kill| kill.name == node.name)
                    && kill.claim == Claim::Awaited
                {
                    kill.claim = Claim::Pieces(have);
                }
            }
        }
        Ok(())
    }

    fn wait_until(&mut self, what: &str, done: impl Fn(&[Node]) -> bool) -> Result<()> {
        let deadline = self.deadline.min(Instant::now() + START_PATIENCE);
        while !done(&self.nodes) {
            self.look()?;
            if Instant::now() > deadline {
                let states: Vec<_> = self.nodes.iter().map(Node::obituary).collect();
                bail!("waited too long for {what}:\n  {}", states.join("\n  "));
            }
        }
        Ok(())
    }

    fn kill_and_restart(&mut self, first_leecher: usize, since: Duration) -> Result<()> {
        while let Some(position) = self.restarts.iter().position(|(at, _)| *at <= since) {
            let (_, index) = self.restarts.swap_remove(position);
            self.start(index)?;
        }
        while let Some(plan) = self.plans.first().copied().filter(|plan| plan.at <= since) {
            self.plans.remove(0);
            let index = first_leecher + plan.leecher;
            if self.nodes.get(index).is_some_and(Node::is_running) {
                self.kill(index, since)?;
                self.restarts.push((since + plan.pause, index));
            }
        }
        Ok(())
    }

    /// Kills one leecher, and looks at what it leaves.
    fn kill(&mut self, index: usize, since: Duration) -> Result<()> {
        let node = self.nodes.get_mut(index).context("no such node")?;
        node.kill()?;
        // What it said before it died belongs to the life that ended.
        let (name, folder) = (node.name.clone(), node.folder.clone());
        self.drain()?;
        let copy = folder.join(self.source.file_name().context("the source has no name")?);
        let held = churn::held(&self.torrent.layout(), &self.source, &copy)?;
        let mut earlier = self.kills.iter_mut().rev().filter(|kill| kill.name == name);
        let before = earlier.next().map_or_else(Held::default, |kill| {
            if kill.claim == Claim::Awaited {
                kill.claim = Claim::KilledFirst;
            }
            kill.held.clone()
        });
        let caught = held.caught_since(&before);
        let node = self.nodes.get_mut(index).context("no such node")?;
        if let Some(life) = node.lives.last_mut() {
            life.gained = held.gained_since(&before);
        }
        if let Some(live) = &self.live {
            live.say(&format!(
                "{:6.1} s  killed {name}: {} of {} pieces on disk, {caught} on their way",
                since.as_secs_f64(),
                held.whole,
                self.torrent.pieces
            ));
        }
        self.kills.push(Kill {
            name,
            held,
            caught,
            claim: Claim::Awaited,
        });
        Ok(())
    }

    /// Stops everybody, the tracker last so that the others can say goodbye to it.
    fn stop(&mut self) -> Result<()> {
        let late = |node: &mut Node| {
            node.wait_for_end(STOP_PATIENCE)
                .err()
                .map(|e| format!("{e:#}"))
        };
        let (tracker, others) = self.nodes.split_first_mut().context("no tracker")?;
        others.iter().for_each(Node::terminate);
        self.complaints.extend(others.iter_mut().filter_map(late));
        tracker.terminate();
        self.complaints.extend(late(tracker));
        self.drain()
    }

    /// Compares every copy, and every account with what it should be.
    fn judge(mut self, took: Duration) -> Result<Outcome> {
        let name = self.source.file_name().context("the source has no name")?;
        let leechers: Vec<&Node> = self
            .nodes
            .iter()
            .filter(|node| node.role == Role::Leecher)
            .collect();
        let copies: Vec<PathBuf> = leechers.iter().map(|node| node.folder.join(name)).collect();
        let verdicts = compare::copies(&self.source, &copies)?;
        let peers = self.scenario.seeders + self.scenario.leechers - 1;
        let waste_max = u64::from(peers) * account::ENDGAME_WASTE_PER_PEER;
        let mut different = Vec::new();
        for (node, verdict) in leechers.iter().zip(verdicts) {
            let mut differences = verdict.differences;
            differences.extend(account::strangers(&node.folder, name)?);
            if !differences.is_empty() {
                different.push((node.name.clone(), differences));
            }
            self.complaints
                .extend(account::overdrawn(node, &self.torrent, waste_max));
        }
        self.complaints
            .extend(self.kills.iter().filter_map(Kill::complaint));
        self.complaints.extend(churn::caught_nothing(
            self.scenario.kills_per_leecher,
            &self.kills,
        ));
        let Self {
            scenario,
            torrent,
            nodes,
            kills,
            complaints,
            ..
        } = self;
        Ok(Outcome {
            scenario,
            torrent,
            nodes,
            kills,
            took,
            different,
            complaints,
        })
    }
}

/// Makes the data, or takes what is there.
fn make_source(payload: &Payload, work: &Path, rng: &mut Rng) -> Result<PathBuf> {
    let folder = work.join("source");
    match payload {
        Payload::Path(path) => path
            .canonicalize()
            .with_context(|| format!("no data at {}", path.display())),
        Payload::File(len) => {
            fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
            let path = folder.join("payload.bin");
            payload::write_file(&path, *len, rng)?;
            Ok(path)
        }
        Payload::Tree(files) => {
            let path = folder.join("tree");
            payload::write_tree(&path, *files, rng)?;
            Ok(path)
        }
    }
}

/// Runs a short command to its end; its stdout, or its last words.
fn finish(name: &str, command: Command, deadline: Instant) -> Result<String> {
    let (sender, lines) = mpsc::channel();
    let mut process = Process::spawn(name, command, 0, sender)?;
    let status = process.wait(deadline.saturating_duration_since(Instant::now()))?;
    if !status.is_some_and(|status| status.success()) {
        bail!("{}", process.obituary());
    }
    Ok(lines.iter().map(|line| line.text + "\n").collect())
}
