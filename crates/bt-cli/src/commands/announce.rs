//! `bt announce`: asks trackers for peers once, as a client would, and takes leave again.

use super::{Context, scrape};
use crate::exit::{Exit, Failure};
use crate::network::TrackerDnsArgs;
use crate::output::Output;
use crate::swarm;
use crate::text::escape;
use anyhow::Context as _;
use bt_core::InfoHash;
use bt_session::announce::{AnnounceResponse, Visit};
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Announce to trackers once, over HTTP or UDP, and print the peers that they name
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A .torrent file or the URL of one, all of whose trackers are asked; or the announce URL of a tracker
    source: String,
    /// With a tracker's URL: the torrents to announce
    info_hash: Vec<InfoHash>,
    /// The port that the trackers are told; nobody listens there
    #[arg(long, value_name = "N", default_value_t = 6881)]
    port: u16,
    /// How many peers are wanted [default: as many as the tracker likes]
    #[arg(long, value_name = "N")]
    numwant: Option<u32>,
    /// Ask from this address only
    #[arg(long, value_name = "ADDR")]
    bind: Option<IpAddr>,
    #[command(flatten)]
    dns: TrackerDnsArgs,
    /// Stay in the trackers' lists instead of taking leave
    #[arg(long)]
    keep: bool,
    /// Print one JSON object a line for each answer
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Announced<'a> {
    url: &'a str,
    info_hash: String,
    /// Seconds.
    interval: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    complete: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'a str>,
    peers: Vec<SocketAddr>,
}

/// Asks them.
pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    if args.port == 0 {
        return Err(Failure::new(
            Exit::Usage,
            "--port 0: trackers take ports from 1 on",
        ));
    }
    swarm::block_on(swarm::unless_stopped(context, ask(args, context)))
}

async fn ask(args: &Args, context: &Context) -> Result<(), Failure> {
    let (trackers, torrents) = scrape::trackers(&args.source, &args.info_hash, context).await?;
    let output = Output::new(args.json);
    let mut answers = scrape::Answers::new(output);
    for info_hash in torrents {
        let dns = args.dns.tracker_dns;
        let visit = Visit::new(args.bind, info_hash, args.port, args.numwant, dns);
        let (visit, keep) = (Arc::new(visit), args.keep);
        let asked = scrape::ask_each(&trackers, |url| {
            let visit = Arc::clone(&visit);
            async move {
                let answer = visit.ask(&url).await;
                if answer.is_ok() && !keep {
                    visit.leave(&url).await;
                }
                answer
            }
        });
        for (url, answer) in asked {
            match answer.await.context("the asking ended early")? {
                Ok(response) => {
                    answers.came();
                    print(output, url, info_hash, &response)?;
                }
                Err(error) => answers.failed(url, &error, Exit::Network)?,
            }
        }
    }
    answers.end()
}

fn print(
    output: Output,
    url: &str,
    info_hash: InfoHash,
    response: &AnnounceResponse,
) -> Result<(), Failure> {
    let peers: Vec<SocketAddr> = response.peers.iter().map(|peer| peer.addr).collect();
    let announced = Announced {
        url,
        info_hash: info_hash.to_string(),
        interval: response.interval.as_secs(),
        complete: response.complete,
        incomplete: response.incomplete,
        external_ip: response.external_ip,
        warning: response.warning.as_deref(),
        peers,
    };
    output.json(&announced)?;
    let count = |count: Option<u32>| count.map_or("?".to_owned(), |count| count.to_string());
    output.line(format!(
        "{info_hash}  {} seeders  {} leechers  {} peers  again in {} s  {}",
        count(response.complete),
        count(response.incomplete),
        announced.peers.len(),
        announced.interval,
        escape(url)
    ))?;
    announced
        .peers
        .iter()
        .try_for_each(|peer| output.line(peer.to_string()))
}
