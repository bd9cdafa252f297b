//! One member of the swarm: an engine when it is up, its disk, its line, and what the oracle knows of it.

use crate::disk::{Disk, Trouble};
use crate::link::{LinkId, Side};
use crate::oracle::ledger::Ledger;
use bt_core::{Bitfield, PeerId, Time};
use bt_peer::{ConnId, Engine, Stats};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// Most connections of a node: what an engine is content with unless told otherwise.
pub(crate) const PEERS_MAX: usize = 80;

/// How a node behaves towards others. Its engine is the same in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nature {
    /// As the protocol asks.
    #[default]
    Honest,
    /// It spoils one bit of this percentage of the blocks it sends.
    Liar(u64),
    /// It takes requests and never sends a block.
    Mute,
    /// It says that it has everything, and rejects what it is asked for and lacks.
    Boaster,
    /// It unchokes nobody.
    FreeRider,
}

/// What a node is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// It has everything from the start.
    pub seeder: bool,
    /// How it behaves.
    pub nature: Nature,
    /// What its line sends, in bytes per second.
    pub up: u64,
    /// What its line receives, in bytes per second; `None`: any amount.
    pub down: Option<u64>,
    /// How long a byte takes from it to the middle of the network.
    pub latency: Duration,
    /// What its disk writes, in bytes per second.
    pub disk: u64,
    /// Others can dial it.
    pub dialable: bool,
    /// It speaks the fast extension (BEP 6).
    pub fast: bool,
    /// It shows its pieces one by one (BEP 16).
    pub super_seed: bool,
    /// Most connections at a time.
    pub peers_max: usize,
    /// It leaves as soon as it has everything.
    pub leaves: bool,
    /// It starts from a link: what it knows of the torrent is the hash (BEP 9).
    pub magnet: bool,
    /// It wants the first half of the pieces only (BEP 21: it becomes a partial seed).
    pub half: bool,
    /// Its address is of IPv6. The network carries both families from everybody to everybody.
    pub v6: bool,
    /// Its machine is busy: whatever is sent to it comes faster than it takes it.
    pub busy: bool,
    /// What its user lets it upload, in bytes per second.
    pub up_limit: Option<u64>,
    /// Its upload slots; `None`: as many as the engine thinks right.
    pub slots: Option<usize>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            seeder: false,
            nature: Nature::Honest,
            up: 1_000_000,
            down: None,
            latency: Duration::from_millis(20),
            disk: 200_000_000,
            dialable: true,
            fast: true,
            super_seed: false,
            peers_max: PEERS_MAX,
            leaves: false,
            magnet: false,
            half: false,
            v6: false,
            busy: false,
            up_limit: None,
            slots: None,
        }
    }
}

/// One member of the swarm.
pub(crate) struct Node {
    pub(crate) host: Host,
    pub(crate) addr: SocketAddr,
    pub(crate) peer_id: PeerId,
    pub(crate) disk: Box<dyn Disk>,
    /// `None` while the node is down.
    pub(crate) engine: Option<Engine>,
    /// One more with each start, so that what was meant for an earlier run is not given to a later one.
    pub(crate) run: u64,
    /// The pieces whose hash the disk found right, as the oracle saw it.
    pub(crate) verified: Bitfield,
    /// The pieces that its user wants.
    pub(crate) wanted: Bitfield,
    pub(crate) conns: BTreeMap<ConnId, (LinkId, Side)>,
    /// The number of the next connection that it accepts; odd.
    pub(crate) next_conn: u64,
    /// The ends with something to send, each once, in turn.
    pub(crate) line: VecDeque<(LinkId, Side)>,
    pub(crate) line_busy: bool,
    pub(crate) down_free_at: Time,
    pub(crate) disk_free_at: Time,
    /// What is wrong with its disk.
    pub(crate) trouble: Option<Trouble>,
    /// Pieces that went bad on its disk, and it does not know yet.
    pub(crate) rotten: Bitfield,
    /// What its disk writes now, in bytes per second.
    pub(crate) disk_rate: u64,
    /// What it sends is under way for so much longer.
    pub(crate) lag: Duration,
    /// It sends nothing before this.
    pub(crate) frozen_until: Time,
    /// Its resume state is going to be saved.
    pub(crate) save_planned: bool,
    /// The books of its run.
    pub(crate) ledger: Ledger,
    /// It knows what the torrent is. Who starts from a link keeps it from the first time on.
    pub(crate) described: bool,
    /// The next wake-up that is planned.
    pub(crate) wake_at: Option<Time>,
    pub(crate) completed_at: Option<Time>,
    /// It will not come back.
    pub(crate) gone: bool,
    /// The numbers of earlier runs.
    past: Stats,
}

impl Node {
    pub(crate) fn new(host: Host, addr: SocketAddr, disk: Box<dyn Disk>, pieces: u32) -> Self {
        Self {
            host,
            addr,
            peer_id: PeerId([0; 20]),
            disk,
            engine: None,
            run: 0,
            verified: Bitfield::new(pieces),
            wanted: wanted(host, pieces),
            conns: BTreeMap::new(),
            next_conn: 1,
            line: VecDeque::new(),
            line_busy: false,
            down_free_at: Time::ZERO,
            disk_free_at: Time::ZERO,
            trouble: None,
            rotten: Bitfield::new(pieces),
            disk_rate: host.disk,
            lag: Duration::ZERO,
            frozen_until: Time::ZERO,
            save_planned: false,
            ledger: Ledger::default(),
            described: !host.magnet,
            wake_at: None,
            completed_at: None,
            gone: false,
            past: Stats::default(),
        }
    }

    /// True if the swarm's success hangs on it: it came to download, behaves, and has not left.
    pub(crate) fn counts(&self) -> bool {
        !self.host.seeder && self.host.nature == Nature::Honest && !self.gone
    }

    /// True if it has all that it wants.
    pub(crate) fn is_sated(&self) -> bool {
        !self.wanted.has_more_than(&self.verified)
    }

    /// Ends the engine's run, and keeps its numbers.
    pub(crate) fn stop(&mut self, now: Time) {
        self.past = self.stats(now);
        self.engine = None;
        self.run += 1;
        self.conns.clear();
        self.line.clear();
        self.wake_at = None;
        self.save_planned = false;
        self.ledger = Ledger::default();
    }

    /// The numbers of all runs together.
    pub(crate) fn stats(&self, now: Time) -> Stats {
        let current = self.engine.as_ref().map(|engine| engine.stats(now));
        let current = current.unwrap_or_default();
        Stats {
            downloaded: self.past.downloaded + current.downloaded,
            uploaded: self.past.uploaded + current.uploaded,
            wasted: self.past.wasted + current.wasted,
            hash_failures: self.past.hash_failures + current.hash_failures,
            ..current
        }
    }
}

fn wanted(host: Host, pieces: u32) -> Bitfield {
    let mut wanted = Bitfield::full(pieces);
    if host.half {
        let all: Vec<_> = wanted.iter().collect();
        for piece in all.iter().skip(all.len().div_ceil(2)) {
            wanted.clear(*piece);
        }
    }
    wanted
}
