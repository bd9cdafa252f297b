//! CRC-32C (Castagnoli), with which BEP 40 ranks peers and BEP 42 binds ids to addresses.

/// The checksum, bit by bit: it is only ever asked for a few bytes.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    /// The polynomial, bits reversed.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_check_string() {
        // The check value that catalogues of CRCs give for "123456789".
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
