//! What is no torrent, or one that nobody should open.

use super::*;

/// Each of these dictionaries is refused, with these words.
fn check_refused(rows: Vec<(Dict, &str)>) {
    for (info, expected) in rows {
        let error = Metainfo::parse(&torrent(info)).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn info_dictionaries_that_are_refused() {
    check_refused(vec![
        (
            without(single(), "name"),
            "not a valid torrent: missing key `name` at byte 7, in info",
        ),
        (
            with(single(), "name", 1),
            "not a valid torrent: expected a string, found an integer at byte 29, in info.name",
        ),
        (
            without(single(), "length"),
            "info has neither `length` nor `files`",
        ),
        (
            with(single(), "files", 1),
            "info has both `length` and `files`",
        ),
        (
            with(single(), "length", -1),
            "not a valid torrent: integer out of range at byte 16, in info.length",
        ),
        (
            with(single(), "length", "1"),
            "not a valid torrent: expected an integer, found a string at byte 16, in info.length",
        ),
        (
            with(single(), "length", (1_u64 << 48) + 1),
            "info.length is 281474976710657 bytes, more than any file can have",
        ),
        (
            with(single(), "length", u64::MAX),
            "info.length is 18446744073709551615 bytes, more than any file can have",
        ),
        (
            with(single(), "length", 1_u64 << 48),
            "info: 17179869184 pieces, more than 2097152",
        ),
    ]);
}

#[test]
fn pieces_that_are_refused() {
    check_refused(vec![
        (
            without(single(), "piece length"),
            "not a valid torrent: missing key `piece length` at byte 7, in info",
        ),
        (
            with(single(), "piece length", 0),
            "info.piece length is 0, not within 1..=536870912",
        ),
        (
            with(single(), "piece length", -16_384),
            "info.piece length is -16384, not within 1..=536870912",
        ),
        (
            with(single(), "piece length", 1 << 30),
            "info.piece length is 1073741824, not within 1..=536870912",
        ),
        (
            without(single(), "pieces"),
            "not a valid torrent: missing key `pieces` at byte 7, in info",
        ),
        (
            with(single(), "pieces", 1),
            "not a valid torrent: expected a string, found an integer at byte 69, in info.pieces",
        ),
        (
            with(single(), "pieces", vec![0; 59]),
            "info.pieces has 59 bytes, which is not a multiple of 20",
        ),
        (
            with(single(), "pieces", vec![0; 40]),
            "info.pieces has 2 hashes where the lengths give 3 pieces",
        ),
        (
            with(single(), "pieces", vec![0; 80]),
            "info.pieces has 4 hashes where the lengths give 3 pieces",
        ),
        (
            with(single(), "piece length", 1),
            "info.pieces has 3 hashes where the lengths give 40000 pieces",
        ),
    ]);
}

#[test]
fn file_lists_that_are_refused() {
    let deep: Vec<&str> = vec!["d"; 101];
    let long = "x".repeat(255);
    let long: Vec<&str> = vec![&long; 16];
    let path = |parts: &[&str]| with(file(1, []), "path", Bencode::list(parts.iter().copied()));
    let v2 = |info: Dict| {
        with(
            with(info, "meta version", 2),
            "file tree",
            Bencode::Dict(Dict::new()),
        )
    };
    check_refused(vec![
        (folder([]), "info.files is empty"),
        (
            with(folder([]), "files", "x"),
            "not a valid torrent: expected a list, found a string at byte 15, in info.files",
        ),
        (folder([file(1, [])]), "info.files[0].path is empty"),
        (
            folder([file(1, ["a"]), without(file(1, ["b"]), "length")]),
            "not a valid torrent: missing key `length` at byte 40, in info.files[1]",
        ),
        (
            folder([without(file(1, ["b"]), "path")]),
            "not a valid torrent: missing key `path` at byte 16, in info.files[0]",
        ),
        (
            folder([with(file(1, []), "path", "a")]),
            "not a valid torrent: expected a list, found a string at byte 34, in info.files[0].path",
        ),
        (
            folder([with(file(1, []), "path", Bencode::list([1]))]),
            "not a valid torrent: expected a string, found an integer at byte 35, in info.files[0].path[0]",
        ),
        (
            folder([file(-5, ["a"])]),
            "not a valid torrent: integer out of range at byte 25, in info.files[0].length",
        ),
        (
            folder([path(&deep)]),
            "info.files[0].path has 101 parts and 205 bytes: too deep or too long",
        ),
        (
            folder([path(&long)]),
            "info.files[0].path has 16 parts and 4099 bytes: too deep or too long",
        ),
        (
            v2(without(single(), "pieces")),
            "a BitTorrent v2 torrent without a v1 part: v2 is not supported yet",
        ),
    ]);
    let hybrid = parse(&torrent(v2(single())));
    assert_eq!(hybrid.info.format(), crate::Format::Hybrid);
}

#[test]
fn what_is_no_torrent_at_all() {
    let mut truncated = torrent(single());
    truncated.truncate(truncated.len() - 10);
    let rows: Vec<(Vec<u8>, &str)> = vec![
        (
            vec![],
            "not a valid torrent: unexpected end of input at byte 0",
        ),
        (
            vec![0; 100],
            "not a valid torrent: expected a value, found `\\x00` at byte 0",
        ),
        (
            b"<html>".to_vec(),
            "not a valid torrent: expected a value, found `<` at byte 0",
        ),
        (
            b"le".to_vec(),
            "not a valid torrent: expected a dictionary, found a list at byte 0",
        ),
        (
            b"de".to_vec(),
            "not a valid torrent: missing key `info` at byte 0",
        ),
        (
            b"d4:infoi1ee".to_vec(),
            "not a valid torrent: expected a dictionary, found an integer at byte 7, in info",
        ),
        (
            b"d4:infod6:lengthi040000eee".to_vec(),
            "not a valid torrent: number with a leading zero at byte 16, in info.length",
        ),
        (
            b"d4:infod1:ai1e1:ai1eee".to_vec(),
            "not a valid torrent: repeated dictionary key at byte 14, in info",
        ),
        (
            [torrent(single()), b"x".to_vec()].concat(),
            "not a valid torrent: 1 bytes behind the value at byte 134",
        ),
        (
            b"d".repeat(100_000),
            "not a valid torrent: expected a digit, found `d` at byte 1",
        ),
        (
            truncated,
            "not a valid torrent: string of 60 bytes where 52 are left at byte 71, in info.pieces",
        ),
    ];
    for (bytes, expected) in rows {
        assert_eq!(Metainfo::parse(&bytes).unwrap_err().to_string(), expected);
    }
    let large = vec![b'l'; METAINFO_BYTES_MAX + 1];
    let error = Metainfo::parse(&large).unwrap_err().to_string();
    assert!(error.contains("more than 67108864"), "{error}");
}

#[test]
fn every_cut_is_an_error() {
    let bytes = torrent_with(
        folder([file(5, ["a", "b"])]),
        dict([("announce", "http://a".into())]),
    );
    for end in 0..bytes.len() {
        assert!(Metainfo::parse(&bytes[..end]).is_err(), "{end}");
    }
}

#[test]
fn too_many_files() {
    // The smallest files there can be, in a torrent of 30 MB.
    let files = b"d6:lengthi0e4:pathl1:aee".repeat(crate::info::FILES_MAX + 1);
    let bytes = |files: &[u8]| {
        let tail = b"e4:name1:n12:piece lengthi1e6:pieces0:ee";
        [b"d4:infod5:filesl".as_slice(), files, tail].concat()
    };
    let error = Metainfo::parse(&bytes(&files)).unwrap_err();
    assert_eq!(
        error,
        MetainfoError::TooManyFiles {
            max: crate::info::FILES_MAX
        }
    );
}
