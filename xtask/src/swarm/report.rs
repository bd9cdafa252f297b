//! The account of a swarm: a table for people, an object a line for programs.

use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Table, presets};
use serde_json::json;

use super::node::{Node, Role};
use super::run::Outcome;
use crate::units::{ratio, show_seconds, show_size};

/// Prints the account of one swarm.
pub(crate) fn print(outcome: &Outcome, as_json: bool) {
    if as_json {
        print_json(outcome);
        return;
    }
    println!("{}", table(outcome));
    for line in remarks(outcome) {
        println!("{line}");
    }
}

/// One row per scenario, after several.
pub(crate) fn print_summary(outcomes: &[Outcome]) {
    let mut table = new_table(&[
        "scenario",
        "size",
        "files",
        "pieces",
        "leechers",
        "time s",
        "from seeder",
        "wasted",
        "memory",
        "CPU s",
        "copies",
    ]);
    for outcome in outcomes {
        let (torrent, sums) = (&outcome.torrent, Sums::of(outcome));
        let leechers = outcome.scenario.leechers;
        table.add_row(cells([
            outcome.scenario.name.clone(),
            show_size(torrent.total_length),
            torrent.files.len().to_string(),
            format!("{} × {}", torrent.pieces, show_size(torrent.piece_length)),
            leechers.to_string(),
            show_seconds(outcome.took),
            format!("{:.2} ×", ratio(sums.from_seeders, torrent.total_length)),
            show_size(sums.wasted),
            show_size(sums.peak_memory_bytes),
            show_seconds(sums.cpu),
            identical(outcome),
        ]));
    }
    println!("{table}");
}

fn table(outcome: &Outcome) -> Table {
    let mut table = new_table(&[
        "process",
        "time s",
        "down",
        "up",
        "up ÷ size",
        "wasted",
        "bad pieces",
        "peak memory",
        "CPU s",
        "starts",
    ]);
    for node in &outcome.nodes {
        let (traffic, usage) = (node.traffic(), node.usage());
        let carries = node.role != Role::Tracker;
        let of_data = |text: String| if carries { text } else { String::new() };
        table.add_row(cells([
            node.name.clone(),
            node.took
                .filter(|_| node.role == Role::Leecher)
                .map(show_seconds)
                .unwrap_or_default(),
            of_data(show_size(traffic.downloaded)),
            of_data(show_size(traffic.uploaded)),
            of_data(format!(
                "{:.2}",
                ratio(traffic.uploaded, outcome.torrent.total_length)
            )),
            of_data(show_size(traffic.wasted)),
            of_data(traffic.hash_failures.to_string()),
            show_size(usage.peak_memory_bytes),
            show_seconds(usage.cpu),
            node.lives.len().to_string(),
        ]));
    }
    table
}

/// What the table does not say.
fn remarks(outcome: &Outcome) -> Vec<String> {
    let (torrent, sums) = (&outcome.torrent, Sums::of(outcome));
    let total = torrent.total_length;
    let rate = ratio(sums.copied, 1) / outcome.took.as_secs_f64().max(0.001) / f64::from(1 << 20);
    let mut lines = vec![
        format!(
            "{}: {} in {}, {} pieces of {}; the last of {} leechers done after {} s, {rate:.0} MiB/s together",
            outcome.scenario.name,
            show_size(total),
            match torrent.files.len() {
                1 => "one file".to_owned(),
                files => format!("{files} files"),
            },
            torrent.pieces,
            show_size(torrent.piece_length),
            outcome.scenario.leechers,
            show_seconds(outcome.took),
        ),
        format!(
            "the initial seeder sent {:.2} × the size: {}{:.0} % of all that was downloaded came from it, the rest from other leechers",
            ratio(sums.from_seeders, total),
            // What killed leechers received is known from below only.
            if outcome.kills.is_empty() {
                ""
            } else {
                "at most "
            },
            100.0 * ratio(sums.from_seeders, sums.downloaded),
        ),
    ];
    if let Some(min) = outcome.scenario.time_min(total) {
        lines.push(format!(
            "T/T_min = {:.2} ({} s; no scheme is done before {} s at {}/s upload each)",
            outcome.took.as_secs_f64() / min.as_secs_f64().max(0.001),
            show_seconds(outcome.took),
            show_seconds(min),
            show_size(outcome.scenario.up_limit.unwrap_or(0)),
        ));
    }
    if !outcome.kills.is_empty() {
        let caught: u32 = outcome.kills.iter().map(|kill| kill.caught).sum();
        lines.push(format!(
            "{} kills (seed {}) caught {caught} pieces on their way; {}",
            outcome.kills.len(),
            outcome.scenario.seed,
            downloaded_again(&sums),
        ));
        lines.push(
            "down of a killed process: as it told last or as its disk shows; up, as it told last; wasted, unknown"
                .to_owned(),
        );
        if outcome.kills.iter().all(|kill| kill.complaint().is_none()) {
            lines.push("after each kill, exactly the pieces on the disk were kept".to_owned());
        }
    }
    for (name, differences) in &outcome.different {
        lines.push(format!("{name} DIFFERS: {}", differences.join("; ")));
    }
    lines.extend(
        outcome
            .complaints
            .iter()
            .map(|complaint| format!("BROKEN: {complaint}")),
    );
    lines.push(format!("{} copies identical", identical(outcome)));
    lines
}

/// What the leechers received beyond their copies. Fewer bytes than the copies have would be a wrong account.
fn downloaded_again(sums: &Sums) -> String {
    match sums.downloaded.checked_sub(sums.copied) {
        Some(again) => format!("at least {} were downloaded again", show_size(again)),
        None => format!(
            "the leechers account for {} less than their copies hold",
            show_size(sums.copied - sums.downloaded)
        ),
    }
}

/// `8 of 8`.
fn identical(outcome: &Outcome) -> String {
    let leechers = outcome
        .nodes
        .iter()
        .filter(|node| node.role == Role::Leecher)
        .count();
    format!(
        "{} of {leechers}",
        leechers - outcome.different.len().min(leechers)
    )
}

#[derive(Default)]
struct Sums {
    /// Payload that seeders sent.
    from_seeders: u64,
    /// Payload that leechers received.
    downloaded: u64,
    /// Payload that had to be received: a copy for each leecher.
    copied: u64,
    wasted: u64,
    peak_memory_bytes: u64,
    cpu: Duration,
}

impl Sums {
    fn of(outcome: &Outcome) -> Self {
        let of_role = |role: Role| outcome.nodes.iter().filter(move |node| node.role == role);
        let leechers = of_role(Role::Leecher);
        Self {
            from_seeders: of_role(Role::Seeder)
                .map(|node| node.traffic().uploaded)
                .sum(),
            downloaded: leechers.clone().map(|node| node.traffic().downloaded).sum(),
            copied: outcome.torrent.total_length * u64::from(outcome.scenario.leechers),
            wasted: leechers.map(|node| node.traffic().wasted).sum(),
            peak_memory_bytes: outcome
                .nodes
                .iter()
                .map(|node| node.usage().peak_memory_bytes)
                .max()
                .unwrap_or(0),
            cpu: outcome.nodes.iter().map(|node| node.usage().cpu).sum(),
        }
    }
}

fn print_json(outcome: &Outcome) {
    let (torrent, sums) = (&outcome.torrent, Sums::of(outcome));
    for node in &outcome.nodes {
        println!("{}", process_json(node));
    }
    let min = outcome.scenario.time_min(torrent.total_length);
    println!(
        "{}",
        json!({
            "event": "result",
            "scenario": outcome.scenario.name,
            "total_length": torrent.total_length,
            "files": torrent.files.len(),
            "pieces": torrent.pieces,
            "piece_length": torrent.piece_length,
            "seeders": outcome.scenario.seeders,
            "leechers": outcome.scenario.leechers,
            "seconds": outcome.took.as_secs_f64(),
            "seconds_min": min.map(|min| min.as_secs_f64()),
            "from_seeders": sums.from_seeders,
            "downloaded": sums.downloaded,
            "wasted": sums.wasted,
            "peak_memory": sums.peak_memory_bytes,
            "cpu_seconds": sums.cpu.as_secs_f64(),
            "kills": outcome.kills.len(),
            "seed": outcome.scenario.seed,
            "different": outcome.different,
            "complaints": outcome.complaints,
            "ok": outcome.is_good(),
        })
    );
}

fn process_json(node: &Node) -> serde_json::Value {
    let (traffic, usage) = (node.traffic(), node.usage());
    json!({
        "event": "process",
        "name": node.name,
        "seconds": node.took.map(|took| took.as_secs_f64()),
        "downloaded": traffic.downloaded,
        "uploaded": traffic.uploaded,
        "wasted": traffic.wasted,
        "hash_failures": traffic.hash_failures,
        "peak_memory": usage.peak_memory_bytes,
        "cpu_seconds": usage.cpu.as_secs_f64(),
        "starts": node.lives.len(),
    })
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_header(header);
    table
}

/// The first column is a name, the others are numbers.
fn cells<const N: usize>(texts: [String; N]) -> Vec<Cell> {
    let align = |index| {
        if index == 0 {
            CellAlignment::Left
        } else {
            CellAlignment::Right
        }
    };
    (0..)
        .zip(texts)
        .map(|(index, text)| Cell::new(text).set_alignment(align(index)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_is_short_says_so() {
        let said = |downloaded, copied| {
            downloaded_again(&Sums {
                downloaded,
                copied,
                ..Sums::default()
            })
        };
        assert_eq!(said(150, 100), "at least 50 B were downloaded again");
        assert_eq!(said(100, 100), "at least 0 B were downloaded again");
        assert_eq!(
            said(70, 100),
            "the leechers account for 30 B less than their copies hold"
        );
    }
}
