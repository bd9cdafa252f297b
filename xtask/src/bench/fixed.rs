//! The floor of `bench tracker`: a server that reads a request, looks at nothing in it but what tells where its answer goes, and
//! sends always the same. One thread for HTTP and one for UDP, with the cheapest calls there are: epoll, and packets in batches.
//! No tracker on this machine can be cheaper, and how close ours is says what its work costs.
#![allow(
    unsafe_code,
    clippy::cast_possible_truncation,
    reason = "system calls that no safe wrapper in use offers, with counts up to `BATCH`"
)]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, epoll, poll};

/// Bytes of the body: what an announce with fifty peers is answered with.
const BODY_BYTES: usize = 350;

/// Bytes of the answer to an announce over UDP: twenty, and fifty peers.
const ANNOUNCE_BYTES: usize = 320;

/// Bytes that an announce over UDP has.
const ANNOUNCE_ASKED_BYTES: usize = 98;

/// Of a connect, its answer, and the head of all others.
const CONNECT_BYTES: usize = 16;

/// Packets of one call, as ours has it.
const BATCH: usize = 64;

/// Longest request.
const REQUEST_BYTES: usize = 64 << 10;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to answer, over HTTP and UDP
    addr: SocketAddrV4,
}

/// Answers until it is killed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let listener = TcpListener::bind(args.addr).with_context(|| args.addr.to_string())?;
    let socket = UdpSocket::bind(args.addr).with_context(|| args.addr.to_string())?;
    std::thread::spawn(move || udp(&socket));
    http(&listener)
}

fn http(listener: &TcpListener) -> Result<()> {
    let mut reply = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {BODY_BYTES}\r\n\r\n"
    )
    .into_bytes();
    reply.resize(reply.len() + BODY_BYTES, b'x');
    listener.set_nonblocking(true)?;
    let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let watch = |fd: &dyn std::os::fd::AsFd, number: u64| {
        let data = epoll::EventData::new_u64(number);
        epoll::add(&queue, fd.as_fd(), data, epoll::EventFlags::IN)
    };
    watch(&listener, 0)?;
    let mut streams: BTreeMap<u64, TcpStream> = BTreeMap::new();
    let mut next = 1;
    let mut buffer = vec![0; REQUEST_BYTES];
    let mut events = Vec::with_capacity(BATCH);
    loop {
        events.clear();
        epoll::wait(&queue, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let number = event.data.u64();
            if number == 0 {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    watch(&stream, next)?;
                    streams.insert(next, stream);
                    next += 1;
                }
            } else if streams
                .get_mut(&number)
                .is_some_and(|stream| !answer(stream, &mut buffer, &reply))
            {
                streams.remove(&number);
            }
        }
    }
}

/// False once the connection is over. A request comes in one piece on the loopback.
fn answer(stream: &mut TcpStream, buffer: &mut [u8], reply: &[u8]) -> bool {
    match stream.read(buffer) {
        Ok(0) => false,
        Ok(length) => {
            let request = buffer.get(..length).unwrap_or_default();
            let close = b"Connection: close";
            stream.write_all(reply).is_ok()
                && !request.windows(close.len()).any(|window| window == close)
        }
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// A packet, who sent it, and what is sent back.
struct Turn {
    packet: [u8; 2_048],
    from: libc::sockaddr_in,
    out: [u8; ANNOUNCE_BYTES],
}

fn udp(socket: &UdpSocket) {
    // SAFETY: all zeros is a value of this plain structure of numbers.
    let from: libc::sockaddr_in = unsafe { core::mem::zeroed() };
    let turn = || Turn {
        packet: [0; 2_048],
        from,
        out: [0; ANNOUNCE_BYTES],
    };
    let mut turns: Vec<Turn> = core::iter::repeat_with(turn).take(BATCH).collect();
    loop {
        let mut ready = [PollFd::new(socket, PollFlags::IN)];
        if poll(&mut ready, None).is_err() {
            continue;
        }
        while batch(socket, &mut turns) == BATCH {}
    }
}

/// Answers what is there; returns how many packets it was.
fn batch(socket: &UdpSocket, turns: &mut [Turn]) -> usize {
    // SAFETY: all zeros is a value of these plain structures of numbers and pointers: null, and of length 0.
    let (mut iovecs, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
        unsafe { (core::mem::zeroed(), core::mem::zeroed()) };
    for ((turn, iovec), header) in turns.iter_mut().zip(&mut iovecs).zip(&mut headers) {
        iovec.iov_base = turn.packet.as_mut_ptr().cast();
        iovec.iov_len = turn.packet.len();
        header.msg_hdr.msg_iov = iovec;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_name = core::ptr::from_mut(&mut turn.from).cast();
        header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    }
    // SAFETY: each of the `BATCH` headers points to an iovec on this stack frame, that one to a packet, and a name, of the
    // lengths they state; all outlive the call, and nothing else refers to them meanwhile.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            BATCH as libc::c_uint,
            libc::MSG_DONTWAIT as _,
            core::ptr::null_mut(),
        )
    };
    let received = usize::try_from(received).unwrap_or(0);
    let slots = turns.iter_mut().zip(&mut iovecs).zip(&headers);
    for ((turn, iovec), header) in slots.take(received) {
        let asked = header.msg_len as usize;
        // Of a connect the action lies where an answer's head begins; of all others too.
        let head = turn.packet.get(8..16).unwrap_or_default();
        if let Some(place) = turn.out.get_mut(..8) {
            place.copy_from_slice(head);
        }
        let length = match asked {
            ..=CONNECT_BYTES => CONNECT_BYTES,
            ANNOUNCE_ASKED_BYTES => ANNOUNCE_BYTES,
            // A scrape: twelve bytes for each torrent of twenty.
            _ => (8 + (asked - CONNECT_BYTES) / 20 * 12).min(ANNOUNCE_BYTES),
        };
        iovec.iov_base = turn.out.as_mut_ptr().cast();
        iovec.iov_len = length;
    }
    // SAFETY: as above; the first `received` headers now point to answers of the lengths stated.
    unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            received as libc::c_uint,
            libc::MSG_DONTWAIT as _,
        );
    }
    received
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_answered_in_full() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || http(&listener));
        let mut stream = TcpStream::connect(addr).unwrap();
        let mut answer = vec![0; 1_024];
        for _ in 0..3 {
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            let mut length = 0;
            while !answer[..length].ends_with(&[b'x'; BODY_BYTES]) {
                length += stream.read(&mut answer[length..]).unwrap();
            }
        }
        stream
            .write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
            .unwrap();
        answer.clear();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.ends_with(&[b'x'; BODY_BYTES]));

        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        std::thread::spawn(move || udp(&socket));
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(addr).unwrap();
        for (asked, answered) in [(16, 16), (98, 320), (36, 20), (416, 248)] {
            let mut packet = vec![0; asked];
            packet[8..16].copy_from_slice(b"act.turn");
            client.send(&packet).unwrap();
            let mut answer = [0; 512];
            assert_eq!(client.recv(&mut answer).unwrap(), answered, "{asked}");
            assert_eq!(answer[..8], *b"act.turn");
        }
    }
}
