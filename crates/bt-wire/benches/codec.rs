//! What the codec costs per message: 10 Gbit/s is 76 000 blocks a second, 13 µs each for everything.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use bt_wire::message::BlockAddress;
use bt_wire::{Decoder, ExtensionHandshake, Limits, Message};
use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const BLOCK_BYTES: usize = 16 * 1024;
const MESSAGES_COUNT: u32 = 64;

fn messages(make: impl Fn(u32) -> Message) -> BytesMut {
    let mut bytes = BytesMut::new();
    for number in 0..MESSAGES_COUNT {
        make(number).encode_into(&mut bytes);
    }
    bytes
}

fn block(piece: u32) -> Message {
    Message::Piece {
        piece,
        begin: 0,
        data: Bytes::from(vec![7; BLOCK_BYTES]),
    }
}

fn request(piece: u32) -> Message {
    Message::Request(BlockAddress {
        piece,
        begin: 0,
        length: 16_384,
    })
}

fn decode_all(mut buffer: BytesMut) -> u32 {
    let mut decoder = Decoder::new(Limits::for_torrent(10_000));
    let mut count = 0;
    while let Ok(Some(message)) = decoder.decode(&mut buffer) {
        std::hint::black_box(message);
        count += 1;
    }
    assert_eq!(count, MESSAGES_COUNT);
    count
}

fn codec(criterion: &mut Criterion) {
    let streams = [
        ("blocks", messages(block)),
        ("haves", messages(|piece| Message::Have { piece })),
        ("requests", messages(request)),
    ];
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(MESSAGES_COUNT.into()));
    for (name, stream) in &streams {
        group.bench_function(*name, |bencher| {
            bencher.iter_batched(|| stream.clone(), decode_all, BatchSize::LargeInput);
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(1));
    let mut out = BytesMut::with_capacity(2 * BLOCK_BYTES);
    for (name, message) in [("request", request(1)), ("block head", block(1))] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                std::hint::black_box(message.encode_head_into(&mut out)).len()
            });
        });
    }
    group.finish();

    let handshake = b"d1:md11:upload_onlyi3e12:ut_holepunchi4e11:ut_metadatai2e6:ut_pexi1ee13:metadata_sizei31235e4:reqqi500e1:v17:qBittorrent/4.5.26:yourip4:\x7f\0\0\x01e";
    criterion.bench_function("extension handshake", |bencher| {
        bencher.iter(|| ExtensionHandshake::decode(std::hint::black_box(handshake)));
    });
}

criterion_group!(benches, codec);
criterion_main!(benches);
