//! Accepting connections: handshakes of strangers, routed to torrents by info hash.
//!
//! **Invariant:** accepting never waits for a peer. The connections without a finished handshake are bounded, and when
//! they are too many the oldest gives way: silent strangers cannot keep an honest one out, who needs one round trip.

use crate::handshake::{self, GreetError};
use crate::session::Shared;
use core::time::Duration;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// Connections that were accepted and have no handshake yet, for each listening socket.
const HALF_OPEN_MAX: usize = 256;

/// How long to wait after the system had no descriptor or memory for another connection, so as not to spin.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(200);

/// Accepts until the session ends.
pub(crate) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut greeting = JoinSet::new();
    let mut half_open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = greeting.join_next() => continue,
        };
        match accepted {
            Ok((stream, addr)) => {
                make_room(&mut half_open);
                half_open.push_back(greeting.spawn(greet(stream, addr, Arc::clone(&shared))));
            }
            // Of the peer's making: it was gone before we looked.
            Err(error) if is_peers_fault(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; waiting");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

fn make_room(half_open: &mut VecDeque<AbortHandle>) {
    if half_open.len() < HALF_OPEN_MAX {
        return;
    }
    half_open.retain(|task| !task.is_finished());
    if half_open.len() >= HALF_OPEN_MAX
        && let Some(oldest) = half_open.pop_front()
    {
        oldest.abort();
    }
}

fn is_peers_fault(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}

async fn greet(stream: TcpStream, addr: SocketAddr, shared: Arc<Shared>) {
    let addr = bt_core::addr::canonical(addr);
    let ours = |info_hash| {
        let registered = shared.registered(info_hash)?;
        let ours = handshake::ours(info_hash, registered.peer_id, registered.dht);
        Some((ours, registered.inbox))
    };
    match handshake::answer(stream, addr, ours).await {
        Ok((greeted, inbox)) => inbox.accept(greeted),
        Err(GreetError::Io(_)) => {}
        Err(error) => tracing::debug!(%addr, %error, "no handshake"),
    }
}
