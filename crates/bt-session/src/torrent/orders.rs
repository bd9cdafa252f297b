//! What the engine orders, carried out: each order is handed over, and what comes of it is another fact.

use super::{Ends, Fact, Torrent};
use crate::announce;
use crate::conn::Order;
use crate::handle::{Failure, TorrentEvent};
use crate::hands::Hands;
use crate::handshake::{self, GreetError};
use crate::metadata;
use crate::state::Keeper;
use bt_core::disk::Done;
use bt_peer::{CloseReason, Command, ConnId, Event, Input, Output};
use bt_tracker::announce::{AnnounceFailure, AnnounceResponse};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc::error::TrySendError;

impl Torrent {
    pub(super) fn carry_out(&mut self, output: Output, done: &mut Vec<Done>, ends: &Ends) {
        match output {
            Output::Send { conn, message } => self.order(conn, Order::Send(message)),
            Output::Upload { conn, block } => self.order(conn, Order::Upload(block)),
            Output::Disk(job) => self.hands().jobs.submit(job, done),
            Output::Metadata(info_bytes) => self.describe(info_bytes, ends),
            Output::Dial { conn, addr } => self.dial(conn, addr),
            Output::SeenAt { by, ip } => {
                self.shared.external.vote(by, ip);
                // The engine ranks its peers by what most agree on.
                let agreed = self.shared.external.ip(ip.to_canonical().is_ipv6());
                self.inputs.extend(agreed.map(Input::ExternalIp));
            }
            Output::Close { conn, reason } => {
                tracing::debug!(info_hash = %self.info_hash, ?conn, ?reason, "closing");
                self.conns.remove(&conn);
                if let Some(dial) = self.dials.remove(&conn) {
                    dial.abort();
                }
            }
            Output::Announce { id, url, request } => {
                let shared = Arc::clone(&self.shared);
                let asking = async move {
                    let result = announce::announce(
                        &shared.http,
                        &shared.udp,
                        &shared.announce_turns,
                        &shared.external,
                        &shared.host_preferences,
                        &url,
                        &request,
                    )
                    .await;
                    Some(Fact::Announced { id, result })
                };
                let result = Err(AnnounceFailure::Unreachable {
                    message: "internal error".to_owned(),
                    retry_in: None,
                });
                let failure = Some(Fact::Announced { id, result });
                self.errands.spawn_on(&self.shared.runtime, asking, failure);
            }
            Output::Emit(event) => self.emit(event, ends),
        }
    }

    /// Makes a torrent of what peers gave.
    fn describe(&mut self, info_bytes: Bytes, ends: &Ends) {
        let Some(unopened) = self.unopened.take() else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        let (status, events) = (ends.status.clone(), ends.events.clone());
        let describing = async move {
            let described =
                metadata::describe(&shared, *unopened, &info_bytes, &status, &events).await;
            Some(Fact::Described(described.map(Box::new)))
        };
        let message = "internal error".to_owned();
        let failure = Fact::Described(Err(Failure::Bug { message }));
        self.errands.spawn(describing, Some(failure));
    }

    pub(super) fn hands(&mut self) -> &mut Hands {
        let (disk, errands) = (&self.disk, &mut self.errands);
        self.hands
            .get_or_insert_with(|| Box::new(Hands::new(disk, errands)))
    }

    pub(super) fn order(&mut self, conn: ConnId, order: Order) {
        let Some(entry) = self.conns.get(&conn) else {
            return;
        };
        match entry.orders.try_send(order) {
            // Closed: its task ended, and its last fact, which says why, is on the way.
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            // The peer does not read.
            Err(TrySendError::Full(_)) => {
                self.conns.remove(&conn);
                let reason = CloseReason::Idle;
                self.inputs.push_back(Input::Closed { conn, reason });
            }
        }
    }

    fn dial(&mut self, conn: ConnId, addr: SocketAddr) {
        let shared = Arc::clone(&self.shared);
        let ours = handshake::ours(self.info_hash, self.peer_id, self.dht.is_some());
        let dialling = async move {
            // The semaphore is never closed.
            let _permit = shared.dial_permits.acquire().await;
            match handshake::dial(addr, shared.config.bind, ours).await {
                Ok(greeted) => Some(Fact::Dialled { conn, greeted }),
                Err(error) => {
                    if !matches!(error, GreetError::Io(_)) {
                        tracing::debug!(%addr, %error, "no connection");
                    }
                    Some(Fact::DialFailed { conn })
                }
            }
        };
        let failure = Fact::DialFailed { conn };
        let task = self.errands.spawn(dialling, Some(failure));
        self.dials.insert(conn, task);
    }

    /// Looks up the peers that a tracker named by host name.
    pub(super) fn resolve(&mut self, result: &Result<AnnounceResponse, AnnounceFailure>) {
        let Ok(response) = result else { return };
        if response.named_peers.is_empty() {
            return;
        }
        let resolving = announce::resolve(self.shared.http.names(), response.named_peers.clone());
        let resolving = async { Some(Fact::PeersFound(resolving.await)) };
        self.errands.spawn(resolving, None);
    }

    fn emit(&mut self, event: Event, ends: &Ends) {
        match &event {
            Event::Stopped => self.stopped = true,
            Event::PieceDone { .. } => self.keeper.iter_mut().for_each(Keeper::touch),
            Event::Complete => {
                self.keeper.iter_mut().for_each(Keeper::hurry);
                // Who hears of it finds numbers that fit.
                let status = self.status();
                ends.status.update(|shown| *shown = status);
            }
            // It takes leave of its swarm first.
            Event::DiskBroken(error) => {
                self.broken = Some(error.clone());
                self.command(Command::Stop);
            }
            Event::Tracker { .. }
            | Event::Banned { .. }
            | Event::PeerGone { .. }
            | Event::HashFailure { .. }
            | Event::DiskTrouble(_)
            | Event::DiskRecovered
            | Event::UploadGoalReached
            | Event::UploadFailed { .. } => {}
        }
        // Nobody may be listening.
        let _ = ends.events.send(TorrentEvent::Engine(event));
    }
}
