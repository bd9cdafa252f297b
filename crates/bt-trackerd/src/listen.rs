//! Sockets to listen on, and how many connections the system allows.

use crate::ServeError;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tracing::warn;

/// How many connections may wait to be accepted: a burst must not be turned away by the kernel.
const BACKLOG: i32 = 1_024;

/// Descriptors that are kept for all else: listeners, lists, the runtime.
const DESCRIPTORS_KEPT: usize = 32;

/// Listens on every address; on some of them if `some_suffice`.
pub(crate) fn bind(
    addrs: &[SocketAddr],
    some_suffice: bool,
) -> Result<Vec<(SocketAddr, TcpListener)>, ServeError> {
    each(addrs, some_suffice, |addr| {
        let listener = listen(addr)?;
        Ok((listener.local_addr()?, listener))
    })
}

/// What `bind` makes of every address; of some of them if `some_suffice`.
pub(crate) fn each<T>(
    addrs: &[SocketAddr],
    some_suffice: bool,
    bind: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<Vec<T>, ServeError> {
    let mut bound = Vec::new();
    let mut failed = None;
    for &addr in addrs {
        match bind(addr) {
            Ok(one) => bound.push(one),
            Err(source) => {
                // That a port is taken, or not for everybody, is the operator's to know.
                let taken = [io::ErrorKind::AddrInUse, io::ErrorKind::PermissionDenied]
                    .contains(&source.kind());
                let error = ServeError::Listen { addr, source };
                if taken || !some_suffice {
                    return Err(error);
                }
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) if bound.is_empty() => return Err(error),
        Some(error) => warn!("{error}"),
        None => {}
    }
    Ok(bound)
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        // Else [::] would take the port of 0.0.0.0 too, or not, as the system is set up.
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for connections of the last run to time out.
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// At most `wanted`, and fewer than the descriptors that this process may open, after asking for as many as there may be.
pub(crate) fn connections_max(wanted: usize) -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let mut raised = limit;
    raised.current = limit.maximum;
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => limit.current,
    };
    let descriptors = now.map_or(usize::MAX, |most| {
        usize::try_from(most).unwrap_or(usize::MAX)
    });
    wanted
        .min(descriptors.saturating_sub(DESCRIPTORS_KEPT))
        .max(1)
}
