//! Views into bytes that [`decode`](crate::decode()) has checked: nothing is copied, nothing owned.
//!
//! **Invariant:** a [`Value`]'s span is one well-formed value of the input, so walking it cannot fail.

use crate::error::{Error, ErrorKind};
use crate::{path, token};
use core::fmt;
use core::ops::Range;

/// The four types of bencode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `i…e`.
    Integer,
    /// `length:bytes`.
    Bytes,
    /// `l…e`.
    List,
    /// `d…e`.
    Dict,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integer => "an integer",
            Self::Bytes => "a string",
            Self::List => "a list",
            Self::Dict => "a dictionary",
        })
    }
}

/// One value of a decoded input: a span of its bytes.
///
/// The `as_…` readers answer with an option; their namesakes without `as_` with an error that names offset and path.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    /// The whole input, so that an error can name its path.
    input: &'a [u8],
    start: usize,
    end: usize,
}

impl<'a> Value<'a> {
    /// The value that a successful check found at the start of `input`.
    pub(crate) const fn root(input: &'a [u8], end: usize) -> Self {
        Self {
            input,
            start: 0,
            end,
        }
    }

    /// The value at `start`, if there is one before `end`.
    fn at(input: &'a [u8], start: usize, end: usize) -> Option<Self> {
        let behind = token::skip(input.get(..end)?, start)?;
        Some(Self {
            input,
            start,
            end: behind,
        })
    }

    pub(crate) const fn span(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The value's bytes exactly as they stand in the input, with everything inside it.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.input.get(self.span()).unwrap_or_default()
    }

    /// Where the value begins, in bytes from the input's start.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.start
    }

    /// Where the value stands in the structure, like `info.files[3].length`; empty for the root.
    #[must_use]
    pub fn path(&self) -> String {
        // Where the root ends does not matter: the walk stops at its closing `e`.
        path::path_to(Value::root(self.input, self.input.len()), self.start)
    }

    /// Which of the four types it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.input.get(self.start) {
            Some(b'i') => Kind::Integer,
            Some(b'l') => Kind::List,
            Some(b'd') => Kind::Dict,
            _ => Kind::Bytes,
        }
    }

    /// The string's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        if self.kind() != Kind::Bytes {
            return None;
        }
        let content = token::string(self.input, self.start).ok()?.content;
        self.input.get(content)
    }

    /// The string as text, if it is UTF-8.
    #[must_use]
    pub fn as_text(&self) -> Option<&'a str> {
        core::str::from_utf8(self.as_bytes()?).ok()
    }

    /// The integer, if 64 bits hold it.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        self.as_int_text()?.parse().ok()
    }

    /// The integer's digits as they stand, of any size.
    #[must_use]
    pub fn as_int_text(&self) -> Option<&'a str> {
        if self.kind() != Kind::Integer {
            return None;
        }
        let content = token::integer(self.input, self.start).ok()?.content;
        core::str::from_utf8(self.input.get(content)?).ok()
    }

    /// The list.
    #[must_use]
    pub fn as_list(&self) -> Option<List<'a>> {
        (self.kind() == Kind::List).then_some(List(*self))
    }

    /// The dictionary.
    #[must_use]
    pub fn as_dict(&self) -> Option<Dict<'a>> {
        (self.kind() == Kind::Dict).then_some(Dict(*self))
    }

    /// The string's bytes.
    ///
    /// # Errors
    /// [`ErrorKind::WrongKind`] if it is no string.
    pub fn bytes(&self) -> Result<&'a [u8], Error> {
        self.as_bytes().ok_or_else(|| self.wrong_kind(Kind::Bytes))
    }

    /// The string as text.
    ///
    /// # Errors
    /// [`ErrorKind::WrongKind`] if it is no string, [`ErrorKind::NotUtf8`] if it is no UTF-8.
    pub fn text(&self) -> Result<&'a str, Error> {
        core::str::from_utf8(self.bytes()?).map_err(|_| self.error(ErrorKind::NotUtf8))
    }

    /// The integer.
    ///
    /// # Errors
    /// [`ErrorKind::WrongKind`] if it is no integer, [`ErrorKind::IntegerOutOfRange`] if 64 bits cannot hold it.
    pub fn int(&self) -> Result<i64, Error> {
        self.int_text()?
            .parse()
            .map_err(|_| self.error(ErrorKind::IntegerOutOfRange))
    }

    /// The integer, which must not be negative.
    ///
    /// # Errors
    /// [`ErrorKind::WrongKind`] if it is no integer, [`ErrorKind::IntegerOutOfRange`] if it is negative or too large.
    pub fn uint(&self) -> Result<u64, Error> {
        let number: Option<i128> = self.int_text()?.parse().ok();
        number
            .and_then(|number| u64::try_from(number).ok())
            .ok_or_else(|| self.error(ErrorKind::IntegerOutOfRange))
    }

    /// The integer's digits as they stand, of any size.
    ///
    /// # Errors
    /// [`ErrorKind::WrongKind`] if it is no integer.
    pub fn int_text(&self) -> Result<&'a str, Error> {
        self.as_int_text()
            .ok_or_else(|| self.wrong_kind(Kind::Integer))
    }

    /// The list.
    ///
    /// # Errors
    /// [`ErrorKind::WrongKind`] if it is no list.
    pub fn list(&self) -> Result<List<'a>, Error> {
        self.as_list().ok_or_else(|| self.wrong_kind(Kind::List))
    }

    /// The dictionary.
    ///
    /// # Errors
    /// [`ErrorKind::WrongKind`] if it is no dictionary.
    pub fn dict(&self) -> Result<Dict<'a>, Error> {
        self.as_dict().ok_or_else(|| self.wrong_kind(Kind::Dict))
    }

    /// An error about this value, with its offset and path.
    #[must_use]
    pub fn error(&self, kind: ErrorKind) -> Error {
        Error {
            kind,
            offset: self.start,
            path: self.path(),
        }
    }

    fn wrong_kind(&self, expected: Kind) -> Error {
        self.error(ErrorKind::WrongKind {
            expected,
            found: self.kind(),
        })
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.raw().escape_ascii())
    }
}

/// A list: its items in order.
#[derive(Clone, Copy, Debug)]
pub struct List<'a>(Value<'a>);

impl<'a> List<'a> {
    /// The list as a value.
    #[must_use]
    pub const fn value(&self) -> Value<'a> {
        self.0
    }

    /// The items in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let Value { input, start, end } = self.0;
        let mut at = start + 1;
        core::iter::from_fn(move || {
            let item = Value::at(input, at, end - 1)?;
            at = item.end;
            Some(item)
        })
    }
}

/// A dictionary: its entries in the order in which they stand.
///
/// Lookup runs along the entries: cheap for the small dictionaries of the protocol. To read many keys of a large one,
/// run over [`iter`](Self::iter) once.
#[derive(Clone, Copy, Debug)]
pub struct Dict<'a>(Value<'a>);

impl<'a> Dict<'a> {
    /// The dictionary as a value.
    #[must_use]
    pub const fn value(&self) -> Value<'a> {
        self.0
    }

    /// The entries in the order in which they stand; a repeated key comes as often as it is there.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> + use<'a> {
        let Value { input, start, end } = self.0;
        let mut at = start + 1;
        core::iter::from_fn(move || {
            let key = token::string(input.get(..end - 1)?, at).ok()?;
            let value = Value::at(input, key.end, end - 1)?;
            at = value.end;
            Some((input.get(key.content)?, value))
        })
    }

    /// The value of `key`; of a repeated key, the first.
    #[must_use]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Value<'a>> {
        self.iter()
            .find(|(found, _)| *found == key.as_ref())
            .map(|(_, value)| value)
    }

    /// The value of `key`, which must be there; of a repeated key, the first.
    ///
    /// # Errors
    /// [`ErrorKind::MissingKey`], with the offset and path of the dictionary.
    pub fn require(&self, key: impl AsRef<[u8]>) -> Result<Value<'a>, Error> {
        self.get(&key).ok_or_else(|| {
            self.0.error(ErrorKind::MissingKey {
                key: path::shown_key(key.as_ref()),
            })
        })
    }
}
