//! One HTTP GET over a plain socket: enough to scrape a tracker, whichever it is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A tracker on the same machine that takes longer is not well.
const PATIENCE: Duration = Duration::from_secs(5);

/// No scrape of one torrent, and no page, is longer.
const REPLY_BYTES_MAX: u64 = 64 << 10;

/// The body of `GET target` from `addr`. HTTP/1.0, so the server neither keeps the connection nor cuts the body in chunks.
pub(crate) fn fetch(addr: SocketAddr, target: &str) -> Result<Vec<u8>> {
    fetch_as(addr, target, "*/*")
}

/// The same in a media type of choice.
pub(crate) fn fetch_as(addr: SocketAddr, target: &str, accept: &str) -> Result<Vec<u8>> {
    let mut stream =
        TcpStream::connect_timeout(&addr, PATIENCE).with_context(|| addr.to_string())?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .context("a timeout")?;
    stream
        .set_write_timeout(Some(PATIENCE))
        .context("a timeout")?;
    let request = format!("GET {target} HTTP/1.0\r\nHost: {addr}\r\nAccept: {accept}\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .context("asking the tracker")?;
    let mut reply = Vec::new();
    stream
        .take(REPLY_BYTES_MAX)
        .read_to_end(&mut reply)
        .context("the tracker's reply")?;
    let text = String::from_utf8_lossy(&reply);
    if text.split_ascii_whitespace().nth(1) != Some("200") {
        bail!(
            "GET {target}: {}",
            text.lines().next().unwrap_or("no reply")
        );
    }
    let head = reply.windows(4).position(|window| window == b"\r\n\r\n");
    let body = head
        .and_then(|head| reply.get(head + 4..))
        .context("a reply without a body")?;
    Ok(body.to_vec())
}
