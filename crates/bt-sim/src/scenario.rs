//! What happens to a swarm: who is in it, and what goes wrong when.
//!
//! First faults, all drawn from the seed; then they heal, and the swarm must come to its end within a bound.

use crate::node::{Host, Nature};
use crate::world::{Fault, Settings, World};
use bt_core::{Layout, Rng};
use core::time::Duration;

/// Everything that a run depends on.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The world.
    pub settings: Settings,
    /// Its nodes, and when each starts.
    pub hosts: Vec<(Host, Duration)>,
    /// What goes wrong, and when. Each fault is healed by `healed_after`.
    pub faults: Vec<(Duration, Fault)>,
    /// When nothing goes wrong any more.
    pub healed_after: Duration,
    /// How long the swarm may take from then on.
    pub bound: Duration,
    /// The run ends when the free riders are complete too.
    pub waits_for_riders: bool,
}

/// What one member came for, and how long it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// What it is made of.
    pub host: Host,
    /// From when it came until it had everything; `None` if it did not get there.
    pub took: Option<Duration>,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// From the start until the last one was complete.
    pub took: Duration,
    /// The same by arithmetic, if every line were always full with what is needed.
    pub least: Duration,
    /// Payload bytes that the seeders sent, in copies of the payload.
    pub seeder_copies: f64,
    /// Bytes received that were of no use, of all received.
    pub wasted_percent: f64,
    /// Pieces that failed their hash.
    pub hash_failures: u64,
    /// How often a node banned a liar.
    pub bans: usize,
    /// Who sends bad blocks, and was banned by somebody.
    pub liars_banned: usize,
    /// Who downloaded.
    pub leechers: usize,
    /// How it went for each who came to download, whatever its nature.
    pub downloads: Vec<Download>,
    /// How many connections were asked for.
    pub dials: u64,
    /// How many things happened.
    pub steps: u64,
    /// A hash of all that happened.
    pub trace: u64,
}

/// The swarm did not come to its end within the bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The nodes that are not complete, and how many pieces each has.
    pub incomplete: Vec<(usize, u32)>,
}

impl Scenario {
    /// Everybody comes at once to one seeder, and nothing goes wrong.
    #[must_use]
    pub fn flash_crowd(seed: u64, layout: Layout, leechers: usize, up: u64) -> Self {
        let mut rng = Rng::new(seed);
        let leecher = Host {
            up,
            ..Host::default()
        };
        let seeder = Host {
            seeder: true,
            ..leecher
        };
        let late = |rng: &mut Rng| Duration::from_millis(rng.below(1_000));
        let mut hosts = vec![(seeder, Duration::ZERO)];
        hosts.extend((0..leechers).map(|_| (leecher, late(&mut rng))));
        let mut scenario = Self {
            settings: Settings::new(layout, seed),
            hosts,
            faults: Vec::new(),
            healed_after: Duration::ZERO,
            bound: Duration::ZERO,
            waits_for_riders: false,
        };
        scenario.bound = scenario.least() * 4 + Duration::from_secs(60);
        scenario
    }

    /// The same with seeders that show their pieces one by one (BEP 16).
    #[must_use]
    pub fn super_seeded(mut self) -> Self {
        for (host, _) in &mut self.hosts {
            host.super_seed = host.seeder;
        }
        self
    }

    /// The least time by arithmetic: the seeders' lines carry one copy, all lines together all copies.
    #[must_use]
    pub fn least(&self) -> Duration {
        let bytes = self.settings.layout.total_length();
        let honest = || {
            let hosts = self.hosts.iter().map(|(host, _)| host);
            hosts.filter(|host| host.nature == Nature::Honest)
        };
        let seeders: u64 = honest()
            .filter(|host| host.seeder)
            .map(|host| host.up)
            .sum();
        let all: u64 = honest().map(|host| host.up).sum();
        let leechers = honest().filter(|host| !host.seeder).count() as u64;
        let seconds = |bytes: u64, rate: u64| bytes as f64 / rate.max(1) as f64;
        let own = honest().filter(|host| !host.seeder);
        let slowest = own.filter_map(|host| host.down).min().unwrap_or(u64::MAX);
        let bounds = [
            seconds(bytes, seeders),
            seconds(bytes * leechers, all),
            seconds(bytes, slowest),
        ];
        Duration::from_secs_f64(bounds.into_iter().fold(0.0, f64::max))
    }

    /// A world in which all of this is going to happen.
    #[must_use]
    pub fn build(&self) -> World {
        let mut world = World::new(self.settings);
        for (host, after) in &self.hosts {
            world.add(*host, *after);
        }
        for (after, fault) in &self.faults {
            world.break_later(*after, *fault);
        }
        world
    }

    /// Runs it to the end.
    ///
    /// # Errors
    /// [`Stuck`] if somebody is not complete within the bound.
    ///
    /// # Panics
    /// If a node does what it never may.
    pub fn run(&self) -> Result<Report, Stuck> {
        self.finish(self.build())
    }

    /// Runs a world that this scenario built to the end.
    ///
    /// # Errors
    /// [`Stuck`] if somebody is not complete within the bound.
    ///
    /// # Panics
    /// If a node does what it never may.
    pub fn finish(&self, mut world: World) -> Result<Report, Stuck> {
        let start = World::START;
        world.pass(self.healed_after);
        let done = world.run(self.bound);
        let numbers = 0..world.nodes_count();
        let came = |number: &usize| {
            let host = world.host(*number);
            !host.seeder
                && host.nature == Nature::Honest
                && (host.leaves || !world.is_gone(*number))
        };
        if !done {
            let short = numbers
                .filter(came)
                .filter(|number| !world.is_sated(*number));
            let short = short.map(|number| (number, world.stats(number).pieces_have));
            let incomplete = short.collect();
            return Err(Stuck { incomplete });
        }
        let ends = numbers.clone().filter(came);
        let last = ends.filter_map(|number| world.completed_at(number)).max();
        let took = last.unwrap_or(start) - start;
        if self.waits_for_riders {
            self.wait_for_riders(&mut world);
        }
        // What is under way arrives, and then everybody knows everything.
        world.pass(Duration::from_secs(5));
        world.assert_at_rest();
        Ok(self.report(&world, took))
    }

    /// Lets time pass until the free riders have everything, or the bound is over once more.
    fn wait_for_riders(&self, world: &mut World) {
        let end = world.now() + self.bound;
        let lacks = |world: &World, number| {
            let rides = world.host(number).nature == Nature::FreeRider;
            rides && world.completed_at(number).is_none()
        };
        while world.now() < end && (0..world.nodes_count()).any(|number| lacks(world, number)) {
            world.pass(Duration::from_secs(1));
        }
    }

    fn downloads(&self, world: &World) -> Vec<Download> {
        let came = self.hosts.iter().enumerate();
        let came = came.filter(|(_, (host, _))| !host.seeder);
        let download = |(number, (host, after)): (usize, &(Host, Duration))| {
            let end = world.completed_at(number);
            Download {
                host: *host,
                took: end.map(|end| (end - World::START).saturating_sub(*after)),
            }
        };
        came.map(download).collect()
    }

    fn report(&self, world: &World, took: Duration) -> Report {
        let numbers = 0..world.nodes_count();
        let stats = || {
            numbers
                .clone()
                .map(|number| (world.host(number), world.stats(number)))
        };
        let honest = |host: &Host| host.nature == Nature::Honest;
        let seeders = stats().filter(|(host, _)| host.seeder && honest(host));
        let sent: u64 = seeders.map(|(_, stats)| stats.uploaded).sum();
        let leechers = || stats().filter(|(host, _)| !host.seeder && honest(host));
        let downloaded: u64 = leechers().map(|(_, stats)| stats.downloaded).sum();
        let wasted: u64 = leechers().map(|(_, stats)| stats.wasted).sum();
        let total = self.settings.layout.total_length();
        Report {
            seed: self.settings.seed,
            took,
            least: self.least(),
            seeder_copies: sent as f64 / total.max(1) as f64,
            wasted_percent: 100.0 * wasted as f64 / downloaded.max(1) as f64,
            hash_failures: leechers().map(|(_, stats)| stats.hash_failures).sum(),
            bans: numbers.clone().map(|number| world.bans(number)).sum(),
            liars_banned: numbers
                .clone()
                .filter(|number| matches!(world.host(*number).nature, Nature::Liar(_)))
                .filter(|number| world.bans(*number) > 0)
                .count(),
            leechers: leechers().count(),
            downloads: self.downloads(world),
            dials: world.dials(),
            steps: world.steps(),
            trace: world.trace(),
        }
    }
}

impl core::fmt::Display for Report {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (took, least) = (self.took.as_secs_f64(), self.least.as_secs_f64());
        write!(
            f,
            "seed {}: {} leechers in {took:.1} s, {:.2} x the least; the seeders sent {:.2} copies; \
             {:.2} % wasted, {} bad pieces, {} bans; {} dials, {} steps, trace {:016x}",
            self.seed,
            self.leechers,
            took / least.max(f64::EPSILON),
            self.seeder_copies,
            self.wasted_percent,
            self.hash_failures,
            self.bans,
            self.dials,
            self.steps,
            self.trace,
        )
    }
}
