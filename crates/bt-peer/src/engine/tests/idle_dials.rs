//! Whom a torrent dials that misses nothing.

use super::lone::*;
use crate::engine::contract::*;
use crate::peers::Source;
use crate::{CloseReason, Config};
use bt_core::{Bitfield, PeerId};
use bt_wire::Message;
use std::net::SocketAddr;

const PIECES: u32 = 12;

/// What is dialled now where every call fails at once.
fn dialled_in_vain(lone: &mut Lone) -> usize {
    let mut count = 0;
    loop {
        let dials = lone.dials();
        if dials.is_empty() {
            return count;
        }
        count += dials.len();
        for (conn, _) in dials {
            lone.handle(Input::DialFailed { conn });
        }
    }
}

#[test]
fn who_has_everything_dials_a_crowd_at_a_pace() {
    let crowd: Vec<SocketAddr> = (0..250).map(|n| ([10, 1, n, 1], 6_881).into()).collect();
    let found = || Input::PeersFound(Source::Tracker, crowd.clone());

    let mut leecher = Lone::leecher(PIECES);
    leecher.handle(found());
    assert_eq!(dialled_in_vain(&mut leecher), 250);

    let mut seeder = Lone::seeder(PIECES);
    seeder.handle(found());
    let burst = Config::new(OWN_ID).peers_max;
    assert_eq!(dialled_in_vain(&mut seeder), burst);
    for second in 0..60 {
        seeder.pass_secs(1);
        assert_eq!(dialled_in_vain(&mut seeder), 1, "second {second}");
    }
    // So does who wants nothing more, until it does.
    let mut leecher = Lone::leecher(PIECES);
    leecher.handle(Input::Command(Command::Want(Bitfield::new(PIECES))));
    leecher.handle(found());
    assert_eq!(dialled_in_vain(&mut leecher), burst);
    leecher.handle(Input::Command(Command::Want(Bitfield::full(PIECES))));
    leecher.pass_secs(1);
    assert!(dialled_in_vain(&mut leecher) >= 250 - burst);
}

#[test]
fn of_two_that_have_everything_none_dials_the_other_until_something_is_missing() {
    let nothing = Bitfield::new(PIECES);
    let mut lone = Lone::leecher(PIECES);
    lone.handle(Input::Command(Command::Want(nothing)));
    let other: SocketAddr = ([10, 0, 0, 1], 6_881).into();
    lone.handle(Input::PeersFound(Source::Tracker, vec![other]));
    let (conn, _) = lone.dials()[0];
    lone.open_as(conn.0, 1, Direction::Outgoing, PeerId([1; 20]), FAST);
    lone.receive(conn, Message::HaveAll);
    assert_eq!(lone.close_reason(conn), Some(CloseReason::Redundant));
    lone.pass_secs(40 * 60);
    assert_eq!(lone.dials(), []);
    lone.handle(Input::Command(Command::Want(Bitfield::full(PIECES))));
    lone.pass_secs(1);
    let called: Vec<SocketAddr> = lone.dials().into_iter().map(|(_, to)| to).collect();
    assert_eq!(called, [other]);
}
