//! Swarms into records and back.

use super::record::{self, Head, Record};
use crate::server::list::List;
use crate::server::peer::EXPIRY_MAX_SECS;
use crate::server::swarm::Swarm;
use crate::server::{Swarms, span};
use bt_core::{PeerId, Rng, Time, addr};

/// A portion is full with so many bytes: a tracker that answers between two portions is held up for as long as it takes to copy
/// them. The swarm that passes the mark is still written whole.
const PORTION_BYTES: usize = 64 * 1024;

/// So many ids are looked at before others may have the swarms.
const IDS_PORTION: usize = 4_096;

/// How far the swarms were exported.
///
/// From the last to the first: a swarm that leaves has its place taken by the last one, which has then been exported already, and
/// is so a second time; none is left out. Those that come meanwhile are not in this snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(usize);

impl Cursor {
    /// Nothing was exported yet.
    pub const START: Self = Self(usize::MAX);
}

/// Some swarms as records.
#[derive(Clone, Debug, Default)]
pub struct Portion {
    pub(super) bytes: Vec<u8>,
    pub(super) ends: Vec<usize>,
}

impl Portion {
    /// Makes it empty; the buffers stay.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// The swarms, or parts of them.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        self.records()
            .filter_map(|bytes| Record::split(bytes).map(|(record, _)| record))
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &[u8]> {
        let starts = core::iter::once(&0).chain(&self.ends);
        let cut = |(from, to): (&usize, &usize)| self.bytes.get(*from..*to);
        starts.zip(&self.ends).filter_map(cut)
    }
}

impl Swarms {
    /// Appends the next swarms to `portion`; returns where to go on, or `None` once all of them were there.
    pub fn export(&mut self, now: Time, from: Cursor, portion: &mut Portion) -> Option<Cursor> {
        let seconds = self.at(now);
        let mut next = from.0.min(self.swarms.len());
        while next > 0 && portion.bytes.len() < PORTION_BYTES {
            next -= 1;
            self.expire(next, seconds);
            let Some(swarm) = self.swarms.get(next) else {
                continue;
            };
            let head = Head {
                info_hash: swarm.info_hash,
                downloaded: swarm.counts().downloaded,
                silent_secs: seconds.saturating_sub(swarm.touched()),
            };
            let Portion { bytes, ends } = portion;
            if swarm.peers_count() > 0 {
                let (v4, v6) = swarm.lists();
                record::write(head, v4, seconds, bytes, ends);
                if let Some(v6) = v6 {
                    record::write(head, v6, seconds, bytes, ends);
                }
            } else if head.downloaded > 0 {
                record::write_empty(head, bytes, ends);
            }
        }
        (next > 0).then_some(Cursor(next))
    }

    /// Shows the ids of the next peers to `each`, where ids are kept; returns where to go on, or `None` once all were shown.
    pub fn peer_ids(&self, from: Cursor, each: &mut dyn FnMut(&PeerId)) -> Option<Cursor> {
        let mut next = from.0.min(self.swarms.len());
        let mut shown = 0;
        while next > 0 && shown < IDS_PORTION {
            next -= 1;
            let lists = self.swarms.get(next).map(Swarm::lists);
            let Some((v4, v6)) = lists else {
                continue;
            };
            let all = v4.ids().chain(v6.into_iter().flat_map(List::ids));
            all.for_each(|id| {
                shown += 1;
                each(id);
            });
        }
        (next > 0).then_some(Cursor(next))
    }

    /// Takes in a swarm, or a part of one, that was exported; its peers only if `with_peers`. Who is known keeps the later of
    /// two announces, and a torrent the greater of two counts. What the limits have no room for is left out.
    pub fn restore(&mut self, now: Time, record: Record<'_>, with_peers: bool, rng: &mut Rng) {
        let seconds = self.at(now);
        let Head {
            info_hash,
            downloaded,
            silent_secs,
        } = record.head;
        let touched = seconds.saturating_sub(silent_secs);
        let position = match self.find(&info_hash) {
            Some(position) => position,
            None if self.swarms.len() >= self.config.torrents_max => return,
            None => self.insert(info_hash, touched, rng),
        };
        let expiry = span(self.config.expiry).min(EXPIRY_MAX_SECS);
        let mut room = self.config.peers_max.saturating_sub(self.peers_count());
        let Some(swarm) = self.swarms.get_mut(position) else {
            return;
        };
        let before = swarm.counts();
        swarm.restore_head(downloaded, touched);
        for peer in record.peers().filter(|_| with_peers) {
            let usable = peer.addr.port() != 0 && addr::is_dialable(peer.addr);
            let id = self.peer_ids.then(|| peer.id.unwrap_or(PeerId([0; 20])));
            if usable && peer.age_secs <= expiry && room > 0 {
                room -= usize::from(swarm.restore(&peer, id, seconds, &self.key));
            }
        }
        self.totals.change(before, swarm.counts());
        self.note_size(position);
    }
}
