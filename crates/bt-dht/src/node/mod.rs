//! One node: a routing table, what it stores for others, and its own searches. See the crate's documentation.
//!
//! **Invariant:** an answer counts only if it comes from where its question went to, with the question's transaction id,
//! which cannot be guessed. At most [`PENDING_MAX`] questions are open, each for [`FAILED_AFTER`] at most.

mod answer;
mod search;
#[cfg(test)]
mod tests;
mod upkeep;

use crate::contract::{Command, Config, Event, Input, Output, SearchId};
use crate::id::NodeId;
use crate::krpc::{Body, Contact, DecodeError, Message, Method, Query, Response, Want, decode};
use crate::limits::{Allowance, Askers};
use crate::round_trips::{LATE_MAX, RoundTrips};
use crate::secret::Secret;
use crate::state::State;
use crate::store::{ItemStore, PeerStore};
use crate::table::Table;
use crate::tokens::Tokens;
use bt_core::{Rng, Time, Votes};
use core::time::Duration;
use search::Searches;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use upkeep::Upkeep;

/// Open questions of a node. Searches leave room for some seconds of lost answers.
pub const PENDING_MAX: usize = 512;
/// When an answer is given up.
pub const FAILED_AFTER: Duration = Duration::from_secs(8);
/// Nodes that are pinged only to get to know them, in a second.
const MEETINGS_PER_S: u64 = 5;

/// Why a question was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To see whether somebody is there.
    Meet,
    /// For a search.
    Search(Key),
    /// To store what a search was for.
    Store(Key),
}

/// A search: one of the user's, or one that keeps the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    User(SearchId),
    Upkeep(u64),
}

/// How long a question has been open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    NotLong,
    /// Longer than most answers take.
    Slow,
    /// Longer than nearly all take.
    Late,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    to: SocketAddr,
    sent: Time,
    /// How long the answer may take before others are asked beside it, and before the search goes on without it.
    slow_after: Duration,
    late_after: Duration,
    waited: Waited,
    purpose: Purpose,
}

/// A DHT node on one socket. See the module's documentation.
#[derive(Clone, Debug)]
pub struct Node {
    id: NodeId,
    ipv6: bool,
    dual_stack: bool,
    read_only: bool,
    rng: Rng,
    secret: Secret,
    table: Table,
    tokens: Tokens,
    peers: PeerStore,
    items: ItemStore,
    askers: Askers,
    answers: Allowance,
    meetings: Allowance,
    votes: Votes,
    pending: BTreeMap<u32, Pending>,
    round_trips: RoundTrips,
    searches: Searches,
    upkeep: Upkeep,
    outputs: VecDeque<Output>,
    counters: Counters,
}

/// What a node did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Questions sent.
    pub queries_sent: u64,
    /// Answers to our questions.
    pub answers_received: u64,
    /// Questions that nobody answered.
    pub timeouts: u64,
    /// Questions received.
    pub queries_received: u64,
    /// Questions that we did not answer, as there were too many.
    pub queries_dropped: u64,
    /// Datagrams that were nothing, or answers to nothing.
    pub garbage: u64,
}

impl Node {
    /// A node that knows nobody yet. `seed` is for choices, `config.key` for secrets.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut secret = Secret::new(config.key);
        let id = config.id.unwrap_or_else(|| NodeId::random(&mut rng));
        Self {
            id,
            ipv6: config.ipv6,
            dual_stack: config.dual_stack,
            read_only: config.read_only,
            table: Table::new(Time::ZERO, id),
            tokens: Tokens::new(Time::ZERO, &mut secret),
            peers: PeerStore::new(config.ipv6),
            items: ItemStore::default(),
            askers: Askers::default(),
            answers: Allowance::new(config.answer_bytes_per_s),
            meetings: Allowance::new(MEETINGS_PER_S),
            votes: Votes::default(),
            pending: BTreeMap::new(),
            round_trips: RoundTrips::default(),
            searches: Searches::default(),
            upkeep: Upkeep::new(config.bootstrap),
            outputs: VecDeque::new(),
            counters: Counters::default(),
            rng,
            secret,
        }
    }

    /// Takes in one fact. `other` is the table of a node of the other family that we have too, whose nodes others may
    /// want (BEP 32).
    pub fn handle(&mut self, now: Time, input: Input, other: Option<&Table>) {
        match input {
            Input::Received { from, packet } => self.received(now, from, &packet, other),
            Input::Command(command) => self.command(now, command),
            Input::Timeout => self.expire(now),
        }
        loop {
            self.keep_up(now);
            self.advance(now);
            // A search that was over at once leaves room for what else is due.
            if self.upkeep_at().is_none_or(|due| due > now) {
                return;
            }
        }
    }

    /// The next order.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to come back with [`Input::Timeout`], unless something happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let answers = self.pending.values().map(|pending| {
            let span = match pending.waited {
                Waited::NotLong => pending.slow_after,
                Waited::Slow => pending.late_after,
                Waited::Late => FAILED_AFTER,
            };
            pending.sent + span
        });
        let others = self.upkeep_at().into_iter().chain(self.searches.start_at());
        answers.chain(others).min()
    }

    /// Our own id.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// The socket is one of IPv6.
    #[must_use]
    pub const fn is_ipv6(&self) -> bool {
        self.ipv6
    }

    /// The routing table.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// The peers kept for others.
    #[must_use]
    pub const fn peer_store(&self) -> &PeerStore {
        &self.peers
    }

    /// What was done so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// What the next run should begin with.
    #[must_use]
    pub fn state(&self) -> State {
        State {
            id: self.id,
            port: 0,
            nodes: self.table.contacts().collect(),
        }
    }

    fn command(&mut self, now: Time, command: Command) {
        match command {
            Command::Meet(addr) => self.meet(now, addr),
            Command::Bootstrap(places) => self.upkeep.remember(now, places),
            Command::ExternalAddress(ip) => self.seen_at(now, ip),
            Command::Search { id, what } => self.search(id, what),
            Command::Cancel(id) => self.cancel(id),
        }
    }

    fn received(&mut self, now: Time, from: SocketAddr, packet: &[u8], other: Option<&Table>) {
        if from.is_ipv6() != self.ipv6 {
            return;
        }
        match decode(packet) {
            Ok(Message { transaction, body }) => match body {
                Body::Query(query) => self.query(now, from, transaction, query, other),
                Body::Response(response) => self.response(now, from, &transaction, *response),
                Body::Error(error) => {
                    if let Some(purpose) = self.close(now, from, &transaction) {
                        self.refused(from, purpose, error);
                    }
                }
            },
            Err(DecodeError::BadQuery { transaction, error }) => {
                self.counters.queries_received += 1;
                if !self.read_only && self.askers.admit(now, from) {
                    self.reply(now, from, transaction, Body::Error(error));
                }
            }
            Err(DecodeError::Garbage(_)) => self.counters.garbage += 1,
        }
    }

    fn response(&mut self, now: Time, from: SocketAddr, transaction: &[u8], response: Response) {
        let Some(purpose) = self.close(now, from, transaction) else {
            return;
        };
        let contact = Contact {
            id: response.id,
            addr: from,
        };
        if let Some(observed) = response.observed
            && let Some(ip) = self.votes.vote(from.ip(), observed.ip())
        {
            self.seen_at(now, ip);
        }
        if contact.id != self.id
            && let Some(silent) = self.table.answered(now, contact)
        {
            self.meet(now, silent.addr);
        }
        match purpose {
            Purpose::Meet => {}
            Purpose::Search(key) => self.found(key, contact, response),
            Purpose::Store(key) => self.stored(key, true),
        }
    }

    /// The question that a message from `from` with this transaction answers, which is no longer open.
    fn close(&mut self, now: Time, from: SocketAddr, transaction: &[u8]) -> Option<Purpose> {
        let id = <[u8; 4]>::try_from(transaction)
            .ok()
            .map(u32::from_be_bytes);
        let asked = id.filter(|id| self.pending.get(id).is_some_and(|open| open.to == from));
        let Some(pending) = asked.and_then(|id| self.pending.remove(&id)) else {
            self.counters.garbage += 1;
            return None;
        };
        self.counters.answers_received += 1;
        self.round_trips.answered(now.since(pending.sent));
        Some(pending.purpose)
    }

    /// Gives up or passes over questions that have been open for too long.
    fn expire(&mut self, now: Time) {
        let mut failed = Vec::new();
        let mut waited = Vec::new();
        for (id, pending) in &mut self.pending {
            let age = now.since(pending.sent);
            if age >= FAILED_AFTER {
                failed.push(*id);
            } else if age >= pending.late_after && pending.waited != Waited::Late {
                pending.waited = Waited::Late;
                waited.push(*pending);
            } else if age >= pending.slow_after && pending.waited == Waited::NotLong {
                pending.waited = Waited::Slow;
                waited.push(*pending);
            }
        }
        for pending in waited {
            match (pending.purpose, pending.waited) {
                (Purpose::Search(key), Waited::Slow) => self.searches.slow(key, pending.to),
                (Purpose::Search(key), Waited::Late) => self.searches.late(key, pending.to),
                (Purpose::Search(_), Waited::NotLong) | (Purpose::Meet | Purpose::Store(_), _) => {}
            }
        }
        for id in failed {
            let Some(pending) = self.pending.remove(&id) else {
                continue;
            };
            self.counters.timeouts += 1;
            self.table.failed(now, pending.to);
            match pending.purpose {
                Purpose::Meet => {}
                Purpose::Search(key) => self.searches.failed(key, pending.to),
                Purpose::Store(key) => self.stored(key, false),
            }
        }
    }

    /// Pings somebody whom we do not know, if there is time for that.
    fn meet(&mut self, now: Time, addr: SocketAddr) {
        let fits = addr.is_ipv6() == self.ipv6 && bt_core::addr::is_dialable(addr);
        if fits && self.meetings.take(now, 1) {
            self.ask(now, addr, Method::Ping, Purpose::Meet);
        }
    }

    /// Sends a question. False if there are too many already.
    fn ask(&mut self, now: Time, to: SocketAddr, method: Method, purpose: Purpose) -> bool {
        if self.pending.len() >= PENDING_MAX {
            return false;
        }
        let mut id = self.secret.transaction();
        while self.pending.contains_key(&id) {
            id = self.secret.transaction();
        }
        // Behind a ping nobody else waits to be asked.
        let (slow_after, late_after) = match method {
            Method::Ping => (LATE_MAX, LATE_MAX),
            Method::FindNode { .. }
            | Method::GetPeers { .. }
            | Method::AnnouncePeer { .. }
            | Method::Get { .. }
            | Method::Put { .. }
            | Method::SampleInfohashes { .. }
            | Method::Unknown { .. } => {
                (self.round_trips.slow_after(), self.round_trips.late_after())
            }
        };
        let pending = Pending {
            to,
            sent: now,
            slow_after,
            late_after,
            waited: Waited::NotLong,
            purpose,
        };
        self.pending.insert(id, pending);
        // While we look for our neighbours, nodes of the other family are welcome too (BEP 32, "bootstrapping").
        let home = matches!(&method, Method::FindNode { target } if *target == self.id);
        let want = (self.dual_stack && home).then_some(Want { v4: true, v6: true });
        self.counters.queries_sent += 1;
        let message = Message {
            transaction: id.to_be_bytes().to_vec(),
            body: Body::Query(Query {
                id: self.id,
                method,
                want,
                read_only: self.read_only,
            }),
        };
        let packet = message.encode();
        self.outputs.push_back(Output::Send { to, packet });
        true
    }

    fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Emit(event));
    }
}
