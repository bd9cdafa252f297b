//! The peers of an answer, in buffers that serve one answer after the other.

use crate::announce::Peer;
use bt_core::PeerId;
use bt_core::addr::{decode_compact_v4, decode_compact_v6};

/// Which peers an answer may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both.
    Both,
}

/// What an answer may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of which families.
    pub scope: Scope,
    /// With their ids, where those are kept.
    pub ids: bool,
    /// Most peers that the transport carries.
    pub most: usize,
}

/// Peers in compact form.
///
/// **Invariant:** the ids, where they are kept, are in the order of the peers of their family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picked {
    v4: Vec<u8>,
    v6: Vec<u8>,
    ids_v4: Vec<PeerId>,
    ids_v6: Vec<PeerId>,
}

impl Picked {
    /// The IPv4 peers, 6 bytes each.
    #[must_use]
    pub fn v4(&self) -> &[u8] {
        &self.v4
    }

    /// The IPv6 peers, 18 bytes each.
    #[must_use]
    pub fn v6(&self) -> &[u8] {
        &self.v6
    }

    /// The peers one by one, with their ids where they are kept.
    pub fn peers(&self) -> impl Iterator<Item = Peer> {
        let v4 = decode_compact_v4(&self.v4).zip(ids(&self.ids_v4));
        let v6 = decode_compact_v6(&self.v6).zip(ids(&self.ids_v6));
        v4.chain(v6).map(|(addr, peer_id)| Peer { addr, peer_id })
    }

    /// Makes it empty; the buffers stay.
    pub fn clear(&mut self) {
        self.v4.clear();
        self.v6.clear();
        self.ids_v4.clear();
        self.ids_v6.clear();
    }

    pub(super) fn push_v4(&mut self, compact: [u8; 6], id: Option<PeerId>) {
        self.v4.extend_from_slice(&compact);
        if let Some(id) = id {
            self.ids_v4.push(id);
        }
    }

    pub(super) fn push_v6(&mut self, compact: [u8; 18], id: Option<PeerId>) {
        self.v6.extend_from_slice(&compact);
        if let Some(id) = id {
            self.ids_v6.push(id);
        }
    }
}

/// Zeros stand for an id that was not told: that of a peer which another tracker heard of.
fn ids(ids: &[PeerId]) -> impl Iterator<Item = Option<PeerId>> {
    ids.iter()
        .map(|id| Some(*id).filter(|id| id.0 != [0; 20]))
        .chain(core::iter::repeat(None))
}
