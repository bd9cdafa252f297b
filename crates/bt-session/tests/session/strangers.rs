//! Connections that are not what they should be (FAULTS 37 to 41, 47 to 49).

use super::{PATIENCE, Place, seed_only, session, start, with_peers};
use bt_core::{InfoHash, PeerId};
use bt_session::Session;
use bt_wire::{Handshake, Message, Reserved};
use bytes::BytesMut;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn seeding(place: &Place) -> (Session, SocketAddr) {
    let (mut session, addr) = session(None);
    start(&mut session, place, &place.source(), seed_only())
        .checked()
        .await;
    (session, addr)
}

fn handshake(info_hash: InfoHash) -> [u8; 68] {
    Handshake {
        reserved: Reserved::NONE,
        info_hash,
        peer_id: PeerId(*b"-XX0000-abcdefghijkl"),
    }
    .encode()
}

/// An honest download from the seeder works.
async fn assert_served(place: &Place, addr: SocketAddr, name: &str) {
    let (mut leeching, _) = session(None);
    let copy = place.path(name);
    start(&mut leeching, place, &copy, with_peers(&[addr]))
        .complete()
        .await;
    place.assert_copied(&copy);
}

/// What the other side says until it closes, which it has to.
async fn heard(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    // A reset is a close as well.
    let _ = tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("closed");
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reachability_check_is_answered_before_any_peer_id() {
    let place = Place::new(&[]);
    let (_session, addr) = seeding(&place).await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream
        .write_all(&handshake(place.torrent.info_hash)[..48])
        .await
        .unwrap();
    let mut answer = [0; 68];
    stream.read_exact(&mut answer).await.unwrap();
    let answer = Handshake::parse(&answer).unwrap().unwrap();
    assert_eq!(answer.info_hash, place.torrent.info_hash);
    assert!(answer.reserved.has_fast());
    drop(stream);
    assert_served(&place, addr, "copy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_learn_nothing() {
    let place = Place::new(&[]);
    let (_session, addr) = seeding(&place).await;
    let unknown = handshake(InfoHash([9; 20]));
    let rows: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        &[0; 500],
        &unknown,
    ];
    for row in rows {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(row).await.unwrap();
        assert_eq!(heard(stream).await, b"");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_and_slow_connections_keep_nobody_out() {
    let place = Place::new(&[]);
    let (_session, addr) = seeding(&place).await;
    let mut silent = Vec::new();
    for number in 0..600 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        if number % 2 == 0 {
            stream
                .write_all(&handshake(place.torrent.info_hash)[..number % 48])
                .await
                .unwrap();
        }
        silent.push(stream);
    }
    let started = Instant::now();
    assert_served(&place, addr, "copy").await;
    // Well below the deadline after which the silent ones are closed anyway.
    heard(silent.remove(0)).await;
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_gone_is_forgotten() {
    let place = Place::new(&[]);
    let (mut session, addr) = session(None);
    let mut seeder = start(&mut session, &place, &place.source(), seed_only());
    seeder.checked().await;
    let mut status = seeder.handle.watch();
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream
        .write_all(&handshake(place.torrent.info_hash))
        .await
        .unwrap();
    let came = status.wait_for(|status| status.stats.peers == 1);
    tokio::time::timeout(PATIENCE, came).await.unwrap().unwrap();
    drop(stream);
    let left = status.wait_for(|status| status.stats.peers == 0);
    tokio::time::timeout(PATIENCE, left).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_breaks_the_protocol_is_closed_and_nobody_else() {
    let place = Place::new(&[]);
    let (_session, addr) = seeding(&place).await;
    let mut bad_request = BytesMut::new();
    Message::Interested.encode_into(&mut bad_request);
    Message::Bitfield(vec![0xff; 4].into()).encode_into(&mut bad_request);
    let rows: [&[u8]; 4] = [
        &[0xff; 100],
        &[0x7f, 0xff, 0xff, 0xff, 7],
        &bad_request,
        &[0, 0, 0, 5, 4, 0xff, 0xff, 0xff, 0xff],
    ];
    for row in rows {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream
            .write_all(&handshake(place.torrent.info_hash))
            .await
            .unwrap();
        stream.write_all(row).await.unwrap();
        heard(stream).await;
    }
    assert_served(&place, addr, "copy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_cut_into_single_bytes_is_served() {
    let place = Place::new(&[]);
    let (_session, addr) = seeding(&place).await;
    let stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut read, mut write) = stream.into_split();
    let mut said = BytesMut::from(handshake(place.torrent.info_hash).as_slice());
    Message::Interested.encode_into(&mut said);
    Message::KeepAlive.encode_into(&mut said);
    for byte in said {
        write.write_all(&[byte]).await.unwrap();
    }
    let mut decoder = bt_wire::Decoder::new(bt_wire::Limits::for_torrent(
        place.torrent.info.layout().pieces_count(),
    ));
    let mut handshake = [0; 68];
    read.read_exact(&mut handshake).await.unwrap();
    let mut buffer = BytesMut::new();
    let unchoked = async {
        loop {
            while let Some(message) = decoder.decode(&mut buffer).unwrap() {
                if message == Message::Unchoke {
                    return;
                }
            }
            assert_ne!(read.read_buf(&mut buffer).await.unwrap(), 0, "closed");
        }
    };
    tokio::time::timeout(PATIENCE, unchoked).await.unwrap();
}
