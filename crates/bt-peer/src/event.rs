//! What the engine tells its user.

use bt_core::PieceIndex;
use bt_core::disk::DiskError;
use std::net::SocketAddr;

/// Something that a person or a script may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A piece was verified.
    PieceDone {
        /// The piece.
        piece: PieceIndex,
    },
    /// All wanted pieces are verified.
    Complete,
    /// A tracker answered or failed.
    Tracker {
        /// Its URL.
        url: String,
        /// What became of the announce.
        status: TrackerStatus,
    },
    /// A peer was banned.
    Banned {
        /// Its address.
        addr: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
    /// A connection ended over which data went, or whose peer did what it should not.
    PeerGone {
        /// Its address.
        addr: SocketAddr,
        /// The program that its id names, to be shown to a person.
        client: Option<String>,
        /// What it gave and got, and what speaks against it.
        account: Account,
        /// Why it ended.
        reason: CloseReason,
    },
    /// A piece did not match its hash.
    HashFailure {
        /// The piece.
        piece: PieceIndex,
    },
    /// The disk failed; downloading is paused until it works again.
    DiskTrouble(DiskError),
    /// The disk refuses for good, or failed too often: nothing is downloaded any more. The torrent is best stopped.
    DiskBroken(DiskError),
    /// The disk works again.
    DiskRecovered,
    /// A verified piece could not be read for a peer. It is checked again, and fetched again if it is no longer right.
    UploadFailed {
        /// The piece.
        piece: PieceIndex,
        /// What the disk said.
        error: DiskError,
    },
    /// As much was uploaded as the user wanted to give, and all that is wanted is there. Nothing more is sent.
    UploadGoalReached,
    /// After `Command::Stop`: every tracker has been told, or the time for it is over. The last event.
    Stopped,
}

/// What a tracker's answer came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackerStatus {
    /// It answered.
    Ok {
        /// How many peers it named.
        peers: usize,
        /// Seeders in the swarm.
        complete: Option<u32>,
        /// Leechers in the swarm.
        incomplete: Option<u32>,
        /// To be shown.
        warning: Option<String>,
    },
    /// It did not, or refused.
    Failed {
        /// Why.
        message: String,
    },
}

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The other side closed it, or the network did.
    Gone,
    /// The peer broke the protocol.
    Violation(String),
    /// Nothing was heard for too long.
    Idle,
    /// Both sides are complete.
    Redundant,
    /// A connection to the same peer exists, or it is ourselves.
    Duplicate,
    /// It sent bytes that do not match their hash.
    BadData,
    /// There is no room, or a better peer needs it.
    Full,
    /// The torrent stops.
    Stopping,
}

impl core::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Gone => "it left",
            Self::Violation(what) => return write!(f, "it broke the protocol: {what}"),
            Self::Idle => "it fell silent",
            Self::Redundant => "neither side needs anything",
            Self::Duplicate => "another connection to it exists",
            Self::BadData => "it sent wrong data",
            Self::Full => "another peer needs the room",
            Self::Stopping => "the torrent stops",
        })
    }
}

/// What one connection came to: what its peer gave and got, and what speaks against it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Payload bytes that it sent and that were needed.
    pub served: u64,
    /// Payload bytes that it was sent.
    pub uploaded: u64,
    /// Payload bytes that it sent in vain: nobody had asked for them, or another peer was sooner.
    pub wasted: u64,
    /// Pieces with a block of its that did not match their hash. Whoever shared in one may have been honest;
    /// [`Event::Banned`] names who was not.
    pub bad_pieces: u32,
    /// Blocks of pieces that it says it has, which it refused though it let us ask, or did not send in time.
    pub over_claimed: u32,
}

impl Account {
    /// True if there is something to tell.
    #[must_use]
    pub fn is_news(&self) -> bool {
        *self != Self::default()
    }

    pub(crate) fn over_claim(&mut self, blocks: usize) {
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        self.over_claimed = self.over_claimed.saturating_add(blocks);
    }
}

/// Numbers of one torrent, for progress and reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of verified pieces.
    pub bytes_done: u64,
    /// Bytes of the torrent.
    pub total_length: u64,
    /// Verified pieces.
    pub pieces_have: u32,
    /// Payload bytes received.
    pub downloaded: u64,
    /// Payload bytes sent.
    pub uploaded: u64,
    /// Received bytes that were of no use: unrequested, duplicate, or of bad pieces.
    pub wasted: u64,
    /// Pieces that did not match their hash.
    pub hash_failures: u64,
    /// Payload bytes per second received.
    pub down_rate: u64,
    /// Payload bytes per second sent.
    pub up_rate: u64,
    /// Connected peers.
    pub peers: usize,
    /// Connected peers that have everything.
    pub seeders: usize,
}
