//! The ways by which programs find each other, beside a tracker over HTTP: the rows of the second matrix. And what a
//! foreign program cannot do, told beforehand with the reason: nothing here fails softly.

use super::client::Client;
use super::tracker::Tracker;

/// How two programs meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Feature {
    /// Our tracker over UDP (BEP 15).
    Udp,
    /// opentracker over UDP.
    UdpOpentracker,
    /// `aquatic_udp`.
    UdpAquatic,
    /// Our tracker over UDP and IPv6.
    Udp6,
    /// Our tracker over HTTP and IPv6 (BEP 7).
    Http6,
    /// A link with a tracker in it (BEP 9).
    LinkTracker,
    /// A link with a peer in it (`x.pe`).
    LinkPeer,
    /// A link and the DHT, nothing else (BEP 5).
    LinkDht,
    /// One's DHT node is of use to the other: it is pinged, asked and told.
    DhtNode,
    /// A peer that only another peer knows (BEP 11).
    Pex,
    /// The local network alone (BEP 14).
    Lsd,
    /// Both speak the fast extension, by packet capture (BEP 6).
    Fast,
    /// The metadata comes by the extension protocol, by packet capture (BEP 10, BEP 9).
    Extended,
    /// A scrape says the same to both, over HTTP and UDP (BEP 48, BEP 15).
    Scrape,
    /// A private torrent, by packet capture: no DHT, no local discovery, no peer exchange (BEP 27).
    Private,
}

/// Whose way of doing it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    /// The foreign program gives: it seeds, or tells.
    From,
    /// It takes: it downloads, or is told.
    To,
}

/// All, in the order of the matrix.
pub(crate) const FEATURES: [Feature; 15] = [
    Feature::Udp,
    Feature::UdpOpentracker,
    Feature::UdpAquatic,
    Feature::Udp6,
    Feature::Http6,
    Feature::LinkTracker,
    Feature::LinkPeer,
    Feature::LinkDht,
    Feature::DhtNode,
    Feature::Pex,
    Feature::Lsd,
    Feature::Fast,
    Feature::Extended,
    Feature::Scrape,
    Feature::Private,
];

impl Feature {
    /// As the matrix calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP tracker: bt-trackerd",
            Self::UdpOpentracker => "UDP tracker: opentracker",
            Self::UdpAquatic => "UDP tracker: aquatic_udp",
            Self::Udp6 => "UDP tracker, IPv6",
            Self::Http6 => "HTTP tracker, IPv6",
            Self::LinkTracker => "link, tracker",
            Self::LinkPeer => "link, x.pe",
            Self::LinkDht => "link, DHT alone",
            Self::DhtNode => "DHT node",
            Self::Pex => "peer exchange",
            Self::Lsd => "local discovery",
            Self::Fast => "fast extension",
            Self::Extended => "extension protocol",
            Self::Scrape => "scrape",
            Self::Private => "private: none of these",
        }
    }

    /// The tracker that both know, and its URL.
    pub(crate) fn tracker(self) -> Option<(Tracker, String)> {
        let (tracker, url) = match self {
            Self::Udp => (Tracker::Ours, Tracker::Ours.udp_url()),
            Self::UdpOpentracker => (Tracker::Opentracker, Tracker::Opentracker.udp_url()),
            Self::UdpAquatic => (Tracker::Aquatic, Tracker::Aquatic.udp_url()),
            Self::Udp6 => (
                Tracker::Ours,
                format!("udp://{}/announce", Tracker::Ours.addr6()),
            ),
            Self::Http6 => (
                Tracker::Ours,
                format!("http://{}/announce", Tracker::Ours.addr6()),
            ),
            Self::LinkTracker | Self::Fast | Self::Extended | Self::Scrape => {
                (Tracker::Ours, Tracker::Ours.announce_url())
            }
            Self::LinkPeer
            | Self::LinkDht
            | Self::DhtNode
            | Self::Pex
            | Self::Lsd
            | Self::Private => return None,
        };
        Some((tracker, url))
    }

    /// Whether the leecher is given a link, not the torrent.
    pub(crate) fn by_link(self) -> bool {
        matches!(
            self,
            Self::LinkTracker | Self::LinkPeer | Self::LinkDht | Self::Extended
        )
    }

    /// Whether what is said is captured and read.
    pub(crate) fn is_captured(self) -> bool {
        matches!(self, Self::Fast | Self::Extended)
    }

    /// Why this cannot be, if it cannot.
    pub(crate) fn cannot(self, foreign: Client, direction: Direction) -> Option<&'static str> {
        use Client::{Aria2, Libtorrent, Rqbit, Rtorrent, Transmission, Webtorrent};
        use Direction::To;
        match (self, foreign, direction) {
            (Self::LinkPeer, Transmission | Aria2 | Rtorrent | Rqbit, To) => {
                Some("does not read x.pe")
            }
            (Self::Udp6, Rtorrent, To) => Some("did not ask again within three minutes"),
            (Self::Udp6, Transmission | Aria2, _) => Some("announces over UDP with IPv4 only"),
            (Self::Udp6, Webtorrent, _) => Some("looks for `[fd77::1]` in the DNS"),
            (Self::DhtNode, Rtorrent, _) => Some("answers, and keeps no peer that ours announces"),
            (Self::DhtNode, Rqbit, _) => Some("chooses the port of its DHT node itself"),
            (Self::Private, other, direction) if other != Libtorrent || direction == To => {
                Some("libtorrent is there, which speaks all three")
            }
            (Self::Scrape, other, direction) if other != Libtorrent || direction == To => {
                Some("libtorrent is asked what a scrape says")
            }
            // It is the foreign node that is tried, both ways at once.
            (Self::DhtNode, _, To) => Some("in the line above"),
            (Self::Pex, Aria2 | Rtorrent | Rqbit, Direction::From) => {
                Some("tells of nobody who dialled it, within two minutes")
            }
            (Self::Pex, Webtorrent, Direction::From) => Some("hears of peers, and tells of none"),
            (Self::LinkDht, Rqbit, Direction::From) => {
                Some("complete from the start, announces itself nowhere in the DHT")
            }
            (Self::Fast, Rtorrent | Rqbit, _) => Some("has no fast extension"),
            (Self::Lsd, Rtorrent, _) => Some("has no local discovery"),
            _ => None,
        }
    }
}

impl Direction {
    /// Both.
    pub(crate) const BOTH: [Self; 2] = [Self::From, Self::To];

    /// `from` or `to`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::From => "from",
            Self::To => "to",
        }
    }
}
