use super::*;
use sha1::{Digest, Sha1};

fn message(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    bt_core::Rng::new(length as u64).fill(&mut bytes);
    bytes
}

/// Each message has its own hash, however long the others are, and wherever they are cut.
fn hashes_are_right<const N: usize>(lengths: [usize; N]) {
    let messages = lengths.map(message);
    let slices = messages.each_ref().map(Vec::as_slice);
    let expected = slices.map(|message| <[u8; 20]>::from(Sha1::digest(message)));
    for cut in [0, 1, 63, 64, 65, 128, 1_000] {
        let mut hashers = [const { Hasher::new() }; N];
        let parts = slices.map(|message| message.split_at(cut.min(message.len())));
        for take in [|part: (_, _)| part.0, |part: (_, _)| part.1] {
            let mut data = parts.map(take).into_iter();
            let pairs = hashers
                .each_mut()
                .map(|hasher| (hasher, data.next().unwrap()));
            update_together(pairs);
        }
        assert_eq!(
            hashers.map(Hasher::finish),
            expected,
            "messages of {lengths:?} bytes, cut at {cut}"
        );
    }
}

#[test]
fn hashes_are_those_of_the_plain_way() {
    for length in (0..260).chain([1_000, 16_384, 65_537]) {
        hashes_are_right([length]);
        hashes_are_right([length, length]);
        hashes_are_right([length; LANES]);
        hashes_are_right([length, 1_500]);
        hashes_are_right([200, length, 700]);
    }
}

#[test]
fn a_message_in_many_small_parts_has_the_same_hash() {
    let message = message(1_000);
    let mut hasher = Hasher::new();
    message.chunks(7).for_each(|part| hasher.update(part));
    assert_eq!(hasher.finish(), <[u8; 20]>::from(Sha1::digest(&message)));
}

#[test]
fn known_answers() {
    // FIPS 180-4 examples of one block and of two (csrc.nist.gov, "Example Values", SHA1).
    let two_blocks: &[u8] = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    let mut hashers = [Hasher::new(), Hasher::new()];
    let [abc, other] = hashers.each_mut();
    update_together([(abc, b"abc"), (other, two_blocks)]);
    let [abc, other] = hashers.map(Hasher::finish);
    assert_eq!(abc[..4], [0xa9, 0x99, 0x3e, 0x36]);
    assert_eq!(other[..4], [0x84, 0x98, 0x3e, 0x44]);
}
