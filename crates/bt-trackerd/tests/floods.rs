//! Who asks too much over HTTP, too slowly, or not at all: what it is told, and that others are served meanwhile.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test of a shell; helpers stand outside of test functions"
)]

#[allow(dead_code, reason = "each file of tests uses its part")]
mod client;

use bt_tracker::http::decode;
use bt_tracker::server;
use bt_trackerd::{Config, Settings};
use client::{Reply, announce, exchange, get, serve, start};
use std::net::SocketAddr;
use std::time::Duration;

#[tokio::test]
async fn oversized_requests_are_cut_off() {
    // 112.
    let (server, addr) = serve().await;
    let head =
        |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nHost: t\r\n{headers}\r\n");
    let rows = [
        (
            head(&format!("/announce?x={}", "x".repeat(9_000)), ""),
            &[414][..],
        ),
        (
            head(&format!("/{}", "x".repeat(1_000_000)), ""),
            &[414, 431],
        ),
        (
            head(&format!("/announce?{}", "a=1&".repeat(100_000)), ""),
            &[414, 431],
        ),
        (head("/health", &"A: b\r\n".repeat(50_000)), &[431]),
        (head("/health", &"A: b\r\n".repeat(200)), &[431]),
        (
            head("/health", &format!("A: {}\r\n", "b".repeat(1_000_000))),
            &[431],
        ),
    ];
    for (request, expected) in rows {
        let shown = request[..60].to_owned();
        let statuses = exchange(addr, request.as_bytes()).await;
        let statuses: Vec<u16> = statuses.iter().map(|reply| reply.status).collect();
        // Where much was still on its way, closing may take the reply with it.
        let told = statuses
            .first()
            .is_none_or(|status| expected.contains(status));
        assert!(told && statuses.len() <= 1, "{shown}: {statuses:?}");
    }
    assert_eq!(get(addr, "/health").await.status, 200);
    server.stop().await;
}

/// The clock stands still while anything can happen, and jumps when all wait for it: ten seconds pass in no time.
#[tokio::test(start_paused = true)]
async fn who_is_silent_or_drips_is_dropped_after_ten_seconds() {
    // 113.
    let (server, addr) = serve().await;
    for said in [
        "",
        "GET /announce?info_hash=",
        "GET /health HTTP/1.1\r\nHost: t\r\n\r\n",
    ] {
        let before = tokio::time::Instant::now();
        let connection = client::Connection::open(addr, said.as_bytes()).await;
        connection.read_to_end().await;
        let waited = before.elapsed().as_secs();
        assert!((10..=12).contains(&waited), "{said:?}: {waited} s");
    }
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_asks_and_does_not_read_is_dropped() {
    // 113.
    let (server, addr) = serve().await;
    let mut connection = client::Connection::open(addr, b"").await;
    let before = tokio::time::Instant::now();
    let asked = b"GET /stats HTTP/1.1\r\nHost: t\r\n\r\n".repeat(1_000);
    while connection.say(&asked).await {}
    let waited = before.elapsed().as_secs();
    assert!((30..=61).contains(&waited), "{waited} s");
    server.stop().await;
}

#[tokio::test]
async fn a_flood_of_silent_connections_does_not_shut_out_the_honest() {
    // 113.
    let config = Config {
        connections_max: 20,
        ..Config::at(([127, 0, 0, 1], 0).into())
    };
    let (server, addr) = start(config).await;
    let mut flood = Vec::new();
    for _ in 0..200 {
        flood.push(client::Connection::open(addr, b"GET /announce?info_hash=").await);
    }
    let started = std::time::Instant::now();
    assert_eq!(peers(&get(addr, &announce(7001, "")).await), [""; 0]);
    assert!(started.elapsed() < Duration::from_secs(5));
    let open = stats(addr).await["connections"].as_u64().unwrap();
    assert!(open <= 20, "{open}");
    // The longest silent ones are closed, and not only forgotten: long before their ten seconds.
    flood.remove(0).read_to_end().await;
    assert!(started.elapsed() < Duration::from_secs(8));
    // One that asks now and then outlives a flood of ones that do not.
    let mut patient = client::Connection::open(addr, b"").await;
    for _ in 0..10 {
        for _ in 0..10 {
            flood.push(client::Connection::open(addr, b"GET ").await);
        }
        assert_eq!(patient.ask("/health").await.status, 200);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_flood_of_torrents_is_bounded() {
    // 117; who makes room for whom is tested where it is decided.
    let config = Config {
        settings: Settings {
            swarms: server::Config {
                torrents_max: 160,
                ..server::Config::default()
            },
            ..Settings::default()
        },
        ..Config::at(([127, 0, 0, 1], 0).into())
    };
    let (server, addr) = start(config).await;
    let mut connection = client::Connection::open(addr, b"").await;
    for n in 0..2_000 {
        let path = announce(7001, "").replace("info_hash=aaaa", &format!("info_hash={n:04}"));
        let path = path.replace("aaaa&", &format!("aa%{:02x}a&", n % 251));
        assert_eq!(connection.ask(&path).await.status, 200);
    }
    let torrents = stats(addr).await["torrents"].as_u64().unwrap();
    assert!(torrents <= 160, "{torrents}");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_announces_and_does_not_read_is_dropped() {
    // 113.
    let (server, addr) = serve().await;
    let mut connection = client::Connection::open(addr, b"").await;
    let asked = format!("GET {} HTTP/1.1\r\nHost: t\r\n\r\n", announce(7000, "")).repeat(100);
    let before = tokio::time::Instant::now();
    while connection.say(asked.as_bytes()).await {}
    let waited = before.elapsed().as_secs();
    assert!((10..=12).contains(&waited), "{waited} s");
    server.stop().await;
}

fn peers(reply: &Reply) -> Vec<String> {
    let answer = decode::announce(&reply.body).unwrap();
    let mut peers: Vec<SocketAddr> = answer.peers.iter().map(|peer| peer.addr).collect();
    peers.sort();
    peers.iter().map(ToString::to_string).collect()
}

async fn stats(addr: SocketAddr) -> serde_json::Value {
    let request =
        "GET /stats HTTP/1.1\r\nHost: t\r\nAccept: application/json\r\nConnection: close\r\n\r\n";
    let replies = exchange(addr, request.as_bytes()).await;
    serde_json::from_slice(&replies[0].body).unwrap()
}
