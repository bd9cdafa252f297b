//! From a packet to its answer, or to silence.
//!
//! **Invariant:** whoever has not proven its address is told nothing but a connection id, in an answer as long as the
//! question: nobody can have others flooded through this tracker.

use crate::counters::Counted;
use crate::gate::{Denial, permit_key};
use crate::proxy::{self, ProxySays};
use crate::state::{Current, State};
use crate::trust;
use bt_core::Time;
use bt_tracker::announce::AnnounceRequest;
use bt_tracker::http::{path, query};
use bt_tracker::scrape::ScrapeEntry;
use bt_tracker::server::{Picked, Scope, Wanted};
use bt_tracker::udp::options::UrlData;
use bt_tracker::udp::request::{InfoHashes, Request, RequestError};
use bt_tracker::udp::response::AnnounceHead;
use bt_tracker::udp::{ConnectionId, Family, TransactionId, request, response};
use std::net::SocketAddr;
use std::sync::Arc;

/// What one worker answers with: all of it is used again for each packet.
#[derive(Debug)]
pub(super) struct Answerer {
    state: Arc<State>,
    rules: Current,
    picked: Picked,
}

impl Answerer {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self {
            rules: state.current(),
            state,
            picked: Picked::default(),
        }
    }

    /// Puts the answer into `out`, which is empty; silence leaves it so.
    pub(super) fn answer(
        &mut self,
        now: Time,
        source: SocketAddr,
        packet: &[u8],
        out: &mut Vec<u8>,
    ) {
        let Some((source, packet)) = self.unwrap_proxied(source, packet) else {
            return self.state.counters.count(Counted::Ignored);
        };
        let proven = |id: ConnectionId| self.state.connection_ids.prove(now, source.ip(), id);
        match request::read(packet) {
            Ok(Request::Connect { transaction_id }) => {
                self.state.counters.count(Counted::Connect);
                let id = self.state.connection_ids.make(now, source.ip());
                response::connect(transaction_id, id, out);
            }
            Ok(Request::Announce {
                connection_id,
                transaction_id,
                announce,
                url_data,
            }) if proven(connection_id) => match self.admit(now, source, url_data, &announce) {
                Ok(()) => self.announce(now, source, transaction_id, &announce, out),
                Err(denial) => self.refuse(transaction_id, &denial.to_string(), out),
            },
            Ok(Request::Scrape {
                connection_id,
                transaction_id,
                info_hashes,
            }) if proven(connection_id) => self.scrape(now, transaction_id, info_hashes, out),
            Err(RequestError::Flawed {
                connection_id,
                transaction_id,
                flaw,
            }) if proven(connection_id) => self.refuse(transaction_id, &flaw.to_string(), out),
            Ok(_) | Err(_) => self.state.counters.count(Counted::Ignored),
        }
    }

    /// Who sent the packet, and what: one of a proxy says so at its beginning, or is none.
    fn unwrap_proxied<'a>(
        &mut self,
        source: SocketAddr,
        packet: &'a [u8],
    ) -> Option<(SocketAddr, &'a [u8])> {
        let rules = self.state.refresh(&mut self.rules);
        if rules.proxies.is_empty()
            || rules.proxy_says != ProxySays::ProxyProtocol
            || !trust::contain(&rules.proxies, source.ip())
        {
            return Some((source, packet));
        }
        let (named, rest) = proxy::split_packet(packet)?;
        Some((named.unwrap_or(source), rest))
    }

    /// Lets an announce in, or says why not. The key of a private tracker's user stands in the URL (BEP 41).
    fn admit(
        &mut self,
        now: Time,
        source: SocketAddr,
        url_data: UrlData<'_>,
        announce: &AnnounceRequest,
    ) -> Result<(), Denial> {
        self.state.counters.count(Counted::AnnounceUdp);
        let rules = self.state.refresh(&mut self.rules);
        let gate = &self.state.gate;
        if rules.keys.is_none() {
            return gate.admit(now, rules, source.ip(), None, announce);
        }
        let url = url_data.to_vec();
        let (in_path, query) = match url.iter().position(|byte| *byte == b'?') {
            Some(mark) => (url.get(..mark), url.get(mark + 1..)),
            None => (Some(&*url), None),
        };
        let in_path = core::str::from_utf8(in_path.unwrap_or_default()).ok();
        let in_path = in_path.and_then(path::read).and_then(|(_, key)| key);
        let key = in_path.map(str::as_bytes);
        let key = key.or_else(|| query::passkey(query?));
        gate.admit(now, rules, source.ip(), key, announce)
    }

    fn announce(
        &mut self,
        now: Time,
        source: SocketAddr,
        transaction_id: TransactionId,
        announce: &AnnounceRequest,
        out: &mut Vec<u8>,
    ) {
        let family = Family::of(source.ip());
        let wanted = Wanted {
            scope: match family {
                Family::V4 => Scope::V4,
                Family::V6 => Scope::V6,
            },
            ids: false,
            most: family.peers_max(),
        };
        let picked = &mut self.picked;
        let numbers = self
            .state
            .shards
            .announce_into(now, source, announce, wanted, picked);
        match numbers {
            Ok(numbers) => {
                let head = AnnounceHead {
                    interval_secs: numbers.interval_secs,
                    leechers: numbers.incomplete,
                    seeders: numbers.complete,
                };
                response::announce(transaction_id, head, out);
                out.extend_from_slice(picked.v4());
                out.extend_from_slice(picked.v6());
            }
            Err(refusal) => self.refuse(transaction_id, &refusal.to_string(), out),
        }
    }

    fn scrape(
        &mut self,
        now: Time,
        transaction_id: TransactionId,
        info_hashes: InfoHashes<'_>,
        out: &mut Vec<u8>,
    ) {
        self.state.counters.count(Counted::ScrapeUdp);
        let rules = self.state.refresh(&mut self.rules);
        // A scrape over UDP has no room for a key.
        if let Err(denial) = permit_key(rules, None) {
            return self.refuse(transaction_id, &denial.to_string(), out);
        }
        let shards = &self.state.shards;
        // Who is not known has an entry too: they are told apart by their place alone.
        let entries = info_hashes.iter().map(|info_hash| {
            let permitted = rules.access.permits(&info_hash);
            let entry = permitted.then(|| shards.scrape(now, &info_hash)).flatten();
            entry.unwrap_or(ScrapeEntry::default())
        });
        response::scrape(transaction_id, entries, out);
    }

    fn refuse(&self, transaction_id: TransactionId, reason: &str, out: &mut Vec<u8>) {
        self.state.counters.count(Counted::Refused);
        response::error(transaction_id, reason, out);
    }
}
