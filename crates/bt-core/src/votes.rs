//! Which address others see us at: nodes of the DHT (BEP 42, "bootstrapping"), trackers (BEP 24), peers (`yourip`, BEP 10).
//!
//! **Invariant:** nobody is believed alone, and a network has one vote, however many of its addresses speak.

use crate::addr::{is_local, subnet};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Networks that must say the same.
pub const VOTES_MIN: usize = 5;
/// Votes that are kept; then the count begins anew.
pub const VOTES_MAX: usize = 50;

/// What each network said last, of one address family.
#[derive(Clone, Debug, Default)]
pub struct Votes {
    said: BTreeMap<IpAddr, IpAddr>,
    agreed: Option<IpAddr>,
}

impl Votes {
    /// Counts what somebody says. Returns an address on which most agree, when it was not agreed on before.
    pub fn vote(&mut self, voter: IpAddr, ip: IpAddr) -> Option<IpAddr> {
        let ip = ip.to_canonical();
        if is_local(ip) || ip.is_unspecified() || ip.is_multicast() {
            return None;
        }
        if self.said.len() >= VOTES_MAX {
            self.said.clear();
        }
        self.said.insert(subnet(voter), ip);
        let votes = self.said.values().filter(|said| **said == ip).count();
        let agree = votes >= VOTES_MIN && votes * 2 > self.said.len();
        if !agree || self.agreed == Some(ip) {
            return None;
        }
        self.agreed = Some(ip);
        Some(ip)
    }

    /// The address on which most agreed last.
    #[must_use]
    pub const fn agreed(&self) -> Option<IpAddr> {
        self.agreed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_networks_must_agree() {
        let mut votes = Votes::default();
        let mut vote = |voter: &str, ip: &str| {
            votes
                .vote(voter.parse().unwrap(), ip.parse().unwrap())
                .map(|ip| ip.to_string())
        };
        for voter in [
            "1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4", "1.1.1.5", "1.1.1.6",
        ] {
            assert_eq!(vote(voter, "9.9.9.9"), None, "one network has one vote");
        }
        for voter in ["2.1.1.1", "2.1.2.1", "2.1.3.1"] {
            assert_eq!(vote(voter, "8.8.8.8"), None);
            assert_eq!(
                vote(voter, "192.168.0.1"),
                None,
                "no address on the internet"
            );
        }
        for voter in ["2.2.1.1", "2.2.2.1"] {
            let agreed = vote(voter, "8.8.8.8");
            assert_eq!(agreed.is_some(), voter == "2.2.2.1");
        }
        assert_eq!(vote("2.2.3.1", "8.8.8.8"), None, "known");
        assert_eq!(votes.agreed(), Some(IpAddr::from([8, 8, 8, 8])));
    }

    #[test]
    fn half_is_not_most_and_what_was_said_long_ago_counts_no_more() {
        let mut votes = Votes::default();
        let mut vote = |network: u8, ip: [u8; 4]| {
            votes.vote(IpAddr::from([9, 9, network, 1]), IpAddr::from(ip))
        };
        for network in 0..5 {
            assert_eq!(vote(network, [7, 7, 7, 7]).is_some(), network == 4);
        }
        for network in 5..10 {
            assert_eq!(vote(network, [8, 8, 8, 8]), None, "half of all");
        }
        assert_eq!(vote(10, [8, 8, 8, 8]), Some(IpAddr::from([8, 8, 8, 8])));
        // The address changes, and new voters are enough to see it, whatever the many before them said.
        for network in (11..).take(VOTES_MAX - 11) {
            assert_eq!(vote(network, [8, 8, 8, 8]), None);
        }
        for network in 100..105 {
            assert_eq!(vote(network, [7, 7, 7, 7]).is_some(), network == 104);
        }
    }
}
