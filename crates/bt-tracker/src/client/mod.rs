//! Which tracker is asked when, and with which event: the client's schedule of one torrent, as a machine.
//!
//! It knows nothing of the transport nor of the torrent's numbers: each [`Output::Ask`] becomes an
//! [`AnnounceRequest`](crate::announce::AnnounceRequest) in the engine that owns this machine.
//!
//! **Invariant:** at most one request per tracker is unanswered, and no tracker is asked sooner than its minimum
//! interval or its back-off allows, but for the two events that cannot wait: `completed` and `stopped`.
//!
//! BEP 3 ("trackers", "event"), BEP 12 (tiers), BEP 21 (`paused`), BEP 31 (`retry in`).

mod tiers;
mod tracker;
pub mod transaction;

#[cfg(test)]
mod tests;

use crate::announce::{AnnounceFailure, AnnounceResponse, Event};
use bt_core::{Rng, Time};
use core::time::Duration;
use std::collections::VecDeque;
use tiers::Tiers;
use tracker::{Asked, Tracker};

/// How long trackers may take to be told that we leave. A user who stops a program waits for it, hence short.
pub const STOP_MAX: Duration = Duration::from_secs(5);

/// How long a tracker that does not know us yet has for its first answer, from when it was asked, once we want to leave.
/// One that works answers well within this, and is then told; one that never answered is not waited for.
pub const FIRST_ANSWER_MAX: Duration = Duration::from_secs(2);

/// How long the next trackers wait for one that was asked and says nothing. Most answer within a second; a dead one must not
/// keep a live one waiting for as long as it takes to be sure.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// How many peers are asked for when more are needed. The most that trackers commonly give.
pub const NUMWANT_NEEDED: u32 = 200;

/// How many peers are asked for at a regular announce.
pub const NUMWANT_REGULAR: u32 = 50;

/// A fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The torrent starts. Before it no tracker is asked.
    Start {
        /// All bytes are there already: no tracker will be sent `completed`.
        complete: bool,
    },
    /// The last byte has arrived and is verified.
    Completed,
    /// All that is wanted is there, but not all there is (BEP 21): regular announces say `paused` from now on.
    Paused,
    /// More peers than known would be useful: announce as soon as the tracker's minimum interval allows.
    NeedPeers,
    /// An [`Output::Ask`] was answered, or came to nothing.
    Answer {
        /// The number of the order.
        id: u64,
        /// What came of it.
        result: Result<AnnounceResponse, AnnounceFailure>,
    },
    /// Leave the swarm: trackers that know us are told, then comes [`Output::Stopped`].
    Stop,
    /// The deadline has come.
    Timeout,
}

/// An order or a notice to the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Announce to a tracker; to be answered by [`Input::Answer`].
    Ask(Ask),
    /// What a tracker answered: its peers are to be used, its words to be shown.
    Answered {
        /// The tracker's URL.
        url: String,
        /// The event that was announced.
        event: Event,
        /// What came of it.
        result: Result<AnnounceResponse, AnnounceFailure>,
    },
    /// After [`Input::Stop`]: every tracker has been told, or the time for it is over. The last output.
    Stopped,
}

/// An announce to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The number of this order; never used twice.
    pub id: u64,
    /// The tracker's announce URL.
    pub url: String,
    /// Why.
    pub event: Event,
    /// How many peers to ask for.
    pub numwant: u32,
    /// What the tracker wants to be sent back.
    pub tracker_id: Option<Vec<u8>>,
}

/// The announce schedule of one torrent.
///
/// As BEP 12 has it, one tracker at a time is used: tiers in order, inside a tier in random order, and the one that
/// works moves to the front of its tier. One that says nothing for [`PATIENCE`] is not waited for: the next is asked too, then
/// two more, and so on. A tracker that fails is left alone for a time that doubles with each failure,
/// and the next is tried at once. When the interval of the one that worked is over, the walk begins at the front again.
///
/// # Example
///
/// ```
/// use bt_core::{Rng, Time};
/// use bt_tracker::announce::Event;
/// use bt_tracker::client::{Announcer, Input, Output};
///
/// let tiers = vec![vec!["http://tracker.example/announce".to_owned()]];
/// let mut announcer = Announcer::new(tiers, Rng::new(1));
/// announcer.handle(Time::ZERO, Input::Start { complete: false });
/// let Some(Output::Ask(ask)) = announcer.poll() else { panic!("the tracker is asked at once") };
/// assert_eq!(ask.event, Event::Started);
/// ```
#[derive(Clone, Debug)]
pub struct Announcer {
    tiers: Tiers,
    phase: Phase,
    /// All bytes are there.
    complete: bool,
    /// All wanted bytes are there.
    paused: bool,
    needs_peers: bool,
    ids: u64,
    rng: Rng,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before `Start`.
    New,
    Running,
    Stopping {
        until: Time,
    },
    Stopped,
}

impl Announcer {
    /// The schedule for the trackers of a torrent, in tiers. Repeated URLs count once, where they come first.
    #[must_use]
    pub fn new(tiers: Vec<Vec<String>>, mut rng: Rng) -> Self {
        Self {
            tiers: Tiers::new(tiers, &mut rng),
            phase: Phase::New,
            complete: false,
            paused: false,
            needs_peers: false,
            ids: 0,
            rng,
            outputs: VecDeque::new(),
        }
    }

    /// Takes one fact.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Start { complete } => {
                if self.phase == Phase::New {
                    self.phase = Phase::Running;
                    self.complete = complete;
                }
            }
            Input::Completed => self.complete = true,
            Input::Paused => self.paused = true,
            Input::NeedPeers => self.needs_peers = true,
            Input::Answer { id, result } => self.take_answer(now, id, result),
            Input::Stop => self.stop(now),
            Input::Timeout => {}
        }
        match self.phase {
            Phase::Running => self.run(now),
            Phase::Stopping { until } => self.leave(now, until),
            Phase::New | Phase::Stopped => {}
        }
    }

    /// The next output; to be drained to `None` before the next fact.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call with [`Input::Timeout`] if nothing happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Running => {
                let due = self.due()?;
                let Some(patience) = self.patience_ends() else {
                    return Some(due).filter(|due| *due < Time::MAX);
                };
                let others = self.tiers.iter().filter(|tracker| !tracker.is_asked());
                let next = others.map(|tracker| tracker.ready_at(true)).min()?;
                Some(next.max(due).max(patience)).filter(|at| *at < Time::MAX)
            }
            Phase::Stopping { until } => Some(self.awaited_until(until).unwrap_or(until)),
            Phase::New | Phase::Stopped => None,
        }
    }

    /// When the next walk over the tiers begins; `Time::MAX` if every tracker refused for ever.
    fn due(&self) -> Option<Time> {
        match self.tiers.current() {
            Some(current) => Some(current.ready_at(self.needs_peers)),
            None => self
                .tiers
                .iter()
                .map(|tracker| tracker.ready_at(true))
                .min(),
        }
    }

    fn run(&mut self, now: Time) {
        if self.complete {
            self.tell_completed(now);
        }
        let patience = self.patience_ends();
        if patience.is_some_and(|at| at > now) || self.due().is_none_or(|due| due > now) {
            return;
        }
        let eager = self.needs_peers || self.tiers.current().is_none() || patience.is_some();
        let silent = self.tiers.iter().filter(|tracker| tracker.is_asked());
        for _ in 0..silent.count().max(1) {
            let is_next = |tracker: &Tracker| !tracker.is_asked() && tracker.ready_at(eager) <= now;
            let Some(position) = self.tiers.position(is_next) else {
                return;
            };
            self.ask(now, position);
        }
    }

    /// When whoever is asked has had time enough; `None` if nobody is asked.
    fn patience_ends(&self) -> Option<Time> {
        let asked = self.tiers.iter().filter_map(|tracker| tracker.asked);
        asked.map(|asked| asked.at + PATIENCE).max()
    }

    /// `completed` does not wait for an interval, only for the end of a back-off.
    fn tell_completed(&mut self, now: Time) {
        let owed = |tracker: &Tracker| {
            tracker.owes_completed() && !tracker.is_asked() && !tracker.is_failing()
        };
        while let Some(position) = self.tiers.position(owed) {
            self.ask(now, position);
        }
    }

    fn stop(&mut self, now: Time) {
        match self.phase {
            Phase::New | Phase::Running => {
                self.phase = Phase::Stopping {
                    until: now + STOP_MAX,
                };
            }
            Phase::Stopping { .. } | Phase::Stopped => {}
        }
    }

    fn leave(&mut self, now: Time, until: Time) {
        while let Some(position) = self
            .tiers
            .position(|tracker| tracker.knows_us() && !tracker.is_asked())
        {
            self.ask(now, position);
        }
        if self.awaited_until(until).is_none_or(|at| at <= now) {
            self.phase = Phase::Stopped;
            self.outputs.push_back(Output::Stopped);
        }
    }

    /// How long answers are worth waiting for while we leave; `None` if none is outstanding.
    fn awaited_until(&self, until: Time) -> Option<Time> {
        let awaited = |tracker: &Tracker| tracker.awaited_until(until);
        self.tiers.iter().filter_map(awaited).max()
    }

    fn ask(&mut self, now: Time, position: tiers::Position) {
        let stopping = matches!(self.phase, Phase::Stopping { .. });
        let (complete, paused, needs_peers) = (self.complete, self.paused, self.needs_peers);
        let Some(tracker) = self.tiers.tracker_mut(position) else {
            return;
        };
        let event = tracker.next_event(stopping, complete, paused);
        let numwant = match event {
            Event::Stopped => 0,
            Event::Started if !complete => NUMWANT_NEEDED,
            _ if needs_peers => NUMWANT_NEEDED,
            Event::Interval | Event::Started | Event::Completed | Event::Paused => NUMWANT_REGULAR,
        };
        self.ids += 1;
        tracker.asked = Some(Asked {
            id: self.ids,
            event,
            complete,
            at: now,
        });
        self.outputs.push_back(Output::Ask(Ask {
            id: self.ids,
            url: tracker.url.clone(),
            event,
            numwant,
            tracker_id: tracker.tracker_id.clone(),
        }));
    }

    fn take_answer(
        &mut self,
        now: Time,
        id: u64,
        result: Result<AnnounceResponse, AnnounceFailure>,
    ) {
        let asked = |tracker: &Tracker| tracker.asked.is_some_and(|asked| asked.id == id);
        if self.phase == Phase::Stopped {
            return;
        }
        let Some(position) = self.tiers.position(asked) else {
            return;
        };
        let Some(tracker) = self.tiers.tracker_mut(position) else {
            return;
        };
        let Some(asked) = tracker.asked.take() else {
            return;
        };
        let url = tracker.url.clone();
        match &result {
            Ok(response) => {
                tracker.succeeded(now, asked, response);
                self.tiers.promote(position);
                self.needs_peers = false;
            }
            Err(failure) => {
                tracker.failed(now, asked, failure, &mut self.rng);
                self.tiers.demote(position);
            }
        }
        self.outputs.push_back(Output::Answered {
            url,
            event: asked.event,
            result,
        });
    }
}
