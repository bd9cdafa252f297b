//! From where a request comes, when its connection does not tell.
//!
//! Anybody can write an address into `X-Forwarded-For` or `ip=`, and so have strangers dialled or named. The one is
//! believed of the operator's proxies only, the other of the networks that are allowed to name an address.

use core::fmt;
use core::str::FromStr;
use serde::Deserialize;
use std::net::IpAddr;

/// A network, as `10.0.0.0/8`, `fd00::/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    addr: IpAddr,
    prefix_bits: u32,
}

/// Text that is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no network: write 10.0.0.0/8, fd00::/8 or a single address")]
pub struct ParseNetworkError {
    text: String,
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, ParseNetworkError> {
        let wrong = || ParseNetworkError {
            text: text.to_owned(),
        };
        let (addr, prefix) = text.split_once('/').unzip();
        let addr: IpAddr = addr.unwrap_or(text).parse().map_err(|_| wrong())?;
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let prefix_bits = prefix.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        if prefix_bits > most {
            return Err(wrong());
        }
        Ok(Self { addr, prefix_bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix_bits)
    }
}

impl Network {
    /// True if the address belongs to it.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        let same = |difference: u128, width: u32| {
            difference
                .checked_shr(width - self.prefix_bits)
                .is_none_or(|rest| rest == 0)
        };
        match (self.addr, addr.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(u128::from(a.to_bits() ^ b.to_bits()), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits() ^ b.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// The address that counts for a request from `source`: the last one in the chain of proxies that none of them
/// vouches for; and `claimed` (the `ip=` of the request) if that one may name an address.
pub(crate) fn source(
    proxies: &[Network],
    ip_from: &[Network],
    source: IpAddr,
    forwarded: impl FnOnce() -> Vec<IpAddr>,
    claimed: Option<IpAddr>,
) -> IpAddr {
    let mut seen = source;
    if contain(proxies, source) {
        for addr in forwarded().into_iter().rev() {
            seen = addr;
            if !contain(proxies, addr) {
                break;
            }
        }
    }
    claimed.filter(|_| contain(ip_from, seen)).unwrap_or(seen)
}

/// True if the address belongs to one of the networks.
pub(crate) fn contain(networks: &[Network], addr: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(addr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain() {
        let rows = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("10.0.0.0/8", "fd00::1", false),
            ("192.168.1.7", "192.168.1.7", true),
            ("192.168.1.7", "192.168.1.6", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("::/0", "2001::1", true),
            ("::1", "::1", true),
        ];
        for (network, addr, expected) in rows {
            let network: Network = network.parse().unwrap();
            assert_eq!(
                network.contains(addr.parse().unwrap()),
                expected,
                "{network:?} {addr}"
            );
        }
        for text in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/-1",
            "10.0.0.0/",
            "host",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_trusted_are_believed() {
        // FAULTS 115. Columns: connection, X-Forwarded-For, ip=, what counts. Trusted: 10/8.
        let rows: [(&str, &[&str], Option<&str>, &str); 8] = [
            ("8.8.8.8", &["1.1.1.1"], Some("2.2.2.2"), "8.8.8.8"),
            ("127.0.0.1", &["1.1.1.1"], Some("2.2.2.2"), "127.0.0.1"),
            ("10.0.0.1", &["1.1.1.1"], Some("2.2.2.2"), "1.1.1.1"),
            ("10.0.0.1", &["9.9.9.9", "1.1.1.1"], None, "1.1.1.1"),
            (
                "10.0.0.1",
                &["1.1.1.1", "10.0.0.2"],
                Some("2.2.2.2"),
                "1.1.1.1",
            ),
            ("10.0.0.1", &["10.0.0.2"], Some("2.2.2.2"), "2.2.2.2"),
            ("10.0.0.1", &["10.0.0.2"], None, "10.0.0.2"),
            ("10.0.0.1", &[], Some("2.2.2.2"), "2.2.2.2"),
        ];
        let proxies = ["10.0.0.0/8".parse().unwrap()];
        let ip_from = ["10.0.0.0/8".parse().unwrap()];
        for (from, forwarded, claimed, expected) in rows {
            let forwarded = || forwarded.iter().map(|addr| addr.parse().unwrap()).collect();
            let got = source(
                &proxies,
                &ip_from,
                from.parse().unwrap(),
                forwarded,
                claimed.map(|ip| ip.parse().unwrap()),
            );
            assert_eq!(
                got,
                expected.parse::<IpAddr>().unwrap(),
                "{from} {claimed:?}"
            );
        }
        // One does not imply the other.
        let from = "10.0.0.1".parse().unwrap();
        let chain = || vec!["2.2.2.2".parse().unwrap()];
        let claimed = "3.3.3.3".parse().ok();
        let got = source(&proxies, &[], from, chain, claimed);
        assert_eq!(got.to_string(), "2.2.2.2");
        let got = source(&proxies, &[], from, Vec::new, claimed);
        assert_eq!(got.to_string(), "10.0.0.1");
        let got = source(&[], &ip_from, from, chain, claimed);
        assert_eq!(got.to_string(), "3.3.3.3");
    }
}
