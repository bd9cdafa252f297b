//! Who makes room when everything is full.

use super::*;

#[test]
fn a_flood_of_torrents_leaves_the_live_ones() {
    // FAULTS 117.
    let config = Config {
        torrents_max: 1_000,
        ..Config::default()
    };
    let (mut swarms, mut rng) = swarms(config);
    let hash = |n: u32| {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        InfoHash(bytes)
    };
    let mut announce = |torrent: u32, who: u32| {
        let mut request = request(6881, 1, Event::Started);
        request.info_hash = hash(torrent);
        swarms
            .announce(Time::ZERO, source(who), &request, &mut rng)
            .unwrap()
            .peers
            .len()
    };
    for who in 0..3 {
        (0..50).for_each(|torrent| assert_eq!(announce(torrent, who), who as usize));
    }
    (1_000..30_000).for_each(|torrent| assert_eq!(announce(torrent, 9), 0));
    let honest = (0..50).filter(|torrent| announce(*torrent, 4) == 3).count();
    assert_eq!(honest, 50);
    assert_eq!(announce(100_000, 5), 0);
    assert_eq!(
        announce(100_000, 6),
        1,
        "a new honest torrent works in the midst of it"
    );
    assert_eq!(swarms.totals().torrents, 1_000);
    swarms.check();
}

#[test]
fn a_flood_of_one_network_drives_out_its_own() {
    // FAULTS 117: torrents with one seeder each look like those of a flood, but for where they come from.
    for (of, ports) in [
        (source as fn(u32) -> SocketAddr, 1),
        (source_v6, 1),
        (source, 3),
    ] {
        let config = Config {
            torrents_max: 1_000,
            ..Config::default()
        };
        let (mut swarms, mut rng) = swarms(config);
        let mut announce = |at: u64, torrent: u32, from: SocketAddr, port: u16| {
            let mut request = request(port, 0, Event::Started);
            request.info_hash.0[..4].copy_from_slice(&torrent.to_be_bytes());
            swarms
                .announce(Time::from_secs(at), from, &request, &mut rng)
                .unwrap()
                .complete
        };
        (0..400).for_each(|n| {
            announce(0, n, of(n), 1);
        });
        for n in 1_000..7_000 {
            let flood = match of(1_000_000) {
                SocketAddr::V4(_) => of(1_000_000),
                // Anywhere in its network.
                SocketAddr::V6(_) => format!("[2001:db8:f:f::{n:x}]:1").parse().unwrap(),
            };
            (1..=ports).for_each(|port| {
                announce(u64::from(n / 10), n, flood, port);
            });
        }
        // Who is still there counts two with the seeder that comes now.
        let late = of(2_000_000);
        let kept = (0..400).filter(|n| announce(700, *n, late, 9) == Some(2));
        let kept = kept.count();
        assert!(kept >= 398, "{kept} of 400");
        swarms.check();
    }
}

/// An address in a network of its own.
fn source_v6(n: u32) -> SocketAddr {
    let [a, b] = [n >> 16, n & 0xffff];
    format!("[2001:db8:{a:x}:{b:x}::1]:1").parse().unwrap()
}

#[test]
fn a_flood_of_peers_is_bounded() {
    let config = Config {
        peers_max: 500,
        ..Config::default()
    };
    let (mut swarms, mut rng) = swarms(config);
    for n in 0..20_000_u32 {
        let mut request = request(6881, u64::from(n % 3), Event::Started);
        request.info_hash = InfoHash([u8::try_from(n % 7).unwrap(); 20]);
        swarms
            .announce(
                Time::from_secs(u64::from(n / 100)),
                source(n),
                &request,
                &mut rng,
            )
            .unwrap();
        assert!(swarms.peers_count() <= 500);
    }
    swarms.check();
    let totals = swarms.totals();
    assert!(totals.leechers + totals.seeders > 400);
}

/// A leecher more in one of many torrents, of which a tracker has 3,000 at most; how many are in it then.
fn join(swarms: &mut Swarms, rng: &mut Rng, torrent: u32, (from, port): (u32, u16)) -> u32 {
    let mut request = request(port, 1, Event::Started);
    request.info_hash.0[..4].copy_from_slice(&torrent.to_be_bytes());
    let reply = swarms.announce(Time::ZERO, source(from), &request, rng);
    assert!(swarms.peers_count() <= 3_000);
    reply.unwrap().incomplete.unwrap()
}

#[test]
fn a_flood_of_peers_does_not_keep_small_swarms_from_growing() {
    // FAULTS 117: one address fills a torrent of its own with ports, and brings torrents that nobody has.
    let config = Config {
        peers_max: 3_000,
        torrents_max: 1_000,
        ..Config::default()
    };
    let (mut swarms, mut rng) = swarms(config);
    let mut announce = |torrent, from, port| join(&mut swarms, &mut rng, torrent, (from, port));
    let mut flood = 0_u16;
    for who in 0..50 {
        for torrent in 0..20 {
            for _ in 0..20 {
                flood += 1;
                announce(1_000, 7_000, flood);
                announce(100_000 + u32::from(flood), 7_000, 1);
            }
            assert_eq!(announce(torrent, who, 6881), who + 1, "torrent {torrent}");
        }
    }
    assert!(swarms.swarms.iter().all(|swarm| swarm.peers_count() > 0));
    swarms.check();
}

#[test]
fn a_flood_of_torrents_takes_no_places_of_a_large_swarm() {
    // FAULTS 117: one address invents torrents, with one peer each and with many.
    for ports in [1, 20] {
        let config = Config {
            peers_max: 3_000,
            ..Config::default()
        };
        let (mut swarms, mut rng) = swarms(config);
        let mut announce = |torrent, from, port| join(&mut swarms, &mut rng, torrent, (from, port));
        (0..2_000).for_each(|who| {
            announce(1, who, 6881);
        });
        for torrent in 1_000..21_000 {
            (1..=ports).for_each(|port| {
                announce(torrent, 7_000, port);
            });
        }
        let honest = announce(1, 0, 6881);
        assert!(honest > 1_500, "{honest} with {ports} ports");
        swarms.check();
    }
}

#[test]
fn a_large_swarm_that_was_not_announced_here_gives_places() {
    // It came with a snapshot or a hand-over, or from another tracker.
    let config = Config {
        peers_max: 1_000,
        ..Config::default()
    };
    let full: Vec<Heard> = (0..1_000)
        .map(|n| Heard {
            addr: source(n),
            age_secs: 0,
            standing: Standing::Downloader,
        })
        .collect();
    let (mut before, mut rng) = swarms(config.clone());
    before.learn(Time::ZERO, TORRENT, 0, &full, &mut rng);
    let mut portion = snapshot::Portion::default();
    before.export(Time::ZERO, snapshot::Cursor::START, &mut portion);
    for by_snapshot in [true, false] {
        let (mut swarms, _) = swarms(config.clone());
        // So that it is not the first one, which counts as the largest while nobody was heard of.
        swarms.learn(Time::ZERO, InfoHash([1; 20]), 1, &[], &mut rng);
        if by_snapshot {
            for record in portion.iter() {
                swarms.restore(Time::ZERO, record, true, &mut rng);
            }
        } else {
            swarms.learn(Time::ZERO, TORRENT, 0, &full, &mut rng);
        }
        assert_eq!(swarms.peers_count(), 1_000);
        let mut request = request(6881, 1, Event::Started);
        request.info_hash = InfoHash([2; 20]);
        for who in 1..=50 {
            let reply = swarms.announce(Time::ZERO, source(5_000 + who), &request, &mut rng);
            assert_eq!(reply.unwrap().incomplete, Some(who));
            assert_eq!(swarms.peers_count(), 1_000);
        }
        swarms.check();
    }
}
