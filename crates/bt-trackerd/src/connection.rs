//! Connections: taken in, served, and dropped when they hold a place that somebody else needs.
//!
//! Each begins with [`quick`](crate::quick), which answers announces and scrapes; with the first request that is something else
//! it becomes hyper's, and stays so.

use crate::places::{IDLE_MAX, Place};
use crate::proxy::{self, ProxySays};
use crate::quick::{HEAD_MAX_BYTES, Next, Quick, Work};
use crate::routes;
use crate::state::State;
use crate::tls;
use crate::trust;
use core::cell::RefCell;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

/// How long a connection may go on without completing a request: catches who asks and does not read.
const STALL_MAX: Duration = Duration::from_secs(30);

/// How long to wait after a failed accept. Out of descriptors, accepting again at once would fail again, at the cost of
/// a whole core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long open requests may take when the server stops.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// How long kept connections may wait for their next request when another process takes over. Those that come meanwhile wait
/// too; whoever asks seldom finds its connection closed, and opens another.
const CLOSING_MAX: Duration = Duration::from_millis(500);

/// How often silent connections are looked for, and those that have ended.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Takes connections until `stop` says so, then lets open requests end.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: bool,
    state: Arc<State>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let stopped = stop.clone();
    let mut every = tokio::time::interval(LOOK_EVERY);
    loop {
        // Those that have ended. Who waits for each of them is woken for each, mostly by another thread, and with two workers a
        // connection that asks once cost a seventh more than with one.
        while connections.try_join_next().is_some() {}
        tokio::select! {
            () = crate::until(&mut stop) => break,
            _ = every.tick() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => open(&mut connections, stream, tls, peer, &state, &stopped),
                Err(error) => {
                    warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    if state.is_closing() {
        // Each has its next request answered here, so that none is lost on a connection that is kept.
        let answered = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(CLOSING_MAX, answered).await;
    }
    // Those that are waited for have nothing to say that was not answered, and the others end on their own.
    state.places.end_silent(Duration::ZERO);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
        debug!("dropped connections that did not end");
    }
}

/// Ends silent connections until `stop` says so.
pub(crate) async fn end_silent(state: Arc<State>, mut stop: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            () = crate::until(&mut stop) => return,
            _ = every.tick() => state.places.end_silent(IDLE_MAX),
        }
    }
}

fn open(
    connections: &mut JoinSet<()>,
    stream: TcpStream,
    tls: bool,
    peer: SocketAddr,
    state: &Arc<State>,
    stop: &watch::Receiver<bool>,
) {
    let place = state.places.take();
    let number = place.number();
    let (shared, stop) = (Arc::clone(state), stop.clone());
    let abort = if tls {
        connections.spawn(converse_securely(stream, peer, shared, place, stop))
    } else {
        connections.spawn(converse(stream, peer, shared, place, stop))
    };
    Place::settle(&state.places, number, abort);
}

thread_local! {
    static WORK: RefCell<Work> = RefCell::new(Work::new());
}

async fn converse(
    mut stream: TcpStream,
    peer: SocketAddr,
    state: Arc<State>,
    place: Place,
    stop: watch::Receiver<bool>,
) {
    // An answer is one small write; waiting for more would only delay it.
    let _ = stream.set_nodelay(true);
    let Ok(peer) = behind_proxy(&mut stream, peer, &state).await else {
        return;
    };
    let mut quick = Quick::new(Arc::clone(&state), peer);
    let mut next = Next::Wait;
    loop {
        let unsent;
        (next, unsent) = poll_fn(|cx| {
            WORK.with_borrow_mut(|work| turn(cx, &mut stream, next, &mut quick, work, &place))
        })
        .await;
        if !unsent.is_empty() && stream.write_all(&unsent).await.is_err() {
            return;
        }
        match next {
            Next::Wait => {}
            // Others shall have their turn too.
            Next::Again => tokio::task::yield_now().await,
            Next::Close => return drop(stream.shutdown().await),
            Next::HandOver => break,
        }
    }
    place.on_its_own();
    let stream = Begun {
        begun: core::mem::take(&mut quick.held),
        read: 0,
        stream,
    };
    // Boxed, as it is large and few connections come here.
    Box::pin(converse_in_full(stream, peer, &state, &place, stop)).await;
}

async fn converse_securely(
    mut stream: TcpStream,
    peer: SocketAddr,
    state: Arc<State>,
    place: Place,
    stop: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    if let Ok(peer) = behind_proxy(&mut stream, peer, &state).await {
        tls::converse(stream, peer, state, place, stop).await;
    }
}

/// Who is at the other end, if need be behind a proxy that begins by saying so.
async fn behind_proxy(
    stream: &mut TcpStream,
    peer: SocketAddr,
    state: &State,
) -> io::Result<SocketAddr> {
    let rules = state.rules();
    if rules.proxy_says != ProxySays::ProxyProtocol || !trust::contain(&rules.proxies, peer.ip()) {
        return Ok(peer);
    }
    let named = proxy::read_head(stream).await;
    if let Err(error) = &named {
        debug!("{peer}: {error}");
    }
    Ok(named?.unwrap_or(peer))
}

/// Reads what is there, answers it, and sends the answers; returns what could not be sent.
///
/// A read that leaves room in the buffer has taken everything, which `poll_read` knows and `try_read` does not: that would be
/// called once more for each request, in vain.
fn turn(
    cx: &mut Context<'_>,
    stream: &mut TcpStream,
    last: Next,
    quick: &mut Quick,
    work: &mut Work,
    place: &Place,
) -> Poll<(Next, Vec<u8>)> {
    let mut received = 0;
    if last == Next::Wait {
        let mut buffer = ReadBuf::new(&mut work.input);
        let read = ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer));
        received = buffer.filled().len();
        if read.is_err() || received == 0 {
            return Poll::Ready((Next::Close, Vec::new()));
        }
    }
    let next = quick.turn(work, received, place);
    let mut rest = work.output.as_slice();
    while !rest.is_empty() {
        match stream.try_write(rest) {
            Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(_) => return Poll::Ready((Next::Close, Vec::new())),
        }
    }
    Poll::Ready((next, rest.to_vec()))
}

/// Serves a connection with hyper.
async fn converse_in_full(
    stream: Begun,
    peer: SocketAddr,
    state: &Arc<State>,
    place: &Place,
    mut stop: watch::Receiver<bool>,
) {
    let requests = AtomicU64::new(0);
    let service = service_fn(|request| {
        requests.fetch_add(1, Ordering::Relaxed);
        place.refresh();
        async move {
            let reply = routes::answer(state, peer, &request).await;
            Ok::<_, core::convert::Infallible>(reply)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_MAX)
        .max_buf_size(HEAD_MAX_BYTES)
        .pipeline_flush(true)
        // Who says "no more requests" behind the last one still wants its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    drive(connection, peer, &requests, &mut stop).await;
}

/// Has hyper serve a connection until it ends, stalls, or the server stops. `requests` is how many it has read.
pub(crate) async fn drive<C>(
    connection: C,
    peer: SocketAddr,
    requests: &AtomicU64,
    stop: &mut watch::Receiver<bool>,
) where
    C: GracefulConnection,
    C::Error: core::fmt::Display,
{
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
            () = crate::until(stop) => break,
            _ = check.tick() => {
                let now = requests.load(Ordering::Relaxed);
                if now == before {
                    return debug!("{peer}: stalled");
                }
                before = now;
            }
        }
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// A stream of which something was read already.
struct Begun {
    begun: Vec<u8>,
    read: usize,
    stream: TcpStream,
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let rest = this.begun.get(this.read..).unwrap_or_default();
        if rest.is_empty() {
            this.begun = Vec::new();
            this.read = 0;
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let length = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..length).unwrap_or_default());
        this.read += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
