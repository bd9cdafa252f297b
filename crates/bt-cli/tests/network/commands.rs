//! `get`, `seed`, `publish` and `scrape`.

use super::process::Process;
use super::{Place, count};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;

/// Tests that run beside each other share the same data, and must not find each other.
const LOCAL: [&str; 5] = ["--bind", "127.0.0.1", "--port", "0", "--no-lsd"];

#[test]
fn what_is_published_is_got_with_the_command_that_it_prints() {
    let place = Place::new();
    let before = count(&place.path("data"));
    let (publisher, url) = place.publish();
    assert!(url.ends_with("/data.torrent"), "{url}");
    let get = [
        &["get", &url, "-d", "copy", "--timeout", "30s", "--json"],
        &LOCAL[..],
    ]
    .concat();
    let mut getter = place.bt("getter", &get);
    let listening = getter.event("listening");
    assert!(
        listening["addr"]
            .as_str()
            .unwrap()
            .starts_with("127.0.0.1:")
    );
    let metadata = getter.event("metadata");
    assert_eq!(
        (&metadata["name"], &metadata["total_length"]),
        (&"data".into(), &3_001_000.into())
    );
    assert_eq!(getter.event("checked")["pieces_have"], 0);
    let complete = getter.event("complete");
    for (key, expected) in [
        ("downloaded", 3_001_000),
        ("wasted", 0),
        ("hash_failures", 0),
    ] {
        assert_eq!(complete[key], expected, "{key}");
    }
    assert!(complete["seconds"].as_f64().is_some());
    let peer = getter.event("peer");
    for (key, expected) in [("served", 3_001_000), ("wasted", 0), ("over_claimed", 0)] {
        assert_eq!(peer[key], expected, "{key}");
    }
    assert_eq!(getter.event("stopped")["downloaded"], 3_001_000);
    let ended = getter.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let tracker =
        |line: &&String| line.contains("\"tracker\"") && line.contains("\"status\":\"ok\"");
    assert!(
        ended.stdout.iter().any(|line| tracker(&line)),
        "{:#?}",
        ended.stdout
    );
    place.assert_copied("copy");

    publisher.signal(Signal::INT);
    let ended = publisher.end();
    assert_eq!(
        ended.code,
        Some(0),
        "to seed until stopped is done: {}",
        ended.stderr
    );
    assert_eq!(
        count(&place.path("data")),
        before,
        "nothing was left behind"
    );
}

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
fn a_download_goes_on_after_sigterm_and_after_sigkill() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    let limit = ["--down-limit", "500K", "--json"];
    let get = [&["get", &url, "-d", "copy"], &LOCAL[..], &limit[..]].concat();
    let mut first = place.bt("getter", &get);
    while first.event("progress")["bytes_done"] == 0 {}
    first.signal(Signal::TERM);
    let ended = first.end();
    assert_eq!(ended.code, Some(143), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("what was verified is kept"),
        "{}",
        ended.stderr
    );
    assert!(ended.stdout.last().unwrap().contains("\"stopped\""));

    let mut second = place.bt("getter", &get);
    let had = second.event("checked")["pieces_have"].as_u64().unwrap();
    assert!(had > 0);
    let mut done = 0;
    while done <= had * 16_384 {
        done = second.event("progress")["bytes_done"].as_u64().unwrap();
    }
    second.signal(Signal::KILL);
    assert_eq!(second.end().code, None);

    let get = [&["get", &url, "-d", "copy", "--json"], &LOCAL[..]].concat();
    let mut third = place.bt("getter", &get);
    assert!(third.event("checked")["pieces_have"].as_u64().unwrap() >= done / 16_384);
    assert_eq!(third.end().code, Some(0));
    place.assert_copied("copy");
}

#[test]
fn two_signals_in_one_moment_ask_for_a_clean_stop() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    let limit = ["--down-limit", "500K", "--json"];
    let get = [&["get", &url, "-d", "copy"], &LOCAL[..], &limit[..]].concat();
    let mut getter = place.bt("getter", &get);
    while getter.event("progress")["bytes_done"] == 0 {}
    // Both are there when it goes on; which it sees first is open.
    for signal in [Signal::STOP, Signal::INT, Signal::TERM, Signal::CONT] {
        getter.signal(signal);
    }
    let ended = getter.end();
    assert!(
        matches!(ended.code, Some(130 | 143)),
        "{:?} {}",
        ended.code,
        ended.stderr
    );
    assert!(ended.stdout.last().unwrap().contains("\"stopped\""));
}

#[test]
fn a_terminal_that_closes_ends_a_download_cleanly_unless_nohup_started_it() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    let limit = ["--down-limit", "500K", "--json"];
    let get = [&["get", &url, "-d", "copy"], &LOCAL[..], &limit[..]].concat();
    let mut getter = place.bt("getter", &get);
    while getter.event("progress")["bytes_done"] == 0 {}
    // Some shells and the system say it both.
    getter.signal(Signal::HUP);
    getter.signal(Signal::HUP);
    let ended = getter.end();
    assert_eq!(ended.code, Some(129), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("what was verified is kept"),
        "{}",
        ended.stderr
    );
    assert!(ended.stdout.last().unwrap().contains("\"stopped\""));

    let mut command = std::process::Command::new("nohup");
    let get = [&["get", &url, "-d", "copy", "--json"], &LOCAL[..]].concat();
    command
        .arg(env!("CARGO_BIN_EXE_bt"))
        .args(&get)
        .args(["--down-limit", "2M"])
        .current_dir(place.path("."))
        .env("HOME", place.path("getter"))
        .env_remove("XDG_STATE_HOME");
    let mut getter = Process::spawn(command);
    assert_ne!(getter.event("checked")["pieces_have"], 0);
    getter.signal(Signal::HUP);
    assert_eq!(getter.end().code, Some(0));
    place.assert_copied("copy");
}

#[test]
fn what_is_not_from_a_download_is_not_replaced_unawares() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    let large = "copy/data/ä/large.bin";
    fs::create_dir_all(place.path("copy/data/ä")).unwrap();
    fs::write(place.path(large), "mine").unwrap();
    let get = [&["get", &url, "-d", "copy", "--json"], &LOCAL[..]].concat();
    // Trying again makes it no more ours.
    for _ in 0..2 {
        let ended = place.bt("getter", &get).end();
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("--force"), "{}", ended.stderr);
        assert!(ended.stderr.contains("ä/large.bin"), "{}", ended.stderr);
        let is_error = |line: &String| line.contains("\"event\":\"error\"");
        assert!(ended.stdout.iter().any(is_error), "{:#?}", ended.stdout);
        assert_eq!(fs::read(place.path(large)).unwrap(), b"mine");
    }
    let mut forced = place.bt("getter", &[&get[..], &["--force"]].concat());
    let warning = forced.event("warning");
    assert!(warning["message"].as_str().unwrap().contains("is replaced"));
    assert_eq!(forced.end().code, Some(0));
    place.assert_copied("copy");
    // What is there and right is nobody's loss, and was ours anyway: what is too long is cut.
    let mut longer = fs::read(place.path(large)).unwrap();
    longer.extend(b"more");
    fs::write(place.path(large), &longer).unwrap();
    let mut getter = place.bt("getter", &get);
    let warning = getter.event("warning");
    let not_as_it_was = warning["message"].as_str().unwrap().to_owned();
    assert!(not_as_it_was.contains("not as it was left"), "{warning}");
    let warning = getter.event("warning");
    assert!(warning["message"].as_str().unwrap().contains("was cut"));
    assert_eq!(getter.end().code, Some(0));
    place.assert_copied("copy");
    // To another home it is a stranger's.
    fs::write(place.path(large), &longer).unwrap();
    let ended = place.bt("other", &get).end();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_eq!(fs::read(place.path(large)).unwrap(), longer);
}

#[test]
fn something_else_in_the_place_of_a_file_ends_a_download_at_once() {
    use std::os::unix::fs::symlink;
    type Harm = fn(&std::path::Path);
    // (what is done to the path, the path, what the message says)
    let rows: [(Harm, &str, &str); 3] = [
        (
            |path| fs::create_dir_all(path).unwrap(),
            "data/ä/large.bin",
            "Is a directory",
        ),
        (
            |path| fs::write(path, "").unwrap(),
            "data/ä",
            "Not a directory",
        ),
        (
            |path| symlink("/nowhere", path).unwrap(),
            "data/ä/large.bin",
            "a symbolic link",
        ),
    ];
    let place = Place::new();
    let (_publisher, url) = place.publish();
    for (row, (harm, path, expected)) in rows.into_iter().enumerate() {
        let copy = format!("copy{row}");
        let named = format!("{copy}/{path}");
        let path = place.path(&named);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        harm(&path);
        let get = [&["get", &url, "-d", &copy, "--json"], &LOCAL[..]].concat();
        let begun = std::time::Instant::now();
        let ended = place.bt("getter", &get).end();
        assert_eq!(ended.code, Some(6), "{expected}: {}", ended.stderr);
        // Far below the two minutes for which other troubles of a disk are waited for.
        assert!(begun.elapsed().as_secs() < 60, "{expected}");
        for said in [expected, &named] {
            assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("trying again"), "{}", ended.stderr);
    }
}

#[test]
fn a_selection_is_all_that_is_fetched() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    let get = [
        &[
            "get",
            &url,
            "-d",
            "copy",
            "--select",
            "*.txt",
            "--sequential",
        ],
        &LOCAL[..],
    ]
    .concat();
    let ended = place.bt("getter", &get).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stdout[0].contains("all that is wanted"),
        "{:?}",
        ended.stdout
    );
    let small = "data/ä/small.txt";
    let copy = fs::read(place.path("copy").join(small)).unwrap();
    assert!(copy == fs::read(place.path(small)).unwrap());
}

#[test]
fn a_selection_of_nothing_is_a_mistake_of_the_command_line() {
    let place = Place::new();
    let (publisher, _) = place.publish();
    let published: Value = serde_json::from_str(publisher.seen.last().unwrap()).unwrap();
    let link = published["magnet"].as_str().unwrap();
    let nothing = format!("{link}&so=7");
    let rows: [(&[&str], &str); 2] = [
        (&["get", link, "--select", "nothing"], "--select nothing"),
        (&["get", &nothing], "the link selects no file"),
    ];
    for (get, words) in rows {
        check(&place, &[get, &LOCAL[..]].concat(), 2, words);
    }
}

#[test]
fn space_is_reserved_if_that_is_wanted() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    // Of the large file only the end is fetched, which shares a piece with the small one.
    let large = "data/ä/large.bin";
    for (how, is_all_there) in [("full", true), ("sparse", false)] {
        let some = ["-d", how, "--select", "*.txt", "--allocate", how];
        let ended = place
            .bt(how, &[&["get", &url], &some[..], &LOCAL[..]].concat())
            .end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let on_disk = fs::metadata(place.path(how).join(large)).unwrap().blocks() * 512;
        assert_eq!(on_disk >= 3_000_000, is_all_there, "{how}: {on_disk}");
    }
}

#[test]
fn seeding_ends_by_time_and_by_ratio() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    for until in [["--seed-time", "1s"], ["--seed-ratio", "0"]] {
        let get = [
            &["get", &url, "-d", "copy", "--json"],
            &until[..],
            &LOCAL[..],
        ]
        .concat();
        let ended = place.bt("getter", &get).end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
}

#[test]
fn no_more_is_given_than_the_ratio_says() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    let half = ["-d", "copy", "--seed-ratio", "0.5", "--json"];
    let mut giver = place.bt("giver", &[&["get", &url], &half[..], &LOCAL[..]].concat());
    let listening = giver.event("listening");
    let addr = listening["addr"].as_str().unwrap();
    giver.event("complete");
    let from = ["-d", "other", "--no-tracker", "--peer", addr, "--json"];
    let _taker = place.bt("taker", &[&["get", &url], &from[..], &LOCAL[..]].concat());
    let stopped = giver.event("stopped");
    let (uploaded, half) = (stopped["uploaded"].as_u64().unwrap(), 3_001_000 / 2);
    assert!((half..half + 16_384).contains(&uploaded), "{stopped}");
    assert_eq!(giver.end().code, Some(0));
}

/// Runs `bt` and checks its exit code and that its last words contain `words`.
fn check(place: &Place, arguments: &[&str], code: i32, words: &str) {
    let ended = place.bt("home", arguments).end();
    assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.stderr);
    assert!(
        ended.stderr.contains(words),
        "{arguments:?}: {}",
        ended.stderr
    );
}

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
