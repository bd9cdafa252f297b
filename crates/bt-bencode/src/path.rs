//! Paths such as `info.files[3].length`, for errors and notes. Made only when something has to be shown.

use crate::value::{Dict, List, Value};
use core::fmt::Write;

/// The longest key shown in a path, in bytes. A hostile key may be as long as the input.
const KEY_SHOWN_BYTES: usize = 64;

/// A path under construction.
#[derive(Debug, Default)]
pub(crate) struct PathText(String);

impl PathText {
    pub(crate) fn push_key(&mut self, key: &[u8]) {
        if !self.0.is_empty() {
            self.0.push('.');
        }
        self.0.push_str(&shown_key(key));
    }

    pub(crate) fn push_index(&mut self, index: usize) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "[{index}]");
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

/// A key as it may be shown to a person: printable, and not too long.
pub(crate) fn shown_key(key: &[u8]) -> String {
    let shown = key.get(..KEY_SHOWN_BYTES).unwrap_or(key);
    let cut = if shown.len() < key.len() { "…" } else { "" };
    match core::str::from_utf8(shown) {
        Ok(text) if !text.chars().any(char::is_control) => format!("{text}{cut}"),
        _ => format!("{}{cut}", shown.escape_ascii()),
    }
}

/// The path of the value at `offset` (or of the innermost one around it), found by walking down from the root.
pub(crate) fn path_to(root: Value<'_>, offset: usize) -> String {
    let mut path = PathText::default();
    let mut at = root;
    while at.offset() != offset {
        let Some(next) = step_towards(at, offset, &mut path) else {
            break;
        };
        at = next;
    }
    path.into_string()
}

fn step_towards<'a>(at: Value<'a>, offset: usize, path: &mut PathText) -> Option<Value<'a>> {
    if let Some(list) = at.as_list() {
        let (index, child) = items_around(&list, offset)?;
        path.push_index(index);
        return Some(child);
    }
    let (key, child) = entry_around(&at.as_dict()?, offset)?;
    path.push_key(key);
    Some(child)
}

fn items_around<'a>(list: &List<'a>, offset: usize) -> Option<(usize, Value<'a>)> {
    list.iter()
        .enumerate()
        .find(|(_, child)| child.span().contains(&offset))
}

fn entry_around<'a>(dict: &Dict<'a>, offset: usize) -> Option<(&'a [u8], Value<'a>)> {
    dict.iter()
        .find(|(_, child)| child.span().contains(&offset))
}
