//! What the operator is told: metrics that a strict reader takes, and a page that is whole.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test of a server; helpers stand outside of test functions"
)]

#[allow(dead_code, reason = "each file of tests uses its part")]
mod client;

use bt_trackerd::Config;
use client::{announce, get};
use std::collections::BTreeMap;
use std::net::SocketAddr;

async fn serve() -> (bt_trackerd::Server, SocketAddr, SocketAddr) {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        metrics: Some(([127, 0, 0, 1], 0).into()),
        snapshot: Some(folder.path().join("swarms")),
        ..Config::at(([127, 0, 0, 1], 0).into())
    };
    let (server, addr) = client::start(config).await;
    server.keep().await;
    let metrics = server.metrics_addr().unwrap();
    (server, addr, metrics)
}

/// A metric's type, and its values by labels.
type Family = (String, BTreeMap<String, f64>);

/// Reads the text format (version 0.0.4) as its description has it, and nothing beyond it.
fn parse(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n'));
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut described = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && is_name(name), "{line}");
            described = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(described.as_deref(), Some(name), "{line}");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            let before = families.insert(name.to_owned(), (kind.to_owned(), BTreeMap::new()));
            assert_eq!(before, None, "{line}: described twice");
        } else {
            let (metric, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = match metric.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
                None => (metric, ""),
            };
            assert_eq!(described.as_deref(), Some(name), "{line}: in one group");
            for label in labels.split("\",").filter(|label| !label.is_empty()) {
                let (label, value) = label.split_once("=\"").unwrap();
                assert!(is_name(label), "{line}");
                assert!(!value.trim_end_matches('"').contains(['"', '\\']), "{line}");
            }
            let values = &mut families.get_mut(name).unwrap().1;
            let before = values.insert(labels.to_owned(), value.parse().unwrap());
            assert_eq!(before, None, "{line}: told twice");
        }
    }
    families
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.starts_with(|first: char| first.is_ascii_digit()) && name.bytes().all(fits)
}

#[tokio::test]
async fn metrics_say_what_happened() {
    let (server, addr, metrics) = serve().await;
    for (port, more) in [(7_001, ""), (7_002, "&event=started"), (7_003, "")] {
        assert_eq!(get(addr, &announce(port, more)).await.status, 200);
    }
    let completed = announce(7_003, "&event=completed").replace("left=5", "left=0");
    get(addr, &completed).await;
    get(addr, "/scrape?info_hash=aaaaaaaaaaaaaaaaaaaa").await;
    assert_eq!(get(addr, "/announce?port=1").await.status, 400);
    let reply = get(metrics, "/metrics").await;
    assert_eq!(reply.status, 200);
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(reply.header("content-type"), Some(content_type));
    let families = parse(&reply.text());
    let value = |name: &str, labels: &str| {
        let (_, values) = &families[&format!("bt_tracker_{name}")];
        values[labels]
    };
    for (name, labels, expected) in [
        ("torrents", "", 1.0),
        ("peers", "role=\"seeder\"", 1.0),
        ("peers", "role=\"leecher\"", 2.0),
        ("downloads", "", 1.0),
        (
            "requests_total",
            "transport=\"http\",kind=\"announce\"",
            5.0,
        ),
        ("requests_total", "transport=\"http\",kind=\"scrape\"", 1.0),
        ("requests_total", "transport=\"udp\",kind=\"announce\"", 0.0),
        ("refused_total", "", 1.0),
        ("snapshots_total", "", 1.0),
        ("snapshot_failures_total", "", 0.0),
        ("client_peers", "client=\"other\"", 0.0),
    ] {
        assert_eq!(value(name, labels), expected, "{name} {labels}");
    }
    assert!(value("uptime_seconds", "") > 0.0);
    // Counters never fall, and peers' requests are not served here.
    for (path, status) in [
        ("/health", 200),
        ("/stats", 200),
        ("/", 404),
        ("/announce", 404),
    ] {
        assert_eq!(get(metrics, path).await.status, status, "{path}");
    }
    assert_eq!(get(addr, "/metrics").await.status, 404);
    let again = parse(&get(metrics, "/metrics").await.text());
    for (name, (kind, values)) in &families {
        for (labels, value) in values.iter().filter(|_| kind == "counter") {
            assert!(again[name].1[labels] >= *value, "{name} {labels}");
        }
    }
    server.stop().await;
}

/// Reads a document in which every element is closed, and returns the texts and the names of its elements.
fn read_page(html: &str) -> (String, BTreeMap<String, usize>) {
    const VOID: [&str; 1] = ["meta"];
    let mut open: Vec<&str> = Vec::new();
    let (mut texts, mut names) = (String::new(), BTreeMap::new());
    let mut rest = html.strip_prefix("<!doctype html>").unwrap();
    while let Some((text, behind)) = rest.split_once('<') {
        if open.last() != Some(&"style") {
            texts.push_str(text);
        }
        let (tag, behind) = behind.split_once('>').unwrap();
        rest = behind;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed in the wrong order");
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap();
        *names.entry(name.to_owned()).or_default() += 1;
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        if tag.ends_with('/') {
            continue;
        }
        assert!(!VOID.contains(&name), "{tag}");
        open.push(name);
    }
    assert_eq!(open, Vec::<&str>::new(), "left open");
    (texts + rest, names)
}

#[tokio::test]
async fn the_page_is_whole_and_takes_nothing_from_elsewhere() {
    let (server, addr, _) = serve().await;
    get(addr, &announce(7_001, "")).await;
    let reply = get(addr, "/stats").await;
    assert_eq!(
        reply.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = reply.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    let html = reply.text();
    let (texts, names) = read_page(&html);
    for said in [
        "torrents",
        "seeders",
        "announces a second",
        "Peers",
        "announces over HTTP",
    ] {
        assert!(texts.contains(said), "{said}");
    }
    assert_eq!(names["svg"], 2);
    assert!(names["polyline"] >= 2, "{names:?}");
    assert_eq!(names.get("script"), None);
    for elsewhere in ["http:", "https:", "src=", "url(", "@import"] {
        assert!(!html.contains(elsewhere), "{elsewhere}");
    }
    // BEP 21: who lacks something and does not want it is told apart, here and in a scrape.
    get(addr, &announce(7_002, "&event=paused")).await;
    let json = client::json(addr, "/stats").await;
    let numbers = ["leechers", "downloaders", "partial_seeds"].map(|name| json[name].as_u64());
    assert_eq!(numbers, [Some(2), Some(1), Some(1)]);
    let scraped = get(addr, &format!("/scrape?info_hash={}", "a".repeat(20))).await;
    let expected = "8:completei0e10:downloadedi0e11:downloadersi1e10:incompletei2e";
    assert!(scraped.text().contains(expected), "{}", scraped.text());
    assert!(json["announces_per_second"].is_number() && json["clients"].is_array());
    server.stop().await;
}

#[tokio::test]
async fn metrics_have_few_connections_and_keep_serving() {
    let (server, addr, metrics) = serve().await;
    // More than it takes, all silent: peers do not notice, and the operator has an answer once some have gone.
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(client::Connection::open(metrics, b"").await);
    }
    assert_eq!(get(addr, &announce(7_001, "")).await.status, 200);
    drop(silent);
    assert_eq!(get(metrics, "/health").await.status, 200);
    server.stop().await;
}
