//! What `bt scrape` says of a torrent and what libtorrent says of it are the same, of all trackers and over both transports.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::client::Tools;
use super::net::Host;
use super::tracker::{ALL, Tracker};

/// Downloaders that are told to each tracker.
const LEECHERS: u64 = 2;

/// What a scrape says of one torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct Scraped {
    complete: u64,
    incomplete: u64,
}

/// Compares; how long it took. Our tracker knows a seeder of the torrent already.
pub(super) fn compare(
    torrent: &std::path::Path,
    info_hash: &str,
    tools: &Tools,
) -> Result<Duration> {
    let started = Instant::now();
    for tracker in ALL {
        for _ in 0..LEECHERS {
            let mut tell = Command::new(&tools.bt);
            tell.args(["announce", &tracker.announce_url(), info_hash, "--keep"]);
            let told = Host::new()?.inside(&tell).output().context("bt announce")?;
            ensure!(
                told.status.success(),
                "bt announce: {}",
                String::from_utf8_lossy(&told.stderr).trim()
            );
        }
        let (complete, incomplete) = tracker.scrape(info_hash)?;
        ensure!(
            incomplete == LEECHERS,
            "{} knows {incomplete} downloaders",
            tracker.name()
        );
        let expected = Scraped {
            complete,
            incomplete,
        };
        let mut urls = vec![tracker.udp_url()];
        if tracker != Tracker::Aquatic {
            urls.push(tracker.announce_url());
        }
        for url in urls {
            let mut ours = Command::new(&tools.bt);
            ours.args(["scrape", &url, info_hash, "--json"]);
            let mut theirs = Command::new(&tools.python);
            theirs
                .arg(&tools.script)
                .arg("scrape")
                .arg(torrent)
                .arg(&url);
            for command in [&ours, &theirs] {
                let said = scraped(Host::new()?.inside(command))?;
                if said != expected {
                    let program = command.get_program().display();
                    bail!("{url}: {program} says {said:?}, the tracker {expected:?}");
                }
            }
        }
    }
    Ok(started.elapsed())
}

fn scraped(mut command: Command) -> Result<Scraped> {
    let output = command.output().context("scraping")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{command:?}: {}", said.trim());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(text.trim()).with_context(|| format!("{command:?} printed {text}"))
}
