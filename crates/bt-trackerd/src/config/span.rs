//! Times as people write them.

use super::{INTERVAL_MAX, INTERVAL_MIN};
use core::fmt;
use core::str::FromStr;
use core::time::Duration;
use serde::Deserialize;

/// A time span: `30m`, `90s`, `1h30m`, or a number of seconds; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct Span(pub Duration);

/// How often peers shall announce: a [`Span`] from [`INTERVAL_MIN`] to [`INTERVAL_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct Interval(pub Duration);

/// Text that is no time span.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no time span: write 30m, 90s or 1h30m")]
pub struct ParseSpanError {
    text: String,
}

/// Text that is no interval, or one that is too short or too long.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no interval: write 30m, 90s or 1h30m, from 30s to 8h")]
pub struct ParseIntervalError {
    text: String,
}

impl FromStr for Span {
    type Err = ParseSpanError;

    fn from_str(text: &str) -> Result<Self, ParseSpanError> {
        let wrong = || ParseSpanError {
            text: text.to_owned(),
        };
        let mut total: u64 = 0;
        let mut rest = text.trim();
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at_checked(digits).ok_or_else(wrong)?;
            let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, tail) = tail.split_at_checked(letters).ok_or_else(wrong)?;
            let seconds: u64 = match unit {
                "s" => 1,
                "" if tail.is_empty() => 1,
                "m" | "min" => 60,
                "h" => 60 * 60,
                "d" => 24 * 60 * 60,
                _ => return Err(wrong()),
            };
            let number: u64 = number.parse().map_err(|_| wrong())?;
            total = number
                .checked_mul(seconds)
                .and_then(|more| total.checked_add(more))
                .ok_or_else(wrong)?;
            rest = tail;
        }
        if total == 0 {
            return Err(wrong());
        }
        Ok(Self(Duration::from_secs(total)))
    }
}

/// As short as it can be read again: `1h30m`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_secs();
        for (seconds, unit) in [(60 * 60, 'h'), (60, 'm'), (1, 's')] {
            if rest >= seconds {
                write!(f, "{}{unit}", rest / seconds)?;
                rest %= seconds;
            }
        }
        Ok(())
    }
}

impl FromStr for Interval {
    type Err = ParseIntervalError;

    fn from_str(text: &str) -> Result<Self, ParseIntervalError> {
        let span = text.parse::<Span>().ok().map(|span| span.0);
        span.filter(|span| (INTERVAL_MIN..=INTERVAL_MAX).contains(span))
            .map(Self)
            .ok_or_else(|| ParseIntervalError {
                text: text.to_owned(),
            })
    }
}

impl TryFrom<toml::Value> for Span {
    type Error = ParseSpanError;

    fn try_from(value: toml::Value) -> Result<Self, ParseSpanError> {
        match value.as_str() {
            Some(text) => text.parse(),
            None => value.to_string().parse(),
        }
    }
}

impl TryFrom<toml::Value> for Interval {
    type Error = ParseIntervalError;

    fn try_from(value: toml::Value) -> Result<Self, ParseIntervalError> {
        match value.as_str() {
            Some(text) => text.parse(),
            None => value.to_string().parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        // What is written, the seconds it means, and whether it is an interval too.
        let rows = [
            ("30m", Some(1800), true),
            ("90s", Some(90), true),
            ("1h30m", Some(5400), true),
            (" 8h ", Some(28_800), true),
            ("8h1s", Some(28_801), false),
            ("2d", Some(172_800), false),
            ("45min", Some(2700), true),
            ("1800", Some(1800), true),
            ("30", Some(30), true),
            ("29s", Some(29), false),
            ("0", None, false),
            ("", None, false),
            ("m", None, false),
            ("5x", None, false),
            ("-5m", None, false),
            ("1h 30m", None, false),
            ("5 10m", None, false),
            ("99999999999999999999s", None, false),
            ("18446744073709551615h", None, false),
            ("é", None, false),
        ];
        for (text, expected, interval) in rows {
            let got = text.parse::<Span>().ok().map(|span| span.0.as_secs());
            assert_eq!(got, expected, "{text:?}");
            assert_eq!(text.parse::<Interval>().is_ok(), interval, "{text:?}");
            if let Ok(span) = text.parse::<Span>() {
                assert_eq!(span.to_string().parse(), Ok(span), "{text:?}");
            }
        }
        assert_eq!(Span(Duration::from_secs(5401)).to_string(), "1h30m1s");
    }
}
