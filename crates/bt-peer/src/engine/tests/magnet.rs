//! A torrent that begins as an info hash (BEP 9; FAULTS 36, 53–57).

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one order among all"
)]

use super::lone::*;
use crate::engine::contract::*;
use crate::limits::{EARLY_BITFIELDS_MAX_BYTES, LEFT_UNKNOWN};
use crate::{CloseReason, Config, Engine, Event};
use bt_core::{Bitfield, InfoHash};
use bt_metainfo::metainfo::info_hash_of;
use bt_wire::extension::ExtensionHandshake;
use bt_wire::metadata::PIECE_BYTES as METADATA_PIECE;
use bt_wire::{Message, MetadataMessage, Reserved};
use bytes::Bytes;
use core::time::Duration;
use std::collections::BTreeMap;

const PIECES: u32 = 6;
const SPEAKS: Reserved = FAST.with_extension_protocol();
/// The id under which the script's peers take `ut_metadata`.
const THEIR_ID: u8 = 9;

fn info() -> Bytes {
    (0..METADATA_PIECE + 500).map(|n| (n % 247) as u8).collect()
}

fn greeting(length: Option<u32>) -> Message {
    let handshake = ExtensionHandshake {
        extensions: BTreeMap::from([("ut_metadata".to_owned(), THEIR_ID)]),
        metadata_bytes: length,
        ..ExtensionHandshake::default()
    };
    Message::Extended {
        id: 0,
        payload: handshake.encode().into(),
    }
}

fn own_length() -> Option<u32> {
    u32::try_from(info().len()).ok()
}

fn to_us(message: &MetadataMessage) -> Message {
    Message::Extended {
        id: super::super::extended::METADATA_ID,
        payload: message.encode(),
    }
}

fn data(piece: u32, bytes: &Bytes) -> Message {
    let begin = (piece * METADATA_PIECE) as usize;
    let end = (begin + METADATA_PIECE as usize).min(bytes.len());
    to_us(&MetadataMessage::Data {
        piece,
        total_bytes: u32::try_from(bytes.len()).ok(),
        data: bytes.slice(begin..end),
    })
}

/// A magnet download with nobody connected.
fn magnet() -> Lone {
    let unknown = Unknown {
        info_hash: info_hash_of(&info()),
        trackers: Vec::new(),
    };
    Lone::of(
        Engine::fetching(unknown, Config::new(OWN_ID), 1),
        layout(PIECES),
    )
}

fn described(lone: &mut Lone, have: Bitfield) {
    let layout = layout(PIECES);
    lone.handle(Input::Described {
        layout,
        private: false,
        have,
        wanted: Bitfield::full(PIECES),
    });
}

/// What the engine sent of `ut_metadata`, since it was last asked.
fn sent(lone: &mut Lone) -> Vec<(ConnId, MetadataMessage)> {
    let orders = core::mem::take(&mut lone.out);
    let sent = orders.into_iter().filter_map(|order| match order {
        Output::Send {
            conn,
            message: Message::Extended { id, payload },
        } if id == THEIR_ID => Some((conn, MetadataMessage::decode(&payload).unwrap()?)),
        _ => None,
    });
    sent.collect()
}

fn sends(lone: &Lone, message: &Message) -> bool {
    let is_it =
        |order: &Output| matches!(order, Output::Send { message: sent, .. } if sent == message);
    lone.out.iter().any(is_it)
}

fn metadata_of(lone: &Lone) -> Option<Bytes> {
    lone.out.iter().find_map(|order| match order {
        Output::Metadata(bytes) => Some(bytes.clone()),
        _ => None,
    })
}

#[test]
fn from_a_hash_to_the_first_requests_without_a_wasted_round_trip() {
    let mut lone = magnet();
    let conn = lone.open(1, SPEAKS);
    assert!(sends(&lone, &Message::HaveNone));
    lone.receive(conn, Message::HaveAll);
    assert!(
        sends(&lone, &Message::Interested),
        "whatever it is, we want it"
    );
    lone.receive(conn, greeting(own_length()));
    // The first round trip brings the metadata and the unchoke.
    let asked = [0, 1].map(|piece| (conn, MetadataMessage::Request { piece }));
    assert_eq!(sent(&mut lone), asked);
    lone.receive(conn, Message::Unchoke);
    lone.receive(conn, data(1, &info()));
    lone.receive(conn, data(0, &info()));
    assert_eq!(metadata_of(&lone), Some(info()));
    lone.out.clear();
    described(&mut lone, Bitfield::new(PIECES));
    let requests = lone
        .out
        .iter()
        .filter(|order| {
            matches!(
                order,
                Output::Send {
                    message: Message::Request(_),
                    ..
                }
            )
        })
        .count();
    assert!(requests > 0, "asks at once: {:?}", lone.out);
}

#[test]
fn what_peers_said_before_is_not_forgotten() {
    let bits = |bytes: &'static [u8]| Message::Bitfield(Bytes::from_static(bytes));
    let lost = |piece| Message::Extended {
        id: super::super::extended::DONT_HAVE_ID,
        payload: bt_wire::dont_have::encode(piece),
    };
    let (full, have) = (Message::HaveAll, |piece| Message::Have { piece });
    // (what the peer says, how many of the six pieces it has, or that it is closed)
    let rows: Vec<(Vec<Message>, Option<u32>)> = vec![
        (vec![full.clone()], Some(6)),
        (vec![Message::HaveNone], Some(0)),
        (vec![bits(&[0b1010_0000])], Some(2)),
        (vec![bits(&[0b1010_0000]), have(1)], Some(3)),
        (vec![have(1), have(5), have(5)], Some(2)),
        (vec![Message::HaveNone, have(0)], Some(1)),
        (vec![Message::Unchoke, have(0)], Some(1)),
        (
            vec![Message::AllowedFast { piece: 7 }, full.clone()],
            Some(6),
        ),
        // BEP 54: what it takes back it has not, until it says so again.
        (vec![full.clone(), lost(3), lost(4), have(4)], Some(5)),
        (vec![have(1), have(2), lost(1), lost(1)], Some(1)),
        (vec![lost(1), full.clone()], Some(6)),
        (vec![full.clone(), lost(6)], Some(6)),
        // Only now it shows that it is of no torrent of six pieces.
        (vec![bits(&[0b1010_0001])], None),
        (vec![bits(&[0, 0])], None),
        (vec![have(6)], None),
        // And this at once.
        (vec![full.clone(), full.clone()], None),
        (vec![have(1), bits(&[0b1010_0000])], None),
    ];
    for (said, expected) in rows {
        let mut lone = magnet();
        let (peer, source) = (lone.open(1, SPEAKS), lone.open(2, SPEAKS));
        for message in &said {
            lone.receive(peer, message.clone());
        }
        lone.receive(source, greeting(own_length()));
        lone.receive(source, data(0, &info()));
        lone.receive(source, data(1, &info()));
        described(&mut lone, Bitfield::new(PIECES));
        let has = lone.engine.conns.get(&peer);
        let has = has.map(|conn| conn.has.count_ones());
        assert_eq!(has, expected, "{said:?}");
        assert_eq!(lone.is_violation(peer), expected.is_none(), "{said:?}");
    }
}

#[test]
fn what_was_there_is_told_when_it_is_known() {
    for (pieces, as_bitfield) in [(0..1, true), (0..0, false), (0..6, true)] {
        let mut have = Bitfield::new(PIECES);
        pieces.for_each(|piece| {
            have.set(layout(PIECES).piece(piece).unwrap());
        });
        let mut lone = magnet();
        let conn = lone.open(1, SPEAKS);
        lone.receive(conn, greeting(own_length()));
        lone.receive(conn, data(0, &info()));
        lone.receive(conn, data(1, &info()));
        lone.out.clear();
        described(&mut lone, have.clone());
        let told = Message::Bitfield(have.to_bytes().into());
        assert_eq!(sends(&lone, &told), as_bitfield);
        assert_eq!(lone.events.contains(&Event::Complete), have.is_full());
        assert_eq!(lone.engine.stats(lone.now).pieces_have, have.count_ones());
    }
}

#[test]
fn faults_36_metadata_with_a_wrong_hash_is_dropped_with_its_peer() {
    let mut lone = magnet();
    let liar = lone.open(1, SPEAKS);
    lone.receive(liar, greeting(own_length()));
    let lie = Bytes::from(vec![0; info().len()]);
    lone.receive(liar, data(0, &lie));
    lone.receive(liar, data(1, &lie));
    assert_eq!(lone.close_reason(liar), Some(CloseReason::BadData));
    assert_eq!(metadata_of(&lone), None);
    let honest = lone.open(2, SPEAKS);
    lone.receive(honest, greeting(own_length()));
    lone.receive(honest, data(0, &info()));
    lone.receive(honest, data(1, &info()));
    assert_eq!(metadata_of(&lone), Some(info()));
}

#[test]
fn faults_53_absurd_lengths_are_no_offers() {
    for length in ["0", "-1", "2147483648", "9223372036854775808", "31457281"] {
        let mut lone = magnet();
        let conn = lone.open(1, SPEAKS);
        let payload = format!("d1:md11:ut_metadatai9ee13:metadata_sizei{length}ee");
        lone.receive(
            conn,
            Message::Extended {
                id: 0,
                payload: payload.into(),
            },
        );
        assert_eq!(sent(&mut lone), [], "{length}");
        // It changes its mind.
        lone.receive(conn, greeting(own_length()));
        assert_eq!(sent(&mut lone).len(), 2, "{length}");
    }
}

#[test]
fn faults_54_requests_out_of_range_and_floods_are_rejected() {
    let mut lone = Lone::of(
        Engine::new(
            torrent(PIECES, Bitfield::full(PIECES)),
            Config::new(OWN_ID),
            1,
        )
        .with_metadata(info()),
        layout(PIECES),
    );
    let conn = lone.open(1, SPEAKS);
    lone.receive(conn, greeting(None));
    let ask = |piece| to_us(&MetadataMessage::Request { piece });
    lone.out.clear();
    for piece in [0, 1, 2, u32::MAX] {
        lone.receive(conn, ask(piece));
    }
    let answers = sent(&mut lone);
    let got: Vec<Bytes> = answers
        .iter()
        .filter_map(|(_, message)| match message {
            MetadataMessage::Data { data, .. } => Some(data.clone()),
            MetadataMessage::Request { .. } | MetadataMessage::Reject { .. } => None,
        })
        .collect();
    assert_eq!(got.concat(), info());
    let rejected = [2, u32::MAX].map(|piece| (conn, MetadataMessage::Reject { piece }));
    assert_eq!(answers[2..], rejected);
    for _ in 0..20_000 {
        lone.receive(conn, ask(0));
    }
    let is_data =
        |(_, message): &(ConnId, MetadataMessage)| matches!(message, MetadataMessage::Data { .. });
    let given = sent(&mut lone).iter().filter(|sent| is_data(sent)).count();
    assert!(given <= 20, "{given} pieces");
    assert!(lone.engine.conns.is_empty(), "and the flood is closed");
}

#[test]
fn metadata_counts_in_the_upload_limit() {
    let mut config = Config::new(OWN_ID);
    config.up_limit = Some(METADATA_PIECE.into());
    let torrent = torrent(PIECES, Bitfield::full(PIECES));
    let engine = Engine::new(torrent, config, 1).with_metadata(info());
    let mut lone = Lone::of(engine, layout(PIECES));
    let conn = lone.open(1, SPEAKS);
    lone.receive(conn, greeting(None));
    let limiter = |lone: &Lone| lone.engine.upload.limiter.ready_at(lone.now) - lone.now;
    assert_eq!(limiter(&lone), Duration::ZERO);
    lone.receive(conn, to_us(&MetadataMessage::Request { piece: 0 }));
    // A second's worth, but for the burst of a tenth.
    assert!(limiter(&lone) > Duration::from_millis(900));
    assert!(limiter(&lone) < Duration::from_millis(1_100));
}

#[test]
fn faults_55_metadata_that_nobody_asked_for_is_a_fault() {
    let mut seeder = Lone::seeder(PIECES);
    let mut leecher = magnet();
    for lone in [&mut seeder, &mut leecher] {
        let conn = lone.open(1, SPEAKS);
        lone.receive(conn, greeting(None));
        for _ in 0..20 {
            lone.receive(conn, data(0, &info()));
        }
        assert_eq!(lone.close_reason(conn), None, "a few are forgiven");
        lone.receive(conn, data(0, &info()));
        assert!(lone.is_violation(conn));
    }
}

#[test]
fn late_copies_of_asked_pieces_are_no_fault() {
    let mut lone = magnet();
    let slow = lone.open(1, SPEAKS);
    lone.receive(slow, greeting(own_length()));
    let quick = lone.open(2, SPEAKS);
    lone.receive(quick, greeting(own_length()));
    lone.pass_secs(3);
    lone.receive(quick, data(0, &info()));
    lone.receive(quick, data(1, &info()));
    described(&mut lone, Bitfield::new(PIECES));
    lone.receive(slow, data(0, &info()));
    lone.receive(slow, data(1, &info()));
    assert_eq!(lone.engine.conns[&slow].faults, 0);
    lone.receive(slow, data(1, &info()));
    assert_eq!(lone.engine.conns[&slow].faults, 1);
}

#[test]
fn whoever_gets_metadata_gives_it_too() {
    let mut lone = magnet();
    let source = lone.open(1, SPEAKS);
    lone.receive(source, greeting(own_length()));
    let other = lone.open(2, SPEAKS);
    lone.receive(other, greeting(None));
    lone.receive(other, Message::HaveNone);
    let ask = to_us(&MetadataMessage::Request { piece: 1 });
    lone.out.clear();
    lone.receive(other, ask.clone());
    let reject = MetadataMessage::Reject { piece: 1 };
    assert_eq!(sent(&mut lone), [(other, reject)]);
    lone.receive(source, data(0, &info()));
    lone.receive(source, data(1, &info()));
    described(&mut lone, Bitfield::new(PIECES));
    let offers = |order: &Output| match order {
        Output::Send {
            conn,
            message: Message::Extended { id: 0, payload },
        } if *conn == other => {
            ExtensionHandshake::decode(payload).unwrap().metadata_bytes == own_length()
        }
        _ => false,
    };
    assert!(lone.out.iter().any(offers), "it is told");
    lone.out.clear();
    lone.receive(other, ask);
    let given = sent(&mut lone);
    assert!(matches!(given[0].1, MetadataMessage::Data { piece: 1, .. }));
}

#[test]
fn bitfields_that_wait_are_bounded() {
    let mut lone = magnet();
    let bitfield = Message::Bitfield(Bytes::from(vec![1; 256 * 1024]));
    let fit = EARLY_BITFIELDS_MAX_BYTES / (256 * 1024);
    for n in 0..u8::try_from(fit).unwrap() + 3 {
        let conn = lone.open(n, SPEAKS);
        lone.receive(conn, bitfield.clone());
        let closed = lone.close_reason(conn);
        let expected = (usize::from(n) >= fit).then_some(CloseReason::Full);
        assert_eq!(closed, expected, "{n}");
    }
}

#[test]
fn trackers_are_not_told_of_a_seeder_that_knows_nothing() {
    let unknown = Unknown {
        info_hash: InfoHash([7; 20]),
        trackers: vec![vec!["http://tracker/announce".to_owned()]],
    };
    let engine = Engine::fetching(unknown, Config::new(OWN_ID), 1);
    let lone = Lone::of(engine, layout(PIECES));
    let left = lone.out.iter().find_map(|order| match order {
        Output::Announce { request, .. } => Some(request.left),
        _ => None,
    });
    assert_eq!(left, Some(LEFT_UNKNOWN));
    assert_eq!(lone.events, [], "nothing is complete");
}
