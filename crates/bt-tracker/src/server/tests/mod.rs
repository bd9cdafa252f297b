mod answers;
mod floods;
mod model;

use super::*;
use crate::announce::Peer;
use crate::http::encode::{self, PeersForm};
use bt_core::{PeerId, Rng};
use std::collections::{BTreeMap, BTreeSet};

const TORRENT: InfoHash = InfoHash([7; 20]);

fn request(port: u16, left: u64, event: Event) -> AnnounceRequest {
    AnnounceRequest {
        event,
        ..AnnounceRequest::new(TORRENT, PeerId([1; 20]), port, left)
    }
}

fn source(n: u32) -> SocketAddr {
    SocketAddr::new(std::net::Ipv4Addr::from(0x0a00_0000 + n).into(), 40_000)
}

fn swarms(config: Config) -> (Swarms, Rng) {
    (Swarms::new(config, 1), Rng::new(2))
}

impl Swarms {
    pub(super) fn check(&self) {
        let peers: usize = self.swarms.iter().map(Swarm::peers_count).sum();
        assert_eq!(self.peers_count(), peers);
        let leechers: usize = self.swarms.iter().map(Swarm::leechers).sum();
        assert_eq!(self.totals.leechers, leechers);
        assert_eq!(self.by_info_hash.len(), self.swarms.len());
        for (position, swarm) in self.swarms.iter().enumerate() {
            assert_eq!(self.find(&swarm.info_hash), Some(position));
            swarm.check(&self.key);
        }
    }
}

#[test]
fn who_cannot_be_reached_is_refused() {
    let (mut swarms, mut rng) = swarms(Config::default());
    let rows = [
        ("10.0.0.1:1", 0, Some(Refusal::PortZero)),
        ("0.0.0.0:1", 80, Some(Refusal::NotDialable)),
        ("224.0.0.1:1", 80, Some(Refusal::NotDialable)),
        ("[::]:1", 80, Some(Refusal::NotDialable)),
        ("127.0.0.1:1", 80, None),
        ("192.168.0.1:1", 80, None),
        ("[::1]:1", 80, None),
    ];
    for (from, port, expected) in rows {
        let request = request(port, 1, Event::Started);
        let got = swarms.announce(Time::ZERO, from.parse().unwrap(), &request, &mut rng);
        assert_eq!(got.err(), expected, "{from} {port}");
    }
    assert_eq!(swarms.totals().leechers, 3);
}

#[test]
fn one_entry_for_each_address_and_port() {
    // FAULTS 116: the same peer a hundred times, with a hundred peer ids; and IPv4 in IPv6 is IPv4.
    let (mut swarms, mut rng) = swarms(Config::default());
    for n in 0..100 {
        for from in ["10.0.0.1:1", "[::ffff:10.0.0.1]:2"] {
            let mut request = request(6881, 5, Event::Started);
            request.peer_id = PeerId([n; 20]);
            swarms
                .announce(Time::ZERO, from.parse().unwrap(), &request, &mut rng)
                .unwrap();
        }
    }
    assert_eq!(swarms.totals().leechers, 1);
    // BEP 7: over IPv6 it is another, and either is told of the other.
    let from = "[2001:db8::1]:9".parse().unwrap();
    let reply = swarms
        .announce(
            Time::ZERO,
            from,
            &request(6881, 5, Event::Started),
            &mut rng,
        )
        .unwrap();
    let expected = Peer {
        addr: "10.0.0.1:6881".parse().unwrap(),
        peer_id: Some(PeerId([99; 20])),
    };
    assert_eq!(reply.peers, [expected]);
    assert_eq!(reply.external_ip, Some(from.ip()));
    assert_eq!(swarms.totals().leechers, 2);
}

#[test]
fn counts_follow_what_peers_say() {
    // Rows: who, left, event; then complete, downloaded, incomplete, downloaders (BEP 21).
    use Event::{Completed, Interval, Paused, Started, Stopped};
    let rows: [(u32, u64, Event, [u32; 4]); 18] = [
        (1, 9, Stopped, [0, 0, 0, 0]),
        (1, 9, Started, [0, 0, 1, 1]),
        (2, 0, Started, [1, 0, 1, 1]),
        (1, 9, Completed, [1, 0, 1, 1]),
        (1, 0, Completed, [2, 1, 0, 0]),
        (1, 0, Completed, [2, 1, 0, 0]),
        (2, 0, Completed, [2, 1, 0, 0]),
        (3, 0, Completed, [3, 2, 0, 0]),
        (3, 9, Interval, [2, 2, 1, 1]),
        (3, 0, Interval, [3, 2, 0, 0]),
        (3, 9, Paused, [2, 2, 1, 0]),
        (4, 9, Started, [2, 2, 2, 1]),
        (3, 9, Interval, [2, 2, 2, 2]),
        (4, 0, Paused, [3, 2, 1, 1]),
        (4, 0, Stopped, [2, 2, 1, 1]),
        (3, 9, Stopped, [2, 2, 0, 0]),
        (3, 9, Stopped, [2, 2, 0, 0]),
        (9, 9, Stopped, [2, 2, 0, 0]),
    ];
    let (mut swarms, mut rng) = swarms(Config::default());
    for (step, (who, left, event, expected)) in rows.into_iter().enumerate() {
        let request = request(6881, left, event);
        let reply = swarms
            .announce(Time::ZERO, source(who), &request, &mut rng)
            .unwrap();
        let entry = swarms.scrape(Time::ZERO, &TORRENT).unwrap_or_default();
        let ScrapeEntry {
            complete,
            downloaded,
            incomplete,
            downloaders,
        } = entry;
        let counted = [complete, downloaded, incomplete, downloaders.unwrap_or(0)];
        assert_eq!(counted, expected, "row {step}");
        let partial = swarms.totals().partial_seeds;
        let expected = (incomplete - counted[3]) as usize;
        assert_eq!(partial, expected, "row {step}");
        assert_eq!(
            [reply.complete, reply.incomplete],
            [Some(entry.complete), Some(entry.incomplete)]
        );
        if event == Stopped {
            assert_eq!(reply.peers, []);
        }
        swarms.check();
    }
    assert_eq!(swarms.scrape(Time::ZERO, &InfoHash([8; 20])), None);
}

#[test]
fn silent_peers_and_empty_torrents_go() {
    let config = Config::with_interval(Duration::from_secs(1000));
    let expiry = config.expiry.as_secs();
    assert!(expiry > 2 * 1100, "a lost announce is forgiven");
    let (mut swarms, mut rng) = swarms(config);
    let mut announce = |at: u64, who, left, event| {
        let request = request(6881, left, event);
        swarms
            .announce(Time::from_secs(at), source(who), &request, &mut rng)
            .unwrap();
        swarms.sweep(Time::from_secs(at));
        swarms.check();
        let totals = swarms.totals();
        (totals.torrents, totals.leechers, totals.seeders)
    };
    assert_eq!(announce(0, 1, 1, Event::Started), (1, 1, 0));
    assert_eq!(announce(500, 2, 0, Event::Started), (1, 1, 1));
    assert_eq!(
        announce(expiry, 2, 0, Event::Interval),
        (1, 1, 1),
        "not yet"
    );
    // Looked for at most once in a 32nd of the expiry, hence the slack.
    let later = expiry + 1 + expiry / 32;
    assert_eq!(announce(later, 2, 0, Event::Interval), (1, 0, 1));
    assert_eq!(
        announce(later, 2, 0, Event::Stopped),
        (0, 0, 0),
        "nothing to remember"
    );
    assert_eq!(announce(later, 3, 0, Event::Completed), (1, 0, 1));
    swarms.sweep(Time::from_secs(later + 2 * expiry));
    assert_eq!(
        swarms.totals().torrents,
        1,
        "its count of downloads is kept a day"
    );
    assert_eq!(swarms.totals().seeders, 0);
    swarms.sweep(Time::from_secs(later + 24 * 60 * 60));
    assert_eq!(swarms.totals(), Totals::default());
}

#[test]
fn a_clock_that_two_threads_read_at_once_drops_nobody() {
    let (mut swarms, mut rng) = swarms(Config::default());
    for (at, who) in [(8, 1), (7, 2), (3, 3)] {
        let request = request(6881, 1, Event::Started);
        swarms
            .announce(Time::from_secs(at), source(who), &request, &mut rng)
            .unwrap();
    }
    swarms.sweep(Time::ZERO);
    assert_eq!(swarms.totals().leechers, 3);
}
