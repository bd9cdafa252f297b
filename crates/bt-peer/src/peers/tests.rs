//! Whom to dial, when, and whom not.

use super::*;
use bt_core::Rng;
use proptest::prelude::*;

fn at(seconds: u64) -> Time {
    Time::from_secs(seconds)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The address of peer `n`.
fn nth(n: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::from((0x0a00_0000_u32 + n).to_be_bytes()), 6881)
}

#[test]
fn which_addresses_are_taken() {
    let mut list = PeerList::new();
    let mut rng = Rng::new(1);
    let rows = [
        ("192.0.2.1:6881", Source::Tracker, true),
        ("192.0.2.1:6881", Source::Tracker, false),
        ("[::ffff:192.0.2.1]:6881", Source::Tracker, false),
        ("192.0.2.1:0", Source::Tracker, false),
        ("0.0.0.0:6881", Source::User, false),
        ("224.0.0.1:6881", Source::Gossip, false),
        ("192.0.2.1:6882", Source::Tracker, true),
        ("192.0.2.1:6883", Source::Gossip, true),
        // A fourth port of one address (a scan of that host), from anybody but the user.
        ("192.0.2.1:6884", Source::Tracker, false),
        ("192.0.2.1:6885", Source::Gossip, false),
        ("192.0.2.1:6886", Source::User, true),
        ("192.0.2.2:6881", Source::Gossip, true),
        ("127.0.0.1:1", Source::Tracker, true),
        ("127.0.0.1:2", Source::Tracker, true),
        ("127.0.0.1:3", Source::Tracker, true),
        ("127.0.0.1:4", Source::Tracker, true),
        ("[2001:db8::1]:6881", Source::Tracker, true),
    ];
    for (text, source, expected) in rows {
        assert_eq!(list.add(addr(text), source, &mut rng), expected, "{text}");
    }
    assert_eq!(list.len(), 10);
}

#[test]
fn each_is_dialled_once_and_the_untried_come_first() {
    let mut list = PeerList::new();
    let mut rng = Rng::new(1);
    list.add(nth(0), Source::Tracker, &mut rng);
    assert_eq!(list.next_candidate(at(0)), Some(nth(0)));
    assert_eq!(list.next_candidate(at(0)), None);
    list.failed(at(0), nth(0), &mut rng);
    for n in 1..20 {
        list.add(nth(n), Source::Tracker, &mut rng);
    }
    let order: Vec<_> = core::iter::from_fn(|| list.next_candidate(at(100))).collect();
    assert_eq!(order.len(), 20);
    assert_eq!(order.last(), Some(&nth(0)));
    assert!(
        !order.is_sorted(),
        "a swarm does not dial in the same order"
    );
    assert_eq!(list.ready_at(), None);
}

#[test]
fn the_wait_doubles_and_has_an_end() {
    let mut waits = Vec::new();
    for seed in 0..20 {
        let mut list = PeerList::new();
        let mut rng = Rng::new(seed);
        let (mut now, mut times) = (at(0), Vec::new());
        list.add(nth(0), Source::Tracker, &mut rng);
        for _ in 0..40 {
            assert_eq!(list.next_candidate(now), Some(nth(0)));
            list.failed(now, nth(0), &mut rng);
            let ready = list.ready_at().unwrap();
            times.push((ready - now).as_secs_f64());
            now = ready;
        }
        waits.push(times);
    }
    for (failure, base) in [
        (0, 10.0),
        (1, 20.0),
        (2, 40.0),
        (5, 320.0),
        (11, 3_600.0),
        (39, 3_600.0),
    ] {
        let drawn = waits.iter().map(|times| times[failure] / base);
        assert!(drawn.clone().all(|share| (0.75..=1.25).contains(&share)));
        let spread = drawn.clone().fold(0.0, f64::max) - drawn.fold(2.0, f64::min);
        assert!(spread > 0.2, "there is jitter after failure {failure}");
    }
}

#[test]
fn a_useful_connection_is_forgiven_and_a_useless_one_is_a_failure() {
    let mut list = PeerList::new();
    let mut rng = Rng::new(1);
    list.add(nth(0), Source::Tracker, &mut rng);
    for (useful, least, most) in [
        (false, 7.5, 12.5),
        (false, 15.0, 25.0),
        (false, 30.0, 50.0),
        (true, 7.5, 12.5),
        (false, 7.5, 12.5),
    ] {
        let now = list.ready_at().unwrap();
        assert_eq!(list.next_candidate(now), Some(nth(0)));
        list.connected(nth(0));
        assert_eq!(list.ready_at(), None);
        list.closed(now, nth(0), useful, &mut rng);
        let wait = (list.ready_at().unwrap() - now).as_secs_f64();
        assert!((least..=most).contains(&wait), "{wait} after {useful}");
    }
}

#[test]
fn who_has_everything_is_called_again_late_or_once_something_is_missing() {
    for missing in [false, true] {
        let mut list = PeerList::new();
        let mut rng = Rng::new(1);
        for n in 0..3 {
            list.add(nth(n), Source::Tracker, &mut rng);
            list.next_candidate(at(0));
            list.connected(nth(n));
        }
        list.redundant(at(0), nth(0), &mut rng);
        list.closed(at(0), nth(1), true, &mut rng);
        let after = BACK_OFF_MIN * 125 / 100;
        if missing {
            list.recall_redundant(at(5), &mut rng);
            assert_eq!(list.ready_at(), Some(at(5)));
            assert_eq!(list.next_candidate(at(5)), Some(nth(0)));
        }
        assert_eq!(list.next_candidate(at(0) + after), Some(nth(1)));
        let expected = at(2_700)..=at(4_500);
        assert_eq!(
            list.ready_at()
                .is_some_and(|ready| expected.contains(&ready)),
            !missing
        );
        // Who is connected is not recalled, and whose wait ended otherwise counts as anybody.
        list.recall_redundant(at(20), &mut rng);
        list.recall_redundant(at(20), &mut rng);
        assert_eq!(list.next_candidate(at(20)), (!missing).then(|| nth(0)));
        assert_eq!(list.next_candidate(at(20)), None);
    }
}

#[test]
fn those_of_higher_priority_come_first_once_we_know_where_we_are_seen() {
    // BEP 40.
    let (mut list, mut rng) = (PeerList::new(), Rng::new(1));
    let own = addr("9.9.9.9:6881");
    let early = (0..20).map(|n| SocketAddr::from(([1, n, 0, 1], 6_881)));
    for addr in early {
        assert!(list.add(addr, Source::Tracker, &mut rng));
        assert_eq!(list.priority(addr), None);
    }
    list.set_own(own, &mut rng);
    list.set_own(addr("[2001:db8::9]:6881"), &mut rng);
    for n in 0..20 {
        let addr = SocketAddr::from(([2, n, 0, 1], 6_881));
        assert!(list.add(addr, Source::Tracker, &mut rng));
    }
    let order = core::iter::from_fn(|| list.next_candidate(Time::ZERO));
    let order: Vec<u32> = order.map(|addr| priority(own, addr).unwrap()).collect();
    assert_eq!(order.len(), 40);
    assert!(order.is_sorted_by(|a, b| a >= b), "{order:?}");
}

#[test]
fn who_dialled_us_is_not_dialled() {
    let mut list = PeerList::new();
    let mut rng = Rng::new(1);
    list.add(nth(0), Source::Tracker, &mut rng);
    list.connected(nth(0));
    list.connected(nth(1));
    assert_eq!(list.next_candidate(at(9)), None);
    assert_eq!(list.len(), 1);
}

#[test]
fn our_own_address_is_never_dialled_again() {
    let mut list = PeerList::new();
    let mut rng = Rng::new(1);
    list.add(nth(0), Source::Tracker, &mut rng);
    assert_eq!(list.next_candidate(at(0)), Some(nth(0)));
    list.mark_self(nth(0));
    list.closed(at(0), nth(0), false, &mut rng);
    assert!(!list.add(nth(0), Source::Tracker, &mut rng));
    assert_eq!(list.next_candidate(Time::MAX), None);
}

#[test]
fn a_new_port_of_a_dead_host_inherits_its_wait() {
    let mut list = PeerList::new();
    let mut rng = Rng::new(1);
    let port = |port| SocketAddr::new(nth(0).ip(), port);
    for n in 1..=3 {
        list.add(port(n), Source::Gossip, &mut rng);
    }
    while let Some(addr) = list.next_candidate(at(0)) {
        list.failed(at(0), addr, &mut rng);
    }
    for n in 4..200 {
        assert!(list.add(port(n), Source::Gossip, &mut rng));
        assert_eq!(list.len(), 3);
        assert_eq!(list.next_candidate(at(5)), None, "no call for a new port");
    }
}

#[test]
fn a_full_list_gives_up_what_failed_most() {
    let mut list = PeerList::new();
    let mut rng = Rng::new(1);
    for n in 0..5_000 {
        list.add(nth(n), Source::Gossip, &mut rng);
    }
    assert_eq!(list.len(), ADDRESSES_MAX);
    assert!(!list.add(nth(9_000), Source::Tracker, &mut rng));
    assert!(list.add(nth(9_001), Source::User, &mut rng));
    let dead = list.next_candidate(at(0)).unwrap();
    list.failed(at(0), dead, &mut rng);
    assert!(list.add(nth(9_002), Source::Tracker, &mut rng));
    assert!(!list.known.contains_key(&dead));
    assert_eq!(list.len(), ADDRESSES_MAX);
}

#[test]
fn bans_end_are_bounded_and_can_be_taken_back() {
    let mut list = PeerList::new();
    let mut rng = Rng::new(1);
    list.add(nth(0), Source::Tracker, &mut rng);
    list.ban(at(0), nth(0).ip());
    assert_eq!(list.next_candidate(at(10)), None);
    assert!(list.is_banned(at(3_599), nth(0).ip()));
    assert!(!list.is_banned(at(3_600), nth(0).ip()));
    assert_eq!(list.next_candidate(at(3_600)), Some(nth(0)));
    for n in 0..100_000 {
        list.ban(at(u64::from(n)), nth(n).ip());
    }
    assert_eq!(list.bans.len(), BANS_MAX);
    assert_eq!(list.bans(at(99_999)).count(), 3_600);
    assert!(list.unban(nth(99_999).ip()) && !list.unban(nth(99_999).ip()));
    assert!(!list.is_banned(at(100_000), nth(99_999).ip()));
}

#[test]
fn a_ban_covers_what_one_customer_has() {
    let mut list = PeerList::new();
    list.ban(at(0), addr("[2001:db8:0:1::1]:1").ip());
    list.ban(at(0), addr("[::ffff:192.0.2.1]:1").ip());
    let rows = [
        ("[2001:db8:0:1:ffff::2]:9", true),
        ("[2001:db8:0:2::1]:1", false),
        ("192.0.2.1:1", true),
        ("192.0.2.2:1", false),
    ];
    for (text, banned) in rows {
        assert_eq!(list.is_banned(at(1), addr(text).ip()), banned, "{text}");
    }
}

proptest! {
    #[test]
    fn waiting_and_known_agree(steps in prop::collection::vec((0_u8..7, 0_u32..12, 0_u64..50), 0..200)) {
        let mut list = PeerList::new();
        let mut rng = Rng::new(7);
        let mut now = at(0);
        for (step, n, seconds) in steps {
            now += Duration::from_secs(seconds);
            match step {
                0 => { list.add(nth(n), Source::Tracker, &mut rng); }
                1 => {
                    let next = list.next_candidate(now);
                    prop_assert!(next.is_none_or(|next| !list.is_banned(now, next.ip())));
                }
                2 => list.failed(now, nth(n), &mut rng),
                3 => list.connected(nth(n)),
                4 => list.closed(now, nth(n), n % 2 == 0, &mut rng),
                5 => list.mark_self(nth(n)),
                _ => list.ban(now, nth(n).ip()),
            }
            let turns: BTreeSet<_> = list
                .known
                .iter()
                .filter_map(|(addr, entry)| match entry.standing {
                    Standing::Waiting(turn) => Some((*addr, turn)),
                    Standing::Busy | Standing::Ourselves => None,
                })
                .map(|(addr, turn)| { assert_eq!(addr, turn.2); turn })
                .collect();
            prop_assert_eq!(&turns, &list.waiting);
            prop_assert_eq!(list.bans.len(), list.ban_ends.len());
        }
    }
}
