//! Peers that ask what peers ask, and know what the answer has to be: of all their swarms they know each peer.

use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::talk::{self, Packets, number};
use super::{Account, Over, Target, pace};
use crate::rng::Rng;

/// Swarms, and the addresses from which each of them has a peer.
const TORRENTS: u8 = 40;
const ADDRESSES: u8 = 20;

/// How often one of them asks, over each of the transports.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// Of so many questions one is a scrape, and over HTTP one comes on a new connection.
const SCRAPE_EVERY: u64 = 5;
const NEW_EVERY: u64 = 7;

/// A client that connects asks for a connection id again after a minute.
const CONNECTION_ID_FOR: Duration = Duration::from_secs(50);

pub(super) fn over_http(target: Target, stop: &AtomicBool) -> Account {
    let mut account = Account::new("honest peers over HTTP", Over::Http);
    let mut streams: Vec<Option<TcpStream>> = (0..ADDRESSES).map(|_| None).collect();
    let (mut rng, mut turn) = (Rng::new(3), 0_u64);
    pace(&mut account, ASK_EVERY, stop, |account| {
        let (torrent, address) = whose(turn, &mut rng);
        let ip = Ipv4Addr::new(127, 0, 2, address + 1);
        let is_scrape = turn >= all() && turn.is_multiple_of(SCRAPE_EVERY);
        let hash = info_hash(b'h', torrent);
        let hash: String = hash.iter().map(|byte| format!("%{byte:02x}")).collect();
        let path = if is_scrape {
            format!("/scrape?info_hash={hash}")
        } else {
            format!(
                "/announce?info_hash={hash}&peer_id=-XB0001-0000000000{address:02}&port=6881&uploaded=0&downloaded=0&left=5&compact=1"
            )
        };
        turn += 1;
        let kept = streams.get_mut(usize::from(address)).context("a stream")?;
        if turn.is_multiple_of(NEW_EVERY) {
            *kept = None;
        }
        let asked = Instant::now();
        let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n");
        let mut answer = None;
        let mut unread = Vec::new();
        // A connection that was kept may be closed by now; then a client takes another.
        while answer.is_none() {
            let was_kept = kept.is_some();
            let mut stream = match kept.take() {
                Some(stream) => stream,
                None => talk::dial(ip, target.http)?,
            };
            talk::say(&mut stream, request.as_bytes(), false);
            answer = talk::reply(&mut stream, &mut unread)?;
            match answer {
                Some(_) => *kept = Some(stream),
                None if was_kept => {}
                None => bail!("it closed without an answer"),
            }
        }
        let answer = answer.context("an answer")?;
        let known = if turn <= all() {
            None
        } else {
            Some(u64::from(ADDRESSES))
        };
        let peers = number(&answer.body, "complete").zip(number(&answer.body, "incomplete"));
        let peers = peers.map(|(complete, incomplete)| complete + incomplete);
        if answer.status != 200
            || peers.is_none()
            || known.is_some_and(|known| peers != Some(known))
        {
            bail!(
                "{path}: {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
        }
        account.answered(1, asked..Instant::now());
        Ok(())
    });
    account
}

pub(super) fn over_udp(target: Target, stop: &AtomicBool) -> Account {
    let mut account = Account::new("honest peers over UDP", Over::Udp);
    let mut clients: Vec<Option<(Packets, Instant)>> = (0..ADDRESSES).map(|_| None).collect();
    let (mut rng, mut turn) = (Rng::new(4), 0_u64);
    pace(&mut account, ASK_EVERY, stop, |account| {
        let (torrent, address) = whose(turn, &mut rng);
        let is_scrape = turn >= all() && turn.is_multiple_of(SCRAPE_EVERY);
        turn += 1;
        let client = clients.get_mut(usize::from(address)).context("a client")?;
        client.take_if(|(_, since)| since.elapsed() > CONNECTION_ID_FOR);
        let (packets, _) = match client {
            Some(client) => client,
            None => {
                let ip = Ipv4Addr::new(127, 0, 2, address + 1);
                client.insert((Packets::connect(ip, target.udp)?, Instant::now()))
            }
        };
        let hash = info_hash(b'u', torrent);
        let (answer, span) = if is_scrape {
            packets.ask(2, &hash)?
        } else {
            packets.ask(1, &talk::announce(hash, 6881, 0))?
        };
        // Leechers and seeders of an announce, or seeders, downloads and leechers of a scrape.
        let word = |at: usize| {
            let bytes = answer
                .get(at..at + 4)
                .and_then(|bytes| bytes.try_into().ok());
            u32::from_be_bytes(bytes.unwrap_or_default())
        };
        let peers = if is_scrape {
            word(8) + word(16)
        } else {
            word(12) + word(16)
        };
        if turn > all() && peers != u32::from(ADDRESSES) {
            bail!("a swarm of {ADDRESSES} has {peers}");
        }
        account.answered(1, span);
        Ok(())
    });
    account
}

/// Questions after which each peer has announced itself.
fn all() -> u64 {
    u64::from(TORRENTS) * u64::from(ADDRESSES)
}

/// Torrent and address of a turn: each in turn at first, then at random.
fn whose(turn: u64, rng: &mut Rng) -> (u8, u8) {
    let number = if turn < all() { turn } else { rng.below(all()) };
    let (torrent, address) = (number / u64::from(ADDRESSES), number % u64::from(ADDRESSES));
    (
        u8::try_from(torrent).expect("below the number of torrents"),
        u8::try_from(address).expect("below the number of addresses"),
    )
}

fn info_hash(transport: u8, torrent: u8) -> [u8; 20] {
    let mut hash = [torrent; 20];
    hash[0] = transport;
    hash
}
