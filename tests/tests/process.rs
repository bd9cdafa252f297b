//! Signals, closed pipes and tight memory: a process ends when it is told to, and not before.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "shell: owns clocks, files and sockets"
)]

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bt_tests::process::{Process, programs};
use bt_tests::shared::{Shared, text};
use bt_tests::tracker::Tracker;
use rustix::process::Signal;

const PIECE: usize = 16_384;

/// A stop takes no longer, whatever the tracker does; with room for a busy machine.
const STOP_MAX: Duration = Duration::from_secs(9);

/// What is to be stopped.
#[derive(Debug, Clone, Copy)]
enum State {
    WaitingForPeers,
    Downloading,
    Seeding,
    SeedingAfterGet,
}

#[test]
fn a_signal_stops_each_state_with_its_exit_code() {
    let rows = [
        (State::WaitingForPeers, Signal::TERM, 143),
        (State::WaitingForPeers, Signal::INT, 130),
        (State::Downloading, Signal::TERM, 143),
        (State::Downloading, Signal::INT, 130),
        (State::Seeding, Signal::TERM, 0),
        (State::Seeding, Signal::INT, 0),
        (State::SeedingAfterGet, Signal::TERM, 0),
    ];
    let shared = Shared::new(40 * PIECE, PIECE, "http://127.0.0.1:1/announce");
    let (_slow, slow) = shared.seed(&["--up-limit", "100K"]);
    let (_fast, fast) = shared.seed(&[]);
    for (number, (state, signal, code)) in rows.into_iter().enumerate() {
        let copy = format!("copy{number}");
        let nobody = "127.0.0.1:1".parse().expect("an address");
        let mut process = match state {
            State::WaitingForPeers => {
                let mut get = shared.get(&copy, nobody, &[]);
                get.event("checked");
                get
            }
            State::Downloading => {
                let mut get = shared.get(&copy, slow, &[]);
                get.event_where("progress", |event| event["downloaded"].as_u64() > Some(0));
                get
            }
            State::Seeding => shared.seed(&[]).0,
            State::SeedingAfterGet => {
                let mut get = shared.get(&copy, fast, &["--seed"]);
                get.event("complete");
                get
            }
        };
        process.signal(signal);
        assert_eq!(
            process.end_within(STOP_MAX),
            code,
            "{state:?} {signal:?}: {}",
            process.stderr()
        );
        let stopped = process
            .drain()
            .iter()
            .any(|event| event["event"] == "stopped");
        assert!(
            stopped,
            "{state:?} {signal:?}: no `stopped`: {:?}",
            process.seen
        );
    }
}

/// A tracker that never answers holds the goodbye up, but not for long; a second signal ends it at once.
#[test]
fn a_hanging_tracker_does_not_hold_a_stop_up() {
    let hanging = Tracker::start(Arc::new(|_, stream| {
        // Until the other side gives up.
        let _ = std::io::copy(stream, &mut std::io::sink());
    }));
    let shared = Shared::new(4 * PIECE, PIECE, &hanging.announce_url());
    for (signals, limit) in [(1, STOP_MAX), (2, Duration::from_secs(3))] {
        let source = shared.folder.path().join("source");
        let arguments = ["seed", text(&shared.torrent), "-d", text(&source)];
        let more = ["--bind", "127.0.0.1", "--port", "0", "--json"];
        let home = shared.make(&format!("home{signals}"));
        let before = hanging.connections();
        let mut seed = Process::start("bt", &home, &[&arguments[..], &more].concat());
        seed.event("listening");
        while hanging.connections() == before {
            assert!(seed.is_running(), "{}", seed.stderr());
            std::thread::park_timeout(Duration::from_millis(10));
        }
        for _ in 0..signals {
            if seed.is_running() {
                seed.signal(Signal::TERM);
            }
            std::thread::park_timeout(Duration::from_millis(300));
        }
        let code = seed.end_within(limit);
        assert!(code == 0 || code == 143, "exit {code}: {}", seed.stderr());
    }
}

/// Nobody reads what it prints: it does its work all the same.
#[test]
fn closed_output_does_not_kill_a_download() {
    let rows = [
        ("closed stdout", ">&-"),
        ("closed stderr", "2>&-"),
        ("both closed", ">&- 2>&-"),
        ("a full disk behind stderr", "2>/dev/full"),
    ];
    let shared = Shared::new(10 * PIECE, PIECE, "http://127.0.0.1:1/announce");
    let (_seeder, addr) = shared.seed(&[]);
    for (number, (name, redirection)) in rows.into_iter().enumerate() {
        let copy = format!("copy{number}");
        let mut get = limited(&shared, &copy, addr, &format!("exec \"$@\" {redirection}"));
        assert_eq!(get.end(), 0, "{name}: {}", get.stderr());
        assert!(shared.is_copied(&copy), "{name}");
    }
}

#[test]
fn tight_memory_is_enough_and_lack_of_it_is_no_half_written_data() {
    let shared = Shared::new(64 * PIECE, PIECE, "http://127.0.0.1:1/announce");
    let (_seeder, addr) = shared.seed(&[]);
    // KiB of address space: threads reserve most of what is asked for, and use little of it.
    for (kib, must_work) in [(600_000, true), (60_000, false), (12_000, false)] {
        let copy = format!("copy{kib}");
        let mut get = limited(
            &shared,
            &copy,
            addr,
            &format!("ulimit -v {kib}; exec \"$@\""),
        );
        let code = get.end();
        if must_work {
            assert_eq!(code, 0, "with {kib} KiB: {}", get.stderr());
        }
        assert_eq!(
            code == 0,
            shared.is_copied(&copy),
            "exit {code} with {kib} KiB: {}",
            get.stderr()
        );
        let mut again = shared.get(&copy, addr, &[]);
        assert_eq!(again.end(), 0, "after {kib} KiB: {}", again.stderr());
        assert!(shared.is_copied(&copy), "after {kib} KiB");
    }
}

#[test]
fn a_file_longer_than_may_be_ends_with_exit_code_6() {
    let shared = Shared::new(10 * PIECE, PIECE, "http://127.0.0.1:1/announce");
    let (_seeder, addr) = shared.seed(&[]);
    let mut get = limited(&shared, "copy", addr, "ulimit -f 8; exec \"$@\"");
    assert_eq!(get.end(), 6, "{}", get.stderr());
    assert!(get.stderr().contains("File too large"), "{}", get.stderr());
}

/// `bt get` started by a shell script that gets it as its arguments.
fn limited(shared: &Shared, copy: &str, addr: std::net::SocketAddr, script: &str) -> Process {
    let (into, home) = (shared.make(copy), shared.make(&format!("{copy}-home")));
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh"])
        .arg(programs().join("bt"));
    command
        .arg("get")
        .arg(&shared.torrent)
        .arg("-d")
        .arg(into)
        .arg("--peer")
        .arg(addr.to_string());
    command.args([
        "--bind",
        "127.0.0.1",
        "--port",
        "0",
        "--no-tracker",
        "--timeout",
        "20s",
    ]);
    command
        .env("HOME", &home)
        .env("XDG_STATE_HOME", home.join("state"));
    Process::spawn(command)
}

#[test]
fn the_tracker_survives_sighup_and_stops_on_sigterm_and_sigint() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = tempfile::tempdir().expect("a home");
        let mut tracker = Process::start(
            "bt-trackerd",
            home.path(),
            &["--http", "127.0.0.1:0", "--json"],
        );
        tracker.event("listening");
        tracker.signal(Signal::HUP);
        std::thread::park_timeout(Duration::from_millis(200));
        assert!(tracker.is_running(), "{}", tracker.stderr());
        tracker.signal(signal);
        assert_eq!(
            tracker.end_within(STOP_MAX),
            0,
            "{signal:?}: {}",
            tracker.stderr()
        );
    }
}
