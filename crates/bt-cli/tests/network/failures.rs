//! What goes wrong: its exit code, its words, its event.

use super::process::Process;
use super::{LOCAL, Place, check};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;

#[test]
fn what_goes_wrong_has_its_code_and_its_words() {
    let place = Place::new();
    let dead = "http://127.0.0.1:1/announce";
    assert_eq!(
        place.bt("home", &["create", "data", "-a", dead]).end().code,
        Some(0)
    );
    let magnet = "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567";
    fs::write(place.path("broken.torrent"), "d4:infoi1ee").unwrap();
    fs::write(place.path("file"), "").unwrap();
    let torrent = "data.torrent";
    // It takes connections, as the kernel does for it, and never says a word.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}/x.torrent", listener.local_addr().unwrap());
    let taken = listener.local_addr().unwrap().port().to_string();
    let taken = ["get", torrent, "--bind", "127.0.0.1", "--port", &taken];
    let rows: [(&[&str], i32, &str); 15] = [
        (&taken, 1, "cannot listen on 127.0.0.1"),
        (&["scrape", dead], 2, "info hashes"),
        (&["seed", magnet], 3, "magnet link"),
        (
            &["get", magnet, "--port", "0", "--timeout", "1s"],
            5,
            "nothing came for 1 s",
        ),
        (&["get", "no-such.torrent"], 3, "no-such.torrent"),
        (&["get", "broken.torrent"], 3, "broken.torrent"),
        (
            &["get", "http://127.0.0.1:1/x.torrent"],
            5,
            "http://127.0.0.1:1/x.torrent",
        ),
        (
            &["get", &silent, "--timeout", "1s"],
            5,
            "no torrent was had before --timeout",
        ),
        (&["get", torrent, torrent], 2, "runs already"),
        (
            &["get", torrent, "--select", "nothing"],
            2,
            "--select nothing",
        ),
        (&["get", torrent, "--peer", "nobody"], 2, "--peer nobody"),
        (
            &[
                "get",
                torrent,
                "-d",
                "copy",
                "--port",
                "0",
                "--no-lsd",
                "--timeout",
                "1s",
            ],
            5,
            "nothing came for 1 s",
        ),
        (&["get", torrent, "-d", "file", "--port", "0"], 6, "file"),
        (
            &["seed", torrent, "-d", "home", "--port", "0"],
            1,
            "does -d name the right folder",
        ),
        (&["scrape", torrent], 5, "127.0.0.1"),
    ];
    for (arguments, code, words) in rows {
        check(&place, arguments, code, words);
    }
}

#[test]
fn what_no_tracker_answers_is_told_once_for_each_with_its_url() {
    let place = Place::new();
    let urls = ["http://127.0.0.1:1/announce", "http://127.0.0.1:2/announce"];
    let create = ["create", "data", "-a", urls[0], "-a", urls[1]];
    assert_eq!(place.bt("home", &create).end().code, Some(0));
    for command in ["scrape", "announce"] {
        let ended = place.bt("home", &[command, "data.torrent"]).end();
        assert_eq!(ended.code, Some(5), "{}", ended.stderr);
        let told: Vec<&str> = ended.stderr.lines().collect();
        assert_eq!(told.len(), urls.len(), "{told:?}");
        for (line, url) in told.iter().zip(urls) {
            assert_eq!(line.matches(url).count(), 1, "{line}");
        }
        // The log has a mark, the last words have none.
        assert!(
            told[0].contains("WARN") && told[1].starts_with("error: "),
            "{told:?}"
        );
    }
}

#[test]
fn who_gives_up_names_the_trackers_that_never_answered() {
    let place = Place::new();
    // It takes connections, as the kernel does for it, and never says a word.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = format!("http://{}/announce", listener.local_addr().unwrap());
    let create = ["create", "data", "-a", &mute];
    assert_eq!(place.bt("home", &create).end().code, Some(0));
    let get = ["get", "data.torrent", "-d", "home", "--timeout", "1s"];
    let words = format!("nothing came for 1 s; no answer yet from {mute}");
    check(&place, &[&get, &LOCAL[..]].concat(), 5, &words);
}

#[test]
fn who_gives_up_names_no_tracker_that_was_not_asked() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    let works = url.replace("data.torrent", "announce");
    let spare = "http://127.0.0.1:1/announce";
    let create = ["create", "data", "-a", &works, "-a", spare];
    assert_eq!(place.bt("home", &create).end().code, Some(0));
    let get = ["get", "data.torrent", "-d", "copy", "--down-limit", "0"];
    let get = [&get[..], &["--timeout", "3s"], &LOCAL[..]].concat();
    let words = "nothing came for 3 s; no connected peer sent what is missing";
    check(&place, &get, 5, words);
}

#[test]
fn a_machine_without_any_certificate_authority_gets_what_needs_none() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    let mut command = Process::command(&place.path(""), &place.path("home"), &["show", &url]);
    command.env("SSL_CERT_FILE", "/nonexistent");
    command.env("SSL_CERT_DIR", "/nonexistent");
    let ended = Process::spawn(command).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn every_failure_is_an_event_once() {
    let place = Place::new();
    let made = place.bt("home", &["create", "data"]).end();
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let torrent = "data.torrent";
    let rows: [(&[&str], i32, &str); 5] = [
        (&["get", "no-such.torrent"], 3, "no-such.torrent"),
        (&["get", torrent, "--select", "[x"], 2, "--select"),
        (
            &["get", torrent, "-d", "copy", "--timeout", "1s"],
            5,
            "nothing came",
        ),
        (&["seed", torrent, "-d", "home"], 1, "the right folder"),
        (&["publish", "no-such-folder"], 3, "no-such-folder"),
    ];
    for (arguments, code, words) in rows {
        let arguments = match arguments[0] {
            "publish" => [arguments, &["--http", "127.0.0.1:0"][..]].concat(),
            _ => [arguments, &LOCAL[..]].concat(),
        };
        let ended = place
            .bt("home", &[&arguments[..], &["--json"]].concat())
            .end();
        assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.stderr);
        let events = ended.stdout.iter().map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            event
        });
        let errors: Vec<_> = events.filter(|event| event["event"] == "error").collect();
        assert_eq!(errors.len(), 1, "{arguments:?}: {:#?}", ended.stdout);
        let message = errors[0]["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn who_cannot_write_its_results_leaves_in_good_order_all_the_same() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    let get = [&["get", &url, "-d", "copy", "--seed"], &LOCAL[..]].concat();
    let mut command = Process::command(&place.path(""), &place.path("getter"), &get);
    command.stdout(fs::File::options().write(true).open("/dev/full").unwrap());
    let ended = command.output().unwrap();
    assert_eq!(ended.status.code(), Some(6), "{ended:?}");
    assert!(
        String::from_utf8_lossy(&ended.stderr).contains("stdout"),
        "{ended:?}"
    );
    place.assert_copied("copy");
    let scraped = place.bt("getter", &["scrape", &url, "--json"]).end();
    let expected = "\"complete\":1,\"incomplete\":0";
    assert!(scraped.stdout[0].contains(expected), "{:?}", scraped.stdout);
}
