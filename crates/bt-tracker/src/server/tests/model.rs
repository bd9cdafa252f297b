//! The store beside a plain map.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Step {
    waited: u64,
    torrent: u8,
    who: u32,
    left: u64,
    event: Event,
    sweep: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let event = prop_oneof![
        Just(Event::Interval),
        Just(Event::Started),
        Just(Event::Completed),
        Just(Event::Stopped),
        Just(Event::Paused),
    ];
    let waited = prop_oneof![4 => 0_u64..3, 1 => 0_u64..90];
    (
        waited,
        0_u8..4,
        0_u32..60,
        0_u64..2,
        event,
        prop::bool::weighted(0.1),
    )
        .prop_map(|(waited, torrent, who, left, event, sweep)| Step {
            waited,
            torrent,
            who,
            left,
            event,
            sweep,
        })
}

proptest! {
    /// FAULTS 119: against a model that is a plain map and drops the silent at each step. With an expiry of a few
    /// seconds the store looks for the silent at every announce, so the two must agree exactly.
    #[test]
    fn agrees_with_a_model(steps in prop::collection::vec(step(), 1..400)) {
        // Ages are kept in steps of four seconds, so everything happens at one.
        let expiry = 30 * 4;
        let config = Config { expiry: Duration::from_secs(expiry), ..Config::default() };
        let (mut swarms, mut rng) = swarms(config);
        let mut model: BTreeMap<u8, BTreeMap<SocketAddr, (u64, bool, bool)>> = BTreeMap::new();
        let mut now = 0;
        for step in steps {
            now += step.waited * 4;
            model.values_mut().for_each(|peers| peers.retain(|_, (seen, ..)| now - *seen <= expiry));
            let mut request = request(6881, step.left, step.event);
            request.info_hash = InfoHash([step.torrent; 20]);
            let from = source(step.who);
            let addr = SocketAddr::new(from.ip(), 6881);
            let reply = swarms.announce(Time::from_secs(now), from, &request, &mut rng).unwrap();
            let peers = model.entry(step.torrent).or_default();
            if step.event == Event::Stopped {
                peers.remove(&addr);
            } else {
                peers.insert(addr, (now, step.left == 0, step.event == Event::Paused));
            }
            let seeders = peers.values().filter(|(_, seeder, _)| *seeder).count();
            prop_assert_eq!(reply.complete.unwrap() as usize, seeders);
            prop_assert_eq!(reply.incomplete.unwrap() as usize, peers.len() - seeders);
            let downloaders = peers.values().filter(|(_, seeder, paused)| !seeder && !paused).count();
            let entry = swarms.scrape(Time::from_secs(now), &request.info_hash).unwrap_or_default();
            prop_assert_eq!(entry.downloaders.unwrap_or(0) as usize, downloaders);
            let given: BTreeSet<SocketAddr> = reply.peers.iter().map(|peer| peer.addr).collect();
            prop_assert_eq!(given.len(), reply.peers.len());
            let all = step.left > 0 || step.event == Event::Started;
            for other in &given {
                let known = peers.get(other);
                prop_assert!(known.is_some_and(|(_, seeder, _)| all || !seeder), "{other}");
            }
            prop_assert!(!given.contains(&addr));
            let candidates = match (step.event, step.left) {
                (Event::Stopped, _) => 0,
                _ if all => peers.len() - 1,
                _ => peers.len() - seeders,
            };
            prop_assert_eq!(given.len(), candidates.min(50));
            if step.sweep {
                swarms.sweep(Time::from_secs(now));
            }
            swarms.check();
        }
        swarms.sweep(Time::from_secs(now + 2 * 24 * 60 * 60));
        prop_assert_eq!(swarms.totals(), Totals::default());
    }
}
