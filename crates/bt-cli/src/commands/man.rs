//! `bt man`: the manual pages, one for the program and one for each command.

use crate::exit::Failure;
use anyhow::Context as _;
use clap::CommandFactory as _;
use std::path::PathBuf;

/// Write the manual pages into a folder
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder; it is made if it does not exist
    dir: PathBuf,
}

/// Writes the pages.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let dir = args.dir.display();
    std::fs::create_dir_all(&args.dir).with_context(|| format!("cannot make the folder {dir}"))?;
    clap_mangen::generate_to(crate::args::Args::command(), &args.dir)
        .with_context(|| format!("cannot write the manual pages into {dir}"))?;
    Ok(())
}
