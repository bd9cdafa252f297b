//! The tracker over UDP (BEP 15): sockets, and a thread for each that answers batch by batch.
//!
//! Each address has as many sockets as there are cores, and the system spreads the clients over them. What a worker needs
//! for an answer is its own, but for the shard of the torrent; nothing is made anew for a packet.

mod answer;
mod mmsg;

use crate::ServeError;
use crate::state::State;
use answer::Answerer;
use mmsg::{BATCH, Batch};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use tracing::{debug, warn};

/// What may wait in the system for a worker that is busy, in bytes. The system may grant less.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// The threads that answer, all of them stopped when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    addrs: Vec<SocketAddr>,
    threads: Vec<JoinHandle<()>>,
    /// Closed to stop them.
    stop: Option<OwnedFd>,
}

impl Workers {
    /// Starts a worker for each socket.
    pub(crate) fn start(
        bound: Vec<(SocketAddr, Vec<UdpSocket>)>,
        state: &Arc<State>,
    ) -> Result<Self, ServeError> {
        if bound.is_empty() {
            return Ok(Self::default());
        }
        let unusable = |errno: Errno| ServeError::Worker(errno.into());
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC).map_err(unusable)?;
        let stopped = Arc::new(stopped);
        let mut workers = Self {
            stop: Some(stop),
            ..Self::default()
        };
        for (addr, sockets) in bound {
            workers.addrs.push(addr);
            for socket in sockets {
                let (state, stopped) = (Arc::clone(state), Arc::clone(&stopped));
                let thread = std::thread::Builder::new().name("udp".to_owned());
                let thread = thread.spawn(move || work(&socket, &stopped, state));
                workers.threads.push(thread.map_err(ServeError::Worker)?);
            }
        }
        Ok(workers)
    }

    pub(crate) fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Stops them and waits until they have: for as long as a batch takes.
    pub(crate) fn stop(&mut self) {
        self.stop = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                warn!("a worker of UDP had failed");
            }
        }
    }
}

/// So many sockets at an address, over which the system spreads the clients.
pub(crate) fn bind(addr: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<UdpSocket>)> {
    // Sockets that share a port cannot tell that somebody else has it already; one that does not can.
    let probe = socket(addr, false)?;
    let addr = probe.local_addr()?;
    if count == 1 {
        return Ok((addr, vec![probe]));
    }
    drop(probe);
    let sockets: io::Result<_> = (0..count).map(|_| socket(addr, true)).collect();
    Ok((addr, sockets?))
}

/// The same for a socket that is there already: with more like it if it shares its port, else by all workers at once.
pub(crate) fn spread(first: UdpSocket, count: usize) -> io::Result<(SocketAddr, Vec<UdpSocket>)> {
    first.set_nonblocking(true)?;
    let addr = first.local_addr()?;
    let shared = SockRef::from(&first).reuse_port()?;
    let mut sockets = Vec::new();
    for _ in 1..count {
        // A port can be shared by sockets of one user only, and a service manager's are often another's.
        let another = shared.then(|| socket(addr, true));
        sockets.push(match another {
            Some(Ok(another)) => another,
            Some(Err(_)) | None => first.try_clone()?,
        });
    }
    sockets.push(first);
    Ok((addr, sockets))
}

fn socket(addr: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES) {
        debug!("{addr}: the receive buffer stays as it is: {error}");
    }
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// Answers until the other end of `stopped` is closed.
fn work(socket: &UdpSocket, stopped: &OwnedFd, state: Arc<State>) {
    let mut batch = Batch::new();
    let mut answerer = Answerer::new(Arc::clone(&state));
    loop {
        let mut ready = [
            PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return warn!("a worker of UDP ends: {error}"),
        }
        if ready.iter().skip(1).any(|fd| !fd.revents().is_empty()) {
            return;
        }
        // An error is one that the system reports about an earlier answer; there is nobody to tell.
        while let Ok(received @ 1..) = batch.receive(socket) {
            let now = state.now();
            batch.answer(|source, packet, out| answerer.answer(now, source, packet, out));
            batch.send(socket);
            if received < BATCH {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::os::fd::AsRawFd as _;

    const WORKERS: usize = 3;

    /// A bound socket; `reuse` as with any number of others.
    fn bound(addr: SocketAddr, reuse: bool) -> UdpSocket {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        socket.set_reuse_address(reuse).unwrap();
        socket.bind(&addr.into()).unwrap();
        socket.into()
    }

    /// How many queues of packets they have together.
    fn queues(sockets: &[UdpSocket]) -> usize {
        let link = |socket: &UdpSocket| format!("/proc/self/fd/{}", socket.as_raw_fd());
        let inodes = sockets
            .iter()
            .map(|one| std::fs::read_link(link(one)).unwrap());
        inodes.collect::<BTreeSet<_>>().len()
    }

    #[test]
    fn a_socket_that_was_given_is_shared_by_all_workers() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let alone = bound(any, false);
        let shared = socket(any, true).unwrap();
        // One that says it shares its port, beside another that keeps the port from new ones.
        let crowded = bound(any, true);
        let _other = bound(crowded.local_addr().unwrap(), true);
        SockRef::from(&crowded).set_reuse_port(true).unwrap();
        for (first, expected) in [(alone, 1), (shared, WORKERS), (crowded, 1)] {
            let (addr, sockets) = spread(first, WORKERS).unwrap();
            let of_all: Vec<_> = sockets
                .iter()
                .map(|one| one.local_addr().unwrap())
                .collect();
            assert_eq!(of_all, [addr; WORKERS]);
            assert_eq!(queues(&sockets), expected);
        }
    }
}
