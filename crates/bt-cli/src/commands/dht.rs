//! `bt dht`: what the DHT knows, and what it is to keep (BEP 5, BEP 44).
//!
//! Each command but `node` joins the DHT as a read-only node (BEP 43), asks, and leaves.

mod key;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::network::{self, dht_bootstrap, state_dir};
use crate::output::Output;
use crate::stop::Stop;
use crate::swarm;
use crate::text::escape;
use crate::units;
use anyhow::Context as _;
use bt_core::InfoHash;
use bt_session::dht::{
    Dht, DhtConfig, Found, Item, NodeId, Outcome, Search, SigningKey, mutable_target, string_value,
    value_string,
};
use key::{hex, parse_target, signing_key};
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::JoinSet;

/// Ask the DHT, store in it, or take part in it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
    /// Use this address only
    #[arg(long, value_name = "ADDR", global = true)]
    bind: Option<IpAddr>,
    /// Use this UDP port [default: any; with `node`, 6881 if it is free]
    #[arg(long, value_name = "N", global = true)]
    port: Option<u16>,
    /// Join through this node instead of the well-known ones; may be repeated
    #[arg(long, value_name = "HOST:PORT", global = true)]
    dht_bootstrap: Vec<String>,
    /// Give up after so long
    #[arg(long, value_name = "DUR", value_parser = units::parse_duration, default_value = "1m", global = true)]
    timeout: Duration,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print the peers of a torrent as they are found
    Lookup {
        /// The torrent's info hash
        info_hash: InfoHash,
    },
    /// Print a stored item
    Get {
        /// Where it is stored, as `put` printed it: 40 hexadecimal digits, or 64 for the public key of a signed item
        target: String,
        /// Which of the key's items it is
        #[arg(long, value_name = "TEXT", default_value = "")]
        salt: String,
    },
    /// Store a text of at most 995 bytes for two hours, and print where
    Put {
        /// The text
        text: String,
        /// Sign it with the key in this file, which is made if it is not there; so it can be replaced later
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Which of the key's items it is
        #[arg(long, value_name = "TEXT", default_value = "", requires = "key")]
        salt: String,
        /// The item's number [default: one higher than what is stored]
        #[arg(long, value_name = "N", requires = "key")]
        seq: Option<i64>,
        /// Only replace the item with this number
        #[arg(long, value_name = "N", requires = "key")]
        cas: Option<i64>,
    },
    /// Ask one node whether it is there
    Ping {
        /// Where it is
        #[arg(value_name = "HOST:PORT")]
        node: String,
    },
    /// Be a node until stopped
    Node,
}

/// Does it.
pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let output = Output::new(args.json);
    let mut stop = context.stop.clone();
    swarm::block_on(async {
        let mut tasks = JoinSet::new();
        let dht = start(args, &mut tasks)?;
        if matches!(args.what, What::Node) {
            return be_a_node(&dht, &mut stop, output).await;
        }
        let asking = tokio::time::timeout(args.timeout, ask(args, &dht, output));
        tokio::select! {
            asked = asking => asked.unwrap_or_else(|_| {
                Err(Failure::new(Exit::Network, "the DHT gave no answer before --timeout"))
            }),
            exit = stop.wait() => Err(Failure::new(exit, "stopped before it was done")),
        }
    })
}

fn start(args: &Args, tasks: &mut JoinSet<()>) -> Result<Dht, Failure> {
    let is_node = matches!(args.what, What::Node);
    let single = matches!(args.what, What::Ping { .. });
    let config = DhtConfig {
        // One node is asked, not the DHT.
        bootstrap: if single {
            Vec::new()
        } else {
            dht_bootstrap(&args.dht_bootstrap, args.bind)
        },
        read_only: !is_node,
        // What a node knows is of use to the others; they end too soon to know better than it.
        state_dir: state_dir().filter(|_| is_node),
        on_demand: false,
    };
    let port = args.port.unwrap_or(if is_node { 6881 } else { 0 });
    let dht = Dht::start(config, args.bind, port, tasks).context("cannot use the network")?;
    // Who names a port tells others of it.
    let named = args.port.filter(|port| *port != 0);
    if named.is_some_and(|named| dht.local_addrs().iter().any(|addr| addr.port() != named)) {
        let message = format!("--port {port}: this UDP port is taken, or not allowed");
        return Err(Failure::new(Exit::Failed, message));
    }
    Ok(dht)
}

async fn ask(args: &Args, dht: &Dht, output: Output) -> Result<(), Failure> {
    match &args.what {
        What::Lookup { info_hash } => lookup(dht, *info_hash, output).await,
        What::Get { target, salt } => {
            let target = parse_target(target, salt)?;
            get(dht, target, salt, output).await
        }
        What::Put { text, .. } if text.len() > 995 => {
            let message = "the text is longer than 995 bytes, which is what nodes keep";
            Err(Failure::new(Exit::Usage, message))
        }
        What::Put {
            text,
            key: None,
            salt: _,
            seq: _,
            cas: _,
        } => {
            let item = Item::Immutable(string_value(text.as_bytes()));
            store(dht, item, None, output).await
        }
        What::Put {
            text,
            key: Some(key),
            salt,
            seq,
            cas,
        } => {
            let key = signing_key(key)?;
            let salt = salt.as_bytes();
            let seq = match seq {
                Some(seq) => *seq,
                None => next_seq(dht, &key, salt).await,
            };
            let item = key.sign(salt, seq, string_value(text.as_bytes()));
            store(dht, Item::Mutable(item), *cas, output).await
        }
        What::Ping { node } => ping(dht, node, output).await,
        // Done elsewhere.
        What::Node => Ok(()),
    }
}

#[derive(Serialize)]
struct Peer {
    peer: SocketAddr,
}

#[derive(Serialize)]
struct Summary {
    peers: usize,
    queries: usize,
    hops: u32,
    seconds: f64,
}

async fn lookup(dht: &Dht, info_hash: InfoHash, output: Output) -> Result<(), Failure> {
    let what = Search::Peers {
        info_hash,
        announce: None,
    };
    let mut found = search(dht, what).await;
    let mut seen = BTreeSet::new();
    let mut outcomes = Vec::new();
    while let Some(found) = found.recv().await {
        match found {
            Found::Peers(peers) => {
                for peer in peers.into_iter().filter(|peer| seen.insert(*peer)) {
                    output.line(peer.to_string())?;
                    output.json(&Peer { peer })?;
                }
            }
            Found::Done(outcome) => outcomes.push(*outcome),
        }
    }
    let (queries, took, hops) = cost(&outcomes);
    let seconds = took.as_secs_f64();
    tracing::info!(
        "{} peers, {queries} questions, {hops} hops, {seconds:.2} s",
        seen.len()
    );
    output.json(&Summary {
        peers: seen.len(),
        queries,
        hops,
        seconds,
    })?;
    if seen.is_empty() {
        return Err(Failure::new(
            Exit::Network,
            nothing(&outcomes, "no peer was found"),
        ));
    }
    Ok(())
}

#[derive(Serialize)]
struct Stored {
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<usize>,
}

async fn get(dht: &Dht, target: NodeId, salt: &str, output: Output) -> Result<(), Failure> {
    let salt = salt.as_bytes().to_vec();
    let outcomes = finish(dht, Search::Item { target, salt }).await;
    let Some(item) = newest(&outcomes) else {
        return Err(Failure::new(
            Exit::Network,
            nothing(&outcomes, "no such item was found"),
        ));
    };
    let value = value_string(item.value()).unwrap_or(item.value());
    let value = String::from_utf8_lossy(value).into_owned();
    output.line(escape(&value))?;
    output.json(&Stored {
        target: target.to_string(),
        key: item.as_mutable().map(|item| hex(&item.key)),
        seq: item.as_mutable().map(|item| item.seq),
        value: Some(value),
        nodes: None,
    })
}

async fn store(dht: &Dht, item: Item, cas: Option<i64>, output: Output) -> Result<(), Failure> {
    let target = item.target();
    let key = item.as_mutable().map(|item| hex(&item.key));
    let seq = item.as_mutable().map(|item| item.seq);
    let outcomes = finish(dht, Search::Store { item, cas }).await;
    let nodes = outcomes.iter().map(|outcome| outcome.stored).sum();
    if nodes == 0 {
        let refusal = outcomes.iter().flat_map(|outcome| &outcome.refused).next();
        let message = match refusal {
            Some(error) => format!("no node took it: {error}"),
            None => nothing(&outcomes, "no node took it").to_owned(),
        };
        return Err(Failure::new(Exit::Network, message));
    }
    output.line(target.to_string())?;
    if let Some(key) = &key {
        output.line(format!("public key {key}"))?;
    }
    tracing::info!("{nodes} nodes keep it");
    output.json(&Stored {
        target: target.to_string(),
        key,
        seq,
        value: None,
        nodes: Some(nodes),
    })
}

#[derive(Serialize)]
struct Pong {
    addr: SocketAddr,
    id: String,
    seconds: f64,
}

async fn ping(dht: &Dht, node: &str, output: Output) -> Result<(), Failure> {
    let addrs = network::addresses("", node).await?;
    let addr = addrs.first().copied().context("it has an address")?;
    let outcomes = finish(dht, Search::Ping { addr }).await;
    let answer = outcomes.iter().find(|outcome| !outcome.closest.is_empty());
    let Some((outcome, contact)) =
        answer.and_then(|outcome| Some((outcome, outcome.closest.first()?)))
    else {
        return Err(Failure::new(
            Exit::Network,
            format!("{addr} does not answer"),
        ));
    };
    let seconds = outcome.took.as_secs_f64();
    output.line(format!(
        "{addr}  {}  {:.1} ms",
        contact.id,
        seconds * 1000.0
    ))?;
    output.json(&Pong {
        addr,
        id: contact.id.to_string(),
        seconds,
    })
}

#[derive(Serialize)]
struct Listening {
    addr: SocketAddr,
    id: String,
}

#[derive(Serialize)]
struct Progress {
    addr: SocketAddr,
    id: String,
    good: usize,
    questionable: usize,
    bad: usize,
    torrents: usize,
    peers: usize,
    queries_received: u64,
    queries_sent: u64,
}

async fn be_a_node(dht: &Dht, stop: &mut Stop, output: Output) -> Result<(), Failure> {
    /// From one line of numbers to the next.
    const EVERY: Duration = Duration::from_secs(10);
    for node in dht.status().await {
        let id = node.id.to_string();
        output.line(format!("{}  {id}", node.addr))?;
        let addr = node.addr;
        output.event("listening", None, &Listening { addr, id })?;
    }
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            // Ending is all that a node can be asked to do.
            _ = stop.wait() => break,
            _ = tick.tick() => for node in dht.status().await {
                let [good, questionable, bad] = node.nodes;
                let (torrents, peers) = node.stored;
                let (received, sent) = (node.counters.queries_received, node.counters.queries_sent);
                tracing::info!(
                    "{}: {good} good nodes, {questionable} questionable, {bad} bad; keeps {peers} peers of \
                     {torrents} torrents; {received} questions received, {sent} sent", node.addr
                );
                output.event("progress", None, &Progress {
                    addr: node.addr,
                    id: node.id.to_string(),
                    good,
                    questionable,
                    bad,
                    torrents,
                    peers,
                    queries_received: received,
                    queries_sent: sent,
                })?;
            },
        }
    }
    dht.stop().await;
    Ok(())
}

async fn search(dht: &Dht, what: Search) -> tokio::sync::mpsc::Receiver<Found> {
    dht.search(what).await
}

/// Runs a search to its end.
async fn finish(dht: &Dht, what: Search) -> Vec<Outcome> {
    let mut found = search(dht, what).await;
    let mut outcomes = Vec::new();
    while let Some(found) = found.recv().await {
        if let Found::Done(outcome) = found {
            outcomes.push(*outcome);
        }
    }
    outcomes
}

async fn next_seq(dht: &Dht, key: &SigningKey, salt: &[u8]) -> i64 {
    let what = Search::Item {
        target: mutable_target(&key.public(), salt),
        salt: salt.to_vec(),
    };
    let outcomes = finish(dht, what).await;
    let stored = newest(&outcomes).and_then(Item::as_mutable);
    stored.map_or(1, |item| item.seq.saturating_add(1))
}

fn newest(outcomes: &[Outcome]) -> Option<&Item> {
    let items = outcomes.iter().filter_map(|outcome| outcome.item.as_ref());
    items.max_by_key(|item| item.as_mutable().map_or(0, |item| item.seq))
}

fn cost(outcomes: &[Outcome]) -> (usize, Duration, u32) {
    let queries = outcomes.iter().map(|outcome| outcome.stats.queries).sum();
    let took = outcomes.iter().map(|outcome| outcome.took).max();
    let hops = outcomes.iter().map(|outcome| outcome.stats.hops).max();
    (queries, took.unwrap_or_default(), hops.unwrap_or(0))
}

/// Says so if it was not even possible to ask.
fn nothing(outcomes: &[Outcome], otherwise: &'static str) -> &'static str {
    if outcomes.iter().all(|outcome| outcome.stats.answers == 0) {
        return "no node of the DHT answers; name one with --dht-bootstrap";
    }
    otherwise
}
