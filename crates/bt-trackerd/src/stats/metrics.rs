//! The numbers in the text format of Prometheus, version 0.0.4.

use super::Figures;
use std::fmt::{Display, Write as _};

/// Its media type.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics.
pub(crate) fn text(figures: &Figures) -> String {
    let mut out = Text(String::new());
    swarms(figures, &mut out);
    requests(figures, &mut out);
    store(figures, &mut out);
    process(figures, &mut out);
    out.0
}

fn swarms(figures: &Figures, out: &mut Text) {
    let totals = &figures.totals;
    let torrents = totals.torrents as u64;
    out.gauge("torrents", "Torrents that are kept.", &[("", torrents)]);
    let peers = [
        ("{role=\"seeder\"}", totals.seeders as u64),
        ("{role=\"leecher\"}", totals.leechers as u64),
    ];
    out.gauge("peers", "Peers that are kept.", &peers);
    let help = "Leechers that lack something and do not want it (BEP 21).";
    out.gauge("partial_seeds", help, &[("", totals.partial_seeds as u64)]);
    // Not a counter: it falls when a torrent is forgotten.
    let help = "Downloads that peers completed, of the torrents that are kept.";
    out.gauge("downloads", help, &[("", totals.downloaded)]);
    let clients = figures.census.named.iter();
    let mut clients: Vec<_> = clients
        .map(|(name, count)| (format!("{{client=\"{name}\"}}"), *count))
        .collect();
    clients.push(("{client=\"other\"}".to_owned(), figures.census.others));
    out.gauge(
        "client_peers",
        "Peers by program, counted once a minute.",
        &clients,
    );
}

fn requests(figures: &Figures, out: &mut Text) {
    let sums = &figures.sums;
    let understood = [
        (
            "{transport=\"http\",kind=\"announce\"}",
            sums.announces_http,
        ),
        ("{transport=\"udp\",kind=\"announce\"}", sums.announces_udp),
        ("{transport=\"http\",kind=\"scrape\"}", sums.scrapes_http),
        ("{transport=\"udp\",kind=\"scrape\"}", sums.scrapes_udp),
        ("{transport=\"udp\",kind=\"connect\"}", sums.connects),
    ];
    let help = "Requests that were understood, by transport and kind.";
    out.counter("requests_total", help, &understood);
    let help = "Requests that were answered with a reason why not.";
    out.counter("refused_total", help, &[("", sums.refused)]);
    let help = "Packets that were not answered: no request, or of an address that was not proven.";
    out.counter("ignored_packets_total", help, &[("", sums.ignored)]);
    let connections = [("", figures.connections)];
    out.gauge("http_connections", "Open connections.", &connections);
}

fn store(figures: &Figures, out: &mut Text) {
    let Some(store) = &figures.store else {
        return;
    };
    let help = "Whether the common store answers: 1, or 0 while answers are local.";
    out.gauge("store_up", help, &[("", u64::from(store.up))]);
    let help = "Swarms that the common store was told of or asked for.";
    out.counter("store_exchanges_total", help, &[("", store.exchanges)]);
    let help = "Peers that the common store told of.";
    out.counter("store_peers_heard_total", help, &[("", store.heard)]);
    let help = "Times that the common store did not answer or could not be reached.";
    out.counter("store_failures_total", help, &[("", store.failures)]);
    let help = "Announces that wait to be told to the common store.";
    out.gauge("store_announces_waiting", help, &[("", store.waiting)]);
    let help = "Announces that the common store is told of only with the whole swarm.";
    out.counter(
        "store_announces_dropped_total",
        help,
        &[("", store.dropped)],
    );
}

fn process(figures: &Figures, out: &mut Text) {
    if let Some(last) = &figures.keeping {
        let help = "Snapshots that were written.";
        out.counter("snapshots_total", help, &[("", last.written)]);
        let help = "Snapshots that could not be written.";
        out.counter("snapshot_failures_total", help, &[("", last.failed)]);
        out.gauge(
            "snapshot_bytes",
            "Length of the last snapshot.",
            &[("", last.bytes)],
        );
    }
    if let Some(age) = figures.snapshot_age {
        let help = "Time since the last snapshot was written.";
        out.gauge("snapshot_age_seconds", help, &[("", age.as_secs_f64())]);
    }
    let help = "Time since this process began to serve.";
    out.gauge(
        "uptime_seconds",
        help,
        &[("", figures.uptime.as_secs_f64())],
    );
    let version = concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
    out.gauge("build_info", "The version, as a label.", &[(version, 1)]);
}

struct Text(String);

impl Text {
    fn gauge<L: AsRef<str>, V: Display>(&mut self, name: &str, help: &str, values: &[(L, V)]) {
        self.family(name, "gauge", help, values);
    }

    fn counter<L: AsRef<str>, V: Display>(&mut self, name: &str, help: &str, values: &[(L, V)]) {
        self.family(name, "counter", help, values);
    }

    fn family<L: AsRef<str>, V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        values: &[(L, V)],
    ) {
        let out = &mut self.0;
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "# HELP bt_tracker_{name} {help}\n# TYPE bt_tracker_{name} {kind}"
        );
        for (labels, value) in values {
            let _ = writeln!(out, "bt_tracker_{name}{} {value}", labels.as_ref());
        }
    }
}
