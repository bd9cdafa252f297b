//! The info dictionary of a torrent that is known by its hash alone, fetched from peers (BEP 9).
//!
//! A machine inside the engine: peers offer, pieces come, and in the end there are bytes whose hash is right. All peers
//! that name the same length are asked together. If the hash is wrong and several had sent pieces, nobody knows who
//! lied: from then on one peer at a time sends everything, and the first copy that is right exposes the liars.
//!
//! **Invariant:** what is handed out has the right hash; of what had the wrong one, nothing is ever used. Memory grows
//! with what arrived and not with what was announced, and holds at most two copies.

use crate::ConnId;
use bt_core::{InfoHash, Time};
use bt_metainfo::metainfo::info_hash_of;
use bt_wire::metadata::PIECE_BYTES;
use bytes::{Bytes, BytesMut};
use core::time::Duration;
use std::collections::BTreeMap;

/// Requests outstanding to one peer: 256 KiB. Most metadata is shorter, so one round trip brings all of it.
pub const REQUESTS_MAX: usize = 16;

/// A piece that did not come for so long is asked of another peer too.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Of how many peers one piece is asked at most.
pub const ASKED_MAX: u32 = 3;

/// A peer that rejected a request is asked again after so long: it may have the metadata by then.
pub const REJECT_PAUSE: Duration = Duration::from_secs(30);

/// When nothing came for so long, another length is tried, or another peer where one is asked alone.
pub const STALL: Duration = Duration::from_secs(10);

/// The same when pieces come but too slowly, and somebody else could be asked.
pub const ATTEMPT_MAX: Duration = Duration::from_secs(120);

/// What became of a piece that a peer sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It is kept, or came a second time.
    Taken,
    /// Nobody asked for it, or it is not of the length that the peer had announced.
    Unasked,
    /// It was the last one, and the whole has the right hash.
    Complete(Bytes),
    /// It was the last one, and the hash is wrong.
    Wrong,
}

/// The fetching of one torrent's metadata.
#[derive(Debug)]
pub struct Fetch {
    info_hash: InfoHash,
    sources: BTreeMap<ConnId, Source>,
    assembly: Option<Assembly>,
    /// Several peers had their part in bytes with a wrong hash: these.
    failed: Option<Vec<Slot>>,
    liars: Vec<ConnId>,
    wake: Option<Time>,
}

/// A peer that has the metadata, as it says.
#[derive(Debug)]
struct Source {
    length: u32,
    /// Pieces asked for, and when.
    outstanding: BTreeMap<u32, Time>,
    retry_at: Time,
    /// How many attempts with its length, or with it alone, came to nothing.
    attempts: u32,
}

/// The copy that is being put together.
#[derive(Debug)]
struct Assembly {
    length: u32,
    /// Only this peer is asked.
    alone: Option<ConnId>,
    slots: Vec<Slot>,
    missing: usize,
    began_at: Time,
    progress_at: Time,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    asked: u32,
    asked_at: Time,
    piece: Option<(ConnId, Bytes)>,
}

impl Fetch {
    /// Nobody offers anything yet.
    #[must_use]
    pub const fn new(info_hash: InfoHash) -> Self {
        Self {
            info_hash,
            sources: BTreeMap::new(),
            assembly: None,
            failed: None,
            liars: Vec::new(),
            wake: None,
        }
    }

    /// A peer says that it has metadata of so many bytes. A later word takes the place of an earlier one.
    pub fn offered(&mut self, now: Time, conn: ConnId, length: u32) {
        let known = self.sources.get(&conn).map(|source| source.length);
        if length == 0 || known == Some(length) {
            return;
        }
        self.gone(conn);
        self.sources.insert(
            conn,
            Source {
                length,
                outstanding: BTreeMap::new(),
                retry_at: now,
                attempts: 0,
            },
        );
    }

    /// The peer is no more.
    pub fn gone(&mut self, conn: ConnId) {
        let Some(source) = self.sources.remove(&conn) else {
            return;
        };
        let Some(assembly) = &mut self.assembly else {
            return;
        };
        for piece in source.outstanding.keys() {
            assembly.unask(*piece);
        }
        let goes_on = match assembly.alone {
            Some(alone) => alone != conn,
            None => {
                let length = assembly.length;
                self.sources.values().any(|source| source.length == length)
            }
        };
        if !goes_on {
            self.assembly = None;
        }
    }

    /// The peer will not send the piece.
    pub fn rejected(&mut self, now: Time, conn: ConnId, piece: u32) {
        let Some(source) = self.sources.get_mut(&conn) else {
            return;
        };
        if source.outstanding.remove(&piece).is_some() {
            source.retry_at = now + REJECT_PAUSE;
            if let Some(assembly) = &mut self.assembly {
                assembly.unask(piece);
            }
        }
    }

    /// A piece came.
    pub fn received(
        &mut self,
        now: Time,
        conn: ConnId,
        piece: u32,
        total_bytes: Option<u32>,
        data: &[u8],
    ) -> Receipt {
        let Some(source) = self.sources.get_mut(&conn) else {
            return Receipt::Unasked;
        };
        if source.outstanding.remove(&piece).is_none() {
            return Receipt::Unasked;
        }
        let length = source.length;
        let is_fit = data.len() == piece_bytes(length, piece) as usize
            && total_bytes.is_none_or(|total| total == length);
        let Some(assembly) = self.assembly.as_mut().filter(|a| a.takes(conn, length)) else {
            // Of an attempt that was given up.
            return if is_fit {
                Receipt::Taken
            } else {
                Receipt::Unasked
            };
        };
        if !is_fit {
            source.retry_at = now + REJECT_PAUSE;
            assembly.unask(piece);
            return Receipt::Unasked;
        }
        assembly.keep(now, conn, piece, data);
        if assembly.missing > 0 {
            return Receipt::Taken;
        }
        match self.assembly.take() {
            Some(assembly) => self.check(assembly),
            None => Receipt::Taken,
        }
    }

    /// All pieces are there.
    fn check(&mut self, assembly: Assembly) -> Receipt {
        let mut whole = BytesMut::with_capacity(assembly.length as usize);
        for slot in &assembly.slots {
            whole.extend_from_slice(slot.piece.as_ref().map_or(&[], |(_, data)| data));
        }
        if info_hash_of(&whole) == self.info_hash {
            self.expose(&assembly.slots);
            return Receipt::Complete(whole.freeze());
        }
        let mut senders = assembly.slots.iter().filter_map(Slot::sender);
        let first = senders.next();
        match first {
            Some(liar) if senders.all(|sender| sender == liar) => {
                self.liars.push(liar);
                self.gone(liar);
            }
            Some(_) | None => {
                self.give_up(&assembly);
                self.failed = Some(assembly.slots);
            }
        }
        Receipt::Wrong
    }

    /// Finds who had sent something else than the copy that is right.
    fn expose(&mut self, right: &[Slot]) {
        let failed = self.failed.take().unwrap_or_default();
        let same_length = failed.len() == right.len();
        for (bad, good) in failed.iter().zip(right) {
            let (Some((conn, sent)), Some((_, data))) = (&bad.piece, &good.piece) else {
                continue;
            };
            if (!same_length || sent != data) && !self.liars.contains(conn) {
                self.liars.push(*conn);
            }
        }
    }

    /// Whoever is known to have lied since this was last asked. They are to be closed.
    pub fn take_liars(&mut self) -> Vec<ConnId> {
        core::mem::take(&mut self.liars)
    }

    /// How many requests the peer has not answered.
    #[must_use]
    pub fn outstanding(&self, conn: ConnId) -> usize {
        let source = self.sources.get(&conn);
        source.map_or(0, |source| source.outstanding.len())
    }

    /// When [`requests`](Self::requests) will have something new to say, if nothing happens before.
    #[must_use]
    pub const fn deadline(&self) -> Option<Time> {
        self.wake
    }

    /// What to ask of whom now. To be called after whatever happened, and at the deadline.
    pub fn requests(&mut self, now: Time) -> Vec<(ConnId, u32)> {
        self.rotate(now);
        if self.assembly.is_none() {
            self.begin(now);
        }
        let mut requests = Vec::new();
        if let Some(assembly) = &mut self.assembly {
            for (conn, source) in &mut self.sources {
                if !assembly.takes(*conn, source.length) || !source.is_ready(now) {
                    continue;
                }
                for piece in assembly.choose(now, source) {
                    source.outstanding.insert(piece, now);
                    requests.push((*conn, piece));
                }
            }
        }
        self.wake = self.next_wake(now);
        requests
    }

    /// Gives up an attempt that leads nowhere, if there is another one to make.
    fn rotate(&mut self, now: Time) {
        let Some(assembly) = &mut self.assembly else {
            return;
        };
        let stalled = now - assembly.progress_at >= STALL;
        if !stalled && now - assembly.began_at < ATTEMPT_MAX {
            return;
        }
        let other = |(conn, source): (&ConnId, &Source)| !assembly.takes(*conn, source.length);
        if !self.sources.iter().any(other) {
            (assembly.began_at, assembly.progress_at) = (now, now);
            // Whoever did not answer is asked once more.
            for source in self.sources.values_mut() {
                for piece in source.forget_overdue(now) {
                    assembly.unask(piece);
                }
            }
            return;
        }
        if let Some(assembly) = self.assembly.take() {
            self.give_up(&assembly);
        }
    }

    fn give_up(&mut self, assembly: &Assembly) {
        for (conn, source) in &mut self.sources {
            if assembly.takes(*conn, source.length) {
                source.attempts += 1;
            }
        }
    }

    /// Begins with the peer, or the length, that was tried least; of those with the length that most peers name.
    fn begin(&mut self, now: Time) {
        let mut votes: BTreeMap<u32, u32> = BTreeMap::new();
        for source in self.sources.values() {
            *votes.entry(source.length).or_default() += 1;
        }
        let chosen = self.sources.iter().min_by_key(|(conn, source)| {
            let votes = votes.get(&source.length).copied().unwrap_or(0);
            (source.attempts, u32::MAX - votes, **conn)
        });
        let Some((conn, source)) = chosen else {
            return;
        };
        let alone = self.failed.is_some().then_some(*conn);
        let pieces = source.length.div_ceil(PIECE_BYTES) as usize;
        self.assembly = Some(Assembly {
            length: source.length,
            alone,
            slots: vec![Slot::default(); pieces],
            missing: pieces,
            began_at: now,
            progress_at: now,
        });
        for source in self.sources.values_mut() {
            source.forget_overdue(now);
        }
    }

    fn next_wake(&self, now: Time) -> Option<Time> {
        let retries = self.sources.values().map(|source| source.retry_at);
        let assembly = self.assembly.iter();
        let patience = assembly.clone().flat_map(|assembly| {
            let asked = assembly.slots.iter().filter(|slot| slot.piece.is_none());
            asked.map(|slot| slot.asked_at + PATIENCE)
        });
        let rotation = assembly.flat_map(|assembly| {
            [
                assembly.progress_at + STALL,
                assembly.began_at + ATTEMPT_MAX,
            ]
        });
        let all = retries.chain(patience).chain(rotation);
        all.filter(|at| *at > now).min()
    }
}

impl Source {
    /// It may be asked for more: it owes nothing that is overdue, and rejected nothing just now.
    fn is_ready(&self, now: Time) -> bool {
        let is_prompt = |at: &Time| now - *at < PATIENCE;
        self.retry_at <= now && self.outstanding.values().all(is_prompt)
    }

    /// Takes out of the outstanding pieces those that should have come by now.
    fn forget_overdue(&mut self, now: Time) -> Vec<u32> {
        let overdue = self.outstanding.iter();
        let overdue = overdue.filter(|(_, at)| now - **at >= PATIENCE);
        let overdue: Vec<u32> = overdue.map(|(piece, _)| *piece).collect();
        self.outstanding.retain(|piece, _| !overdue.contains(piece));
        overdue
    }
}

impl Assembly {
    /// True if the peer's pieces are for this copy.
    fn takes(&self, conn: ConnId, length: u32) -> bool {
        length == self.length && self.alone.is_none_or(|alone| alone == conn)
    }

    fn slot(&mut self, piece: u32) -> Option<&mut Slot> {
        self.slots.get_mut(piece as usize)
    }

    fn unask(&mut self, piece: u32) {
        if let Some(slot) = self.slot(piece) {
            slot.asked = slot.asked.saturating_sub(1);
        }
    }

    fn keep(&mut self, now: Time, conn: ConnId, piece: u32, data: &[u8]) {
        if let Some(slot) = self.slot(piece)
            && slot.piece.is_none()
        {
            // A copy: the original is a small part of a large buffer.
            slot.piece = Some((conn, Bytes::copy_from_slice(data)));
            self.missing -= 1;
            self.progress_at = now;
        }
    }

    /// What to ask of a peer: what nobody was asked for, then what others keep us waiting for.
    fn choose(&mut self, now: Time, source: &Source) -> Vec<u32> {
        let room = REQUESTS_MAX.saturating_sub(source.outstanding.len());
        let mut chosen = Vec::new();
        for is_second in [false, true] {
            for (piece, slot) in (0..).zip(&mut self.slots) {
                if chosen.len() >= room {
                    return chosen;
                }
                let is_due = if is_second {
                    now - slot.asked_at >= PATIENCE && slot.asked < ASKED_MAX
                } else {
                    slot.asked == 0
                };
                let is_new = !source.outstanding.contains_key(&piece);
                if slot.piece.is_none() && is_due && is_new {
                    slot.asked += 1;
                    slot.asked_at = now;
                    chosen.push(piece);
                }
            }
        }
        chosen
    }
}

impl Slot {
    fn sender(&self) -> Option<ConnId> {
        self.piece.as_ref().map(|(conn, _)| *conn)
    }
}

/// How long that piece is, in bytes; 0 if there is no such piece.
#[must_use]
pub fn piece_bytes(length: u32, piece: u32) -> u32 {
    let begin = u64::from(piece) * u64::from(PIECE_BYTES);
    let rest = u64::from(length).saturating_sub(begin);
    u32::try_from(rest).map_or(PIECE_BYTES, |rest| rest.min(PIECE_BYTES))
}

#[cfg(test)]
mod tests;
