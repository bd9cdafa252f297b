//! `bt show`: what is in a torrent.

use super::Context;
use crate::description::Description;
use crate::exit::Failure;
use crate::output::Output;
use crate::source::Source;
use crate::text::escape;

/// Show what is in a torrent
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A .torrent file, an http or https URL of one, a magnet link, or an info hash
    source: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints it.
pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let source = Source::load(&args.source, context.stop.clone());
    let description = match super::runtime()?.block_on(source)? {
        Source::Torrent(metainfo) => {
            // Whoever looks at a torrent wants to know what is odd about it; others find it in the log.
            for note in metainfo.notes() {
                tracing::warn!("{}", escape(&note.to_string()));
            }
            Description::from(&*metainfo)
        }
        Source::Magnet(magnet) => Description::from(&*magnet),
    };
    let output = Output::new(args.json);
    output.json(&description)?;
    description.print(output, true)
}
