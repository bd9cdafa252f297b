//! Trackers, both sides of the conversation, pure: what is asked and answered, how HTTP and UDP carry it, which tracker a
//! client asks when, and the swarms that a server keeps.
//!
//! | module | owns |
//! |---|---|
//! | [`announce`], [`scrape`] | what is asked and answered, whatever the transport |
//! | [`http`] | the same as URLs, query strings and bencoded replies |
//! | [`udp`] | the same as packets of UDP |
//! | [`dns`] | what a tracker's host says about its trackers in DNS (BEP 34), and the URLs that follow from it |
//! | [`client`] | the schedule of one torrent's announces: tiers, events, back-off |
//! | [`server`] | the swarms of a tracker, and which torrents it serves |
//!
//! # Example
//!
//! A client and a tracker, with nothing between them but a URL and a body:
//!
//! ```
//! use bt_core::{InfoHash, PeerId, Rng, Time};
//! use bt_tracker::announce::AnnounceRequest;
//! use bt_tracker::client::{Announcer, Input, Output};
//! use bt_tracker::http::{decode, encode, query, url};
//! use bt_tracker::server::{Config, Swarms};
//!
//! let mut client = Announcer::new(vec![vec!["http://tracker.example/announce".to_owned()]], Rng::new(1));
//! client.handle(Time::ZERO, Input::Start { complete: false });
//! let Some(Output::Ask(ask)) = client.poll() else { panic!("a tracker is to be asked") };
//! let mut request = AnnounceRequest::new(InfoHash([7; 20]), PeerId(*b"-BT0001-abcdefghijkl"), 6881, 1_000);
//! request.event = ask.event;
//! let url = url::announce(&ask.url, &request);
//!
//! // The URL travels; at the other end is the tracker.
//! let (_, query) = url.split_once('?').ok_or("no query")?;
//! let (mut swarms, mut rng) = (Swarms::new(Config::default(), 2), Rng::new(3));
//! let request = query::announce(query.as_bytes())?;
//! let response = swarms.announce(Time::ZERO, "10.0.0.1:50000".parse()?, &request, &mut rng)?;
//! let mut body = Vec::new();
//! encode::announce(&response, encode::PeersForm::wanted_by(&request), &mut body);
//!
//! // The body travels back.
//! let result = decode::announce(&body);
//! assert_eq!(result.as_ref().map(|answer| answer.incomplete), Ok(Some(1)));
//! client.handle(Time::from_secs(1), Input::Answer { id: ask.id, result });
//! assert!(client.deadline() >= Some(Time::from_secs(30 * 60)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod announce;
pub mod client;
pub mod dns;
pub mod http;
pub mod scrape;
pub mod server;
mod text;
pub mod udp;
