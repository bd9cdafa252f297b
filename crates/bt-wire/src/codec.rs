//! Bytes into messages (BEP 3, "peer messages"; BEP 6; BEP 10).
//!
//! **Invariant:** a [`Decoder`] allocates nothing. It refuses a frame by its first four bytes if no message may be that
//! long, by its fifth if this one may not be, and leaves a refused frame where it is: asked again, it answers the same.

use crate::limits::{EXTENDED_BYTES_MAX, Limits};
use crate::message::{BlockAddress, Message, id};
use bt_core::BLOCK_BYTES;
use bytes::{Buf, BytesMut};
use core::ops::RangeInclusive;

/// Bytes of a frame before its id: its length.
const PREFIX_BYTES: usize = 4;
/// Bytes of a frame before its payload: length and id.
const HEAD_BYTES: usize = 5;

/// Why bytes are not messages. The peer is at fault, and the stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A length prefix that no message of this torrent has.
    #[error("a message of {length_bytes} bytes; none is longer than {max_bytes}")]
    FrameTooLong {
        /// What the peer announced, in bytes.
        length_bytes: u32,
        /// What is allowed, in bytes.
        max_bytes: u32,
    },
    /// A message whose payload is too short or too long for its id.
    #[error("message {id} with a payload of {length_bytes} bytes, not {min_bytes}..={max_bytes}")]
    PayloadLength {
        /// The message's id.
        id: u8,
        /// What the peer announced, in bytes, without the id.
        length_bytes: u32,
        /// The least allowed, in bytes.
        min_bytes: u32,
        /// The most allowed, in bytes.
        max_bytes: u32,
    },
}

/// Cuts the stream of one connection into messages. It begins behind the handshake.
#[derive(Clone, Debug)]
pub struct Decoder {
    limits: Limits,
    /// Bytes of a message with an unknown id that are still to be thrown away.
    skip_bytes: usize,
}

impl Decoder {
    /// A decoder for a connection on which nothing but the handshake was received.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            skip_bytes: 0,
        }
    }

    /// Takes the next message out of `buffer`; `None` if more bytes are needed.
    ///
    /// To be called until it says `None`, and again when bytes were appended. What the peer sent in the bytes of a block,
    /// a bitfield or an extension stays where it is: the message shares the buffer's memory, and pins it.
    /// Messages with unknown ids are thrown away as they come, so they never fill the buffer.
    ///
    /// # Errors
    /// [`WireError`] if the connection is to be closed.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Message>, WireError> {
        loop {
            let skipped = self.skip_bytes.min(buffer.len());
            buffer.advance(skipped);
            self.skip_bytes -= skipped;
            let Some(prefix) = buffer.first_chunk::<PREFIX_BYTES>() else {
                return Ok(None);
            };
            let length_bytes = u32::from_be_bytes(*prefix);
            let Some(payload_bytes) = length_bytes.checked_sub(1) else {
                buffer.advance(PREFIX_BYTES);
                return Ok(Some(Message::KeepAlive));
            };
            let max_bytes = self.limits.frame_bytes_max();
            if length_bytes > max_bytes {
                return Err(WireError::FrameTooLong {
                    length_bytes,
                    max_bytes,
                });
            }
            let Some(&id) = buffer.get(PREFIX_BYTES) else {
                return Ok(None);
            };
            let Some(allowed) = self.payload_bytes(id) else {
                buffer.advance(HEAD_BYTES);
                self.skip_bytes = payload_bytes as usize;
                continue;
            };
            if !allowed.contains(&payload_bytes) {
                return Err(WireError::PayloadLength {
                    id,
                    length_bytes: payload_bytes,
                    min_bytes: *allowed.start(),
                    max_bytes: *allowed.end(),
                });
            }
            if buffer.len() - HEAD_BYTES < payload_bytes as usize {
                return Ok(None);
            }
            buffer.advance(HEAD_BYTES);
            return Ok(read(id, payload_bytes as usize, buffer));
        }
    }

    /// How many bytes must still come before [`decode`](Self::decode) has something to say about a `buffer` for which it
    /// said `None`. At least 1; a reader may make that much room, so that a block is not moved while it arrives.
    #[must_use]
    pub fn missing_bytes(&self, buffer: &[u8]) -> usize {
        let Some(prefix) = buffer.first_chunk::<PREFIX_BYTES>() else {
            return self.skip_bytes + PREFIX_BYTES - buffer.len();
        };
        let frame_bytes = u32::from_be_bytes(*prefix).min(self.limits.frame_bytes_max()) as usize;
        (PREFIX_BYTES + frame_bytes)
            .saturating_sub(buffer.len())
            .max(1)
    }

    /// How long the payload of the message may be; `None` if its id is unknown.
    fn payload_bytes(&self, id: u8) -> Option<RangeInclusive<u32>> {
        Some(match id {
            id::CHOKE
            | id::UNCHOKE
            | id::INTERESTED
            | id::NOT_INTERESTED
            | id::HAVE_ALL
            | id::HAVE_NONE => 0..=0,
            id::PORT => 2..=2,
            id::HAVE | id::SUGGEST_PIECE | id::ALLOWED_FAST => 4..=4,
            id::REQUEST | id::CANCEL | id::REJECT_REQUEST => 12..=12,
            // Nobody is ever asked for more than BLOCK_BYTES.
            id::PIECE => 8..=8 + BLOCK_BYTES,
            id::BITFIELD => self.limits.bitfield_bytes(),
            id::EXTENDED => 1..=EXTENDED_BYTES_MAX,
            _ => return None,
        })
    }
}

/// Takes the message `id` from the front of `buffer`, which has its whole payload, of a length that fits the id.
fn read(id: u8, payload_bytes: usize, buffer: &mut BytesMut) -> Option<Message> {
    let rest = |buffer: &mut BytesMut, fields_bytes: usize| {
        buffer.split_to(payload_bytes - fields_bytes).freeze()
    };
    let block = |buffer: &mut BytesMut| BlockAddress {
        piece: buffer.get_u32(),
        begin: buffer.get_u32(),
        length: buffer.get_u32(),
    };
    Some(match id {
        id::CHOKE => Message::Choke,
        id::UNCHOKE => Message::Unchoke,
        id::INTERESTED => Message::Interested,
        id::NOT_INTERESTED => Message::NotInterested,
        id::HAVE => Message::Have {
            piece: buffer.get_u32(),
        },
        id::BITFIELD => Message::Bitfield(rest(buffer, 0)),
        id::REQUEST => Message::Request(block(buffer)),
        id::PIECE => Message::Piece {
            piece: buffer.get_u32(),
            begin: buffer.get_u32(),
            data: rest(buffer, 8),
        },
        id::CANCEL => Message::Cancel(block(buffer)),
        id::PORT => Message::Port(buffer.get_u16()),
        id::SUGGEST_PIECE => Message::SuggestPiece {
            piece: buffer.get_u32(),
        },
        id::HAVE_ALL => Message::HaveAll,
        id::HAVE_NONE => Message::HaveNone,
        id::REJECT_REQUEST => Message::RejectRequest(block(buffer)),
        id::ALLOWED_FAST => Message::AllowedFast {
            piece: buffer.get_u32(),
        },
        id::EXTENDED => Message::Extended {
            id: buffer.get_u8(),
            payload: rest(buffer, 1),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
