//! Sockets to listen on, and how many connections the system allows.

use crate::{Config, ServeError, udp};
use listenfd::ListenFd;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use tracing::warn;

/// How many connections may wait to be accepted: a burst must not be turned away by the kernel.
const BACKLOG: i32 = 1_024;

/// Descriptors that are kept for all else: listeners, lists, the runtime.
const DESCRIPTORS_KEPT: usize = 32;

/// The sockets of a tracker, with the addresses they have.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) http: Vec<(SocketAddr, TcpListener)>,
    pub(crate) https: Vec<(SocketAddr, TcpListener)>,
    /// For the operator.
    pub(crate) metrics: Vec<(SocketAddr, TcpListener)>,
    pub(crate) admin: Vec<(SocketAddr, TcpListener)>,
    /// One for each worker.
    pub(crate) udp: Vec<(SocketAddr, Vec<UdpSocket>)>,
}

impl Sockets {
    /// Listens on every address of the configuration, with those of `given` that fit.
    pub(crate) fn bind(
        config: &Config,
        workers: usize,
        mut given: Self,
    ) -> Result<Self, ServeError> {
        if config.http.is_empty() && config.https.is_empty() && config.udp.is_empty() {
            return Err(ServeError::NoAddress);
        }
        let some_suffice = config.some_suffice;
        let http = each(&config.http, some_suffice, |addr| {
            take(&mut given.http, addr).map_or_else(|| listen(addr), Ok)
        })?;
        let https = each(&config.https, some_suffice, |addr| {
            take(&mut given.https, addr).map_or_else(|| listen(addr), Ok)
        })?;
        let udp = each(&config.udp, some_suffice, |addr| {
            take(&mut given.udp, addr).map_or_else(|| udp::bind(addr, workers), Ok)
        })?;
        let metrics = each(config.metrics.as_slice(), false, |addr| {
            take(&mut given.metrics, addr).map_or_else(|| listen(addr), Ok)
        })?;
        let admin = each(config.admin.as_slice(), false, |addr| {
            take(&mut given.admin, addr).map_or_else(|| listen(addr), Ok)
        })?;
        Ok(Self {
            http,
            https,
            metrics,
            admin,
            udp,
        })
    }

    /// Those that a service manager has opened for this process (systemd: `LISTEN_FDS`, `LISTEN_PID`), if it is one's.
    pub(crate) fn inherited(config: &Config, workers: usize) -> io::Result<Self> {
        let mut given = ListenFd::from_env();
        let mut sockets = Self::default();
        for place in 0..given.len() {
            // It takes what it finds to be of the other kind for an error, and keeps it.
            if let Ok(Some(listener)) = given.take_tcp_listener(place) {
                listener.set_nonblocking(true)?;
                let addr = listener.local_addr()?;
                // What the configuration has another use for is for that, and the rest serves peers.
                let kind = if config.https.contains(&addr) {
                    &mut sockets.https
                } else if config.metrics == Some(addr) {
                    &mut sockets.metrics
                } else if config.admin == Some(addr) {
                    &mut sockets.admin
                } else {
                    &mut sockets.http
                };
                kind.push((addr, listener));
            } else if let Some(socket) = given.take_udp_socket(place)? {
                sockets.udp.push(udp::spread(socket, workers)?);
            }
        }
        Ok(sockets)
    }

    /// The configuration with these addresses, unless it names some itself.
    pub(crate) fn fit(&self, config: &Config) -> Config {
        let mut config = config.clone();
        if config.some_suffice && !(self.http.is_empty() && self.udp.is_empty()) {
            config.http = self.http.iter().map(|(addr, _)| *addr).collect();
            config.udp = self.udp.iter().map(|(addr, _)| *addr).collect();
        }
        config
    }

    /// The same sockets once more: they last until both are dropped.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let tcp = |listeners: &[(SocketAddr, TcpListener)]| {
            let listeners = listeners.iter();
            let again = listeners.map(|(addr, listener)| Ok((*addr, listener.try_clone()?)));
            again.collect::<io::Result<Vec<_>>>()
        };
        let udp = self.udp.iter().map(|(addr, sockets)| {
            let sockets: io::Result<_> = sockets.iter().map(UdpSocket::try_clone).collect();
            Ok((*addr, sockets?))
        });
        Ok(Self {
            http: tcp(&self.http)?,
            https: tcp(&self.https)?,
            metrics: tcp(&self.metrics)?,
            admin: tcp(&self.admin)?,
            udp: udp.collect::<io::Result<_>>()?,
        })
    }
}

/// The one at an address; for port 0, which takes any that is free, at any port.
fn take<T>(given: &mut Vec<(SocketAddr, T)>, wanted: SocketAddr) -> Option<(SocketAddr, T)> {
    let fits =
        |addr: &SocketAddr| *addr == wanted || wanted.port() == 0 && addr.ip() == wanted.ip();
    let place = given.iter().position(|(addr, _)| fits(addr))?;
    Some(given.remove(place))
}

/// What `bind` makes of every address; of some of them if `some_suffice`.
fn each<T>(
    addrs: &[SocketAddr],
    some_suffice: bool,
    mut bind: impl FnMut(SocketAddr) -> io::Result<T>,
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

fn listen(addr: SocketAddr) -> io::Result<(SocketAddr, TcpListener)> {
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
    let listener = TcpListener::from(socket);
    Ok((listener.local_addr()?, listener))
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
