//! Both ways of opening a connection: the exchange of handshakes (BEP 3, "peer protocol"), within a deadline.
//!
//! **Invariant:** not a byte behind the handshake is read here, nothing is sent to a stranger who names a torrent that
//! we don't have, and the answer goes out as soon as the info hash has arrived: a tracker's reachability check never
//! sends its peer id.

use bt_core::{InfoHash, PeerId};
use bt_wire::handshake::{HANDSHAKE_BYTES, HANDSHAKE_PREFIX_BYTES};
use bt_wire::{Handshake, HandshakeError};
use core::time::Duration;
use socket2::SockRef;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{TcpSocket, TcpStream};

/// How long the exchange of handshakes may take. libtorrent gives 10 s too.
pub(crate) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// How long connecting may take, before the handshake.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// A connection on which both handshakes were exchanged.
#[derive(Debug)]
pub(crate) struct Greeted {
    pub(crate) stream: TcpStream,
    pub(crate) addr: SocketAddr,
    /// What the other side sent.
    pub(crate) handshake: Handshake,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GreetError {
    #[error("no handshake in time")]
    Deadline,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] HandshakeError),
    #[error("unknown torrent {0}")]
    Unknown(InfoHash),
}

/// Takes a stranger's handshake and answers it, if `ours` has an answer for the torrent that he names.
pub(crate) async fn answer<T>(
    mut stream: TcpStream,
    addr: SocketAddr,
    ours: impl FnOnce(InfoHash) -> Option<(Handshake, T)>,
) -> Result<(Greeted, T), GreetError> {
    let exchange = async {
        let mut bytes = [0; HANDSHAKE_BYTES];
        let mut filled = 0;
        let prefix = loop {
            let room = bytes.get_mut(filled..HANDSHAKE_PREFIX_BYTES);
            filled += read_some(&mut stream, room).await?;
            if let Some(prefix) = Handshake::prefix(bytes.get(..filled).unwrap_or_default())? {
                break prefix;
            }
        };
        let (answer, found) =
            ours(prefix.info_hash).ok_or(GreetError::Unknown(prefix.info_hash))?;
        stream.write_all(&answer.encode()).await?;
        let handshake = finish(&mut stream, &mut bytes, filled).await?;
        Ok((handshake, found))
    };
    let (handshake, found) = tokio::time::timeout(HANDSHAKE_DEADLINE, exchange)
        .await
        .unwrap_or(Err(GreetError::Deadline))?;
    Ok((
        Greeted {
            stream,
            addr,
            handshake,
        },
        found,
    ))
}

/// Connects to a peer and exchanges handshakes.
pub(crate) async fn dial(
    addr: SocketAddr,
    bind: Option<IpAddr>,
    ours: Handshake,
) -> Result<Greeted, GreetError> {
    let mut stream = tokio::time::timeout(CONNECT_DEADLINE, connect(addr, bind))
        .await
        .unwrap_or(Err(io::ErrorKind::TimedOut.into()))?;
    let exchange = async {
        stream.write_all(&ours.encode()).await?;
        let theirs = finish(&mut stream, &mut [0; HANDSHAKE_BYTES], 0).await?;
        if theirs.info_hash == ours.info_hash {
            Ok(theirs)
        } else {
            Err(GreetError::Unknown(theirs.info_hash))
        }
    };
    let handshake = tokio::time::timeout(HANDSHAKE_DEADLINE, exchange)
        .await
        .unwrap_or(Err(GreetError::Deadline))?;
    Ok(Greeted {
        stream,
        addr,
        handshake,
    })
}

async fn connect(addr: SocketAddr, bind: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(ip) = bind {
        socket.bind(SocketAddr::new(ip, 0))?;
    }
    socket.connect(addr).await
}

/// Reads the rest of a handshake of which `filled` bytes are there.
async fn finish(
    stream: &mut TcpStream,
    bytes: &mut [u8; HANDSHAKE_BYTES],
    mut filled: usize,
) -> Result<Handshake, GreetError> {
    loop {
        if let Some(handshake) = Handshake::parse(bytes.get(..filled).unwrap_or_default())? {
            return Ok(handshake);
        }
        filled += read_some(stream, bytes.get_mut(filled..)).await?;
    }
}

async fn read_some(stream: &mut TcpStream, room: Option<&mut [u8]>) -> io::Result<usize> {
    let room = room.unwrap_or_default();
    loop {
        stream.readable().await?;
        // A read ends before an urgent byte (RFC 6093). Only one that finds nothing at all is waited after; tokio's own takes
        // a short one for the last until something new comes.
        let read = || (&*SockRef::from(&*stream)).read(room);
        match stream.try_io(Interest::READABLE, read) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

/// Our handshake for a torrent; `dht` says whether it uses the DHT (BEP 5).
pub(crate) fn ours(info_hash: InfoHash, peer_id: PeerId, dht: bool) -> Handshake {
    let reserved = bt_peer::RESERVED;
    Handshake {
        reserved: if dht { reserved.with_dht() } else { reserved },
        info_hash,
        peer_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    const HASH: InfoHash = InfoHash([7; 20]);

    fn handshake(hash: InfoHash, id: u8) -> Handshake {
        ours(hash, PeerId([id; 20]), false)
    }

    async fn streams() -> (TcpStream, TcpStream, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let (dialled, accepted) = tokio::join!(TcpStream::connect(to), listener.accept());
        let (accepted, from) = accepted.unwrap();
        (dialled.unwrap(), accepted, from)
    }

    fn known(hash: InfoHash) -> Option<(Handshake, ())> {
        (hash == HASH).then(|| (handshake(HASH, 2), ()))
    }

    #[tokio::test]
    async fn answers_at_the_info_hash_and_leaves_what_follows() {
        let (mut peer, stream, from) = streams().await;
        let answering = tokio::spawn(answer(stream, from, known));
        let theirs = handshake(HASH, 1).encode();
        peer.write_all(&theirs[..48]).await.unwrap();
        let mut got = [0; HANDSHAKE_BYTES];
        peer.read_exact(&mut got).await.unwrap();
        assert_eq!(got, handshake(HASH, 2).encode());
        peer.write_all(&theirs[48..]).await.unwrap();
        peer.write_all(b"next").await.unwrap();
        let (mut greeted, ()) = answering.await.unwrap().unwrap();
        assert_eq!(greeted.handshake.peer_id, PeerId([1; 20]));
        let mut next = [0; 4];
        greeted.stream.read_exact(&mut next).await.unwrap();
        assert_eq!(&next, b"next");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_urgent_byte_between_holds_nothing_up() {
        // FAULTS 47. One in four would be held up by a reader that waits for news.
        for _ in 0..100 {
            let (peer, stream, from) = streams().await;
            let answering = tokio::spawn(answer(stream, from, known));
            let theirs = handshake(HASH, 1).encode();
            peer.try_write(&theirs[..30]).unwrap();
            assert_eq!(SockRef::from(&peer).send_out_of_band(b"!").unwrap(), 1);
            peer.try_write(&theirs[30..]).unwrap();
            let (greeted, ()) = answering.await.unwrap().unwrap();
            assert_eq!(greeted.handshake.peer_id, PeerId([1; 20]));
        }
    }

    #[tokio::test]
    async fn strangers_get_no_answer() {
        // FAULTS 38 and 41. (what is sent, and that the connection ends without a byte from us)
        let mut unknown = handshake(InfoHash([8; 20]), 1).encode().to_vec();
        unknown.truncate(48);
        let rows: [&[u8]; 4] = [
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01",
            &unknown,
            b"\x14",
        ];
        for row in rows {
            let (mut peer, stream, from) = streams().await;
            let answering = tokio::spawn(answer(stream, from, known));
            peer.write_all(row).await.unwrap();
            let error = answering.await.unwrap().unwrap_err();
            assert!(
                matches!(error, GreetError::Protocol(_) | GreetError::Unknown(_)),
                "{error}"
            );
            let mut got = Vec::new();
            // A reset is as good an end as a close.
            let _ = peer.read_to_end(&mut got).await;
            assert_eq!(got, b"");
        }
    }

    #[tokio::test]
    async fn dialling_exchanges_handshakes_and_refuses_another_torrent() {
        for (theirs, fits) in [(HASH, true), (InfoHash([9; 20]), false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let to = listener.local_addr().unwrap();
            let peer = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut got = [0; HANDSHAKE_BYTES];
                stream.read_exact(&mut got).await.unwrap();
                stream
                    .write_all(&handshake(theirs, 2).encode())
                    .await
                    .unwrap();
                got
            });
            let bind = Some("127.0.0.1".parse().unwrap());
            let got = dial(to, bind, handshake(HASH, 1)).await;
            assert_eq!(peer.await.unwrap(), handshake(HASH, 1).encode());
            assert_eq!(got.is_ok(), fits);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_at_the_deadline() {
        let (_peer, stream, from) = streams().await;
        let started = tokio::time::Instant::now();
        let error = answer(stream, from, known).await.unwrap_err();
        assert!(matches!(error, GreetError::Deadline), "{error}");
        assert_eq!(started.elapsed(), HANDSHAKE_DEADLINE);
    }
}
