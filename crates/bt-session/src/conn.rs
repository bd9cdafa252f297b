//! One connection behind the handshakes: bytes in, messages out; orders in, bytes out.
//!
//! One task reads and writes. It never decides: what came goes to the torrent's task in batches, what the engine orders
//! is written in order, as many messages at a time as there are.
//!
//! **Invariant:** what a connection holds in memory is bounded by the constants below, whatever the peer sends or does
//! not read; while the torrent's task is busy, nothing more is read (so the peer's own window closes).

mod outgoing;

use crate::buffers::{Buffers, READ_BYTES, READ_ROOM_MIN, whole_messages};
use crate::disk::Disk;
use crate::torrent::Fact;
use bt_core::Block;
use bt_core::disk::DiskError;
use bt_peer::{CloseReason, ConnId};
use bt_wire::message::PIECE_HEADER_BYTES;
use bt_wire::{Decoder, Limits, Message};
use bytes::BufMut as _;
use core::time::Duration;
use outgoing::Outgoing;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Messages that go to the torrent's task at a time: it must get round to the other peers, and may ask for no more.
const BATCH_MESSAGES: usize = 512;

const _: () = assert!(BATCH_MESSAGES <= bt_peer::limits::UPLOAD_OVERRUN_MAX);

/// Batches of one connection that wait to be worked off. The torrent's task is on the same thread, so it is never kept
/// waiting for the next one; what is read ahead of it only leaves the core's cache before it is hashed.
const TURNS_MAX: usize = 1;

/// Blocks that lie one behind the other and are read with one call.
const RUN_BLOCKS: usize = 16;

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
    /// Held back while the peer asks for more than it can be given: nothing more is read meanwhile.
    pub(crate) turn: Option<OwnedSemaphorePermit>,
    _alive: oneshot::Sender<()>,
}

/// The task of a connection, and the end for its owner. The task sends facts until its last, `Closed`; none of them
/// matters once the owner has dropped his end.
pub(crate) fn new(
    conn: ConnId,
    stream: TcpStream,
    limits: Limits,
    disk: Arc<Disk>,
    buffers: Arc<Buffers>,
    facts: mpsc::Sender<Fact>,
) -> (Entry, impl Future<Output = ()> + Send) {
    let (orders, ordered) = mpsc::channel(ORDERS_MAX);
    let (alive, dropped) = oneshot::channel();
    let entry = Entry {
        orders,
        addr: stream.peer_addr().ok().map(bt_core::addr::canonical),
        turn: None,
        _alive: alive,
    };
    (
        entry,
        run(conn, stream, limits, disk, buffers, facts, ordered, dropped),
    )
}

#[allow(clippy::too_many_arguments, reason = "the parts of one task")]
async fn run(
    conn: ConnId,
    stream: TcpStream,
    limits: Limits,
    disk: Arc<Disk>,
    buffers: Arc<Buffers>,
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
        out: Outgoing::new(Arc::clone(&buffers)),
        sent: Vec::new(),
    };
    let reason = tokio::select! {
        reason = receive(conn, read, limits, &buffers, &facts) => Some(reason),
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
    buffers: &Buffers,
    facts: &mpsc::Sender<Fact>,
) -> CloseReason {
    let mut decoder = Decoder::new(limits);
    let turns = Arc::new(Semaphore::new(TURNS_MAX));
    let mut turn = Arc::clone(&turns).try_acquire_owned().ok();
    let mut buffer = buffers.for_reading(false);
    // The peer sends faster than we read.
    let mut is_behind = false;
    loop {
        let mut messages = Vec::new();
        let mut violation = None;
        let mut is_through = false;
        while !is_through && messages.len() < BATCH_MESSAGES {
            match decoder.decode(&mut buffer.bytes) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => is_through = true,
                Err(error) => {
                    violation = Some(CloseReason::Violation(error.to_string()));
                    is_through = true;
                }
            }
        }
        if !messages.is_empty() {
            let turn = turn.take();
            let fact = Fact::Received {
                conn,
                messages,
                turn,
            };
            if facts.send(fact).await.is_err() {
                return CloseReason::Stopping;
            }
        }
        if let Some(reason) = violation {
            return reason;
        }
        if turn.is_none() {
            // The semaphore is never closed.
            turn = Arc::clone(&turns).acquire_owned().await.ok();
        }
        if !is_through {
            continue;
        }
        if buffer.bytes.is_empty() {
            // Nothing is held while there is nothing to read. An error will come again from the read.
            drop(buffer);
            let _ = read.readable().await;
            buffer = buffers.for_reading(is_behind);
        } else if buffer.bytes.capacity() - buffer.bytes.len() < READ_ROOM_MIN {
            let missing_bytes = decoder.missing_bytes(&buffer.bytes);
            buffer = buffers.for_message(&buffer.bytes, missing_bytes, is_behind);
        }
        let room = buffer.bytes.capacity() - buffer.bytes.len();
        let missing_bytes = match buffer.bytes.is_empty() {
            true => 0,
            false => decoder.missing_bytes(&buffer.bytes),
        };
        let room = whole_messages(room, missing_bytes);
        match read.read_buf(&mut (&mut buffer.bytes).limit(room)).await {
            Ok(0) | Err(_) => return CloseReason::Gone,
            Ok(length) => is_behind = length >= room.clamp(READ_BYTES / 2, READ_BYTES),
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
    out: Outgoing,
    /// Blocks among those bytes, or that could not be read.
    sent: Vec<(Block, Result<(), DiskError>)>,
}

impl Writer {
    /// Carries out orders until there will be no more (`None`) or the peer is stuck or gone.
    async fn run(&mut self) -> Option<CloseReason> {
        loop {
            if self.batch.is_empty() && self.out.is_empty() {
                self.out.rest();
                let mut batch = Vec::new();
                if self.ordered.recv_many(&mut batch, ORDERS_MAX).await == 0 {
                    return None;
                }
                self.batch.extend(batch);
            }
            self.fill().await;
            while !self.out.is_empty() {
                let write = self.write.write(self.out.bytes());
                match tokio::time::timeout(STUCK_DEADLINE, write).await {
                    Err(_) => return Some(CloseReason::Idle),
                    Ok(Ok(0) | Err(_)) => return Some(CloseReason::Gone),
                    Ok(Ok(written)) => self.out.advance(written),
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

    /// Turns orders into bytes, up to about [`WRITE_BYTES`](crate::buffers::WRITE_BYTES).
    async fn fill(&mut self) {
        while !self.out.is_full()
            && let Some(order) = self.batch.pop_front()
        {
            match order {
                Order::Send(message) => self.out.push(&message),
                Order::Upload(block) => {
                    let run = self.run_from(block);
                    self.push_blocks(&run).await;
                }
            }
        }
    }

    /// The block, and those ordered next that lie directly behind it in its piece, as far as there is room for them.
    fn run_from(&mut self, first: Block) -> Vec<Block> {
        let mut run = vec![first];
        let mut end = first.end();
        let mut room = self
            .out
            .room()
            .saturating_sub(PIECE_HEADER_BYTES + first.length as usize);
        while run.len() < RUN_BLOCKS
            && let Some(Order::Upload(next)) = self.batch.front()
            && (next.piece, next.begin) == (first.piece, end)
            && PIECE_HEADER_BYTES + next.length as usize <= room
        {
            room -= PIECE_HEADER_BYTES + next.length as usize;
            end = next.end();
            run.push(*next);
            self.batch.pop_front();
        }
        run
    }

    /// Appends the blocks as `piece` messages. If one of them cannot be read, each is tried for itself.
    async fn push_blocks(&mut self, run: &[Block]) {
        let read = self.disk.read(run, self.out.begin_blocks(run)).await;
        match read {
            Ok(()) => {
                self.out.end_blocks(run);
                self.sent.extend(run.iter().map(|block| (*block, Ok(()))));
            }
            Err(error) if run.len() == 1 => {
                self.sent
                    .extend(run.iter().map(|block| (*block, Err(error.clone()))));
            }
            Err(_) => {
                for block in run {
                    let block = core::slice::from_ref(block);
                    Box::pin(self.push_blocks(block)).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
