//! One node of the DHT to which a crowd announces itself: how much of it the node keeps.
//!
//! Each peer has an address of its own, asks for a token and announces with it, all as datagrams. Nobody else is there, and the
//! clock moves on by as much as all of them may take, so that nothing expires.

use bt_core::{InfoHash, Rng, Time};
use bt_dht::id::NodeId;
use bt_dht::krpc::{Body, Message, Method, Query, decode};
use bt_dht::{Config, Input, Node, Output};
use core::fmt;
use core::time::Duration;
use std::net::{Ipv4Addr, SocketAddr};

/// How long all of them take: shorter than a peer is kept, and with room for all answers.
const SPAN: Duration = Duration::from_secs(20 * 60);

/// What is left of a crowd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Peers that announced themselves.
    pub announced: usize,
    /// Announces that were confirmed.
    pub confirmed: usize,
    /// Peers that are kept, and torrents.
    pub kept: usize,
    /// Torrents that have some.
    pub torrents: usize,
    /// Bytes of their records.
    pub bytes: usize,
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "announced       {} peers", self.announced)?;
        writeln!(f, "confirmed       {}", self.confirmed)?;
        writeln!(
            f,
            "kept            {} of {} torrents",
            self.kept, self.torrents
        )?;
        write!(f, "records         {} bytes", self.bytes)
    }
}

/// Lets `peers` announce themselves for `torrents`, in turn.
#[must_use]
pub fn flood(seed: u64, peers: usize, torrents: usize) -> Stored {
    let mut rng = Rng::new(seed);
    let mut config = Config::new([1; 32]);
    // Not what is looked at here.
    config.answer_bytes_per_s = 1_000_000_000;
    let mut node = Node::new(config, seed);
    let hashes: Vec<InfoHash> = (0..torrents).map(|_| random_hash(&mut rng)).collect();
    let step = SPAN / u32::try_from(peers.max(1)).unwrap_or(u32::MAX);
    let (mut now, mut confirmed) = (Time::ZERO, 0);
    for (number, info_hash) in (0..peers).zip(hashes.iter().cycle()) {
        now += step;
        let host = u32::try_from(number).unwrap_or(u32::MAX);
        // Addresses of the internet that are nobody's in particular: from 1.0.0.0 on.
        let from = SocketAddr::from((Ipv4Addr::from_bits((1 << 24) + host), 6881));
        let id = NodeId::random(&mut rng);
        let info_hash = *info_hash;
        let Some(token) = ask(&mut node, now, from, id, Method::GetPeers { info_hash }).flatten()
        else {
            continue;
        };
        let announce = Method::AnnouncePeer {
            info_hash,
            port: 6881,
            implied_port: false,
            token,
        };
        confirmed += usize::from(ask(&mut node, now, from, id, announce).is_some());
    }
    let store = node.peer_store();
    Stored {
        announced: peers,
        confirmed,
        kept: store.peers(),
        torrents: store.torrents(),
        bytes: store.bytes(),
    }
}

fn random_hash(rng: &mut Rng) -> InfoHash {
    let mut hash = [0; 20];
    rng.fill(&mut hash);
    InfoHash(hash)
}

/// The token in the answer to a question, if there is an answer.
fn ask(
    node: &mut Node,
    now: Time,
    from: SocketAddr,
    id: NodeId,
    method: Method,
) -> Option<Option<Vec<u8>>> {
    let transaction = b"tx".to_vec();
    let query = Query {
        id,
        method,
        want: None,
        read_only: true,
    };
    let body = Body::Query(query);
    let packet = Message { transaction, body }.encode();
    node.handle(now, Input::Received { from, packet }, None);
    let mut answer = None;
    while let Some(output) = node.poll() {
        if let Output::Send { to, packet } = output
            && to == from
            && let Ok(message) = decode(&packet)
            && let Body::Response(response) = message.body
        {
            answer = Some(response.token);
        }
    }
    answer
}
