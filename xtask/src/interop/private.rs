//! A private torrent (BEP 27) asks its trackers for peers and nobody else. A packet capture shows it: of ours, while a DHT
//! node, a listener of local discovery and a peer that exchanges peers are there. The same with a public torrent shows all
//! three, or the capture would prove nothing.

use std::fs;
use std::net::{IpAddr, SocketAddrV4};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::agree;
use super::capture::{Capture, Seen};
use super::cell::{self, LOOK_EVERY};
use super::client::{ANYWHERE, Client, Place, Role, Source, Tools, Ways};
use super::net::Host;
use super::probe::Nodes;
use super::tracker::Tracker;
use crate::payload;
use crate::process::Process;
use crate::rng::Rng;

/// A public torrent has used all three by then.
const PUBLIC_PATIENCE: Duration = Duration::from_secs(60);

/// The private one is watched as long as the public one took, and so much longer.
const WATCH_LONGER: Duration = Duration::from_secs(5);

/// Long enough that nobody is done, at 1 KiB/s, before the capture is.
const PAYLOAD_BYTES: u64 = 1 << 20;

/// Runs both; how long the private torrent was watched.
pub(crate) fn hold(folder: &Path, tools: &Tools) -> Result<Duration> {
    let started = Instant::now();
    let public = watch(&folder.join("public"), false, PUBLIC_PATIENCE, tools)?;
    if !uses_all(&public) {
        bail!("a public torrent, of which all three are expected: {public:?}");
    }
    let patience = started.elapsed() + WATCH_LONGER;
    let private = watch(&folder.join("private"), true, patience, tools)?;
    // Each of ours with the other and with libtorrent.
    if private.said.connections < 4 || private.said.extended < 4 {
        bail!("the private torrent was not shared: {private:?}");
    }
    let said = private.said;
    if private.dht_at_all + private.lsd + said.pex_offered + said.pex > 0 {
        bail!("a private torrent: {private:?}");
    }
    Ok(patience)
}

fn uses_all(seen: &Seen) -> bool {
    seen.dht > 0 && seen.lsd > 0 && seen.said.pex > 0
}

/// Shares a torrent between our seeder, our leecher and libtorrent, all slow, so that all stay connected; what our two sent.
/// A public one is watched until it used all three ways, a private one to the end of `patience`.
fn watch(folder: &Path, private: bool, patience: Duration, tools: &Tools) -> Result<Seen> {
    let torrent = folder.join("it.torrent");
    let info_hash = make(folder, &torrent, private, tools)?;
    let nodes = Nodes::start(Client::Libtorrent, folder, tools)?;
    let ways = Ways {
        dht: nodes.addrs.clone(),
        pex: true,
        lsd: true,
        slow: true,
        ..Ways::default()
    };
    let hosts = [Host::new()?, Host::new()?, Host::new()?];
    let [seeder, leecher, foreign] = &hosts;
    let captures = [
        Capture::begin(&seeder.cable())?,
        Capture::begin(&leecher.cable())?,
    ];
    let start = |client, role, name: &str, host: &Host| -> Result<Process> {
        let data = match role {
            Role::Seed => folder.join("source"),
            Role::Leech => folder.join(format!("copy-{name}")),
        };
        fs::create_dir_all(&data).context("a folder for data")?;
        let place = Place {
            source: Source::File(&torrent),
            data: &data,
            home: &folder.join(name),
            listen: ANYWHERE,
            peers: &[] as &[SocketAddrV4],
            ways: ways.clone(),
            up_limit: None,
            super_seed: false,
            done: None,
        };
        cell::launch(client, role, &place, host, tools)
    };
    let processes = [
        start(Client::Libtorrent, Role::Leech, "libtorrent", foreign)?,
        start(Client::Bt, Role::Seed, "seeder", seeder)?,
        start(Client::Bt, Role::Leech, "leecher", leecher)?,
    ];
    let until = Instant::now() + patience;
    let addresses = |host: &Host| [IpAddr::V4(host.ip()), IpAddr::V6(host.ip6())];
    let mut seen = Seen::default();
    while Instant::now() < until && (private || !uses_all(&seen)) {
        std::thread::sleep(LOOK_EVERY);
        seen = Seen::default();
        for (capture, host) in captures.iter().zip([seeder, leecher]) {
            seen.add(&capture.so_far(&addresses(host), &info_hash)?);
        }
    }
    cell::end(processes)?;
    cell::end(nodes.processes)?;
    Ok(seen)
}

/// Makes data and a torrent of it; its info hash.
fn make(folder: &Path, torrent: &Path, private: bool, tools: &Tools) -> Result<Vec<u8>> {
    let source = folder.join("source").join("payload");
    fs::create_dir_all(&source).context("a folder")?;
    let mut rng = Rng::new(27 + u64::from(private));
    payload::write_file(&source.join("file"), PAYLOAD_BYTES, &mut rng)?;
    let mut create = Command::new(&tools.bt);
    create.arg("create").arg(&source).arg("-o").arg(torrent);
    create.args(["-a", &Tracker::Ours.announce_url()]);
    if private {
        create.arg("--private");
    }
    let made = create.output().context("bt create")?;
    if !made.status.success() {
        bail!(
            "bt create: {}",
            String::from_utf8_lossy(&made.stderr).trim()
        );
    }
    let hex = agree::by_bt(torrent, tools)?.info_hash;
    let info_hash = data_encoding::HEXLOWER.decode(hex.as_bytes());
    info_hash.context("an info hash")
}
