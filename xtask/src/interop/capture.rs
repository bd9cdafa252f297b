//! What passes a host's cable, packet for packet: which of it is the DHT, local discovery, or peer exchange.
//!
//! The bridge's end of the cable is listened at: all that the host sends, and is sent, passes there.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::stream::{Said, Streams};
use super::wire::Dialogue;

/// Longest packet: segments are joined before they pass a cable.
const PACKET_BYTES_MAX: usize = 128 << 10;

/// Packets that may wait to be read: a burst at the speed of the machine.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// How often the reader looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Packets of each kind that our host sent, and what its connections said.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Queries of the DHT (BEP 5) that name the torrent,
    pub(crate) dht: usize,
    /// and those of any kind.
    pub(crate) dht_at_all: usize,
    /// Announces of local discovery (BEP 14).
    pub(crate) lsd: usize,
    /// Over its connections.
    pub(crate) said: Said,
}

/// A capture under way.
#[derive(Debug)]
pub(crate) struct Capture {
    ends: Arc<AtomicBool>,
    packets: Arc<Mutex<Vec<Packet>>>,
    reader: JoinHandle<Result<()>>,
}

/// One packet, as far as it matters.
#[derive(Debug)]
struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    what: Transport,
    payload: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Transport {
    Udp,
    Tcp { sequence: u32, first: bool },
}

impl Capture {
    /// Begins to listen at an interface of this namespace.
    pub(crate) fn begin(interface: &str) -> Result<Self> {
        let socket = open(interface).with_context(|| format!("listening at {interface}"))?;
        let ends = Arc::new(AtomicBool::new(false));
        let packets = Arc::new(Mutex::new(Vec::new()));
        let (told, out) = (Arc::clone(&ends), Arc::clone(&packets));
        let reader = std::thread::spawn(move || read(socket, &told, &out));
        Ok(Self {
            ends,
            packets,
            reader,
        })
    }

    /// What the host of these addresses has sent so far.
    pub(crate) fn so_far(&self, host: &[IpAddr], info_hash: &[u8]) -> Result<Seen> {
        if self.reader.is_finished() {
            bail!("the capture has ended by itself");
        }
        let packets = self.packets.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(judge(&packets, host, info_hash))
    }
}

impl Capture {
    /// All connections so far of the one at this address.
    pub(crate) fn dialogues(&self, seeder: IpAddr) -> Result<Vec<Dialogue>> {
        if self.reader.is_finished() {
            bail!("the capture has ended by itself");
        }
        let packets = self.packets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut streams = Streams::default();
        for packet in packets.iter() {
            if let Transport::Tcp { sequence, first } = packet.what {
                streams.take((packet.from, packet.to), sequence, first, &packet.payload);
            }
        }
        Ok(streams.dialogues(seeder))
    }
}

impl Seen {
    /// Adds what another host sent.
    pub(crate) fn add(&mut self, other: &Self) {
        self.dht += other.dht;
        self.dht_at_all += other.dht_at_all;
        self.lsd += other.lsd;
        self.said.add(&other.said);
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

fn judge(packets: &[Packet], host: &[IpAddr], info_hash: &[u8]) -> Seen {
    let mut seen = Seen::default();
    let mut streams = Streams::default();
    for packet in packets {
        let ours = host.contains(&packet.from.ip());
        match packet.what {
            Transport::Udp if ours && has(&packet.payload, b"1:y1:q") => {
                seen.dht_at_all += 1;
                seen.dht += usize::from(has(&packet.payload, info_hash));
            }
            Transport::Udp if ours && packet.payload.starts_with(b"BT-SEARCH") => seen.lsd += 1,
            Transport::Udp => {}
            Transport::Tcp { sequence, first } => {
                let way = (packet.from, packet.to);
                streams.take(way, sequence, first, &packet.payload);
            }
        }
    }
    seen.said = streams.said(host);
    seen
}

fn has(payload: &[u8], what: &[u8]) -> bool {
    payload.windows(what.len()).any(|window| window == what)
}

#[allow(
    unsafe_code,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "the address of an interface has no safe maker, and libc's constants have wider types than its fields"
)]
fn open(interface: &str) -> Result<Socket> {
    let all = (libc::ETH_P_ALL as u16).to_be();
    let name = std::ffi::CString::new(interface).context("a name")?;
    // SAFETY: the name ends with a zero and is only read.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        bail!("no such interface");
    }
    let protocol = Protocol::from(i32::from(all));
    let socket = Socket::new(
        Domain::from(libc::AF_PACKET),
        Type::from(libc::SOCK_RAW),
        Some(protocol),
    )
    .context("a socket")?;
    // SAFETY: the storage is zeroed and large enough for any address, and the length is that of what is written.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = libc::AF_PACKET as u16;
            (*address).sll_protocol = all;
            (*address).sll_ifindex = index as i32;
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }
    .context("an address")?;
    socket.bind(&address).context("bind")?;
    socket
        .set_recv_buffer_size(WAITING_BYTES_MAX)
        .context("a buffer")?;
    socket
        .set_read_timeout(Some(LOOK_EVERY))
        .context("a timeout")?;
    Ok(socket)
}

fn read(mut socket: Socket, ends: &AtomicBool, packets: &Mutex<Vec<Packet>>) -> Result<()> {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    while !ends.load(Ordering::Relaxed) {
        match socket.read(&mut buffer) {
            Ok(length) => {
                let packet = buffer.get(..length).and_then(parse);
                let mut packets = packets.lock().unwrap_or_else(PoisonError::into_inner);
                packets.extend(packet);
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error).context("reading packets"),
        }
    }
    Ok(())
}

/// Ethernet, then IPv4 or IPv6 without extension headers, then UDP or TCP; anything else is of no interest.
fn parse(frame: &[u8]) -> Option<Packet> {
    let (kind, packet) = (frame.get(12..14)?, frame.get(14..)?);
    let (protocol, from, to, rest) = match kind {
        [0x08, 0x00] => {
            let header = usize::from(packet.first()? & 0x0f) * 4;
            let length = usize::from(u16_at(packet, 2)?);
            let from: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
            let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            // Frames shorter than Ethernet's least are padded; joined segments may say that they are empty.
            let end = if length == 0 { packet.len() } else { length };
            (
                *packet.get(9)?,
                IpAddr::from(from),
                IpAddr::from(to),
                packet.get(header..end)?,
            )
        }
        [0x86, 0xdd] => {
            let from: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
            let to: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            let rest = packet.get(40..)?;
            (*packet.get(6)?, IpAddr::from(from), IpAddr::from(to), rest)
        }
        _ => return None,
    };
    let from = SocketAddr::new(from, u16_at(rest, 0)?);
    let to = SocketAddr::new(to, u16_at(rest, 2)?);
    let (what, header) = match protocol {
        17 => (Transport::Udp, 8),
        6 => {
            const SYN: u8 = 2;
            let sequence = u32::from_be_bytes(rest.get(4..8)?.try_into().ok()?);
            let first = rest.get(13)? & SYN != 0;
            let header = usize::from(rest.get(12)? >> 4) * 4;
            (Transport::Tcp { sequence, first }, header)
        }
        _ => return None,
    };
    let payload = rest.get(header..)?.to_vec();
    Some(Packet {
        from,
        to,
        what,
        payload,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_taken_apart_and_told_from_each_other() {
        let frame = |port: u16, payload: &[u8]| {
            let length = u16::try_from(28 + payload.len()).unwrap().to_be_bytes();
            let mut frame = vec![0; 12];
            frame.extend([
                0x08, 0x00, 0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, 17, 0, 0,
            ]);
            frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
            frame.extend(port.to_be_bytes());
            frame.extend(port.to_be_bytes());
            frame.extend([0; 4]);
            frame.extend(payload);
            // Padded to the least that Ethernet sends.
            frame.extend([0; 20]);
            parse(&frame).unwrap()
        };
        let hash = [7; 20];
        let asks = [
            b"d1:ad9:info_hash20:".as_slice(),
            &hash,
            b"e1:q9:get_peers1:t1:x1:y1:qe",
        ];
        let packets = [
            frame(6771, b"BT-SEARCH * HTTP/1.1\r\n"),
            frame(6881, &asks.concat()),
            frame(6881, b"d1:q9:find_node1:t1:x1:y1:qe"),
        ];
        assert_eq!(packets[0].payload, b"BT-SEARCH * HTTP/1.1\r\n");
        let (us, other) = (["10.0.0.1".parse().unwrap()], ["10.0.0.2".parse().unwrap()]);
        let seen = judge(&packets, &us, &hash);
        assert_eq!((seen.dht, seen.dht_at_all, seen.lsd), (1, 2, 1));
        assert_eq!(
            judge(&packets, &other, &hash),
            Seen::default(),
            "sent by somebody else"
        );
        assert_eq!(judge(&packets, &us, &[8; 20]).dht, 0, "another torrent");
        for length in 0..60 {
            parse(&vec![0x45; length]);
        }
    }
}
