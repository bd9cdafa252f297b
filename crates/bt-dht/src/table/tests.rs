use super::*;
use crate::id::of_address;
use bt_core::Rng;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

const OWN: NodeId = NodeId([0; 20]);

fn table() -> Table {
    Table::new(Time::ZERO, OWN)
}

/// A contact whose id shares `bits` bits with ours, at an address of its own.
fn contact(number: u16, bits: usize) -> Contact {
    let mut rng = Rng::new(u64::from(number) * 1_000 + 1);
    let [high, low] = number.to_be_bytes();
    Contact {
        id: OWN.sibling(bits, &mut rng),
        addr: (Ipv4Addr::new(10, 0, high, low), 6881).into(),
    }
}

fn public(ip: &str, id: NodeId) -> Contact {
    Contact {
        id,
        addr: format!("{ip}:6881").parse().unwrap(),
    }
}

fn seconds(seconds: u64) -> Time {
    Time::from_secs(seconds)
}

#[test]
fn only_our_own_bucket_is_split() {
    let mut table = table();
    for number in 0..20 {
        assert_eq!(table.answered(Time::ZERO, contact(number, 0)), None);
    }
    assert_eq!(table.len(), K, "a far bucket stays as small as it is");
    for number in 20..30 {
        table.answered(Time::ZERO, contact(number, 5));
    }
    for number in 30..40 {
        table.answered(Time::ZERO, contact(number, 9));
    }
    assert_eq!(table.len(), 3 * K);
    table.answered(
        Time::ZERO,
        Contact {
            id: OWN,
            ..contact(99, 1)
        },
    );
    assert_eq!(table.len(), 3 * K, "we are not in our own table");
}

#[test]
fn good_nodes_stay_questionable_ones_are_asked_and_bad_ones_go() {
    let mut table = table();
    (0..8).for_each(|number| {
        table.answered(seconds(u64::from(number)), contact(number, 0));
    });
    // One near node, so that the far bucket is no longer the last and cannot be split.
    (10..18).for_each(|number| {
        table.answered(Time::ZERO, contact(number, 3));
    });
    table.answered(Time::ZERO, contact(18, 4));
    let newcomer = contact(50, 0);
    assert_eq!(table.answered(seconds(100), newcomer), None, "all are good");
    let later = seconds(15 * 60 + 3);
    assert_eq!(table.answered(later, contact(51, 0)), Some(contact(0, 0)));
    table.failed(later, contact(0, 0).addr);
    assert!(!table.contacts().any(|known| known == contact(51, 0)));
    table.failed(later, contact(0, 0).addr);
    assert!(
        table.contacts().any(|known| known == contact(51, 0)),
        "the newest spare"
    );
    assert!(!table.contacts().any(|known| known == contact(0, 0)));
    // Who once answered and asks is good again.
    assert!(!table.asked(later, contact(1, 0)));
    assert_eq!(table.answered(later, contact(52, 0)), Some(contact(2, 0)));
}

#[test]
fn who_only_asks_is_not_in_the_table() {
    let mut table = table();
    assert!(table.asked(Time::ZERO, contact(1, 0)), "worth a ping");
    assert!(table.is_empty());
    table.answered(Time::ZERO, contact(1, 0));
    assert!(!table.asked(Time::ZERO, contact(1, 0)), "known");
    assert!(!table.asked(
        Time::ZERO,
        Contact {
            id: OWN,
            ..contact(2, 0)
        }
    ));
}

#[test]
fn an_id_is_not_taken_from_who_answers() {
    let mut table = table();
    let honest = contact(1, 2);
    let thief = Contact {
        addr: contact(2, 2).addr,
        ..honest
    };
    table.answered(Time::ZERO, honest);
    table.answered(seconds(1), thief);
    assert_eq!(table.contacts().collect::<Vec<_>>(), [honest]);
    table.failed(seconds(2), honest.addr);
    table.answered(seconds(3), thief);
    assert_eq!(table.contacts().collect::<Vec<_>>(), [thief], "it moved");
}

#[test]
fn who_changes_its_id_is_in_the_table_once() {
    let mut table = table();
    let old = contact(1, 2);
    let new = Contact {
        id: contact(2, 7).id,
        ..old
    };
    table.answered(Time::ZERO, old);
    table.answered(seconds(1), new);
    assert_eq!(table.contacts().collect::<Vec<_>>(), [new]);
}

#[test]
fn fault_130_an_address_that_does_not_fit_its_id_gives_way_and_a_network_has_one_place() {
    let mut rng = Rng::new(3);
    let mut table = table();
    // Eight nodes with ids that are not of their addresses, each in a network of its own.
    for number in 0..8_u8 {
        let id = OWN.sibling(0, &mut rng);
        table.answered(Time::ZERO, public(&format!("9.{number}.0.1"), id));
    }
    table.answered(Time::ZERO, public("9.100.0.1", OWN.sibling(1, &mut rng)));
    assert_eq!(table.len(), 9);
    let honest = |ip: &str, rng: &mut Rng| loop {
        let id = of_address(ip.parse::<IpAddr>().unwrap(), rng);
        if id.shared_bits(&OWN) == 0 {
            return public(ip, id);
        }
    };
    let first = honest("8.8.8.1", &mut rng);
    table.answered(seconds(1), first);
    assert!(
        table.contacts().any(|known| known == first),
        "replaces one that does not fit"
    );
    assert_eq!(table.len(), 9);
    let neighbour = honest("8.8.8.2", &mut rng);
    table.answered(seconds(2), neighbour);
    assert!(
        !table.contacts().any(|known| known == neighbour),
        "one of a /24"
    );
    let mut elsewhere = first;
    elsewhere.id = first.id.sibling(40, &mut rng);
    elsewhere.addr.set_port(7000);
    table.answered(seconds(3), elsewhere);
    assert!(
        !table.contacts().any(|known| known == elsewhere),
        "one of an IP"
    );
}

#[test]
fn stale_buckets_are_named_one_by_one() {
    let mut rng = Rng::new(4);
    let mut table = table();
    (0..8).for_each(|number| {
        table.answered(Time::ZERO, contact(number, 0));
    });
    table.answered(seconds(60), contact(20, 4));
    assert_eq!(table.stale(seconds(899), &mut rng), None);
    assert_eq!(table.stale_at(), seconds(900));
    let target = table.stale(seconds(900), &mut rng).unwrap();
    assert_eq!(target.shared_bits(&OWN), 0);
    assert_eq!(table.stale(seconds(900), &mut rng), None);
    assert_eq!(table.stale_at(), seconds(960));
}

proptest! {
    #[test]
    fn nearest_agrees_with_sorting_everything(
        bits in prop::collection::vec(0_usize..20, 0..200),
        target_bits in 0_usize..24,
        count in 1_usize..30,
    ) {
        let mut table = table();
        for (number, bits) in (0_u16..).zip(bits) {
            table.answered(Time::ZERO, contact(number, bits));
        }
        let target = OWN.sibling(target_bits, &mut Rng::new(77));
        let mut all: Vec<Contact> = table.contacts().collect();
        prop_assert_eq!(all.iter().map(|known| known.addr).collect::<BTreeSet<_>>().len(), all.len());
        all.sort_by_key(|known| known.id.distance(&target));
        all.truncate(count);
        prop_assert_eq!(table.closest(&target, count), all);
    }
}
