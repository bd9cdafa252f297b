//! Sizes, rates and durations, as persons write and read them.

use std::time::Duration;

const UNITS: [(&str, u64); 9] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("K", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("", 1),
];

/// A size in bytes: `1000`, `256Ki`, `10M`, `1.5G`. Large and small letters are the same, a `B` at the end is allowed.
///
/// # Errors
/// A message for the person.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a size; write for example 16384, 256Ki or 10M");
    let bare = text.trim_end_matches(['b', 'B']).to_ascii_lowercase();
    let (number, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| Some((bare.strip_suffix(&unit.to_ascii_lowercase())?, *factor)))
        .ok_or_else(wrong)?;
    decimal(number.trim_end(), factor).ok_or_else(wrong)
}

/// A rate in bytes per second: a size, with or without `/s`.
///
/// # Errors
/// A message for the person.
pub(crate) fn parse_rate(text: &str) -> Result<u64, String> {
    parse_size(text.strip_suffix("/s").unwrap_or(text))
        .map_err(|_| format!("'{text}' is not a rate; write for example 500K or 10Mi, per second"))
}

/// A span of time: `90`, `90s`, `5m`, `1.5h`, `2d`; without a unit it is seconds.
///
/// # Errors
/// A message for the person.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a span of time; write for example 90s, 5m, 2h or 1d");
    let units = [
        ("ms", 1),
        ("s", 1_000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    let with_unit = units
        .iter()
        .find_map(|(unit, millis)| Some((text.strip_suffix(unit)?, *millis)));
    let (number, millis) = with_unit.unwrap_or((text, 1_000));
    decimal(number, millis)
        .map(Duration::from_millis)
        .ok_or_else(wrong)
}

/// `number × factor`, exactly where it is whole and rounded down where it is not.
fn decimal(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let value = whole.parse::<u64>().ok()?;
    let fraction = fraction.parse::<u128>().ok()?;
    let scaled = (u128::from(value) * scale + fraction) * u128::from(factor) / scale;
    u64::try_from(scaled).ok()
}

/// A size for a person: `1.46 GiB`, `16 KiB`, `1 byte`.
pub(crate) fn format_size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let rows = [
            ("0", Some(0)),
            ("16384", Some(16_384)),
            ("256Ki", Some(262_144)),
            ("256ki", Some(262_144)),
            ("256KiB", Some(262_144)),
            ("256 KiB", Some(262_144)),
            ("10M", Some(10_000_000)),
            ("10m", Some(10_000_000)),
            ("1.5G", Some(1_500_000_000)),
            ("0.5Ki", Some(512)),
            ("2Ti", Some(2 << 40)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("18446744073709551615K", None),
            ("", None),
            ("K", None),
            ("-1", None),
            ("+1", None),
            ("1.", None),
            (".5", None),
            ("1.0.0", None),
            ("1e3", None),
            ("10X", None),
            ("1.0000000001", None),
        ];
        for (text, expected) in rows {
            assert_eq!(parse_size(text).ok(), expected, "{text}");
        }
        assert_eq!(parse_rate("2M/s"), Ok(2_000_000));
        assert_eq!(parse_rate("2M"), Ok(2_000_000));
        assert!(parse_rate("fast").is_err_and(|message| message.contains("'fast'")));
    }

    #[test]
    fn durations() {
        let rows = [
            ("90", Some(90_000)),
            ("90s", Some(90_000)),
            ("250ms", Some(250)),
            ("5m", Some(300_000)),
            ("1.5h", Some(5_400_000)),
            ("2d", Some(172_800_000)),
            ("", None),
            ("h", None),
            ("-5s", None),
            ("5 weeks", None),
        ];
        for (text, expected) in rows {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(parse_duration(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn sizes_for_persons() {
        assert_eq!(format_size(16_384), "16.00 KiB");
        assert_eq!(format_size(1), "1 B");
    }
}
