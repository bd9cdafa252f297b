//! What a tracker knows after it was stopped, killed, or had its file damaged.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test of a program; helpers stand outside of test functions"
)]

#[allow(dead_code, reason = "each file of tests uses its part")]
mod client;
mod daemon;

use bt_trackerd::Config;
use daemon::{Daemon, get, program};
use rustix::process::Signal;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

fn start(snapshot: &Path) -> (Daemon, SocketAddr, SocketAddr) {
    let addrs = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--json"];
    let mut command = program();
    let mut daemon = Daemon::start(command.args(addrs).arg("--snapshot").arg(snapshot));
    let (http, udp) = (daemon.addr(), daemon.addr());
    (daemon, http, udp)
}

/// Announces peer `n`, of a torrent of `n % 3`; every fifth completes its download.
fn announce(addr: SocketAddr, n: u16) {
    let hash = "abc"[usize::from(n % 3)..][..1].repeat(20);
    let port = 7_000 + n;
    let path = |more: &str| {
        format!("/announce?info_hash={hash}&peer_id=bbbbbbbbbbbbbbbbbbbb&port={port}{more}")
    };
    assert!(get(addr, &path("&left=5")).contains("8:interval"));
    if n.is_multiple_of(5) {
        assert!(get(addr, &path("&left=0&event=completed")).contains("8:interval"));
    }
}

/// What scrapes of the three torrents say.
fn scraped(addr: SocketAddr) -> [String; 3] {
    ["a", "b", "c"].map(|letter| {
        let reply = get(addr, &format!("/scrape?info_hash={}", letter.repeat(20)));
        let (_, body) = reply.split_once("\r\n\r\n").unwrap();
        body.to_owned()
    })
}

fn connection_id(udp: SocketAddr) -> [u8; 8] {
    let packet = [&0x0417_2710_1980_u64.to_be_bytes()[..], &[0; 4], b"turn"].concat();
    ask(udp, &packet)[8..].try_into().unwrap()
}

fn ask(udp: SocketAddr, packet: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    socket.send_to(packet, udp).unwrap();
    let mut buffer = [0; 1_500];
    let length = socket.recv(&mut buffer).expect("an answer");
    buffer[..length].to_vec()
}

#[test]
fn a_killed_tracker_knows_what_was_last_written_and_a_stopped_one_everything() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("swarms");
    let (mut first, http, udp) = start(&file);
    (0..30).for_each(|n| announce(http, n));
    let id = connection_id(udp);
    let before = scraped(http);
    first.signal(Signal::USR1);
    first.wait_for_log("snapshot written");
    // What comes now is lost with the process.
    (30..40).for_each(|n| announce(http, n));
    first.signal(Signal::KILL);
    first.child.wait().unwrap();

    let (second, http, udp) = start(&file);
    assert_eq!(scraped(http), before);
    // Whoever had proven its address is still believed: a scrape with the id from before.
    let scrape = [&id[..], &[0, 0, 0, 2], b"scrp", &[b'a'; 20]].concat();
    assert_eq!(ask(udp, &scrape)[..8], *b"\0\0\0\x02scrp");
    (30..60).for_each(|n| announce(http, n));
    let before = scraped(http);
    assert!(
        before[0].contains("8:completei4e10:downloadedi4e11:downloadersi16e10:incompletei16e"),
        "{}",
        before[0]
    );
    second.signal(Signal::TERM);
    let mut second = second;
    assert_eq!(second.child.wait().unwrap().code(), Some(0));

    let (_third, http, _) = start(&file);
    assert_eq!(scraped(http), before);
}

#[test]
fn a_damaged_snapshot_is_set_aside_and_the_one_before_it_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("swarms");
    let (mut daemon, http, _) = start(&file);
    (0..10).for_each(|n| announce(http, n));
    let before = scraped(http);
    for n in 10..12 {
        daemon.signal(Signal::USR1);
        daemon.wait_for_log("snapshot written");
        announce(http, n);
    }
    drop(daemon);
    let bytes = std::fs::read(&file).unwrap();
    for damaged in [
        bytes[..bytes.len() - 1].to_vec(),
        b"something else".to_vec(),
    ] {
        let old = std::fs::read(folder.path().join("swarms.old")).unwrap();
        std::fs::write(&file, &damaged).unwrap();
        let (mut daemon, http, _) = start(&file);
        assert_eq!(scraped(http), before);
        daemon.wait_for_log("swarms.bad");
        drop(daemon);
        assert!(!file.exists());
        assert_eq!(
            std::fs::read(folder.path().join("swarms.bad")).unwrap(),
            damaged
        );
        assert_eq!(
            std::fs::read(folder.path().join("swarms.old")).unwrap(),
            old
        );
    }
    // Both are damaged: it begins with nothing, and serves.
    std::fs::write(&file, "nonsense").unwrap();
    std::fs::write(folder.path().join("swarms.old"), &bytes[1..]).unwrap();
    let (_daemon, http, _) = start(&file);
    assert!(scraped(http).iter().all(|body| body == "d5:filesdee"));
    announce(http, 1);
}

#[test]
fn a_place_where_nothing_can_be_kept_is_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("missing").join("swarms");
    for place in [nowhere.as_path(), folder.path()] {
        let mut command = program();
        let command = command
            .args(["--http", "127.0.0.1:0", "--snapshot"])
            .arg(place);
        let output = command.output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains("cannot keep a snapshot at"), "{err}");
        assert!(err.contains(place.to_str().unwrap()), "{err}");
    }
}

#[tokio::test]
async fn snapshots_are_written_at_intervals_while_requests_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("swarms");
    let config = Config {
        snapshot: Some(file.clone()),
        snapshot_interval: Duration::from_millis(1),
        ..Config::at(([127, 0, 0, 1], 0).into())
    };
    let (server, addr) = client::start(config.clone()).await;
    let mut connection = client::Connection::open(addr, b"").await;
    let mut announced = 0_u16;
    let written = loop {
        announced += 1;
        let reply = connection
            .ask(&client::announce(7_000 + announced % 1_000, ""))
            .await;
        assert_eq!(reply.status, 200);
        let stats = client::json(addr, "/stats").await;
        assert_eq!(stats["snapshots_failed"], 0);
        if let Some(written @ 5..) = stats["snapshots"].as_u64() {
            break written;
        }
    };
    drop(server);
    // Dropped, not stopped: what is on disk is what was written at an interval.
    let (server, addr) = client::start(config).await;
    let leechers = client::json(addr, "/stats").await["leechers"]
        .as_u64()
        .unwrap();
    let most = u64::from(announced.min(1_000));
    assert!(
        (1..=most).contains(&leechers),
        "{leechers} of {most} after {written}"
    );
    server.stop().await;
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
