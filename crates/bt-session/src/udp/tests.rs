use super::*;
use crate::announce::NEXT_AFTER;
use bt_core::{InfoHash, PeerId};
use bt_tracker::udp::ConnectionId;
use bt_tracker::udp::request::{self, Request};
use bt_tracker::udp::response::{self, AnnounceHead};
use core::pin::pin;

fn udp() -> Udp {
    Udp::new(
        Some(Ipv4Addr::LOCALHOST.into()),
        Names::System,
        Clock::start(),
    )
}

fn request() -> AnnounceRequest {
    AnnounceRequest::new(InfoHash([1; 20]), PeerId([2; 20]), 6881, 5)
}

/// A tracker that answers like any other, after a stranger and an echo were first. Counts connects.
async fn tracker(refuses: bool) -> (SocketAddr, Arc<Mutex<u32>>, AbortHandle) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    let connects = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&connects);
    let serving = tokio::spawn(async move {
        let mut packet = [0; PACKET_MAX_BYTES];
        loop {
            let (length, from) = socket.recv_from(&mut packet).await.unwrap();
            let mut reply = Vec::new();
            match request::read(&packet[..length]).unwrap() {
                Request::Connect { transaction_id } => {
                    *lock(&counted) += 1;
                    response::connect(transaction_id, ConnectionId(3), &mut reply);
                }
                Request::Announce { transaction_id, .. } if refuses => {
                    response::error(transaction_id, "not here", &mut reply);
                }
                Request::Announce { transaction_id, .. } => {
                    let numbers = AnnounceHead {
                        interval_secs: 1800,
                        leechers: 1,
                        seeders: 9,
                    };
                    response::announce(transaction_id, numbers, &mut reply);
                    bt_core::addr::encode_compact("10.0.0.7:7".parse().unwrap(), &mut reply);
                }
                Request::Scrape {
                    transaction_id,
                    info_hashes,
                    ..
                } => {
                    let entry = bt_tracker::scrape::ScrapeEntry {
                        downloaders: None,
                        complete: 4,
                        ..Default::default()
                    };
                    let entries = info_hashes.iter().map(|_| entry);
                    response::scrape(transaction_id, entries, &mut reply);
                }
            }
            let mut lie = reply.clone();
            lie.truncate(20);
            stranger.send_to(&lie, from).await.unwrap();
            socket.send_to(&packet[..length], from).await.unwrap();
            socket.send_to(&reply, from).await.unwrap();
        }
    });
    (addr, connects, serving.abort_handle())
}

#[tokio::test]
async fn torrents_share_a_socket_and_a_connection() {
    let (addr, connects, _serving) = tracker(false).await;
    let (udp, url) = (udp(), format!("udp://{addr}/announce?key=1"));
    for _ in 0..3 {
        let answers = udp.announce(&url, &request()).await.unwrap();
        let [Ok(response)] = answers.as_slice() else {
            panic!("{answers:?}");
        };
        assert_eq!(response.complete, Some(9));
        assert_eq!(response.peers[0].addr, "10.0.0.7:7".parse().unwrap());
    }
    let torrents: Vec<InfoHash> = (0..100).map(|n| InfoHash([n; 20])).collect();
    let scraped = udp.scrape(&url, &torrents).await.unwrap();
    assert_eq!(scraped.torrents.len(), 100);
    assert!(scraped.torrents.iter().all(|t| t.entry.complete == 4));
    assert_eq!(*lock(&connects), 1);
    let line = udp.v4.get().unwrap();
    assert!(lock(&line.waiting).is_empty(), "nobody waits any more");
}

#[tokio::test]
async fn a_visit_asks_over_udp_too() {
    let (addr, connects, _serving) = tracker(false).await;
    let bind = Some(Ipv4Addr::LOCALHOST.into());
    let visit =
        crate::announce::Visit::new(bind, InfoHash([1; 20]), 6881, None, crate::TrackerDns::Off);
    let url = format!("udp://{addr}/announce");
    assert_eq!(visit.ask(&url).await.unwrap().complete, Some(9));
    visit.leave(&url).await;
    assert_eq!(*lock(&connects), 1);
}

#[tokio::test]
async fn a_refusal_is_told_in_its_words() {
    let (addr, _, _serving) = tracker(true).await;
    let url = format!("udp://{addr}");
    let answers = udp().announce(&url, &request()).await.unwrap();
    let failure = answers[0].as_ref().unwrap_err();
    assert_eq!(failure.to_string(), "tracker: not here");
}

/// FAULTS 108: a host with many addresses, of which the first are dead.
#[tokio::test(start_paused = true)]
async fn faults_108_the_next_address_is_asked_when_one_is_silent() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (addr, connects, _serving) = tracker(false).await;
    let (refusing, _, _refusing) = tracker(true).await;
    let udp = udp();
    let question = Question::Announce {
        request: request(),
        url_data: String::new(),
    };
    let dead = silent.local_addr().unwrap();
    let began = tokio::time::Instant::now();
    let answer = udp.ask_any(&[dead, dead, addr], &question).await;
    assert!(matches!(answer, Ok(Answer::Announce(_))), "{answer:?}");
    assert!(
        began.elapsed() < DEADLINE,
        "not only when the first gave up"
    );
    // Who is slow is still heard when the others cannot be asked at all.
    let slow = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let trackers = [slow.local_addr().unwrap(), nowhere];
    let mut asking = pin!(udp.ask_any(&trackers, &question));
    let waited = tokio::time::timeout(2 * NEXT_AFTER, asking.as_mut()).await;
    assert!(waited.is_err(), "{waited:?}");
    let mut packet = [0; PACKET_MAX_BYTES];
    let (length, from) = slow.recv_from(&mut packet).await.unwrap();
    let request = request::read(&packet[..length]).unwrap();
    let Request::Connect { transaction_id } = request else {
        panic!("{request:?}");
    };
    let mut reply = Vec::new();
    response::error(transaction_id, "no", &mut reply);
    slow.send_to(&reply, from).await.unwrap();
    let answer = asking.await;
    assert!(matches!(answer, Err(AnnounceFailure::Refused { .. })));
    // A refusal is the tracker's word, whatever other addresses it has.
    let answer = udp.ask_any(&[refusing, addr], &question).await;
    assert!(matches!(answer, Err(AnnounceFailure::Refused { .. })));
    assert_eq!(*lock(&connects), 1);
}

#[test]
fn faults_108_a_few_addresses_of_each_family_are_tried() {
    let many = (0..200_u8).map(|n| SocketAddr::from(([10, 0, 0, n], 80)));
    let v6: SocketAddr = "[::1]:80".parse().unwrap();
    let all = || many.clone().chain([v6, v6]);
    let chosen = Addresses::choose(all(), None);
    assert_eq!((chosen.v4.len(), chosen.v6.len()), (ADDRESSES_MAX, 1));
    let bind = Some(Ipv4Addr::LOCALHOST.into());
    assert!(Addresses::choose(all(), bind).v6.is_empty());
}

#[tokio::test]
async fn urls_that_lead_nowhere() {
    let rows = [
        "udp://",
        "udp://host",
        "udp://host:0/announce",
        "udp:host:80",
        "udp://:80/announce",
        "udp://host:99999",
    ];
    for url in rows {
        assert!(is_udp(url), "{url}");
        let error = udp().announce(url, &request()).await.unwrap_err();
        assert!(error.to_string().contains("no URL"), "{url}: {error}");
    }
    let target = Target::parse("UDP://[::1]:80/a/b?c=d#e").unwrap();
    assert_eq!((target.host.as_str(), target.port), ("::1", 80));
    assert_eq!(target.url_data, "/a/b?c=d");
    let bind = Some(Ipv4Addr::LOCALHOST.into());
    assert!(
        target.addresses(Names::System, bind).await.is_err(),
        "another family"
    );
    assert!(!is_udp("http://udp") && !is_udp("ud"));
}
