//! A seeder that spares its line while leechers feed each other.
//!
//! Once everything is out, what a seeder sends takes the place of what leechers would send each other, as long as these
//! lack nothing: their lines are full. So it sends nothing while they get many times what its line could add, and serves
//! those alone whom the others leave behind. It sees what they get by the pieces that they tell it of.
//!
//! **Invariant:** it spares its line only while each piece is with somebody who is not known to keep it, and while no other
//! seeder is known: of several that feed a few leechers each would take the others for those.

use super::{ConnId, Engine};
use crate::connection::Connection;
use crate::limits::{LEFT_BEHIND, SPARING_FACTOR, SPARING_ROUNDS_OPEN};
use crate::spread::Spread;
use bt_core::{Bitfield, Time};

/// Whether a seeder sends, and what that goes by.
#[derive(Debug, Default)]
pub(super) struct Sparing {
    /// We were complete from the start: the one seeder of a new swarm, as far as we know.
    pub(super) may: bool,
    /// Nothing is sent but to those who are left behind.
    spares: bool,
    /// The most that our line was seen to carry, in bytes per second.
    line_bytes_per_s: u64,
    /// So many rounds more everybody is served, so that it is seen what the line carries.
    rounds_open: u32,
    /// A tracker told of other seeders.
    others: bool,
}

impl Sparing {
    /// A tracker said how many have everything; we are one of them.
    pub(super) fn told_of_seeders(&mut self, complete: Option<u32>) {
        if let Some(complete) = complete {
            self.others = complete > 1;
        }
    }

    /// The line is another from now on: what it carries is seen anew.
    pub(super) fn forget_line(&mut self) {
        self.line_bytes_per_s = 0;
        self.rounds_open = SPARING_ROUNDS_OPEN;
    }
}

impl Engine {
    /// True if nothing is sent but to those who are left behind.
    pub(super) const fn spares(&self) -> bool {
        self.upload.sparing.spares
    }

    /// Looks, at the beginning of a round, whether the leechers need the seeder's line.
    pub(super) fn look_at_need(&mut self, now: Time) {
        if !self.upload.sparing.may {
            return;
        }
        let line = self.counters.up.bytes_per_s(now);
        let line = self.upload.sparing.line_bytes_per_s.max(line);
        self.upload.sparing.line_bytes_per_s = line;
        self.upload.sparing.spares = self.may_spare() && self.is_fed(now) && self.is_with_givers();
        self.upload.sparing.rounds_open = self.upload.sparing.rounds_open.saturating_sub(1);
        if self.spares() && self.upload.spread.is_some() {
            // It would be open again for what those were told of who are choked now, and the line with it.
            self.end_spread();
        }
    }

    /// All was offered, though it is not known yet what became of each piece: when all is with somebody the line is spared
    /// from then on, and not from the next round.
    pub(super) fn tend_sparing(&mut self, now: Time) {
        let waits = self.upload.spread.is_some() && !self.spares() && self.may_spare();
        if waits && self.is_fed(now) && self.is_with_givers() {
            self.upload.rechoke_at = now;
        }
    }

    /// True if leechers get many times as much from others as our line was seen to carry.
    fn is_fed(&self, now: Time) -> bool {
        let line = self.upload.sparing.line_bytes_per_s;
        let line = line.max(self.counters.up.bytes_per_s(now));
        let enough: u64 = self.conns.values().map(|conn| from_others(conn, now)).sum();
        enough >= line.saturating_mul(SPARING_FACTOR) && line > 0
    }

    fn may_spare(&self) -> bool {
        let sparing = &self.upload.sparing;
        let has_wish = self.is_super_seeding() || self.config.upload_goal.is_some();
        let is_out = self.upload.spread.as_ref().is_none_or(Spread::is_over);
        self.complete
            && sparing.may
            && sparing.rounds_open == 0
            && !has_wish
            && !sparing.others
            && is_out
    }

    /// True if each piece is with somebody who is not known to keep what he gets, and not with one alone who was never known to
    /// pass anything on.
    fn is_with_givers(&self) -> bool {
        let mut with_givers = Bitfield::new(self.layout.pieces_count());
        let entrusted = &self.upload.entrusted;
        let givers = self.conns.values();
        for conn in givers.filter(|conn| !entrusted.is_doubtful(conn.id)) {
            let new = conn.has.iter_minus(&with_givers);
            let new = new.filter(|piece| !entrusted.is_unproven(conn.id, *piece));
            for piece in new.collect::<Vec<_>>() {
                with_givers.set(piece);
            }
        }
        with_givers.is_full()
    }

    /// Those to whom their part of our line would be worth more than a third of what they get from others, though they have
    /// been there for a while. Of those who are known to keep what they get, the one to whom least was sent: nobody else may
    /// be in reach of it.
    pub(super) fn left_behind(&self, now: Time) -> Vec<ConnId> {
        let interested = || self.conns.values().filter(|conn| conn.peer_interested);
        let part = self.upload.sparing.line_bytes_per_s / (interested().count() as u64).max(1);
        let enough = part.saturating_mul(SPARING_FACTOR);
        let behind = interested()
            .filter(|conn| now - conn.opened_at >= LEFT_BEHIND && from_others(conn, now) < enough);
        let (keepers, mut behind): (Vec<_>, Vec<_>) =
            behind.partition(|conn| self.upload.entrusted.keeps(conn.id));
        behind.extend(
            keepers
                .into_iter()
                .min_by_key(|conn| (conn.up.total(), conn.id)),
        );
        behind.into_iter().map(|conn| conn.id).collect()
    }
}

/// What the peer gets from others, in bytes per second.
fn from_others(conn: &Connection, now: Time) -> u64 {
    let got = conn.got.bytes_per_s(now);
    got.saturating_sub(conn.up.bytes_per_s(now))
}
