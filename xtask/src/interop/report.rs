//! What the matrices look like, and what failed, in full.

use std::collections::BTreeSet;
use std::time::Duration;

use comfy_table::{Cell as TableCell, Table, presets};
use serde_json::json;

use super::cell::{Cell, Prepared};
use super::client::{Client, FOREIGN, Tools};
use super::feature::{Direction, FEATURES, Feature};
use super::meet::Meeting;
use super::tracker::TRACKERS;
use super::{Outcome, Reading};
use crate::units::show_seconds;

/// All that was done, and how it went.
#[derive(Clone, Copy)]
pub(super) struct Report<'a> {
    /// The first matrix: transfers over the trackers,
    pub(super) prepared: &'a [Prepared],
    /// how each went,
    pub(super) results: &'a [Outcome],
    /// and how its torrent was read.
    pub(super) readings: &'a [Reading],
    /// The second: ways to meet,
    pub(super) meetings: &'a [Meeting],
    /// and how each went.
    pub(super) met: &'a [Outcome],
}

pub(super) fn word(outcome: &Outcome) -> String {
    match outcome {
        Ok(took) => format!("{} s", show_seconds(*took)),
        Err(_) => "FAILED".to_owned(),
    }
}

impl Report<'_> {
    /// Checks that did not pass.
    pub(super) fn failed(&self) -> usize {
        let outcomes = self.results.iter().chain(self.met);
        let differ = |reading: &&Reading| !reading.differences.is_empty();
        outcomes.filter(|outcome| outcome.is_err()).count()
            + self.readings.iter().filter(differ).count()
    }

    /// Both matrices, for a person.
    pub(super) fn print(&self, tools: &Tools) {
        if !self.prepared.is_empty() {
            self.print_transfers(tools);
        }
        if !self.meetings.is_empty() {
            self.print_meetings(tools);
        }
        for ((it, result), reading) in self.prepared.iter().zip(self.results).zip(self.readings) {
            if let Err(error) = result {
                println!("{}: {error:#}", it.cell);
            }
            for difference in &reading.differences {
                println!("torrent by {}: {difference}", it.maker);
            }
        }
        for (meeting, outcome) in self.meetings.iter().zip(self.met) {
            if let Err(error) = outcome {
                println!("{meeting}: {error:#}");
            }
        }
    }

    /// A row for each way, a column for each foreign program.
    fn print_meetings(&self, tools: &Tools) {
        let mut header = vec!["ours and".to_owned()];
        for foreign in FOREIGN {
            let version = foreign.version(tools).unwrap_or_default();
            header.push(format!("{} {version}", foreign.name()));
        }
        let mut table = Table::new();
        table
            .load_style(presets::UTF8_FULL_CONDENSED)
            .set_header(header);
        let mut reasons: Vec<&str> = Vec::new();
        for feature in FEATURES {
            let mut row = vec![TableCell::new(feature.name())];
            for foreign in FOREIGN {
                let both = Direction::BOTH
                    .map(|direction| self.cell(feature, foreign, direction, &mut reasons));
                row.push(TableCell::new(both.join("\n")));
            }
            table.add_row(row);
        }
        println!("{table}");
        for (number, reason) in (1..).zip(reasons) {
            println!("–{number}  {reason}");
        }
    }

    fn cell(
        &self,
        feature: Feature,
        foreign: Client,
        direction: Direction,
        reasons: &mut Vec<&'static str>,
    ) -> String {
        let sign = match direction {
            Direction::From => "←",
            Direction::To => "→",
        };
        if let Some(reason) = feature.cannot(foreign, direction) {
            let at = reasons.iter().position(|known| *known == reason);
            let at = at.unwrap_or(reasons.len());
            if at == reasons.len() {
                reasons.push(reason);
            }
            return format!("{sign} –{}", at + 1);
        }
        let found = self.meetings.iter().zip(self.met).find(|(it, _)| {
            (it.feature, it.foreign, it.direction) == (feature, foreign, direction)
        });
        found.map_or_else(String::new, |(_, outcome)| {
            format!("{sign} {}", word(outcome))
        })
    }

    /// A row for each foreign program, a column for each direction and tracker.
    fn print_transfers(&self, tools: &Tools) {
        let foreign_of = |cell: &Cell| match (cell.seeder, cell.leecher) {
            (Client::Bt, other) | (other, _) => other,
        };
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header([
            "program",
            "transfer",
            "over bt-trackerd",
            "over opentracker",
            "torrent read alike",
        ]);
        let rows: BTreeSet<(Client, Client, Client)> = self
            .prepared
            .iter()
            .map(|it| (foreign_of(&it.cell), it.cell.seeder, it.cell.leecher))
            .collect();
        for (foreign, seeder, leecher) in rows {
            let version = foreign.version(tools).unwrap_or_default();
            let mut cells = vec![
                TableCell::new(format!("{} {version}", foreign.name())),
                TableCell::new(format!("{} → {}", seeder.name(), leecher.name())),
            ];
            let mut alike = Vec::new();
            for tracker in TRACKERS {
                let found = self
                    .prepared
                    .iter()
                    .zip(self.results)
                    .zip(self.readings)
                    .find(|((it, _), _)| {
                        (it.cell.seeder, it.cell.leecher, it.cell.tracker)
                            == (seeder, leecher, tracker)
                    });
                cells.push(TableCell::new(
                    found.map_or_else(String::new, |((_, it), _)| word(it)),
                ));
                if let Some(((it, _), reading)) = found {
                    let good = reading.differences.is_empty();
                    alike.push(if good {
                        it.maker.to_owned()
                    } else {
                        format!("{}: NO", it.maker)
                    });
                }
            }
            alike.dedup();
            cells.push(TableCell::new(alike.join(", ")));
            table.add_row(cells);
        }
        println!("{table}");
    }

    /// One object a line.
    pub(super) fn print_json(&self) {
        for ((it, result), reading) in self.prepared.iter().zip(self.results).zip(self.readings) {
            let Cell {
                seeder,
                leecher,
                tracker,
                ..
            } = &it.cell;
            let object = json!({
                "event": "transfer",
                "seeder": seeder.name(),
                "leecher": leecher.name(),
                "tracker": tracker.name(),
                "seconds": result.as_ref().ok().map(Duration::as_secs_f64),
                "error": result.as_ref().err().map(|error| format!("{error:#}")),
                "torrent_by": it.maker,
                "torrent_differences": reading.differences,
            });
            println!("{object}");
        }
        for (it, outcome) in self.meetings.iter().zip(self.met) {
            let object = json!({
                "event": "meeting",
                "way": it.feature.name(),
                "program": it.foreign.name(),
                "direction": it.direction.name(),
                "seconds": outcome.as_ref().ok().map(Duration::as_secs_f64),
                "error": outcome.as_ref().err().map(|error| format!("{error:#}")),
            });
            println!("{object}");
        }
    }
}
