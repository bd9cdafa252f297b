//! The program as scripts see it: its lines, its signals, its exit codes.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test of a program; helpers stand outside of test functions"
)]

mod daemon;

use bt_core::{InfoHash, PeerId};
use bt_tracker::announce::AnnounceRequest;
use bt_tracker::udp::response::{self, Body};
use bt_tracker::udp::{Family, TransactionId, request};
use daemon::{Daemon, get, program};
use rustix::process::Signal;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::IntoRawFd as _;
use std::process::{Command, Stdio};
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
fn a_stdout_that_takes_nothing_is_told_in_the_log_and_it_serves() {
    let full = std::fs::File::options().write(true).open("/dev/full");
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    for stdout in [full.unwrap().into(), Stdio::from(closed)] {
        let mut command = program();
        command.args(["--http", "127.0.0.1:0"]).stdout(stdout);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let told = log.find_map(|line| {
            let line = line.unwrap();
            let (_, addr) = line.split_once("listening on ")?;
            let addr = addr.split_once(": ").unwrap().0.parse().unwrap();
            Some((line.contains("WARN"), get(addr, "/health")))
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let (is_warning, health) = told.expect("the address in the log");
        assert!(is_warning);
        assert!(health.ends_with("ok\n"), "{health}");
    }
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
fn sockets_of_a_service_manager_are_taken() {
    // As systemd does it: from descriptor 3 on, and how many and for whom in the environment. A shell that is replaced keeps
    // its number.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (http, udp) = (listener.local_addr().unwrap(), socket.local_addr().unwrap());
    // What the configuration has another use for is for that.
    let third = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = third.local_addr().unwrap();
    let script = format!(
        "exec 3<&{} 4<&{} 5<&{}; LISTEN_PID=$$ LISTEN_FDS=3 exec {} --json --metrics {metrics}",
        pass(&listener),
        pass(&socket),
        pass(&third),
        env!("CARGO_BIN_EXE_bt-trackerd")
    );
    let mut daemon = Daemon::start(Command::new("bash").args(["-c", &script]));
    drop((listener, socket, third));
    let mut addrs = [daemon.addr(), daemon.addr(), daemon.addr()];
    let mut expected = [http, udp, metrics];
    addrs.sort();
    expected.sort();
    assert_eq!(addrs, expected);
    assert!(get(http, ANNOUNCE).contains("8:interval"));
    assert!(get(metrics, "/metrics").contains("bt_tracker_torrents 1"));
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(udp).unwrap();
    let mut packet = Vec::new();
    request::connect(TransactionId(5), &mut packet);
    client.send(&packet).unwrap();
    let mut buffer = [0; 64];
    assert_eq!(client.recv(&mut buffer).unwrap(), 16);
}

/// The number of a descriptor that children get too.
fn pass(socket: &impl std::os::fd::AsFd) -> i32 {
    let copy = rustix::io::dup(socket).unwrap();
    rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).unwrap();
    copy.into_raw_fd()
}

#[test]
fn no_log_holds_a_key() {
    let log = log_of_a_private_tracker("text");
    assert!(log.contains("line 2") && log.contains("stopping"), "{log}");
    assert!(!log.contains("s3cret"), "{log}");
}

#[test]
fn a_log_in_json_is_an_object_a_line_and_holds_no_key() {
    let log = log_of_a_private_tracker("json");
    assert!(!log.contains("s3cret"), "{log}");
    let mut messages = Vec::new();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let level = text("level");
        assert!(
            ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&&*level),
            "{line}"
        );
        assert!(text("timestamp").ends_with('Z'), "{line}");
        messages.push((level, text("message")));
    }
    for (level, part) in [("ERROR", "line 2"), ("INFO", "stopping")] {
        let said = |(at, message): &(String, String)| at == level && message.contains(part);
        assert!(messages.iter().any(said), "{part}: {messages:?}");
    }
    // What is wrong with the configuration is an object too, whoever asked for it.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tracker.toml");
    std::fs::write(&file, "log_format = 'xml'").unwrap();
    let mut command = program();
    command
        .args(["--log-format", "json", "--config"])
        .arg(&file);
    let ended = command.output().unwrap();
    let line: serde_json::Value = serde_json::from_slice(&ended.stderr).unwrap();
    let message = line["message"].as_str().unwrap();
    assert!(message.contains("line 1: log_format"), "{message}");
    assert_eq!(ended.status.code(), Some(3));
}

/// Everything that a tracker says of users with good and bad keys, and of a list with a mistake in it.
fn log_of_a_private_tracker(format: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, "s3cret-good-one\n").unwrap();
    let mut command = program();
    command.args(["--log-format", format, "--keys"]).arg(&keys);
    let mut daemon = Daemon::start_with_log(
        command.args(["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--json"]),
        "trace",
    );
    let (http, udp) = (daemon.addr(), daemon.addr());
    for key in ["s3cret-good-one", "s3cret-bad-one"] {
        for path in [
            ANNOUNCE.replace("/announce", &format!("/announce/{key}")),
            ANNOUNCE.replace("/announce", &format!("/{key}/announce")),
            format!("{ANNOUNCE}&passkey={key}"),
            format!("{ANNOUNCE}&passkey={key}&left=nothing"),
            format!("/{key}/elsewhere"),
            format!("/{key}/{}", "x".repeat(9_000)),
        ] {
            get(http, &path);
            // And the other reader of requests.
            let mut stream = TcpStream::connect(http).unwrap();
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(udp).unwrap();
        let mut packet = Vec::new();
        let id = TransactionId(1);
        request::connect(id, &mut packet);
        let mut buffer = [0; 2_048];
        socket.send(&packet).unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        let answer = response::read(&buffer[..length], Family::V4).unwrap();
        let Body::Connect { connection_id } = answer.body else {
            panic!("a connection id");
        };
        let asked = AnnounceRequest::new(InfoHash([1; 20]), PeerId([2; 20]), 6881, 1);
        let url = format!("/announce/{key}");
        packet.clear();
        request::announce(connection_id, id, &asked, &url, &mut packet);
        socket.send(&packet).unwrap();
        socket.recv(&mut buffer).unwrap();
    }
    // A list with a mistake in it, which is nearly a key.
    std::fs::write(&keys, "s3cret-good-one\ns3cret but no key\n").unwrap();
    daemon.signal(Signal::HUP);
    let log = daemon.read_log_until("everything stays as it was");
    daemon.signal(Signal::TERM);
    log + &daemon.rest_of_log()
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

#[test]
fn ten_thousand_idle_connections_leave_the_honest_alone() {
    // 113. Each holds a descriptor here and one there; fewer where the system allows no more.
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let most = limit.maximum.unwrap_or(u64::MAX).saturating_sub(200);
    let count = most.min(10_000);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("tracker.toml");
    std::fs::write(&config, "http = ['127.0.0.1:0']\nconnections_max = 16_384").unwrap();
    let mut daemon = Daemon::start(program().arg("--json").arg("--config").arg(&config));
    let addr = daemon.addr();
    let mut idle = Vec::new();
    for n in 0..count {
        let mut stream = TcpStream::connect(addr).unwrap();
        if n % 2 == 0 {
            // The slow loris: a request that never ends.
            stream.write_all(b"GET /announce?info_hash=").unwrap();
        }
        idle.push(stream);
    }
    for _ in 0..20 {
        let started = Instant::now();
        assert!(get(addr, ANNOUNCE).contains("8:interval"));
        assert!(started.elapsed() < Duration::from_secs(1));
    }
    let stats = get(addr, "/stats");
    assert!(stats.contains("connections"), "{stats}");
}
