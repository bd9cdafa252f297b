//! What is said on stderr: the log, and the error that ends the program.
//!
//! Of a command that runs long a thread of its own writes it, unless stderr is a terminal, where bars are drawn too.

use crate::args::LogArgs;
use crate::exit::Failure;
use crate::output::END_PATIENCE;
use crate::output::writer::{Kind, Writer};
use crate::{progress, text};
use anyhow::Context as _;
use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;

/// Who writes, if it is not whoever has something to say.
static WRITER: OnceLock<&'static Writer> = OnceLock::new();

/// Starts the log: warnings only, unless `-q`, `-v` or `RUST_LOG` say otherwise.
pub(crate) fn init(args: &LogArgs) {
    let level = match (args.quiet, args.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, 2) => "debug",
        (false, _) => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(false)
        .log_internal_errors(false)
        .with_writer(|| Stderr);
    if args.verbose == 0 {
        log.without_time().init();
    } else {
        log.init();
    }
}

/// Tells the person why the program ends.
pub(crate) fn failure(failure: &Failure) {
    // A closed stderr leaves nobody to tell; the exit code still speaks.
    let message = format!("error: {}\n", text::escape(&failure.to_string()));
    let _unread = Stderr.write_all(message.as_bytes());
}

/// From now on whoever does not read stderr holds nothing up.
///
/// # Errors
/// If the system refuses a thread.
pub(crate) fn unwaiting() -> Result<(), Failure> {
    if io::stderr().is_terminal() {
        return Ok(());
    }
    let gap = |lost| format!("WARN nobody read stderr: {lost} lines are lost here\n");
    let writer = Writer::start("stderr", io::stderr(), Some(gap));
    let writer = writer.context("cannot start a thread")?;
    // There is one at most: a program is one command.
    WRITER.get_or_init(|| writer);
    Ok(())
}

/// Waits a moment until what was said is written.
pub(crate) fn finish() {
    if let Some(writer) = WRITER.get() {
        // Whoever reads is told of what is lost, and whoever does not cannot be.
        let _lost = writer.finish(END_PATIENCE);
    }
}

/// Stderr, with bars out of the way of what is written.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(writer) = WRITER.get() {
            return writer.say(bytes, Kind::News).map(|()| bytes.len());
        }
        // They are drawn again at their next step. `suspend` would panic if the terminal has gone.
        progress::bars().clear()?;
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
