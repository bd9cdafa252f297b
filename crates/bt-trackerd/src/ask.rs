//! Announces and scrapes over HTTP, whoever read the request: from the query string to status and body.
//!
//! A request that makes no sense gets status 400, one that is refused status 200, both with a bencoded
//! `failure reason`: clients show that, and many look at no body but that of a 200.

use crate::counters::Counted;
use crate::gate::{Denial, permit_key};
use crate::state::{Rules, State};
use crate::trust;
use bt_core::{InfoHash, Time};
use bt_tracker::http::encode::PeersForm;
use bt_tracker::http::{encode, query};
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
    /// The key that stands in the path.
    pub(crate) key: Option<&'a str>,
}

impl Context<'_> {
    /// Appends the reply to an announce; returns its status. `forwarded` gives the chain of addresses that proxies name, and
    /// is asked only if the connection is one of theirs.
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
        let Rules {
            proxies, ip_from, ..
        } = self.rules;
        let ip = trust::source(proxies, ip_from, self.peer.ip(), forwarded, request.ip);
        let (key, gate) = (self.key(query), &self.state.gate);
        if let Err(denial) = gate.admit(self.now, self.rules, ip, key, &request) {
            return self.deny(denial, body);
        }
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
                encode::picked(&numbers, ip, picked, form, &self.rules.notes, body);
                OK
            }
            Err(refusal) => self.refuse(OK, &refusal.to_string(), body),
        }
    }

    /// Appends the reply to a scrape; returns its status.
    pub(crate) fn scrape(&self, query: &[u8], body: &mut Vec<u8>) -> u16 {
        self.state.counters.count(Counted::ScrapeHttp);
        if let Err(denial) = permit_key(self.rules, self.key(query)) {
            return self.deny(denial, body);
        }
        let mut asked = [InfoHash([0; 20]); query::SCRAPE_MAX];
        let mut count = 0;
        for (place, torrent) in asked.iter_mut().zip(query::torrents(query)) {
            match torrent {
                Ok(torrent) => *place = torrent,
                Err(error) => return self.refuse(BAD_REQUEST, &error.to_string(), body),
            }
            count += 1;
        }
        let asked = asked.get_mut(..count).unwrap_or_default();
        asked.sort_unstable_by_key(leading);
        let mut last = None;
        let scraped = asked.iter().filter_map(|torrent| {
            let again = last.replace(torrent) == Some(torrent);
            let permitted = !again && self.rules.access.permits(torrent);
            let known = permitted.then(|| self.state.shards.scrape(self.now, torrent));
            Some((*torrent, known.flatten()?))
        });
        encode::scraped(scraped, body);
        OK
    }

    /// Says why not, if a scrape of everything is not for this one.
    pub(crate) fn permit_full_scrape(&self, query: &[u8], body: &mut Vec<u8>) -> Option<u16> {
        self.state.counters.count(Counted::ScrapeHttp);
        if let Err(denial) = permit_key(self.rules, self.key(query)) {
            return Some(self.deny(denial, body));
        }
        let refused = self.rules.full_scrape_max == 0;
        refused.then(|| self.refuse_full_scrape(body))
    }

    pub(crate) fn refuse_full_scrape(&self, body: &mut Vec<u8>) -> u16 {
        let reason = "info_hash is missing: a scrape of everything is not served";
        self.refuse(BAD_REQUEST, reason, body)
    }

    /// The key of a private tracker's user.
    fn key<'a>(&'a self, query: &'a [u8]) -> Option<&'a [u8]> {
        self.rules.keys.as_ref()?;
        let in_path = self.key.map(str::as_bytes);
        in_path.or_else(|| query::passkey(query))
    }

    fn deny(&self, denial: Denial, body: &mut Vec<u8>) -> u16 {
        self.state.counters.count(Counted::Refused);
        encode::failure(&denial.to_string(), denial.retry_in(), body);
        OK
    }

    fn refuse(&self, status: u16, reason: &str, body: &mut Vec<u8>) -> u16 {
        self.state.counters.count(Counted::Refused);
        encode::failure(reason, None, body);
        status
    }
}

/// Info hashes are in the order of these numbers, which compare faster than strings.
fn leading(info_hash: &InfoHash) -> (u64, [u8; 12]) {
    let [a, b, c, d, e, f, g, h, rest @ ..] = info_hash.0;
    (u64::from_be_bytes([a, b, c, d, e, f, g, h]), rest)
}
