//! Who is let in, over real sockets: keys, clients, limits, and what proxies say. The numbers are those of the list of faults
//! that the project keeps.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test of a shell; helpers stand outside of test functions"
)]

#[allow(dead_code, reason = "each file of tests uses its part")]
mod client;

use bt_tracker::announce::AnnounceFailure;
use bt_tracker::http::decode;
use bt_tracker::http::encode::Notes;
use bt_tracker::server::Quota;
use bt_trackerd::{Config, ProxySays, Settings};
use client::{Reply, announce, exchange, get, start};
use std::net::SocketAddr;
use std::time::Duration;

fn with(settings: Settings) -> Config {
    Config {
        settings,
        ..Config::at(([127, 0, 0, 1], 0).into())
    }
}

/// What was refused, and when to come back.
fn refusal(reply: &Reply) -> Option<(String, Option<Duration>)> {
    match decode::announce(&reply.body) {
        Ok(_) => None,
        Err(AnnounceFailure::Refused { reason, retry_in }) => Some((reason, retry_in)),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_private_tracker_serves_who_has_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("keys");
    std::fs::write(&list, "0123456789abcdef # Ann\nsecond-key_\n").unwrap();
    let settings = Settings {
        keys: Some(list.clone()),
        ..Settings::default()
    };
    let (server, addr) = start(with(settings.clone())).await;
    let right = announce(7001, "");
    let at = |path: &str, more: &str| format!("{}{more}", right.replace("/announce", path));
    let rows = [
        (at("/announce", ""), Some("has no key")),
        (at("/announce/0123456789abcdef", ""), None),
        (at("/0123456789abcdef/announce", ""), None),
        (at("/second-key_/announce", ""), None),
        (at("/announce", "&passkey=second-key_"), None),
        (at("/announce/0123456789abcdee", ""), Some("not known")),
        (at("/announce", "&passkey="), Some("not known")),
        (
            at("/announce", "&passkey=%30123456789abcdef"),
            Some("not known"),
        ),
        // What stands in the path counts.
        (
            at("/announce/wrong-key", "&passkey=second-key_"),
            Some("not known"),
        ),
    ];
    for (path, expected) in &rows {
        let refused = refusal(&get(addr, path).await);
        match (&refused, expected) {
            (None, None) => {}
            (Some((reason, retry_in)), Some(expected)) => {
                assert!(reason.contains(expected), "{path}: {reason}");
                // BEP 31: it will not be better tomorrow.
                assert_eq!(*retry_in, Some(Duration::MAX), "{path}");
            }
            _ => panic!("{path}: {refused:?}"),
        }
    }
    let scraped = "info_hash=aaaaaaaaaaaaaaaaaaaa";
    for (path, expected) in [
        (format!("/scrape?{scraped}"), "failure reason"),
        (format!("/second-key_/scrape?{scraped}"), "incompletei1e"),
        (format!("/scrape/second-key_?{scraped}"), "incompletei1e"),
        (
            format!("/scrape?passkey=second-key_&{scraped}"),
            "incompletei1e",
        ),
    ] {
        let reply = get(addr, &path).await.text();
        assert!(reply.contains(expected), "{path}: {reply}");
    }
    // A list that is wrong changes nothing; a right one counts at once, on a connection that is open too.
    let mut open = client::Connection::open(addr, b"").await;
    let ann = at("/announce/0123456789abcdef", "");
    std::fs::write(&list, "second-key_\nno key").unwrap();
    assert!(server.reload(settings.clone()).await.is_err());
    assert_eq!(refusal(&open.ask(&ann).await), None);
    std::fs::write(&list, "second-key_\n").unwrap();
    server.reload(settings).await.unwrap();
    assert!(refusal(&open.ask(&ann).await).is_some());
    // Without a list the tracker is public, and keys in URLs mean nothing.
    server.reload(Settings::default()).await.unwrap();
    assert_eq!(refusal(&open.ask(&ann).await), None);
    server.stop().await;
}

#[tokio::test]
async fn clients_are_denied_by_their_peer_id() {
    let settings = Settings {
        clients_denied: vec!["-XL".to_owned(), "bbbbb".to_owned()],
        ..Settings::default()
    };
    let (server, addr) = start(with(settings)).await;
    let path = announce(7001, "");
    for (id, denied) in [
        ("bbbbb", true),
        ("-XL01", true),
        ("-xl01", false),
        ("bbbb-", false),
    ] {
        let path = path.replace("peer_id=bbbbb", &format!("peer_id={id}"));
        let refused = refusal(&get(addr, &path).await);
        assert_eq!(refused.is_some(), denied, "{id}");
    }
    server.stop().await;
}

#[tokio::test]
async fn limits_hold_for_an_address_and_for_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("keys");
    std::fs::write(&list, "first-key\nother-key\n").unwrap();
    let quota = |announces_per_minute, peers| Quota {
        announces_per_minute,
        peers,
    };
    let (two_a_minute, one_peer) = (quota(2, 0), quota(0, 1));
    let of = |port: u16, key: &str, event: &str| announce(port, &format!("&passkey={key}{event}"));
    // Each row: settings, and then announces with what is said about each.
    let (no, stop) = ("", "&event=stopped");
    let rows = [
        (
            Settings {
                per_address: two_a_minute,
                ..Settings::default()
            },
            vec![
                (of(7001, "first-key", no), None),
                (of(7001, "other-key", no), None),
                (of(7001, "other-key", no), Some("too many announces")),
                (of(7001, "other-key", stop), None),
            ],
        ),
        (
            Settings {
                per_key: two_a_minute,
                ..Settings::default()
            },
            vec![
                (of(7001, "first-key", no), None),
                (of(7001, "first-key", no), None),
                (of(7001, "first-key", no), Some("too many announces")),
                (of(7001, "other-key", no), None),
            ],
        ),
        (
            Settings {
                per_key: one_peer,
                ..Settings::default()
            },
            vec![
                (of(7001, "first-key", no), None),
                (of(7002, "first-key", no), Some("too many peers")),
                (of(7001, "first-key", no), None),
                (of(7002, "other-key", no), None),
                (of(7001, "first-key", stop), None),
                (of(7003, "first-key", no), None),
            ],
        ),
    ];
    for (settings, announces) in rows {
        let settings = Settings {
            keys: Some(list.clone()),
            ..settings
        };
        let (server, addr) = start(with(settings)).await;
        for (path, expected) in announces {
            let refused = refusal(&get(addr, &path).await);
            let Some(expected) = expected else {
                assert_eq!(refused, None, "{path}");
                continue;
            };
            let (reason, retry_in) = refused.unwrap();
            assert!(reason.contains(expected), "{path}: {reason}");
            // BEP 31: in whole minutes, and soon.
            let minute = Some(Duration::from_secs(60));
            let rate = expected.contains("announces");
            assert_eq!(retry_in, minute.filter(|_| rate), "{path}");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_denied_torrent_is_not_worth_asking_for_again() {
    // BEP 31.
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("deny");
    std::fs::write(&list, "61".repeat(20)).unwrap();
    let settings = Settings {
        deny: Some(list.clone()),
        ..Settings::default()
    };
    let (server, addr) = start(with(settings)).await;
    let reply = get(addr, &announce(7001, "")).await;
    assert_eq!(refusal(&reply).unwrap().1, Some(Duration::MAX));
    assert!(reply.text().ends_with("8:retry in5:nevere"));
    std::fs::write(&list, "62".repeat(20)).unwrap();
    let settings = Settings {
        allow: Some(list),
        ..Settings::default()
    };
    server.reload(settings).await.unwrap();
    let reply = get(addr, &announce(7001, "")).await;
    assert_eq!(refusal(&reply).unwrap().1, None);
    server.stop().await;
}

/// The address under which somebody is known who announces with these bytes before and headers within.
async fn known_as(settings: Settings, before: &[u8], headers: &str) -> Option<SocketAddr> {
    let (server, addr) = start(with(settings)).await;
    let path = announce(7001, "&ip=8.8.8.8");
    let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n");
    let sent = [before, request.as_bytes()].concat();
    let reply = exchange(addr, &sent).await.pop()?;
    let answer = decode::announce(&reply.body).unwrap();
    server.stop().await;
    Some(SocketAddr::new(answer.external_ip?, 7001))
}

#[tokio::test]
async fn proxies_are_believed_in_one_way_and_only_if_they_are_known() {
    // 115.
    let settings = |proxies: &str, proxy_says| Settings {
        proxies: vec![proxies.parse().unwrap()],
        proxy_says,
        ..Settings::default()
    };
    let (ours, theirs) = ("127.0.0.0/8", "10.0.0.0/8");
    let headers = "X-Forwarded-For: 9.9.9.9\r\nForwarded: for=\"[2001:db8::8]:1\"\r\n";
    let mut head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    head.extend([9, 9, 9, 7, 127, 0, 0, 1, 0, 1, 0, 2]);
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();
    use ProxySays::{Forwarded, ProxyProtocol, XForwardedFor};
    let rows: [(&str, ProxySays, &[u8], Option<&str>); 8] = [
        (ours, XForwardedFor, b"", Some("9.9.9.9:7001")),
        (ours, Forwarded, b"", Some("[2001:db8::8]:7001")),
        (ours, ProxyProtocol, &head, Some("9.9.9.7:7001")),
        (ours, ProxyProtocol, &local, Some("127.0.0.1:7001")),
        // No head where there must be one, and one where there must not.
        (ours, ProxyProtocol, b"", None),
        (theirs, XForwardedFor, b"", Some("127.0.0.1:7001")),
        (theirs, Forwarded, b"", Some("127.0.0.1:7001")),
        (theirs, ProxyProtocol, b"", Some("127.0.0.1:7001")),
    ];
    for (proxies, says, before, expected) in rows {
        let got = known_as(settings(proxies, says), before, headers).await;
        let expected = expected.map(|addr| addr.parse().unwrap());
        assert_eq!(got, expected, "{proxies} {says:?}");
    }
    // And ip= is a right of its own.
    let ip_from = Settings {
        ip_from: vec![ours.parse().unwrap()],
        ..Settings::default()
    };
    let got = known_as(ip_from, b"", headers).await;
    assert_eq!(got, "8.8.8.8:7001".parse().ok());
}

#[tokio::test]
async fn notes_stand_in_every_answer() {
    let settings = Settings {
        notes: Notes {
            tracker_id: "one".to_owned(),
            warning: "closing on Friday".to_owned(),
        },
        ..Settings::default()
    };
    let (server, addr) = start(with(settings)).await;
    for form in ["", "&compact=0"] {
        let reply = get(addr, &announce(7001, form)).await;
        let answer = decode::announce(&reply.body).unwrap();
        assert_eq!(answer.tracker_id.as_deref(), Some(&b"one"[..]));
        assert_eq!(answer.warning.as_deref(), Some("closing on Friday"));
        assert!(answer.min_interval.is_some());
    }
    server.reload(Settings::default()).await.unwrap();
    let text = get(addr, &announce(7001, "")).await.text();
    assert!(
        !text.contains("tracker id") && !text.contains("warning"),
        "{text}"
    );
    server.stop().await;
}
