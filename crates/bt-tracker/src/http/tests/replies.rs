use crate::announce::{AnnounceFailure, AnnounceResponse, NamedPeer, Peer};
use crate::http::{TRACKER_ID_MAX_BYTES, decode, encode};
use crate::text::{TEXT_MAX_BYTES, clean};
use bt_core::PeerId;
use core::time::Duration;

fn peer(addr: &str) -> Peer {
    Peer {
        addr: addr.parse().unwrap(),
        peer_id: None,
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn replies_hold_what_trackers_say() {
    let default = AnnounceResponse {
        interval: Duration::from_secs(1800),
        ..AnnounceResponse::default()
    };
    let rows: [(&[u8], AnnounceResponse); 13] = [
        (b"de", default.clone()),
        (b"d5:peerslee", default.clone()),
        (
            b"d8:completei5e10:incompletei6e8:intervali900e12:min intervali300e5:peers0:10:tracker id2:ab15:warning message4:hushe",
            AnnounceResponse {
                interval: Duration::from_secs(900),
                min_interval: Some(Duration::from_secs(300)),
                tracker_id: Some(b"ab".to_vec()),
                complete: Some(5),
                incomplete: Some(6),
                warning: Some("hush".to_owned()),
                ..default.clone()
            },
        ),
        // BEP 23, BEP 7.
        (
            b"d5:peers12:\x01\x02\x03\x04\x1a\xe1\x7f\0\0\x01\0\x506:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1e",
            AnnounceResponse {
                peers: vec![peer("1.2.3.4:6881"), peer("127.0.0.1:80"), peer("[2001:db8::1]:6881")],
                ..default.clone()
            },
        ),
        // BEP 3: dictionaries, with addresses of both families and a host name.
        (
            b"d5:peersld2:ip7:1.2.3.47:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti80eed2:ip3:::14:porti80eed2:ip6:a.test4:porti80eeee",
            AnnounceResponse {
                peers: vec![
                    Peer { peer_id: Some(PeerId([b'a'; 20])), ..peer("1.2.3.4:80") },
                    peer("[::1]:80"),
                ],
                named_peers: vec![NamedPeer { host: "a.test".to_owned(), port: 80 }],
                ..default.clone()
            },
        ),
        // FAULTS 99: bytes behind the last whole peer; port 0, 0.0.0.0, multicast, broadcast; one peer thrice.
        (
            b"d5:peers43:\x01\x02\x03\x04\0\x50\x01\x02\x03\x04\0\0\0\0\0\0\0\x50\xe0\0\0\x01\0\x50\xff\xff\xff\xff\0\x50\x01\x02\x03\x04\0\x50\x05\x06\x07\x08\0\x50xe",
            AnnounceResponse {
                peers: vec![peer("1.2.3.4:80"), peer("5.6.7.8:80")],
                warning: Some("its list of peers ends in the middle of one".to_owned()),
                ..default.clone()
            },
        ),
        // FAULTS 99: a list with all that can be wrong with an entry; only the last is right.
        (
            b"d5:peersli1e0:led2:ipi5e4:porti80eed2:ip7:1.2.3.4ed2:ip7:1.2.3.44:porti0eed2:ip7:1.2.3.44:porti65536eed2:ip7:1.2.3.44:port2:80ed2:ip7:1.2.3.44:porti-1eed2:ip0:4:porti80eed2:ip9:999.9.9.94:porti80eed2:ip6:a b.te4:porti80eed2:ip5:\xff\xfe\xfd..4:porti80eed2:ip7:-a.test4:porti80eed2:ip7:8.8.8.87:peer id3:abc4:porti80eeee",
            AnnounceResponse { peers: vec![peer("8.8.8.8:80")], ..default.clone() },
        ),
        // An IPv4 address in IPv6 is the IPv4 address.
        (
            b"d6:peers618:\0\0\0\0\0\0\0\0\0\0\xff\xff\x01\x02\x03\x04\0\x50e",
            AnnounceResponse { peers: vec![peer("1.2.3.4:80")], ..default.clone() },
        ),
        // BEP 24.
        (
            b"d11:external ip4:\x01\x02\x03\x04e",
            AnnounceResponse { external_ip: Some("1.2.3.4".parse().unwrap()), ..default.clone() },
        ),
        (b"d11:external ip7:1.2.3.4e", default.clone()),
        // Lenient: keys out of order and twice (the first counts), leading zeros, a newline at the end.
        (
            b"d8:intervali0900e5:peers0:8:intervali60e8:completei-1ee\r\n",
            AnnounceResponse { interval: Duration::from_secs(900), ..default.clone() },
        ),
        // Wrong types are as good as absent.
        (b"d8:complete1:x8:interval4:180012:min intervalle5:peersi7e10:tracker idi1e15:warning messageli1eee", default.clone()),
        (b"d8:completei99999999999e5:peersdee", AnnounceResponse { complete: Some(u32::MAX), ..default }),
    ];
    for (body, expected) in rows {
        assert_eq!(
            decode::announce(body),
            Ok(expected),
            "{}",
            body.escape_ascii()
        );
    }
}

#[test]
fn intervals_are_clamped() {
    // FAULTS 98. Columns: interval, min interval; what is kept.
    let rows = [
        ("i0e", "", 30, None),
        ("i-5e", "", 30, None),
        ("i4611686018427387904e", "", 86_400, None),
        ("i99999999999999999999999999e", "", 86_400, None),
        ("i-99999999999999999999999999e", "", 30, None),
        ("i900e", "i0e", 900, Some(30)),
        ("i900e", "i-1e", 900, Some(30)),
        ("i900e", "i5000e", 5_000, Some(5_000)),
        ("i900e", "i999999999e", 86_400, Some(86_400)),
    ];
    for (interval, min, expected, expected_min) in rows {
        let min = if min.is_empty() {
            String::new()
        } else {
            format!("12:min interval{min}")
        };
        let body = format!("d8:interval{interval}{min}e");
        match decode::announce(body.as_bytes()) {
            Ok(answer) => {
                assert_eq!(answer.interval.as_secs(), expected, "{body}");
                assert_eq!(
                    answer.min_interval.map(|min| min.as_secs()),
                    expected_min,
                    "{body}"
                );
            }
            Err(error) => panic!("{body}: {error}"),
        }
    }
}

#[test]
fn failures_are_shown_safely() {
    let rows: [(&[u8], &str, Option<Duration>); 9] = [
        (b"d14:failure reason2:noe", "no", None),
        (
            b"d14:failure reason2:no8:intervali0e5:peersi0ee",
            "no",
            None,
        ),
        (b"d14:failure reasoni5ee", "refused without a reason", None),
        (b"d14:failure reason0:e", "refused without a reason", None),
        // FAULTS 100.
        (
            b"d14:failure reason7:\x1b[31m\xc2\x9be",
            "\\u{1b}[31m\\u{9b}",
            None,
        ),
        (
            b"d14:failure reason6:a\xe2\x80\xaebce",
            "a\\u{202e}bc",
            None,
        ),
        // BEP 31.
        (
            b"d14:failure reason2:no8:retry ini5ee",
            "no",
            Some(Duration::from_secs(300)),
        ),
        (
            b"d14:failure reason2:no8:retry in2:15e",
            "no",
            Some(Duration::from_secs(900)),
        ),
        (
            b"d14:failure reason2:no8:retry in5:nevere",
            "no",
            Some(Duration::MAX),
        ),
    ];
    for (body, reason, retry_in) in rows {
        let expected = AnnounceFailure::Refused {
            reason: reason.to_owned(),
            retry_in,
        };
        assert_eq!(
            decode::announce(body),
            Err(expected.clone()),
            "{}",
            body.escape_ascii()
        );
        assert_eq!(
            decode::scrape(body),
            Err(expected),
            "{}",
            body.escape_ascii()
        );
    }
    for length in [
        TEXT_MAX_BYTES - 1,
        TEXT_MAX_BYTES,
        TEXT_MAX_BYTES + 1,
        800_000,
    ] {
        for fill in [&b"x"[..], "é".as_bytes(), "€".as_bytes(), b"\x1b", b"\xff"] {
            let text = clean(&fill.repeat(length / fill.len()));
            assert!(text.len() <= TEXT_MAX_BYTES + '…'.len_utf8());
        }
    }
    assert_eq!(clean(b"plain"), "plain");
}

#[test]
fn nonsense_is_an_error_and_no_more() {
    // FAULTS 94 to 96 as far as bodies go; the shell caps what it reads at REPLY_MAX_BYTES.
    let deep = [b"d5:peers".to_vec(), b"l".repeat(100_000)].concat();
    let long = [
        b"d5:peers2000000:".to_vec(),
        vec![0; 2_000_000],
        b"e".to_vec(),
    ]
    .concat();
    let rows: [&[u8]; 12] = [
        b"",
        b"<html>busy</html>",
        b"d",
        b"d8:intervali1800e5:peers6:abc",
        b"i5e",
        b"le",
        b"4:text",
        b"dee",
        b"d8:intervale",
        b"d99999999999999999999:e",
        &deep,
        &long,
    ];
    for body in rows {
        for result in [decode::announce(body).err(), decode::scrape(body).err()] {
            let shown = &body[..body.len().min(40)];
            match result {
                Some(AnnounceFailure::Unreachable {
                    message,
                    retry_in: None,
                }) => assert!(message.len() <= TEXT_MAX_BYTES + 3, "{message}"),
                other => panic!("{}: {other:?}", shown.escape_ascii()),
            }
        }
    }
}

#[test]
fn peers_are_capped() {
    let compact = |count: u32| -> Vec<u8> {
        let peers = (0..count)
            .flat_map(|n| [(0x0100_0000 + n).to_be_bytes().to_vec(), vec![0, 80]].concat());
        let peers: Vec<u8> = peers.collect();
        [
            format!("d5:peers{}:", peers.len()).into_bytes(),
            peers,
            b"e".to_vec(),
        ]
        .concat()
    };
    assert_eq!(
        decode::announce(&compact(100_000)).unwrap().peers.len(),
        decode::PEERS_MAX
    );
    let named: String = (0..1_000)
        .map(|n| format!("d2:ip7:{n:05}.x4:porti80ee"))
        .collect();
    let named = decode::announce(format!("d5:peersl{named}ee").as_bytes()).unwrap();
    assert_eq!(named.named_peers.len(), decode::NAMED_PEERS_MAX);
    let id = |length: usize| format!("d10:tracker id{length}:{}e", "x".repeat(length));
    assert!(
        decode::announce(id(TRACKER_ID_MAX_BYTES).as_bytes())
            .unwrap()
            .tracker_id
            .is_some()
    );
    assert!(
        decode::announce(id(TRACKER_ID_MAX_BYTES + 1).as_bytes())
            .unwrap()
            .tracker_id
            .is_none()
    );
}

#[test]
fn numbers_are_written_digit_by_digit() {
    for number in [0, 9, 10, 99, 100, 101, u64::from(u32::MAX), u64::MAX] {
        let mut out = b"i".to_vec();
        encode::decimal(&mut out, number);
        assert_eq!(out, format!("i{number}").as_bytes());
    }
}
