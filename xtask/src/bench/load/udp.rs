//! The load over UDP (BEP 15): sockets with a few requests on their way each.

use std::net::{SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::mmsg::{self, BATCH, PACKET_BYTES};
use super::{NUMWANT, Outcome, Question, Span, Target, Turns, Watch, local_ip};

/// Sockets.
const SOCKETS: usize = 16;

/// Requests of one socket that are on their way at a time.
const WINDOW: usize = 8;

/// What did not come by then is lost, and asked again.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often lost answers are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

struct Place {
    socket: UdpSocket,
    connection_id: [u8; 8],
    /// When each of the window was asked, and what; none if there is nothing more to ask.
    asked: Vec<Option<(Instant, Vec<u8>)>>,
    /// To tell late answers from others.
    round: u16,
}

/// Asks until the span is over, or a fill is done.
///
/// # Errors
/// If nobody answers a connect.
pub(crate) fn run(
    target: Target<'_>,
    question: Question,
    span: Span,
    cpu: &dyn Fn() -> Duration,
) -> Result<Outcome> {
    let mut places = (0..SOCKETS)
        .map(|place| connect(place, target.addr))
        .collect::<Result<Vec<_>>>()?;
    let mut turns = Turns::new(target, question, SOCKETS);
    let mut watch = Watch::new(span, cpu);
    let mut sending = Vec::new();
    for (number, place) in places.iter_mut().enumerate() {
        for slot in 0..WINDOW {
            place.ask(number, slot, &mut turns, &mut sending);
        }
        place.send(&mut sending);
    }
    let mut packets = vec![vec![0; PACKET_BYTES]; BATCH];
    let mut lengths = Vec::new();
    let mut looked = Instant::now();
    while watch.goes_on(Instant::now()) && places.iter().any(Place::waits) {
        for number in ready(&places)? {
            let Some(place) = places.get_mut(number) else {
                continue;
            };
            mmsg::receive(&place.socket, &mut packets, &mut lengths);
            let now = Instant::now();
            for (packet, length) in packets.iter().zip(&lengths) {
                let packet = packet.get(..*length).unwrap_or_default();
                if let Some((slot, asked)) = place.answered(packet) {
                    watch.reply(asked, now, packet.get(3) != Some(&3));
                    place.ask(number, slot, &mut turns, &mut sending);
                }
            }
            place.send(&mut sending);
        }
        if looked.elapsed() > LOOK_EVERY {
            looked = Instant::now();
            for place in &mut places {
                watch.outcome.failed += place.ask_again(&mut sending);
                place.send(&mut sending);
            }
        }
    }
    Ok(watch.end())
}

fn connect(place: usize, addr: SocketAddrV4) -> Result<Place> {
    let socket = UdpSocket::bind((local_ip(place), 0)).context("a socket on the loopback")?;
    socket.connect(addr).context("a socket on the loopback")?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut packet = connect_packet(0);
    let mut answer = [0; 64];
    for _ in 0..10 {
        socket.send(&packet).ok();
        if let Ok(16) = socket.recv(&mut answer) {
            let connection_id = answer.get(8..16).and_then(|id| id.try_into().ok());
            packet.clear();
            return Ok(Place {
                socket,
                connection_id: connection_id.context("a connection id")?,
                asked: vec![None; WINDOW],
                round: 0,
            });
        }
    }
    bail!("nobody answers at udp://{addr}")
}

fn connect_packet(transaction_id: u32) -> Vec<u8> {
    let mut packet = 0x0417_2710_1980_u64.to_be_bytes().to_vec();
    packet.extend(0_u32.to_be_bytes());
    packet.extend(transaction_id.to_be_bytes());
    packet
}

fn ready(places: &[Place]) -> Result<Vec<usize>> {
    let wait = Timespec {
        tv_sec: 0,
        tv_nsec: 20_000_000,
    };
    let mut fds: Vec<PollFd<'_>> = places
        .iter()
        .map(|place| PollFd::new(&place.socket, PollFlags::IN))
        .collect();
    poll(&mut fds, Some(&wait)).context("poll")?;
    let ready = fds.iter().enumerate();
    Ok(ready
        .filter(|(_, fd)| !fd.revents().is_empty())
        .map(|(number, _)| number)
        .collect())
}

impl Place {
    fn waits(&self) -> bool {
        self.asked.iter().any(Option::is_some)
    }

    fn ask(&mut self, number: usize, slot: usize, turns: &mut Turns<'_>, out: &mut Vec<Vec<u8>>) {
        self.round = self.round.wrapping_add(1);
        let slot_number = u32::try_from(slot).expect("a small window");
        let transaction_id = u32::from(self.round) << 16 | slot_number;
        let packet = match turns.question {
            Question::Connect => Some(connect_packet(transaction_id)),
            Question::Scrape(count) => {
                let mut packet = self.head(2, transaction_id);
                (0..count).for_each(|_| packet.extend(turns.torrent()));
                Some(packet)
            }
            Question::Fill | Question::Announce => self.announce(number, transaction_id, turns),
        };
        if let Some(place) = self.asked.get_mut(slot) {
            *place = packet.map(|packet| {
                out.push(packet.clone());
                (Instant::now(), packet)
            });
        }
    }

    fn head(&self, action: u32, transaction_id: u32) -> Vec<u8> {
        let mut packet = Vec::with_capacity(100);
        packet.extend(self.connection_id);
        packet.extend(action.to_be_bytes());
        packet.extend(transaction_id.to_be_bytes());
        packet
    }

    fn announce(&self, number: usize, id: u32, turns: &mut Turns<'_>) -> Option<Vec<u8>> {
        let peer = turns.peer(number)?;
        let mut packet = self.head(1, id);
        packet.extend(turns.target.hashes.get(peer.torrent)?);
        packet.extend(peer.id);
        for count in [0, peer.left, 0] {
            packet.extend(count.to_be_bytes());
        }
        let event: u32 = if turns.question == Question::Fill {
            2
        } else {
            0
        };
        for number in [event, 0, 1, NUMWANT] {
            packet.extend(number.to_be_bytes());
        }
        packet.extend(peer.port.to_be_bytes());
        Some(packet)
    }

    fn send(&self, packets: &mut Vec<Vec<u8>>) {
        if !packets.is_empty() {
            mmsg::send(&self.socket, packets);
            packets.clear();
        }
    }

    /// Which of the window this answers, and when that was asked.
    fn answered(&self, packet: &[u8]) -> Option<(usize, Instant)> {
        let transaction_id = packet.get(4..8)?;
        let slot = usize::from(*transaction_id.last()?);
        let (asked, question) = self.asked.get(slot)?.as_ref()?;
        (question.get(12..16) == Some(transaction_id)).then_some((slot, *asked))
    }

    /// Sends again what was not answered; returns how many.
    fn ask_again(&mut self, out: &mut Vec<Vec<u8>>) -> u64 {
        let mut lost = 0;
        for (asked, packet) in self.asked.iter_mut().flatten() {
            if asked.elapsed() > PATIENCE {
                *asked = Instant::now();
                out.push(packet.clone());
                lost += 1;
            }
        }
        lost
    }
}
