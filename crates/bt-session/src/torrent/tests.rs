use super::*;
use crate::config::{SessionConfig, TorrentOptions};
use crate::session::Session;
use std::path::Path;

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
async fn torrent(session: &Session, dir: &Path) -> (Torrent, mpsc::Sender<Fact>) {
    let shared = session.shared();
    let builder = bt_metainfo::Builder::file("file", 10, 16 * 1024);
    let metainfo = builder.build(&[[0; 20]]).unwrap();
    let (status, _) = watch::channel(Status::default());
    let options = TorrentOptions::default();
    let dir = dir.to_owned();
    let opened = crate::open::open(shared, metainfo, dir, &options, &status).await;
    Torrent::new(Arc::clone(shared), opened.unwrap())
}

/// The ends of a torrent, and what its owner holds.
fn ends() -> (Ends, impl Sized) {
    let (commands_in, commands) = mpsc::channel(1);
    let (peers_in, peers) = mpsc::channel(1);
    let (gossip_in, gossip) = mpsc::channel(1);
    let (status, shown) = watch::channel(Status::default());
    let (events, told) = crate::events::events();
    let ends = Ends {
        commands,
        peers,
        gossip,
        gossip_in,
        events,
        status,
    };
    (ends, (commands_in, peers_in, shown, told))
}

#[tokio::test]
async fn a_torrent_without_peers_sleeps_until_something_happens() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path());
    let (mut torrent, _facts) = torrent(&session, dir.path()).await;
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
    torrent.command(Command::Want(bt_core::Bitfield::new(1)));
    torrent.settle(&ends);
    let next = torrent.next_tick();
    assert!(next > first && next.is_some_and(|at| at <= Instant::now() + TICK));
    // It is complete now, which is to be saved soon, and that wakes it too.
    torrent.is_idle = true;
    assert!(torrent.keeper.as_ref().is_some_and(Keeper::is_due));
    assert_eq!(torrent.next_tick(), Some(torrent.tick_at));
}

#[tokio::test]
async fn an_order_to_a_connection_that_ended_leaves_its_reason_to_be_heard() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path());
    let (mut torrent, _facts) = torrent(&session, dir.path()).await;
    let listening = session.local_addrs()[0];
    let stream = TcpStream::connect(listening).await.unwrap();
    let (disk, facts) = (Arc::clone(&torrent.disk), torrent.facts_in.clone());
    let conn = ConnId(1);
    let buffers = Arc::default();
    let (entry, task) = conn::new(conn, stream, torrent.limits, disk, buffers, facts);
    torrent.conns.insert(conn, entry);
    drop(task);
    torrent.order(conn, Order::Send(Message::KeepAlive));
    assert!(torrent.inputs.is_empty() && torrent.conns.contains_key(&conn));
}
