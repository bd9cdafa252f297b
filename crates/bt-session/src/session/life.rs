//! A torrent's life, from its start to what its owner hears last.
//!
//! **Invariant:** whatever ends it, a panic too, ends nothing else, and is told.

use super::{Registered, Shared};
use crate::config::TorrentOptions;
use crate::handle::{Failure, Phase, TorrentEvent};
use crate::metadata::{self, Unopened};
use crate::torrent::{Ends, Torrent};
use crate::{open, torrent};
use bt_core::{InfoHash, PeerId};
use bt_metainfo::{Magnet, Metainfo};
use bt_peer::Unknown;
use core::panic::AssertUnwindSafe;
use core::pin::pin;
use core::task::Poll;
use std::net::SocketAddr;
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Lists of peers, from the DHT or the local network, that wait for a torrent's task; more are lost, and found again.
const GOSSIP_MAX: usize = 16;

/// What a torrent starts from.
pub(super) struct Start {
    pub(super) origin: Origin,
    pub(super) dir: PathBuf,
    pub(super) options: TorrentOptions,
}

/// What is known of a torrent when it starts.
pub(super) enum Origin {
    Torrent(Metainfo),
    Magnet(Magnet),
}

/// A torrent's whole life, whatever ends it.
///
/// What is awaited is on the heap, and what only the start needs is gone when it is over: of ten thousand torrents most
/// wait in their task for somebody to want something. `load` is dropped with the torrent.
pub(super) async fn live(
    shared: Arc<Shared>,
    info_hash: InfoHash,
    start: Box<Start>,
    mut ends: Ends,
    load: Arc<()>,
) {
    let ended = caught(Box::pin(start_and_run(&shared, start, &mut ends))).await;
    shared.torrents().remove(&info_hash);
    ends.inbox.close();
    let event = match ended {
        Ok(()) => TorrentEvent::Stopped,
        Err(failure) => {
            tracing::debug!(%info_hash, %failure, "torrent stopped");
            TorrentEvent::Failed(failure)
        }
    };
    // First the numbers, so that whoever hears the last event finds the last ones.
    ends.status.update(|shown| {
        shown.phase = Phase::Stopped;
        shown.pieces_checked = 0;
    });
    // Nobody may be listening.
    let _ = ends.events.send(event);
    drop(load);
}

/// What comes of `work`, even if it panics.
async fn caught(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let mut work = pin!(work);
    core::future::poll_fn(|context| {
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(poll) => poll,
            Err(panic) => Poll::Ready(Err(Failure::Bug {
                message: message_of(panic.as_ref()),
            })),
        }
    })
    .await
}

async fn start_and_run(
    shared: &Arc<Shared>,
    start: Box<Start>,
    ends: &mut Ends,
) -> Result<(), Failure> {
    let turn = match &start.origin {
        Origin::Torrent(_) => tokio::select! {
            turn = shared.openers.turn() => turn,
            () = ends.inbox.stop() => return Ok(()),
        },
        // It asks peers what it is before there is anything to open.
        Origin::Magnet(_) => None,
    };
    let Some((mut running, peers)) = Box::pin(prepare(shared, start, turn, ends)).await? else {
        return Ok(());
    };
    Box::pin(join(shared, &running, ends)).await;
    let result = running.run(ends, peers).await;
    Box::pin(leave(shared, &mut running, ends)).await;
    ends.status.update(|shown| *shown = running.status());
    result
}

/// A torrent that is ready to run, and the peers that are known before; `None` if it was told to stop.
async fn prepare(
    shared: &Arc<Shared>,
    start: Box<Start>,
    turn: Option<OwnedSemaphorePermit>,
    ends: &Ends,
) -> Result<Option<(Box<Torrent>, Vec<SocketAddr>)>, Failure> {
    let mut options = start.options;
    let mut peers = core::mem::take(&mut options.peers);
    let metainfo = match start.origin {
        Origin::Torrent(metainfo) => metainfo,
        Origin::Magnet(magnet) => {
            peers.extend(&magnet.peers);
            match metadata::kept(shared, &magnet).await {
                Some(metainfo) => {
                    options.wanted = metadata::wanted(&magnet, &metainfo.info, &options)?;
                    let known = Arc::new(metainfo.clone());
                    let _ = ends.events.send(TorrentEvent::Metadata(known));
                    metainfo
                }
                None => {
                    let unopened = Unopened {
                        magnet,
                        dir: start.dir,
                        options,
                    };
                    return Ok(Some((fetching(shared, unopened, ends), peers)));
                }
            }
        }
    };
    name_nodes(shared, &metainfo).await;
    let opened = tokio::select! {
        opened = open::open(shared, metainfo, start.dir, &options, turn, &ends.status) => opened?,
        // Other commands wait until it runs.
        () = ends.inbox.stop() => return Ok(None),
    };
    let checked = opened.checked();
    for message in &opened.notes {
        torrent::warn(message.clone(), &ends.events);
    }
    let peer_id = opened.config.peer_id;
    let running = Box::new(Torrent::new(Arc::clone(shared), opened));
    register(shared, &running, peer_id, ends);
    // Nobody may be listening.
    let _ = ends.events.send(checked);
    Ok(Some((running, peers)))
}

/// A torrent of which only a magnet link is known.
fn fetching(shared: &Arc<Shared>, unopened: Unopened, ends: &Ends) -> Box<Torrent> {
    let config = open::configure(shared, &unopened.options);
    let peer_id = config.peer_id;
    let magnet = &unopened.magnet;
    let info_hash = magnet
        .info_hash
        .expect("a link without it is refused before");
    let tiers = magnet.trackers.iter().map(|url| vec![url.clone()]);
    let unknown = Unknown {
        info_hash,
        trackers: tiers.collect(),
    };
    let running = Torrent::fetching(Arc::clone(shared), unknown, config, unopened);
    let running = Box::new(running);
    register(shared, &running, peer_id, ends);
    running
}

/// From now on peers find the torrent, and its owner its numbers.
fn register(shared: &Shared, running: &Torrent, peer_id: PeerId, ends: &Ends) {
    let registered = Registered {
        peer_id,
        inbox: Arc::clone(&ends.inbox),
        dht: running.dht().is_some(),
    };
    shared.register(running.info_hash(), registered);
    ends.status.update(|shown| *shown = running.status());
}

/// Joins those who find peers without a tracker.
async fn join(shared: &Shared, running: &Torrent, ends: &mut Ends) {
    if running.dht().is_none() && running.lsd().is_none() {
        return;
    }
    let info_hash = running.info_hash();
    let (gossip_in, gossip) = mpsc::channel(GOSSIP_MAX);
    ends.gossip = Some(gossip);
    if let Some(dht) = running.dht() {
        dht.enter(info_hash, shared.port, gossip_in.clone()).await;
    }
    if let Some(lsd) = running.lsd() {
        lsd.enter(info_hash, gossip_in).await;
    }
}

/// Takes leave of them, and saves the resume state for the last time.
async fn leave(shared: &Shared, running: &mut Torrent, ends: &Ends) {
    let info_hash = running.info_hash();
    if let Some(dht) = &shared.dht {
        dht.leave(info_hash).await;
    }
    if let Some(lsd) = &shared.lsd {
        lsd.leave(info_hash).await;
    }
    if let Err(error) = running.save().await {
        torrent::warn(
            format!("the resume state is not saved: {error}"),
            &ends.events,
        );
    }
}

/// Tells the DHT of the nodes that a torrent names, if it names any: it has somebody to look for in either case, and may join
/// while the torrent is checked. A private one has its peers from its trackers only (BEP 27).
async fn name_nodes(shared: &Shared, metainfo: &Metainfo) {
    let dht = shared.dht.as_ref();
    if let Some(dht) = dht.filter(|_| !metainfo.info.is_private()) {
        let nodes = metainfo.nodes().iter().map(place).collect();
        dht.bootstrap(nodes).await;
    }
}

/// Where a node that a torrent names may be found.
fn place(node: &bt_metainfo::Node) -> String {
    let bt_metainfo::Node { host, port } = node;
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// What a panic said.
pub(crate) fn message_of(panic: &(dyn core::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_failure_with_its_message() {
        let plain = caught(async {
            tokio::task::yield_now().await;
            panic!("plain")
        });
        let number = 7;
        let formatted = caught(async { panic!("number {number}") });
        let mute = caught(async { std::panic::panic_any(number) });
        let told = [
            (plain.await, "plain"),
            (formatted.await, "number 7"),
            (mute.await, "without a message"),
        ];
        for (result, words) in told {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
        assert_eq!(caught(async { Ok(()) }).await, Ok(()));
    }
}
