//! Who is let in: torrent, key, client, and how much one address and one key may have.
//!
//! **Invariant:** no lock is held across anything but one count, and none is taken where nothing is limited.

use crate::state::Rules;
use bt_core::{Rng, Time};
use bt_tracker::announce::{AnnounceRequest, Event};
use bt_tracker::server::quota::{Counted, Exceeded};
use bt_tracker::server::{Quota, Quotas};
use core::time::Duration;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Enough that a handful of workers seldom meet.
const SHARDS_COUNT: usize = 16;

/// What makes an entry of a swarm: info hash, address, port.
const ENTRY_BYTES: usize = 20 + 16 + 2;

/// Why somebody is not let in; its text is for the peer's user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    #[error("this tracker does not serve this torrent")]
    Torrent {
        /// It stands on the deny list.
        denied: bool,
    },
    #[error("this tracker is private: your announce URL has no key")]
    NoKey,
    #[error("the key in your announce URL is not known here")]
    Key,
    #[error("this tracker does not serve your client")]
    Client,
    #[error("{0}")]
    Exceeded(#[from] Exceeded),
}

impl Denial {
    /// When to try again (BEP 31): [`Duration::MAX`] for never, `None` where nobody can tell.
    pub(crate) const fn retry_in(self) -> Option<Duration> {
        match self {
            Self::Torrent { denied: true } | Self::NoKey | Self::Key | Self::Client => {
                Some(Duration::MAX)
            }
            Self::Exceeded(Exceeded::Announces { retry_in }) => Some(retry_in),
            Self::Torrent { denied: false } | Self::Exceeded(Exceeded::Peers) => None,
        }
    }
}

/// The accounts of addresses and keys.
#[derive(Debug)]
pub(crate) struct Gate {
    addrs: Accounts,
    keys: Accounts,
}

impl Gate {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        Self {
            addrs: Accounts::new(rng),
            keys: Accounts::new(rng),
        }
    }

    /// Lets an announce in, or says why not.
    pub(crate) fn admit(
        &self,
        now: Time,
        rules: &Rules,
        ip: IpAddr,
        key: Option<&[u8]>,
        request: &AnnounceRequest,
    ) -> Result<(), Denial> {
        permit_key(rules, key)?;
        let key = key.filter(|_| rules.keys.is_some());
        if !rules.access.permits(&request.info_hash) {
            // Its peers learn that here, and count no longer.
            self.leave(rules, ip, key, request);
            let denied = rules.access.denies(&request.info_hash);
            return Err(Denial::Torrent { denied });
        }
        let id = request.peer_id.as_bytes();
        if rules.clients_denied.iter().any(|no| id.starts_with(no)) {
            return Err(Denial::Client);
        }
        if rules.per_address.is_unlimited() && rules.per_key.is_unlimited() {
            return Ok(());
        }
        if request.event == Event::Stopped {
            self.leave(rules, ip, key, request);
            return Ok(());
        }
        let (who, entry) = (&network_of(ip), &entry_of(ip, request));
        let counted = Counted { who, entry };
        let (quota, expiry) = (rules.per_address, rules.expiry);
        let is_new = self.addrs.count(now, quota, expiry, counted)?;
        if let Some(who) = key {
            let by_key = Counted { who, entry };
            let counted_by_key = self.keys.count(now, rules.per_key, expiry, by_key);
            if counted_by_key.is_err() && is_new {
                self.addrs.leave(quota, counted);
            }
            counted_by_key?;
        }
        Ok(())
    }

    /// Counts a peer no longer.
    fn leave(&self, rules: &Rules, ip: IpAddr, key: Option<&[u8]>, request: &AnnounceRequest) {
        let (who, entry) = (&network_of(ip), &entry_of(ip, request));
        self.addrs.leave(rules.per_address, Counted { who, entry });
        if let Some(who) = key {
            self.keys.leave(rules.per_key, Counted { who, entry });
        }
    }
}

/// Says why not if the tracker is private and the key is not one of its.
pub(crate) fn permit_key(rules: &Rules, key: Option<&[u8]>) -> Result<(), Denial> {
    match (&rules.keys, key) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(Denial::NoKey),
        (Some(keys), Some(key)) if keys.contains(key) => Ok(()),
        (Some(_), Some(_)) => Err(Denial::Key),
    }
}

/// What has one account: an IPv4 address, or of IPv6 a /64, as whoever has one address of it has 2^64 of them.
fn network_of(ip: IpAddr) -> [u8; 8] {
    match ip.to_canonical() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()).to_be_bytes(),
        IpAddr::V6(ip) => {
            let [network @ .., _, _, _, _, _, _, _, _] = ip.octets();
            network
        }
    }
}

fn entry_of(ip: IpAddr, request: &AnnounceRequest) -> [u8; ENTRY_BYTES] {
    let ip = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut entry = [0; ENTRY_BYTES];
    let parts = request.info_hash.as_bytes().iter();
    let octets = ip.octets();
    let port = request.port.to_be_bytes();
    for (place, byte) in entry.iter_mut().zip(parts.chain(&octets).chain(&port)) {
        *place = *byte;
    }
    entry
}

#[derive(Debug)]
struct Accounts(Vec<Mutex<Quotas>>);

impl Accounts {
    fn new(rng: &mut Rng) -> Self {
        let shard = |_| Mutex::new(Quotas::new(rng.next_u64()));
        Self((0..SHARDS_COUNT).map(shard).collect())
    }

    fn count(
        &self,
        now: Time,
        quota: Quota,
        expiry: Duration,
        counted: Counted<'_>,
    ) -> Result<bool, Exceeded> {
        match self.of(quota, counted.who) {
            Some(mut accounts) => accounts.count(now, quota, expiry, counted),
            None => Ok(false),
        }
    }

    fn leave(&self, quota: Quota, counted: Counted<'_>) {
        if let Some(mut accounts) = self.of(quota, counted.who) {
            accounts.leave(counted);
        }
    }

    /// Where somebody's account is, if anything is limited.
    fn of(&self, quota: Quota, who: &[u8]) -> Option<MutexGuard<'_, Quotas>> {
        if quota.is_unlimited() {
            return None;
        }
        let sum: usize = who.iter().map(|byte| usize::from(*byte)).sum();
        let shard = self.0.get(sum % SHARDS_COUNT)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use bt_core::{InfoHash, PeerId};

    const ONE_PEER: Quota = Quota {
        announces_per_minute: 0,
        peers: 1,
    };

    fn admit(
        gate: &Gate,
        rules: &Rules,
        ip: IpAddr,
        key: Option<&str>,
        torrent: u8,
    ) -> Result<(), Denial> {
        let request = AnnounceRequest::new(InfoHash([torrent; 20]), PeerId([1; 20]), 6881, 1);
        gate.admit(Time::ZERO, rules, ip, key.map(str::as_bytes), &request)
    }

    const FULL: Result<(), Denial> = Err(Denial::Exceeded(Exceeded::Peers));

    #[test]
    fn one_account_is_an_address_or_a_network_of_ipv6() {
        let settings = Settings {
            per_address: ONE_PEER,
            ..Settings::default()
        };
        let rules = Rules::read(&settings).unwrap();
        let gate = Gate::new(&mut Rng::new(1));
        for (ip, expected) in [
            ("192.0.2.1", Ok(())),
            ("192.0.2.2", Ok(())),
            ("2001:db8::1", Ok(())),
            ("2001:db8:0:1::1", Ok(())),
            ("2001:db8::ffff:1:1", FULL),
            ("2001:db8:0:1:8000::1", FULL),
        ] {
            assert_eq!(
                admit(&gate, &rules, ip.parse().unwrap(), None, 1),
                expected,
                "{ip}"
            );
        }
        // The same entry, however the address is written, and another one.
        for (torrent, expected) in [(1, Ok(())), (2, FULL)] {
            let ip = "::ffff:192.0.2.1".parse().unwrap();
            let got = admit(&gate, &rules, ip, None, torrent);
            assert_eq!(got, expected, "{torrent}");
        }
    }

    #[test]
    fn what_a_key_is_refused_costs_its_address_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("keys");
        std::fs::write(&list, "first-key\nother-key\nthird-key").unwrap();
        let settings = Settings {
            keys: Some(list),
            per_address: Quota {
                peers: 2,
                ..ONE_PEER
            },
            per_key: ONE_PEER,
            ..Settings::default()
        };
        let rules = Rules::read(&settings).unwrap();
        let gate = Gate::new(&mut Rng::new(1));
        for (key, torrent, expected) in [
            ("first-key", 1, Ok(())),
            ("first-key", 2, FULL),
            // Known at the address, and refused nevertheless: it stays known.
            ("other-key", 3, Ok(())),
            ("first-key", 3, FULL),
            ("third-key", 4, FULL),
        ] {
            let ip = "192.0.2.1".parse().unwrap();
            let got = admit(&gate, &rules, ip, Some(key), torrent);
            assert_eq!(got, expected, "{key} {torrent}");
        }
    }

    #[test]
    fn a_torrent_that_is_denied_counts_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, deny) = (folder.path().join("keys"), folder.path().join("deny"));
        std::fs::write(&keys, "first-key").unwrap();
        std::fs::write(&deny, "01".repeat(20)).unwrap();
        let before = Settings {
            keys: Some(keys),
            per_address: ONE_PEER,
            per_key: ONE_PEER,
            ..Settings::default()
        };
        let after = Settings {
            deny: Some(deny),
            ..before.clone()
        };
        let [before, after] = [before, after].map(|settings| Rules::read(&settings).unwrap());
        let gate = Gate::new(&mut Rng::new(1));
        let denied = Err(Denial::Torrent { denied: true });
        for (ip, rules, torrent, expected) in [
            ("192.0.2.1", &before, 1, Ok(())),
            ("192.0.2.1", &after, 2, FULL),
            // Another one's peers do not make room.
            ("192.0.2.2", &after, 1, denied),
            ("192.0.2.1", &after, 2, FULL),
            ("192.0.2.1", &after, 1, denied),
            ("192.0.2.1", &after, 2, Ok(())),
        ] {
            let got = admit(
                &gate,
                rules,
                ip.parse().unwrap(),
                Some("first-key"),
                torrent,
            );
            assert_eq!(got, expected, "{ip} {torrent}");
        }
    }
}
