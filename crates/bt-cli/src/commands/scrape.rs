//! `bt scrape`: how many take part in a torrent, as its trackers have it.

use super::Context;
use crate::exit::{Exit, Failure};
use crate::network::{self, TrackerDnsArgs};
use crate::output::Output;
use crate::swarm;
use crate::text::escape;
use anyhow::Context as _;
use bt_core::InfoHash;
use bt_session::announce::{ScrapeError, scrape};
use core::fmt;
use serde::Serialize;
use std::sync::Arc;
use tokio::task::JoinHandle;
use url::Url;

/// Ask trackers how many take part in a torrent
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A .torrent file or the URL of one, all of whose trackers are asked; or the announce URL of a tracker
    source: String,
    /// With a tracker's URL: the torrents to ask for
    info_hash: Vec<InfoHash>,
    #[command(flatten)]
    dns: TrackerDnsArgs,
    /// Print one JSON object a line for each answer
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Scraped<'a> {
    url: &'a str,
    info_hash: String,
    complete: u32,
    incomplete: u32,
    downloaded: u32,
    /// Those of the incomplete that download (BEP 21), if the tracker tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    downloaders: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Failed<'a> {
    url: &'a str,
    error: String,
}

/// Asks them.
pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    swarm::block_on(swarm::unless_stopped(context, ask(args, context)))
}

async fn ask(args: &Args, context: &Context) -> Result<(), Failure> {
    let (trackers, torrents) = trackers(&args.source, &args.info_hash, context).await?;
    let output = Output::new(args.json);
    let mut answers = Answers::new(output);
    let torrents: Arc<[InfoHash]> = torrents.into();
    let dns = args.dns.tracker_dns;
    let asked = ask_each(&trackers, |url| {
        let torrents = Arc::clone(&torrents);
        async move { scrape(&url, &torrents, dns).await }
    });
    for (url, answer) in asked {
        match answer.await.context("the asking ended early")? {
            Ok(response) => {
                answers.came();
                for torrent in &*torrents {
                    let found = response.torrents.iter().find(|t| t.info_hash == *torrent);
                    let entry = found.map(|found| found.entry).unwrap_or_default();
                    let scraped = Scraped {
                        url,
                        info_hash: torrent.to_string(),
                        complete: entry.complete,
                        incomplete: entry.incomplete,
                        downloaded: entry.downloaded,
                        downloaders: entry.downloaders,
                        name: found.and_then(|found| found.name.as_deref()),
                    };
                    print(output, &scraped)?;
                }
            }
            Err(error) => answers.failed(url, &error, exit_of(&error))?,
        }
    }
    answers.end()
}

/// How the asking goes. If nobody answers, the last failure is the program's last words, so it is told as no other.
pub(super) struct Answers {
    output: Output,
    any: bool,
    last: Option<Failure>,
}

impl Answers {
    pub(super) const fn new(output: Output) -> Self {
        Self {
            output,
            any: false,
            last: None,
        }
    }

    pub(super) const fn came(&mut self) {
        self.any = true;
    }

    /// # Errors
    /// If stdout cannot be written.
    pub(super) fn failed(
        &mut self,
        url: &str,
        error: &impl fmt::Display,
        exit: Exit,
    ) -> Result<(), Failure> {
        self.warn_of_last();
        let error = error.to_string();
        self.last = Some(Failure::new(exit, format!("{url}: {error}")));
        self.output.json(&Failed { url, error })
    }

    /// # Errors
    /// If there was no answer.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        if self.any {
            self.warn_of_last();
        }
        self.last.map_or(Ok(()), Err)
    }

    fn warn_of_last(&mut self) {
        if let Some(failure) = self.last.take() {
            tracing::warn!("{}", escape(&failure.to_string()));
        }
    }
}

/// Asks the trackers beside each other, so that a silent one costs no more than its own time. Their answers come in the
/// order of the list, which is bounded: a torrent has at most [`TRACKERS_MAX`](bt_metainfo::urls::TRACKERS_MAX).
pub(super) fn ask_each<'a, F>(
    trackers: &'a [String],
    ask: impl Fn(String) -> F,
) -> Vec<(&'a str, JoinHandle<F::Output>)>
where
    F: Future<Output: Send> + Send + 'static,
{
    let start = |url: &'a String| (url.as_str(), tokio::spawn(ask(url.clone())));
    trackers.iter().map(start).collect()
}

/// Which trackers are to be asked about which torrents.
///
/// # Errors
/// If the source is none, or names no tracker; or a tracker's URL stands without info hashes.
pub(super) async fn trackers(
    source: &str,
    info_hashes: &[InfoHash],
    context: &Context,
) -> Result<(Vec<String>, Vec<InfoHash>), Failure> {
    if !info_hashes.is_empty() {
        return Ok((vec![source.to_owned()], info_hashes.to_vec()));
    }
    if is_tracker(source) {
        let message = format!("{source}: name the info hashes to ask this tracker for");
        return Err(Failure::new(Exit::Usage, message));
    }
    let metainfo = network::load(source, &context.stop).await?;
    let trackers: Vec<String> = metainfo.trackers.into_iter().flatten().collect();
    if trackers.is_empty() {
        return Err(Failure::new(Exit::Invalid, "the torrent names no tracker"));
    }
    Ok((trackers, vec![metainfo.info_hash]))
}

/// True for an announce URL: one whose last part begins so (BEP 48), or of a scheme that only trackers have.
fn is_tracker(source: &str) -> bool {
    Url::parse(source).is_ok_and(|url| {
        let last = url.path_segments().and_then(Iterator::last);
        url.scheme() == "udp" || last.is_some_and(|last| last.starts_with("announce"))
    })
}

fn print(output: Output, scraped: &Scraped<'_>) -> Result<(), Failure> {
    output.json(scraped)?;
    output.line(format!(
        "{}  {} seeders  {} leechers  {} completed  {}",
        scraped.info_hash,
        scraped.complete,
        scraped.incomplete,
        scraped.downloaded,
        escape(scraped.url)
    ))
}

const fn exit_of(error: &ScrapeError) -> Exit {
    match error {
        ScrapeError::Unsupported { .. } => Exit::Invalid,
        ScrapeError::Http(_) | ScrapeError::Tracker(_) | _ => Exit::Network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use tokio::sync::Barrier;

    #[tokio::test]
    async fn trackers_are_asked_beside_each_other_and_told_in_order() {
        let trackers = ["c", "a", "b"].map(str::to_owned);
        let all = Arc::new(Barrier::new(trackers.len()));
        let asked = ask_each(&trackers, |url| {
            let all = Arc::clone(&all);
            async move {
                // Nobody has an answer before everybody was asked.
                all.wait().await;
                url
            }
        });
        for ((url, answer), expected) in asked.into_iter().zip(&trackers) {
            let answer = tokio::time::timeout(Duration::from_secs(60), answer).await;
            assert_eq!(answer.expect("all are asked").unwrap(), *expected);
            assert_eq!(url, expected);
        }
    }
}
