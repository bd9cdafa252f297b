use super::*;
use core::time::Duration;
use std::net::Ipv4Addr;

const PATIENCE: Duration = Duration::from_secs(60);

fn start(config: DhtConfig, tasks: &mut JoinSet<()>) -> Dht {
    Dht::start(config, Some(Ipv4Addr::LOCALHOST.into()), 0, tasks).unwrap()
}

fn knowing(dht: &Dht) -> DhtConfig {
    DhtConfig {
        bootstrap: dht.local_addrs().iter().map(ToString::to_string).collect(),
        ..DhtConfig::default()
    }
}

#[tokio::test]
async fn two_torrents_find_each_other_through_a_third_node() {
    let mut tasks = JoinSet::new();
    let middle = start(DhtConfig::default(), &mut tasks);
    let hash = InfoHash([7; 20]);
    let mut ends = Vec::new();
    for port in [1001, 1002] {
        let dht = start(knowing(&middle), &mut tasks);
        let (peers_in, peers) = mpsc::channel(16);
        dht.enter(hash, port, peers_in).await;
        ends.push((dht, peers, 2003 - port));
    }
    for (_dht, peers, other) in &mut ends {
        let found = async {
            loop {
                let found = peers.recv().await.unwrap();
                if found.iter().any(|peer| peer.port() == *other) {
                    return;
                }
            }
        };
        assert!(tokio::time::timeout(PATIENCE, found).await.is_ok());
    }
    let status = middle.status().await;
    assert_eq!(status[0].stored.0, 1);
}

#[tokio::test]
async fn what_is_known_is_there_in_the_next_run() {
    let mut tasks = JoinSet::new();
    let dir = tempfile::tempdir().unwrap();
    let middle = start(DhtConfig::default(), &mut tasks);
    let mut config = knowing(&middle);
    config.state_dir = Some(dir.path().join("state"));
    let dht = start(config.clone(), &mut tasks);
    let met = async {
        while dht.status().await[0].nodes[0] == 0 {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, met).await.is_ok());
    let first = dht.status().await.remove(0);
    dht.stop().await;
    // The next run has no bootstrap node, and another port, so another id.
    config.bootstrap.clear();
    let again = start(config, &mut tasks);
    let met = async {
        while again.status().await[0].nodes[0] == 0 {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, met).await.is_ok());
    assert_ne!(again.status().await[0].id, first.id);
}

#[tokio::test]
async fn a_search_ends_and_its_channel_with_it() {
    let mut tasks = JoinSet::new();
    let alone = start(DhtConfig::default(), &mut tasks);
    let target = NodeId([1; 20]);
    let mut found = alone.search(Search::Nodes { target }).await;
    let done = tokio::time::timeout(PATIENCE, found.recv()).await.unwrap();
    assert!(matches!(done, Some(Found::Done(outcome)) if outcome.closest.is_empty()));
    assert_eq!(found.recv().await, None);
    let addr = alone.local_addrs()[0];
    let asking = start(DhtConfig::default(), &mut tasks);
    let mut found = asking.search(Search::Ping { addr }).await;
    let done = tokio::time::timeout(PATIENCE, found.recv()).await.unwrap();
    assert!(matches!(done, Some(Found::Done(outcome)) if outcome.closest[0].addr == addr));
}

/// Asks a DHT, which is to answer or not; the sockets are this machine's, so that what was sent is there at once.
async fn answers(asking: &tokio::net::UdpSocket, dht: &Dht) -> bool {
    let ping = b"d1:ad2:id20:01234567890123456789e1:q4:ping1:t2:xx1:y1:qe";
    asking.send_to(ping, dht.local_addrs()[0]).await.unwrap();
    let mut answer = [0; 2048];
    let heard = tokio::time::timeout(PATIENCE, asking.recv(&mut answer));
    heard.await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn without_a_demand_nothing_is_said_and_nobody_answered() {
    let mut tasks = JoinSet::new();
    let outside = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let outside = outside.unwrap();
    let config = DhtConfig {
        bootstrap: vec![outside.local_addr().unwrap().to_string()],
        on_demand: true,
        ..DhtConfig::default()
    };
    let mut first = [0; 2048];
    for demand in 0..3 {
        let dht = start(config.clone(), &mut tasks);
        // None of these is one.
        dht.meet(outside.local_addr().unwrap());
        dht.seen_at(Ipv4Addr::new(9, 8, 7, 6).into());
        dht.leave(InfoHash([7; 20])).await;
        let id = dht.status().await[0].id;
        assert!(!answers(&outside, &dht).await, "{demand}");
        let (peers, _peers) = mpsc::channel(1);
        match demand {
            0 => dht.enter(InfoHash([7; 20]), 1, peers).await,
            1 => dht.bootstrap(Vec::new()).await,
            _ => drop(dht.search(Search::Nodes { target: id }).await),
        }
        let said = tokio::time::timeout(PATIENCE, outside.recv(&mut first)).await;
        let length = said.unwrap().unwrap();
        let query = String::from_utf8_lossy(&first[..length]).into_owned();
        assert!(query.contains("1:y1:q"), "{demand}: {query}");
        dht.stop().await;
        while outside.try_recv(&mut first).is_ok() {}
    }
}
