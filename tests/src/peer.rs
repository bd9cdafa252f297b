//! A peer made of plain bytes: honest where a test wants to know whether others are still served, hostile otherwise.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::shared::Shared;

/// The first 20 bytes of every connection.
pub const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

/// Bytes of one block.
pub const BLOCK: u32 = 16_384;

/// A peer id that no other connection of this process has. A peer that comes again before its last connection's end was
/// noticed would rightly be turned away as a double.
pub fn fresh_id() -> [u8; 20] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut id = *b"-TE0000-000000000000";
    let number = format!("{:012}", NEXT.fetch_add(1, Ordering::Relaxed));
    id[8..].copy_from_slice(number.as_bytes());
    id
}

/// A handshake with no extension bits.
pub fn handshake(info_hash: &[u8; 20], peer_id: &[u8; 20]) -> Vec<u8> {
    handshake_with([0; 8], info_hash, peer_id)
}

/// A handshake with these reserved bytes.
pub fn handshake_with(reserved: [u8; 8], info_hash: &[u8; 20], peer_id: &[u8; 20]) -> Vec<u8> {
    [&PROTOCOL[..], &reserved, info_hash, peer_id].concat()
}

/// A message with its length before it.
pub fn message(id: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 1).expect("short");
    [&length.to_be_bytes()[..], &[id], payload].concat()
}

/// A request for a block.
pub fn request(piece: u32, begin: u32, length: u32) -> Vec<u8> {
    message(
        6,
        &[
            piece.to_be_bytes(),
            begin.to_be_bytes(),
            length.to_be_bytes(),
        ]
        .concat(),
    )
}

/// A connection to `addr` whose reads end after `patience`.
pub fn connect(addr: SocketAddr, patience: Duration) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The answer to a handshake, taken off the stream.
pub fn read_handshake(stream: &mut TcpStream) -> std::io::Result<[u8; 68]> {
    let mut answer = [0; 68];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// The next message but keep-alives: id and payload.
pub fn read_message(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length == 0 {
            continue;
        }
        assert!(
            length < 1 << 20,
            "our own program sends a message of {length} bytes"
        );
        let mut body = vec![0; usize::try_from(length).expect("32 bits fit")];
        stream.read_exact(&mut body)?;
        return Ok((body[0], body.split_off(1)));
    }
}

/// Does what every peer does: says hello, is interested, waits to be unchoked, asks for the first block and compares it.
/// How long all of it took.
pub fn honest(addr: SocketAddr, shared: &Shared, patience: Duration) -> std::io::Result<Duration> {
    let started = Instant::now();
    let mut stream = connect(addr, patience)?;
    stream.write_all(&handshake(&shared.info_hash, &fresh_id()))?;
    serve_me(&mut stream, shared)?;
    Ok(started.elapsed())
}

/// The part of [`honest`] after the handshake was sent.
pub fn serve_me(stream: &mut TcpStream, shared: &Shared) -> std::io::Result<()> {
    read_handshake(stream)?;
    stream.write_all(&message(2, &[]))?;
    let length = BLOCK.min(u32::try_from(shared.data.len()).expect("small test data"));
    loop {
        let (id, payload) = read_message(stream)?;
        match id {
            1 => stream.write_all(&request(0, 0, length))?,
            7 => {
                let length = usize::try_from(length).expect("32 bits fit");
                assert_eq!(payload[..8], [0; 8], "another block than asked for");
                assert_eq!(
                    payload[8..],
                    shared.data[..length],
                    "a block of other bytes"
                );
                return Ok(());
            }
            _ => {}
        }
    }
}

/// Reads until the other side closes: how many bytes came first, or `None` if it does not close within `patience`.
pub fn read_to_close(stream: &mut TcpStream, patience: Duration) -> Option<usize> {
    let deadline = Instant::now() + patience;
    let mut total = 0;
    let mut buffer = [0; 65_536];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return None;
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Some(total),
            Ok(read) => total += read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A reset is a close without manners.
            Err(_) => return Some(total),
        }
    }
}
