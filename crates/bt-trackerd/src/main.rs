//! The program `bt-trackerd`: command line and signals around [`bt_trackerd::serve`].
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "shell: owns the clock, files and sockets"
)]

use anyhow::Context as _;
use bt_trackerd::admin::Token;
use bt_trackerd::config::{Interval, LogFormat};
use bt_trackerd::handover::Door;
use bt_trackerd::{Config, ConfigError, ServeError, Server};
use clap::Parser;
use serde_json::json;
use std::io::{self, IsTerminal as _, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

/// How long to wait after nobody could be let in: out of descriptors, trying again at once would fail again.
const DOOR_PAUSE: Duration = Duration::from_millis(100);

/// Where the token of the administration may stand.
const TOKEN_VARIABLE: &str = "BT_TRACKERD_ADMIN_TOKEN";

/// Exit code for a configuration or list that is wrong.
const EXIT_INPUT: u8 = 3;

/// A BitTorrent tracker. Without any option it serves HTTP and UDP on port 6969 of all addresses.
///
/// SIGHUP reads configuration and lists again; SIGUSR1 writes a snapshot; SIGTERM and SIGINT stop it.
#[derive(Debug, Parser)]
#[command(name = "bt-trackerd", version)]
struct Args {
    /// Address to listen on for HTTP; may be repeated. Port 0 takes a free port.
    ///
    /// Without it, --https and --udp: 0.0.0.0:6969 and [::]:6969.
    #[arg(long, value_name = "ADDR")]
    http: Vec<SocketAddr>,
    /// Address to listen on for HTTPS; may be repeated.
    #[arg(long, value_name = "ADDR")]
    https: Vec<SocketAddr>,
    /// The certificate for HTTPS with its chain, in PEM.
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// Its private key, in PEM.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Address to listen on for UDP; may be repeated. Port 0 takes a free port.
    #[arg(long, value_name = "ADDR")]
    udp: Vec<SocketAddr>,
    /// Configuration file; options given here go before what stands there.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// How often peers shall announce, such as 30m.
    #[arg(long, value_name = "DUR")]
    interval: Option<Interval>,
    /// Serve only the torrents of this file: an info hash a line.
    #[arg(long, value_name = "FILE")]
    allow: Option<PathBuf>,
    /// Serve none of the torrents of this file: an info hash a line.
    #[arg(long, value_name = "FILE")]
    deny: Option<PathBuf>,
    /// Be private: serve only who has one of the keys of this file in the announce URL.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Print a configuration file with every key, its meaning and its value, and end.
    #[arg(long)]
    print_config: bool,
    /// Keep swarms and counts in this file over a restart; written every five minutes, at SIGUSR1, and at the end.
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,
    /// Take sockets and swarms over from the tracker that runs with this Unix socket, if one does; then listen there for
    /// the next one.
    #[arg(long, value_name = "SOCKET")]
    hand_over: Option<PathBuf>,
    /// Share the swarms with other trackers through this Redis or Valkey. With a password in it, keep it in the
    /// configuration file: a command line can be read by everybody on the machine.
    #[arg(long, value_name = "URL")]
    // Read in `Args::config`: clap would show it in its error, and it may hold a password.
    store: Option<String>,
    /// Address for metrics in the format of Prometheus, at /metrics. Port 0 takes a free port.
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// How to write the log on stderr.
    #[arg(long, value_name = "FORMAT", value_enum)]
    log_format: Option<LogFormat>,
    /// Print JSON on stdout, an object a line.
    #[arg(long)]
    json: bool,
}

impl Args {
    fn config(&self) -> Result<Config, ConfigError> {
        let mut config = self
            .config
            .as_deref()
            .map_or_else(|| Ok(Config::default()), Config::read)?;
        if !self.http.is_empty() || !self.https.is_empty() || !self.udp.is_empty() {
            config.http.clone_from(&self.http);
            config.https.clone_from(&self.https);
            config.udp.clone_from(&self.udp);
            config.some_suffice = false;
        }
        config.service_sockets = true;
        config.snapshot = self.snapshot.clone().or(config.snapshot);
        if let Ok(token) = std::env::var(TOKEN_VARIABLE) {
            let unfit = || ConfigError::Token {
                path: TOKEN_VARIABLE.into(),
            };
            config.admin_token = Some(Token::new(&token).ok_or_else(unfit)?);
        }
        config.metrics = self.metrics.or(config.metrics);
        if let Some(url) = &self.store {
            config.store = Some(url.parse()?);
        }
        config.log_format = self.log_format.unwrap_or(config.log_format);
        config.hand_over = self.hand_over.clone().or(config.hand_over);
        let settings = &mut config.settings;
        if let Some(Interval(interval)) = self.interval {
            settings.swarms.set_interval(interval);
        }
        let certificate = self.tls_certificate.clone();
        settings.tls_certificate = certificate.or(settings.tls_certificate.take());
        settings.tls_key = self.tls_key.clone().or(settings.tls_key.take());
        settings.keys = self.keys.clone().or(settings.keys.take());
        settings.allow = self.allow.clone().or(settings.allow.take());
        settings.deny = self.deny.clone().or(settings.deny.take());
        Ok(config)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let config = args.config();
    // Who asked for JSON in so many words gets the error of a configuration that way too.
    let format = config.as_ref().map(|config| config.log_format);
    log(format.unwrap_or(args.log_format.unwrap_or_default()));
    let ran = match config {
        Ok(config) => run(&args, config).await,
        Err(error) => Err(error.into()),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Each of these errors tells its cause itself.
            error!("{error}");
            let input = error.downcast_ref::<ConfigError>().is_some()
                || matches!(
                    error.downcast_ref::<ServeError>(),
                    Some(ServeError::Config(_))
                );
            if input {
                EXIT_INPUT.into()
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Begins the log.
fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // It logs the frames it reads, and nothing promises that no header, and so no key, is ever among them.
    let filter = filter.add_directive("h2=off".parse().expect("a directive"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false);
    match format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        // No spans: those of the HTTP libraries could hold anything.
        LogFormat::Json => log
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .init(),
    }
}

async fn run(args: &Args, config: Config) -> anyhow::Result<()> {
    if args.print_config {
        io::stdout().write_all(config.to_toml().as_bytes())?;
        return Ok(());
    }
    // Before the listening lines: who has read them may send signals.
    let mut signals = Signals::new()?;
    let mut server = bt_trackerd::serve(config.clone()).await?;
    let door = config.hand_over.as_deref().map(|path| {
        Door::open(path).with_context(|| format!("cannot listen at {}", path.display()))
    });
    let door = door.transpose()?;
    print_addresses(&server, args.json);
    loop {
        match next(&mut signals, door.as_ref()).await {
            Asked::Reload => reload(&server, args, &config).await,
            Asked::Keep => server.keep().await,
            Asked::HandOver(visitor) => match server.hand_over(visitor).await? {
                Some(still) => server = still,
                None => {
                    info!("another process has taken over");
                    return Ok(());
                }
            },
            Asked::Stop => break,
        }
    }
    info!("stopping");
    server.stop().await;
    Ok(())
}

/// The signals that mean something here.
struct Signals {
    hang_up: Signal,
    user: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// What a signal asks for, or whoever comes to the door.
enum Asked {
    Reload,
    Keep,
    HandOver(UnixStream),
    Stop,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hang_up.recv() => Asked::Reload,
            _ = self.user.recv() => Asked::Keep,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
        }
    }
}

async fn next(signals: &mut Signals, door: Option<&Door>) -> Asked {
    let visitor = async {
        loop {
            match door {
                None => std::future::pending().await,
                Some(door) => match door.visitor().await {
                    Ok(visitor) => return visitor,
                    Err(error) => warn!("nobody was let in to take over: {error}"),
                },
            }
            tokio::time::sleep(DOOR_PAUSE).await;
        }
    };
    tokio::select! {
        asked = signals.next() => asked,
        visitor = visitor => Asked::HandOver(visitor),
    }
}

async fn reload(server: &Server, args: &Args, begun: &Config) {
    let reloaded = match args.config() {
        Ok(config) => {
            let fixed = config.fixed_differences(begun);
            server.reload(config.settings).await.map(|()| fixed)
        }
        Err(error) => Err(error),
    };
    match reloaded {
        Ok(fixed) => {
            info!("configuration and lists were read again");
            if !fixed.is_empty() {
                warn!(
                    "these keys count after a restart only: {}",
                    fixed.join(", ")
                );
            }
        }
        Err(error) => error!("everything stays as it was: {error}"),
    }
}

/// One line an address, in the form that scripts rely on. A stdout that is full or closed is no reason not to serve, and
/// whoever waits for the addresses finds them in the log.
fn print_addresses(server: &Server, as_json: bool) {
    let lines = address_lines(server, as_json);
    let mut out = io::stdout().lock();
    let mut printing = lines.iter().map(|line| writeln!(out, "{line}"));
    let printed = printing.try_for_each(|printed| printed);
    if let Err(error) = printed.and_then(|()| out.flush()) {
        warn!(
            "the addresses cannot be printed on stdout ({error}): {}",
            lines.join("; ")
        );
    }
}

fn address_lines(server: &Server, as_json: bool) -> Vec<String> {
    let http = server.addrs().iter().map(|addr| ("http", addr));
    let https = server.tls_addrs().iter().map(|addr| ("https", addr));
    let udp = server.udp_addrs().iter().map(|addr| ("udp", addr));
    let trackers = http.chain(https).chain(udp).map(|(transport, addr)| {
        let announce = format!("{transport}://{addr}/announce");
        if as_json {
            json!({"event": "listening", "transport": transport, "addr": addr.to_string(), "announce": announce}).to_string()
        } else {
            format!("listening on {addr}: {announce}")
        }
    });
    let metrics = server.metrics_addr().map(|addr| ("metrics", addr));
    let admin = server.admin_addr().map(|addr| ("admin", addr));
    let others = metrics.into_iter().chain(admin).map(|(purpose, addr)| {
        let url = format!("http://{addr}/{purpose}");
        if as_json {
            json!({"event": "listening", "transport": purpose, "addr": addr.to_string(), "url": url}).to_string()
        } else {
            format!("{purpose} on {addr}: {url}")
        }
    });
    trackers.chain(others).collect()
}
