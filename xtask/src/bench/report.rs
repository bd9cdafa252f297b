//! What was measured, as a table of medians with their spread, or as JSON.

use comfy_table::{Table, presets};
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::party::{Party, Payload};
use super::stage::{Cast, Run};
use crate::units::show_size;

/// A run during which others used more of the machine than this, in cores, is marked.
const NOISY_CORES: f64 = 0.15;

/// One transfer.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Who had the data.
    pub(crate) seeder: Party,
    /// Who wanted it.
    pub(crate) leecher: Party,
    /// How many of the one.
    pub(crate) seeders: u16,
    /// And of the other.
    pub(crate) leechers: u16,
    /// In bytes.
    pub(crate) length: u64,
    /// In bytes.
    pub(crate) piece_length: u64,
    /// How many.
    pub(crate) files: u32,
    /// What came of it.
    pub(crate) run: Run,
}

impl Sample {
    /// Of one run.
    pub(crate) fn new(cast: &Cast, payload: &Payload, run: Run) -> Self {
        Self {
            seeder: cast.seeder,
            leecher: cast.leecher,
            seeders: cast.seeders,
            leechers: cast.leechers,
            length: payload.length,
            piece_length: payload.piece_length,
            files: payload.files,
            run,
        }
    }

    /// GiB that all leechers together got.
    fn gib(&self) -> f64 {
        self.length as f64 * f64::from(self.leechers) / f64::from(1 << 30)
    }

    /// MiB/s from the first payload on, all leechers together.
    fn flow(&self) -> f64 {
        let span = self.run.wall.saturating_sub(self.run.first).as_secs_f64();
        self.gib() * 1024.0 / span.max(0.001)
    }

    fn leecher_cpu(&self) -> f64 {
        self.run.cpu_leechers.as_secs_f64() / self.gib()
    }

    fn seeder_cpu(&self) -> f64 {
        self.run.cpu_seeders.as_secs_f64() / self.gib()
    }

    fn case(&self) -> Case {
        Case {
            files: self.files,
            length: self.length,
            piece_length: self.piece_length,
            seeders: self.seeders,
            leechers: self.leechers,
        }
    }
}

/// Seeder and leecher.
type Pair = (Party, Party);

/// What is the same in all rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    files: u32,
    length: u64,
    piece_length: u64,
    seeders: u16,
    leechers: u16,
}

impl core::fmt::Display for Case {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (length, piece) = (show_size(self.length), show_size(self.piece_length));
        write!(f, "{length} in pieces of {piece}")?;
        if self.files > 1 {
            write!(f, ", {} files", self.files)?;
        }
        if (self.seeders, self.leechers) != (1, 1) {
            write!(f, ", {} → {}", self.seeders, self.leechers)?;
        }
        Ok(())
    }
}

/// One run, for programs that read it.
pub(crate) fn json(sample: &Sample) -> Value {
    json!({
        "event": "transfer",
        "seeder": sample.seeder.name(),
        "leecher": sample.leecher.name(),
        "seeders": sample.seeders,
        "leechers": sample.leechers,
        "length": sample.length,
        "piece_length": sample.piece_length,
        "files": sample.files,
        "wall_seconds": sample.run.wall.as_secs_f64(),
        "first_seconds": sample.run.first.as_secs_f64(),
        "flow_mib_per_second": sample.flow(),
        "leecher_cpu_seconds_per_gib": sample.leecher_cpu(),
        "seeder_cpu_seconds_per_gib": sample.seeder_cpu(),
        "leecher_peak_bytes": sample.run.peak_leecher,
        "seeder_peak_bytes": sample.run.peak_seeder,
        "sent": sample.run.sent,
        "others_cores": sample.run.others,
    })
}

/// A table for each case with a row for each pair: medians, and the spread of the times.
pub(crate) fn tables(samples: &[Sample]) -> String {
    let mut cases: BTreeMap<Case, BTreeMap<Pair, Vec<&Sample>>> = BTreeMap::new();
    for sample in samples {
        let pairs = cases.entry(sample.case()).or_default();
        let pair = (sample.seeder, sample.leecher);
        pairs.entry(pair).or_default().push(sample);
    }
    let mut text = String::new();
    for (case, pairs) in &cases {
        let floor = pairs.get(&(Party::Floor, Party::Floor));
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header([
            "seeder → leecher",
            "wall s",
            "first s",
            "flow MiB/s",
            "CPU s/GiB",
            "peak MiB",
            "flow ÷ floor",
            "CPU ÷ floor",
            "sent ÷ size",
            "noisy",
        ]);
        for (pair, samples) in pairs {
            table.add_row(row(*pair, samples, floor.map(Vec::as_slice)));
        }
        text += &format!("{case}\n{table}\n");
    }
    text += "CPU and memory: leecher / seeder; medians, with the least and the most in brackets\n";
    text
}

fn row(pair: Pair, samples: &[&Sample], floor: Option<&[&Sample]>) -> Vec<String> {
    let of = |value: fn(&Sample) -> f64| Spread::of(samples.iter().map(|sample| value(sample)));
    let to_floor = |value: fn(&Sample) -> f64| {
        let floor = floor.unwrap_or_default().iter();
        of(value).median / Spread::of(floor.map(|sample| value(sample))).median
    };
    let shown = |value: f64, text: String| {
        if value.is_finite() {
            text
        } else {
            String::new()
        }
    };
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let sent = samples
        .iter()
        .filter_map(|sample| Some(sample.run.sent? as f64 / sample.length as f64));
    let sent = Spread::of(sent).median;
    let (flow, leecher, seeder) = (
        to_floor(Sample::flow),
        to_floor(Sample::leecher_cpu),
        to_floor(Sample::seeder_cpu),
    );
    vec![
        format!("{} → {}", pair.0.name(), pair.1.name()),
        of(|sample| sample.run.wall.as_secs_f64()).show(2),
        format!("{:.2}", of(|sample| sample.run.first.as_secs_f64()).median),
        of(Sample::flow).show(0),
        format!(
            "{:.2} / {:.2}",
            of(Sample::leecher_cpu).median,
            of(Sample::seeder_cpu).median
        ),
        format!(
            "{:.0} / {:.0}",
            mib(max(samples, |sample| sample.run.peak_leecher)),
            mib(max(samples, |sample| sample.run.peak_seeder))
        ),
        shown(flow, format!("{flow:.2}")),
        shown(leecher + seeder, format!("{leecher:.2} / {seeder:.2}")),
        shown(sent, format!("{sent:.2}")),
        noisy(samples.iter().map(|it| it.run.others)),
    ]
}

/// How many of these runs were not alone on the machine, by the cores that others used meanwhile; nothing if all were.
pub(super) fn noisy(others: impl Iterator<Item = f64>) -> String {
    let others: Vec<f64> = others.collect();
    match others.iter().filter(|cores| **cores > NOISY_CORES).count() {
        0 => String::new(),
        noisy => format!("{noisy} of {}", others.len()),
    }
}

fn max(samples: &[&Sample], value: fn(&Sample) -> u64) -> u64 {
    samples
        .iter()
        .map(|sample| value(sample))
        .max()
        .unwrap_or(0)
}

/// The middle of some numbers, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    min: f64,
    /// NaN of nothing.
    pub(super) median: f64,
    max: f64,
}

impl Spread {
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
        Self {
            min: at(0),
            median: (at(low) + at(high)) / 2.0,
            max: at(values.len().saturating_sub(1)),
        }
    }

    /// `1.43 (1.40–1.51)`, or `1.43` of one
    pub(super) fn show(self, decimals: usize) -> String {
        let Self { min, median, max } = self;
        if min.to_bits() == max.to_bits() {
            return format!("{median:.decimals$}");
        }
        format!("{median:.decimals$} ({min:.decimals$}–{max:.decimals$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn medians_and_spreads() {
        let rows: [(&[f64], f64, f64, f64); 3] = [
            (&[3.0, 1.0, 2.0], 1.0, 2.0, 3.0),
            (&[4.0, 1.0], 1.0, 2.5, 4.0),
            (&[7.0], 7.0, 7.0, 7.0),
        ];
        for (values, min, median, max) in rows {
            let spread = Spread::of(values.iter().copied());
            assert_eq!(spread, Spread { min, median, max });
        }
        assert!(Spread::of(core::iter::empty()).median.is_nan());
        assert_eq!(Spread::of([1.5, 1.25].into_iter()).show(1), "1.4 (1.2–1.5)");
    }

    #[test]
    fn runs_beside_others_are_counted() {
        let rows: [(&[f64], &str); 3] = [
            (&[], ""),
            (&[NOISY_CORES, 0.0], ""),
            (&[0.2, 0.0, 1.0], "2 of 3"),
        ];
        for (others, expected) in rows {
            assert_eq!(noisy(others.iter().copied()), expected);
        }
    }

    #[test]
    fn rates_are_of_what_was_delivered_and_ratios_of_the_same_case() {
        let sample = |party, wall, piece_length| Sample {
            seeder: party,
            leecher: party,
            seeders: 1,
            leechers: 2,
            length: 1 << 30,
            piece_length,
            files: 1,
            run: Run {
                wall: Duration::from_millis(wall),
                first: Duration::from_millis(500),
                cpu_leechers: Duration::from_secs(3),
                cpu_seeders: Duration::from_secs(1),
                peak_leecher: 5 << 20,
                peak_seeder: 6 << 20,
                sent: Some(3 << 30),
                wasted: None,
                wire: 0,
                others: 0.5,
            },
        };
        let ours = sample(Party::Bt, 2500, 1);
        assert_eq!((ours.flow(), ours.leecher_cpu()), (1024.0, 1.5));
        let samples = [
            ours,
            sample(Party::Floor, 1500, 1),
            sample(Party::Floor, 1000, 2),
        ];
        let text = tables(&samples);
        let line = text.lines().find(|line| line.contains("bt → bt"));
        let cells: Vec<&str> =
            line.map_or(Vec::new(), |line| line.split('┆').map(str::trim).collect());
        assert_eq!(
            cells.get(6..9),
            Some(&["0.50", "1.00 / 1.00", "3.00"][..]),
            "{text}"
        );
        assert!(text.contains("1 of 1"));
        assert_eq!(json(&samples[0])["wall_seconds"], 2.5);
    }
}
