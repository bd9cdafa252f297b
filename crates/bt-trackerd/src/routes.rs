//! From a request to its reply: `/announce`, `/scrape`, `/stats`, `/health`, and the pages of whoever embeds the server.
//!
//! A request that makes no sense gets status 400, one that is refused status 200, both with a bencoded
//! `failure reason`: clients show that, and many look at no body but that of a 200.

use crate::counters::Counted;
use crate::state::State;
use crate::{stats, trust};
use bt_tracker::http::encode::PeersForm;
use bt_tracker::http::{encode, query};
use bt_tracker::scrape::{ScrapeResponse, ScrapedTorrent};
use bt_tracker::server::{Picked, Scope, Wanted};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use std::net::{IpAddr, SocketAddr};

/// Longest path and query, in bytes. An announce has about 400; a scrape of 74 torrents about 5 300.
const URI_MAX_BYTES: usize = 8 * 1024;

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
        "/announce" => announce(state, peer, request, query),
        "/scrape" => scrape(state, query),
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

fn announce<B>(state: &State, peer: SocketAddr, http: &Request<B>, query: &str) -> Reply {
    state.counters.count(Counted::AnnounceHttp);
    let request = match query::announce(query.as_bytes()) {
        Ok(request) => request,
        Err(error) => return refuse(state, StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let rules = state.rules();
    if !rules.access.permits(&request.info_hash) {
        return refuse(
            state,
            StatusCode::OK,
            "this tracker does not serve this torrent",
        );
    }
    let ip = trust::source(
        &rules.trust,
        peer.ip(),
        forwarded(http).into_iter(),
        request.ip,
    );
    let source = SocketAddr::new(ip, peer.port());
    let form = PeersForm::wanted_by(&request);
    let wanted = Wanted {
        scope: Scope::Both,
        ids: form == PeersForm::Dictionaries,
        most: usize::MAX,
    };
    let mut picked = Picked::default();
    let (shards, now) = (&state.shards, state.now());
    match shards.announce_into(now, source, &request, wanted, &mut picked) {
        Ok(numbers) => {
            let mut body = Vec::with_capacity(REPLY_BYTES);
            encode::picked(&numbers, ip, &picked, form, &mut body);
            reply(StatusCode::OK, "text/plain", body.into())
        }
        Err(refusal) => refuse(state, StatusCode::OK, &refusal.to_string()),
    }
}

fn scrape(state: &State, query: &str) -> Reply {
    state.counters.count(Counted::ScrapeHttp);
    let torrents = match query::scrape(query.as_bytes()) {
        Ok(torrents) => torrents,
        Err(error) => return refuse(state, StatusCode::BAD_REQUEST, &error.to_string()),
    };
    if torrents.is_empty() {
        return refuse(
            state,
            StatusCode::BAD_REQUEST,
            "info_hash is missing: a scrape of everything is not served",
        );
    }
    let (now, rules) = (state.now(), state.rules());
    let scraped = |info_hash| {
        let permitted = rules.access.permits(&info_hash);
        let entry = permitted
            .then(|| state.shards.scrape(now, &info_hash))
            .flatten()?;
        Some(ScrapedTorrent {
            info_hash,
            entry,
            name: None,
        })
    };
    let response = ScrapeResponse {
        torrents: torrents.into_iter().filter_map(scraped).collect(),
        min_request_interval: None,
    };
    let mut body = Vec::with_capacity(REPLY_BYTES);
    encode::scrape(&response, &mut body);
    reply(StatusCode::OK, "text/plain", body.into())
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

/// The addresses in the `X-Forwarded-For` headers; what is no address ends the chain, as it cannot be vouched for.
fn forwarded<B>(request: &Request<B>) -> Vec<IpAddr> {
    const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    let mut chain = Vec::new();
    for header in request.headers().get_all(X_FORWARDED_FOR) {
        for addr in header.to_str().unwrap_or_default().split(',') {
            match addr.trim().parse() {
                Ok(addr) => chain.push(addr),
                Err(_) => chain.clear(),
            }
        }
    }
    chain
}

fn refuse(state: &State, status: StatusCode, reason: &str) -> Reply {
    state.counters.count(Counted::Refused);
    let mut body = Vec::new();
    encode::failure(reason, None, &mut body);
    reply(status, "text/plain", body.into())
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
