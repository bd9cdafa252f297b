//! `bt`: create, show, verify, get, seed and publish torrents.
//!
//! | module | owns |
//! |---|---|
//! | [`args`] | the command line; [`args::Command`] is the list of commands |
//! | [`commands`] | one module for each command: its `Args`, and `run(args, &Context) -> Result<(), Failure>` |
//! | [`exit`] | [`exit::Exit`], the exit codes, and [`exit::Failure`], an error with its code |
//! | [`output`] | [`output::Output`]: results on stdout, for a person or as JSON lines |
//! | [`progress`] | bars on stderr, if it is a terminal |
//! | [`log`] | `-q`, `-v` and `RUST_LOG` |
//! | [`stop`] | [`stop::Stop`]: SIGINT, SIGTERM and SIGHUP as a value that can be asked or awaited |
//! | [`units`] | sizes, rates and durations, read and written |
//! | [`text`] | strangers' text made safe for a terminal |
//! | [`description`] | what is known of a torrent, shown or as JSON |
//! | [`source`] | what a torrent is named by: a file, a link, a hash |
//! | [`walk`] | the files of a folder that is to be published |
//! | [`folder`] | the folder that `-d` names |
//! | [`save`] | writing a file whole or not at all |
//!
//! A new command is a module, a variant of [`args::Command`], and a line in [`commands::run`].
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "shell: owns the clock, files and threads"
)]

mod args;
mod commands;
mod description;
mod exit;
mod folder;
mod log;
mod network;
mod output;
mod progress;
mod save;
mod source;
mod stop;
mod swarm;
mod text;
mod units;
mod walk;

use clap::Parser as _;
use exit::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = args::Args::parse();
    log::init(&args.log);
    let code = match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            log::failure(&failure);
            ExitCode::from(failure.exit.code())
        }
    };
    log::finish();
    code
}

fn run(args: args::Args) -> Result<(), Failure> {
    let context = commands::Context {
        quiet: args.log.quiet,
        stop: stop::Stop::install()?,
    };
    commands::run(args.command, &context)
}
