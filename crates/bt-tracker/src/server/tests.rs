use super::*;
use crate::announce::Peer;
use crate::http::encode::{self, PeersForm};
use bt_core::{PeerId, Rng};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const TORRENT: InfoHash = InfoHash([7; 20]);

fn request(port: u16, left: u64, event: Event) -> AnnounceRequest {
    AnnounceRequest {
        event,
        ..AnnounceRequest::new(TORRENT, PeerId([1; 20]), port, left)
    }
}

fn source(n: u32) -> SocketAddr {
    SocketAddr::new(std::net::Ipv4Addr::from(0x0a00_0000 + n).into(), 40_000)
}

fn swarms(config: Config) -> (Swarms, Rng) {
    (Swarms::new(config, 1), Rng::new(2))
}

impl Swarms {
    pub(super) fn check(&self) {
        let peers: usize = self.swarms.iter().map(Swarm::peers_count).sum();
        assert_eq!(self.peers_count(), peers);
        let leechers: usize = self.swarms.iter().map(Swarm::leechers).sum();
        assert_eq!(self.totals.leechers, leechers);
        assert_eq!(self.by_info_hash.len(), self.swarms.len());
        for (position, swarm) in self.swarms.iter().enumerate() {
            assert_eq!(self.find(&swarm.info_hash), Some(position));
            swarm.check(&self.key);
        }
    }
}

#[test]
fn who_cannot_be_reached_is_refused() {
    let (mut swarms, mut rng) = swarms(Config::default());
    let rows = [
        ("10.0.0.1:1", 0, Some(Refusal::PortZero)),
        ("0.0.0.0:1", 80, Some(Refusal::NotDialable)),
        ("224.0.0.1:1", 80, Some(Refusal::NotDialable)),
        ("[::]:1", 80, Some(Refusal::NotDialable)),
        ("127.0.0.1:1", 80, None),
        ("192.168.0.1:1", 80, None),
        ("[::1]:1", 80, None),
    ];
    for (from, port, expected) in rows {
        let request = request(port, 1, Event::Started);
        let got = swarms.announce(Time::ZERO, from.parse().unwrap(), &request, &mut rng);
        assert_eq!(got.err(), expected, "{from} {port}");
    }
    assert_eq!(swarms.totals().leechers, 3);
}

#[test]
fn one_entry_for_each_address_and_port() {
    // FAULTS 116: the same peer a hundred times, with a hundred peer ids; and IPv4 in IPv6 is IPv4.
    let (mut swarms, mut rng) = swarms(Config::default());
    for n in 0..100 {
        for from in ["10.0.0.1:1", "[::ffff:10.0.0.1]:2"] {
            let mut request = request(6881, 5, Event::Started);
            request.peer_id = PeerId([n; 20]);
            swarms
                .announce(Time::ZERO, from.parse().unwrap(), &request, &mut rng)
                .unwrap();
        }
    }
    assert_eq!(swarms.totals().leechers, 1);
    // BEP 7: over IPv6 it is another, and either is told of the other.
    let from = "[2001:db8::1]:9".parse().unwrap();
    let reply = swarms
        .announce(
            Time::ZERO,
            from,
            &request(6881, 5, Event::Started),
            &mut rng,
        )
        .unwrap();
    let expected = Peer {
        addr: "10.0.0.1:6881".parse().unwrap(),
        peer_id: Some(PeerId([99; 20])),
    };
    assert_eq!(reply.peers, [expected]);
    assert_eq!(reply.external_ip, Some(from.ip()));
    assert_eq!(swarms.totals().leechers, 2);
}

#[test]
fn counts_follow_what_peers_say() {
    // Rows: who, left, event; then complete, downloaded, incomplete, downloaders (BEP 21).
    use Event::{Completed, Interval, Paused, Started, Stopped};
    let rows: [(u32, u64, Event, [u32; 4]); 18] = [
        (1, 9, Stopped, [0, 0, 0, 0]),
        (1, 9, Started, [0, 0, 1, 1]),
        (2, 0, Started, [1, 0, 1, 1]),
        (1, 9, Completed, [1, 0, 1, 1]),
        (1, 0, Completed, [2, 1, 0, 0]),
        (1, 0, Completed, [2, 1, 0, 0]),
        (2, 0, Completed, [2, 1, 0, 0]),
        (3, 0, Completed, [3, 2, 0, 0]),
        (3, 9, Interval, [2, 2, 1, 1]),
        (3, 0, Interval, [3, 2, 0, 0]),
        (3, 9, Paused, [2, 2, 1, 0]),
        (4, 9, Started, [2, 2, 2, 1]),
        (3, 9, Interval, [2, 2, 2, 2]),
        (4, 0, Paused, [3, 2, 1, 1]),
        (4, 0, Stopped, [2, 2, 1, 1]),
        (3, 9, Stopped, [2, 2, 0, 0]),
        (3, 9, Stopped, [2, 2, 0, 0]),
        (9, 9, Stopped, [2, 2, 0, 0]),
    ];
    let (mut swarms, mut rng) = swarms(Config::default());
    for (step, (who, left, event, expected)) in rows.into_iter().enumerate() {
        let request = request(6881, left, event);
        let reply = swarms
            .announce(Time::ZERO, source(who), &request, &mut rng)
            .unwrap();
        let entry = swarms.scrape(Time::ZERO, &TORRENT).unwrap_or_default();
        let ScrapeEntry {
            complete,
            downloaded,
            incomplete,
            downloaders,
        } = entry;
        let counted = [complete, downloaded, incomplete, downloaders.unwrap_or(0)];
        assert_eq!(counted, expected, "row {step}");
        let partial = swarms.totals().partial_seeds;
        let expected = (incomplete - counted[3]) as usize;
        assert_eq!(partial, expected, "row {step}");
        assert_eq!(
            [reply.complete, reply.incomplete],
            [Some(entry.complete), Some(entry.incomplete)]
        );
        if event == Stopped {
            assert_eq!(reply.peers, []);
        }
        swarms.check();
    }
    assert_eq!(swarms.scrape(Time::ZERO, &InfoHash([8; 20])), None);
}

#[test]
fn silent_peers_and_empty_torrents_go() {
    let config = Config::with_interval(Duration::from_secs(1000));
    let expiry = config.expiry.as_secs();
    assert!(expiry > 2 * 1100, "a lost announce is forgiven");
    let (mut swarms, mut rng) = swarms(config);
    let mut announce = |at: u64, who, left, event| {
        let request = request(6881, left, event);
        swarms
            .announce(Time::from_secs(at), source(who), &request, &mut rng)
            .unwrap();
        swarms.sweep(Time::from_secs(at));
        swarms.check();
        let totals = swarms.totals();
        (totals.torrents, totals.leechers, totals.seeders)
    };
    assert_eq!(announce(0, 1, 1, Event::Started), (1, 1, 0));
    assert_eq!(announce(500, 2, 0, Event::Started), (1, 1, 1));
    assert_eq!(
        announce(expiry, 2, 0, Event::Interval),
        (1, 1, 1),
        "not yet"
    );
    // Looked for at most once in a 32nd of the expiry, hence the slack.
    let later = expiry + 1 + expiry / 32;
    assert_eq!(announce(later, 2, 0, Event::Interval), (1, 0, 1));
    assert_eq!(
        announce(later, 2, 0, Event::Stopped),
        (0, 0, 0),
        "nothing to remember"
    );
    assert_eq!(announce(later, 3, 0, Event::Completed), (1, 0, 1));
    swarms.sweep(Time::from_secs(later + 2 * expiry));
    assert_eq!(
        swarms.totals().torrents,
        1,
        "its count of downloads is kept a day"
    );
    assert_eq!(swarms.totals().seeders, 0);
    swarms.sweep(Time::from_secs(later + 24 * 60 * 60));
    assert_eq!(swarms.totals(), Totals::default());
}

/// A swarm of `seeders` and then `leechers`, and what the peer `asker` is given.
fn sample(
    seeders: u32,
    leechers: u32,
    asker: u32,
    numwant: Option<u32>,
    rng: &mut Rng,
) -> Vec<u32> {
    let mut swarms = Swarms::new(Config::default(), 3);
    for who in 0..seeders + leechers {
        let request = request(6881, u64::from(who >= seeders), Event::Started);
        swarms
            .announce(Time::ZERO, source(who), &request, rng)
            .unwrap();
    }
    let mut request = request(6881, u64::from(asker >= seeders), Event::Interval);
    request.numwant = numwant;
    let reply = swarms
        .announce(Time::ZERO, source(asker), &request, rng)
        .unwrap();
    reply
        .peers
        .iter()
        .map(|peer| match peer.addr.ip() {
            std::net::IpAddr::V4(ip) => u32::from(ip) - 0x0a00_0000,
            std::net::IpAddr::V6(_) => panic!("none of these"),
        })
        .collect()
}

#[test]
fn answers_are_clamped_and_hold_neither_the_asker_nor_seeders_for_seeders() {
    let rows = [
        (0, 1, 0, None, 0),
        (0, 2, 0, None, 1),
        (0, 300, 7, None, 50),
        (0, 300, 7, Some(0), 0),
        (0, 300, 7, Some(10), 10),
        (0, 300, 7, Some(u32::MAX), 200),
        (10, 20, 15, None, 29),
        (10, 20, 5, None, 20),
        (10, 0, 5, None, 0),
        (300, 10, 5, None, 10),
    ];
    let mut rng = Rng::new(1);
    for (seeders, leechers, asker, numwant, expected) in rows {
        let peers = sample(seeders, leechers, asker, numwant, &mut rng);
        let distinct: BTreeSet<u32> = peers.iter().copied().collect();
        assert_eq!(
            peers.len(),
            expected,
            "{seeders} {leechers} {asker} {numwant:?}"
        );
        assert_eq!(distinct.len(), expected, "nobody twice");
        assert!(!distinct.contains(&asker));
        assert!(asker >= seeders || peers.iter().all(|who| *who >= seeders));
    }
}

#[test]
fn who_starts_without_knowing_what_is_left_gets_seeders() {
    // aria2 and rqbit say that nothing is left while they have a link only.
    let (mut swarms, mut rng) = (Swarms::new(Config::default(), 3), Rng::new(1));
    let mut given = |who, left, event| {
        let reply = swarms.announce(
            Time::ZERO,
            source(who),
            &request(6881, left, event),
            &mut rng,
        );
        reply.unwrap().peers.len()
    };
    assert_eq!(given(0, 0, Event::Started), 0);
    assert_eq!(given(1, 0, Event::Started), 1);
    assert_eq!(given(1, 0, Event::Interval), 0);
    assert_eq!(given(1, 0, Event::Completed), 0);
    assert_eq!(given(1, 5, Event::Interval), 1);
}

#[test]
fn everybody_is_named_equally_often() {
    let mut rng = Rng::new(5);
    let mut swarms = Swarms::new(Config::default(), 3);
    for who in 0..150 {
        swarms
            .announce(
                Time::ZERO,
                source(who),
                &request(6881, 1, Event::Started),
                &mut rng,
            )
            .unwrap();
    }
    let mut named: BTreeMap<SocketAddr, u32> = BTreeMap::new();
    let mut pairs = BTreeSet::new();
    for round in 0..6_000 {
        let reply = swarms
            .announce(
                Time::ZERO,
                source(0),
                &request(6881, 1, Event::Interval),
                &mut rng,
            )
            .unwrap();
        for peer in &reply.peers {
            *named.entry(peer.addr).or_default() += 1;
            // Neighbours are named together in one of 27 rounds only.
            if round < 600 {
                pairs.extend(reply.peers.iter().map(|other| (peer.addr, other.addr)));
            }
        }
    }
    // 50 of 149 each time: 2013 of 6000 each, with a deviation of 37.
    assert_eq!(named.len(), 149);
    let outliers: Vec<_> = named
        .values()
        .filter(|n| !(1_850..=2_175).contains(*n))
        .collect();
    assert!(outliers.is_empty(), "{outliers:?}");
    assert_eq!(pairs.len(), 149 * 149, "any two can be named together");
}

#[test]
fn intervals_are_spread() {
    let (mut swarms, mut rng) = swarms(Config::with_interval(Duration::from_secs(1800)));
    let told: BTreeSet<u64> = (0..500)
        .map(|who| {
            let request = request(6881, 1, Event::Started);
            let reply = swarms
                .announce(Time::ZERO, source(who), &request, &mut rng)
                .unwrap();
            assert_eq!(reply.min_interval, Some(Duration::from_secs(60)));
            reply.interval.as_secs()
        })
        .collect();
    assert!(told.len() > 100 && told.iter().all(|secs| (1800..=1980).contains(secs)));
}

#[test]
fn a_clock_that_two_threads_read_at_once_drops_nobody() {
    let (mut swarms, mut rng) = swarms(Config::default());
    for (at, who) in [(8, 1), (7, 2), (3, 3)] {
        let request = request(6881, 1, Event::Started);
        swarms
            .announce(Time::from_secs(at), source(who), &request, &mut rng)
            .unwrap();
    }
    swarms.sweep(Time::ZERO);
    assert_eq!(swarms.totals().leechers, 3);
}

#[test]
fn answers_hold_what_is_wanted() {
    let config = Config {
        peer_ids: false,
        ..Config::default()
    };
    for (peer_ids, config) in [(true, Config::default()), (false, config)] {
        let (mut swarms, mut rng) = swarms(config);
        for from in ["10.0.0.1:1", "10.0.0.2:1", "[2001:db8::1]:1"] {
            let request = request(6881, 1, Event::Started);
            swarms
                .announce(Time::ZERO, from.parse().unwrap(), &request, &mut rng)
                .unwrap();
        }
        let rows = [
            (Scope::V4, 9, 2, 0),
            (Scope::V6, 9, 0, 1),
            (Scope::Both, 9, 2, 1),
            (Scope::V4, 1, 1, 0),
            (Scope::Both, 0, 0, 0),
        ];
        let mut picked = Picked::default();
        for (scope, most, v4, v6) in rows {
            for ids in [true, false] {
                let wanted = Wanted { scope, ids, most };
                let asked = request(6881, 1, Event::Interval);
                let from = "[2001:db8::9]:1".parse().unwrap();
                swarms
                    .announce_into(Time::ZERO, from, &asked, wanted, &mut rng, &mut picked)
                    .unwrap();
                let got = (picked.v4().len(), picked.v6().len());
                assert_eq!(got, (v4 * 6, v6 * 18), "{wanted:?}");
                let named = picked.peers().filter(|peer| peer.peer_id.is_some());
                assert_eq!(
                    named.count(),
                    if ids && peer_ids { v4 + v6 } else { 0 },
                    "{wanted:?}"
                );
            }
        }
    }
}

#[test]
fn a_reply_is_written_the_same_on_either_way() {
    // What the server writes from its buffers is what the plain encoder makes of the same answer.
    let (mut swarms, mut rng) = swarms(Config::default());
    for from in ["10.0.0.1:1", "10.0.0.2:1", "[2001:db8::1]:1"] {
        let from: SocketAddr = from.parse().unwrap();
        let asked = request(6881, 1, Event::Started);
        let (mut plain_rng, mut plain) = (rng.clone(), Vec::new());
        let answer = swarms
            .announce(Time::ZERO, from, &asked, &mut plain_rng)
            .unwrap();
        let wanted = Wanted {
            scope: Scope::Both,
            ids: true,
            most: usize::MAX,
        };
        let mut picked = Picked::default();
        let numbers = swarms
            .announce_into(Time::ZERO, from, &asked, wanted, &mut rng, &mut picked)
            .unwrap();
        for form in [
            PeersForm::Compact,
            PeersForm::Dictionaries,
            PeersForm::DictionariesWithoutIds,
        ] {
            plain.clear();
            encode::announce(&answer, form, &mut plain);
            let mut quick = Vec::new();
            let notes = encode::Notes::default();
            encode::picked(&numbers, from.ip(), &picked, form, &notes, &mut quick);
            assert_eq!(
                quick.escape_ascii().to_string(),
                plain.escape_ascii().to_string()
            );
        }
    }
}

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

#[derive(Clone, Debug)]
struct Step {
    waited: u64,
    torrent: u8,
    who: u32,
    left: u64,
    event: Event,
    sweep: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let event = prop_oneof![
        Just(Event::Interval),
        Just(Event::Started),
        Just(Event::Completed),
        Just(Event::Stopped),
        Just(Event::Paused),
    ];
    let waited = prop_oneof![4 => 0_u64..3, 1 => 0_u64..90];
    (
        waited,
        0_u8..4,
        0_u32..60,
        0_u64..2,
        event,
        prop::bool::weighted(0.1),
    )
        .prop_map(|(waited, torrent, who, left, event, sweep)| Step {
            waited,
            torrent,
            who,
            left,
            event,
            sweep,
        })
}

proptest! {
    /// FAULTS 119: against a model that is a plain map and drops the silent at each step. With an expiry of a few
    /// seconds the store looks for the silent at every announce, so the two must agree exactly.
    #[test]
    fn agrees_with_a_model(steps in prop::collection::vec(step(), 1..400)) {
        // Ages are kept in steps of four seconds, so everything happens at one.
        let expiry = 30 * 4;
        let config = Config { expiry: Duration::from_secs(expiry), ..Config::default() };
        let (mut swarms, mut rng) = swarms(config);
        let mut model: BTreeMap<u8, BTreeMap<SocketAddr, (u64, bool, bool)>> = BTreeMap::new();
        let mut now = 0;
        for step in steps {
            now += step.waited * 4;
            model.values_mut().for_each(|peers| peers.retain(|_, (seen, ..)| now - *seen <= expiry));
            let mut request = request(6881, step.left, step.event);
            request.info_hash = InfoHash([step.torrent; 20]);
            let from = source(step.who);
            let addr = SocketAddr::new(from.ip(), 6881);
            let reply = swarms.announce(Time::from_secs(now), from, &request, &mut rng).unwrap();
            let peers = model.entry(step.torrent).or_default();
            if step.event == Event::Stopped {
                peers.remove(&addr);
            } else {
                peers.insert(addr, (now, step.left == 0, step.event == Event::Paused));
            }
            let seeders = peers.values().filter(|(_, seeder, _)| *seeder).count();
            prop_assert_eq!(reply.complete.unwrap() as usize, seeders);
            prop_assert_eq!(reply.incomplete.unwrap() as usize, peers.len() - seeders);
            let downloaders = peers.values().filter(|(_, seeder, paused)| !seeder && !paused).count();
            let entry = swarms.scrape(Time::from_secs(now), &request.info_hash).unwrap_or_default();
            prop_assert_eq!(entry.downloaders.unwrap_or(0) as usize, downloaders);
            let given: BTreeSet<SocketAddr> = reply.peers.iter().map(|peer| peer.addr).collect();
            prop_assert_eq!(given.len(), reply.peers.len());
            let all = step.left > 0 || step.event == Event::Started;
            for other in &given {
                let known = peers.get(other);
                prop_assert!(known.is_some_and(|(_, seeder, _)| all || !seeder), "{other}");
            }
            prop_assert!(!given.contains(&addr));
            let candidates = match (step.event, step.left) {
                (Event::Stopped, _) => 0,
                _ if all => peers.len() - 1,
                _ => peers.len() - seeders,
            };
            prop_assert_eq!(given.len(), candidates.min(50));
            if step.sweep {
                swarms.sweep(Time::from_secs(now));
            }
            swarms.check();
        }
        swarms.sweep(Time::from_secs(now + 2 * 24 * 60 * 60));
        prop_assert_eq!(swarms.totals(), Totals::default());
    }
}
