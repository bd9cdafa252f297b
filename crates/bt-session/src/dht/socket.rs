//! UDP sockets: one for each address family, shared by all that speaks UDP with peers.
//!
//! A reader for each socket looks at a datagram's first byte and hands it to whom it is for: `d` begins a bencoded
//! dictionary, so it is the DHT's. Others are dropped. **Invariant:** datagrams wait in bounded channels; when one is full
//! the newest are lost, as they might have been on the way.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// Datagrams that wait for the DHT's task: a quarter of a second at a thousand a second.
pub(crate) const PACKETS_MAX: usize = 256;
/// The longest datagram that is read whole, in bytes. The DHT's are shorter; a longer one is cut, and then makes no sense.
const PACKET_MAX_BYTES: usize = 4096;

/// A datagram.
#[derive(Debug)]
pub(crate) struct Packet {
    /// Which of the sockets it came to.
    pub(crate) socket: usize,
    pub(crate) from: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// A socket.
#[derive(Debug)]
pub(crate) struct Udp {
    pub(crate) receiving: Arc<UdpSocket>,
    /// The same socket without the runtime, which takes it for full until it has looked at it once.
    sending: std::net::UdpSocket,
}

impl Udp {
    /// Sends a datagram now. A full buffer or a route that is not there: lost, as on any way.
    pub(crate) fn send(&self, to: SocketAddr, bytes: &[u8]) {
        if let Err(error) = self.sending.send_to(bytes, to) {
            tracing::trace!(%to, %error, "not sent");
        }
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.receiving.local_addr()
    }
}

/// Binds a socket for each family on `port`, or on any port if that is taken: nobody has to know it beforehand.
///
/// # Errors
/// If not even one can be had.
pub(crate) fn bind(bind: Option<IpAddr>, port: u16) -> io::Result<Vec<Udp>> {
    let ips = match bind {
        Some(ip) => vec![ip],
        None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    };
    let mut sockets = Vec::new();
    let mut refused = None;
    for ip in ips {
        let bound = socket(SocketAddr::new(ip, port)).or_else(|_| socket(SocketAddr::new(ip, 0)));
        match bound {
            Ok(socket) => sockets.push(socket),
            // A host may lack a family.
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if sockets.is_empty() => Err(error),
        _ => Ok(sockets),
    }
}

fn socket(addr: SocketAddr) -> io::Result<Udp> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    let sending: std::net::UdpSocket = socket.into();
    Ok(Udp {
        receiving: Arc::new(UdpSocket::from_std(sending.try_clone()?)?),
        sending,
    })
}

/// Reads a socket until nobody wants its datagrams any more.
pub(crate) async fn read(number: usize, socket: Arc<UdpSocket>, dht: mpsc::Sender<Packet>) {
    let mut buffer = vec![0; PACKET_MAX_BYTES];
    while !dht.is_closed() {
        // An error is what became of a datagram that we sent (nobody listens there), and is no concern of the socket.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        if bytes.first() == Some(&b'd') {
            let packet = Packet {
                socket: number,
                from,
                bytes: bytes.to_vec(),
            };
            // Full: lost.
            let _ = dht.try_send(packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_exchanged_for_a_free_one() {
        let loopback = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let first = bind(loopback, 0).unwrap();
        let port = first[0].local_addr().unwrap().port();
        let second = bind(loopback, port).unwrap();
        assert_ne!(second[0].local_addr().unwrap().port(), port);
    }

    #[tokio::test]
    async fn only_dictionaries_are_for_the_dht() {
        let loopback = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let (to, from) = (bind(loopback, 0).unwrap(), bind(loopback, 0).unwrap());
        let (packets_in, mut packets) = mpsc::channel(PACKETS_MAX);
        let reading = tokio::spawn(read(3, Arc::clone(&to[0].receiving), packets_in));
        let addr = to[0].local_addr().unwrap();
        for bytes in [b"A!".as_slice(), b"", b"d1:x"] {
            from[0].send(addr, bytes);
        }
        let packet = packets.recv().await.unwrap();
        assert_eq!(
            (packet.socket, packet.bytes.as_slice()),
            (3, b"d1:x".as_slice())
        );
        assert_eq!(packet.from, from[0].local_addr().unwrap());
        reading.abort();
    }
}
