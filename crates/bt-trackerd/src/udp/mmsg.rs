//! Many packets with one system call: `recvmmsg` and `sendmmsg`.
//!
//! The one module with `unsafe` in it. Measured on loopback with fixed answers, a packet costs 1.77 µs of processor time
//! this way and 2.14 µs with a call for each, and no safe wrapper in use here offers both calls.
#![allow(
    clippy::cast_possible_truncation,
    reason = "counts up to `BATCH` and the size of a name, as the system calls type them"
)]
#![allow(
    unsafe_code,
    reason = "system calls that no safe wrapper in use offers"
)]

use bt_tracker::udp::PACKET_MAX_BYTES;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

/// Most packets of one call. More saved nothing measurable, and the first would wait longer for its answer.
pub(super) const BATCH: usize = 64;

/// The packets that one call received, and the answers to them.
pub(super) struct Batch {
    packets: Vec<[u8; PACKET_MAX_BYTES]>,
    names: Vec<libc::sockaddr_in6>,
    /// Where from, how long; and the answer, empty for none.
    turns: Vec<Turn>,
    received: usize,
    /// What the system is told: filled in for each call, in full as far as it reads them. To clear all of them first, 5 KiB for a
    /// call, was a tenth of what a packet costs that comes alone.
    iovecs: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

#[derive(Default)]
struct Turn {
    length: usize,
    name_bytes: libc::socklen_t,
    answer: Vec<u8>,
}

/// Room for the longest answer: an announce that fills a frame.
const ANSWER_BYTES: usize = 1_500;

/// Bytes of a name: `sockaddr_in6` is the longest that such a socket has, and `sockaddr_in` fits into it.
const NAME_BYTES: libc::socklen_t = size_of::<libc::sockaddr_in6>() as libc::socklen_t;

impl Batch {
    pub(super) fn new() -> Self {
        let turn = || Turn {
            answer: Vec::with_capacity(ANSWER_BYTES),
            ..Turn::default()
        };
        // SAFETY: all zeros is a value of these plain structures of numbers and pointers: null, and of length 0.
        let (name, iovec, header): (libc::sockaddr_in6, libc::iovec, libc::mmsghdr) =
            unsafe { core::mem::zeroed() };
        Self {
            packets: vec![[0; PACKET_MAX_BYTES]; BATCH],
            names: vec![name; BATCH],
            turns: core::iter::repeat_with(turn).take(BATCH).collect(),
            received: 0,
            iovecs: vec![iovec; BATCH],
            headers: vec![header; BATCH],
        }
    }

    /// Takes what is there, at most [`BATCH`] packets; returns how many. Never waits.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.received = 0;
        let slots = self.packets.iter_mut().zip(&mut self.names);
        let told = self.iovecs.iter_mut().zip(&mut self.headers);
        for ((packet, name), (iovec, header)) in slots.zip(told) {
            iovec.iov_base = packet.as_mut_ptr().cast();
            iovec.iov_len = packet.len();
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = core::ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = NAME_BYTES;
        }
        // SAFETY: each of the `BATCH` headers points to an iovec, that one to a packet, and a name, of the lengths they state;
        // all are `self`'s and outlive the call, and nothing else refers to them meanwhile.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                core::ptr::null_mut(),
            )
        };
        self.received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (turn, header) in self.turns.iter_mut().zip(&self.headers).take(self.received) {
            turn.length = header.msg_len as usize;
            turn.name_bytes = header.msg_hdr.msg_namelen;
        }
        Ok(self.received)
    }

    /// Has each packet that was received answered: from whom, what, and where the answer goes.
    pub(super) fn answer(&mut self, mut with: impl FnMut(SocketAddr, &[u8], &mut Vec<u8>)) {
        let slots = self.packets.iter().zip(&self.names).zip(&mut self.turns);
        for ((packet, name), turn) in slots.take(self.received) {
            turn.answer.clear();
            let packet = packet.get(..turn.length).unwrap_or(packet);
            if let Some(source) = source_of(name) {
                with(source, packet, &mut turn.answer);
            }
        }
    }

    /// Sends the answers. What the system does not take is lost, as packets can be.
    pub(super) fn send(&mut self, socket: &UdpSocket) {
        let answered = self.turns.iter_mut().zip(&mut self.names);
        let answered = answered
            .take(self.received)
            .filter(|(turn, _)| !turn.answer.is_empty());
        let mut count = 0;
        let told = self.iovecs.iter_mut().zip(&mut self.headers);
        for ((turn, name), (iovec, header)) in answered.zip(told) {
            iovec.iov_base = turn.answer.as_mut_ptr().cast();
            iovec.iov_len = turn.answer.len();
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = core::ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = turn.name_bytes;
            count += 1;
        }
        let mut rest = self.headers.get_mut(..count).unwrap_or_default();
        while !rest.is_empty() {
            // SAFETY: each header of `rest` points to an iovec, that one to an answer, and a name, of the lengths they state;
            // all are `self`'s and outlive the call, and nothing writes to them meanwhile.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                )
            };
            let sent = match usize::try_from(sent) {
                Ok(sent) => sent,
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => return,
                // The first of them cannot be sent, to port 0 for instance.
                Err(_) => 1,
            };
            rest = rest
                .split_at_mut_checked(sent.max(1))
                .map_or(&mut [], |(_, rest)| rest);
        }
    }
}

fn source_of(name: &libc::sockaddr_in6) -> Option<SocketAddr> {
    match libc::c_int::from(name.sin6_family) {
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(SocketAddr::new(ip.into(), u16::from_be(name.sin6_port)))
        }
        libc::AF_INET => {
            // `sockaddr_in` has its port where `sockaddr_in6` has it, and its address where that has the flow.
            let ip = Ipv4Addr::from(u32::from_be(name.sin6_flowinfo));
            Some(SocketAddr::new(ip.into(), u16::from_be(name.sin6_port)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_and_go_in_batches_over_both_families() {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let server = UdpSocket::bind(at).unwrap();
            let client = UdpSocket::bind(at).unwrap();
            client.connect(server.local_addr().unwrap()).unwrap();
            let mut batch = Batch::new();
            assert_eq!(
                batch.receive(&server).unwrap_err().kind(),
                io::ErrorKind::WouldBlock
            );
            let sent: Vec<Vec<u8>> = (0..BATCH + 6).map(|n| vec![7; n]).collect();
            for packet in &sent {
                client.send(packet).unwrap();
            }
            let mut got = Vec::new();
            while let Ok(1..) = batch.receive(&server) {
                batch.answer(|source, packet, answer| {
                    assert_eq!(source, client.local_addr().unwrap());
                    got.push(packet.to_vec());
                    // Silence for every third.
                    if packet.len() % 3 > 0 {
                        answer.extend_from_slice(packet);
                    }
                });
                batch.send(&server);
            }
            assert_eq!(got, sent);
            let mut buffer = [0; 100];
            for packet in sent.iter().filter(|packet| packet.len() % 3 > 0) {
                let length = client.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..length], packet);
            }
        }
    }

    #[test]
    fn long_packets_are_cut() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let packet = [7; PACKET_MAX_BYTES + 1];
        client
            .send_to(&packet, server.local_addr().unwrap())
            .unwrap();
        let mut batch = Batch::new();
        assert_eq!(batch.receive(&server).unwrap(), 1);
        batch.answer(|_, packet, _| assert_eq!(packet.len(), PACKET_MAX_BYTES));
    }
}
