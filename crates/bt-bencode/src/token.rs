//! The two scalars of the grammar, read at an offset: the only code that looks at single digits.

use crate::error::ErrorKind;
use core::ops::Range;

/// What is wrong, and where: an [`Error`](crate::Error) before its path is known.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: ErrorKind,
    pub(crate) offset: usize,
}

impl Fault {
    pub(crate) const fn new(kind: ErrorKind, offset: usize) -> Self {
        Self { kind, offset }
    }
}

/// A string or an integer: where its content lies, where it ends, and whether it is canonical.
#[derive(Debug)]
pub(crate) struct Scalar {
    /// The string's bytes, or the integer's text.
    pub(crate) content: Range<usize>,
    /// The offset just behind it.
    pub(crate) end: usize,
    /// Written with a needless zero in front.
    pub(crate) leading_zero: bool,
    /// Written `-0`, with or without further zeros.
    pub(crate) negative_zero: bool,
}

/// Reads `length:bytes` at `at`.
pub(crate) fn string(input: &[u8], at: usize) -> Result<Scalar, Fault> {
    let mut position = at;
    let mut length = 0_i64;
    let colon = loop {
        match input.get(position) {
            Some(digit @ b'0'..=b'9') => {
                let digit = i64::from(digit - b'0');
                length = length
                    .checked_mul(10)
                    .and_then(|tens| tens.checked_add(digit))
                    .ok_or(Fault::new(ErrorKind::LengthOverflow, position))?;
            }
            Some(b':') if position > at => break position,
            Some(&found) if position > at => {
                return Err(Fault::new(ErrorKind::ExpectedColon { found }, position));
            }
            Some(&found) => return Err(Fault::new(ErrorKind::ExpectedDigit { found }, position)),
            None => return Err(Fault::new(ErrorKind::UnexpectedEof, position)),
        }
        position += 1;
    };
    let left_bytes = input.len() - colon - 1;
    let past_end = || {
        let length_bytes = length.unsigned_abs();
        let kind = ErrorKind::StringPastEnd {
            length_bytes,
            left_bytes,
        };
        Fault::new(kind, colon)
    };
    let length_bytes = usize::try_from(length).map_err(|_| past_end())?;
    if length_bytes > left_bytes {
        return Err(past_end());
    }
    let end = colon + 1 + length_bytes;
    Ok(Scalar {
        content: colon + 1..end,
        end,
        leading_zero: colon - at > 1 && input.get(at) == Some(&b'0'),
        negative_zero: false,
    })
}

/// Reads `i…e` at `at`, where the `i` is known to stand. The number may be of any size.
pub(crate) fn integer(input: &[u8], at: usize) -> Result<Scalar, Fault> {
    let text = at + 1;
    let negative = input.get(text) == Some(&b'-');
    let digits = text + usize::from(negative);
    let mut position = digits;
    loop {
        match input.get(position) {
            Some(b'0'..=b'9') => position += 1,
            Some(b'e') if position > digits => break,
            Some(&found) => return Err(Fault::new(ErrorKind::ExpectedDigit { found }, position)),
            None => return Err(Fault::new(ErrorKind::UnexpectedEof, position)),
        }
    }
    let starts_with_zero = input.get(digits) == Some(&b'0');
    Ok(Scalar {
        content: text..position,
        end: position + 1,
        leading_zero: starts_with_zero && position - digits > 1,
        negative_zero: negative
            && input
                .get(digits..position)
                .is_some_and(|all| all.iter().all(|digit| *digit == b'0')),
    })
}

/// The offset just behind the value at `at`, or nothing if it is broken. Counts depth instead of recursing.
pub(crate) fn skip(input: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match *input.get(at)? {
            b'l' | b'd' => {
                depth += 1;
                at += 1;
            }
            b'e' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b'i' => at = integer(input, at).ok()?.end,
            _ => at = string(input, at).ok()?.end,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}
