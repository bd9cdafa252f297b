//! `bt publish`: the initial seeder in one command. Makes the torrent, runs a tracker for it and for nothing else, hands
//! out the `.torrent` and a page, and seeds.

mod outside;
mod page;

use super::Context;
use super::create::{self, Made, MakeArgs};
use crate::exit::{Exit, Failure, OrExit as _};
use crate::network::NetworkArgs;
use crate::output::Output;
use crate::swarm::{self, Goal, Swarm};
use anyhow::Context as _;
use bt_core::InfoHash;
use bt_metainfo::Metainfo;
use bt_trackerd::{Config, Server, Settings};
use serde::Serialize;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;
use url::Url;

/// Publish a file or folder: torrent, tracker, page and seeder in one
///
/// Prints what others type to get it. Runs until stopped. Nothing is written into the folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file or folder
    path: PathBuf,
    /// Where to serve the tracker, the .torrent and the page over HTTP [default: port 6969, else any]
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// The URL under which others reach this HTTP server, if it is not its own address
    #[arg(long, value_name = "URL")]
    public_url: Option<Url>,
    #[command(flatten)]
    make: MakeArgs,
    #[command(flatten)]
    network: NetworkArgs,
    /// Print one JSON object a line for each event
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Published<'a> {
    torrent_url: &'a str,
    page_url: &'a str,
    magnet: &'a str,
    announce: Vec<&'a str>,
}

/// Publishes it.
pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let output = Output::unwaiting(args.json)?;
    swarm::block_on(swarm::telling(output, publish(args, context, output)))
}

async fn publish(args: &Args, context: &Context, output: Output) -> Result<(), Failure> {
    let options = swarm::unless_stopped(context, args.network.torrent()).await?;
    // Nothing is served before its info hash is known.
    let mut allowed = Allowed::nothing()?;
    let server = serve(args, allowed.settings()).await?;
    let base = base_url(args, &server)?;
    let has_tracker = args.make.announce.is_empty();
    let mut make = args.make.clone();
    if has_tracker {
        make.announce = vec![below(&base, "announce").into()];
    }
    let (path, in_context) = (args.path.clone(), context.clone());
    let making = move || create::make(&path, Path::new(""), &make, &in_context);
    let made = tokio::task::spawn_blocking(making).await;
    let Made { metainfo, folder } = made.context("the hashing ended early")??;
    let mut outside = None;
    if has_tracker {
        if args.public_url.is_some() {
            outside = outside::outside(&base, &server, args.network.bind()).await;
        }
        allowed.also(metainfo.info_hash)?;
        let mut settings = allowed.settings();
        if let Some(outside) = &outside {
            settings.proxies.clone_from(&outside.trust);
            settings.ip_from.clone_from(&outside.trust);
        }
        let reloaded = server.reload(settings).await;
        reloaded.context("cannot tell the tracker of the torrent")?;
    }
    let torrent_url = serve_pages(&server, &metainfo, &base);

    let goal = Goal {
        only_seed: true,
        seed: true,
        ..Goal::default()
    };
    let mut swarm = Swarm::new(&args.network, output, context.quiet, goal)?;
    announce(output, &metainfo, base.as_str(), torrent_url.as_str())?;
    let mut options = bt_session::TorrentOptions {
        seed_only: true,
        // It was hashed a moment ago.
        trusted: true,
        ..options
    };
    let mut metainfo = metainfo;
    if let Some(outside) = outside {
        metainfo.trackers = vec![vec![outside.announce]];
        options.announce_ip = outside.ip;
    }
    swarm.add(metainfo, &folder, options)?;
    let result = swarm.run(context.stop.clone()).await;
    server.stop().await;
    result
}

/// Hands out the torrent and its page. Returns the torrent's URL.
fn serve_pages(server: &Server, metainfo: &Metainfo, base: &Url) -> Url {
    let torrent_url = below(base, &format!("{}.torrent", metainfo.info.name()));
    server.set_page(
        torrent_url.path(),
        "application/x-bittorrent",
        metainfo.bytes().to_vec(),
    );
    let html = page::html(metainfo, torrent_url.as_str());
    server.set_page(base.path(), "text/html; charset=utf-8", html);
    torrent_url
}

/// Says what others need.
fn announce(
    output: Output,
    metainfo: &Metainfo,
    page_url: &str,
    torrent_url: &str,
) -> Result<(), Failure> {
    let magnet = metainfo.magnet().to_string();
    let published = Published {
        torrent_url,
        page_url,
        magnet: &magnet,
        announce: metainfo
            .trackers
            .iter()
            .flatten()
            .map(String::as_str)
            .collect(),
    };
    output.event("published", Some(metainfo.info_hash), &published)?;
    output.line(format!("page          {page_url}"))?;
    output.line(format!("torrent       {torrent_url}"))?;
    output.line(format!("magnet        {magnet}"))?;
    output.line(format!(
        "\nOthers get it with:\n\n    bt get {}\n",
        shell_word(torrent_url)
    ))
}

/// The URL as one word of a shell, to which some of a URL's characters mean something.
fn shell_word(url: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/.-_%=+,@".contains(&byte);
    if url.bytes().all(plain) {
        return url.to_owned();
    }
    format!("'{}'", url.replace('\'', "%27"))
}

/// Serves where the user wants it; without a wish on the usual port, or on any if that is taken.
async fn serve(args: &Args, settings: Settings) -> Result<Server, Failure> {
    let usual = Config::default();
    let wishes: Vec<Vec<SocketAddr>> = match (args.http, args.network.bind()) {
        (Some(addr), _) => vec![vec![addr]],
        (None, Some(ip)) => {
            let at = |port| vec![SocketAddr::new(ip, port)];
            vec![at(bt_trackerd::config::PORT_DEFAULT), at(0)]
        }
        (None, None) => vec![usual.http.clone(), vec![(Ipv4Addr::UNSPECIFIED, 0).into()]],
    };
    let mut refused = None;
    for http in wishes {
        let config = Config {
            http,
            // The torrent names the HTTP tracker; who publishes twice would have one UDP port for both.
            udp: Vec::new(),
            settings: settings.clone(),
            ..usual.clone()
        };
        match bt_trackerd::serve(config).await {
            Ok(server) => return Ok(server),
            Err(error) => refused = Some(error),
        }
    }
    let refused = refused.context("no address to listen on")?;
    Err(refused)
        .context("cannot serve over HTTP")
        .or_exit(Exit::Failed)
}

/// The URL of the page, which ends with `/`: what else is served is below it.
fn base_url(args: &Args, server: &Server) -> Result<Url, Failure> {
    let mut base = match &args.public_url {
        Some(url) => url.clone(),
        None => {
            let first = server.addrs().first().context("no address to listen on")?;
            let addr = SocketAddr::new(reachable(first.ip()), first.port());
            Url::parse(&format!("http://{addr}/")).context("an address makes no URL")?
        }
    };
    if !["http", "https"].contains(&base.scheme()) {
        return Err(Failure::new(
            Exit::Usage,
            "--public-url: neither http nor https",
        ));
    }
    base.set_query(None);
    base.set_fragment(None);
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    Ok(base)
}

fn below(base: &Url, name: &str) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(name);
    }
    url
}

/// An address at which others reach a server that listens on `ip`.
fn reachable(ip: IpAddr) -> IpAddr {
    if !ip.is_unspecified() {
        return ip;
    }
    // Connecting a datagram socket sends nothing; the system only says which of our addresses it would send from.
    let source = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    match source {
        Ok(addr) if !addr.ip().is_unspecified() => addr.ip(),
        Ok(_) | Err(_) => {
            tracing::warn!(
                "this machine has no route to others; the URLs hold on it only. --public-url names others"
            );
            Ipv4Addr::LOCALHOST.into()
        }
    }
}

/// The list of torrents that the tracker serves: a stranger cannot use it for his own.
struct Allowed(NamedTempFile);

impl Allowed {
    fn nothing() -> Result<Self, Failure> {
        Ok(Self(
            NamedTempFile::new().context("cannot make a temporary file")?,
        ))
    }

    fn also(&mut self, info_hash: InfoHash) -> Result<(), Failure> {
        writeln!(self.0, "{info_hash}").context("cannot write a temporary file")?;
        Ok(())
    }

    fn settings(&self) -> Settings {
        Settings {
            allow: Some(self.0.path().to_owned()),
            ..Settings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_pasted() {
        let rows = [
            ("http://h:1/a%20b.torrent", "http://h:1/a%20b.torrent"),
            ("http://h/a&b.torrent", "'http://h/a&b.torrent'"),
            ("http://h/it's(1).torrent", "'http://h/it%27s(1).torrent'"),
            ("http://[::1]:1/x.torrent", "'http://[::1]:1/x.torrent'"),
        ];
        for (url, expected) in rows {
            assert_eq!(shell_word(url), expected);
        }
    }

    #[test]
    fn what_is_served_lies_below_the_page() {
        let rows = [
            ("http://h:1/", "a b?.torrent", "http://h:1/a%20b%3F.torrent"),
            ("https://h/x/", "ä/b", "https://h/x/%C3%A4%2Fb"),
        ];
        for (base, name, expected) in rows {
            assert_eq!(below(&Url::parse(base).unwrap(), name).as_str(), expected);
        }
    }

    #[test]
    fn a_chosen_address_is_kept() {
        let loopback = Ipv4Addr::LOCALHOST.into();
        assert_eq!(reachable(loopback), loopback);
        assert!(!reachable(Ipv4Addr::UNSPECIFIED.into()).is_unspecified());
    }
}
