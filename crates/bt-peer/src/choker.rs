//! Whom to upload to.
//!
//! Every ten seconds the interested peers are ranked, as a downloader by what they give us, as a seeder by what we give
//! them, and the best are unchoked (BEP 3, "choking and optimistic unchoking"; Cohen 2003, §3). One slot is the optimistic
//! unchoke: a peer by lot, whatever its rate, another every thirty seconds, new peers with triple chance. Slots that find
//! no peer who deserves them are given by lot too, so none stays empty while somebody is interested. Those who take and give
//! nothing come last: as a downloader one of them gets the optimistic unchoke at most, as a seeder they wait for the others.
//!
//! **Invariant:** at most `slots` interested peers are unchoked after a round; a peer that is better than the worst of
//! them but not interested is unchoked as well, and takes a slot as soon as it becomes interested and a round passes.
//!
//! The choker sees numbers, not connections, and remembers only who the optimistic unchoke is.

use crate::ConnId;
use crate::limits::{
    OPTIMISTIC_ROUNDS, SEED_TURN, UPLOAD_SLOTS_MAX, UPLOAD_SLOTS_MIN, UPLOAD_SLOTS_START,
};
use bt_core::Rng;
use core::cmp::Reverse;
use core::time::Duration;
use std::collections::BTreeSet;

/// One peer as the choker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its connection.
    pub conn: ConnId,
    /// It wants something of us.
    pub interested: bool,
    /// We upload to it now.
    pub unchoked: bool,
    /// How long it has been unchoked, or choked, without a break.
    pub since: Duration,
    /// The last 20 s: from it while we download, to it while we seed, in bytes per second.
    pub rate: u64,
    /// It has sent no block for a minute though we are interested (anti-snubbing).
    pub snubbed: bool,
    /// It connected a short while ago.
    pub new: bool,
    /// It takes, and gives nothing: to us while we download, to anybody while we seed.
    pub only_takes: bool,
}

/// How peers are ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By what they give us.
    Leech,
    /// By what we give them, in turns.
    Seed,
}

/// The choker of one torrent.
#[derive(Clone, Debug, Default)]
pub struct Choker {
    rounds: u32,
    optimistic: Option<ConnId>,
}

impl Choker {
    /// A round: who shall be unchoked from now on. All others are to be choked.
    pub fn round(
        &mut self,
        mode: Mode,
        slots: usize,
        candidates: &[Candidate],
        rng: &mut Rng,
    ) -> BTreeSet<ConnId> {
        let rotate = self.rounds.is_multiple_of(OPTIMISTIC_ROUNDS);
        self.rounds = self.rounds.wrapping_add(1);
        let mut ranked: Vec<Candidate> = candidates.to_vec();
        // Equal peers are in random order, so that a tie is nobody's privilege.
        rng.shuffle(&mut ranked);
        match mode {
            Mode::Leech => ranked.sort_by_key(|peer| (peer.snubbed, Reverse(peer.rate))),
            Mode::Seed => ranked.sort_by_key(|peer| (peer.only_takes, seed_rank(peer))),
        }
        let mut unchoked = BTreeSet::new();
        let regular = slots.saturating_sub(1).max(1).min(slots);
        let mut left = regular;
        for peer in &ranked {
            if left == 0 {
                break;
            }
            let deserves = match mode {
                Mode::Leech => !peer.snubbed && peer.rate > 0,
                Mode::Seed => peer.interested,
            };
            if deserves {
                unchoked.insert(peer.conn);
                left -= usize::from(peer.interested);
            }
        }
        let lots = left + (slots - regular);
        let mut waiting: Vec<Candidate> = ranked
            .iter()
            .filter(|peer| peer.interested && !unchoked.contains(&peer.conn))
            .copied()
            .collect();
        match mode {
            Mode::Leech => self.keep_one_taker(rotate, &mut waiting),
            Mode::Seed => keep_givers(lots, &mut waiting),
        }
        self.draw(lots, rotate, waiting, &mut unchoked, rng);
        unchoked
    }

    /// Of those who only take one remains, who may be the optimistic unchoke: the one that is, or when it changes another.
    fn keep_one_taker(&self, rotate: bool, waiting: &mut Vec<Candidate>) {
        let takers = || waiting.iter().filter(|peer| peer.only_takes);
        let is_optimistic = |peer: &&Candidate| Some(peer.conn) == self.optimistic;
        let stays = takers().find(|peer| is_optimistic(peer) && !rotate);
        let next = || takers().find(|peer| !is_optimistic(peer));
        let one = stays.or_else(next).or_else(|| takers().next());
        let one = one.map(|peer| peer.conn);
        waiting.retain(|peer| !peer.only_takes || Some(peer.conn) == one);
    }

    /// Fills the remaining slots by lot among the interested peers.
    fn draw(
        &mut self,
        mut lots: usize,
        rotate: bool,
        mut waiting: Vec<Candidate>,
        unchoked: &mut BTreeSet<ConnId>,
        rng: &mut Rng,
    ) {
        if !rotate {
            // Between rotations whoever holds a slot by lot keeps it: no fibrillation.
            waiting.sort_by_key(|peer| (Some(peer.conn) != self.optimistic, !peer.unchoked));
            for peer in waiting.iter().take_while(|peer| peer.unchoked).take(lots) {
                unchoked.insert(peer.conn);
                lots -= 1;
            }
            waiting.retain(|peer| !unchoked.contains(&peer.conn));
        }
        if waiting.len() <= lots {
            unchoked.extend(waiting.iter().map(|peer| peer.conn));
            return;
        }
        if rotate && waiting.len() > 1 {
            // Another one than last time, if there is another.
            let last = self.optimistic.take();
            waiting.retain(|peer| Some(peer.conn) != last);
        }
        for nth in 0..lots {
            let Some(chosen) = lottery(&waiting, rng) else {
                break;
            };
            if nth == 0 {
                self.optimistic = Some(chosen);
            }
            unchoked.insert(chosen);
            waiting.retain(|peer| peer.conn != chosen);
        }
    }
}

/// Those who only take get what the others leave.
fn keep_givers(lots: usize, waiting: &mut Vec<Candidate>) {
    if waiting.iter().filter(|peer| !peer.only_takes).count() >= lots {
        waiting.retain(|peer| !peer.only_takes);
    }
}

/// Turns under way first, the fastest in front; then those who wait, the longest in front; then those whose turn is over.
fn seed_rank(peer: &Candidate) -> (u8, Reverse<u64>, Reverse<Duration>) {
    if !peer.unchoked {
        (1, Reverse(0), Reverse(peer.since))
    } else if peer.since < SEED_TURN {
        (0, Reverse(peer.rate), Reverse(Duration::ZERO))
    } else {
        (2, Reverse(peer.rate), Reverse(Duration::ZERO))
    }
}

/// One of the peers by lot; a new one has three tickets (BEP 3).
fn lottery(waiting: &[Candidate], rng: &mut Rng) -> Option<ConnId> {
    let tickets = |peer: &Candidate| if peer.new { 3 } else { 1 };
    let mut drawn = rng.below(waiting.iter().map(tickets).sum());
    waiting
        .iter()
        .find(|peer| match drawn.checked_sub(tickets(peer)) {
            Some(rest) => {
                drawn = rest;
                false
            }
            None => true,
        })
        .map(|peer| peer.conn)
}

/// How many upload slots suit a rate in bytes per second: `sqrt(0.06 × KiB/s)`, 7 at 1 MiB/s and 24 at 10. A piece is of
/// use to the swarm when it is whole, so few peers at a time get enough to finish theirs soon; the first client's ten times
/// as much under the root made flash crowds a third longer.
#[must_use]
pub fn slots_for_rate(measured: u64, limit: Option<u64>) -> usize {
    let rate = limit.unwrap_or(measured);
    let fitting = usize::try_from((rate / 1024 * 6 / 100).isqrt()).unwrap_or(UPLOAD_SLOTS_MAX);
    let least = if limit.is_some() {
        UPLOAD_SLOTS_MIN
    } else {
        UPLOAD_SLOTS_START
    };
    fitting.clamp(least, UPLOAD_SLOTS_MAX)
}

#[cfg(test)]
mod tests;
