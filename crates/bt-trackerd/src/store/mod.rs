//! The swarms that several trackers share, through Redis or Valkey.
//!
//! Each tracker answers from its own memory. What it is told goes to the store in batches, and with each batch comes back what
//! others told of the same swarms since. Nobody waits for the store: while it is slow, away or empty, answers are local, and once
//! it is back everything that is known here is told it again.
//!
//! **Invariant:** no request ever waits for the store, and no lock is held while it is asked.

mod outbox;
mod script;
mod status;
#[cfg(test)]
mod tests;
mod url;

pub(crate) use outbox::{Exchange, Outbox};
pub(crate) use status::Status;
pub use url::{ParseStoreUrlError, StoreUrl};

use crate::shard::{Position, Shards};
use crate::state::State;
use bt_core::Rng;
use bt_tracker::server::{Heard, snapshot};
use core::time::Duration;
use outbox::Told;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, Value};
use std::sync::Arc;
use tokio::sync::watch;
use tracing::{info, warn};

/// How long what was told waits for company: an announce is known to all trackers within a few of these.
const FLUSH_EVERY: Duration = Duration::from_millis(50);

/// Most announces of one shard in a batch.
const TAKEN_MAX: usize = 256;

/// Most swarms in one pipeline: the store works on it for some milliseconds.
const PIPELINE_SWARMS: usize = 512;

/// Most exchanges of one pipeline that may bring a full page: 2 MB of answers, which come well within [`PATIENCE`].
const PIPELINE_PAGES: usize = 32;

/// Most peers of one exchange: a script takes no more than 8,000 arguments.
const TOLD_PEERS: usize = 500;

/// A store that says nothing for so long is as good as gone.
const PATIENCE: Duration = Duration::from_secs(1);

/// After a failure, how long until the next try: twice as long each time.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A tracker that stops tells what is left for no longer than this: as long as HTTP connections have for their last answers.
const FAREWELL: Duration = Duration::from_millis(500);

/// The store of a tracker.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) url: StoreUrl,
    pub(crate) status: Arc<Status>,
}

impl Store {
    pub(crate) fn new(url: StoreUrl) -> Self {
        let status = Arc::default();
        Self { url, status }
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
enum StoreError {
    /// The address may hold a password, and is not shown.
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("it did not answer within a second")]
    Silent,
    #[error("it answered nonsense")]
    Answer,
}

/// Tells and asks until `stop` says so.
pub(crate) async fn run(state: Arc<State>, mut stop: watch::Receiver<bool>) {
    let Some(Store { url, status }) = &state.store else {
        return;
    };
    let mut rng = Rng::new(state.now().as_nanos());
    let mut pause = PAUSE_MIN;
    loop {
        let before = status.exchanges();
        let opened = tokio::select! {
            () = crate::until(&mut stop) => return,
            opened = Link::open(url) => opened,
        };
        let error = match opened {
            Ok(mut link) => {
                let since = status.rise();
                info!("the common store answers{since}; it is told what is known here");
                match link.work(&state, &mut stop).await {
                    Ok(()) => return,
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        if status.fall() {
            warn!("the common store cannot be used, and answers are local: {error}");
        }
        if status.exchanges() > before {
            pause = PAUSE_MIN;
        }
        // Not all trackers at the same moment.
        let jitter = rng.below(u64::try_from(pause.as_millis()).unwrap_or(1_000) / 2 + 1);
        tokio::select! {
            () = crate::until(&mut stop) => return,
            () = tokio::time::sleep(pause + Duration::from_millis(jitter)) => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// A connection, with the script loaded.
struct Link {
    connection: MultiplexedConnection,
    script: String,
}

impl Link {
    async fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        // The client would look for a provider by itself, and end the process if the build has two; once there is one it stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let opening = async {
            let client = redis::Client::open(url.as_str())?;
            let mut connection = client
                .get_multiplexed_async_connection_with_config(&config)
                .await?;
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(script::SCRIPT);
            let script = load.query_async(&mut connection).await?;
            Ok(Self { connection, script })
        };
        let opened = tokio::time::timeout(PATIENCE * 2, opening).await;
        opened.unwrap_or(Err(StoreError::Silent))
    }

    /// Until something goes wrong, or all was told after `stop`.
    async fn work(
        &mut self,
        state: &State,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), StoreError> {
        state.shards.forget_store(state.now());
        let mut retold = Some(Position::START);
        loop {
            if *stop.borrow() {
                let farewell = async {
                    while self.flush(state, None).await? {}
                    Ok(())
                };
                let farewell = tokio::time::timeout(FAREWELL, farewell);
                return farewell.await.unwrap_or(Err(StoreError::Silent));
            }
            let more = self.flush(state, Some(&mut *stop)).await?;
            if let Some(position) = retold {
                retold = self.retell(state, position, stop).await?;
            } else if !more {
                tokio::select! {
                    () = crate::until(stop) => {}
                    () = tokio::time::sleep(FLUSH_EVERY) => {}
                }
            }
        }
    }

    /// Makes the exchanges that wait; true if more wait already.
    async fn flush(
        &mut self,
        state: &State,
        stop: Option<&mut watch::Receiver<bool>>,
    ) -> Result<bool, StoreError> {
        let mut waiting = Vec::new();
        let more = state.shards.take(state.now(), TAKEN_MAX, &mut waiting);
        self.exchange_all(state, waiting, true, stop).await?;
        Ok(more)
    }

    /// Tells the next swarms as they are known here; returns where to go on.
    async fn retell(
        &mut self,
        state: &State,
        from: Position,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Option<Position>, StoreError> {
        let mut exchanges = Vec::new();
        let next = state.shards.retell(state.now(), from, &mut exchanges);
        self.exchange_all(state, exchanges, false, Some(stop))
            .await?;
        Ok(next)
    }

    /// Those of which there was no answer wait again, if they `may_wait`. Once it is to stop, no answer is waited for.
    async fn exchange_all(
        &mut self,
        state: &State,
        mut exchanges: Vec<Exchange>,
        may_wait: bool,
        mut stop: Option<&mut watch::Receiver<bool>>,
    ) -> Result<(), StoreError> {
        while !exchanges.is_empty() {
            let rest = exchanges.split_off(pipeline_len(&exchanges));
            let stopped = async {
                match stop.as_deref_mut() {
                    Some(stop) => crate::until(stop).await,
                    None => core::future::pending().await,
                }
            };
            let made = tokio::select! {
                made = self.exchange(state, &exchanges) => Some(made),
                () = stopped => None,
            };
            if !matches!(made, Some(Ok(()))) {
                if may_wait {
                    // From the last to the first, as each goes before those that wait.
                    state.shards.give_back(rest, true);
                    state.shards.give_back(exchanges, false);
                }
                return made.unwrap_or(Ok(()));
            }
            exchanges = rest;
            // Answers to peers come between two large ones of the store.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn exchange(&mut self, state: &State, exchanges: &[Exchange]) -> Result<(), StoreError> {
        let (now, expiry) = (state.now(), state.rules().expiry);
        let mut pipeline = redis::Pipeline::with_capacity(exchanges.len());
        for exchange in exchanges {
            pipeline.add_command(script::command(&self.script, exchange, now, expiry));
        }
        let asked = pipeline.query_async::<Vec<Value>>(&mut self.connection);
        let asked = tokio::time::timeout(PATIENCE, asked).await;
        let answers = asked.map_err(|_| StoreError::Silent)??;
        if answers.len() != exchanges.len() {
            return Err(StoreError::Answer);
        }
        let mut heard = 0;
        for (exchange, answer) in exchanges.iter().zip(&answers) {
            let answer = script::read(exchange, answer).ok_or(StoreError::Answer)?;
            heard += answer.heard.len();
            state.shards.learn(state.now(), exchange, &answer);
        }
        if let Some(Store { status, .. }) = &state.store {
            status.exchanged(exchanges.len(), heard);
        }
        Ok(())
    }
}

/// How many of these go into the next pipeline.
fn pipeline_len(exchanges: &[Exchange]) -> usize {
    let pages = exchanges.iter().enumerate();
    let mut pages = pages.filter(|(_, exchange)| exchange.may_fill_page);
    let end = pages.nth(PIPELINE_PAGES).map(|(place, _)| place);
    end.unwrap_or(exchanges.len()).min(PIPELINE_SWARMS)
}

/// What is known of a swarm here, in exchanges that ask for nothing.
pub(crate) fn retold(
    now: bt_core::Time,
    record: snapshot::Record<'_>,
    untold: u32,
    out: &mut Vec<Exchange>,
) {
    let all: Vec<Heard> = record.heard().collect();
    let mut parts = all.chunks(TOLD_PEERS);
    // Without peers there is still the count.
    let first = parts.next().unwrap_or_default();
    for (number, part) in core::iter::once(first).chain(parts).enumerate() {
        let told = part.iter().map(|heard| Told {
            addr: heard.addr,
            standing: heard.standing,
            at: now,
            age_secs: heard.age_secs,
        });
        let mut exchange = Exchange::of(record.info_hash());
        exchange.told = told.collect();
        if number == 0 {
            // What waits to be added is not to be added twice.
            exchange.floor = record.downloaded().saturating_sub(untold);
        }
        out.push(exchange);
    }
}

impl Shards {
    /// The answer of the store comes to where the answers to peers come from.
    fn learn(&self, now: bt_core::Time, exchange: &Exchange, answer: &script::Answer) {
        let (downloaded, heard) = (answer.downloaded, &answer.heard);
        self.learned(now, exchange.info_hash, downloaded, heard, |outbox| {
            outbox.was_read(now, exchange, answer.until_ms, answer.more);
        });
    }
}
