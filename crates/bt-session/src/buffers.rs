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
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A whole block on the wire, in bytes.
const MESSAGE_BYTES: usize = BLOCK_BYTES as usize + PIECE_HEADER_BYTES;

/// Room for one read, in bytes: sixteen blocks, so that many messages cost one system call.
pub(crate) const READ_BYTES: usize = 16 * MESSAGE_BYTES;

/// Room for one read from a peer who sends faster than we read: eight times as many, 2 MiB. That is of two pieces at least
/// where pieces are no longer than 1 MiB, wherever in a piece it begins, so that there are two to be hashed side by side.
pub(crate) const LONG_READ_BYTES: usize = 8 * READ_BYTES;

/// A buffer with less room left than this is not read into: below it a read would cost more than it brings.
pub(crate) const READ_ROOM_MIN: usize = 4 * 1024;

/// Room for one write, in bytes: sixteen blocks with their headers.
pub(crate) const WRITE_BYTES: usize = READ_BYTES;

/// Buffers of one kind that wait for their next use: 8 MiB, some more than one fast download holds.
const SPENT_MAX: usize = 32;

/// Long buffers that there are: 10 MiB. One fast peer holds three: what is read, what is hashed and what is written. Whoever
/// finds none free reads into a short one.
const LONG_MAX: usize = 5;

/// A buffer that a connection reads into. Dropped, it goes back to where it came from, without what is left in it.
#[derive(Debug)]
pub(crate) struct ReadBuffer<'a> {
    /// What was read and not taken yet.
    pub(crate) bytes: BytesMut,
    length: Length,
    buffers: &'a Buffers,
}

/// What a read buffer was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    /// [`READ_BYTES`].
    Short,
    /// [`LONG_READ_BYTES`].
    Long,
    /// One message longer than that. Strangers choose such lengths, so it is not kept.
    Message,
}

/// How much to read into `room` if a message lacks `missing_bytes`: as many whole blocks as fit behind it. If blocks are what
/// comes, nothing is left over that would have to be moved to another buffer.
pub(crate) const fn whole_messages(room: usize, missing_bytes: usize) -> usize {
    match room.checked_sub(missing_bytes) {
        Some(rest) if missing_bytes > 0 || rest >= MESSAGE_BYTES => {
            missing_bytes + rest / MESSAGE_BYTES * MESSAGE_BYTES
        }
        _ => room,
    }
}

/// The buffers of a session.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    short: Mutex<Vec<BytesMut>>,
    long: Mutex<LongBuffers>,
    write: Mutex<Vec<Vec<u8>>>,
}

/// **Invariant:** `lent` and those spent are at most [`LONG_MAX`] together.
#[derive(Debug, Default)]
struct LongBuffers {
    lent: usize,
    spent: Vec<BytesMut>,
}

impl Buffers {
    /// An empty buffer to read into, with room for [`READ_BYTES`] or [`LONG_READ_BYTES`], or somewhat less in one that is
    /// half used.
    pub(crate) fn for_reading(&self, is_long: bool) -> ReadBuffer<'_> {
        let long = if is_long { self.long() } else { None };
        let (bytes, length) = match long {
            Some(bytes) => (bytes, Length::Long),
            None => (self.short(), Length::Short),
        };
        ReadBuffer {
            bytes,
            length,
            buffers: self,
        }
    }

    /// A buffer that begins with the beginning of a message, and has room for the `missing_bytes` of it.
    pub(crate) fn for_message(
        &self,
        beginning: &[u8],
        missing_bytes: usize,
        is_long: bool,
    ) -> ReadBuffer<'_> {
        let length = beginning.len() + missing_bytes;
        let mut buffer = if length <= READ_BYTES / 2 {
            self.for_reading(is_long)
        } else {
            // Longer than a block: a bitfield of many pieces, or an extension.
            ReadBuffer {
                bytes: BytesMut::with_capacity(length),
                length: Length::Message,
                buffers: self,
            }
        };
        buffer.bytes.extend_from_slice(beginning);
        buffer
    }

    fn short(&self) -> BytesMut {
        let spent = take_free(&mut lock(&self.short), READ_BYTES);
        spent.unwrap_or_else(|| BytesMut::with_capacity(READ_BYTES))
    }

    fn long(&self) -> Option<BytesMut> {
        let mut long = lock(&self.long);
        let mut found = take_free(&mut long.spent, LONG_READ_BYTES);
        if found.is_none() && long.lent + long.spent.len() < LONG_MAX {
            found = Some(BytesMut::with_capacity(LONG_READ_BYTES));
        }
        long.lent += usize::from(found.is_some());
        found
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

impl Drop for ReadBuffer<'_> {
    fn drop(&mut self) {
        let mut bytes = core::mem::take(&mut self.bytes);
        bytes.clear();
        match self.length {
            Length::Short => {
                let mut spent = lock(&self.buffers.short);
                if spent.len() < SPENT_MAX {
                    spent.push(bytes);
                }
            }
            Length::Long => {
                let mut long = lock(&self.buffers.long);
                long.lent -= 1;
                long.spent.push(bytes);
            }
            Length::Message => {}
        }
    }
}

/// One of those of which nothing is held any more, or only what lies in its first half. The last that was given back comes
/// first: it is in the core's cache still.
fn take_free(spent: &mut Vec<BytesMut>, length: usize) -> Option<BytesMut> {
    let is_free =
        |buffer: &mut BytesMut| buffer.try_reclaim(length) || buffer.capacity() >= length / 2;
    let free = spent.iter_mut().rposition(is_free)?;
    Some(spent.remove(free))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_once_nothing_of_it_is_held() {
        for (is_long, length) in [(false, READ_BYTES), (true, LONG_READ_BYTES)] {
            let buffers = Buffers::default();
            let mut first = buffers.for_reading(is_long);
            assert!(first.bytes.capacity() >= length);
            first.bytes.resize(length, 7);
            let block = first.bytes.split_to(length - 10).freeze();
            let place = block.as_ptr();
            drop(first);
            let second = buffers.for_reading(is_long);
            assert!(second.bytes.is_empty() && second.bytes.capacity() >= length);
            assert_eq!(block, vec![7; length - 10], "held, so not written over");
            drop(block);
            let third = buffers.for_reading(is_long);
            assert_eq!(third.bytes.as_ptr(), place, "the same memory");
        }
    }

    #[test]
    fn the_last_one_is_used_first() {
        let buffers = Buffers::default();
        let (first, second) = (buffers.for_reading(false), buffers.for_reading(false));
        let place = second.bytes.as_ptr();
        drop(first);
        drop(second);
        assert_eq!(buffers.for_reading(false).bytes.as_ptr(), place);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let buffers = Buffers::default();
        let many: Vec<ReadBuffer<'_>> = (0..2 * SPENT_MAX)
            .map(|_| buffers.for_reading(false))
            .collect();
        drop(buffers.for_message(b"long", 1 << 20, true));
        assert_eq!(
            lock(&buffers.short).len(),
            0,
            "strangers choose that length"
        );
        drop(many);
        assert_eq!(lock(&buffers.short).len(), SPENT_MAX);
        (0..2 * SPENT_MAX).for_each(|_| buffers.done_writing(vec![0; WRITE_BYTES]));
        assert_eq!(lock(&buffers.write).len(), SPENT_MAX);
        buffers.done_writing(vec![0; WRITE_BYTES + 1]);
        assert!((0..=SPENT_MAX).all(|_| buffers.for_writing().len() == WRITE_BYTES));
    }

    #[test]
    fn long_buffers_are_few_whoever_holds_them() {
        let buffers = Buffers::default();
        let is_long = |buffer: &ReadBuffer<'_>| buffer.bytes.capacity() >= LONG_READ_BYTES;
        for _ in 0..3 {
            let mut many: Vec<ReadBuffer<'_>> = (0..2 * LONG_MAX)
                .map(|_| buffers.for_reading(true))
                .collect();
            assert!(many[..LONG_MAX].iter().all(is_long));
            assert!(!many[LONG_MAX..].iter().any(is_long), "room all the same");
            let mut held = Vec::new();
            for buffer in &mut many {
                let length = buffer.bytes.capacity();
                buffer.bytes.resize(length, 7);
                held.push(buffer.bytes.split().freeze());
            }
            drop(many);
            assert!(!is_long(&buffers.for_reading(true)), "all are held");
            drop(held);
            assert_eq!(lock(&buffers.long).lent, 0);
        }
    }

    #[test]
    fn a_buffer_with_room_is_read_into_again_and_a_message_finds_its_beginning() {
        let buffers = Buffers::default();
        let mut buffer = buffers.for_reading(false);
        buffer.bytes.resize(READ_BYTES / 4, 0);
        let held = buffer.bytes.split().freeze();
        drop(buffer);
        let again = buffers.for_reading(false);
        assert_eq!(again.bytes.as_ptr(), held.as_ptr_range().end);
        for missing in [5, READ_BYTES, 3 * READ_BYTES] {
            let buffer = buffers.for_message(b"beginning", missing, false);
            assert_eq!(buffer.bytes, b"beginning"[..]);
            assert!(buffer.bytes.capacity() >= 9 + missing);
        }
    }

    #[test]
    fn a_read_ends_where_a_block_ends() {
        let rows = [
            (LONG_READ_BYTES, 0, LONG_READ_BYTES),
            (LONG_READ_BYTES, 4, 4 + 127 * MESSAGE_BYTES),
            (LONG_READ_BYTES, MESSAGE_BYTES, LONG_READ_BYTES),
            (3 * MESSAGE_BYTES, 100, 100 + 2 * MESSAGE_BYTES),
            (MESSAGE_BYTES, 100, 100),
            (100, 100, 100),
            (99, 100, 99),
            (99, 0, 99),
        ];
        for (room, missing_bytes, expected) in rows {
            assert_eq!(whole_messages(room, missing_bytes), expected, "{room}");
        }
    }
}
