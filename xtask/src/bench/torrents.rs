//! `cargo xtask bench torrents`: what it takes one process to seed thousands of torrents that nobody asks for.
//!
//! Every torrent is one file of one block. A client is started twice: the first time it is given all of them, the second
//! time it knows them, and then it is left alone and watched.

mod report;

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha1::{Digest, Sha1};

use super::data::SMALL_BYTES;
use super::stage;
use crate::interop::client::{API_PORT, Client, Tools};
use crate::process::{Line, Process, cpu_time};
use crate::rng::Rng;
use report::Sample;

/// Where every client listens: each has the network to itself while it runs.
const LISTEN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 1, 1), 6881);

/// The clients that can seed thousands, ours first.
const CLIENTS: [Client; 4] = [
    Client::Bt,
    Client::Libtorrent,
    Client::Transmission,
    Client::Rqbit,
];

/// All torrents are added and found complete by then.
const READY_PATIENCE: Duration = Duration::from_secs(300);

/// A client has said goodbye and saved its state by then.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// Between readiness and the look at an idle process: what follows a start shall be over.
const SETTLE: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many torrents; each count is a case of its own
    #[arg(long, value_delimiter = ',', default_value = "1000")]
    count: Vec<u32>,
    /// How often each client is measured
    #[arg(long, default_value_t = 1)]
    runs: u32,
    /// Only these, of those that are installed
    #[arg(long, value_enum, value_delimiter = ',')]
    clients: Vec<Client>,
    /// How many seconds an idle process is watched
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    idle: u64,
    #[command(flatten)]
    common: stage::Common,
}

/// Measures and prints; an error if a client did not get as far as to seed all.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Some(stage) = args.common.stage()? else {
        return Ok(());
    };
    let tools = &stage.programs.tools;
    let clients = clients(args, tools);
    let mut samples = Vec::new();
    let mut failed = 0;
    for count in &args.count {
        let torrents = Torrents::make(stage.work.path(), *count)?;
        for run in 1..=args.runs {
            for client in &clients {
                let home = stage.work.path().join("home");
                let seat = Seat {
                    client: *client,
                    tools,
                    home: &home,
                    torrents: &torrents,
                };
                match seat.measure(Duration::from_secs(args.idle)) {
                    Ok(sample) => {
                        eprintln!("{run} {}", sample.line());
                        if args.common.json {
                            println!("{}", sample.json());
                        }
                        samples.push(sample);
                    }
                    Err(error) => {
                        failed += 1;
                        eprintln!("{run} {} with {count} torrents: {error:#}", client.name());
                    }
                }
                if home.exists() {
                    fs::remove_dir_all(&home).context("removing a home")?;
                }
            }
        }
    }
    if !args.common.json {
        print!("{}", report::tables(&samples));
        for client in &clients {
            let version = client.version(tools).unwrap_or_default();
            println!("{} {version}", client.name());
        }
    }
    if failed > 0 {
        bail!("{failed} runs failed");
    }
    Ok(())
}

/// Those that are wanted and here; the others are named on stderr.
fn clients(args: &Args, tools: &Tools) -> Vec<Client> {
    let wanted = |client: &Client| args.clients.is_empty() || args.clients.contains(client);
    let is_here = |client: &Client| {
        let here = client.version(tools).is_some();
        if !here {
            let name = client.name();
            eprintln!("{name} is not installed: `cargo xtask interop --install`");
        }
        here
    };
    CLIENTS
        .into_iter()
        .filter(|it| wanted(it) && is_here(it))
        .collect()
}

/// The torrents and their data.
struct Torrents {
    /// The folder of the `.torrent` files, and nothing else.
    files: PathBuf,
    /// The folder of the data.
    data: PathBuf,
    count: u32,
}

impl Torrents {
    fn make(work: &Path, count: u32) -> Result<Self> {
        let it = Self {
            files: work.join(format!("{count}-t")),
            data: work.join(format!("{count}-d")),
            count,
        };
        fs::create_dir_all(&it.files).context("a folder for torrents")?;
        fs::create_dir_all(&it.data).context("a folder for data")?;
        let mut rng = Rng::new(u64::from(count));
        let mut bytes = vec![0; usize::try_from(SMALL_BYTES)?];
        for index in 0..count {
            let name = format!("f{index:06}.bin");
            rng.fill(&mut bytes);
            fs::write(it.data.join(&name), &bytes).context("data")?;
            let torrent = metainfo(&name, &bytes);
            fs::write(it.files.join(format!("{name}.torrent")), torrent).context("a torrent")?;
        }
        Ok(it)
    }

    /// The `.torrent` files in order.
    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        (0..self.count).map(|index| self.files.join(format!("f{index:06}.bin.torrent")))
    }
}

/// The metainfo file of a torrent that is one file of one piece, without trackers.
fn metainfo(name: &str, bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len();
    let head = format!(
        "d4:infod6:lengthi{length}e4:name{}:{name}12:piece lengthi{length}e6:pieces20:",
        name.len()
    );
    [head.as_bytes(), &Sha1::digest(bytes), b"ee"].concat()
}

/// A client and its place.
struct Seat<'a> {
    client: Client,
    tools: &'a Tools,
    home: &'a Path,
    torrents: &'a Torrents,
}

impl Seat<'_> {
    fn measure(&self, idle: Duration) -> Result<Sample> {
        fs::create_dir_all(self.home).context("a home")?;
        let add = self.start(true)?;
        let (added, add_cpu) = (add.took, add.cpu()?);
        let stopped = add.stop()?;
        let mut again = self.start(false)?;
        let (restarted, restart_cpu) = (again.took, again.cpu()?);
        std::thread::sleep(SETTLE);
        let look = Look::of(again.process.id())?;
        let (before, busy_before) = (again.cpu()?, stage::busy()?);
        std::thread::sleep(idle);
        let idle_cpu = again.cpu()?.saturating_sub(before);
        let others = stage::busy()?.saturating_sub(busy_before);
        again.process.kill()?;
        Ok(Sample {
            client: self.client,
            count: self.torrents.count,
            added,
            add_cpu,
            stopped,
            restarted,
            restart_cpu,
            resident_bytes: look.resident_bytes,
            open_files: look.open_files,
            threads: look.threads,
            idle,
            idle_cpu,
            others: others.saturating_sub(idle_cpu).as_secs_f64() / idle.as_secs_f64().max(0.001),
        })
    }

    /// Starts the client, and returns when it seeds all torrents.
    fn start(&self, first: bool) -> Result<Running> {
        let mut command = self.command()?;
        command
            .current_dir(self.home)
            .env("HOME", self.home)
            .env("XDG_STATE_HOME", self.home.join("state"));
        let (sender, lines) = channel();
        let began = Instant::now();
        let process = Process::spawn(self.client.name(), command, 0, sender)?;
        let mut running = Running {
            process,
            took: Duration::ZERO,
            lines,
        };
        let ready = match self.client {
            Client::Bt => running.wait_for("\"event\":\"complete\"", self.torrents.count)?,
            Client::Libtorrent => running.wait_for("ready", 1)?,
            Client::Transmission
            | Client::Rqbit
            | Client::Aria2
            | Client::Rtorrent
            | Client::Webtorrent => self.fill(&mut running, first)?,
        };
        running.took = ready.saturating_duration_since(began);
        Ok(running)
    }

    /// What to start. No DHT, no discovery, no trackers: what is measured is what torrents cost.
    fn command(&self) -> Result<Command> {
        let Torrents { files, data, .. } = self.torrents;
        let (ip, port) = (LISTEN.ip().to_string(), LISTEN.port().to_string());
        let mut command;
        match self.client {
            Client::Bt => {
                command = Command::new(&self.tools.bt);
                command.args(["seed", "--json", "--no-dht", "--no-lsd"]);
                command.args(["--bind", &ip, "--port", &port, "-d"]);
                command.arg(data).args(self.torrents.paths());
            }
            Client::Libtorrent => {
                command = Command::new(&self.tools.python);
                command.arg(&self.tools.script).arg("many");
                command.args([files, data]).arg(LISTEN.to_string());
            }
            Client::Transmission => {
                let config = self.home.join("config");
                fs::create_dir_all(&config).context("a settings folder")?;
                let settings = json!({
                    "bind-address-ipv4": ip, "peer-port": LISTEN.port(), "dht-enabled": false,
                    "lpd-enabled": false, "pex-enabled": false, "utp-enabled": false,
                    "port-forwarding-enabled": false, "rpc-enabled": true, "rpc-port": API_PORT,
                    "rpc-bind-address": ip, "rpc-whitelist-enabled": false,
                    "rpc-host-whitelist-enabled": false, "download-dir": data,
                    "start-added-torrents": true, "download-queue-enabled": false,
                    "seed-queue-enabled": false, "message-level": 1,
                });
                fs::write(config.join("settings.json"), settings.to_string())
                    .context("settings")?;
                command = Command::new("transmission-daemon");
                command.args(["--foreground", "--config-dir"]).arg(config);
            }
            Client::Rqbit => {
                command = Command::new(&self.tools.rqbit);
                command.args([
                    "-v",
                    "error",
                    "--disable-upnp-port-forward",
                    "--disable-dht",
                ]);
                command.args(["--disable-lsd", "--ipv4-only", "--listen-ip", &ip]);
                command.args(["--listen-port", &port, "--http-api-listen-addr"]);
                command.arg(SocketAddrV4::new(*LISTEN.ip(), API_PORT).to_string());
                command.args(["server", "start", "--fastresume", "--persistence-location"]);
                command.arg(self.home.join("state")).arg(data);
            }
            Client::Aria2 | Client::Rtorrent | Client::Webtorrent => {
                bail!("no load for {}", self.client.name())
            }
        }
        Ok(command)
    }

    /// Gives a daemon its torrents, if it does not know them yet, and waits until it seeds them. Returns when that was.
    fn fill(&self, running: &mut Running, first: bool) -> Result<Instant> {
        let mut command = Command::new(&self.tools.python);
        command.arg(&self.tools.script).arg("fill");
        command.arg(self.client.name().to_lowercase());
        command.arg(format!("http://{}:{API_PORT}", LISTEN.ip()));
        command.arg(self.torrents.count.to_string());
        if first {
            command.args([&self.torrents.files, &self.torrents.data]);
        }
        let (sender, _unheard) = channel();
        let mut helper = Process::spawn("its helper", command, 0, sender)?;
        let deadline = Instant::now() + READY_PATIENCE;
        while !helper.has_ended_well()? {
            running.check(deadline)?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Instant::now())
    }
}

/// A client that seeds all torrents, or is on the way there.
struct Running {
    process: Process,
    /// From its start until it seeded all.
    took: Duration,
    lines: Receiver<Line>,
}

impl Running {
    /// Returns when so many lines with this text had been printed.
    fn wait_for(&mut self, text: &str, count: u32) -> Result<Instant> {
        let deadline = Instant::now() + READY_PATIENCE;
        let mut seen = 0;
        loop {
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) if line.text.contains(text) => {
                    seen += 1;
                    if seen == count {
                        return Ok(line.at);
                    }
                }
                Ok(_) => {}
                Err(_) => self.check(deadline)?,
            }
        }
    }

    /// An error if it has ended, or it is too late.
    fn check(&mut self, deadline: Instant) -> Result<()> {
        crate::stop::check()?;
        if self.process.has_ended()? || Instant::now() > deadline {
            self.process.poll()?;
            bail!("does not seed all: {}", self.process.obituary());
        }
        Ok(())
    }

    /// The CPU time that it has used.
    fn cpu(&self) -> Result<Duration> {
        cpu_time(self.process.id()).context("no CPU time of a process that runs")
    }

    /// Stops it and returns how long that took.
    fn stop(mut self) -> Result<Duration> {
        let began = Instant::now();
        self.process.terminate();
        if self.process.wait(STOP_PATIENCE)?.is_none() {
            bail!("does not stop: {}", self.process.obituary());
        }
        Ok(began.elapsed())
    }
}

/// What a process holds.
struct Look {
    resident_bytes: u64,
    open_files: usize,
    threads: u64,
}

impl Look {
    fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("its status")?;
        let number = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        };
        let open_files = fs::read_dir(format!("/proc/{pid}/fd")).context("its files")?;
        Ok(Self {
            resident_bytes: number("VmRSS:").context("no VmRSS")? << 10,
            open_files: open_files.count(),
            threads: number("Threads:").context("no Threads")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torrent_is_sorted_and_names_its_piece() {
        let torrent = metainfo("a", b"bytes");
        let text = String::from_utf8_lossy(&torrent);
        assert!(text.starts_with("d4:infod6:lengthi5e4:name1:a12:piece lengthi5e6:pieces20:"));
        assert!(torrent.ends_with(b"ee"));
        let hash = torrent.get(torrent.len() - 22..torrent.len() - 2);
        assert_eq!(hash, Some(&Sha1::digest(b"bytes")[..]));
    }
}
