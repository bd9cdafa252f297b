//! Trackers that answer `bt get` with whatever they like. It asks a bounded number of times, in bounded memory, says what is
//! wrong without letting the tracker write on the terminal, and gives up when it was told to.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "shell: owns clocks, files and sockets"
)]

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bt_tests::process::Process;
use bt_tests::shared::{Shared, text};
use bt_tests::tracker::{Behaviour, Tracker, reply};

/// What a tracker may cost beside what an ordinary run takes.
const MEMORY_GROWTH_MAX_BYTES: u64 = 16 << 20;

/// Far longer than a download waits here, so that every row sees at least one whole answer.
const GIVE_UP: &str = "4s";

/// `started`, and one try or two more while it waits; a redirect counts as a request of its own.
const REQUESTS_MAX: usize = 4;

/// First hop and five redirects, as often as the tracker is asked.
const REDIRECTED_REQUESTS_MAX: usize = 24;

struct Row {
    name: &'static str,
    behaviour: Behaviour,
    requests_max: usize,
}

fn row(
    name: &'static str,
    behaviour: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static,
) -> Row {
    Row {
        name,
        behaviour: Arc::new(behaviour),
        requests_max: REQUESTS_MAX,
    }
}

/// Answers with these bytes as they are.
fn raw(name: &'static str, bytes: impl Into<Vec<u8>>) -> Row {
    let bytes = bytes.into();
    row(name, move |_, stream| drop(stream.write_all(&bytes)))
}

/// Answers with this body, properly wrapped.
fn body(name: &'static str, bytes: impl AsRef<[u8]>) -> Row {
    raw(name, reply(bytes.as_ref()))
}

/// What an ordinary run with nobody to download from takes, in bytes.
fn ordinary_memory() -> u64 {
    let (code, peak, _) = ask(&body("nobody there", "d8:intervali1800e5:peers0:e"));
    assert_eq!(code, 5);
    peak
}

/// Runs `bt get` with that tracker: exit code, peak memory, and everything it said.
fn ask(row: &Row) -> (i32, u64, String) {
    let tracker = Tracker::start(Arc::clone(&row.behaviour));
    let shared = Shared::new(40_000, 16_384, &tracker.announce_url());
    let into = shared.make("copy");
    let arguments = [
        "get",
        text(&shared.torrent),
        "-d",
        text(&into),
        "--timeout",
        GIVE_UP,
    ];
    let more = ["--bind", "127.0.0.1", "--port", "0", "--json"];
    let mut get = Process::start(
        "bt",
        &shared.make("home"),
        &[&arguments[..], &more].concat(),
    );
    let (code, peak) = get.end_measured();
    let requests = tracker.requests();
    assert!(
        !requests.is_empty(),
        "{}: never asked: {}",
        row.name,
        get.stderr()
    );
    assert!(
        requests.len() <= row.requests_max,
        "{}: asked {} times: {requests:#?}",
        row.name,
        requests.len()
    );
    get.drain();
    (
        code,
        peak,
        format!("{}\n{}", get.seen.join("\n"), get.stderr()),
    )
}

/// Runs rows side by side: each of them mostly waits.
fn check(rows: &[Row]) {
    let ordinary = ordinary_memory();
    std::thread::scope(|scope| {
        for row in rows {
            scope.spawn(move || {
                let (code, peak, said) = ask(row);
                assert_eq!(code, 5, "{}: {said}", row.name);
                assert!(!said.contains("panicked"), "{}: {said}", row.name);
                let control = said.chars().find(|c| c.is_control() && *c != '\n');
                assert_eq!(control, None, "{}: {said:?}", row.name);
                let growth = peak.saturating_sub(ordinary);
                assert!(
                    growth < MEMORY_GROWTH_MAX_BYTES,
                    "{}: {growth} bytes more",
                    row.name
                );
            });
        }
    });
}

#[test]
fn bodies_that_are_no_reply() {
    let deep = "l".repeat(100_000);
    let peers = [
        &b"d8:intervali1800e5:peers600000:"[..],
        &vec![1; 600_000],
        b"e",
    ]
    .concat();
    check(&[
        body("empty", ""),
        body("HTML", "<html><h1>It works!</h1></html>"),
        body("cut off", "d8:intervali1800e5:pee"),
        body("no dictionary", "li1ee"),
        body("deep", &deep),
        body(
            "a huge integer",
            format!("d8:intervali{}e5:peers0:e", "9".repeat(400)),
        ),
        body(
            "a string longer than all memory",
            "d5:peers99999999999999999999:",
        ),
        body(
            "peers of no whole number",
            "d8:intervali1800e5:peers7:abcdefge",
        ),
        body(
            "peers that nobody can reach",
            [
                &b"d8:intervali1800e5:peers24:"[..],
                &[0, 0, 0, 0, 0x1a, 0xe1, 224, 0, 0, 1, 0x1a, 0xe1],
                &[127, 0, 0, 1, 0, 0, 255, 255, 255, 255, 0x1a, 0xe1],
                b"e",
            ]
            .concat(),
        ),
        body(
            "bad entries in a list of peers",
            "d8:intervali1800e5:peersli1eded2:ip1:xe3:abcd4:porti70000eeee",
        ),
        body("100,000 peers", &peers),
        body(
            "a failure with control codes",
            "d14:failure reason16:\x1b[31mred\x07\r\x0b\x00 ende",
        ),
        body("a failure that is no text", "d14:failure reasonli1eee"),
        body(
            "a tracker id with a line break",
            "d8:intervali1800e5:peers0:10:tracker id9:a&b\r\nc: de",
        ),
        body(
            "a megabyte of tracker id",
            [
                &b"d8:intervali1800e5:peers0:10:tracker id1000000:"[..],
                &vec![b'x'; 1_000_000],
                b"e",
            ]
            .concat(),
        ),
    ]);
}

#[test]
fn intervals() {
    check(&[
        body("0", "d8:intervali0e5:peers0:e"),
        body("negative", "d8:intervali-5e5:peers0:e"),
        body("2^62", "d8:intervali4611686018427387904e5:peers0:e"),
        body("missing", "d5:peers0:e"),
        body("a string", "d8:interval1:x5:peers0:e"),
        body(
            "min interval above interval",
            "d8:intervali1e12:min intervali0e5:peers0:e",
        ),
    ]);
}

#[test]
fn replies_without_end() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";
    check(&[
        row("an endless body", move |_, stream| {
            let _ = write!(stream, "{head}\r\n");
            while stream.write_all(&[b'x'; 65_536]).is_ok() {}
        }),
        row("an endless chunked body", move |_, stream| {
            let _ = write!(stream, "{head}Transfer-Encoding: chunked\r\n\r\n");
            let chunk = [&b"10000\r\n"[..], &[b'x'; 65_536], b"\r\n"].concat();
            while stream.write_all(&chunk).is_ok() {}
        }),
        row("headers without end", move |_, stream| {
            let _ = stream.write_all(head.as_bytes());
            while stream.write_all(b"X-More: yes\r\n").is_ok() {}
        }),
        row("one header of any length", move |_, stream| {
            let _ = write!(stream, "{head}X-Long: ");
            while stream.write_all(&[b'x'; 65_536]).is_ok() {}
        }),
        row("a byte now and then", move |_, stream| {
            let _ = write!(stream, "{head}Content-Length: 1000\r\n\r\n");
            while stream.write_all(b"d").is_ok() {
                std::thread::park_timeout(Duration::from_millis(200));
            }
        }),
        row("silence", |_, stream| {
            drop(std::io::copy(stream, &mut std::io::sink()))
        }),
        row("an answer and a reset", |_, stream| {
            drop(stream.shutdown(std::net::Shutdown::Both))
        }),
        raw(
            "a longer Content-Length",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nde",
        ),
        raw(
            "a shorter Content-Length",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nd8:intervali1e",
        ),
        raw(
            "a negative Content-Length",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nde",
        ),
        raw(
            "a chunk of 2^64",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nde",
        ),
        raw(
            "a negative chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nde\r\n",
        ),
        raw("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n"),
        raw(
            "bad gzip",
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\nnotzip",
        ),
        raw("a gzip bomb", gzip_bomb()),
    ]);
}

/// A gigabyte of zeros in a few stored and repeated deflate blocks is hard to write by hand; a pipe through gzip is not.
fn gzip_bomb() -> Vec<u8> {
    let script = "head -c 1000000000 /dev/zero | gzip -1";
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .output()
        .expect("gzip runs");
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        output.stdout.len()
    );
    [head.as_bytes(), &output.stdout].concat()
}

#[test]
fn redirects() {
    let to = |name: &'static str, location: &'static str| Row {
        requests_max: REDIRECTED_REQUESTS_MAX,
        ..raw(
            name,
            format!("HTTP/1.1 302 Found\r\n{location}Content-Length: 0\r\n\r\n"),
        )
    };
    check(&[
        to("to itself", "Location: /announce\r\n"),
        to("to a file", "Location: file:///etc/passwd\r\n"),
        to("to nowhere", ""),
        to("to another scheme", "Location: gopher://127.0.0.1:70/\r\n"),
        to("to what is no address", "Location: http://[::bad/\r\n"),
    ]);
}

#[test]
fn statuses() {
    let status = |name: &'static str, line: &'static str| {
        raw(
            name,
            format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        )
    };
    check(&[
        status("not found", "404 Not Found"),
        status("server error", "500 Oops"),
        status("try later", "503 Busy\r\nRetry-After: 100000"),
        status("too many", "429 Slow down\r\nRetry-After: -1"),
        status("a status out of range", "999 What"),
        status("a status that is no number", "abc"),
        status("switching protocols", "101 Switching"),
    ]);
}
