//! A connection between two nodes: two byte streams, first in first out, cut at random.
//!
//! **Invariant:** bytes of one direction arrive in the order in which they were sent, whatever they were cut into.

use crate::oracle::Monitor;
use bt_core::{Block, Rng, Time};
use bt_peer::ConnId;
use bt_wire::Decoder;
use bt_wire::handshake::HANDSHAKE_BYTES;
use bytes::{Buf, Bytes, BytesMut};
use core::time::Duration;
use std::collections::VecDeque;

/// The most that a node puts on its line at a time, in bytes: about one block and its header.
pub(crate) const SEGMENT_BYTES_MAX: usize = 16 * 1024 + 64;

/// In how many of 100 cases a segment is cut at a random place.
const CUT_PERCENT: u64 = 25;

/// The number of a link. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(usize);

/// All links, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Links(Vec<Option<Box<Link>>>);

impl Links {
    /// Keeps a new link; its number.
    pub(crate) fn add(&mut self, link: Link) -> LinkId {
        let id = LinkId(self.0.len());
        self.0.push(Some(Box::new(link)));
        id
    }

    pub(crate) fn get(&self, id: LinkId) -> Option<&Link> {
        self.0.get(id.0)?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.0.get_mut(id.0)?.as_deref_mut()
    }

    pub(crate) fn remove(&mut self, id: LinkId) -> Option<Box<Link>> {
        self.0.get_mut(id.0)?.take()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.0.iter().filter_map(Option::as_deref)
    }
}

/// One of the two ends of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Dialler,
    Listener,
}

impl Side {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Listener,
            Self::Listener => Self::Dialler,
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) dialler: End,
    pub(crate) listener: End,
    /// How long a byte is under way.
    pub(crate) latency: Duration,
}

impl Link {
    pub(crate) const fn end(&self, side: Side) -> &End {
        match side {
            Side::Dialler => &self.dialler,
            Side::Listener => &self.listener,
        }
    }

    pub(crate) const fn end_mut(&mut self, side: Side) -> &mut End {
        match side {
            Side::Dialler => &mut self.dialler,
            Side::Listener => &mut self.listener,
        }
    }
}

/// What a node has of a connection.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) node: usize,
    pub(crate) conn: ConnId,
    pub(crate) phase: Phase,
    /// Bytes that came and make no whole message yet.
    pub(crate) inbox: BytesMut,
    /// What came behind that, and waits for the rest of its message without being copied.
    parts: VecDeque<Bytes>,
    parts_bytes: usize,
    pub(crate) decoder: Decoder,
    /// When the last of what went out arrives: what goes out later does not overtake it.
    pub(crate) arrives_at: Time,
    /// When the last of what was sent is through the other node's line.
    pub(crate) through_at: Time,
    /// It waits for its turn on the node's line, or for the end of a partition.
    pub(crate) queued: bool,
    out: VecDeque<Item>,
}

#[derive(Debug)]
pub(crate) enum Phase {
    /// The other end's handshake has not come.
    Shaking,
    /// Messages go both ways.
    Open(Box<Monitor>),
    /// Closed by this end: what comes is thrown away.
    Closed,
}

#[derive(Debug)]
enum Item {
    Bytes {
        bytes: Bytes,
        /// The block that has gone out with the last of these bytes.
        upload: Option<Block>,
    },
    Finish,
}

/// What goes over the line at once.
#[derive(Debug, Default)]
pub(crate) struct Segment {
    pub(crate) parts: Vec<Bytes>,
    pub(crate) length_bytes: usize,
    pub(crate) uploads: Vec<Block>,
    /// The stream ends behind these bytes.
    pub(crate) finish: bool,
}

impl End {
    pub(crate) fn new(node: usize, conn: ConnId, decoder: Decoder) -> Self {
        Self {
            node,
            conn,
            phase: Phase::Shaking,
            inbox: BytesMut::new(),
            parts: VecDeque::new(),
            parts_bytes: 0,
            decoder,
            arrives_at: Time::ZERO,
            through_at: Time::ZERO,
            queued: false,
            out: VecDeque::new(),
        }
    }

    /// Bytes to be sent behind all others; `upload` if they end a block's message.
    pub(crate) fn push(&mut self, bytes: Bytes, upload: Option<Block>) {
        self.out.push_back(Item::Bytes { bytes, upload });
    }

    /// Takes bytes that came, and leaves them where they are until their message is whole: most of the memory of a large
    /// swarm would be copies of parts of blocks.
    pub(crate) fn keep(&mut self, part: Bytes) {
        self.parts_bytes += part.len();
        self.parts.push_back(part);
    }

    /// Moves the next whole message, or handshake, of what was kept to the inbox; false if there is none.
    pub(crate) fn gather(&mut self) -> bool {
        let mut missing = match self.phase {
            Phase::Closed => return false,
            Phase::Shaking => HANDSHAKE_BYTES,
            Phase::Open(_) => {
                let mut prefix = [0; 4];
                let bytes = self.parts.iter().flatten();
                prefix
                    .iter_mut()
                    .zip(bytes)
                    .for_each(|(to, from)| *to = *from);
                let length = usize::try_from(u32::from_be_bytes(prefix));
                prefix.len().saturating_add(length.unwrap_or(usize::MAX))
            }
        };
        if self.parts_bytes < missing {
            return false;
        }
        self.parts_bytes -= missing;
        while let Some(part) = self.parts.front_mut().filter(|_| missing > 0) {
            let taken = part.split_to(missing.min(part.len()));
            missing -= taken.len();
            self.inbox.extend_from_slice(&taken);
            if part.is_empty() {
                self.parts.pop_front();
            }
        }
        true
    }

    /// Gives back the memory of an inbox in which nothing is left: there are many.
    pub(crate) fn tidy(&mut self) {
        if self.inbox.is_empty() {
            self.inbox = BytesMut::new();
        }
        if self.parts.is_empty() {
            self.parts = VecDeque::new();
        }
    }

    /// Something that was sent has not arrived.
    pub(crate) fn is_sending(&self, now: Time) -> bool {
        !self.out.is_empty() || self.arrives_at.max(self.through_at) > now
    }

    /// Closes the stream behind all that was pushed.
    pub(crate) fn finish(&mut self) {
        self.out.push_back(Item::Finish);
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Takes the next segment off the queue, cut at a random place now and then.
    pub(crate) fn take_segment(&mut self, rng: &mut Rng) -> Segment {
        let most = if rng.chance(CUT_PERCENT) {
            1 + rng.index(SEGMENT_BYTES_MAX)
        } else {
            SEGMENT_BYTES_MAX
        };
        let mut segment = Segment::default();
        while let Some(item) = self.out.front_mut() {
            let room = most - segment.length_bytes;
            match item {
                Item::Finish => {
                    segment.finish = true;
                    self.out.clear();
                    break;
                }
                Item::Bytes { bytes, .. } if bytes.len() > room => {
                    if room > 0 {
                        segment.parts.push(bytes.slice(..room));
                        bytes.advance(room);
                        segment.length_bytes = most;
                    }
                    break;
                }
                Item::Bytes { bytes, upload } => {
                    segment.length_bytes += bytes.len();
                    segment.parts.push(core::mem::take(bytes));
                    segment.uploads.extend(upload.take());
                    self.out.pop_front();
                }
            }
        }
        segment
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bt_core::Layout;
    use bt_wire::Limits;

    #[test]
    fn what_waits_for_the_other_line_has_not_arrived() {
        let decoder = Decoder::new(Limits::for_torrent(1));
        let mut end = End::new(0, ConnId(0), decoder);
        (end.arrives_at, end.through_at) = (Time::from_secs(1), Time::from_secs(9));
        assert!(end.is_sending(Time::from_secs(8)));
        assert!(!end.is_sending(Time::from_secs(9)));
    }

    #[test]
    fn bytes_keep_their_order_and_blocks_end_with_their_last_byte() {
        let layout = Layout::new(1 << 20, 1 << 20).unwrap();
        let piece = layout.piece(0).unwrap();
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let decoder = Decoder::new(Limits::for_torrent(1));
            let mut end = End::new(0, ConnId(0), decoder);
            let mut sent = Vec::new();
            for block in layout.blocks(piece).take(20) {
                let mut bytes = vec![0; rng.index(40_000)];
                rng.fill(&mut bytes);
                sent.extend_from_slice(&bytes);
                end.push(bytes.into(), Some(block));
            }
            end.finish();
            let (mut got, mut uploads, mut finished) = (Vec::new(), 0, false);
            while end.has_output() {
                let segment = end.take_segment(&mut rng);
                assert!(segment.length_bytes <= SEGMENT_BYTES_MAX && !finished);
                let before = got.len();
                segment
                    .parts
                    .iter()
                    .for_each(|part| got.extend_from_slice(part));
                assert_eq!(got.len() - before, segment.length_bytes);
                uploads += segment.uploads.len();
                finished = segment.finish;
            }
            assert!(got == sent && uploads == 20 && finished, "seed {seed}");
        }
    }
}
