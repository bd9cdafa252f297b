//! `get` and `seed`: what is fetched, replaced, kept and given.

use super::{LOCAL, Place, check, count};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

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
fn a_torrent_of_a_link_is_saved_over_another_file_by_force_only() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    let shown = place.bt("getter", &["show", &url, "--json"]).end();
    let shown: Value = serde_json::from_str(&shown.stdout[0]).unwrap();
    let magnet = shown["magnet"].as_str().unwrap();
    fs::write(place.path("kept"), "mine").unwrap();
    let get = ["get", magnet, "-d", "copy", "--save-torrent", "kept"];
    let get = [&get[..], &LOCAL[..]].concat();
    check(&place, &get, 1, "kept exists; --force replaces it");
    assert_eq!(fs::read(place.path("kept")).unwrap(), b"mine");
    let forced = place.bt("getter", &[&get[..], &["--force"]].concat()).end();
    assert_eq!(forced.code, Some(0), "{}", forced.stderr);
    let saved = place.bt("getter", &["show", "kept", "--json"]).end();
    assert!(
        saved.stdout[0].contains(shown["info_hash"].as_str().unwrap()),
        "{}",
        saved.stderr
    );
}

#[test]
fn who_seeds_a_part_is_not_told_that_all_is_there() {
    let place = Place::new();
    let create = place.bt("home", &["create", "data", "--no-date"]).end();
    assert_eq!(create.code, Some(0), "{}", create.stderr);
    let large = fs::File::options()
        .write(true)
        .open(place.path("data/ä/large.bin"));
    large.unwrap().set_len(1_000_000).unwrap();
    let seed = [&["seed", "data.torrent", "--no-tracker"], &LOCAL[..]].concat();
    let mut seeder = place.bt("home", &seed);
    let line = seeder.line();
    assert_eq!(line, "data: what is there is verified, and seeded");
    seeder.signal(Signal::TERM);
    let ended = seeder.end();
    assert!(ended.stderr.contains("pieces are there and right"));
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

#[test]
fn complete_is_said_of_a_whole_torrent_that_is_seeded_and_not_of_a_part() {
    let place = Place::new();
    assert_eq!(place.bt("home", &["create", "data"]).end().code, Some(0));
    for (who, is_whole) in [("first", true), ("second", false)] {
        if !is_whole {
            fs::remove_file(place.path("data/ä/small.txt")).unwrap();
        }
        let mut seeder = place.bt(
            who,
            &[&["seed", "data.torrent", "--json"], &LOCAL[..]].concat(),
        );
        let checked = seeder.event("checked");
        assert_eq!(checked["pieces_have"] == checked["pieces"], is_whole);
        seeder.signal(Signal::TERM);
        let ended = seeder.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let is_said = |line: &String| line.contains("\"event\":\"complete\"");
        assert_eq!(ended.stdout.iter().any(is_said), is_whole, "{who}");
    }
}
