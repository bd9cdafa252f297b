//! Whom not to ask: a seeder, for what leechers bring as fast as we take it.
//!
//! When all peers together send faster than we hash and write, whatever a seeder sends is sent in place of what a leecher would
//! have sent in the same time: the seeder's line carries more copies, and nobody is done sooner. The shell sees it, as much
//! lies ready in a socket when it is read. So while leechers that send like that owe us enough to go on with, a seeder is
//! asked only for what no leecher has, and one that suggests pieces (BEP 6) for those alone: what it does not suggest to us it is
//! sending to somebody else.
//!
//! **Invariant:** nothing is held back from a seeder for longer than [`BEHIND_SPAN`] after leechers have ceased to send
//! faster than we take it, nor while they send less than half as fast as seeders did when these were last asked for all that they
//! could send. So a seeder that is much faster than all leechers is never spared.

use super::{ConnId, Engine};
use crate::connection::Connection;
use crate::limits::{
    BEHIND_SPAN, FLOW_SPAN, SPARE_LOOK, SPARE_MEASURED, SPARE_OWED_MIN, SPARE_ROUND,
};
use bt_core::Time;
use core::time::Duration;

/// How fast leechers send to us, and how fast seeders do when they are not spared, in bytes a second.
#[derive(Debug, Default)]
pub(super) struct Flow {
    leechers: Rate,
    seeders: Rate,
    since: Time,
    /// When the first block came.
    begun: Time,
    /// A seeder was spared since then, so its rate says nothing of what it could send.
    spared: bool,
}

#[derive(Debug, Default)]
struct Rate {
    /// Of the span under way.
    bytes: u64,
    smoothed: u64,
}

impl Rate {
    /// A span is over.
    fn settle(&mut self, span: Duration) {
        let nanos = span.as_nanos().max(1);
        let rate = u128::from(self.bytes) * 1_000_000_000 / nanos;
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        self.smoothed = self.smoothed - self.smoothed / 4 + rate / 4;
    }
}

impl Flow {
    /// A block came.
    pub(super) fn add(&mut self, now: Time, bytes: u64, from_leecher: bool) {
        let from = match from_leecher {
            true => &mut self.leechers,
            false => &mut self.seeders,
        };
        from.bytes += bytes;
        if self.begun == Time::ZERO {
            self.begun = now;
        }
        let span = now - self.since;
        if span >= FLOW_SPAN {
            self.leechers.settle(span);
            if !core::mem::take(&mut self.spared) {
                self.seeders.settle(span);
            }
            (self.leechers.bytes, self.seeders.bytes) = (0, 0);
            self.since = now;
        }
    }

    /// True if leechers bring at least half of what seeders can. Now and then nobody is spared, so that it is seen again what
    /// seeders can: one may have come since.
    fn is_by_leechers(&self, now: Time) -> bool {
        let looks =
            (now - self.begun).as_nanos() % SPARE_ROUND.as_nanos() < SPARE_MEASURED.as_nanos();
        !looks && self.leechers.smoothed >= self.seeders.smoothed / 2
    }
}

impl Engine {
    /// The peer sends faster than we take it.
    pub(super) fn behind(&mut self, now: Time, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.behind_at = Some(now);
        }
    }

    /// True if the connection is a seeder's, and leechers give us as much as we can take.
    pub(super) fn leaves_to_leechers(&self, now: Time, id: ConnId) -> bool {
        let is_seeder = self.conns.get(&id).is_some_and(|conn| conn.came_complete);
        is_seeder && !self.config.sequential && self.is_sated(now)
    }

    /// True if leechers that send faster than we take it owe us enough.
    fn is_sated(&self, now: Time) -> bool {
        if !self.download.flow.is_by_leechers(now) {
            return false;
        }
        let is_ahead = |conn: &Connection| {
            let recent = |at| now - at < BEHIND_SPAN;
            !conn.came_complete && !conn.peer_choking && conn.behind_at.is_some_and(recent)
        };
        let owed = self.conns.values().filter(|conn| is_ahead(conn));
        let owed: usize = owed.map(|conn| conn.requests.len()).sum();
        owed >= SPARE_OWED_MIN
    }

    /// A seeder that was spared has room left: it is looked at again before what leechers owe can run out.
    pub(super) fn spare(&mut self, now: Time) {
        self.download.flow.spared = true;
        self.download.spared_until.get_or_insert(now + SPARE_LOOK);
    }

    /// Lets spared seeders stand in line again, if it is time to look.
    pub(super) fn end_sparing(&mut self, now: Time) {
        if self.download.spared_until.is_some_and(|at| now >= at) {
            self.download.spared_until = None;
            self.download.released = true;
        }
    }

    /// A leecher's queue runs low: what it owes may not be enough any more.
    pub(super) fn look_at_spared(&mut self, now: Time) {
        if self.download.spared_until.is_some() && !self.is_sated(now) {
            self.download.spared_until = Some(now);
        }
    }
}
