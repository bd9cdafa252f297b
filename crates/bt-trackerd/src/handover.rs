//! One process takes over from another: the listening sockets themselves, so that no connection or packet that waits in them
//! is lost, and then the swarms.
//!
//! Over a Unix socket, between two processes of one user:
//!
//! ```text
//! new → (connects)
//! old → a record of 64 bytes for each socket, with the socket itself; then the record "end"
//! new → "go"      it has bound what else it needs; until here nothing has changed
//! old → (answers what it has begun, stops, and sends a snapshot)
//! new → "ready"
//! old → "bye"     and ends; from here the new one serves
//! ```
//!
//! **Invariant:** at any time one of the two serves, or they are between "go" and "bye". Whichever fails or takes too long
//! before "bye", the old one goes on, and the new one does not begin.

use crate::keep::{self, Begun};
use crate::listen::Sockets;
use crate::state::{Secrets, State};
use bt_tracker::server::Config;
use core::mem::MaybeUninit;
use core::time::Duration;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
};
use std::io::{self, BufWriter, IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::SystemTime;
use tokio::net::UnixListener;

/// What comes first: the protocol and its version.
const GREETING: &str = "bt-trackerd 1";

/// Behind the last socket.
const END: &str = "end";

/// A record: a kind and an address, padded with zeros. The longest address, with a scope, takes 58.
const RECORD_BYTES: usize = 64;

/// Most sockets of one process: four addresses of two kinds on a machine of 128 cores.
const SOCKETS_MAX: usize = 1_024;

/// How long either waits for the other's next step: reading a million peers takes less than a second.
const PATIENCE: Duration = Duration::from_secs(30);

const GO: &[u8; 5] = b"go   ";
const READY: &[u8; 5] = b"ready";
const BYE: &[u8; 5] = b"bye  ";

/// Where the next process asks for everything.
#[derive(Debug)]
pub struct Door(UnixListener);

impl Door {
    /// Listens at `path`, in place of whoever did before. Only this user may come in.
    ///
    /// # Errors
    /// The socket cannot be made there.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(format!(".{}", std::process::id()));
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&fresh)?;
        std::fs::set_permissions(&fresh, PermissionsExt::from_mode(0o600))?;
        // In one step, so that there is never nobody.
        std::fs::rename(&fresh, path)?;
        Ok(Self(listener))
    }

    /// The next process that comes.
    ///
    /// # Errors
    /// Nobody can be let in.
    pub async fn visitor(&self) -> io::Result<UnixStream> {
        let (stream, _) = self.0.accept().await?;
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        is_of_this_user(&stream)?;
        Ok(stream)
    }
}

/// Whoever can connect could get at all peers, so the mode of the socket is not all that is asked.
fn is_of_this_user(stream: &UnixStream) -> io::Result<()> {
    let other = sockopt::socket_peercred(stream)?.uid;
    if other == rustix::process::geteuid() || other.is_root() {
        return Ok(());
    }
    Err(io::Error::other(
        "the process at the other end is of another user",
    ))
}

/// What the old process does first: shows the sockets, and waits for the new one to want them.
pub(crate) fn offer(mut stream: &UnixStream, sockets: &Sockets) -> io::Result<()> {
    patient(stream)?;
    send(stream, GREETING, None)?;
    let listeners = [
        ("http", &sockets.http),
        ("https", &sockets.https),
        ("metrics", &sockets.metrics),
        ("admin", &sockets.admin),
    ];
    for (kind, listeners) in listeners {
        for (addr, listener) in listeners {
            send(stream, &format!("{kind} {addr}"), Some(listener.as_fd()))?;
        }
    }
    for (addr, workers) in &sockets.udp {
        for socket in workers {
            send(stream, &format!("udp {addr}"), Some(socket.as_fd()))?;
        }
    }
    send(stream, END, None)?;
    expect(&mut stream, GO)
}

/// What the old process does when it has stopped: gives the swarms away, and waits until they are taken.
pub(crate) fn give(mut stream: &UnixStream, state: &State) -> io::Result<()> {
    let mut out = BufWriter::new(stream);
    keep::write(state, &mut out)?;
    out.flush()?;
    expect(&mut stream, READY)?;
    stream.write_all(BYE)
}

/// The new process's side of it.
pub(crate) struct Visit(UnixStream);

impl Visit {
    /// Asks whoever serves there; `None` if nobody does.
    pub(crate) fn begin(path: &Path) -> io::Result<Option<(Self, Sockets)>> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) => {
                let nobody = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
                return nobody.contains(&error.kind()).then_some(None).ok_or(error);
            }
        };
        is_of_this_user(&stream)?;
        patient(&stream)?;
        let (greeting, _) = receive(&stream)?;
        if greeting != GREETING {
            return Err(wrong(&greeting));
        }
        let mut sockets = Sockets::default();
        for _ in 0..SOCKETS_MAX {
            let (record, socket) = receive(&stream)?;
            if record == END {
                return Ok(Some((Self(stream), sockets)));
            }
            add(&mut sockets, &record, socket).ok_or_else(|| wrong(&record))?;
        }
        Err(io::Error::other("the running tracker has too many sockets"))
    }

    /// Has the old one stop, and takes the swarms. From then on it is this process that serves.
    pub(crate) fn take(mut self, config: &Config, secrets: &Secrets) -> io::Result<Begun> {
        self.0.write_all(GO)?;
        let begun = Begun::read(&mut self.0, config, secrets, &SystemTime::now);
        let begun = begun.map_err(io::Error::other)?;
        self.0.write_all(READY)?;
        expect(&mut &self.0, BYE)?;
        Ok(begun)
    }
}

fn add(sockets: &mut Sockets, record: &str, socket: Option<OwnedFd>) -> Option<()> {
    let (kind, addr) = record.split_once(' ')?;
    let (addr, socket): (SocketAddr, _) = (addr.parse().ok()?, socket?);
    match (kind, sockets.udp.last_mut()) {
        ("http", _) => sockets.http.push((addr, socket.into())),
        ("metrics", _) => sockets.metrics.push((addr, socket.into())),
        ("admin", _) => sockets.admin.push((addr, socket.into())),
        ("https", _) => sockets.https.push((addr, socket.into())),
        ("udp", Some((last, workers))) if *last == addr => workers.push(socket.into()),
        ("udp", _) => sockets.udp.push((addr, vec![socket.into()])),
        // Of a later version; what is not asked for is left where it is.
        _ => {}
    }
    Some(())
}

fn patient(stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

fn expect(stream: &mut &UnixStream, word: &[u8; 5]) -> io::Result<()> {
    let mut got = [0; 5];
    stream.read_exact(&mut got)?;
    if got == *word {
        return Ok(());
    }
    Err(wrong(&String::from_utf8_lossy(&got)))
}

fn wrong(got: &str) -> io::Error {
    io::Error::other(format!("the process at the other end says {got:?}"))
}

fn send(stream: &UnixStream, text: &str, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut record = [0; RECORD_BYTES];
    let place = record.get_mut(..text.len());
    let place = place.ok_or_else(|| io::Error::other("an address too long to be told"))?;
    place.copy_from_slice(text.as_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let socket = socket.map(|socket| [socket]);
    if let Some(socket) = &socket {
        control.push(SendAncillaryMessage::ScmRights(socket));
    }
    let sent = sendmsg(
        stream,
        &[IoSlice::new(&record)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    if sent == RECORD_BYTES {
        return Ok(());
    }
    Err(io::ErrorKind::WriteZero.into())
}

/// A record with the socket that came with it. Each was sent at once, and a read never goes beyond one with a socket.
fn receive(stream: &UnixStream) -> io::Result<(String, Option<OwnedFd>)> {
    let mut record = [0; RECORD_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut record)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
    let received = recvmsg(stream, &mut slices, &mut control, flags)?.bytes;
    if received != RECORD_BYTES {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let sockets = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        RecvAncillaryMessage::ScmCredentials(_) | _ => None,
    });
    let socket = sockets.flatten().next();
    let text = record.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok((String::from_utf8_lossy(text).into_owned(), socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn sockets_of_each_kind_arrive_as_what_they_were() {
        let tcp = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            vec![(listener.local_addr().unwrap(), listener)]
        };
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let again = socket.try_clone().unwrap();
        let given = Sockets {
            http: tcp(),
            https: tcp(),
            metrics: tcp(),
            admin: tcp(),
            udp: vec![(socket.local_addr().unwrap(), vec![socket, again])],
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door");
        let door = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let taken = std::thread::scope(|scope| {
            let offered = scope.spawn(|| offer(&door.accept().unwrap().0, &given));
            let (mut visit, taken) = Visit::begin(&path).unwrap().unwrap();
            visit.0.write_all(GO).unwrap();
            offered.join().unwrap().unwrap();
            taken
        });
        for (given, taken) in [
            (&given.http, &taken.http),
            (&given.https, &taken.https),
            (&given.metrics, &taken.metrics),
            (&given.admin, &taken.admin),
        ] {
            let [(addr, listener)] = taken.as_slice() else {
                panic!("{taken:?}");
            };
            assert_eq!(*addr, given[0].0);
            assert_eq!(listener.local_addr().unwrap(), *addr);
        }
        let [(addr, workers)] = taken.udp.as_slice() else {
            panic!("{:?}", taken.udp);
        };
        assert_eq!((*addr, workers.len()), (given.udp[0].0, 2));
        let at = workers.iter().map(|socket| socket.local_addr().unwrap());
        assert!(at.into_iter().all(|at| at == *addr));
    }
}
