//! The records of a frame: a swarm each, or a part of one.

use super::RECORD_PEERS_MAX;
use crate::server::learn::{Heard, Standing};
use crate::server::list::{List, Role};
use crate::server::peer::{Peer, STEP_SECS};
use bt_core::addr::{decode_compact_v4, decode_compact_v6};
use bt_core::{InfoHash, PeerId};
use std::net::SocketAddr;

/// What stands before the peers.
const HEAD_BYTES: usize = 20 + 4 + 4 + 1 + 2 + 2;

const FLAG_IDS: u8 = 1;
const FLAG_V6: u8 = 2;
/// The head is followed by how many of the leechers, the last ones, are partial seeds. Only where there are any, so that what
/// has none is read by older trackers too.
const FLAG_PARTIAL: u8 = 4;

const COMPACT_V4_BYTES: usize = 6;
const COMPACT_V6_BYTES: usize = 18;
const AGE_BYTES: usize = 2;
const ID_BYTES: usize = 20;

// A record fits into a frame.
const _: () = assert!(
    HEAD_BYTES + 2 + RECORD_PEERS_MAX * (COMPACT_V6_BYTES + AGE_BYTES + ID_BYTES)
        < super::FRAME_MAX_BYTES
);

/// What the records of one swarm share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct Head {
    pub(in crate::server) info_hash: InfoHash,
    pub(in crate::server) downloaded: u32,
    pub(in crate::server) silent_secs: u32,
}

/// The records of a frame, known to be whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records<'a>(&'a [u8]);

/// A swarm, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub(in crate::server) head: Head,
    flags: u8,
    downloaders: usize,
    leechers: usize,
    peers: &'a [u8],
}

/// A peer of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct Recorded {
    pub(in crate::server) addr: SocketAddr,
    pub(in crate::server) age_secs: u32,
    pub(in crate::server) id: Option<PeerId>,
    pub(in crate::server) role: Role,
}

/// Appends a record for each [`RECORD_PEERS_MAX`] peers of the list, telling where each ends; none for an empty list.
pub(super) fn write<P: Peer>(
    head: Head,
    list: &List<P>,
    seconds: u32,
    bytes: &mut Vec<u8>,
    ends: &mut Vec<usize>,
) {
    for from in (0..list.len()).step_by(RECORD_PEERS_MAX) {
        let to = list.len().min(from + RECORD_PEERS_MAX);
        let leechers = list.leechers().clamp(from, to) - from;
        let ids = list.id(from).is_some();
        let v6 = size_of::<P::Compact>() == COMPACT_V6_BYTES;
        let partial = from + leechers - list.downloaders().clamp(from, from + leechers);
        let flag = |set, flag| if set { flag } else { 0 };
        let flags = flag(ids, FLAG_IDS) | flag(v6, FLAG_V6) | flag(partial > 0, FLAG_PARTIAL);
        write_head(head, flags, leechers, to - from - leechers, bytes);
        if partial > 0 {
            bytes.extend_from_slice(&u16_of(partial));
        }
        for position in from..to {
            let Some(peer) = list.get(position) else {
                continue;
            };
            let steps = peer.seen().age_secs(seconds) / STEP_SECS;
            bytes.extend_from_slice(peer.compact().as_ref());
            bytes.extend_from_slice(&u16::try_from(steps).unwrap_or(u16::MAX).to_be_bytes());
            if ids {
                let id = list.id(position).unwrap_or(PeerId([0; ID_BYTES]));
                bytes.extend_from_slice(&id.0);
            }
        }
        ends.push(bytes.len());
    }
}

/// Appends a record without peers.
pub(super) fn write_empty(head: Head, bytes: &mut Vec<u8>, ends: &mut Vec<usize>) {
    write_head(head, 0, 0, 0, bytes);
    ends.push(bytes.len());
}

fn write_head(head: Head, flags: u8, leechers: usize, seeders: usize, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(head.info_hash.as_bytes());
    bytes.extend_from_slice(&head.downloaded.to_be_bytes());
    bytes.extend_from_slice(&head.silent_secs.to_be_bytes());
    bytes.push(flags);
    bytes.extend_from_slice(&u16_of(leechers));
    bytes.extend_from_slice(&u16_of(seeders));
}

fn u16_of(count: usize) -> [u8; 2] {
    u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes()
}

impl<'a> Records<'a> {
    /// `None` unless the bytes are whole records and nothing else.
    pub(super) fn check(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, rest) = Record::split(rest)?;
        }
        Some(Self(bytes))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let (record, rest) = Record::split(self.0)?;
        self.0 = rest;
        Some(record)
    }
}

impl<'a> Record<'a> {
    /// The torrent.
    #[must_use]
    pub const fn info_hash(&self) -> InfoHash {
        self.head.info_hash
    }

    /// How often it was downloaded.
    #[must_use]
    pub const fn downloaded(&self) -> u32 {
        self.head.downloaded
    }

    /// How many peers are in it.
    #[must_use]
    pub const fn peers_count(&self) -> usize {
        self.peers.len() / peer_bytes(self.flags)
    }

    /// Its peers, as another tracker may be told of them.
    pub fn heard(self) -> impl Iterator<Item = Heard> {
        self.peers().map(|peer| Heard {
            addr: peer.addr,
            age_secs: peer.age_secs,
            standing: Standing::of(peer.role),
        })
    }

    pub(super) fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (info_hash, rest) = bytes.split_first_chunk()?;
        let (downloaded, rest) = rest.split_first_chunk()?;
        let (silent, rest) = rest.split_first_chunk()?;
        let (flags, rest) = rest.split_first()?;
        let (leechers, rest) = rest.split_first_chunk()?;
        let (seeders, rest) = rest.split_first_chunk()?;
        let leechers = usize::from(u16::from_be_bytes(*leechers));
        let (partial, rest) = match flags & FLAG_PARTIAL {
            0 => (&[0; 2], rest),
            _ => rest.split_first_chunk()?,
        };
        let downloaders = leechers.checked_sub(u16::from_be_bytes(*partial).into())?;
        let count = leechers + usize::from(u16::from_be_bytes(*seeders));
        if *flags & !(FLAG_IDS | FLAG_V6 | FLAG_PARTIAL) != 0 || count > RECORD_PEERS_MAX {
            return None;
        }
        let (peers, rest) = rest.split_at_checked(count * peer_bytes(*flags))?;
        let record = Self {
            head: Head {
                info_hash: InfoHash(*info_hash),
                downloaded: u32::from_be_bytes(*downloaded),
                silent_secs: u32::from_be_bytes(*silent),
            },
            flags: *flags,
            downloaders,
            leechers,
            peers,
        };
        Some((record, rest))
    }

    pub(in crate::server) fn peers(self) -> impl Iterator<Item = Recorded> {
        let peers = self.peers.chunks_exact(peer_bytes(self.flags));
        peers.enumerate().filter_map(move |(position, peer)| {
            let v6 = self.flags & FLAG_V6 != 0;
            let (addr, rest) = peer.split_at_checked(compact_bytes(self.flags))?;
            let addr = if v6 {
                decode_compact_v6(addr).next()
            } else {
                decode_compact_v4(addr).next()
            };
            let (steps, id) = rest.split_first_chunk()?;
            Some(Recorded {
                addr: addr?,
                age_secs: u32::from(u16::from_be_bytes(*steps)) * STEP_SECS,
                id: id.try_into().ok().map(PeerId),
                role: if position < self.downloaders {
                    Role::Downloader
                } else if position < self.leechers {
                    Role::PartialSeed
                } else {
                    Role::Seeder
                },
            })
        })
    }
}

const fn compact_bytes(flags: u8) -> usize {
    if flags & FLAG_V6 != 0 {
        COMPACT_V6_BYTES
    } else {
        COMPACT_V4_BYTES
    }
}

const fn peer_bytes(flags: u8) -> usize {
    let id = if flags & FLAG_IDS != 0 { ID_BYTES } else { 0 };
    compact_bytes(flags) + AGE_BYTES + id
}
