//! Which piece comes next for a connection: rules 1 to 5 of [`picker`](super).

use super::Picker;
use super::partial::{Partial, Side};
use crate::ConnId;
use bt_core::{Bitfield, PieceIndex, Rng};

/// Pieces are begun at random until this many are here: a rare piece comes from one slow peer, and whoever has nothing
/// to give needs its first piece soon (Cohen 2003, §2.4.3: until the first complete piece).
pub const RANDOM_FIRST_PIECES: u32 = 1;

/// All pieces under way together may have this many bytes, because their blocks wait in memory for the hash: 64 MiB.
pub const PARTIAL_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// However long pieces are, this many may be under way, so that a few peers need not share one.
pub const PARTIALS_MIN: usize = 4;

impl Picker {
    /// The next piece for a connection, and the side from which to take its blocks.
    pub(super) fn choose(
        &self,
        conn: ConnId,
        has: &Bitfield,
        rng: &mut Rng,
    ) -> Option<(PieceIndex, Side)> {
        if let Some(current) = self.choose_current(conn) {
            return Some((current, Side::Front));
        }
        let room = self.partials.len() < self.partials_max();
        if room && let Some(hinted) = self.choose_hinted(conn, has, rng) {
            return Some((hinted, Side::Front));
        }
        if let Some(left) = self.choose_begun(conn, has, true) {
            return Some((left, Side::Front));
        }
        if let Some(failed) = self.choose_failed(has) {
            return Some((failed, Side::Front));
        }
        if room && let Some(new) = self.choose_new(has, rng) {
            return Some((new, Side::Front));
        }
        if let Some(shared) = self.choose_begun(conn, has, false) {
            return Some((shared, Side::Back));
        }
        // Beyond the limit goes only who would have nothing to do: pieces that nobody here has must not block the rest.
        let idle = self.requests.count(conn) == 0;
        let new = idle.then(|| self.choose_new(has, rng)).flatten()?;
        Some((new, Side::Front))
    }

    /// The next piece for a seeder that is asked for nothing that anybody else can give.
    pub(super) fn choose_alone(
        &self,
        conn: ConnId,
        has: &Bitfield,
        rng: &mut Rng,
    ) -> Option<(PieceIndex, Side)> {
        let room = self.partials.len() < self.partials_max();
        let mut piece = self.choose_current(conn);
        if room && piece.is_none() {
            piece = self.choose_hinted(conn, has, rng);
        }
        piece = piece.or_else(|| self.choose_failed(has));
        if room && piece.is_none() && !self.requests.has_hinted(conn) {
            let is_elsewhere = |piece: &PieceIndex| self.availability.is_elsewhere(*piece);
            let rarest = self.availability.rarest(has, rng);
            piece = rarest.filter(|rarest| !is_elsewhere(rarest));
        }
        Some((piece?, Side::Front))
    }

    /// The piece that the connection began, if something of it is to be asked for and it is its own.
    fn choose_current(&self, conn: ConnId) -> Option<PieceIndex> {
        let current = self.requests.current(conn)?;
        let owned = |partial: &Partial| partial.owner == Some(conn);
        let is_on = self.unfinished.contains(&current);
        (is_on && self.partials.get(&current).is_some_and(owned)).then_some(current)
    }

    /// The begun piece to go on with: one that is nobody else's and nearest to its end, or one where most is to do.
    fn choose_begun(&self, conn: ConnId, has: &Bitfield, own: bool) -> Option<PieceIndex> {
        let begun = self.unfinished.iter().filter(|piece| has.get(**piece));
        let begun = begun.filter_map(|piece| Some((*piece, self.partials.get(piece)?)));
        let open = begun.filter(|(_, partial)| partial.admits(conn));
        if own {
            open.filter(|(_, partial)| partial.owner.is_none_or(|owner| owner == conn))
                .min_by_key(|(piece, partial)| (partial.missing(), self.availability(*piece)))
                .map(|(piece, _)| piece)
        } else {
            open.max_by_key(|(_, partial)| partial.missing())
                .map(|(piece, _)| piece)
        }
    }

    /// A piece that failed and is to be begun anew. Until it is good nobody knows who lied, and the liar goes on.
    fn choose_failed(&self, has: &Bitfield) -> Option<PieceIndex> {
        let failed = self.failures.keys().find(|piece| {
            has.get(**piece) && self.needs(**piece) && !self.partials.contains_key(piece)
        });
        failed.copied()
    }

    /// What the peer suggests, if nothing that it has is rarer: it sees what others are being sent just now, and a peer that
    /// means ill chooses among equals and nothing more.
    fn choose_hinted(&self, conn: ConnId, has: &Bitfield, rng: &mut Rng) -> Option<PieceIndex> {
        self.requests.hints(conn).next()?;
        let rarest = self.availability(self.availability.rarest(has, rng)?);
        self.requests.hints(conn).find(|piece| {
            let open = has.get(*piece) && self.availability.is_open(*piece);
            open && self.availability(*piece) <= rarest
        })
    }

    fn choose_new(&self, has: &Bitfield, rng: &mut Rng) -> Option<PieceIndex> {
        if self.have.count_ones() < RANDOM_FIRST_PIECES {
            self.availability.random(has, rng)
        } else {
            self.availability.rarest(has, rng)
        }
    }

    /// The first piece that misses blocks, begun or not.
    pub(super) fn choose_first(&self, conn: ConnId, has: &Bitfield) -> Option<(PieceIndex, Side)> {
        let begun = self
            .unfinished
            .iter()
            .find(|piece| self.may_go_on(conn, has, **piece));
        let room = self.partials.len() < self.partials_max() || self.requests.count(conn) == 0;
        let new = room.then(|| self.availability.lowest(has)).flatten();
        let first = begun.copied().into_iter().chain(new).min()?;
        Some((first, Side::Front))
    }

    /// The first of these pieces that misses blocks, begun or not.
    pub(super) fn choose_among(
        &self,
        conn: ConnId,
        has: &Bitfield,
        only: &[PieceIndex],
    ) -> Option<(PieceIndex, Side)> {
        let mut usable = only.iter().filter(|piece| {
            self.may_go_on(conn, has, **piece)
                || has.get(**piece) && self.needs(**piece) && !self.partials.contains_key(piece)
        });
        usable.next().map(|piece| (*piece, Side::Front))
    }

    fn may_go_on(&self, conn: ConnId, has: &Bitfield, piece: PieceIndex) -> bool {
        let partial = self.partials.get(&piece);
        has.get(piece)
            && self.unfinished.contains(&piece)
            && partial.is_some_and(|partial| partial.admits(conn))
    }

    /// How many pieces may be under way.
    fn partials_max(&self) -> usize {
        PARTIALS_MIN.max((PARTIAL_BYTES_MAX / self.layout.piece_length_max()) as usize)
    }
}
