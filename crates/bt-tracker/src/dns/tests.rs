use super::message::{Answer, Question};
use super::*;
use core::time::Duration;
use proptest::prelude::*;

fn read(records: &[&str]) -> Option<Preferences> {
    Preferences::read(records.iter().map(|record| record.as_bytes()))
}

fn udp(port: u16) -> Endpoint {
    let transport = Transport::Udp;
    Endpoint { transport, port }
}

fn tcp(port: u16) -> Endpoint {
    let transport = Transport::Tcp;
    Endpoint { transport, port }
}

#[test]
fn records_and_what_they_say() {
    let rows: &[(&[&str], Option<Vec<Endpoint>>)] = &[
        // The examples of BEP 34.
        (&["BITTORRENT"], Some(vec![])),
        (&["BITTORRENT DENY ALL"], Some(vec![])),
        (
            &["BITTORRENT UDP:1337 TCP:80"],
            Some(vec![udp(1337), tcp(80)]),
        ),
        // "case-sensitive", "should always be the first word", "unrecognized words are silently ignored".
        (&["bittorrent DENY ALL"], None),
        (&["BitTorrent"], None),
        (&["see BITTORRENT UDP:1"], None),
        (&["BITTORRENTS UDP:1"], None),
        (&["BITTORRENT udp:1 QUIC:2 TCP:3 soon"], Some(vec![tcp(3)])),
        (&["BITTORRENT  TCP:3  "], Some(vec![tcp(3)])),
        // What is no port names none.
        (
            &[
                "BITTORRENT UDP:0 UDP:65536 UDP:+1 UDP: UDP:1x TCP:-1 UDP TCP:999999999999 UDP:65535",
            ],
            Some(vec![udp(65535)]),
        ),
        // Other records of the name, and several that count.
        (&[], None),
        (&["v=spf1 -all", ""], None),
        (&["v=spf1 -all", "BITTORRENT UDP:1"], Some(vec![udp(1)])),
        (
            &["BITTORRENT UDP:1", "BITTORRENT TCP:2 UDP:1"],
            Some(vec![udp(1), tcp(2)]),
        ),
        // Bounded.
        (
            &["BITTORRENT UDP:1 UDP:2 UDP:3 UDP:4 UDP:5"],
            Some(vec![udp(1), udp(2), udp(3), udp(4)]),
        ),
    ];
    for (records, expected) in rows {
        assert_eq!(read(records).map(|read| read.0), *expected, "{records:?}");
    }
}

#[test]
fn a_record_changes_scheme_and_port_and_keeps_the_preference() {
    let rows = [
        (
            "UDP:9 TCP:80",
            "http://t.org/a",
            "udp://t.org:9/a http://t.org/a",
        ),
        ("UDP:1337", "udp://t.org:1337", "udp://t.org:1337"),
        ("UDP:1", "udp://t.org:2/a?key=1", "udp://t.org:1/a?key=1"),
        (
            "UDP:1",
            "http://u:p@t.org/a/b?c=%20",
            "udp://t.org:1/a/b?c=%20",
        ),
        ("TCP:81", "http://u:p@t.org/a", "http://u:p@t.org:81/a"),
        ("TCP:80", "udp://t.org:80", "http://t.org:80/announce"),
        ("TCP:80", "udp://t.org:80/", "http://t.org:80/announce"),
        (
            "TCP:80",
            "udp://t.org:8/?k=1",
            "http://t.org:80/announce?k=1",
        ),
        ("TCP:80", "udp://t.org:80/x", "http://t.org:80/x"),
        (
            "TCP:443 TCP:8",
            "udp://t.org:8/x",
            "https://t.org:443/x http://t.org:8/x",
        ),
        // Encryption stays.
        ("UDP:1 TCP:8443", "https://t.org/a", "https://t.org:8443/a"),
        ("TCP:443 UDP:1", "https://t.org/a", "https://t.org/a"),
        ("TCP:443", "http://t.org/a", "https://t.org:443/a"),
        ("TCP:443", "HTTP://t.org:443/a", "HTTP://t.org:443/a"),
        // No tracker's URL: somebody else says what is wrong with it.
        ("UDP:1", "wss://t.org/a", "wss://t.org/a"),
        ("UDP:1", "udp://t.org/a", "udp://t.org/a"),
        ("", "nonsense", "nonsense"),
    ];
    for (words, url, expected) in rows {
        let preferences = read(&[&format!("BITTORRENT {words}")]).unwrap();
        let urls = preferences.apply(url).unwrap();
        assert_eq!(urls.join(" "), expected, "{words}: {url}");
    }
}

#[test]
fn who_runs_no_tracker_is_named() {
    let rows = [
        (
            "DENY ALL",
            "udp://u@www.example:1/a",
            "www.example says in DNS that it runs no tracker (BEP 34)",
        ),
        (
            "UDP:1",
            "https://www.example/a",
            "www.example names in DNS no tracker that can be asked over HTTPS (BEP 34)",
        ),
    ];
    for (words, url, expected) in rows {
        let preferences = read(&[&format!("BITTORRENT {words}")]).unwrap();
        assert_eq!(preferences.apply(url).unwrap_err().to_string(), expected);
    }
}

#[test]
fn only_names_are_asked_for() {
    let rows = [
        ("http://t.example/announce", Some("t.example")),
        ("udp://u:p@t.example:80", Some("t.example")),
        ("http://192.0.2.1/announce", None),
        ("udp://[2001:db8::1]:80/announce", None),
        ("http://[::1]/announce", None),
        ("ftp://t.example/", None),
        ("http:///announce", None),
        ("", None),
    ];
    for (url, expected) in rows {
        assert_eq!(host_of(url), expected, "{url}");
    }
}

fn question() -> Question {
    Question::new("T.example", 7).unwrap()
}

/// An answer to [`question`] with these flags, records counted as said and the bytes behind the question.
fn answer(flags: u16, count: u16, behind: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    for word in [7, flags, 1, count, 0, 0] {
        packet.extend_from_slice(&word.to_be_bytes());
    }
    packet.extend_from_slice(b"\x01t\x07example\0\0\x10\0\x01");
    packet.extend_from_slice(behind);
    packet
}

/// A record as servers write it, its name a pointer.
fn record(kind: u16, class: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0xc0, 12];
    record.extend_from_slice(&kind.to_be_bytes());
    record.extend_from_slice(&class.to_be_bytes());
    record.extend_from_slice(&ttl.to_be_bytes());
    record.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
    record.extend_from_slice(data);
    record
}

fn texts(texts: &[&str], seconds: Option<u64>) -> Option<Answer> {
    let texts = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    let ttl = seconds.map(Duration::from_secs);
    Some(Answer::Records { texts, ttl })
}

#[test]
fn the_question_on_the_wire() {
    let expected = b"\0\x07\x01\0\0\x01\0\0\0\0\0\x01\x01T\x07example\0\0\x10\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0";
    assert_eq!(question().packet(), expected);
    let long = "a".repeat(64);
    let many = "a.".repeat(128);
    for name in [
        "",
        ".",
        "a..b",
        "a b",
        "ä.example",
        "a/b",
        "a%41",
        &long,
        &many,
    ] {
        assert_eq!(Question::new(name, 1), None, "{name}");
    }
    assert_eq!(Question::new("t.example.", 7).unwrap().packet().len(), 38);
    assert!(Question::new("_bt.tracker-1.example", 1).is_some());
}

#[test]
fn answers_and_what_is_none() {
    let txt = |ttl, data: &[u8]| record(16, 1, ttl, data);
    let two = [txt(300, b"\x02ab"), txt(60, b"\x01c\x02de")].concat();
    let alias = [record(5, 1, 9, b"\x01x\0"), txt(300, b"\x02ab")].concat();
    let spelt = [b"\x01T\x07eXample\0".as_slice(), &txt(300, b"\x02ab")[2..]].concat();
    let chaos = record(16, 3, 300, b"\x02ab");
    let failed = Some(Answer::Failed);
    let rows: Vec<(Vec<u8>, Option<Answer>)> = vec![
        (answer(0x8180, 2, &two), texts(&["ab", "cde"], Some(60))),
        (answer(0x8180, 2, &alias), texts(&["ab"], Some(300))),
        (answer(0x8180, 1, &spelt), texts(&["ab"], Some(300))),
        (answer(0x8180, 1, &chaos), texts(&[], None)),
        (answer(0x8180, 0, b""), texts(&[], None)),
        (answer(0x8183, 0, b"soa"), texts(&[], None)),
        (answer(0x8182, 0, b""), failed.clone()),
        (answer(0x8185, 0, b""), failed.clone()),
        (answer(0x8380, 1, b""), Some(Answer::Truncated)),
        // Cut off, or lengths that lie.
        (answer(0x8180, 2, &two[..two.len() - 1]), failed.clone()),
        (answer(0x8180, 3, &two), failed.clone()),
        (answer(0x8180, 65_535, b""), failed.clone()),
        (answer(0x8180, 1, &txt(1, b"\x03ab")), failed.clone()),
        (answer(0x8180, 1, b"\x3fa"), failed.clone()),
        // A pointer to itself is as good as any: nobody goes there.
        (
            answer(0x8180, 1, &[&[0xc0, 28], &two[2..]].concat()),
            texts(&["ab"], Some(300)),
        ),
        // A question is no answer, and an answer of another kind none to this.
        (answer(0x0100, 0, b""), None),
        (answer(0xa180, 0, b""), None),
    ];
    for (packet, expected) in rows {
        assert_eq!(question().read(&packet), expected, "{packet:?}");
    }
    let good = answer(0x8180, 2, &two);
    assert_eq!(Question::new("t.example", 8).unwrap().read(&good), None);
    assert_eq!(Question::new("u.example", 7).unwrap().read(&good), None);
    for (at, byte) in [(5, 2), (24, 1), (26, 3)] {
        let mut other = good.clone();
        other[at] = byte;
        assert_eq!(question().read(&other), None, "byte {at}");
    }
}

#[test]
fn an_answer_holds_no_more_than_its_bound() {
    let many = record(16, 1, 5, b"\x01a").repeat(100);
    let Some(Answer::Records { texts, .. }) = question().read(&answer(0x8180, 100, &many)) else {
        panic!("it is an answer");
    };
    assert_eq!(texts.len(), message::RECORDS_MAX);
}

proptest! {
    #[test]
    fn nothing_makes_them_panic(
        flags: u16, count: u16, bytes: Vec<u8>, url in "(udp|http|https|x)://[a-z@:\\[\\]/?#.0-9]{0,20}",
    ) {
        let _ = question().read(&bytes);
        let _ = question().read(&answer(flags, count, &bytes));
        let records = [bytes.as_slice(), b"BITTORRENT UDP:7 TCP:8"];
        let preferences = Preferences::read(records).unwrap();
        for to in preferences.apply(&url).unwrap_or_default() {
            prop_assert!(host_of(&url).is_none() || host_of(&to) == host_of(&url), "{url} {to}");
        }
    }

    #[test]
    fn every_cut_of_an_answer_is_no_records(cut in 0usize..57) {
        let whole = answer(0x8180, 2, &[record(16, 1, 5, b"\x02ab"), record(16, 1, 5, b"\x02cd")].concat());
        prop_assert_eq!(whole.len(), 57);
        let read = question().read(&whole[..cut]);
        prop_assert!(matches!(read, None | Some(Answer::Failed)), "{read:?}");
    }
}
