//! TCP streams put together again from captured packets, and what was said in those that are BitTorrent.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::wire::{self, Dialogue};

/// From whom to whom.
type Way = (SocketAddr, SocketAddr);

/// What a host said over its connections.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    /// Connections on which both sides said the handshake.
    pub(crate) connections: usize,
    /// Extension handshakes (BEP 10) that it sent.
    pub(crate) extended: usize,
    /// Those of them that offer ut_pex.
    pub(crate) pex_offered: usize,
    /// Messages of ut_pex that it sent.
    pub(crate) pex: usize,
}

/// All streams of a capture.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    streams: BTreeMap<Way, Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    /// The number of its first byte.
    begin: Option<u32>,
    /// By their distance from the first byte; what was sent twice stands once.
    segments: BTreeMap<u32, Vec<u8>>,
}

/// What one direction of a connection says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Talk {
    extended: usize,
    /// The number that the other side is to use for ut_pex.
    pex_id: Option<u8>,
    /// Numbers of the other extended messages.
    ids: Vec<u8>,
}

impl Said {
    /// Adds what another host said.
    pub(crate) fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.extended += other.extended;
        self.pex_offered += other.pex_offered;
        self.pex += other.pex;
    }
}

impl Streams {
    /// Takes a segment; `first` if it opens the stream.
    pub(crate) fn take(&mut self, way: Way, sequence: u32, first: bool, payload: &[u8]) {
        if first {
            let begin = Some(sequence.wrapping_add(1));
            self.streams.insert(
                way,
                Stream {
                    begin,
                    ..Stream::default()
                },
            );
        }
        if let Some(stream) = self.streams.get_mut(&way)
            && let Some(begin) = stream.begin
            && !payload.is_empty()
        {
            let at = sequence.wrapping_sub(begin);
            let known = stream.segments.entry(at).or_default();
            if known.len() < payload.len() {
                *known = payload.to_vec();
            }
        }
    }

    /// What the host of these addresses said.
    pub(crate) fn said(&self, host: &[IpAddr]) -> Said {
        let mut said = Said::default();
        for (way, stream) in &self.streams {
            let back = self.streams.get(&(way.1, way.0));
            let (Some(mine), Some(theirs)) = (
                Talk::read(&stream.bytes()),
                back.and_then(|stream| Talk::read(&stream.bytes())),
            ) else {
                continue;
            };
            if !host.contains(&way.0.ip()) {
                continue;
            }
            said.connections += 1;
            said.extended += mine.extended;
            said.pex_offered += usize::from(mine.pex_id.is_some());
            let pex = mine.ids.iter().filter(|id| Some(**id) == theirs.pex_id);
            said.pex += pex.count();
        }
        said
    }
}

impl Streams {
    /// Every connection of the one at this address, as far as both sides said the handshake.
    pub(crate) fn dialogues(&self, seeder: IpAddr) -> Vec<Dialogue> {
        let of = self.streams.iter().filter(|(way, _)| way.0.ip() == seeder);
        of.filter_map(|(way, stream)| {
            let back = self.streams.get(&(way.1, way.0))?;
            Some(Dialogue {
                seeder: wire::Talk::read(&stream.bytes())?,
                leecher: wire::Talk::read(&back.bytes())?,
            })
        })
        .collect()
    }
}

impl Stream {
    /// All bytes up to the first gap.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::new();
        for (at, segment) in &self.segments {
            let Some(known) = usize::try_from(*at)
                .ok()
                .and_then(|at| bytes.len().checked_sub(at))
            else {
                break;
            };
            bytes.extend(segment.iter().skip(known));
        }
        bytes
    }
}

impl Talk {
    /// Reads one direction; nothing if it is not BitTorrent.
    fn read(bytes: &[u8]) -> Option<Self> {
        const EXTENDED: u8 = 20;
        if !bytes.starts_with(b"\x13BitTorrent protocol") {
            return None;
        }
        let mut rest = bytes.get(68..)?;
        let mut talk = Self::default();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            let Some(message) = after.get(..length) else {
                break;
            };
            match message {
                [EXTENDED, 0, handshake @ ..] => {
                    talk.extended += 1;
                    talk.pex_id = pex_id(handshake).or(talk.pex_id);
                }
                [EXTENDED, id, ..] => talk.ids.push(*id),
                _ => {}
            }
            rest = after.get(length..).unwrap_or_default();
        }
        Some(talk)
    }
}

/// The number behind `6:ut_pexi`; 0 takes the offer back.
fn pex_id(handshake: &[u8]) -> Option<u8> {
    const KEY: &[u8] = b"6:ut_pexi";
    let at = handshake.windows(KEY.len()).position(|it| it == KEY)?;
    let digits = handshake
        .get(at + KEY.len()..)?
        .split(|byte| *byte == b'e')
        .next()?;
    std::str::from_utf8(digits)
        .ok()?
        .parse()
        .ok()
        .filter(|id| *id != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        [length.as_slice(), bytes].concat()
    }

    #[test]
    fn peer_exchange_is_found_in_any_order_of_segments() {
        let hello = [b"\x13BitTorrent protocol".as_slice(), &[0; 48]].concat();
        let offer = message(b"\x14\x00d1:md6:ut_pexi1eee");
        let offer_end = hello.len() + offer.len();
        let ours = [
            hello.clone(),
            offer,
            message(b""),
            // 3 is what they called it; 2 is something else.
            message(b"\x14\x02de"),
            message(b"\x14\x03de"),
        ]
        .concat();
        let answer = [hello, message(b"\x14\x00d1:md6:ut_pexi3eee")].concat();
        let (a, b) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
        let mut streams = Streams::default();
        let near_the_end = u32::MAX - 20;
        streams.take((a, b), near_the_end, true, b"");
        let at = |offset: usize| near_the_end.wrapping_add(1 + u32::try_from(offset).unwrap());
        // Late first, one part twice.
        streams.take((a, b), at(80), false, &ours[80..]);
        streams.take((a, b), at(0), false, &ours[..50]);
        streams.take((a, b), at(40), false, &ours[40..80]);
        streams.take((a, b), at(0), false, &ours[..50]);
        streams.take((b, a), 7, true, b"");
        streams.take((b, a), 8, false, &answer);
        let expected = Said {
            connections: 1,
            extended: 1,
            pex_offered: 1,
            pex: 1,
        };
        assert_eq!(streams.said(&[a.ip()]), expected);
        let theirs = Said { pex: 0, ..expected };
        assert_eq!(streams.said(&[b.ip()]), theirs);
        // Without the offer nothing behind it counts, though a message begins there.
        let mut gap = Streams::default();
        gap.take((a, b), 0, true, b"");
        gap.take((a, b), 1, false, &ours[..68]);
        let behind = 1 + u32::try_from(offer_end).unwrap();
        gap.take((a, b), behind, false, &ours[offer_end..]);
        gap.take((b, a), 7, true, b"");
        gap.take((b, a), 8, false, &answer);
        let expected = Said {
            connections: 1,
            ..Said::default()
        };
        assert_eq!(gap.said(&[a.ip()]), expected);
    }
}
