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
