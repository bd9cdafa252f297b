//! What is built is what is read; what nobody could read is not built; an edit leaves the info dictionary alone.

use super::*;
use crate::metainfo::Node;
use crate::{Change, Platform};
use bt_bencode::{Options, decode};
use proptest::prelude::*;

fn edit_everything() -> Edit {
    Edit {
        trackers: Change::Set(vec![
            vec!["http://a/announce".into(), "udp://b:1".into()],
            vec!["http://c/announce".into()],
        ]),
        comment: Change::Set("a comment".into()),
        created_by: Change::Set("maker/1".into()),
        creation_date: Change::Set(1_700_000_000),
        web_seeds: Change::Set(vec!["http://w/1/".into(), "http://w/2/".into()]),
        nodes: Change::Set(vec![Node {
            host: "router.example".into(),
            port: 6881,
        }]),
    }
}

#[test]
fn the_piece_length_grows_with_the_torrent() {
    const MIB: u64 = 1 << 20;
    let rows = [
        (0, 16 << 10),
        (1, 16 << 10),
        (32 * MIB, 16 << 10),
        (32 * MIB + 1, 32 << 10),
        (700 * MIB, 512 << 10),
        (2_048 * MIB, 1 << 20),
        (8 * 1_024 * MIB, 4 << 20),
        (32 * 1_024 * MIB, 16 << 20),
        (32 * 1_024 * MIB + 1, 16 << 20),
        (u64::MAX, 16 << 20),
    ];
    for (total, expected) in rows {
        assert_eq!(auto_piece_length(total), expected, "{total}");
    }
}

#[test]
fn the_bytes_of_a_torrent() {
    let torrent = Builder::folder("top", 16_384)
        .with_file(["a", "é"], 16_384)
        .with_file(["b"], 1)
        .with_private(true)
        .with_source("label")
        .with_edit(edit_everything())
        .build(&[[b'1'; 20], [b'2'; 20]])
        .unwrap();
    let expected = "d8:announce17:http://a/announce\
        13:announce-listll17:http://a/announce9:udp://b:1el17:http://c/announceee\
        7:comment9:a comment10:created by7:maker/113:creation datei1700000000e\
        4:infod5:filesld6:lengthi16384e4:pathl1:a2:éeed6:lengthi1e4:pathl1:beee\
        4:name3:top12:piece lengthi16384e6:pieces40:1111111111111111111122222222222222222222\
        7:privatei1e6:source5:labele\
        5:nodesll14:router.examplei6881eee\
        8:url-listl11:http://w/1/11:http://w/2/ee";
    assert_eq!(String::from_utf8_lossy(torrent.bytes()), expected);
    assert!(decode(torrent.bytes(), &Options::strict()).is_ok());
    assert_eq!(torrent.notes(), []);
    assert_eq!(torrent.trackers.len(), 2);
    assert!(torrent.info.is_private());
}

#[test]
fn what_cannot_be_built() {
    let hash = [[0; 20]];
    let url = |edit: Edit| {
        let builder = Builder::file("a", 1, 16_384).with_edit(edit);
        builder.build(&hash).unwrap_err().to_string()
    };
    let tracker = |url: &str| Edit {
        trackers: Change::Set(vec![vec![url.into()]]),
        ..Edit::default()
    };
    let seed = |url: &str| Edit {
        web_seeds: Change::Set(vec![url.into()]),
        ..Edit::default()
    };
    let build = |builder: Builder| builder.build(&hash).unwrap_err().to_string();
    let file = |name: &str| build(Builder::file(name, 1, 16_384));
    let inner =
        |parts: &[&str]| build(Builder::folder("top", 16_384).with_file(parts.iter().copied(), 1));
    let rows = [
        (
            url(tracker("tracker")),
            "\"tracker\" cannot be used: no URL with a scheme and //",
        ),
        (
            url(seed("file:///x")),
            "\"file:///x\" cannot be used: unknown scheme",
        ),
        (
            build(Builder::file("a", 1, 0)),
            "piece length 0 is not within 1..=536870912",
        ),
        (
            build(Builder::file("a", 16_385, 16_384)),
            "1 piece hashes for 2 pieces",
        ),
        (
            build(Builder::folder("top", 16_384)),
            "1 piece hashes for 0 pieces",
        ),
        (
            file("a/b"),
            "\"a/b\" would be read as \"ab\": rename it first",
        ),
        (
            file("a\\b"),
            "\"a\\b\" would be read as \"ab\": rename it first",
        ),
        (
            file("a\nb"),
            "\"a\nb\" would be read as \"a_b\": rename it first",
        ),
        (
            inner(&["..", "x"]),
            "\"top/../x\" would be read as \"top/x\": rename it first",
        ),
        (
            inner(&["x", ""]),
            "\"top/x/\" would be read as \"top/x/_\": rename it first",
        ),
        (inner(&[]), "info.files[0].path is empty"),
    ];
    for (error, expected) in rows {
        assert_eq!(error, expected);
    }
    let empty = Builder::folder("top", 16_384).build(&[]).unwrap_err();
    assert_eq!(empty.to_string(), "info.files is empty");
    let twice = Builder::folder("top", 16_384)
        .with_file(["a"], 0)
        .with_file(["a"], 0);
    let expected = "\"top/a\" would be read as \"top/a.1\": rename it first";
    assert_eq!(twice.build(&[]).unwrap_err().to_string(), expected);
}

#[test]
fn an_edit_leaves_everything_else_alone() {
    // Odd in every way an info dictionary may be, with a key of its own beside it, in no order.
    let odd =
        "d4:zzzz1:z12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaa4:name1:a6:lengthi1ee";
    let bytes = format!("d7:unknowni7e13:comment.utf-83:old4:info{odd}8:announce8:http://xe");
    let before = Metainfo::parse(bytes.as_bytes()).unwrap();
    assert_eq!(before.comment(), Some("old"));

    let same = before.edit(&Edit::default()).unwrap();
    assert_eq!(same.info_hash, before.info_hash);
    assert_eq!(same.trackers, before.trackers);

    let after = before.edit(&edit_everything()).unwrap();
    assert_eq!(after.info_bytes(), odd.as_bytes());
    assert_eq!(after.info_hash, before.info_hash);
    assert_eq!(after.comment(), Some("a comment"));
    assert_eq!(after.created_by(), Some("maker/1"));
    assert_eq!(after.creation_date(), Some(1_700_000_000));
    assert_eq!(after.web_seeds(), ["http://w/1/", "http://w/2/"]);
    assert_eq!(after.nodes().len(), 1);
    assert_eq!(after.trackers.len(), 2);
    assert!(
        after
            .bytes()
            .ends_with(b"7:unknowni7e8:url-listl11:http://w/1/11:http://w/2/ee")
    );
    // All keys in order again, whatever they were.
    let top = decode(after.bytes(), &Options::lenient()).unwrap();
    let keys: Vec<_> = top
        .root()
        .dict()
        .unwrap()
        .iter()
        .map(|(key, _)| key)
        .collect();
    assert!(keys.is_sorted());

    let bare = after
        .edit(&Edit {
            trackers: Change::Remove,
            comment: Change::Remove,
            created_by: Change::Remove,
            creation_date: Change::Remove,
            web_seeds: Change::Set(vec![]),
            nodes: Change::Set(vec![]),
        })
        .unwrap();
    let expected = format!("d4:info{odd}7:unknowni7ee");
    assert_eq!(String::from_utf8_lossy(bare.bytes()), expected);

    let one = Edit {
        trackers: Change::Set(vec![vec![], vec!["http://only".into()]]),
        web_seeds: Change::Set(vec!["http://w/".into()]),
        ..Edit::default()
    };
    let one = bare.edit(&one).unwrap();
    let expected =
        format!("d8:announce11:http://only4:info{odd}7:unknowni7e8:url-list9:http://w/e");
    assert_eq!(String::from_utf8_lossy(one.bytes()), expected);

    let bad = Edit {
        trackers: Change::Set(vec![vec!["nonsense".into()]]),
        ..Edit::default()
    };
    assert!(matches!(one.edit(&bad), Err(BuildError::Url { .. })));
}

proptest! {
    #[test]
    fn what_was_built_is_read_the_same(
        name in "[a-zé ]{1,8}",
        files in prop::collection::btree_map(prop::collection::vec("[a-c]{1,2}", 1..4), 0_u64..100_000, 1..8),
        piece_length in 1_u32..100_000,
        private in any::<bool>(),
    ) {
        let mut builder = Builder::folder(name.clone(), piece_length).with_private(private);
        for (parts, length) in &files {
            builder = builder.with_file(parts.clone(), *length);
        }
        let layout = builder.layout().unwrap();
        let hashes: Vec<[u8; 20]> = layout.pieces().map(|piece| [piece.get().to_be_bytes()[3]; 20]).collect();
        // A file in the place of a folder: such a tree cannot be on a disk either.
        let impossible = files.keys().any(|a| files.keys().any(|b| a != b && b.starts_with(a)));
        match builder.build(&hashes) {
            Err(error) => {
                let is_name = matches!(error, BuildError::Name { .. });
                prop_assert!(impossible && is_name, "{}", error);
            }
            Ok(torrent) => {
                prop_assert!(!impossible);
                prop_assert_eq!(&torrent, &builder.build(&hashes).unwrap());
                prop_assert!(decode(torrent.bytes(), &Options::strict()).is_ok());
                let again = Metainfo::parse_for(torrent.bytes(), Platform::Unix).unwrap();
                prop_assert_eq!(again.info.layout(), layout);
                prop_assert_eq!(again.info.is_private(), private);
                prop_assert_eq!(&again.info.piece_hashes, &hashes);
                let mut end = 0;
                for (entry, (parts, length)) in again.info.files().iter().zip(&files) {
                    let path: PathBuf = core::iter::once(&name).chain(parts).collect();
                    prop_assert_eq!((&entry.path, entry.length, entry.offset), (&path, *length, end));
                    end += length;
                }
            }
        }
    }
}
