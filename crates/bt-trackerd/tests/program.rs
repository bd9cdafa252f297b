//! The program as scripts see it: its lines, its signals, its exit codes.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test of a program; helpers stand outside of test functions"
)]

mod daemon;

use daemon::{Daemon, get, program};
use rustix::process::Signal;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

const ANNOUNCE: &str =
    "/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&port=7001&left=5";

#[test]
fn each_address_is_printed() {
    let mut daemon =
        Daemon::start(program().args(["--http", "127.0.0.1:0", "--http", "127.0.0.1:0", "--json"]));
    for _ in 0..2 {
        let line: serde_json::Value = serde_json::from_str(&daemon.line()).unwrap();
        let addr = line["addr"].as_str().unwrap().to_owned();
        let expected = serde_json::json!({
            "event": "listening",
            "transport": "http",
            "addr": addr,
            "announce": format!("http://{addr}/announce"),
        });
        assert_eq!(line, expected);
        assert!(get(addr.parse().unwrap(), "/health").ends_with("ok\n"));
    }
    let mut plain = Daemon::start(program().args(["--http", "127.0.0.1:0"]));
    let line = plain.line();
    assert!(
        line.starts_with("listening on 127.0.0.1:") && line.ends_with("/announce"),
        "{line}"
    );
}

#[test]
fn signals_stop_it_in_good_order() {
    // 154: with a connection open, too.
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = Daemon::start(program().args(["--http", "127.0.0.1:0", "--json"]));
        let addr = daemon.addr();
        let _open = TcpStream::connect(addr).unwrap();
        assert!(get(addr, "/health").contains(" 200 "));
        let started = Instant::now();
        daemon.signal(signal);
        assert_eq!(daemon.child.wait().unwrap().code(), Some(0), "{signal:?}");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn hang_up_reads_lists_again_and_keeps_them_if_they_are_bad() {
    // 120.
    let folder = tempfile::tempdir().unwrap();
    let (list, config) = (
        folder.path().join("deny"),
        folder.path().join("tracker.toml"),
    );
    std::fs::write(&list, "").unwrap();
    std::fs::write(
        &config,
        "deny = 'deny'\nhttp = ['127.0.0.1:0']\ninterval = '10m'",
    )
    .unwrap();
    let mut daemon = Daemon::start(program().arg("--json").arg("--config").arg(&config));
    let addr = daemon.addr();
    let interval = |reply: &str| -> u64 {
        let (_, behind) = reply.split_once("8:intervali").expect("an answer");
        behind.split('e').next().unwrap().parse().unwrap()
    };
    assert!((600..=660).contains(&interval(&get(addr, ANNOUNCE))));
    std::fs::write(&list, "61".repeat(20)).unwrap();
    std::fs::write(&config, "deny = 'deny'\ninterval = '1h'").unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("read again");
    daemon.wait_for_log("after a restart only: http");
    assert!(get(addr, ANNOUNCE).contains("does not serve this torrent"));
    let other = ANNOUNCE.replace("aaaaaaaaaaaaaaaaaaaa", "cccccccccccccccccccc");
    assert!((3600..=3960).contains(&interval(&get(addr, &other))));
    for bad in ["nonsense", "deny = 'gone'"] {
        std::fs::write(if bad == "nonsense" { &list } else { &config }, bad).unwrap();
        daemon.signal(Signal::HUP);
        daemon.wait_for_log("everything stays as it was");
        assert!(get(addr, ANNOUNCE).contains("does not serve this torrent"));
        std::fs::write(&list, "61".repeat(20)).unwrap();
    }
}

#[test]
fn the_configuration_is_printed_and_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tracker.toml");
    let print = |args: &[&str]| {
        let output = program().arg("--print-config").args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    let printed = print(&["--interval", "10m", "--http", "127.0.0.1:0"]);
    assert!(
        printed.contains("\ninterval = \"10m\"\n")
            && printed.contains("\nhttp = [\"127.0.0.1:0\"]\n")
            && printed.contains("\n#numwant_max = 200\n"),
        "{printed}"
    );
    std::fs::write(&path, &printed).unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(print(&["--config", path]), printed);
    let mut daemon = Daemon::start(program().args(["--json", "--config", path]));
    assert!(get(daemon.addr(), "/health").ends_with("ok\n"));
}

#[test]
fn mistakes_have_their_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.toml");
    std::fs::write(&bad, "colour = 'red'").unwrap();
    let bad = bad.to_str().unwrap();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().to_string();
    let rows: [(&[&str], i32, &str); 7] = [
        (&["--no-such-option"], 2, "no-such-option"),
        (&["--http", "here"], 2, "here"),
        (&["--interval", "soon"], 2, "soon"),
        (&["--config", bad], 3, "bad.toml: line 1: colour"),
        (&["--config", "/nonexistent.toml"], 3, "nonexistent"),
        (&["--http", "127.0.0.1:0", "--allow", bad], 3, "line 1"),
        (&["--http", &taken], 1, &taken),
    ];
    for (args, code, named) in rows {
        let output = program().args(args).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {err}");
        assert!(err.contains(named), "{args:?}: {err}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn few_descriptors_are_enough_for_the_honest() {
    // 113: more connections than the process may open files.
    let mut shell = Command::new("sh");
    let script = format!(
        "ulimit -n 64; exec {} --http 127.0.0.1:0 --json",
        env!("CARGO_BIN_EXE_bt-trackerd")
    );
    let mut daemon = Daemon::start(shell.args(["-c", &script]));
    let addr = daemon.addr();
    let mut flood = Vec::new();
    for _ in 0..150 {
        flood.push(TcpStream::connect(addr).unwrap());
    }
    for _ in 0..20 {
        assert!(get(addr, ANNOUNCE).contains("8:interval"));
    }
}
