//! What may stand behind an announce request (BEP 41): path and query of the announce URL, in pieces.
//!
//! `0` ends the options, `1` is padding, any other type is followed by a length byte and so many bytes. Type 2 is a piece
//! of the URL data; pieces belong together in order. Types that are not known are passed over; what is cut off ends
//! the options, as bytes behind a packet have always been allowed.

const END_OF_OPTIONS: u8 = 0;
const NOP: u8 = 1;
const URL_DATA: u8 = 2;

/// Longest URL data that is written, in bytes. A packet with it still fits a frame.
pub const URL_DATA_MAX_BYTES: usize = 1_024;

/// Path and query of the announce URL, as a client sent it: `/announce?passkey=1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UrlData<'a>(pub(super) &'a [u8]);

impl<'a> UrlData<'a> {
    /// Its pieces, in order. Most clients send one, and many none.
    pub fn pieces(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            loop {
                match rest.split_first()? {
                    (&END_OF_OPTIONS, _) => return None,
                    (&NOP, tail) => rest = tail,
                    (kind, tail) => {
                        let (length, tail) = tail.split_first()?;
                        let (piece, tail) = tail.split_at_checked(usize::from(*length))?;
                        rest = tail;
                        if *kind == URL_DATA {
                            return Some(piece);
                        }
                    }
                }
            }
        })
    }

    /// All of it in one piece.
    #[must_use]
    pub fn to_vec(self) -> Vec<u8> {
        self.pieces().flatten().copied().collect()
    }
}

/// Appends the options that say `url_data`, which is cut at [`URL_DATA_MAX_BYTES`]; nothing if it is empty.
pub(super) fn write(url_data: &str, out: &mut Vec<u8>) {
    let bytes = url_data.as_bytes();
    let bytes = bytes.get(..URL_DATA_MAX_BYTES).unwrap_or(bytes);
    for piece in bytes.chunks(usize::from(u8::MAX)) {
        out.push(URL_DATA);
        out.push(u8::try_from(piece.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(piece);
    }
}
