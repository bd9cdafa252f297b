use super::*;
use bt_tracker::announce::Peer;

fn refused() -> Result<AnnounceResponse, AnnounceFailure> {
    Err(AnnounceFailure::Refused {
        reason: "no".to_owned(),
        retry_in: None,
    })
}

fn lost() -> Result<AnnounceResponse, AnnounceFailure> {
    Err(unreachable(HttpError::Redirects))
}

fn answer(peer: &str, seconds: u64) -> AnnounceResponse {
    AnnounceResponse {
        interval: Duration::from_secs(seconds),
        complete: Some(1),
        peers: vec![Peer {
            addr: peer.parse().unwrap(),
            peer_id: None,
        }],
        ..AnnounceResponse::default()
    }
}

#[test]
fn one_answer_is_enough_and_a_refusal_says_more_than_silence() {
    let good = || Ok(answer("10.0.0.1:1", 60));
    let rows = [
        (good(), lost(), good()),
        (refused(), good(), good()),
        (lost(), refused(), refused()),
        (refused(), lost(), refused()),
        (lost(), lost(), lost()),
        (good(), good(), good()),
    ];
    for (first, second, expected) in rows {
        assert_eq!(merge(first, second), expected);
    }
}

#[test]
fn two_answers_are_added_up() {
    let mut second = answer("[2001:db8::1]:2", 90);
    second.complete = Some(5);
    second.tracker_id = Some(b"id".to_vec());
    let merged = merge(Ok(answer("10.0.0.1:1", 60)), Ok(second)).unwrap();
    assert_eq!(merged.peers.len(), 2);
    assert_eq!(merged.interval, Duration::from_secs(90));
    assert_eq!(merged.complete, Some(5));
    assert_eq!(merged.tracker_id.as_deref(), Some(b"id".as_slice()));
}

#[test]
fn an_error_status_is_an_error_whose_words_are_kept() {
    let reply = |status, body: &[u8]| Reply {
        status,
        body: body.to_vec(),
        retry_after: Some(Duration::from_secs(7)),
        from: None,
    };
    let good = b"d8:intervali1800e5:peers0:e";
    assert!(understand(&reply(200, good)).is_ok());
    let rows: [(u16, &[u8], &str); 4] = [
        (200, b"d14:failure reason4:gonee", "tracker: gone"),
        (400, b"d14:failure reason4:gonee", "tracker: gone"),
        (503, b"<html>busy</html>", "HTTP status 503"),
        (404, good, "HTTP status 404"),
    ];
    for (status, body, expected) in rows {
        let failure = understand(&reply(status, body)).unwrap_err();
        assert_eq!(failure.to_string(), expected, "{status}");
    }
}

#[tokio::test]
async fn names_are_looked_up_and_what_cannot_be_dialled_is_left_out() {
    let named = |host: &str, port| NamedPeer {
        host: host.to_owned(),
        port,
    };
    let peers = vec![
        named("127.0.0.1", 7),
        named("0.0.0.0", 7),
        named("127.0.0.1", 0),
    ];
    assert_eq!(
        resolve(Names::System, peers).await,
        ["127.0.0.1:7".parse().unwrap()]
    );
}

#[tokio::test]
async fn not_every_tracker_can_be_scraped() {
    let error = scrape("http://127.0.0.1:1/a", &[], TrackerDns::Off)
        .await
        .unwrap_err();
    assert!(matches!(error, ScrapeError::Unsupported { .. }), "{error}");
    let error = scrape("ftp://127.0.0.1:1/announce", &[], TrackerDns::Off)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ScrapeError::Http(HttpError::Scheme { .. })),
        "{error}"
    );
}

/// Answers a connection's request as a tracker without peers.
async fn answer_one(mut stream: tokio::net::TcpStream) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let _request = stream.read(&mut [0; 4_096]).await.unwrap();
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\nd8:intervali1800e5:peers0:e";
    stream.write_all(answer.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_visit_asks_several_trackers_at_a_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let serving = async {
        // Nobody is answered before both have come.
        let streams = [listener.accept().await, listener.accept().await];
        for stream in streams {
            answer_one(stream.unwrap().0).await;
        }
    };
    let bind = Some(std::net::Ipv4Addr::LOCALHOST.into());
    let visit = Visit::new(bind, InfoHash([1; 20]), 6881, None, TrackerDns::Off);
    let asking = async { tokio::join!(visit.ask(&url), visit.ask(&url)) };
    let both = tokio::select! {
        () = async { serving.await; core::future::pending().await } => unreachable!(),
        both = asking => both,
    };
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
}

#[tokio::test(start_paused = true)]
async fn a_scrape_of_a_silent_tracker_ends_after_two_tries() {
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_nonblocking(true).unwrap();
    let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let urls = [
        format!("udp://{}/announce", udp.local_addr().unwrap()),
        format!("http://{}/announce", http.local_addr().unwrap()),
    ];
    for url in urls {
        let begun = tokio::time::Instant::now();
        let error = scrape(&url, &[InfoHash([1; 20])], TrackerDns::Off)
            .await
            .unwrap_err();
        assert!(matches!(error, ScrapeError::Http(_)), "{error:?}");
        assert_eq!(error.to_string(), "no complete answer within 30 s");
        assert!(begun.elapsed() < SCRAPE_DEADLINE + Duration::from_secs(1));
    }
    let mut connect = [0; 16];
    for _ in 0..2 {
        assert_eq!(udp.recv(&mut connect).unwrap(), 16);
    }
    assert!(udp.recv(&mut connect).is_err(), "a third try");
}

#[test]
fn where_a_tracker_sees_us_is_a_vote() {
    let external = External::new(None);
    for network in 1..=5 {
        assert_eq!(external.ip(false), None);
        let reply = Reply {
            status: 200,
            body: b"d11:external ip4:\x08\x08\x04\x048:intervali1800e5:peers0:e".to_vec(),
            retry_after: None,
            from: Some([192, 0, network, 1].into()),
        };
        assert!(heed(&reply, &external).is_ok());
    }
    assert_eq!(external.ip(false), Some([8, 8, 4, 4].into()));
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_no_announce_and_no_longer_than_it_may() {
    let off = HostPreferences::new(TrackerDns::Off);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let (http, turns) = (Http::new(None, Names::System), Turns::default());
    let moment = Duration::from_millis(1);
    let mut taken = Vec::new();
    while let Ok(turn) = tokio::time::timeout(moment, turns.announce()).await {
        taken.push(turn);
    }
    let udp = Udp::new(None, Names::System, Clock::start());
    let external = External::new(None);
    let id = PeerId([1; 20]);
    let mut request = AnnounceRequest::new(InfoHash([1; 20]), id, 1, 0);
    let asking = announce(&http, &udp, &turns, &external, &off, &url, &request);
    let waited = tokio::time::timeout(2 * ANNOUNCE_DEADLINE, asking).await;
    assert!(waited.is_err(), "there is no turn to be had");
    request.event = Event::Stopped;
    let asking = announce(&http, &udp, &turns, &external, &off, &url, &request);
    let waited = tokio::time::timeout(2 * ANNOUNCE_DEADLINE, asking).await;
    let failure = waited.expect("it takes another turn").unwrap_err();
    assert_eq!(failure.to_string(), "no complete answer within 5 s");
    // Two to one host that is silent: the second waits for its turn, and not longer for that.
    let asking = || announce(&http, &udp, &turns, &external, &off, &url, &request);
    let both = async { tokio::join!(asking(), asking()) };
    let waited = tokio::time::timeout(STOP_DEADLINE + moment, both).await;
    let (first, second) = waited.expect("both end in time");
    assert!(first.is_err() && second.is_err());
}

#[test]
fn a_host_is_a_name_and_a_port() {
    let rows = [
        ("http://t.test/announce?passkey=1", "t.test:80"),
        ("https://t.test/announce", "t.test:443"),
        ("udp://t.test:6969", "t.test:6969"),
        ("udp://[2001:db8::1]:7/announce", "[2001:db8::1]:7"),
        ("nonsense", ""),
    ];
    for (url, host) in rows {
        assert_eq!(host_of(url), host, "{url}");
    }
}

/// A name server on loopback that says this of every host.
fn name_server(record: String) -> HostPreferences {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        let (length, from) = socket.recv_from(&mut packet).unwrap();
        let answer = crate::preferences::tests::answer(&packet[..length], 0, &record);
        socket.send_to(&answer, from).unwrap();
    });
    HostPreferences::new(TrackerDns::Server(addr))
}

#[tokio::test]
async fn a_tracker_is_asked_where_its_host_says() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let live = listener.local_addr().unwrap().port();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().port();
    let rows = [
        ("http://localhost:1/announce", format!("TCP:{live}")),
        ("udp://localhost:1", format!("TCP:{live}")),
        // Nobody is there, and whoever is there says nothing: the next one is asked.
        ("http://localhost:1/announce", format!("TCP:1 TCP:{live}")),
        (
            "http://localhost:1/announce",
            format!("UDP:{silent} TCP:{live}"),
        ),
    ];
    let (http, udp, turns, external) = clients(Names::System);
    let request = AnnounceRequest::new(InfoHash([1; 20]), PeerId([1; 20]), 1, 0);
    for (url, words) in rows {
        let preferences = name_server(format!("BITTORRENT {words}"));
        let answering = async { answer_one(listener.accept().await.unwrap().0).await };
        let asking = announce(&http, &udp, &turns, &external, &preferences, url, &request);
        let (answer, ()) = tokio::join!(asking, answering);
        assert!(answer.is_ok(), "{url} {words}: {answer:?}");
    }
}

#[tokio::test]
async fn a_host_that_runs_no_tracker_is_left_alone() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://localhost:{}/announce",
        listener.local_addr().unwrap().port()
    );
    let (http, udp, turns, external) = clients(Names::System);
    let request = AnnounceRequest::new(InfoHash([1; 20]), PeerId([1; 20]), 1, 0);
    let preferences = name_server("BITTORRENT DENY ALL".to_owned());
    let asking = announce(&http, &udp, &turns, &external, &preferences, &url, &request);
    let message = "localhost says in DNS that it runs no tracker (BEP 34)";
    assert_eq!(asking.await.unwrap_err().to_string(), message);
    let dns = name_server("BITTORRENT".to_owned()).dns();
    let error = scrape(&url, &[InfoHash([1; 20])], dns).await.unwrap_err();
    assert_eq!(error.to_string(), message);
    let nobody = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
    assert!(nobody.is_err(), "it was asked");
}

#[tokio::test]
async fn a_scrape_goes_where_the_host_says() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let live = listener.local_addr().unwrap().port();
    let dns = name_server(format!("BITTORRENT TCP:1 TCP:{live}")).dns();
    let answering = async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = listener.accept().await.unwrap().0;
        let mut request = [0; 4_096];
        let length = stream.read(&mut request).await.unwrap();
        assert!(request[..length].starts_with(b"GET /scrape?info_hash="));
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nd5:filesdee";
        stream.write_all(answer.as_bytes()).await.unwrap();
    };
    let torrents = [InfoHash([1; 20])];
    let asking = scrape("http://localhost:2/announce", &torrents, dns);
    let (scraped, ()) = tokio::join!(asking, answering);
    assert_eq!(scraped.unwrap().torrents, []);
}

/// A session's clients while no name server answers.
fn without_names() -> (Http, Udp, Turns, External) {
    clients(Names::Silent)
}

fn clients(names: Names) -> (Http, Udp, Turns, External) {
    let udp = Udp::new(None, names, Clock::start());
    let http = Http::new(None, names);
    (http, udp, Turns::default(), External::new(None))
}

#[tokio::test(start_paused = true)]
async fn faults_108_a_name_that_is_never_looked_up_is_given_up_in_time() {
    let off = HostPreferences::new(TrackerDns::Off);
    let (http, udp, turns, external) = without_names();
    let rows = [
        ("http://tracker.test/announce", Event::Started, 30),
        ("udp://tracker.test:1/announce", Event::Started, 60),
        ("http://tracker.test/announce", Event::Stopped, 5),
        ("udp://tracker.test:1/announce", Event::Stopped, 5),
    ];
    for (url, event, seconds) in rows {
        let mut request = AnnounceRequest::new(InfoHash([1; 20]), PeerId([1; 20]), 1, 0);
        request.event = event;
        let begun = tokio::time::Instant::now();
        let asked = announce(&http, &udp, &turns, &external, &off, url, &request).await;
        let message = format!("no complete answer within {seconds} s");
        assert_eq!(asked.unwrap_err().to_string(), message, "{url}");
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(seconds + 1), "{url}: {took:?}");
    }
    let peer = |host: &str| NamedPeer {
        host: host.to_owned(),
        port: 7,
    };
    let begun = tokio::time::Instant::now();
    let peers = resolve(Names::Silent, vec![peer("peer.test"), peer("10.0.0.1")]).await;
    assert_eq!(peers, ["10.0.0.1:7".parse().unwrap()]);
    assert!(begun.elapsed() < NAMES_DEADLINE + Duration::from_secs(1));
}

#[tokio::test]
async fn faults_108_a_slow_name_holds_no_other_tracker_up() {
    let off = HostPreferences::new(TrackerDns::Off);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let (http, udp, turns, external) = without_names();
    let request = AnnounceRequest::new(InfoHash([1; 20]), PeerId([1; 20]), 1, 0);
    let slow = async |url: &str| {
        let asked = announce(&http, &udp, &turns, &external, &off, url, &request).await;
        unreachable!("{url}: {asked:?}");
    };
    let live = async {
        let answering = async { answer_one(listener.accept().await.unwrap().0).await };
        let asking = announce(&http, &udp, &turns, &external, &off, &url, &request);
        tokio::join!(asking, answering).0
    };
    // The slow ones are asked first, and are still waited for when the live one has answered.
    let answer = tokio::select! {
        biased;
        () = slow("http://tracker.test/announce") => unreachable!(),
        () = slow("udp://tracker.test:1/announce") => unreachable!(),
        answer = live => answer,
    };
    assert!(answer.is_ok(), "{answer:?}");
}
