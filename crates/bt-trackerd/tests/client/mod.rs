//! A client that says exactly what it is told, and reads whatever comes back.

use bt_trackerd::{Config, Server};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Far more than any test needs, so that one that hangs ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a free port of the loopback.
pub(crate) async fn serve() -> (Server, SocketAddr) {
    start(Config::at(([127, 0, 0, 1], 0).into())).await
}

pub(crate) async fn start(config: Config) -> (Server, SocketAddr) {
    let server = bt_trackerd::serve(config).await.unwrap();
    let addr = server.addrs()[0];
    (server, addr)
}

/// The path of an announce that is right, of a peer that lacks five bytes.
pub(crate) fn announce(port: u16, more: &str) -> String {
    format!(
        "/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&port={port}&uploaded=0&downloaded=0&left=5{more}"
    )
}

/// Asks for a path, on a connection of its own.
pub(crate) async fn get(addr: SocketAddr, path: &str) -> Reply {
    let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    let mut replies = exchange(addr, request.as_bytes()).await;
    assert_eq!(replies.len(), 1, "{path}");
    replies.remove(0)
}

/// Sends bytes, closes that direction, and reads all replies until the server closes too.
pub(crate) async fn exchange(addr: SocketAddr, bytes: &[u8]) -> Vec<Reply> {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    // The server may close before it has read everything, and that may take unread replies with it.
    let bytes = bytes.to_vec();
    let writing = tokio::spawn(async move {
        let _ = write.write_all(&bytes).await;
        let _ = write.shutdown().await;
        write
    });
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    let reading = async {
        while let Ok(length @ 1..) = read.read(&mut buffer).await {
            all.extend_from_slice(&buffer[..length]);
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("the server ends it");
    drop(writing.await);
    parse(&all, bytes_of_head(&all))
}

fn bytes_of_head(all: &[u8]) -> bool {
    // A reply to HEAD carries the length of a body that does not come.
    all.ends_with(b"\r\n\r\n")
}

/// One connection that is kept.
pub(crate) struct Connection(TcpStream);

impl Connection {
    pub(crate) async fn open(addr: SocketAddr, said: &[u8]) -> Self {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let _ = stream.write_all(said).await;
        Self(stream)
    }

    pub(crate) async fn ask(&mut self, path: &str) -> Reply {
        let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n");
        self.0.write_all(request.as_bytes()).await.unwrap();
        self.read(1).await.remove(0)
    }

    /// Reads so many replies.
    pub(crate) async fn read(&mut self, count: usize) -> Vec<Reply> {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = self.0.read(&mut buffer).await.unwrap();
            assert_ne!(length, 0, "the server closed");
            all.extend_from_slice(&buffer[..length]);
            let replies = parse(&all, false);
            if replies.len() >= count {
                return replies;
            }
        }
    }

    /// Sends bytes, and reads nothing; false once the server has closed.
    pub(crate) async fn say(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// Waits until the server closes.
    pub(crate) async fn read_to_end(mut self) {
        let mut rest = Vec::new();
        let _ = self.0.read_to_end(&mut rest).await;
    }
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The body, with what is not text escaped.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The whole replies at the front of the bytes.
fn parse(mut bytes: &[u8], without_body: bool) -> Vec<Reply> {
    let mut replies = Vec::new();
    while let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply {
            status,
            head,
            body: Vec::new(),
        };
        let length: usize = reply
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        bytes = &bytes[end + 4..];
        if bytes.len() < length && !without_body {
            break;
        }
        reply.body = bytes[..length.min(bytes.len())].to_vec();
        bytes = &bytes[reply.body.len()..];
        replies.push(reply);
    }
    replies
}

/// A document that is JSON if one asks for that.
pub(crate) async fn json(addr: SocketAddr, path: &str) -> serde_json::Value {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: t\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    );
    let replies = exchange(addr, request.as_bytes()).await;
    serde_json::from_slice(&replies[0].body).unwrap()
}
