//! The extension protocol (BEP 10): its handshake (`upload_only`: BEP 21), and whose each message is.

use super::{ConnId, Engine, Output, RESERVED, send};
use crate::connection::{Connection, Fault, Violation};
use crate::limits::UPLOAD_QUEUE_MAX;
use crate::peers::Source;
use bt_core::Time;
use bt_wire::extension::ExtensionHandshake;
use bt_wire::{Message, Reserved, dont_have, metadata, pex};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What we call ourselves.
const CLIENT: &str = concat!("bt ", env!("CARGO_PKG_VERSION"));

/// The id of the handshake among extended messages.
pub(super) const HANDSHAKE_ID: u8 = 0;

/// The id under which we take `ut_metadata`.
pub(crate) const METADATA_ID: u8 = 2;

/// The id under which we take `ut_pex`.
pub(crate) const PEX_ID: u8 = 1;

/// The id under which we take `lt_donthave`.
pub(crate) const DONT_HAVE_ID: u8 = 3;

impl Engine {
    /// Sends our handshake, if both ends speak the protocol.
    pub(super) fn greet(&mut self, now: Time, id: ConnId, reserved: Reserved) {
        if reserved.has_extension_protocol() && RESERVED.has_extension_protocol() {
            self.greet_again(now, id);
        }
    }

    /// Says it again to whoever was last told otherwise: that we want nothing, or that we do (BEP 21). Two that become
    /// complete at nearly the same moment learn it of each other by nothing else, as who has a piece hears no `have` of it.
    /// In the handshake, not in libtorrent's message `upload_only`: every reader of the one reads the other too.
    pub(super) fn tell_upload_only(&mut self, now: Time) {
        let told = |conn: &Connection| {
            conn.told_upload_only
                .is_some_and(|told| told != self.is_upload_only())
        };
        let outdated: Vec<ConnId> = self
            .conns
            .values()
            .filter(|conn| told(conn))
            .map(|conn| conn.id)
            .collect();
        for id in outdated {
            self.greet_again(now, id);
        }
    }

    /// A super-seeder does not say that it wants nothing, since it says that it has nothing either.
    fn is_upload_only(&self) -> bool {
        self.complete && !self.is_super_seeding()
    }

    /// Sends our handshake: the first, or one with news.
    pub(super) fn greet_again(&mut self, now: Time, id: ConnId) {
        let may_exchange = self.may_exchange();
        let upload_only = self.is_upload_only();
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let port = self.config.listen_port;
        let mut extensions = BTreeMap::from([
            (metadata::NAME.to_owned(), METADATA_ID),
            (dont_have::NAME.to_owned(), DONT_HAVE_ID),
        ]);
        if may_exchange {
            extensions.insert(pex::NAME.to_owned(), PEX_ID);
        } else if conn.pex.offered {
            extensions.insert(pex::NAME.to_owned(), 0);
        }
        conn.pex.offered = may_exchange;
        let told = conn.told_upload_only.replace(upload_only);
        let handshake = ExtensionHandshake {
            extensions,
            metadata_bytes: self.info.length_bytes(),
            client: Some(CLIENT.to_owned()),
            listen_port: (port != 0).then_some(port),
            requests_max: u32::try_from(UPLOAD_QUEUE_MAX).ok(),
            your_ip: Some(conn.addr.ip().to_canonical()),
            // Who was told nothing takes us for one who wants something.
            upload_only: (upload_only || told == Some(true)).then_some(upload_only),
            ..ExtensionHandshake::default()
        };
        let payload = Bytes::from(handshake.encode());
        let id = HANDSHAKE_ID;
        send(&mut self.out, now, conn, Message::Extended { id, payload });
    }

    /// Takes an extended message. One with an id that we gave to nothing is passed over.
    pub(super) fn extended(
        &mut self,
        now: Time,
        id: ConnId,
        extended_id: u8,
        payload: &Bytes,
    ) -> Result<(), Violation> {
        match extended_id {
            HANDSHAKE_ID => self.handshake(now, id, payload),
            METADATA_ID => self.metadata(now, id, payload),
            PEX_ID => self.peers_told(now, id, payload),
            DONT_HAVE_ID => self.peer_lost(now, id, payload),
            _ => Ok(()),
        }
    }

    fn handshake(&mut self, now: Time, id: ConnId, payload: &Bytes) -> Result<(), Violation> {
        let Some(conn) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        let Ok(handshake) = ExtensionHandshake::decode(payload) else {
            return conn.fault(Fault::BadExtensionHandshake);
        };
        if let Some(requests_max) = handshake.requests_max {
            let requests_max = usize::try_from(requests_max).unwrap_or(usize::MAX);
            conn.requests.set_reqq(requests_max);
        }
        conn.upload_only = handshake.upload_only.unwrap_or(conn.upload_only);
        if let Some(ip) = handshake.your_ip {
            let by = conn.addr.ip().to_canonical();
            self.out.push_back(Output::SeenAt { by, ip });
        }
        // A later handshake adds to an earlier one; 0 takes back.
        if let Some(id) = handshake.extensions.get(pex::NAME) {
            conn.speaks.pex = Some(*id).filter(|id| *id != 0);
        }
        if let Some(id) = handshake.extensions.get(dont_have::NAME) {
            conn.speaks.dont_have = Some(*id).filter(|id| *id != 0);
        }
        if let Some(id) = handshake.extensions.get(metadata::NAME) {
            conn.speaks.metadata = Some(*id).filter(|id| *id != 0);
        }
        if let (Some(_), Some(length)) = (conn.speaks.metadata, handshake.metadata_bytes) {
            conn.metadata.offers = true;
            self.info.offered(now, id, length);
        }
        if let Some(port) = handshake.listen_port
            && conn.listen_addr.is_none()
        {
            // It dialled us from some other port; now we know where it can be dialled, and need not.
            let addr = SocketAddr::new(conn.addr.ip(), port);
            conn.listen_addr = Some(addr);
            self.peers.add(addr, Source::Incoming, &mut self.rng);
            self.peers.connected(addr);
        }
        self.withdraw_late(now, id);
        self.close_if_redundant(now, id);
        Ok(())
    }
}
