//! Memory for what comes from sockets and goes to them, used again and again by all connections of a session.
//!
//! Memory fresh from the system costs a page fault for each 4 KiB, and gives back none of the cache lines that the last
//! user has warmed. So a connection takes a buffer when there is something to read or write, and gives it back when it is
//! through, though blocks that lie in it may still be held elsewhere: it is handed out again once they are gone.
//!
//! **Invariant:** an idle connection holds no buffer, and at most [`SPENT_MAX`] of each kind are kept.

use bt_core::BLOCK_BYTES;
use bt_wire::message::PIECE_HEADER_BYTES;
use bytes::BytesMut;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Room for one read, in bytes: sixteen blocks, so that a fast peer costs one system call for many messages, and what it
/// brought fits the core's cache together with what is held until it is written.
pub(crate) const READ_BYTES: usize = 16 * (BLOCK_BYTES as usize + PIECE_HEADER_BYTES);

/// A buffer with less room left than this is not read into: below it a read would cost more than it brings.
pub(crate) const READ_ROOM_MIN: usize = 4 * 1024;

/// Room for one write, in bytes: sixteen blocks with their headers.
pub(crate) const WRITE_BYTES: usize = READ_BYTES;

/// Buffers of one kind that wait for their next use: 8 MiB, some more than one fast download holds.
const SPENT_MAX: usize = 32;

/// A buffer that a connection reads into.
#[derive(Debug)]
pub(crate) struct ReadBuffer {
    /// What was read and not taken yet.
    pub(crate) bytes: BytesMut,
    /// Whether it is worth another use.
    kept: bool,
}

/// The buffers of a session.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    read: Mutex<VecDeque<BytesMut>>,
    write: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer to read into, with room for [`READ_BYTES`], or somewhat less in one that is half used.
    pub(crate) fn for_reading(&self) -> ReadBuffer {
        ReadBuffer {
            bytes: self
                .spent()
                .unwrap_or_else(|| BytesMut::with_capacity(READ_BYTES)),
            kept: true,
        }
    }

    /// A buffer that begins with the beginning of a message, and has room for the `missing_bytes` of it.
    pub(crate) fn for_message(&self, beginning: &[u8], missing_bytes: usize) -> ReadBuffer {
        let length = beginning.len() + missing_bytes;
        let mut buffer = if length <= READ_BYTES / 2 {
            self.for_reading()
        } else {
            // Longer than a block: a bitfield of many pieces, or an extension. Strangers shall not have us keep it.
            ReadBuffer {
                bytes: BytesMut::with_capacity(length),
                kept: false,
            }
        };
        buffer.bytes.extend_from_slice(beginning);
        buffer
    }

    /// Takes back a buffer. What is left in it is thrown away.
    pub(crate) fn done_reading(&self, mut buffer: ReadBuffer) {
        buffer.bytes.clear();
        let mut spent = lock(&self.read);
        if buffer.kept && spent.len() < SPENT_MAX {
            spent.push_back(buffer.bytes);
        }
    }

    fn spent(&self) -> Option<BytesMut> {
        let mut spent = lock(&self.read);
        // Those that were given back first are free first.
        for _ in 0..spent.len() {
            let mut buffer = spent.pop_front()?;
            if buffer.try_reclaim(READ_BYTES) || buffer.capacity() >= READ_BYTES / 2 {
                return Some(buffer);
            }
            spent.push_back(buffer);
        }
        None
    }

    /// [`WRITE_BYTES`] of whatever was written before.
    pub(crate) fn for_writing(&self) -> Vec<u8> {
        let spent = lock(&self.write).pop();
        spent.unwrap_or_else(|| vec![0; WRITE_BYTES])
    }

    /// Takes back what [`for_writing`](Self::for_writing) gave out; one that has another length is thrown away.
    pub(crate) fn done_writing(&self, buffer: Vec<u8>) {
        let mut spent = lock(&self.write);
        if spent.len() < SPENT_MAX && buffer.len() == WRITE_BYTES {
            spent.push(buffer);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_once_nothing_of_it_is_held() {
        let buffers = Buffers::default();
        let mut first = buffers.for_reading();
        assert!(first.bytes.capacity() >= READ_BYTES);
        first.bytes.resize(READ_BYTES, 7);
        let block = first.bytes.split_to(READ_BYTES - 10).freeze();
        let place = block.as_ptr();
        buffers.done_reading(first);
        let second = buffers.for_reading();
        assert!(second.bytes.is_empty() && second.bytes.capacity() >= READ_BYTES);
        assert_eq!(block, vec![7; READ_BYTES - 10], "held, so not written over");
        drop(block);
        let third = buffers.for_reading();
        assert_eq!(third.bytes.as_ptr(), place, "the same memory");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let buffers = Buffers::default();
        let many: Vec<ReadBuffer> = (0..2 * SPENT_MAX).map(|_| buffers.for_reading()).collect();
        buffers.done_reading(buffers.for_message(b"long", 1 << 20));
        assert_eq!(lock(&buffers.read).len(), 0, "strangers choose that length");
        many.into_iter()
            .for_each(|buffer| buffers.done_reading(buffer));
        assert_eq!(lock(&buffers.read).len(), SPENT_MAX);
        (0..2 * SPENT_MAX).for_each(|_| buffers.done_writing(vec![0; WRITE_BYTES]));
        assert_eq!(lock(&buffers.write).len(), SPENT_MAX);
        buffers.done_writing(vec![0; WRITE_BYTES + 1]);
        assert!((0..=SPENT_MAX).all(|_| buffers.for_writing().len() == WRITE_BYTES));
    }

    #[test]
    fn a_buffer_with_room_is_read_into_again_and_a_message_finds_its_beginning() {
        let buffers = Buffers::default();
        let mut buffer = buffers.for_reading();
        buffer.bytes.resize(READ_BYTES / 4, 0);
        let held = buffer.bytes.split().freeze();
        buffers.done_reading(buffer);
        let again = buffers.for_reading();
        assert_eq!(again.bytes.as_ptr(), held.as_ptr_range().end);
        for missing in [5, READ_BYTES, 3 * READ_BYTES] {
            let buffer = buffers.for_message(b"beginning", missing);
            assert_eq!(buffer.bytes, b"beginning"[..]);
            assert!(buffer.bytes.capacity() >= 9 + missing);
        }
    }
}
