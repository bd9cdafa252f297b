//! From a packet to its answer, or to silence.
//!
//! **Invariant:** whoever has not proven its address is told nothing but a connection id, in an answer as long as the
//! question: nobody can have others flooded through this tracker.

use crate::counters::Counted;
use crate::state::{Current, State};
use bt_core::Time;
use bt_tracker::scrape::ScrapeEntry;
use bt_tracker::server::{Picked, Scope, Wanted};
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
                ..
            }) if proven(connection_id) => {
                self.announce(now, source, transaction_id, &announce, out);
            }
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

    fn announce(
        &mut self,
        now: Time,
        source: SocketAddr,
        transaction_id: TransactionId,
        announce: &bt_tracker::announce::AnnounceRequest,
        out: &mut Vec<u8>,
    ) {
        self.state.counters.count(Counted::AnnounceUdp);
        let rules = self.state.refresh(&mut self.rules);
        if !rules.access.permits(&announce.info_hash) {
            let reason = "this tracker does not serve this torrent";
            return self.refuse(transaction_id, reason, out);
        }
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
