//! Announces and scrapes over HTTP, whoever read the request: from the query string to status and body.
//!
//! A request that makes no sense gets status 400, one that is refused status 200, both with a bencoded
//! `failure reason`: clients show that, and many look at no body but that of a 200.

use crate::counters::Counted;
use crate::state::{Rules, State};
use crate::trust;
use bt_core::Time;
use bt_tracker::http::encode::PeersForm;
use bt_tracker::http::{encode, query};
use bt_tracker::scrape::{ScrapeResponse, ScrapedTorrent};
use bt_tracker::server::{Picked, Scope, Wanted};
use std::net::{IpAddr, SocketAddr};

/// The content type of every reply.
pub(crate) const CONTENT_TYPE: &str = "text/plain";

/// Status of an answer, and of a refusal that clients shall show.
pub(crate) const OK: u16 = 200;

/// Status of a request that makes no sense.
pub(crate) const BAD_REQUEST: u16 = 400;

/// What a request is judged by.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) state: &'a State,
    pub(crate) rules: &'a Rules,
    pub(crate) now: Time,
    /// From where the connection comes.
    pub(crate) peer: SocketAddr,
}

impl Context<'_> {
    /// Appends the reply to an announce; returns its status. `forwarded` gives the chain of `X-Forwarded-For`, and is asked
    /// only if the connection is trusted.
    pub(crate) fn announce(
        &self,
        query: &[u8],
        forwarded: impl FnOnce() -> Vec<IpAddr>,
        picked: &mut Picked,
        body: &mut Vec<u8>,
    ) -> u16 {
        self.state.counters.count(Counted::AnnounceHttp);
        let request = match query::announce(query) {
            Ok(request) => request,
            Err(error) => return self.refuse(BAD_REQUEST, &error.to_string(), body),
        };
        if !self.rules.access.permits(&request.info_hash) {
            return self.refuse(OK, "this tracker does not serve this torrent", body);
        }
        let ip = trust::source(&self.rules.trust, self.peer.ip(), forwarded, request.ip);
        let source = SocketAddr::new(ip, self.peer.port());
        let form = PeersForm::wanted_by(&request);
        let wanted = Wanted {
            scope: Scope::Both,
            ids: form == PeersForm::Dictionaries,
            most: usize::MAX,
        };
        let shards = &self.state.shards;
        match shards.announce_into(self.now, source, &request, wanted, picked) {
            Ok(numbers) => {
                encode::picked(&numbers, ip, picked, form, body);
                OK
            }
            Err(refusal) => self.refuse(OK, &refusal.to_string(), body),
        }
    }

    /// Appends the reply to a scrape; returns its status.
    pub(crate) fn scrape(&self, query: &[u8], body: &mut Vec<u8>) -> u16 {
        self.state.counters.count(Counted::ScrapeHttp);
        let torrents = match query::scrape(query) {
            Ok(torrents) => torrents,
            Err(error) => return self.refuse(BAD_REQUEST, &error.to_string(), body),
        };
        if torrents.is_empty() {
            let reason = "info_hash is missing: a scrape of everything is not served";
            return self.refuse(BAD_REQUEST, reason, body);
        }
        let scraped = |info_hash| {
            let permitted = self.rules.access.permits(&info_hash);
            let known = permitted.then(|| self.state.shards.scrape(self.now, &info_hash));
            Some(ScrapedTorrent {
                info_hash,
                entry: known.flatten()?,
                name: None,
            })
        };
        let response = ScrapeResponse {
            torrents: torrents.into_iter().filter_map(scraped).collect(),
            min_request_interval: None,
        };
        encode::scrape(&response, body);
        OK
    }

    fn refuse(&self, status: u16, reason: &str, body: &mut Vec<u8>) -> u16 {
        self.state.counters.count(Counted::Refused);
        encode::failure(reason, None, body);
        status
    }
}

/// Adds the addresses of one `X-Forwarded-For` header; what is no address ends the chain, as it cannot be vouched for.
pub(crate) fn forwarded(header: &[u8], chain: &mut Vec<IpAddr>) {
    for addr in core::str::from_utf8(header).unwrap_or_default().split(',') {
        match addr.trim().parse() {
            Ok(addr) => chain.push(addr),
            Err(_) => chain.clear(),
        }
    }
}
