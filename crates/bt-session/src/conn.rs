//! One connection behind the handshakes: bytes in, messages out; orders in, bytes out.
//!
//! One task reads and writes. It never decides: what came goes to the torrent's task in batches, what the engine orders
//! is written in order, as many messages at a time as there are.
//!
//! **Invariant:** what a connection holds in memory is bounded by the constants below, whatever the peer sends or does
//! not read; while the torrent's task is busy, nothing more is read (so the peer's own window closes).

use crate::disk::Disk;
use crate::torrent::Fact;
use bt_core::disk::DiskError;
use bt_core::{BLOCK_BYTES, Block};
use bt_peer::{CloseReason, ConnId};
use bt_wire::message::{PIECE_HEADER_BYTES, piece_header};
use bt_wire::{Decoder, Limits, Message};
use bytes::{Buf, BytesMut};
use core::time::Duration;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

/// Room for one read, in bytes: eight blocks, so that a fast peer costs one system call for many messages.
const READ_BYTES: usize = 8 * BLOCK_BYTES as usize;

/// A read with less room than this takes a new buffer, in bytes. Below it a read would cost more than it brings.
const READ_ROOM_MIN: usize = 4 * 1024;

/// Messages that go to the torrent's task at a time: it must get round to the other peers.
const BATCH_MESSAGES: usize = 512;

/// A write begins when this much is there, in bytes, or all that was ordered: eight blocks and their headers.
const WRITE_BYTES: usize = READ_BYTES;

/// Orders that wait for a peer who does not read. Over it the peer is closed; `have`s of a fast download are most of it.
pub(crate) const ORDERS_MAX: usize = 4096;

/// A peer who takes not a single byte of what we have to send for so long is closed.
const STUCK_DEADLINE: Duration = Duration::from_secs(60);

/// How long the last orders before a close may take to go out.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// Something to write.
#[derive(Debug)]
pub(crate) enum Order {
    /// A message.
    Send(Message),
    /// A block from the disk as a `piece` message.
    Upload(Block),
}

/// The torrent's end of a connection. Dropping it closes the connection, once what was ordered is written.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) orders: mpsc::Sender<Order>,
    /// Where the peer is; `None` if it was gone before it could be asked.
    pub(crate) addr: Option<SocketAddr>,
    _alive: oneshot::Sender<()>,
}

/// The task of a connection, and the end for its owner. The task sends facts until its last, `Closed`; none of them
/// matters once the owner has dropped his end.
pub(crate) fn new(
    conn: ConnId,
    stream: TcpStream,
    limits: Limits,
    disk: Arc<Disk>,
    facts: mpsc::Sender<Fact>,
) -> (Entry, impl Future<Output = ()> + Send) {
    let (orders, ordered) = mpsc::channel(ORDERS_MAX);
    let (alive, dropped) = oneshot::channel();
    let entry = Entry {
        orders,
        addr: stream.peer_addr().ok().map(bt_core::addr::canonical),
        _alive: alive,
    };
    (
        entry,
        run(conn, stream, limits, disk, facts, ordered, dropped),
    )
}

async fn run(
    conn: ConnId,
    stream: TcpStream,
    limits: Limits,
    disk: Arc<Disk>,
    facts: mpsc::Sender<Fact>,
    ordered: mpsc::Receiver<Order>,
    dropped: oneshot::Receiver<()>,
) {
    // Small messages must not wait for acknowledgements of earlier ones; we coalesce ourselves. A socket on which this
    // cannot be set is broken, and the first read will say so.
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    let mut writer = Writer {
        conn,
        write,
        ordered,
        disk,
        facts: facts.clone(),
        batch: VecDeque::new(),
        out: BytesMut::new(),
        torn: None,
        sent: Vec::new(),
    };
    let reason = tokio::select! {
        reason = receive(conn, read, limits, &facts) => Some(reason),
        reason = writer.run() => reason,
        _ = dropped => None,
    };
    match reason {
        // An error means that the torrent is gone, and with it all who might care.
        Some(reason) => drop(facts.send(Fact::Closed { conn, reason }).await),
        None => {
            let flush = async {
                writer.run().await;
                writer.write.shutdown().await
            };
            // Whether the peer takes our last words is his affair.
            let _ = tokio::time::timeout(CLOSE_DEADLINE, flush).await;
        }
    }
}

/// Reads until the connection ends, and says why it did.
async fn receive(
    conn: ConnId,
    mut read: OwnedReadHalf,
    limits: Limits,
    facts: &mpsc::Sender<Fact>,
) -> CloseReason {
    let mut decoder = Decoder::new(limits);
    let mut buffer = BytesMut::new();
    loop {
        let mut messages = Vec::new();
        let violation = loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break None,
                Err(error) => break Some(CloseReason::Violation(error.to_string())),
            }
            if messages.len() == BATCH_MESSAGES {
                let messages = core::mem::take(&mut messages);
                if facts.send(Fact::Received { conn, messages }).await.is_err() {
                    return CloseReason::Stopping;
                }
            }
        };
        if !messages.is_empty() && facts.send(Fact::Received { conn, messages }).await.is_err() {
            return CloseReason::Stopping;
        }
        if let Some(reason) = violation {
            return reason;
        }
        if buffer.capacity() - buffer.len() < READ_ROOM_MIN {
            buffer.reserve(READ_BYTES.max(decoder.missing_bytes(&buffer)));
        }
        match read.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return CloseReason::Gone,
            Ok(_) => {}
        }
    }
}

/// What is on its way out. All of it survives an interrupted [`Writer::run`], which goes on where it was.
struct Writer {
    conn: ConnId,
    write: OwnedWriteHalf,
    ordered: mpsc::Receiver<Order>,
    disk: Arc<Disk>,
    facts: mpsc::Sender<Fact>,
    /// Orders taken but not yet turned into bytes.
    batch: VecDeque<Order>,
    /// Bytes to write.
    out: BytesMut,
    /// Where a `piece` message begins whose block is still being read: behind it is nothing that may go out.
    torn: Option<usize>,
    /// Blocks among those bytes, or that could not be read.
    sent: Vec<(Block, Result<(), DiskError>)>,
}

impl Writer {
    /// Carries out orders until there will be no more (`None`) or the peer is stuck or gone.
    async fn run(&mut self) -> Option<CloseReason> {
        loop {
            if self.batch.is_empty() && self.out.is_empty() {
                let mut batch = Vec::new();
                if self.ordered.recv_many(&mut batch, ORDERS_MAX).await == 0 {
                    return None;
                }
                self.batch.extend(batch);
            }
            self.fill().await;
            while self.out.has_remaining() {
                let write = self.write.write_buf(&mut self.out);
                match tokio::time::timeout(STUCK_DEADLINE, write).await {
                    Err(_) => return Some(CloseReason::Idle),
                    Ok(Ok(0) | Err(_)) => return Some(CloseReason::Gone),
                    Ok(Ok(_)) => {}
                }
            }
            if !self.sent.is_empty() {
                let (conn, blocks) = (self.conn, core::mem::take(&mut self.sent));
                if self
                    .facts
                    .send(Fact::Uploaded { conn, blocks })
                    .await
                    .is_err()
                {
                    return Some(CloseReason::Stopping);
                }
            }
        }
    }

    /// Turns orders into bytes, up to about [`WRITE_BYTES`].
    async fn fill(&mut self) {
        if let Some(start) = self.torn.take() {
            self.out.truncate(start);
        }
        while self.out.len() < WRITE_BYTES
            && let Some(order) = self.batch.pop_front()
        {
            match order {
                Order::Send(message) => message.encode_into(&mut self.out),
                Order::Upload(block) => {
                    let start = self.out.len();
                    self.out.extend_from_slice(&piece_header(
                        block.piece.get(),
                        block.begin,
                        block.length,
                    ));
                    self.torn = Some(start);
                    let result = self.disk.read(block, &mut self.out).await;
                    self.torn = None;
                    if result.is_err() {
                        self.out.truncate(start);
                    }
                    debug_assert!(
                        result.is_err()
                            || self.out.len() - start == PIECE_HEADER_BYTES + block.length as usize
                    );
                    self.sent.push((block, result));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
