//! What is said on stderr: the log, and the error that ends the program.

use crate::args::LogArgs;
use crate::exit::Failure;
use crate::{progress, text};
use std::io::{self, Write};
use tracing_subscriber::EnvFilter;

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

/// Stderr, with bars out of the way of what is written.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // They are drawn again at their next step. `suspend` would panic if the terminal has gone.
        progress::bars().clear()?;
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
