//! How each program is told to share one torrent. A seeder and a leecher are started alike: the one finds its data in the
//! folder, the other finds it empty.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::drive;

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
    /// WebTorrent's library, in Node.
    Webtorrent,
}

/// All programs but ours.
pub(crate) const FOREIGN: [Client; 6] = [
    Client::Libtorrent,
    Client::Transmission,
    Client::Aria2,
    Client::Rtorrent,
    Client::Rqbit,
    Client::Webtorrent,
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
    /// aquatic's tracker, built.
    pub(crate) aquatic_udp: PathBuf,
    /// Node.
    pub(crate) node: PathBuf,
    /// The modules that npm put beside it, WebTorrent's among them.
    pub(crate) node_modules: PathBuf,
    /// `foreign.mjs` of this folder, written out.
    pub(crate) node_script: PathBuf,
}

/// What a program is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Has the data.
    Seed,
    /// Wants it.
    Leech,
}

/// What a program is told of the torrent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// A torrent file.
    File(&'a Path),
    /// A magnet link.
    Link(&'a str),
}

impl Source<'_> {
    /// As an argument.
    pub(crate) fn as_arg(&self) -> &std::ffi::OsStr {
        match self {
            Self::File(path) => path.as_os_str(),
            Self::Link(link) => link.as_ref(),
        }
    }
}

/// How a program finds peers beside its trackers and those it is told of, and what keeps it from sharing all at once.
/// All is off where nothing is said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ways {
    /// It joins the DHT through these nodes.
    pub(crate) dht: Vec<SocketAddrV4>,
    /// It exchanges peers.
    pub(crate) pex: bool,
    /// It looks for peers on the local network.
    pub(crate) lsd: bool,
    /// It asks trackers over UDP; ours always does.
    pub(crate) udp: bool,
    /// It may use IPv6; ours always does.
    pub(crate) ipv6: bool,
    /// It downloads and uploads next to nothing: 1 KiB/s.
    pub(crate) slow: bool,
    /// Ours only: it goes on when it is done.
    pub(crate) stays: bool,
}

/// One program's place in a transfer.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// The torrent.
    pub(crate) source: Source<'a>,
    /// The folder that holds, or receives, the torrent's top.
    pub(crate) data: &'a Path,
    /// For its settings and state; empty.
    pub(crate) home: &'a Path,
    /// Where it listens and dials from.
    pub(crate) listen: SocketAddrV4,
    /// Peers it is told of, if it takes any without a tracker.
    pub(crate) peers: &'a [SocketAddrV4],
    /// How else it finds peers.
    pub(crate) ways: Ways,
    /// Its upload limit in bytes per second.
    pub(crate) up_limit: Option<u64>,
    /// It seeds as BEP 16 has it; ours and libtorrent can.
    pub(crate) super_seed: bool,
    /// A script that it is to run once it has everything. Those that cannot, or do it late, answer requests instead.
    pub(crate) done: Option<&'a Path>,
}

impl Place<'_> {
    /// The address to bind, if it has not the network to itself.
    pub(super) fn bind(&self) -> Option<Ipv4Addr> {
        Some(*self.listen.ip()).filter(|ip| !ip.is_unspecified())
    }

    pub(super) fn port(&self) -> u16 {
        self.listen.port()
    }

    /// The peers as one list with commas.
    pub(super) fn peers(&self) -> String {
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
            Self::Webtorrent => "WebTorrent",
        }
    }

    /// transmission-create 3.00 leaves empty files out of a torrent, and its daemon does not make those a torrent has.
    pub(crate) fn knows_empty_files(self) -> bool {
        self != Self::Transmission
    }

    /// What to start. Encryption and µTP are off: what is tested is how peers meet and the wire protocol, and what is
    /// measured is the way of the bytes.
    pub(crate) fn command(self, role: Role, place: &Place<'_>, tools: &Tools) -> Result<Command> {
        let mut command = match self {
            Self::Bt => drive::bt(role, place, tools),
            Self::Libtorrent => drive::libtorrent(place, tools),
            Self::Transmission => drive::transmission(place)?,
            Self::Aria2 => drive::aria2(role, place),
            Self::Rtorrent => drive::rtorrent(place)?,
            Self::Rqbit => drive::rqbit(place, tools),
            Self::Webtorrent => drive::webtorrent(place, tools),
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
            Self::Webtorrent => Command::new(&tools.node),
        };
        match self {
            Self::Libtorrent => {
                command.args(["-c", "import libtorrent; print(libtorrent.__version__)"])
            }
            Self::Rtorrent => command.arg("-h"),
            Self::Webtorrent => {
                let package = tools.node_modules.join("webtorrent/package.json");
                let print = "console.log(require(process.argv[1]).version)";
                command.args(["-e", print]).arg(package)
            }
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
