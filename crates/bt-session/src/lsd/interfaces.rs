//! The local addresses on which local discovery speaks, and who is near each.

use if_addrs::{IfAddr, IfOperStatus};
use std::net::IpAddr;

/// How many addresses are used: more have only hosts of many containers, each of which would hear us many times.
const INTERFACES_MAX: usize = 16;

/// An address of this host, and its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) ip: IpAddr,
    /// Length of the network's prefix, in bits.
    prefix_bits: u32,
    /// The operating system's number of the interface; 0 where it gives none.
    pub(super) index: u32,
}

impl Interface {
    /// True if the address is in the same network: what multicast reaches, and not whatever a source field claims.
    pub(super) fn is_near(&self, other: IpAddr) -> bool {
        match (self.ip, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.leading_zeros() >= self.prefix_bits
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.leading_zeros() >= self.prefix_bits
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// The addresses to use: that of `bind`, else all. Loopback is used only where there is nothing else, as programs of one
/// host hear each other anyway. None if the system does not tell.
pub(super) fn interfaces(bind: Option<IpAddr>) -> Vec<Interface> {
    let found = if_addrs::get_if_addrs().unwrap_or_default();
    // Some virtual interfaces and the loopback do not say whether they are up.
    let is_up = |found: &&if_addrs::Interface| {
        matches!(found.oper_status, IfOperStatus::Up | IfOperStatus::Unknown)
    };
    let all = found.iter().filter(is_up).map(|found| {
        let (ip, prefix) = match &found.addr {
            IfAddr::V4(v4) => (v4.ip.into(), v4.prefixlen),
            IfAddr::V6(v6) => (v6.ip.into(), v6.prefixlen),
        };
        Interface {
            ip,
            prefix_bits: prefix.into(),
            index: found.index.unwrap_or(0),
        }
    });
    choose(all.collect(), bind)
}

fn choose(mut all: Vec<Interface>, bind: Option<IpAddr>) -> Vec<Interface> {
    // Link-local addresses of IPv6 mean nothing without the interface, which the address of a peer does not carry.
    all.retain(|own| match (bind, own.ip) {
        (Some(bind), ip) => ip == bind,
        (None, IpAddr::V6(ip)) => !ip.is_unicast_link_local(),
        (None, IpAddr::V4(_)) => true,
    });
    if all.iter().any(|own| !own.ip.is_loopback()) {
        all.retain(|own| !own.ip.is_loopback());
    }
    all.truncate(INTERFACES_MAX);
    all
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::lsd) fn interface(ip: &str, prefix_bits: u32) -> Interface {
        let ip = ip.parse().unwrap();
        Interface {
            ip,
            prefix_bits,
            index: 1,
        }
    }

    #[test]
    fn faults_138_only_the_own_network_is_near() {
        let rows = [
            ("192.168.1.10", 24, "192.168.1.77", true),
            ("192.168.1.10", 24, "192.168.2.77", false),
            ("10.0.0.1", 8, "10.200.3.4", true),
            ("10.0.0.1", 32, "10.0.0.1", true),
            ("10.0.0.1", 32, "10.0.0.2", false),
            ("10.0.0.1", 0, "8.8.8.8", true),
            ("127.0.0.1", 8, "127.0.0.1", true),
            ("10.0.0.1", 8, "fd00::1", false),
            ("fd00::1", 64, "fd00::ffff:1", true),
            ("fd00::1", 64, "fd00:0:0:1::1", false),
        ];
        for (own, prefix_bits, other, expected) in rows {
            let own = interface(own, prefix_bits);
            assert_eq!(
                own.is_near(other.parse().unwrap()),
                expected,
                "{own:?} {other}"
            );
        }
    }

    #[test]
    fn which_addresses_are_used() {
        let rows: [(&[&str], Option<&str>, &[&str]); 6] = [
            (
                &["127.0.0.1", "10.0.0.1", "::1", "fd00::1"],
                None,
                &["10.0.0.1", "fd00::1"],
            ),
            (&["127.0.0.1", "::1"], None, &["127.0.0.1", "::1"]),
            (
                &["127.0.0.1", "10.0.0.1"],
                Some("127.0.0.1"),
                &["127.0.0.1"],
            ),
            (&["10.0.0.1", "10.0.0.2"], Some("10.0.0.2"), &["10.0.0.2"]),
            (&["10.0.0.1", "fe80::1"], None, &["10.0.0.1"]),
            (&["10.0.0.1"], Some("10.0.0.9"), &[]),
        ];
        for (all, bind, expected) in rows {
            let all = all.iter().map(|ip| interface(ip, 8)).collect();
            let used = choose(all, bind.map(|ip| ip.parse().unwrap()));
            let used: Vec<String> = used.iter().map(|own| own.ip.to_string()).collect();
            assert_eq!(used, expected);
        }
        let many = (0..100)
            .map(|n| interface(&format!("10.0.0.{n}"), 8))
            .collect();
        assert_eq!(choose(many, None).len(), INTERFACES_MAX);
    }
}
