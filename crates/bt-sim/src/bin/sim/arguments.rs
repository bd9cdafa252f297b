//! The command line.

use crate::swarms::{self, MEBIBYTES, PIECE_KIBIBYTES, SWARMS, Swarm};
use bt_core::Layout;
use core::time::Duration;
use std::num::NonZeroUsize;

/// What is said to who asks for something else.
pub(crate) fn usage() -> String {
    let names: Vec<&str> = SWARMS.iter().map(|swarm| swarm.name).collect();
    format!(
        "usage: sim [--scenario {}] [--size MIB] [--piece KIB] [--seed N] [--seeds N] [--minutes M] \
         [--threads N] [--trace FILE] [--csv FILE] [--json] [--verbose] [--fail-fast]",
        names.join("|")
    )
}

pub(crate) struct Arguments {
    /// The first seed.
    pub(crate) seed: u64,
    /// How many seeds.
    pub(crate) seeds: u64,
    /// No seed is begun later than this.
    pub(crate) time: Option<Duration>,
    pub(crate) threads: usize,
    pub(crate) trace: Option<String>,
    pub(crate) csv: Option<String>,
    /// Says what each seed came to.
    pub(crate) verbose: bool,
    /// Says what all came to as one JSON object.
    pub(crate) json: bool,
    /// No seed is begun after one that failed.
    pub(crate) fail_fast: bool,
    pub(crate) swarm: &'static Swarm,
    /// The payload and its pieces, in place of the scenario's own, if it takes another.
    pub(crate) layout: Option<Layout>,
    /// Some seeds are run twice, to see that both runs are the same.
    pub(crate) repeats: bool,
}

pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let cores = std::thread::available_parallelism();
    let mut arguments = Arguments {
        seed: 0,
        seeds: 0,
        time: None,
        threads: cores.map_or(1, NonZeroUsize::get),
        trace: None,
        csv: None,
        verbose: false,
        json: false,
        fail_fast: false,
        swarm: swarms::named("chaos").ok_or("no scenario")?,
        layout: None,
        repeats: true,
    };
    let (mut seeds, mut seed) = (None, None);
    let (mut size_mebibytes, mut piece_kibibytes) = (None, None);
    while let Some(word) = words.next() {
        let flag = match word.as_str() {
            "--verbose" => Some(&mut arguments.verbose),
            "--json" => Some(&mut arguments.json),
            "--fail-fast" => Some(&mut arguments.fail_fast),
            _ => None,
        };
        if let Some(flag) = flag {
            *flag = true;
            continue;
        }
        let value = words.next().ok_or(format!("{word} wants a value"))?;
        let number = || -> Result<u64, String> {
            let wrong = |_| format!("{word} wants a number, not {value:?}");
            value.parse().map_err(wrong)
        };
        match word.as_str() {
            "--seed" => seed = Some(number()?),
            "--seeds" => seeds = Some(number()?),
            "--minutes" => arguments.time = Some(Duration::from_secs(60 * number()?)),
            "--threads" => arguments.threads = usize::try_from(number()?.max(1)).unwrap_or(1),
            "--trace" => arguments.trace = Some(value),
            "--csv" => arguments.csv = Some(value),
            "--size" => size_mebibytes = Some(number()?),
            "--piece" => piece_kibibytes = Some(number()?),
            "--scenario" => {
                let known = swarms::named(&value);
                arguments.swarm = known.ok_or(format!("{value:?} is no scenario"))?;
                // The large ones take too long to be run twice.
                arguments.repeats = value == "chaos";
            }
            other => return Err(format!("{other:?} is no option")),
        }
    }
    arguments.layout = layout_of(arguments.swarm, size_mebibytes, piece_kibibytes)?;
    // One seed that is named is run alone; a time without a number of seeds is filled with as many as fit.
    let forever = if arguments.time.is_some() {
        u64::MAX
    } else {
        100
    };
    let alone = seed.is_some() || arguments.trace.is_some() || arguments.csv.is_some();
    let default = if alone || !arguments.repeats {
        1
    } else {
        forever
    };
    arguments.seeds = seeds.unwrap_or(default);
    arguments.seed = seed.unwrap_or(0);
    if arguments.seeds > 1 && (arguments.trace.is_some() || arguments.csv.is_some()) {
        return Err("a trace or a table is of one seed: --seed N".to_owned());
    }
    // What is written is written once.
    arguments.repeats &= arguments.trace.is_none() && arguments.csv.is_none();
    Ok(arguments)
}

/// The layout that was asked for, in MiB and KiB, if any was.
fn layout_of(
    swarm: &Swarm,
    size: Option<u64>,
    piece: Option<u64>,
) -> Result<Option<Layout>, String> {
    if size.is_none() && piece.is_none() {
        return Ok(None);
    }
    if !swarm.takes_layout {
        return Err(format!("{} has a payload of its own", swarm.name));
    }
    let size = size.unwrap_or(MEBIBYTES);
    let piece = piece.unwrap_or(PIECE_KIBIBYTES.into());
    let wrong = || format!("{size} MiB in pieces of {piece} KiB is no torrent");
    let bytes = size.checked_mul(1 << 20).ok_or_else(wrong)?;
    let piece = piece.checked_mul(1 << 10).ok_or_else(wrong)?;
    let piece = u32::try_from(piece).map_err(|_| wrong())?;
    Layout::new(bytes, piece).map(Some).map_err(|_| wrong())
}
