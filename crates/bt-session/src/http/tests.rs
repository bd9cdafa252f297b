use super::*;
use server::{Answer, Server, serve};
use std::sync::Arc;

#[path = "../../tests/session/server.rs"]
mod server;

fn check(from: &str, location: &str, reach: Reach, expected: Result<&str, &str>) {
    let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
    let got = redirected(&Url::parse(from).unwrap(), &headers, reach);
    let got = got.map(String::from).map_err(|error| error.to_string());
    match (&got, expected) {
        (Ok(url), Ok(expected)) => assert_eq!(url, expected),
        (Err(error), Err(word)) => assert!(error.contains(word), "{error}"),
        _ => panic!("{location}: {got:?}, not {expected:?}"),
    }
}

#[test]
fn redirects_keep_to_scheme_origin_and_reach() {
    let from = "http://u:p@t.example/a";
    let any = [
        ("/b", Ok("http://u:p@t.example/b")),
        ("http://x.example/b", Ok("http://x.example/b")),
        ("http://v:q@x.example/b", Ok("http://x.example/b")),
        ("https://t.example/b", Ok("https://t.example/b")),
        ("file:///etc/passwd", Err("file: is neither")),
        ("http://10.0.0.1/", Ok("http://10.0.0.1/")),
        ("http://[", Err("without saying where")),
    ];
    for (location, expected) in any {
        check(from, location, Reach::Anywhere, expected);
    }
    let public_only = [
        ("http://10.0.0.1/", Err("private address 10.0.0.1")),
        ("http://[::ffff:10.0.0.1]/", Err("private address")),
        ("http://2130706433/", Err("private address 127.0.0.1")),
        ("http://x.example/b", Ok("http://x.example/b")),
        ("http://8.8.8.8/", Ok("http://8.8.8.8/")),
    ];
    for (location, expected) in public_only {
        check(from, location, Reach::PublicOnly, expected);
    }
    let url = Url::parse(from).unwrap();
    let nowhere = redirected(&url, &HeaderMap::new(), Reach::Anywhere);
    assert_eq!(nowhere, Err(HttpError::Location));
}

#[test]
fn urls_are_checked() {
    assert!(parse("https://t.example/announce?passkey=1").is_ok());
    assert!(matches!(parse("ftp://x/"), Err(HttpError::Scheme { .. })));
    assert!(matches!(parse("no url"), Err(HttpError::Url { .. })));
}

/// A server that does one thing, and counts how often.
struct Hostile {
    url: Url,
    requests: Arc<Mutex<Vec<String>>>,
    _server: Server,
}

async fn hostile(answer: Answer) -> Hostile {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&requests);
    let server = serve(move |request| {
        log.lock().unwrap().push(request.to_owned());
        answer.clone()
    })
    .await;
    let url = format!("http://user:secret@{}/announce", server.addr);
    Hostile {
        url: url.parse().unwrap(),
        requests,
        _server: server,
    }
}

const BODY_MAX: usize = 100_000;

async fn ask(behaviour: Answer, deadline: Duration) -> (Result<Reply, HttpError>, Vec<String>) {
    let server = hostile(behaviour).await;
    let bounds = Bounds {
        deadline,
        body_max: BODY_MAX,
        family: Family::V4,
    };
    let result = Http::new(None, Names::System)
        .get(&server.url, bounds)
        .await;
    let requests = server.requests.lock().unwrap().clone();
    (result, requests)
}

fn just(bytes: Vec<u8>) -> Answer {
    Answer { bytes, then: None }
}

fn and_then(bytes: Vec<u8>, then: Vec<u8>) -> Answer {
    Answer {
        bytes,
        then: Some(then),
    }
}

fn say(text: &str) -> Answer {
    just(text.replace('\n', "\r\n").into_bytes())
}

fn ok(header: &str, body: &str) -> Answer {
    say(&format!("HTTP/1.1 200 OK\n{header}\n\n{body}"))
}

fn found(header: &str) -> Answer {
    say(&format!(
        "HTTP/1.1 302 Found\n{header}\nContent-Length: 0\n\n"
    ))
}

fn gzip(body: &[u8]) -> Answer {
    let mut packed = Vec::new();
    let mut encoder = flate2::read::GzEncoder::new(body, flate2::Compression::best());
    encoder.read_to_end(&mut packed).unwrap();
    let length = packed.len();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n");
    just([head.into_bytes(), packed].concat())
}

type Row = (Answer, Result<&'static str, &'static str>);

/// FAULTS 94, 95 and 102: what a server does, and words of the error, or the body.
fn framing() -> Vec<Row> {
    let head = |text: &str| format!("HTTP/1.1 200 OK\r\n{text}\r\n").into_bytes();
    let start = b"HTTP/1.1 200 OK\r\n";
    vec![
        (say(""), Err("")),
        (say("SSH-2.0-OpenSSH\n"), Err("")),
        (ok("Content-Length: 4", "okay"), Ok("okay")),
        (ok("X: y", "okay"), Ok("okay")),
        (ok("Content-Length: 9", "okay"), Err("")),
        (ok("Content-Length: -1", "okay"), Err("")),
        (ok("Content-Length: 4294967296", "okay"), Err(TOO_LONG)),
        (ok("Content-Length: 99999999999999999999", ""), Err("")),
        (ok(CHUNKED, "ffffffffffffffff\nxx"), Err("")),
        (ok(CHUNKED, "-4\nokay"), Err("")),
        (ok(CHUNKED, "4\nokay\n0\n\n"), Ok("okay")),
        (and_then(head(""), vec![b'x'; 4096]), Err(TOO_LONG)),
        (and_then(start.to_vec(), b"X-A: b\r\n".to_vec()), Err("")),
        (
            and_then([start, &b"X: "[..]].concat(), vec![b'x'; 4096]),
            Err(""),
        ),
    ]
}

/// FAULTS 96 and 97.
fn packing_and_redirects() -> Vec<Row> {
    vec![
        (gzip(b"okay"), Ok("okay")),
        (gzip(&vec![0; 50_000_000]), Err(TOO_LONG)),
        (ok("Content-Encoding: gzip", "okay"), Err("unpacked")),
        (ok("Content-Encoding: br", "okay"), Err("not asked for")),
        (found("X: y"), Err("without saying where")),
        (found("Location: file:///etc/passwd"), Err("neither http")),
        (found("Location: /again"), Err("more than 5 times")),
    ]
}

#[tokio::test]
async fn hostile_servers_get_an_error_each() {
    let rows = framing().into_iter().chain(packing_and_redirects());
    for (number, (behaviour, expected)) in rows.enumerate() {
        let (result, requests) = ask(behaviour, Duration::from_secs(20)).await;
        assert!(requests.len() <= REDIRECTS_MAX + 1, "row {number}");
        match (result, expected) {
            (Ok(reply), Ok(body)) => assert_eq!(reply.body, body.as_bytes(), "row {number}"),
            (Err(error), Err(words)) => {
                let message = error.to_string();
                assert!(message.contains(words), "row {number}: {message}");
                assert!(!message.contains("secret"), "row {number}: {message}");
                assert!(!matches!(error, HttpError::Deadline { .. }), "row {number}");
            }
            (got, _) => panic!("row {number}: {got:?}"),
        }
    }
}

const CHUNKED: &str = "Transfer-Encoding: chunked";
const TOO_LONG: &str = "longer than 100000 bytes";

#[tokio::test]
async fn silence_and_drips_end_at_the_deadline() {
    // FAULTS 101.
    let slow = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nx".to_vec();
    for behaviour in [and_then(Vec::new(), Vec::new()), and_then(slow, Vec::new())] {
        let (result, _) = ask(behaviour, Duration::from_millis(100)).await;
        assert!(
            matches!(result, Err(HttpError::Deadline { .. })),
            "{result:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_torrent_that_drips_is_given_up_after_a_minute() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a.torrent", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _request = stream.read(&mut [0; 4_096]).await.unwrap();
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
        stream.write_all(head).await.unwrap();
        while stream.write_all(b"d").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let after = FETCH_DEADLINE;
    assert_eq!(
        fetch(&url, 100_000).await,
        Err(HttpError::Deadline { after })
    );
    server.abort();
}

#[tokio::test]
async fn credentials_go_to_the_server_they_were_given_for_and_no_other() {
    let other = hostile(say("HTTP/1.1 200 OK\nContent-Length: 0\n\n")).await;
    let mut elsewhere = other.url.clone();
    elsewhere.set_username("").unwrap();
    elsewhere.set_password(None).unwrap();
    let redirect = format!("HTTP/1.1 307 Go\nLocation: {elsewhere}\nContent-Length: 0\n\n");
    let (result, requests) = ask(say(&redirect), Duration::from_secs(20)).await;
    assert_eq!(result.map(|reply| reply.status), Ok(200));
    let has_credentials =
        |request: &String| request.to_lowercase().contains("authorization: basic");
    assert!(has_credentials(&requests[0]), "{requests:?}");
    let forwarded = other.requests.lock().unwrap().clone();
    assert!(!has_credentials(&forwarded[0]), "{forwarded:?}");
    assert!(forwarded[0].contains("user-agent: bt/"), "{forwarded:?}");
}

#[tokio::test]
async fn retry_after_and_status_are_told() {
    let busy = "HTTP/1.1 503 Busy\nRetry-After: 120\nContent-Length: 0\n\n";
    let (result, _) = ask(say(busy), Duration::from_secs(20)).await;
    let reply = result.unwrap();
    let seconds = Some(Duration::from_secs(120));
    assert_eq!((reply.status, reply.retry_after), (503, seconds));
}

#[tokio::test]
async fn fetching_takes_a_good_answer_only() {
    let server = hostile(say("HTTP/1.1 404 No\nContent-Length: 4\n\nokay")).await;
    let result = fetch(server.url.as_str(), 10).await;
    assert_eq!(result, Err(HttpError::Status { code: 404 }));
    let server = hostile(say("HTTP/1.1 200 OK\nContent-Length: 4\n\nokay")).await;
    assert_eq!(fetch(server.url.as_str(), 4).await, Ok(b"okay".to_vec()));
    assert_eq!(
        fetch(server.url.as_str(), 3).await,
        Err(HttpError::TooLong { max: 3 })
    );
    let file = fetch("file:///etc/hostname", 10).await;
    assert!(matches!(file, Err(HttpError::Scheme { .. })));
}
