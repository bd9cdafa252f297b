//! Over UDP: packets that are wrong in every way, and floods of right ones.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::talk::{self, Packets, packet};
use super::{Account, Over, Target, pace};
use crate::rng::Rng;

/// How often each of the kinds has a turn.
const TURN_EVERY: Duration = Duration::from_millis(20);

/// Connects of a turn: five thousand a second.
const CONNECTS_AT_A_TIME: u64 = 100;

/// Torrents of a turn: five hundred a second.
const TORRENTS_AT_A_TIME: u64 = 10;

/// Packets of noise of each kind in a turn.
const NOISE_AT_A_TIME: u64 = 5;

/// No answer is longer than fits a frame.
const ANSWER_BYTES_MAX: usize = 1_472;

/// Connects are 16 bytes, and so are the answers; who has proven nothing gets nothing longer.
const CONNECT_BYTES: usize = 16;

/// Random bytes, invented and stolen connection ids, and questions of who has proven where it is that make no sense.
pub(super) fn noise(target: Target, stop: &AtomicBool) -> Account {
    let mut account = Account::new("bad packets", Over::Udp);
    let (mut rng, mut thief, mut known) = (Rng::new(8), None, None);
    pace(&mut account, TURN_EVERY, stop, |account| {
        let thief: &UdpSocket = match &thief {
            Some(thief) => thief,
            None => thief.insert(stranger(2, target)?),
        };
        let known = match &mut known {
            Some(known) => known,
            None => known.insert(Packets::connect(Ipv4Addr::new(127, 0, 9, 1), target.udp)?),
        };
        for _ in 0..NOISE_AT_A_TIME {
            unproven(thief, known.connection_id(), &mut rng)?;
            nonsense(known, &mut rng)?;
        }
        drain(thief, |answer| {
            bail!(
                "an answer of {} bytes for who has proven nothing",
                answer.len()
            )
        })?;
        drain(known.socket(), |answer| {
            let action = answer.get(..4).context("an action")?;
            if answer.len() > ANSWER_BYTES_MAX || !matches!(action, [0, 0, 0, 0..=3]) {
                bail!("an answer of {} bytes: {action:?}", answer.len());
            }
            Ok(())
        })?;
        account.good(2 * NOISE_AT_A_TIME);
        Ok(())
    });
    account
}

/// What gets no answer: noise, an announce and a scrape with an id that is invented or another's.
fn unproven(thief: &UdpSocket, stolen: [u8; 8], rng: &mut Rng) -> Result<()> {
    let mut noise = vec![0; usize::try_from(rng.below(1_400))?];
    rng.fill(&mut noise);
    let mut invented = [0; 8];
    rng.fill(&mut invented);
    thief.send(&noise)?;
    for id in [stolen, invented] {
        thief.send(&packet(id, 1, 7, &talk::announce([b't'; 20], 6881, 2)))?;
        thief.send(&packet(id, 2, 7, &[b't'; 20]))?;
        // Too short for an announce.
        thief.send(&packet(id, 1, 7, &[]))?;
    }
    Ok(())
}

/// What is answered with an error, or bounded: odd actions, scrapes of nothing, of a part, of a thousand, and fields at their
/// limits.
fn nonsense(known: &Packets, rng: &mut Rng) -> Result<()> {
    let send = |action, rest: &[u8]| {
        let packet = packet(known.connection_id(), action, 9, rest);
        known.socket().send(&packet)
    };
    for (action, bytes) in [(2, 0), (2, 19), (2, 75 * 20), (7, 40), (1, 81)] {
        send(action, &vec![1; bytes])?;
    }
    let mut announce = talk::announce([b't'; 20], 6881, 0);
    for byte in announce.get_mut(40..).into_iter().flatten() {
        // Counts, event, address, key, numwant and port.
        if rng.below(4) == 0 {
            *byte = u8::try_from(rng.below(256))?;
        }
    }
    send(1, &announce)?;
    Ok(())
}

/// Torrents that nobody has, of one address that has proven itself.
pub(super) fn floods_of_torrents(target: Target, stop: &AtomicBool) -> Account {
    let mut account = Account::new("torrents of one address, UDP", Over::Udp);
    let (mut rng, mut known, mut turn) = (Rng::new(9), None, 0_u32);
    pace(&mut account, TURN_EVERY, stop, |account| {
        // A connection id lives two minutes; this many turns are one.
        turn += 1;
        if turn.is_multiple_of(3_000) {
            known = None;
        }
        let known: &mut Packets = match &mut known {
            Some(known) => known,
            None => known.insert(Packets::connect(Ipv4Addr::new(127, 0, 9, 3), target.udp)?),
        };
        for _ in 0..TORRENTS_AT_A_TIME {
            let mut hash = [0; 20];
            rng.fill(&mut hash);
            let announce = talk::announce(hash, 6881, 2);
            known
                .socket()
                .send(&packet(known.connection_id(), 1, turn, &announce))?;
        }
        let mut answers = 0;
        drain(known.socket(), |answer| {
            match answer.get(..4) {
                Some([0, 0, 0, 1]) => answers += 1,
                // A connect that was asked twice is answered twice.
                Some([0, 0, 0, 0]) => {}
                Some(_) | None => {
                    let text = answer.get(8..).unwrap_or_default();
                    bail!("{}", String::from_utf8_lossy(text));
                }
            }
            Ok(())
        })?;
        account.good(answers);
        Ok(())
    });
    account
}

/// Connects, one after the other, whose answers nobody uses.
pub(super) fn floods_of_connects(target: Target, stop: &AtomicBool) -> Account {
    let mut account = Account::new("connects", Over::Udp);
    let mut socket = None;
    pace(&mut account, TURN_EVERY, stop, |account| {
        let socket: &UdpSocket = match &socket {
            Some(socket) => socket,
            None => socket.insert(stranger(4, target)?),
        };
        for transaction in 0..u32::try_from(CONNECTS_AT_A_TIME)? {
            let id = 0x0417_2710_1980_u64.to_be_bytes();
            socket.send(&packet(id, 0, transaction, &[]))?;
        }
        let mut answers = 0;
        drain(socket, |answer| {
            answers += 1;
            if answer.len() != CONNECT_BYTES {
                bail!("an answer of {} bytes to a connect", answer.len());
            }
            Ok(())
        })?;
        account.good(answers);
        Ok(())
    });
    account
}

fn stranger(host: u8, target: Target) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 9, host), 0)).context("a socket")?;
    socket.connect(target.udp).context("a socket")?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Shows what has come to `each`.
fn drain(socket: &UdpSocket, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    socket.set_nonblocking(true)?;
    let mut buffer = [0; 2_048];
    while let Ok(length) = socket.recv(&mut buffer) {
        each(buffer.get(..length).unwrap_or_default())?;
    }
    Ok(())
}
