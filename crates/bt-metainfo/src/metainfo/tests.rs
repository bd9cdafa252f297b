//! Rows: what is read, what is refused and how it is said, what is noted.

mod refused;

use super::*;
use bt_bencode::Node as Bencode;
use std::path::Path;

type Dict = BTreeMap<Vec<u8>, Bencode>;

fn dict<const N: usize>(entries: [(&str, Bencode); N]) -> Dict {
    entries.map(|(key, value)| (key.into(), value)).into()
}

/// A torrent of one file: 40 000 bytes in three pieces.
fn single() -> Dict {
    dict([
        ("length", 40_000.into()),
        ("name", "file.bin".into()),
        ("piece length", 16_384.into()),
        ("pieces", vec![7; 60].into()),
    ])
}

fn file<const N: usize>(length: i64, path: [&str; N]) -> Dict {
    dict([("length", length.into()), ("path", Bencode::list(path))])
}

/// A torrent of a folder `top` with these files, as many pieces as it takes.
fn folder<const N: usize>(files: [Dict; N]) -> Dict {
    let length = |file: &Dict| match file.get(b"length".as_slice()) {
        Some(Bencode::Int(length)) => (*length).max(0),
        _ => 0,
    };
    let total: i128 = files.iter().map(length).sum();
    let pieces = usize::try_from(total.unsigned_abs().div_ceil(16_384))
        .unwrap_or(0)
        .min(100);
    dict([
        ("files", Bencode::List(files.map(Bencode::Dict).into())),
        ("name", "top".into()),
        ("piece length", 16_384.into()),
        ("pieces", vec![7; pieces * 20].into()),
    ])
}

fn with(mut entries: Dict, key: &str, value: impl Into<Bencode>) -> Dict {
    entries.insert(key.into(), value.into());
    entries
}

fn without(mut entries: Dict, key: &str) -> Dict {
    entries.remove(key.as_bytes());
    entries
}

fn torrent(info: Dict) -> Vec<u8> {
    torrent_with(info, Dict::new())
}

fn torrent_with(info: Dict, outer: Dict) -> Vec<u8> {
    Bencode::Dict(with(outer, "info", Bencode::Dict(info))).encode()
}

fn parse(bytes: &[u8]) -> Metainfo {
    Metainfo::parse_for(bytes, Platform::Unix).unwrap()
}

fn paths(metainfo: &Metainfo) -> Vec<&str> {
    let files = metainfo.info.files().iter();
    files.map(|file| file.path.to_str().unwrap()).collect()
}

fn notes(metainfo: &Metainfo) -> Vec<String> {
    metainfo.notes().iter().map(ToString::to_string).collect()
}

#[test]
fn a_single_file() {
    let bytes = torrent(single());
    let metainfo = parse(&bytes);
    let info = &metainfo.info;
    assert_eq!(info.name(), "file.bin");
    assert!(!info.is_folder() && !info.is_private());
    assert_eq!(info.format(), crate::Format::V1);
    assert_eq!(paths(&metainfo), ["file.bin"]);
    let [only] = info.files() else { panic!() };
    assert_eq!(
        (only.length, only.offset, only.is_stored()),
        (40_000, 0, true)
    );
    assert_eq!(info.layout().pieces_count(), 3);
    let last = info.layout().piece(2).unwrap();
    assert_eq!(info.piece_hash(last), Some(&[7; 20]));
    assert_eq!(metainfo.bytes(), bytes);
    assert_eq!(metainfo.info_bytes(), Bencode::Dict(single()).encode());
    assert_eq!(metainfo.notes(), []);
    // As Python's hashlib says.
    assert_eq!(
        metainfo.info_hash.to_string(),
        "fa5980b2187b220f54f80f69fce60bd5b34fcaf8"
    );
    assert_eq!(metainfo.trackers, Vec::<Vec<String>>::new());
}

#[test]
fn a_folder() {
    let metainfo = parse(&torrent(folder([
        file(20_000, ["a", "é.txt"]),
        file(0, ["empty"]),
        with(file(12_768, [".pad", "12768"]), "attr", "p"),
        with(file(5, ["run"]), "attr", "xhz"),
        without(with(file(0, ["link"]), "attr", "l"), "length"),
        with(file(7, ["z"]), "md5sum", "0123456789ABCDEF0123456789abcdef"),
    ])));
    assert!(metainfo.info.is_folder());
    assert_eq!(
        paths(&metainfo),
        [
            "top/a/é.txt",
            "top/empty",
            "top/.pad/12768",
            "top/run",
            "top/link",
            "top/z"
        ]
    );
    let files = metainfo.info.files();
    let offsets: Vec<u64> = files.iter().map(|file| file.offset).collect();
    assert_eq!(offsets, [0, 20_000, 20_000, 32_768, 32_773, 32_773]);
    let stored: Vec<bool> = files.iter().map(crate::FileEntry::is_stored).collect();
    assert_eq!(stored, [true, true, false, true, false, true]);
    let letters: Vec<String> = files.iter().map(|file| file.attributes.letters()).collect();
    assert_eq!(letters, ["", "", "p", "hx", "l", ""]);
    assert_eq!(
        files[5].md5sum.as_deref(),
        Some("0123456789abcdef0123456789abcdef")
    );
    assert_eq!(metainfo.info.layout().total_length(), 32_780);
}

#[test]
fn the_keys_around() {
    let outer = dict([
        ("announce", "http://one/announce".into()),
        ("comment", "old".into()),
        ("comment.utf-8", "né".into()),
        ("created by", "maker/1".into()),
        ("creation date", 1_700_000_000.into()),
        ("encoding", "UTF-8".into()),
        ("httpseeds", Bencode::list(["http://hoffman/"])),
        (
            "nodes",
            Bencode::list([
                Bencode::list([Bencode::from("router"), 6881.into()]),
                Bencode::list([Bencode::from("::1"), 1.into()]),
                Bencode::list([Bencode::from("host"), 0.into()]),
                Bencode::list([Bencode::from("host"), 65_536.into()]),
                Bencode::list([Bencode::from("a b"), 1.into()]),
                Bencode::from("host:1"),
            ]),
        ),
        ("url-list", "http://seed/".into()),
        ("x-unknown", Bencode::list([1, 2])),
    ]);
    let info = with(with(single(), "private", 1), "source", "label");
    let metainfo = parse(&torrent_with(info, outer));
    assert_eq!(metainfo.trackers, [["http://one/announce"]]);
    assert_eq!(metainfo.comment(), Some("né"));
    assert_eq!(metainfo.created_by(), Some("maker/1"));
    assert_eq!(metainfo.creation_date(), Some(1_700_000_000));
    assert_eq!(metainfo.encoding(), Some("UTF-8"));
    assert_eq!(metainfo.http_seeds(), ["http://hoffman/"]);
    assert_eq!(metainfo.web_seeds(), ["http://seed/"]);
    let node = |host: &str, port| Node {
        host: host.into(),
        port,
    };
    assert_eq!(metainfo.nodes(), [node("router", 6881), node("::1", 1)]);
    assert!(metainfo.info.is_private());
    assert_eq!(metainfo.info.source(), Some("label"));
    assert_eq!(notes(&metainfo).len(), 4);
    assert_eq!(
        metainfo.magnet().to_string(),
        format!(
            "magnet:?xt=urn:btih:{}&dn=file.bin&xl=40000&tr=http%3A%2F%2Fone%2Fannounce&ws=http%3A%2F%2Fseed%2F",
            metainfo.info_hash
        )
    );
}

#[test]
fn trackers_in_tiers() {
    let tier = |urls: &[&str]| Bencode::list(urls.iter().copied());
    let one = Bencode::from("http://one");
    // (announce-list, tiers, notes)
    let rows: Vec<(Bencode, &[&[&str]], usize)> = vec![
        (
            Bencode::list([tier(&["http://a", "udp://b:1"]), tier(&["http://c"])]),
            &[&["http://a", "udp://b:1"], &["http://c"]],
            0,
        ),
        // BEP 12: `announce` counts only if the list is of no use.
        (Bencode::list::<Bencode>([]), &[&["http://one"]], 0),
        (
            Bencode::list([tier(&["ftp://a"]), tier(&[])]),
            &[&["http://one"]],
            1,
        ),
        (Bencode::from("http://a"), &[&["http://one"]], 1),
        // The flat form of BTP/1.0, alone and mixed.
        (
            tier(&["http://a", "http://b"]),
            &[&["http://a"], &["http://b"]],
            0,
        ),
        (
            Bencode::list([tier(&["http://a"]), Bencode::from("http://b")]),
            &[&["http://a"], &["http://b"]],
            0,
        ),
        // Cleaned: white space, repetitions, wrong types.
        (
            Bencode::list([
                tier(&[" http://a\n", "http://a", ""]),
                Bencode::list([1]),
                Bencode::from(b"http://\xff"),
                Bencode::Dict(Dict::new()),
            ]),
            &[&["http://a"]],
            5,
        ),
    ];
    for (list, tiers, notes_count) in rows {
        let outer = dict([("announce", one.clone()), ("announce-list", list.clone())]);
        let metainfo = parse(&torrent_with(single(), outer));
        assert_eq!(metainfo.trackers, tiers, "{list:?}");
        assert_eq!(
            metainfo.notes().len(),
            notes_count,
            "{:?}",
            notes(&metainfo)
        );
    }
    let many = Bencode::list((0..100_000).map(|n| Bencode::list([format!("http://{n}")])));
    let metainfo = parse(&torrent_with(single(), dict([("announce-list", many)])));
    assert_eq!(metainfo.trackers.len(), crate::urls::TRACKERS_MAX);
    assert_eq!(metainfo.notes().len(), crate::note::NOTES_MAX);
}

#[test]
fn odd_values_around_are_noted_and_left_out() {
    let rows: Vec<(&str, Bencode, &str)> = vec![
        ("comment", 1.into(), "comment is left out: not a string"),
        (
            "created by",
            Bencode::list([1]),
            "created by is left out: not a string",
        ),
        (
            "creation date",
            "today".into(),
            "creation date is left out: not a number of seconds",
        ),
        (
            "url-list",
            Bencode::list(["file:///x"]),
            "url-list[0] is left out: unknown scheme",
        ),
        ("url-list", 1.into(), "url-list is left out: not a text"),
        ("nodes", 1.into(), "nodes is left out: not a list"),
        (
            "announce",
            "udp:tracker".into(),
            "announce is left out: no URL with a scheme and //",
        ),
    ];
    for (key, value, note) in rows {
        let metainfo = parse(&torrent_with(single(), dict([(key, value)])));
        assert_eq!(notes(&metainfo), [note]);
        assert_eq!(metainfo.outer, Outer::default());
    }
    let date = parse(&torrent_with(
        single(),
        dict([("creation date", "1700000000".into())]),
    ));
    assert_eq!(date.creation_date(), Some(1_700_000_000));
    let none = parse(&torrent_with(single(), dict([("url-list", "".into())])));
    assert_eq!((none.web_seeds().len(), none.notes().len()), (0, 0));
    let bad = parse(&torrent_with(
        single(),
        dict([("comment", b"a\xff".into())]),
    ));
    assert_eq!(bad.comment(), Some("a\u{fffd}"));
}

#[test]
fn private_or_not() {
    let rows: Vec<(Bencode, bool, usize)> = vec![
        (0.into(), false, 0),
        (1.into(), true, 0),
        (2.into(), true, 1),
        ((-1).into(), true, 1),
        ("1".into(), true, 1),
        (Bencode::Int(1 << 100), true, 1),
    ];
    for (value, expected, notes_count) in rows {
        let metainfo = parse(&torrent(with(single(), "private", value)));
        assert_eq!(metainfo.info.is_private(), expected);
        let note = "info.private is taken as 1: it is neither 0 nor 1";
        assert!(notes(&metainfo).iter().all(|told| told == note));
        assert_eq!(metainfo.notes().len(), notes_count);
    }
}

#[test]
fn names_and_paths_are_made_safe() {
    let name = |name: &[u8]| {
        let metainfo = parse(&torrent(with(single(), "name", name)));
        assert_eq!(paths(&metainfo), [metainfo.info.name()]);
        (
            metainfo.info.name().to_owned(),
            metainfo.info_hash.to_string(),
            notes(&metainfo),
        )
    };
    for vanishing in [b"..".as_slice(), b".", b"", b"//", b"\\"] {
        let (used, hash, notes) = name(vanishing);
        assert_eq!(used, hash, "nothing is left, so the info hash is the name");
        assert_eq!(notes.len(), 1);
    }
    assert_eq!(name(b"/etc/passwd").0, "etcpasswd");
    assert_eq!(name(b"/a").2, ["\"/a\" is used as \"a\""]);

    let metainfo = parse(&torrent(folder([
        file(1, ["..", "..", "up"]),
        file(1, ["/abs"]),
        file(1, [".."]),
        file(1, [""]),
        file(1, ["a\0b"]),
        file(1, ["same"]),
        file(1, ["same"]),
        file(1, ["same", "below"]),
        with(file(1, [".pad", "1"]), "attr", "p"),
        with(file(1, [".pad", "1"]), "attr", "p"),
    ])));
    assert_eq!(
        paths(&metainfo),
        [
            "top/up",
            "top/abs",
            "top/_",
            "top/_.1",
            "top/a_b",
            "top/same.1",
            "top/same.2",
            "top/same/below",
            "top/.pad/1",
            "top/.pad/1",
        ]
    );
    assert!(notes(&metainfo).contains(&"\"top/same\" is used as \"top/same.1\"".to_owned()));

    // A hostile name of the top folder meets the same rule.
    let metainfo = parse(&torrent(with(folder([file(1, ["a"])]), "name", "../../x")));
    assert_eq!(paths(&metainfo), ["....x/a"]);
    // Case counts on Unix, and not elsewhere.
    let bytes = torrent(folder([file(1, ["A"]), file(1, ["a"])]));
    assert_eq!(paths(&parse(&bytes)), ["top/A", "top/a"]);
    let windows = Metainfo::parse_for(&bytes, Platform::Windows).unwrap();
    assert_eq!(windows.info.files()[1].path, Path::new("top").join("a.1"));
}

#[test]
fn utf8_names_are_preferred() {
    let info = with(with(single(), "name", b"\xff"), "name.utf-8", "ü");
    assert_eq!(parse(&torrent(info)).info.name(), "ü");
    let info = with(with(single(), "name", "plain"), "name.utf-8", b"\xff");
    assert_eq!(parse(&torrent(info)).info.name(), "plain");
    let info = without(with(single(), "name.utf-8", "only"), "name");
    assert_eq!(parse(&torrent(info)).info.name(), "only");
    let both = with(file(1, ["old"]), "path.utf-8", Bencode::list(["nü"]));
    let broken = with(file(1, ["fine"]), "path.utf-8", Bencode::list([b"\xff"]));
    let metainfo = parse(&torrent(folder([both, broken])));
    assert_eq!(paths(&metainfo), ["top/nü", "top/fine"]);
}

#[test]
fn empty_torrents() {
    let empty = with(with(single(), "length", 0), "pieces", "");
    assert_eq!(parse(&torrent(empty)).info.layout().pieces_count(), 0);
    let metainfo = parse(&torrent(folder([file(0, ["a"]), file(0, ["b"])])));
    assert_eq!(paths(&metainfo), ["top/a", "top/b"]);
}

#[test]
fn the_hash_is_of_the_bytes_as_they_stand() {
    let canonical = torrent(single());
    let info = &canonical[7..canonical.len() - 1];
    // The same keys the other way round, and a newline behind.
    let reversed = b"d6:pieces60:\x07".to_vec();
    let reversed = [
        &reversed[..12],
        &[7; 60],
        b"12:piece lengthi16384e4:name8:file.bin6:lengthi40000ee",
    ]
    .concat();
    let bytes = [b"d4:info".as_slice(), &reversed, b"e\n"].concat();
    let metainfo = parse(&bytes);
    assert_eq!(metainfo.info_bytes(), reversed);
    assert_eq!(metainfo.info_hash, InfoHash(Sha1::digest(&reversed).into()));
    assert_ne!(metainfo.info_hash, InfoHash(Sha1::digest(info).into()));
    assert_eq!(
        notes(&metainfo),
        [
            "dictionary key out of order, in info",
            "dictionary key out of order, in info",
            "dictionary key out of order, in info",
            "newline at the end",
        ]
    );
    // A duplicate outside the info dictionary is noted; the first one counts.
    let bytes = [b"d7:comment1:a7:comment1:b4:info".as_slice(), info, b"e"].concat();
    let metainfo = parse(&bytes);
    assert_eq!(metainfo.comment(), Some("a"));
    assert_eq!(
        notes(&metainfo),
        ["repeated dictionary key, the first one counts"]
    );
    // Many outside do not hide one inside.
    let many = b"7:comment1:a".repeat(1_000);
    let doubled = [b"d1:ai1e1:ai1e".as_slice(), &info[1..]].concat();
    let bytes = [b"d".as_slice(), &many, b"4:info", &doubled, b"e"].concat();
    let error = Metainfo::parse(&bytes).unwrap_err().to_string();
    assert_eq!(
        error,
        "not a valid torrent: repeated dictionary key at byte 12014, in info"
    );
}

#[test]
fn from_a_magnet_link() {
    let info = Bencode::Dict(single()).encode();
    let hash = InfoHash(Sha1::digest(&info).into());
    let link = format!("magnet:?xt=urn:btih:{hash}&tr=http://a&tr=http://b&ws=http://w/");
    let magnet: Magnet = link.parse().unwrap();
    let metainfo = Metainfo::from_magnet(&magnet, &info).unwrap();
    assert_eq!(metainfo.info_hash, hash);
    assert_eq!(metainfo.info_bytes(), info);
    assert_eq!(metainfo.trackers, [["http://a"], ["http://b"]]);
    assert_eq!(metainfo.web_seeds(), ["http://w/"]);
    assert_eq!(Metainfo::parse(metainfo.bytes()).unwrap(), metainfo);

    let wrong = [&info[..], b"\n"].concat();
    let found = InfoHash(Sha1::digest(&wrong).into());
    assert_eq!(
        Metainfo::from_magnet(&magnet, &wrong),
        Err(MetainfoError::InfoHash {
            found,
            expected: hash
        })
    );
    // A hash that is right for bytes that are more than one dictionary.
    let sly = [&info[..], b"7:comment1:x"].concat();
    let sly_magnet = Magnet {
        info_hash: Some(InfoHash(Sha1::digest(&sly).into())),
        ..Magnet::default()
    };
    assert!(Metainfo::from_magnet(&sly_magnet, &sly).is_err());
    let v2 = Magnet {
        info_hash_v2: Some([0; 32]),
        ..Magnet::default()
    };
    assert_eq!(
        Metainfo::from_magnet(&v2, &info),
        Err(MetainfoError::V2Only)
    );
}
