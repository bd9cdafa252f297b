//! How much a node lets itself be made to do.
//!
//! **Invariant:** answers keep below a rate in bytes and, for each address, below a rate in queries; who exceeds it is
//! not heard for a while. The table of addresses is bounded.

use crate::id::{is_local, subnet};
use bt_core::Time;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Queries of one address that are answered in [`WINDOW`]: five a second, as libtorrent's `dht_block_ratelimit`.
pub const QUERIES_PER_WINDOW: u32 = 50;
/// The span over which they are counted.
pub const WINDOW: Duration = Duration::from_secs(10);
/// How long an address that asked more often is not heard: as libtorrent's `dht_block_timeout`.
pub const BLOCKED: Duration = Duration::from_secs(5 * 60);
/// Addresses that are counted at a time. More than so many in ten seconds are above the rate for all anyhow.
const ADDRESSES_MAX: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Count {
    since: Time,
    queries: u32,
    blocked_until: Time,
}

/// Who asked how often.
#[derive(Clone, Debug, Default)]
pub(crate) struct Askers {
    counts: BTreeMap<(IpAddr, u16), Count>,
}

impl Askers {
    /// Counts a query; true if it may be looked at.
    pub(crate) fn admit(&mut self, now: Time, from: SocketAddr) -> bool {
        let key = key(from);
        if self.counts.len() >= ADDRESSES_MAX && !self.counts.contains_key(&key) {
            self.forget(now);
        }
        let count = self.counts.entry(key).or_insert(Count {
            since: now,
            queries: 0,
            blocked_until: Time::ZERO,
        });
        if now < count.blocked_until {
            return false;
        }
        if now.since(count.since) >= WINDOW {
            (count.since, count.queries) = (now, 0);
        }
        count.queries += 1;
        let over = count.queries > QUERIES_PER_WINDOW;
        if over {
            count.blocked_until = now + BLOCKED;
        }
        !over
    }

    fn forget(&mut self, now: Time) {
        self.counts
            .retain(|_, count| now < count.blocked_until || now.since(count.since) < WINDOW);
        if self.counts.len() >= ADDRESSES_MAX {
            // All are at it right now. The quiet ones lose nothing by being counted from the start.
            self.counts
                .retain(|_, count| count.queries > QUERIES_PER_WINDOW / 2);
        }
        if self.counts.len() >= ADDRESSES_MAX {
            self.counts.clear();
        }
    }
}

/// Of one public network there is one asker; at home and in tests every port is one.
fn key(from: SocketAddr) -> (IpAddr, u16) {
    let ip = from.ip().to_canonical();
    match ip {
        _ if is_local(ip) => (ip, from.port()),
        IpAddr::V4(_) => (ip, 0),
        IpAddr::V6(_) => (subnet(ip), 0),
    }
}

/// A token bucket with room for one second.
#[derive(Clone, Debug)]
pub(crate) struct Allowance {
    per_s: u64,
    left: u64,
    updated: Time,
}

impl Allowance {
    pub(crate) const fn new(per_s: u64) -> Self {
        Self {
            per_s,
            left: per_s,
            updated: Time::ZERO,
        }
    }

    /// Takes `amount` if there is so much.
    pub(crate) fn take(&mut self, now: Time, amount: u64) -> bool {
        let passed = now.since(self.updated).as_nanos();
        let earned = passed.saturating_mul(u128::from(self.per_s)) / 1_000_000_000;
        let earned = u64::try_from(earned).unwrap_or(u64::MAX);
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(self.per_s);
            self.updated = now;
        }
        let enough = self.left >= amount;
        if enough {
            self.left -= amount;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(askers: &mut Askers, from: &str, at: Time, times: u32) -> u32 {
        let from = from.parse().unwrap();
        (0..times).map(|_| u32::from(askers.admit(at, from))).sum()
    }

    #[test]
    fn fault_131_who_asks_too_often_is_not_heard_for_a_while() {
        let mut askers = Askers::default();
        let at = Time::from_secs;
        assert_eq!(admitted(&mut askers, "1.2.3.4:1", at(0), 1000), 50);
        assert_eq!(
            admitted(&mut askers, "1.2.3.4:2", at(20), 10),
            0,
            "all ports of it"
        );
        assert_eq!(
            admitted(&mut askers, "1.2.3.5:1", at(20), 10),
            10,
            "others are"
        );
        assert_eq!(
            admitted(&mut askers, "1.2.3.4:1", at(300), 10),
            10,
            "forgiven"
        );
        assert_eq!(admitted(&mut askers, "[2001:db8::1]:1", at(0), 50), 50);
        assert_eq!(
            admitted(&mut askers, "[2001:db8::2]:1", at(0), 50),
            0,
            "one /64"
        );
        assert_eq!(admitted(&mut askers, "127.0.0.1:1", at(0), 60), 50);
        assert_eq!(
            admitted(&mut askers, "127.0.0.1:2", at(0), 60),
            50,
            "at home by port"
        );
        for second in 0..20 {
            assert_eq!(
                admitted(&mut askers, "7.7.7.7:1", at(second), 5),
                5,
                "five a second"
            );
        }
    }

    #[test]
    fn fault_131_the_table_of_askers_is_bounded() {
        let mut askers = Askers::default();
        for number in 0..50_000_u32 {
            let ip = std::net::Ipv4Addr::from_bits(0x0100_0000 + number);
            askers.admit(Time::ZERO, (ip, 1).into());
            assert!(askers.counts.len() <= ADDRESSES_MAX);
        }
    }

    #[test]
    fn an_allowance_is_kept() {
        let mut allowance = Allowance::new(1000);
        let mut taken = 0;
        for milli in 0..10_000 {
            taken += 70 * u64::from(allowance.take(Time::from_millis(milli), 70));
        }
        assert!((9_900..=11_000).contains(&taken), "{taken}");
    }
}
