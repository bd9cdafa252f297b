//! The command line.

use crate::commands;
use clap::{ArgAction, Parser, Subcommand};

/// Create, show, verify, get, seed and publish torrents
#[derive(Debug, Parser)]
#[command(name = "bt", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How much is said on stderr.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LogArgs {
    /// Say nothing on stderr but errors, and show no progress
    #[arg(
        short,
        long,
        global = true,
        conflicts_with = "verbose",
        display_order = 900
    )]
    pub(crate) quiet: bool,
    /// Say more on stderr: -v what happens, -vv every detail. RUST_LOG, if set, decides instead
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = 901)]
    pub(crate) verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Create(commands::create::Args),
    Show(commands::show::Args),
    Magnet(commands::magnet::Args),
    Edit(commands::edit::Args),
    Verify(commands::verify::Args),
    Get(Box<commands::get::Args>),
    Seed(Box<commands::seed::Args>),
    Publish(Box<commands::publish::Args>),
    Scrape(commands::scrape::Args),
    Announce(commands::announce::Args),
    Dht(commands::dht::Args),
    Completions(commands::completions::Args),
    Man(commands::man::Args),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_option_is_documented() {
        let mut commands = vec![Args::command()];
        while let Some(command) = commands.pop() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                let help = argument.get_help().or(argument.get_long_help());
                assert!(
                    help.is_some(),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }
}
