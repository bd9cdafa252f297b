//! The load over HTTP: connections with one request on its way each, kept alive or made anew for each request.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

use super::{NUMWANT, Outcome, Question, Span, Target, Turns, Watch, local_ip};

/// Connections at a time.
const CONNECTIONS: usize = 64;

/// What did not come by then is given up, and asked again on another connection.
const PATIENCE: Duration = Duration::from_secs(3);

struct Place {
    stream: Option<TcpStream>,
    /// It had a reply before.
    kept: bool,
    asked: Instant,
    request: Vec<u8>,
    received: Vec<u8>,
}

/// Asks until the span is over, or a fill is done; each request on a connection of its own if `closing`.
///
/// # Errors
/// If nobody listens.
pub(crate) fn run(
    target: Target<'_>,
    question: Question,
    closing: bool,
    span: Span,
    cpu: &dyn Fn() -> Duration,
) -> Result<Outcome> {
    let mut turns = Turns::new(target, question, CONNECTIONS);
    let mut watch = Watch::new(span, cpu);
    let mut places: Vec<Place> = Vec::new();
    for number in 0..CONNECTIONS {
        let mut place = Place {
            stream: None,
            kept: false,
            asked: Instant::now(),
            request: Vec::new(),
            received: Vec::new(),
        };
        place.ask(number, &mut turns, closing)?;
        places.push(place);
    }
    let mut buffer = vec![0; 64 << 10];
    while watch.goes_on(Instant::now()) && places.iter().any(|place| place.stream.is_some()) {
        for number in ready(&places)? {
            let Some(place) = places.get_mut(number) else {
                continue;
            };
            let Some(read) = place.read(&mut buffer) else {
                continue;
            };
            if read == Read::Bad && place.received.is_empty() && place.kept {
                // The tracker closed before it had this request: some do so without a word after each reply.
                let stream = Some(local_stream(number, target.addr)?);
                place.stream = Some(open(target.addr, &place.request, stream)?);
                place.kept = false;
                continue;
            }
            watch.reply(place.asked, Instant::now(), read == Read::Good);
            if closing || read != Read::Good || says_close(&place.received) {
                place.stream = None;
            }
            place.ask(number, &mut turns, closing)?;
        }
        for place in &mut places {
            if place.stream.is_some() && place.asked.elapsed() > PATIENCE {
                watch.outcome.failed += 1;
                place.stream = Some(open(target.addr, &place.request, None)?);
                place.asked = Instant::now();
                place.received.clear();
            }
        }
    }
    Ok(watch.end())
}

#[derive(PartialEq, Eq)]
enum Read {
    Good,
    Bad,
}

impl Place {
    /// Asks the next question, if there is one.
    fn ask(&mut self, number: usize, turns: &mut Turns<'_>, closing: bool) -> Result<()> {
        self.received.clear();
        self.asked = Instant::now();
        let Some(request) = request(number, turns, closing) else {
            self.stream = None;
            return Ok(());
        };
        self.request = request;
        if let Some(stream) = &mut self.stream
            && stream.write_all(&self.request).is_ok()
        {
            self.kept = true;
            return Ok(());
        }
        self.kept = false;
        let local = Some(local_stream(number, turns.target.addr)?);
        self.stream = Some(open(turns.target.addr, &self.request, local)?);
        Ok(())
    }

    /// Reads what is there; `None` while the reply is not complete.
    fn read(&mut self, buffer: &mut [u8]) -> Option<Read> {
        let ended = match self.stream.as_mut()?.read(buffer) {
            Ok(0) => true,
            Ok(length) => {
                self.received.extend_from_slice(buffer.get(..length)?);
                false
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(_) => return Some(Read::Bad),
        };
        let head = self
            .received
            .windows(4)
            .position(|window| window == b"\r\n\r\n");
        let length = head.and_then(|head| content_length(self.received.get(..head)?));
        let complete = match (head, length) {
            (Some(head), Some(length)) => self.received.len() >= head + 4 + length,
            (Some(_), None) => ended,
            (None, _) => false,
        };
        let body = head.and_then(|head| self.received.get(head + 4..));
        let refused = body.is_some_and(|body| body.starts_with(b"d14:failure reason"));
        let fine = self.received.get(9..12) == Some(b"200");
        let good = fine && !refused;
        match (complete, ended) {
            (true, _) if good => Some(Read::Good),
            (false, false) => None,
            (true | false, _) => Some(Read::Bad),
        }
    }
}

fn local_stream(number: usize, addr: SocketAddrV4) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("a socket")?;
    socket.bind(&SocketAddrV4::new(local_ip(number), 0).into())?;
    socket.set_tcp_nodelay(true)?;
    socket
        .connect(&addr.into())
        .with_context(|| format!("nobody listens at http://{addr}"))?;
    Ok(socket.into())
}

/// Sends `request` on `stream`, or on a new one, which waits for nothing from then on.
fn open(addr: SocketAddrV4, request: &[u8], stream: Option<TcpStream>) -> Result<TcpStream> {
    let mut stream = match stream {
        Some(stream) => stream,
        None => TcpStream::connect(addr)?,
    };
    stream.write_all(request).ok();
    stream.set_nonblocking(true)?;
    Ok(stream)
}

fn request(number: usize, turns: &mut Turns<'_>, closing: bool) -> Option<Vec<u8>> {
    let mut text = String::with_capacity(512);
    match turns.question {
        Question::Scrape(count) => {
            text.push_str("GET /scrape");
            for nth in 0..count {
                text.push_str(if nth == 0 {
                    "?info_hash="
                } else {
                    "&info_hash="
                });
                escape(&turns.torrent(), &mut text);
            }
        }
        Question::Fill | Question::Announce | Question::Connect => {
            let peer = turns.peer(number)?;
            text.push_str("GET /announce?info_hash=");
            escape(turns.target.hashes.get(peer.torrent)?, &mut text);
            text.push_str("&peer_id=");
            escape(&peer.id, &mut text);
            let (port, left) = (peer.port, peer.left);
            write!(
                text,
                "&port={port}&uploaded=0&downloaded=0&left={left}&key=5AB1C2D3&numwant={NUMWANT}&compact=1"
            )
            .ok()?;
            if turns.question == Question::Fill {
                text.push_str("&event=started");
            }
        }
    }
    let addr = turns.target.addr;
    let connection = if closing { "close" } else { "keep-alive" };
    write!(
        text,
        " HTTP/1.1\r\nHost: {addr}\r\nUser-Agent: load/1\r\nAccept-Encoding: gzip\r\nConnection: {connection}\r\n\r\n"
    )
    .ok()?;
    Some(text.into_bytes())
}

fn escape(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            write!(text, "%{byte:02x}").expect("a string takes everything");
        }
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    header(head, "content-length")?.parse().ok()
}

fn says_close(reply: &[u8]) -> bool {
    reply.starts_with(b"HTTP/1.0") || header(reply, "connection") == Some("close")
}

fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    head.split(|byte| *byte == b'\n')
        .take_while(|line| line.len() > 1)
        .filter_map(|line| core::str::from_utf8(line).ok()?.split_once(':'))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

fn ready(places: &[Place]) -> Result<Vec<usize>> {
    let wait = Timespec {
        tv_sec: 0,
        tv_nsec: 50_000_000,
    };
    let open = places
        .iter()
        .enumerate()
        .filter_map(|(number, place)| Some((number, place.stream.as_ref()?)));
    let (numbers, mut fds): (Vec<usize>, Vec<PollFd<'_>>) = open
        .map(|(number, stream)| (number, PollFd::new(stream, PollFlags::IN)))
        .unzip();
    poll(&mut fds, Some(&wait)).context("poll")?;
    let ready = fds.iter().zip(numbers);
    Ok(ready
        .filter(|(fd, _)| !fd.revents().is_empty())
        .map(|(_, number)| number)
        .collect())
}
