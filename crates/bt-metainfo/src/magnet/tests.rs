//! Golden rows with libtorrent's verdicts, rows of our own, and the round trip.

use super::*;
use proptest::prelude::*;
use serde_json::Value as Json;

const HASH: &str = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";

fn parse(text: &str) -> Result<Magnet, MagnetError> {
    text.parse()
}

/// What a magnet link says, in the shape in which `testdata/magnet.json` has libtorrent's answer.
fn verdict(magnet: &Magnet) -> Json {
    let last = magnet.select.iter().map(|range| *range.end()).max();
    let priorities: Vec<u32> = (0..=last.unwrap_or(0))
        .map(|index| if magnet.selects(index) { 4 } else { 0 })
        .filter(|_| last.is_some())
        .collect();
    let peer = |peer: &SocketAddr| serde_json::json!([peer.ip().to_string(), peer.port()]);
    serde_json::json!({
        "ok": true,
        "v1": magnet.info_hash.map(|hash| hash.to_string()),
        "v2": magnet.info_hash_v2.map(|hash| HEXLOWER.encode(&hash)),
        "name": magnet.name.clone().unwrap_or_default(),
        "trackers": magnet.trackers,
        "url_seeds": magnet.web_seeds,
        "peers": magnet.peers.iter().map(peer).collect::<Vec<_>>(),
        "file_priorities": priorities,
    })
}

/// Rows where we say something else than libtorrent 2.1.1: a part of the link that is in no other row, whether we read
/// it at all, and why.
const DEPARTURES: &[(&str, bool, &str)] = &[
    ("tr=http://3&tr=http://3", true, "a tracker is kept once"),
    (
        "btih:bbbbbbbb",
        false,
        "two different hashes; libtorrent takes the last",
    ),
    ("ws=file", true, "a file: URL is no web seed"),
    (
        "btih:0000000000",
        true,
        "a hash of zeros is a hash; libtorrent takes it for none",
    ),
];

#[test]
fn golden_rows() {
    let rows: Vec<Json> = serde_json::from_str(include_str!("../../testdata/magnet.json")).unwrap();
    assert_eq!(rows.len(), 73);
    let (mut agreed, mut departed, mut not_text) = (0, 0, 0);
    for row in &rows {
        let hex = row["uri_hex"].as_str().unwrap();
        let bytes = HEXLOWER.decode(hex.as_bytes()).unwrap();
        let expected = &row["libtorrent_2_1_1"];
        let Ok(uri) = String::from_utf8(bytes.clone()) else {
            // libtorrent's binding could not be asked either. However it is made text, it is an error.
            assert!(expected["ok"].is_null());
            assert!(parse(&String::from_utf8_lossy(&bytes)).is_err());
            not_text += 1;
            continue;
        };
        let ours = parse(&uri);
        if let Some((_, reads, why)) = DEPARTURES.iter().find(|(part, ..)| uri.contains(part)) {
            assert_eq!(ours.is_ok(), *reads, "{why}");
            assert_ne!(
                ours.map(|magnet| verdict(&magnet)).as_ref(),
                Ok(expected),
                "{why}"
            );
            departed += 1;
            continue;
        }
        match &ours {
            Ok(magnet) => assert_eq!(&verdict(magnet), expected, "{uri}"),
            Err(error) => assert_eq!(expected["ok"], false, "{uri}: {error}"),
        }
        agreed += 1;
    }
    assert_eq!((agreed, departed, not_text), (67, DEPARTURES.len(), 2));
}

#[test]
fn faults_31_what_is_refused() {
    let rows = [
        (String::new(), MagnetError::Scheme),
        ("magnet:".to_owned(), MagnetError::Scheme),
        ("http://a/b".to_owned(), MagnetError::Scheme),
        ("magnet:?".to_owned(), MagnetError::NoInfoHash),
        (
            format!("magnet:?xt=urn:btih:{HASH}&xt=urn:btih:{}", "b".repeat(40)),
            MagnetError::TwoInfoHashes,
        ),
        (
            format!("magnet:?xt=urn:btih:{HASH}&dn=%"),
            MagnetError::BadEscape { key: "dn".into() },
        ),
        (
            format!("magnet:?xt=urn:btih:{HASH}&tr=http%3A%2F%2Fa%2"),
            MagnetError::BadEscape { key: "tr".into() },
        ),
        (
            "magnet:?xt=urn:btih:%zz".to_owned(),
            MagnetError::BadEscape { key: "xt".into() },
        ),
        (
            "magnet:?xt=urn:btih:123".to_owned(),
            MagnetError::BadInfoHash { text: "123".into() },
        ),
        (
            format!("magnet:?xt=urn:btih:{}", "1".repeat(32)),
            MagnetError::BadInfoHash {
                text: "1".repeat(32),
            },
        ),
        (
            "m".repeat(MAGNET_BYTES_MAX + 1),
            MagnetError::TooLong {
                length_bytes: MAGNET_BYTES_MAX + 1,
            },
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(parse(&text), Err(expected));
    }
}

#[test]
fn what_is_read() {
    let read = |rest: &str| parse(&format!("MAGNET:?xt=urn:btih:{HASH}{rest}")).unwrap();
    let hash = HASH.parse().ok();
    let with = |change: fn(&mut Magnet)| {
        let mut magnet = Magnet {
            info_hash: hash,
            ..Magnet::default()
        };
        change(&mut magnet);
        magnet
    };
    let rows: Vec<(&str, Magnet)> = vec![
        ("", with(|_| {})),
        (
            "&xt=urn:BTIH:CDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCD",
            with(|_| {}),
        ),
        ("&&=&x&dn", with(|_| {})),
        (
            "&dn=a+b%20c&dn=second",
            with(|m| m.name = Some("a b c".into())),
        ),
        ("&dn=%ff", with(|m| m.name = Some("\u{fffd}".into()))),
        ("&xl=1234", with(|m| m.length = Some(1234))),
        ("&xl=-1", with(|_| {})),
        (
            "&tr=http://a+b/%C3%A9",
            with(|m| m.trackers = vec!["http://a+b/é".into()]),
        ),
        ("&tr=http://a/%ff&tr=file:///x&tr=", with(|_| {})),
        ("&ws=udp://a", with(|_| {})),
        (
            "&x.pe=1.2.3.4:0&x.pe=host:1&x.pe=0.0.0.0:1&x.pe=1.2.3.4:5&x.pe=1.2.3.4:5",
            with(|m| m.peers = vec!["1.2.3.4:5".parse().unwrap()]),
        ),
        (
            "&x.pe=%5B::1%5D:5&x.pe=[fe80::1%257]:5",
            with(|m| {
                m.peers = vec!["[::1]:5".parse().unwrap(), "[fe80::1]:5".parse().unwrap()];
            }),
        ),
        (
            "&so=0,2-4,+5,999999,1000000,3-1",
            with(|m| m.select = vec![0..=0, 2..=4, 999_999..=999_999]),
        ),
    ];
    for (rest, expected) in rows {
        assert_eq!(read(rest), expected, "{rest}");
    }
}

#[test]
fn faults_33_35_everything_is_capped() {
    let mut text = format!("magnet:?xt=urn:btih:{HASH}");
    for number in 1..=1_500 {
        text.push_str(&format!(
            "&tr=http://{number}&ws=http://{number}&x.pe=1.2.3.4:{number}"
        ));
        text.push_str(&format!("&so={number},{number}"));
    }
    let magnet = parse(&text).unwrap();
    assert_eq!(magnet.trackers.len(), crate::urls::TRACKERS_MAX);
    assert_eq!(magnet.web_seeds.len(), crate::urls::WEB_SEEDS_MAX);
    assert_eq!(magnet.peers.len(), PEERS_MAX);
    assert_eq!(magnet.select.len(), RANGES_MAX);
    let wide = format!("magnet:?xt=urn:btih:{HASH}&so=0-4294967295");
    let select = parse(&wide).unwrap().select;
    assert!(
        select.iter().all(|range| *range.end() < 1_000_000),
        "{select:?}"
    );
}

#[test]
fn without_so_everything_is_selected() {
    let mut magnet = Magnet::default();
    assert!(magnet.selects(7));
    magnet.select = vec![1..=2, 9..=9];
    let selected: Vec<u32> = (0..12).filter(|index| magnet.selects(*index)).collect();
    assert_eq!(selected, [1, 2, 9]);
}

#[test]
fn written_so_that_everybody_can_read_it() {
    let magnet = Magnet {
        info_hash: HASH.parse().ok(),
        info_hash_v2: Some([0xab; 32]),
        name: Some("a b&c=é/+".into()),
        length: Some(7),
        trackers: vec!["http://a/announce?x=1&y=2".into()],
        web_seeds: vec!["http://w/".into()],
        peers: vec!["1.2.3.4:5".parse().unwrap(), "[::1]:6".parse().unwrap()],
        select: vec![0..=0, 4..=7],
    };
    let expected = format!(
        "magnet:?xt=urn:btih:{HASH}&xt=urn:btmh:1220{}&dn=a%20b%26c%3D%C3%A9%2F%2B&xl=7\
         &tr=http%3A%2F%2Fa%2Fannounce%3Fx%3D1%26y%3D2&ws=http%3A%2F%2Fw%2F\
         &x.pe=1.2.3.4:5&x.pe=[::1]:6&so=0,4-7",
        "ab".repeat(32)
    );
    assert_eq!(magnet.to_string(), expected);
}

prop_compose! {
    fn any_magnet()(
        v1 in any::<[u8; 20]>(),
        v2 in any::<Option<[u8; 32]>>(),
        name in prop::option::of(".{1,20}"),
        length in any::<Option<u64>>(),
        paths in prop::collection::btree_set("[ -~é]{1,10}", 0..4),
        ports in prop::collection::btree_set(1_u16.., 0..4),
        select in prop::collection::vec((0_u32..1_000, 0_u32..1_000), 0..4),
    ) -> Magnet {
        let urls = |scheme: &str| {
            let path = |path: &String| format!("{scheme}://host/{}x", path.replace(' ', "+"));
            paths.iter().map(path).collect::<Vec<_>>()
        };
        Magnet {
            info_hash: Some(InfoHash(v1)),
            info_hash_v2: v2,
            name,
            length,
            trackers: urls("udp"),
            web_seeds: urls("https"),
            peers: ports.iter().map(|port| ([9, 8, 7, 6], *port).into()).collect(),
            select: select.iter().map(|(first, more)| *first..=first + more).collect(),
        }
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read_the_same(magnet in any_magnet()) {
        prop_assert_eq!(parse(&magnet.to_string()), Ok(magnet));
    }

    #[test]
    fn faults_32_any_text_at_all(text in any::<String>(), cut in 0_usize..200, magnet in any_magnet()) {
        let _ = parse(&text);
        let _ = parse(&format!("magnet:?{text}"));
        let written = magnet.to_string();
        let cut = written.floor_char_boundary(cut);
        let _ = parse(&written[..cut]);
        let _ = parse(&format!("{}{text}{}", &written[..cut], &written[cut..]));
    }
}
