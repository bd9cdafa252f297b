//! The command line, or the settings file, by which each program does what its [`Place`] says.

use std::fs;
use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::client::{API_PORT, Place, RTORRENT_SOCKET, Role, Source, Tools};

pub(super) fn bt(role: Role, place: &Place<'_>, tools: &Tools) -> Command {
    let mut command = Command::new(&tools.bt);
    command
        .arg(if role == Role::Seed { "seed" } else { "get" })
        .arg(place.source.as_arg())
        .arg("-d")
        .arg(place.data)
        .arg("--port")
        .arg(place.port().to_string())
        .arg("--json");
    if let Some(ip) = place.bind() {
        command.arg("--bind").arg(ip.to_string());
    }
    for peer in place.peers {
        command.arg("--peer").arg(peer.to_string());
    }
    let ways = &place.ways;
    for node in &ways.dht {
        command.arg("--dht-bootstrap").arg(node.to_string());
    }
    if ways.dht.is_empty() {
        command.arg("--no-dht");
    }
    if !ways.pex {
        command.arg("--no-pex");
    }
    if !ways.lsd {
        command.arg("--no-lsd");
    }
    if ways.slow {
        command.args(["--up-limit", "1Ki", "--down-limit", "1Ki"]);
    }
    if let Some(limit) = place.up_limit {
        command.arg("--up-limit").arg(limit.to_string());
    }
    if place.super_seed {
        command.arg("--super-seed");
    }
    if ways.stays && role == Role::Leech {
        command.arg("--seed");
    }
    command
}

/// Addresses with commas between them.
fn list(addrs: &[SocketAddrV4]) -> String {
    let addrs: Vec<String> = addrs.iter().map(ToString::to_string).collect();
    addrs.join(",")
}

pub(super) fn libtorrent(place: &Place<'_>, tools: &Tools) -> Command {
    let ways = &place.ways;
    let mut command = Command::new(&tools.python);
    command
        .arg(&tools.script)
        .arg("share")
        .arg(place.source.as_arg())
        .arg(place.data)
        .arg(place.listen.to_string());
    command.arg(format!("--peers={}", place.peers()));
    if let Some(script) = place.done {
        command.arg(format!("--done={}", script.display()));
    }
    if !ways.dht.is_empty() {
        command.arg(format!("--dht={}", list(&ways.dht)));
    }
    for (wanted, flag) in [
        (ways.pex, "--pex"),
        (ways.lsd, "--lsd"),
        (ways.ipv6, "--ipv6"),
        (ways.slow, "--slow"),
    ] {
        if wanted {
            command.arg(flag);
        }
    }
    if let Some(limit) = place.up_limit {
        command.env("UP_LIMIT", limit.to_string());
    }
    if place.super_seed {
        command.env("SUPER_SEED", "1");
    }
    command
}

pub(super) fn rqbit(place: &Place<'_>, tools: &Tools) -> Command {
    let ways = &place.ways;
    let mut command = Command::new(&tools.rqbit);
    command.args(["-v", "info", "--disable-upnp-port-forward"]);
    match ways.dht.is_empty() {
        true => command.arg("--disable-dht"),
        false => command.arg(format!("--dht-bootstrap-addrs={}", list(&ways.dht))),
    };
    if !ways.lsd {
        command.arg("--disable-lsd");
    }
    if !ways.ipv6 {
        command.arg("--ipv4-only");
    }
    if ways.slow {
        command.args(["--ratelimit-upload=1024", "--ratelimit-download=1024"]);
    }
    if let Some(limit) = place.up_limit {
        command.arg("--ratelimit-upload").arg(limit.to_string());
    }
    command.arg("--listen-port").arg(place.port().to_string());
    if let Some(ip) = place.bind() {
        command.arg("--listen-ip").arg(ip.to_string());
        let api = SocketAddrV4::new(ip, API_PORT);
        command.arg("--http-api-listen-addr").arg(api.to_string());
    }
    command
        .args(["download", "--overwrite", "-o"])
        .arg(place.data);
    if !place.peers.is_empty() {
        command.arg("--initial-peers").arg(place.peers());
    }
    command.arg(place.source.as_arg());
    command
}

/// It has one port for peers and one for the DHT, on every address of its host.
pub(super) fn webtorrent(place: &Place<'_>, tools: &Tools) -> Command {
    let ways = &place.ways;
    let mut command = Command::new(&tools.node);
    command
        .arg(&tools.node_script)
        .arg(&tools.node_modules)
        .arg(place.source.as_arg())
        .arg(place.data)
        .arg(place.port().to_string());
    if !ways.dht.is_empty() {
        command.arg(format!("--dht={}", list(&ways.dht)));
    }
    for (wanted, flag) in [
        (ways.pex, "--pex"),
        (ways.lsd, "--lsd"),
        (ways.slow, "--slow"),
    ] {
        if wanted {
            command.arg(flag);
        }
    }
    command
}

/// The daemon finds a torrent file in its watch folder. It takes no link there; that is told it once it is up.
pub(super) fn transmission(place: &Place<'_>) -> Result<Command> {
    let (watch, config) = (place.home.join("watch"), place.home.join("config"));
    fs::create_dir_all(&watch).context("a watch folder")?;
    fs::create_dir_all(&config).context("a settings folder")?;
    let ways = &place.ways;
    let mut settings = json!({
        "peer-port": place.port(), "dht-enabled": !ways.dht.is_empty(), "lpd-enabled": ways.lsd,
        "pex-enabled": ways.pex, "utp-enabled": false, "encryption": 0,
        "port-forwarding-enabled": false, "rpc-enabled": matches!(place.source, Source::Link(_)),
        "download-dir": place.data, "incomplete-dir-enabled": false,
        "start-added-torrents": true, "watch-dir": watch, "watch-dir-enabled": true,
        "trash-original-torrent-files": false, "message-level": 2,
        "speed-limit-up-enabled": ways.slow || place.up_limit.is_some(),
        "speed-limit-up": place.up_limit.map_or(1, |limit| limit / 1000),
        "speed-limit-down": 1, "speed-limit-down-enabled": ways.slow,
        "script-torrent-done-enabled": place.done.is_some(),
        "script-torrent-done-filename": place.done.unwrap_or(Path::new("")),
    });
    if let (Some(ip), Some(settings)) = (place.bind(), settings.as_object_mut()) {
        settings.insert("bind-address-ipv4".to_owned(), json!(ip));
        settings.insert("bind-address-ipv6".to_owned(), json!("::1"));
    }
    fs::write(config.join("settings.json"), settings.to_string()).context("settings")?;
    if !ways.dht.is_empty() {
        // The nodes of an earlier run, which it believes to have had.
        let mut known = b"d2:id20:an id of 20 bytes...5:nodes".to_vec();
        known.extend(format!("{}:", 6 * ways.dht.len()).into_bytes());
        for node in &ways.dht {
            known.extend(node.ip().octets());
            known.extend(node.port().to_be_bytes());
        }
        known.push(b'e');
        fs::write(config.join("dht.dat"), known).context("nodes to begin with")?;
    }
    let daemon = ["transmission-daemon", "--foreground", "--config-dir"];
    let mut command;
    match place.source {
        Source::File(torrent) => {
            fs::copy(torrent, watch.join("it.torrent")).context("a torrent to watch")?;
            command = Command::new(daemon[0]);
            command.args(&daemon[1..]).arg(config);
        }
        Source::Link(link) => {
            let add = "until transmission-remote --add \"$0\"; do sleep 0.1; done & exec \"$@\"";
            command = Command::new("sh");
            command.args(["-c", add, link]).args(daemon).arg(config);
        }
    }
    Ok(command)
}

pub(super) fn aria2(role: Role, place: &Place<'_>) -> Command {
    let ways = &place.ways;
    let mut command = Command::new("aria2c");
    command.args([
        "--no-conf",
        "--file-allocation=none",
        "--summary-interval=0",
        "--show-console-readout=false",
        "--seed-ratio=0",
        "--seed-time=1000",
    ]);
    command
        .arg(format!("--listen-port={}", place.port()))
        .arg(format!("--dir={}", place.data.display()));
    command
        .arg(format!("--enable-dht={}", !ways.dht.is_empty() || ways.udp))
        .arg(format!("--dht-listen-port={}", place.port()))
        .arg(format!(
            "--dht-file-path={}",
            place.home.join("dht").display()
        ))
        .arg(format!("--bt-enable-lpd={}", ways.lsd))
        .arg(format!("--enable-peer-exchange={}", ways.pex))
        .arg(format!("--disable-ipv6={}", !ways.ipv6));
    if let Some(node) = ways.dht.first() {
        command.arg(format!("--dht-entry-point={node}"));
    }
    if ways.slow {
        command.args(["--max-upload-limit=1K", "--max-download-limit=1K"]);
    }
    if let Some(limit) = place.up_limit {
        command.arg(format!("--max-overall-upload-limit={limit}"));
    }
    if let Some(ip) = place.bind() {
        command.arg(format!("--interface={ip}"));
    }
    if let Some(script) = place.done {
        command.arg(format!("--on-bt-download-complete={}", script.display()));
    }
    if role == Role::Seed {
        command.arg("--check-integrity=true");
    }
    command.arg(place.source.as_arg());
    command
}

pub(super) fn rtorrent(place: &Place<'_>) -> Result<Command> {
    let session = place.home.join("session");
    fs::create_dir_all(&session).context("a session folder")?;
    let port = place.port();
    let ways = &place.ways;
    let word = |wanted: bool| if wanted { "yes" } else { "no" };
    let mut settings = format!(
        "directory.default.set = {}\nsession.path.set = {}\nnetwork.port_range.set = {port}-{port}\n\
         network.port_random.set = no\nprotocol.pex.set = {}\ntrackers.use_udp.set = {}\n\
         protocol.encryption.set = none\nsystem.daemon.set = true\n",
        place.data.display(),
        session.display(),
        word(ways.pex),
        word(ways.udp),
    );
    match ways.dht.first() {
        Some(node) => {
            settings += &format!(
                "dht.port.set = {port}\ndht.mode.set = on\nschedule2 = join, 1, 0, \"dht.add_node={node}\"\n"
            );
        }
        None => settings += "dht.mode.set = off\n",
    }
    if ways.slow {
        settings += "throttle.global_up.max_rate.set_kb = 1\n";
        settings += "throttle.global_down.max_rate.set_kb = 1\n";
    }
    if let Some(limit) = place.up_limit {
        settings += &format!("throttle.global_up.max_rate.set_kb = {}\n", limit / 1024);
    }
    if let Some(ip) = place.bind() {
        settings += &format!("network.bind_address.set = {ip}\n");
    }
    if place.done.is_some() {
        let socket = place.home.join(RTORRENT_SOCKET);
        settings += &format!("network.scgi.open_local = {}\n", socket.display());
    }
    settings += &format!("load.start = {}\n", place.source.as_arg().display());
    let file = place.home.join("rtorrent.rc");
    fs::write(&file, settings).context("settings")?;
    let mut command = Command::new("rtorrent");
    command
        .arg("-n")
        .arg("-o")
        .arg(format!("import={}", file.display()))
        .env("TERM", "xterm");
    Ok(command)
}
