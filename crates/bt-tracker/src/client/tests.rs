use super::*;
use bt_core::Rng;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What a tracker of the test answers, after one second.
#[derive(Clone, Copy, Debug)]
enum Answers {
    Every(u64),
    Minimum(u64, u64),
    Fails,
    RetryIn(u64),
    Never,
    Silent,
    SilentFrom(u64),
    FailsUntil(u64),
    WorksUntil(u64),
}

impl Answers {
    fn result(self, now: Time) -> Option<Result<AnnounceResponse, AnnounceFailure>> {
        let every = |secs, min: Option<u64>| AnnounceResponse {
            interval: Duration::from_secs(secs),
            min_interval: min.map(Duration::from_secs),
            tracker_id: Some(vec![1, 2]),
            ..AnnounceResponse::default()
        };
        let refused = |retry_in| AnnounceFailure::Refused {
            reason: "no".to_owned(),
            retry_in,
        };
        let unreachable = AnnounceFailure::Unreachable {
            message: "gone".to_owned(),
            retry_in: None,
        };
        match self {
            Self::Every(secs) => Some(Ok(every(secs, None))),
            Self::Minimum(secs, min) => Some(Ok(every(secs, Some(min)))),
            Self::RetryIn(secs) => Some(Err(refused(Some(Duration::from_secs(secs))))),
            Self::Never => Some(Err(refused(Some(Duration::MAX)))),
            Self::Silent => None,
            Self::SilentFrom(secs) if now >= Time::from_secs(secs) => None,
            Self::SilentFrom(_) => Some(Ok(every(1800, None))),
            Self::FailsUntil(secs) if now >= Time::from_secs(secs) => Some(Ok(every(1800, None))),
            Self::WorksUntil(secs) if now < Time::from_secs(secs) => Some(Ok(every(1800, None))),
            Self::Fails | Self::FailsUntil(_) | Self::WorksUntil(_) => Some(Err(unreachable)),
        }
    }
}

/// Runs a schedule on a clock of its own: `facts` at their seconds, answers a second after the question. Returns what
/// was asked, as `second url event`, and when it stopped.
fn run(tiers: &[&[(&str, Answers)]], facts: &[(u64, Input)], end: u64) -> Vec<String> {
    let world: BTreeMap<String, Answers> = tiers
        .iter()
        .flat_map(|tier| {
            tier.iter()
                .map(|(url, answers)| ((*url).to_owned(), *answers))
        })
        .collect();
    let urls = tiers
        .iter()
        .map(|tier| tier.iter().map(|(url, _)| (*url).to_owned()).collect())
        .collect();
    let mut announcer = Announcer::new(urls, Rng::new(7));
    let mut pending: Vec<(Time, Input)> = facts
        .iter()
        .map(|(secs, fact)| (Time::from_secs(*secs), fact.clone()))
        .collect();
    let mut trace = Vec::new();
    loop {
        pending.sort_by_key(|(at, _)| *at);
        let next = pending.first().map(|(at, _)| *at);
        let deadline = announcer.deadline();
        let Some(now) = next.into_iter().chain(deadline).min() else {
            break;
        };
        if now > Time::from_secs(end) {
            break;
        }
        let fact = if next == Some(now) {
            pending.remove(0).1
        } else {
            Input::Timeout
        };
        let timeout = fact == Input::Timeout;
        announcer.handle(now, fact);
        while let Some(output) = announcer.poll() {
            let secs = now.as_nanos() / 1_000_000_000;
            match output {
                Output::Ask(ask) => {
                    trace.push(format!("{secs} {} {:?}", ask.url, ask.event));
                    if let Some(result) = world[&ask.url].result(now) {
                        let answer = Input::Answer { id: ask.id, result };
                        pending.push((now + Duration::from_secs(1), answer));
                    }
                }
                Output::Answered { .. } => {}
                Output::Stopped => trace.push(format!("{secs} gone")),
            }
        }
        if timeout {
            assert!(announcer.deadline().is_none_or(|at| at > now), "would spin");
        }
    }
    trace
}

const LEECH: Input = Input::Start { complete: false };
const SEED: Input = Input::Start { complete: true };

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn one_tracker_hears_each_event_once() {
    use Input::{Completed, NeedPeers, Paused, Stop, Timeout};
    type Row<'a> = (&'a str, Answers, &'a [(u64, Input)], &'a [&'a str]);
    let works = Answers::Every(1800);
    let rows: &[Row<'_>] = &[
        (
            "BEP 3: started, interval, completed, interval, stopped",
            works,
            &[
                (0, LEECH),
                (2000, Completed),
                (2000, Completed),
                (4000, Stop),
            ],
            &[
                "0 a Started",
                "1801 a Interval",
                "2000 a Completed",
                "3801 a Interval",
                "4000 a Stopped",
                "4001 gone",
            ],
        ),
        (
            "BEP 3: no completed if it was complete when started",
            works,
            &[(0, SEED), (10, Completed), (20, Stop)],
            &["0 a Started", "20 a Stopped", "21 gone"],
        ),
        (
            "complete before the tracker confirmed started: it still hears of both",
            works,
            &[(0, LEECH), (0, Completed), (20, Stop)],
            &["0 a Started", "1 a Completed", "20 a Stopped", "21 gone"],
        ),
        (
            "stopped in the moment of completing: completed goes first",
            works,
            &[(0, LEECH), (9, Completed), (9, Stop)],
            &["0 a Started", "9 a Completed", "10 a Stopped", "11 gone"],
        ),
        (
            "stopped in the moment of completing, and the tracker is dead: each is said once",
            Answers::WorksUntil(5),
            &[(0, LEECH), (9, Completed), (9, Stop)],
            &["0 a Started", "9 a Completed", "10 a Stopped", "11 gone"],
        ),
        (
            "stopped before started is confirmed: it goes as soon as that is known",
            works,
            &[(0, LEECH), (0, Stop)],
            &["0 a Started", "1 a Stopped", "2 gone"],
        ),
        (
            "a tracker that never confirmed started hears no stopped",
            Answers::Fails,
            &[(0, LEECH), (5, Stop)],
            &["0 a Started", "5 gone"],
        ),
        (
            "FAULTS 101: a tracker that falls silent delays the end by five seconds and no more",
            Answers::SilentFrom(60),
            &[(0, LEECH), (60, Stop)],
            &["0 a Started", "60 a Stopped", "65 gone"],
        ),
        (
            "one that never answered does not delay it",
            Answers::Silent,
            &[(0, LEECH), (60, Stop)],
            &["0 a Started", "60 gone"],
        ),
        (
            "but for a moment in which it may still answer the first time",
            Answers::Silent,
            &[(0, LEECH), (1, Stop)],
            &["0 a Started", "2 gone"],
        ),
        (
            "nothing before the start",
            works,
            &[(0, NeedPeers), (1, Timeout)],
            &[],
        ),
        ("stop before the start", works, &[(3, Stop)], &["3 gone"]),
        ("stop twice", works, &[(3, Stop), (4, Stop)], &["3 gone"]),
        (
            "BEP 21: a partial seed says so in each regular announce, and completes later",
            works,
            &[(0, LEECH), (9, Paused), (2000, Completed), (2010, Stop)],
            &[
                "0 a Started",
                "1801 a Paused",
                "2000 a Completed",
                "2010 a Stopped",
                "2011 gone",
            ],
        ),
    ];
    for (what, answers, facts, expected) in rows {
        assert_eq!(run(&[&[("a", *answers)]], facts, 5000), *expected, "{what}");
    }
}

#[test]
fn intervals_are_kept_and_clamped() {
    let needy: Vec<(u64, Input)> = std::iter::once((0, LEECH))
        .chain((2..40).map(|n| (n * 10, Input::NeedPeers)))
        .collect();
    type Row<'a> = (&'a str, Answers, &'a [(u64, Input)], u64, &'a [&'a str]);
    let rows: &[Row<'_>] = &[
        (
            "FAULTS 98: interval 0 is 30 s",
            Answers::Every(0),
            &[(0, LEECH)],
            90,
            &["0 a Started", "31 a Interval", "62 a Interval"],
        ),
        (
            "FAULTS 98: an interval of a thousand years is a day",
            Answers::Every(u64::MAX / 2),
            &[(0, LEECH)],
            100_000,
            &["0 a Started", "86401 a Interval"],
        ),
        (
            "min interval beyond the interval wins",
            Answers::Minimum(60, 600),
            &[(0, LEECH)],
            700,
            &["0 a Started", "601 a Interval"],
        ),
        (
            "more peers wanted: not before the minimum",
            Answers::Minimum(1800, 120),
            &needy,
            400,
            &[
                "0 a Started",
                "121 a Interval",
                "250 a Interval",
                "380 a Interval",
            ],
        ),
        (
            "more peers wanted and no minimum named: five minutes",
            Answers::Every(1800),
            &needy,
            400,
            &["0 a Started", "301 a Interval"],
        ),
    ];
    for (what, answers, facts, end, expected) in rows {
        let mut trace = run(&[&[("a", *answers)]], facts, *end);
        if what.starts_with("more peers wanted: ") {
            // Asked as soon as the wish is uttered behind the minimum, which the rows above pin to the second.
            trace.truncate(4);
            assert!(trace.len() >= 3, "{trace:?}");
            let times: Vec<u64> = trace
                .iter()
                .map(|line| line.split(' ').next().unwrap().parse().unwrap())
                .collect();
            assert!(
                times.windows(2).all(|pair| pair[1] - pair[0] >= 121),
                "{times:?}"
            );
            continue;
        }
        assert_eq!(trace, *expected, "{what}");
    }
}

#[test]
fn tiers_are_walked_in_order() {
    let works = Answers::Every(1800);
    // BEP 12: the second tier is only used when no tracker of the first works; the next walk begins at the front.
    let trace = run(
        &[
            &[("a", Answers::FailsUntil(1000))],
            &[("b", works), ("c", works)],
        ],
        &[(0, LEECH), (4000, Input::Stop)],
        5000,
    );
    let second = trace[1].split(' ').nth(1).unwrap();
    assert!(["b", "c"].contains(&second), "{trace:?}");
    let expected = [
        "0 a Started".to_owned(),
        format!("1 {second} Started"),
        "1802 a Started".to_owned(),
        "3603 a Interval".to_owned(),
        "4000 a Stopped".to_owned(),
        format!("4000 {second} Stopped"),
        "4001 gone".to_owned(),
    ];
    assert_eq!(trace, expected);
}

#[test]
fn when_the_tracker_in_use_fails_the_next_is_asked_at_once() {
    let tiers: &[&[(&str, Answers)]] = &[
        &[("a", Answers::WorksUntil(1000))],
        &[("b", Answers::Every(1800))],
    ];
    let trace = run(tiers, &[(0, LEECH), (2000, Input::Stop)], 3000);
    let expected = [
        "0 a Started",
        "1801 a Interval",
        "1802 b Started",
        "2000 a Stopped",
        "2000 b Stopped",
        "2001 gone",
    ];
    assert_eq!(
        trace, expected,
        "and a tracker is told once that we leave, heard or not"
    );
}

#[test]
fn one_wish_for_peers_is_one_announce() {
    let facts = [(0, LEECH), (10, Input::NeedPeers)];
    let trace = run(&[&[("a", Answers::Minimum(1800, 120))]], &facts, 2000);
    assert_eq!(trace, ["0 a Started", "121 a Interval", "1922 a Interval"]);
}

#[test]
fn the_tracker_that_works_moves_to_the_front_of_its_tier() {
    let tier: Vec<String> = (0..8).map(|n| format!("t{n}")).collect();
    let mut announcer = Announcer::new(vec![tier.clone()], Rng::new(3));
    let before: Vec<String> = announcer
        .tiers
        .iter()
        .map(|tracker| tracker.url.clone())
        .collect();
    assert_ne!(before, tier, "shuffled");
    announcer.handle(Time::ZERO, LEECH);
    for works in [false, false, true] {
        let Some(Output::Ask(ask)) = announcer.poll() else {
            panic!("asked")
        };
        let result = Answers::result(
            if works {
                Answers::Every(600)
            } else {
                Answers::Fails
            },
            Time::ZERO,
        );
        announcer.handle(
            Time::ZERO,
            Input::Answer {
                id: ask.id,
                result: result.unwrap(),
            },
        );
        assert!(matches!(announcer.poll(), Some(Output::Answered { .. })));
    }
    let trackers: Vec<&Tracker> = announcer.tiers.iter().collect();
    let after: Vec<&String> = trackers.iter().map(|tracker| &tracker.url).collect();
    assert_eq!(after[..4], [&before[2], &before[0], &before[1], &before[3]]);
    assert_eq!(trackers[0].ready_at(false), Time::from_secs(600));
    let failing: Vec<bool> = trackers
        .iter()
        .map(|tracker| tracker.is_failing())
        .collect();
    assert_eq!(failing[..4], [false, true, true, false]);
}

#[test]
fn failures_double_the_wait_up_to_an_hour() {
    let trace = run(&[&[("a", Answers::Fails)]], &[(0, LEECH)], 40_000);
    let times: Vec<u64> = trace
        .iter()
        .map(|line| line.split(' ').next().unwrap().parse().unwrap())
        .collect();
    for (failure, pair) in times.windows(2).enumerate() {
        let most = (10 << failure.min(16)).min(3600);
        let waited = pair[1] - pair[0] - 1;
        assert!(
            (most * 3 / 4 - 1..=most).contains(&waited),
            "{failure}: {waited} of {most}"
        );
    }
    assert!(times.len() > 15 && times.len() < 25, "{times:?}");
    let other = Announcer::new(vec![], Rng::new(8));
    assert_eq!(other.deadline(), None);
}

#[test]
fn retry_in_is_obeyed() {
    // BEP 31, and Retry-After: at least that long, at most a day; "never" is never.
    let day = run(
        &[&[("a", Answers::RetryIn(1_000_000))]],
        &[(0, LEECH)],
        90_000,
    );
    assert_eq!(day, ["0 a Started", "86401 a Started"]);
    let hour = run(&[&[("a", Answers::RetryIn(3600))]], &[(0, LEECH)], 4000);
    assert_eq!(hour, ["0 a Started", "3601 a Started"]);
    let wishes = [(0, LEECH), (9, Input::NeedPeers), (9_000_000, Input::Stop)];
    let never = run(&[&[("a", Answers::Never)]], &wishes, 10_000_000);
    assert_eq!(never, ["0 a Started", "9000000 gone"]);
}

#[test]
fn asks_carry_what_the_tracker_needs() {
    let mut announcer = Announcer::new(
        vec![vec!["a".to_owned(), "a".to_owned()], vec!["a".to_owned()]],
        Rng::new(1),
    );
    assert_eq!(
        announcer.tiers.iter().count(),
        1,
        "a repeated URL counts once"
    );
    announcer.handle(Time::ZERO, LEECH);
    let mut asks = Vec::new();
    for fact in [Input::Completed, Input::Stop] {
        let Some(Output::Ask(ask)) = announcer.poll() else {
            panic!("asked")
        };
        let result = Answers::Every(600).result(Time::ZERO).unwrap();
        announcer.handle(Time::ZERO, Input::Answer { id: ask.id, result });
        announcer.poll();
        asks.push((ask.event, ask.numwant, ask.tracker_id));
        announcer.handle(Time::ZERO, fact);
    }
    let Some(Output::Ask(ask)) = announcer.poll() else {
        panic!("asked")
    };
    asks.push((ask.event, ask.numwant, ask.tracker_id));
    let id = Some(vec![1, 2]);
    let expected = [
        (Event::Started, NUMWANT_NEEDED, None),
        (Event::Completed, NUMWANT_REGULAR, id.clone()),
        (Event::Stopped, 0, id),
    ];
    assert_eq!(asks, expected);
}

#[test]
fn too_many_trackers_are_cut() {
    let tiers = (0..1000).map(|n| vec![format!("t{n}")]).collect();
    let announcer = Announcer::new(tiers, Rng::new(1));
    assert_eq!(announcer.tiers.iter().count(), tiers::TRACKERS_MAX);
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Answer(usize, u8),
    Completed,
    NeedPeers,
    Stop,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u64..4000).prop_map(Step::Wait),
        6 => (any::<usize>(), 0_u8..4).prop_map(|(which, how)| Step::Answer(which, how)),
        1 => Just(Step::Completed),
        1 => Just(Step::NeedPeers),
        1 => Just(Step::Stop),
    ]
}

proptest! {
    /// Whatever happens in whatever order: one request per tracker, events in an order that a tracker can believe,
    /// nothing after the end, and an end within five seconds of the wish.
    #[test]
    fn rules_hold_on_any_path(seed in any::<u64>(), complete in any::<bool>(), steps in prop::collection::vec(step(), 1..80)) {
        let urls = vec![vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]];
        let mut announcer = Announcer::new(urls, Rng::new(seed));
        let mut now = Time::ZERO;
        let mut open: Vec<Ask> = Vec::new();
        // Per tracker: what it has confirmed, as (started, completed).
        let mut told: BTreeMap<String, (bool, bool)> = BTreeMap::new();
        let mut soonest: BTreeMap<String, Time> = BTreeMap::new();
        let mut asked_leaving: BTreeMap<String, u32> = BTreeMap::new();
        let (mut done, mut all_there, mut stopping) = (false, complete, None);
        let mut facts = vec![Input::Start { complete }];
        for step in std::iter::once(Step::Wait(0)).chain(steps) {
            match step {
                Step::Wait(secs) => {
                    let until = now + Duration::from_secs(secs);
                    now = announcer.deadline().map_or(until, |at| at.max(now).min(until));
                    facts.push(Input::Timeout);
                }
                Step::Answer(which, how) if !open.is_empty() => {
                    let ask = open.remove(which % open.len());
                    let answers = [Answers::Every(1800), Answers::Minimum(600, 300), Answers::Fails, Answers::RetryIn(50)];
                    let result = answers[usize::from(how)].result(now).unwrap();
                    let known = told.entry(ask.url.clone()).or_default();
                    if result.is_ok() {
                        match ask.event {
                            Event::Started => *known = (true, false),
                            Event::Completed => known.1 = true,
                            Event::Stopped => *known = (false, false),
                            Event::Interval | Event::Paused => {}
                        }
                    }
                    let wait = match how { 0 | 1 => 300, 2 => 7, _ => 50 };
                    soonest.insert(ask.url.clone(), now + Duration::from_secs(wait));
                    facts.push(Input::Answer { id: ask.id, result });
                }
                Step::Answer(..) => {}
                Step::Completed => { all_there = true; facts.push(Input::Completed); }
                Step::NeedPeers => facts.push(Input::NeedPeers),
                Step::Stop => { stopping.get_or_insert(now); facts.push(Input::Stop); }
            }
            for fact in facts.drain(..) {
                announcer.handle(now, fact);
                while let Some(output) = announcer.poll() {
                    prop_assert!(!done, "nothing after the end: {output:?}");
                    match output {
                        Output::Ask(ask) => {
                            let (started, completed) = told.get(&ask.url).copied().unwrap_or_default();
                            let early = soonest.get(&ask.url).is_some_and(|at| now < *at);
                            prop_assert!(open.iter().all(|other| other.url != ask.url), "two at once: {ask:?}");
                            match ask.event {
                                Event::Started => prop_assert!(!started && stopping.is_none() && !early),
                                Event::Completed => prop_assert!(started && !completed && all_there && !complete),
                                Event::Stopped => prop_assert!(started && stopping.is_some()),
                                Event::Interval => prop_assert!(started && stopping.is_none() && !early),
                                Event::Paused => prop_assert!(false, "never said"),
                            }
                            if stopping.is_some() {
                                let asked = asked_leaving.entry(ask.url.clone()).or_default();
                                *asked += 1;
                                prop_assert!(*asked <= 2, "completed, stopped, and no more: {ask:?}");
                            }
                            open.push(ask);
                        }
                        Output::Answered { .. } => {}
                        Output::Stopped => {
                            done = true;
                            prop_assert!(stopping.is_some());
                        }
                    }
                }
                if let Some(since) = stopping {
                    prop_assert!(done || now - since < STOP_MAX);
                }
            }
        }
    }
}

#[test]
fn a_silent_tracker_does_not_delay_the_others() {
    let works = Answers::Every(1800);
    let silent = |url| (url, Answers::Silent);
    // One after two seconds; then as many more as are silent.
    let tiers: &[&[(&str, Answers)]] = &[
        &[silent("a")],
        &[silent("b")],
        &[silent("c")],
        &[silent("d")],
        &[("e", works)],
    ];
    let trace = run(tiers, &[(0, LEECH)], 1_000);
    let expected = [
        "0 a Started",
        "2 b Started",
        "4 c Started",
        "4 d Started",
        "6 e Started",
    ];
    assert_eq!(trace, expected);
    let trace = run(&[&[silent("a")]], &[(0, LEECH)], 1_000);
    assert_eq!(trace, ["0 a Started"], "there is nobody else to ask");
}
