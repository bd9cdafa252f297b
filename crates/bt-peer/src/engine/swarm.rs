//! Connections come and go: dialling, admitting, closing, banning, and the look at each once a second.
//!
//! BEP 3 ("peer protocol", keep-alives). **Invariant:** no two connections with one peer id, none with ourselves, none
//! with a banned peer, never more than `peers_max`.

use super::upload::is_swamped;
use super::{ConnId, Direction, Engine, Output, Phase, send};
use crate::connection::Connection;
use crate::limits::{
    BANNED_IDS_MAX, DIALS_MAX, DUPLICATE_RACE, EVICT_GRACE, KEEP_ALIVE, OUTRANK_EVERY, PEERS_LOW,
    SILENCE_MAX, SILENCE_OWING_MAX, TICK,
};
use crate::peers::{Source, network};
use crate::{Account, CloseReason, Event};
use bt_core::{Bitfield, PeerId, Time};
use bt_tracker::client;
use bt_wire::client::client_name;
use bt_wire::{Message, Reserved};
use bytes::Bytes;
use std::net::SocketAddr;

impl Engine {
    pub(super) fn peers_found(&mut self, now: Time, addrs: Vec<SocketAddr>, source: Source) {
        for addr in addrs {
            self.peers.add(addr, source, &mut self.rng);
        }
        self.dial(now);
    }

    pub(super) fn opened(
        &mut self,
        now: Time,
        id: ConnId,
        addr: SocketAddr,
        direction: Direction,
        peer_id: PeerId,
        reserved: Reserved,
    ) {
        self.dials.remove(&id);
        let inherited = match self.admit(now, addr, direction, peer_id) {
            Ok(inherited) => inherited,
            Err(reason) => {
                if direction == Direction::Outgoing {
                    self.peers.failed(now, addr, &mut self.rng);
                    if peer_id == self.config.peer_id {
                        self.peers.mark_self(addr);
                    }
                }
                self.adopt_address(addr, direction, peer_id);
                self.out.push_back(Output::Close { conn: id, reason });
                return;
            }
        };
        let fast = reserved.has_fast() && super::RESERVED.has_fast();
        let pieces_count = self.layout.pieces_count();
        let mut conn = Connection::new(now, id, addr, direction, peer_id, fast, pieces_count);
        conn.requests.fit_pieces(&self.layout);
        conn.listen_addr = conn.listen_addr.or(inherited);
        if let Some(addr) = conn.listen_addr {
            self.peers.connected(addr);
        }
        self.conns.insert(id, Box::new(conn));
        self.introduce(now, id);
        self.greet(now, id, reserved);
        self.dial(now);
    }

    /// The first message: what we have (BEP 3 "bitfield"; BEP 6 "have all/have none").
    fn introduce(&mut self, now: Time, id: ConnId) {
        let have = if self.is_super_seeding() {
            Bitfield::new(self.layout.pieces_count())
        } else {
            self.disk.trusted(self.picker.have())
        };
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let message = match (conn.fast, have.is_empty(), have.is_full()) {
            (true, true, _) => Message::HaveNone,
            (true, _, true) => Message::HaveAll,
            (false, true, _) => return,
            (_, false, _) => Message::Bitfield(Bytes::from(have.to_bytes())),
        };
        conn.told = have;
        send(&mut self.out, now, conn, message);
    }

    /// We dialled a peer that had dialled us: so that is where it listens.
    fn adopt_address(&mut self, addr: SocketAddr, direction: Direction, peer_id: PeerId) {
        let known = self.conns.values_mut().find(|conn| conn.peer_id == peer_id);
        if let Some(known) = known
            && direction == Direction::Outgoing
            && known.listen_addr.is_none()
        {
            known.listen_addr = Some(addr);
            self.peers.connected(addr);
        }
    }

    /// Whether the connection may stay; if it replaces another one, with the address at which its peer listens.
    fn admit(
        &mut self,
        now: Time,
        addr: SocketAddr,
        direction: Direction,
        peer_id: PeerId,
    ) -> Result<Option<SocketAddr>, CloseReason> {
        if !self.is_running() {
            return Err(CloseReason::Stopping);
        }
        if peer_id == self.config.peer_id {
            return Err(CloseReason::Duplicate);
        }
        if self.peers.is_banned(now, addr.ip()) || self.banned_ids.contains(&peer_id) {
            return Err(CloseReason::BadData);
        }
        let mut inherited = None;
        if let Some(known) = self.conns.values_mut().find(|conn| conn.peer_id == peer_id) {
            if !replaces(self.config.peer_id, now, known, direction) {
                return Err(CloseReason::Duplicate);
            }
            inherited = known.listen_addr.take();
            let id = known.id;
            self.close(now, id, CloseReason::Duplicate);
        }
        if self.conns.len() >= self.config.peers_max && !self.evict(now) && !self.outrank(now, addr)
        {
            return Err(CloseReason::Full);
        }
        Ok(inherited)
    }

    /// Fewer connections may be too many: the idle ones go first, then those that exchanged least.
    pub(super) fn set_peers_max(&mut self, now: Time, peers_max: usize) {
        self.config.peers_max = peers_max;
        while self.conns.len() > peers_max {
            let worst = self.conns.values().min_by_key(|conn| {
                (
                    !conn.is_idle(),
                    conn.down.total() + conn.up.total(),
                    conn.id,
                )
            });
            let Some(id) = worst.map(|conn| conn.id) else {
                return;
            };
            self.close(now, id, CloseReason::Full);
        }
    }

    /// Closes the idlest connection for a new one, if there is one that neither side has any use for.
    fn evict(&mut self, now: Time) -> bool {
        let idlest = self
            .conns
            .values()
            .filter(|conn| conn.is_idle())
            .min_by_key(|conn| {
                let is_fresh = now - conn.opened_at < EVICT_GRACE;
                let moved = conn.down.total() + conn.up.total();
                (is_fresh, moved, conn.opened_at, conn.id)
            });
        let Some(id) = idlest.map(|conn| conn.id) else {
            return false;
        };
        self.close(now, id, CloseReason::Full);
        true
    }

    /// Closes the connection of the lowest priority for a new one of a higher (BEP 40), if there is one. Both ends agree
    /// on which one that is, so who is turned away here is welcome elsewhere. One whose priority cannot be known stays.
    /// Who has a place already gets no second one by its rank: many connections of one address would drive out all others.
    fn outrank(&mut self, now: Time, addr: SocketAddr) -> bool {
        if self.outranked_at.is_some_and(|at| now - at < OUTRANK_EVERY) {
            return false;
        }
        let from = network(addr.ip());
        if self
            .conns
            .values()
            .any(|conn| network(conn.addr.ip()) == from)
        {
            return false;
        }
        let ranked = self.conns.values().filter_map(|conn| {
            let priority = self.peers.priority(conn.listen_addr.unwrap_or(conn.addr))?;
            Some((priority, conn.id))
        });
        let new = self.peers.priority(addr);
        let Some((_, id)) = ranked.min().filter(|(lowest, _)| Some(*lowest) < new) else {
            return false;
        };
        self.outranked_at = Some(now);
        self.close(now, id, CloseReason::Full);
        true
    }

    pub(super) fn dial_failed(&mut self, now: Time, id: ConnId) {
        if let Some(addr) = self.dials.remove(&id) {
            self.peers.failed(now, addr, &mut self.rng);
            self.dial(now);
        }
    }

    /// Dials as many known addresses as there is room for.
    pub(super) fn dial(&mut self, now: Time) {
        while self.is_running() && self.dials.len() < DIALS_MAX {
            // A few places stay free for peers that cannot be dialled themselves.
            let places = self.config.peers_max - self.config.peers_max / 8;
            if self.conns.len() + self.dials.len() >= places {
                return;
            }
            if self.complete && self.idle_dials == 0 {
                return;
            }
            let Some(addr) = self.peers.next_candidate(now) else {
                return;
            };
            if self.complete {
                self.idle_dials -= 1;
            }
            let conn = ConnId(self.next_conn);
            self.next_conn += 2;
            self.dials.insert(conn, addr);
            self.out.push_back(Output::Dial { conn, addr });
        }
    }

    pub(super) fn closed(&mut self, now: Time, id: ConnId, reason: &CloseReason) {
        self.dial_failed(now, id);
        let useful = !matches!(reason, CloseReason::Violation(_));
        self.forget(now, id, useful, reason);
        self.dial(now);
    }

    /// Orders a connection to be closed, and forgets it.
    pub(super) fn close(&mut self, now: Time, id: ConnId, reason: CloseReason) {
        if !self.conns.contains_key(&id) {
            return;
        }
        let useful = match reason {
            CloseReason::Violation(_) | CloseReason::BadData | CloseReason::Idle => false,
            CloseReason::Gone
            | CloseReason::Redundant
            | CloseReason::Duplicate
            | CloseReason::Full
            | CloseReason::Stopping => true,
        };
        let order = Output::Close {
            conn: id,
            reason: reason.clone(),
        };
        self.out.push_back(order);
        self.forget(now, id, useful, &reason);
    }

    fn forget(&mut self, now: Time, id: ConnId, useful: bool, reason: &CloseReason) {
        let Some(conn) = self.conns.remove(&id) else {
            return;
        };
        self.tell_account(&conn, reason);
        self.info.gone(id);
        self.download.lost(conn.requests.len());
        self.picker.release_all(id);
        if conn.begun {
            self.picker.remove_peer(&conn.has);
        }
        if let Some(spread) = &mut self.upload.spread {
            spread.withdraw(conn.suggested.iter().copied());
            let begun = conn.uploads.under_way(now, &self.layout);
            let begun = begun.map(|(piece, _)| piece);
            spread.unsent(conn.uploads.pieces().chain(begun));
            spread.unsent(self.upload.entrusted.gone(conn.id).into_iter());
        } else {
            self.upload.entrusted.gone(conn.id);
        }
        if let Some(addr) = conn.listen_addr {
            if self.complete && conn.begun && conn.is_seeder() {
                self.peers.redundant(now, addr, &mut self.rng);
            } else {
                let useful = useful && conn.down.total() + conn.up.total() > 0;
                self.peers.closed(now, addr, useful, &mut self.rng);
            }
        }
        if !conn.am_choking {
            self.fill_free_slots(now);
        }
    }

    fn tell_account(&mut self, conn: &Connection, reason: &CloseReason) {
        let uploaded = conn.up.total();
        let account = Account {
            uploaded,
            ..conn.account
        };
        if account.is_news() {
            self.emit(Event::PeerGone {
                addr: conn.addr,
                client: client_name(&conn.peer_id),
                account,
                reason: reason.clone(),
            });
        }
    }

    /// Bans whoever sent bad data. An address that others use too (behind one router, or in a test on one machine) is
    /// spared, and only the peer's id remembered.
    pub(super) fn ban(&mut self, now: Time, id: ConnId, addr: SocketAddr) {
        let peer_id = self.conns.get(&id).map(|conn| conn.peer_id);
        if let Some(peer_id) = peer_id {
            if self.banned_ids.len() >= BANNED_IDS_MAX {
                self.banned_ids.pop_first();
            }
            self.banned_ids.insert(peer_id);
        }
        let ip = addr.ip();
        let shared = self
            .conns
            .values()
            .any(|conn| conn.id != id && conn.addr.ip() == ip);
        if !shared && !ip.is_loopback() {
            self.peers.ban(now, ip);
        }
        self.emit(Event::Banned {
            addr,
            reason: CloseReason::BadData,
        });
        self.close(now, id, CloseReason::BadData);
    }

    /// Closes the connection if it is of no use to either side: both have what they want (BEP 21).
    pub(super) fn close_if_redundant(&mut self, now: Time, id: ConnId) {
        let conn = self.conns.get(&id);
        if self.complete && conn.is_some_and(|conn| conn.begun && conn.is_seeder()) {
            self.close(now, id, CloseReason::Redundant);
        }
    }

    pub(super) fn stop(&mut self, now: Time) {
        if !self.is_running() {
            return;
        }
        self.phase = Phase::Stopping {
            until: now + client::STOP_MAX,
            announced: false,
        };
        for (conn, _) in core::mem::take(&mut self.dials) {
            let reason = CloseReason::Stopping;
            self.out.push_back(Output::Close { conn, reason });
        }
        for id in self.conns.keys().copied().collect::<Vec<_>>() {
            self.close(now, id, CloseReason::Stopping);
        }
        self.announce(now, client::Input::Stop);
    }

    /// When to look at everything next. A torrent without peers sleeps until it may dial, or announce.
    pub(super) fn next_tick(&self) -> Option<Time> {
        if self.conns.is_empty() && !self.disk.needs_tick() {
            return self.peers.ready_at().map(|at| at.max(self.tick_at));
        }
        Some(self.tick_at)
    }

    /// The look at everything that has a coarse timer.
    pub(super) fn tick(&mut self, now: Time) {
        self.tick_at = now + TICK;
        for id in self.conns.keys().copied().collect::<Vec<_>>() {
            self.tend(now, id);
        }
        self.tend_shown(now);
        self.tend_entrusted(now);
        self.tend_spread(now);
        self.tend_line();
        self.tend_sparing(now);
        self.disk_tick(now);
        self.tell_peers(now);
        if now >= self.upload.rechoke_at {
            self.rechoke(now);
        }
        self.download.released = true;
        self.idle_dials = (self.idle_dials + 1).min(self.config.peers_max);
        self.dial(now);
        self.need_peers(now);
    }

    /// Wishes for more peers, if there are few of them and something is missing. Trackers are asked when their minimum
    /// interval allows.
    pub(super) fn need_peers(&mut self, now: Time) {
        let few = self.conns.len() + self.dials.len() < PEERS_LOW.min(self.config.peers_max);
        if few && !self.complete && self.is_running() {
            self.announce(now, client::Input::NeedPeers);
        }
    }

    fn tend(&mut self, now: Time, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        if is_swamped(conn) || self.disk.is_congested() {
            // Nothing is read of it meanwhile, so its silence is ours. The shell closes who takes nothing.
            conn.heard_at = now;
            conn.requests.excuse(now);
        }
        let silent = now - conn.heard_at;
        let owing = !conn.requests.is_empty();
        if silent >= SILENCE_MAX || (owing && silent >= SILENCE_OWING_MAX) {
            self.close(now, id, CloseReason::Idle);
            return;
        }
        if now - conn.sent_at >= KEEP_ALIVE {
            send(&mut self.out, now, conn, Message::KeepAlive);
        }
        conn.note_holding_back(now);
        if conn.requests.is_stalled(now) {
            conn.account.over_claim(conn.requests.len());
            conn.requests.snub();
            self.take_back_requests(now, id);
        }
    }
}

/// Two connections with one peer: true if the new one stays. Both ends must come to the same answer.
///
/// When both dial at once, the connection that the smaller id dialled stays. Later the older one stays, since it may be
/// in the middle of things, and both ends know that it is not new.
fn replaces(own: PeerId, now: Time, known: &Connection, direction: Direction) -> bool {
    let race = known.direction != direction && now - known.opened_at < DUPLICATE_RACE;
    let dialled_by_us = direction == Direction::Outgoing;
    race && dialled_by_us == (own < known.peer_id)
}
