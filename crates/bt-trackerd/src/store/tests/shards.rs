//! What the shards tell the store, and do with what it knows.

use super::*;
use bt_core::PeerId;
use bt_tracker::announce::{AnnounceRequest, Event};
use bt_tracker::server::{Config, Picked, Scope, Wanted};

/// What a peer of these is told to wait for at least, where that differs from an interval.
const MIN_INTERVAL_SECS: u32 = 60;

fn shards() -> (Shards, Arc<Status>) {
    let mut shards = Shards::new(&Config::default(), 1);
    let status = Arc::default();
    shards.share(Arc::clone(&status));
    (shards, status)
}

/// The interval that a peer is told.
fn announce(
    shards: &Shards,
    now: Time,
    torrent: InfoHash,
    from: &str,
    left: u64,
    event: Event,
) -> u32 {
    let from: SocketAddr = from.parse().unwrap();
    let request = AnnounceRequest {
        event,
        ..AnnounceRequest::new(torrent, PeerId([1; 20]), from.port(), left)
    };
    let wanted = Wanted {
        scope: Scope::Both,
        ids: false,
        most: 0,
    };
    let numbers = shards.announce_into(now, from, &request, wanted, &mut Picked::default());
    numbers.unwrap().interval_secs
}

fn take(shards: &Shards, now: Time) -> Vec<Exchange> {
    let mut out = Vec::new();
    assert!(!shards.take(now, usize::MAX, &mut out));
    out
}

fn retold_all(shards: &Shards, now: Time) -> Vec<Exchange> {
    let (mut out, mut next) = (Vec::new(), Some(Position::START));
    while let Some(position) = next {
        next = shards.retell(now, position, &mut out);
    }
    out
}

#[test]
fn an_announce_is_told_as_it_was_taken() {
    let (shards, _) = shards();
    let rows = [
        ("10.0.0.1:1", 5, Event::Started, Standing::Downloader),
        ("10.0.0.1:2", 5, Event::Paused, Standing::PartialSeed),
        ("[::ffff:10.0.0.1]:3", 0, Event::Completed, Standing::Seeder),
        ("10.0.0.1:4", 0, Event::Paused, Standing::Seeder),
        ("10.0.0.1:5", 0, Event::Stopped, Standing::Gone),
    ];
    for (from, left, event, _) in rows {
        announce(&shards, NOW, TORRENT, from, left, event);
    }
    let mut few = Vec::new();
    assert!(shards.take(NOW, 2, &mut few), "there is more");
    let rest = take(&shards, NOW);
    let all = few.iter().chain(&rest).flat_map(|one| &one.told);
    let all: Vec<Told> = all.copied().collect();
    let expected = (1..).zip(rows);
    let expected: Vec<Told> = expected.map(|(port, row)| told(port, row.3, NOW)).collect();
    assert_eq!(all, expected);
    assert_eq!(few[0].completed + rest[0].completed, 1);
    // A moment later is as good as at once.
    assert_eq!(all[0].age(NOW + Duration::from_secs(1)), Duration::ZERO);

    // What comes back stands as it stood, torrent by torrent.
    let other = InfoHash([0xbb; 20]);
    announce(&shards, NOW, TORRENT, "10.0.0.1:6", 1, Event::Started);
    announce(&shards, NOW, other, "10.0.0.1:6", 1, Event::Started);
    let batch = take(&shards, NOW);
    assert_eq!(batch.len(), 2);
    shards.give_back(batch.clone(), true);
    assert_eq!(take(&shards, NOW), batch);
}

#[test]
fn what_is_known_is_told_again_with_its_age_and_no_download_twice() {
    let (shards, _) = shards();
    announce(&shards, NOW, TORRENT, "10.0.0.1:1", 0, Event::Completed);
    let later = NOW + Duration::from_secs(100);
    announce(&shards, later, TORRENT, "10.0.0.1:2", 5, Event::Paused);
    let told = |shards: &Shards| {
        let all = retold_all(shards, later);
        let [exchange] = &*all else {
            panic!("{all:?}");
        };
        assert_eq!((exchange.since_ms, exchange.completed), (None, 0));
        let mut told: Vec<_> = exchange.told.iter().collect();
        told.sort_by_key(|told| told.addr);
        let ages = told
            .iter()
            .map(|told| (told.standing, told.age(later).as_secs()));
        assert_eq!(
            ages.collect::<Vec<_>>(),
            [(Standing::Seeder, 100), (Standing::PartialSeed, 0)]
        );
        exchange.floor
    };
    assert_eq!(told(&shards), 0, "the download waits to be added");
    take(&shards, later);
    assert_eq!(told(&shards), 1);

    // A large swarm comes in parts, and its count with the first.
    for port in 3..=1_002 {
        let from = format!("10.0.0.1:{port}");
        announce(&shards, later, TORRENT, &from, 5, Event::Started);
    }
    let parts = retold_all(&shards, later);
    let parts: Vec<_> = parts
        .iter()
        .map(|one| (one.told.len(), one.floor))
        .collect();
    assert_eq!(parts, [(500, 1), (500, 0), (2, 0)]);
}

#[test]
fn who_is_first_comes_back_soon_if_the_store_may_know_others() {
    let (shards, status) = shards();
    let asks = |port: u16, event| {
        let from = format!("10.0.0.1:{port}");
        announce(&shards, NOW, TORRENT, &from, 5, event) == MIN_INTERVAL_SECS
    };
    assert!(!asks(1, Event::Started), "the store is away");
    status.rise();
    assert!(asks(1, Event::Interval) && asks(2, Event::Started));
    assert!(!asks(2, Event::Stopped));
    for exchange in take(&shards, NOW) {
        shards.learned(NOW, TORRENT, 0, &[], |outbox| {
            outbox.was_read(NOW, &exchange, 1, false);
        });
    }
    assert!(
        !asks(3, Event::Started),
        "what the store knew is known here"
    );
    take(&shards, NOW);

    // Who scrapes has it asked for, if it was not just now; and what nobody asks for is forgotten.
    let later = NOW + Duration::from_secs(60);
    assert_eq!(shards.scrape(NOW, &TORRENT).unwrap().incomplete, 2);
    assert_eq!(take(&shards, NOW), []);
    shards.scrape(later, &TORRENT);
    assert_eq!(take(&shards, later)[0].since_ms, Some(1));
    shards.sweep(NOW + Duration::from_secs(3_000));
    assert!(!asks(3, Event::Interval));
    shards.sweep(NOW + Duration::from_secs(4_000));
    assert!(asks(3, Event::Interval));
}
