//! A load generator for trackers: announces and scrapes in a closed loop, as many at a time as there are places, over HTTP or
//! UDP. Loopback only.
//!
//! Place `i` speaks from the address 127.0.1.`i+1` and for the torrents `i`, `i + places`, …, so that a swarm has the same peers
//! whoever measures, and each announce after the first round renews one that is known.

pub(crate) mod http;
mod mmsg;
pub(crate) mod udp;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use crate::rng::Rng;

/// What peers lack that lack something, in bytes.
const LEFT_BYTES: u64 = 700 << 20;

/// Of a hundred peers, so many are seeders.
const SEEDERS_PERCENT: u64 = 30;

/// Peers asked for in an announce.
pub(crate) const NUMWANT: u32 = 50;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// Each peer announces itself once, then it is over.
    Fill,
    /// Random peers announce.
    Announce,
    /// Random torrents are scraped, so many at a time.
    Scrape(usize),
    /// A UDP connect.
    Connect,
}

/// A tracker and its swarms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    /// Where it listens.
    pub(crate) addr: SocketAddrV4,
    /// Its torrents.
    pub(crate) hashes: &'a [[u8; 20]],
    /// Peers of each.
    pub(crate) peers: u64,
}

/// How long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// Before anything counts.
    pub(crate) warm: Duration,
    /// While it counts; a fill ends by itself, or then.
    pub(crate) measured: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// Good answers.
    pub(crate) replies: u64,
    /// Errors, closed connections, and answers that did not come.
    pub(crate) failed: u64,
    /// How long it was measured.
    pub(crate) span: Duration,
    /// Of the server, meanwhile.
    pub(crate) cpu: Duration,
    /// How long each answer took.
    pub(crate) latencies: Histogram,
}

/// Counts by length, to within 2 %.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

/// Parts of each doubling.
const PARTS: u64 = 64;

impl Default for Histogram {
    fn default() -> Self {
        let buckets = usize::try_from(64 * PARTS).expect("a few thousand");
        Self {
            buckets: vec![0; buckets],
            count: 0,
        }
    }
}

impl Histogram {
    fn add(&mut self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos())
            .unwrap_or(u64::MAX)
            .max(PARTS);
        let power = u64::from(nanos.ilog2());
        let part = (nanos >> (power - 6)) & (PARTS - 1);
        let place = usize::try_from(power * PARTS + part).expect("a few thousand");
        if let Some(bucket) = self.buckets.get_mut(place) {
            *bucket += 1;
            self.count += 1;
        }
    }

    /// So many per mille took no longer.
    pub(crate) fn quantile(&self, per_mille: u64) -> Duration {
        let wanted = (self.count * per_mille).div_ceil(1_000);
        let mut seen = 0;
        for (place, count) in (0_u64..).zip(&self.buckets) {
            seen += count;
            if seen >= wanted && *count > 0 {
                let (power, part) = (place / PARTS, place % PARTS);
                return Duration::from_nanos((PARTS + part) << (power - 6));
            }
        }
        Duration::ZERO
    }
}

/// One peer of one torrent.
#[derive(Debug, Clone, Copy)]
struct Peer {
    torrent: usize,
    port: u16,
    left: u64,
    id: [u8; 20],
}

/// Who is to announce next, at each place.
struct Turns<'a> {
    target: Target<'a>,
    question: Question,
    places: usize,
    /// How far each place is with its fill.
    filled: Vec<u64>,
    rng: Rng,
}

impl<'a> Turns<'a> {
    fn new(target: Target<'a>, question: Question, places: usize) -> Self {
        Self {
            target,
            question,
            places,
            filled: vec![0; places],
            rng: Rng::new(7),
        }
    }

    /// A peer for `place`; none once it has filled its torrents.
    fn peer(&mut self, place: usize) -> Option<Peer> {
        let all = self.target.hashes.len();
        let own = u64::try_from(all.saturating_sub(place).div_ceil(self.places)).ok()?;
        let (nth, peer) = if self.question == Question::Fill {
            let turn = self.filled.get_mut(place)?;
            let now = *turn;
            *turn += 1;
            (now < own * self.target.peers).then(|| (now % own, now / own))?
        } else {
            (self.rng.below(own), self.rng.below(self.target.peers))
        };
        let torrent = place + self.places * usize::try_from(nth).ok()?;
        let number = u64::try_from(torrent).ok()? * 7 + peer;
        let seeder = peer * 100 < SEEDERS_PERCENT * self.target.peers;
        let mut id = *b"-XB0001-000000000000";
        let text = format!(
            "{:012}",
            u64::try_from(torrent).ok()? * self.target.peers + peer
        );
        id.get_mut(8..)?.copy_from_slice(text.as_bytes().get(..12)?);
        Some(Peer {
            torrent: torrent.min(all - 1),
            port: u16::try_from(1_025 + number % 60_000).ok()?,
            left: if seeder { 0 } else { LEFT_BYTES },
            id,
        })
    }

    /// A random torrent.
    fn torrent(&mut self) -> [u8; 20] {
        let count = u64::try_from(self.target.hashes.len()).unwrap_or(0);
        let at = usize::try_from(self.rng.below(count)).unwrap_or(0);
        self.target.hashes.get(at).copied().unwrap_or_default()
    }
}

/// Where the requests of a place come from.
fn local_ip(place: usize) -> Ipv4Addr {
    Ipv4Addr::new(
        127,
        0,
        1,
        u8::try_from(place + 1).expect("a hundred places"),
    )
}

/// When to begin to count, and when to end; asks for the server's processor time at both.
struct Watch<'a> {
    began: Instant,
    span: Span,
    cpu: &'a dyn Fn() -> Duration,
    measuring: Option<(Instant, Duration)>,
    outcome: Outcome,
}

impl<'a> Watch<'a> {
    fn new(span: Span, cpu: &'a dyn Fn() -> Duration) -> Self {
        Self {
            began: Instant::now(),
            span,
            cpu,
            measuring: None,
            outcome: Outcome::default(),
        }
    }

    /// Looks at the clock; false once it is over.
    fn goes_on(&mut self, now: Instant) -> bool {
        match self.measuring {
            None if now.duration_since(self.began) >= self.span.warm => {
                self.outcome = Outcome::default();
                self.measuring = Some((now, (self.cpu)()));
                true
            }
            None => true,
            Some((from, _)) => now.duration_since(from) < self.span.measured,
        }
    }

    fn reply(&mut self, asked: Instant, now: Instant, good: bool) {
        if good {
            self.outcome.replies += 1;
            self.outcome.latencies.add(now.duration_since(asked));
        } else {
            self.outcome.failed += 1;
        }
    }

    fn end(mut self) -> Outcome {
        if let Some((from, cpu)) = self.measuring {
            self.outcome.span = from.elapsed();
            self.outcome.cpu = (self.cpu)().saturating_sub(cpu);
        }
        self.outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near() {
        let mut histogram = Histogram::default();
        (1..=1_000).for_each(|n| histogram.add(Duration::from_micros(n)));
        for (per_mille, expected) in [(500, 500), (990, 990), (1_000, 1_000)] {
            let got = histogram.quantile(per_mille).as_micros();
            assert!(
                (expected * 98 / 100..=expected).contains(&got),
                "{per_mille}: {got}"
            );
        }
        assert_eq!(Histogram::default().quantile(500), Duration::ZERO);
    }

    #[test]
    fn a_fill_names_each_peer_once() {
        let hashes: Vec<[u8; 20]> = (0..10).map(|n| [n; 20]).collect();
        let target = Target {
            addr: "127.0.0.1:1".parse().unwrap(),
            hashes: &hashes,
            peers: 7,
        };
        let mut turns = Turns::new(target, Question::Fill, 4);
        let mut seen = std::collections::BTreeSet::new();
        for place in 0..4 {
            while let Some(peer) = turns.peer(place) {
                assert_eq!(peer.torrent % 4, place);
                assert!(seen.insert((peer.torrent, peer.port, peer.id)));
            }
        }
        assert_eq!(seen.len(), 70);
    }
}
