//! The engine's side of announcing: puts the torrent's numbers to the schedule of [`bt_tracker::client`].
//!
//! **Invariant:** `left` counts bytes that are not verified, and so cannot be derived from `downloaded` (BEP 3,
//! "trackers"); `completed` is announced only if the last byte of the whole torrent came while we ran.

use bt_core::{InfoHash, PeerId, Time};
use bt_tracker::announce::{AnnounceFailure, AnnounceRequest, AnnounceResponse};
use bt_tracker::client::{self, Ask, Input};
use std::net::IpAddr;

/// The announcer of one torrent. What it says beside is told with each call, so that it is kept once.
#[derive(Debug)]
pub struct Announcer {
    client: client::Announcer,
    /// The schedule's own, kept because it is asked for with every fact and changes with few.
    deadline: Option<Time>,
}

/// What every announce says alike.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Which torrent.
    pub info_hash: InfoHash,
    /// Who we are.
    pub peer_id: PeerId,
    /// Where we listen.
    pub port: u16,
    /// Proves who we are when our address changes.
    pub key: u32,
    /// The address that trackers are to hand out, where that is not the one they see.
    pub ip: Option<IpAddr>,
}

/// The numbers of an announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Payload bytes sent since the start.
    pub uploaded: u64,
    /// Payload bytes received since the start.
    pub downloaded: u64,
    /// Bytes of the torrent that are not verified.
    pub left: u64,
}

/// What is to be done, or was learnt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make this announce.
    Ask {
        /// The number of the order.
        id: u64,
        /// The tracker's URL.
        url: String,
        /// What to tell it.
        request: AnnounceRequest,
    },
    /// A tracker answered, or failed.
    Answered {
        /// The tracker's URL.
        url: String,
        /// What came of it.
        result: Result<AnnounceResponse, AnnounceFailure>,
    },
    /// Every tracker has been told that we leave, or the time for it is over.
    Stopped,
}

impl Announcer {
    /// An announcer on that schedule.
    #[must_use]
    pub fn new(client: client::Announcer) -> Self {
        let deadline = client.deadline();
        Self { client, deadline }
    }

    /// Passes a fact on to the schedule.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.client.handle(now, input);
        self.deadline = self.client.deadline();
    }

    /// When the schedule wants to be woken.
    #[must_use]
    pub const fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// The next action; to be drained to `None` after each fact.
    pub fn poll(&mut self, identity: &Identity, numbers: Numbers) -> Option<Action> {
        Some(match self.client.poll()? {
            client::Output::Ask(ask) => Action::Ask {
                id: ask.id,
                url: ask.url.clone(),
                request: request(identity, ask, numbers),
            },
            client::Output::Answered { url, result, .. } => Action::Answered { url, result },
            client::Output::Stopped => Action::Stopped,
        })
    }
}

fn request(identity: &Identity, ask: Ask, numbers: Numbers) -> AnnounceRequest {
    AnnounceRequest {
        info_hash: identity.info_hash,
        peer_id: identity.peer_id,
        port: identity.port,
        uploaded: numbers.uploaded,
        downloaded: numbers.downloaded,
        left: numbers.left,
        event: ask.event,
        numwant: Some(ask.numwant),
        key: Some(identity.key),
        tracker_id: ask.tracker_id,
        ip: identity.ip,
        // Some trackers answer nothing but compact, and refuse those that do not ask for it.
        compact: Some(true),
        no_peer_id: true,
    }
}
