//! The names of bootstrap nodes, and the addresses behind them.

use super::Request;
use crate::reach::Names;
use core::time::Duration;
use std::net::SocketAddr;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long names of bootstrap nodes may take.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(10);
/// Names of a list that are looked up at a time: one that takes long holds few others up.
const LOOKUPS_MAX: usize = 8;
/// How soon they are looked up again if there was no answer; doubled each time, up to ten minutes.
const RESOLVE_RETRY: Duration = Duration::from_secs(10);
const RESOLVE_RETRY_MAX: Duration = Duration::from_secs(600);

/// Looks up bootstrap nodes until some are found, and names each to the DHT as soon as it is.
pub(super) async fn resolve(
    names: Names,
    places: Vec<String>,
    requests: mpsc::WeakSender<Request>,
) {
    let mut retry = RESOLVE_RETRY;
    loop {
        let mut is_found = false;
        for places in places.chunks(LOOKUPS_MAX) {
            let mut lookups: JoinSet<_> = places
                .iter()
                .cloned()
                .map(|it| look_up(names, it))
                .collect();
            while let Some(found) = lookups.join_next().await {
                let found = found.unwrap_or_default();
                let Some(requests) = requests.upgrade() else {
                    return;
                };
                if !found.is_empty() {
                    is_found = true;
                    // An error means that the DHT is gone.
                    let _ = requests.send(Request::Bootstrap(found)).await;
                }
            }
        }
        if is_found {
            return;
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(RESOLVE_RETRY_MAX);
    }
}

/// The addresses of a `HOST:PORT`; none if there are none, or not in time.
async fn look_up(names: Names, place: String) -> Vec<SocketAddr> {
    let (host, port) = place.rsplit_once(':').unwrap_or((&place, ""));
    let Ok(port) = port.parse() else {
        tracing::debug!(place, "no DHT bootstrap node: it has no port");
        return Vec::new();
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match tokio::time::timeout(RESOLVE_DEADLINE, names.look_up(host, port)).await {
        Ok(Ok(addrs)) => return addrs,
        Ok(Err(error)) => tracing::debug!(place, %error, "no DHT bootstrap node"),
        Err(_) => tracing::debug!(place, "no DHT bootstrap node: no answer in time"),
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn faults_108_a_slow_name_holds_no_other_node_up() {
        let (requests, mut requested) = mpsc::channel(4);
        let places = ["slow.test:1", "[::1]:2", "10.0.0.1:3", "none"];
        let places = places.map(str::to_owned).to_vec();
        let begun = Instant::now();
        tokio::spawn(resolve(Names::Silent, places, requests.downgrade()));
        let mut found = Vec::new();
        for _ in 0..2 {
            let Some(Request::Bootstrap(addrs)) = requested.recv().await else {
                panic!("nothing is found");
            };
            found.extend(addrs);
        }
        found.sort_unstable();
        assert_eq!(
            found,
            ["10.0.0.1:3".parse().unwrap(), "[::1]:2".parse().unwrap()]
        );
        assert!(begun.elapsed() < RESOLVE_DEADLINE);
    }
}
