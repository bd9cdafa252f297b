//! The tracker in numbers: a page for people, JSON for programs.

use crate::counters::Counted::{
    AnnounceHttp, AnnounceUdp, Connect, Ignored, Refused, ScrapeHttp, ScrapeUdp,
};
use crate::keep::Keeper;
use crate::state::State;

/// An object of numbers, and the version.
pub(crate) fn json(state: &State) -> String {
    let totals = state.shards.totals();
    let count = |what| state.counters.sum(what);
    let keeping = state.keeper.as_ref().map(Keeper::last);
    serde_json::json!({
        "torrents": totals.torrents,
        "seeders": totals.seeders,
        "leechers": totals.leechers,
        "downloaded": totals.downloaded,
        "announces": count(AnnounceHttp) + count(AnnounceUdp),
        "announces_udp": count(AnnounceUdp),
        "scrapes": count(ScrapeHttp) + count(ScrapeUdp),
        "scrapes_udp": count(ScrapeUdp),
        "connects_udp": count(Connect),
        "refused": count(Refused),
        "ignored_udp": count(Ignored),
        "connections": state.places.count(),
        "snapshots": keeping.map(|last| last.written),
        "snapshots_failed": keeping.map(|last| last.failed),
        "snapshot_age_seconds": keeping.and_then(|last| Some(state.now().since(last.at?).as_secs())),
        "uptime_seconds": state.uptime().as_secs(),
        "version": env!("CARGO_PKG_VERSION"),
    })
    .to_string()
}

/// The same for people. Nothing in it comes from strangers, so there is nothing to escape.
pub(crate) fn html(state: &State) -> String {
    let totals = state.shards.totals();
    let count = |what| state.counters.sum(what);
    let row = |name: &str, number: u64| format!("<tr><td>{name}</td><td>{number}</td></tr>\n");
    let size = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let rows: String = [
        row("torrents", size(totals.torrents)),
        row("seeders", size(totals.seeders)),
        row("leechers", size(totals.leechers)),
        row("downloads completed", totals.downloaded),
        row("announces over HTTP", count(AnnounceHttp)),
        row("announces over UDP", count(AnnounceUdp)),
        row("scrapes", count(ScrapeHttp) + count(ScrapeUdp)),
        row("requests refused", count(Refused)),
        row("packets without answer", count(Ignored)),
        row("connections", size(state.places.count())),
        row("seconds since the start", state.uptime().as_secs()),
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
