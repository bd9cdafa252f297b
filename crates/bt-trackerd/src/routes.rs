//! From a request that hyper read to its reply: `/announce`, `/scrape`, `/stats`, `/health`, and the pages of whoever embeds
//! the server.

use crate::ask::{self, Context};
use crate::quick::URI_MAX_BYTES;
use crate::state::State;
use crate::stats;
use bt_tracker::server::Picked;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use std::net::{IpAddr, SocketAddr};

/// What a reply to an announce commonly takes, in bytes.
const REPLY_BYTES: usize = 512;

const TEXT: &str = "text/plain; charset=utf-8";

type Reply = Response<Full<Bytes>>;

/// The reply to a request from `peer`.
pub(crate) fn answer<B>(state: &State, peer: SocketAddr, request: &Request<B>) -> Reply {
    let uri = request.uri();
    let query = uri.query().unwrap_or_default();
    if uri.path().len() + query.len() > URI_MAX_BYTES {
        return text(StatusCode::URI_TOO_LONG, "the address is too long\n");
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut reply = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET is understood here\n",
        );
        reply
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return reply;
    }
    match uri.path() {
        "/announce" | "/scrape" => ask(state, peer, request, query),
        "/stats" => stats_page(state, request),
        "/health" => text(StatusCode::OK, "ok\n"),
        path => match state.page(path) {
            Some(page) => reply(StatusCode::OK, &page.content_type, page.body),
            None => text(
                StatusCode::NOT_FOUND,
                "a BitTorrent tracker; nothing here. See /stats\n",
            ),
        },
    }
}

/// `/announce` or `/scrape`.
fn ask<B>(state: &State, peer: SocketAddr, http: &Request<B>, query: &str) -> Reply {
    let rules = state.rules();
    let context = Context {
        state,
        rules: &rules,
        now: state.now(),
        peer,
    };
    let mut body = Vec::with_capacity(REPLY_BYTES);
    let status = if http.uri().path() == "/scrape" {
        context.scrape(query.as_bytes(), &mut body)
    } else {
        let chain = || forwarded(http);
        context.announce(query.as_bytes(), chain, &mut Picked::default(), &mut body)
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply(status, ask::CONTENT_TYPE, body.into())
}

fn stats_page<B>(state: &State, request: &Request<B>) -> Reply {
    let accept = request
        .headers()
        .get(ACCEPT)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let json = b"application/json";
    if accept.windows(json.len()).any(|window| window == json) {
        return reply(
            StatusCode::OK,
            "application/json",
            stats::json(state).into(),
        );
    }
    reply(
        StatusCode::OK,
        "text/html; charset=utf-8",
        stats::html(state).into(),
    )
}

fn forwarded<B>(request: &Request<B>) -> Vec<IpAddr> {
    const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    let mut chain = Vec::new();
    for header in request.headers().get_all(X_FORWARDED_FOR) {
        ask::forwarded(header.as_bytes(), &mut chain);
    }
    chain
}

fn text(status: StatusCode, text: &'static str) -> Reply {
    reply(status, TEXT, Bytes::from_static(text.as_bytes()))
}

fn reply(status: StatusCode, content_type: &str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        reply.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    reply
}
