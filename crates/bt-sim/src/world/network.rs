//! Links: how they come to be, carry bytes, freeze and break.

use super::{Happening, World};
use crate::disk::{DiskKind, INFO_HASH};
use crate::link::{End, Link, LinkId, Phase, SEGMENT_BYTES_MAX, Segment, Side};
use crate::oracle::Monitor;
use bt_core::Block;
use bt_peer::{CloseReason, ConnId, Direction, Input, RESERVED};
use bt_wire::handshake::HANDSHAKE_BYTES;
use bt_wire::{Decoder, Handshake, Message, Reserved};
use bytes::{Buf, Bytes};
use core::time::Duration;
use std::net::SocketAddr;

/// The port from which nodes dial.
const EPHEMERAL_PORT: u16 = 50_000;

/// How long a call to somebody out of reach is waited for.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A segment that takes an idle line so little time that it is delivered at once: a `have` or a few.
const SMALL_SEGMENT_BYTES: usize = 64;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// What became of the bytes at a link's end.
enum Came {
    Handshake(Handshake),
    Message(Message),
}

impl World {
    /// Whether the node has a connection with the other beside the one from `addr`. Who went down and came back before that
    /// was noticed has another id then, and its address counts as one that others use too.
    pub(super) fn has_another(&self, number: usize, other: usize, addr: SocketAddr) -> bool {
        let conns = self.node(number).conns.values();
        let from = conns.filter_map(|(id, side)| {
            let far = self.links.get(*id)?.end(side.other()).node;
            let port = match side {
                Side::Dialler => self.node(far).addr.port(),
                Side::Listener => EPHEMERAL_PORT,
            };
            (far == other).then_some(port)
        });
        let from: Vec<u16> = from.collect();
        let blamed = usize::from(from.contains(&addr.port()));
        from.len() > blamed
    }

    /// A dial reaches the other end, or nobody.
    pub(super) fn connect(&mut self, dialler: usize, run: u64, conn: ConnId, addr: SocketAddr) {
        if self.node(dialler).run != run {
            return;
        }
        let listener = self.number_of(addr.ip());
        let Some(listener) = listener.filter(|number| self.node(*number).addr == addr) else {
            self.feed(dialler, Input::DialFailed { conn });
            return;
        };
        if !self.node(listener).host.dialable || self.parted_until(dialler, listener) > self.now {
            let failed = Input::DialFailed { conn };
            self.later(DIAL_TIMEOUT, Happening::Fact(dialler, run, failed));
            return;
        }
        if self.node(listener).engine.is_none() {
            self.feed(dialler, Input::DialFailed { conn });
            return;
        }
        let target = self.node_mut(listener);
        let theirs = ConnId(target.next_conn);
        target.next_conn += 2;
        let decoder = || Decoder::new(self.limits);
        let link = Link {
            dialler: End::new(dialler, conn, decoder()),
            listener: End::new(listener, theirs, decoder()),
            latency: self.latency(dialler, listener),
        };
        let id = self.links.add(link);
        let conns = &mut self.node_mut(listener).conns;
        conns.insert(theirs, (id, Side::Listener));
        let conns = &mut self.node_mut(dialler).conns;
        conns.insert(conn, (id, Side::Dialler));
        self.shake(id, Side::Dialler);
    }

    /// How long a byte is under way between two nodes.
    pub(super) fn latency(&self, a: usize, b: usize) -> Duration {
        self.node(a).host.latency + self.node(b).host.latency
    }

    /// The extensions that a node speaks.
    fn reserved(&self, number: usize) -> Reserved {
        if self.node(number).host.fast {
            RESERVED
        } else {
            Reserved::NONE.with_extension_protocol()
        }
    }

    /// Sends this end's handshake.
    fn shake(&mut self, id: LinkId, side: Side) {
        let Some(number) = self.links.get(id).map(|link| link.end(side).node) else {
            return;
        };
        let handshake = Handshake {
            reserved: self.reserved(number),
            info_hash: *INFO_HASH,
            peer_id: self.node(number).peer_id,
        };
        let bytes = Bytes::copy_from_slice(&handshake.encode());
        if let Some(link) = self.links.get_mut(id) {
            link.end_mut(side).push(bytes, None);
        }
        self.enqueue(id, side);
    }

    /// The end has something to send: it takes its turn on its node's line.
    pub(super) fn enqueue(&mut self, id: LinkId, side: Side) {
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        let other = link.end(side.other()).node;
        let end = link.end_mut(side);
        if end.queued || !end.has_output() {
            return;
        }
        end.queued = true;
        let number = end.node;
        let passable_at = self.parted_until(number, other);
        if passable_at > self.now {
            self.at(passable_at, Happening::Passable(id, side));
            return;
        }
        self.node_mut(number).line.push_back((id, side));
        self.use_line(number);
    }

    pub(super) fn passable(&mut self, id: LinkId, side: Side) {
        if let Some(link) = self.links.get_mut(id) {
            link.end_mut(side).queued = false;
            self.enqueue(id, side);
        }
    }

    /// Puts the next segments on the node's line if that is free: as many at once as make about a block, so that a
    /// line full of small messages is not busy with one after the other.
    pub(super) fn use_line(&mut self, number: usize) {
        let now = self.now;
        let node = self.node(number);
        if node.line_busy || node.frozen_until > now {
            return;
        }
        let lag = node.lag;
        let up = self.node(number).host.up;
        let (mut length_bytes, mut uploads) = (0, Vec::new());
        while length_bytes < SEGMENT_BYTES_MAX {
            let Some((id, side)) = self.node_mut(number).line.pop_front() else {
                break;
            };
            let Some(link) = self.links.get_mut(id) else {
                continue;
            };
            let (latency, other) = (link.latency, link.end(side.other()).node);
            link.end_mut(side).queued = false;
            if self.parted_until(number, other) > now {
                self.enqueue(id, side);
                continue;
            }
            let Some(end) = self.links.get_mut(id).map(|link| link.end_mut(side)) else {
                continue;
            };
            let mut segment = end.take_segment(&mut self.rng);
            let again = end.has_output();
            end.queued = again;
            length_bytes += segment.length_bytes;
            let conn = end.conn;
            uploads.extend(segment.uploads.drain(..).map(|block| (conn, block)));
            let arrival = now + transfer_time(length_bytes, up) + latency + lag;
            let arrival = arrival.max(end.arrives_at);
            end.arrives_at = arrival;
            if again {
                self.node_mut(number).line.push_back((id, side));
            }
            self.at(arrival, Happening::Arrived(id, side.other(), segment));
        }
        if length_bytes > 0 {
            self.node_mut(number).line_busy = true;
            let at = now + transfer_time(length_bytes, up);
            self.at(at, Happening::Sent(number, uploads));
        }
    }

    /// The node's line is free again, and these blocks are on their way.
    pub(super) fn sent(&mut self, number: usize, uploads: Vec<(ConnId, Block)>) {
        self.node_mut(number).line_busy = false;
        for (conn, block) in uploads {
            let result = Ok(());
            let uploaded = Input::Uploaded {
                conn,
                block,
                result,
            };
            self.fact(number, uploaded);
        }
        self.use_line(number);
    }

    pub(super) fn arrived(&mut self, id: LinkId, side: Side, segment: Segment) {
        let Some(number) = self.links.get(id).map(|link| link.end(side).node) else {
            return;
        };
        let now = self.now;
        let node = self.node_mut(number);
        let Some(down) = node.host.down else {
            self.delivered(id, side, &segment);
            return;
        };
        if segment.length_bytes <= SMALL_SEGMENT_BYTES && node.down_free_at < now {
            // Nothing is before it, and it takes next to no time: one thing less to plan.
            node.down_free_at = now + transfer_time(segment.length_bytes, down);
            self.delivered(id, side, &segment);
            return;
        }
        let at = node.down_free_at.max(now) + transfer_time(segment.length_bytes, down);
        node.down_free_at = at;
        if let Some(link) = self.links.get_mut(id) {
            link.end_mut(side.other()).through_at = at;
        }
        self.at(at, Happening::Delivered(id, side, segment));
    }

    /// Bytes are with the receiver: whole messages go to its engine.
    pub(super) fn delivered(&mut self, id: LinkId, side: Side, segment: &Segment) {
        if let Some(link) = self.links.get_mut(id) {
            let end = link.end_mut(side);
            for part in &segment.parts {
                match self.settings.disk {
                    DiskKind::Stored => end.inbox.extend_from_slice(part),
                    // For large swarms, as the disk is.
                    DiskKind::Stamped => end.keep(part.clone()),
                }
            }
        }
        while let Some((number, conn, came)) = self.next_message(id, side) {
            match came {
                Came::Handshake(handshake) => self.opened(id, side, number, conn, &handshake),
                Came::Message(message) => {
                    let is_block = matches!(message, Message::Piece { .. });
                    self.feed(number, Input::Received { conn, message });
                    if is_block && self.nodes.get(number).is_some_and(|node| node.host.busy) {
                        self.feed(number, Input::Behind { conn });
                    }
                }
            }
        }
        if segment.finish {
            self.finish(id, side);
        } else if let Some(link) = self.links.get_mut(id) {
            link.end_mut(side).tidy();
        }
    }

    /// The next whole thing that came to the end, unless its node has closed it.
    fn next_message(&mut self, id: LinkId, side: Side) -> Option<(usize, ConnId, Came)> {
        let end = self.links.get_mut(id)?.end_mut(side);
        loop {
            let came = match &mut end.phase {
                Phase::Closed => return None,
                Phase::Shaking => {
                    let handshake = Handshake::parse(&end.inbox);
                    let handshake = handshake.expect("nodes send right handshakes");
                    if handshake.is_some() {
                        end.inbox.advance(HANDSHAKE_BYTES);
                    }
                    handshake.map(Came::Handshake)
                }
                Phase::Open(monitor) => {
                    let message = end.decoder.decode(&mut end.inbox);
                    let message = message.expect("nodes send right messages");
                    message.iter().for_each(|message| monitor.hear(message));
                    message.map(Came::Message)
                }
            };
            if let Some(came) = came {
                return Some((end.node, end.conn, came));
            }
            if !end.gather() {
                return None;
            }
        }
    }

    fn opened(&mut self, id: LinkId, side: Side, number: usize, conn: ConnId, came: &Handshake) {
        if side == Side::Listener {
            self.shake(id, side);
        }
        let layout = self.settings.layout;
        let own = self.reserved(number);
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        let fast = came.reserved.has_fast() && own.has_fast();
        link.end_mut(side).phase = Phase::Open(Box::new(Monitor::new(layout, fast)));
        let other = link.end(side.other()).node;
        let addr = self.node(other).addr;
        let (direction, addr) = match side {
            Side::Dialler => (Direction::Outgoing, addr),
            Side::Listener => {
                let from = SocketAddr::new(addr.ip(), EPHEMERAL_PORT);
                (Direction::Incoming, from)
            }
        };
        let opened = Input::Opened {
            conn,
            addr,
            direction,
            peer_id: came.peer_id,
            // Who does not speak an extension does not look at its bit.
            reserved: common(came.reserved, own),
        };
        self.feed(number, opened);
    }

    /// The other end closed its stream.
    fn finish(&mut self, id: LinkId, side: Side) {
        if let Some(link) = self.links.remove(id) {
            self.tell_closed(link.end(side), side, Duration::ZERO);
        }
    }

    /// The link breaks: what is under way is lost, and both ends learn of it.
    pub(super) fn tear(&mut self, id: LinkId) {
        if let Some(link) = self.links.remove(id) {
            for side in [Side::Dialler, Side::Listener] {
                self.tell_closed(link.end(side), side, link.latency);
            }
        }
    }

    fn tell_closed(&mut self, end: &End, side: Side, after: Duration) {
        let conn = end.conn;
        let run = self.node(end.node).run;
        let fact = match (&end.phase, side) {
            (Phase::Closed, _) => return,
            (Phase::Shaking, Side::Dialler) => {
                self.node_mut(end.node).conns.remove(&conn);
                Input::DialFailed { conn }
            }
            (Phase::Shaking, Side::Listener) => {
                self.node_mut(end.node).conns.remove(&conn);
                return;
            }
            (Phase::Open(_), _) => Input::Closed {
                conn,
                reason: CloseReason::Gone,
            },
        };
        self.later(after, Happening::Fact(end.node, run, fact));
    }
}

/// The extensions that both name.
fn common(theirs: Reserved, own: Reserved) -> Reserved {
    let mut bits = theirs.0;
    for (bit, own) in bits.iter_mut().zip(own.0) {
        *bit &= own;
    }
    Reserved(bits)
}

fn transfer_time(length_bytes: usize, bytes_per_s: u64) -> Duration {
    let nanos = length_bytes as u64 * NANOS_PER_SECOND / bytes_per_s.max(1);
    Duration::from_nanos(nanos)
}
