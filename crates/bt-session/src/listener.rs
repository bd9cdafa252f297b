//! Listening sockets: one for each address family, on one port.

use crate::config::PORTS;
use crate::session::SessionError;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::TcpListener;

/// Connections that the kernel keeps for us until we accept them. It cuts the number to its own limit.
const BACKLOG: i32 = 1024;

/// How often any free port is tried for both families at once before only one family is served.
const ANY_PORT_TRIES: usize = 8;

/// Binds listeners on `port`, or on the first free of [`PORTS`], or on any.
///
/// Without a `bind` address, IPv4 and IPv6 listen on the same port, since a tracker is told only one; a host without
/// IPv6 listens on IPv4 only.
///
/// # Errors
/// [`SessionError::Listen`] with the last thing tried.
pub(crate) fn listen(
    bind: Option<IpAddr>,
    port: Option<u16>,
) -> Result<Vec<TcpListener>, SessionError> {
    let ports: Vec<u16> = match port {
        Some(0) => vec![0; ANY_PORT_TRIES],
        Some(port) => vec![port],
        None => PORTS.chain([0; ANY_PORT_TRIES]).collect(),
    };
    let first = bind.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let mut refused = None;
    let mut single = None;
    for port in ports {
        let addr = SocketAddr::new(first, port);
        match pair(addr, bind.is_none()) {
            Ok(Pair::Whole(listeners)) => return Ok(listeners),
            Ok(Pair::Half(listener)) => single = Some(listener),
            Err(source) => refused = Some((addr, source)),
        }
    }
    match (single, refused) {
        // Only a named port comes here: it is taken in the other family, by somebody else.
        (Some(listener), _) => Ok(vec![listener]),
        (None, Some((addr, source))) => Err(SessionError::Listen { addr, source }),
        (None, None) => Ok(Vec::new()),
    }
}

enum Pair {
    /// All that can be had on this host.
    Whole(Vec<TcpListener>),
    /// The port is taken in IPv6.
    Half(TcpListener),
}

fn pair(addr: SocketAddr, both: bool) -> io::Result<Pair> {
    let v4 = socket(addr)?;
    if !both {
        return Ok(Pair::Whole(vec![v4]));
    }
    let port = v4.local_addr()?.port();
    match socket(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)) {
        Ok(v6) => Ok(Pair::Whole(vec![v4, v6])),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(Pair::Half(v4)),
        // No IPv6 on this host.
        Err(_) => Ok(Pair::Whole(vec![v4])),
    }
}

fn socket(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        // IPv4 has a socket of its own, so no peer shows up with a mapped address.
        socket.set_only_v6(true)?;
    }
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(listeners: &[TcpListener]) -> Vec<u16> {
        let port = |l: &TcpListener| l.local_addr().unwrap().port();
        listeners.iter().map(port).collect()
    }

    #[tokio::test]
    async fn both_families_share_a_port() {
        let listeners = listen(None, Some(0)).unwrap();
        let ports = ports(&listeners);
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]));
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_if_it_was_named_and_passed_over_if_not() {
        let loopback = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let taken = listen(loopback, Some(0)).unwrap();
        let port = ports(&taken)[0];
        assert!(matches!(
            listen(loopback, Some(port)),
            Err(SessionError::Listen { addr, .. }) if addr.port() == port
        ));
        // Whatever else uses the usual ports on this host, ten sessions find ten different ones.
        let sessions: Vec<_> = (0..10).map(|_| listen(loopback, None).unwrap()).collect();
        let mut found: Vec<u16> = sessions.iter().flat_map(|l| ports(l)).collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), 10);
    }
}
