//! How the common store is, for whoever watches the tracker.

use core::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct Status {
    up: AtomicBool,
    /// Since when it is down.
    down: Mutex<Option<Instant>>,
    exchanges: AtomicU64,
    heard: AtomicU64,
    failures: AtomicU64,
}

/// For how long the store was away, as part of a sentence.
pub(super) struct Away(Option<Instant>);

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(since) => write!(f, " after {:.1} s", since.elapsed().as_secs_f64()),
            None => Ok(()),
        }
    }
}

impl Status {
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Swarms that were told or asked for.
    pub(crate) fn exchanges(&self) -> u64 {
        self.exchanges.load(Ordering::Relaxed)
    }

    /// Peers that the store told of, those of this tracker among them.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// How often it did not answer, or could not be reached.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(super) fn exchanged(&self, swarms: usize, heard: usize) {
        self.exchanges.fetch_add(swarms as u64, Ordering::Relaxed);
        self.heard.fetch_add(heard as u64, Ordering::Relaxed);
    }

    /// It answers.
    pub(super) fn rise(&self) -> Away {
        self.up.store(true, Ordering::Relaxed);
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        Away(down.take())
    }

    /// It does not; true if that is news.
    pub(super) fn fall(&self) -> bool {
        self.up.store(false, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        let news = down.is_none();
        down.get_or_insert_with(Instant::now);
        news
    }
}
