//! What only the operator is told: listeners of their own for metrics and for the [administration](crate::admin), served by hyper.
//!
//! **Invariant:** they take no place from the peers' connections, and no more than [`CONNECTIONS_MAX`] of their own.

use crate::admin::{self, Token};
use crate::reply::{Reply, reply, text, unless_reading};
use crate::state::State;
use crate::stats::{self, Figures, metrics};
use core::convert::Infallible;
use core::time::Duration;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

/// Most connections of a listener at a time: a few programs ask every few seconds.
const CONNECTIONS_MAX: usize = 32;

/// How long one connection may last: whoever asks more often opens another.
const CONNECTION_MAX: Duration = Duration::from_secs(60);

/// How long a request may take to come.
const HEAD_MAX: Duration = Duration::from_secs(10);

/// How long to wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a listener is for.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    Metrics,
    Admin(Token),
}

/// Serves until `stop` says so; requests that are under way are then cut.
pub(crate) async fn serve(
    listener: TcpListener,
    purpose: Purpose,
    state: Arc<State>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = crate::until(&mut stop) => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    let (state, purpose) = (Arc::clone(&state), purpose.clone());
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (state, purpose) = (Arc::clone(&state), purpose.clone());
                        async move {
                            Ok::<_, Infallible>(match purpose {
                                Purpose::Metrics => answer(&state, &request),
                                Purpose::Admin(token) => {
                                    admin::answer(&state, &token, &request).await
                                }
                            })
                        }
                    });
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD_MAX)
                        // Who says "no more requests" behind the last one still wants its answer.
                        .half_close(true)
                        .serve_connection(TokioIo::new(stream), service);
                    connections.spawn(tokio::time::timeout(CONNECTION_MAX, connection));
                }
                Err(error) => {
                    warn!("cannot accept a connection of the operator: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

fn answer(state: &State, request: &Request<Incoming>) -> Reply {
    if let Some(refusal) = unless_reading(request.method()) {
        return refusal;
    }
    match request.uri().path() {
        "/metrics" => reply(
            StatusCode::OK,
            metrics::CONTENT_TYPE,
            metrics::text(&Figures::of(state)),
        ),
        "/stats" => reply(
            StatusCode::OK,
            "application/json",
            stats::json(&Figures::of(state)),
        ),
        "/health" => text(StatusCode::OK, "ok\n"),
        _ => text(StatusCode::NOT_FOUND, "nothing here; see /metrics\n"),
    }
}
