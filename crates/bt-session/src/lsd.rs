//! Local discovery (BEP 14): its sockets. When to say what, and whom to believe, is in [`bt_peer::local`].
//!
//! A socket for each address family hears the group on all interfaces; each datagram goes out once for each local address,
//! from that address, since it is the source that says where we can be dialled. **Invariant:** only senders in a network of
//! ours are listened to, and nobody who waits for peers holds the task up.

mod interfaces;

use crate::clock::{Clock, random_seed};
use bt_core::InfoHash;
use bt_peer::LocalDiscovery;
use bt_wire::LocalAnnounce;
use bt_wire::lsd::{DATAGRAM_MAX_BYTES, GROUP_V4, GROUP_V6, PORT};
use core::fmt;
use core::time::Duration;
use interfaces::{Interface, interfaces};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Requests that wait for the task.
const REQUESTS_MAX: usize = 64;
/// How often the interfaces are looked at anew: a laptop that joins another network is found there as soon.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The longest wait for an interface after a send or read went wrong, so that a broken socket does not make us spin.
const RECOVER_AFTER: Duration = Duration::from_secs(1);

/// Settings of local discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LsdConfig {
    /// The port of both groups: 6771, but for tests.
    pub port: u16,
}

impl Default for LsdConfig {
    fn default() -> Self {
        Self { port: PORT }
    }
}

/// What is asked of the task.
#[derive(Debug)]
enum Request {
    Enter {
        info_hash: InfoHash,
        peers: mpsc::Sender<Vec<SocketAddr>>,
    },
    Leave(InfoHash),
}

/// A handle on a program's local discovery. When the last one is gone, so is it.
#[derive(Clone, Debug)]
pub(crate) struct Lsd {
    requests: mpsc::Sender<Request>,
}

impl Lsd {
    /// Starts to listen. With `bind`, only the interface with that address is used. Others are told to dial `port`.
    ///
    /// # Errors
    /// If there is no socket to be had.
    pub(crate) fn start(
        config: LsdConfig,
        bind: Option<IpAddr>,
        port: u16,
        tasks: &mut JoinSet<()>,
    ) -> io::Result<Self> {
        let (requests, requested) = mpsc::channel(REQUESTS_MAX);
        let driver = Driver {
            clock: Clock::start(),
            discovery: LocalDiscovery::new(port, random_seed()),
            ears: Ears::open(config.port, bind)?,
            bind,
            group_port: config.port,
            interfaces: Vec::new(),
            look_at: Instant::now(),
            torrents: BTreeMap::new(),
        };
        tasks.spawn(driver.run(requested));
        Ok(Self { requests })
    }

    /// A torrent starts; it must not be private. It is fed with peers until it leaves or drops the receiver.
    pub(crate) async fn enter(&self, info_hash: InfoHash, peers: mpsc::Sender<Vec<SocketAddr>>) {
        // An error means that the task is gone, here and below.
        let _ = self
            .requests
            .send(Request::Enter { info_hash, peers })
            .await;
    }

    /// A torrent stops, or turns out to be private.
    pub(crate) async fn leave(&self, info_hash: InfoHash) {
        let _ = self.requests.send(Request::Leave(info_hash)).await;
    }
}

/// The sockets that hear the groups.
struct Ears {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    joined: BTreeSet<(IpAddr, u32)>,
}

impl Ears {
    fn open(port: u16, bind: Option<IpAddr>) -> io::Result<Self> {
        let wanted = |is_v4: bool| bind.is_none_or(|ip| ip.is_ipv4() == is_v4);
        let (v4, v6) = (
            wanted(true).then(|| ear((Ipv4Addr::UNSPECIFIED, port).into())),
            wanted(false).then(|| ear((Ipv6Addr::UNSPECIFIED, port).into())),
        );
        match (v4, v6) {
            (Some(Err(error)), None | Some(Err(_))) | (None, Some(Err(error))) => Err(error),
            // A host may lack a family.
            (v4, v6) => Ok(Self {
                v4: v4.and_then(Result::ok),
                v6: v6.and_then(Result::ok),
                joined: BTreeSet::new(),
            }),
        }
    }

    /// Hears the group on this interface too.
    fn join(&mut self, interface: &Interface) {
        let key = (interface.ip, interface.index);
        if self.joined.contains(&key) {
            return;
        }
        let joined = match (interface.ip, &self.v4, &self.v6) {
            (IpAddr::V4(ip), Some(socket), _) => socket.join_multicast_v4(GROUP_V4, ip),
            (IpAddr::V6(_), _, Some(socket)) => {
                socket.join_multicast_v6(&GROUP_V6, interface.index)
            }
            (IpAddr::V4(_), None, _) | (IpAddr::V6(_), _, None) => return,
        };
        match joined {
            // A second address of an interface that is joined.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                tracing::debug!(?interface, %error, "no local discovery here");
            }
            Ok(()) | Err(_) => {
                self.joined.insert(key);
            }
        }
    }

    async fn hear(&self, buffer: &mut [u8]) -> io::Result<(usize, IpAddr)> {
        let (length, from) = match (&self.v4, &self.v6) {
            (Some(v4), Some(v6)) => {
                tokio::select! {
                    readable = v4.readable() => {
                        readable?;
                        v4.try_recv_from(buffer)?
                    }
                    readable = v6.readable() => {
                        readable?;
                        v6.try_recv_from(buffer)?
                    }
                }
            }
            (Some(one), None) | (None, Some(one)) => one.recv_from(buffer).await?,
            (None, None) => core::future::pending().await,
        };
        Ok((length, from.ip().to_canonical()))
    }
}

/// A socket on the group's port, which every program of the host may share.
fn ear(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    #[cfg(all(unix, not(target_os = "linux")))]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    UdpSocket::from_std(socket.into())
}

/// Says something to the group, on this interface and from this address.
fn say(said: &LocalAnnounce, from: &Interface, port: u16) -> io::Result<()> {
    let (local, group): (SocketAddr, SocketAddr) = match from.ip {
        IpAddr::V4(ip) => ((ip, 0).into(), (GROUP_V4, port).into()),
        IpAddr::V6(ip) => ((ip, 0).into(), (GROUP_V6, port).into()),
    };
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    match from.ip {
        IpAddr::V4(ip) => socket.set_multicast_if_v4(&ip)?,
        IpAddr::V6(_) => socket.set_multicast_if_v6(from.index)?,
    }
    socket.bind(&local.into())?;
    let to = match group {
        SocketAddr::V6(group) => SocketAddrV6::new(*group.ip(), group.port(), 0, from.index).into(),
        SocketAddr::V4(_) => group,
    };
    socket.send_to(&said.encode(group), &to.into())?;
    Ok(())
}

/// See the module's documentation.
struct Driver {
    clock: Clock,
    discovery: LocalDiscovery,
    ears: Ears,
    bind: Option<IpAddr>,
    group_port: u16,
    interfaces: Vec<Interface>,
    look_at: Instant,
    torrents: BTreeMap<InfoHash, mpsc::Sender<Vec<SocketAddr>>>,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

impl Driver {
    /// Works until there is nobody left to ask anything.
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut buffer = [0; DATAGRAM_MAX_BYTES];
        loop {
            self.look();
            self.say_due();
            let wake = self.wake();
            tokio::select! {
                request = requests.recv() => match request {
                    None => return,
                    Some(request) => self.request(request),
                },
                heard = self.ears.hear(&mut buffer) => match heard {
                    Ok((length, from)) => self.heard(from, buffer.get(..length).unwrap_or_default()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => tokio::time::sleep(RECOVER_AFTER).await,
                },
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    fn wake(&self) -> Instant {
        let due = self.discovery.deadline();
        let due = due.and_then(|time| self.clock.instant(time));
        due.map_or(self.look_at, |due| due.min(self.look_at))
    }

    /// Looks at the interfaces, if it is time to.
    fn look(&mut self) {
        if Instant::now() < self.look_at {
            return;
        }
        self.look_at = Instant::now() + LOOK_EVERY;
        self.interfaces = interfaces(self.bind);
        for interface in &self.interfaces {
            self.ears.join(interface);
        }
    }

    fn say_due(&mut self) {
        while let Some(said) = self.discovery.announce(self.clock.now()) {
            for interface in &self.interfaces {
                if let Err(error) = say(&said, interface, self.group_port) {
                    tracing::trace!(?interface, %error, "not announced");
                }
            }
        }
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Enter { info_hash, peers } => {
                self.torrents.insert(info_hash, peers);
                self.discovery.enter(self.clock.now(), info_hash);
            }
            Request::Leave(info_hash) => self.leave(info_hash),
        }
    }

    fn leave(&mut self, info_hash: InfoHash) {
        self.torrents.remove(&info_hash);
        self.discovery.leave(info_hash);
    }

    fn heard(&mut self, from: IpAddr, datagram: &[u8]) {
        if !self.interfaces.iter().any(|own| own.is_near(from)) {
            return;
        }
        let found = self.discovery.heard(self.clock.now(), from, datagram);
        for (info_hash, addr) in found {
            tracing::debug!(%info_hash, %addr, "a peer on the local network");
            let Some(peers) = self.torrents.get(&info_hash) else {
                continue;
            };
            // Who does not take it in time hears it again in five minutes.
            let told = peers.try_send(vec![addr]);
            if matches!(told, Err(mpsc::error::TrySendError::Closed(_))) {
                self.leave(info_hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn faults_138_only_who_is_near_is_heard() {
        let info_hash = InfoHash([1; 20]);
        let (peers_in, mut peers) = mpsc::channel(4);
        let mut driver = Driver {
            clock: Clock::start(),
            discovery: LocalDiscovery::new(6881, 1),
            ears: Ears {
                v4: None,
                v6: None,
                joined: BTreeSet::new(),
            },
            bind: None,
            group_port: PORT,
            interfaces: vec![interfaces::tests::interface("10.0.0.1", 24)],
            look_at: Instant::now(),
            torrents: BTreeMap::new(),
        };
        driver.request(Request::Enter {
            info_hash,
            peers: peers_in,
        });
        let said = LocalAnnounce {
            port: 7,
            info_hashes: vec![info_hash],
            cookie: String::new(),
        };
        let datagram = said.encode((GROUP_V4, PORT).into());
        for from in [[10, 0, 1, 2], [10, 0, 0, 2]] {
            driver.heard(from.into(), &datagram);
        }
        assert_eq!(peers.try_recv(), Ok(vec![([10, 0, 0, 2], 7).into()]));
        assert!(peers.try_recv().is_err());
        // Who does not want to know any more is not told, and nobody is told of it.
        drop(peers);
        driver.heard([10, 0, 0, 3].into(), &datagram);
        assert!(driver.torrents.is_empty() && driver.discovery.deadline().is_none());
    }
}
