//! Many packets of one connected socket with one system call. Else the generator would be what is measured.
#![allow(
    unsafe_code,
    clippy::cast_possible_truncation,
    reason = "system calls that no safe wrapper in use offers, with counts up to `BATCH`"
)]

use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

/// Most packets of one call.
pub(super) const BATCH: usize = 64;

/// Longest packet that is taken; answers of a thousand and a half bytes are the longest there are.
pub(super) const PACKET_BYTES: usize = 2_048;

/// Sends what it can of `packets`; the rest is lost.
pub(super) fn send(socket: &UdpSocket, packets: &mut [Vec<u8>]) {
    for packets in packets.chunks_mut(BATCH) {
        let (mut iovecs, mut headers) = blank();
        let count = packets.len();
        for ((packet, iovec), header) in packets.iter_mut().zip(&mut iovecs).zip(&mut headers) {
            iovec.iov_base = packet.as_mut_ptr().cast();
            iovec.iov_len = packet.len();
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: the first `count` of the `BATCH` headers each point to an iovec on this stack frame, and that to a packet
        // of the length it states; all outlive the call, and nothing writes to them meanwhile.
        unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            );
        }
    }
}

/// Takes what is there into `packets`, which are `BATCH` of [`PACKET_BYTES`]; returns how long each is.
pub(super) fn receive(socket: &UdpSocket, packets: &mut [Vec<u8>], lengths: &mut Vec<usize>) {
    lengths.clear();
    let (mut iovecs, mut headers) = blank();
    let count = packets.len().min(BATCH);
    for ((packet, iovec), header) in packets.iter_mut().zip(&mut iovecs).zip(&mut headers) {
        iovec.iov_base = packet.as_mut_ptr().cast();
        iovec.iov_len = packet.len();
        header.msg_hdr.msg_iov = iovec;
        header.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: as above; nothing else refers to the packets meanwhile.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count as libc::c_uint,
            libc::MSG_DONTWAIT as _,
            core::ptr::null_mut(),
        )
    };
    let received = usize::try_from(received).unwrap_or(0);
    let length = |header: &libc::mmsghdr| header.msg_len as usize;
    lengths.extend(headers.iter().take(received).map(length));
}

fn blank() -> ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) {
    // SAFETY: all zeros is a value of these plain structures of numbers and pointers: null, and of length 0.
    unsafe { (core::mem::zeroed(), core::mem::zeroed()) }
}
