//! Rows, golden vectors and properties of both directions.

use crate::decode::{DEPTH_MAX, NOTES_MAX};
use crate::{Document, ErrorKind, Node, NoteKind, Options, Value, assemble_dict};
use crate::{decode, decode_prefix};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What a decoded value says, as a tree of our own; integers must fit.
fn to_node(value: Value<'_>) -> Node {
    if let Some(text) = value.as_int_text() {
        return Node::Int(text.parse().unwrap());
    }
    if let Some(bytes) = value.as_bytes() {
        return Node::from(bytes);
    }
    if let Some(list) = value.as_list() {
        return Node::list(list.iter().map(to_node));
    }
    let mut entries = BTreeMap::new();
    for (key, value) in value.dict().unwrap().iter() {
        entries
            .entry(key.to_vec())
            .or_insert_with(|| to_node(value));
    }
    Node::Dict(entries)
}

fn kind_name(kind: &ErrorKind) -> String {
    let name = format!("{kind:?}");
    name.split([' ', '(']).next().unwrap().to_owned()
}

/// `Ok(notes)` or `Err(kind @ offset in path)` of both profiles.
fn verdict(input: &[u8], options: &Options) -> String {
    match decode(input, options) {
        Ok(document) => {
            let notes: Vec<_> = document
                .notes()
                .iter()
                .map(|note| format!("{:?}@{}", note.kind, note.offset))
                .collect();
            format!("ok {}", notes.join(" ")).trim().to_owned()
        }
        Err(error) => format!("{}@{} {}", kind_name(&error.kind), error.offset, error.path)
            .trim()
            .to_owned(),
    }
}

/// Rows of input, strict verdict and lenient verdict.
fn check_verdicts(rows: &[(&str, &str, &str)]) {
    for (input, strict, lenient) in rows {
        for (options, expected) in [(Options::strict(), strict), (Options::lenient(), lenient)] {
            assert_eq!(verdict(input.as_bytes(), &options), *expected, "{input:?}");
        }
    }
}

#[test]
fn verdicts_of_both_profiles() {
    check_verdicts(&[
        ("i-0e", "NegativeZero@0", "ok NegativeZero@0"),
        ("i-00e", "NegativeZero@0", "ok NegativeZero@0 LeadingZero@0"),
        ("i03e", "LeadingZero@0", "ok LeadingZero@0"),
        ("i-03e", "LeadingZero@0", "ok LeadingZero@0"),
        ("l01:ae", "LeadingZero@1 [0]", "ok LeadingZero@1"),
        ("d01:ai1ee", "LeadingZero@1", "ok LeadingZero@1"),
        ("ie", "ExpectedDigit@1", "ExpectedDigit@1"),
        ("i-e", "ExpectedDigit@2", "ExpectedDigit@2"),
        ("i1-2e", "ExpectedDigit@2", "ExpectedDigit@2"),
        ("i+1e", "ExpectedDigit@1", "ExpectedDigit@1"),
        ("i 1e", "ExpectedDigit@1", "ExpectedDigit@1"),
        ("", "UnexpectedEof@0", "UnexpectedEof@0"),
        ("e", "ExpectedValue@0", "ExpectedValue@0"),
    ]);
}

#[test]
fn verdicts_on_keys_and_ends() {
    check_verdicts(&[
        ("d1:be", "ExpectedValue@4 b", "ExpectedValue@4 b"),
        ("di1ei2ee", "ExpectedDigit@1", "ExpectedDigit@1"),
        ("d1:bi1e1:ai2ee", "UnsortedKey@7", "ok UnsortedKey@7"),
        ("d1:ai1e1:ai2ee", "DuplicateKey@7", "ok DuplicateKey@7"),
        // The repetition is found although the two are no neighbours.
        (
            "d1:bi1e1:ai2e1:bi3ee",
            "UnsortedKey@7",
            "ok UnsortedKey@7 DuplicateKey@13",
        ),
        // An inner dictionary has keys of its own, also when those of the outer one are looked at.
        ("d1:bd1:ai1ee1:ai1ee", "UnsortedKey@12", "ok UnsortedKey@12"),
        ("d1:bd1:ai1ee1:ci1ee", "ok", "ok"),
        (
            "d1:bd1:bi1e1:ai1ee1:ci1ee",
            "UnsortedKey@11 b",
            "ok UnsortedKey@11",
        ),
        ("le\n", "TrailingBytes@2", "ok TrailingNewline@2"),
        ("le\r\n\n", "TrailingBytes@2", "ok TrailingNewline@2"),
        ("le \n", "TrailingBytes@2", "TrailingBytes@2"),
        ("leee", "TrailingBytes@2", "TrailingBytes@2"),
        (
            "9223372036854775807:x",
            "StringPastEnd@19",
            "StringPastEnd@19",
        ),
        (
            "9223372036854775808:x",
            "LengthOverflow@18",
            "LengthOverflow@18",
        ),
        ("4294967296:", "StringPastEnd@10", "StringPastEnd@10"),
        ("2:a", "StringPastEnd@1", "StringPastEnd@1"),
        ("2x", "ExpectedColon@1", "ExpectedColon@1"),
        (":", "ExpectedValue@0", "ExpectedValue@0"),
        (
            "d4:infod5:filesld6:lengthi1eed6:lengthi-eeeee",
            "ExpectedDigit@40 info.files[1].length",
            "ExpectedDigit@40 info.files[1].length",
        ),
        (
            "d2:\x01 li1ex",
            "ExpectedValue@9 \\x01 [1]",
            "ExpectedValue@9 \\x01 [1]",
        ),
    ]);
}

#[test]
fn of_repeated_keys_the_first_wins() {
    let document = decode(b"d1:bi1e1:ai2e1:bi3ee", &Options::lenient()).unwrap();
    let dict = document.root().dict().unwrap();
    assert_eq!(dict.get("b").unwrap().as_int(), Some(1));
    assert_eq!(dict.iter().count(), 3);
}

#[test]
fn typed_readers_name_the_place() {
    let input = b"d4:infod5:filesld6:lengthi-1e4:name2:\xff\xfeeee3:onei99999999999999999999ee";
    let document = decode(input, &Options::strict()).unwrap();
    let root = document.root().dict().unwrap();
    let files = root.require("info").unwrap().dict().unwrap();
    let file = files.get("files").unwrap().list().unwrap().iter().next();
    let file = file.unwrap().dict().unwrap();
    let rows = [
        (
            file.require("length").unwrap().uint().unwrap_err(),
            "integer out of range at byte 25, in info.files[0].length",
        ),
        (
            file.require("name").unwrap().text().unwrap_err(),
            "string is not UTF-8 at byte 35, in info.files[0].name",
        ),
        (
            file.require("name").unwrap().int().unwrap_err(),
            "expected an integer, found a string at byte 35, in info.files[0].name",
        ),
        (
            file.require("path").unwrap_err(),
            "missing key `path` at byte 16, in info.files[0]",
        ),
        (
            root.require("one").unwrap().int().unwrap_err(),
            "integer out of range at byte 47, in one",
        ),
        (
            root.value().list().unwrap_err(),
            "expected a list, found a dictionary at byte 0",
        ),
    ];
    for (error, expected) in rows {
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(
        root.require("one").unwrap().int_text().unwrap(),
        "99999999999999999999"
    );
    assert_eq!(file.value().raw(), &input[16..40]);
}

#[test]
fn integers_at_the_edges() {
    let rows: &[(&str, Option<i64>, Option<u64>)] = &[
        (
            "i9223372036854775807e",
            Some(i64::MAX),
            Some(i64::MAX.unsigned_abs()),
        ),
        ("i-9223372036854775808e", Some(i64::MIN), None),
        ("i9223372036854775808e", None, Some(1 << 63)),
        ("i-9223372036854775809e", None, None),
        ("i18446744073709551615e", None, Some(u64::MAX)),
        ("i18446744073709551616e", None, None),
        ("i-0e", Some(0), Some(0)),
        ("i007e", Some(7), Some(7)),
    ];
    for (input, int, uint) in rows {
        let document = decode(input.as_bytes(), &Options::lenient()).unwrap();
        assert_eq!(document.root().int().ok(), *int, "{input}");
        assert_eq!(document.root().as_int(), *int, "{input}");
        assert_eq!(document.root().uint().ok(), *uint, "{input}");
    }
}

#[test]
fn limits_hold() {
    let refuses = |input: &[u8], options: &Options, kind: ErrorKind| {
        assert_eq!(decode(input, options).unwrap_err().kind, kind);
    };
    let deep = |levels: usize| {
        let mut input = b"l".repeat(levels);
        input.extend(b"e".repeat(levels));
        input
    };
    for options in [Options::strict(), Options::lenient()] {
        assert!(decode(&deep(DEPTH_MAX), &options).is_ok());
        let too_deep = ErrorKind::TooDeep { max: DEPTH_MAX };
        refuses(&deep(DEPTH_MAX + 1), &options, too_deep.clone());
        refuses(&b"l".repeat(100_000), &options, too_deep.clone());
        refuses(&b"d1:a".repeat(100_000), &options, too_deep);

        let items_max = 1_000;
        let few = Options {
            items_max,
            ..options
        };
        let list = |items: usize| [b"l".to_vec(), b"0:".repeat(items), b"e".to_vec()].concat();
        assert!(decode(&list(items_max - 1), &few).is_ok());
        refuses(
            &list(items_max),
            &few,
            ErrorKind::TooManyItems { max: items_max },
        );
        let bomb = list(10_000_000);
        refuses(&bomb, &options, ErrorKind::TooManyItems { max: 2_500_000 });

        let small = Options {
            size_max_bytes: 3,
            ..options
        };
        assert!(decode(b"i1e", &small).is_ok());
        let too_long = ErrorKind::TooLong {
            length_bytes: 4,
            max: 3,
        };
        refuses(b"i10e", &small, too_long);
    }
    let zeros = [b"l".to_vec(), b"00:".repeat(500), b"e".to_vec()].concat();
    let document = decode(&zeros, &Options::lenient()).unwrap();
    assert_eq!(document.notes().len(), NOTES_MAX);
    assert_eq!(document.notes_count(), 500);
    assert!(!document.is_canonical());
    // One kind does not crowd out another.
    let mixed = [&zeros[..zeros.len() - 1], b"d1:bi1e1:ai1eee"].concat();
    let document = decode(&mixed, &Options::lenient()).unwrap();
    let unsorted = document.notes().last().unwrap();
    assert_eq!(unsorted.kind, NoteKind::UnsortedKey);
    assert_eq!(document.path_at(unsorted.offset), "[500]");
}

#[test]
fn a_prefix_leaves_the_rest() {
    // ut_metadata (BEP 9) puts a piece of data behind a dictionary.
    let rows: &[(&[u8], &[u8], &[u8])] = &[
        (b"i1ei2e", b"i1e", b"i2e"),
        (b"leee", b"le", b"ee"),
        (b"d8:msg_typei1eeDATA", b"d8:msg_typei1ee", b"DATA"),
        (b"0:", b"0:", b""),
    ];
    for (input, value, rest) in rows {
        let (document, left) = decode_prefix(input, &Options::strict()).unwrap();
        assert_eq!(document.root().raw(), *value);
        assert_eq!(left, *rest);
    }
}

#[test]
fn long_and_strange_keys_are_cut_and_escaped_in_paths() {
    let key = "k".repeat(1_000);
    let input = format!("d1000:{key}d2:\n\x1bxee");
    let error = decode(input.as_bytes(), &Options::strict()).unwrap_err();
    assert_eq!(error.path, format!("{}….\\n\\x1b", "k".repeat(64)));
}

#[test]
fn encoding_is_canonical() {
    let rows: Vec<(Node, &[u8])> = vec![
        (Node::from(0), b"i0e"),
        (Node::from(-3), b"i-3e"),
        (Node::from(u64::MAX), b"i18446744073709551615e"),
        (Node::from(""), b"0:"),
        (Node::from(b"\0\xff"), b"2:\0\xff"),
        (Node::list([1_u8, 2]), b"li1ei2ee"),
        (Node::list::<Node>([]), b"le"),
        (Node::dict::<&str>([]), b"de"),
        (
            Node::dict([("b", Node::from(true)), ("B", 2.into()), ("", 3.into())]),
            b"d0:i3e1:Bi2e1:bi1ee",
        ),
    ];
    for (node, expected) in rows {
        assert_eq!(node.encode(), expected);
    }
    let deep = (0..DEPTH_MAX).fold(Node::from(1), |inner, _| Node::list([inner]));
    assert_eq!(deep.encode().len(), 2 * DEPTH_MAX + 3);
    assert!(decode(&deep.encode(), &Options::strict()).is_ok());
}

#[test]
fn assembled_values_stay_as_they_are() {
    let odd = b"d1:bi00e1:ai1ee";
    let entries = BTreeMap::from([
        (b"info".to_vec(), odd.to_vec()),
        (b"a".to_vec(), b"i1e".to_vec()),
    ]);
    assert_eq!(assemble_dict(&entries), b"d1:ai1e4:infod1:bi00e1:ai1eee");
}

mod golden;

fn any_node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Node::from),
        any::<u64>().prop_map(Node::from),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Node::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        let keys = prop::collection::vec(any::<u8>(), 0..4);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Node::List),
            prop::collection::btree_map(keys, inner, 0..8).prop_map(Node::Dict),
        ]
    })
}

/// Every value in the document, outermost first.
fn walk(value: Value<'_>, visit: &mut impl FnMut(Value<'_>)) {
    visit(value);
    if let Some(list) = value.as_list() {
        list.iter().for_each(|item| walk(item, visit));
    }
    if let Some(dict) = value.as_dict() {
        dict.iter().for_each(|(_, item)| walk(item, visit));
    }
}

fn bendy_accepts(input: &[u8]) -> bool {
    bendy::decoding::Decoder::new(input)
        .with_max_depth(DEPTH_MAX)
        .tokens()
        .all(|token| token.is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_was_encoded_decodes_to_the_same(node in any_node()) {
        let bytes = node.encode();
        let document = decode(&bytes, &Options::strict()).unwrap();
        prop_assert_eq!(&to_node(document.root()), &node);
        prop_assert!(decode(&bytes, &Options::lenient()).unwrap().is_canonical());
        prop_assert!(bendy_accepts(&bytes));
    }

    #[test]
    fn every_cut_is_an_error_and_no_panic(node in any_node()) {
        let bytes = node.encode();
        for end in 0..bytes.len() {
            prop_assert!(decode(&bytes[..end], &Options::strict()).is_err());
            prop_assert!(decode(&bytes[..end], &Options::lenient()).is_err());
        }
    }

    #[test]
    fn every_value_is_one_by_itself(node in any_node()) {
        let bytes = node.encode();
        let document = decode(&bytes, &Options::strict()).unwrap();
        walk(document.root(), &mut |value| {
            let alone = decode(value.raw(), &Options::strict()).unwrap();
            assert_eq!(alone.root().kind(), value.kind());
            assert_eq!(value.raw(), &bytes[value.offset()..][..value.raw().len()]);
        });
    }

    /// Bytes out of the grammar's own alphabet, so that a good share of them is nearly right.
    #[test]
    fn strict_agrees_with_bendy(input in "[ilde0-3:a-]{0,14}") {
        let input = input.as_bytes();
        let ours = decode(input, &Options::strict());
        // bendy takes any number of values, also none.
        let several = matches!(&ours, Err(error) if matches!(error.kind, ErrorKind::TrailingBytes { .. }));
        if !input.is_empty() && !several {
            prop_assert_eq!(ours.is_ok(), bendy_accepts(input));
        }
    }

    #[test]
    fn strict_is_lenient_without_notes(input in "[ilde0-3:a-]{0,14}") {
        let strict = decode(input.as_bytes(), &Options::strict());
        let lenient = decode(input.as_bytes(), &Options::lenient());
        let canonical = lenient.as_ref().is_ok_and(Document::is_canonical);
        prop_assert_eq!(strict.is_ok(), canonical);
        if let Ok(document) = &lenient
            && document.notes().iter().all(|note| note.kind != NoteKind::DuplicateKey)
        {
            // Written again it is canonical, unless it was so before: then it is the same.
            let again = to_node(document.root()).encode();
            prop_assert_eq!(again == input.as_bytes(), canonical);
        }
    }

    #[test]
    fn any_bytes_at_all(input in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(document) = decode(&input, &Options::lenient()) {
            walk(document.root(), &mut |value| drop(value.path()));
        }
    }
}
