//! `publish`, `scrape` and `announce`: what trackers are told and tell.

use super::{LOCAL, Place};
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};

#[test]
fn a_scrape_counts_who_is_there() {
    let place = Place::new();
    let (mut publisher, url) = place.publish();
    let answer = publisher.event("tracker");
    let info_hash = answer["info_hash"].as_str().unwrap();
    let scraped = place.bt("getter", &["scrape", &url, "--json"]).end();
    assert_eq!(scraped.code, Some(0), "{}", scraped.stderr);
    assert!(
        scraped.stdout[0].contains("\"complete\":1"),
        "{:?}",
        scraped.stdout
    );
    let tracker = url.replace("data.torrent", "announce");
    let scraped = place.bt("getter", &["scrape", &tracker, info_hash]).end();
    assert!(
        scraped.stdout[0].starts_with(info_hash),
        "{:?}",
        scraped.stdout
    );
}

#[test]
fn an_announce_names_the_peers_and_leaves_no_trace() {
    let place = Place::new();
    let (mut publisher, url) = place.publish();
    let info_hash = publisher.event("tracker")["info_hash"].clone();
    let info_hash = info_hash.as_str().unwrap();
    let answer = |arguments: &[&str]| {
        let ended = place.bt("getter", arguments).end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout
    };
    let said = answer(&["announce", &url, "--json", "--bind", "127.0.0.1"]);
    let said: Value = serde_json::from_str(&said[0]).unwrap();
    assert_eq!(said["complete"], 1, "{said}");
    assert_eq!(said["external_ip"], "127.0.0.1");
    let peers = said["peers"].as_array().unwrap();
    assert_eq!(peers.len(), 1, "the publisher: {said}");
    let scraped = answer(&["scrape", &url, "--json"]);
    assert!(scraped[0].contains("\"incomplete\":0"), "{scraped:?}");
    let tracker = url.replace("data.torrent", "announce");
    let said = answer(&["announce", &tracker, info_hash, "--keep"]);
    assert!(said[0].starts_with(info_hash), "{said:?}");
    assert_eq!(peers[0].as_str().unwrap(), said[1]);
    let scraped = answer(&["scrape", &url, "--json"]);
    assert!(scraped[0].contains("\"incomplete\":1"), "{scraped:?}");
    let ended = place.bt("getter", &["announce", &url, "--port", "0"]).end();
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
}

#[test]
fn the_trackers_of_a_publisher_serve_nobody_else() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    let tracker = url.replace("data.torrent", "announce");
    fs::write(place.path("other"), "something else").unwrap();
    let made = place
        .bt("other", &["create", "other", "-a", &tracker])
        .end();
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let seed = [&["seed", "other.torrent", "--json"], &LOCAL[..]].concat();
    let mut seeder = place.bt("other", &seed);
    let answer = seeder.event("tracker");
    assert_eq!(answer["status"], "failed");
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("does not serve"),
        "{answer}"
    );
}

#[test]
fn a_publisher_may_name_its_trackers_and_its_address() {
    let place = Place::new();
    let named = ["publish", "data", "-a", "http://127.0.0.1:1/announce"];
    let public = [
        "--public-url",
        "https://example.org/d",
        "--http",
        "127.0.0.1:0",
        "--json",
    ];
    let mut publisher = place.bt("home", &[&named, &public[..], &LOCAL[..]].concat());
    let published = publisher.event("published");
    assert_eq!(published["page_url"], "https://example.org/d/");
    assert_eq!(
        published["torrent_url"],
        "https://example.org/d/data.torrent"
    );
    assert_eq!(
        published["announce"],
        serde_json::json!(["http://127.0.0.1:1/announce"])
    );
    assert!(
        published["magnet"]
            .as_str()
            .unwrap()
            .starts_with("magnet:?xt=urn:btih:")
    );
}

/// Asks a tracker for the peers of a torrent, as a peer on port 9; the bytes of its answer.
fn ask_tracker(announce: &str, info_hash: &str, more: &str) -> Vec<u8> {
    let (addr, path) = announce
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .unwrap();
    let hash: String = info_hash
        .as_bytes()
        .chunks(2)
        .map(|digits| format!("%{}", str::from_utf8(digits).unwrap()))
        .collect();
    let query =
        format!("info_hash={hash}&peer_id=-XX0000-aaaaaaaaaaaa&port=9&left=1&compact=1{more}");
    let mut stream = TcpStream::connect(addr).unwrap();
    let request = format!("GET /{path}?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    reply
}

#[test]
fn behind_address_translation_the_tracker_names_the_public_address() {
    let place = Place::new();
    // An address of documentation (RFC 5737), to which nothing leads from here.
    let public = "http://203.0.113.7:8080/files";
    let publish = [
        &["publish", "data", "--public-url", public, "--json"],
        &["--http", "127.0.0.1:0"][..],
        &LOCAL[..],
    ]
    .concat();
    let mut publisher = place.bt("home", &publish);
    let listening = publisher.event("listening");
    let port = listening["addr"]
        .as_str()
        .unwrap()
        .rsplit_once(':')
        .unwrap()
        .1;
    let published = publisher.event("published");
    let announce = "http://203.0.113.7:8080/files/announce";
    assert_eq!(published["announce"], serde_json::json!([announce]));
    let told = publisher.event("tracker");
    assert_eq!(told["status"], "ok", "{told}");
    let (tracker, info_hash) = (told["url"].as_str().unwrap(), &told["info_hash"]);
    let reply = ask_tracker(tracker, info_hash.as_str().unwrap(), "");
    let port: u16 = port.parse().unwrap();
    let expected = [&[203, 0, 113, 7][..], &port.to_be_bytes()].concat();
    let has = |peer: &[u8]| reply.windows(6).any(|window| window == peer);
    assert!(has(&expected), "{}", reply.escape_ascii());
}

/// A name server that says this of every name for as long as the test runs; its address.
fn name_server(record: String) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut packet).unwrap();
            let question = &packet[..length];
            let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            let mut answer = question[..end].to_vec();
            // An answer, with one record of the name in the question, for a minute.
            answer[2..4].copy_from_slice(&[0x81, 0x80]);
            answer[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
            let length = u8::try_from(record.len()).unwrap();
            answer.extend_from_slice(&[0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, length + 1, length]);
            answer.extend_from_slice(record.as_bytes());
            socket.send_to(&answer, from).unwrap();
        }
    });
    addr.to_string()
}

#[test]
fn trackers_are_asked_where_their_hosts_say_in_dns() {
    let place = Place::new();
    let (mut publisher, url) = place.publish();
    let info_hash = publisher.event("tracker")["info_hash"].clone();
    let info_hash = info_hash.as_str().unwrap();
    let port = url.split([':', '/']).nth(4).unwrap();
    let wrong = "http://localhost:1/announce";
    let knowing = name_server(format!("BITTORRENT TCP:{port}"));
    let ask = |command: &str, server: &str| {
        let dns = ["--tracker-dns", server];
        place
            .bt("getter", &[&[command, wrong, info_hash], &dns[..]].concat())
            .end()
    };
    for command in ["announce", "scrape"] {
        let ended = ask(command, &knowing);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stdout[0].starts_with(info_hash), "{:?}", ended.stdout);
        assert_eq!(ask(command, "off").code, Some(5));
        let refused = ask(command, &name_server("BITTORRENT DENY ALL".to_owned()));
        assert_eq!(refused.code, Some(5));
        let message = "localhost says in DNS that it runs no tracker (BEP 34)";
        assert!(refused.stderr.contains(message), "{}", refused.stderr);
        assert_eq!(ask(command, "localhost").code, Some(2));
    }
    let magnet = format!("magnet:?xt=urn:btih:{info_hash}&tr={wrong}");
    let get = [
        "get",
        &magnet,
        "-d",
        "copy",
        "--no-dht",
        "--tracker-dns",
        &knowing,
    ];
    let ended = place.bt("getter", &[&get[..], &LOCAL].concat()).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    place.assert_copied("copy");
}
