//! What names mean, and which of their addresses an HTTP request may reach: by family, and by whether they are the open
//! internet's.

use crate::http::HttpError;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use url::{Host, Url};

/// Addresses of one name that are tried: enough for a host with several, too few to make us a scanner.
const ADDRESSES_MAX: usize = 4;

/// Who is asked what a name means. It may take as long as it likes: whoever asks has a deadline.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Names {
    /// The system's resolver.
    #[default]
    System,
    /// Nobody who answers, as a name server that is down; but what is an address already means itself.
    #[cfg(test)]
    Silent,
}

impl Names {
    /// All addresses of a host.
    ///
    /// # Errors
    /// If it has none.
    pub(crate) async fn look_up(self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(tokio::net::lookup_host((host, port)).await?.collect()),
            #[cfg(test)]
            Self::Silent => match host.parse::<IpAddr>() {
                Ok(ip) => Ok(vec![SocketAddr::new(ip, port)]),
                Err(_) => core::future::pending().await,
            },
        }
    }
}

/// Which addresses a request may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Whichever the name has.
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl Family {
    /// The family of an address.
    pub(crate) const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    fn has(self, ip: IpAddr) -> bool {
        self == Self::Any || self == Self::of(ip)
    }
}

/// How far a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Anywhere,
    PublicOnly,
}

/// True if the address is one of the open internet's: none that IANA's registries of special-purpose addresses
/// (RFC 6890) call out of global reach, and no multicast.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    // 100.64/10 is shared address space (RFC 6598), 192.0.0/24 and 198.18/15 are set aside (RFC 6890).
    let shared = a == 100 && (64..128).contains(&b);
    let reserved = a == 0 || a >= 240 || (a == 198 && (b == 18 || b == 19));
    !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_multicast())
        && !(shared || reserved || ip.octets().starts_with(&[192, 0, 0]) || ip.is_documentation())
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        // What carries IPv4 is judged by it: translation (RFC 6052) and 6to4 (RFC 3056).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => v4(high, low),
        // Set aside by the IETF, among them Teredo, which carries IPv4 too (RFC 2928, RFC 4380).
        [0x2001, second, ..] if second < 0x200 => false,
        // For documentation (RFC 3849, RFC 9637).
        [0x2001, 0xdb8, ..] | [0x3fff, 0..0x1000, ..] => false,
        // All that has been given out as global unicast (RFC 4291, section 2.4 and its registry).
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Asks each time and keeps only the addresses that a client may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resolver {
    pub(crate) names: Names,
    pub(crate) family: Family,
    pub(crate) reach: Reach,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let Self {
            names,
            family,
            reach,
        } = *self;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = names.look_up(&host, 0).await?.into_iter();
            let all: Vec<SocketAddr> = found.filter(|addr| family.has(addr.ip())).collect();
            let allowed = |addr: &SocketAddr| reach == Reach::Anywhere || is_public(addr.ip());
            let usable: Vec<SocketAddr> = all
                .iter()
                .copied()
                .filter(allowed)
                .take(ADDRESSES_MAX)
                .collect();
            if usable.is_empty() {
                return Err(if all.is_empty() {
                    format!("{host} has no address of this family").into()
                } else {
                    HttpError::PrivateRedirect { host }.into()
                });
            }
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

/// The families in which the URL's host can be reached from `bind`: one announce goes out for each (BEP 7).
pub(crate) async fn families(
    names: Names,
    url: &Url,
    bind: Option<IpAddr>,
) -> Result<Vec<Family>, HttpError> {
    let ips: Vec<IpAddr> = match url.host() {
        Some(Host::Ipv4(ip)) => vec![ip.into()],
        Some(Host::Ipv6(ip)) => vec![ip.into()],
        Some(Host::Domain(name)) => {
            let found = names.look_up(name, 0).await;
            let found = found.map_err(|error| HttpError::Network {
                reason: format!("{name}: {error}"),
            })?;
            found.into_iter().map(|addr| addr.ip()).collect()
        }
        None => Vec::new(),
    };
    let mut families = Vec::new();
    for family in [Family::V4, Family::V6] {
        let bound = bind.is_none_or(|ip| family.has(ip));
        if bound && ips.iter().any(|ip| family.has(*ip)) {
            families.push(family);
        }
    }
    if families.is_empty() {
        return Err(HttpError::Network {
            reason: format!(
                "{} has no address that can be reached from here",
                url.host_str().unwrap_or("the URL")
            ),
        });
    }
    Ok(families)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses() {
        let rows = [
            ("8.8.8.8", true),
            ("127.0.0.1", false),
            ("10.1.2.3", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("224.0.0.1", false),
            ("198.18.0.1", false),
            ("192.0.0.8", false),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("2001:4860:4860::8888", true),
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("64:ff9b::7f00:1", false),
            ("64:ff9b::808:808", true),
            ("ff02::1", false),
            ("192.0.2.1", false),
            ("198.51.100.1", false),
            ("203.0.113.1", false),
            ("2001:db8::1", false),
            ("3fff:fff::1", false),
            ("3fff:1000::1", true),
            ("2002:7f00:1::1", false),
            ("2002:808:808::1", true),
            ("2001:0:808:808::1", false),
            ("2001:1ff::1", false),
            ("2001:200::1", true),
        ];
        for (ip, expected) in rows {
            assert_eq!(is_public(ip.parse().unwrap()), expected, "{ip}");
        }
    }

    #[tokio::test]
    async fn families_of_literals() {
        let rows = [
            ("http://127.0.0.1/", None, Some(vec![Family::V4])),
            ("http://[::1]/", None, Some(vec![Family::V6])),
            ("http://[::1]/", Some("127.0.0.1"), None),
            (
                "http://127.0.0.1/",
                Some("127.0.0.2"),
                Some(vec![Family::V4]),
            ),
        ];
        for (url, bind, expected) in rows {
            let bind = bind.map(|ip: &str| ip.parse().unwrap());
            let url_read = Url::parse(url).unwrap();
            let got = families(Names::System, &url_read, bind).await.ok();
            assert_eq!(got, expected, "{url}");
        }
    }
}
