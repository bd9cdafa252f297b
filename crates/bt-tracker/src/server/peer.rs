//! A peer as it lies in memory: address, port, and when it was last heard of, without a byte to spare.

use super::hash::HashKey;
use std::net::{IpAddr, SocketAddr};

/// When a peer was last heard of, in steps of [`STEP_SECS`], modulo 2^16.
///
/// **Invariant:** no peer is kept for as long as the steps take to come round (see [`EXPIRY_MAX_SECS`]), so that the age of
/// one is never mistaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen(u16);

/// How exact [`Seen`] is, in seconds.
pub(super) const STEP_SECS: u32 = 4;

/// Longest expiry that can be told apart: a quarter of the way round. A swarm that nobody announced to for one expiry is
/// cleared as a whole, and others are searched at least once an expiry, so nobody gets older than two of them.
pub(super) const EXPIRY_MAX_SECS: u32 = STEP_SECS * (1 << 14);

impl Seen {
    pub(super) fn at(seconds: u32) -> Self {
        let [_, _, high, low] = (seconds / STEP_SECS).to_be_bytes();
        Self(u16::from_be_bytes([high, low]))
    }

    /// How long ago that is, in seconds.
    pub(super) fn age_secs(self, seconds: u32) -> u32 {
        u32::from(Self::at(seconds).0.wrapping_sub(self.0)) * STEP_SECS
    }
}

/// A peer of one family.
pub(super) trait Peer: Copy {
    /// Its address and port in compact form.
    type Compact: AsRef<[u8]> + Copy;

    /// `None` if the address is of the other family.
    fn new(addr: &SocketAddr, seen: Seen) -> Option<Self>;
    fn is_at(&self, other: &Self) -> bool;
    fn seen(&self) -> Seen;
    fn compact(&self) -> Self::Compact;
    /// What one person is likely to have all of: an IPv4 address, an IPv6 /64.
    fn network(&self) -> u64;

    fn hash(&self, key: &HashKey) -> u64 {
        key.hash(self.compact().as_ref())
    }
}

/// The network of a peer at this address: the IPv4 address, or the first 64 bits of the other.
pub(super) fn network_of(addr: &SocketAddr) -> u64 {
    match addr.ip() {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
    }
}

/// Eight bytes: `4 address · 2 port · 2 seen`, compared as one number.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerV4(u64);

impl Peer for PeerV4 {
    type Compact = [u8; 6];

    fn new(addr: &SocketAddr, seen: Seen) -> Option<Self> {
        let IpAddr::V4(ip) = addr.ip() else {
            return None;
        };
        let port_and_seen = u32::from(addr.port()) << 16 | u32::from(seen.0);
        Some(Self(
            u64::from(ip.to_bits()) << 32 | u64::from(port_and_seen),
        ))
    }

    fn is_at(&self, other: &Self) -> bool {
        (self.0 ^ other.0) >> 16 == 0
    }

    fn seen(&self) -> Seen {
        let [.., high, low] = self.0.to_be_bytes();
        Seen(u16::from_be_bytes([high, low]))
    }

    fn compact(&self) -> [u8; 6] {
        let [a, b, c, d, p, q, ..] = self.0.to_be_bytes();
        [a, b, c, d, p, q]
    }

    fn network(&self) -> u64 {
        self.0 >> 32
    }
}

/// Twenty bytes: `16 address · 2 port · 2 seen`.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerV6 {
    compact: [u8; 18],
    seen: Seen,
}

impl Peer for PeerV6 {
    type Compact = [u8; 18];

    fn new(addr: &SocketAddr, seen: Seen) -> Option<Self> {
        let IpAddr::V6(ip) = addr.ip() else {
            return None;
        };
        let mut compact = [0; 18];
        let (ip_part, port_part) = compact.split_at_mut(16);
        ip_part.copy_from_slice(&ip.octets());
        port_part.copy_from_slice(&addr.port().to_be_bytes());
        Some(Self { compact, seen })
    }

    fn is_at(&self, other: &Self) -> bool {
        self.compact == other.compact
    }

    fn seen(&self) -> Seen {
        self.seen
    }

    fn compact(&self) -> [u8; 18] {
        self.compact
    }

    fn network(&self) -> u64 {
        let network = self.compact.first_chunk::<8>();
        network.map_or(0, |network| u64::from_be_bytes(*network))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bt_core::addr::{decode_compact_v4, decode_compact_v6};

    #[test]
    fn nothing_is_lost_and_sizes_are_kept() {
        assert_eq!((size_of::<PeerV4>(), size_of::<PeerV6>()), (8, 20));
        let seen = Seen::at(4 * 0xfffe);
        for addr in ["255.1.2.3:65535", "0.0.0.1:1"] {
            let addr: SocketAddr = addr.parse().unwrap();
            let peer = PeerV4::new(&addr, seen).unwrap();
            let read = decode_compact_v4(&peer.compact()).next();
            assert_eq!((read, peer.seen()), (Some(addr), seen));
            assert!(PeerV6::new(&addr, seen).is_none());
        }
        let addr: SocketAddr = "[2001:db8::1]:6881".parse().unwrap();
        let peer = PeerV6::new(&addr, seen).unwrap();
        let read = decode_compact_v6(&peer.compact()).next();
        assert_eq!((read, peer.seen()), (Some(addr), seen));
        assert!(PeerV4::new(&addr, seen).is_none());
    }

    #[test]
    fn ages_hold_across_the_turn() {
        let turn = STEP_SECS << 16;
        for (then, now, age) in [(0, 0, 0), (0, 8, 8), (turn - 4, turn + 8, 12), (7, 5, 0)] {
            assert_eq!(Seen::at(then).age_secs(now), age, "{then} {now}");
        }
    }

    #[test]
    fn who_is_at_the_same_address_is_the_same() {
        let peer = |addr: &str, at| PeerV4::new(&addr.parse().unwrap(), Seen::at(at)).unwrap();
        assert!(peer("1.2.3.4:5", 0).is_at(&peer("1.2.3.4:5", 4000)));
        assert!(!peer("1.2.3.4:5", 0).is_at(&peer("1.2.3.4:6", 0)));
        assert!(!peer("1.2.3.4:5", 0).is_at(&peer("1.2.3.5:5", 0)));
    }
}
