//! Peers that attack a running `bt seed`. Each attack ends as its row says, honest peers are served within a second meanwhile,
//! memory does not grow, and no attack costs much processor time or leaves a socket open.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "shell: owns clocks, sockets and threads"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bt_tests::peer::{
    connect, fresh_id, handshake, handshake_with, honest, message, read_handshake, read_message,
    read_to_close, request, serve_me,
};
use bt_tests::process::{PATIENCE, Process};
use bt_tests::shared::Shared;
use socket2::SockRef;

/// An honest peer is served within this time whatever others do.
const HONEST_MAX: Duration = Duration::from_secs(1);

/// A busy machine may be slow once; a program that is blocked is slow every time.
const HONEST_TRIES: usize = 4;

/// When an honest peer comes again that was turned away.
const COMES_AGAIN: Duration = Duration::from_millis(20);

/// What an attack may cost.
const MEMORY_GROWTH_MAX_BYTES: u64 = 16 << 20;

/// And that, of processor time. A million keep-alives take half a second of a program that is not optimised, and more of a
/// busy machine.
const CPU_MAX: Duration = Duration::from_secs(if cfg!(debug_assertions) { 2 } else { 1 });

/// What a connection held is given back by then.
const FREED_MAX: Duration = Duration::from_secs(10);

/// Files that may come to be open meanwhile: the data, and a connection that is about to end.
const FILES_SPARE: usize = 2;

/// Between two bytes of a handshake that takes its time: all 68 of them take three times as long as a handshake may.
const DRIP_EVERY: Duration = Duration::from_millis(500);

/// What is wrong from the first byte is closed at once; the rest is a busy machine.
const CLOSE_AT_ONCE: Duration = Duration::from_secs(5);

/// Small pieces, so that the bitfield has a few bytes and spare bits: 21 pieces.
const PIECE: usize = 32_768;
const LENGTH: usize = 20 * PIECE + 5;
const PIECES: u32 = 21;

struct Attack<'a> {
    addr: SocketAddr,
    shared: &'a Shared,
}

impl Attack<'_> {
    fn connect(&self) -> TcpStream {
        connect(self.addr, PATIENCE).expect("the seeder takes connections")
    }

    /// Sends bytes on a new connection. A program that has closed already may refuse them.
    fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        stream
    }

    /// Sends bytes right behind the handshake, of which nobody has read the answer yet.
    fn shout(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = self.send(&handshake(&self.shared.info_hash, &fresh_id()));
        let _ = stream.write_all(bytes);
        stream
    }

    /// A connection after the handshakes.
    fn greet(&self) -> TcpStream {
        let mut stream = self.send(&handshake(&self.shared.info_hash, &fresh_id()));
        read_handshake(&mut stream).expect("the seeder answers a good handshake");
        stream
    }

    /// Sends bytes after the handshakes.
    fn say(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = self.greet();
        let _ = stream.write_all(bytes);
        stream
    }
}

/// What must come of an attack's connections.
enum End {
    /// Closed at once.
    Closed,
    /// Closed at once, without a byte that says what listens here.
    ClosedSilently,
    /// Nothing is demanded of the connection itself.
    Any,
    /// It is still a peer like others: it gets its block.
    Served,
}

type Row = (&'static str, End, fn(&Attack<'_>) -> Vec<TcpStream>);

fn check(rows: &[Row]) {
    let shared = Shared::new(LENGTH, PIECE, "http://127.0.0.1:1/announce");
    let (mut seeder, addr) = shared.seed(&[]);
    let attack = Attack {
        addr,
        shared: &shared,
    };
    serves_others(&mut seeder, &attack, "before any attack");
    for (name, end, run) in rows {
        let (memory, cpu) = (seeder.peak_memory_bytes(), seeder.cpu());
        let files = seeder.open_files();
        let streams = run(&attack);
        serves_others(&mut seeder, &attack, name);
        for mut stream in streams {
            match end {
                End::Closed => {
                    let closed = read_to_close(&mut stream, CLOSE_AT_ONCE);
                    assert!(closed.is_some(), "{name}: the connection stays open");
                }
                End::ClosedSilently => {
                    assert_eq!(read_to_close(&mut stream, CLOSE_AT_ONCE), Some(0), "{name}");
                }
                End::Any => {}
                End::Served => {
                    let served = serve_me(&mut stream, &shared);
                    assert!(served.is_ok(), "{name}: {served:?}\n{}", seeder.stderr());
                }
            }
        }
        let growth = seeder.peak_memory_bytes().saturating_sub(memory);
        assert!(
            growth < MEMORY_GROWTH_MAX_BYTES,
            "{name}: {growth} bytes more"
        );
        let cpu = seeder.cpu().saturating_sub(cpu);
        assert!(cpu < CPU_MAX, "{name}: {cpu:?} of processor time");
        frees_files(&seeder, files, name);
    }
    seeder.signal(rustix::process::Signal::TERM);
    assert_eq!(seeder.end(), 0, "{}", seeder.stderr());
}

fn serves_others(seeder: &mut Process, attack: &Attack<'_>, name: &str) {
    let mut tries = Vec::new();
    let served = (0..HONEST_TRIES).any(|_| is_served(attack, &mut tries));
    assert!(
        seeder.is_running(),
        "{name}: the seeder is dead: {}",
        seeder.stderr()
    );
    assert!(
        served,
        "{name}: an honest peer waits: {tries:?} {}",
        seeder.stderr()
    );
}

/// Whether an honest peer has its block in time. Who is turned away, as all places are taken for a moment, comes again.
fn is_served(attack: &Attack<'_>, tries: &mut Vec<std::io::Result<Duration>>) -> bool {
    let deadline = Instant::now() + HONEST_MAX;
    loop {
        let took = honest(attack.addr, attack.shared, PATIENCE);
        let came = took.is_ok();
        tries.push(took);
        if came || Instant::now() > deadline {
            return came && Instant::now() < deadline;
        }
        std::thread::park_timeout(COMES_AGAIN);
    }
}

/// Waits until no more files are open than before, once the connections of an attack are gone.
fn frees_files(seeder: &Process, before: usize, name: &str) {
    let deadline = Instant::now() + FREED_MAX;
    while seeder.open_files() > before + FILES_SPARE {
        assert!(
            Instant::now() < deadline,
            "{name}: {before} files were open, now {}",
            seeder.open_files()
        );
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A peer that is gone with a block half read. What it has not read makes the kernel send a reset.
fn reset_inside_a_block(attack: &Attack<'_>) {
    let mut stream = attack.greet();
    let wanted = [message(2, &[]), request(0, 0, 16_384)].concat();
    stream.write_all(&message(2, &[])).expect("a good message");
    while read_message(&mut stream).expect("it unchokes").0 != 1 {}
    stream.write_all(&wanted.repeat(8)).expect("good messages");
    let mut half = [0; 8_192];
    stream.read_exact(&mut half).expect("half a block");
}

/// A length before a message that never comes.
fn length_bomb(attack: &Attack<'_>, length: u32, connections: usize) -> Vec<TcpStream> {
    (0..connections)
        .map(|_| attack.say(&length.to_be_bytes()))
        .collect()
}

#[test]
fn handshakes() {
    check(&[
        ("random bytes", End::ClosedSilently, |a| {
            vec![a.send(&[0xa5; 400])]
        }),
        ("another protocol's name", End::ClosedSilently, |a| {
            let mut bytes = handshake(&a.shared.info_hash, &fresh_id());
            bytes[1] = b'b';
            vec![a.send(&bytes)]
        }),
        ("TLS", End::ClosedSilently, |a| {
            vec![a.send(
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a client hello begins like this",
            )]
        }),
        ("HTTP", End::ClosedSilently, |a| {
            vec![a.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")]
        }),
        ("an unknown info hash", End::ClosedSilently, |a| {
            vec![a.send(&handshake(&[7; 20], &fresh_id()))]
        }),
        ("our own peer id", End::Closed, |a| {
            let mut first = a.greet();
            let _ = first.write_all(&[0; 4]);
            let mut probe = a.send(&handshake(&a.shared.info_hash, &fresh_id()));
            let answer = read_handshake(&mut probe).expect("an answer");
            let own: [u8; 20] = answer[48..].try_into().expect("20 bytes");
            vec![a.send(&handshake(&a.shared.info_hash, &own))]
        }),
        ("all reserved bits", End::Served, |a| {
            vec![a.send(&handshake_with(
                [0xff; 8],
                &a.shared.info_hash,
                b"-EV0000-all-the-bits",
            ))]
        }),
        ("one byte at a time", End::Served, |a| {
            let mut stream = a.connect();
            for byte in handshake(&a.shared.info_hash, b"-EV0000-byte-by-byte") {
                stream
                    .write_all(&[byte])
                    .expect("a slow handshake is taken");
            }
            vec![stream]
        }),
        ("a handshake and then silence", End::Any, |a| {
            (0..20).map(|_| a.greet()).collect()
        }),
    ]);
}

#[test]
fn lengths_and_ids() {
    check(&[
        ("length 2^32-1", End::Closed, |a| {
            length_bomb(a, u32::MAX, 1)
        }),
        ("length 2^31-1", End::Closed, |a| {
            length_bomb(a, u32::MAX >> 1, 1)
        }),
        ("16 MiB, 50 times", End::Closed, |a| {
            length_bomb(a, 16 << 20, 50)
        }),
        ("choke with a payload", End::Closed, |a| {
            vec![a.say(&message(0, &[1]))]
        }),
        ("unchoke with a payload", End::Closed, |a| {
            vec![a.say(&message(1, &[1]))]
        }),
        ("interested with a payload", End::Closed, |a| {
            vec![a.say(&message(2, &[1]))]
        }),
        ("not interested with a payload", End::Closed, |a| {
            vec![a.say(&message(3, &[1]))]
        }),
        ("have without a piece", End::Closed, |a| {
            vec![a.say(&message(4, &[]))]
        }),
        ("have of 5 bytes", End::Closed, |a| {
            vec![a.say(&message(4, &[0; 5]))]
        }),
        ("request of 11 bytes", End::Closed, |a| {
            vec![a.say(&message(6, &[0; 11]))]
        }),
        ("request of 13 bytes", End::Closed, |a| {
            vec![a.say(&message(6, &[0; 13]))]
        }),
        ("piece of 7 bytes", End::Closed, |a| {
            vec![a.say(&message(7, &[0; 7]))]
        }),
        ("cancel of 3 bytes", End::Closed, |a| {
            vec![a.say(&message(8, &[0; 3]))]
        }),
        ("unknown ids", End::Served, |a| {
            let mut stream = a.send(&handshake(&a.shared.info_hash, b"-EV0000-unknown-ids-"));
            for id in [10, 11, 12, 24, 99, 255] {
                stream
                    .write_all(&message(id, b"whatever"))
                    .expect("unknown ids are let pass");
            }
            vec![stream]
        }),
    ]);
}

#[test]
fn bitfields_and_haves() {
    check(&[
        ("a short bitfield", End::Closed, |a| {
            vec![a.say(&message(5, &[0; 2]))]
        }),
        ("a long bitfield", End::Closed, |a| {
            vec![a.say(&message(5, &[0; 4]))]
        }),
        ("an empty bitfield", End::Closed, |a| {
            vec![a.say(&message(5, &[]))]
        }),
        ("a bitfield of 1 MiB", End::Closed, |a| {
            vec![a.say(&message(5, &[0; 1 << 20]))]
        }),
        ("spare bits set", End::Closed, |a| {
            vec![a.say(&message(5, &[0, 0, 1]))]
        }),
        ("have of no piece", End::Closed, |a| {
            vec![a.say(&message(4, &PIECES.to_be_bytes()))]
        }),
        ("have of 2^31", End::Closed, |a| {
            vec![a.say(&message(4, &(1_u32 << 31).to_be_bytes()))]
        }),
        ("have of 2^32-1", End::Closed, |a| {
            vec![a.say(&message(4, &[0xff; 4]))]
        }),
        ("the same have, 200,000 times", End::Any, |a| {
            vec![a.say(&message(4, &[0; 4]).repeat(200_000))]
        }),
    ]);
}

#[test]
fn requests() {
    check(&[
        ("beyond the last piece", End::Closed, |a| {
            vec![a.say(&[message(2, &[]), request(PIECES, 0, 16_384)].concat())]
        }),
        ("beyond the piece's end", End::Closed, |a| {
            vec![a.say(&[message(2, &[]), request(0, 32_768, 16_384)].concat())]
        }),
        ("an overflowing sum", End::Closed, |a| {
            vec![a.say(&[message(2, &[]), request(0, u32::MAX, u32::MAX)].concat())]
        }),
        ("128 KiB and a byte", End::Closed, |a| {
            vec![a.say(&[message(2, &[]), request(0, 0, 131_073)].concat())]
        }),
        ("length 0", End::Closed, |a| {
            vec![a.say(&[message(2, &[]), request(0, 0, 0)].concat())]
        }),
        ("100,000 good ones, none read", End::Any, |a| {
            let mut stream = a.greet();
            let all = [message(2, &[]), request(0, 0, 16_384).repeat(100_000)].concat();
            stream
                .set_write_timeout(Some(Duration::from_secs(2)))
                .expect("a timeout");
            let _ = stream.write_all(&all);
            vec![stream]
        }),
        ("a block nobody asked for", End::Any, |a| {
            vec![a.say(&message(7, &[&[0; 8][..], &[1; 16_384]].concat()))]
        }),
    ]);
}

#[test]
fn floods() {
    check(&[
        ("a million keep-alives", End::Served, |a| {
            vec![a.shout(&[0; 4 << 20])]
        }),
        ("100,000 unknown messages", End::Served, |a| {
            vec![a.shout(&message(99, &[]).repeat(100_000))]
        }),
        ("300 resets", End::Any, |a| {
            for _ in 0..300 {
                // Dropped with the answer unread: the kernel sends a reset.
                drop(a.send(&handshake(&a.shared.info_hash, &fresh_id())));
            }
            Vec::new()
        }),
        ("100 resets inside a block that it sends", End::Any, |a| {
            (0..100).for_each(|_| reset_inside_a_block(a));
            Vec::new()
        }),
        ("100 resets inside a block that it gets", End::Any, |a| {
            for _ in 0..100 {
                let stream = a.say(&message(7, &[0; 16_392])[..9_000]);
                let reset = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                reset.expect("a reset at the end");
            }
            Vec::new()
        }),
        ("a half-closed connection", End::Closed, |a| {
            let stream = a.say(&message(2, &[]));
            stream.shutdown(std::net::Shutdown::Write).expect("a FIN");
            vec![stream]
        }),
        ("urgent data inside a handshake", End::Served, |a| {
            let mut stream = a.connect();
            let hello = handshake(&a.shared.info_hash, &fresh_id());
            let (head, tail) = hello.split_at(30);
            stream.write_all(head).expect("half a handshake");
            // A byte that stands in no stream: whoever does not ask for it never sees it.
            let urgent = SockRef::from(&stream).send_out_of_band(b"!");
            assert_eq!(urgent.expect("an urgent byte"), 1);
            stream.write_all(tail).expect("the other half");
            vec![stream]
        }),
        ("a FIN inside a message", End::Closed, |a| {
            let stream = a.say(&[0, 0, 0, 13, 6, 0, 0]);
            stream.shutdown(std::net::Shutdown::Write).expect("a FIN");
            vec![stream]
        }),
        ("600 silent connections", End::Any, |a| {
            (0..600).map(|_| a.connect()).collect()
        }),
        ("200 idle peers", End::Any, |a| {
            (0..200)
                .map(|_| a.send(&handshake(&a.shared.info_hash, &fresh_id())))
                .collect()
        }),
    ]);
}

/// A byte now and then does not keep a handshake alive: it has the time that a silent one has, and nobody waits for it.
#[test]
fn slow_handshakes() {
    let shared = Shared::new(LENGTH, PIECE, "http://127.0.0.1:1/announce");
    let (mut seeder, addr) = shared.seed(&[]);
    let attack = Attack {
        addr,
        shared: &shared,
    };
    let files = seeder.open_files();
    let mut streams: Vec<TcpStream> = (0..50).map(|_| attack.connect()).collect();
    let mut sent = 0;
    for byte in handshake(&shared.info_hash, &fresh_id()) {
        for stream in &mut streams {
            // Those that were closed refuse it.
            let _ = stream.write_all(&[byte]);
        }
        sent += 1;
        serves_others(&mut seeder, &attack, "50 handshakes, a byte at a time");
        if read_to_close(&mut streams[0], DRIP_EVERY).is_some() {
            break;
        }
    }
    for stream in &mut streams {
        let closed = read_to_close(stream, CLOSE_AT_ONCE);
        assert!(closed.is_some(), "open after {sent} bytes");
    }
    // Whoever has sent all of it is a peer, and closed for other reasons.
    assert!(sent < 68, "the whole handshake was waited for");
    drop(streams);
    frees_files(&seeder, files, "50 slow handshakes");
}

/// Good sessions with a byte changed, cut or doubled here and there: nothing may bring the seeder down.
#[test]
fn mutations() {
    let shared = Shared::new(LENGTH, PIECE, "http://127.0.0.1:1/announce");
    let (mut seeder, addr) = shared.seed(&[]);
    let attack = Attack {
        addr,
        shared: &shared,
    };
    let session = [
        handshake_with([0, 0, 0, 0, 0, 0x10, 0, 5], &shared.info_hash, &fresh_id()),
        message(5, &[0, 0, 0]),
        message(20, b"\x00d1:md11:ut_metadatai1eee"),
        message(2, &[]),
        message(4, &[0, 0, 0, 1]),
        request(0, 0, 16_384),
        request(1, 16_384, 16_384),
        message(8, &[0; 12]),
        message(3, &[]),
    ]
    .concat();
    let mut state = 0x5eed_u64;
    let mut random = |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits fit") % bound
    };
    let files = seeder.open_files();
    for round in 0..400 {
        let mut bytes = session.clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] ^= 1 << random(8),
                1 => bytes[at] = [0, 1, 0x7f, 0xff][random(4)],
                2 => drop(bytes.drain(at..(at + random(9)).min(bytes.len()))),
                _ => bytes.truncate(at.max(1)),
            }
        }
        drop(attack.send(&bytes));
        assert!(
            seeder.is_running(),
            "round {round}: {bytes:?}\n{}",
            seeder.stderr()
        );
    }
    serves_others(&mut seeder, &attack, "after 400 mutated sessions");
    frees_files(&seeder, files, "after 400 mutated sessions");
}
