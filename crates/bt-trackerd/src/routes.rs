//! From a request that hyper read to its reply: `/announce`, `/scrape`, `/stats`, `/health`, and the pages of whoever embeds
//! the server.

use crate::ask::{self, Context};
use crate::proxy::ProxySays;
use crate::quick::URI_MAX_BYTES;
use crate::reply::{Reply, reply, text, unless_reading};
use crate::scrape::{self, FullScrape, GZIP_MIN_BYTES};
use crate::state::State;
use crate::stats::{self, Figures};
use bt_tracker::http::path::{self, Asked};
use bt_tracker::http::query::names_torrents;
use bt_tracker::server::Picked;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, HeaderValue, VARY,
};
use hyper::{Request, StatusCode};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What a reply to an announce commonly takes, in bytes.
const REPLY_BYTES: usize = 512;

/// The reply to a request from `peer`.
pub(crate) async fn answer<B>(state: &Arc<State>, peer: SocketAddr, request: &Request<B>) -> Reply {
    let uri = request.uri();
    let query = uri.query().unwrap_or_default();
    if uri.path().len() + query.len() > URI_MAX_BYTES {
        return text(StatusCode::URI_TOO_LONG, "the address is too long\n");
    }
    if let Some(refusal) = unless_reading(request.method()) {
        return refusal;
    }
    if let Some((asked, key)) = path::read(uri.path()) {
        if asked == Asked::Scrape && !names_torrents(query.as_bytes()) {
            return scrape_all(state, peer, request, key).await;
        }
        return ask(state, peer, request, asked, key);
    }
    match uri.path() {
        "/stats" => stats_page(state, request),
        "/health" => text(StatusCode::OK, health(state)),
        path => match state.page(path) {
            Some(page) => reply(StatusCode::OK, &page.content_type, page.body),
            None => text(
                StatusCode::NOT_FOUND,
                "a BitTorrent tracker; nothing here. See /stats\n",
            ),
        },
    }
}

/// A tracker whose store is away works, with what it knows itself.
fn health(state: &State) -> &'static str {
    match &state.store {
        Some(store) if !store.status.is_up() => {
            "degraded: the common store does not answer, and answers are local\n"
        }
        Some(_) | None => "ok\n",
    }
}

/// `/announce` or `/scrape`.
fn ask<B>(
    state: &State,
    peer: SocketAddr,
    http: &Request<B>,
    asked: Asked,
    key: Option<&str>,
) -> Reply {
    let query = http.uri().query().unwrap_or_default();
    let rules = state.rules();
    let context = Context {
        state,
        rules: &rules,
        now: state.now(),
        peer,
        key,
    };
    let mut body = Vec::with_capacity(REPLY_BYTES);
    let status = if asked == Asked::Scrape {
        context.scrape(query.as_bytes(), &mut body)
    } else {
        let chain = || forwarded(http, rules.proxy_says);
        context.announce(query.as_bytes(), chain, &mut Picked::default(), &mut body)
    };
    if asked == Asked::Scrape && body.len() >= GZIP_MIN_BYTES && wants_gzip(http) {
        return compressed(scrape::gzipped(&body).into());
    }
    bencoded(status, body)
}

/// A scrape of everything, for who may have it.
async fn scrape_all<B>(
    state: &Arc<State>,
    peer: SocketAddr,
    http: &Request<B>,
    key: Option<&str>,
) -> Reply {
    let rules = state.rules();
    let context = Context {
        state,
        rules: &rules,
        now: state.now(),
        peer,
        key,
    };
    let query = http.uri().query().unwrap_or_default().as_bytes();
    let mut body = Vec::new();
    if let Some(status) = context.permit_full_scrape(query, &mut body) {
        return bencoded(status, body);
    }
    let gzip = wants_gzip(http);
    match FullScrape::of(state, rules.full_scrape_max, gzip).await {
        Some(body) if gzip => compressed(body),
        Some(body) => reply(StatusCode::OK, ask::CONTENT_TYPE, body),
        None => {
            let status = context.refuse_full_scrape(&mut body);
            bencoded(status, body)
        }
    }
}

fn bencoded(status: u16, body: Vec<u8>) -> Reply {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply(status, ask::CONTENT_TYPE, body)
}

fn wants_gzip<B>(request: &Request<B>) -> bool {
    let headers = request.headers().get_all(ACCEPT_ENCODING);
    headers
        .iter()
        .any(|header| scrape::accepts_gzip(header.as_bytes()))
}

fn compressed(body: Bytes) -> Reply {
    let mut reply = reply(StatusCode::OK, ask::CONTENT_TYPE, body);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    reply
}

fn stats_page<B>(state: &State, request: &Request<B>) -> Reply {
    let accept = request
        .headers()
        .get(ACCEPT)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let json = b"application/json";
    let figures = Figures::of(state);
    if accept.windows(json.len()).any(|window| window == json) {
        return reply(StatusCode::OK, "application/json", stats::json(&figures));
    }
    let page = stats::page::html(&figures);
    let mut reply = reply(StatusCode::OK, "text/html; charset=utf-8", page);
    let policy = HeaderValue::from_static(stats::page::POLICY);
    reply.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    reply
}

fn forwarded<B>(request: &Request<B>, says: ProxySays) -> Vec<IpAddr> {
    let mut chain = Vec::new();
    for (name, value) in request.headers() {
        says.read(name.as_str(), value.as_bytes(), &mut chain);
    }
    chain
}
