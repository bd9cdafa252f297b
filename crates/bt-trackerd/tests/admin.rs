//! The administration: who may, what it changes, and that it lasts.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test of a server; helpers stand outside of test functions"
)]

#[allow(dead_code, reason = "each file of tests uses its part")]
mod client;

use bt_trackerd::admin::Token;
use bt_trackerd::{Config, Server, Settings};
use client::{announce, get};
use std::net::SocketAddr;
use std::path::Path;

const TOKEN: &str = "0123456789-abcdef";

async fn serve(settings: Settings) -> (Server, SocketAddr, SocketAddr) {
    let config = Config {
        admin: Some(([127, 0, 0, 1], 0).into()),
        admin_token: Token::new(TOKEN),
        settings,
        ..Config::at(([127, 0, 0, 1], 0).into())
    };
    let (server, addr) = client::start(config).await;
    let admin = server.admin_addr().unwrap();
    (server, addr, admin)
}

async fn ask_with(addr: SocketAddr, header: &str, what: &str) -> (u16, String) {
    let request = format!("{what} HTTP/1.1\r\nHost: t\r\n{header}Connection: close\r\n\r\n");
    let mut replies = client::exchange(addr, request.as_bytes()).await;
    let reply = replies.remove(0);
    (reply.status, reply.text())
}

async fn ask(addr: SocketAddr, what: &str) -> (u16, String) {
    ask_with(addr, &format!("Authorization: Bearer {TOKEN}\r\n"), what).await
}

async fn json(addr: SocketAddr, what: &str) -> serde_json::Value {
    let (status, body) = ask(addr, what).await;
    assert_eq!(status, 200, "{what}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn nobody_administers_without_the_token() {
    let (server, addr, admin) = serve(Settings::default()).await;
    for header in [
        String::new(),
        "Authorization: Bearer \r\n".to_owned(),
        format!("Authorization: {TOKEN}\r\n"),
        format!("Authorization: Bearer {TOKEN}x\r\n"),
        format!("Authorization: Bearer {}\r\n", &TOKEN[1..]),
        format!("Authorization: Basic {TOKEN}\r\n"),
        format!("X-Token: {TOKEN}\r\n"),
    ] {
        for what in ["GET /admin/torrents", "DELETE /admin/torrents/0", "GET /"] {
            let (status, _) = ask_with(admin, &header, what).await;
            assert_eq!(status, 401, "{header} {what}");
        }
    }
    // And not where peers are served, whatever they send.
    assert_eq!(ask(addr, "GET /admin/torrents").await.0, 404);
    server.stop().await;

    // An address without a token is a mistake.
    let config = Config {
        admin: Some(([127, 0, 0, 1], 0).into()),
        ..Config::at(([127, 0, 0, 1], 0).into())
    };
    let error = bt_trackerd::serve(config.clone()).await.unwrap_err();
    assert!(error.to_string().contains("needs a token"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "too short\n").unwrap();
    let mut config = Config {
        admin_token_file: Some(file.clone()),
        ..config
    };
    let error = bt_trackerd::serve(config.clone()).await.unwrap_err();
    assert!(!error.to_string().contains("too short"), "{error}");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    config.admin = Some(([127, 0, 0, 1], 0).into());
    let server = bt_trackerd::serve(config).await.unwrap();
    let admin = server.admin_addr().unwrap();
    assert_eq!(ask(admin, "GET /admin/torrents").await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn torrents_are_listed_in_order_and_dropped() {
    let (server, addr, admin) = serve(Settings::default()).await;
    let letters = ["z", "a", "m", "b", "q"];
    for (port, letter) in (7_000..).zip(letters) {
        let path = announce(port, "").replace(&"a".repeat(20), &letter.repeat(20));
        assert_eq!(get(addr, &path).await.status, 200);
    }
    let hex = |letter: &str| format!("{:02x}", letter.as_bytes()[0]).repeat(20);
    let (mut seen, mut from) = (Vec::new(), String::new());
    loop {
        let page = json(admin, &format!("GET /admin/torrents?limit=2{from}")).await;
        let torrents = page["torrents"].as_array().unwrap();
        assert!(torrents.len() <= 2);
        assert!(torrents.iter().all(|torrent| torrent["leechers"] == 1));
        let hashes = torrents
            .iter()
            .map(|torrent| torrent["info_hash"].as_str().unwrap());
        seen.extend(hashes.map(str::to_owned));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        from = format!("&from={next}");
    }
    assert_eq!(seen, ["a", "b", "m", "q", "z"].map(hex));
    let one = format!("/admin/torrents/{}", hex("m"));
    assert_eq!(json(admin, &format!("GET {one}")).await["leechers"], 1);
    assert_eq!(
        json(admin, &format!("DELETE {one}")).await["dropped"],
        hex("m")
    );
    for what in [format!("GET {one}"), format!("DELETE {one}")] {
        assert_eq!(ask(admin, &what).await.0, 404, "{what}");
    }
    assert_eq!(client::json(addr, "/stats").await["torrents"], 4);
    for (what, status) in [
        ("GET /admin/torrents?limit=many", 400),
        ("GET /admin/torrents?from=here", 400),
        ("GET /admin/torrents?what", 400),
        ("GET /admin/torrents/short", 400),
        ("PUT /admin/torrents", 405),
        (
            "PUT /admin/torrents/6161616161616161616161616161616161616161",
            405,
        ),
        (
            "GET /admin/deny/6161616161616161616161616161616161616161",
            405,
        ),
        ("PUT /admin/deny/here", 400),
        ("PUT /admin/keys/short", 400),
        ("PUT /admin/keys/with%20space", 400),
        ("PUT /admin/other/thing", 404),
        ("GET /", 404),
    ] {
        assert_eq!(ask(admin, what).await.0, status, "{what}");
    }
    server.stop().await;
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn entries_of_lists_come_and_go_and_last() {
    let folder = tempfile::tempdir().unwrap();
    let (deny, keys) = (folder.path().join("deny"), folder.path().join("keys"));
    std::fs::write(&deny, "# ours\n").unwrap();
    std::fs::write(&keys, "first-key # Ann\n").unwrap();
    let settings = Settings {
        deny: Some(deny.clone()),
        keys: Some(keys.clone()),
        ..Settings::default()
    };
    let (server, addr, admin) = serve(settings.clone()).await;
    let hex = "61".repeat(20);
    let served = async |key: &str| {
        let path = format!("/{key}{}", announce(7_001, ""));
        let reply = get(addr, &path).await.text();
        reply.contains("8:interval")
    };
    assert!(served("first-key").await && !served("other-key").await);
    let change = async |what: String| json(admin, &what).await["changed"] == true;
    assert!(change("PUT /admin/keys/other-key".into()).await);
    assert!(!change("PUT /admin/keys/other-key".into()).await);
    assert!(served("other-key").await);
    assert_eq!(read(&keys), "first-key # Ann\nother-key\n");
    assert!(change("DELETE /admin/keys/first-key".into()).await);
    assert!(!served("first-key").await && served("other-key").await);
    assert_eq!(read(&keys), "other-key\n");
    assert!(change(format!("PUT /admin/deny/{}", hex.to_uppercase())).await);
    assert!(!served("other-key").await);
    assert_eq!(read(&deny), format!("# ours\n{hex}\n"));
    // What was read at the start is not what counts: the operator's own edits stay.
    std::fs::write(&deny, format!("# theirs\n{hex}\n{}\n", "62".repeat(20))).unwrap();
    assert!(change(format!("DELETE /admin/deny/{hex}")).await);
    assert!(served("other-key").await);
    assert_eq!(read(&deny), format!("# theirs\n{}\n", "62".repeat(20)));
    // A list that is not there, and one with a mistake in it.
    let (status, why) = ask(admin, &format!("PUT /admin/allow/{hex}")).await;
    assert_eq!(
        (status, why.contains("no file is configured")),
        (409, true),
        "{why}"
    );
    std::fs::write(&keys, "other-key\na b\n").unwrap();
    let (status, why) = ask(admin, "PUT /admin/keys/third-key").await;
    assert_eq!((status, why.contains("line 2")), (409, true), "{why}");
    assert_eq!(read(&keys), "other-key\na b\n");
    assert!(served("other-key").await && !served("third-key").await);
    std::fs::remove_file(&keys).unwrap();
    assert_eq!(ask(admin, "PUT /admin/keys/third-key").await.0, 500);
    assert!(served("other-key").await);
    // After settings changed it is the files of the new ones that are changed.
    std::fs::write(&keys, "other-key\n").unwrap();
    let allow = folder.path().join("allow");
    std::fs::write(&allow, "").unwrap();
    let settings = Settings {
        allow: Some(allow.clone()),
        ..settings
    };
    server.reload(settings).await.unwrap();
    assert!(!served("other-key").await);
    assert!(change(format!("PUT /admin/allow/{hex}")).await);
    assert!(served("other-key").await);
    assert_eq!(read(&allow), format!("{hex}\n"));
    server.stop().await;
}
