//! Who takes part in a measured transfer, and how each is started, found ready, and found done.

use std::io::{Read, Write};
use std::net::SocketAddrV4;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::http;
use crate::interop::client::{API_PORT, Client, Place, RTORRENT_SOCKET, Role, Source, Tools, Ways};
use crate::process::{Line, Process};

/// One side of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Party {
    /// The floor, which reads its file into a buffer
    Floor,
    /// The floor, which sends from a mapping of its file
    FloorMapped,
    /// Ours
    Bt,
    /// rasterbar's library, through its Python package
    Libtorrent,
    /// transmission-daemon
    Transmission,
    /// aria2c
    Aria2,
    /// rtorrent
    Rtorrent,
    /// rqbit
    Rqbit,
}

/// Everybody.
pub(crate) const ALL: [Party; 8] = [
    Party::Floor,
    Party::FloorMapped,
    Party::Bt,
    Party::Libtorrent,
    Party::Rtorrent,
    Party::Rqbit,
    Party::Aria2,
    Party::Transmission,
];

/// The fastest foreign ones, which are measured against ours in both directions too.
pub(crate) const RIVALS: [Party; 3] = [Party::Libtorrent, Party::Rtorrent, Party::Rqbit];

/// How long rtorrent may take to answer; it is single-threaded and busy.
const RTORRENT_PATIENCE: Duration = Duration::from_secs(5);

/// Its answer is a few hundred bytes.
const RTORRENT_ANSWER_MAX: u64 = 64 << 10;

/// Ours says goodbye to its tracker and saves its state within this time.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Where the programs are.
#[derive(Debug)]
pub(crate) struct Programs {
    /// The clients.
    pub(crate) tools: Tools,
    /// This program, which is also the floor.
    pub(crate) this: PathBuf,
}

/// What is shared.
#[derive(Debug)]
pub(crate) struct Payload {
    /// The file or folder.
    pub(crate) source: PathBuf,
    /// Of it.
    pub(crate) torrent: PathBuf,
    /// In bytes.
    pub(crate) length: u64,
    /// In bytes.
    pub(crate) piece_length: u64,
    /// How many files.
    pub(crate) files: u32,
}

/// What a program is told beside what it shares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Terms {
    /// Its upload limit in bytes per second.
    pub(crate) up_limit: Option<u64>,
    /// A seeder seeds as BEP 16 has it.
    pub(crate) super_seed: bool,
}

/// What a process said of itself at its end; nothing of those that are not ours.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Words {
    /// Payload bytes sent.
    pub(crate) uploaded: Option<u64>,
    /// Payload bytes received in vain.
    pub(crate) wasted: Option<u64>,
}

/// One process to be, and where it is to live.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Who.
    pub(crate) party: Party,
    /// Has the data, or wants it.
    pub(crate) role: Role,
    /// Where it listens and dials from.
    pub(crate) listen: SocketAddrV4,
    /// Whom it is told of.
    pub(crate) peers: Vec<SocketAddrV4>,
    /// Holds, or receives, the data.
    pub(crate) data: PathBuf,
    /// For settings and state.
    pub(crate) home: PathBuf,
    /// Whether it goes on to seed once it is done.
    pub(crate) stays: bool,
    /// The link that it is given instead of the torrent.
    pub(crate) link: Option<String>,
    /// What else it is told.
    pub(crate) terms: Terms,
}

/// A process that takes part.
pub(crate) struct Running {
    /// It.
    pub(crate) process: Process,
    seat: Seat,
    /// What it printed so far.
    printed: Vec<Line>,
    lines: Receiver<Line>,
}

impl Party {
    /// As the tables call it.
    pub(crate) fn name(self) -> &'static str {
        match self.client() {
            Some(client) => client.name(),
            None if self == Self::Floor => "floor",
            None => "floor, mapped",
        }
    }

    /// The client, unless it is the floor.
    pub(crate) const fn client(self) -> Option<Client> {
        Some(match self {
            Self::Floor | Self::FloorMapped => return None,
            Self::Bt => Client::Bt,
            Self::Libtorrent => Client::Libtorrent,
            Self::Transmission => Client::Transmission,
            Self::Aria2 => Client::Aria2,
            Self::Rtorrent => Client::Rtorrent,
            Self::Rqbit => Client::Rqbit,
        })
    }

    /// Whether it can seed as BEP 16 has it.
    pub(crate) fn can_super_seed(self, programs: &Programs) -> Result<bool> {
        if self != Self::Bt {
            return Ok(self == Self::Libtorrent);
        }
        let mut command = Command::new(&programs.tools.bt);
        let output = command.args(["seed", "--help"]).output();
        let text = output.context("bt seed --help")?.stdout;
        Ok(String::from_utf8_lossy(&text).contains("--super-seed"))
    }

    /// Its version, if it is here.
    pub(crate) fn version(self, programs: &Programs) -> Option<String> {
        match self.client() {
            Some(client) => client.version(&programs.tools),
            None => Some(String::new()),
        }
    }
}

impl Seat {
    /// Starts the process.
    pub(crate) fn start(self, payload: &Payload, programs: &Programs) -> Result<Running> {
        std::fs::create_dir_all(&self.home).context("a home")?;
        std::fs::create_dir_all(&self.data).context("a folder for data")?;
        let command = match self.party.client() {
            None => self.floor(payload, programs)?,
            Some(client) => self.client(client, payload, programs)?,
        };
        let (sender, lines) = std::sync::mpsc::channel();
        let process = Process::spawn(self.party.name(), command, 0, sender)?;
        Ok(Running {
            process,
            seat: self,
            printed: Vec::new(),
            lines,
        })
    }

    fn floor(&self, payload: &Payload, programs: &Programs) -> Result<Command> {
        let mut command = Command::new(&programs.this);
        if self.role == Role::Seed {
            command.args(["bench", "floor-send"]).arg(&payload.source);
            command.arg(self.listen.to_string());
            if self.party == Party::FloorMapped {
                command.arg("--mapped");
            }
            return Ok(command);
        }
        let from = self.peers.first().context("nobody to receive from")?;
        let name = payload.source.file_name().context("a name")?;
        command.args(["bench", "floor-receive"]);
        command.arg(self.data.join(name)).arg(from.to_string());
        command.arg(payload.length.to_string());
        command.arg(payload.piece_length.to_string());
        Ok(command)
    }

    fn client(&self, client: Client, payload: &Payload, programs: &Programs) -> Result<Command> {
        let script = self.home.join("done.sh");
        let text = format!("#!/bin/sh\n: > '{}'\n", self.flag().display());
        std::fs::write(&script, text).context("a script")?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))
            .context("a script")?;
        let place = Place {
            source: match &self.link {
                Some(link) => Source::Link(link),
                None => Source::File(&payload.torrent),
            },
            data: &self.data,
            home: &self.home,
            listen: self.listen,
            peers: &self.peers,
            ways: Ways {
                stays: self.stays,
                ..Ways::default()
            },
            up_limit: self.terms.up_limit,
            super_seed: self.terms.super_seed && self.role == Role::Seed,
            done: (self.role == Role::Leech).then_some(script.as_path()),
        };
        client.command(self.role, &place, &programs.tools)
    }

    /// A file that stands for "done".
    fn flag(&self) -> PathBuf {
        self.home.join("done")
    }
}

impl Running {
    /// Whether it listens, of one whom no tracker hears of.
    pub(crate) fn listens_without_tracker(&mut self) -> bool {
        self.seat.party.client().is_none() && self.has_printed("listening")
    }

    /// Whether it has everything, verified and written.
    pub(crate) fn is_done(&mut self) -> Result<bool> {
        let done = match self.seat.party {
            Party::Bt if self.seat.stays => self.has_printed("\"event\":\"complete\""),
            Party::Floor | Party::FloorMapped | Party::Bt => {
                return self.process.has_ended_well();
            }
            Party::Rtorrent => rtorrent_is_complete(&self.seat.home.join(RTORRENT_SOCKET)),
            Party::Libtorrent | Party::Transmission | Party::Aria2 => self.seat.flag().exists(),
            Party::Rqbit => {
                let api = SocketAddrV4::new(*self.seat.listen.ip(), API_PORT);
                // It does not answer before it is up.
                http::fetch(api.into(), "/torrents/0/stats/v1")
                    .is_ok_and(|body| String::from_utf8_lossy(&body).contains("\"finished\":true"))
            }
        };
        if !done && self.process.has_ended()? {
            self.process.poll()?;
            bail!("{}", self.process.obituary());
        }
        Ok(done)
    }

    /// When it had the metadata of its link, if it has and tells.
    pub(crate) fn metadata_since(&mut self, began: Instant) -> Result<Option<Duration>> {
        let said = match self.seat.party {
            Party::Bt => "\"event\":\"metadata\"",
            Party::Libtorrent => "metadata",
            Party::Rqbit => {
                let api = SocketAddrV4::new(*self.seat.listen.ip(), API_PORT);
                let known = http::fetch(api.into(), "/torrents/0/stats/v1")
                    .is_ok_and(|body| String::from_utf8_lossy(&body).contains("total_bytes"));
                return Ok(known.then(|| began.elapsed()));
            }
            Party::Floor
            | Party::FloorMapped
            | Party::Transmission
            | Party::Aria2
            | Party::Rtorrent => return Ok(None),
        };
        self.take_lines();
        let line = self.printed.iter().find(|line| line.text.contains(said));
        Ok(line.map(|line| line.at.saturating_duration_since(began)))
    }

    /// How often it can be asked whether it is done without getting in its way.
    pub(crate) const fn asked_by_request(&self) -> bool {
        matches!(self.seat.party, Party::Rqbit | Party::Rtorrent)
    }

    /// Ends it. Ours is asked to, since its last word says how much it sent.
    pub(crate) fn stop(mut self) -> Result<Words> {
        if self.seat.party == Party::Bt {
            self.process.terminate();
            self.process.wait(STOP_PATIENCE)?;
        }
        self.process.kill()?;
        self.take_lines();
        Ok(Words {
            uploaded: self.last("uploaded"),
            wasted: self.last("wasted"),
        })
    }

    /// Where its copy is.
    pub(crate) fn copy(&self, source: &Path) -> PathBuf {
        self.seat.data.join(source.file_name().unwrap_or_default())
    }

    /// The last number that it printed under this name.
    fn last(&self, name: &str) -> Option<u64> {
        let line = self.printed.iter().rev();
        let mut values =
            line.filter_map(|line| serde_json::from_str::<serde_json::Value>(&line.text).ok());
        values.find_map(|value| value.get(name)?.as_u64())
    }

    fn has_printed(&mut self, text: &str) -> bool {
        self.take_lines();
        self.printed.iter().any(|line| line.text.contains(text))
    }

    fn take_lines(&mut self) {
        self.printed.extend(self.lines.try_iter());
    }
}

/// Asks rtorrent by XML-RPC over SCGI whether its only download is complete; no if it does not answer yet.
fn rtorrent_is_complete(socket: &Path) -> bool {
    let call = "<?xml version=\"1.0\"?><methodCall><methodName>d.multicall2</methodName><params>\
        <param><value><string></string></value></param><param><value><string>main</string></value></param>\
        <param><value><string>d.complete=</string></value></param></params></methodCall>";
    let head = format!("CONTENT_LENGTH\0{}\0SCGI\x001\0", call.len());
    let ask = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(RTORRENT_PATIENCE))?;
        stream.write_all(format!("{}:{head},{call}", head.len()).as_bytes())?;
        let mut answer = String::new();
        stream
            .take(RTORRENT_ANSWER_MAX)
            .read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains("<i8>1</i8>"))
}
