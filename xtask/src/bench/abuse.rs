//! `cargo xtask bench abuse`: for minutes, honest peers beside all that strangers send a tracker: bad requests, floods of torrents,
//! peers and connects, silent and dripping connections, stolen and invented connection ids.
//!
//! It fails unless each honest question is answered rightly and within a second of running time, each bad one as it should
//! be, nothing is logged as a warning, and memory stays flat once the limits are reached, which are small so that this is
//! soon. Running time is what is left of a second on the clock when the time is taken away in which this program had no core, or
//! the tracker's thread was ready to run and had none: [`watch`] measures that.

mod account;
mod drip;
mod honest;
mod packet;
mod request;
mod rows;
mod talk;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::process::{Line, Process};
use crate::programs::Programs;
use account::{Account, Over};
use watch::Kept;

/// The limits of the tracker that is abused: a flood of a thousand a second reaches them in half a minute.
const SETTINGS: &str = "torrents_max = 20000\npeers_max = 50000\nconnections_max = 1000\n";

/// In the last quarter of the time memory may be larger than in the second by this part: a table doubles now and then, a leak goes on.
const GROWTH_PART: u64 = 20;

/// And so many bytes: pages come and go with connections.
const GROWTH_BYTES: u64 = 1 << 20;

/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Files that this program opens: a thousand and a half connections that drip, and some more.
const FILES: u64 = 4_096;

/// A tracker says where it listens by then, and ends by then.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long, in minutes: 1 to 120
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=120))]
    minutes: u64,
    /// Abuse this `bt-trackerd` instead of building one
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Where the tracker listens.
#[derive(Debug, Clone, Copy)]
struct Target {
    http: SocketAddr,
    udp: SocketAddr,
}

/// Takes a turn each `every` until `stop`; what a turn fails with is wrong.
fn pace(
    account: &mut Account,
    every: Duration,
    stop: &AtomicBool,
    mut turn: impl FnMut(&mut Account) -> Result<()>,
) {
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = turn(account) {
            account.wrong(format!("{error:#}"));
        }
        // After a turn that took long there is no catching up.
        next = (next + every).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// Abuses a tracker and judges how it took that.
pub(crate) fn run(args: &Args) -> Result<()> {
    let program = match &args.program {
        Some(program) => program.canonicalize().context("--program")?,
        None => Programs::build()?.trackerd,
    };
    let files = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: files
            .maximum
            .map_or(Some(FILES), |most| Some(most.min(FILES))),
        ..files
    };
    setrlimit(Resource::Nofile, wanted).context("the number of open files")?;
    let folder = tempfile::tempdir().context("a folder for the tracker")?;
    let settings = folder.path().join("settings");
    std::fs::write(&settings, SETTINGS).context("the tracker's settings")?;
    let mut command = Command::new(program);
    command
        .args(["--json", "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"])
        .arg("--config")
        .arg(settings)
        .env("RUST_LOG", "warn");
    let (sender, lines) = mpsc::channel();
    let mut process = Process::spawn("bt-trackerd", command, 0, sender)?;
    let target = addresses(&lines).with_context(|| process.obituary())?;
    let span = Duration::from_secs(args.minutes * 60);
    let (accounts, kept, memory) = abuse(target, &mut process, span)?;
    process.terminate();
    let ended = process.wait(PATIENCE)?;
    for account in &accounts {
        println!("{}", account.show());
    }
    println!("without a core, in all and at a time: {}", kept.show());
    println!("memory in MiB, each tenth's most: {}", tenths(&memory));
    let mut wrongs: Vec<String> = accounts
        .iter()
        .filter(|account| account.is_bad())
        .map(|account| account.name.to_owned())
        .collect();
    wrongs.extend(growth(&memory));
    if !ended.is_some_and(|status| status.success()) {
        wrongs.push(process.obituary());
    } else if !process.last_words().is_empty() {
        wrongs.push(format!("it logged: {}", process.last_words().join("\n")));
    }
    if !wrongs.is_empty() {
        bail!("abuse: {}", wrongs.join("; "));
    }
    println!("abuse: {} min, nothing wrong", args.minutes);
    Ok(())
}

/// All kinds of load at once; returns what came of them, who had no core when, and the memory of the tracker meanwhile.
fn abuse(
    target: Target,
    process: &mut Process,
    span: Duration,
) -> Result<(Vec<Account>, Kept, Vec<u64>)> {
    let (stop, all_heard) = (AtomicBool::new(false), AtomicBool::new(false));
    let kinds: [fn(Target, &AtomicBool) -> Account; 9] = [
        honest::over_http,
        honest::over_udp,
        request::malformed,
        request::floods_of_torrents,
        request::floods_of_peers,
        drip::connections,
        packet::noise,
        packet::floods_of_torrents,
        packet::floods_of_connects,
    ];
    let (mut memory, mut accounts) = (Vec::new(), Vec::new());
    let tracker = process.id();
    let (watched, kept) = std::thread::scope(|scope| {
        let stop = &stop;
        let all_heard = &all_heard;
        let sleeper = scope.spawn(move || watch::run(tracker, all_heard));
        let threads = kinds.map(|kind| scope.spawn(move || kind(target, stop)));
        let deadline = Instant::now() + span;
        let mut watch = || -> Result<()> {
            while Instant::now() < deadline {
                if process.wait(LOOK_EVERY)?.is_some() {
                    bail!("it ended: {}", process.obituary());
                }
                memory.push(process.memory_bytes()?);
            }
            Ok(())
        };
        let watched = watch();
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            accounts.extend(thread.join());
        }
        all_heard.store(true, Ordering::Relaxed);
        let kept = sleeper.join().unwrap_or_default();
        for account in &mut accounts {
            account.judge(&kept);
        }
        (watched, kept)
    });
    watched?;
    if accounts.len() < kinds.len() {
        bail!("a kind of load ended in a panic");
    }
    Ok((accounts, kept, memory))
}

fn addresses(lines: &Receiver<Line>) -> Result<Target> {
    let mut addrs = Vec::new();
    for transport in ["http", "udp"] {
        let line = lines.recv_timeout(PATIENCE).context("it does not listen")?;
        let said: serde_json::Value = serde_json::from_str(&line.text)?;
        let word = |key| said.get(key).and_then(serde_json::Value::as_str);
        if word("transport") != Some(transport) {
            bail!("not the address for {transport}: {}", line.text);
        }
        let addr = word("addr").and_then(|addr| addr.parse().ok());
        addrs.push(addr.context("an address")?);
    }
    match *addrs {
        [http, udp] => Ok(Target { http, udp }),
        _ => bail!("two addresses"),
    }
}

/// Says how much memory grew, if it was too much.
fn growth(memory: &[u64]) -> Option<String> {
    let quarter = memory.len() / 4;
    let most = |part: usize| {
        let part = memory.chunks(quarter.max(1)).nth(part);
        part.and_then(|part| part.iter().max()).copied()
    };
    let (early, late) = (most(1)?, most(3)?);
    let allowed = early + early / GROWTH_PART + GROWTH_BYTES;
    (late > allowed).then(|| format!("memory grew from {early} to {late} bytes"))
}

fn tenths(memory: &[u64]) -> String {
    let tenth = memory.len().div_ceil(10).max(1);
    let most = memory.chunks(tenth).filter_map(|part| part.iter().max());
    let shown: Vec<String> = most
        .map(|bytes| format!("{:.1}", *bytes as f64 / f64::from(1 << 20)))
        .collect();
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_goes_on_growing_is_told() {
        let mib = |mib: u64| mib << 20;
        // It fills, then it stays; then it grows a little, or on and on.
        let rows: [(Vec<u64>, bool); 4] = [
            ([vec![mib(5); 10], vec![mib(40); 30]].concat(), false),
            ([vec![mib(40); 30], vec![mib(42); 10]].concat(), false),
            ([vec![mib(40); 30], vec![mib(44); 10]].concat(), true),
            ((0..40).map(|n| mib(40 + n)).collect(), true),
        ];
        for (memory, grew) in rows {
            assert_eq!(growth(&memory).is_some(), grew, "{}", tenths(&memory));
        }
        assert_eq!(tenths(&[mib(1); 20]).split(' ').count(), 10);
    }
}
