//! The decoder on any bytes, in both profiles: never a panic, the profiles agree on what is canonical, and every value
//! of what was decoded can be read, is well formed by itself, and knows where it stands.
#![no_main]

use bt_bencode::{Document, Node, Options, Value, decode, decode_prefix};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

fuzz_target!(|bytes: &[u8]| {
    let strict = decode(bytes, &Options::strict());
    let lenient = decode(bytes, &Options::lenient());
    assert_eq!(
        strict.is_ok(),
        lenient.as_ref().is_ok_and(Document::is_canonical)
    );
    if let Err(error) = &lenient {
        assert!(error.offset <= bytes.len());
    }
    if let Ok(document) = &lenient {
        let (prefix, rest) = decode_prefix(bytes, &Options::lenient()).expect("it decoded whole");
        assert_eq!(prefix.root().raw().len() + rest.len(), bytes.len());
        for note in document.notes() {
            let _ = document.path_at(note.offset);
        }
        walk(document.root());
    }
    if let Ok(document) = &strict
        && let Some(node) = node(document.root())
    {
        assert_eq!(node.encode(), bytes);
    }
});

/// Depth is bounded by the decoder, so recursion is too.
fn walk(value: Value<'_>) {
    let alone = decode(value.raw(), &Options::lenient()).expect("a value is one by itself");
    assert_eq!(alone.root().kind(), value.kind());
    let readers = [
        value.bytes().is_ok(),
        value.int_text().is_ok(),
        value.list().is_ok(),
        value.dict().is_ok(),
    ];
    assert_eq!(readers.iter().filter(|fits| **fits).count(), 1);
    assert_eq!(value.int().ok(), value.as_int());
    let _ = (value.uint(), value.text());
    // Quadratic in the width, so for short inputs only.
    if value.raw().len() < 1_000 {
        let _ = value.path();
    }
    if let Some(list) = value.as_list() {
        list.iter().for_each(walk);
    }
    if let Some(dict) = value.as_dict() {
        for (key, inner) in dict.iter() {
            assert!(dict.get(key).is_some());
            walk(inner);
        }
    }
}

/// The value as a tree of ours, unless an integer is too large for one.
fn node(value: Value<'_>) -> Option<Node> {
    if let Some(text) = value.as_int_text() {
        return text.parse().ok().map(Node::Int);
    }
    if let Some(bytes) = value.as_bytes() {
        return Some(Node::from(bytes));
    }
    if let Some(list) = value.as_list() {
        let items: Option<Vec<Node>> = list.iter().map(node).collect();
        return items.map(Node::List);
    }
    let mut entries = BTreeMap::new();
    for (key, inner) in value.as_dict()?.iter() {
        entries.insert(key.to_vec(), node(inner)?);
    }
    Some(Node::Dict(entries))
}
