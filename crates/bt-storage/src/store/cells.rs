//! Who is at which piece, what waits for it, and how much of it is on its way to the disk.
//!
//! **Invariants:** one thread at a time is at a piece, and nobody waits for it: a job that finds the piece busy is left
//! for whoever is at it, and so is the wish to have it hashed and written. While a portion of a piece is out, only blocks are taken;
//! whatever else is asked of the piece waits, with all that came after it, until the portion has landed. So is its outcome:
//! no verdict before the last byte.

use super::Portion;
use crate::progress::Progress;
use bt_core::PieceIndex;
use bt_core::disk::{DiskError, Job};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The SHA-1 of all that came, or why it is not on the disk.
pub(super) type Outcome = Result<[u8; 20], DiskError>;

/// What the thread that is at a piece has in its hands.
#[derive(Default)]
pub(super) struct Slot {
    /// What came; `None` if nothing did, or no more is needed of it.
    pub(super) progress: Option<Box<Progress>>,
    /// What came of it, if the piece has come to its end.
    pub(super) outcome: Option<Outcome>,
}

/// What the thread that is at a piece has to do next.
pub(super) enum Next {
    /// A job.
    Job(Slot, Job),
    /// Nothing of the piece is out any more: its verdict.
    Settle(Slot, Outcome),
    /// The piece is to be written, and something of it has to be hashed before.
    Hash(Slot),
    /// The piece is given back, and this of it is to be written.
    Write(Portion),
}

/// The pieces of which something is held, under way or to be done.
#[derive(Default)]
pub(super) struct Cells(Mutex<BTreeMap<PieceIndex, Cell>>);

#[derive(Default)]
struct Cell {
    /// True while a thread is at the piece; it has the progress meanwhile.
    busy: bool,
    progress: Option<Box<Progress>>,
    /// Jobs that came while they could not be carried out.
    waiting: VecDeque<Job>,
    /// Portions that are on their way to the disk.
    out: usize,
    /// What came of the piece, until nothing of it is out.
    outcome: Option<Outcome>,
    /// What there is of it is to be hashed and written before it is given back.
    wanted: bool,
}

impl Cell {
    fn lets(&self, job: &Job) -> bool {
        self.out == 0 || (matches!(job, Job::Write { .. }) && self.outcome.is_none())
    }

    /// An error stays, whatever comes after it.
    fn end(&mut self, outcome: Outcome) {
        if !matches!(self.outcome, Some(Err(_))) {
            self.outcome = Some(outcome);
        }
    }

    /// The next thing to do, or the piece is given back.
    fn next(&mut self, piece: PieceIndex, progress: Option<Box<Progress>>) -> Option<Next> {
        let slot = Slot {
            progress,
            outcome: None,
        };
        if self.out == 0
            && let Some(outcome) = self.outcome.take()
        {
            return Some(Next::Settle(slot, outcome));
        }
        if self.waiting.front().is_some_and(|job| self.lets(job))
            && let Some(job) = self.waiting.pop_front()
        {
            return Some(Next::Job(slot, job));
        }
        let is_behind = slot.progress.as_ref().is_some_and(|held| held.is_behind());
        if self.wanted && is_behind {
            return Some(Next::Hash(slot));
        }
        self.busy = false;
        self.progress = slot.progress;
        if !core::mem::take(&mut self.wanted) {
            return None;
        }
        self.depart(piece).map(Next::Write)
    }

    /// Takes what is to be written, if the piece is complete or there is enough of it. It is left for who is at the piece;
    /// and what has to be hashed first, for the batch in which it came.
    fn depart(&mut self, piece: PieceIndex) -> Option<Portion> {
        if self.busy {
            self.wanted = true;
            return None;
        }
        let progress = self.progress.as_mut().filter(|held| !held.is_behind())?;
        let held_before = progress.held_bytes();
        let runs = match (progress.is_complete(), progress.is_run_ready()) {
            (true, _) => progress.take_all(),
            (false, true) => progress.take_hashed(),
            (false, false) => return None,
        };
        let length_bytes = held_before - progress.held_bytes();
        self.out += 1;
        if let Some(progress) = self.progress.take_if(|progress| progress.is_complete()) {
            self.end(Ok(progress.finish()));
        }
        Some(Portion {
            piece,
            runs,
            length_bytes,
        })
    }

    fn is_empty(&self) -> bool {
        !self.busy && self.progress.is_none() && self.out == 0
    }
}

impl Cells {
    /// Takes the piece for this thread; `None` if the job has to wait.
    pub(super) fn begin(&self, piece: PieceIndex, job: Job) -> Option<Next> {
        let mut cells = self.lock();
        let cell = cells.entry(piece).or_default();
        if cell.busy || !cell.waiting.is_empty() || !cell.lets(&job) {
            cell.waiting.push_back(job);
            return None;
        }
        cell.busy = true;
        let slot = Slot {
            progress: cell.progress.take(),
            outcome: None,
        };
        Some(Next::Job(slot, job))
    }

    /// Takes what came of the piece, to hash it. When it is handed back to [`go_on`](Self::go_on), it is to be written. If
    /// another thread is at the piece, that one does both.
    pub(super) fn lend(&self, piece: PieceIndex) -> Option<Box<Progress>> {
        let mut cells = self.lock();
        let cell = cells.get_mut(&piece)?;
        cell.wanted = cell.busy || cell.progress.is_some();
        if cell.busy {
            return None;
        }
        let progress = cell.progress.take()?;
        cell.busy = true;
        Some(progress)
    }

    /// Takes what is to be written of the piece, if it is complete or there is enough of it. If another thread is at the
    /// piece, that one writes it.
    pub(super) fn depart(&self, piece: PieceIndex) -> Option<Portion> {
        self.lock().get_mut(&piece)?.depart(piece)
    }

    /// A job is done: what is to be done next, or the piece is given back.
    pub(super) fn go_on(&self, piece: PieceIndex, slot: Slot) -> Option<Next> {
        self.step(piece, |cell| {
            if let Some(outcome) = slot.outcome {
                cell.end(outcome);
            }
            cell.next(piece, slot.progress)
        })
    }

    /// A portion is written, or not: what is to be done next, unless another thread is at the piece.
    pub(super) fn land(&self, piece: PieceIndex, result: Result<(), DiskError>) -> Option<Next> {
        self.step(piece, |cell| {
            cell.out -= 1;
            if let Err(error) = result {
                cell.end(Err(error));
            }
            if cell.busy {
                return None;
            }
            cell.busy = true;
            let progress = cell.progress.take();
            cell.next(piece, progress)
        })
    }

    fn step(
        &self,
        piece: PieceIndex,
        turn: impl FnOnce(&mut Cell) -> Option<Next>,
    ) -> Option<Next> {
        let mut cells = self.lock();
        let cell = cells.entry(piece).or_default();
        let next = turn(cell);
        if cell.is_empty() {
            cells.remove(&piece);
        }
        next
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PieceIndex, Cell>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
