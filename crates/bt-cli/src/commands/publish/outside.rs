//! Under which address this machine is known outside, where that is not its own: behind address translation or a proxy.
//!
//! The publisher's own seeder then announces to the tracker inside directly, and not through the public URL, which many a
//! router does not lead back. The tracker would see an address of this machine, so the seeder names the public one, and
//! the tracker believes that of this machine only. It also believes what a proxy on this machine forwards for whom.

use bt_trackerd::Server;
use bt_trackerd::trust::Network;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use url::{Host, Url};

/// What the seeder tells the tracker, and whom the tracker believes.
#[derive(Debug)]
pub(super) struct Outside {
    /// Where the seeder announces: the tracker's URL on this machine.
    pub(super) announce: String,
    /// What it says its address is; `None` if the public host has none that can be found.
    pub(super) ip: Option<IpAddr>,
    /// From where the seeder's announces, and those of a proxy here, come.
    pub(super) trust: Vec<Network>,
}

/// For a server that others reach under `public`, on a machine whose programs use the address `bind`, if any.
pub(super) async fn outside(
    public: &Url,
    server: &Server,
    bind: Option<IpAddr>,
) -> Option<Outside> {
    let here = inside(*server.addrs().first()?);
    let ip = address(public).await;
    if ip.is_none() {
        tracing::warn!(
            "the host of --public-url has no address that could be found: peers may not find this seeder"
        );
    }
    let trust = [Some(here.ip()), bind].into_iter().flatten();
    Some(Outside {
        announce: format!("http://{here}/announce"),
        ip,
        trust: trust.filter_map(|ip| ip.to_string().parse().ok()).collect(),
    })
}

/// Where this machine itself reaches a server that listens on `addr`.
fn inside(addr: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match addr.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, addr.port())
}

/// The address of the URL's host. Of several an IPv4 one, which all kinds of peers can use.
async fn address(url: &Url) -> Option<IpAddr> {
    let name = match url.host()? {
        Host::Ipv4(ip) => return Some(ip.into()),
        Host::Ipv6(ip) => return Some(ip.into()),
        Host::Domain(name) => name,
    };
    let found = tokio::net::lookup_host((name, 0)).await.ok()?;
    found.map(|addr| addr.ip()).min_by_key(IpAddr::is_ipv6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_public_host_is_an_address_or_has_one() {
        let rows = [
            ("http://203.0.113.7:80/x/", Some("203.0.113.7")),
            ("https://[2001:db8::1]/", Some("2001:db8::1")),
            ("http://localhost:1/", Some("127.0.0.1")),
            ("http://name.invalid/", None),
        ];
        for (url, expected) in rows {
            let found = address(&Url::parse(url).unwrap()).await;
            assert_eq!(found, expected.map(|ip| ip.parse().unwrap()), "{url}");
        }
    }

    #[test]
    fn the_seeder_asks_where_the_tracker_listens() {
        let rows = [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("10.0.0.1:1", "10.0.0.1:1"),
        ];
        for (listening, expected) in rows {
            let here = inside(listening.parse().unwrap());
            assert_eq!(here.to_string(), expected);
        }
    }
}
