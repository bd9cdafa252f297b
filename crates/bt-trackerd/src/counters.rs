//! Requests since the start, counted by each thread for itself.
//!
//! A counter that all cores write would travel between them with each request, so there are several of each, apart in
//! memory, and a thread keeps to one.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Enough that the workers of a common machine seldom share one.
const STRIPES_COUNT: usize = 16;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    AnnounceHttp,
    AnnounceUdp,
    ScrapeHttp,
    ScrapeUdp,
    /// Connects of UDP.
    Connect,
    /// Requests that were answered with a reason why not.
    Refused,
    /// Packets that were not answered: no request, or with a connection id that proves nothing.
    Ignored,
}

/// The number of kinds of [`Counted`].
const COUNTED: usize = Counted::Ignored as usize + 1;

/// All counts since the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sums {
    pub(crate) announces_http: u64,
    pub(crate) announces_udp: u64,
    pub(crate) scrapes_http: u64,
    pub(crate) scrapes_udp: u64,
    pub(crate) connects: u64,
    pub(crate) refused: u64,
    pub(crate) ignored: u64,
}

/// A stripe fills two cache lines, as the processor likes to fetch neighbours together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe([AtomicU64; COUNTED]);

#[derive(Debug, Default)]
pub(crate) struct Counters([Stripe; STRIPES_COUNT]);

impl Counters {
    pub(crate) fn count(&self, what: Counted) {
        let stripe = self.0.get(stripe_of_this_thread());
        if let Some(counter) = stripe.and_then(|stripe| stripe.0.get(what as usize)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn sums(&self) -> Sums {
        Sums {
            announces_http: self.sum(Counted::AnnounceHttp),
            announces_udp: self.sum(Counted::AnnounceUdp),
            scrapes_http: self.sum(Counted::ScrapeHttp),
            scrapes_udp: self.sum(Counted::ScrapeUdp),
            connects: self.sum(Counted::Connect),
            refused: self.sum(Counted::Refused),
            ignored: self.sum(Counted::Ignored),
        }
    }

    fn sum(&self, what: Counted) -> u64 {
        let counters = self
            .0
            .iter()
            .filter_map(|stripe| stripe.0.get(what as usize));
        counters
            .map(|counter| counter.load(Ordering::Relaxed))
            .sum()
    }
}

fn stripe_of_this_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    STRIPE.with(|stripe| {
        if stripe.get() == usize::MAX {
            stripe.set(THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES_COUNT);
        }
        stripe.get()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_added_up() {
        let counters = Counters::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * STRIPES_COUNT {
                scope.spawn(|| {
                    (0..100).for_each(|_| counters.count(Counted::Ignored));
                    counters.count(Counted::Connect);
                });
            }
        });
        let sums = [Counted::Ignored, Counted::Connect, Counted::AnnounceHttp];
        assert_eq!(sums.map(|what| counters.sum(what)), [3_200, 32, 0]);
    }
}
