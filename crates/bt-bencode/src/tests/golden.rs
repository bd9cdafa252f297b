//! The rows of `testdata/bencode.json`: inputs from the tests of libtorrent, Transmission and anacrolix/torrent (each
//! row names its source) and of our own, with their verdicts and libtorrent's decoded values.

use crate::{ErrorKind, NoteKind, Options, Value, decode_prefix};
use serde_json::Value as Json;

const ROWS: &str = include_str!("../../testdata/bencode.json");

/// Rows where we say something else than the row, and why.
const DEPARTURES: &[(&str, &str)] = &[
    // We refuse by what is left of the input, not by a fixed limit on strings.
    ("lt/overflow_length_prefix2", "StringPastEnd@9"),
    // Integers of any size are kept as text; asking for 64 bits is what fails.
    ("lt/int_overflow2", "ok"),
    // An end where a value must begin is named as such.
    ("lt/premature_e", "ExpectedValue@0"),
    // The input ends in the number, before a colon could be missed.
    ("lt/expected_colon_dict", "UnexpectedEof@5"),
    // The row sets a limit on the input's size; `limits_hold` does the same.
    ("lt/exceed_buf_limit", "ok"),
    // Transmission refuses leading zeros; the lenient profile notes them.
    ("tr/77", "ok"),
    ("tr/79", "ok"),
];

fn input_of(row: &Json) -> Vec<u8> {
    match (row["hex"].as_str(), row["generator"].as_str()) {
        (Some(hex), _) => data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap(),
        (None, Some("depth_1024")) => [b"l".repeat(1_024), b"e".repeat(1_024)].concat(),
        (None, Some("items_5119")) => [b"l".to_vec(), b"0:".repeat(5_119), b"e".to_vec()].concat(),
        (None, other) => panic!("unknown generator {other:?}"),
    }
}

fn verdict_of(row: &Json) -> (String, Vec<NoteKind>) {
    let mut options = Options::lenient();
    if row["generator"] == "items_5119" {
        options.items_max = 1_000;
    }
    match decode_prefix(&input_of(row), &options) {
        Ok((document, _)) => {
            let notes = document.notes().iter().map(|note| note.kind).collect();
            ("ok".to_owned(), notes)
        }
        Err(error) => {
            let kind = super::kind_name(&error.kind);
            (format!("{kind}@{}", error.offset), Vec::new())
        }
    }
}

/// What the row itself expects, as a pattern: `ok`, `Kind` or `Kind@offset`.
fn expected_of(row: &Json) -> String {
    if row["expected_ok"] == true {
        return "ok".to_owned();
    }
    let kind = match row["expected_error"].as_str() {
        Some("expected_value") => "ExpectedValue",
        Some("expected_digit") => "ExpectedDigit",
        Some("expected_colon") => "ExpectedColon",
        Some("overflow") => "LengthOverflow",
        Some("depth_exceeded") => "TooDeep",
        Some("limit_exceeded with limit 1000") => "TooManyItems",
        Some("unexpected_eof") => "UnexpectedEof or StringPastEnd",
        Some(other) => other,
        None if row["expected_ok"] == false || row["libtorrent_bdecode"]["ok"] == false => "error",
        None => "ok",
    };
    match row["error_offset"].as_u64() {
        Some(offset) => format!("{kind}@{offset}"),
        None => kind.to_owned(),
    }
}

fn agrees(verdict: &str, expected: &str) -> bool {
    let (kind, offset) = verdict.split_once('@').unwrap_or((verdict, ""));
    let (kinds, at) = expected.split_once('@').unwrap_or((expected, ""));
    let same_kind =
        kinds.split(" or ").any(|one| one == kind) || (kinds == "error" && kind != "ok");
    same_kind && (at.is_empty() || at == offset)
}

#[test]
fn verdicts_agree() {
    let rows: Vec<Json> = serde_json::from_str(ROWS).unwrap();
    assert_eq!(rows.len(), 129);
    let mut departed = 0;
    for row in &rows {
        let id = row["id"].as_str().unwrap();
        let (verdict, notes) = verdict_of(row);
        match DEPARTURES.iter().find(|(departing, _)| *departing == id) {
            Some((_, ours)) => {
                assert_eq!(verdict, *ours, "{id}");
                departed += 1;
            }
            None => {
                let expected = expected_of(row);
                // Bytes that no libtorrent version could be asked about still must not decode into nonsense.
                assert!(
                    agrees(&verdict, &expected),
                    "{id}: {verdict}, expected {expected}"
                );
            }
        }
        let expected_note = match row["non_canonical"].as_str() {
            Some("unsorted dictionary key") => NoteKind::UnsortedKey,
            Some("duplicate dictionary key") => NoteKind::DuplicateKey,
            Some(zero) if zero.starts_with("leading zero") => NoteKind::LeadingZero,
            Some(other) => panic!("{id}: {other}"),
            None => continue,
        };
        assert!(notes.contains(&expected_note), "{id}: {notes:?}");
    }
    assert_eq!(departed, DEPARTURES.len());
}

/// The value as Python would print it, the form in which the rows have it.
fn python(value: Value<'_>) -> String {
    if let Some(text) = value.as_int_text() {
        // libtorrent holds 64 bits and says 0 silently where they do not suffice (it also refuses i64::MIN).
        let number = value.as_int().filter(|number| *number > i64::MIN);
        return match number {
            Some(number) => number.to_string(),
            None if text.len() > 18 => "0".to_owned(),
            None => panic!("{text}"),
        };
    }
    if let Some(bytes) = value.as_bytes() {
        return python_bytes(bytes);
    }
    if let Some(list) = value.as_list() {
        let items: Vec<_> = list.iter().map(python).collect();
        return format!("[{}]", items.join(", "));
    }
    // The rows' dictionaries are Python's: sorted, and the last of repeated keys wins. Ours wins first.
    let mut entries: Vec<(&[u8], Value<'_>)> = value.dict().unwrap().iter().collect();
    entries.reverse();
    entries.sort_by_key(|(key, _)| *key);
    entries.dedup_by_key(|(key, _)| *key);
    let entries: Vec<_> = entries
        .iter()
        .map(|(key, value)| format!("{}: {}", python_bytes(key), python(*value)))
        .collect();
    format!("{{{}}}", entries.join(", "))
}

fn python_bytes(bytes: &[u8]) -> String {
    format!("b'{}'", bytes.escape_ascii())
}

#[test]
fn values_agree_with_libtorrent() {
    let rows: Vec<Json> = serde_json::from_str(ROWS).unwrap();
    let mut compared = 0;
    for row in &rows {
        let expected = row["libtorrent_bdecode"]["value_repr"].as_str();
        let input = input_of(row);
        // Of the generated rows only the start of the value was recorded.
        let Some(expected) = expected.filter(|_| row["hex"].is_string()) else {
            continue;
        };
        let (document, _) = decode_prefix(&input, &Options::lenient()).unwrap();
        assert_eq!(python(document.root()), expected, "{}", row["id"]);
        compared += 1;
    }
    assert!(compared > 50, "{compared}");
}

#[test]
fn large_integers_are_an_error_and_never_zero() {
    for text in [
        "i18446744073709551615e",
        "i184467440737095516154e",
        "i9223372036854775808e",
    ] {
        let (document, _) = decode_prefix(text.as_bytes(), &Options::lenient()).unwrap();
        let error = document.root().int().unwrap_err();
        assert_eq!(error.kind, ErrorKind::IntegerOutOfRange);
        assert_eq!(document.root().as_int(), None);
    }
}
