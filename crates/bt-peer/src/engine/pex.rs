//! Peer exchange (BEP 11): peers tell each other whom they are connected to.
//!
//! **Invariant:** we tell of peers that we are connected to now, and of nobody else. What is told to us is bounded by
//! message and by time, and is only an address to dial some time. A private torrent (BEP 27) does neither.

use super::{ConnId, Engine, send};
use crate::connection::{Connection, Fault, Violation};
use crate::engine::Direction;
use crate::limits::{PEX_ADDED_MAX, PEX_HEARD_MIN, PEX_INTERVAL};
use crate::peers::Source;
use bt_core::Time;
use bt_wire::pex::{REACHABLE, SEED};
use bt_wire::{Message, PexMessage, PexPeer};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// What one peer was told, and when.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// We gave an id to the extension.
    pub(super) offered: bool,
    told: Addresses,
    told_at: Option<Time>,
    heard_at: Option<Time>,
}

/// A set of addresses in little memory, as each peer of a torrent has one of nearly all others: a tree of `SocketAddr` takes
/// ten times what IPv4 needs.
#[derive(Debug, Default)]
struct Addresses {
    /// Both in order.
    v4: Vec<SocketAddrV4>,
    v6: Vec<SocketAddrV6>,
}

impl Addresses {
    fn contains(&self, addr: SocketAddr) -> bool {
        match addr {
            SocketAddr::V4(addr) => self.v4.binary_search(&addr).is_ok(),
            SocketAddr::V6(addr) => self.v6.binary_search(&addr).is_ok(),
        }
    }

    fn insert(&mut self, addr: SocketAddr) {
        match addr {
            SocketAddr::V4(addr) => insert(&mut self.v4, addr),
            SocketAddr::V6(addr) => insert(&mut self.v6, addr),
        }
    }

    fn remove(&mut self, addr: SocketAddr) {
        match addr {
            SocketAddr::V4(addr) => remove(&mut self.v4, &addr),
            SocketAddr::V6(addr) => remove(&mut self.v6, &addr),
        }
    }

    fn iter(&self) -> impl Iterator<Item = SocketAddr> {
        let v4 = self.v4.iter().copied().map(SocketAddr::V4);
        v4.chain(self.v6.iter().copied().map(SocketAddr::V6))
    }
}

fn insert<T: Ord>(sorted: &mut Vec<T>, item: T) {
    if let Err(place) = sorted.binary_search(&item) {
        sorted.insert(place, item);
    }
}

fn remove<T: Ord>(sorted: &mut Vec<T>, item: &T) {
    if let Ok(place) = sorted.binary_search(item) {
        sorted.remove(place);
    }
}

impl Engine {
    /// False for a private torrent, and where the user does not want it.
    pub(super) const fn may_exchange(&self) -> bool {
        self.config.pex && !self.info.is_private()
    }

    /// Tells each peer what is new to it, once a minute. Before the info dictionary is there nobody can know whether the
    /// torrent is private, so nothing is told.
    pub(super) fn tell_peers(&mut self, now: Time) {
        if !self.may_exchange() || !self.info.is_known() {
            return;
        }
        let connected: BTreeMap<SocketAddr, u8> =
            self.conns.values().filter_map(|conn| entry(conn)).collect();
        for conn in self.conns.values_mut() {
            let due = conn.pex.told_at.is_none_or(|at| now - at >= PEX_INTERVAL);
            let Some(id) = conn.speaks.pex.filter(|_| due) else {
                continue;
            };
            let own = conn.listen_addr;
            let ip = conn.addr.ip();
            let others = connected
                .iter()
                .filter(|(addr, _)| Some(**addr) != own && is_of_use(**addr, ip));
            let new = others.filter(|(addr, _)| !conn.pex.told.contains(**addr));
            let added: Vec<PexPeer> = new
                .take(PEX_ADDED_MAX)
                .map(|(addr, flags)| PexPeer {
                    addr: *addr,
                    flags: *flags,
                })
                .collect();
            let told = conn.pex.told.iter();
            let gone = told.filter(|addr| !connected.contains_key(addr));
            let dropped: Vec<SocketAddr> = gone.take(PEX_ADDED_MAX).collect();
            if added.is_empty() && dropped.is_empty() {
                continue;
            }
            for addr in &dropped {
                conn.pex.told.remove(*addr);
            }
            for peer in &added {
                conn.pex.told.insert(peer.addr);
            }
            conn.pex.told_at = Some(now);
            let payload = PexMessage { added, dropped }.encode().into();
            send(&mut self.out, now, conn, Message::Extended { id, payload });
        }
    }

    /// A peer tells us of others. Too often is a fault, and not looked at (FAULTS 59).
    pub(super) fn peers_told(
        &mut self,
        now: Time,
        id: ConnId,
        payload: &[u8],
    ) -> Result<(), Violation> {
        if !self.may_exchange() {
            return Ok(());
        }
        let Some(conn) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        let too_soon = |at: Time| now - at < PEX_HEARD_MIN;
        if conn.pex.heard_at.is_some_and(too_soon) {
            return conn.fault(Fault::PexFlood);
        }
        conn.pex.heard_at = Some(now);
        let Ok(message) = PexMessage::decode(payload) else {
            return conn.fault(Fault::BadPex);
        };
        let ip = conn.addr.ip();
        let added = message.added.into_iter().take(PEX_ADDED_MAX);
        let addrs = added.map(|peer| peer.addr);
        let addrs = addrs.filter(|addr| is_of_use(*addr, ip)).collect();
        self.peers_found(now, addrs, Source::Gossip);
        Ok(())
    }
}

/// What is on one's own machine is nothing for another: neither to be told, nor to be dialled because it says so.
fn is_of_use(addr: SocketAddr, peer: IpAddr) -> bool {
    !addr.ip().to_canonical().is_loopback() || peer.to_canonical().is_loopback()
}

/// What others are told of this peer: nothing, if it cannot be dialled as far as we know.
fn entry(conn: &Connection) -> Option<(SocketAddr, u8)> {
    let mut flags = 0;
    if conn.is_seeder() {
        flags |= SEED;
    }
    if conn.direction == Direction::Outgoing {
        flags |= REACHABLE;
    }
    Some((conn.listen_addr?, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_a_set_in_order() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let [a, b, c, d] = ["10.0.0.2:1", "10.0.0.1:2", "[fd00::1]:1", "10.0.0.1:1"].map(parse);
        let mut set = Addresses::default();
        for addr in [a, b, c, d, b] {
            set.insert(addr);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [d, b, a, c]);
        set.remove(b);
        set.remove(b);
        assert!(!set.contains(b) && set.contains(c) && set.contains(a));
        set.remove(c);
        assert_eq!(set.iter().collect::<Vec<_>>(), [d, a]);
    }
}
