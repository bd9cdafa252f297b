//! The command line, and the swarms that have a name on it.

use bt_core::Layout;
use bt_sim::{DiskKind, Scenario};
use core::time::Duration;
use std::num::NonZeroUsize;

pub(crate) const USAGE: &str = "usage: sim [--scenario chaos|flash|even|super|thousand|ten-thousand] \
[--size MIB] [--piece KIB] \
[--seed N] [--seeds N] [--minutes M] [--threads N] [--trace FILE] [--csv FILE] [--verbose]";

/// The payload of the even crowd, in MiB, and its pieces, in KiB.
const EVEN_MEBIBYTES: u64 = 256;
const EVEN_PIECE_KIBIBYTES: u32 = 1_024;

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
    pub(crate) scenario: Swarm,
    /// The payload and its pieces, in place of the scenario's own; for `even` and `super`.
    pub(crate) layout: Option<Layout>,
    /// Some seeds are run twice, to see that both runs are the same.
    pub(crate) repeats: bool,
}

/// The swarm of a seed, with another layout than its own if it takes one.
pub(crate) type Swarm = fn(u64, Option<Layout>) -> Scenario;

fn named(name: &str) -> Option<Swarm> {
    Some(match name {
        "chaos" => |seed, _| Scenario::random(seed),
        "flash" => |seed, _| crowd(seed, 50, 64 << 20, 1 << 18),
        "even" => even,
        "super" => |seed, layout| even(seed, layout).super_seeded(),
        "thousand" => |seed, _| crowd(seed, 1_000, 16 << 20, 1 << 18),
        "ten-thousand" => |seed, _| crowd(seed, 10_000, 2 << 20, 1 << 17),
        _ => return None,
    })
}

/// Everybody comes at once to one seeder, all over lines of 1 MB/s.
fn crowd(seed: u64, leechers: usize, bytes: u64, piece_length: u32) -> Scenario {
    let layout = Layout::new(bytes, piece_length).expect("constants in range");
    let mut scenario = Scenario::flash_crowd(seed, layout, leechers, 1_000_000);
    scenario.settings.disk = DiskKind::Stamped;
    scenario
}

/// Fifty at once, where nobody has more than anybody else: 10 Mbit/s both ways, and 50 ms from peer to peer.
fn even(seed: u64, layout: Option<Layout>) -> Scenario {
    const LINE: u64 = 1_250_000;
    let own = Layout::new(EVEN_MEBIBYTES << 20, EVEN_PIECE_KIBIBYTES << 10);
    let layout = layout.unwrap_or(own.expect("constants in range"));
    let mut scenario = Scenario::flash_crowd(seed, layout, 50, LINE);
    scenario.settings.disk = DiskKind::Stamped;
    for (host, _) in &mut scenario.hosts {
        host.down = Some(LINE);
        host.latency = Duration::from_millis(25);
    }
    scenario
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
        scenario: |seed, _| Scenario::random(seed),
        layout: None,
        repeats: true,
    };
    let (mut seeds, mut seed) = (None, None);
    let (mut size_mebibytes, mut piece_kibibytes) = (None, None);
    let mut is_even = false;
    while let Some(word) = words.next() {
        if word == "--verbose" {
            arguments.verbose = true;
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
                is_even = value == "even" || value == "super";
                let known = named(&value);
                arguments.scenario = known.ok_or(format!("{value:?} is no scenario"))?;
                // The large ones take too long to be run twice.
                arguments.repeats = value == "chaos";
            }
            other => return Err(format!("{other:?} is no option")),
        }
    }
    arguments.layout = layout_of(is_even, size_mebibytes, piece_kibibytes)?;
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
    is_even: bool,
    size: Option<u64>,
    piece: Option<u64>,
) -> Result<Option<Layout>, String> {
    if size.is_none() && piece.is_none() {
        return Ok(None);
    }
    if !is_even {
        return Err("--size and --piece are of --scenario even or super".to_owned());
    }
    let size = size.unwrap_or(EVEN_MEBIBYTES);
    let piece = piece.unwrap_or(EVEN_PIECE_KIBIBYTES.into());
    let wrong = || format!("{size} MiB in pieces of {piece} KiB is no torrent");
    let bytes = size.checked_mul(1 << 20).ok_or_else(wrong)?;
    let piece = piece.checked_mul(1 << 10).ok_or_else(wrong)?;
    let piece = u32::try_from(piece).map_err(|_| wrong())?;
    Layout::new(bytes, piece).map(Some).map_err(|_| wrong())
}
