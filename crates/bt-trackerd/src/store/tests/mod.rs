mod shards;

use super::outbox::Outbox;
use super::script::{self, Answer, PAGE_PEERS};
use super::*;
use bt_core::{InfoHash, Time};
use bt_tracker::server::Standing;
use std::net::SocketAddr;

const TORRENT: InfoHash = InfoHash([0xab; 20]);
const OTHER: InfoHash = InfoHash([0xcd; 20]);
const NOW: Time = Time::from_secs(5_000);

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

fn told(port: u16, standing: Standing, at: Time) -> Told {
    Told {
        addr: addr(port),
        standing,
        at,
        age_secs: 0,
    }
}

fn take(outbox: &mut Outbox, now: Time) -> Vec<Exchange> {
    let mut out = Vec::new();
    outbox.take(now, usize::MAX, &mut out);
    out
}

#[test]
fn a_batch_has_each_swarm_once_and_of_each_peer_its_last_word() {
    let mut outbox = Outbox::new(9);
    outbox.tell(NOW, TORRENT, addr(1), Standing::Downloader, 0);
    outbox.tell(NOW, OTHER, addr(1), Standing::Seeder, 1);
    outbox.tell(NOW, TORRENT, addr(2), Standing::Gone, 0);
    outbox.tell(NOW, TORRENT, addr(1), Standing::Gone, 0);
    outbox.tell(NOW, TORRENT, addr(2), Standing::PartialSeed, 0);
    outbox.ask(NOW, OTHER);
    outbox.ask(NOW, InfoHash([1; 20]));
    let batch = take(&mut outbox, NOW);
    let shown: Vec<_> = batch
        .iter()
        .map(|one| (one.info_hash, &*one.told, one.completed, one.since_ms))
        .collect();
    let of_torrent = [
        told(1, Standing::Gone, NOW),
        told(2, Standing::PartialSeed, NOW),
    ];
    let of_other = [told(1, Standing::Seeder, NOW)];
    assert_eq!(
        shown,
        [
            (TORRENT, &of_torrent[..], 0, Some(0)),
            (OTHER, &of_other[..], 1, Some(0)),
            (InfoHash([1; 20]), &[][..], 0, Some(0)),
        ]
    );
    assert_eq!(take(&mut outbox, NOW), []);
}

#[test]
fn what_was_not_answered_waits_again_before_what_came_since() {
    for (unsent, completed) in [(true, 1), (false, 0)] {
        let mut outbox = Outbox::new(9);
        outbox.tell(NOW, TORRENT, addr(1), Standing::Seeder, 1);
        outbox.tell(NOW, TORRENT, addr(2), Standing::Seeder, 0);
        let batch = take(&mut outbox, NOW);
        let later = NOW + Duration::from_secs(7);
        outbox.tell(later, TORRENT, addr(1), Standing::Gone, 0);
        batch
            .into_iter()
            .for_each(|exchange| outbox.give_back(exchange, unsent));
        assert_eq!(outbox.untold(&TORRENT), completed);
        let again = take(&mut outbox, later);
        let expected = [
            told(1, Standing::Gone, later),
            told(2, Standing::Seeder, NOW),
        ];
        assert_eq!(again[0].told, expected);
        // What an outage held up is as old as it is, and all else is of now.
        let ages = again[0].told.iter().map(|told| told.age(later).as_secs());
        assert_eq!(ages.collect::<Vec<_>>(), [0, 7]);
    }
}

#[test]
fn the_lists_are_bounded() {
    let mut outbox = Outbox::new(2);
    for n in 0..40_000_u32 {
        let mut hash = [0; 20];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        outbox.tell(NOW, InfoHash(hash), addr(1), Standing::Seeder, 1);
        outbox.ask(NOW, InfoHash(hash));
    }
    assert_eq!(outbox.waiting() as u64 + outbox.dropped(), 40_000);
    assert!((1_000..20_000).contains(&outbox.waiting()));
    let batch = take(&mut outbox, NOW);
    let completed: u32 = batch.iter().map(|exchange| exchange.completed).sum();
    assert!((1_000..5_000).contains(&completed), "{completed}");
    for exchange in &batch {
        outbox.was_read(NOW, exchange, 1, true);
    }
    assert!(
        !outbox.knows(&batch[0].info_hash),
        "two are known at a time"
    );
    assert!(take(&mut outbox, NOW).len() < 2_000);
    // Nor does what comes back pass the bound.
    for n in 0..40_000_u16 {
        let mut exchange = Exchange::of(TORRENT);
        exchange.told.push(told(n, Standing::Seeder, NOW));
        outbox.give_back(exchange, true);
    }
    assert!((1_000..20_000).contains(&outbox.waiting()));
}

#[test]
fn a_swarm_is_read_from_where_it_was_read_and_as_a_whole_now_and_then() {
    let mut outbox = Outbox::new(9);
    let at = |secs| NOW + Duration::from_secs(secs);
    let since = |outbox: &mut Outbox, secs, until_ms, more| {
        outbox.ask(at(secs), TORRENT);
        let batch = take(outbox, at(secs));
        let exchange = batch.first()?;
        outbox.was_read(at(secs), exchange, until_ms, more);
        exchange.since_ms
    };
    assert!(!outbox.knows(&TORRENT));
    assert_eq!(since(&mut outbox, 0, 100, false), Some(0));
    assert!(outbox.knows(&TORRENT));
    // Asked for a moment ago.
    assert_eq!(since(&mut outbox, 1, 0, false), None);
    assert_eq!(since(&mut outbox, 6, 200, true), Some(100));
    // There was more.
    assert_eq!(since(&mut outbox, 6, 300, false), Some(200));
    assert_eq!(since(&mut outbox, 290, 400, false), Some(300));
    assert_eq!(since(&mut outbox, 301, 500, false), Some(0));
    assert_eq!(since(&mut outbox, 310, 600, false), Some(500));
    // The store was away.
    outbox.forget(at(315));
    assert_eq!(since(&mut outbox, 320, 700, false), Some(0));
    // Others came back later, and told what they held.
    assert_eq!(since(&mut outbox, 330, 800, false), Some(700));
    assert_eq!(since(&mut outbox, 341, 900, false), Some(0));
    assert_eq!(since(&mut outbox, 371, 950, false), Some(900));
    outbox.sweep(at(3_000));
    assert!(outbox.knows(&TORRENT));
    outbox.sweep(at(4_000));
    assert!(!outbox.knows(&TORRENT));
}

#[test]
fn an_exchange_is_one_command() {
    let mut exchange = Exchange::of(TORRENT);
    exchange.told = vec![
        told(0x3132, Standing::Gone, NOW),
        Told {
            age_secs: 2,
            ..told(0x3334, Standing::Seeder, NOW)
        },
    ];
    exchange.since_ms = Some(25);
    (exchange.completed, exchange.floor) = (3, 9);
    let expiry = Duration::from_secs(4_000);
    let packed = script::command("sha", &exchange, NOW, expiry).get_packed_command();
    let hash = "ab".repeat(20);
    let (peers, downloads) = (
        format!("bt:{{{hash}}}:peers"),
        format!("bt:{{{hash}}}:downloads"),
    );
    let args: [&[u8]; 14] = [
        b"EVALSHA",
        b"sha",
        b"2",
        peers.as_bytes(),
        downloads.as_bytes(),
        b"4000000",
        b"100",
        b"2000",
        b"3",
        b"9",
        b"-3",
        b"\x0a\0\0\x0112",
        b"7998",
        b"\x0a\0\0\x0134",
    ];
    let mut expected = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        expected.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        expected.extend_from_slice(arg);
        expected.extend_from_slice(b"\r\n");
    }
    assert_eq!(
        packed.escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
}

#[test]
fn answers_are_read_and_nonsense_is_none() {
    let bulk = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
    let mut exchange = Exchange::of(TORRENT);
    exchange.since_ms = Some(1_000);
    let v6 = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[1, 0, 80]].concat();
    let peers = vec![
        bulk(b"\x0a\0\0\x01\0\x01"),
        bulk(b"8002"),
        bulk(&v6),
        bulk(b"16003"),
        // Somebody else's.
        bulk(b"nonsense"),
        bulk(b"20000"),
    ];
    let answer = |peers: Vec<Value>| {
        Value::Array(vec![Value::Int(9_500), Value::Int(7), Value::Array(peers)])
    };
    let heard = |addr: SocketAddr, age_secs, standing| Heard {
        addr,
        age_secs,
        standing,
    };
    let expected = Answer {
        downloaded: 7,
        heard: vec![
            heard(addr(1), 7, Standing::Seeder),
            heard("[2001:db8::1]:80".parse().unwrap(), 5, Standing::Gone),
        ],
        until_ms: 9_500,
        more: false,
    };
    assert_eq!(script::read(&exchange, &answer(peers)), Some(expected));
    // A full page ends where its last peer is, and beyond it where all are of one moment.
    for (score, until_ms) in [(&b"8002"[..], 2_000), (b"4001", 1_001)] {
        let peer = [bulk(b"\x0a\0\0\x01\0\x01"), bulk(score)];
        let page = usize::try_from(PAGE_PEERS).unwrap();
        let peers = peer.iter().cycle().take(2 * page).cloned().collect();
        let read = script::read(&exchange, &answer(peers)).unwrap();
        assert_eq!((read.until_ms, read.more), (until_ms, true));
    }
    let odd = vec![bulk(b"\x0a\0\0\x01\0\x01")];
    let score = vec![bulk(b"\x0a\0\0\x01\0\x01"), bulk(b"-1")];
    let number = vec![Value::Int(1), Value::Int(2)];
    let wrong = [
        Value::Nil,
        Value::Array(vec![]),
        answer(odd),
        answer(score),
        answer(number),
        Value::Array(vec![Value::Int(-1), Value::Int(0), Value::Array(vec![])]),
    ];
    for answer in wrong {
        assert_eq!(script::read(&exchange, &answer), None, "{answer:?}");
    }
}

#[test]
fn a_pipeline_brings_few_full_pages() {
    // Swarms known and read to their end, then new ones; and how many go together, pipeline by pipeline.
    let rows: [(usize, usize, &[usize]); 4] = [
        (0, 0, &[]),
        (600, 0, &[512, 88]),
        (0, 70, &[32, 32, 6]),
        (500, 40, &[512, 28]),
    ];
    let hash = |n: usize| {
        let mut hash = InfoHash([0; 20]);
        hash.0[..8].copy_from_slice(&n.to_be_bytes());
        hash
    };
    for (known, new, expected) in rows {
        let mut outbox = Outbox::new(10_000);
        for n in 0..known {
            outbox.was_read(
                NOW,
                &Exchange {
                    since_ms: Some(0),
                    ..Exchange::of(hash(n))
                },
                9,
                false,
            );
        }
        let asked = NOW + Duration::from_secs(30);
        (0..known + new).for_each(|n| outbox.ask(asked, hash(n)));
        let mut rest = take(&mut outbox, asked);
        let mut lengths = Vec::new();
        while !rest.is_empty() {
            lengths.push(pipeline_len(&rest));
            rest.drain(..pipeline_len(&rest));
        }
        assert_eq!(lengths, expected, "{known} {new}");
    }
    // What is read on comes as long as what was read first.
    let mut outbox = Outbox::new(99);
    for n in 0..40 {
        outbox.was_read(
            NOW,
            &Exchange {
                since_ms: Some(0),
                ..Exchange::of(hash(n))
            },
            9,
            true,
        );
    }
    assert_eq!(pipeline_len(&take(&mut outbox, NOW)), PIPELINE_PAGES);
}

#[test]
fn addresses_of_stores() {
    for (text, expected) in [
        ("redis://127.0.0.1:6379", Ok(())),
        ("redis://:s3cret@store.example/2", Ok(())),
        ("unix:///run/redis/redis.sock", Ok(())),
        ("rediss://:s3cret@store.example/2", Ok(())),
        ("valkeys://store.example", Ok(())),
        (
            "rediss://:s3cret@store.example/#insecure",
            Err(ParseStoreUrlError::Insecure),
        ),
        ("http://store.example", Err(ParseStoreUrlError::Address)),
        ("store.example:6379", Err(ParseStoreUrlError::Address)),
        ("", Err(ParseStoreUrlError::Address)),
    ] {
        let read = text.parse::<StoreUrl>();
        assert!(!format!("{read:?}").contains("s3cret"));
        assert_eq!(read.map(|_| ()), expected, "{text}");
    }
}
