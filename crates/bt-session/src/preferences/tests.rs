use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How a name server behaves.
#[derive(Clone, Copy)]
enum Manner {
    /// It answers with this record.
    Says(&'static str),
    /// It cannot tell.
    Fails,
    /// It answers with this record, over TCP only.
    SaysOverTcp(&'static str),
    /// It sends what is no answer, and then says this.
    Babbles(&'static str),
    Silent,
}

/// A name server on loopback, which counts the questions that came over UDP.
struct Server {
    addr: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start(manner: Manner) -> Self {
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(addr).await.unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut packet = [0; 512];
            loop {
                let (length, from) = udp.recv_from(&mut packet).await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let question = &packet[..length];
                let answers = match manner {
                    Manner::Says(text) => vec![answer(question, 0, text)],
                    Manner::Fails => vec![answer(question, 2, "")],
                    Manner::SaysOverTcp(_) => vec![answer(question, 0x200, "")],
                    Manner::Babbles(text) => {
                        let mut other = answer(question, 0, "BITTORRENT");
                        other[0] ^= 1;
                        vec![vec![], other, answer(question, 0, text)]
                    }
                    Manner::Silent => vec![],
                };
                for answer in answers {
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
        });
        tokio::spawn(async move {
            while let Manner::SaysOverTcp(text) = manner {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut question).await.unwrap();
                let answer = answer(&question, 0, text);
                stream
                    .write_u16(answer.len().try_into().unwrap())
                    .await
                    .unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        Self { addr, asked }
    }

    fn preferences(&self) -> HostPreferences {
        HostPreferences::new(TrackerDns::Server(self.addr))
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// The answer to a question, with one record that is kept for a second, or none.
pub(crate) fn answer(question: &[u8], flags: u16, text: &str) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let mut answer = question[..end].to_vec();
    answer[2..4].copy_from_slice(&(0x8180 | flags).to_be_bytes());
    answer[6..12].copy_from_slice(&[0, u8::from(!text.is_empty()), 0, 0, 0, 0]);
    if !text.is_empty() {
        let length = u8::try_from(text.len()).unwrap();
        answer.extend_from_slice(&[0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 1, 0, length + 1, length]);
        answer.extend_from_slice(text.as_bytes());
    }
    answer
}

const URL: &str = "http://t.example/announce";

#[tokio::test]
async fn hosts_are_asked_for_their_preferences() {
    let rows = [
        (
            Manner::Says("BITTORRENT UDP:7"),
            "udp://t.example:7/announce",
        ),
        (
            Manner::SaysOverTcp("BITTORRENT TCP:8"),
            "http://t.example:8/announce",
        ),
        (
            Manner::Babbles("BITTORRENT TCP:9"),
            "http://t.example:9/announce",
        ),
        (Manner::Says("v=spf1 -all"), URL),
        (Manner::Fails, URL),
    ];
    for (manner, expected) in rows {
        let server = Server::start(manner).await;
        let preferences = server.preferences();
        // Both wait for the one answer, and a third finds it there.
        let (first, second) = tokio::join!(
            preferences.urls(URL, false),
            preferences.urls("http://T.Example/announce", false),
        );
        let asked = server.asked();
        assert_eq!(first.unwrap(), [expected]);
        assert_eq!(second.unwrap()[0].to_lowercase(), expected);
        assert_eq!(preferences.urls(URL, true).await.unwrap(), [expected]);
        assert_eq!(server.asked(), asked, "{expected}");
    }
}

#[tokio::test]
async fn a_host_that_runs_no_tracker_is_not_asked() {
    let server = Server::start(Manner::Says("BITTORRENT DENY ALL")).await;
    let refused = server.preferences().urls(URL, false).await.unwrap_err();
    let message = "t.example says in DNS that it runs no tracker (BEP 34)";
    assert_eq!(refused.to_string(), message);
}

#[tokio::test]
async fn who_is_in_a_hurry_and_who_has_an_address_ask_nobody() {
    let server = Server::start(Manner::Says("BITTORRENT")).await;
    let preferences = server.preferences();
    assert_eq!(preferences.urls(URL, true).await.unwrap(), [URL]);
    for url in [
        "http://127.0.0.1:1/announce",
        "udp://[::1]:1/announce",
        "nonsense",
    ] {
        assert_eq!(preferences.urls(url, false).await.unwrap(), [url]);
    }
    assert!(lock(&preferences.hosts).known.is_empty());
    let off = HostPreferences::new(TrackerDns::Off);
    assert_eq!(off.urls(URL, false).await.unwrap(), [URL]);
    assert_eq!(server.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn silent_name_servers_cost_half_a_second_a_minute() {
    let server = Server::start(Manner::Silent).await;
    let preferences = server.preferences();
    let waits = async |host: &str| {
        let begun = Instant::now();
        let url = format!("http://{host}/announce");
        assert_eq!(preferences.urls(&url, false).await.unwrap(), [url]);
        begun.elapsed().as_millis()
    };
    assert!((500..600).contains(&waits("a.example").await));
    // The last try ends.
    tokio::time::sleep(3 * TRY_MAX).await;
    for host in ["a.example", "b.example", "c.example"] {
        assert_eq!(waits(host).await, 0, "{host}");
    }
    tokio::time::sleep(QUIET).await;
    assert!((500..600).contains(&waits("b.example").await));
    assert_eq!(
        waits("a.example").await,
        0,
        "not before ten minutes are over"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_bounded_in_time_and_number() {
    let preferences = HostPreferences::new(TrackerDns::Server("127.0.0.1:9".parse().unwrap()));
    let keep = |host: &str, kept| {
        assert!(preferences.find(host, false).is_some());
        lock(&preferences.hosts).keep(host, Some(&(None, kept)));
    };
    keep("short", Duration::from_secs(5));
    keep("long", KEPT_MAX);
    assert!(preferences.find("short", true).is_some());
    tokio::time::advance(Duration::from_secs(6)).await;
    assert!(preferences.find("short", true).is_none());
    assert!(preferences.find("long", true).is_some());
    for host in 0..2 * HOSTS_MAX {
        keep(&format!("h{host}"), SILENCE_KEPT);
    }
    assert_eq!(lock(&preferences.hosts).known.len(), HOSTS_MAX);
    assert!(preferences.find("long", true).is_some());
}

#[tokio::test]
async fn the_next_server_is_asked_if_one_fails() {
    let failing = Server::start(Manner::Fails).await;
    let knowing = Server::start(Manner::Says("BITTORRENT UDP:7")).await;
    let question = Question::new("t.example", 1).unwrap();
    let closed = "127.0.0.1:1".parse().unwrap();
    let found = look_up(&[closed, failing.addr, knowing.addr], &question).await;
    let (said, kept) = found.unwrap();
    assert!(said.is_some());
    assert_eq!(kept, KEPT_MIN, "a second is what the record says");
    let found = look_up(&[closed, failing.addr], &question).await;
    assert_eq!(found.unwrap(), (None, FAILURE_KEPT));
    assert_eq!(look_up(&[closed], &question).await, None);
    assert_eq!(look_up(&[], &question).await, Some((None, SILENCE_KEPT)));
}

#[test]
fn name_servers_as_the_system_has_them() {
    let text = "# nameserver 1.1.1.1\nsearch example\n nameserver\t192.0.2.1 # first\nnameserver 2001:db8::1\n\
                nameserver fe80::1%eth0\nnameserver\noptions ndots:1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
    let expected = ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"];
    let expected = expected.map(|addr| addr.parse::<SocketAddr>().unwrap());
    assert_eq!(servers_in(text), expected);
    assert_eq!(servers_in(""), []);
}

#[test]
fn who_is_asked_and_for_which_names() {
    let server = |addr: &str| Ok(TrackerDns::Server(addr.parse().unwrap()));
    let rows = [
        ("system", Ok(TrackerDns::System)),
        ("off", Ok(TrackerDns::Off)),
        ("192.0.2.1", server("192.0.2.1:53")),
        ("::1", server("[::1]:53")),
        ("[::1]:5353", server("[::1]:5353")),
        ("127.0.0.1:5353", server("127.0.0.1:5353")),
        ("127.0.0.1:0", Err(NoTrackerDns)),
        ("dns.example", Err(NoTrackerDns)),
        ("", Err(NoTrackerDns)),
    ];
    for (text, expected) in rows {
        assert_eq!(text.parse(), expected, "{text}");
        if let Ok(dns) = expected {
            assert_eq!(dns.to_string().parse(), Ok(dns));
        }
    }
    let rows = [
        ("t.example", true),
        ("t.example.", true),
        ("localhost", false),
        ("tracker.localhost", false),
        ("tracker.local", false),
        ("abc.Onion", false),
        ("abc.i2p.", false),
    ];
    for (host, expected) in rows {
        assert_eq!(TrackerDns::System.covers(host), expected, "{host}");
        assert!(!TrackerDns::Off.covers(host));
        assert!(TrackerDns::Server("127.0.0.1:53".parse().unwrap()).covers(host));
    }
}
