//! Scrapes over HTTP: of one torrent, of many, of all.
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
use bt_trackerd::Settings;
use client::{announce, exchange, get, serve};
use std::io::Read as _;
use std::time::Duration;

#[tokio::test]
async fn scrapes_are_bounded() {
    // 118.
    let (server, addr) = serve().await;
    get(addr, &announce(7001, "&event=started")).await;
    let everything = get(addr, "/scrape").await;
    assert_eq!(everything.status, 400);
    assert!(decode::scrape(&everything.body).is_err());
    let asked = "info_hash=aaaaaaaaaaaaaaaaaaaa&info_hash=zzzzzzzzzzzzzzzzzzzz";
    let scraped = decode::scrape(&get(addr, &format!("/scrape?{asked}")).await.body).unwrap();
    assert_eq!(scraped.torrents.len(), 1, "what is not known is left out");
    assert_eq!(scraped.torrents[0].entry.incomplete, 1);
    let many: String = (0..100)
        .map(|n| format!("info_hash=bbbbbbbbbbbbbbbbbb{n:02}&"))
        .collect();
    for n in 0..100 {
        let path = announce(7001, "")
            .replace("aaaaaaaaaaaaaaaaaaaa", &format!("bbbbbbbbbbbbbbbbbb{n:02}"));
        get(addr, &path).await;
    }
    let scraped = decode::scrape(&get(addr, &format!("/scrape?{many}")).await.body).unwrap();
    assert_eq!(scraped.torrents.len(), 74);
    server.stop().await;
}

#[tokio::test]
async fn a_scrape_is_answered_in_order_and_each_torrent_once() {
    let (server, addr) = serve().await;
    // In the order of the answer; some differ in their last letters only.
    let torrents = ["A", "aaaaaaaaaaaaaaaaaaab", "aaaaaaaaaaaaaaaaaaac", "b"];
    let torrents = torrents.map(|name| format!("{name:z<20}"));
    for (count, torrent) in (1..).zip(&torrents) {
        for port in 0..count {
            let path = announce(7_001 + port, "").replace(&"a".repeat(20), torrent);
            assert_eq!(get(addr, &path).await.status, 200);
        }
    }
    let asked = [3, 2, 0, 1, 2, 3].map(|number: usize| torrents[number].as_str());
    let asked = asked.join("&info_hash=");
    let body = get(addr, &format!("/scrape?info_hash={asked}")).await.body;
    let files = (1..).zip(&torrents).map(|(count, torrent)| {
        format!(
            "20:{torrent}d8:completei0e10:downloadedi0e11:downloadersi{count}e10:incompletei{count}ee"
        )
    });
    let expected = format!("d5:filesd{}ee", files.collect::<String>());
    assert_eq!(String::from_utf8(body).unwrap(), expected);
    server.stop().await;
}

#[tokio::test]
async fn a_scrape_of_everything_is_for_who_is_allowed_to() {
    // 118, BEP 48.
    let settings = |full_scrape_max| Settings {
        full_scrape_max,
        ..Settings::default()
    };
    let (server, addr) = serve().await;
    for n in 0..100 {
        let path = announce(7001, "").replace("info_hash=aaa", &format!("info_hash={n:03}"));
        assert_eq!(get(addr, &path).await.status, 200);
    }
    for (most, expected) in [(0, 400), (99, 400), (100, 200)] {
        server.reload(settings(most)).await.unwrap();
        let reply = get(addr, "/scrape").await;
        assert_eq!(reply.status, expected, "{most}");
    }
    let all = get(addr, "/scrape").await;
    let answer = decode::scrape(&all.body).unwrap();
    assert_eq!(answer.torrents.len(), 100);
    assert!(
        answer
            .torrents
            .iter()
            .all(|torrent| torrent.entry.incomplete == 1)
    );
    assert_eq!(answer.min_request_interval, Some(Duration::from_secs(60)));
    // Compressed only for who asks for it.
    let asked = |path: &str, headers: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n")
    };
    let gzip = "Accept-Encoding: deflate, gzip\r\n";
    let some: String = (0..60)
        .map(|n| format!("&info_hash={n:03}aaaaaaaaaaaaaaaaa&x=xxxxxxxxxxxxxxx"))
        .collect();
    let some = format!("/scrape?{some}");
    let few = "/scrape?info_hash=000aaaaaaaaaaaaaaaaa";
    for (path, count, compressed) in [("/scrape", 100, true), (&some, 60, true), (few, 1, false)] {
        let plain = exchange(addr, asked(path, "").as_bytes()).await.remove(0);
        assert_eq!(plain.header("content-encoding"), None);
        let reply = exchange(addr, asked(path, gzip).as_bytes()).await.remove(0);
        let coded = reply.header("content-encoding") == Some("gzip");
        assert_eq!(coded, compressed, "{path}");
        let mut body = Vec::new();
        if coded {
            let mut reader = flate2::read::GzDecoder::new(&reply.body[..]);
            reader.read_to_end(&mut body).unwrap();
            assert!(reply.body.len() < body.len());
        } else {
            body.clone_from(&reply.body);
        }
        assert_eq!(body, plain.body, "{path}");
        assert_eq!(decode::scrape(&body).unwrap().torrents.len(), count);
    }
    // What is denied is not named, and that counts at once.
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("deny");
    let denied = |byte: u8| format!("{byte:02x}");
    let first: String = b"000aaaaaaaaaaaaaaaaa".map(denied).concat();
    std::fs::write(&list, first).unwrap();
    let with_list = Settings {
        deny: Some(list),
        ..settings(100)
    };
    server.reload(with_list).await.unwrap();
    let rest = get(addr, "/scrape").await;
    assert_eq!(decode::scrape(&rest.body).unwrap().torrents.len(), 99);
    server.stop().await;
}
