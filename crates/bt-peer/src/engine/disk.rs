//! What becomes of blocks: written, checked, blamed on somebody, or lost by a failing disk.
//!
//! Bytes handed to the disk are bounded: above the mark nothing is requested. A disk that fails (full, read-only, broken)
//! pauses the download; it is tried again with few requests, less and less often, until it works. A full one is waited for
//! without end, any other is given up after [`DISK_ERRORS_MAX`] failures, and one that refuses at once.
//!
//! **Invariant:** a piece counts as had from the disk's good verdict on, and at no time before.

use super::dont_have::tell;
use super::{ConnId, Engine, Output};
use crate::Event;
use crate::connection::Connection;
use crate::limits::{
    DISK_ERRORS_MAX, DISK_PROBE_REQUESTS, DISK_RETRY, DISK_RETRY_MAX, WRITES_MAX_BYTES,
    WRITES_RESUME_BYTES,
};
use bt_core::disk::{BlockDigest, DiskError, DiskErrorKind, Done, Job, Verdict};
use bt_core::{Bitfield, PieceIndex, Time};
use bt_tracker::client;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// What the engine knows of its disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// Handed over and not yet taken.
    pending_bytes: u64,
    /// Too much is pending: from the upper mark until the lower one.
    congested: bool,
    health: Health,
    /// Verified pieces that could not be read: they are checked again before anybody gets them.
    doubted: BTreeMap<PieceIndex, Recheck>,
    /// Pieces that were here once and were not later: who asks for one may not have heard of it.
    pub(super) lost: BTreeSet<PieceIndex>,
    /// When the doubted ones are checked again, if the disk could not even say whether they are good.
    recheck_at: Option<Time>,
}

/// How far the check of a doubted piece has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recheck {
    /// The disk has not answered yet.
    Ordered,
    /// The disk could not say; to be ordered again.
    Failed,
}

#[derive(Clone, Copy, Debug, Default)]
enum Health {
    #[default]
    Fine,
    /// Nothing is requested until `retry_at`.
    Failing { failures: Failures, retry_at: Time },
    /// A few blocks are requested, to see whether they can be written.
    Probing { failures: Failures },
    /// Nothing is requested any more.
    Broken,
}

/// Failures since the disk worked last.
#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    count: u32,
    /// The last of them, as far as they were not for lack of space.
    errors: u32,
}

impl Failures {
    const fn and(self, kind: DiskErrorKind) -> Self {
        Self {
            count: self.count.saturating_add(1),
            errors: match kind {
                DiskErrorKind::Full => 0,
                // Permissions do not come back by themselves, and what stands in the way does not leave.
                DiskErrorKind::Denied | DiskErrorKind::InTheWay => DISK_ERRORS_MAX,
                DiskErrorKind::Missing | DiskErrorKind::Io => self.errors.saturating_add(1),
            },
        }
    }

    /// Until the next try.
    fn wait(self) -> Duration {
        let doubled = 1 << self.count.saturating_sub(1).min(10);
        DISK_RETRY.saturating_mul(doubled).min(DISK_RETRY_MAX)
    }
}

impl Disk {
    pub(super) const fn handed_over(&mut self, length_bytes: u32) {
        self.pending_bytes += length_bytes as u64;
        if self.pending_bytes >= WRITES_MAX_BYTES {
            self.congested = true;
        }
    }

    const fn took(&mut self, length_bytes: u32) {
        self.pending_bytes = self.pending_bytes.saturating_sub(length_bytes as u64);
        if self.pending_bytes <= WRITES_RESUME_BYTES {
            self.congested = false;
        }
    }

    pub(super) const fn is_idle(&self) -> bool {
        self.pending_bytes == 0
    }

    pub(super) const fn takes_more(&self) -> bool {
        !self.congested && !self.is_failing()
    }

    /// More waits to be written than may: the shell reads nothing more of who brings blocks.
    pub(super) const fn is_congested(&self) -> bool {
        self.congested
    }

    pub(super) const fn is_failing(&self) -> bool {
        matches!(self.health, Health::Failing { .. } | Health::Broken)
    }

    /// The bound on outstanding requests, if the disk's state asks for one.
    pub(super) const fn requests_max(&self) -> Option<usize> {
        match self.health {
            Health::Probing { .. } => Some(DISK_PROBE_REQUESTS),
            Health::Fine | Health::Failing { .. } | Health::Broken => None,
        }
    }

    pub(super) const fn needs_tick(&self) -> bool {
        matches!(self.health, Health::Failing { .. }) || self.recheck_at.is_some()
    }

    /// True if the piece's bytes may be sent to peers.
    pub(super) fn trusts(&self, piece: PieceIndex) -> bool {
        !self.doubted.contains_key(&piece)
    }

    /// Of these pieces, those that are not in doubt.
    pub(super) fn trusted(&self, have: &Bitfield) -> Bitfield {
        let mut trusted = have.clone();
        for piece in self.doubted.keys() {
            trusted.clear(*piece);
        }
        trusted
    }
}

impl Engine {
    pub(super) fn disk_done(&mut self, now: Time, done: Done) {
        match done {
            Done::Wrote { block } => self.disk.took(block.length),
            Done::Checked { piece, verdict } if self.disk.doubted.contains_key(&piece) => {
                self.piece_rechecked(now, piece, verdict);
            }
            Done::Checked { piece, verdict } => match verdict {
                Verdict::Good => self.piece_good(now, piece),
                Verdict::Bad { digests } => self.piece_bad(now, piece, &digests),
                Verdict::Failed(error) => self.write_failed(now, piece, error),
            },
            Done::Digests { piece, digests } => {
                let liars = self.smart_ban.exposed(piece, &digests);
                self.ban_all(now, liars);
            }
        }
    }

    fn piece_good(&mut self, now: Time, piece: PieceIndex) {
        if self.picker.have().get(piece) {
            return;
        }
        let was_needed = self.picker.needs(piece);
        self.picker.checked(piece, true);
        self.counters.bytes_done += u64::from(self.layout.piece_length(piece));
        if matches!(
            self.disk.health,
            Health::Failing { .. } | Health::Probing { .. }
        ) {
            self.disk.health = Health::Fine;
            self.download.released = true;
            self.emit(Event::DiskRecovered);
        }
        self.emit(Event::PieceDone { piece });
        if self.smart_ban.passed(piece) {
            self.out.push_back(Output::Disk(Job::Digest { piece }));
        }
        self.tell_have(now, piece, was_needed);
        self.note_completion(now);
    }

    /// Announces the piece to those who lack it, and to those who have everything: they see by it who passes on what they
    /// gave. Those who have it have one thing less that we want.
    fn tell_have(&mut self, now: Time, piece: PieceIndex, was_needed: bool) {
        let mut sated: Vec<ConnId> = Vec::new();
        // Whoever hears first asks first: always the same order would give the same peers all first slots.
        let mut ids: Vec<ConnId> = self.conns.keys().copied().collect();
        self.rng.shuffle(&mut ids);
        for id in ids {
            let Some(conn) = self.conns.get_mut(&id) else {
                continue;
            };
            let has = conn.has.get(piece);
            if (!has || conn.has.is_full()) && !self.upload.super_seeding {
                tell(&mut self.out, now, conn, piece);
            }
            if has && was_needed {
                conn.interesting -= 1;
                if conn.interesting == 0 {
                    sated.push(conn.id);
                }
            }
        }
        for id in sated {
            self.update_interest(now, id);
        }
    }

    /// Notices that something wanted is missing.
    pub(super) fn check_complete(&mut self, now: Time) {
        let was_complete = core::mem::replace(&mut self.complete, self.picker.is_complete());
        if was_complete && !self.complete {
            self.peers.recall_redundant(now, &mut self.rng);
        }
    }

    /// Notices the moment at which everything wanted is there.
    pub(super) fn note_completion(&mut self, now: Time) {
        if self.complete || !self.picker.is_complete() {
            return;
        }
        self.complete = true;
        self.emit(Event::Complete);
        let event = if self.picker.have().is_full() {
            client::Input::Completed
        } else {
            client::Input::Paused
        };
        self.announce(now, event);
        for id in self.conns.keys().copied().collect::<Vec<_>>() {
            self.close_if_redundant(now, id);
        }
        self.tell_upload_only(now);
    }

    fn piece_bad(&mut self, now: Time, piece: PieceIndex, digests: &[BlockDigest]) {
        self.counters.hash_failures += 1;
        self.counters.wasted += u64::from(self.layout.piece_length(piece));
        self.emit(Event::HashFailure { piece });
        for suspect in self.smart_ban.senders(piece) {
            if let Some(conn) = self.conns.get_mut(&suspect) {
                conn.account.bad_pieces += 1;
            }
        }
        let liars = self.smart_ban.failed(piece, digests);
        self.picker.checked(piece, false);
        self.download.released = true;
        self.ban_all(now, liars);
    }

    fn ban_all(&mut self, now: Time, liars: Vec<crate::smart_ban::Sender>) {
        for liar in liars {
            self.ban(now, liar.conn, liar.addr);
        }
    }

    /// The disk lost the piece, by nobody's fault: the download pauses.
    fn write_failed(&mut self, now: Time, piece: PieceIndex, error: DiskError) {
        // Blocks of it that are on their way to the disk would begin it anew without the others.
        self.out.push_back(Output::Disk(Job::Discard { piece }));
        self.picker.lost(piece);
        self.smart_ban.lost(piece);
        let before = match self.disk.health {
            Health::Failing { .. } | Health::Broken => return,
            Health::Fine => Failures::default(),
            Health::Probing { failures } => failures,
        };
        let failures = before.and(error.kind);
        if failures.errors >= DISK_ERRORS_MAX {
            self.disk.health = Health::Broken;
            self.emit(Event::DiskBroken(error));
        } else {
            let retry_at = now + failures.wait();
            self.disk.health = Health::Failing { failures, retry_at };
            if before.count == 0 {
                self.emit(Event::DiskTrouble(error));
            }
        }
        for id in self.conns.keys().copied().collect::<Vec<_>>() {
            self.take_back_requests(now, id);
        }
    }

    /// A verified piece could not be read for a peer: it is not served before it was checked again.
    pub(super) fn doubt(&mut self, now: Time, piece: PieceIndex, error: DiskError) {
        // A piece that was given up meanwhile is beyond doubt.
        if self.picker.have().get(piece) && self.disk.trusts(piece) {
            self.disk.doubted.insert(piece, Recheck::Ordered);
            self.unqueue(now, piece);
            self.emit(Event::UploadFailed { piece, error });
            self.out.push_back(Output::Disk(Job::Check { piece }));
        }
    }

    fn piece_rechecked(&mut self, now: Time, piece: PieceIndex, verdict: Verdict) {
        match verdict {
            Verdict::Good => {
                if self.disk.doubted.remove(&piece).is_some() {
                    self.tell_newcomers(now, piece);
                }
            }
            Verdict::Bad { .. } => {
                let doubt = self.disk.doubted.remove(&piece);
                self.counters.bytes_done -= u64::from(self.layout.piece_length(piece));
                self.picker.checked(piece, false);
                self.check_complete(now);
                self.tell_upload_only(now);
                if self.picker.needs(piece) {
                    self.piece_missed(now, piece);
                }
                if doubt.is_some() {
                    self.withdraw(now, piece);
                }
                self.download.released = true;
            }
            Verdict::Failed(_) => {
                if let Some(recheck) = self.disk.doubted.get_mut(&piece) {
                    *recheck = Recheck::Failed;
                }
                self.disk.recheck_at = Some(now + DISK_RETRY_MAX);
            }
        }
    }

    /// The piece is beyond doubt: announces it to those who lack it and came when it was not.
    fn tell_newcomers(&mut self, now: Time, piece: PieceIndex) {
        let told_all = !self.upload.super_seeding;
        let lacks = |conn: &&mut Box<Connection>| told_all && !conn.has.get(piece);
        for conn in self.conns.values_mut().filter(lacks) {
            tell(&mut self.out, now, conn, piece);
        }
    }

    /// A piece that was here is needed again: whoever has it has one thing more that we want.
    fn piece_missed(&mut self, now: Time, piece: PieceIndex) {
        let mut wooed: Vec<ConnId> = Vec::new();
        for conn in self.conns.values_mut().filter(|conn| conn.has.get(piece)) {
            conn.interesting += 1;
            if conn.interesting == 1 {
                wooed.push(conn.id);
            }
        }
        for id in wooed {
            self.update_interest(now, id);
        }
    }

    /// Tries again what the disk could not do.
    pub(super) fn disk_tick(&mut self, now: Time) {
        if let Health::Failing { failures, retry_at } = self.disk.health
            && now >= retry_at
        {
            self.disk.health = Health::Probing { failures };
        }
        if self.disk.recheck_at.is_some_and(|at| now >= at) {
            self.disk.recheck_at = None;
            for (piece, recheck) in &mut self.disk.doubted {
                if *recheck == Recheck::Failed {
                    *recheck = Recheck::Ordered;
                    self.out
                        .push_back(Output::Disk(Job::Check { piece: *piece }));
                }
            }
        }
    }
}
