//! A BitTorrent tracker over HTTP and UDP: a program, and a server that another program can run inside itself.
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

mod ask;
pub mod config;
mod connection;
mod counters;
mod listen;
mod places;
mod quick;
mod routes;
mod shard;
mod state;
mod stats;
pub mod trust;
mod udp;

pub use config::{Config, ConfigError, Settings};
pub use state::Page;

use core::time::Duration;
use hyper::body::Bytes;
use state::{Secrets, State};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;

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
    /// A thread or what stops it cannot be had.
    #[error("cannot start a worker: {0}")]
    Worker(io::Error),
    /// The system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(io::Error),
    /// A list cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// A server that runs. Dropping it stops it at once, [`stop`](Self::stop) in good order.
#[derive(Debug)]
pub struct Server {
    addrs: Vec<SocketAddr>,
    udp: udp::Workers,
    state: Arc<State>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// Starts a server on the current runtime. When this returns, it accepts connections.
///
/// # Errors
/// [`ServeError`] if an address cannot be had or a list cannot be read.
pub async fn serve(config: Config) -> Result<Server, ServeError> {
    let connections_max = listen::connections_max(config.connections_max);
    let secrets = secrets().map_err(ServeError::Random)?;
    let settings = config.settings.clone();
    let state =
        tokio::task::spawn_blocking(move || State::new(&settings, connections_max, &secrets));
    let state = Arc::new(state.await.expect("reading a list does not panic")?);
    if config.http.is_empty() && config.udp.is_empty() {
        return Err(ServeError::NoAddress);
    }
    let listeners = listen::bind(&config.http, config.some_suffice)?;
    let udp = udp::Workers::start(&config.udp, config.some_suffice, workers_count(), &state)?;
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut addrs = Vec::new();
    for (addr, listener) in listeners {
        addrs.push(addr);
        tasks.spawn(connection::serve(
            listener,
            Arc::clone(&state),
            stopped.clone(),
        ));
    }
    let reaper = connection::end_silent(Arc::clone(&state), stopped.clone());
    tasks.spawn(reaper);
    tasks.spawn(sweep(Arc::clone(&state), stopped));
    Ok(Server {
        addrs,
        udp,
        state,
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

    /// The same over UDP.
    #[must_use]
    pub fn udp_addrs(&self) -> &[SocketAddr] {
        self.udp.addrs()
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

    /// Stops: no more connections, open requests are answered, then all are closed. Takes two seconds at most.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        self.udp.stop();
        while self.tasks.join_next().await.is_some() {}
    }
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

async fn sweep(state: Arc<State>, mut stop: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            () = until(&mut stop) => return,
            _ = every.tick() => state.shards.sweep(state.now()),
        }
    }
}

/// Ends when the server shall stop, or has been dropped.
async fn until(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
