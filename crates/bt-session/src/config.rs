//! What a user may set for a session and for each torrent in it.

use crate::dht::DhtConfig;
use crate::lsd::LsdConfig;
use crate::preferences::TrackerDns;
use bt_core::Bitfield;
use bt_metainfo::Info;
use bt_storage::Allocation;
use core::fmt;
use core::time::Duration;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// The ports that are tried in turn if none is named (BEP 3, "trackers": 6881 to 6889).
pub const PORTS: core::ops::RangeInclusive<u16> = 6881..=6889;

/// Most connections of one torrent unless the user says otherwise.
///
/// Beyond some dozens more peers rarely add speed, and each costs `have` traffic.
pub const PEERS_MAX: usize = 80;

/// How long a stop may take for telling the trackers before it goes on without them.
pub const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// Settings that all torrents of a session share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionConfig {
    /// The only local address to listen on, dial from and ask trackers from. `None`: all addresses of both families.
    pub bind: Option<IpAddr>,
    /// The port to listen on; 0 for any. `None`: the first free of [`PORTS`], else any.
    pub port: Option<u16>,
    /// Where resume state is kept. `None`: nowhere; every start then hashes all data.
    pub state_dir: Option<PathBuf>,
    /// Download limit over all torrents, in payload bytes per second.
    pub down_limit: Option<u64>,
    /// Upload limit over all torrents, in payload bytes per second.
    pub up_limit: Option<u64>,
    /// Take part in the DHT. `None`: do not.
    pub dht: Option<DhtConfig>,
    /// Threads on which torrents run, each torrent with all its connections on one of them. `None`: one for each core. 0:
    /// none; torrents then run in the runtime in which the session is made.
    pub threads: Option<usize>,
    /// Who is asked in DNS which trackers a host runs (BEP 34).
    pub tracker_dns: TrackerDns,
    /// Look for peers on the local network (BEP 14). `None`: do not.
    pub lsd: Option<LsdConfig>,
}

/// Settings of one torrent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TorrentOptions {
    /// The pieces that are wanted. `None`: all, or those that [`choose`](Self::choose) names.
    pub wanted: Option<Bitfield>,
    /// Of a torrent that starts from a magnet link: which pieces are wanted, once it is known what there is. `None`: what
    /// the link says (BEP 53), else all.
    pub choose: Option<Choose>,
    /// Ask for pieces in order instead of rarest first.
    pub sequential: bool,
    /// Show peers a torrent that is complete piece by piece, each once before any twice (BEP 16).
    pub super_seed: bool,
    /// Ask no tracker.
    pub no_tracker: bool,
    /// Tell peers of nobody, and hear of nobody from them (BEP 11).
    pub no_pex: bool,
    /// The address that trackers are asked to hand out instead of the one that they see. Most do not believe it.
    pub announce_ip: Option<IpAddr>,
    /// Peers that are known without a tracker.
    pub peers: Vec<SocketAddr>,
    /// Most connections. `None`: [`PEERS_MAX`].
    pub peers_max: Option<usize>,
    /// Upload slots. `None`: chosen by measured rate.
    pub upload_slots: Option<usize>,
    /// Once all that is wanted is there, stop uploading at so many payload bytes, and say so with
    /// [`Event::UploadGoalReached`](bt_peer::Event::UploadGoalReached).
    pub upload_goal: Option<u64>,
    /// How files get their length.
    pub allocation: Allocation,
    /// Replace what stands in the place of the torrent's files, even if no download of ours put it there.
    pub force: bool,
    /// The data is complete and only read: no file is made or opened for writing, and the data folder may be read-only.
    pub seed_only: bool,
    /// All data is there and right, as the caller has just found out: nothing is hashed at the start.
    pub trusted: bool,
}

/// Says which pieces are wanted of a torrent that has just become known, or why it makes no sense; `None` for all.
#[derive(Clone)]
pub struct Choose(Arc<Rule>);

type Rule = dyn Fn(&Info) -> Result<Option<Bitfield>, String> + Send + Sync;

impl Choose {
    /// A choice by this rule.
    pub fn new(
        rule: impl Fn(&Info) -> Result<Option<Bitfield>, String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(rule))
    }

    pub(crate) fn pieces(&self, info: &Info) -> Result<Option<Bitfield>, String> {
        (self.0)(info)
    }
}

impl fmt::Debug for Choose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Choose")
    }
}

/// Two choices are the same if they are one.
impl PartialEq for Choose {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Choose {}
