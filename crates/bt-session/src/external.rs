//! Where the outside sees us: the votes of trackers (BEP 24) and peers (`yourip`, BEP 10), and what the DHT found out by
//! those of nodes (BEP 42).
//!
//! Each hears of the other: what trackers and peers agree on becomes the base of the DHT's ids, and where they do not know,
//! the DHT is asked.

use crate::dht::Dht;
use bt_core::Votes;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct External {
    votes: Mutex<[Votes; 2]>,
    dht: Option<Dht>,
}

impl External {
    pub(crate) fn new(dht: Option<Dht>) -> Self {
        Self {
            votes: Mutex::default(),
            dht,
        }
    }

    /// Somebody at `by` sees us at `ip`.
    pub(crate) fn vote(&self, by: IpAddr, ip: IpAddr) {
        let agreed = {
            let [v4, v6] = &mut *self.votes();
            let ip = ip.to_canonical();
            if ip.is_ipv4() { v4 } else { v6 }.vote(by, ip)
        };
        if let Some(ip) = agreed {
            tracing::debug!(%ip, "trackers and peers see us from outside");
            if let Some(dht) = &self.dht {
                dht.seen_at(ip);
            }
        }
    }

    /// Our address in a family, if most agree on one.
    pub(crate) fn ip(&self, ipv6: bool) -> Option<IpAddr> {
        let [v4, v6] = &*self.votes();
        let agreed = if ipv6 { v6 } else { v4 }.agreed();
        agreed.or_else(|| self.dht.as_ref()?.external_ip(ipv6))
    }

    fn votes(&self) -> MutexGuard<'_, [Votes; 2]> {
        self.votes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::DhtConfig;
    use bt_core::votes::VOTES_MIN;
    use std::net::Ipv4Addr;
    use tokio::task::JoinSet;

    #[test]
    fn each_family_has_its_own_and_nobody_is_believed_alone() {
        let external = External::new(None);
        let (v4, v6) = (IpAddr::from([9, 9, 9, 9]), "2001:db8::9".parse().unwrap());
        for n in 0..u8::try_from(VOTES_MIN).unwrap() {
            assert_eq!((external.ip(false), external.ip(true)), (None, None));
            let by = IpAddr::from([1, 2, n, 1]);
            external.vote(by, v4);
            external.vote(by, v6);
            external.vote(by, Ipv4Addr::new(192, 168, 0, 1).into());
        }
        assert_eq!(
            (external.ip(false), external.ip(true)),
            (Some(v4), Some(v6))
        );
    }

    #[tokio::test]
    async fn the_dht_hears_where_others_see_us_and_is_asked_by_who_does_not_know() {
        let mut tasks = JoinSet::new();
        let bind = Some(Ipv4Addr::LOCALHOST.into());
        let dht = Dht::start(DhtConfig::default(), bind, 0, &mut tasks).unwrap();
        let [first, second] = [(); 2].map(|()| External::new(Some(dht.clone())));
        let ip = IpAddr::from([9, 9, 9, 9]);
        for network in 1..=u8::try_from(VOTES_MIN).unwrap() {
            assert_eq!(second.ip(false), None);
            first.vote([1, 2, network, 1].into(), ip);
        }
        // It is answered behind what was said before.
        dht.status().await;
        assert_eq!((second.ip(false), second.ip(true)), (Some(ip), None));
    }
}
