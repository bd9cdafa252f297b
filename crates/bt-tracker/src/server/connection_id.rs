//! Connection ids that need no table (BEP 15, "UDP connections / spoofing").
//!
//! `u8 slot · 56 bits of SipHash-2-4(secret, address · slot)`. A slot is a minute. Whoever sends an id from the address it
//! was made for has received what was sent there; nobody else can make one, or use one that was made for others, and
//! a flood of connects leaves nothing behind.
//!
//! **Invariant:** an id is good for at least two minutes, as BEP 15 wants it, and dead after three.
//!
//! The address counts, and not the port: a client may connect from one and announce from another, as address
//! translation sees fit.

use crate::udp::ConnectionId;
use bt_core::Time;
use core::time::Duration;
use siphasher::sip::SipHasher24;
use std::net::IpAddr;

/// How long a slot lasts.
const SLOT: Duration = Duration::from_secs(60);

/// How many slots an id lives on after the one it was made in.
const SLOTS_KEPT: u8 = 2;

/// No id is good for longer.
pub const LIFE_MAX: Duration = Duration::from_secs(SLOT.as_secs() * (SLOTS_KEPT as u64 + 1));

/// Bits of an id that prove it; the others name its slot.
const PROOF_BITS: u32 = 56;

/// Makes ids and proves them.
#[derive(Clone)]
pub struct ConnectionIds {
    hasher: SipHasher24,
}

impl core::fmt::Debug for ConnectionIds {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ConnectionIds") // and not its secret
    }
}

impl ConnectionIds {
    /// Ids of this secret, which must be random. All threads of a tracker share it: the system may send the packets of one
    /// client to any of them.
    #[must_use]
    pub fn new(secret: &[u8; 16]) -> Self {
        Self {
            hasher: SipHasher24::new_with_key(secret),
        }
    }

    /// The id for a client at `ip`.
    #[must_use]
    pub fn make(&self, now: Time, ip: IpAddr) -> ConnectionId {
        self.of(slot(now), ip)
    }

    /// True if the id was made for `ip` and is not too old.
    #[must_use]
    pub fn prove(&self, now: Time, ip: IpAddr, id: ConnectionId) -> bool {
        let [made, ..] = id.0.to_be_bytes();
        slot(now).wrapping_sub(made) <= SLOTS_KEPT && self.of(made, ip) == id
    }

    fn of(&self, slot: u8, ip: IpAddr) -> ConnectionId {
        let ip = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let mut bytes = [0; 17];
        bytes
            .iter_mut()
            .zip(ip.octets().into_iter().chain([slot]))
            .for_each(|(to, from)| *to = from);
        let proof = self.hasher.hash(&bytes) >> (u64::BITS - PROOF_BITS);
        ConnectionId(u64::from(slot) << PROOF_BITS | proof)
    }
}

fn slot(now: Time) -> u8 {
    let minutes = now.as_nanos() / u64::try_from(SLOT.as_nanos()).unwrap_or(u64::MAX);
    let [.., low] = minutes.to_be_bytes();
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> ConnectionIds {
        ConnectionIds::new(b"not random at al")
    }

    #[test]
    fn an_id_lives_for_two_minutes_and_is_dead_after_three() {
        // FAULTS 123; the slots come round after 256 minutes.
        let ip = "10.0.0.1".parse().unwrap();
        for made in [0, 30, 59, 60, 119, 254 * 60, 255 * 60 + 59, 256 * 60] {
            let id = ids().make(Time::from_secs(made), ip);
            let lives = |after: u64| ids().prove(Time::from_secs(made + after), ip, id);
            assert!([0, 1, 60, 119, 120].into_iter().all(lives), "{made}");
            assert!(
                ![180, 181, 240, 1_000, 10_000].into_iter().any(lives),
                "{made}"
            );
        }
        assert!(!ids().prove(Time::ZERO, ip, ids().make(Time::from_secs(60), ip)));
    }

    #[test]
    fn an_id_is_good_for_its_address_and_its_secret_alone() {
        // FAULTS 122.
        let now = Time::from_secs(1_000);
        let addrs = [
            "10.0.0.1",
            "10.0.0.2",
            "::ffff:10.0.0.3",
            "2001:db8::1",
            "::",
        ];
        for from in addrs.map(|addr| addr.parse().unwrap()) {
            let id = ids().make(now, from);
            for to in addrs.map(|addr| addr.parse().unwrap()) {
                assert_eq!(ids().prove(now, to, id), from == to, "{from} {to}");
            }
            assert!(!ConnectionIds::new(&[7; 16]).prove(now, from, id));
            for bit in 0..u64::BITS {
                let other = ConnectionId(id.0 ^ 1 << bit);
                assert!(!ids().prove(now, from, other), "{bit}");
            }
        }
        let mapped = ids().make(now, "::ffff:10.0.0.1".parse().unwrap());
        assert!(ids().prove(now, "10.0.0.1".parse().unwrap(), mapped));
    }

    #[test]
    fn ids_tell_nothing_about_the_next() {
        // FAULTS 123: between neighbours in address and time, half of the bits that prove change.
        let at = |secs, ip: u32| ids().make(Time::from_secs(secs), IpAddr::V4(ip.into())).0;
        let changed: u32 = (0..1_000)
            .map(|n| (at(60, n) ^ at(60, n + 1)).count_ones() + (at(0, n) ^ at(60, n)).count_ones())
            .sum();
        let mean = f64::from(changed) / 2_000.0;
        assert!((27.0..=29.0).contains(&mean), "{mean}");
    }
}
