//! Node ids: the XOR metric (BEP 5, "overview") and the ids that an address may have (BEP 42).
//!
//! **Invariant:** [`is_of_address`] holds for each id that [`of_address`] makes, and for any id of a local address.

pub use bt_core::addr::{is_local, subnet};
use bt_core::crc::crc32c;
use bt_core::{InfoHash, Rng};
use core::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bits of an id.
pub const ID_BITS: usize = 160;

/// How many leading bits of an id BEP 42 fixes.
const FIXED_BITS: u32 = 21;

/// Which bits of an address go into the hash of BEP 42.
const MASK_V4: [u8; 4] = [0x03, 0x0f, 0x3f, 0xff];
const MASK_V6: [u8; 8] = [0x01, 0x03, 0x07, 0x0f, 0x1f, 0x3f, 0x7f, 0xff];

/// A place in the id space: a node's id, or what is looked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 20]);

/// How far two ids are apart: their XOR, as an unsigned integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Distance([u8; 20]);

impl NodeId {
    /// An id anywhere.
    #[must_use]
    pub fn random(rng: &mut Rng) -> Self {
        let mut id = [0; 20];
        rng.fill(&mut id);
        Self(id)
    }

    /// The id in `bytes`, if there are twenty of them.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The distance to another id.
    #[must_use]
    pub fn distance(&self, other: &Self) -> Distance {
        let mut distance = self.0;
        distance.iter_mut().zip(other.0).for_each(|(a, b)| *a ^= b);
        Distance(distance)
    }

    /// How many leading bits two ids share, 0 to [`ID_BITS`].
    #[must_use]
    pub fn shared_bits(&self, other: &Self) -> usize {
        let differing = self.0.iter().zip(other.0).position(|(a, b)| *a != b);
        let Some(byte) = differing else {
            return ID_BITS;
        };
        let xor = self.distance(other).0.get(byte).copied().unwrap_or(0);
        byte * 8 + usize::try_from(xor.leading_zeros()).unwrap_or(0)
    }

    /// A random id that shares exactly the first `bits` bits with this one (all of it if `bits` is [`ID_BITS`]).
    #[must_use]
    pub fn sibling(&self, bits: usize, rng: &mut Rng) -> Self {
        let random = Self::random(rng);
        let mut id = *self;
        for (index, (byte, drawn)) in id.0.iter_mut().zip(random.0).enumerate() {
            let kept = bits.saturating_sub(index * 8).min(8);
            let mask = u8::try_from(0xff_u16 >> kept).unwrap_or(0);
            *byte = (*byte & !mask) | (drawn & mask);
        }
        if let Some(byte) = id.0.get_mut(bits / 8) {
            let bit = 0x80_u8 >> (bits % 8);
            let own = self.0.get(bits / 8).copied().unwrap_or(0);
            *byte = (*byte & !bit) | (!own & bit);
        }
        id
    }
}

impl From<InfoHash> for NodeId {
    fn from(hash: InfoHash) -> Self {
        Self(hash.0)
    }
}

impl From<NodeId> for InfoHash {
    fn from(id: NodeId) -> Self {
        Self(id.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A random id that `ip` may have (BEP 42, "node id restriction"). For a local address: any.
#[must_use]
pub fn of_address(ip: IpAddr, rng: &mut Rng) -> NodeId {
    let mut id = NodeId::random(rng);
    if is_local(ip) {
        return id;
    }
    let fixed = fixed_bits(ip, id.0.last().copied().unwrap_or(0));
    let mask = u32::MAX << (u32::BITS - FIXED_BITS);
    let [a, b, c, d, ..] = id.0;
    let mixed = (u32::from_be_bytes([a, b, c, d]) & !mask) | (fixed & mask);
    id.0.iter_mut()
        .zip(mixed.to_be_bytes())
        .for_each(|(to, from)| *to = from);
    id
}

/// True if a node at `ip` may have this id (BEP 42, "enforcement"); local addresses may have any.
#[must_use]
pub fn is_of_address(id: &NodeId, ip: IpAddr) -> bool {
    let fixed = fixed_bits(ip, id.0.last().copied().unwrap_or(0));
    let [a, b, c, d, ..] = id.0;
    is_local(ip) || (u32::from_be_bytes([a, b, c, d]) ^ fixed) >> (u32::BITS - FIXED_BITS) == 0
}

/// The network of which a lookup counts few nodes: /16 of IPv4, /32 of IPv6. That much one owner may well have.
#[must_use]
pub fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() >> 16 << 16).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 96 << 96).into(),
    }
}

/// The hash whose first 21 bits are the id's, for an id that ends in `last`.
fn fixed_bits(ip: IpAddr, last: u8) -> u32 {
    let high = (last & 7) << 5;
    match ip.to_canonical() {
        IpAddr::V4(ip) => hash_masked(ip.octets(), MASK_V4, high),
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            let mut half = [0; 8];
            half.iter_mut()
                .zip(octets)
                .for_each(|(to, from)| *to = from);
            hash_masked(half, MASK_V6, high)
        }
    }
}

fn hash_masked<const N: usize>(mut bytes: [u8; N], mask: [u8; N], high: u8) -> u32 {
    bytes.iter_mut().zip(mask).for_each(|(byte, m)| *byte &= m);
    if let Some(first) = bytes.first_mut() {
        *first |= high;
    }
    crc32c(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bep_42_vectors() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../testdata/bep42.json")).unwrap();
        let cases = golden["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 5);
        for case in cases {
            let ip: IpAddr = case["ip"].as_str().unwrap().parse().unwrap();
            let id: InfoHash = case["node_id"].as_str().unwrap().parse().unwrap();
            let id = NodeId::from(id);
            assert!(is_of_address(&id, ip), "{ip}");
            // A bit of the 21 that is wrong, and the 22nd, which is free.
            let mut wrong = id;
            wrong.0[2] ^= 0x08;
            assert!(!is_of_address(&wrong, ip), "{ip}");
            let mut free = id;
            free.0[2] ^= 0x04;
            assert!(is_of_address(&free, ip), "{ip}");
            assert!(!is_of_address(&id, "1.2.3.4".parse().unwrap()));
        }
    }

    #[test]
    fn an_id_is_of_the_address_it_was_made_for() {
        let mut rng = Rng::new(1);
        for ip in ["8.8.8.8", "2001:db8:1:2::3", "::ffff:8.8.8.8"] {
            let ip: IpAddr = ip.parse().unwrap();
            for _ in 0..100 {
                assert!(is_of_address(&of_address(ip, &mut rng), ip));
            }
            let strangers = (0..1000).filter(|_| is_of_address(&NodeId::random(&mut rng), ip));
            assert!(strangers.count() < 2);
        }
    }

    #[test]
    fn local_addresses_may_have_any_id() {
        let rows = [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("172.16.0.1", true),
            ("172.32.0.1", false),
            ("192.168.1.1", true),
            ("169.254.1.1", true),
            ("::1", true),
            ("fe80::1", true),
            ("fd00::1", true),
            ("2001:db8::1", false),
            ("1.1.1.1", false),
        ];
        for (ip, expected) in rows {
            assert_eq!(is_local(ip.parse().unwrap()), expected, "{ip}");
        }
    }

    #[test]
    fn siblings_share_just_so_many_bits() {
        let mut rng = Rng::new(2);
        let id = NodeId::random(&mut rng);
        for bits in [0, 1, 7, 8, 9, 63, 158, 159, 160] {
            assert_eq!(id.shared_bits(&id.sibling(bits, &mut rng)), bits);
        }
    }

    #[test]
    fn networks() {
        let rows = [
            ("1.2.3.4", "1.2.3.0", "1.2.0.0"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::", "2001:db8::"),
            ("::ffff:1.2.3.4", "1.2.3.0", "1.2.0.0"),
        ];
        for (ip, small, large) in rows {
            let ip = ip.parse().unwrap();
            assert_eq!(subnet(ip).to_string(), small);
            assert_eq!(network(ip).to_string(), large);
        }
    }
}
