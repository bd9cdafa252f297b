//! The client's schedule of trackers, and trackers that answer anything, late, or never.
//!
//! Checked here, from facts and orders alone: no tracker has two requests open; none is asked sooner than it said, or sooner
//! than the bounds on what it may say; events come in an order that a tracker can believe; the schedule sleeps, but never
//! for longer than those bounds; and leaving takes no longer than it may.

use super::Choices;
use super::engine::tracker_answer;
use bt_core::{Rng, Time};
use bt_tracker::announce::{
    AnnounceFailure, AnnounceResponse, Event, INTERVAL_MAX, clamp_interval,
};
use bt_tracker::client::{Announcer, Ask, Input, NUMWANT_NEEDED, Output, STOP_MAX};
use core::time::Duration;
use std::collections::BTreeMap;

/// The least wait after a failure: ten seconds, less a quarter.
const BACK_OFF_MIN: Duration = Duration::from_millis(7_500);

/// Without a minimum of the tracker's own, more peers are not asked for sooner than this.
const EAGER_MIN: Duration = Duration::from_secs(300);

/// What a tracker was told and said.
#[derive(Clone, Debug, Default)]
struct Told {
    /// It confirmed a `started`, and no `stopped`.
    knows_us: bool,
    /// It confirmed that all is there, by `completed` or a `started` when that was so.
    knows_complete: bool,
    /// It is not asked before, but for `completed` and `stopped`.
    not_before: Time,
    /// It said never to come back.
    refused_for_ever: bool,
    tracker_id: Option<Vec<u8>>,
    /// Asked since we want to leave.
    asked_leaving: u32,
}

/// What scripts came to, to see that they reach everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Announces by event: interval, started, completed, stopped, paused.
    pub asks: [u64; 5],
    /// Answers that were good.
    pub good: u64,
    /// Answers that were failures.
    pub failed: u64,
    /// Schedules that came to their end.
    pub stopped: u64,
}

impl Tally {
    /// Adds what another script came to.
    pub fn add(&mut self, other: Self) {
        for (sum, part) in self.asks.iter_mut().zip(other.asks) {
            *sum += part;
        }
        self.good += other.good;
        self.failed += other.failed;
        self.stopped += other.stopped;
    }
}

struct Stage {
    announcer: Announcer,
    now: Time,
    open: Vec<(Ask, bool)>,
    told: BTreeMap<String, Told>,
    started: bool,
    complete_at_start: bool,
    complete: bool,
    paused: bool,
    stopping_since: Option<Time>,
    has_stopped: bool,
    last_id: u64,
    tally: Tally,
}

/// Plays a script to a schedule.
///
/// # Panics
/// If the schedule does what it must not.
#[must_use]
pub fn play(script: &[u8]) -> Tally {
    let choices = &mut Choices::new(script);
    let mut tiers = Vec::new();
    for tier in 0..choices.below(4) {
        let urls = (0..=choices.below(3)).map(|place| format!("{tier}{place}"));
        tiers.push(urls.collect());
    }
    let seed = u64::from(choices.byte());
    let mut stage = Stage {
        announcer: Announcer::new(tiers, Rng::new(seed)),
        now: Time::from_secs(10_000),
        open: Vec::new(),
        told: BTreeMap::new(),
        started: false,
        complete_at_start: false,
        complete: false,
        paused: false,
        stopping_since: None,
        has_stopped: false,
        last_id: 0,
        tally: Tally::default(),
    };
    while !choices.is_over() {
        stage.step(choices);
    }
    stage.end();
    stage.tally
}

impl Stage {
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(16) {
            0 | 1 => {
                let complete = choices.chance(30);
                if !self.started {
                    (self.complete_at_start, self.complete) = (complete, complete);
                }
                self.started = true;
                self.feed(Input::Start { complete });
            }
            2..=6 => self.answer(choices),
            7 => {
                // A number that nobody asks by, or no more.
                let id = u64::from(choices.below(20));
                if self.open.iter().all(|(ask, _)| ask.id != id) {
                    let result = tracker_answer(choices);
                    self.feed(Input::Answer { id, result });
                }
            }
            8 => {
                self.complete = true;
                self.feed(Input::Completed);
            }
            9 => {
                self.paused = true;
                self.feed(Input::Paused);
            }
            10 => self.feed(Input::NeedPeers),
            11 | 12 => {
                if let Some(at) = self.announcer.deadline() {
                    self.now = self.now.max(at);
                    self.feed(Input::Timeout);
                }
            }
            13 | 14 => {
                let secs = choices.one(&[0, 1, 5, 60, 1_000, 100_000]);
                self.now += Duration::from_secs(secs);
                self.feed(Input::Timeout);
            }
            // Seldom: it ends the script.
            _ => {
                if choices.chance(20) {
                    self.stopping_since.get_or_insert(self.now);
                    self.feed(Input::Stop);
                }
            }
        }
    }

    fn answer(&mut self, choices: &mut Choices<'_>) {
        if self.open.is_empty() {
            return;
        }
        let at = choices.index(self.open.len());
        let (ask, complete) = self.open.remove(at);
        let result = tracker_answer(choices);
        self.note(&ask, complete, &result);
        let id = ask.id;
        self.feed(Input::Answer { id, result });
    }

    /// Writes down what a tracker knows, and when it may be asked again.
    fn note(
        &mut self,
        ask: &Ask,
        complete: bool,
        result: &Result<AnnounceResponse, AnnounceFailure>,
    ) {
        if self.has_stopped {
            return;
        }
        let told = self.told.entry(ask.url.clone()).or_default();
        match result {
            Ok(response) => {
                self.tally.good += 1;
                match ask.event {
                    Event::Started => {
                        told.knows_us = true;
                        told.knows_complete = complete;
                    }
                    Event::Completed => told.knows_complete = true,
                    Event::Stopped => told.knows_us = false,
                    Event::Interval | Event::Paused => {}
                }
                let interval = clamp_interval(response.interval);
                let least = response.min_interval.map(clamp_interval);
                told.not_before = self.now + least.unwrap_or(EAGER_MIN.min(interval));
                if let Some(tracker_id) = &response.tracker_id {
                    told.tracker_id = Some(tracker_id.clone());
                }
            }
            Err(
                AnnounceFailure::Refused { retry_in, .. }
                | AnnounceFailure::Unreachable { retry_in, .. },
            ) => {
                self.tally.failed += 1;
                if ask.event == Event::Stopped {
                    told.knows_us = false;
                }
                told.refused_for_ever = *retry_in == Some(Duration::MAX);
                let wait = retry_in.unwrap_or(BACK_OFF_MIN).max(BACK_OFF_MIN);
                told.not_before = self.now + wait.min(INTERVAL_MAX);
            }
        }
    }

    fn feed(&mut self, input: Input) {
        let woken = input == Input::Timeout;
        self.announcer.handle(self.now, input);
        while let Some(output) = self.announcer.poll() {
            assert!(!self.has_stopped, "after the end: {output:?}");
            match output {
                Output::Ask(ask) => self.asked(ask),
                Output::Answered { .. } => {}
                Output::Stopped => {
                    assert!(self.stopping_since.is_some(), "nobody said stop");
                    self.has_stopped = true;
                    self.tally.stopped += 1;
                }
            }
        }
        let deadline = self.announcer.deadline();
        if let Some(at) = deadline {
            assert!(!woken || at > self.now, "the shell would spin");
            assert!(at <= self.now + INTERVAL_MAX, "asleep until {at:?}");
        }
        if let Some(since) = self.stopping_since {
            let late = self.now >= since + STOP_MAX;
            assert!(self.has_stopped || !late, "it does not leave");
            assert!(
                self.has_stopped || deadline.is_some(),
                "it forgets to leave"
            );
        }
    }

    fn asked(&mut self, ask: Ask) {
        assert!(self.started, "asked before the start");
        assert!(ask.id > self.last_id, "number {} again", ask.id);
        self.last_id = ask.id;
        let twice = self.open.iter().any(|(open, _)| open.url == ask.url);
        assert!(!twice, "{} is asked twice at a time", ask.url);
        assert!(ask.numwant <= NUMWANT_NEEDED, "{} peers", ask.numwant);
        let stopping = self.stopping_since.is_some();
        let told = self.told.entry(ask.url.clone()).or_default();
        assert_eq!(ask.tracker_id, told.tracker_id, "its own words");
        let in_time = self.now >= told.not_before && !told.refused_for_ever;
        let holds = match ask.event {
            Event::Started => !told.knows_us && !stopping && in_time,
            Event::Completed => {
                let fresh = !told.knows_complete && !self.complete_at_start;
                told.knows_us && self.complete && fresh
            }
            Event::Stopped => told.knows_us && stopping && ask.numwant == 0,
            Event::Interval => told.knows_us && !stopping && in_time,
            Event::Paused => told.knows_us && !stopping && in_time && self.paused,
        };
        assert!(holds, "{ask:?} at {:?} of {told:?}", self.now);
        told.asked_leaving += u32::from(stopping);
        assert!(told.asked_leaving <= 2, "completed, stopped, and no more");
        let event = [
            Event::Interval,
            Event::Started,
            Event::Completed,
            Event::Stopped,
            Event::Paused,
        ];
        for (count, event) in self.tally.asks.iter_mut().zip(event) {
            *count += u64::from(event == ask.event);
        }
        self.open.push((ask, self.complete));
    }

    /// Leaving ends, whoever is silent.
    fn end(&mut self) {
        self.stopping_since.get_or_insert(self.now);
        self.feed(Input::Stop);
        for _ in 0..8 {
            let Some(at) = self.announcer.deadline() else {
                break;
            };
            self.now = self.now.max(at);
            self.feed(Input::Timeout);
        }
        assert!(self.has_stopped, "it does not leave");
        assert_eq!(self.announcer.deadline(), None);
    }
}
