use super::*;
use crate::buffers::LONG_READ_BYTES;
use crate::config::{SessionConfig, TorrentOptions};
use crate::conn::{self, Order};
use crate::handshake;
use crate::session::Session;
use bt_core::BLOCK_BYTES;
use bt_core::disk::Job;
use bt_peer::limits::{WRITES_MAX_BYTES, WRITES_RESUME_BYTES};
use bt_storage::{
    Control, FileIndex, FileMap, FileSpec, FileStat, Storage, TorrentStore, hash_files,
};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpStream;

fn session(dir: &Path) -> Session {
    let config = SessionConfig {
        bind: Some(std::net::Ipv4Addr::LOCALHOST.into()),
        port: Some(0),
        state_dir: Some(dir.join("state")),
        ..SessionConfig::default()
    };
    Session::new(config).unwrap()
}

/// A torrent of one piece that is not there.
async fn torrent(session: &Session, dir: &Path) -> Torrent {
    let shared = session.shared();
    let builder = bt_metainfo::Builder::file("file", 10, 16 * 1024);
    let metainfo = builder.build(&[[0; 20]]).unwrap();
    let (status, _) = crate::status::status(Status::default());
    let options = TorrentOptions::default();
    let dir = dir.to_owned();
    let opened = crate::open::open(shared, metainfo, dir, &options, None, &status).await;
    Torrent::new(Arc::clone(shared), opened.unwrap())
}

/// The ends of a torrent, and what its owner holds.
fn ends() -> (Ends, impl Sized) {
    let (status, shown) = crate::status::status(Status::default());
    let (events, told) = crate::events::events();
    let ends = Ends {
        inbox: Arc::default(),
        gossip: None,
        events,
        status,
    };
    (ends, (shown, told))
}

#[tokio::test]
async fn a_torrent_without_peers_sleeps_until_something_happens() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path());
    let mut torrent = torrent(&session, dir.path()).await;
    let (ends, _handle) = ends();
    torrent
        .inputs
        .push_back(Input::PeersFound(Source::User, Vec::new()));
    torrent.settle(&ends);
    let first = torrent.next_tick();
    assert!(first.is_some_and(|at| at <= Instant::now()));
    torrent.timeout(&ends);
    torrent.settle(&ends);
    assert_eq!(torrent.next_tick(), None);
    assert!(torrent.hands.is_none(), "which take memory");
    assert!(torrent.may_rest());
    torrent.command(Command::Want(bt_core::Bitfield::new(1)));
    torrent.settle(&ends);
    assert!(!torrent.may_rest(), "something happened");
    let next = torrent.next_tick();
    assert!(next > first && next.is_some_and(|at| at <= Instant::now() + TICK));
    // It is complete now, which is to be saved soon, and that wakes it too.
    torrent.is_idle = true;
    assert!(torrent.keeper.as_ref().is_some_and(Keeper::is_due));
    assert_eq!(torrent.next_tick(), Some(torrent.tick_at));
}

#[tokio::test]
async fn a_torrent_at_rest_takes_little() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path());
    let mut torrent = torrent(&session, dir.path()).await;
    let (mut ends, _handle) = ends();
    // With all that it may wait for its future would take twice as much.
    assert!(size_of_val(&torrent.run(&mut ends, Vec::new())) <= 384);
}

#[tokio::test]
async fn an_order_to_a_connection_that_ended_leaves_its_reason_to_be_heard() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path());
    let mut torrent = torrent(&session, dir.path()).await;
    let listening = session.local_addrs()[0];
    let stream = TcpStream::connect(listening).await.unwrap();
    let (disk, facts) = (Arc::clone(&torrent.disk), torrent.hands().facts_in.clone());
    let conn = ConnId(1);
    let buffers = Arc::default();
    let (entry, task) = conn::new(conn, stream, torrent.limits, disk, buffers, facts);
    torrent.conns.insert(conn, entry);
    drop(task);
    torrent.order(conn, Order::Send(Message::KeepAlive));
    assert!(torrent.inputs.is_empty() && torrent.conns.contains_key(&conn));
}

/// A disk that takes nothing until the other end of the channel is dropped, and then takes all and forgets it.
struct StuckDisk {
    held: Mutex<std::sync::mpsc::Receiver<()>>,
    /// It was told to make sure of what it took.
    synced: Arc<AtomicBool>,
}

impl StuckDisk {
    /// The disk, what holds it up as long as it is not dropped, and whether it was synced.
    fn new() -> (Box<Self>, std::sync::mpsc::Sender<()>, Arc<AtomicBool>) {
        let (release, held) = std::sync::mpsc::channel();
        let synced = Arc::<AtomicBool>::default();
        let disk = Self {
            held: Mutex::new(held),
            synced: Arc::clone(&synced),
        };
        (Box::new(disk), release, synced)
    }
}

impl Storage for StuckDisk {
    fn read_at(&self, _: FileIndex, _: u64, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(0);
        Ok(buffer.len())
    }

    fn write_at(&self, _: FileIndex, _: u64, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let is_free = self.held.lock().is_ok_and(|held| held.recv().is_err());
        assert!(is_free, "nothing is sent");
        Ok(buffers.iter().map(|buffer| buffer.len()).sum())
    }

    fn stat(&self, _: FileIndex) -> io::Result<Option<FileStat>> {
        Ok(None)
    }

    fn sync(&self, _: FileIndex) -> io::Result<()> {
        self.synced.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn create(&self, _: FileIndex) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_waits_for_a_slow_disk_is_bounded() {
    const LENGTH: u64 = 64 << 20;
    const PIECE: u32 = 1 << 20;
    /// So often in a row nothing came: then nothing more is on its way.
    const STILL_SLICES: u32 = 20;
    let dir = tempfile::tempdir().unwrap();
    let (there, here) = (dir.path().join("there"), dir.path().join("here"));
    std::fs::create_dir(&there).unwrap();
    let source = std::fs::File::create(there.join("file")).unwrap();
    source.set_len(LENGTH).unwrap();
    let zeros = FileSpec {
        path: there.join("file"),
        length: LENGTH,
        pad: false,
    };
    let hashes = hash_files(&[zeros], PIECE, Control::default()).unwrap();
    let builder = bt_metainfo::Builder::file("file", LENGTH, PIECE);
    let metainfo = builder.build(&hashes).unwrap();
    let options = TorrentOptions {
        seed_only: true,
        trusted: true,
        ..TorrentOptions::default()
    };
    let mut seeding = session(&there);
    let seeder = seeding.add(metainfo.clone(), &there, options).unwrap();
    // Who is dialled before it knows the torrent refuses, and is dialled again only some seconds later.
    let mut phase = seeder.0.watch();
    let runs = |status: &Status| status.phase == Phase::Running;
    phase.wait_for(runs).await.unwrap();

    let leeching = session(&here);
    let (status, _) = crate::status::status(Status::default());
    let map = FileMap::from(&metainfo.info);
    let options = TorrentOptions::default();
    let opened =
        crate::open::open(leeching.shared(), metainfo, here, &options, None, &status).await;
    let mut opened = opened.unwrap();
    let (stuck, release, _synced) = StuckDisk::new();
    opened.store = Arc::new(TorrentStore::with_storage(map, hashes, stuck));
    let mut torrent = Torrent::new(Arc::clone(leeching.shared()), opened);
    torrent.disk.pretend_slow();
    let (mut ends, _handle) = ends();
    let peers = seeding.local_addrs().to_vec();
    // What was asked for before, 8 MiB, stays where it is.
    let read = LONG_READ_BYTES as u64;
    let mut release = Some(release);
    let (mut most, mut still) = (0, 0);
    // Past the upper mark, until nothing more comes; then the disk works, down to the lower mark. How fast the machine is
    // says only how soon.
    loop {
        let a_while = Duration::from_millis(5);
        let run = torrent.run(&mut ends, peers.clone());
        assert!(
            tokio::time::timeout(a_while, run).await.is_err(),
            "it goes on"
        );
        let waiting = torrent.hands().jobs.queued() as u64 * u64::from(BLOCK_BYTES);
        assert!(waiting <= WRITES_MAX_BYTES + read, "{waiting} bytes wait");
        still = if waiting > most { 0 } else { still + 1 };
        most = most.max(waiting);
        if most >= WRITES_MAX_BYTES && still >= STILL_SLICES {
            drop(release.take());
        }
        if release.is_none() && waiting <= WRITES_RESUME_BYTES {
            return;
        }
    }
}

#[tokio::test]
async fn hands_are_let_go_of_when_the_last_peer_has_gone_and_made_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path());
    let mut torrent = torrent(&session, dir.path()).await;
    let (mut ends, _handle) = ends();
    let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..2 {
        let addr = listening.local_addr().unwrap();
        let stream = TcpStream::connect(addr).await.unwrap();
        let (theirs, _) = listening.accept().unwrap();
        let peer_id = PeerId([7; 20]);
        ends.inbox.accept(Greeted {
            stream,
            addr,
            handshake: handshake::ours(torrent.info_hash, peer_id, false),
        });
        let mut theirs = Some(theirs);
        let mut had_hands = false;
        loop {
            let run = torrent.run(&mut ends, Vec::new());
            assert!(
                tokio::time::timeout(Duration::from_millis(5), run)
                    .await
                    .is_err()
            );
            had_hands |= torrent.hands.is_some() && !torrent.conns.is_empty();
            if had_hands {
                drop(theirs.take());
            }
            if had_hands && torrent.hands.is_none() {
                break;
            }
        }
        assert!(torrent.conns.is_empty());
    }
}

#[tokio::test]
async fn saving_for_the_last_time_waits_for_the_write_that_is_under_way() {
    /// Of one piece: as much as one long read brings.
    const LENGTH: u32 = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path());
    let builder = bt_metainfo::Builder::file("file", LENGTH.into(), LENGTH);
    let metainfo = builder.build(&[[0; 20]]).unwrap();
    let map = FileMap::from(&metainfo.info);
    let (status, _) = crate::status::status(Status::default());
    let options = TorrentOptions::default();
    let data = dir.path().to_owned();
    let opened = crate::open::open(session.shared(), metainfo, data, &options, None, &status).await;
    let mut opened = opened.unwrap();
    let (stuck, release, synced) = StuckDisk::new();
    let layout = opened.torrent.layout;
    opened.store = Arc::new(TorrentStore::with_storage(map, vec![[0; 20]], stuck));
    let mut torrent = Torrent::new(Arc::clone(session.shared()), opened);
    let piece = layout.piece(0).unwrap();
    for block in layout.blocks(piece) {
        let data = vec![0; block.length as usize].into();
        let job = Job::Write { block, data };
        torrent.hands().jobs.submit(job, &mut Vec::new());
    }
    torrent.hands().jobs.flush(&mut Vec::new());
    assert!(torrent.hands().jobs.is_owed(), "it is written beside");
    let mut saving = core::pin::pin!(torrent.save());
    let a_while = Duration::from_millis(50);
    let early = tokio::time::timeout(a_while, saving.as_mut()).await;
    assert!(early.is_err() && !synced.load(Ordering::SeqCst));
    drop(release);
    saving.await.unwrap();
    assert!(synced.load(Ordering::SeqCst), "what was written");
}
