//! The DHT with churn and sybils.

use bt_sim::dht::DhtScenario;
use bt_sim::dht_store::{Stored, flood};

/// Questions of a search at a time (α).
const AT_A_TIME: usize = 4;
/// Nodes that a search ends with (k): so many that count, and as many whose id is not of their address.
const ENDS_WITH: usize = 8;

#[test]
fn announced_peers_are_found_among_churn_and_sybils() {
    let scenario = DhtScenario {
        torrents: 30,
        searches: 100,
        ..DhtScenario::new(3, 300)
    };
    let report = scenario.run();
    assert_eq!(report.searches, 100);
    assert!(report.found >= 99, "{report}");
    // Each hop at least halves the distance, so there are log2 of the nodes at most.
    let hops_max = scenario.nodes.ilog2();
    assert!(report.hops[1] <= hops_max, "{report}");
    // Each of them is as many questions as are asked at a time, and in the end all the nearest are asked.
    let queries_max = AT_A_TIME * hops_max as usize + 2 * ENDS_WITH;
    assert!(report.queries[1] <= queries_max, "{report}");
    // They are in one network, of which two of the eight nearest count.
    assert!(report.sybils_per_mille[1] <= 250, "{report}");
    // Those that forge ids are beside the eight, and never instead of them.
    assert!(report.sybils_per_mille[0] <= 500, "{report}");
}

#[test]
fn a_crowd_is_kept_up_to_the_bound_of_its_torrent() {
    let (torrents, peers_max, record_bytes) = (3, 500, 10);
    let kept = torrents * peers_max;
    let expected = Stored {
        announced: 2_000,
        confirmed: 2_000,
        kept,
        torrents,
        bytes: kept * record_bytes,
    };
    assert_eq!(flood(1, 2_000, torrents), expected);
}
