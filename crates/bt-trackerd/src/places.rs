//! The places for connections.
//!
//! **Invariant:** there are never more than `connections_max`. When one more comes, the one that has been without a
//! request for longest goes: a flood of silent connections drives out its own.
//!
//! A request costs its connection one store to a number of its own; whoever looks for the most silent reads them all, which
//! happens once a second and for each connection that comes when all places are taken.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How long a connection may be without completing a request: it covers the client that drips, the one that does not
/// read, and the one that has nothing more to ask.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    started: Instant,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    numbers: u64,
    by_number: BTreeMap<u64, Arc<Occupant>>,
}

#[derive(Debug)]
struct Occupant {
    /// When it last asked something, or came, in nanoseconds since the start.
    asked: AtomicU64,
    /// It keeps deadlines of its own.
    on_its_own: AtomicBool,
    /// Not there until the task has been started.
    abort: OnceLock<AbortHandle>,
}

impl Occupant {
    fn end(&self) {
        if let Some(abort) = self.abort.get() {
            abort.abort();
        }
    }
}

/// A place that is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    occupant: Arc<Occupant>,
    places: Arc<Places>,
}

/// Says that something was asked, for as long as the place is held.
#[derive(Debug)]
pub(crate) struct Refresher {
    occupant: Arc<Occupant>,
    places: Arc<Places>,
}

impl Refresher {
    pub(crate) fn refresh(&self) {
        self.occupant
            .asked
            .store(self.places.now(), Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().by_number.remove(&self.number);
    }
}

impl Place {
    /// What says so from elsewhere.
    pub(crate) fn refresher(&self) -> Refresher {
        Refresher {
            occupant: Arc::clone(&self.occupant),
            places: Arc::clone(&self.places),
        }
    }

    /// Something was asked.
    pub(crate) fn refresh(&self) {
        self.occupant
            .asked
            .store(self.places.now(), Ordering::Relaxed);
    }

    /// From now on whoever holds this keeps the deadlines.
    pub(crate) fn on_its_own(&self) {
        self.occupant.on_its_own.store(true, Ordering::Relaxed);
    }

    /// What ends the connection; it may have to at once.
    pub(crate) fn settle(places: &Places, number: u64, abort: AbortHandle) {
        match places.lock().by_number.get(&number) {
            Some(occupant) => drop(occupant.abort.set(abort)),
            None => abort.abort(),
        }
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }
}

impl Places {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            started: Instant::now(),
            taken: Mutex::default(),
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().by_number.len()
    }

    /// A place for a new connection, if need be that of the one silent longest.
    pub(crate) fn take(self: &Arc<Self>) -> Place {
        let mut taken = self.lock();
        while taken.by_number.len() >= self.most {
            let asked = |occupant: &Occupant| occupant.asked.load(Ordering::Relaxed);
            let all = taken.by_number.iter();
            let Some((&number, _)) = all.min_by_key(|(_, occupant)| asked(occupant)) else {
                break;
            };
            if let Some(evicted) = taken.by_number.remove(&number) {
                evicted.end();
            }
        }
        taken.numbers += 1;
        let number = taken.numbers;
        let occupant = Arc::new(Occupant {
            asked: AtomicU64::new(self.now()),
            on_its_own: AtomicBool::new(false),
            abort: OnceLock::new(),
        });
        taken.by_number.insert(number, Arc::clone(&occupant));
        drop(taken);
        Place {
            number,
            occupant,
            places: Arc::clone(self),
        }
    }

    /// Ends the connections that were silent for longer than `silence`, but for those on their own.
    pub(crate) fn end_silent(&self, silence: Duration) {
        let now = self.now();
        let most = u64::try_from(silence.as_nanos()).unwrap_or(u64::MAX);
        for occupant in self.lock().by_number.values() {
            let asked = occupant.asked.load(Ordering::Relaxed);
            let on_its_own = occupant.on_its_own.load(Ordering::Relaxed);
            if !on_its_own && now.saturating_sub(asked) >= most {
                occupant.end();
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
