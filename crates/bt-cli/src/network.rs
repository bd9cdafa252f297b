//! The network options, and the sources that come over the network.

use crate::exit::{Exit, Failure};
use crate::source::Source;
use crate::stop::Stop;
use crate::units;
use anyhow::Context as _;
use bt_metainfo::Metainfo;
use bt_session::dht::{BOOTSTRAP, DhtConfig};
use bt_session::lsd::LsdConfig;
use bt_session::{SessionConfig, TorrentOptions, TrackerDns};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use tokio::runtime::Handle;

/// How to take part in swarms.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Network options")]
pub(crate) struct NetworkArgs {
    /// Listen on this address only, and dial peers and ask trackers from it
    #[arg(long, value_name = "ADDR")]
    bind: Option<IpAddr>,
    /// Listen on this port; 0 takes any [default: the first free of 6881 to 6889, else any]
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Connect to this peer, without a tracker; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    peer: Vec<String>,
    /// Download at most so many bytes per second, such as 2M or 500Ki
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    down_limit: Option<u64>,
    /// Upload at most so many bytes per second
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    up_limit: Option<u64>,
    /// Connect to at most so many peers for each torrent
    #[arg(long, value_name = "N", value_parser = parse_count)]
    max_peers: Option<usize>,
    /// Upload to at most so many peers at a time for each torrent [default: by the upload rate]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    upload_slots: Option<usize>,
    /// Show each peer a piece or two of complete torrents at a time, and each piece to one peer first
    #[arg(long)]
    super_seed: bool,
    /// Ask no tracker
    #[arg(long)]
    no_tracker: bool,
    #[command(flatten)]
    tracker_dns: TrackerDnsArgs,
    /// Do not exchange addresses of peers with peers
    #[arg(long)]
    no_pex: bool,
    /// Do not look for peers on the local network
    #[arg(long)]
    no_lsd: bool,
    /// Take no part in the DHT
    #[arg(long)]
    no_dht: bool,
    /// Join the DHT through this node instead of the well-known ones; may be repeated
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "no_dht")]
    dht_bootstrap: Vec<String>,
}

/// Where trackers' hosts are looked up.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TrackerDnsArgs {
    /// Ask this name server on which ports a tracker's host wants to be asked (BEP 34): an address, system, or off
    #[arg(long, value_name = "ADDR", default_value_t)]
    pub(crate) tracker_dns: TrackerDns,
}

fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("'{text}' is not a number from 1 on")),
        Ok(count) => Ok(count),
    }
}

impl NetworkArgs {
    /// The address to listen on, if it was chosen.
    pub(crate) const fn bind(&self) -> Option<IpAddr> {
        self.bind
    }

    /// What all torrents share.
    pub(crate) fn session(&self) -> SessionConfig {
        SessionConfig {
            bind: self.bind,
            port: self.port,
            state_dir: state_dir(),
            down_limit: self.down_limit,
            up_limit: self.up_limit,
            dht: self.dht(),
            threads: None,
            tracker_dns: self.tracker_dns.tracker_dns,
            lsd: (!self.no_lsd).then(LsdConfig::default),
        }
    }

    fn dht(&self) -> Option<DhtConfig> {
        if self.no_dht {
            return None;
        }
        Some(DhtConfig {
            bootstrap: dht_bootstrap(&self.dht_bootstrap, self.bind),
            state_dir: state_dir(),
            on_demand: true,
            ..DhtConfig::default()
        })
    }

    /// What each torrent is told.
    ///
    /// # Errors
    /// If a peer's name has no address.
    pub(crate) async fn torrent(&self) -> Result<TorrentOptions, Failure> {
        let mut peers = Vec::new();
        for peer in &self.peer {
            peers.extend(addresses("--peer ", peer).await?);
        }
        Ok(TorrentOptions {
            peers,
            super_seed: self.super_seed,
            no_tracker: self.no_tracker,
            no_pex: self.no_pex,
            peers_max: self.max_peers,
            upload_slots: self.upload_slots,
            ..TorrentOptions::default()
        })
    }
}

/// Where to join the DHT: as the user says, else at the well-known nodes, which a loopback address does not reach.
pub(crate) fn dht_bootstrap(named: &[String], bind: Option<IpAddr>) -> Vec<String> {
    if named.is_empty() && !bind.is_some_and(|ip| ip.is_loopback()) {
        return BOOTSTRAP.map(str::to_owned).to_vec();
    }
    named.to_vec()
}

/// Where a place is that the user named, behind `option`.
///
/// # Errors
/// If it is no address or name with a port, or the name has no address.
pub(crate) async fn addresses(option: &str, place: &str) -> Result<Vec<SocketAddr>, Failure> {
    let found = tokio::net::lookup_host(place).await;
    let found: Vec<_> = found.into_iter().flatten().collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let is_whole = place.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(':') && port.parse::<u16>().is_ok()
    });
    let (exit, message) = match is_whole {
        true => (Exit::Network, "the name has no address"),
        false => (Exit::Usage, "not an address or name with a port behind it"),
    };
    Err(Failure::new(exit, format!("{option}{place}: {message}")))
}

/// Where resume state is kept: `$XDG_STATE_HOME/bt`, else `~/.local/state/bt`. Never beside the data.
pub(crate) fn state_dir() -> Option<PathBuf> {
    let absolute = |name| {
        let path = std::env::var_os(name).map(PathBuf::from);
        // The XDG base directory specification: relative paths are to be ignored.
        path.filter(|path| path.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local").join("state")));
    if state.is_none() {
        tracing::warn!("neither XDG_STATE_HOME nor HOME is set: no resume state is kept");
    }
    state.map(|state| state.join("bt"))
}

/// As many arguments are read by one thread at least: below that, starting one costs more than it saves.
const SHARE_MIN: usize = 64;

/// The torrents that the arguments name, in their order: see [`load`]. Thousands are read on all cores.
///
/// # Errors
/// Those of [`load`], for the first argument that has any.
pub(crate) async fn load_all(arguments: &[String], stop: &Stop) -> Result<Vec<Metainfo>, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = arguments.len().div_ceil(cores).max(SHARE_MIN);
    let runtime = Handle::current();
    let mut shares = Vec::new();
    for arguments in arguments.chunks(share) {
        let (arguments, stop) = (arguments.to_vec(), stop.clone());
        let runtime = runtime.clone();
        shares.push(tokio::task::spawn_blocking(move || {
            let mut torrents = Vec::with_capacity(arguments.len());
            for argument in &arguments {
                torrents.push(runtime.block_on(load(argument, &stop))?);
            }
            Ok::<_, Failure>(torrents)
        }));
    }
    let mut torrents = Vec::with_capacity(arguments.len());
    for share in shares {
        torrents.append(&mut share.await.context("the reading ended early")??);
    }
    Ok(torrents)
}

/// The torrent that an argument names: a `.torrent` file, or the `http` or `https` URL of one.
///
/// # Errors
/// If it cannot be had, is invalid, or is a magnet link; or the user does not want to wait for it.
pub(crate) async fn load(argument: &str, stop: &Stop) -> Result<Metainfo, Failure> {
    match Source::load(argument, stop.clone()).await? {
        Source::Torrent(metainfo) => Ok(*metainfo),
        Source::Magnet(_) => Err(Failure::new(
            Exit::Invalid,
            format!(
                "{argument}: a magnet link or info hash does not tell what the torrent is; give it the .torrent \
                 file or its URL (`bt get --save-torrent` makes one)"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_torrents_come_in_the_order_of_their_arguments_and_the_first_fault_counts() {
        let temp = tempfile::tempdir().unwrap();
        let count = 3 * SHARE_MIN + 1;
        let name = |index: usize| temp.path().join(format!("{index}.torrent"));
        for index in 0..count {
            let digits = index.to_string();
            let text = format!(
                "d4:infod6:lengthi1e4:name{}:{digits}12:piece lengthi1e6:pieces20:{}ee",
                digits.len(),
                "a".repeat(20)
            );
            std::fs::write(name(index), text).unwrap();
        }
        let arguments: Vec<String> = (0..count)
            .map(|index| name(index).display().to_string())
            .collect();
        let stop = Stop::never();
        let torrents = load_all(&arguments, &stop).await.unwrap();
        let names: Vec<usize> = torrents
            .iter()
            .map(|torrent| torrent.info.name().parse().unwrap())
            .collect();
        assert_eq!(names, (0..count).collect::<Vec<_>>());
        for faulty in [SHARE_MIN + 3, 3 * SHARE_MIN] {
            std::fs::write(name(faulty), "nothing").unwrap();
        }
        let failure = load_all(&arguments, &stop).await.unwrap_err();
        let expected = format!("{}.torrent", SHARE_MIN + 3);
        assert!(
            failure.exit == Exit::Invalid && failure.to_string().contains(&expected),
            "{failure}"
        );
    }

    #[tokio::test]
    async fn peers_are_addresses_or_names_with_a_port() {
        let found = addresses("", "127.0.0.1:6881").await.unwrap();
        assert_eq!(found, ["127.0.0.1:6881".parse().unwrap()]);
        assert_eq!(addresses("", "[::1]:1").await.unwrap().len(), 1);
        for wrong in ["127.0.0.1", "", ":", ":1", "::1", "host:port", "host:65536"] {
            let failure = addresses("--peer ", wrong).await.unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{wrong}");
        }
        // A label of 64 letters is no name.
        let nowhere = format!("{}:1", "a".repeat(64));
        let failure = addresses("--peer ", &nowhere).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Network);
        let message = format!("--peer {nowhere}: the name has no address");
        assert_eq!(failure.to_string(), message);
    }
}
