//! The DHT between sessions.

use super::{PATIENCE, Place, seed_only, start, with_peers};
use bt_session::dht::{DhtConfig, NodeStatus};
use bt_session::{Session, SessionConfig};
use std::net::Ipv4Addr;

fn session() -> Session {
    let config = SessionConfig {
        bind: Some(Ipv4Addr::LOCALHOST.into()),
        port: Some(0),
        dht: Some(DhtConfig::default()),
        ..SessionConfig::default()
    };
    Session::new(config).unwrap()
}

async fn node(session: &Session) -> NodeStatus {
    session.dht().unwrap().status().await.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_tell_each_other_of_their_nodes() {
    let place = Place::new(&[]);
    let (mut seeding, mut leeching) = (session(), session());
    start(&mut seeding, &place, &place.source(), seed_only())
        .checked()
        .await;
    let peer = with_peers(seeding.local_addrs());
    start(&mut leeching, &place, &place.path("copy"), peer)
        .complete()
        .await;
    let met = async {
        while node(&seeding).await.nodes[0] + node(&leeching).await.nodes[0] < 2 {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, met).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_torrent_says_nothing_to_the_dht() {
    let place = Place::private(&[]);
    let (mut seeding, mut leeching) = (session(), session());
    start(&mut seeding, &place, &place.source(), seed_only())
        .checked()
        .await;
    let peer = with_peers(seeding.local_addrs());
    start(&mut leeching, &place, &place.path("copy"), peer)
        .complete()
        .await;
    for session in [&seeding, &leeching] {
        let node = node(session).await;
        assert_eq!(node.counters.queries_sent, 0);
        assert_eq!(node.counters.queries_received, 0);
    }
}
