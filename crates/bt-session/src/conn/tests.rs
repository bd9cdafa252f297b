#![allow(clippy::wildcard_enum_match_arm, reason = "anything else is a failure")]

use super::*;
use bt_core::{BLOCK_BYTES, Layout};
use bt_storage::{FileMap, FileSpec, MemoryStorage, Storage, TorrentStore};
use bt_wire::message::BlockAddress;
use bytes::{Buf, BytesMut};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

const CONN: ConnId = ConnId(1);
const PIECES: u32 = 4;
const PIECE_BYTES: u32 = 2 * BLOCK_BYTES;

/// A connection under test, and the peer's end of it.
struct Rig {
    peer: TcpStream,
    entry: Option<Entry>,
    facts: mpsc::Receiver<Fact>,
    task: JoinHandle<()>,
    layout: Layout,
}

fn byte_at(offset: u64) -> u8 {
    u8::try_from(offset % 251).unwrap()
}

fn disk(layout: Layout) -> Arc<Disk> {
    let spec = FileSpec {
        path: "file".into(),
        length: layout.total_length(),
        pad: false,
    };
    let map = FileMap::new(layout, vec![spec]);
    let storage = MemoryStorage::new();
    // The last piece is not there.
    let bytes: Vec<u8> = (0..u64::from(3 * PIECE_BYTES)).map(byte_at).collect();
    let buffers = [std::io::IoSlice::new(&bytes)];
    storage
        .write_at(bt_storage::FileIndex(0), 0, &buffers)
        .unwrap();
    let hashes = vec![[0; 20]; PIECES as usize];
    let store = TorrentStore::with_storage(map, hashes, Box::new(storage));
    Arc::new(Disk::new(Arc::new(store), Arc::new(Semaphore::new(1))))
}

async fn rig() -> Rig {
    let layout = layout();
    rig_with(disk(layout)).await
}

fn layout() -> Layout {
    Layout::new(u64::from(PIECES * PIECE_BYTES), PIECE_BYTES).unwrap()
}

async fn rig_with(disk: Arc<Disk>) -> Rig {
    let layout = layout();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap());
    let (peer, accepted) = tokio::join!(dialled, listener.accept());
    let (facts_in, facts) = mpsc::channel(4);
    let limits = Limits::for_torrent(PIECES);
    let (entry, task) = new(
        CONN,
        accepted.unwrap().0,
        limits,
        disk,
        Arc::default(),
        facts_in,
    );
    Rig {
        peer: peer.unwrap(),
        entry: Some(entry),
        facts,
        task: tokio::spawn(task),
        layout,
    }
}

impl Rig {
    fn order(&self, order: Order) {
        self.entry.as_ref().unwrap().orders.try_send(order).unwrap();
    }

    fn block(&self, piece: u32, index: u32) -> Block {
        let piece = self.layout.piece(piece).unwrap();
        self.layout.block_at(piece, index).unwrap()
    }

    async fn closed(&mut self) -> CloseReason {
        loop {
            match self.facts.recv().await.unwrap() {
                Fact::Closed { conn, reason } => {
                    assert_eq!(conn, CONN);
                    return reason;
                }
                Fact::Received { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// What the peer reads until the connection ends.
    async fn heard(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.peer.read_to_end(&mut bytes).await.unwrap();
        bytes
    }
}

#[tokio::test]
async fn messages_arrive_whole_and_in_order_however_they_are_cut() {
    let mut rig = rig().await;
    let sent: Vec<Message> = (0..5_000)
        .map(|n| match n % 3 {
            0 => Message::Have { piece: n % PIECES },
            1 => Message::Piece {
                piece: 1,
                begin: n,
                data: vec![byte_at(n.into()); (n % 300) as usize].into(),
            },
            _ => Message::Request(BlockAddress {
                piece: n,
                begin: n,
                length: n,
            }),
        })
        .collect();
    let mut bytes = BytesMut::new();
    sent.iter()
        .for_each(|message| message.encode_into(&mut bytes));
    let (read, mut write) = rig.peer.into_split();
    let writing = tokio::spawn(async move {
        let mut lengths = [1, 3, 7, 1_460, 40_000].iter().cycle();
        while bytes.has_remaining() {
            let next = bytes.len().min(*lengths.next().unwrap());
            write.write_all(&bytes.split_to(next)).await.unwrap();
        }
        write
    });
    let mut got = Vec::new();
    while got.len() < sent.len() {
        match rig.facts.recv().await.unwrap() {
            Fact::Received { messages, .. } => {
                assert!((1..=BATCH_MESSAGES).contains(&messages.len()));
                got.extend(messages);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(got == sent);
    drop((writing.await.unwrap(), read));
    assert!(matches!(
        rig.facts.recv().await,
        Some(Fact::Closed {
            reason: CloseReason::Gone,
            ..
        })
    ));
    rig.task.await.unwrap();
}

#[tokio::test]
async fn blocks_of_a_fast_peer_arrive_whole_and_in_order() {
    let mut rig = rig().await;
    let sent = |n: u32| match n % 40 {
        // Whatever comes between them, so that reads begin and end anywhere.
        39 => Message::Have { piece: n % PIECES },
        _ => Message::Piece {
            piece: n,
            begin: 0,
            data: vec![byte_at(n.into()); BLOCK_BYTES as usize].into(),
        },
    };
    let (_read, mut write) = rig.peer.into_split();
    let writing = tokio::spawn(async move {
        let mut bytes = BytesMut::new();
        for n in 0..800 {
            sent(n).encode_into(&mut bytes);
            if n % 100 == 99 {
                write.write_all(&bytes.split()).await.unwrap();
            }
        }
        write
    });
    let mut got = 0;
    // Held for a while, as by a disk.
    let mut held = VecDeque::new();
    while got < 800 {
        match rig.facts.recv().await.unwrap() {
            Fact::Received { messages, .. } => {
                for message in messages {
                    held.push_back((got, message));
                    got += 1;
                }
            }
            other => panic!("{other:?}"),
        }
        while held.len() > 200 {
            let (n, message) = held.pop_front().unwrap();
            assert!(message == sent(n), "{n}");
        }
    }
    assert!(held.into_iter().all(|(n, message)| message == sent(n)));
    drop(writing.await.unwrap());
}

#[tokio::test]
async fn a_violation_comes_after_what_was_right() {
    let mut rig = rig().await;
    let mut bytes = BytesMut::new();
    Message::Unchoke.encode_into(&mut bytes);
    bytes.extend_from_slice(&[0xff; 64]);
    rig.peer.write_all(&bytes).await.unwrap();
    match rig.facts.recv().await.unwrap() {
        Fact::Received { messages, .. } => assert_eq!(messages, [Message::Unchoke]),
        other => panic!("{other:?}"),
    }
    assert!(matches!(rig.closed().await, CloseReason::Violation(_)));
    rig.task.await.unwrap();
}

#[tokio::test]
async fn orders_go_out_in_order_and_uploads_are_reported() {
    let mut rig = rig().await;
    let (good, missing) = (rig.block(1, 1), rig.block(3, 0));
    rig.order(Order::Send(Message::Unchoke));
    rig.order(Order::Upload(good));
    rig.order(Order::Upload(missing));
    rig.order(Order::Send(Message::Have { piece: 2 }));
    let mut reported = Vec::new();
    while reported.len() < 2 {
        match rig.facts.recv().await.unwrap() {
            Fact::Uploaded { blocks, .. } => reported.extend(blocks),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(reported[0], (good, Ok(())));
    assert_eq!(reported[1].0, missing);
    assert!(reported[1].1.is_err());
    drop(rig.entry.take());
    let mut expected = BytesMut::new();
    Message::Unchoke.encode_into(&mut expected);
    let start = u64::from(PIECE_BYTES + good.begin);
    let data: Vec<u8> = (start..start + u64::from(good.length))
        .map(byte_at)
        .collect();
    let piece = Message::Piece {
        piece: 1,
        begin: good.begin,
        data: data.into(),
    };
    piece.encode_into(&mut expected);
    Message::Have { piece: 2 }.encode_into(&mut expected);
    assert!(rig.heard().await == expected);
}

#[tokio::test]
async fn a_close_sends_first_what_was_ordered_before() {
    let mut rig = rig().await;
    rig.order(Order::Send(Message::NotInterested));
    let block = rig.block(0, 0);
    rig.order(Order::Upload(block));
    // Not even a peer who talks on keeps the connection open.
    rig.peer.write_all(&[0; 4_000]).await.unwrap();
    drop(rig.entry.take());
    let facts = core::mem::replace(&mut rig.facts, mpsc::channel(1).1);
    let draining = tokio::spawn(async move {
        let mut facts = facts;
        while facts.recv().await.is_some() {}
    });
    let heard = rig.heard().await;
    assert_eq!(heard.len(), 5 + PIECE_HEADER_BYTES + block.length as usize);
    draining.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_reads_nothing_for_a_minute_is_closed() {
    let mut rig = rig().await;
    // More than any socket buffers take.
    for _ in 0..ORDERS_MAX {
        rig.order(Order::Upload(rig.block(0, 0)));
    }
    let started = tokio::time::Instant::now();
    loop {
        match rig.facts.recv().await.unwrap() {
            Fact::Uploaded { .. } => {}
            Fact::Closed { reason, .. } => {
                assert_eq!(reason, CloseReason::Idle);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(started.elapsed() >= STUCK_DEADLINE);
    drop(rig.peer);
    rig.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_while_the_torrent_is_busy() {
    let rig = rig().await;
    let (_, mut write) = rig.peer.into_split();
    let flood = vec![0; 1024 * 1024];
    let writing = tokio::spawn(async move {
        let mut sent = 0_usize;
        // Ends when the torrent, which takes no facts, has let the peer's window close for good.
        while let Ok(written) =
            tokio::time::timeout(Duration::from_secs(1), write.write(&flood)).await
        {
            sent += written.unwrap();
        }
        sent
    });
    let sent = writing.await.unwrap();
    assert!(sent < 64 * 1024 * 1024, "{sent} bytes were taken");
    drop(rig.facts);
    rig.task.await.unwrap();
    drop(rig.entry);
}

#[tokio::test]
async fn a_block_whose_reading_is_given_up_leaves_no_half_message() {
    let disk = disk(layout());
    disk.pretend_slow();
    // The pool's only thread is taken, so the block waits for it.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let holder = Arc::clone(&disk);
    let (taken, is_taken) = oneshot::channel();
    let holding = tokio::spawn(async move {
        let work = move || {
            taken.send(()).unwrap();
            held.recv().is_err()
        };
        holder.on_pool(work).await
    });
    is_taken.await.unwrap();
    let mut rig = rig_with(disk).await;
    rig.order(Order::Upload(rig.block(0, 0)));
    rig.order(Order::Send(Message::Have { piece: 1 }));
    let orders = rig.entry.as_ref().unwrap().orders.clone();
    while orders.capacity() < ORDERS_MAX {
        tokio::task::yield_now().await;
    }
    drop((orders, rig.entry.take()));
    let mut expected = BytesMut::new();
    Message::Have { piece: 1 }.encode_into(&mut expected);
    assert_eq!(rig.heard().await, expected);
    drop(release);
    assert_eq!(holding.await.unwrap(), Ok(true));
}
