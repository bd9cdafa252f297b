//! `bt edit`: other trackers, comment and so on, around the same info dictionary.

use super::create::{build_failure, parse_node, tiers};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::source::read_metainfo;
use crate::{save, text};
use bt_metainfo::{Change, Edit, Node};
use std::path::PathBuf;

/// Change what stands around a torrent's info dictionary
///
/// The info dictionary stays as it is, byte for byte, and so does the info hash: peers of the old and the new torrent are
/// the same swarm. Whatever is given replaces all there was of its kind.
#[derive(Debug, clap::Args)]
#[group(id = "change", multiple = true)]
pub(crate) struct Args {
    /// The .torrent file
    torrent: PathBuf,
    /// Where to write the new one; the same file needs --force
    #[arg(short, long, value_name = "OUT.torrent")]
    output: PathBuf,
    /// Tracker URLs; each -a is a tier, to be tried after the ones before it
    #[arg(short, long, value_name = "URL[,URL…]", conflicts_with = "no_announce")]
    announce: Vec<String>,
    /// Remove all trackers
    #[arg(long)]
    no_announce: bool,
    /// A comment for whoever looks at the torrent
    #[arg(long, value_name = "TEXT", conflicts_with = "no_comment")]
    comment: Option<String>,
    /// Remove the comment
    #[arg(long)]
    no_comment: bool,
    /// An http or https URL from which the files can be had too
    #[arg(long, value_name = "URL", conflicts_with = "no_web_seed")]
    web_seed: Vec<String>,
    /// Remove all web seeds
    #[arg(long)]
    no_web_seed: bool,
    /// A DHT node to start from
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_node, conflicts_with = "no_node")]
    node: Vec<Node>,
    /// Remove all nodes
    #[arg(long)]
    no_node: bool,
    /// Remove the date of creation
    #[arg(long)]
    no_date: bool,
    /// Remove the name of the program that made the torrent
    #[arg(long)]
    no_created_by: bool,
    /// Replace OUT.torrent if it exists
    #[arg(long)]
    force: bool,
}

impl Args {
    fn edit(&self) -> Edit {
        Edit {
            trackers: change(tiers(&self.announce), self.no_announce),
            comment: self
                .comment
                .clone()
                .map_or_else(|| clear(self.no_comment), Change::Set),
            created_by: clear(self.no_created_by),
            creation_date: clear(self.no_date),
            web_seeds: change(self.web_seed.clone(), self.no_web_seed),
            nodes: change(self.node.clone(), self.no_node),
        }
    }
}

const fn clear<T>(remove: bool) -> Change<T> {
    if remove { Change::Remove } else { Change::Keep }
}

fn change<T>(items: Vec<T>, remove: bool) -> Change<Vec<T>> {
    if items.is_empty() {
        clear(remove)
    } else {
        Change::Set(items)
    }
}

/// Writes the changed torrent.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let edit = args.edit();
    if edit == Edit::default() {
        return Err(Failure::new(
            Exit::Usage,
            "nothing to change; `bt edit --help` lists what can be",
        ));
    }
    let metainfo = read_metainfo(&args.torrent)?;
    let edited = metainfo.edit(&edit).map_err(build_failure)?;
    save::save(&args.output, edited.bytes(), args.force)?;
    Output::person().line(text::escape(&args.output.display().to_string()))
}
