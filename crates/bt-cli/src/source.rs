//! What a torrent is named by: a `.torrent` file, a URL of one, a magnet link, or an info hash.

use crate::exit::{Exit, Failure, OrExit as _};
use crate::stop::Stop;
use crate::text;
use anyhow::Context as _;
use bt_core::InfoHash;
use bt_metainfo::metainfo::METAINFO_BYTES_MAX;
use bt_metainfo::{Magnet, Metainfo};
use bt_session::http::{self, HttpError};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// A torrent, or as much of one as a link tells.
#[derive(Debug)]
pub(crate) enum Source {
    /// All of it.
    Torrent(Box<Metainfo>),
    /// Its info hash, and hints.
    Magnet(Box<Magnet>),
}

impl Source {
    /// Reads or fetches what the argument names. A file wins over an info hash of the same name.
    ///
    /// # Errors
    /// If there is no such thing, it is invalid, or the user does not want to wait for it.
    pub(crate) async fn load(argument: &str, mut stop: Stop) -> Result<Self, Failure> {
        let path = Path::new(argument);
        let metainfo = if has_scheme(argument, "magnet:") {
            return parse_magnet(argument);
        } else if has_scheme(argument, "http://") || has_scheme(argument, "https://") {
            tokio::select! {
                fetched = http::fetch(argument, METAINFO_BYTES_MAX) => {
                    parse_metainfo(&fetched.map_err(|error| fetch_failure(argument, error))?, argument)?
                }
                _ = stop.wait() => return Err(stop.failure()),
            }
        } else if is_info_hash(argument) && !path.exists() {
            return parse_magnet(&format!("magnet:?xt=urn:btih:{argument}"));
        } else if let Some((scheme, _)) = argument.split_once("://")
            && !path.exists()
        {
            let message = format!("{argument}: {scheme} is neither http, https nor a magnet link");
            return Err(Failure::new(Exit::Invalid, message));
        } else {
            read_metainfo(path)?
        };
        Ok(Self::Torrent(Box::new(metainfo)))
    }
}

fn has_scheme(argument: &str, scheme: &str) -> bool {
    let start = argument.get(..scheme.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

fn fetch_failure(url: &str, error: HttpError) -> Failure {
    let no_address = matches!(error, HttpError::Url { .. } | HttpError::Scheme { .. });
    let exit = if no_address {
        Exit::Invalid
    } else {
        Exit::Network
    };
    Failure {
        exit,
        error: anyhow::Error::new(error).context(format!("cannot get {url}")),
        told: false,
    }
}

/// 40 hexadecimal digits, or 32 of base 32.
fn is_info_hash(text: &str) -> bool {
    let base32 = |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'2'..=b'7');
    text.parse::<InfoHash>().is_ok() || (text.len() == 32 && text.bytes().all(base32))
}

fn parse_magnet(link: &str) -> Result<Source, Failure> {
    let magnet: Magnet = link
        .parse()
        .context("invalid magnet link")
        .or_exit(Exit::Invalid)?;
    Ok(Source::Magnet(Box::new(magnet)))
}

/// The metainfo in the file. What is odd about it goes to the log.
///
/// # Errors
/// As [`read_torrent`], or if it is no valid torrent.
pub(crate) fn read_metainfo(path: &Path) -> Result<Metainfo, Failure> {
    parse_metainfo(&read_torrent(path)?, &path.display().to_string())
}

/// The metainfo in these bytes, which came from `origin`. What is odd about it goes to the log.
///
/// # Errors
/// If it is no valid torrent.
pub(crate) fn parse_metainfo(bytes: &[u8], origin: &str) -> Result<Metainfo, Failure> {
    let metainfo = Metainfo::parse(bytes)
        .with_context(|| match bytes.trim_ascii_start() {
            [] => format!("{origin}: it is empty"),
            // A login page, or what a web server shows instead of a file.
            [b'<', ..] => format!("{origin}: this looks like a web page"),
            _ => origin.to_owned(),
        })
        .or_exit(Exit::Invalid)?;
    for note in metainfo.notes() {
        tracing::info!("{}", text::escape(&format!("{origin}: {note}")));
    }
    Ok(metainfo)
}

/// The bytes of a `.torrent` file.
///
/// # Errors
/// If there is no such file, it is none but a folder, pipe or device, or it is longer than [`METAINFO_BYTES_MAX`].
fn read_torrent(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = path.display();
    // Asked of the path first: to open a pipe would wait for a writer.
    let metadata = path
        .metadata()
        .with_context(|| format!("cannot read {name}"))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() {
            "a folder"
        } else {
            "no regular file"
        };
        let message = format!("{name} is {what}, not a .torrent file");
        return Err(Failure::new(Exit::Invalid, message));
    }
    // One byte more, so that the end is seen without making room for more.
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    let mut bytes = Vec::with_capacity(length.min(METAINFO_BYTES_MAX) + 1);
    File::open(path)
        .and_then(|file| {
            file.take(METAINFO_BYTES_MAX as u64 + 1)
                .read_to_end(&mut bytes)
        })
        .with_context(|| format!("cannot read {name}"))?;
    if bytes.len() > METAINFO_BYTES_MAX {
        let max = METAINFO_BYTES_MAX / (1024 * 1024);
        let message = format!("{name} is longer than {max} MiB; that is no .torrent file");
        return Err(Failure::new(Exit::Invalid, message));
    }
    Ok(bytes)
}
