//! `cargo xtask tracker-test`: trackers that share their swarms through a real Redis, which is killed, emptied and stopped
//! meanwhile.
//!
//! What is demanded: no announce fails or waits, whatever happens to the store; peers of one tracker are seen through the
//! others; and once the store is back, so is everything that it should know.

mod redis;
mod tls;
mod trackers;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::programs::Programs;
use redis::Redis;
use trackers::{Tracker, announce};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install redis-server (Debian) if it is missing, instead of failing
    #[arg(long)]
    install: bool,
    /// Take bt-trackerd from this folder instead of building it
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// What is told to one tracker is known to all by then. It takes a tenth of a second on an idle machine.
const SPREAD: Duration = Duration::from_secs(20);

/// A store that is back is in use again by then: its trackers try again after ten seconds and a bit at the latest, and read
/// swarms as a whole once more after twenty.
const HEAL: Duration = Duration::from_secs(40);

/// How long the store is away: longer than the trackers' patience with it.
const AWAY: Duration = Duration::from_secs(3);

/// No announce may take longer, store or not.
const ANSWER: Duration = Duration::from_secs(2);

/// The torrents of the load. The tests have others.
const LOAD_TORRENTS: u64 = 500;

pub(crate) fn run(args: &Args) -> Result<()> {
    redis::need(args.install)?;
    let programs = match &args.programs {
        Some(folder) => Programs::in_folder(folder)?,
        None => Programs::build()?,
    };
    crate::stop::install()?;
    let folder = tempfile::tempdir().context("a folder")?;
    let mut redis = Redis::start(folder.path())?;
    let start = |name: &str| Tracker::start(name, &programs.trackerd, &redis.url());
    let mut three = [start("first")?, start("second")?, start("third")?];
    three
        .iter()
        .try_for_each(|tracker| tracker.until_health("ok"))?;
    peers_are_seen_everywhere(&three)?;

    let [first, second, third] = &mut three;
    let addrs = [first.addr, second.addr];
    let during = |what: &str, test: &mut dyn FnMut() -> Result<()>| under_load(&addrs, what, test);
    announce(third.addr, 'k', 7_001, "&left=0")?;
    first.until_sees('k', &[7_001], SPREAD)?;
    during("a tracker is killed", &mut || {
        third.process.kill()?;
        for tracker in [&*first, &*second] {
            tracker.until_sees('k', &[7_001], SPREAD)?;
        }
        start("fourth")?.until_sees('k', &[7_001], SPREAD)
    })?;
    let url = redis.url();
    during("the store is killed and comes back empty", &mut || {
        redis.kill()?;
        first.until_health("degraded")?;
        announce(first.addr, 'e', 7_002, "&left=0")?;
        announce(second.addr, 'e', 7_003, "&left=5&event=completed")?;
        announce(second.addr, 'e', 7_003, "&left=0&event=completed")?;
        std::thread::sleep(AWAY);
        redis.start_again()?;
        first.until_health("ok")?;
        second.until_health("ok")?;
        let fresh = Tracker::start("fresh", &programs.trackerd, &url)?;
        // What it knew before, and what it was never told.
        fresh.until_sees('k', &[7_001], HEAL)?;
        fresh.until_sees('e', &[7_002, 7_003], HEAL)?;
        fresh.until_downloaded('e', 1)
    })?;
    during("the store is stopped", &mut || {
        redis.signal(Signal::STOP)?;
        second.until_health("degraded")?;
        announce(first.addr, 's', 7_004, "&left=0")?;
        std::thread::sleep(AWAY);
        redis.signal(Signal::CONT)?;
        second.until_health("ok")?;
        second.until_sees('s', &[7_004], HEAL)
    })?;
    tls::test(&programs.trackerd, folder.path())?;
    println!("tracker-test: passed");
    Ok(())
}

/// Thirty peers told to three trackers in turn, and what becomes of them.
fn peers_are_seen_everywhere(three: &[Tracker; 3]) -> Result<()> {
    let ports: Vec<u16> = (7_100..7_130).collect();
    for (port, tracker) in ports.iter().zip(three.iter().cycle()) {
        announce(tracker.addr, 'a', *port, "&left=5&event=started")?;
    }
    for tracker in three {
        tracker.until_sees('a', &ports, SPREAD)?;
    }
    let [first, second, third] = three;
    // Who leaves one has left all; who completes at one is counted by all.
    announce(first.addr, 'a', 7_129, "&left=5&event=stopped")?;
    announce(second.addr, 'a', 7_100, "&left=0&event=completed")?;
    for tracker in [second, third] {
        tracker.until_misses('a', 7_129)?;
    }
    third.until_downloaded('a', 1)?;
    println!("tracker-test: peers of one tracker are seen through the others");
    Ok(())
}

/// Announces go on at `addrs` as fast as they are answered, until `test` is done; none may fail.
fn under_load(
    addrs: &[std::net::SocketAddr],
    what: &str,
    test: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let (done, answered, slowest) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let load = |addr: std::net::SocketAddr| -> Result<()> {
        for turn in 0_u64.. {
            if done.load(Ordering::Relaxed) {
                break;
            }
            let began = Instant::now();
            let torrent = format!("load{:016}", turn % LOAD_TORRENTS);
            let port = 10_000 + turn / LOAD_TORRENTS % 1_000;
            trackers::announce_torrent(addr, &torrent, u16::try_from(port)?, "&left=5")
                .with_context(|| format!("{what}: an announce failed"))?;
            let took = began.elapsed();
            if took > ANSWER {
                bail!("{what}: an announce took {took:?}");
            }
            let micros = u64::try_from(took.as_micros())?;
            slowest.fetch_max(micros, Ordering::Relaxed);
            answered.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let (tested, loaded) = std::thread::scope(|scope| {
        let load = &load;
        let loads: Vec<_> = addrs
            .iter()
            .map(|addr| scope.spawn(|| load(*addr)))
            .collect();
        let tested = test().with_context(|| what.to_owned());
        done.store(true, Ordering::Relaxed);
        let ended = loads.into_iter().map(|load| load.join());
        let loaded: Vec<_> = ended.collect();
        (tested, loaded)
    });
    tested?;
    for load in loaded {
        match load {
            Ok(ended) => ended?,
            Err(_) => bail!("{what}: the load panicked"),
        }
    }
    println!(
        "tracker-test: {what}: {} announces answered, the slowest after {:.0} ms",
        answered.load(Ordering::Relaxed),
        slowest.load(Ordering::Relaxed) as f64 / 1_000.0,
    );
    Ok(())
}
