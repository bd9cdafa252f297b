//! `bt create`.

use crate::Place;
use serde_json::json;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

#[test]
fn every_option_is_in_the_torrent() {
    let place = Place::new();
    place.write("data/b", [7; 40_000]);
    place.write("data/a/c", [8; 30_000]);
    let created = place.json(&[
        "create",
        "data",
        "-o",
        "out.torrent",
        "-a",
        "http://one/announce,udp://two:6969",
        "-a",
        "http://three/announce",
        "--piece-length",
        "32Ki",
        "--private",
        "--comment",
        "hello",
        "--source",
        "label",
        "--web-seed",
        "http://seed/",
        "--web-seed",
        "https://other/",
        "--node",
        "router.example:6881",
        "--node",
        "[2001:db8::1]:6881",
        "--threads",
        "2",
        "--json",
    ]);
    let date = created["creation_date"].as_i64().unwrap();
    assert!(date > 1_700_000_000);
    let hash = created["info_hash"].as_str().unwrap();
    let magnet = created["magnet"].as_str().unwrap();
    assert!(
        magnet.starts_with(&format!("magnet:?xt=urn:btih:{hash}&dn=data")),
        "{magnet}"
    );
    let expected = json!({
        "torrent": "out.torrent",
        "name": "data",
        "info_hash": hash,
        "format": "v1",
        "piece_length": 32_768,
        "pieces": 3,
        "total_length": 70_000,
        "files": [
            {"path": "data/a/c", "length": 30_000},
            {"path": "data/b", "length": 40_000},
        ],
        "private": true,
        "trackers": [["http://one/announce", "udp://two:6969"], ["http://three/announce"]],
        "web_seeds": ["http://seed/", "https://other/"],
        "nodes": ["router.example:6881", "[2001:db8::1]:6881"],
        "comment": "hello",
        "created_by": concat!("bt ", env!("CARGO_PKG_VERSION")),
        "creation_date": date,
        "source": "label",
        "magnet": magnet,
    });
    assert_eq!(created, expected);

    let mut shown = place.json(&["show", "out.torrent", "--json"]);
    shown["torrent"] = json!("out.torrent");
    assert_eq!(shown, expected, "show tells the same");
}

#[test]
fn the_magnet_link_is_the_last_line() {
    let place = Place::new();
    place.write("file", [1; 100]);
    let outcome = place.bt(&["create", "file"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    let last = outcome.stdout.lines().last().unwrap();
    let magnet = place.bt(&["magnet", "file.torrent"]);
    assert_eq!((magnet.code, magnet.stdout), (0, format!("{last}\n")));
    assert!(last.starts_with("magnet:?xt=urn:btih:"));
}

#[test]
fn the_same_folder_gives_the_same_bytes() {
    let place = Place::with_torrent();
    for (out, threads) in [("one.torrent", "1"), ("two.torrent", "3")] {
        let arguments = [
            "create",
            "data",
            "-o",
            out,
            "--no-date",
            "--threads",
            threads,
        ];
        assert_eq!(place.bt(&arguments).code, 0);
    }
    assert_eq!(place.read("one.torrent"), place.read("two.torrent"));
}

#[test]
fn piece_hashes_run_through_the_files_in_their_order() {
    use sha1::{Digest as _, Sha1};
    let place = Place::with_torrent();
    assert_eq!(
        place
            .bt(&["create", "data", "-o", "x", "--piece-length", "64Ki"])
            .code,
        0
    );
    let order = [
        "empty",
        "sub0/file0",
        "sub0/file2",
        "sub0/file4",
        "sub1/file1",
        "sub1/file3",
    ];
    let bytes: Vec<u8> = order
        .iter()
        .flat_map(|name| place.read(&format!("data/{name}")))
        .collect();
    let hashes: Vec<u8> = bytes.chunks(65_536).flat_map(Sha1::digest).collect();
    let torrent = place.read("x");
    assert!(torrent.windows(hashes.len()).any(|window| window == hashes));
}

#[test]
fn nothing_is_overwritten_without_force() {
    let place = Place::with_torrent();
    let before = place.read("data.torrent");
    let refused = place.bt(&["-v", "create", "data", "--comment", "new"]);
    assert_eq!(refused.code, 1);
    assert!(
        !refused.stderr.contains("hashing"),
        "refused before the work"
    );
    assert!(refused.stderr.contains("data.torrent") && refused.stderr.contains("--force"));
    assert_eq!(place.read("data.torrent"), before);
    assert_eq!(
        place
            .bt(&["create", "data", "--comment", "new", "--force"])
            .code,
        0
    );
    assert_ne!(place.read("data.torrent"), before);
    let mode = place
        .path("data.torrent")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(
        mode & 0o444 & !umask(),
        0o444 & !umask(),
        "others may read it"
    );
}

fn umask() -> u32 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let umask = text
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))
        .unwrap();
    u32::from_str_radix(umask.trim(), 8).unwrap()
}

#[test]
fn in_the_folder_itself_the_torrent_is_no_part_of_it() {
    let place = Place::new();
    place.write("data/file", [1; 100]);
    let folder = place.path("data");
    for force in [&[][..], &["--force"]] {
        let mut command = crate::command(&folder, &["create", "."]);
        assert!(
            command
                .args(force)
                .stdout(Stdio::null())
                .status()
                .unwrap()
                .success()
        );
        let shown = place.json(&["show", "data/data.torrent", "--json"]);
        assert_eq!(
            shown["files"],
            json!([{"path": "data/file", "length": 100}])
        );
    }
}

#[test]
fn links_are_left_out_with_a_warning() {
    let place = Place::with_torrent();
    std::os::unix::fs::symlink("/etc/passwd", place.path("data/secret\u{1b}[31m")).unwrap();
    let outcome = place.bt(&["create", "data", "-o", "x"]);
    assert_eq!(outcome.code, 0);
    assert!(
        outcome.stderr.contains("secret\\u{1b}[31m"),
        "{}",
        outcome.stderr
    );
    let quiet = place.bt(&["-q", "create", "data", "-o", "y"]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""));
    assert_eq!(
        place.json(&["show", "x", "--json"])["files"]
            .as_array()
            .unwrap()
            .len(),
        6
    );
}

#[test]
fn a_signal_leaves_nothing_behind() {
    // A terabyte of nothing: nobody hashes it before the signal comes.
    for (signal, code) in [
        (rustix::process::Signal::INT, 130),
        (rustix::process::Signal::TERM, 143),
        (rustix::process::Signal::HUP, 129),
    ] {
        let place = Place::new();
        let file = std::fs::File::create(place.path("big")).unwrap();
        file.set_len(1 << 40).unwrap();
        let mut child = place
            .command(&["-v", "create", "big"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(log.any(|line| line.unwrap().contains("hashing")));
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_eq!(place.names(), ["big"]);
    }
}

#[test]
fn what_is_wrong_is_said_before_anything_is_hashed() {
    // (arguments, exit code, what the message names)
    let rows: [(&[&str], i32, &str); 16] = [
        (&["create"], 2, "PATH"),
        (
            &["create", "data", "--piece-length", "1X"],
            2,
            "'1X' is not a size",
        ),
        (
            &["create", "data", "--piece-length", "0"],
            2,
            "piece length 0",
        ),
        (
            &["create", "data", "--piece-length", "1Gi"],
            2,
            "piece length 1073741824",
        ),
        (&["create", "data", "--piece-length", "8Gi"], 2, "too long"),
        (&["create", "data", "--threads", "0"], 2, "--threads"),
        (
            &["create", "data", "-a", "tracker.example"],
            2,
            "tracker.example",
        ),
        (&["create", "data", "-a", "ftp://a/"], 2, "ftp://a/"),
        (
            &["create", "data", "--web-seed", "file:///etc"],
            2,
            "file:///etc",
        ),
        (
            &["create", "data", "--node", "host"],
            2,
            "'host' is not HOST:PORT",
        ),
        (&["create", "data", "--node", "::1:6881"], 2, "HOST:PORT"),
        (&["create", "data", "--node", "a:0"], 2, "HOST:PORT"),
        (&["create", "nothing"], 3, "nothing"),
        (&["create", "folder"], 3, "folder"),
        (&["create", "empties"], 3, "empties"),
        (
            &["create", "data", "-o", "no/such/place"],
            6,
            "no/such/place",
        ),
    ];
    let place = Place::new();
    place.write("data/file", [1; 100]);
    place.write("empties/empty", []);
    std::fs::create_dir(place.path("folder")).unwrap();
    let before = place.names();
    for (arguments, code, named) in rows {
        let outcome = place.bt(arguments);
        assert_eq!(outcome.code, code, "{arguments:?}: {}", outcome.stderr);
        assert!(
            outcome.stderr.contains(named),
            "{arguments:?}: {}",
            outcome.stderr
        );
        assert_eq!(outcome.stdout, "", "{arguments:?}");
    }
    assert_eq!(place.names(), before);
}

#[test]
fn an_odd_piece_length_is_warned_of() {
    let place = Place::new();
    place.write("file", "x");
    for (length, odd) in [("100000", true), ("16Ki", false)] {
        let create = ["create", "file", "--force", "--piece-length", length];
        let outcome = place.bt(&create);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        assert_eq!(outcome.stderr.contains("power of two"), odd, "{outcome:?}");
    }
}

#[test]
fn urls_are_of_their_kind() {
    let place = Place::new();
    place.write("file", "x");
    for urls in [["-a", "foo"], ["--web-seed", "javascript:x"]] {
        let outcome = place.bt(&["create", "file", urls[0], urls[1]]);
        assert_eq!(outcome.code, 2, "{outcome:?}");
        let words = [urls[1], "http"];
        let said = words.iter().all(|word| outcome.stderr.contains(word));
        assert!(said, "{outcome:?}");
    }
}
