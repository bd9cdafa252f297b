//! Swarms written down, so that a tracker that starts again knows whom it knew.
//!
//! ```text
//! snapshot = magic · frame(header) · frame(records)… · frame(end)
//! frame    = u32 length · u64 checksum · payload of that length
//! payload  = u8 1 · u64 written, Unix seconds · u64 clock, nanoseconds · 16 secret of the connection ids
//!          | u8 2 · records
//!          | u8 3
//! record   = 20 info hash · u32 downloads · u32 seconds since the last announce · u8 flags (1: ids, 2: IPv6,
//!            4: partial seeds) · u16 leechers · u16 seeders · u16 partial seeds, the last of the leechers, if the record has
//!            any · that many peers, leechers first
//! peer     = 4|16 address · u16 port · u16 age in steps of four seconds · 20 id, if the record has ids
//! ```
//!
//! Numbers are big-endian. Ages are written and no times, so that a clock which was set meanwhile changes nothing. A
//! swarm of both families, or of more than [`RECORD_PEERS_MAX`] peers, is several records.
//!
//! **Invariant:** nothing is taken from a frame whose checksum is wrong, and a frame stands for itself: a swarm is whole at the
//! moment it is written, and the tracker goes on between two portions of them. The checksum covers the frame's number
//! too, so frames that are missing, doubled or exchanged are noticed, and a snapshot without its last frame is torn.

mod record;
mod swarms;
#[cfg(test)]
mod tests;

pub(in crate::server) use record::Recorded;
pub use record::{Record, Records};
pub use swarms::{Cursor, Portion};

use bt_core::Time;
use core::hash::Hasher as _;
use siphasher::sip::SipHasher13;

/// How a snapshot begins: what it is, and the version of its format.
const MAGIC: [u8; 12] = *b"bt-swarms 1\n";

/// The same without the version.
const MAGIC_ANY: [u8; 10] = *b"bt-swarms ";

/// Most peers of a record: a record of them is shorter than a frame may be.
pub const RECORD_PEERS_MAX: usize = 4_096;

/// Longest payload of a frame, in bytes, and what a reader has to hold at a time.
pub const FRAME_MAX_BYTES: usize = 256 * 1024;

/// Length and checksum.
const FRAME_HEAD_BYTES: usize = 12;

const KIND_HEADER: u8 = 1;
const KIND_RECORDS: u8 = 2;
const KIND_END: u8 = 3;

/// The key of the checksum: it finds what was damaged, and proves nothing about who wrote it.
const CHECKSUM_KEY: [u8; 16] = *b"bt-tracker swarm";

/// What a snapshot says of the tracker that wrote it.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// When it was begun, in seconds since 1970.
    pub written_unix_secs: u64,
    /// What the tracker's own clock said then.
    pub clock: Time,
    /// The secret of its connection ids, so that those it gave out go on being good.
    pub secret: [u8; 16],
}

impl core::fmt::Debug for Header {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Header") // and not its secret
            .field("written_unix_secs", &self.written_unix_secs)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

/// Why a snapshot cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It begins like nothing that is known here.
    #[error("it is no snapshot of a tracker")]
    Foreign,
    /// It is one, of another version.
    #[error("it was written by another version of this program")]
    Version,
    /// A frame is longer than any that is written.
    #[error("frame {frame} claims {length_bytes} bytes, where {FRAME_MAX_BYTES} are the most")]
    TooLong {
        /// Which, from 0.
        frame: u64,
        /// What it claims.
        length_bytes: u32,
    },
    /// A frame is not what was written.
    #[error("the checksum of frame {frame} is wrong")]
    Checksum {
        /// Which, from 0.
        frame: u64,
    },
    /// A frame is whole, and not of the kind that may stand there, or its records are not as they should be.
    #[error("frame {frame} is not one that may stand there")]
    Misplaced {
        /// Which, from 0.
        frame: u64,
    },
    /// It ends before its last frame.
    #[error("it ends after {frames} whole frames, without the last one")]
    Torn {
        /// How many there are.
        frames: u64,
    },
    /// Something stands behind its last frame.
    #[error("something stands behind its last frame")]
    Trailing,
}

/// Puts a snapshot together, piece by piece.
#[derive(Debug)]
pub struct Writer {
    frame: u64,
}

impl Writer {
    /// Appends how a snapshot begins.
    pub fn begin(header: &Header, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(&MAGIC);
        let mut writer = Self { frame: 0 };
        let mut payload = vec![KIND_HEADER];
        payload.extend_from_slice(&header.written_unix_secs.to_be_bytes());
        payload.extend_from_slice(&header.clock.as_nanos().to_be_bytes());
        payload.extend_from_slice(&header.secret);
        writer.frame(&payload, out);
        writer
    }

    /// Appends a portion of swarms, as [`Swarms::export`](super::Swarms::export) has put it together.
    pub fn records(&mut self, portion: &Portion, out: &mut Vec<u8>) {
        let mut payload = vec![KIND_RECORDS];
        for record in portion.records() {
            if payload.len() + record.len() > FRAME_MAX_BYTES {
                self.frame(&payload, out);
                payload.truncate(1);
            }
            payload.extend_from_slice(record);
        }
        if payload.len() > 1 {
            self.frame(&payload, out);
        }
    }

    /// Appends how it ends.
    pub fn end(mut self, out: &mut Vec<u8>) {
        self.frame(&[KIND_END], out);
    }

    fn frame(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&checksum(self.frame, payload).to_be_bytes());
        out.extend_from_slice(payload);
        self.frame += 1;
    }
}

/// A part of a snapshot that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// What stands first.
    Header(Header),
    /// Some swarms.
    Swarms(Records<'a>),
    /// What stands last.
    End,
}

/// Takes a snapshot apart, piece by piece.
#[derive(Debug, Default)]
pub struct Reader {
    frame: u64,
    ended: bool,
}

impl Reader {
    /// The part at the front of `bytes` and how many bytes it takes, or `None` if it is not whole yet; twice
    /// [`FRAME_MAX_BYTES`] are always enough.
    ///
    /// # Errors
    /// [`SnapshotError`] if that is no part of a snapshot, or not the one that may stand there.
    pub fn read<'a>(
        &mut self,
        bytes: &'a [u8],
    ) -> Result<Option<(Part<'a>, usize)>, SnapshotError> {
        if self.ended {
            return Err(SnapshotError::Trailing);
        }
        let mut rest = bytes;
        if self.frame == 0 {
            let Some((magic, behind)) = bytes.split_at_checked(MAGIC.len()) else {
                let begins = MAGIC.starts_with(bytes);
                return begins.then_some(None).ok_or(SnapshotError::Foreign);
            };
            if magic != MAGIC {
                let ours = magic.starts_with(&MAGIC_ANY);
                return Err(if ours {
                    SnapshotError::Version
                } else {
                    SnapshotError::Foreign
                });
            }
            rest = behind;
        }
        let Some(payload) = self.payload(rest)? else {
            return Ok(None);
        };
        let part = self.part(payload)?;
        self.frame += 1;
        self.ended = part == Part::End;
        let used = bytes.len() - rest.len() + FRAME_HEAD_BYTES + payload.len();
        Ok(Some((part, used)))
    }

    /// True once the last frame was read.
    #[must_use]
    pub const fn is_at_end(&self) -> bool {
        self.ended
    }

    /// To be called when there are no more bytes.
    ///
    /// # Errors
    /// [`SnapshotError::Torn`] if the last frame was not among them.
    pub const fn finish(&self) -> Result<(), SnapshotError> {
        if self.ended {
            return Ok(());
        }
        Err(SnapshotError::Torn { frames: self.frame })
    }

    /// The payload of the frame at the front.
    fn payload<'a>(&self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, SnapshotError> {
        let frame = self.frame;
        let Some((length, rest)) = bytes.split_first_chunk() else {
            return Ok(None);
        };
        let length_bytes = u32::from_be_bytes(*length);
        let length = usize::try_from(length_bytes).unwrap_or(usize::MAX);
        if length > FRAME_MAX_BYTES {
            return Err(SnapshotError::TooLong {
                frame,
                length_bytes,
            });
        }
        let Some((sum, rest)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        if u64::from_be_bytes(*sum) != checksum(frame, payload) {
            return Err(SnapshotError::Checksum { frame });
        }
        Ok(Some(payload))
    }

    fn part<'a>(&self, payload: &'a [u8]) -> Result<Part<'a>, SnapshotError> {
        let misplaced = SnapshotError::Misplaced { frame: self.frame };
        let (kind, body) = payload.split_first().ok_or(misplaced)?;
        let part = match (self.frame, *kind) {
            (0, KIND_HEADER) => header(body).map(Part::Header),
            (1.., KIND_RECORDS) => Records::check(body).map(Part::Swarms),
            (1.., KIND_END) => body.is_empty().then_some(Part::End),
            _ => None,
        };
        part.ok_or(misplaced)
    }
}

fn header(body: &[u8]) -> Option<Header> {
    let (written, rest) = body.split_first_chunk()?;
    let (clock, rest) = rest.split_first_chunk()?;
    Some(Header {
        written_unix_secs: u64::from_be_bytes(*written),
        clock: Time::from_nanos(u64::from_be_bytes(*clock)),
        secret: rest.try_into().ok()?,
    })
}

fn checksum(frame: u64, payload: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(&CHECKSUM_KEY);
    hasher.write(&frame.to_be_bytes());
    hasher.write(payload);
    hasher.finish()
}
