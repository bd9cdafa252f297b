//! What can be wrong with bencoded bytes: kind, byte offset and path.

use crate::value::Kind;

/// Why bytes are no bencode, or not the value that was wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}{}", in_path(path))]
pub struct Error {
    /// What is wrong.
    pub kind: ErrorKind,
    /// Where in the input, in bytes from its start.
    pub offset: usize,
    /// Where in the structure, like `info.files[3].length`; empty at the top level.
    pub path: String,
}

fn in_path(path: &str) -> String {
    /// What is shown of each end of a longer path: input nested a hundred deep has one that nobody reads.
    const SHOWN_CHARS: usize = 40;
    let chars = path.chars().count();
    if path.is_empty() {
        String::new()
    } else if chars <= 2 * SHOWN_CHARS {
        format!(", in {path}")
    } else {
        let head: String = path.chars().take(SHOWN_CHARS).collect();
        let tail: String = path.chars().skip(chars - SHOWN_CHARS).collect();
        format!(", in {head}…{tail}")
    }
}

/// The kinds of [`Error`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input ends inside a value.
    #[error("unexpected end of input")]
    UnexpectedEof,
    /// Neither a digit, `i`, `l` nor `d` where a value must begin.
    #[error("expected a value, found {}", shown(*found))]
    ExpectedValue {
        /// The byte that stands there.
        found: u8,
    },
    /// No digit where a number or a dictionary's key must go on.
    #[error("expected a digit, found {}", shown(*found))]
    ExpectedDigit {
        /// The byte that stands there.
        found: u8,
    },
    /// Neither a digit nor `:` in the length of a string.
    #[error("expected a colon, found {}", shown(*found))]
    ExpectedColon {
        /// The byte that stands there.
        found: u8,
    },
    /// A string's length beyond 2⁶³ − 1.
    #[error("string length overflows")]
    LengthOverflow,
    /// A string that claims more bytes than the input still has.
    #[error("string of {length_bytes} bytes where {left_bytes} are left")]
    StringPastEnd {
        /// The length it claims, in bytes.
        length_bytes: u64,
        /// The bytes behind its colon.
        left_bytes: usize,
    },
    /// Lists and dictionaries nested too deep.
    #[error("nested deeper than {max}")]
    TooDeep {
        /// The limit, in levels.
        max: usize,
    },
    /// Too many values and keys.
    #[error("more than {max} items")]
    TooManyItems {
        /// The limit.
        max: usize,
    },
    /// Input longer than the caller allows.
    #[error("input of {length_bytes} bytes, more than {max}")]
    TooLong {
        /// How long it is, in bytes.
        length_bytes: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// Bytes behind the value.
    #[error("{count} bytes behind the value")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A key that sorts before the one in front of it (strict profile).
    #[error("dictionary key out of order")]
    UnsortedKey,
    /// A key that its dictionary has already (strict profile).
    #[error("repeated dictionary key")]
    DuplicateKey,
    /// A number written with a leading zero (strict profile).
    #[error("number with a leading zero")]
    LeadingZero,
    /// `i-0e` (strict profile).
    #[error("negative zero")]
    NegativeZero,
    /// A value of another type than the one asked for.
    #[error("expected {expected}, found {found}")]
    WrongKind {
        /// What was asked for.
        expected: Kind,
        /// What it is.
        found: Kind,
    },
    /// An integer that the asked type cannot hold.
    #[error("integer out of range")]
    IntegerOutOfRange,
    /// A string that was asked for as text and is no UTF-8.
    #[error("string is not UTF-8")]
    NotUtf8,
    /// A key that must be there.
    #[error("missing key `{key}`")]
    MissingKey {
        /// The key, escaped for showing.
        key: String,
    },
}

fn shown(byte: u8) -> String {
    format!("`{}`", byte.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_shown_by_its_ends() {
        let error = |path: String| Error {
            kind: ErrorKind::TooDeep { max: 100 },
            offset: 7,
            path,
        };
        let short = error("info.files[3]".to_owned()).to_string();
        assert_eq!(short, "nested deeper than 100 at byte 7, in info.files[3]");
        let long = error(format!("info{}.end", "[0]".repeat(100))).to_string();
        assert!(long.contains("in info[0]") && long.ends_with("[0].end") && long.len() < 150);
    }
}
