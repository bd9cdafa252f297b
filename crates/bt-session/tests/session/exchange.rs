//! Honest sessions among themselves.

use super::{PATIENCE, PIECE_BYTES, Place, seed_only, session, start, with_peers};
use bt_core::{Bitfield, PeerId};
use bt_peer::limits::UPLOAD_QUEUE_MAX;
use bt_session::{Phase, SessionError, TorrentEvent, TorrentOptions};
use bt_wire::message::BlockAddress;
use bt_wire::{Decoder, Handshake, Limits, Message, Reserved};
use bytes::BytesMut;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_whole_and_both_sides_count_the_same() {
    let place = Place::new(&[]);
    let (mut seeding, addr) = session(None);
    let mut seeder = start(&mut seeding, &place, &place.source(), seed_only());
    let pieces = place.torrent.info.layout().pieces_count();
    assert_eq!(seeder.checked().await, pieces);

    let (mut leeching, _) = session(None);
    let copy = place.path("copy");
    let mut leecher = start(&mut leeching, &place, &copy, with_peers(&[addr]));
    assert_eq!(leecher.checked().await, 0);
    leecher.complete().await;
    place.assert_copied(&copy);

    let total = place.torrent.info.layout().total_length();
    let status = leecher.handle.stop().await;
    assert_eq!(status.phase, Phase::Stopped);
    assert_eq!((status.stats.downloaded, status.stats.wasted), (total, 0));
    assert_eq!(status.stats.pieces_have, pieces);
    leecher.until(|event| *event == TorrentEvent::Stopped).await;
    assert!(
        leecher.events.next().await.is_none(),
        "nothing follows the last event"
    );
    assert_eq!(seeder.handle.stop().await.stats.uploaded, total);
    seeding.shutdown().await;
    leeching.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leechers_feed_each_other() {
    let place = Place::new(&[]);
    let (mut seeding, addr) = session(None);
    let mut seeder = start(&mut seeding, &place, &place.source(), seed_only());
    seeder.checked().await;
    let mut sessions: Vec<_> = (0..4).map(|_| session(None)).collect();
    let addrs: Vec<_> = sessions.iter().map(|(_, addr)| *addr).collect();
    let mut leechers = Vec::new();
    for (number, (session, own)) in sessions.iter_mut().enumerate() {
        // Only the first knows the seeder; the last knows nobody, and is found.
        let others = addrs.iter().filter(|addr| *addr != own).copied();
        let peers: Vec<_> = match number {
            0 => [addr].into_iter().chain(others).collect(),
            3 => Vec::new(),
            _ => others.collect(),
        };
        let copy = place.path(&format!("copy-{number}"));
        leechers.push((start(session, &place, &copy, with_peers(&peers)), copy));
    }
    for (leecher, copy) in &mut leechers {
        leecher.complete().await;
        place.assert_copied(copy);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_wanted_is_fetched() {
    let place = Place::new(&[]);
    let (mut seeding, addr) = session(None);
    start(&mut seeding, &place, &place.source(), seed_only())
        .checked()
        .await;
    let layout = place.torrent.info.layout();
    let mut wanted = Bitfield::new(layout.pieces_count());
    for index in [3, 5, 6] {
        wanted.set(layout.piece(index).unwrap());
    }
    let options = TorrentOptions {
        wanted: Some(wanted),
        ..with_peers(&[addr])
    };
    let (mut leeching, _) = session(None);
    let mut leecher = start(&mut leeching, &place, &place.path("copy"), options);
    leecher.complete().await;
    let stats = leecher.handle.stop().await.stats;
    assert_eq!(stats.pieces_have, 3);
    assert_eq!(stats.downloaded, u64::from(3 * PIECE_BYTES));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_holds_over_all_torrents_of_a_session() {
    let place = Place::new(&[]);
    let (mut seeding, addr) = session(None);
    start(&mut seeding, &place, &place.source(), seed_only())
        .checked()
        .await;
    let config = bt_session::SessionConfig {
        bind: Some(addr.ip()),
        port: Some(0),
        down_limit: Some(400_000),
        ..bt_session::SessionConfig::default()
    };
    let mut leeching = bt_session::Session::new(config).unwrap();
    let started = std::time::Instant::now();
    let mut leecher = start(
        &mut leeching,
        &place,
        &place.path("copy"),
        with_peers(&[addr]),
    );
    leecher.complete().await;
    // 873 460 bytes; the bucket's burst and the last block come on top.
    assert!(
        started.elapsed() > Duration::from_millis(1_700),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torrent_runs_once_and_can_come_back() {
    let place = Place::new(&[]);
    let (mut session, _) = session(None);
    let mut first = start(&mut session, &place, &place.source(), seed_only());
    let again = session.add(place.torrent.clone(), &place.source(), seed_only());
    assert!(matches!(again, Err(SessionError::Duplicate { .. })));
    first.checked().await;
    first.handle.stop().await;
    start(&mut session, &place, &place.source(), seed_only())
        .checked()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_folder_fails_one_torrent_with_the_path_in_its_words() {
    let place = Place::new(&[]);
    let (mut session, _) = session(None);
    let file = place.source().join("top/a");
    let mut torrent = start(&mut session, &place, &file, with_peers(&[]));
    let seen = torrent
        .until(|event| matches!(event, TorrentEvent::Failed(_)))
        .await;
    let Some(TorrentEvent::Failed(failure)) = seen.last() else {
        unreachable!("waited for it");
    };
    assert!(failure.to_string().contains("top/a"), "{failure}");
    assert_eq!(torrent.handle.status().phase, Phase::Stopped);
    tokio::time::timeout(PATIENCE, session.shutdown())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_more_than_is_queued_is_read_on_later() {
    const REQUESTS: usize = 10 * UPLOAD_QUEUE_MAX;
    let place = Place::new(&[]);
    let (mut session, addr) = session(None);
    let mut seeder = start(&mut session, &place, &place.source(), seed_only());
    seeder.checked().await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let handshake = Handshake {
        // It knows of no `reqq`, and cannot be told that a request is dropped.
        reserved: Reserved::NONE,
        info_hash: place.torrent.info_hash,
        peer_id: PeerId(*b"-XX0000-abcdefghijkl"),
    };
    stream.write_all(&handshake.encode()).await.unwrap();
    stream.read_exact(&mut [0; 68]).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let mut bytes = BytesMut::new();
    Message::Interested.encode_into(&mut bytes);
    write.write_all(&bytes).await.unwrap();

    let mut decoder = Decoder::new(Limits::for_torrent(
        place.torrent.info.layout().pieces_count(),
    ));
    let (mut buffer, mut write, mut served) = (BytesMut::new(), Some(write), 0);
    let mut asking = None;
    let exchange = async {
        while served < REQUESTS {
            assert!(read.read_buf(&mut buffer).await.unwrap() > 0, "{served}");
            while let Some(message) = decoder.decode(&mut buffer).unwrap() {
                if message == Message::Unchoke {
                    let mut bytes = BytesMut::new();
                    for number in 0..REQUESTS {
                        let request = BlockAddress {
                            piece: 0,
                            begin: u32::try_from(number % 32).unwrap() * 1024,
                            length: 1024,
                        };
                        Message::Request(request).encode_into(&mut bytes);
                    }
                    let mut write = write.take().expect("one unchoke");
                    asking = Some(tokio::spawn(async move {
                        write.write_all(&bytes).await.unwrap();
                        // Dropped, it would end the connection.
                        write
                    }));
                }
                if let Message::Piece { begin, .. } = message {
                    assert_eq!(begin as usize, served % 32 * 1024, "each, in order");
                    served += 1;
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap();
    asking.unwrap().await.unwrap();
}
