//! `cargo xtask bench swarm`: one seeder and some leechers, all of one program, with and without a limit on what each may
//! upload.
//!
//! With a limit there is a least time `T_min = max(F/u, N·F/((N+1)·u))`, below which no scheme comes: the seeder must send
//! each byte once, and all together must send a copy for each leecher. All programs ask one tracker, which names everybody
//! to everybody.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use comfy_table::{Table, presets};
use serde_json::json;

use super::data;
use super::party::{Party, Payload, Terms};
use super::report::{Spread, noisy};
use super::stage::{self, Cast, Run, Stage};
use crate::swarm::least_sent;
use crate::units::{parse_duration, parse_size, show_size};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these swarms
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "limited,unlimited"
    )]
    cases: Vec<Case>,
    /// Only these programs, of those that are installed
    #[arg(long, value_enum, value_delimiter = ',')]
    clients: Vec<Party>,
    /// How often each swarm is made
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Leechers of a limited swarm
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=100))]
    leechers: u16,
    /// Upload limit of each process of a limited swarm in bytes per second
    #[arg(long, value_name = "RATE", default_value = "10M", value_parser = parse_size)]
    up_limit: u64,
    /// Bytes that a limited swarm shares
    #[arg(long, default_value = "256Mi", value_parser = parse_size)]
    size: u64,
    /// Bytes per piece
    #[arg(long, value_name = "SIZE", default_value = "256Ki", value_parser = parse_size)]
    piece_length: u64,
    /// Leechers of an unlimited swarm
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=100))]
    unlimited_leechers: u16,
    /// Bytes that an unlimited swarm shares
    #[arg(long, value_name = "SIZE", default_value = "512Mi", value_parser = parse_size)]
    unlimited_size: u64,
    /// A swarm must be done by then
    #[arg(long, value_name = "DUR", default_value = "5m", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    common: stage::Common,
}

/// Which swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Case {
    /// Everybody has an upload limit.
    Limited,
    /// Nobody has.
    Unlimited,
}

/// A program as it takes part: with or without super-seeding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entrant {
    party: Party,
    super_seed: bool,
}

/// One run of one swarm.
#[derive(Debug, Clone, Copy)]
struct Sample {
    case: Case,
    entrant: Entrant,
    leechers: u16,
    up_limit: Option<u64>,
    length: u64,
    run: Run,
}

/// Measures and prints; an error if a swarm failed or a copy differs.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Some(mut stage) = args.common.stage()? else {
        return Ok(());
    };
    let mut cases = Vec::new();
    for case in &args.cases {
        cases.push((*case, payload(args, *case, &stage)?));
    }
    let entrants = entrants(args, &stage)?;
    let mut samples = Vec::new();
    let mut failed = 0;
    for run in 1..=args.runs {
        for (case, payload) in &cases {
            for entrant in &entrants {
                let name = entrant.name();
                match stage.play(&cast(args, *case, *entrant), payload) {
                    Ok(run_made) => {
                        let sample = Sample::new(args, *case, *entrant, payload.length, run_made);
                        eprintln!("{run} {name}: {:.2} s", sample.run.wall.as_secs_f64());
                        if args.common.json {
                            println!("{}", sample.json());
                        }
                        samples.push(sample);
                    }
                    Err(error) => {
                        failed += 1;
                        eprintln!("{run} {name}: {error:#}");
                    }
                }
            }
        }
    }
    if !args.common.json {
        print!("{}", tables(&samples));
        let mut parties: Vec<Party> = entrants.iter().map(|entrant| entrant.party).collect();
        parties.dedup();
        stage.print_versions(&parties);
    }
    if failed > 0 {
        bail!("{failed} swarms failed");
    }
    Ok(())
}

/// What a swarm shares.
fn payload(args: &Args, case: Case, stage: &Stage) -> Result<Payload> {
    let length = match case {
        Case::Limited => args.size,
        Case::Unlimited => args.unlimited_size,
    };
    // Not the folder that holds the other's data: programs may look at all they find in theirs.
    let folder = stage.work.path().join(format!("{case:?}"));
    std::fs::create_dir_all(&folder).context("a folder for the source")?;
    let source = folder.join(format!("{case:?}.bin"));
    data::write_file(&source, length)?;
    Ok(Payload {
        torrent: stage.make_torrent(&source, args.piece_length)?,
        source,
        length,
        piece_length: args.piece_length,
        files: 1,
    })
}

/// Who takes part: each program that is installed, and again with super-seeding if it can.
fn entrants(args: &Args, stage: &Stage) -> Result<Vec<Entrant>> {
    let clients = [
        Party::Bt,
        Party::Libtorrent,
        Party::Aria2,
        Party::Transmission,
        Party::Rtorrent,
        Party::Rqbit,
    ];
    let asked = |party: &Party| args.clients.is_empty() || args.clients.contains(party);
    let mut entrants = Vec::new();
    for party in stage.installed(clients.into_iter().filter(asked)) {
        entrants.push(Entrant {
            party,
            super_seed: false,
        });
        if party.can_super_seed(&stage.programs)? {
            entrants.push(Entrant {
                party,
                super_seed: true,
            });
        }
    }
    Ok(entrants)
}

fn cast(args: &Args, case: Case, entrant: Entrant) -> Cast {
    let (leechers, up_limit) = match case {
        Case::Limited => (args.leechers, Some(args.up_limit)),
        Case::Unlimited => (args.unlimited_leechers, None),
    };
    Cast {
        seeder: entrant.party,
        leecher: entrant.party,
        seeders: 1,
        leechers,
        terms: Terms {
            up_limit,
            super_seed: entrant.super_seed,
        },
        timeout: args.timeout,
    }
}

impl Entrant {
    fn name(self) -> String {
        let how = if self.super_seed {
            ", super-seeding"
        } else {
            ""
        };
        format!("{}{how}", self.party.name())
    }
}

impl Sample {
    fn new(args: &Args, case: Case, entrant: Entrant, length: u64, run: Run) -> Self {
        let cast = cast(args, case, entrant);
        Self {
            case,
            entrant,
            leechers: cast.leechers,
            up_limit: cast.terms.up_limit,
            length,
            run,
        }
    }

    /// Seconds below which no scheme comes, if there is a limit.
    fn least(&self) -> Option<f64> {
        let sent = least_sent(self.length, 1, u64::from(self.leechers));
        Some(sent as f64 / self.up_limit? as f64)
    }

    fn over_least(&self) -> Option<f64> {
        Some(self.run.wall.as_secs_f64() / self.least()?)
    }

    /// Copies of the payload that the seeder sent.
    fn share(&self) -> Option<f64> {
        Some(self.run.sent? as f64 / self.length as f64)
    }

    fn cpu(&self) -> f64 {
        (self.run.cpu_seeders + self.run.cpu_leechers).as_secs_f64()
    }

    /// Parts of a hundred of what had to be received.
    fn wasted_percent(&self) -> Option<f64> {
        Some(100.0 * self.run.wasted? as f64 / self.needed())
    }

    /// Bytes on the wire for each that had to be received.
    fn wire(&self) -> f64 {
        self.run.wire as f64 / self.needed()
    }

    fn needed(&self) -> f64 {
        self.length as f64 * f64::from(self.leechers)
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "event": "swarm",
            "client": self.entrant.party.name(),
            "super_seed": self.entrant.super_seed,
            "leechers": self.leechers,
            "up_limit": self.up_limit,
            "length": self.length,
            "seconds": self.run.wall.as_secs_f64(),
            "seconds_min": self.least(),
            "first_seconds": self.run.first.as_secs_f64(),
            "from_seeder": self.run.sent,
            "cpu_seconds": self.cpu(),
            "cpu_seconds_seeder": self.run.cpu_seeders.as_secs_f64(),
            "wasted": self.run.wasted,
            "wire": self.run.wire,
            "leecher_peak_bytes": self.run.peak_leecher,
            "seeder_peak_bytes": self.run.peak_seeder,
            "others_cores": self.run.others,
        })
    }
}

/// A table for each swarm, with a row for each program.
fn tables(samples: &[Sample]) -> String {
    let mut cases: BTreeMap<Case, BTreeMap<Entrant, Vec<&Sample>>> = BTreeMap::new();
    for sample in samples {
        let entrants = cases.entry(sample.case).or_default();
        entrants.entry(sample.entrant).or_default().push(sample);
    }
    let mut text = String::new();
    for entrants in cases.values() {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header([
            "all of",
            "T s",
            "T ÷ T_min",
            "first s",
            "seeder ÷ F",
            "CPU s",
            "seeder's",
            "wasted %",
            "wire ÷ N·F",
            "peak MiB",
            "noisy",
        ]);
        for (entrant, samples) in entrants {
            table.add_row(row(*entrant, samples));
        }
        if let Some(sample) = entrants.values().flatten().next() {
            text += &heading(sample);
        }
        text += &format!("{table}\n");
    }
    text += "medians, with the least and the most in brackets; CPU of all processes; memory of the largest\n";
    text
}

fn heading(sample: &Sample) -> String {
    let limit = sample.up_limit.map_or_else(
        || "no limit".to_owned(),
        |limit| format!("upload {limit} B/s each"),
    );
    let least = sample
        .least()
        .map_or_else(String::new, |least| format!(", T_min {least:.2} s"));
    let (length, leechers) = (show_size(sample.length), sample.leechers);
    format!("{length}, 1 → {leechers}, {limit}{least}\n")
}

fn row(entrant: Entrant, samples: &[&Sample]) -> Vec<String> {
    let show = |decimals, value: fn(&Sample) -> Option<f64>| {
        let spread = Spread::of(samples.iter().filter_map(|sample| value(sample)));
        if spread.median.is_nan() {
            return String::new();
        }
        spread.show(decimals)
    };
    let peak = |sample: &&Sample| sample.run.peak_leecher.max(sample.run.peak_seeder);
    let peak = samples.iter().map(peak).max().unwrap_or(0);
    vec![
        entrant.name(),
        show(2, |sample| Some(sample.run.wall.as_secs_f64())),
        show(3, Sample::over_least),
        show(2, |sample| Some(sample.run.first.as_secs_f64())),
        show(3, Sample::share),
        show(1, |sample| Some(sample.cpu())),
        show(1, |sample| Some(sample.run.cpu_seeders.as_secs_f64())),
        show(2, Sample::wasted_percent),
        show(3, |sample| Some(sample.wire())),
        format!("{:.0}", peak as f64 / f64::from(1 << 20)),
        noisy(samples.iter().map(|it| it.run.others)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_bound_and_of_what_was_needed() {
        let run = Run {
            wall: Duration::from_secs(3),
            first: Duration::from_millis(100),
            cpu_leechers: Duration::from_secs(4),
            cpu_seeders: Duration::from_secs(1),
            peak_leecher: 5 << 20,
            peak_seeder: 6 << 20,
            sent: Some(1_500),
            wasted: Some(80),
            wire: 8_400,
            others: 0.0,
        };
        let limited = Sample {
            case: Case::Limited,
            entrant: Entrant {
                party: Party::Bt,
                super_seed: true,
            },
            leechers: 8,
            up_limit: Some(500),
            length: 1_000,
            run,
        };
        assert_eq!((limited.least(), limited.share()), (Some(2.0), Some(1.5)));
        assert_eq!((limited.over_least(), limited.cpu()), (Some(1.5), 5.0));
        assert_eq!(
            (limited.wasted_percent(), limited.wire()),
            (Some(1.0), 1.05)
        );
        let free = Sample {
            case: Case::Unlimited,
            up_limit: None,
            run: Run {
                sent: None,
                wasted: None,
                ..run
            },
            ..limited
        };
        assert_eq!((free.over_least(), free.share()), (None, None));
        let text = tables(&[limited, free]);
        assert!(text.contains("upload 500 B/s each, T_min 2.00 s"), "{text}");
        let rows = text
            .lines()
            .filter(|line| line.contains("bt, super-seeding"));
        let rows: Vec<Vec<&str>> = rows
            .map(|row| row.split('┆').map(str::trim).collect())
            .collect();
        assert_eq!(rows[0][2], "1.500");
        assert_eq!((rows[1][2], rows[1][4], rows[1][7]), ("", "", ""));
        assert_eq!(limited.json()["seconds_min"], 2.0);
    }
}
