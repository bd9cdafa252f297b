//! HTTPS over real sockets: both versions of HTTP, certificates that are exchanged, and logs.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test of a shell; helpers stand outside of test functions"
)]

#[allow(dead_code, reason = "each file of tests uses its part")]
mod client;
mod daemon;

use bt_tracker::http::decode;
use bt_trackerd::{Config, Server, Settings};
use client::{announce, exchange};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Certificates that the client programs are tested with too; one key is that of all.
fn file(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bt-cli/testdata/tls");
    folder.join(name)
}

fn settings(certificate: &str) -> Settings {
    Settings {
        tls_certificate: Some(file(certificate)),
        tls_key: Some(file("key.pem")),
        ..Settings::default()
    }
}

async fn serve(certificate: &str) -> (Server, SocketAddr) {
    let config = Config {
        https: vec!["127.0.0.1:0".parse().unwrap()],
        settings: settings(certificate),
        ..Config::at(([127, 0, 0, 1], 0).into())
    };
    let server = bt_trackerd::serve(config).await.unwrap();
    let addr = server.tls_addrs()[0];
    (server, addr)
}

async fn connect(addr: SocketAddr, version: &[u8]) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    for name in ["authority.pem", "alone.pem"] {
        let pem = std::fs::read(file(name)).unwrap();
        roots
            .add(CertificateDer::from_pem_slice(&pem).unwrap())
            .unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![version.to_vec()];
    let stream = TcpStream::connect(addr).await.unwrap();
    let name = ServerName::from(addr.ip());
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.unwrap()
}

/// The certificate that is shown to a new connection.
async fn shown(addr: SocketAddr) -> Vec<u8> {
    let stream = connect(addr, b"http/1.1").await;
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn certificate(name: &str) -> Vec<u8> {
    let pem = std::fs::read(file(name)).unwrap();
    CertificateDer::from_pem_slice(&pem).unwrap().to_vec()
}

async fn http2(addr: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let stream = connect(addr, b"h2").await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut SendRequest<Empty<Bytes>>, path: &str) -> (StatusCode, Vec<u8>) {
    let request = Request::get(format!("https://127.0.0.1{path}"));
    let reply = sender
        .send_request(request.body(Empty::new()).unwrap())
        .await
        .unwrap();
    let status = reply.status();
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    (status, body.to_vec())
}

#[tokio::test]
async fn announces_over_both_versions_of_http_share_the_swarms() {
    let (server, addr) = serve("good.pem").await;
    let mut stream = connect(addr, b"http/1.1").await;
    let path = announce(7001, "");
    let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply).await;
    let reply = String::from_utf8_lossy(&reply).into_owned();
    assert!(reply.starts_with("HTTP/1.1 200 OK"), "{reply}");

    // Many at once on one connection, each with its own answer.
    let sender = http2(addr).await;
    let mut asked = tokio::task::JoinSet::new();
    for port in 8_000..8_050 {
        let mut sender = sender.clone();
        asked.spawn(async move { ask(&mut sender, &announce(port, "&numwant=200")).await });
    }
    for (status, body) in asked.join_all().await {
        assert_eq!(status, StatusCode::OK);
        assert!(decode::announce(&body).is_ok());
    }
    let (_, body) = ask(&mut sender.clone(), &announce(8_050, "&numwant=200")).await;
    let answer = decode::announce(&body).unwrap();
    assert_eq!(answer.peers.len(), 51);
    assert_eq!(answer.external_ip, "127.0.0.1".parse().ok());
    // What is wrong is told in the same words, and too long a path is refused.
    let (status, body) = ask(&mut sender.clone(), "/announce").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(decode::announce(&body).is_err());
    let long = format!("/announce?x={}", "x".repeat(9_000));
    let (status, _) = ask(&mut sender.clone(), &long).await;
    assert_eq!(status, StatusCode::URI_TOO_LONG);
    // Who speaks plainly to this port gets no answer, and harms nobody.
    let plain = exchange(addr, b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert!(plain.is_empty());
    assert_eq!(ask(&mut sender.clone(), "/health").await.1, b"ok\n");
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_is_exchanged_without_a_gap() {
    let (server, addr) = serve("good.pem").await;
    let mut open = http2(addr).await;
    assert_eq!(shown(addr).await, certificate("good.pem"));
    server.reload(settings("alone.pem")).await.unwrap();
    assert_eq!(shown(addr).await, certificate("alone.pem"));
    assert_eq!(ask(&mut open, "/health").await.1, b"ok\n");
    // What cannot be used changes nothing, and is named.
    let without = Settings::default();
    let half = Settings {
        tls_key: None,
        ..settings("good.pem")
    };
    let no_key = Settings {
        tls_key: Some(file("good.pem")),
        ..settings("good.pem")
    };
    for (wrong, named) in [
        (settings("key.pem"), "key.pem"),
        (settings("gone.pem"), "gone.pem"),
        (no_key, "good.pem"),
        (half, "tls_certificate and tls_key"),
        (without, "tls_certificate and tls_key"),
    ] {
        let error = server.reload(wrong).await.unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
        assert_eq!(shown(addr).await, certificate("alone.pem"));
    }
    server.stop().await;
}

#[tokio::test]
async fn no_log_holds_a_key_of_http_2() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, "s3cret-good-one\n").unwrap();
    let mut command = daemon::program();
    command.args(["--https", "127.0.0.1:0", "--json", "--keys"]);
    command.arg(&keys).arg("--tls-certificate");
    command.arg(file("good.pem")).arg("--tls-key");
    let mut daemon = daemon::Daemon::start_with_log(command.arg(file("key.pem")), "trace");
    let line: serde_json::Value = serde_json::from_str(&daemon.line()).unwrap();
    assert_eq!(line["transport"], "https");
    assert!(line["announce"].as_str().unwrap().starts_with("https://"));
    let addr = line["addr"].as_str().unwrap().parse().unwrap();
    let mut sender = http2(addr).await;
    let path = announce(7001, "").replace("/announce", "/s3cret-good-one/announce");
    let (_, body) = ask(&mut sender, &path).await;
    assert!(decode::announce(&body).is_ok());
    daemon.signal(rustix::process::Signal::TERM);
    let log = daemon.rest_of_log();
    assert!(log.contains("stopping") && !log.contains("s3cret"), "{log}");
}
