//! Twenty-byte identities: which torrent, and which peer.

use core::fmt;
use core::str::FromStr;

/// The SHA-1 of a torrent's info dictionary as it stands in the metainfo file (BEP 3, "metainfo files").
///
/// For a v2 torrent, the first 20 bytes of its SHA-256 (BEP 52, "infohash").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHash(pub [u8; 20]);

/// How a client names itself to trackers and peers, fresh for each run (BEP 3 "trackers", BEP 20 for the form).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 20]);

/// Not forty hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseInfoHashError {
    /// How many bytes were given.
    pub length_bytes: usize,
}

impl fmt::Display for ParseInfoHashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an info hash is 40 hexadecimal digits, not these {} bytes",
            self.length_bytes
        )
    }
}

impl core::error::Error for ParseInfoHashError {}

impl InfoHash {
    /// The twenty bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl FromStr for InfoHash {
    type Err = ParseInfoHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = ParseInfoHashError {
            length_bytes: text.len(),
        };
        if text.len() != 40 {
            return Err(error);
        }
        let nibble = |digit: u8| {
            char::from(digit)
                .to_digit(16)
                .and_then(|n| u8::try_from(n).ok())
        };
        let mut bytes = [0; 20];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let [high, low] = pair else { return Err(error) };
            *byte = nibble(*high)
                .zip(nibble(*low))
                .map(|(h, l)| h << 4 | l)
                .ok_or(error)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Ten thousand torrents are told of some times each: formatting byte by byte takes ten times as long.
        let digit = |nibble| char::from_digit(u32::from(nibble), 16).unwrap_or('?');
        let mut text = [0; 40];
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        for (place, nibble) in text.iter_mut().zip(digits) {
            digit(nibble).encode_utf8(core::slice::from_mut(place));
        }
        f.write_str(core::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl PeerId {
    /// The twenty bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// An id in the common form of BEP 20: `-`, client and version in `prefix`, then random letters and digits.
    ///
    /// A fresh one for each run makes two peers on one host distinct, and tells nothing else.
    #[must_use]
    pub fn generate(prefix: &[u8; 8], rng: &mut crate::Rng) -> Self {
        const ALPHABET: &[u8; 62] =
            b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut id = [0; 20];
        for (position, byte) in id.iter_mut().enumerate() {
            let random = ALPHABET
                .get(rng.index(ALPHABET.len()))
                .copied()
                .unwrap_or(b'0');
            *byte = prefix.get(position).copied().unwrap_or(random);
        }
        Self(id)
    }
}

/// Printable bytes as they are, the others as `\xNN`: a peer's id comes from a stranger.
impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_hash_round_trips_through_hex() {
        let text = "0123456789abcdef0123456789abcdef01234567";
        let hash: InfoHash = text.parse().unwrap();
        assert_eq!(hash.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(hash));
    }

    #[test]
    fn info_hash_refuses_what_is_not_hex() {
        let rows = [
            "",
            "0",
            &"0".repeat(39),
            &"0".repeat(41),
            &"g".repeat(40),
            &"+1".repeat(20),
            &"é".repeat(20),
        ];
        for row in rows {
            assert!(row.parse::<InfoHash>().is_err(), "{row}");
        }
    }

    #[test]
    fn peer_id_is_prefixed_printable_and_fresh() {
        let mut rng = crate::Rng::new(1);
        let (a, b) = (
            PeerId::generate(b"-BT0001-", &mut rng),
            PeerId::generate(b"-BT0001-", &mut rng),
        );
        assert!(a.to_string().starts_with("-BT0001-") && a.to_string().len() == 20);
        assert_ne!(a, b);
        assert_eq!(PeerId([0; 20]).to_string(), "\\x00".repeat(20));
    }
}
