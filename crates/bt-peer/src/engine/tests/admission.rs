//! Which connections are made, kept and given up (BEP 3; FAULTS 40, 42, 49, 78).

use super::lone::*;
use crate::engine::contract::*;
use crate::limits::OUTRANK_EVERY;
use crate::peers::Source;
use crate::{CloseReason, Config};
use bt_core::{Bitfield, PeerId};
use bt_tracker::announce::{AnnounceResponse, Peer};
use bt_wire::Message;
use core::time::Duration;
use std::net::SocketAddr;

const PIECES: u32 = 12;

fn addr(host: u8) -> SocketAddr {
    ([10, 0, 0, host], 6_881).into()
}

#[test]
fn ourselves_is_closed_and_never_dialled_again() {
    let mut lone = Lone::leecher(PIECES);
    lone.handle(Input::PeersFound(Source::User, vec![addr(9)]));
    let (conn, to) = lone.dials()[0];
    assert_eq!((conn, to), (ConnId(0), addr(9)));
    lone.open_as(conn.0, 9, Direction::Outgoing, OWN_ID, FAST);
    assert_eq!(lone.close_reason(conn), Some(CloseReason::Duplicate));
    lone.pass_secs(7_200);
    assert_eq!(lone.dials(), []);
}

#[test]
fn both_ends_keep_the_same_one_of_two() {
    use Direction::{Incoming, Outgoing};
    // Both dial at once. The connection that the smaller id dialled stays, whichever comes to be first.
    let (small, large) = (PeerId([1; 20]), PeerId([99; 20]));
    for (peer_id, stays) in [(small, Incoming), (large, Outgoing)] {
        for (first, second) in [(Incoming, Outgoing), (Outgoing, Incoming)] {
            let mut lone = Lone::leecher(PIECES);
            let one = lone.open_as(1, 1, first, peer_id, FAST);
            let two = lone.open_as(2, 1, second, peer_id, FAST);
            let (kept, closed) = if first == stays {
                (one, two)
            } else {
                (two, one)
            };
            assert_eq!(
                lone.close_reason(closed),
                Some(CloseReason::Duplicate),
                "{peer_id:?} {first:?}"
            );
            assert_eq!(lone.close_reason(kept), None);
            assert_eq!(lone.engine.stats(lone.now).peers, 1);
        }
    }
}

#[test]
fn an_older_connection_stays() {
    for direction in [Direction::Incoming, Direction::Outgoing] {
        for host in [1, 99] {
            let mut lone = Lone::leecher(PIECES);
            let old = lone.open_as(1, host, Direction::Incoming, PeerId([host; 20]), FAST);
            lone.pass_secs(11);
            let new = lone.open_as(2, host, direction, PeerId([host; 20]), FAST);
            assert_eq!(lone.close_reason(new), Some(CloseReason::Duplicate));
            assert_eq!(lone.close_reason(old), None);
        }
    }
}

#[test]
fn idle_connections_make_room_for_new_ones() {
    // FAULTS 40: all places taken by peers that never say a word; an honest one comes.
    let mut config = Config::new(OWN_ID);
    config.peers_max = 10;
    let mut lone = Lone::with(torrent(PIECES, Bitfield::full(PIECES)), config);
    let busy = lone.open_leecher(1, FAST);
    for host in 2..=10 {
        lone.open(host, FAST);
    }
    lone.pass_secs(5);
    let honest = lone.open_leecher(11, FAST);
    assert_eq!(lone.close_reason(honest), None);
    assert!(
        lone.sent(honest).contains(&Message::Unchoke),
        "and is served at once"
    );
    assert_eq!(
        lone.close_reason(ConnId(5)),
        Some(CloseReason::Full),
        "the oldest idle one"
    );
    assert_eq!(lone.close_reason(busy), None);
    // Those that are of use are not given up for a stranger.
    for host in 3..=10 {
        lone.receive(ConnId(host * 2 + 1), Message::Interested);
    }
    lone.pass_secs(5);
    let late = lone.open(12, FAST);
    assert_eq!(lone.close_reason(late), Some(CloseReason::Full));
}

#[test]
fn silence_ends_a_connection_and_keep_alives_prevent_it() {
    let mut lone = Lone::leecher(PIECES);
    let (silent, alive) = (lone.open(1, FAST), lone.open(2, FAST));
    lone.sent(alive);
    for _ in 0..4 {
        lone.pass_secs(100);
        lone.receive(alive, Message::KeepAlive);
    }
    assert_eq!(lone.close_reason(silent), Some(CloseReason::Idle));
    assert_eq!(lone.close_reason(alive), None);
    // BEP 3: "keepalives are generally sent once every two minutes".
    let ours = lone
        .sent(alive)
        .iter()
        .filter(|message| **message == Message::KeepAlive)
        .count();
    assert!((3..=4).contains(&ours), "{ours} in 400 s");
}

#[test]
fn dials_are_bounded_and_back_off() {
    let mut lone = Lone::leecher(PIECES);
    lone.handle(Input::PeersFound(
        Source::User,
        (1..=100).map(addr).collect(),
    ));
    let first = lone.dials();
    assert_eq!(first.len(), crate::limits::DIALS_MAX);
    for (conn, _) in &first {
        lone.handle(Input::DialFailed { conn: *conn });
    }
    assert_eq!(
        lone.dials().len(),
        crate::limits::DIALS_MAX,
        "others are next"
    );
    // One address that never answers is called ever less often (FAULTS 78).
    let mut lone = Lone::leecher(PIECES);
    lone.handle(Input::PeersFound(Source::User, vec![addr(1)]));
    let mut calls = 0;
    for _ in 0..3_600 {
        for (conn, _) in lone.dials() {
            calls += 1;
            lone.handle(Input::DialFailed { conn });
        }
        lone.pass_secs(1);
    }
    assert!((5..=12).contains(&calls), "{calls} in an hour");
}

#[test]
fn no_more_connections_than_allowed() {
    let mut config = Config::new(OWN_ID);
    config.peers_max = 4;
    let mut lone = Lone::with(torrent(PIECES, Bitfield::new(PIECES)), config);
    lone.handle(Input::PeersFound(
        Source::User,
        (1..=100).map(addr).collect(),
    ));
    let dials = lone.dials();
    assert_eq!(dials.len(), 4);
    for ((conn, _), host) in dials.into_iter().zip(1..) {
        lone.open_as(conn.0, host, Direction::Outgoing, PeerId([host; 20]), FAST);
    }
    lone.pass_secs(60);
    assert_eq!(lone.dials(), []);
    lone.handle(Input::Closed {
        conn: ConnId(0),
        reason: CloseReason::Gone,
    });
    assert_eq!(lone.dials().len(), 1, "a place is free");
}

#[test]
fn fewer_places_close_those_of_least_use() {
    let mut lone = Lone::seeder(PIECES);
    let conns: Vec<ConnId> = (1..=6).map(|host| lone.open(host, FAST)).collect();
    for conn in &conns[2..4] {
        lone.receive(*conn, Message::Interested);
    }
    lone.handle(Input::Command(Command::SetPeersMax(2)));
    let kept: Vec<bool> = conns
        .iter()
        .map(|conn| lone.close_reason(*conn).is_none())
        .collect();
    assert_eq!(kept, [false, false, true, true, false, false]);
}

#[test]
fn a_peer_that_dialled_us_is_not_dialled_over_and_over() {
    // It comes from a port of its own, and the tracker names where it listens: one try shows that they are the same.
    let mut lone = Lone::leecher(PIECES);
    let peer_id = PeerId([99; 20]);
    let old = lone.open_as(1, 7, Direction::Incoming, peer_id, FAST);
    lone.pass_secs(60);
    lone.handle(Input::PeersFound(Source::User, vec![addr(8)]));
    let (dial, _) = lone.dials()[0];
    lone.open_as(dial.0, 8, Direction::Outgoing, peer_id, FAST);
    assert_eq!(lone.close_reason(dial), Some(CloseReason::Duplicate));
    for _ in 0..60 {
        lone.pass_secs(60);
        lone.receive(old, Message::KeepAlive);
    }
    assert_eq!(lone.dials(), []);
    // When it has left, its address is good for a call.
    lone.handle(Input::Closed {
        conn: old,
        reason: CloseReason::Gone,
    });
    lone.pass_secs(60);
    assert_eq!(lone.dials().len(), 1);
}

#[test]
fn peers_of_trackers_are_dialled_but_not_ourselves() {
    let mut torrent = torrent(PIECES, Bitfield::new(PIECES));
    torrent.trackers = vec![vec!["http://tracker.test/announce".to_owned()]];
    let mut lone = Lone::with(torrent, Config::new(OWN_ID));
    let asked = lone.out.iter().find_map(|output| {
        if let Output::Announce { id, request, .. } = output {
            return Some((*id, request.clone()));
        }
        None
    });
    let (id, request) = asked.unwrap();
    assert_eq!(request.event, bt_tracker::announce::Event::Started);
    assert_eq!(request.left, u64::from(PIECES * PIECE_BYTES));
    let peer = |host, peer_id| Peer {
        addr: addr(host),
        peer_id,
    };
    let result = Ok(AnnounceResponse {
        peers: vec![
            peer(1, None),
            peer(2, Some(OWN_ID)),
            peer(3, Some(PeerId([3; 20]))),
        ],
        ..AnnounceResponse::default()
    });
    lone.handle(Input::Announced { id, result });
    let mut dialled: Vec<SocketAddr> = lone.dials().into_iter().map(|(_, to)| to).collect();
    dialled.sort();
    assert_eq!(dialled, [addr(1), addr(3)]);
}

/// The numbers of the announces since it was last asked.
fn announces(lone: &mut Lone) -> Vec<u64> {
    let out = std::mem::take(&mut lone.out).into_iter();
    out.filter_map(|output| {
        if let Output::Announce { id, .. } = output {
            return Some(id);
        }
        None
    })
    .collect()
}

#[test]
fn whoever_came_first_and_found_nobody_asks_again_at_the_minimum_interval() {
    // (what, has everything, the seconds at which it asks a tracker of 1800 s that names a minimum of 60 s)
    let rows: [(_, _, &[u64]); 2] = [
        ("a leecher without peers", false, &[0, 60, 120]),
        ("a seeder needs none", true, &[0]),
    ];
    for (what, complete, expected) in rows {
        let have = if complete {
            Bitfield::full(PIECES)
        } else {
            Bitfield::new(PIECES)
        };
        let mut torrent = torrent(PIECES, have);
        torrent.trackers = vec![vec!["http://tracker.test/announce".to_owned()]];
        let mut lone = Lone::with(torrent, Config::new(OWN_ID));
        let mut asked = Vec::new();
        for second in 0..150 {
            for id in announces(&mut lone) {
                asked.push(second);
                let result = Ok(AnnounceResponse {
                    interval: Duration::from_secs(1800),
                    min_interval: Some(Duration::from_secs(60)),
                    ..AnnounceResponse::default()
                });
                lone.handle(Input::Announced { id, result });
            }
            lone.pass_secs(1);
        }
        assert_eq!(asked, expected, "{what}");
    }
}

#[test]
fn two_seeders_have_nothing_to_say_to_each_other() {
    let mut lone = Lone::seeder(PIECES);
    let conn = lone.open(1, FAST);
    lone.receive(conn, Message::HaveAll);
    assert_eq!(lone.close_reason(conn), Some(CloseReason::Redundant));
    let conn = lone.open(2, PLAIN);
    for piece in 0..PIECES {
        assert_eq!(lone.close_reason(conn), None);
        lone.receive(conn, Message::Have { piece });
    }
    assert_eq!(
        lone.close_reason(conn),
        Some(CloseReason::Redundant),
        "by its last have"
    );
}

#[test]
fn stopping_closes_everything_and_ends() {
    let mut lone = Lone::leecher(PIECES);
    let conn = lone.open(1, FAST);
    lone.handle(Input::PeersFound(Source::User, vec![addr(5)]));
    let (dial, _) = lone.dials()[0];
    lone.handle(Input::Command(Command::Stop));
    assert_eq!(lone.close_reason(conn), Some(CloseReason::Stopping));
    assert_eq!(lone.close_reason(dial), Some(CloseReason::Stopping));
    assert_eq!(
        lone.events.last(),
        Some(&crate::Event::Stopped),
        "no tracker to tell"
    );
    assert_eq!(lone.engine.deadline(), None);
    let late = lone.open(2, FAST);
    assert_eq!(lone.close_reason(late), Some(CloseReason::Stopping));
}

#[test]
fn stopping_waits_for_the_tracker_but_not_for_ever() {
    let mut torrent = torrent(PIECES, Bitfield::new(PIECES));
    torrent.trackers = vec![vec!["http://tracker.test/announce".to_owned()]];
    let mut lone = Lone::with(torrent, Config::new(OWN_ID));
    let result = Ok(AnnounceResponse::default());
    lone.handle(Input::Announced { id: 1, result });
    lone.handle(Input::Command(Command::Stop));
    lone.pass_secs(4);
    assert!(!lone.events.contains(&crate::Event::Stopped));
    lone.pass_secs(2);
    assert_eq!(lone.events.last(), Some(&crate::Event::Stopped));
}

/// A peer that has everything connects to us, from there; it is turned away or not.
fn come_in(lone: &mut Lone, conn: u64, addr: SocketAddr, id: u8) -> ConnId {
    let conn = ConnId(conn);
    lone.handle(Input::Opened {
        conn,
        addr,
        direction: Direction::Incoming,
        peer_id: PeerId([id; 20]),
        reserved: FAST,
    });
    if lone.close_reason(conn).is_none() {
        lone.receive(conn, Message::HaveAll);
    }
    conn
}

#[test]
fn when_all_places_are_taken_the_lowest_priority_goes() {
    // BEP 40. All want something of each other, so nobody is idle.
    let own: SocketAddr = ([10, 99, 0, 1], 6_881).into();
    let from = |n: u8| SocketAddr::from(([10, n, 0, 1], 50_000));
    let rank = |n: u8| crate::priority::priority(own, from(n));
    let mut ranked: Vec<u8> = (1..=12).collect();
    ranked.sort_by_key(|n| rank(*n));
    for is_known in [false, true] {
        let mut config = Config::new(OWN_ID);
        config.peers_max = 4;
        config.listen_port = own.port();
        let mut lone = Lone::with(torrent(PIECES, Bitfield::new(PIECES)), config);
        if is_known {
            lone.handle(Input::ExternalIp(own.ip()));
        }
        let open = |lone: &mut Lone, n: u8| come_in(lone, u64::from(n) * 2 + 1, from(n), n);
        let middle = ranked[4..8].to_vec();
        let conns: Vec<ConnId> = middle.iter().map(|n| open(&mut lone, *n)).collect();
        for n in &ranked[..4] {
            let low = open(&mut lone, *n);
            assert_eq!(lone.close_reason(low), Some(CloseReason::Full));
        }
        for (n, lowest) in ranked[8..].iter().zip(conns) {
            let high = open(&mut lone, *n);
            let full = Some(CloseReason::Full);
            let (new, old) = (lone.close_reason(high), lone.close_reason(lowest));
            let expected = if is_known { (None, full) } else { (full, None) };
            assert_eq!((new, old), expected, "known: {is_known}");
            // However high its rank, an address drives out nobody for a second place.
            lone.pass(OUTRANK_EVERY);
            let again = come_in(&mut lone, u64::from(*n) * 2 + 101, from(*n), n + 100);
            assert_eq!(lone.close_reason(again), Some(CloseReason::Full));
        }
    }
}

#[test]
fn places_change_hands_one_at_a_time() {
    let own: SocketAddr = ([10, 99, 0, 1], 6_881).into();
    let from = |n: u8| SocketAddr::from(([10, n, 0, 1], 50_000));
    let mut ranked: Vec<u8> = (1..=12).collect();
    ranked.sort_by_key(|n| crate::priority::priority(own, from(*n)));
    let mut config = Config::new(OWN_ID);
    (config.peers_max, config.listen_port) = (2, own.port());
    let mut lone = Lone::with(torrent(PIECES, Bitfield::new(PIECES)), config);
    lone.handle(Input::ExternalIp(own.ip()));
    let mut let_in = Vec::new();
    for n in ranked {
        lone.pass(OUTRANK_EVERY / 2);
        let conn = come_in(&mut lone, u64::from(n) * 2 + 1, from(n), n);
        let_in.push(lone.close_reason(conn).is_none());
    }
    // Two places, and then each is of a higher rank than all before.
    let every_other = [true, false].into_iter().cycle();
    let expected: Vec<bool> = [true, true]
        .into_iter()
        .chain(every_other)
        .take(12)
        .collect();
    assert_eq!(let_in, expected);
}
