//! One question to a UDP tracker and its answer (BEP 15, "time outs"): connect, ask, and ask again while nothing comes.
//!
//! **Invariant:** whatever comes from the network, a transaction sends no packet but at its start, at its deadlines and
//! once for each connection id; an answer counts only with the right transaction id.

use crate::announce::{AnnounceRequest, AnnounceResponse};
use crate::scrape::ScrapeEntry;
use crate::udp::response::Body;
use crate::udp::{ConnectionId, Family, TransactionId, request, response};
use bt_core::{InfoHash, Rng, Time};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// The first wait for an answer; it doubles with each try (BEP 15: 15 · 2ⁿ seconds).
pub const RETRANSMIT_FIRST: Duration = Duration::from_secs(15);

/// The last `n` of that rule.
pub const RETRANSMITS_MAX: u32 = 8;

/// How long a client may use a connection id (BEP 15: "until one minute after it has received it").
pub const CONNECTION_MAX: Duration = Duration::from_secs(60);

/// Told where a tracker answers an announce with nothing at all.
const BARE: &str = "an empty answer; it may not serve this torrent";

/// Trackers whose connection ids are kept. Each is asked again when it is needed.
pub const CONNECTIONS_MAX: usize = 1_024;

/// Connection ids, for use by all torrents that ask the same tracker within a minute.
#[derive(Debug, Default)]
pub struct Connections(BTreeMap<SocketAddr, (ConnectionId, Time)>);

impl Connections {
    /// Knows none.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// The tracker's connection id and when it was given, if it may still be used.
    #[must_use]
    pub fn find(&self, now: Time, tracker: SocketAddr) -> Option<(ConnectionId, Time)> {
        let known = self.0.get(&tracker).copied();
        known.filter(|(_, since)| now - *since < CONNECTION_MAX)
    }

    /// A tracker gave this connection id.
    pub fn keep(&mut self, now: Time, tracker: SocketAddr, id: ConnectionId) {
        if self.0.len() >= CONNECTIONS_MAX {
            self.0.retain(|_, (_, since)| now - *since < CONNECTION_MAX);
        }
        if self.0.len() < CONNECTIONS_MAX || self.0.contains_key(&tracker) {
            self.0.insert(tracker, (id, now));
        }
    }

    /// The tracker does not take its connection id any more.
    pub fn forget(&mut self, tracker: SocketAddr) {
        self.0.remove(&tracker);
    }
}

/// What a tracker is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// For peers.
    Announce {
        /// What it is told.
        request: AnnounceRequest,
        /// Path and query of its URL (BEP 41).
        url_data: String,
    },
    /// How many take part; at most [`SCRAPE_MAX`](crate::udp::SCRAPE_MAX) torrents.
    Scrape(Vec<InfoHash>),
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To an announce.
    Announce(AnnounceResponse),
    /// To a scrape, in the order of the question; may be shorter.
    Scrape(Vec<ScrapeEntry>),
    /// It refuses, in words for the user.
    Refused(String),
    /// It never answered, for as long as BEP 15 goes on asking.
    Silent,
}

/// An order, or the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this packet to the tracker.
    Send(Vec<u8>),
    /// The tracker gave a connection id: [`Connections::keep`].
    Connected(ConnectionId),
    /// The tracker did not take an older connection id: [`Connections::forget`].
    Expired,
    /// That was it. The last output.
    Done(Answer),
}

/// One question on its way.
#[derive(Debug)]
pub struct Transaction {
    id: TransactionId,
    question: Question,
    family: Family,
    connection: Option<Connection>,
    /// How often something was sent without an answer.
    tries: u32,
    /// When it is sent again; `None` once it is over.
    deadline: Option<Time>,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Copy, Debug)]
struct Connection {
    id: ConnectionId,
    since: Time,
    /// Of an earlier transaction: it may have expired at the tracker's end.
    is_old: bool,
}

impl Transaction {
    /// Asks a tracker that is reached over `family`; `known` is its connection id, as far as there is one.
    #[must_use]
    pub fn new(
        now: Time,
        question: Question,
        family: Family,
        known: Option<(ConnectionId, Time)>,
        rng: &mut Rng,
    ) -> Self {
        let [_, _, _, _, id @ ..] = rng.next_u64().to_be_bytes();
        let mut transaction = Self {
            id: TransactionId(u32::from_be_bytes(id)),
            question,
            family,
            connection: known.map(|(id, since)| Connection {
                id,
                since,
                is_old: true,
            }),
            tries: 0,
            deadline: None,
            outputs: VecDeque::new(),
        };
        transaction.send(now);
        transaction
    }

    /// What its answers carry, whichever packet they answer.
    #[must_use]
    pub const fn id(&self) -> TransactionId {
        self.id
    }

    /// A packet came from the tracker's address.
    pub fn received(&mut self, now: Time, packet: &[u8]) {
        let response = match response::read(packet, self.family) {
            Ok(response) => response,
            // opentracker says no more about a torrent that it does not serve.
            Err(_) if self.connection.is_some() && self.is_bare_announce(packet) => {
                return self.done(Answer::Refused(BARE.to_owned()));
            }
            Err(_) => return,
        };
        if response.transaction_id != self.id || self.deadline.is_none() {
            return;
        }
        let is_announce = matches!(self.question, Question::Announce { .. });
        match (response.body, self.connection) {
            (Body::Connect { connection_id }, None) => {
                self.connection = Some(Connection {
                    id: connection_id,
                    since: now,
                    is_old: false,
                });
                self.tries = 0;
                self.outputs.push_back(Output::Connected(connection_id));
                self.send(now);
            }
            (Body::Announce(response), Some(_)) if is_announce => {
                self.done(Answer::Announce(response));
            }
            (Body::Scrape(entries), Some(_)) if !is_announce => self.done(Answer::Scrape(entries)),
            (Body::Error(_), Some(connection)) if connection.is_old => {
                self.connection = None;
                self.outputs.push_back(Output::Expired);
                self.send(now);
            }
            (Body::Error(message), _) => self.done(Answer::Refused(message)),
            // A second copy of an answer, or one to something else.
            (Body::Connect { .. } | Body::Announce(_) | Body::Scrape(_), _) => {}
        }
    }

    /// An answer to our announce that ends behind the transaction id.
    fn is_bare_announce(&self, packet: &[u8]) -> bool {
        let TransactionId(id) = self.id;
        let bare = [1_u32.to_be_bytes(), id.to_be_bytes()].concat();
        self.deadline.is_some() && packet == bare
    }

    /// The deadline has come.
    pub fn timeout(&mut self, now: Time) {
        if self.deadline.is_none_or(|at| at > now) {
            return;
        }
        self.tries += 1;
        if self.tries > RETRANSMITS_MAX {
            self.done(Answer::Silent);
            return;
        }
        // Silence may mean that it does not take the id any more: some trackers say nothing then.
        let usable = self
            .connection
            .filter(|connection| !connection.is_old && now - connection.since < CONNECTION_MAX);
        if self.connection.is_some() && usable.is_none() {
            self.connection = None;
            self.outputs.push_back(Output::Expired);
        }
        self.send(now);
    }

    /// The next output.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`timeout`](Self::timeout); `None` once it is over.
    #[must_use]
    pub const fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    fn send(&mut self, now: Time) {
        let mut packet = Vec::new();
        match (self.connection, &self.question) {
            (None, _) => request::connect(self.id, &mut packet),
            (Some(connection), Question::Announce { request, url_data }) => {
                request::announce(connection.id, self.id, request, url_data, &mut packet);
            }
            (Some(connection), Question::Scrape(info_hashes)) => {
                request::scrape(connection.id, self.id, info_hashes, &mut packet);
            }
        }
        self.outputs.push_back(Output::Send(packet));
        self.deadline = Some(now + RETRANSMIT_FIRST.saturating_mul(1 << self.tries));
    }

    fn done(&mut self, answer: Answer) {
        self.deadline = None;
        self.outputs.push_back(Output::Done(answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::request::Request;
    use crate::udp::response::AnnounceHead;
    use bt_core::PeerId;

    const TRACKER: ConnectionId = ConnectionId(77);

    fn question() -> Question {
        Question::Announce {
            request: AnnounceRequest::new(InfoHash([1; 20]), PeerId([2; 20]), 6881, 5),
            url_data: "/announce?x".to_owned(),
        }
    }

    fn ask(now: Time, question: Question, known: Option<(ConnectionId, Time)>) -> Transaction {
        Transaction::new(now, question, Family::V4, known, &mut Rng::new(7))
    }

    /// What it does next, in words.
    fn outputs(transaction: &mut Transaction) -> Vec<String> {
        let mut words = Vec::new();
        while let Some(output) = transaction.poll() {
            words.push(match output {
                Output::Send(packet) => match request::read(&packet).unwrap() {
                    Request::Connect { .. } => "connect".to_owned(),
                    Request::Announce {
                        connection_id,
                        url_data,
                        ..
                    } => {
                        assert_eq!(url_data.to_vec(), b"/announce?x");
                        format!("announce with {}", connection_id.0)
                    }
                    Request::Scrape {
                        connection_id,
                        info_hashes,
                        ..
                    } => {
                        let count = info_hashes.iter().count();
                        format!("scrape of {count} with {}", connection_id.0)
                    }
                },
                Output::Connected(id) => format!("connected {}", id.0),
                Output::Expired => "expired".to_owned(),
                Output::Done(Answer::Announce(response)) => {
                    format!("{} seeders", response.complete.unwrap_or(0))
                }
                Output::Done(Answer::Scrape(entries)) => format!("{} entries", entries.len()),
                Output::Done(Answer::Refused(message)) => format!("refused: {message}"),
                Output::Done(Answer::Silent) => "silent".to_owned(),
            });
        }
        words
    }

    fn connected(transaction: &Transaction, id: u64) -> Vec<u8> {
        let mut packet = Vec::new();
        response::connect(transaction.id(), ConnectionId(id), &mut packet);
        packet
    }

    fn announced(transaction: &Transaction) -> Vec<u8> {
        let numbers = AnnounceHead {
            interval_secs: 1800,
            leechers: 1,
            seeders: 9,
        };
        let mut packet = Vec::new();
        response::announce(transaction.id(), numbers, &mut packet);
        packet
    }

    fn refused(transaction: &Transaction) -> Vec<u8> {
        let mut packet = Vec::new();
        response::error(transaction.id(), "no", &mut packet);
        packet
    }

    #[test]
    fn connect_then_announce() {
        let now = Time::from_secs(100);
        let mut transaction = ask(now, question(), None);
        assert_eq!(outputs(&mut transaction), ["connect"]);
        let packet = connected(&transaction, 5);
        transaction.received(now, &packet);
        let expected = ["connected 5", "announce with 5"];
        assert_eq!(outputs(&mut transaction), expected);
        // A second copy changes nothing.
        transaction.received(now, &packet);
        assert_eq!(outputs(&mut transaction), [""; 0]);
        let packet = announced(&transaction);
        transaction.received(now, &packet);
        assert_eq!(outputs(&mut transaction), ["9 seeders"]);
        assert_eq!(transaction.deadline(), None);
        transaction.received(now, &packet);
        transaction.timeout(Time::MAX);
        assert_eq!(outputs(&mut transaction), [""; 0], "it is over");
    }

    #[test]
    fn a_known_connection_saves_the_round_trip_and_an_expired_one_is_renewed() {
        let now = Time::from_secs(100);
        let mut connections = Connections::new();
        let tracker = "10.0.0.1:6969".parse().unwrap();
        connections.keep(now, tracker, TRACKER);
        let later = now + CONNECTION_MAX;
        assert_eq!(connections.find(later, tracker), None, "BEP 15: a minute");
        let known = connections.find(now, tracker);
        assert_eq!(known, Some((TRACKER, now)));

        let mut transaction = ask(now, Question::Scrape(vec![InfoHash([1; 20]); 3]), known);
        assert_eq!(outputs(&mut transaction), ["scrape of 3 with 77"]);
        let packet = refused(&transaction);
        transaction.received(now, &packet);
        assert_eq!(outputs(&mut transaction), ["expired", "connect"]);
        let packet = connected(&transaction, 8);
        transaction.received(now, &packet);
        let expected = ["connected 8", "scrape of 3 with 8"];
        assert_eq!(outputs(&mut transaction), expected);
        let packet = refused(&transaction);
        transaction.received(now, &packet);
        assert_eq!(outputs(&mut transaction), ["refused: no"]);

        // A tracker that is silent about an old id gets a connect next.
        let mut transaction = ask(now, question(), known);
        assert_eq!(outputs(&mut transaction), ["announce with 77"]);
        transaction.timeout(now + RETRANSMIT_FIRST);
        assert_eq!(outputs(&mut transaction), ["expired", "connect"]);
        connections.forget(tracker);
        assert_eq!(connections.find(now, tracker), None);
    }

    #[test]
    fn faults_107_retransmits_double_and_end() {
        let mut now = Time::from_secs(100);
        let mut transaction = ask(now, question(), None);
        let mut waits = Vec::new();
        let mut words = outputs(&mut transaction);
        while let Some(at) = transaction.deadline() {
            waits.push((at - now).as_secs());
            now = at;
            transaction.timeout(now);
            words.extend(outputs(&mut transaction));
        }
        assert_eq!(waits, [15, 30, 60, 120, 240, 480, 960, 1920, 3840]);
        assert_eq!(words.len(), 10);
        assert_eq!(words.last().unwrap(), "silent");
        assert!(words[..9].iter().all(|word| word == "connect"));
    }

    #[test]
    fn a_connection_of_a_minute_ago_is_made_anew_before_the_question_is_repeated() {
        let mut now = Time::from_secs(100);
        let mut transaction = ask(now, question(), None);
        let packet = connected(&transaction, 5);
        transaction.received(now, &packet);
        let mut words = Vec::new();
        for _ in 0..3 {
            now = transaction.deadline().unwrap();
            transaction.timeout(now);
            words.extend(outputs(&mut transaction));
        }
        // After 15 and 45 s the id still holds, after 105 s it does not.
        let expected = [
            "connect",
            "connected 5",
            "announce with 5",
            "announce with 5",
            "announce with 5",
            "expired",
            "connect",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn faults_106_what_is_no_answer_is_passed_over() {
        let now = Time::from_secs(100);
        let mut transaction = ask(now, question(), None);
        outputs(&mut transaction);
        let mut foreign = connected(&transaction, 5);
        foreign[7] ^= 1;
        let scraped = |transaction: &Transaction| {
            let mut packet = Vec::new();
            response::scrape(transaction.id(), [], &mut packet);
            packet
        };
        let early = announced(&transaction);
        for packet in [&b""[..], &[0; 3], &[0xff; 16], &foreign, &early] {
            transaction.received(now, packet);
        }
        assert_eq!(outputs(&mut transaction), [""; 0]);
        let packet = connected(&transaction, 5);
        transaction.received(now, &packet);
        outputs(&mut transaction);
        let other = scraped(&transaction);
        transaction.received(now, &other);
        assert_eq!(outputs(&mut transaction), [""; 0], "not what was asked");
        let packet = announced(&transaction);
        transaction.received(now, &packet);
        assert_eq!(outputs(&mut transaction), ["9 seeders"]);
    }

    #[test]
    fn an_answer_without_anything_is_a_refusal() {
        let now = Time::from_secs(100);
        let mut transaction = ask(now, question(), None);
        outputs(&mut transaction);
        let bare = announced(&transaction)[..8].to_vec();
        transaction.received(now, &bare);
        assert_eq!(outputs(&mut transaction), [""; 0], "it asked for an id");
        let packet = connected(&transaction, 5);
        transaction.received(now, &packet);
        outputs(&mut transaction);
        transaction.received(now, &bare[..7]);
        assert_eq!(outputs(&mut transaction), [""; 0]);
        transaction.received(now, &bare);
        assert_eq!(outputs(&mut transaction), [format!("refused: {BARE}")]);
    }

    #[test]
    fn connections_are_bounded() {
        let mut connections = Connections::new();
        let now = Time::from_secs(1);
        let addr = |n: u16| SocketAddr::from(([10, 0, 0, 1], n));
        for n in 0..2_000 {
            connections.keep(now, addr(n), TRACKER);
        }
        assert_eq!(connections.0.len(), CONNECTIONS_MAX);
        connections.keep(now + CONNECTION_MAX, addr(5_000), TRACKER);
        assert_eq!(connections.0.len(), 1, "the old ones make room");
    }
}
