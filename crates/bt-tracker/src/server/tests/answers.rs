//! Whom an answer names, and how many.

use super::*;

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
