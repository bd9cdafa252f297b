use crate::announce::{AnnounceRequest, Event};
use crate::http::TRACKER_ID_MAX_BYTES;
use crate::http::query::{self, QueryError};
use bt_core::InfoHash;

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn wrong_queries_are_refused_by_name() {
    // FAULTS 110 and 111. Each row replaces or adds to a query that is right.
    const RIGHT: &str =
        "info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&port=80&left=5";
    assert!(query::announce(RIGHT.as_bytes()).is_ok());
    let hex = "0123456789abcdef0123456789abcdef01234567";
    let long = "9".repeat(500);
    let rows = [
        ("info_hash=aaaaaaaaaaaaaaaaaaaa", "", "info_hash is missing"),
        ("peer_id=bbbbbbbbbbbbbbbbbbbb", "", "peer_id is missing"),
        ("port=80", "", "port is missing"),
        ("left=5", "", "left is missing"),
        (
            "info_hash=a",
            "info_hash=",
            "info_hash has 19 bytes, not 20",
        ),
        (
            "info_hash=a",
            "info_hash=aa",
            "info_hash has 21 bytes, not 20",
        ),
        (
            "info_hash=aaaaaaaaaaaaaaaaaaaa",
            &format!("info_hash={hex}"),
            "info_hash has 40 bytes, not 20",
        ),
        (
            "info_hash=aaaaaaaaaaaaaaaaaaaa",
            "info_hash",
            "info_hash has 0 bytes, not 20",
        ),
        (
            "info_hash=a",
            "info_hash=%g",
            "info_hash has a broken percent escape",
        ),
        (
            "info_hash=a",
            "info_hash=%zz",
            "info_hash has a broken percent escape",
        ),
        (
            "info_hash=aaaaaaaaaaaaaaaaaaaa",
            "info_hash=aaaaaaaaaaaaaaaaaaa%4",
            "info_hash has a broken percent escape",
        ),
        ("peer_id=b", "peer_id=", "peer_id has 19 bytes, not 20"),
        ("port=80", "port=", "port=: expected a number in its range"),
        (
            "port=80",
            "port=65536",
            "port=65536: expected a number in its range",
        ),
        (
            "port=80",
            "port=-1",
            "port=-1: expected a number in its range",
        ),
        (
            "port=80",
            "port=+1",
            "port=+1: expected a number in its range",
        ),
        (
            "port=80",
            "port=0x50",
            "port=0x50: expected a number in its range",
        ),
        (
            "port=80",
            "port=8%30",
            "port=8%30: expected a number in its range",
        ),
        (
            "left=5",
            "left=-1",
            "left=-1: expected a number in its range",
        ),
        (
            "left=5",
            "left=18446744073709551616",
            "left=18446744073709551616: expected a number in its range",
        ),
        (
            "left=5",
            "left=1.5",
            "left=1.5: expected a number in its range",
        ),
        (
            "left=5",
            &format!("left={long}"),
            "left=99999999999999999999999999999999: expected a number in its range",
        ),
        (
            "left=5",
            "left=5&uploaded=x",
            "uploaded=x: expected a number in its range",
        ),
        (
            "left=5",
            "left=5&downloaded= 1",
            "downloaded= 1: expected a number in its range",
        ),
        (
            "left=5",
            "left=5&numwant=-2",
            "numwant=-2: expected a number in its range",
        ),
        (
            "left=5",
            "left=5&numwant=many",
            "numwant=many: expected a number in its range",
        ),
        ("left=5", "left=5&compact=2", "compact=2: expected 0 or 1"),
        (
            "left=5",
            "left=5&no_peer_id=",
            "no_peer_id=: expected 0 or 1",
        ),
        (
            "left=5",
            "left=5&event=end\u{7}",
            "event=end\\x07: expected started, completed, stopped or paused",
        ),
        (
            "left=5",
            "left=5&trackerid=%2",
            "trackerid has a broken percent escape",
        ),
        ("left=5", "left=5&left=6", "left is given twice"),
        (
            "left=5",
            "left=5&info_hash=aaaaaaaaaaaaaaaaaaaa",
            "info_hash is given twice",
        ),
        ("left=5", "left=5&port=81", "port is given twice"),
    ];
    for (right, wrong, expected) in rows {
        let query = RIGHT.replacen(right, wrong, 1);
        let error = query::announce(query.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), expected, "{query}");
    }
    let hash = QueryError::Length {
        name: "info_hash",
        length_bytes: 1,
    };
    assert_eq!(query::scrape(b"info_hash=a"), Err(hash));
}

type Change = fn(&mut AnnounceRequest);

#[test]
fn odd_queries_are_understood() {
    const RIGHT: &str =
        "info_hash=%61aaaaaaaaaaaaaaaaaa+&peer_id=bbbbbbbbbbbbbbbbbbbb&port=80&left=5";
    let read = |more: &str| query::announce(format!("{RIGHT}{more}").as_bytes()).unwrap();
    let plain = read("");
    assert_eq!(plain.info_hash, InfoHash(*b"aaaaaaaaaaaaaaaaaaa+"));
    assert_eq!(
        (plain.uploaded, plain.event, plain.compact),
        (0, Event::Interval, None)
    );
    let rows: [(&str, Change); 10] = [
        ("&event=", |_| {}),
        ("&&&=&=5&unknown&unknown=1&unknown=2", |_| {}),
        ("&ipv4=1.2.3.4&ipv6=%3A%3A1", |_| {}),
        ("&ip=host.example", |_| {}),
        ("&key=not-hexadecimal", |_| {}),
        ("&numwant=-1", |_| {}),
        ("&numwant=99999999999", |request| {
            request.numwant = Some(u32::MAX)
        }),
        ("&ip=1.2.3.4", |request| {
            request.ip = Some("1.2.3.4".parse().unwrap())
        }),
        ("&key=0000beef", |request| request.key = Some(0xbeef)),
        ("&event=paused", |request| request.event = Event::Paused),
    ];
    for (more, change) in rows {
        let mut expected = plain.clone();
        change(&mut expected);
        assert_eq!(read(more), expected, "{more}");
    }
    for (length, kept) in [
        (TRACKER_ID_MAX_BYTES, true),
        (TRACKER_ID_MAX_BYTES + 1, false),
    ] {
        let id = format!("&trackerid={}", "x".repeat(length));
        assert_eq!(read(&id).tracker_id.is_some(), kept);
    }
    assert_eq!(query::scrape(b"x=1"), Ok(vec![]));
    let many = "info_hash=aaaaaaaaaaaaaaaaaaaa&".repeat(2_000);
    assert_eq!(
        query::scrape(many.as_bytes()).unwrap().len(),
        query::SCRAPE_MAX
    );
}

#[test]
fn escapes_stand_for_every_byte_and_nothing_else_is_one() {
    let read = |escape: &[u8]| {
        let query = [b"info_hash=", escape, &[b'a'; 19]].concat();
        query::scrape(&query).map(|torrents| torrents[0].0[0])
    };
    for byte in 0..=u8::MAX {
        for escape in [format!("%{byte:02x}"), format!("%{byte:02X}")] {
            assert_eq!(read(escape.as_bytes()), Ok(byte), "{escape}");
        }
        if !byte.is_ascii_hexdigit() && byte != b'&' {
            let error = Err(QueryError::Escape { name: "info_hash" });
            assert_eq!(read(&[b'%', byte, b'0']), error, "{byte}");
            assert_eq!(read(&[b'%', b'0', byte]), error, "{byte}");
        }
    }
}
