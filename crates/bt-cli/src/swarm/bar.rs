//! The line that a terminal shows for each torrent.

use crate::progress;
use crate::units::format_size;
use bt_session::{Phase, Stats, Status};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// The longest name that is shown whole, in characters.
const NAME_CHARS: usize = 24;

/// Lines that a terminal has room for. Whoever runs more torrents sees the first ones.
pub(super) const BARS_MAX: usize = 20;

/// The line of one torrent, if it has one.
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    /// No line: a bar that is drawn nowhere takes memory all the same.
    pub(super) const fn hidden() -> Self {
        Self(None)
    }

    /// For a torrent of this name, which has been escaped.
    pub(super) fn new(name: &str, total_length: u64) -> Self {
        let bar = progress::bytes(false, "", total_length);
        let template = "{prefix:24} {percent:>3}% [{bar:20}] {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(shorten(name));
        Self(Some(bar))
    }

    /// The torrent has become known.
    pub(super) fn rename(&self, name: &str, total_length: u64) {
        if let Self(Some(bar)) = self {
            bar.set_length(total_length);
            bar.set_prefix(shorten(name));
        }
    }

    /// Brings it up to date.
    pub(super) fn show(&self, status: &Status) {
        if let Self(Some(bar)) = self {
            bar.set_position(status.stats.bytes_done);
            bar.set_message(message(status));
        }
    }

    /// The torrent has ended.
    pub(super) fn finish(&self) {
        if let Self(Some(bar)) = self {
            bar.finish_and_clear();
        }
    }
}

fn shorten(name: &str) -> String {
    name.chars().take(NAME_CHARS).collect()
}

fn message(status: &Status) -> String {
    let stats = &status.stats;
    match status.phase {
        Phase::Checking => return format!("checking, {} pieces so far", status.pieces_checked),
        Phase::Fetching => return format!("asking {} peers what it is", stats.peers),
        Phase::Stopping => return "stopping".to_owned(),
        Phase::Stopped => return "stopped".to_owned(),
        Phase::Running => {}
    }
    let mut parts = Vec::new();
    if stats.bytes_done < stats.total_length {
        parts.push(format!("↓ {}/s", format_size(stats.down_rate)));
        parts.extend(eta(stats).map(|eta| format!("{} left", clock(eta))));
    }
    parts.push(format!("↑ {}/s", format_size(stats.up_rate)));
    parts.push(format!("{} peers ({} seeders)", stats.peers, stats.seeders));
    parts.push(format!("ratio {:.2}", ratio(stats)));
    parts.join("  ")
}

fn eta(stats: &Stats) -> Option<Duration> {
    let left = stats.total_length.saturating_sub(stats.bytes_done);
    left.checked_div(stats.down_rate).map(Duration::from_secs)
}

/// Uploaded over downloaded; over the whole length for who had it all before.
fn ratio(stats: &Stats) -> f64 {
    let had = if stats.downloaded == 0 {
        stats.total_length
    } else {
        stats.downloaded
    };
    #[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
    let ratio = stats.uploaded as f64 / had.max(1) as f64;
    ratio
}

fn clock(span: Duration) -> String {
    let seconds = span.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        1..100 => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => "days".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(phase: Phase, bytes_done: u64, down_rate: u64) -> Status {
        Status {
            phase,
            pieces_checked: 7,
            stats: Stats {
                bytes_done,
                total_length: 4_096_000,
                downloaded: 2_048_000,
                uploaded: 1_024_000,
                down_rate,
                peers: 3,
                seeders: 1,
                ..Stats::default()
            },
        }
    }

    #[test]
    fn the_line_says_what_matters_in_each_phase() {
        let rows = [
            (status(Phase::Checking, 0, 0), "checking, 7 pieces so far"),
            (
                status(Phase::Running, 0, 1_024),
                "↓ 1.00 KiB/s  1:06:40 left  ↑ 0 B/s  3 peers (1 seeders)  ratio 0.50",
            ),
            (
                status(Phase::Running, 0, 0),
                "↓ 0 B/s  ↑ 0 B/s  3 peers (1 seeders)  ratio 0.50",
            ),
            (
                status(Phase::Running, 4_096_000, 0),
                "↑ 0 B/s  3 peers (1 seeders)  ratio 0.50",
            ),
            (status(Phase::Stopping, 0, 0), "stopping"),
        ];
        for (status, expected) in rows {
            assert_eq!(message(&status), expected);
        }
        assert_eq!(clock(Duration::from_secs(59)), "0:59");
        assert_eq!(clock(Duration::from_secs(1_000_000)), "days");
    }
}
