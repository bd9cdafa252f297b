//! What all connections share.

use crate::config::{ConfigError, Settings};
use crate::connection::Places;
use crate::shard::Shards;
use crate::trust::Network;
use bt_core::Time;
use bt_tracker::server::Access;
use hyper::body::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) shards: Shards,
    pub(crate) places: Arc<Places>,
    pub(crate) counters: Counters,
    started: Instant,
    rules: RwLock<Arc<Rules>>,
    pages: RwLock<BTreeMap<String, Page>>,
}

/// What a reload exchanges as a whole, so that no request sees half of it.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) access: Access,
    pub(crate) trust: Vec<Network>,
}

/// A document that the server hands out beside its own pages.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its media type.
    pub content_type: String,
    /// Its bytes.
    pub body: Bytes,
}

/// Requests since the start, for the statistics.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) announces: AtomicU64,
    pub(crate) scrapes: AtomicU64,
    pub(crate) refused: AtomicU64,
}

impl State {
    pub(crate) fn new(
        settings: &Settings,
        connections_max: usize,
        seed: u64,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            shards: Shards::new(&settings.swarms, seed),
            places: Places::new(connections_max),
            counters: Counters::default(),
            started: Instant::now(),
            rules: RwLock::new(Arc::new(Rules::read(settings)?)),
            pages: RwLock::default(),
        })
    }

    pub(crate) fn reload(&self, settings: &Settings) -> Result<(), ConfigError> {
        let rules = Arc::new(Rules::read(settings)?);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        self.shards.set_config(&settings.swarms);
        Ok(())
    }

    pub(crate) fn now(&self) -> Time {
        let nanos = self.started.elapsed().as_nanos();
        Time::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    pub(crate) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn page(&self, path: &str) -> Option<Page> {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        pages.get(path).cloned()
    }

    pub(crate) fn set_page(&self, path: &str, page: Page) {
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        pages.insert(path.to_owned(), page);
    }
}

impl Rules {
    fn read(settings: &Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            access: settings.access()?,
            trust: settings.trust.clone(),
        })
    }
}
