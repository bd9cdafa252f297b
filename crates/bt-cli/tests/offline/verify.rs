//! `bt verify`.

use crate::Place;
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

#[test]
fn all_right() {
    let place = Place::with_torrent();
    let outcome = place.bt(&["verify", "data.torrent"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    let report = place.json(&["verify", "data.torrent", "--json", "--threads", "1"]);
    let expected = json!({
        "name": "data",
        "info_hash": place.json(&["show", "data.torrent", "--json"])["info_hash"],
        "total_length": 500_000,
        "pieces": 31,
        "pieces_have": 31,
        "complete": true,
        "files": [],
    });
    assert_eq!(report, expected);
}

/// Breaks the data, and tells which files are reported, and how.
fn check(damage: impl FnOnce(&Place), pieces_have: u32, files: &[(&str, &str)]) {
    let place = Place::with_torrent();
    damage(&place);
    let before = place.names();
    let outcome = place.bt(&["verify", "data.torrent", "--json"]);
    assert_eq!(outcome.code, 4, "{}", outcome.stderr);
    let report = outcome.json();
    assert_eq!(report["pieces_have"], pieces_have);
    assert_eq!(report["complete"], false);
    let found: Vec<_> = report["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| {
            (
                file["path"].as_str().unwrap(),
                file["status"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(found, files);
    let text = place.bt(&["verify", "data.torrent"]);
    assert_eq!(text.code, 4);
    assert!(
        files.iter().all(|(path, _)| text.stdout.contains(path)),
        "{}",
        text.stdout
    );
    assert_eq!(place.names(), before, "nothing is made or changed");
}

#[test]
fn one_byte_is_wrong() {
    // The first piece lies in one file only.
    check(
        |place| {
            let file = File::options()
                .write(true)
                .open(place.path("data/sub0/file0"));
            file.unwrap().write_all_at(b"!", 5).unwrap();
        },
        30,
        &[("data/sub0/file0", "wrong")],
    );
}

#[test]
fn a_file_is_missing() {
    // Pieces 6 to 12 hold bytes of it; the two neighbours share the first and the last of them.
    check(
        |place| fs::remove_file(place.path("data/sub0/file2")).unwrap(),
        24,
        &[
            ("data/sub0/file0", "unchecked"),
            ("data/sub0/file2", "missing"),
            ("data/sub0/file4", "unchecked"),
        ],
    );
}

#[test]
fn an_empty_file_is_missing() {
    check(
        |place| fs::remove_file(place.path("data/empty")).unwrap(),
        31,
        &[("data/empty", "missing")],
    );
}

#[test]
fn the_last_file_is_short() {
    check(
        |place| {
            let file = File::options()
                .write(true)
                .open(place.path("data/sub1/file3"));
            file.unwrap().set_len(99_999).unwrap();
        },
        30,
        &[("data/sub1/file3", "short")],
    );
}

#[test]
fn a_file_is_longer_than_it_should_be() {
    let longer = |place: &Place| {
        for file in ["data/sub1/file3", "data/empty"] {
            let bytes = [place.read(file), b"more".to_vec()].concat();
            place.write(file, bytes);
        }
    };
    let files = [("data/empty", "long"), ("data/sub1/file3", "long")];
    check(longer, 31, &files);
    let place = Place::with_torrent();
    longer(&place);
    let outcome = place.bt(&["verify", "data.torrent", "--json"]);
    let file = &outcome.json()["files"][1];
    assert_eq!(file["length"], 100_000);
    assert_eq!(file["length_found"], 100_004);
    let text = place.bt(&["verify", "data.torrent"]).stdout;
    assert!(text.contains("too long   data/sub1/file3"), "{text}");
}

#[test]
fn a_folder_or_a_link_stands_in_the_place_of_a_file() {
    let place = Place::with_torrent();
    let path = place.path("data/sub0/file0");
    fs::rename(&path, place.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink("../../elsewhere", &path).unwrap();
    let outcome = place.bt(&["verify", "data.torrent"]);
    assert_eq!(outcome.code, 6, "{outcome:?}");
    assert!(outcome.stdout.contains("sub0/file0"), "{outcome:?}");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let outcome = place.bt(&["verify", "data.torrent"]);
    assert_eq!(outcome.code, 6, "{outcome:?}");
    assert!(outcome.stdout.contains("sub0/file0"), "{outcome:?}");
}

#[test]
fn the_data_lies_elsewhere() {
    let place = Place::with_torrent();
    fs::create_dir(place.path("away")).unwrap();
    assert_eq!(place.bt(&["verify", "data.torrent", "-d", "away"]).code, 4);
    fs::rename(place.path("data"), place.path("away/data")).unwrap();
    assert_eq!(place.bt(&["verify", "data.torrent", "-d", "away"]).code, 0);
    assert_eq!(place.bt(&["verify", "data.torrent"]).code, 4);
    let nowhere = ["verify", "data.torrent", "-d", "no/such/folder", "--json"];
    let outcome = place.bt(&nowhere);
    assert_eq!(outcome.code, 4);
    assert!(outcome.stderr.contains("no/such/folder"), "{outcome:?}");
    let report = outcome.json();
    assert_eq!(report["pieces_have"], 0);
    let files = report["files"].as_array().unwrap();
    assert_eq!(files.len(), 6);
    assert!(files.iter().all(|file| file["status"] == "missing"));
    let outcome = place.bt(&["verify", "data.torrent", "-d", "data.torrent"]);
    assert_eq!(outcome.code, 6);
    assert!(outcome.stderr.contains("not a folder"), "{outcome:?}");
}
