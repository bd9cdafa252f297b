//! Local discovery (BEP 14) over the multicast of the loopback.

use super::{PATIENCE, Place, Running, seed_only, start, with_peers};
use bt_core::InfoHash;
use bt_metainfo::Magnet;
use bt_session::lsd::LsdConfig;
use bt_session::{Event, Session, SessionConfig, TorrentEvent, TorrentOptions};
use bt_wire::LocalAnnounce;
use bt_wire::lsd::GROUP_V4;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::UdpSocket;

const HOME: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A member of the group on a port that is free for this test: it hears all that is said, and can speak.
fn group() -> (UdpSocket, LsdConfig) {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    let any: SocketAddr = (Ipv4Addr::UNSPECIFIED, 0).into();
    socket.bind(&SockAddr::from(any)).unwrap();
    socket.set_multicast_if_v4(&HOME).unwrap();
    socket.join_multicast_v4(&GROUP_V4, &HOME).unwrap();
    let socket = UdpSocket::from_std(socket.into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, LsdConfig { port })
}

fn session(lsd: LsdConfig) -> Session {
    let config = SessionConfig {
        bind: Some(HOME.into()),
        port: Some(0),
        lsd: Some(lsd),
        ..SessionConfig::default()
    };
    Session::new(config).unwrap()
}

/// The next datagram to the group.
async fn next(group: &UdpSocket) -> LocalAnnounce {
    let mut buffer = [0; 2_000];
    let receiving = tokio::time::timeout(PATIENCE, group.recv_from(&mut buffer));
    let (length, from) = receiving.await.expect("something is said").unwrap();
    assert_eq!(from.ip(), HOME);
    LocalAnnounce::decode(&buffer[..length]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torrent_and_a_link_find_their_peers_on_the_local_network() {
    let (hearing, lsd) = group();
    let place = Place::new(&[]);
    let (mut seeding, mut leeching, mut linking) = (session(lsd), session(lsd), session(lsd));
    start(&mut seeding, &place, &place.source(), seed_only())
        .checked()
        .await;
    let said = next(&hearing).await;
    assert_eq!(said.info_hashes, [place.torrent.info_hash]);
    assert_eq!(said.port, seeding.local_addrs()[0].port());
    let options = TorrentOptions::default();
    start(&mut leeching, &place, &place.path("copy"), options.clone())
        .complete()
        .await;
    place.assert_copied(&place.path("copy"));
    let magnet = Magnet {
        info_hash: Some(place.torrent.info_hash),
        ..Magnet::default()
    };
    let (_handle, mut events) = linking
        .add_magnet(magnet, &place.path("other"), options)
        .unwrap();
    let complete = TorrentEvent::Engine(Event::Complete);
    let waiting = async { while events.next().await.expect("it goes on") != complete {} };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok());
    place.assert_copied(&place.path("other"));
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_138_a_private_torrent_is_neither_announced_nor_believed() {
    let (hearing, lsd) = group();
    let (private, public) = (Place::private(&[]), Place::new(&[]));
    let mut session = session(lsd);
    let mut hidden = start(&mut session, &private, &private.source(), seed_only());
    hidden.checked().await;
    let mut shown = start(&mut session, &public, &public.source(), seed_only());
    shown.checked().await;
    let own = next(&hearing).await;
    assert_eq!(own.info_hashes, [public.torrent.info_hash]);
    let dialled = dialled(&hearing, lsd, session, &[&private, &public]).await;
    assert_eq!(dialled, public.torrent.info_hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_138_a_link_that_leads_to_a_private_torrent_hears_of_nobody_any_more() {
    let (hearing, lsd) = group();
    let (private, public) = (Place::private(&[]), Place::new(&[]));
    let (mut seeding, addr) = super::session(None);
    start(&mut seeding, &private, &private.source(), seed_only())
        .checked()
        .await;
    let mut linking = session(lsd);
    let magnet = Magnet {
        info_hash: Some(private.torrent.info_hash),
        ..Magnet::default()
    };
    let options = with_peers(&[addr]);
    let (handle, events) = linking
        .add_magnet(magnet, &private.path("copy"), options)
        .unwrap();
    Running { handle, events }.complete().await;
    let mut shown = start(&mut linking, &public, &public.source(), seed_only());
    shown.checked().await;
    // What the link means was not known when it was first announced.
    while next(&hearing).await.info_hashes != [public.torrent.info_hash] {}
    let dialled = dialled(&hearing, lsd, linking, &[&private, &public]).await;
    assert_eq!(dialled, public.torrent.info_hash);
}

/// Says to the group that somebody has these torrents; for which of them the session dials him, and for no other until it ends.
async fn dialled(
    group: &UdpSocket,
    lsd: LsdConfig,
    session: Session,
    places: &[&Place],
) -> InfoHash {
    let listener = tokio::net::TcpListener::bind((HOME, 0)).await.unwrap();
    let said = LocalAnnounce {
        port: listener.local_addr().unwrap().port(),
        info_hashes: places.iter().map(|place| place.torrent.info_hash).collect(),
        cookie: String::new(),
    };
    let to = SocketAddr::from((GROUP_V4, lsd.port));
    group.send_to(&said.encode(to), to).await.unwrap();
    let accepting = tokio::time::timeout(PATIENCE, listener.accept());
    let (mut stream, _) = accepting.await.expect("somebody dials").unwrap();
    let mut handshake = [0; 68];
    let reading = tokio::io::AsyncReadExt::read_exact(&mut stream, &mut handshake);
    reading.await.unwrap();
    session.shutdown().await;
    let another = listener.into_std().unwrap().accept();
    assert!(another.is_err(), "dialled twice");
    InfoHash(handshake[28..48].try_into().unwrap())
}
