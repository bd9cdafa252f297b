//! One conversation with the tracker: from an address of the loopback, each answer within [`PATIENCE`].

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Socket, Type};

/// What does not come by then does not come. Longer than is allowed, to tell late from never.
const PATIENCE: Duration = Duration::from_secs(5);

/// A datagram is asked for again after this long: a flood may have pushed it out of the tracker's buffer.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// No answer is longer.
const REPLY_BYTES_MAX: usize = 1 << 20;

/// A reply over HTTP.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// A connection from `ip`.
pub(super) fn dial(ip: Ipv4Addr, addr: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("a socket")?;
    socket.bind(&SocketAddrV4::new(ip, 0).into())?;
    socket.set_tcp_nodelay(true)?;
    socket
        .connect_timeout(&addr.into(), PATIENCE)
        .context("to connect")?;
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends `bytes`, and if nothing more is to come says so. A tracker that has heard enough may close before it has all: what it
/// says then counts.
pub(super) fn say(stream: &mut TcpStream, bytes: &[u8], is_last: bool) {
    let sent = stream.write_all(bytes);
    if is_last && sent.is_ok() {
        drop(stream.shutdown(Shutdown::Write));
    }
}

/// The next reply; `None` if the tracker closes instead.
pub(super) fn reply(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Result<Option<Reply>> {
    let mut chunk = [0; 4096];
    loop {
        if let Some((reply, length)) = parse(unread)? {
            unread.drain(..length);
            return Ok(Some(reply));
        }
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(None),
            Ok(length) => unread.extend_from_slice(chunk.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error).context("no answer"),
        }
        if unread.len() > REPLY_BYTES_MAX {
            bail!("an answer without an end");
        }
    }
}

/// The reply at the front of `bytes`, and how long it is; `None` while it is not complete.
fn parse(bytes: &[u8]) -> Result<Option<(Reply, usize)>> {
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = core::str::from_utf8(bytes.get(..head).unwrap_or_default())?;
    let mut lines = text.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.and_then(|status| status.parse().ok());
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok());
    let (Some(status), Some(length)) = (status, length) else {
        bail!("no reply of HTTP: {text:?}");
    };
    let body = bytes.get(head + 4..head + 4 + length);
    Ok(body.map(|body| {
        let body = body.to_vec();
        (Reply { status, body }, head + 4 + length)
    }))
}

/// A number of a bencoded answer, such as that behind `8:complete`.
pub(super) fn number(body: &[u8], key: &str) -> Option<u64> {
    let key = format!("{}:{key}i", key.len());
    let at = body
        .windows(key.len())
        .position(|window| window == key.as_bytes())?;
    let digits = body
        .get(at + key.len()..)?
        .split(|byte| *byte == b'e')
        .next()?;
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// A client over UDP (BEP 15).
pub(super) struct Packets {
    socket: UdpSocket,
    connection_id: [u8; 8],
    transactions: u32,
}

impl Packets {
    /// One that has proven that it is at `ip`.
    pub(super) fn connect(ip: Ipv4Addr, addr: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind((ip, 0)).context("a socket on the loopback")?;
        socket.connect(addr).context("a socket on the loopback")?;
        socket.set_read_timeout(Some(AGAIN_AFTER))?;
        let mut packets = Self {
            socket,
            connection_id: 0x0417_2710_1980_u64.to_be_bytes(),
            transactions: 0,
        };
        let (answer, _) = packets.ask(0, &[])?;
        packets.connection_id = answer.get(8..16).context("a connection id")?.try_into()?;
        Ok(packets)
    }

    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    pub(super) fn connection_id(&self) -> [u8; 8] {
        self.connection_id
    }

    /// Sends a question, again if need be; returns the answer of that action, and from when to when it was waited for.
    pub(super) fn ask(&mut self, action: u32, rest: &[u8]) -> Result<(Vec<u8>, Range<Instant>)> {
        self.transactions += 1;
        let question = packet(self.connection_id, action, self.transactions, rest);
        let asked = Instant::now();
        let mut buffer = [0; 2_048];
        while asked.elapsed() < PATIENCE {
            self.socket.send(&question)?;
            // Late answers to earlier questions come first, or the time is over.
            while let Ok(length) = self.socket.recv(&mut buffer) {
                let answer = buffer.get(..length).unwrap_or_default();
                if answer.get(4..8) != Some(&self.transactions.to_be_bytes()) {
                    continue;
                }
                if answer.get(..4) != Some(&action.to_be_bytes()) {
                    let text = answer.get(8..).unwrap_or_default();
                    bail!("refused: {}", String::from_utf8_lossy(text));
                }
                return Ok((answer.to_vec(), asked..Instant::now()));
            }
        }
        bail!("no answer over UDP")
    }
}

/// A packet: connection id, action, transaction id, and what belongs to the action.
pub(super) fn packet(id: [u8; 8], action: u32, transaction: u32, rest: &[u8]) -> Vec<u8> {
    let mut packet = id.to_vec();
    packet.extend(action.to_be_bytes());
    packet.extend(transaction.to_be_bytes());
    packet.extend(rest);
    packet
}

/// What an announce has behind its head: `event` 0 for none, 2 for started.
pub(super) fn announce(info_hash: [u8; 20], port: u16, event: u32) -> Vec<u8> {
    let mut rest = info_hash.to_vec();
    rest.extend(*b"-XB0001-000000000000");
    for count in [0_u64, 5, 0] {
        rest.extend(count.to_be_bytes());
    }
    for number in [event, 0, u32::from(port), 50] {
        rest.extend(number.to_be_bytes());
    }
    rest.extend(port.to_be_bytes());
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_one_by_one() {
        let two = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 400 No\r\ncontent-length:0\r\n\r\n";
        for cut in 0..40 {
            assert!(parse(&two[..cut]).unwrap().is_none(), "{cut}");
        }
        let (first, length) = parse(two).unwrap().unwrap();
        assert_eq!((first.status, &*first.body), (200, &b"ab"[..]));
        let (second, _) = parse(&two[length..]).unwrap().unwrap();
        assert_eq!((second.status, &*second.body), (400, &b""[..]));
        assert!(parse(b"nonsense\r\n\r\n").is_err());
        let body = b"d8:completei7e10:incompletei12e8:intervali1800ee";
        assert_eq!(number(body, "complete"), Some(7));
        assert_eq!(number(body, "incomplete"), Some(12));
        assert_eq!(number(body, "downloaded"), None);
    }
}
