//! Which pieces a choked peer may have: the allowed fast set (BEP 6, "allowed fast").
//!
//! The set follows from the peer's network and the info hash alone, so that coming back, or coming from a neighbouring
//! address, gains nobody other pieces.

use bt_core::{InfoHash, Layout, PieceIndex};
use sha1::{Digest, Sha1};
use std::net::IpAddr;

/// How many pieces a choked peer is given: what BEP 6 advises.
pub const ALLOWED_FAST_COUNT: usize = 10;

/// The `count` pieces that a peer at `ip` may ask for while it is choked, in the order of BEP 6; all of them if the
/// torrent has no more.
///
/// BEP 6 speaks of IPv4 only, and takes the address's first three bytes. Of an IPv6 address the first six stand for its
/// network: what one site gets. Nobody checks the other side's set, so the choice binds no one.
#[must_use]
pub fn allowed_fast_set(
    ip: IpAddr,
    info_hash: InfoHash,
    layout: &Layout,
    count: usize,
) -> Vec<PieceIndex> {
    if layout.pieces_count() as usize <= count {
        return layout.pieces().collect();
    }
    let mut hash: [u8; 20] = match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            first(&[a, b, c, 0], info_hash)
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, ..] = ip.octets();
            first(&[a, b, c, d, e, f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], info_hash)
        }
    };
    let mut set = Vec::with_capacity(count);
    while set.len() < count {
        for word in hash.as_chunks::<4>().0 {
            let piece = layout.piece(u32::from_be_bytes(*word) % layout.pieces_count());
            match piece {
                Some(piece) if set.len() < count && !set.contains(&piece) => set.push(piece),
                _ => {}
            }
        }
        hash = Sha1::digest(hash).into();
    }
    set
}

fn first(network: &[u8], info_hash: InfoHash) -> [u8; 20] {
    Sha1::new()
        .chain_update(network)
        .chain_update(info_hash.as_bytes())
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `bep6_allowed_fast.json`: the example of BEP 6, taken from its text.
    const GOLDEN: &str = include_str!("../testdata/bep6_allowed_fast.json");

    fn layout(pieces_count: u32) -> Layout {
        Layout::new(u64::from(pieces_count), 1).unwrap()
    }

    #[test]
    fn the_example_of_bep_6() {
        let golden: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
        let rows = golden["cases"].as_array().unwrap();
        assert_eq!(rows.len(), 2);
        for row in rows {
            let number = |key: &str| u32::try_from(row[key].as_u64().unwrap()).unwrap();
            let text = |key: &str| row[key].as_str().unwrap();
            let set = allowed_fast_set(
                text("ip").parse().unwrap(),
                text("info_hash").parse().unwrap(),
                &layout(number("pieces")),
                number("k") as usize,
            );
            let set: Vec<u32> = set.into_iter().map(PieceIndex::get).collect();
            let expected: Vec<u32> = serde_json::from_value(row["allowed"].clone()).unwrap();
            assert_eq!(set, expected);
        }
    }

    #[test]
    fn one_network_one_set() {
        let set = |ip: &str| {
            allowed_fast_set(
                ip.parse().unwrap(),
                InfoHash([0xaa; 20]),
                &layout(5_000),
                ALLOWED_FAST_COUNT,
            )
        };
        let rows = [
            ("80.4.4.200", "80.4.4.1", true),
            ("80.4.4.200", "80.4.5.200", false),
            ("80.4.4.200", "::ffff:80.4.4.7", true),
            ("2001:db8:1::1", "2001:db8:1:ff::2", true),
            ("2001:db8:1::1", "2001:db8:2::1", false),
        ];
        for (a, b, same) in rows {
            assert_eq!(set(a).len(), ALLOWED_FAST_COUNT);
            assert_eq!(set(a) == set(b), same, "{a} {b}");
        }
    }

    #[test]
    fn a_small_torrent_is_allowed_whole() {
        // Else the search for one more piece would never end.
        for pieces_count in [0, 1, 9, 10, 11] {
            let set = allowed_fast_set(
                [1, 2, 3, 4].into(),
                InfoHash([1; 20]),
                &layout(pieces_count),
                10,
            );
            assert_eq!(set.len(), pieces_count.min(10) as usize);
        }
    }
}
