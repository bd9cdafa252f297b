//! Trackers, good and bad, served by a few lines here.

use super::server::{Answer, Server, serve};
use super::{PATIENCE, Place, Running, seed_only, session, start, with_peers};
use bt_session::{Event, Phase, Status, TorrentEvent, TrackerStatus};
use bt_tracker::announce::{self, AnnounceRequest, AnnounceResponse, Peer};
use bt_tracker::http::{encode, query};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

/// A tracker that notes what it is told and answers what it is given.
struct Tracker {
    url: String,
    heard: Arc<Mutex<Vec<AnnounceRequest>>>,
    _server: Server,
}

type Body = dyn Fn(&AnnounceRequest) -> Vec<u8> + Send + Sync;

async fn tracker(body: Box<Body>) -> Tracker {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    let answer = move |request: &str| {
        let target = request.split(' ').nth(1).unwrap();
        let (_, query) = target.split_once("passkey=x&").expect("the query is kept");
        let announce = query::announce(query.as_bytes()).unwrap();
        let body = body(&announce);
        log.lock().unwrap().push(announce);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        Answer {
            bytes: [head.into_bytes(), body].concat(),
            then: None,
        }
    };
    let server = serve(answer).await;
    Tracker {
        url: format!("http://{}/announce?passkey=x", server.addr),
        heard,
        _server: server,
    }
}

fn reply(peers: Vec<Peer>) -> Vec<u8> {
    let response = AnnounceResponse {
        interval: Duration::from_secs(1_800),
        peers,
        ..AnnounceResponse::default()
    };
    let mut body = Vec::new();
    encode::announce(&response, encode::PeersForm::Compact, &mut body);
    body
}

async fn status(torrent: &mut Running) -> TrackerStatus {
    let is_tracker =
        |event: &TorrentEvent| matches!(event, TorrentEvent::Engine(Event::Tracker { .. }));
    let mut seen = torrent.until(is_tracker).await;
    match seen.pop() {
        Some(TorrentEvent::Engine(Event::Tracker { status, .. })) => status,
        other => unreachable!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_meet_at_a_tracker_which_hears_each_event_once() {
    let known = Arc::new(Mutex::new(Vec::new()));
    let peers = Arc::clone(&known);
    let tracker = tracker(Box::new(move |announce| {
        let mut peers = peers.lock().unwrap();
        let answer = reply(peers.clone());
        let addr = ([127, 0, 0, 1], announce.port).into();
        peers.push(Peer {
            addr,
            peer_id: None,
        });
        answer
    }))
    .await;
    let place = Place::new(&[&tracker.url]);
    let (mut seeding, _) = session(None);
    let mut seeder = start(&mut seeding, &place, &place.source(), seed_only());
    let first = status(&mut seeder).await;
    assert!(matches!(first, TrackerStatus::Ok { .. }), "{first:?}");
    let (mut leeching, leecher_addr) = session(None);
    let copy = place.path("copy");
    let mut leecher = start(&mut leeching, &place, &copy, with_peers(&[]));
    leecher.complete().await;
    place.assert_copied(&copy);
    leeching.shutdown().await;
    seeding.shutdown().await;

    let total = place.torrent.info.layout().total_length();
    let heard = tracker.heard.lock().unwrap().clone();
    assert!(
        heard
            .iter()
            .all(|announce| announce.info_hash == place.torrent.info_hash)
    );
    let told = |by_leecher: bool| -> Vec<_> {
        let by = |a: &&AnnounceRequest| (a.port == leecher_addr.port()) == by_leecher;
        let told = heard.iter().filter(by);
        told.map(|a| (a.event, a.left, a.downloaded, a.uploaded))
            .collect()
    };
    use announce::Event::{Completed, Started, Stopped};
    assert_eq!(
        told(true),
        [
            (Started, total, 0, 0),
            (Completed, 0, total, 0),
            (Stopped, 0, total, 0)
        ]
    );
    assert_eq!(told(false), [(Started, 0, 0, 0), (Stopped, 0, 0, total)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_a_failure_with_words_and_no_flood() {
    // FAULTS 94, 98 to 100. (the body, words of the failure; none for an answer that holds)
    let flood = [
        b"d8:intervali0e5:peers600000:".to_vec(),
        vec![1; 600_000],
        b"e".to_vec(),
    ]
    .concat();
    let rows: [(&[u8], Option<&str>); 7] = [
        (b"", Some("")),
        (b"<html>busy</html>", Some("")),
        (b"d8:intervali1800e5:peers6:", Some("")),
        (
            b"d14:failure reason9:\x1b[31mgonee",
            Some("\\u{1b}[31mgone"),
        ),
        (b"d8:intervali-5e5:peers7:abcdefge", None),
        (b"d8:intervali4611686018427387904e5:peers0:e", None),
        (&flood, None),
    ];
    for (body, words) in rows {
        let answer = body.to_vec();
        let tracker = tracker(Box::new(move |_| answer.clone())).await;
        let place = Place::new(&[&tracker.url]);
        let (mut session, _) = session(None);
        let mut torrent = start(&mut session, &place, &place.source(), seed_only());
        let shown = body.escape_ascii().to_string();
        match (status(&mut torrent).await, words) {
            (TrackerStatus::Ok { .. }, None) => {}
            (TrackerStatus::Failed { message }, Some(words)) => {
                assert!(message.contains(words), "{message}");
                assert!(!message.contains('\x1b'), "{message}");
            }
            (status, _) => panic!("{}: {status:?}", &shown[..shown.len().min(60)]),
        }
        session.shutdown().await;
        let asked = tracker.heard.lock().unwrap().len();
        assert!(asked <= 2, "{asked} announces");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_tracker_holds_up_neither_the_start_nor_the_end() {
    // It accepts and never says a word (FAULTS 101).
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let place = Place::new(&[&url]);
    let (mut seeding, addr) = session(None);
    start(&mut seeding, &place, &place.source(), seed_only())
        .checked()
        .await;
    let (mut leeching, _) = session(None);
    let mut leecher = start(
        &mut leeching,
        &place,
        &place.path("copy"),
        with_peers(&[addr]),
    );
    leecher.complete().await;
    let mut status = leecher.handle.watch();
    let stopping = async { tokio::join!(leeching.shutdown(), seeding.shutdown()) };
    let seen = tokio::spawn(async move {
        let is_stopping = |status: &Status| status.phase == Phase::Stopping;
        status.wait_for(is_stopping).await.is_ok()
    });
    tokio::time::timeout(PATIENCE.min(Duration::from_secs(8)), stopping)
        .await
        .expect("a stop waits five seconds for trackers and no more");
    assert!(seen.await.unwrap(), "meanwhile it says what it does");
}
