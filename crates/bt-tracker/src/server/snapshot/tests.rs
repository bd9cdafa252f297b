use super::*;
use crate::announce::{AnnounceRequest, Event};
use crate::scrape::ScrapeEntry;
use crate::server::{Config, Swarms};
use bt_core::{InfoHash, PeerId, Rng};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

const START: Time = Time::from_secs(1_000);

fn header() -> Header {
    Header {
        written_unix_secs: 1_800_000_000,
        clock: START,
        secret: [9; 16],
    }
}

fn torrent(n: u32) -> InfoHash {
    let mut hash = [0; 20];
    hash[..4].copy_from_slice(&n.to_be_bytes());
    InfoHash(hash)
}

fn v4(n: u32) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::from(0x0a00_0000 + n).into(), 6881)
}

fn v6(n: u32) -> SocketAddr {
    let ip = Ipv6Addr::from((0x2001_0db8 << 96) + u128::from(n));
    SocketAddr::new(ip.into(), 6881)
}

/// What a swarm holds, by asking as a leecher for everybody: addresses with their ids, and the counts.
type Seen = (BTreeMap<SocketAddr, Option<PeerId>>, [u32; 4]);

fn seen(swarms: &mut Swarms, now: Time, torrent: InfoHash) -> Option<Seen> {
    let entry = swarms.scrape(now, &torrent)?;
    let mut request = AnnounceRequest::new(torrent, PeerId([0; 20]), 1, 1);
    request.numwant = Some(u32::MAX);
    let asker = "[2001:db8::ffff:1]:1".parse().unwrap();
    let mut rng = Rng::new(3);
    let reply = swarms.announce(now, asker, &request, &mut rng).unwrap();
    request.event = Event::Stopped;
    swarms.announce(now, asker, &request, &mut rng).unwrap();
    let peers = reply.peers.iter().map(|peer| (peer.addr, peer.peer_id));
    let ScrapeEntry {
        complete,
        downloaded,
        incomplete,
        downloaders,
    } = entry;
    let counts = [complete, downloaded, incomplete, downloaders.unwrap_or(0)];
    Some((peers.collect(), counts))
}

struct Announcer {
    swarms: Swarms,
    rng: Rng,
}

impl Announcer {
    fn new(peer_ids: bool) -> Self {
        let config = Config {
            numwant_max: u32::MAX,
            peer_ids,
            ..Config::default()
        };
        Self {
            swarms: Swarms::new(config, 1),
            rng: Rng::new(2),
        }
    }

    fn announce(
        &mut self,
        now: Time,
        addr: SocketAddr,
        torrent: InfoHash,
        event: Event,
        left: u64,
    ) {
        let id = PeerId([u8::try_from(addr.port() % 251).unwrap(); 20]);
        let request = AnnounceRequest {
            event,
            ..AnnounceRequest::new(torrent, id, addr.port(), left)
        };
        let rng = &mut self.rng;
        self.swarms.announce(now, addr, &request, rng).unwrap();
    }

    /// A swarm of each kind.
    fn mixed(peer_ids: bool) -> Self {
        let mut all = Self::new(peer_ids);
        for n in 0..40 {
            all.announce(START, v4(n), torrent(1), Event::Started, u64::from(n % 3));
            all.announce(START, v6(n), torrent(1), Event::Started, u64::from(n % 2));
            all.announce(START, v6(n), torrent(2), Event::Started, 1);
        }
        for n in 0..9_000 {
            let event = [Event::Started, Event::Paused][n as usize % 7 / 4];
            all.announce(START, v4(n), torrent(3), event, u64::from(n % 5));
        }
        for n in 0..3 {
            all.announce(START, v4(n), torrent(4), Event::Completed, 0);
            all.announce(START, v4(n), torrent(4), Event::Stopped, 0);
        }
        // Of this one nothing is to be remembered.
        all.announce(START, v4(0), torrent(5), Event::Started, 1);
        all.announce(START, v4(0), torrent(5), Event::Stopped, 1);
        all
    }
}

fn write(swarms: &mut Swarms, now: Time) -> Vec<u8> {
    write_while(swarms, now, |_| {})
}

/// Between two portions, `meanwhile` happens.
fn write_while(swarms: &mut Swarms, now: Time, mut meanwhile: impl FnMut(&mut Swarms)) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::begin(&header(), &mut out);
    let (mut portion, mut next) = (Portion::default(), Some(Cursor::START));
    while let Some(cursor) = next {
        portion.clear();
        next = swarms.export(now, cursor, &mut portion);
        writer.records(&portion, &mut out);
        meanwhile(swarms);
    }
    writer.end(&mut out);
    out
}

fn read(mut bytes: &[u8], now: Time, peer_ids: bool) -> Result<Swarms, SnapshotError> {
    let mut swarms = Announcer::new(peer_ids).swarms;
    let (mut reader, mut rng) = (Reader::default(), Rng::new(4));
    while !bytes.is_empty() {
        let Some((part, used)) = reader.read(bytes)? else {
            break;
        };
        bytes = &bytes[used..];
        match part {
            Part::Header(read) => assert_eq!(read, header()),
            Part::Swarms(records) => {
                records.for_each(|record| swarms.restore(now, record, true, &mut rng));
            }
            Part::End => {}
        }
    }
    reader.finish()?;
    Ok(swarms)
}

#[test]
fn what_was_written_is_read() {
    for (ids_then, ids_now) in [(true, true), (false, false), (true, false)] {
        let mut written = Announcer::mixed(ids_then).swarms;
        let bytes = write(&mut written, START);
        let mut got = read(&bytes, START, ids_now).unwrap();
        assert_eq!(got.totals().torrents, 4);
        let numbers = |swarms: &Swarms| {
            let totals = swarms.totals();
            (totals.seeders, totals.leechers, totals.downloaded)
        };
        assert_eq!(numbers(&got), numbers(&written));
        for n in 1..=4 {
            let mut expected = seen(&mut written, START, torrent(n)).unwrap();
            if !ids_now {
                expected.0.values_mut().for_each(|id| *id = None);
            }
            assert_eq!(seen(&mut got, START, torrent(n)).unwrap(), expected, "{n}");
        }
        assert_eq!(seen(&mut got, START, torrent(5)), None);
    }
    // Ids that were not kept are not to be had.
    let mut written = Announcer::mixed(false).swarms;
    let mut got = read(&write(&mut written, START), START, true).unwrap();
    let (peers, _) = seen(&mut got, START, torrent(1)).unwrap();
    assert!(peers.values().all(Option::is_none));
}

#[test]
fn ages_go_on_where_they_were_whatever_the_clock_says() {
    let mut all = Announcer::new(true);
    let expiry = all.swarms.config().expiry;
    all.announce(START, v4(1), torrent(1), Event::Started, 1);
    let later = START + expiry / 2;
    all.announce(later, v6(2), torrent(1), Event::Started, 1);
    let written_at = START + expiry * 3 / 4;
    let bytes = write(&mut all.swarms, written_at);
    let step = Duration::from_secs(4);
    for clock in [
        Time::ZERO,
        Time::from_secs(50),
        written_at,
        Time::from_secs(1 << 31),
    ] {
        let mut got = read(&bytes, clock, true).unwrap();
        let mut count = |after: Duration| {
            let entry = got.scrape(clock + after, &torrent(1)).unwrap();
            entry.incomplete
        };
        assert_eq!(count(expiry / 8), 2, "{clock:?}");
        // Swarms are looked over once in a part of the expiry.
        assert_eq!(count(expiry / 4 + expiry / 16 + step), 1, "{clock:?}");
        assert_eq!(count(expiry * 7 / 8), 0, "{clock:?}");
    }
}

#[test]
fn who_announced_since_then_is_not_set_back() {
    let mut all = Announcer::new(true);
    let expiry = all.swarms.config().expiry;
    all.announce(START, v4(1), torrent(1), Event::Started, 1);
    let bytes = write(&mut all.swarms, START + expiry / 2);
    let now = START + expiry / 2;
    all.announce(now, v4(1), torrent(1), Event::Completed, 0);
    let (mut reader, mut rng) = (Reader::default(), Rng::new(1));
    let (_, used) = reader.read(&bytes).unwrap().unwrap();
    let Some((Part::Swarms(records), _)) = reader.read(&bytes[used..]).unwrap() else {
        panic!("records");
    };
    for record in records {
        all.swarms.restore(now, record, true, &mut rng);
    }
    let entry = all
        .swarms
        .scrape(now + expiry * 3 / 4, &torrent(1))
        .unwrap();
    let counts = [entry.complete, entry.incomplete, entry.downloaded];
    assert_eq!(counts, [1, 0, 1]);
}

#[test]
fn a_snapshot_that_was_cut_anywhere_is_torn() {
    let mut all = Announcer::new(true);
    (0..30).for_each(|n| all.announce(START, v4(n), torrent(n % 7), Event::Started, 1));
    let bytes = write(&mut all.swarms, START);
    for length in 0..bytes.len() {
        let error = read(&bytes[..length], START, true).unwrap_err();
        assert!(
            matches!(error, SnapshotError::Torn { .. }),
            "{length}: {error}"
        );
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(
        read(&longer, START, true).unwrap_err(),
        SnapshotError::Trailing
    );
}

#[test]
fn no_bit_can_flip_unnoticed() {
    let mut all = Announcer::new(true);
    (0..5).for_each(|n| all.announce(START, v4(n), torrent(n % 2), Event::Started, 1));
    let mut bytes = write(&mut all.swarms, START);
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&bytes, START, true).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(read(&bytes, START, true).is_ok());
}

#[test]
fn what_is_no_snapshot_is_said_so() {
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(&header(), &mut bytes);
    let begun = bytes.clone();
    writer.frame(&[KIND_HEADER; 33], &mut bytes);
    let twice = bytes.clone();
    let with = |payload: &[u8]| {
        let mut bytes = Vec::new();
        Writer::begin(&header(), &mut bytes).frame(payload, &mut bytes);
        bytes
    };
    let mut long = begun.clone();
    long.extend_from_slice(&[0, 4, 0, 1]);
    let mut unknown_flag = vec![KIND_RECORDS];
    unknown_flag.extend_from_slice(&[0; 33]);
    unknown_flag[1 + 28] = 8;
    let mut many = vec![KIND_RECORDS];
    many.extend_from_slice(&[0; 29]);
    many.extend_from_slice(&[255; 4]);
    many.resize(200_000, 0);
    let misplaced = SnapshotError::Misplaced { frame: 1 };
    let rows: [(Vec<u8>, SnapshotError); 10] = [
        (b"d8:announce".to_vec(), SnapshotError::Foreign),
        (vec![0; 100], SnapshotError::Foreign),
        (b"bt-swarms 2\nand so on".to_vec(), SnapshotError::Version),
        (begun, SnapshotError::Torn { frames: 1 }),
        (twice, misplaced),
        (with(&[]), misplaced),
        (with(&[7]), misplaced),
        (with(&[KIND_RECORDS, 1, 2]), misplaced),
        (with(&unknown_flag), misplaced),
        (with(&many), misplaced),
    ];
    for (bytes, expected) in rows {
        assert_eq!(read(&bytes, START, true).unwrap_err(), expected);
    }
    let error = read(&long, START, true).unwrap_err();
    assert!(
        matches!(error, SnapshotError::TooLong { frame: 1, .. }),
        "{error}"
    );
}

#[test]
fn frames_cannot_be_left_out_doubled_or_exchanged() {
    let mut swarms = Announcer::mixed(true).swarms;
    let bytes = write(&mut swarms, START);
    let (mut frames, mut reader, mut rest) = (Vec::new(), Reader::default(), &bytes[..]);
    while !rest.is_empty() {
        let (_, used) = reader.read(rest).unwrap().unwrap();
        frames.push(&rest[..used]);
        rest = &rest[used..];
    }
    assert!(frames.len() >= 4, "{}", frames.len());
    let all: Vec<usize> = (0..frames.len()).collect();
    let mut rows = vec![
        [&all[..1], &all[2..]].concat(),
        [&all[..2], &all[1..]].concat(),
    ];
    let mut exchanged = all.clone();
    exchanged.swap(1, 2);
    rows.push(exchanged);
    for order in rows {
        let bytes: Vec<u8> = order.iter().flat_map(|at| frames[*at]).copied().collect();
        let error = read(&bytes, START, true).unwrap_err();
        assert!(
            matches!(error, SnapshotError::Checksum { .. }),
            "{order:?}: {error}"
        );
    }
}

#[test]
fn whoever_stays_is_in_it_while_others_come_and_go() {
    // Swarms end and begin, and so move, between any two portions.
    let mut all = Announcer::new(true);
    let count = 6_000;
    (0..count).for_each(|n| all.announce(START, v4(n), torrent(n), Event::Started, 1));
    let Announcer {
        mut swarms,
        mut rng,
    } = all;
    let (mut left, mut portions) = (BTreeSet::new(), 0);
    let bytes = write_while(&mut swarms, START, |swarms| {
        portions += 1;
        for _ in 0..400 {
            let n = u32::try_from(rng.below(u64::from(count))).unwrap();
            let mut request = AnnounceRequest::new(torrent(n), PeerId([1; 20]), 6881, 1);
            request.event = Event::Stopped;
            swarms.announce(START, v4(n), &request, &mut rng).unwrap();
            left.insert(n);
        }
        swarms.sweep(START);
        let request = AnnounceRequest::new(torrent(count + portions), PeerId([1; 20]), 6881, 1);
        swarms.announce(START, v4(1), &request, &mut rng).unwrap();
    });
    assert!(
        portions >= 4 && left.len() > 1_000,
        "{portions} {}",
        left.len()
    );
    let mut got = read(&bytes, START, true).unwrap();
    for n in (0..count).filter(|n| !left.contains(n)) {
        assert!(got.scrape(START, &torrent(n)).is_some(), "{n} is missing");
    }
}

#[test]
fn limits_hold_and_nonsense_stays_out() {
    let mut written = Announcer::mixed(true).swarms;
    let bytes = write(&mut written, START);
    let mut reader = Reader::default();
    let (_, mut used) = reader.read(&bytes).unwrap().unwrap();
    let config = Config {
        torrents_max: 2,
        peers_max: 50,
        ..Config::default()
    };
    let (mut swarms, mut rng) = (Swarms::new(config, 1), Rng::new(2));
    while let Some((part, more)) = reader.read(&bytes[used..]).unwrap() {
        used += more;
        match part {
            Part::Swarms(records) => {
                records.for_each(|record| swarms.restore(START, record, true, &mut rng));
            }
            Part::Header(_) | Part::End => break,
        }
    }
    let totals = swarms.totals();
    assert_eq!((totals.torrents, totals.seeders + totals.leechers), (2, 50));

    // Peers that nobody could connect to, and one that is older than any may get.
    let mut record = [[1; 20].as_slice(), &[0; 8], &[0], &[0, 3, 0, 0]].concat();
    for (ip, port, age) in [
        ([0, 0, 0, 0], 80, 0),
        ([10, 0, 0, 1], 0, 0),
        ([10, 0, 0, 1], 80, u16::MAX),
    ] {
        record.extend_from_slice(&ip);
        record.extend_from_slice(&u16::to_be_bytes(port));
        record.extend_from_slice(&u16::to_be_bytes(age));
    }
    let records = Records::check(&record).unwrap();
    let mut swarms = Announcer::new(true).swarms;
    records.for_each(|record| swarms.restore(START, record, true, &mut rng));
    let totals = swarms.totals();
    assert_eq!((totals.torrents, totals.seeders + totals.leechers), (1, 0));
}
