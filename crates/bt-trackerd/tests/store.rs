//! A tracker whose common store is not there, or says nothing. One that is there is tested by `cargo xtask tracker-test`.
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
use client::{announce, get, json, start};
use std::ffi::OsStr;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a tracker waits for its store before it counts as away.
const PATIENCE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn without_its_store_a_tracker_answers_by_itself() {
    // Nobody listens at the first; at the second somebody does, and says nothing.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let urls = [&gone, &silent].map(|at| format!("redis://{}", at.local_addr().unwrap()));
    drop(gone);
    for url in urls {
        let mut config = Config::at(([127, 0, 0, 1], 0).into());
        config.store = Some(url.parse().unwrap());
        let (server, addr) = start(config).await;
        let mut times = Vec::new();
        for port in 7_000..7_050 {
            let began = Instant::now();
            let reply = get(addr, &announce(port, "")).await;
            times.push(began.elapsed());
            assert_eq!(reply.status, 200);
            // Nobody else is asked, so nobody has to come back early.
            assert!(!reply.text().contains("8:intervali60e"), "{}", reply.text());
        }
        times.sort();
        let median = times[times.len() / 2];
        assert!(median < PATIENCE / 4, "{url}: {median:?}");
        let health = get(addr, "/health").await;
        assert_eq!(health.status, 200);
        assert!(health.text().starts_with("degraded: "), "{}", health.text());
        let stats = json(addr, "/stats").await;
        assert_eq!(stats["leechers"], 50);
        let store = &stats["store"];
        assert_eq!(
            (&store["up"], &store["announces_waiting"]),
            (&false.into(), &50.into())
        );
        server.stop().await;
    }
}

#[test]
fn an_address_of_a_store_is_checked_and_its_password_not_shown() {
    for (url, said) in [
        ("rediss://:s3cret@localhost", "rediss:// is not served"),
        ("http://:s3cret@localhost", "no address of a store"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tracker.toml");
        std::fs::write(&file, format!("\nstore = '{url}'\n")).unwrap();
        let by_file = [OsStr::new("--config"), file.as_os_str()];
        let by_option = ["--store", url].map(OsStr::new);
        for (args, place) in [(by_file, "line 2: store: "), (by_option, "--store: ")] {
            let mut command: Command = daemon::program();
            let ended = command.args(args).output().unwrap();
            let log = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code(), Some(3), "{log}");
            assert!(log.contains(place) && log.contains(said), "{log}");
            assert!(!log.contains("s3cret"), "{log}");
        }
    }
}
