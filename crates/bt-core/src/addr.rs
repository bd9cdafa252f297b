//! Peer addresses in the compact forms, and which of them may be dialled.
//!
//! Compact form: `4 bytes IPv4 · u16 port` (BEP 23) and `16 bytes IPv6 · u16 port` (BEP 7), big-endian.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of a compact IPv4 peer.
pub const COMPACT_V4_BYTES: usize = 6;
/// Bytes of a compact IPv6 peer.
pub const COMPACT_V6_BYTES: usize = 18;

/// Appends the address in compact form: 6 bytes for IPv4, 18 for IPv6.
pub fn encode_compact(addr: SocketAddr, out: &mut Vec<u8>) {
    match addr.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&addr.port().to_be_bytes());
}

/// The IPv4 peers of a compact string. Bytes behind the last whole entry are left out.
pub fn decode_compact_v4(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> + '_ {
    bytes
        .as_chunks::<COMPACT_V4_BYTES>()
        .0
        .iter()
        .map(|&[a, b, c, d, p, q]| {
            SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([p, q])).into()
        })
}

/// The IPv6 peers of a compact string. Bytes behind the last whole entry are left out.
pub fn decode_compact_v6(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> + '_ {
    bytes.as_chunks::<COMPACT_V6_BYTES>().0.iter().map(|entry| {
        let (ip, port) = entry.split_at(16);
        let ip: [u8; 16] = ip.try_into().unwrap_or_default();
        let port: [u8; 2] = port.try_into().unwrap_or_default();
        SocketAddrV6::new(Ipv6Addr::from(ip), u16::from_be_bytes(port), 0, 0).into()
    })
}

/// The same address with an IPv4-mapped IPv6 address turned into the IPv4 address it stands for.
#[must_use]
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// True if a connection to the address can make sense: a port, and neither unspecified, multicast nor broadcast.
///
/// Loopback and private addresses are fine: swarms live there too.
#[must_use]
pub fn is_dialable(addr: SocketAddr) -> bool {
    let ip = addr.ip().to_canonical();
    let broadcast =
        matches!(ip, IpAddr::V4(v4) if v4.is_broadcast() || v4.octets().first() == Some(&0));
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// True for addresses that no route on the internet leads to, whose nodes BEP 42 leaves alone.
#[must_use]
pub fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// The network that is taken for one owner: /24 of IPv4, /64 of IPv6.
#[must_use]
pub fn subnet(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() >> 8 << 8).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_round_trips() {
        let rows: [&str; 4] = [
            "1.2.3.4:6881",
            "255.0.0.1:1",
            "[2001:db8::1]:6881",
            "[::1]:65535",
        ];
        for row in rows {
            let addr: SocketAddr = row.parse().unwrap();
            let mut bytes = Vec::new();
            encode_compact(addr, &mut bytes);
            let decoded: Vec<_> = if addr.is_ipv4() {
                decode_compact_v4(&bytes).collect()
            } else {
                decode_compact_v6(&bytes).collect()
            };
            assert_eq!(decoded, [addr]);
        }
    }

    #[test]
    fn a_cut_entry_is_left_out() {
        assert_eq!(decode_compact_v4(&[1, 2, 3, 4, 0, 80, 9]).count(), 1);
        assert_eq!(decode_compact_v6(&[0; 17]).count(), 0);
    }

    #[test]
    fn what_may_be_dialled() {
        let rows = [
            ("127.0.0.1:6881", true),
            ("10.0.0.1:6881", true),
            ("[::1]:6881", true),
            ("1.2.3.4:0", false),
            ("0.0.0.0:6881", false),
            ("0.1.2.3:6881", false),
            ("255.255.255.255:6881", false),
            ("224.0.0.1:6881", false),
            ("[ff02::1]:6881", false),
            ("[::]:6881", false),
            ("[::ffff:0.0.0.0]:6881", false),
            ("[::ffff:1.2.3.4]:6881", true),
        ];
        for (addr, expected) in rows {
            assert_eq!(is_dialable(addr.parse().unwrap()), expected, "{addr}");
        }
    }
}
