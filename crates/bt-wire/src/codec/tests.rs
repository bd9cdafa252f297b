use super::*;
use bytes::Bytes;

#[test]
fn a_block_shares_the_buffer_it_came_in() {
    let mut buffer = BytesMut::with_capacity(1024);
    Message::Piece {
        piece: 1,
        begin: 2,
        data: Bytes::from_static(b"payload"),
    }
    .encode_into(&mut buffer);
    let expected = buffer[13..].as_ptr();
    let message = Decoder::new(Limits::for_torrent(2)).decode(&mut buffer);
    let Ok(Some(Message::Piece { data, .. })) = message else {
        panic!("{message:?}");
    };
    assert_eq!(data.as_ptr(), expected);
}
