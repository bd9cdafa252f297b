//! `bt seed`: uploads what is there, until stopped.

use super::Context;
use crate::exit::Failure;
use crate::folder;
use crate::network::{self, NetworkArgs};
use crate::output::Output;
use crate::swarm::{self, Goal, Swarm};
use std::path::PathBuf;

/// Seed torrents whose data is there
///
/// Hashes the data first, unless an earlier run left word of it and the files are as they were. Nothing is written into
/// the data's folder. Runs until stopped.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// .torrent files, or http or https URLs of them
    #[arg(required = true)]
    torrent: Vec<String>,
    /// The folder that holds the torrent's top file or folder
    #[arg(short, long, default_value = ".")]
    dir: PathBuf,
    #[command(flatten)]
    network: NetworkArgs,
    /// Print one JSON object a line for each event
    #[arg(long)]
    json: bool,
}

/// Seeds them.
pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let output = Output::unwaiting(args.json)?;
    swarm::block_on(swarm::telling(output, seed(args, context, output)))
}

async fn seed(args: &Args, context: &Context, output: Output) -> Result<(), Failure> {
    folder::exists(&args.dir)?;
    let loading = async {
        let torrents = network::load_all(&args.torrent, &context.stop).await?;
        Ok((torrents, args.network.torrent().await?))
    };
    let (torrents, mut options) = swarm::unless_stopped(context, loading).await?;
    options.seed_only = true;
    let goal = Goal {
        only_seed: true,
        seed: true,
        ..Goal::default()
    };
    let mut swarm = Swarm::new(&args.network, output, context.quiet, goal)?;
    for metainfo in torrents {
        swarm.add(metainfo, &args.dir, options.clone())?;
    }
    swarm.run(context.stop.clone()).await
}
