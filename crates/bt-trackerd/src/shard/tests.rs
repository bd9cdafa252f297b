//! That limits hold over all shards, and that what they leave goes where peers are.

use super::*;
use bt_tracker::server::Scope;
use core::time::Duration;
use std::net::Ipv4Addr;

const NOW: Time = Time::from_secs(10_000);

/// Lots of which places may be idle: one of each shard.
const AT_HAND: usize = SHARDS_COUNT;

fn shards(torrents_max: usize, peers_max: usize) -> Shards {
    Shards::new(&config(torrents_max, peers_max), 1)
}

fn config(torrents_max: usize, peers_max: usize) -> Config {
    Config {
        torrents_max,
        peers_max,
        ..Config::default()
    }
}

/// Torrent `number` of a shard.
fn torrent(shard: u8, number: u16) -> InfoHash {
    let mut hash = [7; 20];
    [hash[0], hash[1]] = number.to_be_bytes();
    hash[19] = shard;
    InfoHash(hash)
}

/// A peer with a network of its own.
fn join(shards: &Shards, now: Time, torrent: InfoHash, who: u32) {
    let request = AnnounceRequest::new(torrent, PeerId([1; 20]), 6_881, 5);
    let source = (Ipv4Addr::from(0x0a00_0001 + who), 1).into();
    let wanted = Wanted {
        scope: Scope::Both,
        ids: false,
        most: 0,
    };
    let taken = shards.announce_into(now, source, &request, wanted, &mut Picked::default());
    taken.unwrap();
}

fn join_all(shards: &Shards, now: Time, torrent: InfoHash, who: core::ops::Range<u32>) {
    who.for_each(|who| join(shards, now, torrent, who));
}

fn peers_of(shards: &Shards, now: Time, torrent: InfoHash) -> usize {
    let entry = shards.scrape(now, &torrent).unwrap_or_default();
    (entry.complete + entry.incomplete) as usize
}

fn peers_count(shards: &Shards) -> usize {
    let totals = shards.totals();
    totals.seeders + totals.leechers
}

/// All places there are: those of the shards and those that are free.
fn places(shards: &Shards) -> usize {
    let held = shards.shards.iter().map(|shard| lock(shard).held().places);
    held.sum::<usize>() + shards.room.free()
}

#[test]
fn limits_hold_over_all_shards() {
    for (torrents_max, peers_max) in [(100, 50), (47, 1_000), (160, 161), (1_000, 3)] {
        let most = (torrents_max, peers_max);
        let reloaded = Shards::new(&Config::default(), 1);
        // Those of the start and those of a reload.
        reloaded.set_config(&config(torrents_max, peers_max));
        for shards in [reloaded, shards(torrents_max, peers_max)] {
            let mut rng = Rng::new(7);
            for who in 0..1_000 {
                let mut hash = [0; 20];
                rng.fill(&mut hash);
                join(&shards, NOW, InfoHash(hash), who);
                assert!(peers_count(&shards) <= peers_max, "{most:?}");
                assert_eq!(places(&shards), peers_max, "{most:?}");
            }
            let totals = shards.totals();
            assert!(totals.torrents <= torrents_max, "{most:?}: {totals:?}");
            // All that is allowed of what there is less of is used, but for what shards have at hand.
            let used = peers_count(&shards) + AT_HAND * shards.room.lot();
            let used = totals.torrents == torrents_max || used >= peers_max;
            assert!(used, "{most:?}: {totals:?}");
        }
    }
}

#[test]
fn one_torrent_may_have_what_the_others_leave() {
    let shards = shards(1_000, 20_000);
    for shard in 0..16 {
        join_all(&shards, NOW, torrent(shard, 1), 0..10);
    }
    // Half of all places, and nearly all of them: all but what other shards have at hand.
    for (count, expected) in [(10_000, 10_000), (19_000, 19_000), (30_000, 19_840)] {
        join_all(&shards, NOW, torrent(3, 9), 100..100 + count);
        let famous = peers_of(&shards, NOW, torrent(3, 9));
        let at_hand = AT_HAND * shards.room.lot();
        assert!(
            (expected - at_hand..=expected).contains(&famous),
            "{famous}"
        );
        assert!(count > 19_000 || famous == expected, "{famous}");
        assert_eq!(places(&shards), 20_000);
    }
    for shard in 0..16 {
        assert_eq!(peers_of(&shards, NOW, torrent(shard, 1)), 10, "{shard}");
    }
}

#[test]
fn a_famous_torrent_gives_places_to_all_others() {
    let shards = shards(1_000, 20_000);
    join_all(&shards, NOW, torrent(3, 9), 0..25_000);
    let before = peers_of(&shards, NOW, torrent(3, 9));
    assert!(before > 18_900, "{before}");
    // Small swarms of all shards, its own among them, that take turns.
    for who in 50_000..50_100 {
        for shard in 0..16 {
            join(&shards, NOW, torrent(shard, 1), who);
        }
    }
    for shard in 0..16 {
        // Somebody had to go at the moment when a shard had no place left and was not given any yet.
        let peers = peers_of(&shards, NOW, torrent(shard, 1));
        assert!((95..=100).contains(&peers), "{shard}: {peers}");
    }
    let after = peers_of(&shards, NOW, torrent(3, 9));
    // What they needed, and what they have at hand now; those of its own shard had no lot of another.
    let given = before - after;
    let most = AT_HAND * shards.room.lot() + 100;
    assert!((500..=most).contains(&given), "{given}");
    assert_eq!(places(&shards), 20_000);

    // Two that many want share what there is, however late the second came.
    join_all(&shards, NOW, torrent(4, 9), 100_000..140_000);
    let [first, second] = [3, 4].map(|shard| peers_of(&shards, NOW, torrent(shard, 9)));
    assert!(first.abs_diff(second) < 200, "{first} {second}");
    assert!(first + second > 18_000, "{first} {second}");
}

#[test]
fn who_fills_all_shards_but_one_keeps_nobody_out_of_that() {
    let shards = shards(100_000, 16_000);
    // Small torrents, each of a network of its own: none gives way to another because it is large, or one of a flood.
    for who in 0..20_000_u32 {
        let shard = u8::try_from(who % 15).unwrap();
        join(
            &shards,
            NOW,
            torrent(shard, u16::try_from(who / 15).unwrap()),
            who,
        );
    }
    for number in 0..40 {
        join_all(&shards, NOW, torrent(15, number), 30_000..30_020);
    }
    let peers = (0..40).map(|number| peers_of(&shards, NOW, torrent(15, number)));
    let peers: usize = peers.sum();
    assert!((780..=800).contains(&peers), "{peers}");
    assert!(peers_count(&shards) >= 16_000 - shards.room.lot());
    assert_eq!(places(&shards), 16_000);
}

#[test]
fn places_of_peers_that_left_are_free_again() {
    let shards = shards(1_000, 5_000);
    join_all(&shards, NOW, torrent(3, 9), 0..6_000);
    let later = NOW + config(1, 1).expiry + Duration::from_secs(60);
    shards.sweep(later);
    assert_eq!(shards.room.free(), 5_000 - AT_HAND * shards.room.lot());
    join_all(&shards, later, torrent(4, 9), 0..4_000);
    assert_eq!(peers_of(&shards, later, torrent(4, 9)), 4_000);
    assert_eq!(places(&shards), 5_000);
}

#[test]
fn a_reload_takes_what_is_idle_and_then_of_each_its_part() {
    let shards = shards(1_000, 10_000);
    join_all(&shards, NOW, torrent(3, 9), 0..6_000);
    join_all(&shards, NOW, torrent(4, 9), 0..2_000);
    let announce_again = |peers_max: usize| {
        shards.set_config(&config(1_000, peers_max));
        assert_eq!(places(&shards), peers_max);
        join_all(&shards, NOW, torrent(3, 9), 0..6_000);
        join_all(&shards, NOW, torrent(4, 9), 0..2_000);
        assert_eq!(places(&shards), peers_max);
        [3, 4].map(|shard| peers_of(&shards, NOW, torrent(shard, 9)))
    };
    for peers_max in [9_000, 8_000] {
        assert_eq!(announce_again(peers_max), [6_000, 2_000], "{peers_max}");
    }
    // Who is too many goes as others announce, and comes again: then the larger swarm gives to the smaller.
    let [first, second] = announce_again(4_000);
    assert_eq!(first + second, 4_000);
    assert!(first.abs_diff(second) < 200, "{first} {second}");
    assert_eq!(announce_again(10_000), [6_000, 2_000]);
}

#[test]
fn what_a_snapshot_or_another_tracker_tells_finds_its_places() {
    let full = shards(1_000, 5_000);
    join_all(&full, NOW, torrent(3, 9), 0..4_000);
    let heard: Vec<Heard> = (0..4_000)
        .map(|who| Heard {
            addr: (Ipv4Addr::from(0x0a00_0001 + who), 6_881).into(),
            age_secs: 0,
            standing: Standing::Downloader,
        })
        .collect();
    for by_snapshot in [true, false] {
        let shards = shards(1_000, 5_000);
        if by_snapshot {
            let mut take = |portion: &Portion| {
                portion
                    .iter()
                    .for_each(|record| shards.restore(NOW, record, true));
                Ok(())
            };
            full.export(&|| NOW, &mut take).unwrap();
        } else {
            shards.learned(NOW, torrent(3, 9), 0, &heard, |_| {});
        }
        assert_eq!(peers_of(&shards, NOW, torrent(3, 9)), 4_000);
        assert_eq!(places(&shards), 5_000);
    }
}

#[test]
fn places_are_neither_made_nor_lost_by_threads() {
    let shards = shards(10_000, 3_000);
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let shards = &shards;
            scope.spawn(move || {
                let mut rng = Rng::new(thread.into());
                for turn in 0..4_000_u32 {
                    let shard = u8::try_from(rng.below(16)).unwrap();
                    let number = u16::try_from(rng.below(3)).unwrap();
                    join(shards, NOW, torrent(shard, number), thread << 16 | turn);
                    if thread == 0 && turn % 500 == 0 {
                        let peers_max = if turn % 1_000 == 0 { 2_000 } else { 3_000 };
                        shards.set_config(&config(10_000, peers_max));
                        shards.sweep(NOW);
                    }
                }
            });
        }
    });
    shards.set_config(&config(10_000, 3_000));
    assert_eq!(places(&shards), 3_000);
    assert!(peers_count(&shards) <= 3_000);
}
