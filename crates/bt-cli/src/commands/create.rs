//! `bt create`: a torrent of a file or folder. What it does is also the first half of `bt publish`: [`make`].

use super::Context;
use crate::description::Description;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::walk::{Tree, walk};
use crate::{progress, save, text, units};
use anyhow::Context as _;
use bt_core::disk::DiskErrorKind;
use bt_metainfo::{BuildError, Builder, Change, Edit, Metainfo, Node, auto_piece_length};
use bt_storage::{Control, FileSpec, HashError, hash_files};
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Make a torrent of a file or folder
///
/// Hidden and empty files belong to it. Symbolic links and empty folders do not, and a warning names them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file or folder
    path: PathBuf,
    /// Where to write the torrent [default: NAME.torrent in the current folder]
    #[arg(short, long, value_name = "OUT.torrent")]
    output: Option<PathBuf>,
    #[command(flatten)]
    make: MakeArgs,
    /// Replace OUT.torrent if it exists
    #[arg(long)]
    force: bool,
    /// Print one JSON object: what `show --json` prints, and where the torrent is
    #[arg(long)]
    json: bool,
}

/// How to make a torrent.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MakeArgs {
    /// Tracker URLs; each -a is a tier, to be tried after the ones before it
    #[arg(short, long, value_name = "URL[,URL…]")]
    pub(crate) announce: Vec<String>,
    /// Bytes in a piece, such as 256Ki; auto makes at most 2048 pieces where it can
    #[arg(long, value_name = "SIZE|auto", default_value = "auto", value_parser = parse_piece_length)]
    piece_length: PieceLength,
    /// Let peers be found by the torrent's own trackers only
    #[arg(long)]
    private: bool,
    /// A comment for whoever looks at the torrent
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// A label that makes the info hash differ from that of an otherwise equal torrent
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// An http or https URL from which the files can be had too
    #[arg(long, value_name = "URL")]
    web_seed: Vec<String>,
    /// A DHT node to start from
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_node)]
    node: Vec<Node>,
    /// Leave the date of creation out
    #[arg(long)]
    no_date: bool,
    /// How many threads hash [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

#[derive(Clone, Copy, Debug)]
enum PieceLength {
    Auto,
    Bytes(u32),
}

fn parse_piece_length(text: &str) -> Result<PieceLength, String> {
    if text == "auto" {
        return Ok(PieceLength::Auto);
    }
    let bytes = u32::try_from(units::parse_size(text)?).map_err(|_| "too long".to_owned())?;
    Ok(PieceLength::Bytes(bytes))
}

/// `HOST:PORT`, with an IPv6 address in brackets.
///
/// # Errors
/// A message for the person.
pub(super) fn parse_node(text: &str) -> Result<Node, String> {
    let wrong = || format!("'{text}' is not HOST:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let host = bare.unwrap_or(host);
    if host.is_empty() || port == 0 || (bare.is_none() && host.contains(':')) {
        return Err(wrong());
    }
    Ok(Node {
        host: host.to_owned(),
        port,
    })
}

/// Tiers of tracker URLs: one for each argument, URLs in it parted by commas.
pub(super) fn tiers(arguments: &[String]) -> Vec<Vec<String>> {
    let tier = |argument: &String| {
        argument
            .split(',')
            .map(|url| url.trim().to_owned())
            .collect()
    };
    arguments.iter().map(tier).collect()
}

/// A torrent, and where its data lies.
#[derive(Debug)]
pub(crate) struct Made {
    /// The torrent.
    pub(crate) metainfo: Metainfo,
    /// The folder that holds its top file or folder.
    pub(crate) folder: PathBuf,
}

/// Makes the torrent and writes it.
pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let output = match &args.output {
        Some(path) => path.clone(),
        None => default_output(&args.path)?,
    };
    save::check_free(&output, args.force)?;
    let Made { metainfo, .. } = make(&args.path, &output, &args.make, context)?;
    save::save(&output, metainfo.bytes(), args.force)?;

    #[derive(Serialize)]
    struct Created<'a> {
        torrent: String,
        #[serde(flatten)]
        description: &'a Description,
    }
    let description = &Description::from(&metainfo);
    let torrent = output.display().to_string();
    let out = Output::new(args.json);
    out.line(format!("{:<13} {}", "torrent", text::escape(&torrent)))?;
    out.json(&Created {
        torrent,
        description,
    })?;
    description.print(out, false)
}

fn default_output(path: &Path) -> Result<PathBuf, Failure> {
    let shown = path.display();
    let path = path
        .canonicalize()
        .with_context(|| format!("cannot read {shown}"))?;
    let name = path
        .file_name()
        .with_context(|| format!("{shown} has no name; -o gives one"))?;
    let mut name = name.to_owned();
    name.push(".torrent");
    Ok(name.into())
}

/// Lists and hashes what is at `path`. `output`, about to be written, is no part of it even if it lies inside.
///
/// # Errors
/// If something cannot be read or used, or the user wants to stop.
pub(crate) fn make(
    path: &Path,
    output: &Path,
    args: &MakeArgs,
    context: &Context,
) -> Result<Made, Failure> {
    let tree = walk(path, output)?;
    for left_out in &tree.left_out {
        tracing::warn!("left out: {}", text::escape(left_out));
    }
    let total_length = tree.files.iter().map(|file| file.length).sum();
    if total_length == 0 {
        let message = format!(
            "there is nothing to share in {}: no file with a byte in it",
            path.display()
        );
        return Err(Failure::new(Exit::Invalid, message));
    }
    let piece_length = match args.piece_length {
        PieceLength::Auto => auto_piece_length(total_length),
        PieceLength::Bytes(bytes) => bytes,
    };
    let builder = builder(&tree, piece_length, args);
    // What is wrong with names and options shows before the hashing, not after it.
    let pieces = builder.layout().map_err(build_failure)?.pieces_count();
    if !piece_length.is_power_of_two() {
        tracing::warn!(
            "a piece length of {piece_length} bytes is no power of two: some programs refuse such torrents"
        );
    }
    builder
        .build(&vec![[0; 20]; pieces as usize])
        .map_err(build_failure)?;
    let hashes = hash(&tree, piece_length, total_length, args.threads, context)?;
    Ok(Made {
        metainfo: builder.build(&hashes).map_err(build_failure)?,
        folder: tree.parent,
    })
}

fn builder(tree: &Tree, piece_length: u32, args: &MakeArgs) -> Builder {
    let mut builder = if tree.is_folder {
        Builder::folder(&tree.name, piece_length)
    } else {
        let length = tree.files.first().map_or(0, |file| file.length);
        Builder::file(&tree.name, length, piece_length)
    };
    if tree.is_folder {
        for file in &tree.files {
            builder = builder.with_file(file.components.iter().cloned(), file.length);
        }
    }
    if let Some(source) = &args.source {
        builder = builder.with_source(source);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let date = now.and_then(|since| i64::try_from(since.as_secs()).ok());
    let set = |text: &Option<String>| text.clone().map_or(Change::Keep, Change::Set);
    builder.with_private(args.private).with_edit(Edit {
        trackers: Change::Set(tiers(&args.announce)),
        comment: set(&args.comment),
        created_by: Change::Set(concat!("bt ", env!("CARGO_PKG_VERSION")).to_owned()),
        creation_date: date
            .filter(|_| !args.no_date)
            .map_or(Change::Keep, Change::Set),
        web_seeds: Change::Set(args.web_seed.clone()),
        nodes: Change::Set(args.node.clone()),
    })
}

fn hash(
    tree: &Tree,
    piece_length: u32,
    total_length: u64,
    threads: Option<NonZeroUsize>,
    context: &Context,
) -> Result<Vec<[u8; 20]>, Failure> {
    let files: Vec<_> = tree
        .files
        .iter()
        .map(|file| FileSpec {
            path: file.source.clone(),
            length: file.length,
            pad: false,
        })
        .collect();
    tracing::info!("hashing {} files, {total_length} bytes", files.len());
    let bar = progress::bytes(context.quiet, "hashing", total_length);
    let control = Control {
        threads,
        cancel: Some(context.stop.flag()),
        progress: Some(&|progress| bar.set_position(progress.bytes_done)),
    };
    let hashes = hash_files(&files, piece_length, control);
    bar.finish_and_clear();
    hashes.map_err(|error| {
        let exit = match &error {
            HashError::Cancelled => return context.stop.failure(),
            HashError::Layout(_) => Exit::Usage,
            HashError::Disk(error) => match error.kind {
                DiskErrorKind::Missing | DiskErrorKind::InTheWay => Exit::Invalid,
                DiskErrorKind::Full | DiskErrorKind::Denied | DiskErrorKind::Io => Exit::Disk,
            },
            HashError::Changed { .. } | _ => Exit::Failed,
        };
        Failure::new(exit, error)
    })
}

/// What the user typed is the command line's fault; what lies on the disk is the input's.
pub(super) fn build_failure(error: BuildError) -> Failure {
    if let BuildError::Url { url, .. } = &error {
        let message = format!(
            "\"{url}\": a tracker is an http, https or udp URL, a web seed an http or https one"
        );
        return Failure::new(Exit::Usage, message);
    }
    let exit = match &error {
        BuildError::Url { .. } | BuildError::Layout(_) => Exit::Usage,
        BuildError::Pieces { .. } | BuildError::Name { .. } | BuildError::Metainfo(_) | _ => {
            Exit::Invalid
        }
    };
    Failure::new(exit, error)
}
