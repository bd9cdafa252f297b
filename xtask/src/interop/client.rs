//! How each program is told to share one torrent. A seeder and a leecher are started alike: the one finds its data in the
//! folder, the other finds it empty.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

/// Where rqbit tells how far it is.
pub(crate) const API_PORT: u16 = 3030;

/// Where rtorrent does, below its home: its own event comes a second late.
pub(crate) const RTORRENT_SOCKET: &str = "rpc";

/// Where a program listens that has a network to itself.
pub(crate) const ANYWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 6881);

/// A program that takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Client {
    /// Ours.
    Bt,
    /// rasterbar's library, through its Python package.
    Libtorrent,
    /// transmission-daemon.
    Transmission,
    /// aria2c.
    Aria2,
    /// rtorrent.
    Rtorrent,
    /// rqbit.
    Rqbit,
}

/// All programs but ours.
pub(crate) const FOREIGN: [Client; 5] = [
    Client::Libtorrent,
    Client::Transmission,
    Client::Aria2,
    Client::Rtorrent,
    Client::Rqbit,
];

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// Ours.
    pub(crate) bt: PathBuf,
    /// Our tracker.
    pub(crate) trackerd: PathBuf,
    /// A Python that has libtorrent.
    pub(crate) python: PathBuf,
    /// `foreign.py` of this folder, written out.
    pub(crate) script: PathBuf,
    /// rqbit, built.
    pub(crate) rqbit: PathBuf,
}

/// What a program is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Has the data.
    Seed,
    /// Wants it.
    Leech,
}

/// One program's place in a transfer.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// The torrent file.
    pub(crate) torrent: &'a Path,
    /// The folder that holds, or receives, the torrent's top.
    pub(crate) data: &'a Path,
    /// For its settings and state; empty.
    pub(crate) home: &'a Path,
    /// Where it listens and dials from.
    pub(crate) listen: SocketAddrV4,
    /// Peers it is told of, if it takes any without a tracker.
    pub(crate) peers: &'a [SocketAddrV4],
    /// Its upload limit in bytes per second.
    pub(crate) up_limit: Option<u64>,
    /// It seeds as BEP 16 has it; ours and libtorrent can.
    pub(crate) super_seed: bool,
    /// A script that it is to run once it has everything. Those that cannot, or do it late, answer requests instead.
    pub(crate) done: Option<&'a Path>,
}

impl Place<'_> {
    /// The address to bind, if it has not the network to itself.
    fn bind(&self) -> Option<Ipv4Addr> {
        Some(*self.listen.ip()).filter(|ip| !ip.is_unspecified())
    }

    fn port(&self) -> u16 {
        self.listen.port()
    }

    /// The peers as one list with commas.
    fn peers(&self) -> String {
        let peers: Vec<String> = self.peers.iter().map(ToString::to_string).collect();
        peers.join(",")
    }
}

impl Client {
    /// As the matrix calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bt => "bt",
            Self::Libtorrent => "libtorrent",
            Self::Transmission => "Transmission",
            Self::Aria2 => "aria2",
            Self::Rtorrent => "rtorrent",
            Self::Rqbit => "rqbit",
        }
    }

    /// transmission-create 3.00 leaves empty files out of a torrent, and its daemon does not make those a torrent has.
    pub(crate) fn knows_empty_files(self) -> bool {
        self != Self::Transmission
    }

    /// What to start. Encryption, µTP, DHT and local discovery are off: what is tested is the tracker and the wire
    /// protocol, and what is measured is the way of the bytes.
    pub(crate) fn command(self, role: Role, place: &Place<'_>, tools: &Tools) -> Result<Command> {
        let mut command = match self {
            Self::Bt => bt(role, place, tools),
            Self::Libtorrent => libtorrent(place, tools),
            Self::Transmission => transmission(place)?,
            Self::Aria2 => aria2(role, place),
            Self::Rtorrent => rtorrent(place)?,
            Self::Rqbit => rqbit(place, tools),
        };
        command
            .current_dir(place.home)
            .env("HOME", place.home)
            .env("XDG_STATE_HOME", place.home.join("state"));
        Ok(command)
    }

    /// What tells its version, if it is installed.
    pub(crate) fn version(self, tools: &Tools) -> Option<String> {
        let mut command = match self {
            Self::Bt => Command::new(&tools.bt),
            Self::Libtorrent => Command::new(&tools.python),
            Self::Transmission => Command::new("transmission-daemon"),
            Self::Aria2 => Command::new("aria2c"),
            Self::Rtorrent => Command::new("rtorrent"),
            Self::Rqbit => Command::new(&tools.rqbit),
        };
        match self {
            Self::Libtorrent => {
                command.args(["-c", "import libtorrent; print(libtorrent.__version__)"])
            }
            Self::Rtorrent => command.arg("-h"),
            Self::Bt | Self::Transmission | Self::Aria2 | Self::Rqbit => command.arg("--version"),
        };
        let output = command.output().ok()?;
        let said = [output.stdout, output.stderr].concat();
        version_in(&String::from_utf8_lossy(&said))
    }
}

/// The first word that begins with a digit and has a dot: every program says its version in another sentence.
fn version_in(text: &str) -> Option<String> {
    text.split_ascii_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
        .map(|word| word.trim_end_matches(['.', ',']).to_owned())
}

fn bt(role: Role, place: &Place<'_>, tools: &Tools) -> Command {
    let mut command = Command::new(&tools.bt);
    command
        .arg(if role == Role::Seed { "seed" } else { "get" })
        .arg(place.torrent)
        .arg("-d")
        .arg(place.data)
        .arg("--port")
        .arg(place.port().to_string())
        .args(["--json", "--no-lsd"]);
    if let Some(ip) = place.bind() {
        command.arg("--bind").arg(ip.to_string());
    }
    for peer in place.peers {
        command.arg("--peer").arg(peer.to_string());
    }
    if let Some(limit) = place.up_limit {
        command.arg("--up-limit").arg(limit.to_string());
    }
    if place.super_seed {
        command.arg("--super-seed");
    }
    command
}

fn libtorrent(place: &Place<'_>, tools: &Tools) -> Command {
    let mut command = Command::new(&tools.python);
    command
        .arg(&tools.script)
        .arg("share")
        .arg(place.torrent)
        .arg(place.data)
        .arg(place.listen.to_string())
        .arg(place.peers())
        .args(place.done);
    if let Some(limit) = place.up_limit {
        command.env("UP_LIMIT", limit.to_string());
    }
    if place.super_seed {
        command.env("SUPER_SEED", "1");
    }
    command
}

fn rqbit(place: &Place<'_>, tools: &Tools) -> Command {
    let mut command = Command::new(&tools.rqbit);
    command.args(["-v", "info", "--disable-dht", "--disable-lsd"]);
    command.args(["--disable-upnp-port-forward", "--ipv4-only"]);
    command.arg("--listen-port").arg(place.port().to_string());
    if let Some(ip) = place.bind() {
        command.arg("--listen-ip").arg(ip.to_string());
        let api = SocketAddrV4::new(ip, API_PORT);
        command.arg("--http-api-listen-addr").arg(api.to_string());
    }
    if let Some(limit) = place.up_limit {
        command.arg("--ratelimit-upload").arg(limit.to_string());
    }
    command
        .args(["download", "--overwrite", "-o"])
        .arg(place.data);
    if !place.peers.is_empty() {
        command.arg("--initial-peers").arg(place.peers());
    }
    command.arg(place.torrent);
    command
}

/// The daemon finds the torrent in its watch folder.
fn transmission(place: &Place<'_>) -> Result<Command> {
    let (watch, config) = (place.home.join("watch"), place.home.join("config"));
    fs::create_dir_all(&watch).context("a watch folder")?;
    fs::create_dir_all(&config).context("a settings folder")?;
    fs::copy(place.torrent, watch.join("it.torrent")).context("a torrent to watch")?;
    let mut settings = json!({
        "peer-port": place.port(), "dht-enabled": false, "lpd-enabled": false,
        "pex-enabled": false, "utp-enabled": false, "encryption": 0,
        "port-forwarding-enabled": false, "rpc-enabled": false,
        "download-dir": place.data, "incomplete-dir-enabled": false,
        "start-added-torrents": true, "watch-dir": watch, "watch-dir-enabled": true,
        "trash-original-torrent-files": false, "message-level": 2,
        "speed-limit-up-enabled": place.up_limit.is_some(),
        "speed-limit-up": place.up_limit.unwrap_or(0) / 1000,
        "script-torrent-done-enabled": place.done.is_some(),
        "script-torrent-done-filename": place.done.unwrap_or(Path::new("")),
    });
    if let (Some(ip), Some(settings)) = (place.bind(), settings.as_object_mut()) {
        settings.insert("bind-address-ipv4".to_owned(), json!(ip));
        settings.insert("bind-address-ipv6".to_owned(), json!("::1"));
    }
    fs::write(config.join("settings.json"), settings.to_string()).context("settings")?;
    let mut command = Command::new("transmission-daemon");
    command.args(["--foreground", "--config-dir"]).arg(config);
    Ok(command)
}

fn aria2(role: Role, place: &Place<'_>) -> Command {
    let mut command = Command::new("aria2c");
    command.args([
        "--no-conf",
        "--enable-dht=false",
        "--bt-enable-lpd=false",
        "--enable-peer-exchange=false",
        "--file-allocation=none",
        "--summary-interval=0",
        "--show-console-readout=false",
        "--disable-ipv6=true",
        "--seed-ratio=0",
        "--seed-time=1000",
    ]);
    command
        .arg(format!("--listen-port={}", place.port()))
        .arg(format!("--dir={}", place.data.display()));
    if let Some(ip) = place.bind() {
        command.arg(format!("--interface={ip}"));
    }
    if let Some(limit) = place.up_limit {
        command.arg(format!("--max-overall-upload-limit={limit}"));
    }
    if let Some(script) = place.done {
        command.arg(format!("--on-bt-download-complete={}", script.display()));
    }
    if role == Role::Seed {
        command.arg("--check-integrity=true");
    }
    command.arg(place.torrent);
    command
}

fn rtorrent(place: &Place<'_>) -> Result<Command> {
    let session = place.home.join("session");
    fs::create_dir_all(&session).context("a session folder")?;
    let port = place.port();
    let mut settings = format!(
        "directory.default.set = {}\nsession.path.set = {}\nnetwork.port_range.set = {port}-{port}\n\
         network.port_random.set = no\ndht.mode.set = off\nprotocol.pex.set = no\ntrackers.use_udp.set = no\n\
         protocol.encryption.set = none\nsystem.daemon.set = true\n",
        place.data.display(),
        session.display(),
    );
    if let Some(ip) = place.bind() {
        settings += &format!("network.bind_address.set = {ip}\n");
    }
    if let Some(limit) = place.up_limit {
        settings += &format!("throttle.global_up.max_rate.set_kb = {}\n", limit / 1024);
    }
    if place.done.is_some() {
        let socket = place.home.join(RTORRENT_SOCKET);
        settings += &format!("network.scgi.open_local = {}\n", socket.display());
    }
    settings += &format!("load.start = {}\n", place.torrent.display());
    let file = place.home.join("rtorrent.rc");
    fs::write(&file, settings).context("settings")?;
    let mut command = Command::new("rtorrent");
    command
        .arg("-n")
        .arg("-o")
        .arg(format!("import={}", file.display()))
        .env("TERM", "xterm");
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn versions_are_found_in_every_sentence() {
        let rows = [
            ("transmission-daemon 3.00 (bb6b5a062e)", Some("3.00")),
            (
                "aria2 version 1.36.0\nCopyright (C) 2006, 2019",
                Some("1.36.0"),
            ),
            (
                "Rakshasa's BitTorrent client version 0.9.8.\n",
                Some("0.9.8"),
            ),
            ("rqbit 9.1.0", Some("9.1.0")),
            ("2.1.1.0\n", Some("2.1.1.0")),
            ("nothing", None),
        ];
        for (text, expected) in rows {
            assert_eq!(version_in(text).as_deref(), expected, "{text}");
        }
    }
}
