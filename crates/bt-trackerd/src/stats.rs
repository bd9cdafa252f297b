//! The tracker in numbers: a page for people, JSON for programs.

use crate::state::State;
use std::sync::atomic::Ordering;

/// `{torrents, seeders, leechers, downloaded, announces, scrapes, refused, connections, uptime_seconds, version}`.
pub(crate) fn json(state: &State) -> String {
    let totals = state.shards.totals();
    let count = |counter: &core::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    serde_json::json!({
        "torrents": totals.torrents,
        "seeders": totals.seeders,
        "leechers": totals.leechers,
        "downloaded": totals.downloaded,
        "announces": count(&state.counters.announces),
        "scrapes": count(&state.counters.scrapes),
        "refused": count(&state.counters.refused),
        "connections": state.places.count(),
        "uptime_seconds": state.now().as_nanos() / 1_000_000_000,
        "version": env!("CARGO_PKG_VERSION"),
    })
    .to_string()
}

/// The same for people. Nothing in it comes from strangers, so there is nothing to escape.
pub(crate) fn html(state: &State) -> String {
    let totals = state.shards.totals();
    let row = |name: &str, number: u64| format!("<tr><td>{name}</td><td>{number}</td></tr>\n");
    let size = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let rows: String = [
        row("torrents", size(totals.torrents)),
        row("seeders", size(totals.seeders)),
        row("leechers", size(totals.leechers)),
        row("downloads completed", totals.downloaded),
        row(
            "announces",
            state.counters.announces.load(Ordering::Relaxed),
        ),
        row("scrapes", state.counters.scrapes.load(Ordering::Relaxed)),
        row(
            "requests refused",
            state.counters.refused.load(Ordering::Relaxed),
        ),
        row("connections", size(state.places.count())),
        row(
            "seconds since the start",
            state.now().as_nanos() / 1_000_000_000,
        ),
    ]
    .concat();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>BitTorrent tracker</title>\n\
         <style>body{{font:16px/1.5 system-ui,sans-serif;margin:3em auto;max-width:30em;padding:0 1em}}\
         td{{padding:.2em 1em .2em 0}}td+td{{text-align:right;font-variant-numeric:tabular-nums}}\
         @media(prefers-color-scheme:dark){{body{{background:#111;color:#ddd}}}}</style></head>\n\
         <body><h1>BitTorrent tracker</h1>\n<table>\n{rows}</table>\n\
         <p>Announce URL: <code>/announce</code> on this host. Version {version}.</p></body></html>\n",
        version = env!("CARGO_PKG_VERSION"),
    )
}
