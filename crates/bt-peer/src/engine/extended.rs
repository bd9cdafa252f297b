//! The extension protocol's handshake (BEP 10; `upload_only`: BEP 21). No extension is offered yet: `m` stays empty.

use super::{ConnId, Engine, RESERVED, send};
use crate::connection::{Fault, Violation};
use crate::limits::UPLOAD_QUEUE_MAX;
use crate::peers::Source;
use bt_core::Time;
use bt_wire::extension::ExtensionHandshake;
use bt_wire::{Message, Reserved};
use bytes::Bytes;
use std::net::SocketAddr;

/// What we call ourselves.
const CLIENT: &str = concat!("bt ", env!("CARGO_PKG_VERSION"));

/// The id of the handshake among extended messages.
const HANDSHAKE_ID: u8 = 0;

impl Engine {
    /// Sends our handshake, if both ends speak the protocol.
    pub(super) fn greet(&mut self, now: Time, id: ConnId, reserved: Reserved) {
        let speaks = reserved.has_extension_protocol() && RESERVED.has_extension_protocol();
        let Some(conn) = self.conns.get_mut(&id).filter(|_| speaks) else {
            return;
        };
        let port = self.config.listen_port;
        let handshake = ExtensionHandshake {
            client: Some(CLIENT.to_owned()),
            listen_port: (port != 0).then_some(port),
            requests_max: u32::try_from(UPLOAD_QUEUE_MAX).ok(),
            your_ip: Some(conn.addr.ip().to_canonical()),
            upload_only: self.complete,
            ..ExtensionHandshake::default()
        };
        let payload = Bytes::from(handshake.encode());
        let id = HANDSHAKE_ID;
        send(&mut self.out, now, conn, Message::Extended { id, payload });
    }

    /// Takes an extended message. Only the handshake can be meant for us.
    pub(super) fn extended(
        &mut self,
        now: Time,
        id: ConnId,
        extended_id: u8,
        payload: &[u8],
    ) -> Result<(), Violation> {
        let Some(conn) = self
            .conns
            .get_mut(&id)
            .filter(|_| extended_id == HANDSHAKE_ID)
        else {
            return Ok(());
        };
        let Ok(handshake) = ExtensionHandshake::decode(payload) else {
            return conn.fault(Fault::BadExtensionHandshake);
        };
        if let Some(requests_max) = handshake.requests_max {
            let requests_max = usize::try_from(requests_max).unwrap_or(usize::MAX);
            conn.requests.set_reqq(requests_max);
        }
        conn.upload_only = handshake.upload_only;
        if let Some(port) = handshake.listen_port
            && conn.listen_addr.is_none()
        {
            // It dialled us from some other port; now we know where it can be dialled, and need not.
            let addr = SocketAddr::new(conn.addr.ip(), port);
            conn.listen_addr = Some(addr);
            self.peers.add(addr, Source::Incoming, &mut self.rng);
            self.peers.connected(addr);
        }
        self.close_if_redundant(now, id);
        Ok(())
    }
}
