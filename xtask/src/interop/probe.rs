//! Our DHT nodes, and short questions by which a cell learns that a program is ready: to the DHT, and to a peer.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::client::{ANYWHERE, Client, Tools};
use super::net::Host;
use crate::process::Process;

/// A node on this machine answers by then.
const ANSWER_PATIENCE: Duration = Duration::from_millis(200);

/// How long one question to a program or the DHT may take.
const ASK_PATIENCE: Duration = Duration::from_secs(5);

/// Our DHT nodes, for a cell of its own.
#[derive(Default)]
pub(super) struct Nodes {
    /// They,
    pub(super) processes: Vec<Process>,
    /// where they are,
    pub(super) hosts: Vec<Host>,
    /// and how they are reached.
    pub(super) addrs: Vec<SocketAddrV4>,
}

impl Nodes {
    /// One is enough, but for Transmission: it announces nothing before it knows nine.
    pub(super) fn start(foreign: Client, folder: &Path, tools: &Tools) -> Result<Self> {
        let count = if foreign == Client::Transmission {
            10
        } else {
            1
        };
        let mut nodes = Self::default();
        for number in 0..count {
            let host = Host::new()?;
            let addr = SocketAddrV4::new(host.ip(), ANYWHERE.port());
            let first = *nodes.addrs.first().unwrap_or(&addr);
            let home = folder.join(format!("node{number}"));
            fs::create_dir_all(&home).context("a home")?;
            let mut command = Command::new(&tools.bt);
            command
                .args(["dht", "node", "--json", "--port", &addr.port().to_string()])
                // The first begins with itself: there is nobody else.
                .args(["--dht-bootstrap", &first.to_string()])
                .env("HOME", &home)
                .env("XDG_STATE_HOME", &home);
            let (lines, _) = mpsc::channel();
            let process = Process::spawn("bt dht node", host.inside(&command), 0, lines)?;
            nodes.processes.push(process);
            nodes.hosts.push(host);
            nodes.addrs.push(addr);
        }
        Ok(nodes)
    }
}

/// Whether `bt dht lookup` on that host finds the peer when it begins at those nodes.
pub(super) fn finds(
    host: &Host,
    nodes: &[SocketAddrV4],
    info_hash: &str,
    peer: Ipv4Addr,
    tools: &Tools,
) -> Result<bool> {
    let mut lookup = Command::new(&tools.bt);
    lookup.args(["dht", "lookup", info_hash, "--json"]);
    for node in nodes {
        lookup.args(["--dht-bootstrap", &node.to_string()]);
    }
    lookup.arg(format!("--timeout={}s", ASK_PATIENCE.as_secs()));
    let output = host.inside(&lookup).output().context("bt dht lookup")?;
    let wanted = format!("\"{peer}:{}\"", ANYWHERE.port());
    Ok(String::from_utf8_lossy(&output.stdout).contains(&wanted))
}

/// Whether one of the nodes itself knows that peer. It is asked by a packet from a node that is none (BEP 43): a lookup each
/// time would fill the tables of those that do not read the mark with nodes that are gone.
pub(super) fn keeps(nodes: &[SocketAddrV4], info_hash: &str, peer: Ipv4Addr) -> Result<bool> {
    let hash = data_encoding::HEXLOWER.decode(info_hash.as_bytes());
    let question = [
        b"d1:ad2:id20:no node, only a test9:info_hash20:".as_slice(),
        &hash.context("an info hash")?,
        b"e1:q9:get_peers2:roi1e1:t2:xt1:y1:qe",
    ]
    .concat();
    let wanted = [
        b"6:".as_slice(),
        &peer.octets(),
        &ANYWHERE.port().to_be_bytes(),
    ]
    .concat();
    for node in nodes {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("a socket")?;
        socket
            .set_read_timeout(Some(ANSWER_PATIENCE))
            .context("a timeout")?;
        socket.send_to(&question, node).context("asking a node")?;
        let mut answer = [0; 2048];
        // One that is not up yet does not answer, or is refused.
        if let Ok(length) = socket.recv(&mut answer)
            && let Some(answer) = answer.get(..length)
            && answer.windows(wanted.len()).any(|window| window == wanted)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a command on that host ends well.
pub(super) fn succeeds(host: &Host, command: &Command) -> Result<bool> {
    let output = host.inside(command).output();
    Ok(output.context("asking ours")?.status.success())
}

/// Whether a program takes a connection for this torrent. It is left again at once.
pub(super) fn shakes_hands(ip: Ipv4Addr, info_hash: &str) -> bool {
    let Ok(hash) = data_encoding::HEXLOWER.decode(info_hash.as_bytes()) else {
        return false;
    };
    let hello = [
        b"\x13BitTorrent protocol".as_slice(),
        &[0; 8],
        &hash,
        b"-XT0000-probe-probe-",
    ]
    .concat();
    let shake = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect((ip, ANYWHERE.port()))?;
        stream.set_read_timeout(Some(ASK_PATIENCE))?;
        stream.write_all(&hello)?;
        let mut answer = [0; 68];
        stream.read_exact(&mut answer)?;
        Ok(answer.get(28..48) == Some(hash.as_slice()))
    };
    shake().unwrap_or(false)
}
