//! Connections: taken in, counted, and dropped when they hold a place that somebody else needs.
//!
//! **Invariant:** there are never more than `connections_max`. When one more comes, the one that has been without a
//! request for longest goes: a flood of silent connections drives out its own.

use crate::routes;
use crate::state::State;
use core::time::Duration;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, warn};

/// How long a connection may take for the head of a request, the time before its first byte included. It covers both
/// the client that drips and the one that has nothing more to ask.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// How long a connection may go on without completing a request: catches who asks and does not read.
const STALL_MAX: Duration = Duration::from_secs(30);

/// Longest head of a request, in bytes; it is also what one connection can hold.
const HEAD_MAX_BYTES: usize = 16 * 1024;

/// How long to wait after a failed accept. Out of descriptors, accepting again at once would fail again, at the cost of
/// a whole core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long open requests may take when the server stops.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// Takes connections until `stop` says so, then lets open requests end.
pub(crate) async fn serve(
    listener: TcpListener,
    state: Arc<State>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let stopped = stop.clone();
    loop {
        tokio::select! {
            () = crate::until(&mut stop) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => open(&mut connections, stream, peer, &state, &stopped),
                Err(error) => {
                    warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
        debug!("dropped connections that did not end");
    }
}

fn open(
    connections: &mut JoinSet<()>,
    stream: TcpStream,
    peer: SocketAddr,
    state: &Arc<State>,
    stop: &watch::Receiver<bool>,
) {
    let place = state.places.take();
    let number = place.number;
    let abort = connections.spawn(converse(
        stream,
        peer,
        Arc::clone(state),
        place,
        stop.clone(),
    ));
    state.places.settle(number, abort);
}

async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    state: Arc<State>,
    place: Place,
    mut stop: watch::Receiver<bool>,
) {
    // An answer is one small write; waiting for more would only delay it.
    let _ = stream.set_nodelay(true);
    let requests = AtomicU64::new(0);
    let service = service_fn(|request| {
        requests.fetch_add(1, Ordering::Relaxed);
        state.places.refresh(&place);
        let reply = routes::answer(&state, peer, &request);
        async move { Ok::<_, core::convert::Infallible>(reply) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_MAX)
        .max_buf_size(HEAD_MAX_BYTES)
        .pipeline_flush(true)
        // Who says "no more requests" behind the last one still wants its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut before = 0;
    let mut check = tokio::time::interval(STALL_MAX);
    check.tick().await;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!("{peer}: {error}");
                }
                return;
            }
            () = crate::until(&mut stop) => break,
            _ = check.tick() => {
                let now = requests.load(Ordering::Relaxed);
                if now == before {
                    debug!("{peer}: stalled");
                    return;
                }
                before = now;
            }
        }
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// The places for connections, by when each last asked something.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    turns: u64,
    numbers: u64,
    /// The connections, the one that has been silent longest first: by turn.
    by_turn: BTreeMap<u64, Occupant>,
    turn_of: BTreeMap<u64, u64>,
}

#[derive(Debug)]
struct Occupant {
    number: u64,
    /// `None` until the task has been started.
    abort: Option<AbortHandle>,
}

/// A place that is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    state: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.state.lock();
        if let Some(turn) = taken.turn_of.remove(&self.number) {
            taken.by_turn.remove(&turn);
        }
    }
}

impl Places {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            taken: Mutex::default(),
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().turn_of.len()
    }

    /// A place for a new connection, if need be that of the one silent longest.
    fn take(self: &Arc<Self>) -> Place {
        let mut taken = self.lock();
        while taken.by_turn.len() >= self.most {
            let Some((_, evicted)) = taken.by_turn.pop_first() else {
                break;
            };
            taken.turn_of.remove(&evicted.number);
            if let Some(abort) = evicted.abort {
                abort.abort();
            }
        }
        taken.numbers += 1;
        let number = taken.numbers;
        taken.occupy(Occupant {
            number,
            abort: None,
        });
        drop(taken);
        Place {
            number,
            state: Arc::clone(self),
        }
    }

    fn settle(&self, number: u64, abort: AbortHandle) {
        let mut taken = self.lock();
        match taken.turn_of.get(&number).copied() {
            Some(turn) => {
                if let Some(occupant) = taken.by_turn.get_mut(&turn) {
                    occupant.abort = Some(abort);
                }
            }
            None => abort.abort(),
        }
    }

    fn refresh(&self, place: &Place) {
        let mut taken = self.lock();
        let turn = taken.turn_of.get(&place.number).copied();
        if let Some(occupant) = turn.and_then(|turn| taken.by_turn.remove(&turn)) {
            taken.occupy(occupant);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn occupy(&mut self, occupant: Occupant) {
        self.turns += 1;
        self.turn_of.insert(occupant.number, self.turns);
        self.by_turn.insert(self.turns, occupant);
    }
}
