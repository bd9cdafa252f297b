//! Which of two peers is to be preferred, so that both ends of a connection think alike (BEP 40, canonical peer priority).
//!
//! When all have as many connections as they may, a newcomer would find nobody, and whoever came first would stay. Ranked
//! by a hash of both addresses everybody has a place somewhere, and an attacker with few addresses takes few places.

use bt_core::addr::{canonical, is_local};
use bt_core::crc::crc32c;
use std::net::{IpAddr, SocketAddr};

/// How many leading bytes of addresses in different networks count in full: a /16 of IPv4, a /48 of IPv6.
const NETWORK_BYTES_V4: usize = 2;
const NETWORK_BYTES_V6: usize = 6;

/// What counts of the bytes behind: neighbours within one network must not be able to choose their rank freely.
const MASK: u8 = 0x55;

/// How much two peers should be connected, higher is more, and the same for both. `None` where they cannot think alike:
/// addresses of two families, or one that the other does not see, as it is a network's own.
#[must_use]
pub fn priority(own: SocketAddr, peer: SocketAddr) -> Option<u32> {
    let (own, peer) = (canonical(own), canonical(peer));
    if is_local(own.ip()) != is_local(peer.ip()) {
        return None;
    }
    match (own.ip(), peer.ip()) {
        (own_ip, peer_ip) if own_ip == peer_ip => {
            let [low, high] = sorted(own.port().to_be_bytes(), peer.port().to_be_bytes());
            Some(crc32c(&[low, high].concat()))
        }
        (IpAddr::V4(own), IpAddr::V4(peer)) => {
            Some(of_bytes(own.octets(), peer.octets(), NETWORK_BYTES_V4))
        }
        (IpAddr::V6(own), IpAddr::V6(peer)) => {
            Some(of_bytes(own.octets(), peer.octets(), NETWORK_BYTES_V6))
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

/// The bytes that both have in common count, and the next one, and those of the network in any case.
fn of_bytes<const N: usize>(own: [u8; N], peer: [u8; N], network_bytes: usize) -> u32 {
    let common = own.iter().zip(&peer).take_while(|(a, b)| a == b).count();
    let whole = network_bytes.max(common + 1);
    let masked = |mut bytes: [u8; N]| {
        bytes.iter_mut().skip(whole).for_each(|byte| *byte &= MASK);
        bytes
    };
    crc32c(&sorted(masked(own), masked(peer)).concat())
}

fn sorted<T: Ord>(a: T, b: T) -> [T; 2] {
    if a <= b { [a, b] } else { [b, a] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the text's example gives as the bytes to be hashed.
    fn of(bytes: &[u8]) -> Option<u32> {
        Some(crc32c(bytes))
    }

    #[test]
    fn peers_are_ranked_by_both_addresses() {
        let rows: [(&str, &str, Option<u32>); 12] = [
            // BEP 40, "examples".
            ("123.213.32.10:1", "98.76.54.32:2", Some(0xec2d_7224)),
            ("123.213.32.10:1", "123.213.32.234:2", Some(0x9956_8189)),
            // The same /16.
            (
                "123.213.32.10:1",
                "123.213.33.234:2",
                of(&[123, 213, 32, 0, 123, 213, 33, 0x40]),
            ),
            // The same address: ports.
            ("1.2.3.4:258", "1.2.3.4:1", of(&[0, 1, 1, 2])),
            ("[::ffff:1.2.3.4]:258", "1.2.3.4:1", of(&[0, 1, 1, 2])),
            // Addresses at home, among themselves and seen from outside.
            ("10.0.1.1:1", "10.1.1.1:1", of(&[10, 0, 1, 1, 10, 1, 1, 1])),
            ("1.2.3.4:1", "10.1.1.1:1", None),
            ("1.2.3.4:1", "127.0.0.1:1", None),
            ("1.2.3.4:1", "[2001:db8::1]:1", None),
            (
                "[2001:db8::ff]:1",
                "[2002::fe]:1",
                of(&[
                    0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x55, //
                    0x20, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x54,
                ]),
            ),
            (
                "[2001:db8:0:ffff::]:1",
                "[2001:db8::ff00:0:0:0]:1",
                of(&[
                    0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0x55, 0, 0, 0, 0, 0, 0, 0, //
                    0x20, 1, 0x0d, 0xb8, 0, 0, 0xff, 0x55, 0, 0, 0, 0, 0, 0, 0, 0,
                ]),
            ),
            (
                "[2001:db8::fe00:0:0:ff]:1",
                "[2001:db8::ff00:0:0:ff]:1",
                of(&[
                    0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0xfe, 0, 0, 0, 0, 0, 0, 0x55, //
                    0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0x55,
                ]),
            ),
        ];
        for (own, peer, expected) in rows {
            let [own, peer] = [own, peer].map(|text| text.parse::<SocketAddr>().unwrap());
            assert_eq!(priority(own, peer), expected, "{own} {peer}");
            assert_eq!(priority(peer, own), expected, "both ends think alike");
        }
    }
}
