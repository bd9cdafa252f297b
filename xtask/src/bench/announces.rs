//! A tracker for benchmarks: it tells everybody of everybody at once, and tells us who has everything.
//!
//! It knows from the port which address a peer has: all run on one machine, and some announce from another address than
//! the one they listen at. One thread; the announces of a dozen peers are nothing.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

/// A request is read, and its answer written, within this time.
const PATIENCE: Duration = Duration::from_secs(2);

/// No announce is longer.
const REQUEST_BYTES_MAX: usize = 8 << 10;

/// The running tracker. It ends with the program.
pub(crate) struct Tracker {
    /// For torrents.
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Who listens at which port.
    hosts: BTreeMap<u16, Ipv4Addr>,
    /// Who has announced, and whether it has everything.
    peers: BTreeMap<SocketAddrV4, bool>,
}

impl Tracker {
    /// Serves at `ip`.
    pub(crate) fn start(ip: Ipv4Addr) -> Result<Self> {
        let listener = TcpListener::bind((ip, 0)).context("a tracker's socket")?;
        let port = listener.local_addr().context("a tracker's port")?.port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            // A peer that hangs up is no concern of ours: it will announce again, or the transfer fails.
            for stream in listener.incoming().flatten() {
                let _ = serve(stream, &shared);
            }
        });
        Ok(Self {
            url: format!("http://{ip}:{port}/announce"),
            state,
        })
    }

    /// Forgets all peers; from now on these are those that may come.
    pub(crate) fn expect(&self, peers: &[SocketAddrV4]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.hosts = peers.iter().map(|peer| (peer.port(), *peer.ip())).collect();
        state.peers.clear();
    }

    /// How many have announced that they have everything.
    pub(crate) fn seeders(&self) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.peers.values().filter(|complete| **complete).count()
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = stream.read(&mut chunk)?;
        request.extend_from_slice(chunk.get(..read).unwrap_or_default());
        if read == 0 || request.len() > REQUEST_BYTES_MAX {
            return Ok(());
        }
    }
    let request = String::from_utf8_lossy(&request);
    let target = request.split_ascii_whitespace().nth(1).unwrap_or_default();
    let body = state
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .answer(target);
    let mut reply = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    reply.extend(body);
    stream.write_all(&reply)?;
    Ok(())
}

impl State {
    /// The answer to a request for `target`, which may be anything.
    fn answer(&mut self, target: &str) -> Vec<u8> {
        let value = |name: &str| {
            let (_, query) = target.split_once('?')?;
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let port: u16 = value("port")
            .and_then(|port| port.parse().ok())
            .unwrap_or(0);
        if !target.starts_with("/announce") {
            return b"d5:filesdee".to_vec();
        }
        let peer = self.hosts.get(&port).map(|ip| SocketAddrV4::new(*ip, port));
        let others = self.peers.keys().filter(|other| Some(**other) != peer);
        let compact: Vec<u8> = others
            .flat_map(|other| [&other.ip().octets()[..], &other.port().to_be_bytes()].concat())
            .collect();
        match (peer, value("event")) {
            (Some(peer), Some("stopped")) => drop(self.peers.remove(&peer)),
            (Some(peer), _) => drop(self.peers.insert(peer, value("left") == Some("0"))),
            (None, _) => {}
        }
        let mut body = format!(
            "d8:intervali1800e12:min intervali1e5:peers{}:",
            compact.len()
        )
        .into_bytes();
        body.extend(compact);
        body.push(b'e');
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    #[test]
    fn everybody_is_told_of_everybody_by_the_address_of_the_port() {
        let tracker = Tracker::start(Ipv4Addr::LOCALHOST).unwrap();
        let address = tracker.url.trim_start_matches("http://");
        let address = address.trim_end_matches("/announce").parse().unwrap();
        let peers = [
            SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 7002),
            SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 3), 7003),
        ];
        tracker.expect(&peers);
        let announce = |query: &str| http::fetch(address, &format!("/announce?{query}")).unwrap();
        let empty = b"d8:intervali1800e12:min intervali1e5:peers0:e";
        // (query, whether it is told of the first peer, seeders then)
        let rows = [
            ("port=7002&left=5&event=started", false, 0),
            ("port=7002&left=0", false, 1),
            ("port=9999&left=0", true, 1),
            ("port=7003&left=9", true, 1),
            ("port=7002&left=0&event=stopped", true, 0),
        ];
        for (query, told, seeders) in rows {
            let body = announce(query);
            assert_eq!(body != empty, told, "{query}");
            assert_eq!(tracker.seeders(), seeders, "{query}");
        }
        assert!(announce("port=1").ends_with(b"peers6:\x0a\x00\x00\x03\x1b\x5be"));
        assert_eq!(http::fetch(address, "/scrape").unwrap(), b"d5:filesdee");
    }
}
