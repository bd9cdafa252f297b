//! Ctrl-C and SIGTERM for chores that leave something to tidy up: they fail, and everything is dropped on the way out.
//!
//! Nothing changes for a chore that does not call [`install`]: there a signal ends the program.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Exit code of a program that was stopped, as a shell has it of SIGINT.
pub(crate) const EXIT_CODE: u8 = 130;

static STOPPED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on the first signal asks to stop, and a second one ends the program at once.
pub(crate) fn install() -> Result<()> {
    let stopped = STOPPED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        // In this order, so that the first signal does not find the flag that it raises.
        flag::register_conditional_shutdown(signal, EXIT_CODE.into(), Arc::clone(stopped))
            .and_then(|_id| flag::register(signal, Arc::clone(stopped)))
            .context("cannot wait for signals")?;
    }
    Ok(())
}

/// True once it was asked to stop.
pub(crate) fn is_asked() -> bool {
    let stopped = STOPPED.get();
    stopped.is_some_and(|stopped| stopped.load(Ordering::Relaxed))
}

/// An error once it was asked to stop. Whatever takes more than a moment looks here now and then.
pub(crate) fn check() -> Result<()> {
    if is_asked() {
        bail!("stopped by a signal");
    }
    Ok(())
}
