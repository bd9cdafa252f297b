//! A DHT of many nodes: `dht-sim [NODES [SEED]]` (10,000 nodes, seed 1). Exits 0 if 99 of 100 announced peers are found.
//! `dht-sim store PEERS TORRENTS`: how many peers one node keeps that so many announce themselves to.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program: it talks to its user"
)]

use bt_sim::dht::DhtScenario;
use bt_sim::dht_store::flood;
use std::process::ExitCode;

/// Fewer have hardly a sybil; the sybils of more may not find room in one /16, nor the nodes in memory.
const NODES: core::ops::RangeInclusive<u64> = 10..=100_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [store, peers, torrents] = arguments.as_slice()
        && store == "store"
        && let (Ok(peers), Ok(torrents)) = (peers.parse(), torrents.parse())
    {
        println!("{}", flood(1, peers, torrents));
        return ExitCode::SUCCESS;
    }
    let numbers: Result<Vec<u64>, _> = arguments.iter().map(|text| text.parse()).collect();
    let (nodes, seed) = match numbers.as_deref() {
        Ok([]) => (10_000, 1),
        Ok([nodes]) if NODES.contains(nodes) => (*nodes, 1),
        Ok([nodes, seed]) if NODES.contains(nodes) => (*nodes, *seed),
        _ => {
            eprintln!(
                "usage: dht-sim [NODES [SEED]], with 10 to 100,000 nodes; or dht-sim store PEERS TORRENTS"
            );
            return ExitCode::from(2);
        }
    };
    let report = DhtScenario::new(seed, usize::try_from(nodes).unwrap_or(usize::MAX)).run();
    println!("{report}");
    if report.found * 100 >= report.searches * 99 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
