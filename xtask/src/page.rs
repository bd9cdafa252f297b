//! `cargo xtask page-test`: the tracker's page in Chromium, with scripts allowed and without.
//!
//! It must look the same either way, show what the JSON beside it says and both charts with lines in them, ask nobody but the
//! tracker, and leave nothing on the browser's console.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::interop::install::install_debian;
use crate::process::Process;
use crate::programs::{Programs, is_installed};
use crate::{http, stop};

const BROWSER: &str = "chromium";

/// The tracker listens by then; its charts have their second sample, which is taken after ten seconds.
const PATIENCE: Duration = Duration::from_secs(40);

/// A browser that takes longer for a page of a few kilobytes is not well, even on a busy machine.
const BROWSER_MAX: Duration = Duration::from_secs(120);

/// A picture of the window with nothing in it has about 6 kB, and that of the page 60.
const PICTURE_BYTES_MIN: usize = 20_000;

/// Settings of a browser in which no site may run scripts.
const NO_SCRIPTS: &str = r#"{"profile":{"default_content_setting_values":{"javascript":2}}}"#;

/// Lines of the two charts.
const LINES: usize = 4;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install Chromium if it is missing (Debian)
    #[arg(long)]
    install: bool,
    /// Look at the page of this `bt-trackerd` instead of building one
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Starts a tracker with some peers and looks at its page.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !is_installed(BROWSER) {
        if !args.install {
            bail!("{BROWSER} is missing: `apt-get install {BROWSER}`, or run this with --install");
        }
        install_debian(&[BROWSER])?;
    }
    let program = match &args.program {
        Some(program) => program.canonicalize().context("--program")?,
        None => Programs::build()?.trackerd,
    };
    let mut command = Command::new(program);
    command.args(["--http", "127.0.0.1:0", "--json"]);
    let (sender, lines) = mpsc::channel();
    let process = Process::spawn("bt-trackerd", command, 0, sender)?;
    let line = lines.recv_timeout(PATIENCE);
    let line = line.with_context(|| process.obituary())?;
    let said: Value = serde_json::from_str(&line.text)?;
    let addr = said.get("addr").and_then(Value::as_str);
    let addr: SocketAddr = addr
        .and_then(|addr| addr.parse().ok())
        .context("an address")?;
    populate(addr)?;
    wait_for_lines(addr)?;
    let folder = tempfile::tempdir().context("a folder for the browser")?;
    let mut seen = Vec::new();
    for scripts in [true, false] {
        let shown = look(addr, folder.path(), scripts)
            .with_context(|| format!("with scripts allowed: {scripts}"))?;
        seen.push(shown);
    }
    let figures = http::fetch_as(addr, "/stats", "application/json")?;
    let figures: Value = serde_json::from_slice(&figures).context("the JSON of /stats")?;
    for document in &seen {
        compare(document, &figures)?;
    }
    println!("page-test: the page in {BROWSER} agrees with its numbers, with scripts and without");
    Ok(())
}

/// Three torrents, one with a seeder, and requests that are refused.
fn populate(addr: SocketAddr) -> Result<()> {
    for peer in 0..9_u8 {
        let left = if peer == 8 { 0 } else { 5 };
        let torrent = char::from(b'a' + peer % 3).to_string().repeat(20);
        http::fetch(
            addr,
            &format!(
                "/announce?info_hash={torrent}&peer_id=-TR4060-00000000000{peer}&port=700{peer}&uploaded=0&downloaded=0&left={left}"
            ),
        )?;
        http::fetch(addr, &format!("/scrape?info_hash={torrent}"))?;
    }
    // Port 0 takes no connections.
    http::fetch(
        addr,
        "/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=-TR4060-000000000009&port=0&uploaded=0&downloaded=0&left=5",
    )?;
    Ok(())
}

/// A chart of one sample has a point and no line.
fn wait_for_lines(addr: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while drawn(&String::from_utf8(http::fetch(addr, "/stats")?)?).len() < LINES {
        if Instant::now() > deadline {
            bail!("the charts stay without lines");
        }
        stop::check()?;
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// The points of each line in the document.
fn drawn(document: &str) -> Vec<usize> {
    let lines = document.split("<polyline").skip(1);
    lines
        .filter_map(|line| {
            let (_, points) = line.split_once("points=\"")?;
            Some(points.split('"').next()?.split(' ').count())
        })
        .collect()
}

/// Has the browser load the page twice: once for its document, once for a picture of it. Returns the document.
fn look(addr: SocketAddr, folder: &Path, scripts: bool) -> Result<String> {
    let url = format!("http://{addr}/stats");
    let (picture, net) = (folder.join("page.png"), folder.join("net.json"));
    // Each of the two has a profile, as what a site may do stands there.
    let profile = folder.join(format!("scripts-{scripts}"));
    std::fs::create_dir_all(profile.join("Default")).context("a profile")?;
    if !scripts {
        std::fs::write(profile.join("Default/Preferences"), NO_SCRIPTS).context("a profile")?;
    }
    let browse = |what: String| -> Result<Vec<u8>> {
        let mut command = browser(&profile);
        command
            .arg(format!("--log-net-log={}", net.display()))
            .args([what.as_str(), url.as_str()]);
        let output = output_within(command, BROWSER_MAX)?;
        let log = String::from_utf8_lossy(&output.stderr);
        if let Some(line) = log.lines().find(|line| line.contains(":CONSOLE")) {
            bail!("on the console: {line}");
        }
        only_asked(
            &std::fs::read(&net).context("the browser's log of requests")?,
            addr,
        )?;
        Ok(output.stdout)
    };
    let document = browse("--dump-dom".to_owned())?;
    let document = String::from_utf8(document).context("the document")?;
    browse(format!("--screenshot={}", picture.display()))?;
    let picture = std::fs::read(&picture).context("the picture")?;
    if !picture.starts_with(b"\x89PNG") || picture.len() < PICTURE_BYTES_MIN {
        bail!("the picture of the page is empty: {} bytes", picture.len());
    }
    Ok(document)
}

/// A browser that has nothing to say to its maker, and no way to reach anybody but this machine.
fn browser(profile: &Path) -> Command {
    let mut command = Command::new(BROWSER);
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-extensions",
            "--enable-logging=stderr",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--window-size=1000,1400",
            "--hide-scrollbars",
        ])
        .arg(format!("--user-data-dir={}", profile.display()));
    command
}

fn output_within(mut command: Command, most: Duration) -> Result<std::process::Output> {
    let mut wrapped = Command::new("timeout");
    wrapped
        .arg(most.as_secs().to_string())
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null());
    command = wrapped;
    let output = command.output().context("timeout")?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr);
        bail!("{BROWSER} ended with {}: {log}", output.status);
    }
    Ok(output)
}

/// Sees that the page was asked for, and nobody else for its sake. What the browser asks on its own account belongs to other sites.
fn only_asked(log: &[u8], addr: SocketAddr) -> Result<()> {
    let log: Value = serde_json::from_slice(log).context("the browser's log of requests")?;
    let events = log.get("events").and_then(Value::as_array);
    let (own, site) = (format!("http://{addr}/"), format!("http://{} ", addr.ip()));
    let mut asked = 0;
    for event in events.context("events")? {
        let text = |key| event.get("params")?.get(key)?.as_str();
        let (Some(url), Some(site_of)) = (text("url"), text("network_isolation_key")) else {
            continue;
        };
        if url.starts_with(&own) {
            asked += 1;
        } else if format!("{site_of} ").starts_with(&site) {
            bail!("the page asks for {url}");
        }
    }
    if asked == 0 {
        bail!("the browser's log of requests does not name the page");
    }
    Ok(())
}

/// Sees that the document shows what the JSON says.
fn compare(document: &str, figures: &Value) -> Result<()> {
    let number = |key: &str| figures.get(key).and_then(Value::as_u64).unwrap_or(0);
    let over_http = |all: &str, udp: &str| number(all) - number(udp);
    let expected = [
        ("torrents", number("torrents")),
        ("seeders", number("seeders")),
        ("leechers", number("leechers")),
        ("downloads completed", number("downloaded")),
        (
            "announces over HTTP",
            over_http("announces", "announces_udp"),
        ),
        ("announces over UDP", number("announces_udp")),
        ("scrapes over HTTP", over_http("scrapes", "scrapes_udp")),
        ("requests refused", number("refused")),
    ];
    let shown = shown(document);
    for (name, expected) in expected {
        if shown.get(name).map(String::as_str) != Some(&*expected.to_string()) {
            bail!(
                "{name}: {:?} in the page, {expected} in the JSON",
                shown.get(name)
            );
        }
    }
    if number("torrents") != 3 || number("leechers") != 8 || number("refused") != 1 {
        bail!("three torrents, eight leechers and a refusal: {figures}");
    }
    let lines = drawn(document);
    if document.matches("<svg").count() != 2 || lines.len() != LINES {
        bail!("two charts with {LINES} lines, not {lines:?}");
    }
    Ok(())
}

/// What stands in the tiles and in the table of counts, by name.
fn shown(document: &str) -> BTreeMap<String, String> {
    let tiles = document.split("<b>").skip(1).filter_map(|tile| {
        let (number, rest) = tile.split_once("</b><span>")?;
        Some((rest.split_once('<')?.0, number))
    });
    let rows = document.split("<tr><td>").skip(1).filter_map(|row| {
        let (name, rest) = row.split_once("</td><td class=\"n\">")?;
        Some((name, rest.split_once('<')?.0))
    });
    let all = tiles.chain(rows);
    all.map(|(name, number)| (name.to_owned(), number.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_else_is_asked_for_the_page_is_named() {
        let addr: SocketAddr = "127.0.0.1:7".parse().unwrap();
        let event = |url: &str, site: &str| {
            let site = format!("{site} {site}");
            serde_json::json!({"params": {"url": url, "network_isolation_key": site}})
        };
        let own = event("http://127.0.0.1:7/stats", "http://127.0.0.1");
        let maker = event("https://update.example/x", "null");
        let other = event("https://fonts.example/x", "http://127.0.0.1");
        let rows = [
            (vec![], false),
            (
                vec![own.clone(), maker.clone(), serde_json::json!({})],
                true,
            ),
            (vec![maker], false),
            (vec![own, other], false),
        ];
        for (events, good) in rows {
            let log = serde_json::json!({"events": events}).to_string();
            assert_eq!(only_asked(log.as_bytes(), addr).is_ok(), good, "{log}");
        }
    }

    #[test]
    fn numbers_and_lines_are_read() {
        let document = "<div class=\"card\"><b>3</b><span>torrents</span></div><tr><td>a b</td><td class=\"n\">7</td></tr>\
            <polyline class=\"line0\" points=\"1,2 3,4\"></polyline><polyline points=\"1,2\"/>";
        let shown = shown(document);
        assert_eq!(shown.get("torrents").map(String::as_str), Some("3"));
        assert_eq!(shown.get("a b").map(String::as_str), Some("7"));
        assert_eq!(drawn(document), [2, 1]);
    }
}
