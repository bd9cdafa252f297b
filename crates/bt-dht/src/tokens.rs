//! Write tokens (BEP 5, "DHT queries"): who stores something proves that it can be reached where it asked from.
//!
//! A token is a SHA-1 over a secret, the asking IP address and the key asked for, so one that was stolen or handed on
//! is worth nothing elsewhere. The secret changes every five minutes, and the one before it still counts.

use crate::id::NodeId;
use crate::secret::{Secret, sha1};
use bt_core::Time;
use core::time::Duration;
use std::net::IpAddr;

/// How long a secret is in use (BEP 5: "a secret that changes every five minutes").
const ROTATION: Duration = Duration::from_secs(5 * 60);

/// Bytes of a token: more than anybody can guess before it is void.
pub const TOKEN_BYTES: usize = 8;

/// The secrets behind tokens.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    current: [u8; 20],
    previous: [u8; 20],
    since: Time,
}

impl Tokens {
    pub(crate) fn new(now: Time, secret: &mut Secret) -> Self {
        Self {
            current: secret.draw(),
            previous: secret.draw(),
            since: now,
        }
    }

    /// Changes the secret if it is time to.
    pub(crate) fn rotate(&mut self, now: Time, secret: &mut Secret) {
        let age = now.since(self.since);
        if age < ROTATION {
            return;
        }
        // Two rotations were slept through: neither secret is young enough.
        self.previous = if age < 2 * ROTATION {
            self.current
        } else {
            secret.draw()
        };
        self.current = secret.draw();
        self.since = now;
    }

    /// The token for whoever asks for `key` from `ip`.
    pub(crate) fn token(&self, ip: IpAddr, key: &NodeId) -> [u8; TOKEN_BYTES] {
        token(&self.current, ip, key)
    }

    /// True if this is a token that `ip` was given for `key`, five to ten minutes ago at most.
    pub(crate) fn accepts(&self, given: &[u8], ip: IpAddr, key: &NodeId) -> bool {
        let fits = |secret| {
            // Without an early end, so that the time it takes tells nothing of how much was right.
            let token = token(secret, ip, key);
            let differing = token.iter().zip(given).fold(0, |sum, (a, b)| sum | (a ^ b));
            given.len() == TOKEN_BYTES && differing == 0
        };
        fits(&self.current) | fits(&self.previous)
    }
}

fn token(secret: &[u8; 20], ip: IpAddr, key: &NodeId) -> [u8; TOKEN_BYTES] {
    let ip = match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let [a, b, c, d, e, f, g, h, ..] = sha1(&[secret, &ip.octets(), &key.0]);
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_132_tokens_hold_for_one_address_one_key_and_ten_minutes() {
        let mut secret = Secret::new([7; 32]);
        let mut tokens = Tokens::new(Time::ZERO, &mut secret);
        let (ip, other) = ("1.2.3.4".parse().unwrap(), "1.2.3.5".parse().unwrap());
        let (key, other_key) = (NodeId([1; 20]), NodeId([2; 20]));
        let token = tokens.token(ip, &key);
        let rows: [(&[u8], IpAddr, NodeId, bool); 6] = [
            (&token, ip, key, true),
            (&token, "::ffff:1.2.3.4".parse().unwrap(), key, true),
            (&token, other, key, false),
            (&token, ip, other_key, false),
            (&token[..7], ip, key, false),
            (b"", ip, key, false),
        ];
        for (given, from, key, expected) in rows {
            assert_eq!(tokens.accepts(given, from, &key), expected);
        }
        let mut after = |seconds| {
            let mut later = tokens.clone();
            (0..=seconds).step_by(60).for_each(|second| {
                later.rotate(Time::from_secs(second), &mut secret);
            });
            later.accepts(&token, ip, &key)
        };
        assert!(after(299) && after(300) && after(599));
        assert!(!after(600));
        tokens.rotate(Time::from_secs(3_600), &mut secret);
        assert!(
            !tokens.accepts(&token, ip, &key),
            "an hour was slept through"
        );
    }
}
