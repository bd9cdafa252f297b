//! `bt get`: downloads torrents, and seeds them if asked to.

use super::Context;
use crate::exit::{Exit, Failure, OrExit as _};
use crate::network::NetworkArgs;
use crate::output::Output;
use crate::save;
use crate::source::Source;
use crate::swarm::{self, Goal, Swarm};
use crate::{folder, units};
use anyhow::Context as _;
use bt_core::Bitfield;
use bt_metainfo::{FileEntry, Info};
use bt_session::Choose;
use bt_storage::Allocation;
use globset::{Glob, GlobMatcher};
use std::path::PathBuf;
use std::time::Duration;

/// Download torrents
///
/// Ends when all is there and verified, unless told to seed. What is there already is used, so the same command goes on
/// after an interruption. A file that is no earlier download's and not what the torrent says is never replaced unawares.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Magnet links, .torrent files, http or https URLs of them, or info hashes
    #[arg(required = true)]
    source: Vec<String>,
    /// The folder that receives the torrent's top file or folder
    #[arg(short, long, default_value = ".")]
    dir: PathBuf,
    /// Download these files only: a pattern such as '*.iso' or 'docs/*', or a file's number in the torrent, from 0
    #[arg(long, value_name = "GLOB|INDEX")]
    select: Vec<String>,
    /// Of a magnet link: save what peers said the torrent is, as a .torrent file
    #[arg(long, value_name = "FILE")]
    save_torrent: Option<PathBuf>,
    /// Fetch the pieces in order, not the rarest first
    #[arg(long)]
    sequential: bool,
    /// Go on uploading after completion, until stopped
    #[arg(long)]
    seed: bool,
    /// Seed until so many times the torrent's length is uploaded
    #[arg(long, value_name = "X", value_parser = parse_ratio)]
    seed_ratio: Option<f64>,
    /// Seed for so long
    #[arg(long, value_name = "DUR", value_parser = units::parse_duration)]
    seed_time: Option<Duration>,
    /// Give up with exit code 5 if nothing comes for so long, such as 90s or 10m
    #[arg(long, value_name = "DUR", value_parser = units::parse_duration)]
    timeout: Option<Duration>,
    /// Reserve the space of a file when its first byte comes, or let it grow as it is needed
    #[arg(long, value_enum, value_name = "full|sparse", default_value = "sparse")]
    allocate: Allocate,
    /// Replace what stands in the place of the torrent's files, even if it is not from an earlier download, and the FILE
    /// of --save-torrent
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    network: NetworkArgs,
    /// Print one JSON object a line for each event
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Allocate {
    Full,
    Sparse,
}

impl From<Allocate> for Allocation {
    fn from(allocate: Allocate) -> Self {
        match allocate {
            Allocate::Full => Self::Full,
            Allocate::Sparse => Self::Sparse,
        }
    }
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio: &f64| ratio.is_finite());
    let ratio = ratio.filter(|ratio| *ratio >= 0.0);
    ratio.ok_or_else(|| format!("'{text}' is not a ratio; write for example 1.5"))
}

/// Downloads them.
pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let output = Output::unwaiting(args.json)?;
    swarm::block_on(swarm::telling(output, get(args, context, output)))
}

async fn get(args: &Args, context: &Context, output: Output) -> Result<(), Failure> {
    folder::exists(&args.dir)?;
    let chosen = Chosen::parse(&args.select)?;
    let loading = async {
        let mut torrents = Vec::new();
        for source in &args.source {
            let source = Source::load(source, context.stop.clone()).await?;
            let wanted = match &source {
                Source::Torrent(metainfo) => chosen.pieces(&metainfo.info)?,
                Source::Magnet(_) => None,
            };
            torrents.push((source, wanted));
        }
        Ok((torrents, args.network.torrent().await?))
    };
    let loading = within(args.timeout, loading);
    let (torrents, options) = swarm::unless_stopped(context, loading).await?;
    let goal = Goal {
        only_seed: false,
        seed: args.seed || args.seed_ratio.is_some() || args.seed_time.is_some(),
        seed_ratio: args.seed_ratio,
        seed_time: args.seed_time,
        timeout: args.timeout,
    };
    let mut swarm = Swarm::new(&args.network, output, context.quiet, goal)?;
    if let Some(path) = &args.save_torrent {
        save::check_free(path, args.force)?;
        swarm.save_torrent_as(path.clone(), args.force);
    }
    for (source, wanted) in torrents {
        let mut options = options.clone();
        options.wanted = wanted;
        options.sequential = args.sequential;
        options.force = args.force;
        options.allocation = args.allocate.into();
        match source {
            Source::Torrent(metainfo) => {
                let total_length = metainfo.info.layout().total_length();
                options.upload_goal = args.seed_ratio.map(|ratio| share(ratio, total_length));
                swarm.add(*metainfo, &args.dir, options)?;
            }
            Source::Magnet(magnet) => {
                options.choose = chosen.later();
                swarm.add_magnet(*magnet, &args.dir, options)?;
            }
        }
    }
    swarm.run(context.stop.clone()).await
}

/// So many times the length, in bytes, rounded up.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a ratio is not exact, is not negative, and ends at the largest number"
)]
pub(crate) fn share(ratio: f64, total_length: u64) -> u64 {
    (ratio * total_length as f64).ceil() as u64
}

/// What is fetched before there is a swarm, bounded by `--timeout` too.
async fn within<T>(
    timeout: Option<Duration>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(timeout) = timeout else {
        return work.await;
    };
    let late = |_| Failure::new(Exit::Network, "no torrent was had before --timeout");
    tokio::time::timeout(timeout, work).await.map_err(late)?
}

/// The files that the user wants.
#[derive(Clone, Debug)]
struct Chosen(Vec<Choice>);

#[derive(Clone, Debug)]
enum Choice {
    Index(usize),
    Pattern(GlobMatcher),
}

impl Choice {
    /// As it was given.
    fn text(&self) -> String {
        match self {
            Self::Index(index) => index.to_string(),
            Self::Pattern(glob) => glob.glob().glob().to_owned(),
        }
    }
}

impl Chosen {
    fn parse(choices: &[String]) -> Result<Self, Failure> {
        let parse = |choice: &String| {
            if let Ok(index) = choice.parse() {
                return Ok(Choice::Index(index));
            }
            let glob = Glob::new(choice).with_context(|| format!("--select {choice}"));
            let exit = Exit::Usage;
            glob.map(|glob| Choice::Pattern(glob.compile_matcher()))
                .or_exit(exit)
        };
        choices
            .iter()
            .map(parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The same choice for a torrent that is not known yet; `None` if the user leaves it to the link.
    fn later(&self) -> Option<Choose> {
        let chosen = self.clone();
        let choose = move |info: &Info| {
            let pieces = chosen.pieces(info);
            pieces.map_err(|failure| failure.error.to_string())
        };
        (!self.0.is_empty()).then(|| Choose::new(choose))
    }

    /// The pieces in which chosen files lie; `None` if the user wants everything.
    fn pieces(&self, info: &Info) -> Result<Option<Bitfield>, Failure> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let is_chosen = |index: usize, file: &FileEntry| {
            let inside: PathBuf = file.path.components().skip(1).collect();
            file.is_stored()
                && self.0.iter().any(|choice| match choice {
                    Choice::Index(chosen) => *chosen == index,
                    Choice::Pattern(glob) => glob.is_match(&file.path) || glob.is_match(&inside),
                })
        };
        let mut files = info.files().iter().enumerate();
        if !files.any(|(index, file)| is_chosen(index, file)) {
            let choices: Vec<String> = self.0.iter().map(Choice::text).collect();
            let (choices, name) = (choices.join(", "), info.name());
            let message = format!("--select {choices}: no file of {name} is meant by it");
            return Err(Failure::new(Exit::Usage, message));
        }
        Ok(Some(info.pieces_of(is_chosen)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bt_metainfo::Builder;

    fn check(select: &[&str], expected: Option<&[u32]>) {
        let hashes = [[0; 20]; 5];
        let torrent = Builder::folder("top", 16_384)
            .with_file(["a.txt"], 20_000)
            .with_file(["docs", "b.txt"], 10_000)
            .with_file(["docs", "empty"], 0)
            .with_file(["docs", "deep", "c.iso"], 50_000)
            .build(&hashes)
            .unwrap();
        let select: Vec<String> = select.iter().map(|&choice| choice.to_owned()).collect();
        let chosen = Chosen::parse(&select).and_then(|chosen| chosen.pieces(&torrent.info));
        let pieces = |field: Bitfield| field.iter().map(bt_core::PieceIndex::get).collect();
        let got: Option<Vec<u32>> = chosen.ok().map(|field| field.map_or(vec![99], pieces));
        assert_eq!(got.as_deref(), expected, "{select:?}");
    }

    #[test]
    fn files_are_chosen_by_number_and_pattern() {
        check(&[], Some(&[99]));
        check(&["0"], Some(&[0, 1]));
        check(&["1"], Some(&[1]));
        check(&["2"], Some(&[]));
        check(&["3"], Some(&[1, 2, 3, 4]));
        check(&["4"], None);
        check(&["*.txt"], Some(&[0, 1]));
        check(&["docs/*"], Some(&[1, 2, 3, 4]));
        check(&["top/a.txt"], Some(&[0, 1]));
        check(&["*.iso", "0"], Some(&[0, 1, 2, 3, 4]));
        check(&["nothing"], None);
        check(&["[bad"], None);
    }

    #[test]
    fn ratios() {
        for (ratio, length, bytes) in [(0.0, 9, 0), (0.5, 9, 5), (2.0, 9, 18), (1e300, 9, u64::MAX)]
        {
            assert_eq!(share(ratio, length), bytes);
        }
        assert_eq!(parse_ratio("1.5"), Ok(1.5));
        for wrong in ["-1", "inf", "NaN", "x"] {
            assert!(parse_ratio(wrong).is_err(), "{wrong}");
        }
    }
}
