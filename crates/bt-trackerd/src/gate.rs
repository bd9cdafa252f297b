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
use std::sync::{Mutex, PoisonError};

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
        if !rules.access.permits(&request.info_hash) {
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
        let entry = entry_of(ip, request);
        let stopped = request.event == Event::Stopped;
        let count = |accounts: &Accounts, quota: Quota, who: &[u8]| {
            let entry = &entry;
            let counted = Counted {
                who,
                entry,
                stopped,
            };
            accounts.count(now, quota, rules.expiry, counted)
        };
        match ip.to_canonical() {
            IpAddr::V4(ip) => count(&self.addrs, rules.per_address, &ip.octets())?,
            // Whoever has one address of a network has 2^64 of them.
            IpAddr::V6(ip) => {
                let octets = ip.octets();
                let network = octets.get(..8).unwrap_or_default();
                count(&self.addrs, rules.per_address, network)?;
            }
        }
        if let (Some(key), Some(_)) = (key, &rules.keys) {
            count(&self.keys, rules.per_key, key)?;
        }
        Ok(())
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
    ) -> Result<(), Exceeded> {
        if quota.is_unlimited() {
            return Ok(());
        }
        let sum: usize = counted.who.iter().map(|byte| usize::from(*byte)).sum();
        let Some(shard) = self.0.get(sum % SHARDS_COUNT) else {
            return Ok(());
        };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        shard.count(now, quota, expiry, counted)
    }
}
