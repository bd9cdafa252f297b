//! Requests that are wrong, odd or too much, each with what may be answered.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::Instant;

use anyhow::{Result, bail};

use super::talk;

/// Requests of one connection in a row.
const PIPELINED: usize = 100;

/// The address that spoofers claim to have.
const SPOOFED: [u8; 4] = [10, 99, 98, 97];
const CLAIMED: &str = "10.99.98.97";

/// A right announce.
pub(super) const ANNOUNCE: &str = "/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&port=7001&uploaded=0&downloaded=0&left=5&compact=1";

/// A request, and what may be answered: one of these statuses, as often as `count` says.
pub(super) struct Row {
    pub(super) bytes: Vec<u8>,
    allowed: &'static [u16],
    count: usize,
    /// It may also be closed without a word: whoever sends a megabyte to a tracker that has closed does not get to read what it
    /// said before.
    may_close: bool,
}

impl Row {
    /// Sends it on a connection of its own; returns from when to when that went, until the last answer was there.
    pub(super) fn play(&self, addr: SocketAddr) -> Result<Range<Instant>> {
        let mut stream = talk::dial(Ipv4Addr::new(127, 0, 7, 1), addr)?;
        let asked = Instant::now();
        talk::say(&mut stream, &self.bytes, true);
        let (mut unread, mut answers) = (Vec::new(), 0);
        while let Some(reply) = talk::reply(&mut stream, &mut unread)? {
            answers += 1;
            if !self.allowed.contains(&reply.status) {
                bail!("{} {}", reply.status, String::from_utf8_lossy(&reply.body));
            }
            if reply.body.windows(4).any(|window| window == SPOOFED) {
                bail!("it believes an address that somebody claims");
            }
        }
        if answers != self.count && !(self.may_close && answers == 0) {
            bail!("{answers} answers");
        }
        Ok(asked..Instant::now())
    }
}

/// All of them.
pub(super) fn all() -> Vec<Row> {
    let mut rows = wrong_announces();
    rows.extend(too_much());
    rows.extend(odd());
    rows
}

fn answered(bytes: impl Into<Vec<u8>>, status: &'static [u16]) -> Row {
    Row {
        bytes: bytes.into(),
        allowed: status,
        count: 1,
        may_close: false,
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n")
}

fn head(more: &str) -> String {
    format!("GET /health HTTP/1.1\r\nHost: t\r\n{more}")
}

fn wrong_announces() -> Vec<Row> {
    let changed = [
        ("info_hash=aaaaaaaaaaaaaaaaaaaa&", ""),
        ("aaaaaaaaaaaaaaaaaaaa", "aaaa"),
        (
            "aaaaaaaaaaaaaaaaaaaa",
            "6161616161616161616161616161616161616161",
        ),
        ("aaaaaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaaaa%6"),
        ("bbbbbbbbbbbbbbbbbbbb", "b"),
        ("port=7001", "port=x"),
        ("port=7001", "port=65536"),
        ("left=5", "left=-5"),
        ("left=5", "left=5&left=6"),
    ];
    let mut rows: Vec<Row> = changed
        .iter()
        .map(|(from, to)| answered(get(&ANNOUNCE.replace(from, to)), &[400]))
        .collect();
    // Whoever reads only the body of a 200 has to learn this.
    rows.push(answered(get(&ANNOUNCE.replace("7001", "0")), &[200]));
    rows
}

fn too_much() -> Vec<Row> {
    let hashes = |count| {
        format!(
            "/scrape?{}",
            "&info_hash=aaaaaaaaaaaaaaaaaaaa".repeat(count)
        )
    };
    let cut: [(String, &'static [u16]); 6] = [
        (get(&hashes(2_000)), &[414, 431]),
        (get(&format!("/announce?{}", "a".repeat(9_000))), &[414]),
        (get(&format!("/{}", "a".repeat(1 << 20))), &[414, 431]),
        (
            get(&format!("/announce?{}", "a=1&".repeat(100_000))),
            &[414, 431],
        ),
        (head(&"A: b\r\n".repeat(50_000)), &[431]),
        (head(&format!("A: {}", "b".repeat(1 << 20))), &[431]),
    ];
    let cut = cut.map(|(request, allowed)| Row {
        may_close: true,
        ..answered(request, allowed)
    });
    let mut rows = Vec::from(cut);
    rows.push(answered(get("/scrape"), &[400]));
    rows.push(answered(get(&hashes(74)), &[200]));
    rows.push(Row {
        count: PIPELINED,
        ..answered(get(ANNOUNCE).repeat(PIPELINED), &[200])
    });
    rows
}

fn odd() -> Vec<Row> {
    let believed = format!(
        "GET {ANNOUNCE} HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: {CLAIMED}\r\nForwarded: for={CLAIMED}\r\n\r\n"
    );
    let closed: [&[u8]; 4] = [
        b"GET /health\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /health HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
          0\r\n\r\nGET /stats HTTP/1.1\r\nHost: t\r\n\r\n",
    ];
    let closed = closed.map(|bytes| Row {
        may_close: true,
        ..answered(bytes, &[400])
    });
    let mut rows = Vec::from(closed);
    let post = "POST /announce HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc";
    rows.push(answered(post, &[405]));
    rows.push(answered(
        head("Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
        &[400],
    ));
    rows.push(answered(
        get(&format!("{ANNOUNCE}&ip={CLAIMED}&ipv4={CLAIMED}")),
        &[200],
    ));
    rows.push(answered(believed, &[200]));
    rows.push(answered(get(&ANNOUNCE.replace("7001", "7002")), &[200]));
    rows
}
