//! `bt show`: what is in a torrent.

use crate::description::Description;
use crate::exit::Failure;
use crate::output::Output;
use crate::source::Source;

/// Show what is in a torrent
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A .torrent file, a magnet link, or an info hash
    source: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let description = match Source::load(&args.source)? {
        Source::Torrent(metainfo) => Description::from(&*metainfo),
        Source::Magnet(magnet) => Description::from(&*magnet),
    };
    let output = Output::new(args.json);
    output.json(&description)?;
    description.print(output, true)
}
