use super::options::{URL_DATA_MAX_BYTES, UrlData};
use super::request::{Flaw, Request, RequestError};
use super::response::{AnnounceHead, Body, Response, ResponseError};
use super::*;
use crate::announce::{AnnounceRequest, AnnounceResponse, Event, INTERVAL_MAX, INTERVAL_MIN, Peer};
use crate::scrape::ScrapeEntry;
use bt_core::{InfoHash, PeerId, addr};
use core::time::Duration;
use proptest::prelude::*;

/// `00010203…13` as info hash and `-BT0001-abcdefghijkl` as peer id.
const WHO: &str =
    "000102030405060708090a0b0c0d0e0f101112132d4254303030312d6162636465666768696a6b6c";
const CONNECTION: ConnectionId = ConnectionId(0xfedc_ba98_7654_3210);
const TRANSACTION: TransactionId = TransactionId(0xa1b2_c3d4);

fn bytes(hex: &str) -> Vec<u8> {
    let hex: Vec<u8> = hex.bytes().filter(|byte| *byte != b' ').collect();
    hex.chunks(2)
        .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn announced() -> AnnounceRequest {
    let info_hash = InfoHash(core::array::from_fn(|n| u8::try_from(n).unwrap()));
    AnnounceRequest {
        downloaded: 1,
        uploaded: 3,
        event: Event::Started,
        key: Some(0xcafe_babe),
        ..AnnounceRequest::new(info_hash, PeerId(*b"-BT0001-abcdefghijkl"), 6881, 2)
    }
}

/// An announce packet, field by field in the order of BEP 15.
fn announce_packet(event: u32, numwant: u32, port: u16) -> Vec<u8> {
    bytes(
        &format!(
        "fedcba9876543210 00000001 a1b2c3d4 {WHO} 0000000000000001 0000000000000002 0000000000000003
         {event:08x} 00000000 cafebabe {numwant:08x} {port:04x}"
    )
        .replace('\n', ""),
    )
}

#[test]
fn requests_stand_as_bep_15_has_them() {
    // Each field written out by hand; a client writes what a tracker reads.
    let mut written = Vec::new();
    request::connect(TransactionId(0x0102_0304), &mut written);
    assert_eq!(written, bytes("0000041727101980 00000000 01020304"));
    let transaction_id = TransactionId(0x0102_0304);
    assert_eq!(
        request::read(&written),
        Ok(Request::Connect { transaction_id })
    );

    let mut written = Vec::new();
    request::announce(CONNECTION, TRANSACTION, &announced(), "", &mut written);
    assert_eq!(written, announce_packet(2, u32::MAX, 6881));
    assert_eq!(
        request::read(&written),
        Ok(Request::Announce {
            connection_id: CONNECTION,
            transaction_id: TRANSACTION,
            announce: announced(),
            url_data: UrlData::default(),
        })
    );

    let info_hashes = [announced().info_hash, InfoHash([0xff; 20])];
    let mut written = Vec::new();
    request::scrape(CONNECTION, TRANSACTION, &info_hashes, &mut written);
    let expected = format!(
        "fedcba9876543210 00000002 a1b2c3d4 {} {}",
        &WHO[..40],
        "ff".repeat(20)
    );
    assert_eq!(written, bytes(&expected));
    let Ok(Request::Scrape {
        info_hashes: read, ..
    }) = request::read(&written)
    else {
        panic!("a scrape");
    };
    assert_eq!(read.iter().collect::<Vec<_>>(), info_hashes);
}

#[test]
fn events_and_numwant_are_numbers() {
    // FAULTS 127.
    let rows = [
        (0, u32::MAX, Ok((Event::Interval, None))),
        (1, 0, Ok((Event::Completed, Some(0)))),
        (2, 50, Ok((Event::Started, Some(50)))),
        (3, 0x8000_0000, Ok((Event::Stopped, Some(0x8000_0000)))),
        (4, 50, Err(Flaw::Event)),
        (99, 50, Err(Flaw::Event)),
        (u32::MAX, 50, Err(Flaw::Event)),
    ];
    for (event, numwant, expected) in rows {
        let packet = announce_packet(event, numwant, 6881);
        let got = match request::read(&packet) {
            Ok(Request::Announce { announce, .. }) => Ok((announce.event, announce.numwant)),
            Err(RequestError::Flawed { flaw, .. }) => Err(flaw),
            other => panic!("{other:?}"),
        };
        assert_eq!(got, expected, "{event} {numwant}");
    }
    // A claimed address is passed over, wherever the packet comes from.
    let mut packet = announce_packet(2, 50, 6881);
    packet[84..88].copy_from_slice(&[1, 2, 3, 4]);
    let Ok(Request::Announce { announce, .. }) = request::read(&packet) else {
        panic!("an announce");
    };
    assert_eq!(announce.ip, None);
}

#[test]
fn packets_that_are_cut_or_nonsense_are_refused() {
    // FAULTS 125: at any length; and only a connect needs its magic number.
    let whole = announce_packet(2, 50, 6881);
    for length in 0..whole.len() {
        let expected = if length < REQUEST_MIN_BYTES {
            RequestError::Foreign
        } else {
            flawed(Flaw::Short)
        };
        assert_eq!(request::read(&whole[..length]), Err(expected), "{length}");
    }
    let rows = [
        ("0000041727101981 00000000 a1b2c3d4", RequestError::Foreign),
        ("fedcba9876543210 00000003 a1b2c3d4", flawed(Flaw::Action)),
        ("fedcba9876543210 ffffffff a1b2c3d4", flawed(Flaw::Action)),
    ];
    for (packet, expected) in rows {
        assert_eq!(request::read(&bytes(packet)), Err(expected), "{packet}");
    }
}

const fn flawed(flaw: Flaw) -> RequestError {
    RequestError::Flawed {
        connection_id: CONNECTION,
        transaction_id: TRANSACTION,
        flaw,
    }
}

#[test]
fn scrapes_are_of_one_to_74_whole_info_hashes() {
    // FAULTS 126.
    let rows = [
        (0, Err(Flaw::NoInfoHash)),
        (1, Err(Flaw::CutInfoHash)),
        (19, Err(Flaw::CutInfoHash)),
        (20, Ok(1)),
        (21, Err(Flaw::CutInfoHash)),
        (74 * 20, Ok(74)),
        (74 * 20 + 1, Err(Flaw::CutInfoHash)),
        (75 * 20, Err(Flaw::TooMany)),
        (1_000 * 20, Err(Flaw::TooMany)),
    ];
    for (length, expected) in rows {
        let mut packet = bytes("fedcba9876543210 00000002 a1b2c3d4");
        packet.resize(packet.len() + length, 7);
        let got = match request::read(&packet) {
            Ok(Request::Scrape { info_hashes, .. }) => Ok(info_hashes.iter().len()),
            Err(RequestError::Flawed { flaw, .. }) => Err(flaw),
            other => panic!("{other:?}"),
        };
        assert_eq!(got, expected, "{length}");
    }
    let mut written = Vec::new();
    request::scrape(
        CONNECTION,
        TRANSACTION,
        &[InfoHash([1; 20]); 100],
        &mut written,
    );
    assert_eq!(written.len(), 16 + 74 * 20);
}

#[test]
fn url_data_is_read_from_the_options() {
    // BEP 41: `0` ends, `1` pads, `2` is a piece, anything else is passed over by its length.
    let rows: [(&[u8], &[u8]); 10] = [
        (b"", b""),
        (b"\x02\x0c/dir?a=b&c=d", b"/dir?a=b&c=d"),
        (b"\x02\x01/", b"/"),
        (b"\x02\x04/dir\x02\x08?a=b&c=d\x00", b"/dir?a=b&c=d"),
        (b"\x01\x01\x02\x02/x\x01", b"/x"),
        (b"\x07\x03abc\x02\x02/x", b"/x"),
        (b"\x00\x02\x02/x", b""),
        (b"\x02", b""),
        (b"\x02\x05/x", b""),
        (b"\x02\x02/x\x02\xffcut", b"/x"),
    ];
    for (options, expected) in rows {
        let mut packet = announce_packet(2, 50, 6881);
        packet.extend_from_slice(options);
        let Ok(Request::Announce { url_data, .. }) = request::read(&packet) else {
            panic!("an announce");
        };
        assert_eq!(url_data.to_vec(), expected, "{options:?}");
    }
    for length in [
        0,
        1,
        255,
        256,
        600,
        URL_DATA_MAX_BYTES,
        URL_DATA_MAX_BYTES + 1,
    ] {
        let url_data = "u".repeat(length);
        let mut packet = Vec::new();
        request::announce(
            CONNECTION,
            TRANSACTION,
            &announced(),
            &url_data,
            &mut packet,
        );
        let Ok(Request::Announce { url_data: read, .. }) = request::read(&packet) else {
            panic!("an announce");
        };
        assert_eq!(read.to_vec().len(), length.min(URL_DATA_MAX_BYTES));
        assert!(packet.len() <= PACKET_MAX_BYTES);
    }
}

fn peer(addr: &str) -> Peer {
    Peer {
        addr: addr.parse().unwrap(),
        peer_id: None,
    }
}

fn answer(peers: Vec<Peer>) -> Body {
    Body::Announce(AnnounceResponse {
        interval: Duration::from_secs(1800),
        complete: Some(5),
        incomplete: Some(7),
        peers,
        ..AnnounceResponse::default()
    })
}

fn check_answer(written: &[u8], hex: &str, family: Family, body: Body) {
    assert_eq!(written, bytes(hex), "{body:?}");
    let transaction_id = TRANSACTION;
    assert_eq!(
        response::read(written, family),
        Ok(Response {
            transaction_id,
            body
        })
    );
}

#[test]
fn answers_stand_as_bep_15_has_them() {
    let connection_id = CONNECTION;
    let mut connect = Vec::new();
    response::connect(TRANSACTION, connection_id, &mut connect);
    let hex = "00000000 a1b2c3d4 fedcba9876543210";
    check_answer(&connect, hex, Family::V4, Body::Connect { connection_id });

    let numbers = AnnounceHead {
        interval_secs: 1800,
        leechers: 7,
        seeders: 5,
    };
    let rows: [(Family, &[&str], &str); 2] = [
        (
            Family::V4,
            &["10.0.0.1:6881", "192.168.1.2:51413"],
            "0a0000011ae1 c0a80102c8d5",
        ),
        (
            Family::V6,
            &["[2001:db8::1]:6881"],
            "20010db80000000000000000000000011ae1",
        ),
    ];
    for (family, peers, hex) in rows {
        let mut written = Vec::new();
        response::announce(TRANSACTION, numbers, &mut written);
        let peers: Vec<Peer> = peers.iter().map(|addr| peer(addr)).collect();
        peers
            .iter()
            .for_each(|peer| addr::encode_compact(peer.addr, &mut written));
        let hex = format!("00000001 a1b2c3d4 00000708 00000007 00000005 {hex}");
        check_answer(&written, &hex, family, answer(peers));
    }

    let entry = |complete, downloaded, incomplete| ScrapeEntry {
        complete,
        downloaded,
        incomplete,
        downloaders: None,
    };
    let entries = vec![entry(5, 100, 7), entry(0, 0, u32::MAX)];
    let mut scrape = Vec::new();
    response::scrape(TRANSACTION, entries.clone(), &mut scrape);
    let hex = "00000002 a1b2c3d4 00000005 00000064 00000007 00000000 00000000 ffffffff";
    check_answer(&scrape, hex, Family::V6, Body::Scrape(entries));

    let mut error = Vec::new();
    response::error(TRANSACTION, "no such torrent", &mut error);
    let hex = "00000003 a1b2c3d4 6e6f207375636820746f7272656e74";
    check_answer(
        &error,
        hex,
        Family::V4,
        Body::Error("no such torrent".into()),
    );
}

#[test]
fn answers_of_strangers_are_clamped_and_cut() {
    // FAULTS 107: lengths, intervals, peers and texts that make no sense.
    let whole = bytes(
        "00000001 a1b2c3d4 00000000 00000007 00000005 0a0000011ae1 0a0000011ae1 000000001ae1 0a00000200 00",
    );
    for length in 0..whole.len() {
        let read = response::read(&whole[..length], Family::V4);
        let expected = if length < response::ANNOUNCE_HEAD_BYTES {
            Err(ResponseError::Short {
                length_bytes: length,
            })
        } else {
            Ok(usize::from(length >= 26))
        };
        let got = read.map(|response| {
            let Body::Announce(answer) = response.body else {
                panic!("an announce");
            };
            assert_eq!(answer.interval, INTERVAL_MIN);
            answer.peers.len()
        });
        assert_eq!(
            got, expected,
            "{length}: twice, undialable, port 0 and cut are left out"
        );
    }
    let long = bytes("00000001 a1b2c3d4 ffffffff 00000007 00000005");
    let Ok(Body::Announce(answer)) = response::read(&long, Family::V4).map(|read| read.body) else {
        panic!("an announce");
    };
    assert_eq!(answer.interval, INTERVAL_MAX);
    assert_eq!(
        response::read(&bytes("00000004 a1b2c3d4"), Family::V4),
        Err(ResponseError::Action { action: 4 })
    );
    assert_eq!(
        response::read(&bytes("00000000 a1b2c3d4 00"), Family::V4),
        Err(ResponseError::Short { length_bytes: 9 })
    );
    let mut error = bytes("00000003 a1b2c3d4 1b5b326a");
    error.resize(100_000, b'x');
    let Ok(Body::Error(text)) = response::read(&error, Family::V4).map(|read| read.body) else {
        panic!("an error");
    };
    assert!(
        text.starts_with("\\u{1b}[2jxxx") && text.len() < 1_100,
        "{text}"
    );
}

#[test]
fn an_answer_fits_a_frame() {
    for (ip, family) in [
        ("10.0.0.1", Family::V4),
        ("::ffff:10.0.0.1", Family::V4),
        ("2001:db8::1", Family::V6),
    ] {
        let ip: IpAddr = ip.parse().unwrap();
        assert_eq!(Family::of(ip), family);
        let length = response::ANNOUNCE_HEAD_BYTES + family.peers_max() * family.peer_bytes();
        assert!((1_400..=1_452).contains(&length), "{length}");
    }
}

proptest! {
    /// FAULTS 125: whatever arrives, and whatever is done to a good packet, is read without a panic and within bounds.
    #[test]
    fn nothing_makes_them_panic(
        mut packet in prop::collection::vec(any::<u8>(), 0..400),
        action in 0_u32..5,
        flips in prop::collection::vec((0_usize..150, any::<u8>()), 0..4),
    ) {
        let mut good = announce_packet(2, 50, 6881);
        good.extend_from_slice(b"\x02\x0c/dir?a=b&c=d");
        for (at, byte) in flips {
            if let Some(place) = good.get_mut(at) {
                *place = byte;
            }
        }
        if let Some(place) = packet.get_mut(8..12) {
            place.copy_from_slice(&action.to_be_bytes());
        }
        for packet in [&packet, &good] {
            match request::read(packet) {
                Ok(Request::Announce { url_data, .. }) => prop_assert!(url_data.to_vec().len() <= packet.len()),
                Ok(Request::Scrape { info_hashes, .. }) => prop_assert!(info_hashes.iter().len() <= SCRAPE_MAX),
                Ok(Request::Connect { .. }) | Err(_) => {}
            }
        }
        if let Some(place) = packet.get_mut(..4) {
            place.copy_from_slice(&action.to_be_bytes());
        }
        for family in [Family::V4, Family::V6] {
            if let Ok(Response { body: Body::Announce(answer), .. }) = response::read(&packet, family) {
                prop_assert!(answer.peers.iter().all(|peer| addr::is_dialable(peer.addr)));
            }
        }
    }
}
