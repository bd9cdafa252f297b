//! Sizes and durations as people write and read them; sizes take `K M G T` (thousands) and `Ki Mi Gi Ti` (1024s).

use std::time::Duration;

/// Reads `256Ki`, `10M`, `1.5Gi` or a plain number of bytes.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size: write 65536, 64Ki, 10M, 2Gi");
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale: u64 = match unit.trim_end_matches('B') {
        "" => 1,
        "K" | "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let parts: u64 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().map_err(|_| wrong())?
    };
    let digits = u32::try_from(fraction.len()).map_err(|_| wrong())?;
    let whole_parts = 10_u128.checked_pow(digits).ok_or_else(wrong)?;
    let part = u128::from(scale)
        .checked_mul(u128::from(parts))
        .ok_or_else(wrong)?
        / whole_parts;
    let bytes = u128::from(whole) * u128::from(scale) + part;
    u64::try_from(bytes).map_err(|_| wrong())
}

/// Reads `90`, `90s`, `15m` or `2h` as a span of time.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration: write 90s, 15m, 2h");
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number
        .checked_mul(scale)
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

/// `1.5 MiB`: three figures are enough for a table.
pub(crate) fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while value >= 1024.0 {
        let Some(next) = units.next() else { break };
        value /= 1024.0;
        unit = Some(next);
    }
    let unit = unit.unwrap_or(&"B");
    if *unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// Seconds with two decimals, as in every table here.
pub(crate) fn show_seconds(span: Duration) -> String {
    format!("{:.2}", span.as_secs_f64())
}

/// A part of a whole as a factor; `0.00` of nothing.
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_the_command_lines_promise() {
        let rows: [(&str, Option<u64>); 16] = [
            ("0", Some(0)),
            ("65536", Some(65_536)),
            ("1K", Some(1_000)),
            ("10M", Some(10_000_000)),
            ("256Ki", Some(262_144)),
            ("256KiB", Some(262_144)),
            ("2Gi", Some(2_147_483_648)),
            ("1.5Ki", Some(1_536)),
            ("2.5M", Some(2_500_000)),
            ("3T", Some(3_000_000_000_000)),
            ("", None),
            ("Ki", None),
            ("12Q", None),
            ("-1", None),
            ("1.x", None),
            ("99999999999999Ti", None),
        ];
        for (text, bytes) in rows {
            assert_eq!(parse_size(text).ok(), bytes, "{text}");
        }
    }

    #[test]
    fn durations_and_shown_sizes() {
        let rows = [
            ("90", Some(90)),
            ("2m", Some(120)),
            ("1h", Some(3600)),
            ("x", None),
            ("3d", None),
        ];
        for (text, seconds) in rows {
            assert_eq!(
                parse_duration(text).ok(),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
        let rows = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 31, "2.0 GiB"),
        ];
        for (bytes, text) in rows {
            assert_eq!(show_size(bytes), text);
        }
    }
}
