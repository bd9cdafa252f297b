//! What another tracker that serves the same swarms heard of their peers.
//!
//! **Invariant:** of two announces of a peer the later one counts, whoever took it; memory is bounded as ever, and what there is
//! no room for is left out.

use super::list::Role;
use super::peer::EXPIRY_MAX_SECS;
use super::snapshot::Recorded;
use super::{Swarms, span};
use bt_core::{InfoHash, PeerId, Rng, Time, addr};
use std::net::SocketAddr;

/// What a peer said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It downloads.
    Downloader,
    /// It lacks something and does not want it (BEP 21).
    PartialSeed,
    /// It has everything.
    Seeder,
    /// It left.
    Gone,
}

/// A peer that was heard of elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Where it listens.
    pub addr: SocketAddr,
    /// How long ago that was, in seconds.
    pub age_secs: u32,
    /// What it said.
    pub standing: Standing,
}

impl Standing {
    const fn role(self) -> Option<Role> {
        match self {
            Self::Downloader => Some(Role::Downloader),
            Self::PartialSeed => Some(Role::PartialSeed),
            Self::Seeder => Some(Role::Seeder),
            Self::Gone => None,
        }
    }

    pub(super) const fn of(role: Role) -> Self {
        match role {
            Role::Downloader => Self::Downloader,
            Role::PartialSeed => Self::PartialSeed,
            Role::Seeder => Self::Seeder,
        }
    }
}

impl Swarms {
    /// Takes in what was heard of a torrent elsewhere, and the greater of two counts of downloads.
    pub fn learn(
        &mut self,
        now: Time,
        info_hash: InfoHash,
        downloaded: u32,
        heard: &[Heard],
        rng: &mut Rng,
    ) {
        let seconds = self.at(now);
        let expiry = span(self.config.expiry).min(EXPIRY_MAX_SECS);
        let alive = |one: &&Heard| one.standing != Standing::Gone && one.age_secs <= expiry;
        let youngest = heard.iter().filter(alive).map(|one| one.age_secs).min();
        let position = match self.find(&info_hash) {
            Some(position) => position,
            None if youngest.is_none() && downloaded == 0 => return,
            None if self.swarms.len() >= self.config.torrents_max => return,
            None => self.insert(info_hash, seconds.saturating_sub(expiry), rng),
        };
        let mut room = self.config.peers_max.saturating_sub(self.peers_count());
        let Some(swarm) = self.swarms.get_mut(position) else {
            return;
        };
        let before = swarm.counts();
        swarm.restore_head(
            downloaded,
            seconds.saturating_sub(youngest.unwrap_or(expiry)),
        );
        for one in heard {
            let usable = one.addr.port() != 0 && addr::is_dialable(one.addr);
            match one.standing.role() {
                None => swarm.leave(&one.addr, one.age_secs, seconds, &self.key),
                Some(role) if usable && one.age_secs <= expiry && room > 0 => {
                    let recorded = Recorded {
                        addr: one.addr,
                        age_secs: one.age_secs,
                        id: None,
                        role,
                    };
                    let id = self.peer_ids.then_some(PeerId([0; 20]));
                    room -= usize::from(swarm.restore(&recorded, id, seconds, &self.key));
                    swarm.expires_by(seconds.saturating_add(expiry + 1 - one.age_secs));
                }
                Some(_) => {}
            }
        }
        self.totals.change(before, swarm.counts());
        self.note_size(position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announce::{AnnounceRequest, Event};
    use crate::server::Config;

    const TORRENT: InfoHash = InfoHash([7; 20]);

    fn heard(port: u16, age_secs: u32, standing: Standing) -> Heard {
        let addr = SocketAddr::from(([10, 0, 0, 1], port));
        Heard {
            addr,
            age_secs,
            standing,
        }
    }

    fn counts(swarms: &mut Swarms, now: Time) -> [u32; 4] {
        let entry = swarms.scrape(now, &TORRENT).unwrap_or_default();
        let downloaders = entry.downloaders.unwrap_or(0);
        [
            entry.complete,
            entry.incomplete,
            downloaders,
            entry.downloaded,
        ]
    }

    #[test]
    fn the_later_of_two_announces_counts() {
        use Standing::{Downloader, Gone, PartialSeed, Seeder};
        let (mut swarms, mut rng) = (Swarms::new(Config::default(), 1), Rng::new(2));
        let now = Time::from_secs(10_000);
        // What is heard, and then seeders, leechers, downloaders, downloads.
        let rows: [(&[Heard], u32, [u32; 4]); 9] = [
            // Nothing of a torrent that nobody has is kept.
            (&[heard(1, 0, Gone)], 0, [0, 0, 0, 0]),
            (
                &[heard(1, 100, Downloader), heard(2, 0, PartialSeed)],
                0,
                [0, 2, 1, 0],
            ),
            (&[heard(1, 80, Seeder)], 3, [1, 1, 0, 3]),
            // Older than what is known.
            (&[heard(1, 90, Downloader)], 2, [1, 1, 0, 3]),
            (&[heard(1, 90, Gone)], 0, [1, 1, 0, 3]),
            (&[heard(1, 20, Gone)], 4, [0, 1, 0, 4]),
            (
                &[heard(3, 99_999, Seeder), heard(0, 0, Seeder)],
                0,
                [0, 1, 0, 4],
            ),
            (&[heard(3, 0, Seeder), heard(3, 0, Seeder)], 0, [1, 1, 0, 4]),
            (&[heard(2, 0, Gone), heard(3, 0, Gone)], 0, [0, 0, 0, 4]),
        ];
        for (step, (all, downloaded, expected)) in rows.into_iter().enumerate() {
            swarms.learn(now, TORRENT, downloaded, all, &mut rng);
            assert_eq!(counts(&mut swarms, now), expected, "step {step}");
            swarms.check();
            let known = swarms.totals().torrents;
            assert_eq!(known, usize::from(step > 0), "step {step}");
        }
    }

    #[test]
    fn who_was_heard_of_expires_and_the_limits_hold() {
        let config = Config {
            torrents_max: 1,
            peers_max: 4,
            ..Config::default()
        };
        let expiry = u32::try_from(config.expiry.as_secs()).unwrap();
        let (mut swarms, mut rng) = (Swarms::new(config, 1), Rng::new(2));
        let now = Time::from_secs(10_000);
        let all: Vec<Heard> = (1..=9)
            .map(|port| heard(port, u32::from(port), Standing::Seeder))
            .collect();
        swarms.learn(now, TORRENT, 0, &all, &mut rng);
        swarms.learn(now, InfoHash([8; 20]), 1, &all, &mut rng);
        assert_eq!(counts(&mut swarms, now), [4, 0, 0, 0]);
        assert_eq!(swarms.totals().torrents, 1);
        // A swarm that was looked over just now still drops in time whom it hears of afterwards.
        let request = AnnounceRequest {
            event: Event::Stopped,
            ..AnnounceRequest::new(TORRENT, PeerId([1; 20]), 1, 0)
        };
        let from = "10.0.0.1:1".parse().unwrap();
        swarms.announce(now, from, &request, &mut rng).unwrap();
        let late = [heard(8, expiry - 40, Standing::Seeder)];
        swarms.learn(now, TORRENT, 0, &late, &mut rng);
        assert_eq!(counts(&mut swarms, now), [4, 0, 0, 0]);
        let soon = Time::from_secs(10_000 + 48);
        assert_eq!(counts(&mut swarms, soon), [3, 0, 0, 0]);
        let later = Time::from_secs(10_000 + u64::from(expiry) + 8);
        assert_eq!(counts(&mut swarms, later), [0, 0, 0, 0]);
    }
}
