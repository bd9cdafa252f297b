//! `lt_donthave`: a peer takes back that it has a piece (BEP 54).
//!
//! ```
//! use bt_wire::dont_have;
//!
//! let payload = dont_have::encode(7);
//! assert_eq!(dont_have::decode(&payload), Ok(7));
//! ```

use bytes::Bytes;

/// The extension's name in the extension handshake. Each direction stands for itself: who names it can be told, whether
/// the teller names it too or not.
pub const NAME: &str = "lt_donthave";

/// Why bytes are no message of this extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lt_donthave: {length_bytes} bytes, not the 4 of a piece's index")]
pub struct DontHaveError {
    /// What came.
    pub length_bytes: usize,
}

/// Reads the payload, `piece u32` big-endian, without the byte of the extended message's id: the piece's index.
///
/// # Errors
/// [`DontHaveError`] if it is not four bytes.
pub fn decode(payload: &[u8]) -> Result<u32, DontHaveError> {
    let length_bytes = payload.len();
    let index = payload
        .try_into()
        .map_err(|_| DontHaveError { length_bytes })?;
    Ok(u32::from_be_bytes(index))
}

/// The payload to send, behind the byte of the extended message's id.
#[must_use]
pub fn encode(piece: u32) -> Bytes {
    Bytes::copy_from_slice(&piece.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_four_bytes() {
        // BEP 54, "protocol encoding".
        let rows: [(&[u8], Result<u32, usize>); 6] = [
            (&[0, 0, 0, 0], Ok(0)),
            (&[0, 1, 2, 3], Ok(0x0001_0203)),
            (&[0xff; 4], Ok(u32::MAX)),
            (&[], Err(0)),
            (&[0, 0, 1], Err(3)),
            (&[0, 0, 0, 0, 1], Err(5)),
        ];
        for (payload, expected) in rows {
            let expected = expected.map_err(|length_bytes| DontHaveError { length_bytes });
            assert_eq!(decode(payload), expected, "{payload:?}");
            if let Ok(piece) = expected {
                assert_eq!(encode(piece), payload);
            }
        }
    }
}
