//! The page for people: one document without scripts and without anything from elsewhere, that renews itself.

use super::chart::{self, Series};
use super::{Figures, duration};
use std::fmt::Write as _;

/// The page allows itself nothing but its own style, whatever might get into it.
pub(crate) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// How often a browser shall load it again, in seconds.
const RENEW_SECS: u32 = 30;

const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--text:#1c2430;--soft:#667085;--edge:#e3e7ee;--a:#2563eb;--b:#d97706}\
@media(prefers-color-scheme:dark){:root{--bg:#10141b;--card:#181e28;--text:#e6eaf1;--soft:#8b97a9;--edge:#2a3342;--a:#6ea8fe;--b:#f0b35a}}\
*{box-sizing:border-box}\
body{margin:0 auto;max-width:60rem;padding:2rem 1rem;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,sans-serif}\
h1{font-size:1.5rem;margin:0}h2{font-size:1rem;margin:0 0 .6rem}p{margin:.2rem 0;color:var(--soft)}\
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.8rem;margin:1.4rem 0}\
.card{background:var(--card);border:1px solid var(--edge);border-radius:.6rem;padding:.9rem 1rem;margin:0 0 .8rem}\
.tiles .card{margin:0}.tiles b{display:block;font-size:1.5rem;font-variant-numeric:tabular-nums}.tiles span,.key{color:var(--soft)}\
.key i{display:inline-block;width:.8rem;height:.2rem;margin:0 .4rem .2rem 1rem;background:var(--a)}.key i.b{background:var(--b)}\
svg{display:block;width:100%;height:auto}svg text{fill:var(--soft);font-size:9px}.grid{stroke:var(--edge)}\
polyline{fill:none;stroke-width:2;stroke-linejoin:round}.line0{stroke:var(--a)}.line1{stroke:var(--b)}\
table{width:100%;border-collapse:collapse}td{padding:.2rem .4rem .2rem 0}td.n{text-align:right;font-variant-numeric:tabular-nums;width:6rem}\
td.w{width:50%}meter{width:100%}code{font-size:.95em}";

/// The page. Names of clients are free of anything that HTML would read; all else is ours.
pub(crate) fn html(figures: &Figures) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <meta http-equiv=\"refresh\" content=\"{RENEW_SECS}\"/>\
         <title>BitTorrent tracker</title>\n<style>{STYLE}</style></head>\n<body>\n\
         <h1>BitTorrent tracker</h1>\n<p>Announce URL: <code>/announce</code> on this host. Version {version}, up for {up}.</p>\n",
        version = env!("CARGO_PKG_VERSION"),
        up = duration(figures.uptime),
    );
    out.push_str(&tiles(figures));
    out.push_str(&charts(figures));
    out.push_str(&clients(figures));
    out.push_str(&counts(figures));
    out.push_str("</body></html>\n");
    out
}

fn tiles(figures: &Figures) -> String {
    let totals = &figures.totals;
    let rates = &figures.rates;
    let count = |number: usize| chart::short(number as f64);
    let tiles = [
        ("torrents", count(totals.torrents)),
        ("seeders", count(totals.seeders)),
        ("leechers", count(totals.leechers)),
        (
            "downloads completed",
            chart::short(totals.downloaded as f64),
        ),
        (
            "announces a second",
            rate(rates.announces_http + rates.announces_udp),
        ),
        ("scrapes a second", rate(rates.scrapes)),
    ];
    let tiles = tiles.map(|(name, value)| {
        format!("<div class=\"card\"><b>{value}</b><span>{name}</span></div>\n")
    });
    format!("<div class=\"tiles\">\n{}</div>\n", tiles.concat())
}

fn charts(figures: &Figures) -> String {
    let samples = &figures.samples;
    let kept = samples.first().zip(samples.last());
    let span = kept.map_or_else(String::new, |(first, last)| {
        format!("{} ago", duration(last.at - first.at))
    });
    let pairs = samples.windows(2).filter_map(|pair| match pair {
        [earlier, later] => Some(later.rates_since(earlier)),
        _ => None,
    });
    let rates: Vec<_> = pairs.collect();
    let announces = [
        Series {
            name: "UDP",
            values: rates.iter().map(|rates| rates.announces_udp).collect(),
        },
        Series {
            name: "HTTP",
            values: rates.iter().map(|rates| rates.announces_http).collect(),
        },
    ];
    let peers = [
        Series {
            name: "leechers",
            values: samples
                .iter()
                .map(|sample| sample.leechers as f64)
                .collect(),
        },
        Series {
            name: "seeders",
            values: samples.iter().map(|sample| sample.seeders as f64).collect(),
        },
    ];
    [("Announces a second", announces), ("Peers", peers)]
        .map(|(title, series)| {
            let [a, b] = &series;
            format!(
                "<section class=\"card\"><h2>{title}<span class=\"key\"><i></i>{}<i class=\"b\"></i>{}</span></h2>\n{}</section>\n",
                a.name,
                b.name,
                chart::draw(title, &span, &series),
            )
        })
        .concat()
}

fn clients(figures: &Figures) -> String {
    let census = &figures.census;
    let all: u64 = census.named.iter().map(|(_, count)| count).sum::<u64>() + census.others;
    if all == 0 {
        return String::new();
    }
    let row = |name: &str, count: u64| {
        format!(
            "<tr><td>{name}</td><td class=\"w\"><meter max=\"{all}\" value=\"{count}\"></meter></td>\
             <td class=\"n\">{count}</td></tr>\n"
        )
    };
    let mut rows: String = census
        .named
        .iter()
        .map(|(name, count)| row(name, *count))
        .collect();
    if census.others > 0 {
        rows.push_str(&row("others", census.others));
    }
    format!("<section class=\"card\"><h2>Clients</h2><table>\n{rows}</table></section>\n")
}

fn counts(figures: &Figures) -> String {
    let rows: String = figures
        .counts()
        .into_iter()
        .map(|(name, number)| format!("<tr><td>{name}</td><td class=\"n\">{number}</td></tr>\n"))
        .collect();
    format!("<section class=\"card\"><h2>Since the start</h2><table>\n{rows}</table></section>\n")
}

fn rate(rate: f64) -> String {
    if rate < 10.0 {
        format!("{rate:.1}")
    } else {
        chart::short(rate.round())
    }
}
