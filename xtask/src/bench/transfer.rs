//! `cargo xtask bench transfer`: data from seeders to leechers on loopback, one transfer after the other.
//!
//! Every transfer of a round is made before the next round begins, so that whatever slows the machine for a while slows all
//! of them.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::data;
use super::party::{ALL, Party, Payload, RIVALS, Terms};
use super::report::{self, Sample};
use super::stage::{self, Cast, Stage};
use crate::units::{parse_duration, parse_size};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Bytes of the file to share; each size is a case of its own
    #[arg(long, value_delimiter = ',', default_value = "1Gi", value_parser = parse_size)]
    sizes: Vec<u64>,
    /// Piece lengths; each is a case of its own
    #[arg(long, value_delimiter = ',', default_value = "1Mi", value_parser = parse_size)]
    pieces: Vec<u64>,
    /// Share so many files of 16 KiB instead of one large one
    #[arg(long)]
    files: Option<u32>,
    /// How often each transfer is made
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Only these, of those that are installed
    #[arg(long, value_enum, value_delimiter = ',')]
    clients: Vec<Party>,
    /// Only these transfers, as `SEEDER:LEECHER`
    #[arg(long, value_delimiter = ',', value_parser = parse_pair)]
    pairs: Vec<(Party, Party)>,
    /// Seeders of each transfer
    #[arg(long, default_value_t = 1)]
    seeders: u16,
    /// Leechers of each transfer
    #[arg(long, default_value_t = 1)]
    leechers: u16,
    /// A transfer must be over by then
    #[arg(long, value_name = "DUR", default_value = "2m", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    common: stage::Common,
}

fn parse_pair(text: &str) -> Result<(Party, Party), String> {
    use clap::ValueEnum;
    let (seeder, leecher) = text.split_once(':').ok_or("write SEEDER:LEECHER")?;
    let pair = (
        Party::from_str(seeder, true)?,
        Party::from_str(leecher, true)?,
    );
    if pair.0 != pair.1 && (pair.0.client().is_none() || pair.1.client().is_none()) {
        return Err("the floor speaks with itself only".to_owned());
    }
    Ok(pair)
}

/// Measures and prints; an error if a transfer failed or a copy differs.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Some(mut stage) = args.common.stage()? else {
        return Ok(());
    };
    let payloads = payloads(args, &stage)?;
    let pairs = pairs(args, &stage);
    let mut samples = Vec::new();
    let mut failed = 0;
    for run in 1..=args.runs {
        for payload in &payloads {
            for (seeder, leecher) in &pairs {
                let way = format!("{} → {}", seeder.name(), leecher.name());
                let cast = Cast {
                    seeder: *seeder,
                    leecher: *leecher,
                    seeders: args.seeders,
                    leechers: args.leechers,
                    terms: Terms::default(),
                    timeout: args.timeout,
                };
                match stage.play(&cast, payload) {
                    Ok(run_made) => {
                        let sample = Sample::new(&cast, payload, run_made);
                        eprintln!("{run} {way}: {:.2} s", sample.run.wall.as_secs_f64());
                        if args.common.json {
                            println!("{}", report::json(&sample));
                        }
                        samples.push(sample);
                    }
                    Err(error) => {
                        failed += 1;
                        eprintln!("{run} {way}: {error:#}");
                    }
                }
            }
        }
    }
    if !args.common.json {
        print!("{}", report::tables(&samples));
        stage.print_versions(&parties(&pairs));
    }
    if failed > 0 {
        bail!("{failed} transfers failed");
    }
    Ok(())
}

/// What is shared: every size in every piece length.
fn payloads(args: &Args, stage: &Stage) -> Result<Vec<Payload>> {
    let source = stage.work.path().join("source");
    std::fs::create_dir_all(&source).context("a folder for the source")?;
    let sizes = match args.files {
        Some(files) => vec![u64::from(files) * data::SMALL_BYTES],
        None => args.sizes.clone(),
    };
    let mut payloads = Vec::new();
    for length in sizes {
        let name = args
            .files
            .map_or_else(|| format!("{length}.bin"), |files| format!("{files} files"));
        let source = source.join(name);
        match args.files {
            Some(files) => data::write_files(&source, files)?,
            None => data::write_file(&source, length)?,
        }
        for piece_length in &args.pieces {
            payloads.push(Payload {
                torrent: stage.make_torrent(&source, *piece_length)?,
                source: source.clone(),
                length,
                piece_length: *piece_length,
                files: args.files.unwrap_or(1),
            });
        }
    }
    Ok(payloads)
}

/// Who sends to whom.
fn pairs(args: &Args, stage: &Stage) -> Vec<(Party, Party)> {
    if !args.pairs.is_empty() {
        return args.pairs.clone();
    }
    let has_floor = args.files.is_none() && args.seeders == 1 && args.leechers == 1;
    let wanted = ALL.into_iter().filter(|party| {
        let asked = args.clients.is_empty() || args.clients.contains(party);
        asked && (party.client().is_some() || has_floor)
    });
    let here = stage.installed(wanted);
    let mut pairs: Vec<(Party, Party)> = here.iter().map(|party| (*party, *party)).collect();
    let single = args.seeders == 1 && args.leechers == 1;
    if single && here.contains(&Party::Bt) {
        let rivals = RIVALS.into_iter().filter(|rival| here.contains(rival));
        pairs.extend(rivals.flat_map(|rival| [(Party::Bt, rival), (rival, Party::Bt)]));
    }
    pairs
}

fn parties(pairs: &[(Party, Party)]) -> Vec<Party> {
    let mut parties: Vec<Party> = pairs.iter().flat_map(|(one, two)| [*one, *two]).collect();
    parties.sort_unstable();
    parties.dedup();
    parties
}
