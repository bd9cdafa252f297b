//! The keys of a private tracker, one for each of its users.
//!
//! The list is text: a key a line, `#` begins a comment, which may name the user. A key is 8 to 64 letters, digits, `-` and
//! `_`: what can stand in a URL as it is, and is long enough to be no guess.
//!
//! **Invariant:** neither `Debug` nor an error shows a key, so that none can get into a log.

use core::fmt;
use std::collections::BTreeSet;

/// Shortest key, in bytes: fewer could be tried out.
pub const KEY_MIN_BYTES: usize = 8;

/// Longest key, in bytes: twice what common site software makes.
pub const KEY_MAX_BYTES: usize = 64;

/// The keys that are good.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys(BTreeSet<Box<[u8]>>);

/// A line of a list of keys holds none. The line is not shown, as it may hold nearly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: no key (8 to 64 letters, digits, - and _)")]
pub struct KeysError {
    /// The line, from 1.
    pub line: usize,
}

impl Keys {
    /// The keys of a list.
    ///
    /// # Errors
    /// [`KeysError`] for the first wrong line. A list that is wrong somewhere is not half obeyed.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let entry = |(number, line): (usize, &str)| {
            let key = line.split('#').next().unwrap_or_default().trim();
            let wrong = KeysError { line: number + 1 };
            let entry = is_key(key.as_bytes()).then(|| key.as_bytes().into());
            (!key.is_empty()).then(|| entry.ok_or(wrong))
        };
        let keys: Result<_, _> = text.lines().enumerate().filter_map(entry).collect();
        keys.map(Self)
    }

    /// True if the key is good.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.0.contains(key)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How many, and no more.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

/// True if it has the form of a key.
#[must_use]
pub fn is_key(bytes: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    (KEY_MIN_BYTES..=KEY_MAX_BYTES).contains(&bytes.len()) && bytes.iter().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_keys_never_shown() {
        let text = "# ours\nabcdefgh # Ann\n\n  0123-456_789  \r\n";
        let keys = Keys::parse(text).unwrap();
        let rows = [
            ("abcdefgh", true),
            ("0123-456_789", true),
            ("abcdefg", false),
            ("ABCDEFGH", false),
            ("", false),
            ("# ours", false),
        ];
        for (key, expected) in rows {
            assert_eq!(keys.contains(key.as_bytes()), expected, "{key}");
        }
        assert_eq!(format!("{keys:?}"), "Keys(2)");
        assert_eq!((keys.len(), keys.is_empty()), (2, false));
        assert!(Keys::parse("# none yet\n").unwrap().is_empty());
        for (wrong, line) in [
            ("abcdefgh\nsecret1", 2),
            ("with space in it", 1),
            ("slash/slash", 1),
            ("schlüssel", 1),
            (&"k".repeat(65), 1),
        ] {
            let error = Keys::parse(wrong).unwrap_err();
            assert_eq!(error.line, line, "{wrong}");
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(wrong.lines().last().unwrap()), "{shown}");
        }
    }
}
