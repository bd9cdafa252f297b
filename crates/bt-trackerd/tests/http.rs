//! The server over real sockets of the loopback: what honest clients get, and what becomes of the others. The numbers
//! are those of the list of faults that the project keeps.
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
use bt_trackerd::{Config, Settings};
use client::{Reply, announce, exchange, get, serve, start};
use std::net::SocketAddr;
use std::time::Duration;

#[tokio::test]
async fn peers_find_each_other_over_both_families() {
    let config = Config {
        http: vec![([127, 0, 0, 1], 0).into(), "[::1]:0".parse().unwrap()],
        ..Config::default()
    };
    let server = bt_trackerd::serve(config).await.unwrap();
    let [v4, v6] = server.addrs().try_into().unwrap();
    let first = get(v4, &announce(7001, "&event=started")).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("content-type"), Some("text/plain"));
    let answer = decode::announce(&first.body).unwrap();
    assert_eq!(answer.peers, []);
    assert_eq!((answer.complete, answer.incomplete), (Some(0), Some(1)));
    assert_eq!(answer.external_ip, Some("127.0.0.1".parse().unwrap()));

    let second = get(v6, &announce(7002, "&event=started")).await;
    assert_eq!(peers(&second), ["127.0.0.1:7001"]);
    let third = get(v4, &announce(7003, "&compact=1")).await;
    assert_eq!(peers(&third), ["127.0.0.1:7001", "[::1]:7002"]);
    let text = third.text();
    assert!(
        text.contains("5:peers6:") && text.contains("6:peers618:"),
        "{text}"
    );

    let listed = get(v4, &announce(7003, "&compact=0")).await;
    assert_eq!(peers(&listed), ["127.0.0.1:7001", "[::1]:7002"]);
    assert!(listed.text().contains("2:ip3:::17:peer id20:"));
    let short = get(v4, &announce(7003, "&compact=0&no_peer_id=1")).await;
    assert!(short.text().contains("2:ip3:::14:porti7002e") && !short.text().contains("peer id"));

    get(v4, &announce(7001, "&event=stopped")).await;
    let last = get(v4, &announce(7003, "")).await;
    assert_eq!(peers(&last), ["[::1]:7002"]);
    server.stop().await;
}

#[tokio::test]
async fn wrong_announces_are_refused_at_once_and_leave_nothing() {
    // 110, 111, 116.
    let (server, addr) = serve().await;
    let right = announce(7001, "");
    let rows = [
        (
            right.replace("info_hash=aaaaaaaaaaaaaaaaaaaa", ""),
            400,
            "info_hash is missing",
        ),
        (
            right.replace("info_hash=a", "info_hash="),
            400,
            "info_hash has 19 bytes",
        ),
        (
            right.replace("info_hash=a", "info_hash=%zz"),
            400,
            "broken percent escape",
        ),
        (right.replace("port=7001", "port=x"), 400, "port=x"),
        (right.replace("port=7001", "port=65536"), 400, "port=65536"),
        (right.replace("left=5", "left=-5"), 400, "left=-5"),
        (right.clone() + "&left=5", 400, "left is given twice"),
        (
            right.replace("port=7001", "port=0"),
            200,
            "port 0 takes no connections",
        ),
        ("/announce".to_owned(), 400, "info_hash is missing"),
        ("/announce?".to_owned(), 400, "info_hash is missing"),
    ];
    for (path, status, reason) in rows {
        let reply = get(addr, &path).await;
        assert_eq!(reply.status, status, "{path}");
        let failure = decode::announce(&reply.body).unwrap_err().to_string();
        assert!(failure.contains(reason), "{path}: {failure}");
    }
    assert_eq!(stats(addr).await["torrents"], 0);
    // At once: the best of a few, as other tests run beside this one.
    let mut waits = Vec::new();
    for _ in 0..5 {
        let started = std::time::Instant::now();
        assert_eq!(get(addr, "/announce?info_hash=short").await.status, 400);
        waits.push(started.elapsed());
    }
    assert!(
        waits.iter().min() < Some(&Duration::from_millis(100)),
        "{waits:?}"
    );
    for n in 0..100 {
        let path = right.replace("peer_id=bb", &format!("peer_id={n:02}"));
        assert_eq!(get(addr, &path).await.status, 200);
    }
    let numbers = stats(addr).await;
    assert_eq!(
        (&numbers["leechers"], &numbers["refused"]),
        (&1.into(), &15.into())
    );
    server.stop().await;
}

#[tokio::test]
async fn odd_requests_are_answered_in_order_or_not_at_all() {
    // 114. Each row: what is sent, and the statuses that come back before the connection closes.
    let (server, addr) = serve().await;
    let close = "Host: t\r\nConnection: close\r\n\r\n";
    let pipelined: String = (0..100)
        .map(|n| {
            format!(
                "GET /{} HTTP/1.1\r\nHost: t\r\n\r\n",
                if n % 3 == 0 { "health" } else { "none" }
            )
        })
        .chain([format!("GET /health HTTP/1.1\r\n{close}")])
        .collect();
    let in_order: Vec<u16> = (0..100)
        .map(|n| if n % 3 == 0 { 200 } else { 404 })
        .chain([200])
        .collect();
    let rows: [(&[u8], &[u16]); 13] = [
        (pipelined.as_bytes(), &in_order),
        (b"GET /health HTTP/1.0\r\n\r\n", &[200]),
        (b"GET /health HTTP/1.1\nHost: t\nConnection: close\n\n", &[200]),
        (b"GET http://elsewhere/health HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", &[200]),
        (b"HEAD /health HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", &[200]),
        (b"POST /announce HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", &[405]),
        (b"DELETE /stats HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", &[405]),
        (b"GET /health HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", &[400]),
        (b"GET /health\r\n\r\n", &[400]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[400]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[400]),
        (b"\0\0\0\0\r\n\r\n", &[400]),
        (b"GET /hea", &[]),
    ];
    for (request, expected) in rows {
        let replies = exchange(addr, request).await;
        let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
        // A preface of HTTP/2 and the like may also be met with silence.
        let silent = statuses.is_empty() && expected == [400];
        assert!(
            silent || statuses == expected,
            "{}: {statuses:?}",
            request.escape_ascii()
        );
    }
    // Two lengths that contradict each other must never make one request look like two.
    let smuggled = b"GET /health HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
                     0\r\n\r\nGET /stats HTTP/1.1\r\nHost: t\r\n\r\n";
    let replies = exchange(addr, smuggled).await;
    assert!(
        replies
            .iter()
            .all(|reply| !reply.text().contains("torrents")),
        "{replies:?}"
    );
    server.stop().await;
}

#[tokio::test]
async fn nobody_is_believed_about_addresses_unless_trusted() {
    // 115.
    let spoofed = "&ip=8.8.8.8&ipv4=8.8.4.4&ipv6=2001%3Adb8%3A%3A1";
    let header = "X-Forwarded-For: 9.9.9.9\r\nForwarded: for=9.9.9.8\r\nX-Real-IP: 9.9.9.7\r\n";
    let trusting = Config {
        settings: Settings {
            proxies: vec!["127.0.0.0/8".parse().unwrap()],
            ip_from: vec!["127.0.0.0/8".parse().unwrap()],
            ..Settings::default()
        },
        ..Config::at(([127, 0, 0, 1], 0).into())
    };
    let rows = [
        (
            Config::at(([127, 0, 0, 1], 0).into()),
            spoofed,
            header,
            "127.0.0.1:7001",
        ),
        (trusting.clone(), "", header, "9.9.9.9:7001"),
        (trusting.clone(), "&ip=8.8.8.8", "", "8.8.8.8:7001"),
        (trusting.clone(), spoofed, header, "9.9.9.9:7001"),
        (trusting, "", "", "127.0.0.1:7001"),
    ];
    for (config, parameters, headers, expected) in rows {
        let (server, addr) = start(config).await;
        let path = announce(7001, parameters);
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n");
        exchange(addr, request.as_bytes()).await;
        assert_eq!(peers(&get(addr, &announce(7002, "")).await), [expected]);
        server.stop().await;
    }
}

#[tokio::test]
async fn lists_change_under_load_without_a_gap() {
    // 120.
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("allow");
    let (a, b) = ("61".repeat(20), "62".repeat(20));
    std::fs::write(&list, &a).unwrap();
    let settings = Settings {
        allow: Some(list.clone()),
        ..Settings::default()
    };
    let config = Config {
        settings: settings.clone(),
        ..Config::at(([127, 0, 0, 1], 0).into())
    };
    let (server, addr) = start(config).await;
    let mut connection = client::Connection::open(addr, b"").await;
    let other = announce(7001, "").replace("aaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbb");
    let rows = [
        (a.clone(), true, [true, false]),
        (format!("{a}\n{b}"), true, [true, true]),
        (format!("{a}\nnonsense"), false, [true, true]),
        (b, true, [false, true]),
        (String::new(), true, [false, false]),
    ];
    for (text, good, expected) in rows {
        std::fs::write(&list, &text).unwrap();
        assert_eq!(
            server.reload(settings.clone()).await.is_ok(),
            good,
            "{text}"
        );
        for (path, expected) in [announce(7001, ""), other.clone()].iter().zip(expected) {
            let reply = connection.ask(path).await;
            assert_eq!(reply.status, 200);
            assert_eq!(decode::announce(&reply.body).is_ok(), expected, "{text}");
        }
    }
    std::fs::remove_file(&list).unwrap();
    let error = server.reload(settings).await.unwrap_err().to_string();
    assert!(error.contains("allow"), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn pages_are_served() {
    let (server, addr) = serve().await;
    server.set_page("/x.torrent", "application/x-bittorrent", "d4:infodee");
    let page = get(addr, "/x.torrent").await;
    assert_eq!((page.status, page.text()), (200, "d4:infodee".to_owned()));
    assert_eq!(
        page.header("content-type"),
        Some("application/x-bittorrent")
    );
    let html = get(addr, "/stats").await;
    assert_eq!(
        html.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(html.text().starts_with("<!doctype html>"));
    assert_eq!(stats(addr).await["announces"], 0);
    assert_eq!(get(addr, "/health").await.text(), "ok\n");
    assert_eq!(get(addr, "/nothing/../here").await.status, 404);
    server.stop().await;
}

#[tokio::test]
async fn one_port_serves_both_families() {
    let (v4, addr) = start(Config::at(([0, 0, 0, 0], 0).into())).await;
    let same = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), addr.port());
    let (v6, _) = start(Config::at(same)).await;
    for to in ["127.0.0.1", "::1"] {
        let to = SocketAddr::new(to.parse().unwrap(), addr.port());
        assert_eq!(get(to, "/health").await.text(), "ok\n");
    }
    v4.stop().await;
    v6.stop().await;
}

#[tokio::test]
async fn stopping_frees_the_port_and_ends_idle_connections() {
    let (server, addr) = serve().await;
    let mut connection = client::Connection::open(addr, b"").await;
    assert_eq!(connection.ask("/health").await.status, 200);
    let started = std::time::Instant::now();
    server.stop().await;
    // Well before connections that do not end would be dropped.
    assert!(started.elapsed() < Duration::from_millis(1_500));
    connection.read_to_end().await;
    let (again, same) = start(Config::at(addr)).await;
    assert_eq!(same, addr);
    let taken = bt_trackerd::serve(Config::at(addr))
        .await
        .unwrap_err()
        .to_string();
    assert!(taken.contains(&addr.to_string()), "{taken}");
    again.stop().await;
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

/// The body without its interval, which is another each time.
fn without_interval(reply: &Reply) -> String {
    let text = reply.body.escape_ascii().to_string();
    let Some((before, after)) = text.split_once("8:intervali") else {
        return text;
    };
    let after = after.trim_start_matches(|char: char| char.is_ascii_digit());
    format!("{before}{after}")
}

#[tokio::test]
async fn both_readers_of_requests_say_the_same() {
    // A connection that has asked for anything but an announce or a scrape is hyper's from then on.
    let (server, addr) = serve().await;
    for port in 1..80 {
        get(addr, &announce(port, "")).await;
    }
    let hash = "info_hash=aaaaaaaaaaaaaaaaaaaa";
    let rows = [
        announce(7000, "&numwant=0"),
        announce(7000, "&numwant=0&compact=0"),
        announce(7000, "&event=stopped"),
        announce(0, ""),
        announce(7000, "&left=1"),
        announce(7000, "&event=never"),
        announce(7000, "&numwant=0&key=%2"),
        announce(7000, "&ip=9.9.9.9&numwant=0"),
        "/announce".to_owned(),
        "/announce?info_hash=short".to_owned(),
        format!("/scrape?{hash}"),
        format!("/scrape?{hash}&info_hash=bbbbbbbbbbbbbbbbbbbb"),
        "/scrape?".to_owned(),
        "/scrape?info_hash=%".to_owned(),
    ];
    let mut in_full = client::Connection::open(addr, b"").await;
    in_full.ask("/health").await;
    let mut quick = client::Connection::open(addr, b"").await;
    for row in rows {
        let (quick, in_full) = (quick.ask(&row).await, in_full.ask(&row).await);
        assert_eq!(quick.status, in_full.status, "{row}");
        assert_eq!(
            without_interval(&quick),
            without_interval(&in_full),
            "{row}"
        );
        assert_eq!(quick.header("content-type"), in_full.header("content-type"));
        assert!(quick.header("date").unwrap().ends_with(" GMT"), "{row}");
    }
    // The quick one becomes the other when it has to, in the midst of a conversation.
    assert_eq!(quick.ask("/health").await.status, 200);
    assert_eq!(quick.ask(&announce(7000, "")).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn announces_are_understood_however_they_are_cut() {
    // 114: pipelined, byte by byte, and with something else among them.
    let (server, addr) = serve().await;
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n");
    let one = request(&announce(7000, "&numwant=0"));
    let mut connection = client::Connection::open(addr, b"").await;
    let (head, last) = one.split_at(one.len() - 1);
    for byte in head.as_bytes() {
        assert!(connection.say(&[*byte]).await);
        tokio::task::yield_now().await;
    }
    assert!(connection.say(last.as_bytes()).await);
    let replies = connection.read(1).await;
    assert!(replies[0].text().contains("10:incompletei1e"));

    // More answers than one turn gives, and requests that end anywhere in the buffer.
    for n in 1..200_u16 {
        get(addr, &announce(n, "")).await;
    }
    let full = request(&announce(7000, "&numwant=200"));
    let count = 150;
    let mut asked = full.repeat(count);
    asked.push_str("GET /health HTTP/1.1\r\nHost: t\r\n\r\n");
    asked.push_str(
        &request("/scrape?info_hash=aaaaaaaaaaaaaaaaaaaa")
            .replace("Host: t", "Host: t\r\nConnection: close"),
    );
    let replies = exchange(addr, asked.as_bytes()).await;
    assert_eq!(replies.len(), count + 2);
    let (announced, rest) = replies.split_at(count);
    assert!(announced.iter().all(|reply| reply.body.len() > 1_100));
    assert_eq!(rest[0].text(), "ok\n");
    assert!(rest[1].text().starts_with("d5:files"));
    server.stop().await;
}
