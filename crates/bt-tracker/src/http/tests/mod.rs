mod queries;
mod replies;

use super::*;
use crate::announce::{AnnounceFailure, AnnounceRequest, AnnounceResponse, Event, Peer};
use crate::scrape::{ScrapeEntry, ScrapeResponse, ScrapedTorrent};
use bt_core::{InfoHash, PeerId};
use core::time::Duration;
use encode::PeersForm;
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};

/// The twenty bytes of the community specification's worked example of escaping.
const WORKED: [u8; 20] =
    *b"\x12\x34\x56\x78\x9a\xbc\xde\xf1\x23\x45\x67\x89\xab\xcd\xef\x12\x34\x56\x78\x9a";
const WORKED_ESCAPED: &str = "%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A";

fn request() -> AnnounceRequest {
    AnnounceRequest::new(InfoHash(WORKED), PeerId(*b"-BT0001-abc.def~_g-h"), 6881, 7)
}

#[test]
fn announce_urls() {
    let plain = format!(
        "info_hash={WORKED_ESCAPED}&peer_id=-BT0001-abc.def~_g-h&port=6881&uploaded=0&downloaded=0&left=7&compact=1"
    );
    let rows = [
        ("http://t/announce", format!("http://t/announce?{plain}")),
        (
            "http://u:p%40@t:1/a?",
            format!("http://u:p%40@t:1/a?{plain}"),
        ),
        ("http://t/a?key=v", format!("http://t/a?key=v&{plain}")),
        ("http://t/a?key=v&", format!("http://t/a?key=v&{plain}")),
        (
            " http://t/a?x=%2F#part\n",
            format!("http://t/a?x=%2F&{plain}"),
        ),
    ];
    for (tracker, expected) in rows {
        assert_eq!(url::announce(tracker, &request()), expected);
    }
}

#[test]
fn announce_urls_carry_all_that_is_set() {
    let full = AnnounceRequest {
        uploaded: u64::MAX,
        downloaded: 1,
        event: Event::Completed,
        numwant: Some(0),
        key: Some(0xab),
        // FAULTS 103: an id made to break out of its place.
        tracker_id: Some(b"a&b=c\r\nX: y %".to_vec()),
        ip: Some("2001:db8::1".parse().unwrap()),
        compact: Some(false),
        no_peer_id: true,
        ..request()
    };
    let url = url::announce("http://t/", &full);
    let expected = "&port=6881&uploaded=18446744073709551615&downloaded=1&left=7&event=completed&compact=0&no_peer_id=1\
                    &numwant=0&key=000000AB&ip=2001%3Adb8%3A%3A1&trackerid=a%26b%3Dc%0D%0AX%3A%20y%20%25";
    assert_eq!(url.split_once("_g-h").unwrap().1, expected);
    let (_, query) = url.split_once('?').unwrap();
    assert_eq!(query::announce(query.as_bytes()), Ok(full.clone()));
    let huge = AnnounceRequest {
        tracker_id: Some(vec![0; TRACKER_ID_MAX_BYTES + 1]),
        ..full
    };
    assert!(!url::announce("http://t/", &huge).contains("trackerid"));
}

#[test]
fn scrape_urls() {
    // The community specification's own examples, and BEP 48's.
    let rows = [
        (
            "~http://example.com/announce",
            Some("~http://example.com/scrape"),
        ),
        (
            "~http://example.com/x/announce",
            Some("~http://example.com/x/scrape"),
        ),
        (
            "~http://example.com/announce.php",
            Some("~http://example.com/scrape.php"),
        ),
        ("~http://example.com/a", None),
        (
            "~http://example.com/announce?x2%0644",
            Some("~http://example.com/scrape?x2%0644"),
        ),
        ("~http://example.com/announce?x=2/4", None),
        ("~http://example.com/x%064announce", None),
        ("http://announce/", None),
        ("http://announce/announce", Some("http://announce/scrape")),
        ("announce", None),
        ("", None),
    ];
    for (tracker, expected) in rows {
        assert_eq!(url::scrape_of(tracker).as_deref(), expected, "{tracker}");
    }
    let url = url::scrape(
        "http://t/scrape?k=1",
        &[InfoHash(WORKED), InfoHash([b'a'; 20])],
    );
    let expected =
        format!("http://t/scrape?k=1&info_hash={WORKED_ESCAPED}&info_hash=aaaaaaaaaaaaaaaaaaaa");
    assert_eq!(url, expected);
    let (_, query) = url.split_once('?').unwrap();
    assert_eq!(
        query::scrape(query.as_bytes()),
        Ok(vec![InfoHash(WORKED), InfoHash([b'a'; 20])])
    );
}

#[test]
fn scrapes_are_read_and_written() {
    let torrent = |byte, complete, downloaded, incomplete| ScrapedTorrent {
        info_hash: InfoHash([byte; 20]),
        entry: ScrapeEntry {
            complete,
            downloaded,
            incomplete,
            downloaders: None,
        },
        name: None,
    };
    // BEP 48's example.
    let bep48 =
        b"d5:filesd20:xxxxxxxxxxxxxxxxxxxxd8:completei11e10:downloadedi13772e10:incompletei19ee\
                  20:yyyyyyyyyyyyyyyyyyyyd8:completei21e10:downloadedi206e10:incompletei20ee\
                  20:zzzzzzzzzzzzzzzzzzzzd8:completei14e10:downloadedi12191e10:incompletei9eeee";
    let mut expected = ScrapeResponse {
        torrents: vec![
            torrent(b'x', 11, 13_772, 19),
            torrent(b'y', 21, 206, 20),
            torrent(b'z', 14, 12_191, 9),
        ],
        min_request_interval: None,
    };
    assert_eq!(decode::scrape(bep48), Ok(expected.clone()));
    let mut written = Vec::new();
    encode::scrape(&expected, &mut written);
    assert_eq!(
        written.escape_ascii().to_string(),
        bep48.escape_ascii().to_string()
    );
    // Order and repetition of the question do not show in the answer.
    expected.torrents.reverse();
    expected.torrents.push(torrent(b'x', 11, 13_772, 19));
    written.clear();
    encode::scrape(&expected, &mut written);
    assert_eq!(written, bep48);

    // BEP 21: a fourth number, where the tracker has it.
    let mut partial = torrent(b'x', 1, 2, 5);
    partial.entry.downloaders = Some(3);
    let response = ScrapeResponse {
        torrents: vec![partial],
        min_request_interval: None,
    };
    let expected = b"d5:filesd20:xxxxxxxxxxxxxxxxxxxxd8:completei1e10:downloadedi2e11:downloadersi3e10:incompletei5eeee";
    written.clear();
    encode::scrape(&response, &mut written);
    assert_eq!(written, expected);
    assert_eq!(decode::scrape(expected), Ok(response));

    let flags = b"d5:filesd3:abcde20:xxxxxxxxxxxxxxxxxxxxd8:completei-1e4:name3:a\x07be20:yyyyyyyyyyyyyyyyyyyyi5ee5:flagsd20:min_request_intervali7eee";
    let expected = ScrapeResponse {
        torrents: vec![ScrapedTorrent {
            name: Some("a\\u{7}b".to_owned()),
            ..torrent(b'x', 0, 0, 0)
        }],
        min_request_interval: Some(Duration::from_secs(30)),
    };
    assert_eq!(decode::scrape(flags), Ok(expected));
    let underscore = decode::scrape(b"d14:failure_reason2:noe");
    assert!(matches!(underscore, Err(AnnounceFailure::Refused { .. })));
}

#[test]
fn failures_are_written() {
    let rows = [
        (None, "d14:failure reason2:noe"),
        (
            Some(Duration::from_secs(61)),
            "d14:failure reason2:no8:retry ini2ee",
        ),
        (
            Some(Duration::MAX),
            "d14:failure reason2:no8:retry in5:nevere",
        ),
    ];
    for (retry_in, expected) in rows {
        let mut out = Vec::new();
        encode::failure("no", retry_in, &mut out);
        assert_eq!(out.escape_ascii().to_string(), expected);
        assert!(
            matches!(decode::announce(&out), Err(AnnounceFailure::Refused { retry_in: got, .. }) if got.is_some() == retry_in.is_some())
        );
    }
}

fn any_addr() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from)
    ];
    (ip, 1_u16..).prop_map(SocketAddr::from)
}

fn any_response() -> impl Strategy<Value = AnnounceResponse> {
    let peers = prop::collection::vec((any_addr(), prop::option::of(any::<[u8; 20]>())), 0..80);
    let numbers = (
        30_u64..86_400,
        prop::option::of(30_u64..86_400),
        any::<Option<u32>>(),
        any::<Option<u32>>(),
    );
    let texts = (
        prop::option::of("[ -~]{1,40}"),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
    );
    (peers, numbers, texts, any::<bool>()).prop_map(
        |(peers, numbers, (warning, tracker_id), external)| {
            let (interval, min_interval, complete, incomplete) = numbers;
            let mut seen = std::collections::BTreeSet::new();
            let peers = peers.into_iter().map(|(addr, id)| Peer {
                addr: bt_core::addr::canonical(addr),
                peer_id: id.map(PeerId),
            });
            AnnounceResponse {
                interval: Duration::from_secs(interval.max(min_interval.unwrap_or(0))),
                min_interval: min_interval.map(Duration::from_secs),
                tracker_id,
                complete,
                incomplete,
                warning,
                external_ip: external.then(|| "10.1.2.3".parse().unwrap()),
                peers: peers
                    .filter(|peer| bt_core::addr::is_dialable(peer.addr) && seen.insert(peer.addr))
                    .collect(),
                named_peers: vec![],
            }
        },
    )
}

proptest! {
    #[test]
    fn replies_round_trip(response in any_response()) {
        for form in [PeersForm::Compact, PeersForm::Dictionaries, PeersForm::DictionariesWithoutIds] {
            let mut body = Vec::new();
            encode::announce(&response, form, &mut body);
            let strict = bt_bencode::decode(&body, &bt_bencode::Options::strict());
            prop_assert!(strict.is_ok(), "{:?} in {}", strict.err(), body.escape_ascii());
            let mut expected = response.clone();
            if form != PeersForm::Dictionaries {
                expected.peers.iter_mut().for_each(|peer| peer.peer_id = None);
            }
            if form == PeersForm::Compact {
                // Its peers come back by family.
                expected.peers.sort_by_key(|peer| peer.addr.is_ipv6());
            }
            prop_assert_eq!(decode::announce(&body), Ok(expected));
        }
    }

    #[test]
    fn requests_round_trip(
        hash in any::<[u8; 20]>(), id in any::<[u8; 20]>(), numbers in any::<(u16, u64, u64, u64)>(),
        numwant in any::<Option<u32>>(), key in any::<Option<u32>>(), compact in any::<bool>(),
        tracker_id in prop::option::of(prop::collection::vec(any::<u8>(), 0..TRACKER_ID_MAX_BYTES)),
        event in prop::sample::select(vec![Event::Interval, Event::Started, Event::Completed, Event::Stopped, Event::Paused]),
    ) {
        let (port, uploaded, downloaded, left) = numbers;
        let request = AnnounceRequest {
            uploaded, downloaded, event, numwant, key, tracker_id, compact: Some(compact),
            ..AnnounceRequest::new(InfoHash(hash), PeerId(id), port, left)
        };
        let url = url::announce("http://t/a", &request);
        prop_assert!(url.bytes().all(|byte| byte.is_ascii_graphic()));
        let (_, query) = url.split_once('?').unwrap();
        prop_assert_eq!(query::announce(query.as_bytes()), Ok(request));
    }

    #[test]
    fn nothing_makes_them_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode::announce(&bytes);
        let _ = decode::scrape(&bytes);
        let _ = query::announce(&bytes);
        let _ = query::scrape(&bytes);
    }
}
