//! Answering others (BEP 5, 32, 42, 44, 51).
//!
//! **Invariant:** a datagram is answered with one datagram of at most 1024 bytes (BEP 32, "maximum packet
//! size"; an item of BEP 44 comes on top), to where it came from, and
//! nothing else is sent but a ping that may win a node for the table. Nothing is stored without a token.

use super::Node;
use crate::id::{NodeId, is_local};
use crate::item::Item;
use crate::krpc::{
    Body, Contact, KrpcError, Message, Method, Query, Response, Samples, Want, code,
};
use crate::table::{K, Table};
use bt_core::{InfoHash, Time};
use std::net::SocketAddr;

/// Peers in an answer. With eight nodes, id and token that stays below that.
const VALUES_V4_MAX: usize = 50;
/// The same for IPv6, whose addresses are longer: with eight nodes of each family there is room for so many.
const VALUES_V6_MAX: usize = 15;
/// Torrents in a sample (BEP 51).
const SAMPLES_MAX: usize = 20;
/// When an indexer should ask for another sample, in seconds: so often it may get another one.
const SAMPLE_INTERVAL_S: u64 = 6 * 60 * 60;

impl Node {
    pub(super) fn query(
        &mut self,
        now: Time,
        from: SocketAddr,
        transaction: Vec<u8>,
        query: Query,
        other: Option<&Table>,
    ) {
        self.counters.queries_received += 1;
        if self.read_only || query.id == self.id {
            return;
        }
        if !self.askers.admit(now, from) {
            self.counters.queries_dropped += 1;
            return;
        }
        let contact = Contact {
            id: query.id,
            addr: from,
        };
        let read_only = query.read_only;
        let body = match self.answer(now, from, query, other) {
            Ok(response) => Body::Response(Box::new(response)),
            Err(error) => Body::Error(error),
        };
        self.reply(now, from, transaction, body);
        if !read_only && self.table.asked(now, contact) {
            self.meet(now, from);
        }
    }

    pub(super) fn reply(&mut self, now: Time, to: SocketAddr, transaction: Vec<u8>, body: Body) {
        let packet = Message { transaction, body }.encode();
        if self.answers.take(now, packet.len() as u64) {
            self.outputs.push_back(crate::Output::Send { to, packet });
        } else {
            self.counters.queries_dropped += 1;
        }
    }

    fn answer(
        &mut self,
        now: Time,
        from: SocketAddr,
        query: Query,
        other: Option<&Table>,
    ) -> Result<Response, KrpcError> {
        let mut response = Response::new(self.id);
        response.observed = Some(from);
        let want = query.want.unwrap_or(Want {
            v4: !self.ipv6,
            v6: self.ipv6,
        });
        match query.method {
            Method::Ping => {}
            Method::FindNode { target }
            | Method::Unknown {
                target: Some(target),
            } => self.name_nodes(&mut response, &target, want, from, other),
            Method::Unknown { target: None } => {
                return Err(KrpcError::new(code::METHOD_UNKNOWN, "method unknown"));
            }
            Method::GetPeers { info_hash } => {
                let target = info_hash.into();
                self.name_nodes(&mut response, &target, want, from, other);
                response.token = Some(self.token(now, from, &target));
                let count = if self.ipv6 {
                    VALUES_V6_MAX
                } else {
                    VALUES_V4_MAX
                };
                response.values = self.peers.sample(now, &info_hash, count, &mut self.rng);
            }
            Method::AnnouncePeer {
                info_hash,
                port,
                implied_port,
                token,
            } => {
                self.check_token(now, from, &info_hash.into(), &token)?;
                let port = if implied_port { from.port() } else { port };
                self.store_peer(now, info_hash, SocketAddr::new(from.ip(), port))?;
            }
            Method::Get { target, seq } => {
                self.name_nodes(&mut response, &target, want, from, other);
                response.token = Some(self.token(now, from, &target));
                response.item = self.items.find(now, &target, seq);
            }
            Method::Put { item, cas, token } => {
                self.check_token(now, from, &item.target(), &token)?;
                self.store_item(now, item, cas)?;
            }
            Method::SampleInfohashes { target } => {
                self.name_nodes(&mut response, &target, want, from, other);
                response.samples = Some(Samples {
                    info_hashes: self.peers.sample_torrents(SAMPLES_MAX, &mut self.rng),
                    total: Some(self.peers.torrents() as u64),
                    interval_s: Some(SAMPLE_INTERVAL_S),
                });
            }
        }
        Ok(response)
    }

    fn token(&mut self, now: Time, from: SocketAddr, key: &NodeId) -> Vec<u8> {
        self.tokens.rotate(now, &mut self.secret);
        self.tokens.token(from.ip(), key).to_vec()
    }

    fn check_token(
        &mut self,
        now: Time,
        from: SocketAddr,
        key: &NodeId,
        token: &[u8],
    ) -> Result<(), KrpcError> {
        self.tokens.rotate(now, &mut self.secret);
        if self.tokens.accepts(token, from.ip(), key) {
            return Ok(());
        }
        Err(KrpcError::new(code::PROTOCOL, "bad token"))
    }

    fn store_peer(
        &mut self,
        now: Time,
        info_hash: InfoHash,
        peer: SocketAddr,
    ) -> Result<(), KrpcError> {
        if !bt_core::addr::is_dialable(peer) {
            return Err(KrpcError::new(code::PROTOCOL, "port 0"));
        }
        self.peers.announce(now, info_hash, peer, &mut self.rng);
        Ok(())
    }

    fn store_item(&mut self, now: Time, item: Item, cas: Option<i64>) -> Result<(), KrpcError> {
        let stored = self.items.put(now, item, cas, &self.id);
        stored.map_err(crate::store::PutError::to_krpc)
    }

    fn name_nodes(
        &self,
        response: &mut Response,
        target: &NodeId,
        want: Want,
        from: SocketAddr,
        other: Option<&Table>,
    ) {
        let closest = |table: &Table| {
            let mut contacts = table.closest(target, K);
            // Nobody on the internet can reach our neighbours at home.
            let at_home = is_local(from.ip());
            contacts.retain(|contact| at_home || !is_local(contact.addr.ip()));
            contacts
        };
        let (v4, v6) = if self.ipv6 {
            (other, Some(&self.table))
        } else {
            (Some(&self.table), other)
        };
        // A family that is wanted and that we are not in has no nodes.
        response.nodes = want.v4.then(|| v4.map(closest).unwrap_or_default());
        response.nodes6 = want.v6.then(|| v6.map(closest).unwrap_or_default());
    }
}
