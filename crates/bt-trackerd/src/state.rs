//! What all connections share.

use crate::admin::{ChangeError, Token};
use crate::config::{ConfigError, Settings};
use crate::counters::Counters;
use crate::gate::Gate;
use crate::keep::{Begun, Keeper};
use crate::places::Places;
use crate::proxy::ProxySays;
use crate::scrape::FullScrape;
use crate::shard::Shards;
use crate::stats::Observed;
use crate::store::Store;
use crate::trust::Network;
use bt_core::{Rng, Time};
use bt_tracker::http::encode::Notes;
use bt_tracker::server::{Access, ConnectionIds, Keys, Quota};
use core::time::Duration;
use hyper::body::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

pub(crate) struct State {
    pub(crate) shards: Shards,
    pub(crate) places: Arc<Places>,
    pub(crate) counters: Counters,
    pub(crate) connection_ids: ConnectionIds,
    pub(crate) gate: Gate,
    pub(crate) full_scrape: FullScrape,
    pub(crate) observed: Observed,
    /// What whoever administers has to know, where that is possible.
    pub(crate) admin: Option<Token>,
    /// What the swarms are shared through with other trackers, if they are.
    pub(crate) store: Option<Store>,
    /// What proves them is written to snapshots.
    pub(crate) connection_secret: [u8; 16],
    /// Where swarms are kept over a restart, if anywhere.
    pub(crate) keeper: Option<Keeper>,
    /// No connection is kept beyond its next answer.
    closing: AtomicBool,
    started: Instant,
    /// What the clock said at the start: it goes on where that of a snapshot stood.
    clock: Time,
    /// What the rules were read from; held while they are read.
    settings: Mutex<Settings>,
    rules: RwLock<Arc<Rules>>,
    /// How often the rules were exchanged.
    generation: AtomicU64,
    pages: RwLock<BTreeMap<String, Page>>,
}

impl core::fmt::Debug for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive() // and not its secret
    }
}

/// Random numbers of the system, which nobody else may know.
#[derive(Clone)]
pub(crate) struct Secrets {
    /// Keys the tables, and is where other randomness comes from.
    pub(crate) seed: u64,
    /// Proves connection ids.
    pub(crate) connections: [u8; 16],
}

/// What a reload exchanges as a whole, so that no request sees half of it.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) access: Access,
    pub(crate) keys: Option<Keys>,
    /// Beginnings of peer ids.
    pub(crate) clients_denied: Vec<Box<[u8]>>,
    pub(crate) per_address: Quota,
    pub(crate) per_key: Quota,
    /// How long a peer may be silent.
    pub(crate) expiry: Duration,
    pub(crate) proxies: Vec<Network>,
    pub(crate) proxy_says: ProxySays,
    pub(crate) ip_from: Vec<Network>,
    pub(crate) notes: Notes,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) full_scrape_max: usize,
}

/// A document that the server hands out beside its own pages.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its media type.
    pub content_type: String,
    /// Its bytes.
    pub body: Bytes,
}

/// The rules as somebody saw them last: who asks often need not take a lock that all others take too.
#[derive(Debug)]
pub(crate) struct Current {
    generation: u64,
    rules: Arc<Rules>,
}

impl State {
    pub(crate) fn new(
        settings: Settings,
        rules: Rules,
        connections_max: usize,
        begun: Begun,
        keeper: Option<Keeper>,
    ) -> Self {
        let secret = begun.secrets.connections;
        Self {
            shards: begun.shards,
            places: Places::new(connections_max),
            counters: Counters::default(),
            connection_ids: ConnectionIds::new(&secret),
            // Another row of numbers than that of the shards.
            full_scrape: FullScrape::default(),
            gate: Gate::new(&mut Rng::new(begun.secrets.seed.rotate_left(32))),
            observed: Observed::default(),
            admin: None,
            store: None,
            connection_secret: secret,
            keeper,
            closing: AtomicBool::new(false),
            started: Instant::now(),
            clock: begun.clock,
            settings: Mutex::new(settings),
            rules: RwLock::new(Arc::new(rules)),
            generation: AtomicU64::new(0),
            pages: RwLock::default(),
        }
    }

    /// Takes new settings; requests meanwhile are judged by the old ones.
    pub(crate) fn reload(&self, settings: &Settings) -> Result<(), ConfigError> {
        let mut current = self.settings();
        self.exchange(settings)?;
        settings.clone_into(&mut current);
        Ok(())
    }

    /// Changes a file of the settings, and reads all of them again if `change` says that it did. One such change at a time.
    pub(crate) fn change_settings(
        &self,
        change: impl FnOnce(&Settings) -> Result<bool, ChangeError>,
    ) -> Result<bool, ChangeError> {
        let current = self.settings();
        let changed = change(&current)?;
        if changed {
            self.exchange(&current)?;
        }
        Ok(changed)
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exchange(&self, settings: &Settings) -> Result<(), ConfigError> {
        let rules = Arc::new(Rules::read(settings)?);
        if rules.tls.is_none() && self.rules().tls.is_some() {
            return Err(ConfigError::NoCertificate);
        }
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        self.generation.fetch_add(1, Ordering::Release);
        self.shards.set_config(&settings.swarms);
        Ok(())
    }

    pub(crate) fn now(&self) -> Time {
        self.clock + self.started.elapsed()
    }

    /// From now on, or no longer, connections end with their next answer: somebody else will take them.
    pub(crate) fn set_closing(&self, closing: bool) {
        self.closing.store(closing, Ordering::Relaxed);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Since when this process serves.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often the rules were exchanged.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn current(&self) -> Current {
        // In this order: rules that are newer than their number are merely fetched once more.
        let generation = self.generation.load(Ordering::Acquire);
        let rules = self.rules();
        Current { generation, rules }
    }

    /// The rules of now.
    pub(crate) fn refresh<'a>(&self, current: &'a mut Current) -> &'a Rules {
        if current.generation != self.generation.load(Ordering::Acquire) {
            *current = self.current();
        }
        &current.rules
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
    pub(crate) fn read(settings: &Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            access: settings.access()?,
            keys: settings.keys()?,
            clients_denied: settings
                .clients_denied
                .iter()
                .map(|client| client.as_bytes().into())
                .collect(),
            per_address: settings.per_address,
            per_key: settings.per_key,
            expiry: settings.swarms.expiry,
            proxies: settings.proxies.clone(),
            proxy_says: settings.proxy_says,
            ip_from: settings.ip_from.clone(),
            notes: settings.notes.clone(),
            tls: settings.tls()?,
            full_scrape_max: settings.full_scrape_max,
        })
    }
}
