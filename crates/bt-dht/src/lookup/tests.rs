use super::*;
use crate::id::of_address;
use bt_core::Rng;
use std::net::Ipv4Addr;

const TARGET: NodeId = NodeId([0; 20]);

/// A node at a local address, `distance` being the first byte of its id.
fn node(number: u8, distance: u8) -> Contact {
    let mut id = [number; 20];
    id[0] = distance;
    Contact {
        id: NodeId(id),
        addr: (Ipv4Addr::new(10, 0, 0, number), 6881).into(),
    }
}

/// Answers all that is asked, with what `named` says each node knows. Returns who was asked, in order.
fn run(
    lookup: &mut Lookup,
    world: &[Contact],
    named: impl Fn(&Contact) -> Vec<Contact>,
) -> Vec<SocketAddr> {
    let mut asked = Vec::new();
    while !lookup.is_done() {
        let addr = lookup.next().expect("not done, so somebody is to be asked");
        asked.push(addr);
        match world.iter().find(|node| node.addr == addr) {
            Some(node) => {
                let named = named(node);
                lookup.answered(*node, Some(vec![1]), named.iter());
            }
            None => lookup.failed(addr),
        }
    }
    asked
}

#[test]
fn comes_nearer_and_ends_when_the_nearest_have_answered() {
    // Node n knows the nodes n+1 to n+8; higher is nearer.
    let world: Vec<Contact> = (1..=60).map(|n| node(n, 100 - n)).collect();
    let knows = |of: &Contact| {
        let at = world.iter().position(|node| node == of).unwrap();
        world[at..].iter().skip(1).take(8).copied().collect()
    };
    let mut lookup = Lookup::new(TARGET, &world[..2], []);
    run(&mut lookup, &world, knows);
    let mut nearest = world[52..].to_vec();
    nearest.reverse();
    let found: Vec<Contact> = lookup.closest().into_iter().map(|(node, _)| node).collect();
    assert_eq!(found, nearest);
    let stats = lookup.stats();
    assert!(stats.queries < 40 && stats.hops > 5, "{stats:?}");
}

#[test]
fn no_more_than_alpha_are_asked_at_a_time_and_the_late_do_not_count() {
    let world: Vec<Contact> = (1..=20).map(|n| node(n, n)).collect();
    let mut lookup = Lookup::new(TARGET, &world, []);
    let asked: Vec<_> = core::iter::from_fn(|| lookup.next()).collect();
    assert_eq!(asked.len(), ALPHA);
    lookup.late(asked[0]);
    assert!(lookup.next().is_some() && lookup.next().is_none());
    lookup.answered(world[0], None, [].iter());
    assert_eq!(lookup.closest().len(), 1, "it may still answer");
}

#[test]
fn beside_the_slow_others_are_asked_and_rows_of_dead_nodes_are_waited_for_at_once() {
    // The nearest twelve are dead, and the next eight are not.
    let world: Vec<Contact> = (1..=20).map(|n| node(n, n)).collect();
    let is_dead = |addr: &SocketAddr| world[..12].iter().any(|node| node.addr == *addr);
    let mut lookup = Lookup::new(TARGET, &world, []);
    let mut dead = Vec::new();
    let mut rows = Vec::new();
    loop {
        let asked: Vec<_> = core::iter::from_fn(|| lookup.next()).collect();
        if asked.is_empty() {
            break;
        }
        rows.push(asked.len());
        for addr in asked {
            match world
                .iter()
                .find(|node| node.addr == addr && !is_dead(&addr))
            {
                Some(node) => lookup.answered(*node, None, [].iter()),
                None => {
                    lookup.slow(addr);
                    dead.push(addr);
                }
            }
        }
    }
    assert_eq!((dead.len(), rows), (12, vec![4, 8, 8]), "all twenty");
    assert!(!lookup.is_done(), "the slow may answer");
    let (last, others) = dead.split_last().unwrap();
    others.iter().for_each(|addr| lookup.late(*addr));
    assert!(!lookup.is_done(), "one of them is still waited for");
    assert_eq!(lookup.closest().len(), 7, "and has a place");
    let back = world.iter().find(|node| node.addr == *last).unwrap();
    lookup.answered(*back, None, [].iter());
    assert!(lookup.is_done());
    assert_eq!(lookup.closest()[0].0, *back, "its answer counts");
    lookup.answered(world[0], None, [].iter());
    assert_eq!(lookup.closest()[0].0, world[0], "even one that is late");
}

#[test]
fn places_that_are_slow_are_waited_for_and_hold_no_others_up() {
    let places: Vec<SocketAddr> = (1..=6).map(|n| node(n, n).addr).collect();
    let mut lookup = Lookup::new(TARGET, &[], places.iter().copied());
    let asked: Vec<_> = core::iter::from_fn(|| lookup.next()).collect();
    assert_eq!(asked.len(), ALPHA);
    lookup.slow(asked[0]);
    lookup.slow(asked[1]);
    assert_eq!(lookup.next(), Some(places[4]));
    assert_eq!(lookup.next(), Some(places[5]));
    assert_eq!(lookup.next(), None);
    for addr in &places[2..] {
        lookup.failed(*addr);
    }
    assert!(!lookup.is_done());
    lookup.answered(node(1, 1), None, [].iter());
    lookup.late(asked[1]);
    assert!(lookup.is_done());
    assert_eq!(lookup.closest().len(), 1);
}

#[test]
fn ends_whatever_liars_say() {
    // Every node names eight nearer ones that nobody has heard of, without end.
    let mut lookup = Lookup::new(TARGET, &[node(1, 255)], []);
    let mut rng = Rng::new(1);
    let mut queries = 0;
    while !lookup.is_done() {
        let Some(addr) = lookup.next() else {
            panic!("stuck after {queries}")
        };
        queries += 1;
        let from = lookup
            .candidates
            .iter()
            .find(|c| c.contact.addr == addr)
            .unwrap()
            .contact;
        let named: Vec<Contact> = (0..8)
            .map(|_| {
                let number = u32::try_from(rng.below(1 << 24)).unwrap();
                Contact {
                    id: TARGET.sibling((queries * 8 / 10).min(159), &mut rng),
                    addr: (Ipv4Addr::from_bits(0x0a00_0000 + number), 1).into(),
                }
            })
            .collect();
        lookup.answered(from, None, named.iter());
        assert!(lookup.candidates.len() <= CANDIDATES_MAX);
    }
    assert!(queries <= QUERIES_MAX);
}

#[test]
fn fault_130_sybils_near_the_target_do_not_end_a_search() {
    let mut rng = Rng::new(2);
    let honest: Vec<Contact> = (1..=12_u8)
        .map(|n| {
            let addr: SocketAddr = (Ipv4Addr::new(20 + n, 1, 1, 1), 1).into();
            let id = of_address(addr.ip(), &mut rng);
            Contact { id, addr }
        })
        .collect();
    // As near as can be, with ids that are not of their addresses.
    let forged: Vec<Contact> = (1..=30_u8)
        .map(|n| Contact {
            id: TARGET.sibling(100 + usize::from(n), &mut rng),
            addr: (Ipv4Addr::new(66, 66, n, 1), 1).into(),
        })
        .collect();
    let mut seeds = honest.clone();
    seeds.extend(&forged);
    let mut lookup = Lookup::new(TARGET, &seeds, []);
    let world = seeds.clone();
    run(&mut lookup, &world, |_| Vec::new());
    let found: Vec<Contact> = lookup.closest().into_iter().map(|(node, _)| node).collect();
    let honest_found = found.iter().filter(|node| honest.contains(node)).count();
    assert_eq!(honest_found, K);

    // With ids that fit, all in one network: two of them count.
    let neighbours: Vec<Contact> = (1..=200_u8)
        .map(|n| {
            let addr: SocketAddr = (Ipv4Addr::new(66, 66, n, 1), 1).into();
            let id = of_address(addr.ip(), &mut rng);
            Contact { id, addr }
        })
        .collect();
    let target = neighbours[0].id;
    let mut seeds = honest.clone();
    seeds.extend(&neighbours[..50]);
    let mut lookup = Lookup::new(target, &seeds, []);
    run(&mut lookup, &seeds, |_| Vec::new());
    let found = lookup.closest();
    let sybils = found
        .iter()
        .filter(|(node, _)| neighbours.contains(node))
        .count();
    assert_eq!((found.len(), sybils), (K, NETWORK_MAX));
}

#[test]
fn begins_at_places_without_a_known_id() {
    let world: Vec<Contact> = (1..=20).map(|n| node(n, n)).collect();
    let mut lookup = Lookup::new(TARGET, &[], [world[19].addr, "10.9.9.9:1".parse().unwrap()]);
    let asked = run(&mut lookup, &world, |_| world.clone());
    assert_eq!(asked[0], world[19].addr);
    assert_eq!(lookup.closest().len(), K);
    let mut nowhere = Lookup::new(TARGET, &[], []);
    assert!(nowhere.is_done() && nowhere.next().is_none());
}

#[test]
fn who_answers_under_another_id_is_out() {
    let mut lookup = Lookup::new(TARGET, &[node(1, 1)], []);
    let addr = lookup.next().unwrap();
    let liar = Contact { addr, ..node(2, 2) };
    lookup.answered(liar, Some(vec![1]), [node(3, 3)].iter());
    assert!(lookup.is_done() && lookup.closest().is_empty());
}

#[test]
fn liars_next_to_the_target_leave_room_for_others() {
    let mut rng = Rng::new(5);
    let mut honest = |number: u8| {
        let addr = Ipv4Addr::new(20 + number, number, 1, 1);
        let id = of_address(addr.into(), &mut rng);
        let addr = (addr, 6881).into();
        Contact { id, addr }
    };
    let (known, better) = (honest(1), honest(2));
    let mut target = better.id;
    target.0[18] ^= 1;
    let liar = |number: u8| {
        let mut id = target;
        id.0[19] ^= number;
        let addr = (Ipv4Addr::new(66, 66, 1, number), 6881).into();
        Contact { id, addr }
    };
    let mut lookup = Lookup::new(target, &[known], []);
    let liars: Vec<Contact> = (1..=200).map(liar).collect();
    assert!(
        liars
            .iter()
            .all(|liar| !is_of_address(&liar.id, liar.addr.ip()))
    );
    let asked = lookup.next();
    assert_eq!(asked, Some(known.addr));
    lookup.answered(known, None, liars.iter().chain([&better]));
    assert!(lookup.candidates.len() <= UNVERIFIED_CANDIDATES_MAX + 2);
    let world: Vec<Contact> = liars.iter().copied().chain([better]).collect();
    run(&mut lookup, &world, |_| liars.clone());
    let closest = lookup.closest();
    assert!(closest.iter().any(|(contact, _)| *contact == better));
}
