//! One process takes over from another, under load, and nobody notices.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test of a program; helpers stand outside of test functions"
)]

mod daemon;

use daemon::{Daemon, get, program};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Far more than an answer takes, even while nobody serves.
const PATIENCE: Duration = Duration::from_secs(30);

fn start(door: &Path, addrs: [SocketAddr; 2]) -> (Daemon, [SocketAddr; 2]) {
    let [http, udp] = addrs.map(|addr| addr.to_string());
    let mut command = program();
    let args = ["--json", "--http", &http, "--udp", &udp, "--hand-over"];
    let mut daemon = Daemon::start(command.args(args).arg(door));
    let addrs = [daemon.addr(), daemon.addr()];
    (daemon, addrs)
}

fn anywhere() -> [SocketAddr; 2] {
    [([127, 0, 0, 1], 0).into(); 2]
}

/// What the threads of load share.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    announces: AtomicU64,
}

impl Load {
    /// Announces ports of its own, one after the other, until it is over; returns those that were answered.
    fn run(&self, ports: std::ops::Range<u16>, mut announce: impl FnMut(u16)) -> BTreeSet<u16> {
        let mut told = BTreeSet::new();
        for port in ports.cycle() {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            announce(port);
            told.insert(port);
            self.announces.fetch_add(1, Ordering::Relaxed);
        }
        told
    }

    /// Until so many more announces were answered.
    fn go_on_for(&self, more: u64) {
        let until = self.announces.load(Ordering::Relaxed) + more;
        while self.announces.load(Ordering::Relaxed) < until {
            std::thread::yield_now();
        }
    }
}

fn path(port: u16) -> String {
    format!(
        "/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&port={port}&left=5&numwant=3"
    )
}

/// Announces on one connection for as long as it is kept.
struct Kept {
    addr: SocketAddr,
    stream: Option<TcpStream>,
    opened: u64,
}

impl Kept {
    fn announce(&mut self, port: u16) {
        // A connection that is closed before a byte of an answer came: the question is asked again on another one (RFC 9112, 9.5).
        for _ in 0..2 {
            if let Some(answer) = self.try_announce(port) {
                assert!(answer.contains("8:interval"), "{answer}");
                if answer.contains("connection: close") {
                    self.stream = None;
                }
                return;
            }
            self.stream = None;
        }
        panic!("a new connection was closed without an answer");
    }

    fn try_announce(&mut self, port: u16) -> Option<String> {
        let stream = self.stream.get_or_insert_with(|| {
            self.opened += 1;
            let stream = TcpStream::connect(self.addr).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
        });
        let request = format!("GET {} HTTP/1.1\r\nHost: t\r\n\r\n", path(port));
        stream.write_all(request.as_bytes()).ok()?;
        let (mut answer, mut buffer) = (Vec::new(), [0; 4_096]);
        loop {
            let length = match stream.read(&mut buffer) {
                Ok(length @ 1..) => length,
                Ok(_) | Err(_) if answer.is_empty() => return None,
                ended => panic!("cut within an answer: {ended:?}"),
            };
            answer.extend_from_slice(&buffer[..length]);
            let text = String::from_utf8_lossy(&answer);
            let head = text.split_once("\r\n\r\n");
            // The body of an answer has nothing behind its last letter.
            if head.is_some_and(|(_, body)| body.ends_with('e') && body.contains("5:peers")) {
                return Some(text.into_owned());
            }
        }
    }
}

struct Udp {
    socket: UdpSocket,
    connection: [u8; 8],
    transaction: u32,
}

impl Udp {
    fn new(addr: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(addr).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut this = Self {
            socket,
            connection: 0x0417_2710_1980_u64.to_be_bytes(),
            transaction: 0,
        };
        let answer = this.ask(0, &[]);
        this.connection = answer[8..16].try_into().unwrap();
        this
    }

    /// Once: what is lost is not sent again.
    fn ask(&mut self, action: u32, rest: &[u8]) -> Vec<u8> {
        self.transaction += 1;
        let head = [action.to_be_bytes(), self.transaction.to_be_bytes()].concat();
        let packet = [&self.connection[..], &head, rest].concat();
        self.socket.send(&packet).unwrap();
        let mut buffer = [0; 1_500];
        let length = self.socket.recv(&mut buffer).expect("an answer to each");
        assert_eq!(
            buffer[..8],
            head,
            "{:?}",
            String::from_utf8_lossy(&buffer[..length])
        );
        buffer[..length].to_vec()
    }

    /// With the connection id of the first process, whoever answers.
    fn announce(&mut self, port: u16) {
        let rest = [
            &[b'a'; 20][..],
            &[b'b'; 20],
            // Of eight bytes each: downloaded, left, uploaded.
            &[0; 8],
            &5_u64.to_be_bytes(),
            &[0; 8],
            // Event, address, key.
            &[0; 12],
            &3_u32.to_be_bytes(),
            &port.to_be_bytes(),
        ];
        self.ask(1, &rest.concat());
    }
}

#[test]
fn no_announce_fails_and_no_peer_is_lost_while_one_takes_over_from_another() {
    let folder = tempfile::tempdir().unwrap();
    let door = folder.path().join("door");
    let (mut running, addrs) = start(&door, anywhere());
    let [http, udp] = addrs;
    let load = Load::default();
    let load = &load;
    let (announced, opened) = std::thread::scope(|scope| {
        let fresh = scope.spawn(move || {
            load.run(10_000..20_000, |port| {
                let answer = get(http, &path(port));
                assert!(answer.contains("8:interval"), "{answer:?}");
            })
        });
        let kept = scope.spawn(move || {
            let mut kept = Kept {
                addr: http,
                stream: None,
                opened: 0,
            };
            let told = load.run(20_000..30_000, |port| kept.announce(port));
            (told, kept.opened)
        });
        let packets = scope.spawn(move || {
            let mut udp = Udp::new(udp);
            load.run(30_000..40_000, |port| udp.announce(port))
        });
        load.go_on_for(300);
        for _ in 0..3 {
            let (next, now) = start(&door, addrs);
            assert_eq!(now, addrs);
            assert_eq!(running.child.wait().unwrap().code(), Some(0));
            running = next;
            load.go_on_for(300);
        }
        load.stop.store(true, Ordering::Relaxed);
        let (kept, opened) = kept.join().unwrap();
        let counts = [fresh.join().unwrap(), kept, packets.join().unwrap()].map(|told| told.len());
        (counts, opened)
    });
    assert!(announced.iter().all(|count| *count > 0), "{announced:?}");
    // A connection for each process, and not one for each question.
    assert!(opened >= 4 && opened < announced[1] as u64, "{opened}");
    let scrape = get(http, "/scrape?info_hash=aaaaaaaaaaaaaaaaaaaa");
    let all: usize = announced.iter().sum();
    assert!(
        scrape.contains(&format!("10:incompletei{all}e")),
        "{all}: {scrape}"
    );
}

#[test]
fn a_tracker_whose_successor_fails_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let door = folder.path().join("door");
    let (mut running, addrs) = start(&door, anywhere());
    let [http, udp] = addrs;
    assert!(get(http, &path(1)).contains("8:interval"));
    let mut packets = Udp::new(udp);
    for said in [&b""[..], b"go", b"nonsense", b"go   ", b"go   nonsense"] {
        let mut visitor = UnixStream::connect(&door).unwrap();
        visitor.write_all(said).unwrap();
        drop(visitor);
        running.wait_for_log("nothing was handed over");
        for port in [1, 2] {
            assert!(get(http, &path(port)).contains("8:interval"));
            packets.announce(port);
        }
    }
    // One that cannot serve itself asks for nothing.
    let mut command = program();
    let command = command.args([
        "--http",
        "127.0.0.1:0",
        "--allow",
        "/nonexistent",
        "--hand-over",
    ]);
    let output = command.arg(&door).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(get(http, &path(1)).contains("8:interval"));
    // And the next takes over all the same.
    let (_next, now) = start(&door, addrs);
    assert_eq!(now, addrs);
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
    assert!(get(http, "/scrape?info_hash=aaaaaaaaaaaaaaaaaaaa").contains("10:incompletei2e"));
}

#[test]
fn addresses_may_change_and_a_socket_left_behind_is_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let door = folder.path().join("door");
    let (first, [http, udp]) = start(&door, anywhere());
    drop(first);
    // It was killed, so its door is still there, and nobody behind it.
    assert!(door.exists());
    let (mut second, now) = start(&door, [http, udp]);
    assert_eq!(now, [http, udp]);
    // The next has another address for HTTP, and the same for UDP.
    let other = "127.0.0.2:0".parse().unwrap();
    let (_third, [other, same]) = start(&door, [other, udp]);
    assert_eq!(second.child.wait().unwrap().code(), Some(0));
    assert_eq!(same, udp);
    Udp::new(udp).announce(1);
    assert!(get(other, "/health").ends_with("ok\n"));
    assert!(TcpStream::connect(http).is_err());
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(&door).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
