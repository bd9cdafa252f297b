//! The commands, and what they share.

pub(crate) mod announce;
pub(crate) mod completions;
pub(crate) mod create;
pub(crate) mod dht;
pub(crate) mod edit;
pub(crate) mod get;
pub(crate) mod magnet;
pub(crate) mod man;
pub(crate) mod publish;
pub(crate) mod scrape;
pub(crate) mod seed;
pub(crate) mod show;
pub(crate) mod verify;

use crate::args::Command;
use crate::exit::Failure;
use crate::stop::Stop;
use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

/// What every command is given besides its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// No progress is wanted.
    pub(crate) quiet: bool,
    /// Whether the user or the system wants the program to end.
    pub(crate) stop: Stop,
}

/// Does what the command line says.
///
/// # Errors
/// [`Failure`] with the exit code that fits.
pub(crate) fn run(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Create(args) => create::run(&args, context),
        Command::Show(args) => show::run(&args, context),
        Command::Magnet(args) => magnet::run(&args),
        Command::Edit(args) => edit::run(&args),
        Command::Verify(args) => verify::run(&args, context),
        Command::Get(args) => get::run(&args, context),
        Command::Seed(args) => seed::run(&args, context),
        Command::Publish(args) => publish::run(&args, context),
        Command::Announce(args) => announce::run(&args, context),
        Command::Scrape(args) => scrape::run(&args, context),
        Command::Dht(args) => dht::run(&args, context),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// Where a command's asynchronous part runs.
///
/// # Errors
/// If the system refuses.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    let runtime = Builder::new_multi_thread().enable_all().build();
    Ok(runtime.context("cannot start the asynchronous runtime")?)
}
