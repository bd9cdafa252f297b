//! What a proxy says about the client behind it: `X-Forwarded-For`, `Forwarded` (RFC 7239), or the head that the PROXY protocol,
//! version 2, puts before everything else.
//!
//! One of them only, as the operator says: a client can write the headers that its proxy does not, and the proxy lets them
//! pass.

use serde::Deserialize;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How the proxies tell from whom a request comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxySays {
    /// A header `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// A header `Forwarded`.
    Forwarded,
    /// The PROXY protocol, version 2; each connection must begin with it.
    ProxyProtocol,
}

impl ProxySays {
    /// As the configuration has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
            Self::ProxyProtocol => "proxy-protocol",
        }
    }

    /// Adds to the chain of addresses what a header says, if it is the one that counts. What is no address ends the chain, as
    /// it cannot be vouched for.
    pub(crate) fn read(self, name: &str, value: &[u8], chain: &mut Vec<IpAddr>) {
        if self == Self::ProxyProtocol || !name.eq_ignore_ascii_case(self.name()) {
            return;
        }
        let value = core::str::from_utf8(value).unwrap_or_default();
        let mut add = |addr: Option<IpAddr>| match addr {
            Some(addr) => chain.push(addr),
            None => chain.clear(),
        };
        if self == Self::XForwardedFor {
            let addrs = value.split(',').map(|addr| addr.trim().parse().ok());
            addrs.for_each(add);
        } else {
            let hops = split(value, ',').filter(|hop| !hop.trim().is_empty());
            hops.for_each(|hop| add(node(hop)));
        }
    }
}

/// The address of `for=` in one element of `Forwarded`: `for=192.0.2.1;by=…`, `for="[2001:db8::1]:4711"`.
fn node(hop: &str) -> Option<IpAddr> {
    let mut pairs = split(hop, ';').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    let value = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value);
    if let Some(value) = value.strip_prefix('[') {
        let (addr, _port) = value.split_once(']')?;
        return addr.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let addr = value.split_once(':').map_or(value, |(addr, _port)| addr);
    addr.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

/// The parts between separators that stand in no quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

/// What the head of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Longest head behind its first 16 bytes: addresses take 36 and what a proxy adds a few hundred.
const HEAD_MAX_BYTES: u16 = 2_048;

/// Reads the head of the PROXY protocol: `12 signature · u8 version and command · u8 family · u16 length · addresses · …`.
/// `None` if the proxy speaks for itself, or of a family without IP addresses.
///
/// # Errors
/// If the connection ends or begins with something else.
pub(crate) async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<SocketAddr>> {
    let mut head = [0; HEAD_BYTES];
    stream.read_exact(&mut head).await?;
    let head = Head::read(&head).ok_or_else(foreign)?;
    let mut addrs = vec![0; usize::from(head.length_bytes)];
    stream.read_exact(&mut addrs).await?;
    head.source(Transport::Stream, &addrs).ok_or_else(foreign)
}

/// Splits a packet into the address that the head before it names, and what the client sent: each packet of a proxy begins with
/// a head of its own. The address is `None` as with [`read_head`]; all is `None` if there is no head.
pub(crate) fn split_packet(packet: &[u8]) -> Option<(Option<SocketAddr>, &[u8])> {
    let (head, rest) = packet.split_first_chunk()?;
    let head = Head::read(head)?;
    let (addrs, rest) = rest.split_at_checked(head.length_bytes.into())?;
    Some((head.source(Transport::Datagram, addrs)?, rest))
}

/// Signature, version and command, family, length.
const HEAD_BYTES: usize = 16;

/// The first 16 bytes.
struct Head {
    is_local: bool,
    family: u8,
    length_bytes: u16,
}

/// The lower half of the byte of the family.
#[derive(Clone, Copy)]
enum Transport {
    Stream = 1,
    Datagram = 2,
}

impl Head {
    fn read(head: &[u8; HEAD_BYTES]) -> Option<Self> {
        const PROXIED: u8 = 0x21;
        const LOCAL: u8 = 0x20;
        let (signature, rest) = head.split_first_chunk()?;
        let &[command, family, high, low] = rest else {
            return None;
        };
        let length_bytes = u16::from_be_bytes([high, low]);
        let is_fine = *signature == SIGNATURE
            && [PROXIED, LOCAL].contains(&command)
            && length_bytes <= HEAD_MAX_BYTES;
        is_fine.then_some(Self {
            is_local: command == LOCAL,
            family,
            length_bytes,
        })
    }

    /// `None` if the addresses are cut off.
    fn source(&self, transport: Transport, addrs: &[u8]) -> Option<Option<SocketAddr>> {
        if self.is_local || self.family & 0x0f != transport as u8 {
            return Some(None);
        }
        source(self.family, addrs)
    }
}

/// `source · destination · u16 source port · u16 destination port`.
fn source(family: u8, addrs: &[u8]) -> Option<Option<SocketAddr>> {
    const V4: u8 = 0x10;
    const V6: u8 = 0x20;
    let source = match family & 0xf0 {
        V4 => addrs.first_chunk::<12>().map(|addrs| {
            let [a, b, c, d, _, _, _, _, high, low, ..] = *addrs;
            let ip = Ipv4Addr::new(a, b, c, d);
            SocketAddr::new(ip.into(), u16::from_be_bytes([high, low]))
        }),
        V6 => addrs.first_chunk::<36>().and_then(|addrs| {
            let (ip, rest) = addrs.split_first_chunk::<16>()?;
            let (_, ports) = rest.split_first_chunk::<16>()?;
            let (port, _) = ports.split_first_chunk::<2>()?;
            Some(SocketAddr::new(
                Ipv6Addr::from(*ip).into(),
                u16::from_be_bytes(*port),
            ))
        }),
        _ => return Some(None),
    };
    source.map(Some)
}

fn foreign() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the proxy does not begin with the PROXY protocol, version 2",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_a_chain() {
        use ProxySays::{Forwarded, ProxyProtocol, XForwardedFor};
        let rows: [(ProxySays, &str, &str, &[&str]); 16] = [
            (
                XForwardedFor,
                "X-Forwarded-For",
                "192.0.2.1, 2001:db8::1",
                &["192.0.2.1", "2001:db8::1"],
            ),
            (
                XForwardedFor,
                "x-forwarded-for",
                "192.0.2.1, unknown, 192.0.2.3",
                &["192.0.2.3"],
            ),
            (XForwardedFor, "Forwarded", "for=192.0.2.1", &[]),
            (Forwarded, "X-Forwarded-For", "192.0.2.1", &[]),
            (ProxyProtocol, "X-Forwarded-For", "192.0.2.1", &[]),
            (ProxyProtocol, "proxy-protocol", "192.0.2.1", &[]),
            (Forwarded, "Forwarded", "for=192.0.2.1", &["192.0.2.1"]),
            (
                Forwarded,
                "Forwarded",
                "For=192.0.2.1;proto=http;by=192.0.2.9",
                &["192.0.2.1"],
            ),
            (
                Forwarded,
                "forwarded",
                "by=192.0.2.9; for=\"192.0.2.1:47011\"",
                &["192.0.2.1"],
            ),
            (
                Forwarded,
                "Forwarded",
                "for=\"[2001:db8::1]:4711\"",
                &["2001:db8::1"],
            ),
            (
                Forwarded,
                "Forwarded",
                "for=\"[2001:db8::1]\", for=192.0.2.2",
                &["2001:db8::1", "192.0.2.2"],
            ),
            (
                Forwarded,
                "Forwarded",
                "for=192.0.2.1, for=unknown, for=192.0.2.3",
                &["192.0.2.3"],
            ),
            (Forwarded, "Forwarded", "for=_hidden", &[]),
            (
                Forwarded,
                "Forwarded",
                "for=\"a,b\";x=1, for=192.0.2.3",
                &["192.0.2.3"],
            ),
            (Forwarded, "Forwarded", "proto=http", &[]),
            (Forwarded, "Forwarded", "for=\"[::1", &[]),
        ];
        for (says, name, value, expected) in rows {
            let mut chain = Vec::new();
            says.read(name, value.as_bytes(), &mut chain);
            let expected: Vec<IpAddr> = expected.iter().map(|ip| ip.parse().unwrap()).collect();
            assert_eq!(chain, expected, "{says:?} {name}: {value}");
        }
    }

    fn head(command: u8, family: u8, addrs: &[u8]) -> Vec<u8> {
        let mut head = SIGNATURE.to_vec();
        head.extend([command, family]);
        head.extend(u16::try_from(addrs.len()).unwrap().to_be_bytes());
        head.extend(addrs);
        head
    }

    #[tokio::test]
    async fn heads_name_the_source() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x1b, 0x39, 0, 80];
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        v6[32..34].copy_from_slice(&6969_u16.to_be_bytes());
        let longer = [&v4[..], &[4, 0, 1, 0]].concat();
        let mut other_signature = head(0x21, 0x11, &v4);
        other_signature[0] = b'G';
        let mut endless = head(0x21, 0x11, &v4);
        endless[14..16].copy_from_slice(&[0xff, 0xff]);
        // What comes, and the source that it names: none, or an error.
        type Row = (Vec<u8>, Result<Option<&'static str>, ()>);
        let rows: [Row; 10] = [
            (head(0x21, 0x11, &v4), Ok(Some("192.0.2.1:6969"))),
            (head(0x21, 0x11, &longer), Ok(Some("192.0.2.1:6969"))),
            (head(0x21, 0x21, &v6), Ok(Some("[2001:db8::1]:6969"))),
            (head(0x20, 0x00, &[]), Ok(None)),
            (head(0x21, 0x00, &[]), Ok(None)),
            (head(0x21, 0x11, &v4[..11]), Err(())),
            (head(0x11, 0x11, &v4), Err(())),
            (other_signature, Err(())),
            (endless, Err(())),
            (
                b"GET /announce HTTP/1.1\r\nHost: t\r\n\r\n".to_vec(),
                Err(()),
            ),
        ];
        for (bytes, expected) in rows {
            let mut stream = &bytes[..];
            let got = read_head(&mut stream).await.map_err(|_| ());
            let expected = expected.map(|addr| addr.map(|addr| addr.parse().unwrap()));
            assert_eq!(got, expected, "{}", bytes.escape_ascii());
            if expected.is_ok() {
                assert!(stream.is_empty());
            }
        }
        for cut in 0..28 {
            assert!(read_head(&mut &head(0x21, 0x11, &v4)[..cut]).await.is_err());
        }
    }
}
