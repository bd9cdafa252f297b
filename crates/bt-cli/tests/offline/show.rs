//! `bt show` and `bt magnet`.

use crate::Place;
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

/// A torrent as no program of ours would write it: unsorted, with odd keys, and text that steers terminals.
const ODD: &[u8] =
    b"d8:announce10:http://a/\n7:comment10:x\x1b[31mred\n13:creation date10:1700000000\
    9:httpseedsl12:http://old/se4:infod6:lengthi5e4:name9:a\x1b[2Jb.tx12:piece lengthi16384e\
    6:pieces20:aaaaaaaaaaaaaaaaaaaa3:wat3:huhee";

#[test]
fn a_torrent_from_a_stranger() {
    let place = Place::new();
    place.write("odd.torrent", ODD);
    let shown = place.json(&["show", "odd.torrent", "--json"]);
    let object = shown.as_object().unwrap();
    for absent in ["private", "nodes", "source", "created_by", "info_hash_v2"] {
        assert!(!object.contains_key(absent), "{absent}");
    }
    assert_eq!(shown["trackers"], json!([["http://a/"]]));
    assert_eq!(shown["web_seeds"], json!(["http://old/s"]));
    assert_eq!(
        shown["comment"],
        json!("x\u{1b}[31mred\n"),
        "JSON has its own escapes"
    );
    assert_eq!(shown["total_length"], 5);

    let outcome = place.bt(&["show", "odd.torrent"]);
    assert_eq!(outcome.code, 0);
    let controls = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
    assert!(
        !controls(&outcome.stdout),
        "{}",
        outcome.stdout.escape_debug()
    );
    assert!(outcome.stdout.contains("x\\u{1b}[31mred\\u{a}"));
    let verbose = place.bt(&["-v", "show", "odd.torrent"]);
    assert!(!verbose.stderr.is_empty() && !controls(&verbose.stderr));
}

#[test]
fn links_and_hashes() {
    let place = Place::new();
    let hash = "0123456789abcdef0123456789abcdef01234567";
    let magnet = format!(
        "magnet:?xt=urn:btih:{hash}&dn=a%20name&xl=99&tr=http%3A%2F%2Fa%2F&tr=udp%3A%2F%2Fb%3A1&ws=http%3A%2F%2Fw%2F"
    );
    let shown = place.json(&["show", &magnet, "--json"]);
    let expected = json!({
        "name": "a name",
        "info_hash": hash,
        "total_length": 99,
        "trackers": [["http://a/"], ["udp://b:1"]],
        "web_seeds": ["http://w/"],
        "magnet": shown["magnet"],
    });
    assert_eq!(shown, expected);
    assert!(
        shown["magnet"]
            .as_str()
            .unwrap()
            .starts_with("magnet:?xt=urn:btih:0123")
    );

    let expected = json!({"info_hash": hash, "magnet": format!("magnet:?xt=urn:btih:{hash}")});
    for argument in [
        hash,
        &hash.to_uppercase(),
        "AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH",
    ] {
        assert_eq!(
            place.json(&["show", argument, "--json"]),
            expected,
            "{argument}"
        );
    }
}

#[test]
fn a_file_wins_over_a_hash_of_its_name() {
    let place = Place::with_torrent();
    let name = "a".repeat(40);
    place.write(&name, place.read("data.torrent"));
    assert_eq!(place.json(&["show", &name, "--json"])["name"], "data");
}

#[test]
fn a_url_is_fetched() {
    let place = Place::with_torrent();
    let torrent = place.read("data.torrent");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/data.torrent", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).unwrap() > 0);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            torrent.len()
        );
        stream
            .write_all(&[head.as_bytes(), &torrent].concat())
            .unwrap();
    });
    assert_eq!(place.json(&["show", &url, "--json"])["name"], "data");
    server.join().unwrap();

    // Nobody listens there any more.
    let outcome = place.bt(&["show", &url]);
    assert_eq!(outcome.code, 5, "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&url), "{}", outcome.stderr);
}

#[test]
fn what_is_left_out_is_told() {
    let place = Place::new();
    let torrent = b"d7:commentli1ee4:infod6:lengthi3e4:name1:x12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
    place.write("odd.torrent", torrent);
    let outcome = place.bt(&["show", "odd.torrent"]);
    assert_eq!(outcome.code, 0);
    assert!(
        outcome.stderr.contains("comment is left out"),
        "{outcome:?}"
    );
}
