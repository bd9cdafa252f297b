//! `bt magnet`: the link that stands for a torrent.

use crate::exit::Failure;
use crate::output::Output;
use crate::source::read_metainfo;
use std::path::PathBuf;

/// Print the magnet link of a torrent
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The .torrent file
    torrent: PathBuf,
}

/// Prints it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let metainfo = read_metainfo(&args.torrent)?;
    Output::person().line(metainfo.magnet().to_string())
}
