//! The requests that make up nearly all of a tracker's life, read and answered without a general HTTP library: `GET` of
//! `/announce` and `/scrape`, HTTP/1.1, without a body.
//!
//! Whatever else comes is left as it stands, and the whole rest of the connection is hyper's: this reads no request that it
//! does not answer, so there is nothing on which the two could disagree.
//!
//! **Invariant:** a connection holds no buffer unless a request of it is incomplete; all others are the thread's.

use crate::ask::{self, Context};
use crate::places::Place;
use crate::proxy::ProxySays;
use crate::state::{Current, State};
use bt_tracker::http::{encode, path, query};
use bt_tracker::server::Picked;
use core::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Longest head of a request, in bytes; it is also what one connection can hold.
pub(crate) const HEAD_MAX_BYTES: usize = 16 * 1024;

/// Longest path and query, in bytes. An announce has about 400; a scrape of 74 torrents about 5 300.
pub(crate) const URI_MAX_BYTES: usize = 8 * 1024;

/// From here on the query of a scrape is long: its answer may be worth compressing, which is not done here. About 40
/// torrents.
const SCRAPE_LONG_BYTES: usize = 2_500;

/// Most headers of a request that is read here. Clients send five.
const HEADERS_MAX: usize = 32;

/// Where a turn ends, in bytes of its answers: a hundred pipelined requests must not pile up what nobody reads.
const OUTPUT_MAX_BYTES: usize = 64 * 1024;

/// What a thread answers with: all of it is used again for each request.
pub(crate) struct Work {
    pub(crate) input: Vec<u8>,
    pub(crate) output: Vec<u8>,
    body: Vec<u8>,
    picked: Picked,
    date: Date,
}

impl Work {
    pub(crate) fn new() -> Self {
        Self {
            input: vec![0; HEAD_MAX_BYTES],
            output: Vec::new(),
            body: Vec::new(),
            picked: Picked::default(),
            date: Date::default(),
        }
    }
}

/// The date as HTTP writes it, made once a second.
#[derive(Default)]
struct Date {
    second: Option<u64>,
    text: String,
}

impl Date {
    fn at(&mut self, now: bt_core::Time) -> &str {
        let second = now.as_nanos() / 1_000_000_000;
        if self.second != Some(second) {
            self.second = Some(second);
            self.text = httpdate::fmt_http_date(std::time::SystemTime::now());
        }
        &self.text
    }
}

/// What is to happen after a turn, once its answers have been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Wait for more of the request.
    Wait,
    /// Take another turn: there are more requests already.
    Again,
    /// Close.
    Close,
    /// Something else was asked; what was received of it is in [`Quick::held`].
    HandOver,
}

/// The conversation of one connection.
pub(crate) struct Quick {
    state: Arc<State>,
    peer: SocketAddr,
    rules: Current,
    /// The request that has begun.
    pub(crate) held: Vec<u8>,
}

impl Quick {
    pub(crate) fn new(state: Arc<State>, peer: SocketAddr) -> Self {
        Self {
            rules: state.current(),
            state,
            peer,
            held: Vec::new(),
        }
    }

    /// Answers what is complete of what was held and the first `received` bytes of the input.
    pub(crate) fn turn(&mut self, work: &mut Work, received: usize, place: &Place) -> Next {
        let input = core::mem::take(&mut work.input);
        let fresh = input.get(..received).unwrap_or_default();
        work.output.clear();
        let mut held = core::mem::take(&mut self.held);
        let next = if held.is_empty() {
            let (used, next) = self.answer(fresh, work, place);
            held.extend_from_slice(fresh.get(used..).unwrap_or_default());
            next
        } else {
            held.extend_from_slice(fresh);
            let (used, next) = self.answer(&held, work, place);
            if used == held.len() {
                held = Vec::new();
            } else {
                held.drain(..used);
            }
            next
        };
        self.held = held;
        work.input = input;
        next
    }

    /// Answers the requests at the front of `bytes`; returns how many bytes they were.
    fn answer(&mut self, bytes: &[u8], work: &mut Work, place: &Place) -> (usize, Next) {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            if work.output.len() >= OUTPUT_MAX_BYTES {
                return (used, Next::Again);
            }
            let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
            let mut request = httparse::Request::new(&mut []);
            let length = match request.parse_with_uninit_headers(rest, &mut headers) {
                Ok(httparse::Status::Complete(length)) => length,
                Ok(httparse::Status::Partial) if rest.len() < HEAD_MAX_BYTES => {
                    return (used, Next::Wait);
                }
                Ok(httparse::Status::Partial) | Err(_) => return (used, Next::HandOver),
            };
            let Some(mut asked) = Asked::of(&request) else {
                return (used, Next::HandOver);
            };
            asked.close |= self.state.is_closing();
            self.reply(&asked, &request, work);
            place.refresh();
            used += length;
            if asked.close {
                return (used, Next::Close);
            }
        }
        (used, Next::Wait)
    }

    fn reply(&mut self, asked: &Asked<'_>, request: &httparse::Request<'_, '_>, work: &mut Work) {
        let rules = self.state.refresh(&mut self.rules);
        let context = Context {
            rules,
            state: &self.state,
            now: self.state.now(),
            peer: self.peer,
            key: asked.key,
        };
        work.body.clear();
        let status = if asked.scrape {
            context.scrape(asked.query, &mut work.body)
        } else {
            let chain = || forwarded(request.headers, rules.proxy_says);
            context.announce(asked.query, chain, &mut work.picked, &mut work.body)
        };
        let first: &[u8] = match (status == ask::OK, asked.close) {
            (true, false) => b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ndate: ",
            (true, true) => {
                b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/plain\r\ndate: "
            }
            (false, false) => b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ndate: ",
            (false, true) => {
                b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\ndate: "
            }
        };
        let out = &mut work.output;
        out.extend_from_slice(first);
        out.extend_from_slice(work.date.at(context.now).as_bytes());
        out.extend_from_slice(b"\r\ncontent-length: ");
        encode::decimal(out, work.body.len() as u64);
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(&work.body);
    }
}

/// A request that is answered here.
struct Asked<'a> {
    scrape: bool,
    /// In the path.
    key: Option<&'a str>,
    query: &'a [u8],
    close: bool,
}

impl<'a> Asked<'a> {
    fn of(request: &httparse::Request<'_, 'a>) -> Option<Self> {
        let uri = request.path?;
        if request.method != Some("GET") || request.version != Some(1) || uri.len() > URI_MAX_BYTES
        {
            return None;
        }
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let query = query.as_bytes();
        let (asked, key) = path::read(path)?;
        let scrape = asked == path::Asked::Scrape;
        if scrape && !query::names_torrents(query) {
            // Long answers are not for the buffers here.
            return None;
        }
        let long = scrape && query.len() >= SCRAPE_LONG_BYTES;
        let mut close = false;
        for header in request.headers.iter() {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("connection") {
                // Anything but these two may mean more than is understood here.
                close = header.value.eq_ignore_ascii_case(b"close");
                if !close && !header.value.eq_ignore_ascii_case(b"keep-alive") {
                    return None;
                }
            } else if is("content-length")
                || is("transfer-encoding")
                || is("expect")
                || (long && is("accept-encoding"))
            {
                return None;
            }
        }
        Some(Self {
            scrape,
            key,
            query,
            close,
        })
    }
}

fn forwarded(headers: &[httparse::Header<'_>], says: ProxySays) -> Vec<IpAddr> {
    let mut chain = Vec::new();
    for header in headers {
        says.read(header.name, header.value, &mut chain);
    }
    chain
}
