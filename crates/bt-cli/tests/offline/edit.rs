//! `bt edit`.

use crate::Place;
use serde_json::{Value, json};

/// The torrent after an edit, without what stays whatever is edited.
fn edited(place: &Place, arguments: &[&str]) -> Value {
    let line = [
        &["edit", "data.torrent", "-o", "new.torrent", "--force"],
        arguments,
    ]
    .concat();
    let outcome = place.bt(&line);
    assert_eq!(outcome.code, 0, "{arguments:?}: {}", outcome.stderr);
    let (old, mut new) = (
        place.json(&["show", "data.torrent", "--json"]),
        place.json(&["show", "new.torrent", "--json"]),
    );
    let object = new.as_object_mut().unwrap();
    for key in [
        "name",
        "info_hash",
        "format",
        "piece_length",
        "pieces",
        "total_length",
        "files",
    ] {
        assert_eq!(object.remove(key).unwrap(), old[key], "{key}");
    }
    object.remove("magnet").unwrap();
    new
}

#[test]
fn only_what_is_named_changes() {
    let place = Place::with_torrent();
    let arguments = [
        "create",
        "data",
        "--force",
        "-a",
        "http://a/",
        "--comment",
        "old",
        "--web-seed",
        "http://w/",
        "--node",
        "n:1",
        "--no-date",
    ];
    assert_eq!(place.bt(&arguments).code, 0);
    let by = concat!("bt ", env!("CARGO_PKG_VERSION"));
    let all = json!({
        "trackers": [["http://a/"]], "comment": "old", "web_seeds": ["http://w/"],
        "nodes": ["n:1"], "created_by": by,
    });
    let rows: [(&[&str], &str, Option<Value>); 9] = [
        (
            &["-a", "http://b/,http://c/", "-a", "udp://d:1"],
            "trackers",
            Some(json!([["http://b/", "http://c/"], ["udp://d:1"]])),
        ),
        (&["--no-announce"], "trackers", None),
        (&["--comment", "new"], "comment", Some(json!("new"))),
        (&["--no-comment"], "comment", None),
        (
            &["--web-seed", "http://x/"],
            "web_seeds",
            Some(json!(["http://x/"])),
        ),
        (&["--no-web-seed"], "web_seeds", None),
        (&["--node", "[::1]:5"], "nodes", Some(json!(["[::1]:5"]))),
        (&["--no-node"], "nodes", None),
        (&["--no-created-by"], "created_by", None),
    ];
    for (arguments, key, value) in rows {
        let mut expected = all.clone();
        match value {
            Some(value) => expected[key] = value,
            None => drop(expected.as_object_mut().unwrap().remove(key)),
        }
        assert_eq!(edited(&place, arguments), expected, "{arguments:?}");
    }
}

#[test]
fn refused() {
    let place = Place::with_torrent();
    let before = place.read("data.torrent");
    let rows: [(&[&str], i32); 7] = [
        (&["edit", "data.torrent", "-o", "x"], 2),
        (&["edit", "data.torrent", "--no-comment"], 2),
        (
            &[
                "edit",
                "data.torrent",
                "-o",
                "x",
                "--comment",
                "a",
                "--no-comment",
            ],
            2,
        ),
        (&["edit", "data.torrent", "-o", "x", "-a", "nonsense"], 2),
        (&["edit", "nothing", "-o", "x", "--no-comment"], 3),
        (&["edit", "data", "-o", "x", "--no-comment"], 3),
        (
            &["edit", "data.torrent", "-o", "data.torrent", "--no-date"],
            1,
        ),
    ];
    for (arguments, code) in rows {
        let outcome = place.bt(arguments);
        assert_eq!(outcome.code, code, "{arguments:?}: {}", outcome.stderr);
    }
    assert_eq!(place.read("data.torrent"), before);
    assert_eq!(place.names(), ["data", "data.torrent"]);
    let in_place = [
        "edit",
        "data.torrent",
        "-o",
        "data.torrent",
        "--no-date",
        "--force",
    ];
    assert_eq!(place.bt(&in_place).code, 0);
    assert_ne!(place.read("data.torrent"), before);
}
