use super::*;
use bt_wire::lsd::{GROUP_V4, PORT};

const FIRST: InfoHash = InfoHash([1; 20]);
const SECOND: InfoHash = InfoHash([2; 20]);

fn program(seed: u64) -> LocalDiscovery {
    LocalDiscovery::new(6881, seed)
}

/// What another program says.
fn datagram(port: u16, info_hashes: &[InfoHash]) -> Vec<u8> {
    let said = LocalAnnounce {
        port,
        info_hashes: info_hashes.to_vec(),
        cookie: "other".to_owned(),
    };
    said.encode((GROUP_V4, PORT).into())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// All that is said until `end`: when, in seconds, and of how many torrents.
fn said_until(program: &mut LocalDiscovery, end: u64) -> Vec<(u64, usize)> {
    let mut said = Vec::new();
    while let Some(at) = program.deadline().filter(|at| *at <= Time::from_secs(end)) {
        let announce = program.announce(at).expect("the deadline was kept");
        said.push((at.as_nanos() / 1_000_000_000, announce.info_hashes.len()));
        assert!(program.deadline() > Some(at), "no spinning");
    }
    said
}

#[test]
fn at_once_again_soon_and_then_every_five_minutes() {
    let mut program = program(1);
    assert_eq!(
        (program.deadline(), program.announce(Time::ZERO)),
        (None, None)
    );
    program.enter(Time::ZERO, FIRST);
    assert_eq!(said_until(&mut program, 3), [(0, 1)]);
    program.enter(Time::from_secs(3), SECOND);
    assert_eq!(
        said_until(&mut program, 1_000),
        [(3, 1), (10, 2), (310, 2), (610, 2), (910, 2)]
    );
    program.leave(FIRST);
    program.leave(SECOND);
    assert_eq!(program.deadline(), None);
}

#[test]
fn a_torrent_that_starts_again_has_one_turn() {
    let mut program = program(1);
    program.enter(Time::ZERO, FIRST);
    assert_eq!(said_until(&mut program, 3), [(0, 1)]);
    program.enter(Time::from_secs(3), FIRST);
    assert_eq!(said_until(&mut program, 400), [(3, 1), (13, 1), (313, 1)]);
    program.leave(FIRST);
    assert_eq!(program.deadline(), None);
}

#[test]
fn a_thousand_torrents_take_turns_and_never_more_than_a_datagram_a_minute() {
    let mut program = program(1);
    let hash = |n: u16| {
        let [high, low] = n.to_be_bytes();
        InfoHash([
            high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ])
    };
    for n in 0..1_000 {
        program.enter(Time::ZERO, hash(n));
    }
    let mut seen = BTreeSet::new();
    let (mut datagrams, hour) = (0, Time::from_secs(3_600));
    let mut last = Time::ZERO;
    while let Some(at) = program.deadline().filter(|at| *at <= hour) {
        let announce = program.announce(at).unwrap();
        assert!(announce.info_hashes.len() <= INFO_HASHES_SENT);
        if datagrams > BURST {
            assert!(at - last >= DATAGRAM_EVERY, "{at:?}");
        }
        seen.extend(announce.info_hashes);
        (datagrams, last) = (datagrams + 1, at);
    }
    assert_eq!(datagrams, BURST + 60);
    assert_eq!(seen.len(), 1_000, "each had its turn");
}

#[test]
fn who_shares_a_torrent_is_known_by_the_address_it_came_from() {
    let mut program = program(1);
    program.enter(Time::ZERO, FIRST);
    let said = datagram(7_000, &[FIRST, SECOND]);
    let found = program.heard(Time::ZERO, ip("10.0.0.2"), &said);
    assert_eq!(found, [(FIRST, "10.0.0.2:7000".parse().unwrap())]);
    let found = program.heard(Time::ZERO, ip("::ffff:10.0.0.3"), &said);
    assert_eq!(found, [(FIRST, "10.0.0.3:7000".parse().unwrap())]);
    let found = program.heard(Time::ZERO, ip("fd00::1"), &said);
    assert_eq!(found, [(FIRST, "[fd00::1]:7000".parse().unwrap())]);
    // A torrent that has left, and one that was never there, as a private one.
    program.leave(FIRST);
    assert_eq!(program.heard(Time::ZERO, ip("10.0.0.9"), &said), []);
}

#[test]
fn faults_138_ourselves_and_what_cannot_be_dialled_are_passed_over() {
    let mut ours = program(1);
    ours.enter(Time::ZERO, FIRST);
    let own = ours.announce(Time::ZERO).unwrap();
    let own = own.encode((GROUP_V4, PORT).into());
    assert_eq!(ours.heard(Time::ZERO, ip("10.0.0.1"), &own), []);
    // Another program of the same host is no part of us.
    let mut other = program(2);
    other.enter(Time::ZERO, FIRST);
    assert_eq!(other.heard(Time::ZERO, ip("10.0.0.1"), &own).len(), 1);
    let said = datagram(7, &[FIRST]);
    for from in [
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "ff15::1",
        "fe80::1",
    ] {
        assert_eq!(ours.heard(Time::ZERO, ip(from), &said), [], "{from}");
    }
    for nonsense in [&b""[..], b"BT-SEARCH * HTTP/1.1\r\n\r\n", &[0xff; 1_400]] {
        assert_eq!(ours.heard(Time::ZERO, ip("10.0.0.1"), nonsense), []);
    }
}

#[test]
fn faults_138_a_flood_is_cut_by_host_by_torrent_and_by_second() {
    let mut program = program(1);
    program.enter(Time::ZERO, FIRST);
    let mut found = 0;
    for port in 1..=100 {
        let said = datagram(port, &[FIRST]);
        found += program.heard(Time::ZERO, ip("10.0.0.1"), &said).len();
    }
    assert_eq!(found, PORTS_HEARD_MAX, "no host is scanned");
    for n in 0..200_u8 {
        let from = IpAddr::from([10, 0, 1, n]);
        found += program
            .heard(Time::ZERO, from, &datagram(1, &[FIRST]))
            .len();
    }
    assert_eq!(found, ADDRESSES_HEARD_MAX);
    // Time heals.
    let later = Time::ZERO + HEARD_EVERY;
    let said = datagram(1, &[FIRST]);
    assert_eq!(program.heard(later, ip("10.0.0.1"), &said).len(), 1);
    assert_eq!(program.heard(later, ip("10.0.0.1"), &said), []);
    // Beyond the rate nothing is even read, and a second later it is.
    for _ in 0..DATAGRAMS_PER_S_MAX {
        program.heard(later, ip("10.0.0.1"), b"");
    }
    assert_eq!(program.heard(later, ip("10.0.0.2"), &said), []);
    let later = later + Duration::from_secs(1);
    assert_eq!(program.heard(later, ip("10.0.0.2"), &said).len(), 1);
}
