//! A BitTorrent tracker over HTTP, HTTPS and UDP: a program, and a server that another program can run inside itself.
//!
//! The swarms and the protocol are those of `bt-tracker`; here are sockets, clock, files and limits. BEP 3, 7, 15, 23, 24,
//! 48.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), bt_trackerd::ServeError> {
//! let config = bt_trackerd::Config::at(([127, 0, 0, 1], 0).into());
//! let server = bt_trackerd::serve(config).await?;
//! assert!(server.announce_urls()[0].ends_with("/announce"));
//! server.stop().await;
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "shell: owns the clock, files and sockets"
)]

pub mod admin;
mod ask;
pub mod config;
mod connection;
mod counters;
mod gate;
pub mod handover;
mod keep;
mod listen;
mod operator;
mod places;
mod proxy;
mod quick;
mod reply;
mod room;
mod routes;
mod scrape;
mod shard;
mod state;
mod stats;
pub mod store;
mod tls;
pub mod trust;
mod udp;

pub use config::{Config, ConfigError, Settings};
pub use proxy::ProxySays;
pub use state::Page;

use core::time::Duration;
use handover::Visit;
use hyper::body::Bytes;
use keep::{Begun, Keeper, Service};
use listen::Sockets;
use operator::Purpose;
use state::{Rules, Secrets, State};
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use store::Store;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tracing::warn;

/// However often snapshots shall be written, it is not without a pause.
const KEEP_MIN: Duration = Duration::from_millis(10);

/// How often the swarms are searched for peers that fell silent.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// Which.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No address was given.
    #[error("no address to listen on")]
    NoAddress,
    /// A socket of the service manager cannot be used.
    #[error("cannot use a socket of the service manager: {0}")]
    Inherited(io::Error),
    /// A thread or what stops it cannot be had.
    #[error("cannot start a worker: {0}")]
    Worker(io::Error),
    /// The system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(io::Error),
    /// A running tracker cannot be taken over from.
    #[error("cannot take over at {}: {source}", path.display())]
    HandOver {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The snapshot cannot be read, or none be written.
    #[error("cannot keep a snapshot at {}: {source}", path.display())]
    Snapshot {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A list cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// A server that runs. Dropping it stops it at once, [`stop`](Self::stop) in good order.
#[derive(Debug)]
pub struct Server {
    addrs: Vec<SocketAddr>,
    metrics_addr: Option<SocketAddr>,
    admin_addr: Option<SocketAddr>,
    tls_addrs: Vec<SocketAddr>,
    udp: udp::Workers,
    state: Arc<State>,
    /// Kept to be handed over.
    sockets: Sockets,
    snapshot_interval: Duration,
    service: Service,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// Starts a server on the current runtime. When this returns, it accepts connections.
///
/// # Errors
/// [`ServeError`] if an address cannot be had or a file cannot be read.
pub async fn serve(config: Config) -> Result<Server, ServeError> {
    let snapshot_interval = config.snapshot_interval;
    let begun = tokio::task::spawn_blocking(move || begin(&config));
    let (state, sockets) = begun.await.expect("reading files does not panic")?;
    run(Arc::new(state), sockets, snapshot_interval)
}

fn run(
    state: Arc<State>,
    sockets: Sockets,
    snapshot_interval: Duration,
) -> Result<Server, ServeError> {
    let Sockets {
        http,
        https,
        metrics,
        admin,
        udp,
    } = sockets.try_clone().map_err(ServeError::Worker)?;
    let service = Service::begin(Arc::clone(&state));
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut addrs = Vec::new();
    let mut tls_addrs = Vec::new();
    let plain = http.into_iter().map(|socket| (socket, false));
    let secure = https.into_iter().map(|socket| (socket, true));
    for ((addr, listener), tls) in plain.chain(secure) {
        let listener = TcpListener::from_std(listener).map_err(ServeError::Worker)?;
        if tls { &mut tls_addrs } else { &mut addrs }.push(addr);
        tasks.spawn(connection::serve(
            listener,
            tls,
            Arc::clone(&state),
            stopped.clone(),
        ));
    }
    let udp = udp::Workers::start(udp, &state)?;
    let mut operator = |listeners: Vec<(SocketAddr, std::net::TcpListener)>, purpose: Purpose| {
        let mut at = None;
        for (addr, listener) in listeners {
            let listener = TcpListener::from_std(listener).map_err(ServeError::Worker)?;
            let (purpose, state) = (purpose.clone(), Arc::clone(&state));
            tasks.spawn(operator::serve(listener, purpose, state, stopped.clone()));
            at = Some(addr);
        }
        Ok::<_, ServeError>(at)
    };
    let metrics_addr = operator(metrics, Purpose::Metrics)?;
    let admin_addr = match &state.admin {
        Some(token) => operator(admin, Purpose::Admin(token.clone()))?,
        None => None,
    };
    stats::begin(&state);
    tasks.spawn(stats::observe(Arc::clone(&state), stopped.clone()));
    let reaper = connection::end_silent(Arc::clone(&state), stopped.clone());
    tasks.spawn(reaper);
    if state.keeper.is_some() {
        tasks.spawn(keep_at_intervals(
            Arc::clone(&state),
            snapshot_interval,
            stopped.clone(),
        ));
    }
    tasks.spawn(store::run(Arc::clone(&state), stopped.clone()));
    tasks.spawn(sweep(Arc::clone(&state), stopped));
    Ok(Server {
        addrs,
        metrics_addr,
        admin_addr,
        tls_addrs,
        udp,
        state,
        sockets,
        snapshot_interval,
        service,
        stop,
        tasks,
    })
}

impl Server {
    /// The addresses it listens on over HTTP, with the ports that were free.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The same over HTTPS.
    #[must_use]
    pub fn tls_addrs(&self) -> &[SocketAddr] {
        &self.tls_addrs
    }

    /// The same over UDP.
    #[must_use]
    pub fn udp_addrs(&self) -> &[SocketAddr] {
        self.udp.addrs()
    }

    /// Where metrics are told.
    #[must_use]
    pub const fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_addr
    }

    /// Where the administration listens.
    #[must_use]
    pub const fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addr
    }

    /// The announce URL at each of [`addrs`](Self::addrs).
    #[must_use]
    pub fn announce_urls(&self) -> Vec<String> {
        self.addrs
            .iter()
            .map(|addr| format!("http://{addr}/announce"))
            .collect()
    }

    /// Hands out a document at `path` (which begins with `/`) from now on, or another one than before.
    pub fn set_page(&self, path: &str, content_type: &str, body: impl Into<Bytes>) {
        let page = Page {
            content_type: content_type.to_owned(),
            body: body.into(),
        };
        self.state.set_page(path, page);
    }

    /// Takes new settings and reads the lists again. Requests meanwhile are answered by the old ones.
    ///
    /// # Errors
    /// [`ConfigError`] if a list cannot be used: everything stays as it was.
    pub async fn reload(&self, settings: Settings) -> Result<(), ConfigError> {
        let state = Arc::clone(&self.state);
        let reloaded = tokio::task::spawn_blocking(move || state.reload(&settings));
        reloaded.await.expect("reading a list does not panic")
    }

    /// Writes a snapshot, if any are kept.
    pub async fn keep(&self) {
        keep(Arc::clone(&self.state)).await;
    }

    /// Stops: no more connections, open requests are answered, then all are closed, and a snapshot is written if any are
    /// kept. Takes two seconds at most, and as long as that takes.
    pub async fn stop(mut self) {
        self.sockets = Sockets::default();
        self.end().await;
        self.keep().await;
    }

    /// Gives sockets and swarms to the process that came to the [`Door`](handover::Door); `None` if it has taken them.
    ///
    /// # Errors
    /// [`ServeError`] if it has not, and this one cannot go on either.
    pub async fn hand_over(mut self, visitor: UnixStream) -> Result<Option<Self>, ServeError> {
        let sockets = self.sockets.try_clone().map_err(ServeError::Worker)?;
        let offered = blocking(move || handover::offer(&visitor, &sockets).map(|()| visitor));
        let visitor = match offered.await {
            Ok(visitor) => visitor,
            Err(error) => {
                warn!("nothing was handed over: {error}");
                return Ok(Some(self));
            }
        };
        self.state.set_closing(true);
        self.end().await;
        let state = Arc::clone(&self.state);
        match blocking(move || handover::give(&visitor, &state)).await {
            Ok(()) => Ok(None),
            Err(error) => {
                warn!("nothing was handed over, and this process goes on: {error}");
                self.state.set_closing(false);
                let Self {
                    state,
                    sockets,
                    snapshot_interval,
                    service,
                    ..
                } = self;
                drop(service);
                run(state, sockets, snapshot_interval).map(Some)
            }
        }
    }

    /// Connections first: packets are answered as long as these take.
    async fn end(&mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        self.udp.stop();
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// The state that the files describe, or the tracker that this one takes over from, and the sockets.
fn begin(config: &Config) -> Result<(State, Sockets), ServeError> {
    let connections_max = listen::connections_max(config.connections_max);
    let secrets = secrets().map_err(ServeError::Random)?;
    let swarms = &config.settings.swarms;
    let (no_snapshot, no_hand_over) = (
        |source| ServeError::Snapshot {
            path: config.snapshot.clone().unwrap_or_default(),
            source,
        },
        |source| ServeError::HandOver {
            path: config.hand_over.clone().unwrap_or_default(),
            source,
        },
    );
    // Whatever can fail comes before anybody is asked to stop.
    let rules = Rules::read(&config.settings)?;
    let token = config.administration()?;
    if config.admin.is_some_and(|addr| !addr.ip().is_loopback()) {
        warn!("the administration listens beyond this machine, and is not encrypted");
    }
    if rules.tls.is_none() && !config.https.is_empty() {
        return Err(ConfigError::NoCertificate.into());
    }
    let keeper = config.snapshot.as_deref().map(Keeper::new);
    let keeper = keeper.transpose().map_err(no_snapshot)?;
    let visit = config.hand_over.as_deref().map(Visit::begin);
    let visit = visit.transpose().map_err(no_hand_over)?.flatten();
    let (visit, given) = visit.unzip();
    let workers = workers_count();
    let sockets = match given {
        Some(given) => Sockets::bind(config, workers, given)?,
        None if config.service_sockets => {
            let given = Sockets::inherited(config, workers).map_err(ServeError::Inherited)?;
            Sockets::bind(&given.fit(config), workers, given)?
        }
        None => Sockets::bind(config, workers, Sockets::default())?,
    };
    let begun = match (visit, &keeper) {
        (Some(visit), _) => Some(visit.take(swarms, &secrets).map_err(no_hand_over)?),
        (None, Some(keeper)) => keeper.read(swarms, &secrets).map_err(no_snapshot)?,
        (None, None) => None,
    };
    let mut begun = begun.unwrap_or_else(|| Begun::empty(swarms, &secrets));
    let store = config.store.clone().map(Store::new);
    if let Some(store) = &store {
        begun.shards.share(Arc::clone(&store.status));
    }
    let settings = config.settings.clone();
    let mut state = State::new(settings, rules, connections_max, begun, keeper);
    state.admin = token;
    state.store = store;
    Ok((state, sockets))
}

/// A worker for each core that this process may use.
fn workers_count() -> usize {
    std::thread::available_parallelism().map_or(1, core::num::NonZero::get)
}

fn secrets() -> io::Result<Secrets> {
    let mut bytes = [0_u8; 24];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    // Never less for so few bytes, says the system.
    if filled < bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (seed, connections) = bytes.split_at(8);
    Ok(Secrets {
        seed: seed.try_into().map_or(0, u64::from_ne_bytes),
        connections: connections.try_into().unwrap_or_default(),
    })
}

async fn keep_at_intervals(state: Arc<State>, every: Duration, mut stop: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(every.max(KEEP_MIN));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every.tick().await;
    loop {
        tokio::select! {
            () = until(&mut stop) => return,
            _ = every.tick() => keep(Arc::clone(&state)).await,
        }
    }
}

async fn keep(state: Arc<State>) {
    let keeping = tokio::task::spawn_blocking(move || {
        if let Some(keeper) = &state.keeper {
            keeper.write(&state);
        }
    });
    if keeping.await.is_err() {
        warn!("writing a snapshot had failed");
    }
}

async fn sweep(state: Arc<State>, mut stop: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            () = until(&mut stop) => return,
            _ = every.tick() => {
                state.shards.sweep(state.now());
                state.full_scrape.forget(state.now());
            }
        }
    }
}

/// Ends when the server shall stop, or has been dropped.
async fn until(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
