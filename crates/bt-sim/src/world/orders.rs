//! What engines order, and how it is carried out and told.

use super::{Happening, World};
use crate::disk::INFO;
use crate::link::Phase;
use crate::node::Nature;
use crate::payload::{digest, mix};
use bt_core::disk::{Done, Job};
use bt_core::{Bitfield, Block, Layout};
use bt_peer::{CloseReason, ConnId, Event, Input, Output};
use bt_tracker::announce::{AnnounceFailure, AnnounceRequest, AnnounceResponse};
use bt_tracker::http::encode::{self, PeersForm};
use bt_tracker::http::{decode, query, url};
use bt_wire::Message;
use bt_wire::message::{BlockAddress, piece_header};
use bytes::{Bytes, BytesMut};
use core::time::Duration;
use std::net::SocketAddr;

/// What each job of the disk takes at least.
const DISK_LATENCY: Duration = Duration::from_micros(200);

/// Where everybody announces.
pub(super) const TRACKER_URL: &str = "http://tracker.test/announce";

/// How long a tracker that is down keeps its clients waiting.
const TRACKER_TIMEOUT: Duration = Duration::from_secs(10);

impl World {
    pub(super) fn obey(&mut self, number: usize, output: Output) {
        let weight = weigh_output(&output);
        self.note(number, || describe_output(&output), weight);
        match output {
            Output::Dial { conn, addr } => self.dial(number, conn, addr),
            Output::Send { conn, message } => self.send(number, conn, &message),
            Output::Upload { conn, block } => self.upload(number, conn, block),
            Output::Close { conn, reason } => {
                // Liars are banned; all others keep to the protocol, as far as who boasts lets them.
                let is_blamed = matches!(reason, CloseReason::Violation(_));
                let boasts = self.node(number).host.nature == Nature::Boaster;
                assert!(
                    !is_blamed || boasts,
                    "node {number} blames {conn:?} for {reason:?}"
                );
                self.close(number, conn);
            }
            Output::Disk(job) => self.order_job(number, job),
            Output::Metadata(bytes) => self.describe(number, &bytes),
            Output::Announce { id, request, .. } => self.order_announce(number, id, request),
            Output::Emit(event) => self.heed(number, &event),
            // Everybody knows its address here.
            Output::SeenAt { .. } => {}
        }
    }

    /// Enters a fact into the node's books.
    pub(super) fn book(&mut self, number: usize, input: &Input) {
        let node = self.node_mut(number);
        node.described |= matches!(input, Input::Described { .. });
        let ledger = &mut node.ledger;
        match input {
            Input::Received {
                message: Message::Piece { data, .. },
                ..
            } => {
                ledger.received += data.len() as u64;
            }
            Input::Uploaded {
                block,
                result: Ok(()),
                ..
            } => ledger.sent += u64::from(block.length),
            Input::Opened { conn, .. } | Input::DialFailed { conn } => ledger.dialled(*conn),
            Input::DiskDone(Done::Wrote { block }) => ledger.wrote(block.length),
            Input::Received { .. }
            | Input::Behind { .. }
            | Input::Uploaded { .. }
            | Input::Closed { .. }
            | Input::Described { .. }
            | Input::DiskDone(_)
            | Input::Announced { .. }
            | Input::PeersFound(..)
            | Input::ExternalIp(_)
            | Input::Command(_)
            | Input::Timeout => {}
        }
    }

    /// The node has the info dictionary, makes its files, and goes on with nothing.
    fn describe(&mut self, number: usize, bytes: &Bytes) {
        assert_eq!(*bytes, *INFO, "node {number} takes another info dictionary");
        let layout = self.settings.layout;
        let described = Input::Described {
            layout,
            private: false,
            have: Bitfield::new(layout.pieces_count()),
            wanted: self.node(number).wanted.clone(),
        };
        let run = self.node(number).run;
        self.later(DISK_LATENCY, Happening::Fact(number, run, described));
    }

    fn order_announce(&mut self, number: usize, id: u64, request: AnnounceRequest) {
        let (now, layout) = (self.now, self.settings.layout);
        let node = self.node_mut(number);
        let verified = node.verified.clone();
        node.ledger.unknown = !node.described;
        let told = node.ledger.announce(now, &request, &layout, &verified);
        let (run, latency) = (node.run, node.host.latency);
        self.insist(number, told);
        self.later(latency, Happening::Announce(number, run, id, request));
    }

    /// A dial takes two more ways than a byte: there, back, and there again with the first bytes.
    fn dial(&mut self, dialler: usize, conn: ConnId, addr: SocketAddr) {
        let dialled = self.node_mut(dialler).ledger.dial(conn);
        self.insist(dialler, dialled);
        self.dials += 1;
        let run = self.node(dialler).run;
        let target = self.number_of(addr.ip());
        let latency = self.latency(dialler, target.unwrap_or(dialler));
        let connect = Happening::Connect {
            dialler,
            run,
            conn,
            addr,
        };
        self.later(latency * 2, connect);
    }

    fn send(&mut self, number: usize, conn: ConnId, message: &Message) {
        let Some((id, side)) = self.node(number).conns.get(&conn).copied() else {
            return;
        };
        let node = self.nodes.get(number);
        let Some((node, link)) = node.zip(self.links.get_mut(id)) else {
            return;
        };
        let end = link.end_mut(side);
        if let Phase::Open(monitor) = &mut end.phase {
            if let Message::Have { piece } = message {
                let piece = self.settings.layout.piece(*piece);
                let has = piece.is_some_and(|piece| monitor.heard().get(piece));
                let full = monitor.heard().is_full();
                assert!(!has || full, "node {number}: {message:?} to who has it");
            }
            if let Err(breach) = monitor.send(message, &node.verified) {
                panic!("node {number}: {}", breach.0);
            }
        }
        let boasts = node.host.nature == Nature::Boaster;
        let mut bytes = BytesMut::new();
        if boasts && matches!(message, Message::HaveNone) {
            Message::HaveAll.encode_into(&mut bytes);
        } else if boasts && matches!(message, Message::Bitfield(_)) {
            boast(self.settings.layout).encode_into(&mut bytes);
        } else {
            message.encode_into(&mut bytes);
        }
        end.push(bytes.freeze(), None);
        self.enqueue(id, side);
    }

    fn upload(&mut self, number: usize, conn: ConnId, block: Block) {
        let Some((id, side)) = self.node(number).conns.get(&conn).copied() else {
            return;
        };
        let node = self.nodes.get(number);
        let Some((node, link)) = node.zip(self.links.get_mut(id)) else {
            return;
        };
        let read = match node.disk.read(block) {
            Ok(data) => data,
            Err(error) => {
                // Its request is not answered yet.
                if let Phase::Open(monitor) = &mut link.end_mut(side).phase {
                    monitor.failed_to_read(block);
                }
                let run = node.run;
                let result = Err(error);
                let failed = Input::Uploaded {
                    conn,
                    block,
                    result,
                };
                self.later(DISK_LATENCY, Happening::Fact(number, run, failed));
                return;
            }
        };
        let end = link.end_mut(side);
        if let Phase::Open(monitor) = &mut end.phase
            && let Err(breach) = monitor.upload(block, &node.verified)
        {
            panic!("node {number}: {}", breach.0);
        }
        let now = self.now;
        let ledger = &mut self.node_mut(number).ledger;
        let ordered = ledger.upload(now, block.length);
        self.insist(number, ordered);
        let Some((node, link)) = self.nodes.get(number).zip(self.links.get_mut(id)) else {
            return;
        };
        let end = link.end_mut(side);
        let data = match node.host.nature {
            Nature::Mute => return,
            Nature::Liar(percent) if self.rng.chance(percent) => spoil(&read),
            Nature::Liar(_) | Nature::Honest | Nature::Boaster | Nature::FreeRider => read,
        };
        if node.host.seeder {
            self.given_out.add(block);
        }
        let header = piece_header(block.piece.get(), block.begin, block.length);
        end.push(Bytes::copy_from_slice(&header), None);
        end.push(data, Some(block));
        self.enqueue(id, side);
    }

    fn close(&mut self, number: usize, conn: ConnId) {
        let Some((id, side)) = self.node_mut(number).conns.remove(&conn) else {
            return;
        };
        if let Some(link) = self.links.get_mut(id) {
            let end = link.end_mut(side);
            end.phase = Phase::Closed;
            end.finish();
            let both = matches!(link.end(side.other()).phase, Phase::Closed);
            if both {
                self.links.remove(id);
            } else {
                self.enqueue(id, side);
            }
        }
    }

    fn order_job(&mut self, number: usize, job: Job) {
        let length_bytes = match &job {
            Job::Write { block, .. } => block.length,
            Job::Check { piece } | Job::Digest { piece } => {
                self.settings.layout.piece_length(*piece)
            }
            Job::Discard { .. } => 0,
        };
        let now = self.now;
        if let Job::Write { block, .. } = &job {
            let written = self.node_mut(number).ledger.write(block.length);
            self.insist(number, written);
        }
        let node = self.node_mut(number);
        let nanos = u64::from(length_bytes) * 1_000_000_000 / node.disk_rate.max(1);
        let at = node.disk_free_at.max(now) + Duration::from_nanos(nanos);
        node.disk_free_at = at;
        let run = node.run;
        self.at(at + DISK_LATENCY, Happening::Disk(number, run, job));
    }

    /// The tracker hears an announce, or is down.
    pub(super) fn announce(&mut self, number: usize, run: u64, id: u64, request: &AnnounceRequest) {
        let (source, latency) = (self.node(number).addr, self.node(number).host.latency);
        let down = self.tracker_down_until > self.now;
        let result = if down {
            let message = "no answer".to_owned();
            let retry_in = None;
            Err(AnnounceFailure::Unreachable { message, retry_in })
        } else {
            self.ask_tracker(source, request)
        };
        if let Ok(response) = &result {
            let now = self.now;
            let node = self.node_mut(number);
            if node.run == run {
                node.ledger
                    .announced(now + latency, request.event, response);
            }
        }
        let after = if down { TRACKER_TIMEOUT } else { latency };
        let announced = Input::Announced { id, result };
        self.later(after, Happening::Fact(number, run, announced));
    }

    /// Question and answer go through the text of URLs and replies, as between the programs.
    fn ask_tracker(
        &mut self,
        source: SocketAddr,
        request: &AnnounceRequest,
    ) -> Result<AnnounceResponse, AnnounceFailure> {
        let asked = url::announce(TRACKER_URL, request);
        let (_, asked) = asked.split_once('?').unwrap_or_default();
        let mut reply = Vec::new();
        match query::announce(asked.as_bytes()) {
            Ok(heard) => {
                let form = PeersForm::wanted_by(&heard);
                let swarms = &mut self.tracker;
                match swarms.announce(self.now, source, &heard, &mut self.rng) {
                    Ok(answer) => encode::announce(&answer, form, &mut reply),
                    Err(refusal) => encode::failure(&refusal.to_string(), None, &mut reply),
                }
            }
            Err(error) => panic!("our own announces can be read: {error}"),
        }
        decode::announce(&reply)
    }

    fn heed(&mut self, number: usize, event: &Event) {
        match event {
            Event::PieceDone { piece } => {
                let verified = self.node(number).verified.get(*piece);
                assert!(verified, "node {number} claims {piece}");
            }
            Event::Banned { addr, .. } => {
                let ip = addr.ip();
                let banned = self.number_of(ip);
                let deserved = banned.filter(|banned| self.is_liar(*banned));
                let liar = deserved.unwrap_or_else(|| panic!("node {number} bans honest {ip}"));
                self.bans.insert((number, liar));
                if !self.has_another(number, liar, *addr) {
                    self.node_mut(number).ledger.banned.insert(liar);
                }
            }
            Event::Stopped => {
                self.save(number, true);
                self.vanish(number);
            }
            Event::Complete => self.plan_save(number),
            Event::Tracker { .. }
            | Event::PeerGone { .. }
            | Event::HashFailure { .. }
            | Event::DiskTrouble(_)
            | Event::DiskBroken(_)
            | Event::DiskRecovered
            | Event::UploadGoalReached
            | Event::UploadFailed { .. } => {}
        }
    }
}

/// A bitfield that claims everything.
fn boast(layout: Layout) -> Message {
    let all = Bitfield::full(layout.pieces_count());
    Message::Bitfield(all.to_bytes().into())
}

fn spoil(data: &Bytes) -> Bytes {
    let mut spoiled = data.to_vec();
    if let Some(last) = spoiled.last_mut() {
        *last ^= 1;
    }
    spoiled.into()
}

/// A number that differs where two facts differ in what matters.
pub(super) fn weigh_input(input: &Input) -> u64 {
    match input {
        Input::Opened { conn, .. } => mix(10, conn.0),
        Input::DialFailed { conn } => mix(11, conn.0),
        Input::Received { conn, message } => mix(mix(12, conn.0), weigh(message)),
        Input::Behind { conn } => mix(23, conn.0),
        Input::Uploaded { conn, block, .. } => mix(mix(13, conn.0), weigh_block(*block)),
        Input::Closed { conn, .. } => mix(14, conn.0),
        Input::Described { .. } => 20,
        Input::DiskDone(done) => match done {
            Done::Wrote { block } => mix(15, weigh_block(*block)),
            Done::Checked { piece, .. } => mix(16, u64::from(piece.get())),
            Done::Digests { piece, .. } => mix(17, u64::from(piece.get())),
        },
        Input::Announced { id, .. } => mix(18, *id),
        Input::PeersFound(_, addrs) => mix(19, addrs.len() as u64),
        Input::ExternalIp(_) => 22,
        Input::Command(_) => 20,
        Input::Timeout => 21,
    }
}

fn weigh_output(output: &Output) -> u64 {
    match output {
        Output::Dial { conn, .. } => mix(30, conn.0),
        Output::Send { conn, message } => mix(mix(31, conn.0), weigh(message)),
        Output::Upload { conn, block } => mix(mix(32, conn.0), weigh_block(*block)),
        Output::Close { conn, .. } => mix(33, conn.0),
        Output::Disk(_) => 34,
        Output::Metadata(_) => 37,
        Output::Announce { id, .. } => mix(35, *id),
        Output::Emit(_) => 36,
        Output::SeenAt { .. } => 38,
    }
}

fn weigh_block(block: Block) -> u64 {
    mix(u64::from(block.piece.get()), u64::from(block.begin))
}

/// All of a message but the bytes of its block.
fn weigh(message: &Message) -> u64 {
    let weigh_address = |kind, address: &BlockAddress| {
        let place = mix(u64::from(address.piece), u64::from(address.begin));
        mix(mix(kind, place), u64::from(address.length))
    };
    match message {
        Message::KeepAlive => 40,
        Message::Choke => 41,
        Message::Unchoke => 42,
        Message::Interested => 43,
        Message::NotInterested => 44,
        Message::Have { piece } => mix(45, u64::from(*piece)),
        Message::Bitfield(bytes) => mix(46, digest(bytes)),
        Message::Request(address) => weigh_address(47, address),
        Message::Piece { piece, begin, data } => {
            let (piece, begin) = (*piece, *begin);
            let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let address = BlockAddress {
                piece,
                begin,
                length,
            };
            weigh_address(48, &address)
        }
        Message::Cancel(address) => weigh_address(49, address),
        Message::Port(port) => mix(50, u64::from(*port)),
        Message::SuggestPiece { piece } => mix(51, u64::from(*piece)),
        Message::HaveAll => 52,
        Message::HaveNone => 53,
        Message::RejectRequest(address) => weigh_address(54, address),
        Message::AllowedFast { piece } => mix(55, u64::from(*piece)),
        Message::Extended { id, payload } => mix(mix(56, u64::from(*id)), digest(payload)),
    }
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "a text for people; what is new is told as it stands"
)]
pub(super) fn describe_input(input: &Input) -> String {
    match input {
        Input::Received { conn, message } => format!("{conn:?} got {}", describe(message)),
        Input::Opened { conn, addr, .. } => format!("{conn:?} opened to {addr}"),
        other => format!("{other:?}"),
    }
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "a text for people; what is new is told as it stands"
)]
fn describe_output(output: &Output) -> String {
    match output {
        Output::Send { conn, message } => format!("{conn:?} send {}", describe(message)),
        Output::Disk(Job::Write { block, .. }) => format!("write {block:?}"),
        other => format!("{other:?}"),
    }
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "a text for people; what is new is told as it stands"
)]
fn describe(message: &Message) -> String {
    match message {
        Message::Piece { piece, begin, data } => {
            format!("Piece {piece} {begin} {} bytes", data.len())
        }
        other => format!("{other:?}"),
    }
}
