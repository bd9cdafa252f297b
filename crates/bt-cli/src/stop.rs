//! SIGINT, SIGTERM and SIGHUP as a value.
//!
//! The first signal asks the program to stop cleanly; a second SIGINT or SIGTERM, more than half a second later, ends it at
//! once. SIGHUP, which says that the terminal has gone, comes twice from some shells, and counts once. Who started the
//! program with SIGHUP ignored, as `nohup` does, wants it to go on: then it stays ignored.

use crate::exit::{Exit, Failure};
use anyhow::Context as _;
use core::mem::MaybeUninit;
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use std::{io, ptr};
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// SIGXFSZ, on Linux and macOS: a file grew beyond `ulimit -f`. It ends a program that has no handler; with one, the write
/// fails as on any other disk that takes no more.
const FILE_TOO_LARGE: i32 = 25;

/// A signal that comes so soon after the first says the same: GNU `timeout` sends one to the program and one to its group,
/// which it is in. Nobody who has seen the first do nothing presses Ctrl-C sooner.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// Whether the program was asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    exit: watch::Receiver<Option<Exit>>,
    flag: Arc<AtomicBool>,
}

impl Stop {
    /// Takes the signals over, for the rest of the program's life.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn install() -> Result<Self, Failure> {
        let (sender, exit) = watch::channel(None);
        let flag = Arc::new(AtomicBool::new(false));
        let raised = Arc::clone(&flag);
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("cannot wait for signals")?;
        let signals = {
            let _inside = runtime.enter();
            signal(SignalKind::from_raw(FILE_TOO_LARGE))
                .and_then(|_handled| signal(SignalKind::interrupt()))
                .and_then(|int| Ok((int, signal(SignalKind::terminate())?, hang_ups()?)))
        };
        let (mut interrupt, mut terminate, mut hang_up) =
            signals.context("cannot wait for signals")?;
        let wait = move || {
            runtime.block_on(async {
                let mut first = None;
                loop {
                    let exit = tokio::select! {
                        _ = interrupt.recv() => Exit::Interrupted,
                        _ = terminate.recv() => Exit::Terminated,
                        () = next(&mut hang_up) => Exit::HungUp,
                    };
                    let Some(first) = first else {
                        first = Some(Instant::now());
                        sender.send_replace(Some(exit));
                        raised.store(true, Ordering::Relaxed);
                        continue;
                    };
                    if is_another(exit, Instant::now() - first) {
                        std::process::exit(exit.code().into());
                    }
                }
            });
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(wait)
            .context("cannot wait for signals")?;
        Ok(Self { exit, flag })
    }

    /// One that nobody ever asks.
    #[cfg(test)]
    pub(crate) fn never() -> Self {
        let (sender, exit) = watch::channel(None);
        // Whoever waits would take its end for a signal.
        Box::leak(Box::new(sender));
        let flag = Arc::default();
        Self { exit, flag }
    }

    /// The exit code to end with, if the program was asked to stop.
    pub(crate) fn requested(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits until the program is asked to stop, and says with which exit code.
    pub(crate) async fn wait(&mut self) -> Exit {
        let requested = self.exit.wait_for(Option::is_some).await;
        // The thread that waits for signals lives as long as the program.
        requested
            .ok()
            .and_then(|exit| *exit)
            .unwrap_or(Exit::Failed)
    }

    /// True once the program was asked to stop: for work that runs on threads and looks up now and then.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.flag
    }

    /// The failure to end with when work was given up because of [`flag`](Self::flag).
    pub(crate) fn failure(&self) -> Failure {
        Failure::new(
            self.requested().unwrap_or(Exit::Interrupted),
            "stopped before it was done",
        )
    }
}

/// Whether a signal that comes `since` the first one ends the program at once.
fn is_another(exit: Exit, since: Duration) -> bool {
    exit != Exit::HungUp && since > SAME_SIGNAL
}

/// SIGHUP, unless it was ignored when the program was started.
fn hang_ups() -> io::Result<Option<Signal>> {
    let kind = SignalKind::hangup();
    if is_ignored(kind) {
        return Ok(None);
    }
    signal(kind).map(Some)
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => core::future::pending().await,
    }
}

#[allow(
    unsafe_code,
    reason = "no safe wrapper in use says what becomes of a signal"
)]
fn is_ignored(kind: SignalKind) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call changes nothing and only fills in the old one, for which there is room; all of
    // whose fields may also be zero.
    unsafe {
        libc::sigaction(kind.as_raw_value(), ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_signal_in_the_same_moment_is_the_first() {
        let millis = Duration::from_millis;
        for (exit, since, expected) in [
            (Exit::Terminated, Duration::ZERO, false),
            (Exit::Interrupted, millis(500), false),
            (Exit::Interrupted, millis(501), true),
            (Exit::Terminated, millis(60_000), true),
            (Exit::HungUp, millis(60_000), false),
        ] {
            assert_eq!(is_another(exit, since), expected, "{exit:?} {since:?}");
        }
    }
}
