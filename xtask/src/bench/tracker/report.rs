//! What was measured, as a table, or as JSON.

use comfy_table::{Table, presets};
use serde_json::json;

use super::rival::Rival;
use crate::bench::load::Outcome;

/// One measurement.
pub(super) struct Row {
    pub(super) tracker: &'static str,
    pub(super) what: &'static str,
    pub(super) outcome: Outcome,
}

impl Row {
    fn rate(&self) -> f64 {
        self.outcome.replies as f64 / self.outcome.span.as_secs_f64().max(0.001)
    }

    /// Processor seconds of the server for 100,000 requests.
    fn cpu(&self) -> f64 {
        self.outcome.cpu.as_secs_f64() * 1e5 / self.outcome.replies.max(1) as f64
    }

    /// The part of a core that the server used: far below 1, the load is what was measured.
    fn busy(&self) -> f64 {
        self.outcome.cpu.as_secs_f64() / self.outcome.span.as_secs_f64().max(0.001)
    }

    /// Its processor time as a multiple of the floor's, if that was measured.
    fn times_floor(&self, rows: &[Row]) -> Option<f64> {
        let floor = rows
            .iter()
            .find(|row| row.tracker == Rival::Floor.name() && row.what == self.what)?;
        Some(self.cpu() / floor.cpu())
    }

    fn quantile_ms(&self, per_mille: u64) -> f64 {
        self.outcome.latencies.quantile(per_mille).as_secs_f64() * 1e3
    }

    pub(super) fn json(&self) -> serde_json::Value {
        json!({
            "tracker": self.tracker, "what": self.what, "per_second": self.rate(),
            "cpu_seconds_per_100000": self.cpu(), "busy": self.busy(), "p50_ms": self.quantile_ms(500),
            "p99_ms": self.quantile_ms(990), "failed": self.outcome.failed,
        })
    }
}

/// A row for each measurement, by what was asked.
pub(super) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "",
        "tracker",
        "requests/s",
        "CPU s/100k",
        "× floor",
        "busy",
        "p50 ms",
        "p99 ms",
        "failed",
    ]);
    let mut kinds: Vec<&str> = Vec::new();
    rows.iter().for_each(|row| {
        if !kinds.contains(&row.what) {
            kinds.push(row.what);
        }
    });
    for kind in kinds {
        for row in rows.iter().filter(|row| row.what == kind) {
            table.add_row([
                row.what.to_owned(),
                row.tracker.to_owned(),
                format!("{:.0}", row.rate()),
                format!("{:.3}", row.cpu()),
                row.times_floor(rows)
                    .map_or_else(String::new, |times| format!("{times:.2}")),
                format!("{:.2}", row.busy()),
                format!("{:.2}", row.quantile_ms(500)),
                format!("{:.2}", row.quantile_ms(990)),
                row.outcome.failed.to_string(),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_the_floor_are_of_the_same_requests() {
        let row = |rival: Rival, what, millis, replies| Row {
            tracker: rival.name(),
            what,
            outcome: Outcome {
                replies,
                span: Duration::from_secs(2),
                cpu: Duration::from_millis(millis),
                ..Outcome::default()
            },
        };
        let rows = [
            row(Rival::Floor, "announce", 500, 200_000),
            row(Rival::Floor, "scrape", 500, 100_000),
            row(Rival::Ours, "announce", 1500, 200_000),
            row(Rival::Ours, "connect", 1500, 200_000),
        ];
        let [_, _, ours, alone] = &rows;
        assert_eq!((ours.cpu(), ours.busy()), (0.75, 0.75));
        assert_eq!(ours.times_floor(&rows), Some(3.0));
        assert_eq!(alone.times_floor(&rows), None);
    }
}
