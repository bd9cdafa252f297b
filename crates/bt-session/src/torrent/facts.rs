//! What happened to a torrent, and what follows from it.

use super::{Ends, Fact, Torrent, warn};
use crate::buffers::READ_BYTES;
use crate::conn::{self, Order};
use crate::handle::Failure;
use crate::handshake::Greeted;
use crate::metadata::Described;
use bt_core::Block;
use bt_core::disk::{DiskError, Done};
use bt_peer::peers::Source;
use bt_peer::{CloseReason, ConnId, Direction, Input};
use bt_wire::{Limits, Message};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

/// A peer of which so many bytes of blocks come with one read sends faster than we take it.
const BEHIND_BYTES_MIN: usize = READ_BYTES * 3 / 4;

impl Torrent {
    pub(super) fn fact(&mut self, fact: Fact, ends: &Ends) -> Result<(), Failure> {
        match fact {
            Fact::Received {
                conn,
                messages,
                turn,
            } => self.received(conn, messages, turn, ends),
            Fact::Uploaded { conn, blocks } => self.uploaded(conn, blocks, ends),
            Fact::Closed { conn, reason } => {
                if self.conns.remove(&conn).is_some() {
                    self.inputs.push_back(Input::Closed { conn, reason });
                }
            }
            Fact::Dialled { conn, greeted } => {
                if self.dials.remove(&conn).is_some() {
                    self.open(conn, greeted, Direction::Outgoing, ends);
                }
            }
            Fact::DialFailed { conn } => {
                if self.dials.remove(&conn).is_some() {
                    self.inputs.push_back(Input::DialFailed { conn });
                }
            }
            Fact::Announced { id, result } => {
                self.resolve(&result);
                self.inputs.push_back(Input::Announced { id, result });
            }
            Fact::PeersFound(peers) => self.found(Source::Tracker, peers),
            Fact::Described(described) => self.described(*described?, ends),
            Fact::Saved(Ok(())) => {}
            Fact::Saved(Err(error)) => warn(
                format!("the resume state is not saved: {error}"),
                &ends.events,
            ),
            Fact::DiskGone => {
                let message = "the disk's task ended".to_owned();
                return Err(Failure::Bug { message });
            }
        }
        Ok(())
    }

    fn received(
        &mut self,
        conn: ConnId,
        messages: Vec<Message>,
        turn: Option<OwnedSemaphorePermit>,
        ends: &Ends,
    ) {
        let payload_bytes = payload_bytes(&messages);
        if payload_bytes >= BEHIND_BYTES_MIN && self.conns.contains_key(&conn) {
            self.inputs.push_back(Input::Behind { conn });
        }
        for message in messages {
            // The engine may have closed it at an earlier one.
            let Some(entry) = self.conns.get(&conn) else {
                break;
            };
            if let (Message::Port(port), Some(dht), Some(addr)) = (&message, &self.dht, entry.addr)
            {
                dht.meet(SocketAddr::new(addr.ip(), *port));
            }
            self.feed(Input::Received { conn, message }, ends);
        }
        let mut done = Vec::new();
        if let Some(hands) = &mut self.hands {
            hands.jobs.flush(&mut done);
        }
        self.disk_done(done);
        if (self.engine.is_swamped(conn) || (payload_bytes > 0 && self.is_disk_full()))
            && let Some(entry) = self.conns.get_mut(&conn)
        {
            entry.turn = turn;
        }
    }

    fn uploaded(&mut self, conn: ConnId, blocks: Vec<(Block, Result<(), DiskError>)>, ends: &Ends) {
        for (block, result) in blocks {
            if self.conns.contains_key(&conn) {
                let uploaded = Input::Uploaded {
                    conn,
                    block,
                    result,
                };
                self.feed(uploaded, ends);
            }
        }
        let is_disk_full = self.is_disk_full();
        if let Some(entry) = self.conns.get_mut(&conn)
            && !self.engine.is_swamped(conn)
            && !is_disk_full
        {
            entry.turn = None;
        }
    }

    fn is_disk_full(&self) -> bool {
        let hands = self.hands.as_ref();
        hands.is_some_and(|hands| hands.jobs.is_full())
    }

    /// Reads on of all peers that wait for no more than they may, unless too much waits for the disk.
    pub(super) fn read_on(&mut self) {
        if self.is_disk_full() {
            return;
        }
        for (conn, entry) in &mut self.conns {
            if !self.engine.is_swamped(*conn) {
                entry.turn = None;
            }
        }
    }

    pub(super) fn accepted(&mut self, mut greeted: Greeted, ends: &Ends) {
        greeted.stream = match settled(greeted.stream) {
            Ok(stream) => stream,
            // As if the peer had gone before it was accepted.
            Err(error) => {
                tracing::debug!(addr = %greeted.addr, %error, "cannot take a connection");
                return;
            }
        };
        let conn = ConnId(self.next_accepted);
        self.next_accepted += 2;
        self.open(conn, greeted, Direction::Incoming, ends);
    }

    /// From here on it is a torrent like any other.
    fn described(&mut self, described: Described, ends: &Ends) {
        let opened = described.opened;
        if opened.torrent.private {
            let (dht, lsd) = (self.dht.take(), self.lsd.take());
            let info_hash = self.info_hash;
            let leaving = async move {
                if let Some(dht) = dht {
                    dht.leave(info_hash).await;
                }
                if let Some(lsd) = lsd {
                    lsd.leave(info_hash).await;
                }
                None
            };
            self.errands.spawn(leaving, None);
        }
        self.disk.open(opened.store);
        self.limits = Limits::for_torrent(opened.torrent.layout.pieces_count());
        self.keeper = Some(opened.keeper);
        for message in opened.notes {
            warn(message, &ends.events);
        }
        // Nobody may be listening.
        let _ = ends.events.send(described.checked);
        self.inputs.push_back(Input::Described {
            layout: opened.torrent.layout,
            private: opened.torrent.private,
            have: opened.torrent.have,
            wanted: opened.torrent.wanted,
        });
    }

    pub(super) fn disk_done(&mut self, done: Vec<Done>) {
        self.inputs.extend(done.into_iter().map(Input::DiskDone));
    }

    fn open(&mut self, conn: ConnId, greeted: Greeted, direction: Direction, ends: &Ends) {
        let Greeted {
            stream,
            addr,
            handshake,
        } = greeted;
        let disk = Arc::clone(&self.disk);
        let buffers = Arc::clone(&self.shared.buffers);
        let facts = self.hands().facts_in.clone();
        let (entry, task) = conn::new(conn, stream, self.limits, disk, buffers, facts);
        self.conns.insert(conn, entry);
        let task = async {
            task.await;
            None
        };
        let reason = CloseReason::Gone;
        self.errands
            .spawn(task, Some(Fact::Closed { conn, reason }));
        let opened = Input::Opened {
            conn,
            addr,
            direction,
            peer_id: handshake.peer_id,
            reserved: handshake.reserved,
        };
        // The engine's first message comes first.
        self.feed(opened, ends);
        let dht = self.dht.as_ref().filter(|_| handshake.reserved.has_dht());
        if let Some(port) = dht.and_then(|dht| dht.port_for(addr)) {
            self.order(conn, Order::Send(Message::Port(port)));
        }
    }
}

/// The same stream, whose wake-ups come from the runtime of this task and not from that which accepted it.
fn settled(stream: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(stream.into_std()?)
}

/// The blocks among the messages, in bytes.
fn payload_bytes(messages: &[Message]) -> usize {
    let block_bytes = |message: &Message| {
        if let Message::Piece { data, .. } = message {
            return data.len();
        }
        0
    };
    messages.iter().map(block_bytes).sum()
}
