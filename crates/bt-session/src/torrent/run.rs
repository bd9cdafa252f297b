//! When a torrent does something: it sleeps until a fact, its owner or the engine's deadline wakes it.
//!
//! **Invariant:** a torrent of which nobody wants anything rests: it waits for its inbox, for strangers' gossip and for one
//! timer, and the future that would wait for peers, the disk and errands is gone. Of ten thousand torrents most rest.

use super::{Ends, Fact, TICK, Torrent};
use crate::handle::{Failure, Phase};
use crate::hands::Hands;
use crate::inbox::Item;
use crate::state::Keeper;
use bt_peer::Input;
use bt_peer::peers::Source;
use core::pin::Pin;
use std::collections::VecDeque;
use std::net::SocketAddr;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};

impl Torrent {
    /// Takes part in the swarm until told to stop.
    ///
    /// # Errors
    /// [`Failure`] if it cannot go on.
    pub(crate) async fn run(
        &mut self,
        ends: &mut Ends,
        peers: Vec<SocketAddr>,
    ) -> Result<(), Failure> {
        self.inputs
            .push_back(Input::PeersFound(Source::User, peers));
        self.settle(ends);
        // Its first tick is due: who has nothing to do rests at once, and sets no timer for that.
        self.timeout(ends);
        loop {
            // On the heap, and given back before it rests.
            Box::pin(self.attend(ends)).await?;
            if self.stopped {
                let broken = self.broken.take().map(Failure::Disk);
                return broken.map_or(Ok(()), Err);
            }
            self.rest(ends).await;
        }
    }

    /// Does what there is to do, until it has stopped or may rest.
    async fn attend(&mut self, ends: &mut Ends) -> Result<(), Failure> {
        let mut batch = Vec::new();
        loop {
            self.settle(ends);
            if self.stopped || self.may_rest() {
                return Ok(());
            }
            let wake = self.wake();
            tokio::select! {
                item = ends.inbox.next() => self.left(item, ends),
                Some(peers) = named(&mut ends.gossip) => self.found(Source::Gossip, peers),
                done = Hands::next(&mut self.hands, &mut batch) => {
                    if let Some(done) = done {
                        self.disk_done(done);
                        self.read_on();
                    }
                    for fact in batch.drain(..) {
                        self.fact(fact, ends)?;
                    }
                }
                fact = self.errands.next() => {
                    fact.map_or(Ok(()), |fact| self.fact(fact, ends))?;
                }
                () = sleep(wake) => self.timeout(ends),
            }
        }
    }

    /// Nothing happens before somebody wants something or a timer runs out.
    pub(super) fn may_rest(&self) -> bool {
        self.is_idle
            && self.inputs.is_empty()
            && self.conns.is_empty()
            && self.dials.is_empty()
            && self.hands.is_none()
            && self.errands.is_empty()
    }

    /// Waits for that, and takes it in.
    async fn rest(&mut self, ends: &mut Ends) {
        // Most have no timer, which would take more than all else here.
        let timer = self.wake().map(|wake| Box::pin(sleep_until(wake)));
        tokio::select! {
            item = ends.inbox.next() => self.left(item, ends),
            Some(peers) = named(&mut ends.gossip) => self.found(Source::Gossip, peers),
            Some(()) = ended(timer) => self.timeout(ends),
        }
    }

    fn left(&mut self, item: Item, ends: &Ends) {
        match item {
            Item::Command(command) => self.command(command),
            Item::Accepted(greeted) => self.accepted(greeted, ends),
        }
    }

    fn wake(&self) -> Option<Instant> {
        let timers = [self.deadline(), self.stop_at, self.next_tick()];
        timers.into_iter().flatten().min()
    }

    fn deadline(&self) -> Option<Instant> {
        self.engine
            .deadline()
            .and_then(|time| self.shared.clock.instant(time))
    }

    pub(super) fn next_tick(&self) -> Option<Instant> {
        if self.is_idle {
            let due = self.keeper.as_ref().and_then(Keeper::due);
            return due.map(|due| due.max(self.tick_at));
        }
        Some(self.tick_at)
    }

    pub(super) fn timeout(&mut self, ends: &Ends) {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.stop_at) {
            self.stopped = true;
        }
        if is_due(self.next_tick()) {
            self.tick(now, ends);
        }
        if is_due(self.deadline()) {
            self.inputs.push_back(Input::Timeout);
        }
    }

    /// Feeds the engine with all that is there, and carries out what it orders, until both are silent.
    pub(super) fn settle(&mut self, ends: &Ends) {
        let mut done = Vec::new();
        while let Some(input) = self.inputs.pop_front() {
            self.is_idle = false;
            self.engine.handle(self.shared.clock.now(), input);
            while let Some(output) = self.engine.poll() {
                self.carry_out(output, &mut done, ends);
            }
            self.inputs.extend(done.drain(..).map(Input::DiskDone));
        }
        if self.conns.is_empty() && self.inputs.capacity() > 0 {
            // Nobody knows when the next fact comes, and this has room for four of them.
            self.inputs = VecDeque::new();
        }
    }

    /// Feeds the engine with one fact and what was there before it.
    pub(super) fn feed(&mut self, input: Input, ends: &Ends) {
        self.inputs.push_back(input);
        self.settle(ends);
    }

    fn tick(&mut self, now: Instant, ends: &Ends) {
        self.tick_at = now + TICK;
        ends.events.wake();
        // A choke takes requests back without a fact that would tell.
        self.read_on();
        let status = self.status();
        let stats = &status.stats;
        self.is_idle = self.conns.is_empty()
            && self.dials.is_empty()
            && (stats.down_rate, stats.up_rate) == (0, 0);
        if self.is_idle {
            // What it had is the others', and a division among ten thousand costs more than it gives.
            self.shared.budget.leave(&self.part);
            self.hands = self.hands.take().filter(|hands| hands.jobs.is_owed());
        } else {
            let changes = self.shared.budget.share(&mut self.part, stats);
            self.inputs.extend(changes.into_iter().map(Input::Command));
        }
        // While its data is checked, whoever checks tells how far that is.
        if self.keeper.is_some() || ends.status.get().phase != Phase::Checking {
            ends.status.update(|shown| *shown = status);
        }
        if self.keeper.as_ref().is_some_and(Keeper::is_due) {
            let saving = self.saving(false);
            let saving = async { Some(Fact::Saved(saving.await)) };
            self.errands.spawn(saving, None);
        }
    }
}

/// What strangers name next.
async fn named(gossip: &mut Option<mpsc::Receiver<Vec<SocketAddr>>>) -> Option<Vec<SocketAddr>> {
    gossip.as_mut()?.recv().await
}

/// When the timer has run out, if there is one.
async fn ended(timer: Option<Pin<Box<Sleep>>>) -> Option<()> {
    timer?.await;
    Some(())
}

async fn sleep(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => core::future::pending().await,
    }
}
