//! The addresses a torrent knows: whom to dial next, whom later, whom never.
//!
//! An address waits longer after each failure, and with jitter, so that a swarm that lost a member does not call it in
//! step. Few ports of one address are taken, so that nobody can use a swarm to scan a host or to flood it with calls.
//!
//! **Invariant:** each known address waits, is busy (dialled or connected), or is our own; `waiting` holds the first
//! kind by the moment from which it may be dialled.
//!
//! ```
//! use bt_core::{Rng, Time};
//! use bt_peer::peers::{PeerList, Source};
//!
//! let (mut list, mut rng) = (PeerList::new(), Rng::new(1));
//! let addr = "192.0.2.1:6881".parse().expect("an address");
//! list.add(addr, Source::Tracker, &mut rng);
//! assert_eq!(list.next_candidate(Time::ZERO), Some(addr));
//! list.failed(Time::ZERO, addr, &mut rng);
//! assert_eq!(list.next_candidate(Time::ZERO), None);
//! assert!(list.ready_at() > Some(Time::ZERO));
//! ```

use crate::priority::priority;
use bt_core::addr::{canonical, is_dialable};
use bt_core::{Rng, Time};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// How many addresses are kept: enough for hours of a large swarm, and 1 MiB at most.
pub const ADDRESSES_MAX: usize = 3_000;

/// How many ports of one address are kept, unless it is loopback or the user named it. Several peers may live behind
/// one router, but a list with a hundred ports of one host is an attack on that host.
pub const PORTS_PER_ADDRESS_MAX: usize = 3;

/// How long an address waits after its first failure, or after a connection that was of use.
pub const BACK_OFF_MIN: Duration = Duration::from_secs(10);

/// The longest wait: it doubles with each failure up to this.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(3_600);

/// How many bans are kept. Beyond, the one that ends first ends now.
pub const BANS_MAX: usize = 4_096;

/// How long a ban lasts. Addresses change hands, so none is for ever.
pub const BAN_TIME: Duration = Duration::from_secs(3_600);

/// Who named an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The user.
    User,
    /// A tracker.
    Tracker,
    /// It dialled us, and named the port on which it listens.
    Incoming,
    /// Another peer, or the DHT.
    Gossip,
}

/// The known addresses of one torrent, bounded in number, and the bans.
#[derive(Debug, Default)]
pub struct PeerList {
    known: BTreeMap<SocketAddr, Entry>,
    waiting: BTreeSet<Turn>,
    /// Ends of bans by network, see [`network`].
    bans: BTreeMap<IpAddr, Time>,
    /// Where others see us, by IPv4 and by IPv6.
    own: [Option<Box<SocketAddr>>; 2],
    ban_ends: BTreeSet<(Time, IpAddr)>,
}

/// When an address may be dialled, and its rank among equals: by BEP 40 where that can be known, else a random number.
type Turn = (Time, u64, SocketAddr);

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Failures in a row.
    failures: u32,
    /// It had all that it wanted, and so had we.
    redundant: bool,
    standing: Standing,
}

#[derive(Clone, Copy, Debug)]
enum Standing {
    Waiting(Turn),
    Busy,
    Ourselves,
}

impl PeerList {
    /// Knows nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an address; true if it was not known and may be dialled some time.
    ///
    /// Never-tried addresses come before all that failed; among themselves those of higher [`priority`] come first, or
    /// in random order as long as it is not known where others see us.
    pub fn add(&mut self, addr: SocketAddr, source: Source, rng: &mut Rng) -> bool {
        let addr = canonical(addr);
        if !is_dialable(addr) || self.known.contains_key(&addr) {
            return false;
        }
        let Some((failures, from)) = self.make_room(addr, source) else {
            return false;
        };
        let turn = (from, self.rank(addr, rng), addr);
        self.waiting.insert(turn);
        let entry = Entry {
            failures,
            redundant: false,
            standing: Standing::Waiting(turn),
        };
        self.known.insert(addr, entry);
        true
    }

    /// The next address to dial at `now`, if one is ready; it counts as being dialled from here on.
    pub fn next_candidate(&mut self, now: Time) -> Option<SocketAddr> {
        loop {
            let turn = *self.waiting.first().filter(|(from, _, _)| *from <= now)?;
            self.waiting.remove(&turn);
            let (_, tie, addr) = turn;
            let free_at = self.banned_until(now, addr.ip());
            let entry = self.known.get_mut(&addr)?;
            match free_at {
                None => {
                    entry.standing = Standing::Busy;
                    return Some(addr);
                }
                Some(end) => {
                    let turn = (end, tie, addr);
                    self.waiting.insert(turn);
                    entry.standing = Standing::Waiting(turn);
                }
            }
        }
    }

    /// When [`next_candidate`](Self::next_candidate) may have one; maybe a moment already past.
    #[must_use]
    pub fn ready_at(&self) -> Option<Time> {
        self.waiting.first().map(|(from, _, _)| *from)
    }

    /// The dial came to nothing: the address waits, longer each time.
    pub fn failed(&mut self, now: Time, addr: SocketAddr, rng: &mut Rng) {
        self.wait(now, addr, rng, |failures| failures.saturating_add(1));
    }

    /// The connection is over, since both sides have what they want: the address waits for [`BACK_OFF_MAX`], give or take a
    /// quarter, or until [`recall_redundant`](Self::recall_redundant).
    pub fn redundant(&mut self, now: Time, addr: SocketAddr, rng: &mut Rng) {
        self.wait_for(now, addr, rng, 0, BACK_OFF_MAX);
        if let Some(entry) = self.known.get_mut(&canonical(addr)) {
            entry.redundant = true;
        }
    }

    /// Something is missing here: who was [`redundant`](Self::redundant) may be dialled at once.
    pub fn recall_redundant(&mut self, now: Time, rng: &mut Rng) {
        let redundant = self.known.iter().filter(|(_, entry)| entry.redundant);
        for addr in redundant.map(|(addr, _)| *addr).collect::<Vec<_>>() {
            let turn = (now, self.rank(addr, rng), addr);
            let entry = self.known.get_mut(&addr);
            if let Some(entry) =
                entry.filter(|entry| matches!(entry.standing, Standing::Waiting(_)))
            {
                entry.redundant = false;
                self.set_standing(addr, Standing::Waiting(turn));
            }
        }
    }

    /// There is a connection with the peer that listens at this address.
    pub fn connected(&mut self, addr: SocketAddr) {
        self.set_standing(canonical(addr), Standing::Busy);
    }

    /// The connection is over. `useful` forgets earlier failures; otherwise it counts as one more.
    pub fn closed(&mut self, now: Time, addr: SocketAddr, useful: bool, rng: &mut Rng) {
        let count = |failures: u32| {
            if useful {
                0
            } else {
                failures.saturating_add(1)
            }
        };
        self.wait(now, addr, rng, count);
    }

    /// The address turned out to be our own: never dial it.
    pub fn mark_self(&mut self, addr: SocketAddr) {
        self.set_standing(canonical(addr), Standing::Ourselves);
    }

    /// Neither dial nor take connections from this address for [`BAN_TIME`]. An IPv6 address stands for its /64.
    pub fn ban(&mut self, now: Time, ip: IpAddr) {
        self.unban(ip);
        if self.bans.len() >= BANS_MAX
            && let Some((_, first)) = self.ban_ends.pop_first()
        {
            self.bans.remove(&first);
        }
        let end = now + BAN_TIME;
        self.bans.insert(network(ip), end);
        self.ban_ends.insert((end, network(ip)));
    }

    /// Ends a ban; true if there was one.
    pub fn unban(&mut self, ip: IpAddr) -> bool {
        let network = network(ip);
        let end = self.bans.remove(&network);
        end.is_some_and(|end| self.ban_ends.remove(&(end, network)))
    }

    /// True if the address is banned at `now`.
    #[must_use]
    pub fn is_banned(&self, now: Time, ip: IpAddr) -> bool {
        self.banned_until(now, ip).is_some()
    }

    /// The networks that are banned at `now`, and until when.
    pub fn bans(&self, now: Time) -> impl Iterator<Item = (IpAddr, Time)> + '_ {
        let bans = self.bans.iter().map(|(network, end)| (*network, *end));
        bans.filter(move |(_, end)| *end > now)
    }

    /// Others see us here. Who waits is ranked anew.
    pub fn set_own(&mut self, own: SocketAddr, rng: &mut Rng) {
        let own = canonical(own);
        let [v4, v6] = &mut self.own;
        let place = if own.is_ipv4() { v4 } else { v6 };
        if place.replace(Box::new(own)).as_deref() == Some(&own) {
            return;
        }
        for (from, _, addr) in core::mem::take(&mut self.waiting) {
            let turn = (from, self.rank(addr, rng), addr);
            self.set_standing(addr, Standing::Waiting(turn));
        }
    }

    /// How much we should be connected to the peer at this address, if that can be known (BEP 40).
    #[must_use]
    pub fn priority(&self, addr: SocketAddr) -> Option<u32> {
        let [v4, v6] = &self.own;
        let own = if canonical(addr).is_ipv4() { v4 } else { v6 };
        priority(**own.as_ref()?, addr)
    }

    /// Lower comes first. The rest is a lot, so that nobody can foresee it all.
    fn rank(&self, addr: SocketAddr, rng: &mut Rng) -> u64 {
        let lot = rng.next_u64();
        self.priority(addr)
            .map_or(lot, |priority| u64::from(!priority) << 32 | lot >> 32)
    }

    /// How many addresses are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// True if no address is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Room for one address more: the failures it starts with, and from when it may be dialled. `None` for no room.
    fn make_room(&mut self, addr: SocketAddr, source: Source) -> Option<(u32, Time)> {
        let ip = addr.ip();
        let ports = SocketAddr::new(ip, 0)..=SocketAddr::new(ip, u16::MAX);
        let crowded = self.known.range(ports.clone()).count() >= PORTS_PER_ADDRESS_MAX;
        if crowded && !ip.is_loopback() && source != Source::User {
            // A peer that restarts may have a new port each time. It inherits the wait of the port that fails most, so
            // that inventing ports buys nobody a call.
            let waiting = self.known.range(ports).filter_map(|(_, entry)| {
                let Standing::Waiting(turn) = entry.standing else {
                    return None;
                };
                (entry.failures > 0).then_some((entry.failures, turn))
            });
            let (failures, turn) = waiting.max()?;
            self.forget(turn);
            return Some((failures, turn.0));
        }
        if self.known.len() >= ADDRESSES_MAX {
            let last = *self.waiting.last()?;
            if last.0 == Time::ZERO && source != Source::User {
                return None;
            }
            self.forget(last);
        }
        Some((0, Time::ZERO))
    }

    fn forget(&mut self, turn: Turn) {
        self.waiting.remove(&turn);
        self.known.remove(&turn.2);
    }

    fn wait(&mut self, now: Time, addr: SocketAddr, rng: &mut Rng, count: impl FnOnce(u32) -> u32) {
        let failures = self.known.get(&canonical(addr)).map(|entry| entry.failures);
        let failures = count(failures.unwrap_or(0));
        let doublings = failures.saturating_sub(1).min(16);
        let span = BACK_OFF_MIN.saturating_mul(1 << doublings);
        self.wait_for(now, addr, rng, failures, span.min(BACK_OFF_MAX));
    }

    /// The address waits so long, give or take a quarter.
    fn wait_for(
        &mut self,
        now: Time,
        addr: SocketAddr,
        rng: &mut Rng,
        failures: u32,
        span: Duration,
    ) {
        let addr = canonical(addr);
        let Some(entry) = self.known.get_mut(&addr) else {
            return;
        };
        if matches!(entry.standing, Standing::Ourselves) {
            return;
        }
        (entry.failures, entry.redundant) = (failures, false);
        let percent = 75 + u32::try_from(rng.below(51)).unwrap_or(0);
        let from = now + span * percent / 100;
        let turn = (from, self.rank(addr, rng), addr);
        self.set_standing(addr, Standing::Waiting(turn));
    }

    fn set_standing(&mut self, addr: SocketAddr, standing: Standing) {
        let Some(entry) = self.known.get_mut(&addr) else {
            return;
        };
        if let Standing::Waiting(turn) = entry.standing {
            self.waiting.remove(&turn);
        }
        if let Standing::Waiting(turn) = standing {
            self.waiting.insert(turn);
        }
        entry.standing = standing;
    }

    fn banned_until(&self, now: Time, ip: IpAddr) -> Option<Time> {
        self.bans
            .get(&network(ip))
            .copied()
            .filter(|end| *end > now)
    }
}

/// What a ban covers, and what gets one place by its rank: an IPv4 address, or the /64 that one IPv6 customer has at least.
pub(crate) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests;
