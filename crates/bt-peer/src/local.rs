//! Local discovery (BEP 14), for all torrents of a program: when to say what we share, and whom to believe.
//!
//! A torrent is announced when it starts, once more soon after, since datagrams get lost, and then every five minutes.
//! Torrents that are due at about the same time share a datagram. **Invariant:** over any span there is at most one
//! datagram a minute, and [`BURST`] more. What is heard only names the address that it came from, of torrents of ours,
//! and little of it: see [`ADDRESSES_HEARD_MAX`] and [`PORTS_HEARD_MAX`]. Private torrents (BEP 27) are not to enter.

use bt_core::addr::{canonical, is_dialable};
use bt_core::{InfoHash, Rng, Time};
use bt_wire::LocalAnnounce;
use bt_wire::lsd::INFO_HASHES_SENT;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// From one announce of a torrent to the next (BEP 14, "usage").
pub const ANNOUNCE_EVERY: Duration = Duration::from_secs(5 * 60);
/// From the first announce to the second.
pub const REPEAT_AFTER: Duration = Duration::from_secs(10);
/// What is due so soon goes along.
pub const TOGETHER: Duration = Duration::from_secs(5);
/// From one datagram to the next, in the long run (BEP 14: "no more than 1 announce per minute").
pub const DATAGRAM_EVERY: Duration = Duration::from_secs(60);
/// How many datagrams may be sent at once that were saved up: so that torrents that a user starts one after another do
/// not wait for minutes. BEP 14 has none; libtorrent and Transmission send one for each torrent that starts.
pub const BURST: u32 = 5;

/// How often an address is believed about one torrent: twice as often as anybody has to say it.
pub const HEARD_EVERY: Duration = Duration::from_secs(30);
/// Addresses that are believed about one torrent within [`HEARD_EVERY`]: a large office, and as many as peer exchange
/// (BEP 11) may name in a message.
pub const ADDRESSES_HEARD_MAX: usize = 50;
/// Ports of one address that are believed about one torrent within [`HEARD_EVERY`]: clients on one host, not a scan.
pub const PORTS_HEARD_MAX: usize = 3;
/// Datagrams that are looked at within a second; more are a flood. A thousand clients that start together come to it.
pub const DATAGRAMS_PER_S_MAX: u32 = 1_000;

/// What a program says on the local network, and has heard there. See the module's documentation.
#[derive(Clone, Debug)]
pub struct LocalDiscovery {
    port: u16,
    cookie: String,
    torrents: BTreeMap<InfoHash, Member>,
    /// Every torrent by when it is due.
    queue: BTreeSet<(Time, InfoHash)>,
    /// Datagrams that may be sent now, and when there will be one more.
    credit: u32,
    credit_at: Time,
    /// The second in which datagrams are counted, and how many came.
    second: Time,
    datagrams: u32,
}

#[derive(Clone, Debug)]
struct Member {
    due: Time,
    is_new: bool,
    /// Who was heard lately, and when.
    heard: BTreeMap<SocketAddr, Time>,
}

impl LocalDiscovery {
    /// A program that takes connections on `port`.
    #[must_use]
    pub fn new(port: u16, seed: u64) -> Self {
        Self {
            port,
            cookie: format!("{:016x}", Rng::new(seed).next_u64()),
            torrents: BTreeMap::new(),
            queue: BTreeSet::new(),
            credit: BURST,
            credit_at: Time::ZERO,
            second: Time::ZERO,
            datagrams: 0,
        }
    }

    /// A torrent starts: it is due at once.
    pub fn enter(&mut self, now: Time, info_hash: InfoHash) {
        self.leave(info_hash);
        let member = Member {
            due: now,
            is_new: true,
            heard: BTreeMap::new(),
        };
        self.queue.insert((now, info_hash));
        self.torrents.insert(info_hash, member);
    }

    /// A torrent stops.
    pub fn leave(&mut self, info_hash: InfoHash) {
        if let Some(member) = self.torrents.remove(&info_hash) {
            self.queue.remove(&(member.due, info_hash));
        }
    }

    /// When [`announce`](Self::announce) has something to say.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let (due, _) = *self.queue.first()?;
        Some(if self.credit == 0 {
            due.max(self.credit_at)
        } else {
            due
        })
    }

    /// What is to be said now, if anything.
    pub fn announce(&mut self, now: Time) -> Option<LocalAnnounce> {
        self.refill(now);
        let is_due = self.queue.first().is_some_and(|(due, _)| *due <= now);
        if !is_due || self.credit == 0 {
            return None;
        }
        if self.credit == BURST {
            self.credit_at = now + DATAGRAM_EVERY;
        }
        self.credit -= 1;
        let until = now + TOGETHER;
        let due = self.queue.iter().take_while(|(due, _)| *due <= until);
        let due = due.map(|(_, info_hash)| *info_hash);
        let info_hashes: Vec<InfoHash> = due.take(INFO_HASHES_SENT).collect();
        for info_hash in &info_hashes {
            self.said(now, *info_hash);
        }
        Some(LocalAnnounce {
            port: self.port,
            info_hashes,
            cookie: self.cookie.clone(),
        })
    }

    /// A datagram came. Whom it makes us know, and of which torrents.
    pub fn heard(
        &mut self,
        now: Time,
        from: IpAddr,
        datagram: &[u8],
    ) -> Vec<(InfoHash, SocketAddr)> {
        if self.is_flood(now) {
            return Vec::new();
        }
        let Ok(said) = LocalAnnounce::decode(datagram) else {
            return Vec::new();
        };
        let addr = canonical(SocketAddr::new(from, said.port));
        if said.cookie == self.cookie || !is_dialable(addr) || is_link_local(addr.ip()) {
            return Vec::new();
        }
        let mut info_hashes = said.info_hashes;
        info_hashes.retain(|info_hash| {
            let member = self.torrents.get_mut(info_hash);
            member.is_some_and(|member| member.hears(now, addr))
        });
        let found = info_hashes.into_iter();
        found.map(|info_hash| (info_hash, addr)).collect()
    }

    fn said(&mut self, now: Time, info_hash: InfoHash) {
        if let Some(member) = self.torrents.get_mut(&info_hash) {
            self.queue.remove(&(member.due, info_hash));
            let after = if member.is_new {
                REPEAT_AFTER
            } else {
                ANNOUNCE_EVERY
            };
            (member.is_new, member.due) = (false, now + after);
            self.queue.insert((member.due, info_hash));
        }
    }

    fn refill(&mut self, now: Time) {
        while self.credit < BURST && self.credit_at <= now {
            self.credit += 1;
            self.credit_at += DATAGRAM_EVERY;
        }
    }

    fn is_flood(&mut self, now: Time) -> bool {
        if now - self.second >= Duration::from_secs(1) {
            (self.second, self.datagrams) = (now, 0);
        }
        self.datagrams = self.datagrams.saturating_add(1);
        self.datagrams > DATAGRAMS_PER_S_MAX
    }
}

impl Member {
    /// True if this is somebody to know.
    fn hears(&mut self, now: Time, addr: SocketAddr) -> bool {
        self.heard.retain(|_, at| now - *at < HEARD_EVERY);
        let ip = addr.ip();
        let ports = SocketAddr::new(ip, 0)..=SocketAddr::new(ip, u16::MAX);
        let is_news = !self.heard.contains_key(&addr)
            && self.heard.len() < ADDRESSES_HEARD_MAX
            && self.heard.range(ports).count() < PORTS_HEARD_MAX;
        if is_news {
            self.heard.insert(addr, now);
        }
        is_news
    }
}

/// Such an IPv6 address means nothing without an interface, which addresses of peers do not carry.
fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests;
