//! The bytes that a connection is about to write, in a buffer that it holds only while there are some.

use crate::buffers::{Buffers, WRITE_BYTES};
use bt_core::Block;
use bt_wire::Message;
use bt_wire::message::{PIECE_HEADER_BYTES, piece_header};
use bytes::BytesMut;
use std::sync::Arc;

/// What waits to be written. **Invariant:** `start <= end <= bytes.len()`; what lies behind `end` may not go out.
pub(super) struct Outgoing {
    buffers: Arc<Buffers>,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Where messages are encoded: they are short, and come many at a time.
    scratch: BytesMut,
}

impl Outgoing {
    pub(super) fn new(buffers: Arc<Buffers>) -> Self {
        Self {
            buffers,
            bytes: Vec::new(),
            start: 0,
            end: 0,
            scratch: BytesMut::new(),
        }
    }

    /// True if all is written.
    pub(super) const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// True if it is time to write.
    pub(super) const fn is_full(&self) -> bool {
        self.end >= WRITE_BYTES
    }

    /// Bytes that may be added before it is full.
    pub(super) const fn room(&self) -> usize {
        WRITE_BYTES.saturating_sub(self.end)
    }

    /// What is to be written next.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// So much was written.
    pub(super) fn advance(&mut self, written: usize) {
        self.start = (self.start + written).min(self.end);
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Gives the buffer back until there is something to write again.
    pub(super) fn rest(&mut self) {
        if self.is_empty() && !self.bytes.is_empty() {
            self.buffers.done_writing(core::mem::take(&mut self.bytes));
        }
        // A long bitfield is sent once.
        if self.scratch.capacity() > WRITE_BYTES {
            self.scratch = BytesMut::new();
        }
    }

    /// Appends a message.
    pub(super) fn push(&mut self, message: &Message) {
        self.scratch.clear();
        message.encode_into(&mut self.scratch);
        let length = self.scratch.len();
        self.make_room(length);
        if let Some(room) = self.bytes.get_mut(self.end..self.end + length) {
            room.copy_from_slice(&self.scratch);
            self.end += length;
        }
    }

    /// The room behind what is there, for `piece` messages with these blocks; their headers are written. Nothing of it
    /// goes out before [`end_blocks`](Self::end_blocks).
    pub(super) fn begin_blocks(&mut self, blocks: &[Block]) -> &mut [u8] {
        let length = length_of(blocks);
        self.make_room(length);
        let room = self.bytes.get_mut(self.end..self.end + length);
        let room = room.unwrap_or_default();
        let mut rest = &mut *room;
        for block in blocks {
            let (message, later) = rest.split_at_mut(message_bytes(block));
            if let Some(header) = message.first_chunk_mut::<PIECE_HEADER_BYTES>() {
                *header = piece_header(block.piece.get(), block.begin, block.length);
            }
            rest = later;
        }
        room
    }

    /// The blocks were put in their places.
    pub(super) fn end_blocks(&mut self, blocks: &[Block]) {
        self.end = (self.end + length_of(blocks)).min(self.bytes.len());
    }

    fn make_room(&mut self, length: usize) {
        if self.bytes.is_empty() {
            self.bytes = self.buffers.for_writing();
        }
        if self.bytes.len() < self.end + length {
            self.bytes.resize(self.end + length, 0);
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.buffers.done_writing(core::mem::take(&mut self.bytes));
    }
}

const fn message_bytes(block: &Block) -> usize {
    PIECE_HEADER_BYTES + block.length as usize
}

fn length_of(blocks: &[Block]) -> usize {
    blocks.iter().map(message_bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bt_core::Layout;
    use bytes::Bytes;

    #[test]
    fn messages_and_blocks_come_out_as_the_codec_writes_them() {
        let buffers = Arc::new(Buffers::default());
        let mut out = Outgoing::new(Arc::clone(&buffers));
        let layout = Layout::new(100_000, 65_536).unwrap();
        let blocks: Vec<Block> = layout.blocks(layout.piece(1).unwrap()).collect();
        let fill = |block: &Block| u8::try_from(block.index()).unwrap() + 1;
        let mut expected = BytesMut::new();
        let long = Message::Bitfield(Bytes::from(vec![3; 2 * WRITE_BYTES]));
        for message in [Message::Unchoke, Message::Have { piece: 7 }, long] {
            out.push(&message);
            message.encode_into(&mut expected);
        }
        assert!(out.is_full());
        out.begin_blocks(&blocks).fill(9);
        assert_eq!(
            out.bytes(),
            expected,
            "blocks that were not read do not go out"
        );
        let mut rest = out.begin_blocks(&blocks);
        for block in &blocks {
            let (message, later) = rest.split_at_mut(PIECE_HEADER_BYTES + block.length as usize);
            message[PIECE_HEADER_BYTES..].fill(fill(block));
            rest = later;
        }
        out.end_blocks(&blocks);
        for block in &blocks {
            let data = Bytes::from(vec![fill(block); block.length as usize]);
            let (piece, begin) = (block.piece.get(), block.begin);
            Message::Piece { piece, begin, data }.encode_into(&mut expected);
        }
        let mut got = Vec::new();
        while !out.is_empty() {
            let taken = out.bytes().len().min(50_000);
            got.extend_from_slice(&out.bytes()[..taken]);
            out.advance(taken);
        }
        assert!(got == expected);
        out.rest();
        assert!(out.bytes.is_empty() && out.scratch.capacity() <= WRITE_BYTES);
        assert!(
            buffers.for_writing().iter().all(|byte| *byte == 0),
            "one that grew is not kept"
        );
    }
}
