use super::*;

fn blocks() -> impl Iterator<Item = Block> {
    let layout = Layout::new(1 << 40, 1 << 24).unwrap();
    layout
        .pieces()
        .flat_map(move |piece| layout.blocks(piece).collect::<Vec<_>>())
}

/// A peer that answers after `rtt` and sends `rate` bytes per second; the queue is refilled after each block.
fn settle(rtt: Duration, rate: u64, seconds: u64) -> Requests {
    settle_with(Requests::default(), rtt, rate, seconds)
}

fn settle_with(mut requests: Requests, rtt: Duration, rate: u64, seconds: u64) -> Requests {
    let mut blocks = blocks();
    requests.set_reqq(usize::MAX);
    let mut pipe: VecDeque<(Time, Block)> = VecDeque::new();
    let (mut now, mut line_free) = (Time::ZERO, Time::ZERO);
    let end = Time::from_secs(seconds);
    let per_block = Duration::from_nanos(u64::from(BLOCK_BYTES) * 1_000_000_000 / rate);
    while now < end {
        for _ in 0..requests.room(now) {
            let block = blocks.next().unwrap();
            requests.sent(now, block);
            line_free = line_free.max(now + rtt) + per_block;
            pipe.push_back((line_free, block));
        }
        let (at, block) = pipe.pop_front().unwrap();
        now = at;
        assert_eq!(requests.received(now, block), Answer::Expected);
    }
    requests
}

#[test]
fn the_queue_fits_the_bandwidth_delay_product() {
    // (round trip ms, bytes/s, least, most): at least what one round trip needs, at most about twice the margin.
    let rows = [
        (1, 1_000_000_000, REQUESTS_MAX, REQUESTS_MAX),
        (100, 1_000_000, 7, 40),
        (100, 10_000_000, 62, 300),
        (10, 100_000, 2, 6),
        (300, 20_000, 1, 5),
        (0, 5_000, 1, 5),
    ];
    for (rtt, rate, least, most) in rows {
        let target = settle(Duration::from_millis(rtt), rate, 60).target();
        assert!(
            (least..=most).contains(&target),
            "{rtt} ms {rate} B/s: {target}"
        );
    }
}

#[test]
fn where_pieces_are_long_an_eighth_of_one_more_is_asked_for() {
    // (torrent's MiB, piece's KiB, bytes/s, least, most): of a short torrent less, and of a slow peer no more than it sends in 2 s.
    let rows = [
        (1024, 16, 100_000, 4, 5),
        (1024, 256, 100_000, 4, 5),
        (1024, 1024, 100_000, 10, 11),
        (1024, 16_384, 100_000, 10, 11),
        (32, 1024, 100_000, 6, 7),
        (1024, 1024, 20_000, 3, 4),
    ];
    for (mib, kib, rate, least, most) in rows {
        let mut requests = Requests::default();
        requests.fit_pieces(&Layout::new(mib << 20, kib << 10).unwrap());
        let target = settle_with(requests, Duration::from_millis(100), rate, 60).target();
        assert!(
            (least..=most).contains(&target),
            "{mib} MiB in {kib} KiB at {rate} B/s: {target}"
        );
    }
}

#[test]
fn a_fast_peer_is_at_full_speed_within_a_second() {
    let target = settle(Duration::from_millis(50), 50_000_000, 1).target();
    assert!(target >= 50_000_000 / 20 / 16_384, "{target}");
}

#[test]
fn answers_are_told_apart() {
    let mut requests = Requests::default();
    let all: Vec<Block> = blocks().take(4).collect();
    let now = Time::from_secs(1);
    all.iter()
        .take(3)
        .for_each(|block| requests.sent(now, *block));
    assert_eq!(requests.received(now, all[1]), Answer::Expected);
    assert_eq!(
        requests.received(now, all[1]),
        Answer::Unasked,
        "a block is asked for once"
    );
    assert_eq!(requests.received(now, all[3]), Answer::Unasked);
    assert!(requests.cancel(all[0]) && !requests.cancel(all[0]));
    assert_eq!(requests.give_up(), [all[2]]);
    assert_eq!(requests.rejected(now, all[0], false), Answer::Late);
    assert_eq!(requests.received(now, all[2]), Answer::Late);
    assert_eq!(requests.received(now, all[2]), Answer::Unasked);
    assert!(requests.is_empty());
}

#[test]
fn a_peer_that_rejects_everything_is_asked_ever_less() {
    // FAULTS: below ten requests a second to a peer that rejects all of them.
    let mut requests = Requests::default();
    let (mut asked, mut blocks) = (0, blocks());
    for millis in (0..60_000).step_by(50) {
        let now = Time::from_millis(millis);
        let room = requests.room(now);
        let batch: Vec<Block> = blocks.by_ref().take(room).collect();
        batch.iter().for_each(|block| requests.sent(now, *block));
        asked += batch.len();
        for block in batch {
            assert_eq!(requests.rejected(now, block, false), Answer::Expected);
        }
    }
    assert!(asked <= REQUESTS_START + 6, "{asked}");
    let now = Time::from_secs(200);
    let block = blocks.next().unwrap();
    requests.sent(now, block);
    requests.received(now, block);
    assert!(
        requests.room(now) > 0,
        "one block served, and it is trusted again"
    );
}

#[test]
fn a_rejection_while_choked_is_no_offence() {
    let mut requests = Requests::default();
    let now = Time::from_secs(1);
    let block = blocks().next().unwrap();
    requests.sent(now, block);
    requests.rejected(now, block, true);
    assert_eq!(requests.room(now), REQUESTS_START);
}

#[test]
fn silence_stalls_and_a_block_cures() {
    let mut requests = Requests::default();
    let all: Vec<Block> = blocks().take(4).collect();
    let at = Time::from_secs;
    assert!(!requests.is_stalled(at(1_000)), "nothing is owed");
    all.iter().for_each(|block| requests.sent(at(100), *block));
    assert!(!requests.is_stalled(at(119)));
    assert!(requests.is_stalled(at(120)));
    requests.received(at(119), all[0]);
    assert!(!requests.is_stalled(at(138)) && requests.is_stalled(at(139)));
    // One block each 19 s keeps the peer from stalling, but no request waits longer than a minute.
    requests.received(at(138), all[1]);
    requests.received(at(157), all[2]);
    assert!(!requests.is_stalled(at(159)));
    assert!(requests.is_stalled(at(160)));
    requests.give_up();
    requests.snub();
    assert_eq!(requests.room(at(160)), 1);
    requests.sent(at(160), all[0]);
    requests.received(at(161), all[0]);
    assert!(requests.room(at(161)) > 1);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut requests = Requests::default();
    for block in blocks().take(3 * LATE_REQUESTS_MAX) {
        requests.sent(Time::ZERO, block);
        requests.cancel(block);
    }
    assert_eq!(requests.late.len(), LATE_REQUESTS_MAX);
}
