//! HTTPS: only a server that can prove who it is, to an authority that we trust, is listened to (FAULTS 104).
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "a test of a shell: it owns sockets and processes, and fails by panicking"
)]

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;

const TORRENT: &[u8] =
    b"d4:infod6:lengthi1e4:name4:file12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "testdata/tls", name]
        .iter()
        .collect()
}

/// Serves the torrent once, with this certificate; answers whether anybody asked for it.
fn serve(certificate: &str) -> (SocketAddr, JoinHandle<bool>) {
    let certificate = CertificateDer::from_pem_file(file(certificate)).unwrap();
    let key = PrivateKeyDer::from_pem_file(file("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        let mut request = [0; 4096];
        if !stream.read(&mut request).is_ok_and(|read| read > 0) {
            return false;
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            TORRENT.len()
        );
        stream
            .write_all(&[head.as_bytes(), TORRENT].concat())
            .unwrap();
        stream.conn.send_close_notify();
        stream.flush().is_ok()
    });
    (addr, serving)
}

#[test]
fn only_a_proven_server_is_asked() {
    // (certificate, the authorities that the system trusts, words of the error)
    let rows = [
        ("good.pem", "authority.pem", None),
        ("good.pem", "alone.pem", Some("UnknownIssuer")),
        ("alone.pem", "authority.pem", Some("UnknownIssuer")),
        ("expired.pem", "authority.pem", Some("expired")),
        ("other.pem", "authority.pem", Some("not valid for name")),
    ];
    for (certificate, authority, expected) in rows {
        let (addr, serving) = serve(certificate);
        let output = Command::new(env!("CARGO_BIN_EXE_bt"))
            .args(["show", &format!("https://{addr}/file.torrent")])
            .env("SSL_CERT_FILE", file(authority))
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            serving.join().unwrap(),
            expected.is_none(),
            "{certificate}: {stderr}"
        );
        let code = if expected.is_none() { 0 } else { 5 };
        assert_eq!(output.status.code(), Some(code), "{certificate}: {stderr}");
        let words = expected.unwrap_or_default();
        assert!(stderr.contains(words), "{certificate}: {stderr}");
    }
}
