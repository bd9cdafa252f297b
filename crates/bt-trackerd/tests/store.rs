//! A tracker whose common store is not there, says nothing, or hangs up. A real one is tested by `cargo xtask tracker-test`.
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
mod played_store;

use bt_trackerd::Config;
use client::{announce, get, json, start};
use played_store::{Fate, play};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_rustls::TlsAcceptor;

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

/// At 9.5 s of the store's clock there is nothing.
const NOTHING: Fate = Fate::Answered(b"*3\r\n:9500\r\n:0\r\n*0\r\n");

/// Somebody else's seeder, 198.51.100.7:80, and five downloads.
const A_SEEDER: Fate =
    Fate::Answered(b"*3\r\n:9500\r\n:5\r\n*2\r\n$6\r\n\xc6\x33\x64\x07\0\x50\r\n$5\r\n36002\r\n");

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_at_a_stop_is_told_once_more_and_no_download_twice() {
    // The first answer comes only after it was told again, which nobody may wait for.
    let mut told = 0;
    let (url, exchanges) = play(move |asked| {
        told += usize::from(asked.asks());
        if told == 1 { Fate::HeldBack } else { NOTHING }
    });
    let mut config = Config::at(([127, 0, 0, 1], 0).into());
    config.store = Some(url.parse().unwrap());
    let (server, addr) = start(config).await;
    let seeder = announce(7_001, "&event=completed").replace("left=5", "left=0");
    get(addr, &seeder).await;
    let first = exchanges.until(|asked| asked.asks() && asked.standing(7_001).is_some());
    assert_eq!((first.standing(7_001), first.number(4)), (Some(2), 1));
    server.stop().await;
    let again = exchanges.until(|asked| asked.standing(7_001).is_some());
    assert_eq!((again.standing(7_001), again.number(4)), (Some(2), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_with_a_connection_is_told_again_and_everything_asked_anew() {
    // It answers, and hangs up when it is told that the first one left.
    let mut hung_up = false;
    let (url, exchanges) = play(move |asked| {
        if hung_up || asked.standing(7_001) != Some(3) {
            return A_SEEDER;
        }
        hung_up = true;
        Fate::HungUp
    });
    let mut config = Config::at(([127, 0, 0, 1], 0).into());
    config.store = Some(url.parse().unwrap());
    let (server, addr) = start(config).await;
    for (port, more, standing) in [
        (7_001, "", 0),
        (7_002, "&event=paused", 1),
        (7_001, "&event=stopped", 3),
    ] {
        get(addr, &announce(port, more)).await;
        let asked = exchanges.until(|asked| asked.asks() && asked.standing(port) == Some(standing));
        // From where the last answer ended, but for the first one.
        let since = if port == 7_001 && standing == 0 {
            0
        } else {
            4 * 9_500
        };
        assert_eq!(asked.number(2), since, "{port}");
    }
    // What the store told of is there.
    let scraped = get(addr, &format!("/scrape?info_hash={}", "a".repeat(20))).await;
    let expected = "d8:completei1e10:downloadedi5e11:downloadersi0e10:incompletei1ee";
    assert!(scraped.text().contains(expected), "{}", scraped.text());

    // Asked for as a whole; and whoever is known here is told again.
    let lost = exchanges.until(|asked| asked.standing(7_001) == Some(3));
    assert_eq!((lost.number(2), lost.number(3)), (0, 2_000));
    let known = exchanges.until(|asked| asked.standing(7_002) == Some(1));
    assert_eq!((known.number(3), known.number(5)), (0, 5));
    server.stop().await;
}

/// Certificates that the client programs are tested with too; one key is that of all.
fn file(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bt-cli/testdata/tls");
    folder.join(name)
}

/// Where a store can be reached over TLS, as what this certificate says.
async fn encrypted(store: &str, certificate: &str) -> SocketAddr {
    let store: SocketAddr = store.strip_prefix("redis://").unwrap().parse().unwrap();
    let pem = std::fs::read(file(certificate)).unwrap();
    let key = std::fs::read(file("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(&pem).unwrap()],
            PrivateKeyDer::from_pem_slice(&key).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut outer) = acceptor.accept(stream).await {
                let mut inner = tokio::net::TcpStream::connect(store).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
            }
        }
    });
    addr
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_over_tls_has_to_be_who_it_says() {
    for (certificate, said) in [
        ("good.pem", "the common store answers"),
        ("other.pem", "the common store cannot be used"),
        ("alone.pem", "the common store cannot be used"),
    ] {
        let (store, exchanges) = play(|_| NOTHING);
        let addr = encrypted(&store, certificate).await;
        let mut command = daemon::program();
        command
            .args(["--json", "--http", "127.0.0.1:0"])
            .args(["--store", &format!("rediss://{addr}")])
            .env("SSL_CERT_FILE", file("authority.pem"))
            .env_remove("SSL_CERT_DIR");
        let mut tracker = daemon::Daemon::start(&mut command);
        let log = tracker.read_log_until("the common store");
        assert!(log.contains(said), "{certificate}: {log}");
        if certificate == "good.pem" {
            let reply = daemon::get(tracker.addr(), &announce(7_001, ""));
            assert!(reply.contains("200 OK"), "{reply}");
            exchanges.until(|asked| asked.standing(7_001) == Some(0));
        }
    }
}

#[test]
fn an_address_of_a_store_is_checked_and_its_password_not_shown() {
    for (url, said) in [
        ("rediss://:s3cret@localhost/#insecure", "#insecure would"),
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
