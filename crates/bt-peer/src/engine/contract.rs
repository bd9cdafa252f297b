//! The contract between the engine and its shell: facts in, orders out. Plain data, so that a run can be recorded.

use crate::peers::Source;
use crate::{CloseReason, Event};
use bt_core::disk::{DiskError, Done, Job};
use bt_core::{Bitfield, Block, InfoHash, Layout, PeerId};
use bt_tracker::announce::{AnnounceFailure, AnnounceRequest, AnnounceResponse};
use bt_wire::{Message, Reserved};
use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};

/// The extensions that engines speak: what a shell puts into the handshakes it sends, and no other bits. An extension is
/// in use where the peer's [`Input::Opened`] names it too.
///
/// They are the fast extension (BEP 6) and the extension protocol (BEP 10).
pub const RESERVED: Reserved = Reserved::NONE.with_fast().with_extension_protocol();

/// A connection of one engine, numbered by whoever makes it: the engine for those it dials (even numbers), the shell
/// for those it accepts (odd numbers). Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// We dialled.
    Outgoing,
    /// The peer dialled.
    Incoming,
}

/// A fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Both handshakes were exchanged and the info hash fits.
    Opened {
        /// The connection.
        conn: ConnId,
        /// The other end's address.
        addr: SocketAddr,
        /// Who opened it.
        direction: Direction,
        /// The peer's id.
        peer_id: PeerId,
        /// The extensions that the peer speaks.
        reserved: Reserved,
    },
    /// An order to dial came to nothing.
    DialFailed {
        /// The connection that was to be.
        conn: ConnId,
    },
    /// A message came.
    Received {
        /// Where.
        conn: ConnId,
        /// What.
        message: Message,
    },
    /// So much of what a peer sent lay ready when it was read that it sends faster than we take it. Told beside what came,
    /// each time.
    Behind {
        /// Where.
        conn: ConnId,
    },
    /// An [`Output::Upload`] was carried out: its bytes are in the socket's buffer. Or it could not be read.
    Uploaded {
        /// The connection.
        conn: ConnId,
        /// The block.
        block: Block,
        /// Whether it went out.
        result: Result<(), DiskError>,
    },
    /// A connection is no more, by the peer's or the network's doing (not after our own [`Output::Close`]).
    Closed {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: CloseReason,
    },
    /// What an [`Output::Metadata`] describes is open and looked at: the download may begin.
    Described {
        /// How its bytes are cut.
        layout: Layout,
        /// Peers may come from trackers only (BEP 27).
        private: bool,
        /// What is verified on disk.
        have: Bitfield,
        /// What is wanted.
        wanted: Bitfield,
    },
    /// The disk answered.
    DiskDone(Done),
    /// A tracker answered an [`Output::Announce`].
    Announced {
        /// The number of the order.
        id: u64,
        /// Its answer.
        result: Result<AnnounceResponse, AnnounceFailure>,
    },
    /// Peers became known in another way than by the engine's own asking: from the user, by the DHT, by local discovery, or
    /// by resolving names. Who named them decides how far they are believed.
    PeersFound(Source, Vec<SocketAddr>),
    /// Others see us at this address: of each family the last one counts.
    ExternalIp(IpAddr),
    /// The user wants something.
    Command(Command),
    /// The deadline has come.
    Timeout,
}

/// What a user may want while the engine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// New limits, payload bytes per second.
    SetLimits {
        /// Download.
        down: Option<u64>,
        /// Upload.
        up: Option<u64>,
    },
    /// Only these pieces are wanted from now on.
    Want(Bitfield),
    /// Another upload goal, in bytes: see [`Config`](crate::Config).
    SetUploadGoal(Option<u64>),
    /// A new bound on the connections at a time, for instance from [`Node`](crate::node::Node).
    SetPeersMax(usize),
    /// Leave the swarm: close connections, tell the trackers, then [`Event::Stopped`].
    Stop,
}

/// An order to the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect and shake hands; answered by `Opened` or `DialFailed`.
    Dial {
        /// The number the connection will have.
        conn: ConnId,
        /// Where to.
        addr: SocketAddr,
    },
    /// Send a message, after all earlier ones of this connection.
    Send {
        /// Where.
        conn: ConnId,
        /// What.
        message: Message,
    },
    /// Read the block from the disk and send it as a `piece` message, after all earlier orders of this connection;
    /// answered by `Uploaded`.
    ///
    /// An order of its own, and not a disk job and a message, so that a shell may move the bytes without showing them
    /// to anybody.
    Upload {
        /// Where.
        conn: ConnId,
        /// What; its piece is verified.
        block: Block,
    },
    /// Close the connection once what was ordered before is sent or cannot be. Not answered.
    Close {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: CloseReason,
    },
    /// The info dictionary of a torrent that began without it (BEP 9); its hash is right. To be answered by `Described`,
    /// once the torrent's files are open, or by [`Command::Stop`] if it makes no sense.
    Metadata(Bytes),
    /// A job for the disk.
    Disk(Job),
    /// Ask a tracker; answered by `Announced`.
    Announce {
        /// The number of this order.
        id: u64,
        /// The tracker's announce URL.
        url: String,
        /// What to tell it.
        request: AnnounceRequest,
    },
    /// A peer sees us at this address (`yourip`, BEP 10): one vote on which address we have.
    SeenAt {
        /// The peer.
        by: IpAddr,
        /// Us.
        ip: IpAddr,
    },
    /// Tell the user.
    Emit(Event),
}

/// What an engine must know of its torrent.
#[derive(Clone, Debug)]
pub struct Torrent {
    /// Which torrent.
    pub info_hash: InfoHash,
    /// How its bytes are cut.
    pub layout: Layout,
    /// Peers may come from trackers only (BEP 27).
    pub private: bool,
    /// Tracker URLs in tiers (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// What is verified on disk.
    pub have: Bitfield,
    /// What is wanted; full, unless the user chose files.
    pub wanted: Bitfield,
}

/// What an engine must know of a torrent without its info dictionary: a magnet link's part of it.
#[derive(Clone, Debug)]
pub struct Unknown {
    /// Which torrent.
    pub info_hash: InfoHash,
    /// Tracker URLs in tiers (BEP 12).
    pub trackers: Vec<Vec<String>>,
}
