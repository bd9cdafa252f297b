//! How many announces a tracker's core handles: 1 000 torrents of 100 peers, each peer announcing in turn, and one torrent
//! of 100 000. Parsing and encoding are measured apart, on what such an announce is over HTTP.
#![allow(missing_docs, reason = "criterion's macros make functions without")]

use bt_core::{InfoHash, PeerId, Rng, Time};
use bt_tracker::announce::{AnnounceRequest, Event};
use bt_tracker::http::{encode, query, url};
use bt_tracker::server::{Config, Swarms};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};

/// A tracker that all peers have announced to, and the announces to come, in random order.
fn world(torrents: u32, peers: u32) -> (Swarms, Rng, Vec<(SocketAddr, AnnounceRequest)>) {
    let (mut swarms, mut rng) = (Swarms::new(Config::default(), 1), Rng::new(2));
    let hashes: Vec<InfoHash> = (0..torrents)
        .map(|_| {
            let mut hash = InfoHash([0; 20]);
            rng.fill(&mut hash.0);
            hash
        })
        .collect();
    let mut announces: Vec<(SocketAddr, AnnounceRequest)> = (0..peers)
        .flat_map(|peer| hashes.iter().map(move |hash| (peer, *hash)))
        .map(|(peer, hash)| {
            let addr = SocketAddr::new(Ipv4Addr::from(0x0100_0000 + peer).into(), 40_000);
            let left = u64::from(peer % 3);
            let request = AnnounceRequest {
                event: Event::Started,
                ..AnnounceRequest::new(hash, PeerId([1; 20]), 6881, left)
            };
            (addr, request)
        })
        .collect();
    rng.shuffle(&mut announces);
    for (addr, request) in &mut announces {
        let _ = swarms.announce(Time::ZERO, *addr, request, &mut rng);
        request.event = Event::Interval;
    }
    (swarms, rng, announces)
}

fn announce(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("announce");
    group.throughput(Throughput::Elements(1));
    for (name, torrents, peers) in [("1000x100", 1_000, 100), ("1x100000", 1, 100_000)] {
        let (mut swarms, mut rng, announces) = world(torrents, peers);
        let mut turn = announces.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let next = turn.next();
                next.map(|(addr, request)| {
                    swarms.announce(Time::from_secs(9), *addr, request, &mut rng)
                })
            });
        });
    }
    group.finish();
}

fn http(criterion: &mut Criterion) {
    let (mut swarms, mut rng, announces) = world(1, 100);
    let Some((addr, request)) = announces.first() else {
        return;
    };
    let url = url::announce("http://t/announce", request);
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let mut group = criterion.benchmark_group("http");
    group.throughput(Throughput::Elements(1));
    group.bench_function("parse", |bencher| {
        bencher.iter(|| query::announce(black_box(query.as_bytes())));
    });
    let Ok(response) = swarms.announce(Time::ZERO, *addr, request, &mut rng) else {
        return;
    };
    let mut body = Vec::new();
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            body.clear();
            encode::announce(black_box(&response), encode::PeersForm::Compact, &mut body);
        });
    });
    group.finish();
}

criterion_group!(benches, announce, http);
criterion_main!(benches);
