//! Peers that peers name (BEP 11, BEP 27; FAULTS 28, 59, 60).
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one order among all"
)]

use super::lone::*;
use crate::engine::contract::*;
use crate::engine::extended::PEX_ID;
use crate::peers::{PORTS_PER_ADDRESS_MAX, Source};
use crate::{Config, Engine};
use bt_core::{Bitfield, PeerId};
use bt_metainfo::metainfo::info_hash_of;
use bt_wire::extension::ExtensionHandshake;
use bt_wire::pex::{REACHABLE, SEED};
use bt_wire::{Message, MetadataMessage, PexMessage, PexPeer, Reserved};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

const PIECES: u32 = 6;
const SPEAKS: Reserved = FAST.with_extension_protocol();
/// The id under which the script's peers take `ut_pex`.
const THEIR_ID: u8 = 9;

fn greeting(listen_port: Option<u16>) -> Message {
    let handshake = ExtensionHandshake {
        extensions: BTreeMap::from([("ut_pex".to_owned(), THEIR_ID)]),
        listen_port,
        ..ExtensionHandshake::default()
    };
    Message::Extended {
        id: 0,
        payload: handshake.encode().into(),
    }
}

fn told_of(addrs: impl IntoIterator<Item = SocketAddr>) -> Message {
    let peer = |addr| PexPeer { addr, flags: 0 };
    let message = PexMessage {
        added: addrs.into_iter().map(peer).collect(),
        dropped: Vec::new(),
    };
    Message::Extended {
        id: PEX_ID,
        payload: message.encode().into(),
    }
}

fn addr(host: u8, port: u16) -> SocketAddr {
    ([10, 0, 0, host], port).into()
}

/// What the engine told peers of each other, since it was last asked.
fn sent(lone: &mut Lone) -> Vec<(ConnId, PexMessage)> {
    let orders = core::mem::take(&mut lone.out);
    let sent = orders.into_iter().filter_map(|order| match order {
        Output::Send {
            conn,
            message: Message::Extended { id, payload },
        } if id == THEIR_ID => Some((conn, PexMessage::decode(&payload).unwrap())),
        _ => None,
    });
    sent.collect()
}

/// The ids of `ut_pex` that the engine gave to the peer, one for each handshake.
fn offers(lone: &Lone, peer: ConnId) -> Vec<Option<u8>> {
    let offers = lone.out.iter().filter_map(|order| match order {
        Output::Send {
            conn,
            message: Message::Extended { id: 0, payload },
        } if *conn == peer => {
            let handshake = ExtensionHandshake::decode(payload).unwrap();
            Some(handshake.extensions.get("ut_pex").copied())
        }
        _ => None,
    });
    offers.collect()
}

fn dialled(lone: &Lone) -> Vec<SocketAddr> {
    let dials = lone.out.iter().filter_map(|order| match order {
        Output::Dial { addr, .. } => Some(*addr),
        _ => None,
    });
    dials.collect()
}

fn private(pieces: u32) -> Lone {
    let mut torrent = torrent(pieces, Bitfield::new(pieces));
    torrent.private = true;
    Lone::with(torrent, Config::new(OWN_ID))
}

#[test]
fn each_peer_hears_of_the_others_once_a_minute() {
    let mut lone = Lone::leecher(PIECES);
    // One that we dialled and that has everything, one that says where it listens, one that nobody could dial.
    let first = lone.open_as(0, 1, Direction::Outgoing, PeerId([1; 20]), SPEAKS);
    lone.receive(first, greeting(None));
    lone.receive(first, Message::HaveAll);
    let second = lone.open(2, SPEAKS);
    lone.receive(second, greeting(Some(7_000)));
    let third = lone.open(3, SPEAKS);
    lone.receive(third, greeting(None));
    lone.out.clear();
    lone.pass_secs(2);
    let of_first = PexPeer {
        addr: addr(1, 6_881),
        flags: SEED | REACHABLE,
    };
    let of_second = PexPeer {
        addr: addr(2, 7_000),
        flags: 0,
    };
    let told = |added: &[PexPeer], dropped: &[SocketAddr]| PexMessage {
        added: added.to_vec(),
        dropped: dropped.to_vec(),
    };
    let expected = [
        (first, told(&[of_second], &[])),
        (second, told(&[of_first], &[])),
        (third, told(&[of_first, of_second], &[])),
    ];
    let mut heard = sent(&mut lone);
    heard.sort_by_key(|(conn, _)| *conn);
    assert_eq!(heard, expected);

    let reason = crate::CloseReason::Gone;
    lone.handle(Input::Closed {
        conn: second,
        reason,
    });
    lone.pass_secs(50);
    assert_eq!(sent(&mut lone), [], "no sooner than after a minute");
    lone.pass_secs(20);
    let gone = told(&[], &[addr(2, 7_000)]);
    let mut heard = sent(&mut lone);
    heard.sort_by_key(|(conn, _)| *conn);
    assert_eq!(heard, [(first, gone.clone()), (third, gone)]);
    lone.pass_secs(100);
    assert_eq!(sent(&mut lone), [], "no news, no message");
}

#[test]
fn whoever_is_named_is_dialled() {
    let mut lone = Lone::leecher(PIECES);
    let conn = lone.open(1, SPEAKS);
    lone.out.clear();
    lone.receive(conn, told_of([addr(5, 1), addr(6, 2)]));
    let dials: BTreeSet<SocketAddr> = dialled(&lone).into_iter().collect();
    assert_eq!(dials, BTreeSet::from([addr(5, 1), addr(6, 2)]));
}

#[test]
fn faults_28_a_private_torrent_exchanges_nothing() {
    let mut lone = private(PIECES);
    let conn = lone.open_as(0, 1, Direction::Outgoing, PeerId([1; 20]), SPEAKS);
    let other = lone.open(2, SPEAKS);
    assert_eq!(offers(&lone, conn), [None]);
    lone.receive(conn, greeting(Some(1)));
    lone.receive(other, greeting(Some(7_000)));
    lone.out.clear();
    lone.receive(conn, told_of([addr(5, 1)]));
    assert_eq!(dialled(&lone), []);
    lone.pass_secs(200);
    assert_eq!(sent(&mut lone), []);

    let mut config = Config::new(OWN_ID);
    config.pex = false;
    let mut lone = Lone::with(torrent(PIECES, Bitfield::new(PIECES)), config);
    let conn = lone.open(1, SPEAKS);
    assert_eq!(offers(&lone, conn), [None], "nor does one that must not");
}

#[test]
fn a_link_to_a_private_torrent_takes_its_offer_back() {
    let info = Bytes::from_static(b"d4:name1:ae");
    let unknown = Unknown {
        info_hash: info_hash_of(&info),
        trackers: Vec::new(),
    };
    let engine = Engine::fetching(unknown, Config::new(OWN_ID), 1);
    let mut lone = Lone::of(engine, layout(PIECES));
    let conn = lone.open(1, SPEAKS);
    let other = lone.open_as(0, 2, Direction::Outgoing, PeerId([2; 20]), SPEAKS);
    lone.receive(other, greeting(None));
    let handshake = ExtensionHandshake {
        extensions: BTreeMap::from([("ut_metadata".to_owned(), 8), ("ut_pex".to_owned(), 9)]),
        metadata_bytes: Some(11),
        ..ExtensionHandshake::default()
    };
    let payload = handshake.encode().into();
    lone.receive(conn, Message::Extended { id: 0, payload });
    lone.pass_secs(90);
    assert_eq!(sent(&mut lone), [], "who knows what it is?");
    let data = MetadataMessage::Data {
        piece: 0,
        total_bytes: Some(11),
        data: info,
    };
    let id = crate::engine::extended::METADATA_ID;
    let payload = data.encode();
    lone.receive(conn, Message::Extended { id, payload });
    lone.out.clear();
    lone.handle(Input::Described {
        layout: layout(PIECES),
        private: true,
        have: Bitfield::new(PIECES),
        wanted: Bitfield::full(PIECES),
    });
    assert_eq!(offers(&lone, conn), [Some(0)]);
    lone.pass_secs(200);
    assert_eq!(sent(&mut lone), []);
}

#[test]
fn faults_59_floods_are_cut_and_closed() {
    let mut lone = Lone::leecher(PIECES);
    let conn = lone.open(1, SPEAKS);
    lone.out.clear();
    lone.receive(conn, told_of((1..=250).map(|host| addr(host, 1))));
    assert!(lone.engine.peers.len() <= 50, "{}", lone.engine.peers.len());
    for n in 0..20 {
        assert!(!lone.is_violation(conn), "{n} are forgiven");
        lone.receive(conn, told_of([addr(251, 1)]));
    }
    assert!(lone.engine.peers.len() <= 50, "nothing more is taken");
    lone.receive(conn, told_of([addr(251, 1)]));
    assert!(lone.is_violation(conn));
}

#[test]
fn faults_60_nobody_makes_us_scan_a_host() {
    let mut lone = Lone::leecher(PIECES);
    let conn = lone.open(1, SPEAKS);
    lone.out.clear();
    for round in 0..10 {
        let ports = (1..=50).map(|port| addr(99, port + round * 50));
        lone.receive(conn, told_of(ports));
        lone.pass_secs(60);
    }
    let ports: BTreeSet<SocketAddr> = dialled(&lone).into_iter().collect();
    assert!(ports.len() <= 3, "{ports:?}");
    // Nor our own machine.
    let local = (1..=50).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    lone.out.clear();
    lone.receive(conn, told_of(local));
    lone.pass_secs(60);
    assert!(dialled(&lone).iter().all(|addr| !addr.ip().is_loopback()));
}

/// FAULTS 60: who stores peers in the DHT, or speaks on the local network, is a stranger too; the user is not.
#[test]
fn faults_60_nor_does_the_dht_or_the_local_network() {
    for (source, dials) in [(Source::Gossip, PORTS_PER_ADDRESS_MAX), (Source::User, 8)] {
        let mut lone = Lone::leecher(1);
        let victim = (1..=8).map(|port| addr(9, port)).collect();
        lone.handle(Input::PeersFound(source, victim));
        assert_eq!(dialled(&lone).len(), dials, "{source:?}");
    }
}
