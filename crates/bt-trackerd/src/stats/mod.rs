//! The tracker in numbers: a page for people, JSON for programs, and metrics for Prometheus.
//!
//! **Invariant:** nothing here is counted on the way of a request but by [`Counters`](crate::counters), where each thread has its
//! own; all else is looked at every ten seconds, or when somebody asks.

mod census;
mod chart;
mod history;
pub(crate) mod metrics;
pub(crate) mod page;

use crate::counters::Sums;
use crate::keep::{Keeper, Last};
use crate::state::State;
use bt_tracker::server::Totals;
use census::{Census, Latest};
use core::time::Duration;
use history::{History, Rates, SAMPLE_EVERY, Sample};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

/// The ids of peers are looked at with every so many samples.
const CENSUS_EVERY: u32 = 6;

/// What is looked at now and then.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    history: History,
    census: Latest,
}

/// Looks at it for the first time, so that there is something to tell.
pub(crate) fn begin(state: &State) {
    state.observed.history.add(Sample::of(state));
}

/// Looks at it again and again until `stop` says so.
pub(crate) async fn observe(state: Arc<State>, mut stop: watch::Receiver<bool>) {
    let mut every = tokio::time::interval_at(Instant::now() + SAMPLE_EVERY, SAMPLE_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for turn in (0..CENSUS_EVERY).cycle() {
        if turn == 0 {
            let state = Arc::clone(&state);
            // Millions of ids take a moment, which others need not wait for.
            let counted = tokio::task::spawn_blocking(move || {
                state.observed.census.set(Census::take(&state.shards));
            });
            let _ = counted.await;
        }
        tokio::select! {
            () = crate::until(&mut stop) => return,
            _ = every.tick() => state.observed.history.add(Sample::of(&state)),
        }
    }
}

/// Everything that is told, as of one moment.
pub(crate) struct Figures {
    totals: Totals,
    rates: Rates,
    samples: Vec<Sample>,
    census: Arc<Census>,
    sums: Sums,
    connections: u64,
    uptime: Duration,
    keeping: Option<Last>,
    store: Option<StoreFigures>,
    /// How old the last snapshot is.
    snapshot_age: Option<Duration>,
}

/// How it goes with the store that is shared with other trackers.
struct StoreFigures {
    up: bool,
    exchanges: u64,
    heard: u64,
    failures: u64,
    waiting: u64,
    dropped: u64,
}

impl StoreFigures {
    fn of(state: &State) -> Option<Self> {
        let status = &state.store.as_ref()?.status;
        let (waiting, dropped) = state.shards.untold();
        Some(Self {
            up: status.is_up(),
            exchanges: status.exchanges(),
            heard: status.heard(),
            failures: status.failures(),
            waiting,
            dropped,
        })
    }
}

impl Figures {
    pub(crate) fn of(state: &State) -> Self {
        let keeping = state.keeper.as_ref().map(Keeper::last);
        Self {
            totals: state.shards.totals(),
            rates: state.observed.history.rates(&Sample::of(state)),
            samples: state.observed.history.samples(),
            census: state.observed.census.get(),
            sums: state.counters.sums(),
            connections: state.places.count() as u64,
            uptime: state.uptime(),
            keeping,
            store: StoreFigures::of(state),
            snapshot_age: keeping.and_then(|last| Some(state.now().since(last.at?))),
        }
    }

    /// What was counted since the start, for people.
    fn counts(&self) -> [(&'static str, u64); 8] {
        let sums = &self.sums;
        [
            ("announces over HTTP", sums.announces_http),
            ("announces over UDP", sums.announces_udp),
            ("scrapes over HTTP", sums.scrapes_http),
            ("scrapes over UDP", sums.scrapes_udp),
            ("connects over UDP", sums.connects),
            ("requests refused", sums.refused),
            ("packets without answer", sums.ignored),
            ("connections now", self.connections),
        ]
    }
}

/// An object of numbers, and the version.
pub(crate) fn json(figures: &Figures) -> String {
    let Figures {
        totals,
        rates,
        sums,
        ..
    } = figures;
    let clients = figures.census.named.iter();
    let clients = clients.map(|(name, count)| serde_json::json!({"client": name, "peers": count}));
    let store = figures.store.as_ref().map(|store| {
        serde_json::json!({
            "up": store.up,
            "exchanges": store.exchanges,
            "peers_heard": store.heard,
            "failures": store.failures,
            "announces_waiting": store.waiting,
            "announces_dropped": store.dropped,
        })
    });
    serde_json::json!({
        "torrents": totals.torrents,
        "seeders": totals.seeders,
        "leechers": totals.leechers,
        "partial_seeds": totals.partial_seeds,
        "downloaders": totals.leechers - totals.partial_seeds,
        "downloaded": totals.downloaded,
        "announces": sums.announces_http + sums.announces_udp,
        "announces_udp": sums.announces_udp,
        "announces_per_second": rates.announces_http + rates.announces_udp,
        "announces_udp_per_second": rates.announces_udp,
        "scrapes": sums.scrapes_http + sums.scrapes_udp,
        "scrapes_udp": sums.scrapes_udp,
        "scrapes_per_second": rates.scrapes,
        "connects_udp": sums.connects,
        "refused": sums.refused,
        "ignored_udp": sums.ignored,
        "connections": figures.connections,
        "clients": clients.collect::<Vec<_>>(),
        "clients_other": figures.census.others,
        "store": store,
        "snapshots": figures.keeping.map(|last| last.written),
        "snapshots_failed": figures.keeping.map(|last| last.failed),
        "snapshot_age_seconds": figures.snapshot_age.map(|age| age.as_secs()),
        "uptime_seconds": figures.uptime.as_secs(),
        "version": env!("CARGO_PKG_VERSION"),
    })
    .to_string()
}

/// A span as people say it, in its two largest units.
fn duration(span: Duration) -> String {
    let secs = span.as_secs();
    let (minutes, hours, days) = (secs / 60, secs / 3_600, secs / 86_400);
    match (days, hours, minutes) {
        (1.., ..) => format!("{days} d {} h", hours % 24),
        (0, 1.., _) => format!("{hours} h {} min", minutes % 60),
        (0, 0, 1..) => format!("{minutes} min"),
        (0, 0, 0) => format!("{secs} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_in_two_units() {
        for (secs, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min"),
            (3_600, "1 h 0 min"),
            (86_399, "23 h 59 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(Duration::from_secs(secs)), expected);
        }
    }
}
